//! Elementary functions with one definition for every instruction set.
//!
//! Each is plain Rust built from additions, multiplications, divisions, [`f32::mul_add`] and selections, inlined
//! into the loops that use it: a loop compiled for AVX2 and the same loop compiled without SIMD give the same
//! bits. There is no early return, so that loops vectorise. On a CPU without fused multiply-add the compiler calls
//! a routine for each one: the same bits, slowly.
//!
//! Coefficients were fitted for this file (weighted least squares towards minimax, rounded to f32 one after the
//! other). Stated errors are against f64, in units in the last place (ULP) of the correctly rounded f32. They hold
//! for a dense sample of all bit patterns (every test run; every 131st once) with a margin; an ignored test goes
//! through all of them.

#[cfg(test)]
mod tests;

/// `1.5 * 2^23`: adding it leaves the nearest integer (ties to even) in the low bits of the sum's mantissa.
pub(super) const ROUND: f32 = 12_582_912.0;
/// `ln(2)` as a sum of two: a whole number times the first is exact in a fused step.
pub(super) const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_2e-9];
/// `(exp(r) - 1 - r) / r^2` for `|r| <= ln(2) / 2`, highest power first.
pub(super) const EXP: [f32; 5] = [0.001_393_784_5, 0.008_368_968, 0.041_666_433, 0.166_665_18, 0.5];
/// Below, `exp` is 0 and its exponent arithmetic would wrap.
pub(super) const EXP_LOWEST: f32 = -105.0;
/// The same trick in f64: `1.5 * 2^52`.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;

/// `max(a, b)`; NaN when either is NaN.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    let larger = if a > b { a } else { b };
    nan_or(a, b, larger)
}

/// `min(a, b)`; NaN when either is NaN.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    let smaller = if a < b { a } else { b };
    nan_or(a, b, smaller)
}

/// NaN when `a` is, else `value`.
///
/// Not `a` itself: where a loop keeps `a` in memory, as a maximum over rows does, LLVM turns a selection between the
/// old value and a new one into a masked store, which is ten times slower.
#[inline(always)]
fn nan_or(a: f32, b: f32, value: f32) -> f32 {
    let nan = a + b;
    if a.is_nan() { nan } else { value }
}

/// `2^n` for `n` in [-126, 127].
#[inline(always)]
fn exp2_int(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `x = n * ln(2) + r` with `|r| <= ln(2) / 2`; returns `(n, r, (exp(r) - 1 - r) / r^2)`.
#[inline(always)]
fn exp_parts(x: f32) -> (i32, f32, f32) {
    let [hi, lo] = LN_2;
    let t = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    let r = n.mul_add(-lo, n.mul_add(-hi, x));
    let [a, b, c, d, e] = EXP;
    let q = a.mul_add(r, b).mul_add(r, c).mul_add(r, d).mul_add(r, e);
    ((t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32), r, q)
}

/// `exp(x)`: at most 1.5 ULP, subnormal results included. `exp(-inf) = 0`, `exp(inf) = inf`, NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these the result is 0 or inf, and the exponent arithmetic below would wrap.
    let x = if x < EXP_LOWEST { EXP_LOWEST } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (n, r, q) = exp_parts(x);
    let p = (r * r).mul_add(q, r) + 1.0;
    // 2^n in two steps: n reaches 128 and -151, and a subnormal result is rounded once, by the last product.
    let half = n >> 1;
    p * exp2_int(half) * exp2_int(n.wrapping_sub(half))
}

/// `exp(x) - 1`: at most 2 ULP. `expm1(-inf) = -1`, `expm1(inf) = inf`, NaN stays NaN, -0 stays -0.
#[inline(always)]
pub fn expm1(x: f32) -> f32 {
    let c = if x < -20.0 { -20.0 } else { x };
    let c = if c > 89.0 { 89.0 } else { c };
    let (n, r, q) = exp_parts(c);
    let p = (r * r).mul_add(q, r);
    let half = n >> 1;
    let (a, b) = (exp2_int(half), exp2_int(n.wrapping_sub(half)));
    // p * 2^n + (2^n - 1), with the sum taken at 2^half where n may be 128.
    let y = p.mul_add(a, a - exp2_int(half.wrapping_sub(n))) * b;
    if x == 0.0 { x } else { y }
}

/// `1 / (1 + exp(-x))`: at most 3 ULP, subnormal results included. NaN stays NaN.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    // exp(-|x|) never overflows, so the small side keeps its relative accuracy.
    let e = exp(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// `tanh(x)`: at most 3 ULP, exactly odd. NaN stays NaN.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = expm1(-2.0 * x.abs());
    (-e / (e + 2.0)).copysign(x)
}

/// The error function: at most 3 ULP, exactly odd. NaN stays NaN.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = t * t;
    // |x| < 1: x + x * P(x^2).
    let p = 7.924_130_5e-5f32;
    let p = p.mul_add(s, -0.000_803_183_6);
    let p = p.mul_add(s, 0.005_190_844_6);
    let p = p.mul_add(s, -0.026_855_174);
    let p = p.mul_add(s, 0.112_836_19);
    let p = p.mul_add(s, -0.376_126_3);
    let p = p.mul_add(s, 0.128_379_17);
    let small = p.mul_add(t, t);
    // |x| >= 1: 1 - exp(t * Q(t)), where t * Q(t) fits ln(erfc(t)) up to 4; erf is 1 in f32 from 3.92 on.
    let t = if t > 4.0 { 4.0 } else { t };
    let q = -4.427_73e-6f32;
    let q = q.mul_add(t, 3.930_626_2e-5);
    let q = q.mul_add(t, 8.187_069e-5);
    let q = q.mul_add(t, -0.003_020_297_3);
    let q = q.mul_add(t, 0.022_821_698);
    let q = q.mul_add(t, -0.105_404_39);
    let q = q.mul_add(t, -0.635_551_33);
    let q = q.mul_add(t, -1.128_567_9);
    let large = 1.0 - exp(t * q);
    (if t < 1.0 { small } else { large }).copysign(x)
}

/// `x = m * 2^e` with `m` in [sqrt(1/2), sqrt(2)), for finite `x > 0`, subnormals included.
#[inline(always)]
fn mantissa_exponent(x: f32) -> (f32, i32) {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bias = if tiny { 23 } else { 0 };
    // Shifting the bits by sqrt(1/2) makes the exponent field count from sqrt(1/2) instead of from 1.
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = scaled.to_bits().wrapping_sub(SQRT_HALF);
    let e = (bits as i32) >> 23;
    (f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF)), e.wrapping_sub(bias))
}

/// Natural logarithm: at most 1 ULP, subnormal arguments included. `ln(±0) = -inf`, `ln(inf) = inf`, NaN for
/// `x < 0` and NaN.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // ln(2) = HI + LO; HI has 16 bits, so e * HI is exact.
    const HI: f32 = 0.693_145_75;
    const LO: f32 = 1.428_606_8e-6;
    let (m, e) = mantissa_exponent(x);
    let (f, e) = (m - 1.0, e as f32);
    let q = 0.069_151_3f32;
    let q = q.mul_add(f, -0.117_891_1);
    let q = q.mul_add(f, 0.118_726_775);
    let q = q.mul_add(f, -0.123_844_415);
    let q = q.mul_add(f, 0.142_187_15);
    let q = q.mul_add(f, -0.166_692_48);
    let q = q.mul_add(f, 0.200_022_24);
    let q = q.mul_add(f, -0.249_999_87);
    let q = q.mul_add(f, 0.333_333_1);
    let s = f * f;
    let tail = s.mul_add(-0.5, s * f * q);
    let y = e.mul_add(HI, e.mul_add(LO, tail) + f);
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < 0.0 || x.is_nan() { f32::NAN } else { y }
}

/// `ln(1 + x)` for `x >= 0`: at most 2 ULP. NaN stays NaN.
#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    // ln(u) of the rounded sum u, plus what the rounding lost, which the derivative 1/u carries over.
    let u = 1.0 + x;
    let lost = x - (u - 1.0);
    let y = ln(u) + lost / u;
    if x == f32::INFINITY { x } else { y }
}

/// `(quadrant, r)` with `x = quadrant * pi/2 + r`, `|r| <= pi/4`.
///
/// Done in f64 (pi/2 as a sum of two doubles, fused), whose error stays far below an f32 ULP for |x| < 2^30.
#[inline(always)]
fn quarter_turns(x: f32) -> (i32, f32) {
    const HI: f64 = std::f64::consts::FRAC_PI_2;
    const LO: f64 = 6.123_233_995_736_766e-17;
    let x = f64::from(x);
    let t = x.mul_add(std::f64::consts::FRAC_2_PI, ROUND_F64);
    let n = t - ROUND_F64;
    let r = n.mul_add(-LO, n.mul_add(-HI, x));
    (t.to_bits() as i32, r as f32)
}

/// Sine of `quadrant * pi/2 + r`, `|r| <= pi/4`.
#[inline(always)]
fn sin_at(quadrant: i32, r: f32) -> f32 {
    let s = r * r;
    let p = 2.804_357e-6f32.mul_add(s, -0.000_198_502_95);
    let p = p.mul_add(s, 0.008_333_373);
    let p = p.mul_add(s, -0.166_666_67);
    let sin = (p * s).mul_add(r, r);
    let q = 2.443_274_2e-5f32.mul_add(s, -0.001_388_731_2);
    let q = q.mul_add(s, 0.041_666_646);
    let cos = (q * s).mul_add(s, s.mul_add(-0.5, 1.0));
    let y = if quadrant & 1 == 0 { sin } else { cos };
    f32::from_bits(y.to_bits() ^ (((quadrant & 2) as u32) << 30))
}

/// `sin(x)`, `x` in radians: at most 2 ULP for `|x| < 2^30`, odd; NaN for an infinity and NaN. Beyond 2^30
/// neighbouring f32 lie many turns apart and the result is some value in [-1, 1].
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    let (quadrant, r) = quarter_turns(x);
    // A reduced -0 + 0 would lose the sign of -0.
    if x == 0.0 { x } else { sin_at(quadrant, r) }
}

/// `cos(x)`, `x` in radians: as [`sin`].
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    let (quadrant, r) = quarter_turns(x);
    sin_at(quadrant.wrapping_add(1), r)
}

/// `tan(x)`, `x` in radians: at most 4 ULP for `|x| < 2^30`, else as [`sin`].
#[inline(always)]
pub fn tan(x: f32) -> f32 {
    let (quadrant, r) = quarter_turns(x);
    let y = sin_at(quadrant, r) / sin_at(quadrant.wrapping_add(1), r);
    if x == 0.0 { x } else { y }
}

/// `x^y`: at most 1 ULP, with IEEE 754 `pow` special cases: `pow(x, 0) = pow(1, y) = 1` even for NaN, a negative
/// `x` needs an integer `y` (else NaN), `pow(-1, ±inf) = 1`.
///
/// `2^(y * log2(|x|))` in f64, so that the product's rounding error is not multiplied by the exponent.
#[inline(always)]
pub fn pow(x: f32, y: f32) -> f32 {
    let magnitude = exp2_f64(f64::from(y) * log2_f64(x.abs()));
    // y is an integer when rounding leaves it; odd when half of it is not one. Large floats are even integers.
    let integer = y.trunc() == y;
    let odd = integer && (0.5 * y).trunc() != 0.5 * y;
    let negative = x.is_sign_negative();
    let signed = if negative && odd { -magnitude } else { magnitude };
    let valid = !negative || integer || x == 0.0 || x == f32::NEG_INFINITY;
    let result = if valid { signed } else { f32::NAN };
    let unit = x == -1.0 && y.is_infinite();
    if y == 0.0 || x == 1.0 || unit { 1.0 } else { result }
}

/// `log2(x)` for `x >= 0` to a relative error below 2^-38; `-inf` at 0, `inf` at infinity, NaN stays NaN.
#[inline(always)]
fn log2_f64(x: f32) -> f64 {
    let (m, e) = mantissa_exponent(x);
    // ln(m) = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172: eight odd terms of the series.
    let m = f64::from(m);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let p = 1.0f64 / 15.0;
    let p = p.mul_add(z, 1.0 / 13.0);
    let p = p.mul_add(z, 1.0 / 11.0);
    let p = p.mul_add(z, 1.0 / 9.0);
    let p = p.mul_add(z, 1.0 / 7.0);
    let p = p.mul_add(z, 1.0 / 5.0);
    let p = p.mul_add(z, 1.0 / 3.0);
    let p = p.mul_add(z, 1.0);
    let y = (2.0 * std::f64::consts::LOG2_E * s).mul_add(p, f64::from(e));
    let y = if x == 0.0 { f64::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { f64::INFINITY } else { y };
    if x.is_nan() { f64::NAN } else { y }
}

/// `2^t` rounded once to f32; the f64 value has a relative error below 2^-36.
#[inline(always)]
fn exp2_f64(t: f64) -> f32 {
    let c = if t < -160.0 { -160.0 } else { t };
    let c = if c > 140.0 { 140.0 } else { c };
    let shifted = c + ROUND_F64;
    let r = (c - (shifted - ROUND_F64)) * std::f64::consts::LN_2;
    // The exponential series; r is at most 0.3466, so ten terms reach 2^-38.
    let p = 1.0f64 / 362_880.0;
    let p = p.mul_add(r, 1.0 / 40_320.0);
    let p = p.mul_add(r, 1.0 / 5_040.0);
    let p = p.mul_add(r, 1.0 / 720.0);
    let p = p.mul_add(r, 1.0 / 120.0);
    let p = p.mul_add(r, 1.0 / 24.0);
    let p = p.mul_add(r, 1.0 / 6.0);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    let n = (shifted.to_bits() as i64).wrapping_sub(ROUND_F64.to_bits() as i64);
    let scale = f64::from_bits((n.wrapping_add(1023) as u64) << 52);
    (p * scale) as f32
}
