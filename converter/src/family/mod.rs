//! Several subnets of one supernet become one pack: what they share is stored once.

mod convert;
pub(crate) mod rungs;
mod sharing;

pub use convert::convert;
