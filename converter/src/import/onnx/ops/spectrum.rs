//! Spectra: Fourier transforms as products with matrices of cosines and sines, windows, and mel filters.

use super::matmul::linear;
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ranks::normalize;
use crate::import::onnx::tensors::{self, floats, from_f64};
use crate::model::Array;
use edge_runtime::graph::{Act, DType, Op, Pads, UnaryOp, ValueId, Window};
use std::f64::consts::PI;

const WINDOW: &[&str] = &["output_datatype", "periodic"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("DFT", (17, 19), (1, 2), Types::Float, &["axis", "inverse", "onesided"], dft),
    op("DFT", (20, NOW), (1, 3), Types::Float, &["inverse", "onesided"], dft),
    op("STFT", (17, NOW), (2, 4), Types::Float, &["onesided"], stft),
    op("HannWindow", (17, NOW), (1, 1), Types::Integer, WINDOW, |c, n| cosines(c, n, [0.5, 0.5, 0.0])),
    op("HammingWindow", (17, NOW), (1, 1), Types::Integer, WINDOW, |c, n| {
        cosines(c, n, [25.0 / 46.0, 21.0 / 46.0, 0.0])
    }),
    op("BlackmanWindow", (17, NOW), (1, 1), Types::Integer, WINDOW, |c, n| cosines(c, n, [0.42, 0.5, 0.08])),
    op("MelWeightMatrix", (17, NOW), (5, 5), Types::Integer, &["output_datatype"], mel),
];

/// A transform of `points` numbers.
struct Transform {
    points: usize,
    /// Numbers of the operand that take part; those behind them would be zeros.
    taken: usize,
    complex_in: bool,
    /// Numbers of the result.
    given: usize,
    complex_out: bool,
    inverse: bool,
    /// The operand is the first half of a spectrum whose other half is its mirror image.
    mirrored: bool,
}

impl Transform {
    /// Rows (number, part) by columns (number, part).
    fn matrix(&self, ctx: &mut Ctx) -> Result<Array, OpError> {
        let (parts_in, parts_out) = (1 + usize::from(self.complex_in), 1 + usize::from(self.complex_out));
        let (n, k) = (self.given.saturating_mul(parts_out), self.taken.saturating_mul(parts_in));
        // As numbers and as bytes: 2,400 real points with one side of their spectrum fit.
        ctx.table(n.checked_mul(k), 8)?;
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let mut values = Vec::with_capacity(n * k);
        for row in 0..n {
            let (i, part) = (row / parts_out, row % parts_out);
            for column in 0..k {
                let (j, from) = (column / parts_in, column % parts_in);
                // Whole turns are left out before the angle is made.
                let turn = (i as u128 * j as u128 % self.points as u128) as f64 / self.points as f64;
                let (sine, cosine) = (2.0 * PI * turn).sin_cos();
                let value = match (part, from) {
                    (0, 0) | (1, 1) => cosine,
                    (0, _) => -sign * sine,
                    (_, _) => sign * sine,
                };
                let twice = self.mirrored && j > 0 && 2 * j != self.points;
                let scale = if self.inverse { 1.0 / self.points as f64 } else { 1.0 };
                values.push((value * scale * if twice { 2.0 } else { 1.0 }) as f32);
            }
        }
        Ok(Array::f32(&[n, k], &values))
    }
}

/// An operand that is one whole number, known at import.
fn number<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize, what: &str) -> Result<Option<i64>, OpError> {
    if node.input(i).is_none() {
        return Ok(None);
    }
    match ctx.known(node, i)?.as_deref() {
        Some([one]) => Ok(Some(*one)),
        Some(other) => malformed(format!("{what} {other:?}")),
        None => unknown(format!("{what}, as a number,")),
    }
}

/// A transform's length, which must be some.
fn length(value: i64, what: &str) -> Result<usize, OpError> {
    match usize::try_from(value) {
        Ok(length @ 1..=0xff_ffff) => Ok(length),
        _ => malformed(format!("{what} of {value}")),
    }
}

fn dft<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(dtype) = ctx.operand_dtype(node, 0) else { return unknown("the operand's element type") };
    let x = ctx.operand(node, 0)?;
    let rank = ctx.rank(x)?;
    let given = match node.opset {
        ..20 => node.int("axis", 1)?,
        _ => number(ctx, node, 2, "the axis")?.unwrap_or(-2),
    };
    let Some(axis) = normalize(given, rank).filter(|a| a + 1 < rank) else {
        return malformed(format!("axis {given} of {rank} dimensions, the last of which holds the parts"));
    };
    let (Some(size), Some(parts)) = (ctx.fact(x).size(axis), ctx.fact(x).size(rank - 1)) else {
        return unknown("the size of the transformed axis");
    };
    let (inverse, onesided) = (node.flag("inverse", false)?, node.flag("onesided", false)?);
    let complex_in = match parts {
        1 | 2 => parts == 2,
        other => return malformed(format!("{other} parts; real numbers have 1, complex ones 2")),
    };
    if onesided && inverse != complex_in {
        return unsupported(
            "onesided with complex numbers, or with real ones of an inverse, is not implemented",
        );
    }
    let mirrored = inverse && onesided;
    let default = if mirrored { 2 * size.saturating_sub(1) } else { size } as i64;
    let points = length(number(ctx, node, 1, "dft_length")?.unwrap_or(default), "a transform")?;
    let half = points / 2 + 1;
    let transform = Transform {
        points,
        taken: size.min(if mirrored { half } else { points }),
        complex_in,
        given: if onesided && !inverse { half } else { points },
        complex_out: !mirrored,
        inverse,
        mirrored,
    };
    let (matrix, parts_out) = (transform.matrix(ctx)?, if mirrored { 1 } else { 2 });
    let rows = matrix.dims[0];
    let w = ctx.constant(&format!("{}/transform", node.name), matrix);
    let mut f = ctx.formula(node);
    // The axis beside the parts, both as one row.
    let perm: Vec<usize> =
        (0..rank).filter(|d| *d != axis && *d != rank - 1).chain([axis, rank - 1]).collect();
    let x = f.cast(x, DType::F32);
    let x = f.op(Op::Transpose { perm: perm.clone() }, &[x]);
    let x = if transform.taken < size { f.slice(x, rank as i32 - 2, 0, transform.taken as i64) } else { x };
    let keep = vec![0; rank - 2];
    let shape =
        |last: &[usize]| -> Vec<i64> { keep.iter().copied().chain(last.iter().map(|d| *d as i64)).collect() };
    let x = f.reshape(x, &shape(&[transform.taken * parts]));
    let y = f.op(linear(rows), &[x, w]);
    let y = f.reshape(y, &shape(&[rows / parts_out, parts_out]));
    let mut back = vec![0; rank];
    for (to, from) in perm.into_iter().enumerate() {
        back[from] = to;
    }
    let y = f.op(Op::Transpose { perm: back }, &[y]);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

/// A convolution: the signal's parts are channels, the window is part of the matrix.
fn stft<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(dtype) = ctx.operand_dtype(node, 0) else { return unknown("the operand's element type") };
    let x = ctx.operand(node, 0)?;
    let Some(step) = number(ctx, node, 1, "frame_step")? else { return malformed("operand 1 is missing") };
    let step = length(step, "a frame step")?;
    let window = match (node.input(2).is_some(), ctx.array(node, 2)?) {
        (true, None) => return unknown("the window, as numbers,"),
        (_, window) => window.as_ref().and_then(floats),
    };
    let frame = number(ctx, node, 3, "frame_length")?;
    let points = match (frame, &window) {
        (Some(frame), Some(window)) if frame != window.len() as i64 => {
            return unsupported(format!(
                "a window of {} numbers over frames of {frame} is not implemented",
                window.len()
            ));
        }
        (Some(frame), _) => length(frame, "a frame")?,
        (None, Some(window)) => length(window.len() as i64, "a window")?,
        (None, None) => return malformed("neither a window nor frame_length"),
    };
    let (3, Some(parts @ (1 | 2))) = (ctx.rank(x)?, ctx.fact(x).size(2)) else {
        return malformed("a signal that is not [batch, length, 1 or 2]");
    };
    let onesided = node.flag("onesided", true)?;
    if onesided && parts == 2 {
        return unsupported("onesided with complex numbers is not implemented");
    }
    let given = if onesided { points / 2 + 1 } else { points };
    let transform = Transform {
        points,
        taken: points,
        complex_in: parts == 2,
        given,
        complex_out: true,
        inverse: false,
        mirrored: false,
    };
    let mut matrix = transform.matrix(ctx)?;
    if let (Some(window), Some(mut values)) = (window, matrix.as_f32()) {
        ctx.table(Some(values.len()), 4)?;
        for (i, value) in values.iter_mut().enumerate() {
            *value *= window[i / parts % points];
        }
        matrix = Array::f32(&matrix.dims, &values);
    }
    let rows = matrix.dims[0];
    let w = ctx.constant(&format!("{}/transform", node.name), matrix);
    let window =
        Window { kernel: [1, points], stride: [1, step], dilation: [1, 1], pads: Pads::Explicit([0; 4]) };
    let op = Op::Conv { window, groups: 1, out_channels: rows, act: Act::None, act_after_residual: false };
    let mut f = ctx.formula(node);
    let x = f.cast(x, DType::F32);
    let y = f.op(op, &[x, w]);
    let y = f.reshape(y, &[0, 0, given as i64, 2]);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

/// The element type that attribute `output_datatype` names; f32 without it.
fn output_type(node: &NodeView) -> Result<DType, OpError> {
    let number = node.int("output_datatype", 1)?;
    match tensors::dtype(i32::try_from(number).unwrap_or(0)) {
        Ok(dtype) => Ok(dtype),
        Err(name) => unsupported(format!("attribute output_datatype={number} ({name}) is not implemented")),
    }
}

/// `a - b cos(t) + c cos(2t)` over one turn of `size` steps, or of one step less when the window is not periodic.
fn cosines<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, [a, b, c]: [f64; 3]) -> Result<(), OpError> {
    let dtype = output_type(node)?;
    let periodic = node.flag("periodic", true)?;
    if let Some(size) = number(ctx, node, 0, "the size").ok().flatten() {
        let size = length(size, "a window")?;
        let turn = 2.0 * PI / (if periodic { size } else { (size - 1).max(1) }) as f64;
        let value = |i: usize| a - b * (i as f64 * turn).cos() + c * (2.0 * i as f64 * turn).cos();
        let values: Vec<f64> = (0..size).map(value).collect();
        let id = ctx.constant(node.output(0).unwrap_or(""), from_f64(dtype, &[size], &values));
        return ctx.set(node, 0, id);
    }
    let size = ctx.indices(node, 0)?;
    let mut f = ctx.formula(node);
    let size = f.reshape(size, &[]);
    let steps = f.count_up(size);
    let (steps, size) = (f.cast(steps, DType::F32), f.cast(size, DType::F32));
    let one = f.real(1.0);
    let last = if periodic { size } else { f.sub(size, one) };
    let last = f.max(last, one);
    let turns = f.div(steps, last);
    let cosine = |f: &mut Formula, times: f64, factor: f64| -> ValueId {
        let angle = f.times(turns, 2.0 * PI * times);
        let cosine = f.unary(UnaryOp::Cos, angle);
        f.times(cosine, factor)
    };
    let y = cosine(&mut f, 1.0, -b);
    let y = if c == 0.0 {
        y
    } else {
        let second = cosine(&mut f, 2.0, c);
        f.add(y, second)
    };
    let y = f.plus(y, a);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

/// Triangles evenly spaced on the mel scale, `[spectrum bins, mel bins]`, as ONNX defines them.
fn mel<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let dtype = output_type(node)?;
    let mut counts = [0usize; 3];
    for (i, (slot, what)) in counts.iter_mut().zip(["num_mel_bins", "dft_length", "sample_rate"]).enumerate()
    {
        let Some(value) = number(ctx, node, i, what)? else { return malformed(format!("{what} is missing")) };
        *slot = length(value, what)?;
    }
    let mut edges = [0f64; 2];
    for (i, slot) in edges.iter_mut().enumerate() {
        match ctx.array(node, 3 + i)?.as_ref().and_then(floats).as_deref() {
            Some([hertz]) => *slot = f64::from(*hertz),
            _ => return unknown("the edges in hertz, as numbers,"),
        }
    }
    let [bins, points, rate] = counts;
    let lines = points / 2 + 1;
    // An f64, and twice the element itself.
    ctx.table(bins.checked_mul(lines), 24)?;
    ctx.table(bins.checked_add(2), 8)?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (mel(edges[0]), mel(edges[1]));
    let step = (high - low) / (bins + 2) as f64;
    let line = |i: usize| {
        let hertz = 700.0 * (10f64.powf((low + i as f64 * step) / 2595.0) - 1.0);
        ((points + 1) as f64 * hertz / rate as f64).floor() as i64
    };
    let centres: Vec<i64> = (0..bins + 2).map(line).collect();
    if centres.iter().any(|c| !(0..lines as i64).contains(c)) {
        return malformed(format!("edges {edges:?} outside the spectrum of a rate of {rate}"));
    }
    let mut values = vec![0f64; lines * bins];
    for bin in 0..bins {
        let (from, centre, to) = (centres[bin], centres[bin + 1], centres[bin + 2]);
        let mut put = |line: i64, value: f64| values[line as usize * bins + bin] = value;
        if centre == from {
            put(centre, 1.0);
        } else {
            (from..=centre).for_each(|l| put(l, (l - from) as f64 / (centre - from) as f64));
        }
        (centre..to).for_each(|l| put(l, (to - l) as f64 / (to - centre) as f64));
    }
    let id = ctx.constant(node.output(0).unwrap_or(""), from_f64(dtype, &[lines, bins], &values));
    ctx.set(node, 0, id)
}
