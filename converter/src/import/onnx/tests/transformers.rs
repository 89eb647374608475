//! Attention and its relatives: what they are made of. That the numbers are right, `tests/conformance` sees to.

use super::*;
use crate::simplify;

/// A model of one node of `com.microsoft`.
fn microsoft(input: &[ValueInfoProto], initializer: &[TensorProto], mut op: NodeProto) -> ModelProto {
    op.domain = "com.microsoft".into();
    let outputs = op.output[0].clone();
    let mut m = model(21, input, initializer, &[op], &outputs);
    m.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 });
    m
}

fn simplified(m: &ModelProto) -> Model {
    simplify::simplify_with_report(import(m), &simplify::Options::default()).0
}

/// q, k and v with free batch and lengths.
fn qkv(heads: i64, kv_heads: i64) -> Vec<ValueInfoProto> {
    let one = |name, heads, rows| port(name, FLOAT, Some(&[S("b"), N(heads), S(rows), N(16)]));
    vec![one("q", heads, "s"), one("k", kv_heads, "t"), one("v", kv_heads, "t")]
}

#[test]
fn plain_attention_becomes_one_operation_whatever_the_mask() {
    let causal = [int("is_causal", 1)];
    let mask = port("mask", FLOAT, Some(&[S("b"), N(1), S("s"), S("t")]));
    for (attributes, operands, masked) in
        [(&[][..], "q k v", false), (&causal, "q k v", true), (&causal, "q k v mask", true)]
    {
        for kv_heads in [1, 2, 4] {
            let mut input = qkv(4, kv_heads);
            if operands.contains("mask") {
                input.push(mask.clone());
            }
            let m = simplified(&model(23, &input, &[], &[node("Attention", operands, "y", attributes)], "y"));
            let n = find(&m, |op| matches!(op, Op::Attention { .. }));
            let Op::Attention { scale, k_transposed: false } = n.op else { panic!("{n:?}") };
            assert_eq!((scale, n.inputs.len()), (0.25, 3 + usize::from(masked)));
            assert!(
                !ops(&m).iter().any(|op| matches!(op.as_str(), "Softmax" | "MatMul" | "Expand" | "Tile"))
            );
        }
    }
}

#[test]
fn scores_that_are_capped_or_asked_for_stay_products() {
    let capped = node("Attention", "q k v", "y", &[float("softcap", 2.0)]);
    let asked = node("Attention", "q k v", "y - - p", &[]);
    for (op, outputs) in [(capped, "y"), (asked, "y p")] {
        let m = simplified(&model(23, &qkv(2, 2), &[], &[op], outputs));
        assert_eq!(ops(&m).iter().filter(|op| *op == "MatMul").count(), 2, "{}", m.to_text());
    }
}

#[test]
fn the_same_name_in_another_domain_is_another_operator() {
    let x = [port("x", FLOAT, Some(&[N(1), N(2), N(8)]))];
    // ONNX's takes three operands, Microsoft's an operand and weights.
    let list = refusals(&model(23, &x, &[], &[node("Attention", "x x", "y", &[int("num_heads", 2)])], "y"));
    assert!(list[0].reason.contains("num_heads=2"), "{list:?}");
    let w = f32s("w", &[8, 24], &[0.5; 192]);
    let m = import(&microsoft(&x, &[w], node("Attention", "x w", "y", &[int("num_heads", 2)])));
    // The three projections are one product.
    assert_eq!(ops(&m).iter().filter(|op| *op == "Linear").count(), 1);
    let list = refusals(&model(23, &x, &[], &[node("QuickGelu", "x", "y", &[])], "y"));
    assert_eq!((list[0].domain.as_str(), list[0].reason.as_str()), ("", "operator not implemented"));
    let list = refusals(&microsoft(&x, &[], node("Relu", "x", "y", &[])));
    assert_eq!(
        (list[0].domain.as_str(), list[0].reason.as_str()),
        ("com.microsoft", "operator not implemented")
    );
}

#[test]
fn a_stored_operand_of_a_fused_product_is_a_weight() {
    let x = [port("x", FLOAT, Some(&[S("b"), N(2), N(3)]))];
    let w = f32s("w", &[2, 3], &[1., 2., 3., 4., 5., 6.]);
    let m = import(&microsoft(
        &x,
        &[w],
        node("FusedMatMul", "x w", "y", &[float("alpha", 0.5), int("transB", 1)]),
    ));
    let n = find(&m, |op| matches!(op, Op::Linear { out_features: 2, .. }));
    assert_eq!(floats(&m, operand(&n, 1)), [0.5, 1., 1.5, 2., 2.5, 3.]);
    assert_eq!(ops(&m), ["Linear"]);
}

#[test]
fn linear_attention_needs_a_length_that_it_can_be_written_out_for() {
    let attributes = [int("q_num_heads", 1), int("kv_num_heads", 1), string("update_rule", "linear")];
    let of = |t: D| {
        let x = [port("x", FLOAT, Some(&[N(1), t, N(4)]))];
        model(27, &x, &[], &[node("LinearAttention", "x x x", "y s", &attributes)], "y s")
    };
    assert_eq!(ops(&import(&of(N(3)))).iter().filter(|op| *op == "MatMul").count(), 6);
    assert!(refusals(&of(N(129)))[0].reason.contains("129 positions"));
    assert!(refusals(&of(S("t")))[0].reason.contains("number of positions"));
}

#[test]
fn contradictions_are_told() {
    let heads = |q: i64, kv: i64| [int("q_num_heads", q), int("kv_num_heads", kv)];
    let x = [port("x", FLOAT, Some(&[N(1), N(2), N(12)]))];
    for (op, says) in [
        (node("Attention", "x x x", "y", &[]), "q_num_heads"),
        (node("Attention", "x x x", "y", &heads(5, 5)), "12 columns in 5 heads"),
        (node("Attention", "x x x", "y", &heads(2, 3)), "2 heads of q share 3"),
        (node("Attention", "x x x", "y", &heads(0, 1)), "q_num_heads 0"),
        (node("Attention", "x x x - x", "y", &heads(2, 2)), "come together"),
        (node("RotaryEmbedding", "x x x", "y", &[]), "num_heads"),
        (node("RotaryEmbedding", "x x x", "y", &[int("num_heads", 4)]), "3 elements to turn"),
        (node("RotaryEmbedding", "x n n", "y", &[int("num_heads", 2)]), "fewer than 2"),
        (node("TensorScatter", "x x", "y", &[int("axis", 0)]), "batch"),
        (node("LinearAttention", "x x x", "y s", &heads(2, 2)), "decay"),
        (node("CausalConvWithState", "x x", "y s", &[]), "weight"),
    ] {
        let name = op.op_type.clone();
        match try_import(&model(27, &x, &[f32s("n", &[], &[1.])], &[op], "y")) {
            Err(ImportError::Node { op, reason, .. }) => {
                assert_eq!(op, name);
                assert!(reason.contains(says), "{name}: {reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
