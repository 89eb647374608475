//! How far the channels of a class are made alike.

use super::apply::columns;
use super::classes::{Class, operand};
use crate::calibrate::MARGIN;
use crate::error::ConvertError;
use crate::measure::Evaluator;
use crate::model::Model;
use crate::samples::Sample;
use edge_runtime::graph::{DType, ValueId};
use edge_runtime::pack::Rung;
use std::collections::HashMap;
use std::sync::Arc;

/// Exponents of a channel's part of the largest range that are tried; with 1 the channels end up equally large.
const STRENGTHS: [f32; 4] = [0.25, 0.5, 0.75, 1.0];
/// Noise that must remain at most, of what there was: 1.5 dB less. A smaller gain is not worth the bet.
const WORTH: f64 = 0.7;
/// What the rounding of the weights may grow by: with the fewest bits it is all of the noise.
const WEIGHTS: f64 = 1.1;
/// Weights that share a scale, and their bits, in the integer rung that this is for.
const GROUP: usize = 32;
const BITS: i32 = 8;
/// A channel that is this much smaller than the largest has not been seen at work: nothing is known of its size.
const DEAD: f32 = 1e-4;
/// Samples that the bet is made on.
const SAMPLES: usize = 32;

type Ranges = Vec<(f32, f32)>;

/// The shapes of the floats that a run computes.
///
/// # Errors
/// When the sample does not suit the model, or the evaluator was stopped.
pub(super) fn dims(
    evaluator: &Evaluator<'_>,
    float: &Arc<edge_runtime::Model>,
    rung: &Rung,
    sample: &Sample,
) -> Result<HashMap<ValueId, Vec<usize>>, ConvertError> {
    let mut dims = HashMap::new();
    evaluator.keep(float, rung, sample, |session| {
        let floats = session.values().filter(|(_, operand, _)| operand.dtype == DType::F32);
        dims.extend(floats.map(|(v, operand, _)| (v, operand.dims.clone())));
    })?;
    Ok(dims)
}

/// What one half of the samples shows of a value's channels.
#[derive(Clone, Default)]
struct Seen {
    ranges: [Ranges; 2],
    /// Sums of squares by channel, of all samples, and pixels.
    squares: Vec<f64>,
    pixels: usize,
}

/// By class, the powers of two to divide its channels by; `None` where that would not pay.
///
/// # Errors
/// When a sample does not suit the model, or the evaluator was stopped.
pub(super) fn sizes(
    evaluator: &Evaluator<'_>,
    float: &Arc<edge_runtime::Model>,
    rung: &Rung,
    samples: &[Sample],
    model: &Model,
    classes: &[Class],
) -> Result<Vec<Option<Vec<i8>>>, ConvertError> {
    let count = samples.len().min(SAMPLES);
    let samples: Vec<&Sample> = (0..count).map(|i| &samples[i * samples.len() / count]).collect();
    let class_of: HashMap<ValueId, usize> = classes
        .iter()
        .enumerate()
        .flat_map(|(i, class)| class.members.iter().map(move |v| (*v, i)))
        .collect();
    let mut seen: HashMap<ValueId, Seen> = HashMap::new();
    for (i, sample) in samples.iter().enumerate() {
        evaluator.observe(float, rung, std::slice::from_ref(*sample), |v, x| {
            let Some(class) = class_of.get(&v) else { return };
            let channels = classes[*class].channels;
            let seen = seen.entry(v).or_default();
            let ranges = &mut seen.ranges[i % 2];
            ranges.resize(channels, (0.0, 0.0));
            seen.squares.resize(channels, 0.0);
            seen.pixels += x.len() / channels;
            for pixel in x.chunks_exact(channels) {
                for (sum, x) in seen.squares.iter_mut().zip(pixel).filter(|(_, x)| x.is_finite()) {
                    *sum += f64::from(*x) * f64::from(*x);
                }
                for (range, x) in ranges.iter_mut().zip(pixel).filter(|(_, x)| x.is_finite()) {
                    *range = (range.0.min(*x), range.1.max(*x));
                }
            }
        })?;
    }
    let judged: Vec<Judged> = classes.iter().map(|class| Judged::new(model, class, &seen)).collect();
    let mut noise = vec![[0.0; STRENGTHS.len() + 1]; classes.len()];
    for (i, sample) in samples.iter().enumerate() {
        // What the other half says of this one.
        let half = (i + 1) % 2;
        evaluator.observe(float, rung, std::slice::from_ref(*sample), |v, x| {
            let Some(class) = class_of.get(&v) else { return };
            judged[*class].add(v, half, x, &mut noise[*class]);
        })?;
    }
    let chosen = judged.iter().zip(&noise).zip(classes).map(|((judged, noise), class)| {
        let weights = weights_noise(model, class, &seen, &judged.whole);
        let total = |i: usize| noise[i] + weights[i];
        let fair = (1..noise.len()).filter(|i| weights[*i] <= WEIGHTS * weights[0]);
        let best = fair.min_by(|a, b| total(*a).total_cmp(&total(*b)))?;
        (total(best) < WORTH * total(0)).then(|| exponents_of(&judged.whole, STRENGTHS[best - 1]))
    });
    Ok(chosen.collect())
}

/// The sizes of channels with such relative ranges, as powers of two: a division by these rounds nothing.
fn exponents_of(relative: &[f32], strength: f32) -> Vec<i8> {
    let exponent = |r: f32| if r < DEAD { 0 } else { (r.log2() * strength).round_ties_even() as i8 };
    relative.iter().map(|r| exponent(*r)).collect()
}

fn sizes_of(relative: &[f32], strength: f32) -> Vec<f32> {
    exponents_of(relative, strength).into_iter().map(|e| f32::from(e).exp2()).collect()
}

/// A class, ready to be judged.
struct Judged {
    /// How much noise of a channel reaches the results of what reads it.
    gains: Vec<f64>,
    /// Ranges of channels over the largest one's, of all samples.
    whole: Vec<f32>,
    /// By value and half: each choice's quantization.
    tables: HashMap<ValueId, [Vec<Table>; 2]>,
}

/// A quantization of 8 bits of a value whose channels are divided by sizes.
struct Table {
    /// By channel: what is representable, in the value's own unit.
    bounds: Ranges,
    /// Mean noise of rounding an element, over all channels, weighted by their gains.
    rounding: f64,
}

impl Judged {
    fn new(model: &Model, class: &Class, seen: &HashMap<ValueId, Seen>) -> Judged {
        let gains = gains(model, class);
        let halves = [0, 1].map(|half| relative(class, seen, &[half]));
        let mut tables = HashMap::new();
        for v in &class.members {
            let Some(seen) = seen.get(v) else { continue };
            let of_half = |half: usize| {
                let none = vec![1.0; class.channels];
                let choices = STRENGTHS.iter().map(|strength| sizes_of(&halves[half], *strength));
                let ranges = &seen.ranges[half];
                std::iter::once(none).chain(choices).map(|sizes| Table::new(ranges, &sizes, &gains)).collect()
            };
            tables.insert(*v, [of_half(0), of_half(1)]);
        }
        Judged { whole: relative(class, seen, &[0, 1]), gains, tables }
    }

    /// Adds the noise that each choice of `half` makes of `x`.
    fn add(&self, v: ValueId, half: usize, x: &[f32], noise: &mut [f64]) {
        let Some(tables) = self.tables.get(&v) else { return };
        for (table, noise) in tables[half].iter().zip(noise) {
            if table.bounds.is_empty() {
                continue;
            }
            let pixels = x.len() / self.gains.len();
            *noise += table.rounding * pixels as f64;
            let mut cut = vec![0.0f32; self.gains.len()];
            for pixel in x.chunks_exact(self.gains.len()) {
                for ((cut, x), (lo, hi)) in cut.iter_mut().zip(pixel).zip(&table.bounds) {
                    let beyond = x - x.clamp(*lo, *hi);
                    *cut += beyond * beyond;
                }
            }
            *noise += cut.iter().zip(&self.gains).map(|(cut, gain)| f64::from(*cut) * gain).sum::<f64>();
        }
    }
}

impl Table {
    fn new(ranges: &Ranges, sizes: &[f32], gains: &[f64]) -> Table {
        let scaled = ranges.iter().zip(sizes).map(|((lo, hi), size)| (lo / size, hi / size));
        let (lo, hi) = scaled.fold((0.0f32, 0.0f32), |(lo, hi), (a, b)| (lo.min(a), hi.max(b)));
        let (lo, hi) = (lo * MARGIN, hi * MARGIN);
        let step = f64::from(hi - lo) / 255.0;
        let rounding = sizes.iter().zip(gains).map(|(size, gain)| {
            let step = step * f64::from(*size);
            step * step / 12.0 * gain
        });
        Table {
            rounding: rounding.sum(),
            bounds: ranges.iter().zip(sizes).map(|(_, size)| (lo * size, hi * size)).collect(),
        }
    }
}

/// Ranges of a class's channels over the largest one's of the same value, the largest over its values.
fn relative(class: &Class, seen: &HashMap<ValueId, Seen>, halves: &[usize]) -> Vec<f32> {
    let mut relative = vec![0.0f32; class.channels];
    for seen in class.members.iter().filter_map(|v| seen.get(v)) {
        let mut widths = vec![0.0f32; class.channels];
        for half in halves {
            widths.iter_mut().zip(&seen.ranges[*half]).for_each(|(w, (lo, hi))| *w = w.max(hi - lo));
        }
        let most = widths.iter().fold(0.0f32, |a, b| a.max(*b));
        if most > 0.0 {
            relative.iter_mut().zip(widths).for_each(|(r, w)| *r = r.max(w / most));
        }
    }
    relative
}

/// The sum of squares of what each channel is multiplied by.
fn gains(model: &Model, class: &Class) -> Vec<f64> {
    let mut gains = vec![0.0; class.channels];
    for node in class.readers.iter().map(|i| &model.graph.body.nodes[*i]) {
        let weight = node.inputs.get(operand::WEIGHT).copied().flatten().and_then(|w| model.constant(w));
        let Some((weight, values)) = weight.and_then(|w| Some((w, w.floats()?))) else { continue };
        let k = values.len().checked_div(weight.dims[0]).unwrap_or(0).max(1);
        for (r, row) in values.chunks_exact(k).enumerate() {
            let of = columns(&node.op, class.channels, r);
            for (k, w) in row.iter().enumerate() {
                if let Some(gain) = of(k).and_then(|c| gains.get_mut(c)) {
                    *gain += f64::from(*w) * f64::from(*w);
                }
            }
        }
    }
    gains
}

/// The noise that rounding the readers' weights makes in their results, for each choice: without sizes, then by strength.
fn weights_noise(
    model: &Model,
    class: &Class,
    seen: &HashMap<ValueId, Seen>,
    whole: &[f32],
) -> [f64; STRENGTHS.len() + 1] {
    let mut noise = [0.0; STRENGTHS.len() + 1];
    for node in class.readers.iter().map(|i| &model.graph.body.nodes[*i]) {
        let operand = |at: usize| node.inputs.get(at).copied().flatten();
        let weight = operand(operand::WEIGHT).and_then(|w| model.constant(w));
        let Some((weight, values)) = weight.and_then(|w| Some((w, w.floats()?))) else { continue };
        let Some(x) = operand(operand::X).and_then(|x| seen.get(&x)) else { continue };
        let k = values.len().checked_div(weight.dims[0]).unwrap_or(0).max(1);
        for (i, noise) in noise.iter_mut().enumerate() {
            let sizes = match i.checked_sub(1) {
                None => vec![1.0; whole.len()],
                Some(strength) => sizes_of(whole, STRENGTHS[strength]),
            };
            for (r, row) in values.chunks_exact(k).enumerate() {
                let of = columns(&node.op, class.channels, r);
                for (g, group) in row.chunks(GROUP).enumerate() {
                    let (mut most, mut power) = (0.0f32, 0.0);
                    for (j, w) in group.iter().enumerate() {
                        let Some(c) = of(g * GROUP + j) else { continue };
                        most = most.max((w * sizes[c]).abs());
                        power += x.squares[c] / f64::from(sizes[c]).powi(2);
                    }
                    let step = f64::from(most) * f64::from(1.0 - BITS as f32).exp2();
                    *noise += step * step / 12.0 * power;
                }
            }
        }
    }
    noise
}
