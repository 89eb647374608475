//! What happens to an accumulator before it is stored: one definition for every matrix kernel and every ISA.
//!
//! ```text
//! y = fma(acc, scale[n], bias[n])            an absent scale is 1, an absent bias is -0 (which changes nothing)
//! y = act(y + residual[m][n]) * factor[n]    or act(y) * factor[n] + residual[m][n], see [`ResidualOrder`]; an absent factor is 1
//! f32 output: y
//! i8 output:  saturate(round_ties_even(y * inv_scale) + zero_point)
//! ```
//! This is the definition, in plain Rust on rows of 16 channels.

use super::super::activation::Activation;
use super::super::loops::PLAIN_IS_RARE;
use super::rows::Rows;
use crate::MatMut;
use std::ops::Range;

/// Channels of one weight panel.
pub const PANEL: usize = 16;

/// What the accumulator is multiplied by.
#[derive(Clone, Copy, Debug, Default)]
pub enum Scale<'a> {
    /// Nothing.
    #[default]
    One,
    /// The same for every column: the scale of quantized activations.
    Uniform(f32),
    /// One a column: `[N]`.
    PerColumn(&'a [f32]),
}

/// A matrix added to the result.
#[derive(Clone, Copy, Debug)]
pub enum Addend<'a> {
    /// `M x N` floats.
    F32(Rows<'a, f32>),
    /// `M x N` codes that stand for `(code - zero_point) * scale`.
    I8 {
        /// Codes.
        rows: Rows<'a, i8>,
        /// Scale of a code step.
        scale: f32,
        /// Code of zero.
        zero_point: i32,
    },
}

/// Whether the residual is added before or after the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidualOrder {
    /// `act(y + residual) * factor`
    BeforeActivation,
    /// `act(y) * factor + residual`
    AfterActivation,
}

/// The steps from accumulator to result, see the module's formula.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Multiplies the accumulator.
    pub scale: Scale<'a>,
    /// `[N]`, added with the scale in one rounding.
    pub bias: Option<&'a [f32]>,
    /// `M x N`, and where it is added.
    pub residual: Option<(Addend<'a>, ResidualOrder)>,
    /// Applied last, or before the residual.
    pub act: Activation,
    /// `[N]`, multiplies what the activation gives.
    pub factor: Option<&'a [f32]>,
}

/// Where results go.
pub enum Output<'a> {
    /// `M x N` floats.
    F32(MatMut<'a, f32>),
    /// `M x N` codes that stand for `(code - zero_point) / inv_scale`. NaN becomes -128.
    I8 {
        /// Codes.
        out: MatMut<'a, i8>,
        /// 1 / (scale of a code step).
        inv_scale: f32,
        /// Code of zero.
        zero_point: i32,
    },
}

impl<'a> From<MatMut<'a, f32>> for Output<'a> {
    fn from(out: MatMut<'a, f32>) -> Self {
        Output::F32(out)
    }
}

impl Output<'_> {
    /// Number of rows (M).
    pub fn rows(&self) -> usize {
        match self {
            Output::F32(out) => out.rows(),
            Output::I8 { out, .. } => out.rows(),
        }
    }

    /// Number of columns (N).
    pub fn cols(&self) -> usize {
        match self {
            Output::F32(out) => out.cols(),
            Output::I8 { out, .. } => out.cols(),
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// When the range leaves the result.
    pub fn part(&mut self, rows: Range<usize>) -> Output<'_> {
        match self {
            Output::F32(out) => {
                let cols = 0..out.cols();
                Output::F32(out.part(rows, cols))
            }
            Output::I8 { out, inv_scale, zero_point } => {
                let cols = 0..out.cols();
                Output::I8 { out: out.part(rows, cols), inv_scale: *inv_scale, zero_point: *zero_point }
            }
        }
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// When the range leaves the result.
    pub fn columns(&mut self, cols: Range<usize>) -> Output<'_> {
        match self {
            Output::F32(out) => {
                let rows = 0..out.rows();
                Output::F32(out.part(rows, cols))
            }
            Output::I8 { out, inv_scale, zero_point } => {
                let rows = 0..out.rows();
                Output::I8 { out: out.part(rows, cols), inv_scale: *inv_scale, zero_point: *zero_point }
            }
        }
    }

    #[inline(always)]
    fn write(&mut self, m: usize, columns: &Columns, y: &[f32; PANEL]) {
        match self {
            Output::F32(out) => store(y, &mut out.row(m)[columns.start..][..columns.valid]),
            Output::I8 { out, inv_scale, zero_point } => {
                let codes = quantize(y, *inv_scale, *zero_point);
                store(&codes, &mut out.row(m)[columns.start..][..columns.valid]);
            }
        }
    }
}

/// Scale, bias and factor of one panel's columns. Aligned, so that no cache line cuts them.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(in crate::cpu) struct Columns {
    pub(super) scale: [f32; PANEL],
    pub(super) bias: [f32; PANEL],
    pub(super) factor: [f32; PANEL],
    pub(super) start: usize,
    pub(super) valid: usize,
}

impl Columns {
    /// How many of the panel's columns the result has.
    #[inline(always)]
    pub(in crate::cpu) fn valid(&self) -> usize {
        self.valid
    }

    /// Their scales.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::cpu) fn scale(&self) -> &[f32; PANEL] {
        &self.scale
    }

    /// Their biases.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::cpu) fn bias(&self) -> &[f32; PANEL] {
        &self.bias
    }

    #[inline(always)]
    fn scaled(&self, acc: &[f32; PANEL]) -> [f32; PANEL] {
        let mut y = *acc;
        for (lane, y) in y.iter_mut().enumerate() {
            *y = y.mul_add(self.scale[lane], self.bias[lane]);
        }
        y
    }

    #[inline(always)]
    fn multiply(&self, tile: &mut [[f32; PANEL]]) {
        for y in tile {
            for (y, factor) in y.iter_mut().zip(self.factor) {
                *y *= factor;
            }
        }
    }
}

impl Epilogue<'_> {
    /// Panics unless every operand fits an `m x n` result.
    pub(in crate::cpu) fn check(&self, name: &str, m: usize, n: usize) {
        if let Scale::PerColumn(scale) = self.scale {
            assert_eq!(scale.len(), n, "{name}: scales (left) for N (right) columns");
        }
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), n, "{name}: biases (left) for N (right) columns");
        }
        if let Some(factor) = self.factor {
            assert_eq!(factor.len(), n, "{name}: factors (left) for N (right) columns");
        }
        if let Some((addend, _)) = self.residual {
            let shape = match addend {
                Addend::F32(rows) => (rows.rows(), rows.cols()),
                Addend::I8 { rows, .. } => (rows.rows(), rows.cols()),
            };
            assert_eq!(shape, (m, n), "{name}: residual (left) for a result (right)");
        }
    }

    /// Whether it leaves sums as they are. Asked where a tile has no other way to the result.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::cpu) fn is_nothing(&self) -> bool {
        let parts = (self.scale, self.bias, &self.residual, self.act, self.factor);
        matches!(parts, (Scale::One, None, None, Activation::None, None))
    }

    /// Loads what belongs to columns `[start, start + 16)` of `n`.
    #[inline(always)]
    pub(in crate::cpu) fn columns(&self, start: usize, n: usize) -> Columns {
        let valid = PANEL.min(n - start);
        let scale = match self.scale {
            Scale::One => [1.0; PANEL],
            Scale::Uniform(scale) => [scale; PANEL],
            Scale::PerColumn(scale) => load(&scale[start..start + valid]),
        };
        let bias = self.bias.map_or([-0.0; PANEL], |bias| load(&bias[start..start + valid]));
        let factor = self.factor.map_or([1.0; PANEL], |factor| load(&factor[start..start + valid]));
        Columns { start, valid, scale, bias, factor }
    }

    /// Turns accumulators of rows `m, m + 1, ...` into results, in place, and stores those of valid columns.
    /// Each step passes over the whole tile, so that its form is chosen once.
    /// Not inlined: one copy for all matrix kernels, whose activations are large.
    #[inline(never)]
    pub(in crate::cpu) fn finish(
        &self,
        out: &mut Output<'_>,
        m: usize,
        columns: &Columns,
        tile: &mut [[f32; PANEL]],
    ) {
        if let (None, Some((lo, hi))) = (&self.residual, bounds(self.act)) {
            // The usual case in one pass over registers.
            for (row, acc) in tile.iter().enumerate() {
                let mut y = columns.scaled(acc);
                for (y, factor) in y.iter_mut().zip(columns.factor) {
                    *y = Activation::Clip { lo, hi }.apply(*y) * factor;
                }
                out.write(m + row, columns, &y);
            }
            return;
        }
        for y in tile.iter_mut() {
            *y = columns.scaled(y);
        }
        match &self.residual {
            None => {
                activate_plain(self.act, tile);
                columns.multiply(tile);
            }
            Some((addend, ResidualOrder::BeforeActivation)) => {
                addend.add(m, columns, tile);
                activate_plain(self.act, tile);
                columns.multiply(tile);
            }
            Some((addend, ResidualOrder::AfterActivation)) => {
                activate_plain(self.act, tile);
                columns.multiply(tile);
                addend.add(m, columns, tile);
            }
        }
        for (row, y) in tile.iter().enumerate() {
            out.write(m + row, columns, y);
        }
    }
}

impl Addend<'_> {
    #[inline(always)]
    fn add(&self, m: usize, columns: &Columns, tile: &mut [[f32; PANEL]]) {
        match self {
            Addend::F32(rows) => {
                for (row, y) in tile.iter_mut().enumerate() {
                    let x = load(&rows.row(m + row)[columns.start..][..columns.valid]);
                    for lane in 0..PANEL {
                        y[lane] += x[lane];
                    }
                }
            }
            Addend::I8 { rows, scale, zero_point } => {
                for (row, y) in tile.iter_mut().enumerate() {
                    let x = load(&rows.row(m + row)[columns.start..][..columns.valid]);
                    for lane in 0..PANEL {
                        y[lane] = ((i32::from(x[lane]) - zero_point) as f32).mul_add(*scale, y[lane]);
                    }
                }
            }
        }
    }
}

/// Up to 16 elements, 0 after them.
#[inline(always)]
pub(super) fn load<T: Copy + Default>(from: &[T]) -> [T; PANEL] {
    match from.first_chunk::<PANEL>() {
        Some(whole) => *whole,
        None => load_part(from),
    }
}

// Out of line, like `store_part`: inlined, the compiler merges both cases into a call of memcpy with a variable
// length, which took 15% of a product with K = 256.
#[inline(never)]
fn load_part<T: Copy + Default>(from: &[T]) -> [T; PANEL] {
    let mut lanes = [T::default(); PANEL];
    lanes[..from.len()].copy_from_slice(from);
    lanes
}

#[inline(always)]
pub(super) fn store<T: Copy>(lanes: &[T; PANEL], to: &mut [T]) {
    match to.first_chunk_mut::<PANEL>() {
        Some(whole) => *whole = *lanes,
        None => store_part(lanes, to),
    }
}

#[inline(never)]
fn store_part<T: Copy>(lanes: &[T; PANEL], to: &mut [T]) {
    to.copy_from_slice(&lanes[..to.len()]);
}

#[inline(always)]
pub(super) fn quantize(y: &[f32; PANEL], inv_scale: f32, zero_point: i32) -> [i8; PANEL] {
    // Added to a whole number in [-128, 127], its code is the low byte of the sum's bits. A cast to integer
    // would saturate again, lane by lane.
    const WHOLE: f32 = 12_582_912.0; // 1.5 * 2^23
    let mut codes = [0; PANEL];
    for (code, y) in codes.iter_mut().zip(y) {
        // The sum is exact below 2^23; above, it saturates anyway. NaN fails the first comparison.
        let q = (y * inv_scale).round_ties_even() + zero_point as f32;
        let q = if q > -128.0 { q } else { -128.0 };
        let q = if q < 127.0 { q } else { 127.0 };
        *code = (q + WHOLE).to_bits() as i8;
    }
    codes
}

/// The bounds of an activation that only clips.
#[inline(always)]
pub(super) fn bounds(act: Activation) -> Option<(f32, f32)> {
    match act {
        Activation::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Clip { lo, hi } => Some((lo, hi)),
        _ => None,
    }
}

/// [`activate`] for the plain form; element by element, and small, where that is rare.
pub(super) fn activate_plain(act: Activation, tile: &mut [[f32; PANEL]]) {
    if PLAIN_IS_RARE {
        tile.as_flattened_mut().iter_mut().for_each(|y| *y = act.apply(*y));
    } else {
        activate(act, tile);
    }
}

/// [`Activation::apply`] on a tile. The choice is made outside the loop so that each loop is vectorised.
#[inline(always)]
pub(super) fn activate(act: Activation, tile: &mut [[f32; PANEL]]) {
    #[inline(always)]
    fn each(tile: &mut [[f32; PANEL]], act: Activation) {
        for row in tile {
            // A copy, so that every lane is written: conditional stores to memory would need masks.
            let mut y = *row;
            for y in &mut y {
                *y = act.apply(*y);
            }
            *row = y;
        }
    }
    match act {
        Activation::None => {}
        Activation::Relu => each(tile, Activation::Relu),
        Activation::Clip { lo, hi } => each(tile, Activation::Clip { lo, hi }),
        Activation::LeakyRelu { alpha } => each(tile, Activation::LeakyRelu { alpha }),
        Activation::HardSigmoid { alpha, beta } => each(tile, Activation::HardSigmoid { alpha, beta }),
        Activation::HardSwish => each(tile, Activation::HardSwish),
        Activation::Sigmoid => each(tile, Activation::Sigmoid),
        Activation::Silu => each(tile, Activation::Silu),
        Activation::Tanh => each(tile, Activation::Tanh),
        Activation::Gelu => each(tile, Activation::Gelu),
        Activation::GeluTanh => each(tile, Activation::GeluTanh),
    }
}
