//! Arithmetic of the edge runtime: slices in, slices out.
//!
//! This crate knows shapes and layouts, never graphs, files or threads. It allocates nothing and logs nothing.
//! Every operation family is one folder under [`cpu`]: a scalar reference that defines the result, and one
//! table of variants per instruction set from which the runtime picks at start-up (see `kernels/README.md`).
#![deny(missing_docs)]

pub mod cpu;
mod mat;

pub use cpu::isa::Isa;
pub use mat::MatMut;
