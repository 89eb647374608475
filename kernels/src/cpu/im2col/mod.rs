//! Convolution as a matrix product: gathering the windows of a channels-last image into rows, and the reverse
//! sum for transposed convolution.

pub mod deconv;
mod gather;
#[cfg(test)]
mod tests;

pub use gather::{ConvShape, im2col_rows};
