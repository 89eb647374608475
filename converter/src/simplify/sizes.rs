//! Sizes of dimensions, known or symbolic.
//!
//! A symbolic size is an interned formula over the graph's free dimensions. Two sizes with the same id are equal for
//! every input; two with different ids may be equal or not. So equality here is a proof, inequality is not.

use edge_runtime::graph::{BinaryOp, ValueId};
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

/// A dimension's size or an element of a shape vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Size {
    /// Always this number.
    Known(i64),
    /// An interned formula.
    Symbol(u32),
}

impl Size {
    /// The number, when it is known.
    pub fn known(self) -> Option<i64> {
        match self {
            Size::Known(n) => Some(n),
            Size::Symbol(_) => None,
        }
    }

    /// Whether this is surely 1.
    pub fn is_one(self) -> bool {
        self == Size::Known(1)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Formula {
    Named(String),
    /// Element `index` of what is known to vary with `value` alone.
    Of(ValueId, usize),
    /// `floor or ceil((size + offset) / stride) + 1`.
    Window {
        size: Size,
        offset: i64,
        stride: i64,
        ceil: bool,
    },
    /// `factor * product of the symbols`, which are sorted.
    Product(i64, Vec<u32>),
    Binary(Discriminant<BinaryOp>, Size, Size),
    Broadcast(Size, Size),
    /// `floor(size * scale)`, the scale by its bits.
    Scaled(Size, u32),
}

/// The interned formulas of one sweep.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    ids: HashMap<Formula, u32>,
    products: HashMap<u32, (i64, Vec<u32>)>,
}

impl Sizes {
    fn intern(&mut self, formula: Formula) -> Size {
        let next = self.ids.len() as u32;
        let product = match &formula {
            Formula::Product(factor, symbols) => Some((*factor, symbols.clone())),
            _ => None,
        };
        let id = *self.ids.entry(formula).or_insert(next);
        if let Some(product) = product {
            self.products.insert(id, product);
        }
        Size::Symbol(id)
    }

    /// The free dimension of that name.
    pub fn named(&mut self, name: &str) -> Size {
        self.intern(Formula::Named(name.to_owned()))
    }

    /// A size of which only the value it belongs to is known.
    pub fn of(&mut self, value: ValueId, index: usize) -> Size {
        self.intern(Formula::Of(value, index))
    }

    /// The output size of a sliding window; `offset` is the padding less the dilated kernel's extent.
    pub fn window(&mut self, size: Size, offset: i64, stride: i64, ceil: bool) -> Size {
        if stride == 1 {
            return self.binary(BinaryOp::Add, size, Size::Known(offset + 1)).unwrap_or(size);
        }
        match size {
            Size::Known(n) => {
                let numerator = n + offset + if ceil { stride - 1 } else { 0 };
                Size::Known(numerator.div_euclid(stride) + 1)
            }
            Size::Symbol(_) => self.intern(Formula::Window { size, offset, stride, ceil }),
        }
    }

    /// `floor(size * scale)`.
    pub fn scaled(&mut self, size: Size, scale: f32) -> Size {
        match size {
            Size::Known(n) => Size::Known((n as f64 * f64::from(scale)).floor() as i64),
            Size::Symbol(_) if scale == 1.0 => size,
            Size::Symbol(_) if scale.fract() == 0.0 && scale > 0.0 => {
                self.product(&[size, Size::Known(scale as i64)])
            }
            Size::Symbol(_) => self.intern(Formula::Scaled(size, scale.to_bits())),
        }
    }

    /// The size two operands' dimensions broadcast to.
    pub fn broadcast(&mut self, a: Size, b: Size) -> Size {
        match (a, b) {
            _ if a == b => a,
            (Size::Known(1), other) | (other, Size::Known(1)) => other,
            (Size::Known(n), _) | (_, Size::Known(n)) => Size::Known(n),
            _ => self.intern(Formula::Broadcast(a.min(b), a.max(b))),
        }
    }

    /// The product in its normal form: one factor and the sorted symbols.
    pub fn factors(&self, sizes: &[Size]) -> Option<(i64, Vec<u32>)> {
        let mut factor = 1i64;
        let mut symbols = Vec::new();
        for size in sizes {
            match size {
                Size::Known(n) => factor = factor.checked_mul(*n)?,
                Size::Symbol(id) => match self.products.get(id) {
                    Some((n, inner)) => {
                        factor = factor.checked_mul(*n)?;
                        symbols.extend_from_slice(inner);
                    }
                    None => symbols.push(*id),
                },
            }
        }
        symbols.sort_unstable();
        Some((factor, symbols))
    }

    /// The product of the sizes.
    pub fn product(&mut self, sizes: &[Size]) -> Size {
        let Some((factor, symbols)) = self.factors(sizes) else {
            // Beyond i64: a size of its own, equal to no other.
            let unique = self.ids.len();
            return self.intern(Formula::Of(ValueId::MAX, unique));
        };
        match (factor, symbols.as_slice()) {
            (n, []) => Size::Known(n),
            (1, [id]) => Size::Symbol(*id),
            _ => self.intern(Formula::Product(factor, symbols)),
        }
    }

    /// `whole / part` where it divides exactly for every input.
    pub fn quotient(&mut self, whole: &[Size], part: &[Size]) -> Option<Size> {
        let (mut factor, mut symbols) = self.factors(whole)?;
        let (divisor, cancelled) = self.factors(part)?;
        if divisor == 0 || factor % divisor != 0 {
            return None;
        }
        factor /= divisor;
        for id in cancelled {
            let at = symbols.iter().position(|s| *s == id)?;
            symbols.remove(at);
        }
        let symbols: Vec<Size> = symbols.into_iter().map(Size::Symbol).chain([Size::Known(factor)]).collect();
        Some(self.product(&symbols))
    }

    /// Integer arithmetic on sizes; `None` for an operation that has no size as its result.
    pub fn binary(&mut self, op: BinaryOp, a: Size, b: Size) -> Option<Size> {
        if let (Size::Known(x), Size::Known(y)) = (a, b) {
            return match op {
                BinaryOp::Add => x.checked_add(y),
                BinaryOp::Sub => x.checked_sub(y),
                BinaryOp::Mul => x.checked_mul(y),
                BinaryOp::Div => x.checked_div(y),
                BinaryOp::Max => Some(x.max(y)),
                BinaryOp::Min => Some(x.min(y)),
                _ => None,
            }
            .map(Size::Known);
        }
        match op {
            BinaryOp::Add if a == Size::Known(0) => Some(b),
            BinaryOp::Add | BinaryOp::Sub if b == Size::Known(0) => Some(a),
            BinaryOp::Div if b.is_one() => Some(a),
            BinaryOp::Mul => Some(self.product(&[a, b])),
            BinaryOp::Div => match self.quotient(&[a], &[b]) {
                Some(size) => Some(size),
                None => Some(self.intern(Formula::Binary(discriminant(&op), a, b))),
            },
            BinaryOp::Add | BinaryOp::Max | BinaryOp::Min => {
                Some(self.intern(Formula::Binary(discriminant(&op), a.min(b), a.max(b))))
            }
            BinaryOp::Sub => Some(self.intern(Formula::Binary(discriminant(&op), a, b))),
            _ => None,
        }
    }
}

/// An axis counted from the start.
pub(super) fn axis(axis: i32, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { i64::from(axis) + rank } else { i64::from(axis) };
    (0..rank).contains(&axis).then_some(axis as usize)
}

/// Axes counted from the start.
pub(super) fn axes(list: &[i32], rank: usize) -> Option<Vec<usize>> {
    list.iter().map(|a| axis(*a, rank)).collect()
}
