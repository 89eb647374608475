//! One trained supernet becomes one pack with all its subnets.
//!
//! ```text
//! source.rs      where subnets come from: an ONNX file and a description, or a checkpoint
//! elastic.rs     the graph of each option beside the largest network's: what the choices change, found by comparing
//! store.rs       every matrix once, in blocks that subnets are unions of
//! mixture.rs     which values routers mix, and of what
//! statistics.rs  a subnet in training mode: its batch normalizations, and how good it is with them
//! making.rs      graphs of subnets in the converter's form, and what is measured of them
//! search.rs      which subnets get rungs
//! searching.rs   what the search measures: memory, time, quality
//! candidates.rs  a table of what the search expects of the others
//! explicit.rs    these written out, one graph each, for measuring and allocating; and folded back into choices
//! convert.rs     all of it, in order
//! ```

mod candidates;
mod convert;
mod difference;
mod elastic;
mod explicit;
mod making;
mod mixture;
mod search;
mod searching;
mod source;
mod statistics;
mod store;
#[cfg(test)]
mod tests;

pub use convert::{convert, convert_checkpoint};
