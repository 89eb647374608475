//! Sliding windows: the attributes that convolution and pooling share.

use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use edge_runtime::graph::{Pads, Window};
use std::ops::Range;

/// A window over any number of dimensions: one entry a dimension in each list.
pub struct Sliding {
    /// Its size.
    pub kernel: Vec<usize>,
    /// Steps between outputs.
    pub stride: Vec<usize>,
    /// Steps between the taps of one window.
    pub dilation: Vec<usize>,
    /// Elements added around the input.
    pub border: Border,
}

/// As [`Pads`], over any number of dimensions.
pub enum Border {
    /// As many as `ceil(size / stride)` outputs need, an odd one behind.
    SameUpper,
    /// The same, an odd one in front.
    SameLower,
    /// In front and behind.
    Explicit(Vec<usize>, Vec<usize>),
}

impl Sliding {
    /// One or two neighbouring dimensions of it.
    pub fn window(&self, axes: Range<usize>) -> Window {
        Window {
            kernel: side(&self.kernel[axes.clone()], 1),
            stride: side(&self.stride[axes.clone()], 1),
            dilation: side(&self.dilation[axes.clone()], 1),
            pads: match &self.border {
                Border::SameUpper => Pads::SameUpper,
                Border::SameLower => Pads::SameLower,
                Border::Explicit(before, after) => {
                    let (before, after) = (side(&before[axes.clone()], 0), side(&after[axes], 0));
                    Pads::Explicit([before[0], before[1], after[0], after[1]])
                }
            },
        }
    }
}

/// Reads a window over one or two dimensions, `rank - 2`; `kernel` is its size where the weight tells it.
pub fn window(node: &NodeView, rank: usize, kernel: Option<&[usize]>) -> Result<Window, OpError> {
    Ok(sliding(node, rank, kernel)?.window(0..rank - 2))
}

/// Reads a window over `rank - 2` dimensions.
pub fn sliding(node: &NodeView, rank: usize, kernel: Option<&[usize]>) -> Result<Sliding, OpError> {
    let spatial = rank - 2;
    let given = node.sizes("kernel_shape", 1)?;
    let kernel = match (given, kernel) {
        (Some(given), Some(weight)) if given != weight => {
            return malformed(format!("kernel_shape {given:?}, but the weight's is {weight:?}"));
        }
        (Some(given), _) => given,
        (None, Some(weight)) => weight.to_vec(),
        (None, None) => return malformed("attribute `kernel_shape` is missing"),
    };
    let ones = || vec![1; spatial];
    let stride = node.sizes("strides", 1)?.unwrap_or_else(ones);
    let dilation = node.sizes("dilations", 1)?.unwrap_or_else(ones);
    for (name, list) in [("kernel_shape", &kernel), ("strides", &stride), ("dilations", &dilation)] {
        if list.len() != spatial {
            return malformed(format!("{name} {list:?} for {spatial} spatial dimensions"));
        }
    }
    let reach = |(k, d): (&usize, &usize)| (k - 1).checked_mul(*d);
    if kernel.contains(&0)
        || kernel.iter().zip(&dilation).any(|p| reach(p).is_none_or(|r| r > i32::MAX as usize))
    {
        return malformed(format!("kernel {kernel:?} with dilations {dilation:?}"));
    }
    Ok(Sliding { kernel, stride, dilation, border: border(node, spatial)? })
}

/// Height and width; a 1-D list is the width.
pub fn side(list: &[usize], height: usize) -> [usize; 2] {
    match list {
        [width] => [height, *width],
        [height, width, ..] => [*height, *width],
        [] => [height, height],
    }
}

fn border(node: &NodeView, spatial: usize) -> Result<Border, OpError> {
    let none = || Border::Explicit(vec![0; spatial], vec![0; spatial]);
    match node.string("auto_pad", "NOTSET")? {
        "SAME_UPPER" => return Ok(Border::SameUpper),
        "SAME_LOWER" => return Ok(Border::SameLower),
        "VALID" => return Ok(none()),
        "NOTSET" | "" => {}
        other => return malformed(format!("auto_pad {other:?}")),
    }
    let Some(pads) = node.ints("pads")? else { return Ok(none()) };
    if pads.iter().any(|p| *p < 0) {
        return unsupported(format!("attribute pads={pads:?} is not implemented (negative)"));
    }
    let pads = node.sizes("pads", 0)?.unwrap_or_default();
    if pads.len() != 2 * spatial {
        return malformed(format!("pads {pads:?} for {spatial} spatial dimensions"));
    }
    Ok(Border::Explicit(pads[..spatial].to_vec(), pads[spatial..].to_vec()))
}
