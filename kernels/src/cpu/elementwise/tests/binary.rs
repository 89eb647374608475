use super::*;
use crate::cpu::shape::ShapeError;

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
    // Short rows that repeat, more than are written out at once.
    (&[90, 8], &[8], &[90, 8]),
    (&[7], &[100, 7], &[100, 7]),
    (&[3, 30, 64], &[64], &[3, 30, 64]),
    (&[9, 65], &[65], &[9, 65]),
    (&[2, 40, 5], &[2, 1, 5], &[2, 40, 5]),
    (&[0], &[1], &[0]),
    (&[3, 0], &[1, 1], &[3, 0]),
    (&[1, 3], &[0, 1], &[0, 3]),
];

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
    bitwise(BitwiseOp::ShiftLeft, &shape, &[1u8, 3, 255, 1], &[7, 1, 8, 200], &mut out);
    assert_eq!(out, [128, 6, 0, 0]);
    bitwise(BitwiseOp::ShiftRight, &shape, &[128u8, 3, 255, 1], &[7, 1, 8, 200], &mut out);
    assert_eq!(out, [1, 1, 0, 0]);
    bitwise(BitwiseOp::Xor, &shape, &[1u8, 3, 255, 1], &[7, 1, 8, 1], &mut out);
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

#[test]
#[should_panic(expected = "length of operand 1")]
fn a_short_operand_is_refused() {
    let shape = Broadcast::new([&[4], &[4]]).unwrap();
    let v: Variant = supported().next().unwrap();
    binary(v, BinaryOp::Add, &shape, &[0.0; 4], &[0.0; 3], &mut [0.0; 4]);
}
