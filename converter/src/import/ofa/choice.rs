//! A subnet's choices, in the package's own terms, and the sizes that they lead to.

use super::{Family, Supernet, SupernetError, divisible, middle};
use serde::{Deserialize, Serialize};

/// A subnet, as the package's `sample_active_subnet` gives it and its searches write it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    /// Kernel size of each block of a stage; none for [`Family::ResNet50`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ks: Vec<usize>,
    /// Expand ratio of each block of a stage, also of those that are left out.
    pub e: Vec<f64>,
    /// Blocks of each stage that are kept, all where it has fewer. [`Family::ResNet50`]: how many of the two that may go stay; the stem's first, for which any
    /// number but 2 leaves its second layer out.
    pub d: Vec<usize>,
    /// Positions in [`Supernet::widths`]: of the stem's inner layers, of its result, of each stage. [`Family::ResNet50`] alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub w: Vec<usize>,
}

/// The sizes of a subnet.
pub(super) struct Sizes {
    /// Channels between the stem's layers and of its result.
    pub stem: [usize; 2],
    /// Whether the stem's second layer is there.
    pub stem_whole: bool,
    /// The blocks that are kept.
    pub blocks: Vec<BlockSizes>,
}

/// The sizes of a block that is kept.
pub(super) struct BlockSizes {
    /// Position in [`Supernet::blocks`].
    pub block: usize,
    /// Channels of the operand, between the layers, of the result.
    pub channels: [usize; 3],
    pub kernel: usize,
}

impl Supernet {
    /// The choices of the largest subnet.
    pub fn largest(&self) -> Choices {
        let blocks = || self.stages.iter().flat_map(|s| self.blocks[s.blocks.clone()].iter());
        let greatest = |list: &[f64]| list.iter().copied().fold(0.0, f64::max);
        let expand = greatest(&self.expands);
        let widest = self.widths.len().saturating_sub(1);
        let deepest = self.stages.iter().map(|s| s.blocks.len()).max().unwrap_or(0);
        match self.family {
            Family::ResNet50 => Choices {
                ks: Vec::new(),
                e: blocks().map(|_| expand).collect(),
                d: vec![2; self.stages.len() + 1],
                w: vec![widest; self.stages.len() + 2],
            },
            _ => Choices {
                ks: blocks().map(|b| b.kernels.last().copied().unwrap_or(0)).collect(),
                e: blocks().map(|_| expand).collect(),
                d: vec![deepest; self.stages.len()],
                w: Vec::new(),
            },
        }
    }

    /// The sizes that choices lead to.
    ///
    /// # Errors
    /// With every choice that the network does not have.
    pub(super) fn sizes(&self, choices: &Choices) -> Result<Sizes, SupernetError> {
        let elastic: usize = self.stages.iter().map(|s| s.blocks.len()).sum();
        let is_residual = self.family == Family::ResNet50;
        let stages = self.stages.len();
        let mut wrong = Vec::new();
        let (d, w) = if is_residual { (stages + 1, stages + 2) } else { (stages, 0) };
        for (name, found, expected) in [
            ("ks", choices.ks.len(), if is_residual { 0 } else { elastic }),
            ("e", choices.e.len(), elastic),
            ("d", choices.d.len(), d),
            ("w", choices.w.len(), w),
        ] {
            if found != expected {
                wrong.push(format!("`{name}` has {found} entries, expected {expected}"));
            }
        }
        if !wrong.is_empty() {
            return Err(SupernetError::Choices(wrong));
        }
        for (i, width) in choices.w.iter().enumerate().filter(|(_, w)| **w >= self.widths.len()) {
            wrong.push(format!("`w[{i}]` is {width}, expected a position in {:?}", self.widths));
        }
        if !wrong.is_empty() {
            return Err(SupernetError::Choices(wrong));
        }
        let part = |largest: usize, i: usize| match choices.w.get(i) {
            Some(w) => divisible(largest as f64 * self.widths[*w]).min(largest),
            None => largest,
        };
        let stem = match is_residual {
            // The inner layers have half the channels of the stem's result at their own width.
            true => [divisible((part(self.stem[1], 0) / 2) as f64).min(self.stem[0]), part(self.stem[1], 1)],
            false => self.stem,
        };
        let mut blocks = Vec::new();
        let mut channels = stem[1];
        // What stands before the first stage is not elastic.
        let first = self.stages.first().map_or(0, |s| s.blocks.start);
        for (i, block) in self.blocks[..first].iter().enumerate() {
            let kernel = block.kernels.last().copied().unwrap_or(0);
            blocks.push(BlockSizes { block: i, channels: block.channels, kernel });
            channels = block.channels[2];
        }
        for (i, stage) in self.stages.iter().enumerate() {
            let len = stage.blocks.len();
            let depth = match is_residual {
                true => len.saturating_add(choices.d[i + 1]).saturating_sub(2),
                // More than there are keep all of them, as in the package: its stages have one list of depths.
                false => choices.d[i].min(len),
            };
            if !(1..=len).contains(&depth) {
                let at = if is_residual { i + 1 } else { i };
                wrong.push(format!("`d[{at}]` is {}, which keeps {depth} of {len} blocks", choices.d[at]));
            }
            for place in stage.blocks.clone().take(depth) {
                let (block, at) = (&self.blocks[place], place - first);
                let out = if is_residual { part(block.channels[2], i + 2) } else { block.channels[2] };
                let expand = choices.e[at];
                let between = middle(if is_residual { out } else { channels }, expand);
                if !expand.is_finite() || expand <= 0.0 || between > block.channels[1] {
                    let most = block.channels[1];
                    wrong.push(format!(
                        "`e[{at}]` is {expand}, which makes {between} channels, the block has {most}"
                    ));
                }
                let kernel = choices.ks.get(at).copied().or(block.kernels.last().copied()).unwrap_or(0);
                if !block.kernels.contains(&kernel) {
                    wrong.push(format!("`ks[{at}]` is {kernel}, expected one of {:?}", block.kernels));
                }
                blocks.push(BlockSizes { block: place, channels: [channels, between, out], kernel });
                channels = out;
            }
        }
        if !wrong.is_empty() {
            return Err(SupernetError::Choices(wrong));
        }
        let stem_whole = !is_residual || choices.d.first() == Some(&2);
        Ok(Sizes { stem, stem_whole, blocks })
    }
}
