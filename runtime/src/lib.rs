//! The edge runtime.

pub mod device;
