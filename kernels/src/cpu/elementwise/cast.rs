//! Conversion between element types, with the meaning of ONNX `Cast`.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

/// A tensor of any element type.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // each variant is named after its element type
pub enum Elements<'a> {
    F64(&'a [f64]),
    F32(&'a [f32]),
    /// IEEE binary16, as bits.
    F16(&'a [u16]),
    /// bfloat16, as bits.
    Bf16(&'a [u16]),
    I64(&'a [i64]),
    I32(&'a [i32]),
    I16(&'a [i16]),
    I8(&'a [i8]),
    U32(&'a [u32]),
    U16(&'a [u16]),
    U8(&'a [u8]),
    /// Bytes; nonzero is true.
    Bool(&'a [u8]),
}

/// A tensor of any element type, to be written.
#[derive(Debug)]
#[allow(missing_docs)] // each variant is named after its element type
pub enum ElementsMut<'a> {
    F64(&'a mut [f64]),
    F32(&'a mut [f32]),
    /// IEEE binary16, as bits.
    F16(&'a mut [u16]),
    /// bfloat16, as bits.
    Bf16(&'a mut [u16]),
    I64(&'a mut [i64]),
    I32(&'a mut [i32]),
    I16(&'a mut [i16]),
    I8(&'a mut [i8]),
    U32(&'a mut [u32]),
    U16(&'a mut [u16]),
    U8(&'a mut [u8]),
    /// Bytes, written as 0 or 1.
    Bool(&'a mut [u8]),
}

/// Elements converted at a time through the widest type of their kind (f64 for floats, i64 for integers): twelve
/// loaders and twenty-four storers instead of a loop for each of 144 pairs. The common pairs have their own loop.
const BLOCK: usize = 64;

/// `y[i] = x[i]` in y's type. Float to float rounds to nearest, ties to even. Float to integer truncates toward
/// zero and saturates, NaN gives 0. Integer to a narrower integer keeps the low bits. To boolean: `x != 0`.
///
/// # Panics
/// When the lengths differ.
#[inline(never)] // or its loops would be compiled as its caller is: for size
pub fn cast(x: Elements<'_>, y: ElementsMut<'_>) {
    assert_eq!(x.len(), y.len(), "operand and result differ in length");
    match (x, y) {
        (Elements::F32(x), ElementsMut::F32(y)) => y.copy_from_slice(x),
        (Elements::F32(x), ElementsMut::F16(y)) => y.reinterpret_cast_mut::<f16>().convert_from_f32_slice(x),
        (Elements::F32(x), ElementsMut::Bf16(y)) => {
            y.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(x)
        }
        (Elements::F16(x), ElementsMut::F32(y)) => x.reinterpret_cast::<f16>().convert_to_f32_slice(y),
        (Elements::Bf16(x), ElementsMut::F32(y)) => x.reinterpret_cast::<bf16>().convert_to_f32_slice(y),
        (Elements::I32(x), ElementsMut::F32(y)) => each(x, y, |x| x as f32),
        (Elements::I8(x), ElementsMut::F32(y)) => each(x, y, f32::from),
        (Elements::U8(x), ElementsMut::F32(y)) => each(x, y, f32::from),
        (Elements::Bool(x), ElementsMut::F32(y)) => each(x, y, |x| f32::from(u8::from(x != 0))),
        (Elements::F32(x), ElementsMut::I32(y)) => each(x, y, |x| x as i32),
        (Elements::I32(x), ElementsMut::I64(y)) => each(x, y, i64::from),
        (Elements::I64(x), ElementsMut::I32(y)) => each(x, y, |x| x as i32),
        (x, y) => in_blocks(x, y),
    }
}

#[inline(always)]
fn each<T: Copy, U>(x: &[T], y: &mut [U], f: impl Fn(T) -> U) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
    }
}

fn in_blocks(x: Elements<'_>, mut y: ElementsMut<'_>) {
    let mut floats = [0f64; BLOCK];
    let mut ints = [0i64; BLOCK];
    let len = x.len();
    for start in (0..len).step_by(BLOCK) {
        let n = BLOCK.min(len - start);
        if x.load_floats(start, &mut floats[..n]) {
            y.store_floats(start, &floats[..n]);
        } else {
            x.load_ints(start, &mut ints[..n]);
            y.store_ints(start, &ints[..n]);
        }
    }
}

/// `x` in f32, rounded to odd: what does not fit is folded into the last bit, so that a further rounding to f16
/// or bf16 gives what rounding `x` once would. (The `half` crate's conversions from f64 ignore the low bits.)
#[inline(always)]
fn odd_f32(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || x.is_nan() {
        return near;
    }
    let toward_zero = near.to_bits() - u32::from(f64::from(near).abs() > x.abs());
    f32::from_bits(toward_zero | 1)
}

/// `x` in f64, rounded to odd.
#[inline(always)]
fn odd_f64(x: i64) -> f64 {
    let magnitude = x.unsigned_abs();
    if magnitude >> 53 == 0 {
        return x as f64;
    }
    let sticky = u64::from(magnitude & 0x7ff != 0) << 11;
    let rounded = ((magnitude & !0x7ff) | sticky) as f64;
    if x < 0 { -rounded } else { rounded }
}

impl Elements<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Elements::F64(x) => x.len(),
            Elements::F32(x) => x.len(),
            Elements::F16(x) | Elements::Bf16(x) | Elements::U16(x) => x.len(),
            Elements::I64(x) => x.len(),
            Elements::I32(x) => x.len(),
            Elements::I16(x) => x.len(),
            Elements::I8(x) => x.len(),
            Elements::U32(x) => x.len(),
            Elements::U8(x) | Elements::Bool(x) => x.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements from `start` on as f64; false when this tensor holds integers.
    fn load_floats(&self, start: usize, to: &mut [f64]) -> bool {
        match self {
            Elements::F64(x) => to.copy_from_slice(&x[start..start + to.len()]),
            Elements::F32(x) => each(&x[start..start + to.len()], to, f64::from),
            Elements::F16(x) => each(&x[start..start + to.len()], to, |x| f16::from_bits(x).to_f64()),
            Elements::Bf16(x) => each(&x[start..start + to.len()], to, |x| bf16::from_bits(x).to_f64()),
            _ => return false,
        }
        true
    }

    /// Elements from `start` on as i64; nothing when this tensor holds floats.
    fn load_ints(&self, start: usize, to: &mut [i64]) {
        match self {
            Elements::I64(x) => to.copy_from_slice(&x[start..start + to.len()]),
            Elements::I32(x) => each(&x[start..start + to.len()], to, i64::from),
            Elements::I16(x) => each(&x[start..start + to.len()], to, i64::from),
            Elements::I8(x) => each(&x[start..start + to.len()], to, i64::from),
            Elements::U32(x) => each(&x[start..start + to.len()], to, i64::from),
            Elements::U16(x) => each(&x[start..start + to.len()], to, i64::from),
            Elements::U8(x) => each(&x[start..start + to.len()], to, i64::from),
            Elements::Bool(x) => each(&x[start..start + to.len()], to, |x| i64::from(x != 0)),
            Elements::F64(_) | Elements::F32(_) | Elements::F16(_) | Elements::Bf16(_) => {}
        }
    }
}

impl ElementsMut<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            ElementsMut::F64(x) => x.len(),
            ElementsMut::F32(x) => x.len(),
            ElementsMut::F16(x) | ElementsMut::Bf16(x) | ElementsMut::U16(x) => x.len(),
            ElementsMut::I64(x) => x.len(),
            ElementsMut::I32(x) => x.len(),
            ElementsMut::I16(x) => x.len(),
            ElementsMut::I8(x) => x.len(),
            ElementsMut::U32(x) => x.len(),
            ElementsMut::U8(x) | ElementsMut::Bool(x) => x.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn store_floats(&mut self, start: usize, from: &[f64]) {
        let end = start + from.len();
        match self {
            ElementsMut::F64(y) => y[start..end].copy_from_slice(from),
            ElementsMut::F32(y) => each(from, &mut y[start..end], |x| x as f32),
            ElementsMut::F16(y) => each(from, &mut y[start..end], |x| f16::from_f32(odd_f32(x)).to_bits()),
            ElementsMut::Bf16(y) => each(from, &mut y[start..end], |x| bf16::from_f32(odd_f32(x)).to_bits()),
            ElementsMut::I64(y) => each(from, &mut y[start..end], |x| x as i64),
            ElementsMut::I32(y) => each(from, &mut y[start..end], |x| x as i32),
            ElementsMut::I16(y) => each(from, &mut y[start..end], |x| x as i16),
            ElementsMut::I8(y) => each(from, &mut y[start..end], |x| x as i8),
            ElementsMut::U32(y) => each(from, &mut y[start..end], |x| x as u32),
            ElementsMut::U16(y) => each(from, &mut y[start..end], |x| x as u16),
            ElementsMut::U8(y) => each(from, &mut y[start..end], |x| x as u8),
            ElementsMut::Bool(y) => each(from, &mut y[start..end], |x| u8::from(x != 0.0)),
        }
    }

    fn store_ints(&mut self, start: usize, from: &[i64]) {
        let end = start + from.len();
        match self {
            ElementsMut::F64(y) => each(from, &mut y[start..end], |x| x as f64),
            ElementsMut::F32(y) => each(from, &mut y[start..end], |x| x as f32),
            ElementsMut::F16(y) => {
                each(from, &mut y[start..end], |x| f16::from_f32(odd_f32(odd_f64(x))).to_bits())
            }
            ElementsMut::Bf16(y) => {
                each(from, &mut y[start..end], |x| bf16::from_f32(odd_f32(odd_f64(x))).to_bits())
            }
            ElementsMut::I64(y) => y[start..end].copy_from_slice(from),
            ElementsMut::I32(y) => each(from, &mut y[start..end], |x| x as i32),
            ElementsMut::I16(y) => each(from, &mut y[start..end], |x| x as i16),
            ElementsMut::I8(y) => each(from, &mut y[start..end], |x| x as i8),
            ElementsMut::U32(y) => each(from, &mut y[start..end], |x| x as u32),
            ElementsMut::U16(y) => each(from, &mut y[start..end], |x| x as u16),
            ElementsMut::U8(y) => each(from, &mut y[start..end], |x| x as u8),
            ElementsMut::Bool(y) => each(from, &mut y[start..end], |x| u8::from(x != 0)),
        }
    }
}
