//! Reading a picture between its elements: each position becomes indices and weights, one pair a tap and axis.
//!
//! Positions are `[N, P]` for a batch of `N` pictures; taps of several axes multiply.

use crate::import::onnx::ctx::Formula;
use edge_runtime::graph::{BinaryOp, DType, Op, UnaryOp, ValueId};

/// What a position outside the picture reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// The nearest border.
    Border,
    /// The picture's mirror image.
    Reflection,
}

/// How elements around a position are weighed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The nearest one alone, of two equally near the even one.
    Nearest,
    /// The two around it.
    Linear,
    /// Four, by Keys' polynomial with a = -0.75.
    Cubic,
}

/// One tap along one axis.
#[derive(Clone, Copy)]
pub struct Tap {
    /// Index of the element, `i64`, within the axis.
    pub place: ValueId,
    /// What it counts for; 1 when left out.
    pub weight: Option<ValueId>,
}

/// An axis of the picture.
#[derive(Clone, Copy)]
struct Axis {
    /// Its size less 1, as a real scalar.
    last: ValueId,
    /// Positions from here..
    lo: ValueId,
    /// ..to here are inside.
    hi: ValueId,
    outside: Outside,
}

impl Formula<'_, '_> {
    /// The taps along an axis of `size` elements (an `f32` scalar) at `x`, in elements from the first one's middle.
    /// With `corners` the picture ends at the middles of its outermost elements, else half an element further.
    pub fn taps(
        &mut self,
        x: ValueId,
        size: ValueId,
        (kernel, outside, corners): (Kernel, Outside, bool),
    ) -> Vec<Tap> {
        let last = self.plus(size, -1.0);
        let (lo, hi) =
            if corners { (self.real(0.0), last) } else { (self.real(-0.5), self.plus(size, -0.5)) };
        let axis = Axis { last, lo, hi, outside };
        let x = if kernel == Kernel::Nearest { self.unary(UnaryOp::Round, x) } else { x };
        let x = match outside {
            Outside::Zeros => x,
            Outside::Reflection => self.reflected(x, &axis),
            Outside::Border => {
                let below = self.binary(BinaryOp::Less, x, lo);
                let above = self.binary(BinaryOp::Greater, x, hi);
                let away = self.binary(BinaryOp::Or, below, above);
                let zero = self.real(0.0);
                let inside = self.clamp(x, zero, last);
                self.select(away, inside, x)
            }
        };
        if kernel == Kernel::Nearest {
            return vec![self.tap(x, None, &axis)];
        }
        let first = self.unary(UnaryOp::Floor, x);
        let t = self.sub(x, first);
        let weights = match kernel {
            Kernel::Nearest | Kernel::Linear => vec![(0.0, self.minus_from(1.0, t)), (1.0, t)],
            Kernel::Cubic => {
                let weights = self.cubic(t);
                [-1.0, 0.0, 1.0, 2.0].into_iter().zip(weights).collect()
            }
        };
        weights
            .into_iter()
            .map(|(step, weight)| {
                let at = if step == 0.0 { first } else { self.plus(first, step) };
                self.tap(at, Some(weight), &axis)
            })
            .collect()
    }

    /// A tap at a whole position.
    fn tap(&mut self, at: ValueId, weight: Option<ValueId>, axis: &Axis) -> Tap {
        let zero = self.real(0.0);
        let (mut at, mut weight) = (at, weight);
        match axis.outside {
            Outside::Border => {}
            Outside::Reflection => at = self.reflected(at, axis),
            Outside::Zeros => {
                let from = self.binary(BinaryOp::GreaterOrEqual, at, zero);
                let to = self.binary(BinaryOp::LessOrEqual, at, axis.last);
                let inside = self.binary(BinaryOp::And, from, to);
                let inside = self.cast(inside, DType::F32);
                weight = Some(weight.map_or(inside, |w| self.mul(w, inside)));
            }
        }
        let at = self.clamp(at, zero, axis.last);
        Tap { place: self.cast(at, DType::I64), weight }
    }

    /// `x` mirrored at the picture's ends until it is inside: a triangle wave.
    fn reflected(&mut self, x: ValueId, axis: &Axis) -> ValueId {
        let span = self.sub(axis.hi, axis.lo);
        let one = self.real(1.0);
        // One element between two mirrors: whatever comes of it is clamped to that element.
        let span = self.max(span, one);
        let period = self.times(span, 2.0);
        let away = self.sub(x, axis.lo);
        let away = self.unary(UnaryOp::Abs, away);
        let away = self.binary(BinaryOp::Fmod, away, period);
        let from_top = self.sub(away, span);
        let from_top = self.unary(UnaryOp::Abs, from_top);
        let inside = self.sub(span, from_top);
        self.add(inside, axis.lo)
    }

    /// The four weights of Keys' cubic convolution, `t` behind the second element.
    fn cubic(&mut self, t: ValueId) -> [ValueId; 4] {
        const A: f64 = -0.75;
        let rest = self.minus_from(1.0, t);
        let mut outer = |d: ValueId| {
            // ((A d - 5A) d + 8A) d - 4A for a distance d of 1 to 2.
            let d = self.plus(d, 1.0);
            let y = self.times(d, A);
            let y = self.plus(y, -5.0 * A);
            let y = self.mul(y, d);
            let y = self.plus(y, 8.0 * A);
            let y = self.mul(y, d);
            self.plus(y, -4.0 * A)
        };
        let (first, fourth) = (outer(t), outer(rest));
        let mut inner = |d: ValueId| {
            // ((A + 2) d - (A + 3)) d² + 1 for a distance d of 0 to 1.
            let y = self.times(d, A + 2.0);
            let y = self.plus(y, -(A + 3.0));
            let y = self.mul(y, d);
            let y = self.mul(y, d);
            self.plus(y, 1.0)
        };
        [first, inner(t), inner(rest), fourth]
    }

    /// A spatial value `[N, C, ..]` as `[N, elements, C]`.
    pub fn elements_last(&mut self, x: ValueId, rank: usize) -> ValueId {
        let perm = [0].into_iter().chain(2..rank).chain([1]).collect();
        let x = self.op(Op::Transpose { perm }, &[x]);
        match self.ctx.fact(x).size(rank - 1) {
            Some(channels) => self.reshape(x, &[0, -1, channels as i64]),
            None => {
                let head = self.ctx.vector(self.node, &[0, -1]);
                let channels = self.shape(x, -1, None);
                let shape = self.concat(0, &[head, channels]);
                self.op(Op::Reshape { allow_zero: false }, &[x, shape])
            }
        }
    }

    /// Reads `data` `[N, elements, C]` at positions `[N, P]`, given by each axis's taps: `[N, P, C]`. `sizes` are the axes'
    /// sizes as `i64` scalars.
    pub fn sampled(&mut self, data: ValueId, taps: &[Vec<Tap>], sizes: &[ValueId]) -> ValueId {
        let mut corners: Vec<Tap> = taps[0].clone();
        for (axis, size) in taps[1..].iter().zip(&sizes[1..]) {
            let mut joined = Vec::with_capacity(corners.len() * axis.len());
            for outer in &corners {
                let row = self.mul(outer.place, *size);
                for inner in axis {
                    let place = self.add(row, inner.place);
                    let weight = match (outer.weight, inner.weight) {
                        (Some(a), Some(b)) => Some(self.mul(a, b)),
                        (a, b) => a.or(b),
                    };
                    joined.push(Tap { place, weight });
                }
            }
            corners = joined;
        }
        let mut sum = None;
        for Tap { place, weight } in corners {
            let place = self.unsqueeze(place, &[2]);
            let mut value = self.op(Op::GatherNd { batch_dims: 1 }, &[data, place]);
            if let Some(weight) = weight {
                let weight = self.unsqueeze(weight, &[2]);
                value = self.mul(value, weight);
            }
            sum = Some(sum.map_or(value, |sum| self.add(sum, value)));
        }
        sum.unwrap_or(data)
    }
}
