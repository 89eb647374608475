use super::*;
use crate::cpu::activation::Activation;
use crate::cpu::loops::{Variant, supported};
use crate::cpu::shape::ShapeError;

const SPECIAL: [f32; 10] =
    [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, 3e38, -3e38, 1.0];

/// Seeded numbers over a few magnitudes, with special values between.
fn floats(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = (state >> 8) as f32 / 1_048_576.0 - 8.0;
            if i % 7 == 3 { SPECIAL[(state >> 16) as usize % SPECIAL.len()] } else { x }
        })
        .collect()
}

/// Bits, with every NaN alike.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }).collect()
}

/// Index of result element `i` in an operand of `shape` that broadcasts to `out`.
fn source(i: usize, out: &[usize], shape: &[usize]) -> usize {
    let (mut rest, mut at, mut stride) = (i, 0, 1);
    for axis in 0..out.len() {
        let position = rest % out[out.len() - 1 - axis];
        rest /= out[out.len() - 1 - axis];
        if let Some(dim) = shape.len().checked_sub(axis + 1).map(|a| shape[a]) {
            at += if dim == 1 { 0 } else { position * stride };
            stride *= dim;
        }
    }
    at
}

const SHAPES: &[(&[usize], &[usize], &[usize])] = &[
    (&[], &[], &[]),
    (&[5], &[5], &[5]),
    (&[37], &[], &[37]),
    (&[], &[37], &[37]),
    (&[3, 19], &[19], &[3, 19]),
    (&[19], &[3, 19], &[3, 19]),
    (&[3, 19], &[3, 1], &[3, 19]),
    (&[3, 1], &[3, 19], &[3, 19]),
    (&[4, 1], &[1, 5], &[4, 5]),
    (&[2, 3, 4, 5], &[3, 1, 5], &[2, 3, 4, 5]),
    (&[2, 1, 4, 1, 6], &[3, 1, 5, 1], &[2, 3, 4, 5, 6]),
    (&[2, 300], &[2, 300], &[2, 300]),
    (&[2, 600], &[600], &[2, 600]),
    (&[0], &[1], &[0]),
    (&[3, 0], &[1, 1], &[3, 0]),
    (&[1, 3], &[0, 1], &[0, 3]),
];

fn len(shape: &[usize]) -> usize {
    shape.iter().product()
}

#[test]
fn broadcast_addresses_every_element_like_the_naive_rule() {
    for &(a, b, out) in SHAPES {
        let shape = Broadcast::new([a, b]).unwrap();
        assert_eq!(shape.len(), len(out), "{a:?} {b:?}");
        let x: Vec<i32> = (0..len(a) as i32).collect();
        let y: Vec<i32> = (0..len(b) as i32).map(|i| i * 1000).collect();
        let want: Vec<i32> = (0..len(out)).map(|i| x[source(i, out, a)] - y[source(i, out, b)]).collect();
        for v in supported() {
            let mut got = vec![-1; len(out)];
            binary(v, BinaryOp::Sub, &shape, &x, &y, &mut got);
            assert_eq!(got, want, "{a:?} {b:?}");
            for (side, own, other) in [(Side::Lhs, &x, &y), (Side::Rhs, &y, &x)] {
                if own.len() == want.len() {
                    let mut inout = own.clone();
                    binary_in_place(v, BinaryOp::Sub, &shape, side, &mut inout, other);
                    assert_eq!(inout, want, "{a:?} {b:?} {side:?}");
                }
            }
            // Cut in two along the outermost dimension.
            let mut parts = vec![-1; len(out)];
            let middle = shape.outer() / 2;
            for (start, end) in [(0, middle), (middle, shape.outer())] {
                let (part, [ia, ib], io) = shape.part(start, end);
                let (x, y) = (&x[ia..][..part.operand_len(0)], &y[ib..][..part.operand_len(1)]);
                binary(v, BinaryOp::Sub, &part, x, y, &mut parts[io..][..part.len()]);
            }
            assert_eq!(parts, want, "parts of {a:?} {b:?}");
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_the_place() {
    let e = Broadcast::new([&[2, 3], &[4, 3]]).unwrap_err();
    assert_eq!(e, ShapeError::NotBroadcastable { axis_from_end: 1, have: 2, other: 4 });
    let alternating: Vec<usize> = (0..20).map(|i| 1 + i % 2).collect();
    let shifted: Vec<usize> = (0..20).map(|i| 2 - i % 2).collect();
    let e = Broadcast::new([&alternating, &shifted]).unwrap_err();
    assert_eq!(e, ShapeError::TooManyDims { dims: 20 });
    assert_eq!(Broadcast::new([&[usize::MAX, 3]]).unwrap_err(), ShapeError::TooLarge);
    assert!(Broadcast::new([&[2; 20][..], &[2; 20][..]]).is_ok());
}

fn f64_binary(op: BinaryOp, a: f32, b: f32) -> f32 {
    let nan = a.is_nan() || b.is_nan();
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Pow => f64::from(a).powf(f64::from(b)) as f32,
        BinaryOp::Max => {
            if nan {
                f32::NAN
            } else {
                a.max(b)
            }
        }
        BinaryOp::Min => {
            if nan {
                f32::NAN
            } else {
                a.min(b)
            }
        }
        BinaryOp::TruncMod => a % b,
        BinaryOp::FloorMod => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
        BinaryOp::PRelu => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
    }
}

const BINARY: [BinaryOp; 10] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Pow,
    BinaryOp::Max,
    BinaryOp::Min,
    BinaryOp::FloorMod,
    BinaryOp::TruncMod,
    BinaryOp::PRelu,
];

#[test]
fn float_arithmetic_is_the_formula_and_the_same_bits_on_every_variant() {
    let (a, b) = (floats(533, 1), floats(533, 2));
    let shape = Broadcast::new([&[533], &[533]]).unwrap();
    for op in BINARY {
        let mut first: Option<Vec<u32>> = None;
        for v in supported() {
            let mut got = vec![0.0; 533];
            binary(v, op, &shape, &a, &b, &mut got);
            for ((got, a), b) in got.iter().zip(&a).zip(&b) {
                let want = f64_binary(op, *a, *b);
                let near = got == &want || (got.is_nan() && want.is_nan());
                let close = op == BinaryOp::Pow && (got - want).abs() <= want.abs() * 1.2e-7 + 1e-45;
                assert!(near || close, "{op:?}({a:e}, {b:e}) = {got:e}, want {want:e}");
            }
            let got = bits(&got);
            assert_eq!(first.get_or_insert(got.clone()), &got, "{op:?}");
        }
    }
}

#[test]
fn integer_arithmetic_never_panics() {
    let values = [i32::MIN, i32::MIN + 1, -7, -2, -1, 0, 1, 2, 3, 7, i32::MAX];
    let a: Vec<i32> = values.iter().flat_map(|a| [*a; 11]).collect();
    let b: Vec<i32> = values.iter().cycle().take(121).copied().collect();
    let shape = Broadcast::new([&[121], &[121]]).unwrap();
    let v = supported().next().unwrap();
    let run = |op| {
        let mut out = vec![0; 121];
        binary(v, op, &shape, &a, &b, &mut out);
        out
    };
    let all: Vec<(BinaryOp, Vec<i32>)> = BINARY.into_iter().map(|op| (op, run(op))).collect();
    for (op, out) in all {
        for ((a, b), got) in a.iter().zip(&b).zip(out) {
            let (x, y) = (i64::from(*a), i64::from(*b));
            let want = match op {
                BinaryOp::Add => x + y,
                BinaryOp::Sub => x - y,
                BinaryOp::Mul => x * y,
                BinaryOp::Div => x.checked_div(y).unwrap_or(0),
                BinaryOp::TruncMod => x.checked_rem(y).unwrap_or(0),
                BinaryOp::FloorMod if y == 0 => 0,
                BinaryOp::FloorMod => x - y * (x as f64 / y as f64).floor() as i64,
                BinaryOp::Max => Ord::max(x, y),
                BinaryOp::Min => Ord::min(x, y),
                BinaryOp::PRelu => {
                    if x < 0 {
                        x * y
                    } else {
                        x
                    }
                }
                BinaryOp::Pow if y < 0 && x.abs() != 1 => 0,
                BinaryOp::Pow if y < 0 => {
                    if y % 2 == 0 {
                        1
                    } else {
                        x
                    }
                }
                BinaryOp::Pow => i64::from(a.wrapping_pow(*b as u32)),
            };
            assert_eq!(got, want as i32, "{op:?}({a}, {b})");
        }
    }
}

#[test]
fn small_integers_compare_shift_and_combine() {
    let shape = Broadcast::new([&[4], &[4]]).unwrap();
    let v = supported().next().unwrap();
    let mut out = [9u8; 4];
    bitwise(v, BitwiseOp::ShiftLeft, &shape, &[1u8, 3, 255, 1], &[7, 1, 8, 200], &mut out);
    assert_eq!(out, [128, 6, 0, 0]);
    bitwise(v, BitwiseOp::ShiftRight, &shape, &[128u8, 3, 255, 1], &[7, 1, 8, 200], &mut out);
    assert_eq!(out, [1, 1, 0, 0]);
    bitwise(v, BitwiseOp::Xor, &shape, &[1u8, 3, 255, 1], &[7, 1, 8, 1], &mut out);
    assert_eq!(out, [6, 2, 247, 0]);
    for (op, want) in
        [(LogicalOp::And, [0, 0, 0, 1]), (LogicalOp::Or, [0, 1, 1, 1]), (LogicalOp::Xor, [0, 1, 1, 0])]
    {
        logical(v, op, &shape, &[0, 0, 2, 3], &[0, 5, 0, 4], &mut out);
        assert_eq!(out, want, "{op:?}");
    }
    let (a, b) = ([1.0, f32::NAN, 2.0, -0.0], [2.0, f32::NAN, 1.0, 0.0]);
    let wants = [
        (CompareOp::Equal, [0, 0, 0, 1]),
        (CompareOp::NotEqual, [1, 1, 1, 0]),
        (CompareOp::Less, [1, 0, 0, 0]),
        (CompareOp::LessOrEqual, [1, 0, 0, 1]),
        (CompareOp::Greater, [0, 0, 1, 0]),
        (CompareOp::GreaterOrEqual, [0, 0, 1, 1]),
    ];
    for (op, want) in wants {
        for v in supported() {
            compare(v, op, &shape, &a, &b, &mut out);
            assert_eq!(out, want, "{op:?}");
        }
    }
    let mut i = [i8::MIN, -3, 0, 5];
    unary_int(IntUnaryOp::Abs, InOut::InPlace(&mut i));
    assert_eq!(i, [i8::MIN, 3, 0, 5]);
    let mut signs = [0i64; 3];
    unary_int(IntUnaryOp::Sign, InOut::Apart(&[-9, 0, 9], &mut signs));
    assert_eq!(signs, [-1, 0, 1]);
    unary_int(IntUnaryOp::Neg, InOut::InPlace(&mut signs));
    assert_eq!(signs, [1, 0, -1]);
    unary_int(IntUnaryOp::BitNot, InOut::InPlace(&mut signs));
    assert_eq!(signs, [-2, -1, 0]);
}

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

#[test]
fn select_broadcasts_all_three() {
    let shapes: &[([&[usize]; 3], &[usize])] = &[
        ([&[7], &[7], &[7]], &[7]),
        ([&[1], &[3, 2], &[2]], &[3, 2]),
        ([&[3, 1], &[3, 4], &[4]], &[3, 4]),
        ([&[3, 4], &[1], &[3, 1]], &[3, 4]),
        ([&[4], &[3, 4], &[]], &[3, 4]),
        ([&[2, 1, 3], &[4, 1], &[1, 1, 3]], &[2, 4, 3]),
        ([&[0], &[1], &[1]], &[0]),
    ];
    for &([c, a, b], out) in shapes {
        let shape = Broadcast::new([c, a, b]).unwrap();
        let cond: Vec<u8> = (0..len(c)).map(|i| (i % 3) as u8).collect();
        let x: Vec<u64> = (0..len(a) as u64).collect();
        let y: Vec<u64> = (100..100 + len(b) as u64).collect();
        let mut got = vec![0; len(out)];
        select(&shape, &cond, &x, &y, &mut got);
        for (i, got) in got.iter().enumerate() {
            let pick = cond[source(i, out, c)] != 0;
            let want = if pick { x[source(i, out, a)] } else { y[source(i, out, b)] };
            assert_eq!(*got, want, "{c:?} {a:?} {b:?} at {i}");
        }
    }
}

#[test]
fn casts_saturate_round_and_wrap_as_stated() {
    let x = [1.9f32, -1.9, 300.0, -300.0, f32::NAN, f32::INFINITY, 3e9, 0.0];
    let mut i8s = [0i8; 8];
    cast(Elements::F32(&x), ElementsMut::I8(&mut i8s));
    assert_eq!(i8s, [1, -1, 127, -128, 0, 127, 127, 0]);
    let mut u8s = [0u8; 8];
    cast(Elements::F32(&x), ElementsMut::U8(&mut u8s));
    assert_eq!(u8s, [1, 0, 255, 0, 0, 255, 255, 0]);
    let mut i32s = [0i32; 8];
    cast(Elements::F32(&x), ElementsMut::I32(&mut i32s));
    assert_eq!(i32s, [1, -1, 300, -300, 0, i32::MAX, i32::MAX, 0]);
    cast(Elements::F32(&x), ElementsMut::Bool(&mut u8s));
    assert_eq!(u8s, [1, 1, 1, 1, 1, 1, 1, 0]);
    cast(Elements::I32(&[-1, 256, 257, -129, 0, 1, 2, 3]), ElementsMut::I8(&mut i8s));
    assert_eq!(i8s, [-1, 0, 1, 127, 0, 1, 2, 3]);

    let mut halves = [0u16; 8];
    cast(Elements::F32(&x), ElementsMut::F16(&mut halves));
    assert_eq!([halves[0], halves[2], halves[5], halves[6]], [0x3f9a, 0x5cb0, 0x7c00, 0x7c00]);
    let mut back = [0f32; 8];
    cast(Elements::F16(&halves), ElementsMut::F32(&mut back));
    assert_eq!([back[0], back[2]], [1.900_390_6, 300.0]);
    cast(Elements::F32(&x), ElementsMut::Bf16(&mut halves));
    cast(Elements::Bf16(&halves), ElementsMut::F32(&mut back));
    assert_eq!([back[0], back[2]], [1.898_437_5, 300.0]);

    // An integer just above the middle of two bf16 values by less than f64 can see: one rounding, upwards.
    let middle = (1i64 << 62) + (1 << 54) + 1;
    let mut b = [0u16; 1];
    cast(Elements::I64(&[middle]), ElementsMut::Bf16(&mut b));
    assert_eq!(half::bf16::from_bits(b[0]).to_f64(), (1i64 << 62) as f64 * (1.0 + 1.0 / 128.0));
    // The same from f64, at f16's smallest steps, and at its largest number.
    let tiny = f64::exp2(-25.0);
    let x = [
        tiny * (1.0 + f64::EPSILON),
        tiny,
        -tiny * 3.0,
        65_519.999_999_999,
        65_520.0,
        1e300,
        f64::MIN_POSITIVE,
    ];
    let mut h = [0u16; 7];
    cast(Elements::F64(&x), ElementsMut::F16(&mut h));
    assert_eq!(h, [1, 0, 0x8002, 0x7bff, 0x7c00, 0x7c00, 0]);
    let mut f = [0f32; 1];
    cast(Elements::I64(&[(1 << 53) + (1 << 29) + 1]), ElementsMut::F32(&mut f));
    assert_eq!(f[0], ((1i64 << 53) + (1 << 30)) as f32);
}

#[test]
fn every_pair_of_types_casts_small_numbers_exactly() {
    let n = 130;
    let source: Vec<f32> = (0..n).map(|i| (i % 100) as f32).collect();
    let (mut f64s, mut f32s, mut h, mut b) = (vec![0f64; n], vec![0f32; n], vec![0u16; n], vec![0u16; n]);
    let (mut i64s, mut i32s, mut i16s, mut i8s) = (vec![0i64; n], vec![0i32; n], vec![0i16; n], vec![0i8; n]);
    let (mut u32s, mut u16s, mut u8s) = (vec![0u32; n], vec![0u16; n], vec![0u8; n]);
    cast(Elements::F32(&source), ElementsMut::F64(&mut f64s));
    cast(Elements::F64(&f64s), ElementsMut::F16(&mut h));
    cast(Elements::F16(&h), ElementsMut::I64(&mut i64s));
    cast(Elements::I64(&i64s), ElementsMut::Bf16(&mut b));
    cast(Elements::Bf16(&b), ElementsMut::I16(&mut i16s));
    cast(Elements::I16(&i16s), ElementsMut::U32(&mut u32s));
    cast(Elements::U32(&u32s), ElementsMut::U16(&mut u16s));
    cast(Elements::U16(&u16s), ElementsMut::I8(&mut i8s));
    cast(Elements::I8(&i8s), ElementsMut::U8(&mut u8s));
    cast(Elements::U8(&u8s), ElementsMut::I32(&mut i32s));
    cast(Elements::I32(&i32s), ElementsMut::F32(&mut f32s));
    assert_eq!(f32s, source);
    let mut bools = vec![0u8; n];
    cast(Elements::I16(&i16s), ElementsMut::Bool(&mut bools));
    cast(Elements::Bool(&bools), ElementsMut::F32(&mut f32s));
    assert!(f32s.iter().zip(&source).all(|(got, x)| *got == f32::from(u8::from(*x != 0.0))));
}

#[test]
#[should_panic(expected = "length of operand 1")]
fn a_short_operand_is_refused() {
    let shape = Broadcast::new([&[4], &[4]]).unwrap();
    let v: Variant = supported().next().unwrap();
    binary(v, BinaryOp::Add, &shape, &[0.0; 4], &[0.0; 3], &mut [0.0; 4]);
}
