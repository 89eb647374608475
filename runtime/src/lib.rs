//! The edge runtime: one `model.pack`, every budget.
//!
//! A pack holds a ladder of rungs. The runtime maps the file, picks the best rung for the memory at hand, plans
//! it once and runs it without allocating.
#![deny(missing_docs)]

pub mod device;
pub mod graph;
pub mod pack;
pub mod weights;
