use super::*;

/// Distance in f32 units in the last place between `got` and the exact value `want`; 0 for equal specials.
fn ulps(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if got.to_bits() == rounded.to_bits() || (got.is_nan() && rounded.is_nan()) {
        return 0.0;
    }
    if !got.is_finite() || !rounded.is_finite() {
        return f64::INFINITY;
    }
    let exponent = ((rounded.to_bits() >> 23) & 0xff).max(1) as i32;
    (f64::from(got) - want).abs() / f64::exp2(f64::from(exponent - 150))
}

/// The largest error of `f` over every `step`-th bit pattern that `within` admits, with the input it occurs at.
fn worst(
    step: u32,
    within: impl Fn(f32) -> bool,
    f: impl Fn(f32) -> f32,
    exact: impl Fn(f64) -> f64,
) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut bits = 0u32;
    loop {
        let x = f32::from_bits(bits);
        if within(x) || x.is_nan() {
            let err = ulps(f(x), exact(f64::from(x)));
            if err.is_nan() || err > worst.0 {
                worst = (err, x);
            }
        }
        match bits.checked_add(step) {
            Some(next) => bits = next,
            None => return worst,
        }
    }
}

/// erf in f64: the all-positive series below 3, beyond it 1 - erfc by the continued fraction.
fn erf_exact(x: f64) -> f64 {
    let t = x.abs();
    let y = if x.is_nan() {
        return x;
    } else if t < 3.0 {
        let (mut term, mut sum, mut n) = (t, t, 0.0);
        while term > sum * 1e-18 {
            n += 1.0;
            term *= 2.0 * t * t / (2.0 * n + 1.0);
            sum += term;
        }
        sum * (-t * t).exp() * std::f64::consts::FRAC_2_SQRT_PI
    } else if t > 30.0 {
        1.0
    } else {
        let tail = (1..60).rev().fold(t, |acc, k| t + 0.5 * f64::from(k) / acc);
        1.0 - (-t * t).exp() / (tail * std::f64::consts::PI.sqrt())
    };
    y.copysign(x)
}

fn sigmoid_exact(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

/// (name, stated bound, domain, ours, exact)
type Case = (&'static str, f64, fn(f32) -> bool, fn(f32) -> f32, fn(f64) -> f64);

const CASES: &[Case] = &[
    ("exp", 1.5, |_| true, exp, f64::exp),
    ("expm1", 2.0, |_| true, expm1, f64::exp_m1),
    ("sigmoid", 3.0, |_| true, sigmoid, sigmoid_exact),
    ("tanh", 3.0, |_| true, tanh, f64::tanh),
    ("erf", 3.0, |_| true, erf, erf_exact),
    ("ln", 1.0, |_| true, ln, f64::ln),
    ("ln_1p", 2.0, |x| x >= 0.0 && !x.is_sign_negative(), ln_1p, f64::ln_1p),
    ("sin", 2.0, |x| x.abs() < 1_073_741_824.0 || x.is_infinite(), sin, f64::sin),
    ("cos", 2.0, |x| x.abs() < 1_073_741_824.0 || x.is_infinite(), cos, f64::cos),
    ("tan", 4.0, |x| x.abs() < 1_073_741_824.0 || x.is_infinite(), tan, f64::tan),
];

fn check(step: u32) {
    for &(name, bound, within, f, exact) in CASES {
        let (err, at) = worst(step, within, f, exact);
        println!("{name}: {err:.3} ulp at {at:e} ({:#010x})", at.to_bits());
        assert!(err <= bound, "{name}({at:e}): {err} ulp, bound {bound}, got {:e}", f(at));
    }
}

#[test]
fn errors_stay_within_the_stated_ulps_on_a_dense_sample() {
    check(9973);
}

#[test]
#[ignore = "all 2^32 inputs of ten functions: an hour"]
fn errors_stay_within_the_stated_ulps_on_every_input() {
    check(1);
}

#[test]
fn special_values() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    assert_eq!([exp(-inf), exp(inf), exp(0.0), exp(-0.0)], [0.0, inf, 1.0, 1.0]);
    assert_eq!(exp(-103.0).to_bits(), 1); // the smallest subnormal; half of it and less is 0
    assert_eq!([exp(-104.0), exp(89.0), exp(88.72284)], [0.0, inf, inf]);
    assert_eq!([sigmoid(-inf), sigmoid(inf), sigmoid(-0.0)], [0.0, 1.0, 0.5]);
    assert_eq!([tanh(-inf), tanh(inf), erf(-inf), erf(inf)], [-1.0, 1.0, -1.0, 1.0]);
    assert_eq!([ln(0.0), ln(-0.0), ln(inf), ln(1.0)], [-inf, -inf, inf, 0.0]);
    assert!(ln(-1.0).is_nan() && ln(-inf).is_nan() && sin(inf).is_nan() && cos(-inf).is_nan());
    for f in [tanh, erf, sin, expm1] {
        assert_eq!(f(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(f(0.0).to_bits(), 0);
    }
    for f in [exp, expm1, sigmoid, tanh, erf, ln, ln_1p, sin, cos] {
        assert!(f(nan).is_nan());
    }
    assert!(
        max(nan, 1.0).is_nan() && max(1.0, nan).is_nan() && min(nan, 1.0).is_nan() && min(1.0, nan).is_nan()
    );
}

#[test]
fn odd_functions_are_odd() {
    for bits in (0..0x7f80_0000).step_by(9973) {
        let x = f32::from_bits(bits);
        for f in [tanh, erf] {
            assert_eq!(f(-x).to_bits(), (-f(x)).to_bits(), "{x:e}");
        }
    }
}

#[test]
fn pow_agrees_with_f64_and_ieee_specials() {
    let specials = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 1e-40, 1e30, 16_777_217.0, f32::INFINITY];
    let signed = || specials.into_iter().flat_map(|v| [v, -v]).chain([f32::NAN]);
    for x in signed() {
        for y in signed() {
            let want = f64::from(x).powf(f64::from(y));
            assert!(ulps(pow(x, y), want) <= 1.0, "pow({x}, {y}) = {}, want {want}", pow(x, y));
        }
    }
    let mut state = 1u32;
    let mut worst: f64 = 0.0;
    for _ in 0..400_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let x = f32::from_bits(0x2000_0000 + (state >> 2));
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let y = (state >> 8) as f32 / 65_536.0 - 128.0;
        worst = worst.max(ulps(pow(x, y), f64::from(x).powf(f64::from(y))));
    }
    assert!(worst <= 1.0, "{worst}");
}
