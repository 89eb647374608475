//! CPU kernels, one folder an operation family.

pub mod activation;
pub mod isa;
pub mod math;
