//! Integers that stay what they are: weights know them, and values know their codes.

use super::*;
use crate::integers::Integers;
use edge_runtime::graph::{Source, UnaryOp};

const UINT8: i32 = 2;
const INT8: i32 = 3;
const UINT4: i32 = 21;

fn bytes(name: &str, data_type: i32, dims: &[i64], values: &[i32]) -> TensorProto {
    let (name, dims, int32_data) = (name.to_owned(), dims.to_vec(), values.to_vec());
    TensorProto { name, dims, int32_data, data_type, ..TensorProto::default() }
}

fn counted(n: i32) -> Vec<i32> {
    (0..n).map(|i| i * 7 % 200 - 100).collect()
}

/// The integers of a node's weight.
#[track_caller]
fn weight(m: &Model, n: &Node) -> Integers {
    let Source::Constant(id) = m.graph.values[operand(n, 1) as usize].source else { panic!("{n:?}") };
    let integers = m.integers.get(&id).unwrap_or_else(|| panic!("no integers in\n{}", m.to_text()));
    assert_eq!(floats(m, operand(n, 1)), integers.reals());
    integers.as_ref().clone()
}

fn linear(m: &Model) -> Node {
    find(m, |op| matches!(op, Op::Linear { .. }))
}

fn fakes(m: &Model) -> usize {
    let m = crate::simplify::simplify(m.clone(), &crate::simplify::Options::default());
    let mut count = 0;
    m.graph
        .body
        .for_each(&mut |n| count += usize::from(matches!(n.op, Op::Unary(UnaryOp::FakeQuant { .. }))));
    count
}

#[test]
fn pairs_of_quantize_and_dequantize_are_one_rounding() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[S("n"), N(4)]))],
        &[
            f32s("s", &[], &[0.5]),
            bytes("z", UINT8, &[], &[3]),
            bytes("w", INT8, &[4, 40], &counted(160)),
            f32s("sw", &[40], &[0.25; 40]),
        ],
        &[
            node("QuantizeLinear", "x s z", "q", &[]),
            node("DequantizeLinear", "q s z", "r", &[]),
            node("DequantizeLinear", "w sw", "v", &[int("axis", 1)]),
            node("MatMul", "r v", "m", &[]),
            node("QuantizeLinear", "m s z", "p", &[]),
            node("DequantizeLinear", "p s z", "y", &[]),
        ],
        "y",
    ));
    let n = linear(&m);
    let made = find(&m, |op| matches!(op, Op::Unary(UnaryOp::FakeQuant { .. })));
    assert_eq!(made.op, Op::Unary(UnaryOp::FakeQuant { scale: 0.5, zero_point: -125 }));
    assert_eq!(made.outputs[0], Some(operand(&n, 0)));
    let w = weight(&m, &n);
    assert_eq!((&w.dims[..], &w.blocks[..], w.scales.len()), (&[40, 4][..], &[1, 4][..], 40));
    // The integers themselves are for nobody here.
    assert_eq!(fakes(&m), 2);
}

#[test]
fn casts_and_products_of_stored_integers_are_weights() {
    let m = import(&model(
        17,
        &[port("x", FLOAT, Some(&[S("n"), N(10)]))],
        &[
            bytes("w", UINT8, &[10, 30], &(0..300).map(|i| i % 256).collect::<Vec<i32>>()),
            f32s("z", &[], &[128.0]),
            f32s("s", &[1, 30], &[0.125; 30]),
        ],
        &[
            node("Cast", "w", "c", &[int("to", 1)]),
            node("Sub", "c z", "d", &[]),
            node("Mul", "s d", "v", &[]),
            node("MatMul", "x v", "y", &[]),
        ],
        "y",
    ));
    let w = weight(&m, &linear(&m)).without_zeros();
    assert_eq!((w.bits, w.zeros.len(), w.codes[0], w.codes[1]), (8, 0, -128, -98));
}

#[test]
fn blocks_of_four_bits_keep_their_zero_points() {
    let packed: Vec<i32> = (0..16 * 16 / 2).map(|i| i * 13 % 256).collect();
    let m = import(&model(
        21,
        &[port("x", FLOAT, Some(&[S("n"), N(16)]))],
        &[
            bytes("w", UINT4, &[16, 16], &packed),
            f32s("s", &[2, 16], &(1..33).map(|i| i as f32 * 0.01).collect::<Vec<f32>>()),
            bytes("z", UINT4, &[2, 16], &[0x79; 16]),
        ],
        &[
            node("DequantizeLinear", "w s z", "v", &[int("axis", 0), int("block_size", 8)]),
            node("MatMul", "x v", "y", &[]),
        ],
        "y",
    ));
    let w = weight(&m, &linear(&m));
    assert_eq!((w.bits, &w.blocks[..], w.scales.len()), (4, &[1, 8][..], 32));
    assert!(w.zeros.iter().all(|z| matches!(z, 1 | -1)), "{:?}", w.zeros);
}

#[test]
fn integer_products_take_signed_codes_whatever_the_zero_point() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[S("n"), N(6)]))],
        &[bytes("w", INT8, &[6, 30], &counted(180))],
        &[
            node("DynamicQuantizeLinear", "x", "q s z", &[]),
            node("MatMulInteger", "q w z", "i", &[]),
            node("Cast", "i", "f", &[int("to", 1)]),
            node("Mul", "f s", "y", &[]),
        ],
        "y",
    ));
    let n = linear(&m);
    let made = find(&m, |op| matches!(op, Op::Unary(UnaryOp::FakeQuant { .. })));
    assert_eq!(made.op, Op::Unary(UnaryOp::FakeQuant { scale: 1.0, zero_point: 0 }));
    assert_eq!(made.outputs[0], Some(operand(&n, 0)));
    assert_eq!(weight(&m, &n).scales, [1.0]);
    // Neither the operand nor the result becomes integers and comes back.
    let m = crate::simplify::simplify(m, &crate::simplify::Options::default());
    assert!(!ops(&m).contains(&"Cast".to_owned()), "{}", m.to_text());
}

#[test]
fn quantised_training_exports_weights_as_integers_too() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[S("n"), N(3)]))],
        &[
            f32s("w", &[3, 2], &[0.5, -0.26, 1.0, 0.1, -9.0, 0.0]),
            f32s("s", &[], &[0.25]),
            bytes("z", INT8, &[], &[0]),
        ],
        &[
            node("QuantizeLinear", "w s z", "q", &[]),
            node("DequantizeLinear", "q s z", "v", &[]),
            node("MatMul", "x v", "y", &[]),
        ],
        "y",
    ));
    let w = weight(&m, &linear(&m));
    assert_eq!((w.codes, w.scales), (vec![2, 4, -36, -1, 0, 0], vec![0.25]));
}
