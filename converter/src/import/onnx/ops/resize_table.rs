//! Resizing by tables: each element of a result as some elements of the operand, weighed. For what the runtime's own resizing
//! does not do: antialiased reduction, cropping, and scales that keep the aspect ratio.

use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::model::Array;
use edge_runtime::graph::{CoordinateMode, DType, Interpolation, NearestMode, Op, ValueId};

/// How an axis is resized.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// The axis.
    pub axis: usize,
    /// Its size.
    pub input: usize,
    /// The result's.
    pub output: usize,
    /// `output / input` before it was rounded.
    pub scale: f64,
    /// The part that is taken, from 0 to 1: TensorFlow's crop and resize.
    pub crop: Option<(f64, f64)>,
}

/// What is outside a crop.
pub type Extrapolation = f32;

/// Most taps of an element: each becomes a node.
const MAX_TAPS: usize = 64;

/// Where output `i` lies in the operand, in elements from the first one's middle.
fn position(axis: &Axis, mode: CoordinateMode, i: usize) -> f64 {
    let (input, scale, i) = (axis.input as f64, axis.scale, i as f64);
    let length = scale * input;
    if let Some((from, to)) = axis.crop {
        let last = input - 1.0;
        let within = match axis.output {
            1 => (to - from) * last / 2.0,
            output => i * (to - from) * last / (output as f64 - 1.0),
        };
        return from * last + within;
    }
    match mode {
        CoordinateMode::HalfPixel => (i + 0.5) / scale - 0.5,
        CoordinateMode::PytorchHalfPixel if axis.output == 1 => -0.5,
        CoordinateMode::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
        CoordinateMode::HalfPixelSymmetric => {
            let adjustment = axis.output as f64 / length;
            input / 2.0 * (1.0 - adjustment) + (i + 0.5) / scale - 0.5
        }
        CoordinateMode::AlignCorners if axis.output == 1 => 0.0,
        CoordinateMode::AlignCorners => i * (input - 1.0) / (axis.output as f64 - 1.0),
        CoordinateMode::Asymmetric => i / scale,
    }
}

/// The elements around `x` with their weights; indices may be outside.
fn taps(x: f64, scale: f64, how: Interpolation) -> Vec<(i64, f64)> {
    let shrink = |antialias: bool| if antialias { scale.min(1.0) } else { 1.0 };
    let window = |radius: f64, shrink: f64, weight: &dyn Fn(f64) -> f64| -> Vec<(i64, f64)> {
        let (from, to) = ((x - radius / shrink).ceil() as i64, (x + radius / shrink).floor() as i64);
        let all: Vec<(i64, f64)> = (from..=to).map(|j| (j, weight((j as f64 - x) * shrink))).collect();
        let sum: f64 = all.iter().map(|(_, w)| w).sum();
        all.into_iter().filter(|(_, w)| *w != 0.0).map(|(j, w)| (j, w / sum)).collect()
    };
    match how {
        Interpolation::Nearest(mode) => {
            let (low, t) = (x.floor(), x - x.floor());
            let up = match mode {
                NearestMode::Floor => false,
                NearestMode::Ceil => t > 0.0,
                NearestMode::RoundPreferFloor => t > 0.5,
                NearestMode::RoundPreferCeil => t >= 0.5,
            };
            vec![(low as i64 + i64::from(up), 1.0)]
        }
        Interpolation::Linear { antialias } => window(1.0, shrink(antialias), &|d| 1.0 - d.abs().min(1.0)),
        Interpolation::Cubic { a, antialias, .. } => {
            let a = f64::from(a);
            let keys = |d: f64| {
                let d = d.abs();
                match d {
                    ..=1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                    ..2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
                    _ => 0.0,
                }
            };
            window(2.0, shrink(antialias), &keys)
        }
    }
}

/// How far from a position elements count, in elements.
fn reach(scale: f64, how: Interpolation) -> f64 {
    match how {
        Interpolation::Nearest(_) => 1.0,
        Interpolation::Linear { antialias } => 1.0 / if antialias { scale.min(1.0) } else { 1.0 },
        Interpolation::Cubic { antialias, .. } => 2.0 / if antialias { scale.min(1.0) } else { 1.0 },
    }
}

/// Resizes along the axes, one after the other. `x` is real.
pub fn resize<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    axes: &[Axis],
    how: (Interpolation, CoordinateMode, Extrapolation),
) -> Result<ValueId, OpError> {
    let rank = ctx.rank(x)?;
    let (interpolation, mode, extrapolation) = how;
    let exclude = matches!(interpolation, Interpolation::Cubic { exclude_outside: true, .. });
    let mut y = x;
    let mut outside = Vec::new();
    for axis in axes.iter().filter(|a| a.crop.is_some() || a.input != a.output || a.scale != 1.0) {
        if axis.input == 0 {
            return malformed(format!("{} elements made of none along axis {}", axis.output, axis.axis));
        }
        let reach = reach(axis.scale, interpolation);
        if reach.is_nan() || reach > (MAX_TAPS / 2) as f64 {
            return unsupported(format!(
                "resizing {} elements to {} is not implemented",
                axis.input, axis.output
            ));
        }
        // For each element its taps, and a table of each tap's places and weights.
        ctx.table(Some(axis.output), 96 * (2 * reach.ceil() as usize + 2))?;
        let last = axis.input as i64 - 1;
        let rows: Vec<Vec<(i64, f64)>> = (0..axis.output)
            .map(|i| {
                let x = position(axis, mode, i);
                let mut taps = taps(x, axis.scale, interpolation);
                if exclude {
                    taps.retain(|(j, _)| (0..=last).contains(j));
                    let sum: f64 = taps.iter().map(|(_, w)| w).sum();
                    taps.iter_mut().for_each(|(_, w)| *w /= sum);
                }
                taps.into_iter().map(|(j, w)| (j.clamp(0, last), w)).collect()
            })
            .collect();
        if axis.crop.is_some() {
            let inside = |i| (0.0..=last as f64).contains(&position(axis, mode, i));
            outside.push((axis.axis, (0..axis.output).map(|i| !inside(i)).collect::<Vec<bool>>()));
        }
        y = weighed(&mut ctx.formula(node), y, (axis.axis, rank), &rows);
    }
    let mut f = ctx.formula(node);
    for (axis, away) in outside.into_iter().filter(|(_, away)| away.contains(&true)) {
        let mut dims = vec![1; rank - axis];
        dims[0] = away.len();
        let data: Vec<u8> = away.into_iter().map(u8::from).collect();
        let name = format!("{}/outside", node.name);
        let away = f.ctx.constant(&name, Array { dtype: DType::Bool, dims, data: data.into() });
        let value = f.real(f64::from(extrapolation));
        y = f.select(away, value, y);
    }
    Ok(y)
}

/// The sum over taps of elements along an axis, each times its weight.
fn weighed(f: &mut Formula, x: ValueId, (axis, rank): (usize, usize), rows: &[Vec<(i64, f64)>]) -> ValueId {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut sum = None;
    for tap in 0..count.max(1) {
        let at = |row: &Vec<(i64, f64)>| row.get(tap).copied().unwrap_or((0, 0.0));
        let places: Vec<i64> = rows.iter().map(|r| at(r).0).collect();
        let weights: Vec<f32> = rows.iter().map(|r| at(r).1 as f32).collect();
        let places = f.integers(&[places.len()], &places);
        let mut part = f.op(Op::Gather { axis: axis as i32 }, &[x, places]);
        if weights.iter().any(|w| *w != 1.0) {
            let mut dims = vec![1; rank - axis];
            dims[0] = weights.len();
            let weights = f.reals(&dims, &weights);
            part = f.mul(part, weights);
        }
        sum = Some(sum.map_or(part, |sum| f.add(sum, part)));
    }
    sum.unwrap_or(x)
}
