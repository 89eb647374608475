//! From floats to planes.

use super::super::{BLOCK, Float, PANEL};
use super::feedback::{self, Feedback};
use super::{Layout, MAX_BITS, NESTED_BITS, step};
use crate::pack::{BlobId, Expr};
use half::f16;
use serde_json::json;

/// Scales that are tried, as parts of a group's largest magnitude. Few bits gain from a scale below it: the large
/// values are clipped and all others get a finer grid.
const SCALES: [f32; 14] = [1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4];

/// How a matrix becomes planes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Columns of one scale: a multiple of 8, or 0 for whole rows.
    pub group: usize,
    /// Bits of each plane (1, 2, 4 or 8; 16 together), most significant first.
    pub bits: Vec<u32>,
    /// Order of the codes.
    pub layout: Layout,
    /// Type of the scales: f16 or f32.
    pub scale: Float,
    /// How much the squared error of each prefix counts when a scale is chosen, one a plane. When empty, `4^b` for
    /// a prefix of `b` bits, so that each prefix's error counts alike relative to what its bits allow.
    pub prefix_weights: Vec<f64>,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            group: 32,
            bits: NESTED_BITS.to_vec(),
            layout: Layout::Panel,
            scale: Float::F16,
            prefix_weights: Vec::new(),
        }
    }
}

/// A matrix ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedPlanes {
    /// Scales, then the planes, most significant first.
    pub blobs: Vec<Vec<u8>>,
    /// How it was made.
    pub spec: Spec,
    /// For each prefix, the factor on all scales that makes the squared error least.
    pub gains: Vec<f32>,
    /// For each prefix, the sum of importance times squared error, of the values as they will be decoded.
    pub squared_error: Vec<f64>,
}

impl EncodedPlanes {
    /// The expression, its bytes being `blobs`, in the order of [`EncodedPlanes::blobs`].
    pub fn expr(&self, blobs: Vec<BlobId>) -> Expr {
        let mut params = serde_json::Map::new();
        params.insert("group".into(), json!(self.spec.group));
        params.insert("bits".into(), json!(self.spec.bits));
        params.insert("layout".into(), json!(self.spec.layout));
        params.insert("scale".into(), json!(self.spec.scale));
        params.insert("gains".into(), json!(self.gains));
        Expr { kind: "planes".into(), params, args: Vec::new(), blobs }
    }
}

/// Why a matrix cannot become planes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A weight that is NaN or infinite.
    #[error("element {index} is {value}; planes hold finite numbers")]
    NotFinite {
        /// Row-major index.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A magnitude past the largest f16.
    #[error("row {row} has a magnitude of {value} in group {group}, past f16; store f32 scales")]
    ScaleRange {
        /// Row.
        row: usize,
        /// Group of the row.
        group: usize,
        /// Largest magnitude of the group.
        value: f32,
    },
    /// A group size, planes or a scale type that the format does not have.
    #[error("{what} is {value}, expected {expected}")]
    Spec {
        /// What is wrong.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// Encodes `w`, row-major `[n, k]`. `importance` weighs squared errors: one number a column, or one an element; empty
/// for none. The same input gives the same bytes everywhere.
///
/// Each group's scale is the one of some candidates that makes the squared errors of all prefixes least, weighted by
/// [`Spec::prefix_weights`]; codes are rounded against the scale as stored.
///
/// # Errors
/// See [`EncodeError`].
///
/// # Panics
/// When `w` does not have `n * k` elements, or `importance` neither 0, `k` nor `n * k`.
pub fn encode(
    w: &[f32],
    n: usize,
    k: usize,
    spec: &Spec,
    importance: &[f32],
) -> Result<EncodedPlanes, EncodeError> {
    encode_by(w, n, k, spec, importance, None)
}

/// As [`encode`], codes making up for one another's rounding where there is feedback for that; scales and gains stay those of
/// codes that do not.
///
/// # Errors
/// As [`encode`].
///
/// # Panics
/// As [`encode`], and when the feedback is not of `k` columns.
pub fn encode_by(
    w: &[f32],
    n: usize,
    k: usize,
    spec: &Spec,
    importance: &[f32],
    feedback: Option<&Feedback>,
) -> Result<EncodedPlanes, EncodeError> {
    assert_eq!(w.len(), n * k, "elements of [{n}, {k}]");
    assert!(feedback.is_none_or(|feedback| feedback.k() == k), "feedback of other columns than {k}");
    let weighted = importance.len();
    assert!([0, k, n * k].contains(&weighted), "importance of {weighted} elements for [{n}, {k}]");
    check(spec)?;
    if let Some(index) = w.iter().position(|value| !value.is_finite()) {
        return Err(EncodeError::NotFinite { index, value: w[index] });
    }
    let group = if spec.group == 0 { k } else { spec.group.min(k) };
    let prefixes = Prefixes::new(spec);
    let mut scales = Vec::with_capacity(n * k.div_ceil(group));
    let mut codes = vec![0u16; n * k];
    let mut fit = vec![Fit::default(); spec.bits.len()];
    for (row, (values, codes)) in w.chunks_exact(k).zip(codes.chunks_exact_mut(k)).enumerate() {
        for (g, (values, codes)) in values.chunks(group).zip(codes.chunks_mut(group)).enumerate() {
            let first = if importance.len() == n * k { row * k } else { 0 } + g * group;
            let importance = importance.get(first..first + values.len()).unwrap_or(&[]);
            let scale = prefixes
                .scale(values, importance, spec.scale)
                .map_err(|value| EncodeError::ScaleRange { row, group: g, value })?;
            scales.push(scale);
            for (i, (&value, code)) in values.iter().zip(codes).enumerate() {
                *code = prefixes.code(value, scale);
                let importance = f64::from(importance.get(i).copied().unwrap_or(1.0));
                for (fit, &(bits, _)) in fit.iter_mut().zip(&prefixes.bits) {
                    fit.add(value, prefixes.value(*code, bits, scale), importance);
                }
            }
        }
    }
    // A scale times its gain stays finite.
    let most = f32::MAX / scales.iter().fold(1.0, |most: f32, scale| most.max(*scale));
    let gains: Vec<f32> = fit.iter().map(|fit| fit.gain().min(most)).collect();
    if let Some(feedback) = feedback {
        codes = feedback::codes(w, feedback, &prefixes, (&scales, group), &gains);
    }

    let mut squared_error = vec![0.0; gains.len()];
    for (i, (&value, &code)) in w.iter().zip(&codes).enumerate() {
        let importance = importance.get(i % importance.len().max(1)).copied().unwrap_or(1.0);
        let scale = scales[i / k * k.div_ceil(group) + i % k / group];
        for ((error, gain), &(bits, _)) in squared_error.iter_mut().zip(&gains).zip(&prefixes.bits) {
            let difference = f64::from(value) - f64::from(prefixes.value(code, bits, scale * gain));
            *error += f64::from(importance) * difference * difference;
        }
    }
    let mut blobs = vec![pack_scales(&scales, n, k.div_ceil(group), spec)];
    let mut below = prefixes.total;
    for &bits in &spec.bits {
        below -= bits;
        blobs.push(pack_plane(&codes, n, k, spec.layout, bits, below));
    }
    Ok(EncodedPlanes { blobs, spec: spec.clone(), gains, squared_error })
}

/// Integers `[n, k]` as a model came with them: element `(r, c)` is `(code - zero) * scale` of its group, a scale being of either sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers<'a> {
    /// Row-major codes, signed, of so many bits as the planes have together.
    pub codes: &'a [i8],
    /// Columns of one scale: a multiple of 8, or 0 for whole rows.
    pub group: usize,
    /// `[n][groups]`, or a single one for the whole matrix.
    pub scales: &'a [f32],
    /// Zero points, as many as scales; none where all are 0.
    pub zeros: &'a [i8],
    /// Whether a code stands for half more than it is, as codes do that are not `whole`; there are no zero points then.
    pub half_offset: bool,
    /// What scales are stored in, times `2^(bits - 1)`: what that does not hold is rounded.
    pub scale: Float,
}

/// Blobs in the order of `PACK.md`, and the parameters of the expression.
type BlobsAndParams = (Vec<Vec<u8>>, serde_json::Map<String, serde_json::Value>);

/// Encodes integers as planes: all of them together stand for each element exactly, but for what [`Integers::scale`] rounds. Rows in
/// whole panels, encoded by themselves, give parts of the blobs that all rows give.
///
/// # Errors
/// See [`EncodeError`].
///
/// # Panics
/// When there are not `n * k` codes, or not as many scales and zero points as [`Integers`] says.
pub fn encode_integers(
    w: &Integers<'_>,
    n: usize,
    k: usize,
    bits: &[u32],
    layout: Layout,
) -> Result<BlobsAndParams, EncodeError> {
    assert_eq!(w.codes.len(), n * k, "codes of [{n}, {k}]");
    let spec = Spec { group: w.group, bits: bits.to_vec(), layout, scale: w.scale, ..Spec::default() };
    check(&spec)?;
    let group = if w.group == 0 { k } else { w.group.min(k) };
    let (groups, alike, total) = (k.div_ceil(group), w.scales.len() == 1, bits.iter().sum::<u32>());
    assert!(alike || w.scales.len() == n * groups, "{} scales of [{n}, {k}]", w.scales.len());
    let zeros = if w.half_offset { 0 } else { w.scales.len() };
    assert!(w.zeros.is_empty() || w.zeros.len() == zeros, "{} zero points", w.zeros.len());
    if !(1..=8).contains(&total) || (alike && groups > 1) {
        let value = format!("{bits:?}, {} scales", w.scales.len());
        return Err(EncodeError::Spec {
            what: "integers",
            value,
            expected: "at most 8 bits; one scale a group",
        });
    }
    // Of codes of b bits a step is `s / 2^b`, of which numbers are twice the code.
    let unit = (1u32 << (total - 1)) as f32;
    let stored: Vec<f32> = w.scales.iter().map(|scale| w.scale.round(scale * unit)).collect();
    if let Some(index) = stored.iter().position(|scale| !scale.is_finite()) {
        return Err(EncodeError::NotFinite { index, value: w.scales[index] });
    }
    let mut blobs = vec![match alike {
        true => {
            let mut bytes = Vec::new();
            w.scale.encode(stored[0], &mut bytes);
            bytes
        }
        false => pack_scales(&stored, n, groups, &spec),
    }];
    if !w.zeros.is_empty() {
        blobs.push(match alike {
            true => vec![w.zeros[0] as u8],
            false => pack_zeros(w.zeros, n, groups, layout),
        });
    }
    let half = 1i16 << (total - 1);
    let codes: Vec<u16> = w.codes.iter().map(|code| (i16::from(*code) + half) as u16).collect();
    let mut below = total;
    for &bits in bits {
        below -= bits;
        blobs.push(pack_plane(&codes, n, k, layout, bits, below));
    }
    let mut params = serde_json::Map::new();
    params.insert("group".into(), json!(w.group));
    params.insert("bits".into(), json!(bits));
    params.insert("layout".into(), json!(layout));
    params.insert("scale".into(), json!(w.scale));
    for (name, is) in [("whole", !w.half_offset), ("zeros", !w.zeros.is_empty()), ("alike", alike)] {
        if is {
            params.insert(name.into(), json!(true));
        }
    }
    Ok((blobs, params))
}

fn check(spec: &Spec) -> Result<(), EncodeError> {
    let refuse = |what, value: String, expected| Err(EncodeError::Spec { what, value, expected });
    let valid = spec.bits.iter().all(|bits| matches!(bits, 1 | 2 | 4 | 8));
    let total: u64 = spec.bits.iter().map(|&bits| u64::from(bits)).sum();
    if !valid || !(1..=u64::from(MAX_BITS)).contains(&total) {
        return refuse(
            "bits",
            format!("{:?}", spec.bits),
            "planes of 1, 2, 4 or 8 bits, at most 16 together",
        );
    }
    if spec.layout == Layout::Tight && spec.bits != [8] {
        return refuse("layout", "tight".into(), "another one for planes that are not of 8 bits");
    }
    if !spec.group.is_multiple_of(BLOCK) {
        return refuse("group", spec.group.to_string(), "a multiple of 8, or 0 for whole rows");
    }
    if spec.scale == Float::Bf16 {
        return refuse("scale", "bf16".into(), "f16 or f32");
    }
    let weights = &spec.prefix_weights;
    let valid = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0);
    if !(weights.is_empty() || weights.len() == spec.bits.len()) || !valid {
        return refuse("prefix_weights", format!("{weights:?}"), "none, or one number of 0 or more a plane");
    }
    Ok(())
}

/// The prefixes of one code.
pub(super) struct Prefixes {
    /// Bits of each prefix and the weight of its error.
    bits: Vec<(u32, f64)>,
    /// Bits of the whole code.
    total: u32,
}

impl Prefixes {
    fn new(spec: &Spec) -> Prefixes {
        let mut total = 0;
        let mut bits = Vec::with_capacity(spec.bits.len());
        for (i, plane) in spec.bits.iter().enumerate() {
            total += plane;
            let weight = spec.prefix_weights.get(i).copied();
            bits.push((total, weight.unwrap_or_else(|| 4f64.powi(total as i32))));
        }
        Prefixes { bits, total }
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Bits of each prefix and the weight of its error.
    pub(super) fn bits(&self) -> &[(u32, f64)] {
        &self.bits
    }

    /// The whole code nearest to `value`.
    fn code(&self, value: f32, scale: f32) -> u16 {
        if scale == 0.0 {
            return 1 << (self.total - 1);
        }
        let levels = f64::from(1u32 << self.total);
        let p = ((f64::from(value) / f64::from(scale) + 1.0) * 0.5 * levels).floor();
        p.clamp(0.0, levels - 1.0) as u16
    }

    /// What the first `bits` bits of a code stand for, as the runtime evaluates it.
    fn value(&self, code: u16, bits: u32, scale: f32) -> f32 {
        let p = i32::from(code >> (self.total - bits));
        (2 * p + 1 - (1 << bits)) as f32 * (scale * step(bits))
    }

    /// The best scale of a group, as stored; the largest magnitude when no scale of that type reaches it.
    fn scale(&self, values: &[f32], importance: &[f32], dtype: Float) -> Result<f32, f32> {
        let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let top = ceil(most, dtype);
        if !top.is_finite() {
            return Err(most);
        }
        let (mut best, mut least) = (top, self.error(values, importance, top, f64::INFINITY));
        for part in SCALES {
            let scale = dtype.round(most * part);
            // One below the smallest f16 would make every value 0.
            if scale > 0.0 && scale != best {
                let error = self.error(values, importance, scale, least);
                if error < least {
                    (best, least) = (scale, error);
                }
            }
        }
        Ok(best)
    }

    /// The weighted squared error of a group, or some number above `limit` as soon as it is passed.
    fn error(&self, values: &[f32], importance: &[f32], scale: f32, limit: f64) -> f64 {
        let mut sum = 0.0;
        for (i, &value) in values.iter().enumerate() {
            let code = self.code(value, scale);
            let mut errors = 0.0;
            for &(bits, weight) in &self.bits {
                let difference = f64::from(value) - f64::from(self.value(code, bits, scale));
                errors += weight * difference * difference;
            }
            sum += errors * f64::from(importance.get(i).copied().unwrap_or(1.0));
            if sum > limit {
                break;
            }
        }
        sum
    }
}

/// The least stored number that is not below `value` (0 or more); infinite when there is none.
fn ceil(value: f32, dtype: Float) -> f32 {
    match dtype {
        Float::F16 => {
            let near = f16::from_f32(value);
            if near.to_f32() < value { f16::from_bits(near.to_bits() + 1).to_f32() } else { near.to_f32() }
        }
        Float::F32 | Float::Bf16 => dtype.round(value),
    }
}

/// Least squares of values against their reconstructions.
#[derive(Clone, Copy, Default)]
struct Fit {
    product: f64,
    square: f64,
}

impl Fit {
    fn add(&mut self, value: f32, decoded: f32, importance: f64) {
        self.product += importance * f64::from(value) * f64::from(decoded);
        self.square += importance * f64::from(decoded) * f64::from(decoded);
    }

    fn gain(&self) -> f32 {
        let gain = (self.product / self.square) as f32;
        if gain.is_finite() { gain } else { 1.0 }
    }
}

/// `[ceil(n / 16)][groups][16]`, or `[n][groups]`.
fn pack_scales(scales: &[f32], n: usize, groups: usize, spec: &Spec) -> Vec<u8> {
    let rows = spec.layout.unit_rows();
    let mut bytes = Vec::with_capacity(spec.layout.scales(n, groups) * spec.scale.size());
    for first in (0..n).step_by(rows) {
        for g in 0..groups {
            for r in first..first + rows {
                let scale = if r < n { scales[r * groups + g] } else { 0.0 };
                spec.scale.encode(scale, &mut bytes);
            }
        }
    }
    bytes
}

/// As [`pack_scales`], of zero points.
fn pack_zeros(zeros: &[i8], n: usize, groups: usize, layout: Layout) -> Vec<u8> {
    let rows = layout.unit_rows();
    let mut bytes = Vec::with_capacity(layout.scales(n, groups));
    for first in (0..n).step_by(rows) {
        for g in 0..groups {
            bytes.extend((first..first + rows).map(|r| if r < n { zeros[r * groups + g] as u8 } else { 0 }));
        }
    }
    bytes
}

/// Bits `[below, below + bits)` of all codes, in units; codes past `n` and `k` are 0.
fn pack_plane(codes: &[u16], n: usize, k: usize, layout: Layout, bits: u32, below: u32) -> Vec<u8> {
    let (rows, cols) = (layout.unit_rows(), layout.unit_cols());
    let len = layout.unit() * bits as usize / 8;
    let mut bytes = vec![0; layout.units(n, k) * len];
    let across = k.div_ceil(cols);
    for (unit, bytes) in bytes.chunks_exact_mut(len).enumerate() {
        let (first_row, first_col) = (unit / across * rows, unit % across * cols);
        for r in first_row..n.min(first_row + rows) {
            for c in first_col..k.min(first_col + cols) {
                let at = (r - first_row) * cols + c - first_col;
                let part = (codes[r * k + c] >> below) & ((1 << bits) - 1);
                bytes[at % len] |= (part << (at / len * bits as usize)) as u8;
            }
        }
    }
    bytes
}

const _: () = assert!(PANEL * BLOCK == edge_kernels::cpu::planes::UNIT);
