//! The edge runtime: one `model.pack`, every budget.
//!
//! A pack holds a ladder of rungs. The runtime maps the file, picks the best rung for the memory at hand, plans
//! it once and runs it without allocating.
#![deny(missing_docs)]

mod cpu;
pub mod decode;
pub mod device;
pub mod graph;
#[cfg(feature = "inputs")]
pub mod inputs;
mod model;
pub mod pack;
pub mod plan;
pub mod random;
pub mod select;
mod session;
mod sort;
pub mod subnet;
pub mod text;
pub mod tokenizer;
pub mod weights;

pub use cpu::RunError;
pub use model::Model;
pub use session::{MoveError, Moved, Mover, Pressure, Session, SessionError};
