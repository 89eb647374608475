//! Sliding windows: the attributes that convolution and pooling share.

use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use edge_runtime::graph::{Pads, Window};

/// Reads a window over `rank - 2` dimensions; `kernel` is its size where the weight tells it.
pub fn window(node: &NodeView, rank: usize, kernel: Option<&[usize]>) -> Result<Window, OpError> {
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
    Ok(Window {
        kernel: side(&kernel, 1),
        stride: side(&stride, 1),
        dilation: side(&dilation, 1),
        pads: pads(node, spatial)?,
    })
}

/// Height and width; a 1-D list is the width.
pub fn side(list: &[usize], height: usize) -> [usize; 2] {
    match list {
        [width] => [height, *width],
        [height, width, ..] => [*height, *width],
        [] => [height, height],
    }
}

fn pads(node: &NodeView, spatial: usize) -> Result<Pads, OpError> {
    match node.string("auto_pad", "NOTSET")? {
        "SAME_UPPER" => return Ok(Pads::SameUpper),
        "SAME_LOWER" => return Ok(Pads::SameLower),
        "VALID" => return Ok(Pads::Explicit([0; 4])),
        "NOTSET" | "" => {}
        other => return malformed(format!("auto_pad {other:?}")),
    }
    let Some(pads) = node.ints("pads")? else { return Ok(Pads::Explicit([0; 4])) };
    if pads.iter().any(|p| *p < 0) {
        return unsupported(format!("attribute pads={pads:?} is not implemented (negative)"));
    }
    let pads = node.sizes("pads", 0)?.unwrap_or_default();
    if pads.len() != 2 * spatial {
        return malformed(format!("pads {pads:?} for {spatial} spatial dimensions"));
    }
    let (before, after) = (side(&pads[..spatial], 0), side(&pads[spatial..], 0));
    Ok(Pads::Explicit([before[0], before[1], after[0], after[1]]))
}
