use super::*;
use crate::cpu::activation::Activation;

/// The formula in f64, and the relative error allowed.
fn f64_unary(op: UnaryOp, x: f64) -> (f64, f64) {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    // The series has no use for sums; this is 1 - erfc by numerical integration of the derivative.
    let erf = |x: f64| {
        let (n, t) = (4000, x.clamp(-7.0, 7.0));
        let h = t / f64::from(n);
        let d = |i: f64| (-(i * h) * (i * h)).exp();
        let odd: f64 = (0..n / 2).map(|i| 4.0 * d(f64::from(2 * i + 1))).sum();
        let even: f64 = (1..n / 2).map(|i| 2.0 * d(f64::from(2 * i))).sum();
        (1.0 + odd + even + d(f64::from(n))) * h / 3.0 * std::f64::consts::FRAC_2_SQRT_PI
    };
    let y = match op {
        UnaryOp::Activation(a) => match a {
            Activation::None => x,
            Activation::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Activation::Clip { lo, hi } => x.clamp(lo.into(), hi.into()),
            Activation::LeakyRelu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x
                } else {
                    x
                }
            }
            Activation::HardSigmoid { alpha, beta } => {
                (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0)
            }
            Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::Sigmoid => sigmoid(x),
            Activation::Silu => x * sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
        },
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tan => x.tan(),
        UnaryOp::Asin => x.asin(),
        UnaryOp::Acos => x.acos(),
        UnaryOp::Atan => x.atan(),
        UnaryOp::Sinh => x.sinh(),
        UnaryOp::Cosh => x.cosh(),
        UnaryOp::Asinh => x.asinh(),
        UnaryOp::Acosh => x.acosh(),
        UnaryOp::Atanh => x.atanh(),
        UnaryOp::Erf => erf(x),
        UnaryOp::Sign => {
            if x == 0.0 || x.is_nan() {
                x
            } else {
                x.signum()
            }
        }
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Reciprocal => 1.0 / x,
        UnaryOp::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p() + 0.0 * x,
        UnaryOp::Softsign => x / (1.0 + x.abs()),
        UnaryOp::Shrink { lambd, bias } => {
            let (lambd, bias) = (f64::from(lambd), f64::from(bias));
            let below = if x < -lambd { x + bias } else { 0.0 };
            if x > lambd { x - bias } else { below }
        }
        UnaryOp::Elu { alpha } => {
            if x > 0.0 {
                x
            } else {
                f64::from(alpha) * x.exp_m1()
            }
        }
        UnaryOp::Selu { alpha, gamma } => {
            f64::from(gamma) * if x > 0.0 { x } else { f64::from(alpha) * x.exp_m1() }
        }
        UnaryOp::Celu { alpha } => {
            if x > 0.0 {
                x
            } else {
                f64::from(alpha) * (x / f64::from(alpha)).exp_m1()
            }
        }
        UnaryOp::ThresholdedRelu { alpha } => {
            if x > f64::from(alpha) {
                x
            } else {
                0.0
            }
        }
        UnaryOp::Mish => x * x.exp().ln_1p().tanh(),
    };
    // GELU's 1 + erf cancels for negative x: an absolute error of an ULP of 1, times x.
    let cancels = matches!(op, UnaryOp::Activation(Activation::Gelu | Activation::GeluTanh));
    (y, if cancels { 3e-7 * x.abs() } else { 6e-7 * y.abs() })
}

fn unary_ops() -> Vec<UnaryOp> {
    use Activation as A;
    let activations = [
        A::None,
        A::Relu,
        A::Clip { lo: -1.5, hi: 2.0 },
        A::LeakyRelu { alpha: 0.1 },
        A::HardSigmoid { alpha: 0.2, beta: 0.5 },
        A::HardSwish,
        A::Sigmoid,
        A::Silu,
        A::Tanh,
        A::Gelu,
        A::GeluTanh,
    ];
    let mut ops = vec![
        UnaryOp::Neg,
        UnaryOp::Abs,
        UnaryOp::Sqrt,
        UnaryOp::Exp,
        UnaryOp::Log,
        UnaryOp::Sin,
        UnaryOp::Cos,
        UnaryOp::Tan,
        UnaryOp::Asin,
        UnaryOp::Acos,
        UnaryOp::Atan,
        UnaryOp::Sinh,
        UnaryOp::Cosh,
        UnaryOp::Asinh,
        UnaryOp::Acosh,
        UnaryOp::Atanh,
        UnaryOp::Erf,
        UnaryOp::Sign,
        UnaryOp::Floor,
        UnaryOp::Ceil,
        UnaryOp::Round,
        UnaryOp::Reciprocal,
        UnaryOp::Softplus,
        UnaryOp::Softsign,
        UnaryOp::Mish,
    ];
    ops.extend([
        UnaryOp::Shrink { lambd: 0.5, bias: 0.25 },
        UnaryOp::Elu { alpha: 1.5 },
        UnaryOp::Selu { alpha: 1.67, gamma: 1.05 },
        UnaryOp::Celu { alpha: 0.7 },
        UnaryOp::ThresholdedRelu { alpha: 0.5 },
    ]);
    ops.extend(activations.map(UnaryOp::Activation));
    ops
}

#[test]
fn unary_functions_are_close_to_f64_and_the_same_bits_on_every_variant() {
    let mut x: Vec<f32> = (-400..400).map(|i| i as f32 / 40.0 + 0.003).collect();
    x.extend([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.0, f32::NAN, 1e-4, -1e-4, 30.0, -30.0, 88.0]);
    x.extend(floats(300, 5));
    for op in unary_ops() {
        let mut first: Option<Vec<u32>> = None;
        for v in supported() {
            let mut y = vec![7.0; x.len()];
            unary(v, op, InOut::Apart(&x, &mut y));
            for (x, got) in x[..813].iter().zip(&y) {
                let (want, bound) = f64_unary(op, f64::from(*x));
                let err = (f64::from(*got) - want).abs();
                let same = *got == want as f32 || (got.is_nan() && want.is_nan());
                // The reference of the ops below rounds where f32 does not: its own thresholds and f32 steps.
                let slack = bound + if matches!(op, UnaryOp::Activation(_)) { 3e-7 } else { 1e-44 };
                assert!(same || err <= slack, "{op:?}({x:e}) = {got:e}, want {want:e}");
            }
            let mut in_place = x.clone();
            unary(v, op, InOut::InPlace(&mut in_place));
            let y = bits(&y);
            assert_eq!(y, bits(&in_place), "{op:?} in place");
            assert_eq!(first.get_or_insert(y.clone()), &y, "{op:?}");
        }
    }
}

#[test]
fn unary_lengths_around_the_vector_width_leave_nothing_out() {
    for n in (0..40).chain([1023, 1024, 1025, 2050]) {
        let x = floats(n, n as u32);
        for v in supported() {
            let mut y = vec![9.0; n];
            unary(v, UnaryOp::Neg, InOut::Apart(&x, &mut y));
            assert_eq!(bits(&y), bits(&x.iter().map(|x| -x).collect::<Vec<_>>()));
        }
    }
}

#[test]
fn tests_and_not_answer_zero_or_one() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
    let mut y = [9u8; 4];
    test(FloatTest::IsNan, &x, &mut y);
    assert_eq!(y, [1, 0, 0, 0]);
    test(FloatTest::IsInf { positive: true, negative: false }, &x, &mut y);
    assert_eq!(y, [0, 1, 0, 0]);
    test(FloatTest::IsInf { positive: true, negative: true }, &x, &mut y);
    assert_eq!(y, [0, 1, 1, 0]);
    y[0] = 200;
    not(InOut::InPlace(&mut y));
    assert_eq!(y, [0, 0, 0, 1]);
}
