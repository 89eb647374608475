//! Once-for-all networks: one trained supernet, from which subnets are cut by depth, width and kernel size.
//!
//! [`Supernet::of`] finds in a checkpoint's names and shapes which family it is and what can be chosen; [`Supernet::model`] gives the
//! graph of one subnet, its weights sliced. Source: Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient
//! Deployment", ICLR 2020, and the names and formulas of its authors' package `ofa`:
//!
//! - depth: a stage keeps its first blocks;
//! - width: the middle of a block has `divisible(round(channels * expand))` channels, the first ones of the largest;
//! - kernels: the centre of the next larger one, flattened, times a matrix that the layer's channels share;
//! - squeeze-and-excitation has `divisible(middle / 4)` channels, the first ones.
//!
//! Statistics of norms are the first ones too, as the package's own slicing has them; for a subnet that is used they are to be
//! measured anew.
//!
//! What a state dict does not hold is the family's: strides, activation functions, the norms' epsilon, and which choices were trained.
//! They are fields of [`Supernet`], to be changed where a network was trained otherwise.

mod build;
mod choice;
mod error;
mod find;
mod layers;
mod names;
mod slice;
mod space;

#[cfg(test)]
pub(crate) mod tests;

pub use choice::Choices;
pub use error::SupernetError;
pub use space::Space;

use edge_runtime::graph::Act;
use std::ops::Range;

/// Which of the package's networks a checkpoint is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Inverted bottlenecks, some with squeeze-and-excitation; the classifier behind two more layers.
    MobileNetV3,
    /// Inverted bottlenecks; the classifier behind one more layer.
    ProxylessNas,
    /// Bottlenecks of full convolutions behind a stem of three; widths of stages are elastic too.
    ResNet50,
}

/// A block at its largest.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What its tensors' names begin with: `blocks.3.conv.`, `blocks.3.mobile_inverted_conv.`, `blocks.3.`.
    pub prefix: String,
    /// Channels at most: of its operand, between its layers, of its result.
    pub channels: [usize; 3],
    /// Steps of its windows.
    pub stride: usize,
    /// Sizes of its kernel, ascending: as far as there are matrices that lead to them.
    pub kernels: Vec<usize>,
    /// The activation function.
    pub act: Act,
    /// Whether its first layer is there: not where the middle is as wide as the operand.
    pub expands: bool,
    /// Whether it has squeeze-and-excitation.
    pub squeezes: bool,
    /// How its operand is added to its result.
    pub shortcut: Shortcut,
}

/// How a block's operand is added to its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// It is not.
    None,
    /// As it is.
    Identity,
    /// Averaged over the stride, by a layer of its own.
    Projected,
}

/// A batch normalization of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Norm {
    /// What its tensors' names begin with: `blocks.3.conv.depth_conv.bn`.
    pub name: String,
    /// Its channels.
    pub channels: usize,
}

/// Blocks of one size of picture, of which the first few are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Positions in [`Supernet::blocks`].
    pub blocks: Range<usize>,
    /// Numbers of blocks that may be kept, ascending.
    pub depths: Vec<usize>,
}

/// A once-for-all network.
#[derive(Clone, Debug, PartialEq)]
pub struct Supernet {
    /// Which one.
    pub family: Family,
    /// Every block, those before the first stage too.
    pub blocks: Vec<Block>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// Expand ratios that were trained, ascending. A block's middle has so many times the channels of its operand; of its result in
    /// [`Family::ResNet50`].
    pub expands: Vec<f64>,
    /// Widths that were trained, as parts of the largest, ascending; `[1]` where they are not elastic.
    pub widths: Vec<f64>,
    /// Classes.
    pub classes: usize,
    /// What the norms add to a variance.
    pub epsilon: f64,
    /// Channels of the stem at most: between its layers, and of its result.
    stem: [usize; 2],
}

/// `v` as a multiple of 8 that is at most a tenth smaller: the package's `make_divisible`.
pub(crate) fn divisible(v: f64) -> usize {
    const BY: f64 = 8.0;
    let nearest = ((v + BY / 2.0).trunc() / BY).floor() * BY;
    let nearest = nearest.max(BY);
    (if nearest < 0.9 * v { nearest + BY } else { nearest }) as usize
}

/// Channels between a block's layers: `channels` is what the family's expand ratio counts.
pub(crate) fn middle(channels: usize, expand: f64) -> usize {
    // Python rounds halves to the even number.
    divisible((channels as f64 * expand).round_ties_even())
}
