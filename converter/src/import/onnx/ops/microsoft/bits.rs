//! Products with matrices of few bits in blocks, as exporters of language models pack them.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::ops::matmul::{linear, row_bias_at};
use crate::import::onnx::tensors;
use crate::integers::Integers;
use edge_runtime::graph::ValueId;

/// `bits` of each number of a run of bytes, lowest bits first.
fn unpacked(bytes: &[u8], bits: usize) -> impl Iterator<Item = i32> {
    let mask = (1u32 << bits) - 1;
    bytes
        .iter()
        .flat_map(move |byte| (0..8 / bits).map(move |i| (u32::from(*byte) >> (i * bits) & mask) as i32))
}

/// `A · B'` with B `[N, blocks, bytes of a block]`, a scale for each block and row, and zero points packed as B is.
pub fn matmul_n_bits<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.only_int("weight_prepacked", 0)?;
    let size = |name: &str, default| match usize::try_from(node.int(name, default)?) {
        Ok(size @ 1..=0x7fff_ffff) => Ok(size),
        _ => malformed(format!("attribute {name}={}", node.int(name, default)?)),
    };
    let (n, k, bits, block) = (size("N", 0)?, size("K", 0)?, size("bits", 4)?, size("block_size", 0)?);
    if !matches!(bits, 2 | 4 | 8) || !block.is_multiple_of(8) {
        return unsupported(format!("{bits} bits in blocks of {block} are not implemented"));
    }
    if node.input(4).is_some() {
        return unsupported("operand g_idx is not implemented");
    }
    let (Some(b), Some(scales)) = (ctx.array(node, 1)?, ctx.array(node, 2)?) else {
        return unsupported("a matrix that is computed is not implemented");
    };
    let (blocks, half) = (k.div_ceil(block), 1i32 << (bits - 1));
    let (Some(row), Some(scales)) = (blocks.checked_mul(block * bits / 8), tensors::floats(&scales)) else {
        return malformed("scales that are no floats");
    };
    if Some(b.data.len()) != n.checked_mul(row) || Some(scales.len()) != n.checked_mul(blocks) {
        return malformed(format!("{} bytes and {} scales for [{n}, {k}]", b.data.len(), scales.len()));
    }
    let codes = b.data.chunks_exact(row).flat_map(|row| unpacked(row, bits).take(k));
    let codes: Vec<i8> = codes.map(|code| (code - half) as i8).collect();
    let zeros = match (node.input(3), ctx.array(node, 3)?) {
        (None, _) => Vec::new(),
        (Some(_), Some(zeros)) if zeros.dtype.bytes() == 1 => {
            let row = (blocks * bits).div_ceil(8);
            if zeros.data.len() != n * row {
                return malformed(format!("{} bytes of zero points for [{n}, {blocks}]", zeros.data.len()));
            }
            let zeros = zeros.data.chunks_exact(row).flat_map(|row| unpacked(row, bits).take(blocks));
            zeros.map(|zero| (zero - half) as i8).collect()
        }
        _ => return unsupported("zero points that are computed, or floats, are not implemented"),
    };
    let zeros = if zeros.iter().all(|zero| *zero == 0) { Vec::new() } else { zeros };
    let blocks = vec![1, block.min(k)];
    let integers = Integers { bits: bits as u32, codes, scales, zeros, dims: vec![n, k], blocks };
    let x = ctx.operand(node, 0)?;
    let w: ValueId = ctx.constant_of(node.input(1).unwrap_or(""), integers);
    let bias = match node.input(5) {
        None => None,
        Some(_) => match row_bias_at(ctx, node, 5, n, 1.0)? {
            Some(bias) => Some(bias),
            None => return unsupported("a bias that is computed is not implemented"),
        },
    };
    let y = ctx.emit(node, linear(n), &[Some(x), Some(w), None, bias]);
    ctx.set(node, 0, y)
}
