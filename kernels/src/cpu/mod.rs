//! CPU kernels, one folder an operation family.

pub mod isa;
