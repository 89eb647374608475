//! Which elements, and how much of each.

use std::ops::Range;

/// Where a result element lies in the operand (ONNX `coordinate_transformation_mode`); `scale` is output over input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// `(o + 1/2) / scale - 1/2`
    HalfPixel,
    /// As `HalfPixel`, shifted so that the centres agree when `scale` is not exactly `output / input`.
    HalfPixelSymmetric,
    /// As `HalfPixel`, but 0 when there is one result element.
    PytorchHalfPixel,
    /// `o * (input - 1) / (output - 1)`; 0 when there is one result element.
    AlignCorners,
    /// `o / scale`
    Asymmetric,
}

/// Which neighbour is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearest {
    /// The one to the left.
    Floor,
    /// The one to the right.
    Ceil,
    /// The nearer; the left one of two equally near.
    RoundPreferFloor,
    /// The nearer; the right one of two equally near.
    RoundPreferCeil,
}

/// How a value between elements is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interpolation {
    /// One neighbour.
    Nearest(Nearest),
    /// Two neighbours by distance.
    Linear,
    /// Four neighbours by Keys' cubic convolution.
    Cubic {
        /// The kernel's coefficient `a`; -0.75 or -0.5 in the field.
        a: f32,
        /// Leave out neighbours beyond the edge and let the weights of the others sum to 1; otherwise the edge
        /// element stands for them.
        exclude_outside: bool,
    },
}

impl Interpolation {
    /// Operand elements for each result element.
    pub fn taps(self) -> usize {
        match self {
            Interpolation::Nearest(_) => 1,
            Interpolation::Linear => 2,
            Interpolation::Cubic { .. } => 4,
        }
    }
}

/// The resizing of one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AxisSpec {
    /// Elements of the operand; at least 1.
    pub input: usize,
    /// Elements of the result.
    pub output: usize,
    /// The scale that the model states, if it does; else `output / input`.
    pub scale: Option<f32>,
    /// Where result elements lie.
    pub coordinates: Coordinates,
    /// How they are made.
    pub interpolation: Interpolation,
}

/// For each result element, `taps` operand elements and their weights, `[output, taps]`; the buffers are the
/// caller's.
#[derive(Clone, Copy, Debug)]
pub struct AxisTable<'a> {
    taps: usize,
    input: usize,
    /// The operand's element that is at hand first.
    first: usize,
    indices: &'a [u32],
    weights: &'a [f32],
}

impl AxisSpec {
    /// Elements that both buffers of [`AxisSpec::fill`] must have.
    pub fn table_len(&self) -> usize {
        self.output * self.interpolation.taps()
    }

    /// The coordinate of result element `o`, in f64 because a rounded one picks the wrong neighbour at ties.
    fn coordinate(&self, o: usize) -> f64 {
        let (input, output, o) = (self.input as f64, self.output as f64, o as f64);
        let scale = self.scale.map_or(output / input, f64::from);
        let half_pixel = (o + 0.5) / scale - 0.5;
        match self.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = output / (scale * input);
                input / 2.0 * (1.0 - adjustment) + half_pixel
            }
            Coordinates::PytorchHalfPixel if self.output > 1 => half_pixel,
            Coordinates::AlignCorners if self.output > 1 => o * (input - 1.0) / (output - 1.0),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => o / scale,
        }
    }

    /// Fills the buffers, which [`AxisTable::new`] then reads.
    ///
    /// # Panics
    /// When a buffer is not [`AxisSpec::table_len`] long, `input` is 0 with results to make, or exceeds u32.
    pub fn fill(&self, indices: &mut [u32], weights: &mut [f32]) {
        assert_eq!((indices.len(), weights.len()), (self.table_len(), self.table_len()), "table of {self:?}");
        assert!(self.output == 0 || self.input > 0, "{} elements made of none", self.output);
        assert!(u32::try_from(self.input).is_ok(), "axis of {}", self.input);
        let taps = self.interpolation.taps();
        let rows = indices.chunks_exact_mut(taps).zip(weights.chunks_exact_mut(taps));
        for (o, (indices, weights)) in rows.enumerate() {
            let x = self.coordinate(o);
            match self.interpolation {
                Interpolation::Nearest(nearest) => {
                    let i = match nearest {
                        Nearest::Floor => x.floor(),
                        Nearest::Ceil => x.ceil(),
                        Nearest::RoundPreferFloor => (x - 0.5).ceil(),
                        Nearest::RoundPreferCeil => (x + 0.5).floor(),
                    };
                    (indices[0], weights[0]) = (self.clamp(i), 1.0);
                }
                Interpolation::Linear => {
                    // Outside the operand its edge element is repeated.
                    let x = x.clamp(0.0, self.input as f64 - 1.0);
                    let right = x - x.floor();
                    (indices[0], weights[0]) = (self.clamp(x.floor()), (1.0 - right) as f32);
                    (indices[1], weights[1]) = (self.clamp(x.floor() + 1.0), right as f32);
                }
                Interpolation::Cubic { a, exclude_outside } => {
                    let first = x.floor() - 1.0;
                    let mut exact = [0.0; 4];
                    for (k, weight) in exact.iter_mut().enumerate() {
                        let at = first + k as f64;
                        let outside = at < 0.0 || at > self.input as f64 - 1.0;
                        *weight = if exclude_outside && outside { 0.0 } else { keys(x - at, f64::from(a)) };
                        indices[k] = self.clamp(at);
                    }
                    let sum: f64 = if exclude_outside { exact.iter().sum() } else { 1.0 };
                    weights.iter_mut().zip(exact).for_each(|(w, exact)| *w = (exact / sum) as f32);
                }
            }
        }
    }

    fn clamp(&self, i: f64) -> u32 {
        i.clamp(0.0, self.input as f64 - 1.0) as u32
    }
}

/// Keys' cubic convolution kernel at distance `t` (R. Keys, "Cubic convolution interpolation for digital image
/// processing", 1981, equation 4 with general `a`).
fn keys(t: f64, a: f64) -> f64 {
    let t = t.abs();
    if t <= 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
    } else {
        0.0
    }
}

impl<'a> AxisTable<'a> {
    /// The table that `spec` filled into these buffers.
    ///
    /// # Panics
    /// When a buffer is not [`AxisSpec::table_len`] long.
    pub fn new(spec: &AxisSpec, indices: &'a [u32], weights: &'a [f32]) -> Self {
        assert_eq!((indices.len(), weights.len()), (spec.table_len(), spec.table_len()), "table of {spec:?}");
        AxisTable { taps: spec.interpolation.taps(), input: spec.input, first: 0, indices, weights }
    }

    /// The results `results` alone, of the operand's elements `operand` alone.
    ///
    /// # Panics
    /// When there are no such results. Applying the table panics when one is made of other elements.
    pub fn part(self, results: Range<usize>, operand: Range<usize>) -> AxisTable<'a> {
        let taps = results.start * self.taps..results.end * self.taps;
        let (indices, weights) = (&self.indices[taps.clone()], &self.weights[taps]);
        AxisTable { input: operand.len(), first: operand.start, indices, weights, ..self }
    }

    /// The operand's elements that the results `results` are made of, from the first to the last.
    ///
    /// # Panics
    /// When there are no such results.
    pub fn span(&self, results: Range<usize>) -> Range<usize> {
        let used = &self.indices[results.start * self.taps..results.end * self.taps];
        let first = used.iter().min().map_or(0, |i| *i as usize);
        first..used.iter().max().map_or(first, |i| *i as usize + 1)
    }

    /// Elements of the operand along the axis.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Elements of the result along the axis.
    pub fn output(&self) -> usize {
        self.indices.len() / self.taps
    }

    /// Operand elements for each result element.
    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// The element at hand that stands at `index` of the whole operand.
    #[inline(always)]
    pub(super) fn at(&self, index: u32) -> usize {
        (index as usize).wrapping_sub(self.first)
    }

    /// Elements of the whole operand and weights of result element `o`.
    pub(super) fn row(&self, o: usize) -> (&'a [u32], &'a [f32]) {
        let row = o * self.taps..(o + 1) * self.taps;
        (&self.indices[row.clone()], &self.weights[row])
    }
}
