//! The offline converter: trained models in, one `model.pack` out.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod import;
pub mod model;
pub mod simplify;
