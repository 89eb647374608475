//! Stored weights of a few bits an element, blocks of which share a scale.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::ops::matmul::linear;
use crate::import::onnx::ops::quantized::{Blocks, dequantized};
use crate::import::onnx::ranks::normalize;
use crate::import::onnx::tensors;
use crate::model::Array;
use edge_runtime::graph::{BinaryOp, DType, Op};

/// Elements of `bits` bits, the first in the low bits of a byte: `rows` of `per_row`, each starting with a byte.
fn unpacked(
    packed: &Array,
    bits: usize,
    [rows, per_row]: [usize; 2],
    what: &str,
) -> Result<Vec<u8>, OpError> {
    let bytes = per_row.checked_mul(bits).map(|bits| bits.div_ceil(8));
    let all = bytes.and_then(|bytes| bytes.checked_mul(rows));
    let (Some(bytes), true) = (bytes, packed.dtype == DType::U8 && all == Some(packed.data.len())) else {
        let (dtype, dims) = (packed.dtype, &packed.dims);
        return malformed(format!(
            "{what} {dtype}{dims:?} for {rows} rows of {per_row} elements of {bits} bits"
        ));
    };
    let mask = if bits == 8 { 0xff } else { (1u8 << bits) - 1 };
    let one = |row: &[u8], i: usize| row[i * bits / 8] >> (i * bits % 8) & mask;
    Ok(packed
        .data
        .chunks_exact(bytes.max(1))
        .flat_map(|row| (0..per_row).map(move |i| one(row, i)))
        .collect())
}

fn bytes(dims: &[usize], data: Vec<u8>) -> Array {
    Array { dtype: DType::U8, dims: dims.to_vec(), data: data.into() }
}

/// An operand that must be stored.
fn stored<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<Array, OpError> {
    match ctx.array(node, i)? {
        Some(array) => Ok(array),
        None => unsupported(format!("operand {i} that a run computes is not implemented")),
    }
}

/// a, packed `[N, blocks, bytes]`, scales, zero points?, g_idx?, bias?
///
/// Products are of real numbers whatever `accuracy_level` says: it is the least that will do.
pub fn matmul<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.only_int("weight_prepacked", 0)?;
    let bits = match node.int("bits", 4)? {
        bits @ (2 | 4 | 8) => bits as usize,
        bits => return unsupported(format!("attribute bits={bits} is not implemented")),
    };
    let size = |name: &str| match node.int(name, 0)? {
        size @ 1..=0x7fff_ffff => Ok(size as usize),
        size => malformed(format!("attribute {name}={size}")),
    };
    let (n, k, block) = (size("N")?, size("K")?, size("block_size")?);
    if !block.is_multiple_of(8) {
        return malformed(format!("attribute block_size={block}"));
    }
    let blocks = k.div_ceil(block);
    let a = ctx.operand(node, 0)?;
    let in_order = match (node.input(4).is_some(), ctx.known(node, 4)?) {
        (false, _) => true,
        (true, Some(order)) => {
            order.len() >= k && order[..k].iter().enumerate().all(|(i, group)| *group == (i / block) as i64)
        }
        (true, None) => false,
    };
    if !in_order {
        return unsupported("operand 4 (g_idx), other than one block after the other, is not implemented");
    }
    let (packed, scale) = (stored(ctx, node, 1)?, stored(ctx, node, 2)?);
    let whole = blocks * block;
    let values = unpacked(&packed, bits, [n, whole], "weights")?;
    let values: Vec<u8> = values.chunks_exact(whole).flat_map(|row| &row[..k]).copied().collect();
    let zero = match node.input(3) {
        None => vec![1 << (bits - 1); n * blocks],
        Some(_) => {
            let zero = stored(ctx, node, 3)?;
            if zero.dtype != DType::U8 {
                return unsupported(format!("zero points of type {} are not implemented", zero.dtype));
            }
            unpacked(&zero, bits, [n, blocks], "zero points")?
        }
    };
    if scale.elements() != n * blocks {
        return malformed(format!("scales {:?} for {n} rows of {blocks} blocks", scale.dims));
    }
    let scale = Array { dims: vec![n, blocks], ..scale };
    let layout = Blocks { axis: 1, size: Some(block) };
    let (weight, _) = dequantized(
        (&bytes(&[n, k], values), false),
        &scale,
        Some(&bytes(&[n, blocks], zero)),
        layout,
        DType::F32,
    )?;
    let w = ctx.constant(node.input(1).unwrap_or(""), weight);
    let mut y = ctx.emit(node, linear(n), &[Some(a), Some(w)]);
    if let Some(bias) = ctx.optional(node, 5)? {
        y = ctx.binary(node, BinaryOp::Add, y, bias);
    }
    ctx.set(node, 0, y)
}

/// data, indices, scales, zero points?: rows of a table, made real.
pub fn gather<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let block = match node.int("block_size", 128)? {
        block @ 1..=0x7fff_ffff => block as usize,
        block => return malformed(format!("attribute block_size={block}")),
    };
    let bits = match node.int("bits", 4)? {
        bits @ (2 | 4 | 8) => bits as usize,
        bits => return unsupported(format!("attribute bits={bits} is not implemented")),
    };
    let (data, scale) = (stored(ctx, node, 0)?, stored(ctx, node, 2)?);
    let zero = if node.input(3).is_some() { Some(stored(ctx, node, 3)?) } else { None };
    let rank = data.dims.len();
    let axis = |name: &str, default: i64| match normalize(node.int(name, default)?, rank) {
        Some(axis) => Ok(axis),
        None => malformed(format!("attribute {name} of {rank} dimensions")),
    };
    let (gathered, blocked) = (axis("gather_axis", 0)?, axis("quantize_axis", 1)?);
    // Bytes hold several elements of the last axis; integers of 4 bits come one an element.
    let packed = !ctx.four_bits(node, 0);
    let (data, zero) = match packed {
        false => (data, zero),
        true => {
            if data.dtype != DType::U8 {
                return unsupported(format!("a table of type {} is not implemented", data.dtype));
            }
            let Some((last, outer)) = data.dims.split_last() else {
                return malformed("a table that is a scalar");
            };
            let rows: usize = outer.iter().product();
            let Some(width) = last.checked_mul(8 / bits) else { return malformed("a table beyond memory") };
            let values = unpacked(&data, bits, [rows, width], "a table")?;
            let zero = match (zero, scale.dims.split_last()) {
                (Some(zero), Some((last, outer))) => {
                    let rows: usize = outer.iter().product();
                    bytes(&scale.dims, unpacked(&zero, bits, [rows, *last], "zero points")?)
                }
                _ => bytes(&scale.dims, vec![1 << (bits - 1); scale.elements()]),
            };
            (bytes(&[outer, &[width]].concat(), values), Some(zero))
        }
    };
    let Some(dtype) = ctx.operand_dtype(node, 2).filter(|dtype| dtype.is_float()) else {
        return malformed("scales that are no floats");
    };
    if scale.dims.len() != rank {
        return malformed(format!("scales {:?} for a table {:?}", scale.dims, data.dims));
    }
    if tensors::integers(&data).is_none() {
        return malformed("a table that holds no integers");
    }
    let layout = Blocks { axis: blocked, size: Some(block) };
    let (table, _) = dequantized((&data, false), &scale, zero.as_ref(), layout, dtype)?;
    let table = ctx.constant(node.input(0).unwrap_or(""), table);
    let index = ctx.indices(node, 1)?;
    let y = ctx.emit(node, Op::Gather { axis: gathered as i32 }, &[Some(table), Some(index)]);
    ctx.set(node, 0, y)
}
