//! Functions of two tensors that broadcast.

use super::{ASIDE, Broadcast, Int};
use crate::cpu::isa::Isa;
use crate::cpu::loops::{self, Variant};
use crate::cpu::math;

/// Arithmetic on two numbers of one type. Integers wrap and never panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`; integers truncate toward zero, and give 0 for `b = 0`.
    Div,
    /// `a^b`
    Pow,
    /// The larger; NaN when either is.
    Max,
    /// The smaller; NaN when either is.
    Min,
    /// The remainder with the sign of `b` (Python, ONNX `Mod`); 0 for an integer `b = 0`.
    FloorMod,
    /// The remainder with the sign of `a` (C `fmod`); 0 for an integer `b = 0`.
    TruncMod,
    /// `a` if `a >= 0`, else `a * b`
    PRelu,
}

/// A comparison; its result is 0 or 1. With a NaN all but `NotEqual` are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// `a == b`
    Equal,
    /// `a != b`
    NotEqual,
    /// `a < b`
    Less,
    /// `a <= b`
    LessOrEqual,
    /// `a > b`
    Greater,
    /// `a >= b`
    GreaterOrEqual,
}

/// Logic on booleans stored as bytes: nonzero is true, results are 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogicalOp {
    /// Both.
    And,
    /// Either or both.
    Or,
    /// Exactly one.
    Xor,
}

/// Bit arithmetic on two integers of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitwiseOp {
    /// `a & b`
    And,
    /// `a | b`
    Or,
    /// `a ^ b`
    Xor,
    /// `a << b`; 0 when `b` is negative or not below the width.
    ShiftLeft,
    /// `a >> b`; 0 when `b` is negative or not below the width.
    ShiftRight,
}

/// Which operand an in-place result overwrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Lhs,
    /// The second.
    Rhs,
}

/// An element that [`binary`] can compute with: f32 and every [`Int`].
pub trait Number: Copy + PartialOrd + Default + 'static {
    /// See [`BinaryOp::Add`].
    fn add(self, rhs: Self) -> Self;
    /// See [`BinaryOp::Sub`].
    fn sub(self, rhs: Self) -> Self;
    /// See [`BinaryOp::Mul`].
    fn mul(self, rhs: Self) -> Self;
    /// See [`BinaryOp::Div`].
    fn div(self, rhs: Self) -> Self;
    /// See [`BinaryOp::Pow`].
    fn pow(self, rhs: Self) -> Self;
    /// See [`BinaryOp::Max`].
    fn max(self, rhs: Self) -> Self;
    /// See [`BinaryOp::Min`].
    fn min(self, rhs: Self) -> Self;
    /// See [`BinaryOp::TruncMod`].
    fn trunc_mod(self, rhs: Self) -> Self;

    /// See [`BinaryOp::FloorMod`].
    #[inline(always)]
    fn floor_mod(self, rhs: Self) -> Self {
        let zero = Self::default();
        let r = self.trunc_mod(rhs);
        if r != zero && (r < zero) != (rhs < zero) { r.add(rhs) } else { r }
    }

    /// See [`BinaryOp::PRelu`].
    #[inline(always)]
    fn prelu(self, slope: Self) -> Self {
        if self < Self::default() { self.mul(slope) } else { self }
    }

    /// [`binary`] and [`binary_in_place`] of this type: by calls, one copy of the loops for all functions. Integers that are computed
    /// with at run time are few.
    #[doc(hidden)]
    fn arithmetic(
        _: Variant,
        op: BinaryOp,
        shape: &Broadcast<2>,
        operands: Operands<'_, Self>,
        out: &mut [Self],
    ) {
        let f: fn(Self, Self) -> Self = match op {
            BinaryOp::Add => Self::add,
            BinaryOp::Sub => Self::sub,
            BinaryOp::Mul => Self::mul,
            BinaryOp::Div => Self::div,
            BinaryOp::Pow => Self::pow,
            BinaryOp::Max => Self::max,
            BinaryOp::Min => Self::min,
            BinaryOp::FloorMod => Self::floor_mod,
            BinaryOp::TruncMod => Self::trunc_mod,
            BinaryOp::PRelu => Self::prelu,
        };
        zip(shape, operands, out, &|a, b, out| row_plain(a, b, out, &f));
    }
}

impl Number for f32 {
    #[inline(always)]
    fn add(self, rhs: f32) -> f32 {
        self + rhs
    }
    #[inline(always)]
    fn sub(self, rhs: f32) -> f32 {
        self - rhs
    }
    #[inline(always)]
    fn mul(self, rhs: f32) -> f32 {
        self * rhs
    }
    #[inline(always)]
    fn div(self, rhs: f32) -> f32 {
        self / rhs
    }
    #[inline(always)]
    fn pow(self, rhs: f32) -> f32 {
        math::pow(self, rhs)
    }
    #[inline(always)]
    fn max(self, rhs: f32) -> f32 {
        math::max(self, rhs)
    }
    #[inline(always)]
    fn min(self, rhs: f32) -> f32 {
        math::min(self, rhs)
    }
    #[inline(always)]
    fn trunc_mod(self, rhs: f32) -> f32 {
        self % rhs // exact, so the same on every platform
    }
    fn arithmetic(
        v: Variant,
        op: BinaryOp,
        shape: &Broadcast<2>,
        operands: Operands<'_, f32>,
        out: &mut [f32],
    ) {
        arithmetic(v, op, shape, operands, out);
    }
}

impl<T: Int> Number for T {
    #[inline(always)]
    fn add(self, rhs: T) -> T {
        Int::add(self, rhs)
    }
    #[inline(always)]
    fn sub(self, rhs: T) -> T {
        Int::sub(self, rhs)
    }
    #[inline(always)]
    fn mul(self, rhs: T) -> T {
        Int::mul(self, rhs)
    }
    #[inline(always)]
    fn div(self, rhs: T) -> T {
        Int::div(self, rhs)
    }
    #[inline(always)]
    fn pow(self, rhs: T) -> T {
        Int::pow(self, rhs)
    }
    #[inline(always)]
    fn max(self, rhs: T) -> T {
        if self > rhs { self } else { rhs }
    }
    #[inline(always)]
    fn min(self, rhs: T) -> T {
        if self < rhs { self } else { rhs }
    }
    #[inline(always)]
    fn trunc_mod(self, rhs: T) -> T {
        self.rem(rhs)
    }
}

/// `out[i] = op(a[i], b[i])` with `a`, `b` broadcast as `shape` says.
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn binary<T: Number>(v: Variant, op: BinaryOp, shape: &Broadcast<2>, a: &[T], b: &[T], out: &mut [T]) {
    T::arithmetic(v, op, shape, Operands::Apart(a, b), out);
}

/// As [`binary`], with operand `side` in `inout`, where the result overwrites it.
///
/// # Panics
/// When a slice is not as long as `shape` says, or operand `side` repeats (is smaller than the result).
pub fn binary_in_place<T: Number>(
    v: Variant,
    op: BinaryOp,
    shape: &Broadcast<2>,
    side: Side,
    inout: &mut [T],
    other: &[T],
) {
    T::arithmetic(v, op, shape, Operands::InPlace(side, other), inout);
}

/// Each function's loops are compiled for it.
fn arithmetic(v: Variant, op: BinaryOp, shape: &Broadcast<2>, operands: Operands<'_, f32>, out: &mut [f32]) {
    match op {
        BinaryOp::Add => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::add)),
        BinaryOp::Sub => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::sub)),
        BinaryOp::Mul => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::mul)),
        BinaryOp::Div => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::div)),
        BinaryOp::Pow => zip(shape, operands, out, &|a, b, out| {
            row(
                v,
                a,
                b,
                out,
                #[inline(always)]
                |a: f32, b: f32| math::pow(a, b),
            )
        }),
        BinaryOp::Max => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::max)),
        BinaryOp::Min => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::min)),
        BinaryOp::FloorMod => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::floor_mod)),
        BinaryOp::TruncMod => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::trunc_mod)),
        BinaryOp::PRelu => zip(shape, operands, out, &|a, b, out| row(v, a, b, out, Number::prelu)),
    }
}

/// `out[i] = 1` where the comparison holds, else 0; `a`, `b` broadcast as `shape` says.
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn compare<T: Compared>(
    v: Variant,
    op: CompareOp,
    shape: &Broadcast<2>,
    a: &[T],
    b: &[T],
    out: &mut [u8],
) {
    T::compare(v, op, shape, (a, b), out);
}

/// An element that [`compare`] takes.
pub trait Compared: Copy + PartialOrd {
    /// [`compare`] of this type, compiled in this crate (see [`crate::cpu::quantize::i8s`]).
    #[doc(hidden)]
    fn compare(v: Variant, op: CompareOp, shape: &Broadcast<2>, ab: (&[Self], &[Self]), out: &mut [u8]);
}

macro_rules! compared {
    ($($t:ty),*) => {$(
        impl Compared for $t {
            fn compare(v: Variant, op: CompareOp, shape: &Broadcast<2>, ab: (&[$t], &[$t]), out: &mut [u8]) {
                compared(v, op, shape, ab, out);
            }
        }
    )*};
}
compared!(f32, i64, i32, i8, u8);

fn compared<T: Copy + PartialOrd>(
    v: Variant,
    op: CompareOp,
    shape: &Broadcast<2>,
    ab: (&[T], &[T]),
    out: &mut [u8],
) {
    // Three loops serve all six.
    let equal = |a: Run<'_, T>, b: Run<'_, T>, out: &mut [u8]| row(v, a, b, out, |a, b| u8::from(a == b));
    let less = |a: Run<'_, T>, b: Run<'_, T>, out: &mut [u8]| row(v, a, b, out, |a, b| u8::from(a < b));
    let at_most = |a: Run<'_, T>, b: Run<'_, T>, out: &mut [u8]| row(v, a, b, out, |a, b| u8::from(a <= b));
    match op {
        CompareOp::Equal => apart(shape, ab, out, &equal),
        CompareOp::NotEqual => apart(shape, ab, out, &|a, b, out| {
            equal(a, b, out);
            out.iter_mut().for_each(|y| *y ^= 1);
        }),
        CompareOp::Less => apart(shape, ab, out, &less),
        CompareOp::LessOrEqual => apart(shape, ab, out, &at_most),
        CompareOp::Greater => apart(shape, ab, out, &|a, b, out| less(b, a, out)),
        CompareOp::GreaterOrEqual => apart(shape, ab, out, &|a, b, out| at_most(b, a, out)),
    }
}

/// `out[i] = op(a[i], b[i])` on booleans; `a`, `b` broadcast as `shape` says.
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn logical(v: Variant, op: LogicalOp, shape: &Broadcast<2>, a: &[u8], b: &[u8], out: &mut [u8]) {
    let ab = (a, b);
    match op {
        LogicalOp::And => zip_apart(v, shape, ab, out, |a, b| u8::from((a != 0) & (b != 0))),
        LogicalOp::Or => zip_apart(v, shape, ab, out, |a, b| u8::from((a != 0) | (b != 0))),
        LogicalOp::Xor => zip_apart(v, shape, ab, out, |a, b| u8::from((a != 0) ^ (b != 0))),
    }
}

/// `out[i] = op(a[i], b[i])` on integers; `a`, `b` broadcast as `shape` says.
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn bitwise<T: Int>(op: BitwiseOp, shape: &Broadcast<2>, a: &[T], b: &[T], out: &mut [T]) {
    let f: fn(T, T) -> T = match op {
        BitwiseOp::And => T::bit_and,
        BitwiseOp::Or => T::bit_or,
        BitwiseOp::Xor => T::bit_xor,
        BitwiseOp::ShiftLeft => T::shl,
        BitwiseOp::ShiftRight => T::shr,
    };
    apart(shape, (a, b), out, &|a, b, out| row_plain(a, b, out, &f));
}

/// Where the two operands lie.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Operands<'a, T> {
    /// Each in its own buffer.
    Apart(&'a [T], &'a [T]),
    /// One in the result's buffer, the other in this one.
    InPlace(Side, &'a [T]),
}

/// An operand's part in one row.
#[derive(Clone, Copy)]
enum Run<'a, T> {
    Vector(&'a [T]),
    Scalar(T),
}

impl<'a, T: Copy> Run<'a, T> {
    fn new(x: &'a [T], offset: usize, len: usize, stride: usize) -> Self {
        if stride == 0 { Run::Scalar(x[offset]) } else { Run::Vector(&x[offset..offset + len]) }
    }

    fn part(self, start: usize, len: usize) -> Self {
        match self {
            Run::Vector(x) => Run::Vector(&x[start..start + len]),
            scalar => scalar,
        }
    }
}

/// A short row that every other row meets, many times one after the other: to begin a row takes as long as tens of its elements.
struct Repeated<T> {
    copies: [T; ASIDE],
    /// Whole copies.
    len: usize,
}

impl<T: Copy> Repeated<T> {
    /// Most elements of a row that is repeated.
    const MOST: usize = ASIDE / 4;

    /// Which operand is one.
    fn operand(shape: &Broadcast<2>) -> Option<usize> {
        shape.repeated().filter(|_| shape.row_len() <= Self::MOST && shape.len() > 0)
    }

    fn new(row: &[T]) -> Repeated<T> {
        let mut repeated = Repeated { copies: [row[0]; ASIDE], len: ASIDE / row.len() * row.len() };
        repeated.copies.chunks_exact_mut(row.len()).for_each(|copy| copy.copy_from_slice(row));
        repeated
    }

    fn copies(&self) -> &[T] {
        &self.copies[..self.len]
    }
}

/// A function of two operands, row by row: only this is compiled for every function, the drivers below for every type.
type Rows<'f, T, U> = dyn Fn(Run<'_, T>, Run<'_, T>, &mut [U]) + 'f;

fn zip<T: Number>(shape: &Broadcast<2>, operands: Operands<'_, T>, out: &mut [T], rows: &Rows<'_, T, T>) {
    match operands {
        Operands::Apart(a, b) => apart(shape, (a, b), out, rows),
        Operands::InPlace(side, other) => in_place(shape, side, other, out, rows),
    }
}

fn check(shape: &Broadcast<2>, n: usize, len: usize) {
    assert_eq!(len, shape.operand_len(n), "length of operand {n} is not its shape's");
}

/// `out[i] = f(a[i], b[i])`, for functions of other modules too.
pub(in crate::cpu) fn zip_apart<T: Copy, U: Copy>(
    v: Variant,
    shape: &Broadcast<2>,
    operands: (&[T], &[T]),
    out: &mut [U],
    f: impl Fn(T, T) -> U + Copy,
) {
    apart(shape, operands, out, &|a, b, out| row(v, a, b, out, f));
}

#[inline(never)]
fn apart<T: Copy, U: Copy>(shape: &Broadcast<2>, (a, b): (&[T], &[T]), out: &mut [U], rows: &Rows<'_, T, U>) {
    check(shape, 0, a.len());
    check(shape, 1, b.len());
    assert_eq!(out.len(), shape.len(), "length of the result is not its shape's");
    let operands = [a, b];
    // Not for comparisons and 64 bits, which are few.
    let often = size_of::<T>() == size_of::<U>() && size_of::<T>() <= 4;
    if often && let Some(n) = Repeated::<T>::operand(shape) {
        let repeated = Repeated::new(operands[n]);
        let (copies, other) = (repeated.copies(), operands[1 - n]);
        for (out, other) in out.chunks_mut(copies.len()).zip(other.chunks(copies.len())) {
            let (own, other) = (Run::Vector(&copies[..out.len()]), Run::Vector(other));
            let (a, b) = if n == 0 { (own, other) } else { (other, own) };
            rows(a, b, out);
        }
        return;
    }
    let (len, strides) = (shape.row_len(), [shape.row_stride(0), shape.row_stride(1)]);
    shape.each_row(|[ia, ib], o| {
        let (a, b) = (Run::new(a, ia, len, strides[0]), Run::new(b, ib, len, strides[1]));
        rows(a, b, &mut out[o..o + len]);
    });
}

#[inline(never)]
fn in_place<T: Number>(
    shape: &Broadcast<2>,
    side: Side,
    other: &[T],
    inout: &mut [T],
    rows: &Rows<'_, T, T>,
) {
    let (n, m) = if side == Side::Lhs { (0, 1) } else { (1, 0) };
    check(shape, n, inout.len());
    check(shape, m, other.len());
    assert_eq!(inout.len(), shape.len(), "the operand to overwrite is not as large as the result");
    let mut aside = [T::default(); ASIDE];
    let mut overwrite = |out: &mut [T], other: Run<'_, T>| {
        let own = &mut aside[..out.len()];
        own.copy_from_slice(out);
        match side {
            Side::Lhs => rows(Run::Vector(own), other, out),
            Side::Rhs => rows(other, Run::Vector(own), out),
        }
    };
    if size_of::<T>() <= 4 && Repeated::<T>::operand(shape) == Some(m) {
        let repeated = Repeated::new(other);
        let copies = repeated.copies();
        inout.chunks_mut(copies.len()).for_each(|out| overwrite(out, Run::Vector(&copies[..out.len()])));
        return;
    }
    let (len, stride) = (shape.row_len(), shape.row_stride(m));
    shape.each_row(|offsets, o| {
        let other = Run::new(other, offsets[m], len, stride);
        for (i, out) in inout[o..o + len].chunks_mut(ASIDE).enumerate() {
            overwrite(out, other.part(i * ASIDE, out.len()));
        }
    });
}

/// One row. Not inlined, so that there is one copy of the loops for each function and variant.
#[inline(never)]
fn row<T: Copy, U: Copy>(
    v: Variant,
    a: Run<'_, T>,
    b: Run<'_, T>,
    out: &mut [U],
    f: impl Fn(T, T) -> U + Copy,
) {
    if loops::PLAIN_IS_RARE && v.isa() == Isa::Scalar {
        return row_plain(a, b, out, loops::opaque(&f));
    }
    v.run_unless_rare(
        #[inline(always)]
        || row_loop(a, b, out, f),
    );
}

/// [`row_loop`] by calls: one copy for all functions of a type.
#[inline(never)]
fn row_plain<T: Copy, U: Copy>(a: Run<'_, T>, b: Run<'_, T>, out: &mut [U], f: &dyn Fn(T, T) -> U) {
    row_loop(a, b, out, f);
}

#[inline(always)]
fn row_loop<T: Copy, U: Copy>(a: Run<'_, T>, b: Run<'_, T>, out: &mut [U], f: impl Fn(T, T) -> U) {
    match (a, b) {
        (Run::Vector(a), Run::Vector(b)) => {
            for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
                *o = f(*a, *b);
            }
        }
        (Run::Vector(a), Run::Scalar(b)) => {
            for (o, a) in out.iter_mut().zip(a) {
                *o = f(*a, b);
            }
        }
        (Run::Scalar(a), Run::Vector(b)) => {
            for (o, b) in out.iter_mut().zip(b) {
                *o = f(a, *b);
            }
        }
        (Run::Scalar(a), Run::Scalar(b)) => out.fill(f(a, b)),
    }
}
