//! Normalisation layers, with the additions in a fixed order (see [`super::reduce`]).

mod group;
mod row;

#[cfg(test)]
mod tests;

pub use group::{GroupNorm, group_norm};
pub use row::{Affine, LpNorm, Lrn, layer_norm, lp_normalize, lrn, rms_norm};
