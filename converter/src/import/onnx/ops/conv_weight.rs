//! The weight of a convolution in the runtime's layout, stored or computed.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use crate::import::onnx::tensors::{arranged, floats};
use crate::model::Array;
use edge_runtime::graph::{Act, Op, PadMode, ValueId, Window};
use std::ops::Range;

/// Rows of one group start at a multiple of this.
const ROWS: usize = 16;

/// The weight of a convolution, `[out, in / groups, ..kernel]`.
#[derive(Clone)]
pub enum Weight {
    /// Stored, as floats.
    Stored(Array),
    /// Known when the model runs.
    Computed(ValueId),
}

impl Weight {
    /// The shape.
    pub fn dims(&self, ctx: &Ctx) -> Result<Vec<usize>, OpError> {
        let dims = match self {
            Weight::Stored(array) => Some(array.dims.clone()),
            Weight::Computed(id) => ctx.fact(*id).dims.as_ref().and_then(|d| d.iter().copied().collect()),
        };
        match dims {
            Some(dims) if dims.len() >= 3 && dims.iter().all(|d| *d > 0) => Ok(dims),
            Some(dims) => malformed(format!("a weight of shape {dims:?}")),
            None => unknown("the weight's shape"),
        }
    }

    /// The taps of both spatial dimensions in one row.
    pub fn as_row<'m>(&self, ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<Weight, OpError> {
        let dims = self.dims(ctx)?;
        let row = [dims[0], dims[1], 1, dims[2..].iter().product()];
        Ok(match self {
            Weight::Stored(array) => Weight::Stored(Array { dims: row.to_vec(), ..array.clone() }),
            Weight::Computed(id) => {
                let row = row.map(|d| d as i64);
                Weight::Computed(ctx.formula(node).reshape(*id, &row))
            }
        })
    }

    /// Some channels of the input.
    pub fn channels<'m>(
        &self,
        ctx: &mut Ctx<'m>,
        node: &NodeView<'m>,
        range: Range<usize>,
    ) -> Result<Weight, OpError> {
        Ok(match self {
            Weight::Computed(id) => {
                let mut f = ctx.formula(node);
                Weight::Computed(f.slice(*id, 1, range.start as i64, range.end as i64))
            }
            Weight::Stored(array) => {
                let Some(values) = floats(array) else { return malformed("a weight that holds no floats") };
                let taps: usize = array.dims[2..].iter().product();
                let kept: Vec<f32> = values
                    .chunks_exact(array.dims[1] * taps)
                    .flat_map(|row| &row[range.start * taps..range.end * taps])
                    .copied()
                    .collect();
                let mut dims = array.dims.clone();
                dims[1] = range.len();
                Weight::Stored(Array::of_floats(array.dtype, &dims, kept))
            }
        })
    }
}

/// Attribute `group`, which must divide the weight's rows.
pub fn groups(node: &NodeView, weight: &[usize]) -> Result<usize, OpError> {
    match node.int("group", 1)? {
        g if g >= 1 && weight[0].is_multiple_of(g as usize) => Ok(g as usize),
        g => malformed(format!("{} output channels in {g} groups", weight[0])),
    }
}

/// Rows of a weight as the runtime wants them: each group's start at a multiple of [`ROWS`], unless the groups are single rows.
pub fn padded_rows(weight: &[usize], groups: usize) -> usize {
    let (out, per_group) = (weight[0], weight[1]);
    let depthwise = groups == out && per_group == 1;
    if groups == 1 || depthwise { out } else { (out / groups).next_multiple_of(ROWS) * groups }
}

/// A channels-last convolution without a bias; the weight is of this call alone.
pub fn product<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    weight: &Weight,
    (groups, window): (usize, Window),
) -> Result<ValueId, OpError> {
    let dims = weight.dims(ctx)?;
    let padded = padded_rows(&dims, groups);
    let w = match weight {
        Weight::Stored(array) => {
            let rows = rows(array, groups, padded)?;
            ctx.matrix(&format!("{}/weight", node.name), rows)
        }
        Weight::Computed(id) => computed_rows(ctx, node, *id, groups, padded, &dims),
    };
    let op = Op::Conv { window, groups, out_channels: dims[0], act: Act::None, act_after_residual: false };
    Ok(ctx.emit(node, op, &[Some(x), Some(w)]))
}

/// As [`rows`], of a weight that is computed.
pub fn computed_rows<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    w: ValueId,
    groups: usize,
    padded: usize,
    dims: &[usize],
) -> ValueId {
    let w = ctx.channels_last(node, w, dims.len());
    let w = ctx.emit(node, Op::Flatten { axis: 1 }, &[Some(w)]);
    if padded == dims[0] {
        return w;
    }
    let (k, rows) = (dims[1..].iter().product::<usize>() as i64, (dims[0] / groups) as i64);
    let mut f = ctx.formula(node);
    let w = f.reshape(w, &[groups as i64, rows, k]);
    let pads = f.integers(&[2], &[0, (padded / groups) as i64 - rows]);
    let w = f.op(Op::Pad { mode: PadMode::Constant, axes: vec![1] }, &[w, pads]);
    f.reshape(w, &[padded as i64, k])
}

/// `[out, in / groups, ..kernel]` to `[rows, kernel * in / groups]`, each group's rows filled with zeros to `padded / groups`.
pub fn rows(w: &Array, groups: usize, padded: usize) -> Result<Array, OpError> {
    let (out, channels) = (w.dims[0], w.dims[1]);
    let taps: usize = w.dims[2..].iter().product();
    let k = taps * channels;
    if padded.checked_mul(k).is_none_or(|size| size > isize::MAX as usize / 8) {
        return malformed(format!("a weight of shape {:?} in {groups} groups", w.dims));
    }
    let (per_group, padded_group) = (out / groups, padded / groups);
    let place = |i: usize| {
        let (row, tap, c) = (i / k, i % k / channels, i % channels);
        let (group, row) = (row / padded_group, row % padded_group);
        (row < per_group).then(|| ((group * per_group + row) * channels + c) * taps + tap)
    };
    match arranged(w, &[padded, k], place) {
        Some(rows) => Ok(rows),
        None => malformed("a weight that holds no floats"),
    }
}

/// Checks that `x` `[N, C, ..]` has the channels that the weight takes.
pub fn channels(ctx: &Ctx, x: ValueId, weight: &[usize], groups: usize) -> Result<(), OpError> {
    let channels = weight[1].checked_mul(groups);
    match ctx.fact(x).size(1) {
        Some(found) if Some(found) != channels => {
            malformed(format!("{found} channels; weight {weight:?} in {groups} groups takes {channels:?}"))
        }
        _ => Ok(()),
    }
}
