//! Resizing by interpolation, one axis at a time.
//!
//! An [`AxisTable`] says which operand elements each result element is made of, and with which weights; a planner
//! fills it once. [`resize_axis`] applies it along one axis of `[outer, n, inner]`: any number of dimensions, and
//! both spatial axes of a channels-last image, are a few such passes. [`resize_nearest_2d`] does both axes of a
//! nearest-neighbour resize in one.

mod apply;
mod table;

#[cfg(test)]
mod tests;

pub use apply::{Sample, resize_axis, resize_axis_f32, resize_axis_i8, resize_nearest_2d};
pub use table::{AxisSpec, AxisTable, Coordinates, Interpolation, Nearest};
