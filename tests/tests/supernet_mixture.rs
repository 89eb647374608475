//! A mixture of supernets: weights that a router mixes of several experts, knowing the choices (Jawahar et al. 2024). Each subnet of the pack is
//! the network that somebody would have exported with its router in it, which computes the weights from a description of the choices.

use edge_runtime::random::uniform;
use edge_tests::family::Family;
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::{Free, N};
use edge_tests::{Folder, edge_convert};

const FEATURES: usize = 16;
const WIDTHS: [usize; 3] = [8, 16, 32];
const WIDEST: usize = WIDTHS[2];
const HIDDEN: usize = 6;
/// Experts of a block's first layer, whose router gives each row weights of its own, and of its second, whose router gives one an expert.
const EXPERTS: [usize; 2] = [2, 3];

const CHOICES: &str = r#"
[[choice]]
name = "depth"
options = [1, 2]
[[choice]]
name = "one.width"
options = [8, 16, 32]
[[choice]]
name = "two.width"
options = [8, 16, 32]
[[skip]]
choice = "depth"
options = [1]
from = "one.out"
to = "two.out"
"#;

/// What the description says of one block.
fn block(name: &str) -> String {
    let features = r#"[
    { of = ["depth"], values = [[0.5, 1.0]] },
    { of = ["one.width", "two.width"], values = [[0.25, 0.5, 1.0], [0.25, 0.5, 1.0]], first = "depth", counts = [1, 2] },
]"#;
    format!(
        r#"
[[mixture]]
of = ["{name}.up:1", "{name}.up_bias:0"]
experts = ["", "e1/"]
features = {features}
layers = [
    {{ weight = "{name}.rows.0", bias = "{name}.rows.0.bias", relu = true }},
    {{ weight = "{name}.rows.1" }},
]
[[mixture]]
of = ["{name}.down:1"]
experts = ["", "e1/", "e2/"]
features = {features}
layers = [
    {{ weight = "{name}.whole.0", relu = true }},
    {{ weight = "{name}.whole.1", bias = "{name}.whole.1.bias" }},
]
[[cut]]
choice = "{name}.width"
sizes = [8, 16, 32]
of = ["{name}.up:1", "{name}.up_bias:0", "{name}.down:0"]
"#
    )
}

fn description() -> String {
    [CHOICES, &block("one"), &block("two")].concat()
}

fn noise(key: u64, count: usize, scale: f32) -> Vec<f32> {
    (0..count as u64).map(|i| (uniform(key, i) * 2.0 - 1.0) * scale).collect()
}

/// Rows of `whole` columns cut to their first `kept`.
fn columns(rows: &[f32], whole: usize, kept: usize) -> Vec<f32> {
    rows.chunks_exact(whole).flat_map(|row| row[..kept].to_vec()).collect()
}

/// The arrays of a block, cut to a width: each expert's, then the routers'.
fn arrays(b: &mut Builder, name: &str, key: u64, width: usize) {
    let n = |n: usize| n as i64;
    for e in 0..3 {
        let prefix = if e == 0 { String::new() } else { format!("e{e}/") };
        let key = key + 10 * e as u64;
        let (up, down) = (noise(key, FEATURES * WIDEST, 0.4), noise(key + 1, WIDEST * FEATURES, 0.4));
        if e < EXPERTS[0] {
            let array = columns(&up, WIDEST, width);
            b.array(&format!("{prefix}{name}.up"), &[n(FEATURES), n(width)], &array);
            b.array(&format!("{prefix}{name}.up_bias"), &[n(width)], &noise(key + 2, WIDEST, 0.3)[..width]);
        }
        let array = &down[..width * FEATURES];
        b.array(&format!("{prefix}{name}.down"), &[n(width), n(FEATURES)], array);
    }
    let key = key + 40;
    b.array(&format!("{name}.rows.0"), &[n(HIDDEN), 2], &noise(key, HIDDEN * 2, 2.0));
    b.array(&format!("{name}.rows.0.bias"), &[n(HIDDEN)], &noise(key + 1, HIDDEN, 0.5));
    let outputs = width * EXPERTS[0];
    let rows = &noise(key + 2, WIDEST * EXPERTS[0] * HIDDEN, 1.5)[..outputs * HIDDEN];
    b.array(&format!("{name}.rows.1"), &[n(outputs), n(HIDDEN)], rows);
    b.array(&format!("{name}.whole.0"), &[n(HIDDEN), 2], &noise(key + 3, HIDDEN * 2, 2.0));
    let whole = noise(key + 4, EXPERTS[1] * HIDDEN, 1.5);
    b.array(&format!("{name}.whole.1"), &[n(EXPERTS[1]), n(HIDDEN)], &whole);
    b.array(&format!("{name}.whole.1.bias"), &[n(EXPERTS[1])], &noise(key + 5, EXPERTS[1], 0.5));
}

/// `x + down(relu(up(x)))` from `from` to `NAME.out`, with weights by these names.
fn layers(b: &mut Builder, name: &str, from: &str, [up, bias, down]: [&str; 3]) {
    let at = |part: &str| format!("{name}.{part}");
    b.node("MatMul", &format!("{from} {up}"), &at("product"), &[]);
    b.node("Add", &format!("{} {bias}", at("product")), &at("sum"), &[]);
    b.node("Relu", &at("sum"), &at("wide"), &[]);
    b.node("MatMul", &format!("{} {down}", at("wide")), &at("narrow"), &[]);
    b.node("Add", &format!("{} {from}", at("narrow")), &at("out"), &[]);
}

/// The largest network, which reads the first experts and has all others beside them.
fn largest() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(FEATURES as i64)]).output("y");
    for (name, key, from) in [("one", 100, "x"), ("two", 200, "one.out")] {
        arrays(&mut b, name, key, WIDEST);
        let own = [format!("{name}.up"), format!("{name}.up_bias"), format!("{name}.down")];
        layers(&mut b, name, from, [&own[0], &own[1], &own[2]]);
    }
    head(&mut b, "two.out");
    b.finish("mixture")
}

fn head(b: &mut Builder, from: &str) {
    b.array("head", &[FEATURES as i64, 7], &noise(6, FEATURES * 7, 0.5));
    b.node("MatMul", &format!("{from} head"), "y", &[]);
}

/// A subnet with its routers in it: ONNX's own operators compute the weights from `described`.
fn routed(depth: usize, widths: [usize; 2]) -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(FEATURES as i64)]).output("y");
    let wide: f32 = widths[..depth].iter().map(|w| *w as f32 / WIDEST as f32).sum();
    b.array("described", &[1, 2], &[depth as f32 / 2.0, wide / depth as f32]);
    let mut from = "x".to_string();
    for (name, key, width) in [("one", 100, widths[0]), ("two", 200, widths[1])].into_iter().take(depth) {
        arrays(&mut b, name, key, width);
        let at = |part: &str| format!("{name}.{part}");
        let transposed = [("transB", Int(1))];
        // A row's weights lie side by side.
        b.node("Gemm", &format!("described {} {}", at("rows.0"), at("rows.0.bias")), &at("r0"), &transposed);
        b.node("Relu", &at("r0"), &at("r1"), &[]);
        b.node("Gemm", &format!("{} {}", at("r1"), at("rows.1")), &at("r2"), &transposed);
        b.ints(&at("pairs"), &[-1, EXPERTS[0] as i64]);
        b.node("Reshape", &format!("{} {}", at("r2"), at("pairs")), &at("r3"), &[]);
        b.node("Softmax", &at("r3"), &at("r4"), &[("axis", Int(1))]);
        b.node("Transpose", &at("r4"), &at("r5"), &[("perm", Ints(&[1, 0]))]);
        b.node("Split", &at("r5"), &format!("{} {}", at("c0"), at("c1")), &[("axis", Int(0))]);
        b.node("Gemm", &format!("described {}", at("whole.0")), &at("w0"), &transposed);
        b.node("Relu", &at("w0"), &at("w1"), &[]);
        let last = format!("{} {} {}", at("w1"), at("whole.1"), at("whole.1.bias"));
        b.node("Gemm", &last, &at("w2"), &transposed);
        b.node("Softmax", &at("w2"), &at("w3"), &[("axis", Int(1))]);
        let shares = format!("{} {} {}", at("d0"), at("d1"), at("d2"));
        b.node("Split", &at("w3"), &shares, &[("axis", Int(1))]);
        for (part, shares, experts) in [("up", "c", 2), ("up_bias", "c", 2), ("down", "d", 3)] {
            for e in 0..experts {
                let prefix = if e == 0 { String::new() } else { format!("e{e}/") };
                let product = format!("{prefix}{name}.{part} {name}.{shares}{e}");
                b.node("Mul", &product, &at(&format!("{part}.share{e}")), &[]);
            }
            let all: Vec<String> = (0..experts).map(|e| at(&format!("{part}.share{e}"))).collect();
            b.node("Sum", &all.join(" "), &at(&format!("{part}.mixed")), &[]);
        }
        let own = [at("up.mixed"), at("up_bias.mixed"), at("down.mixed")];
        layers(&mut b, name, &from, [&own[0], &own[1], &own[2]]);
        from = at("out");
    }
    head(&mut b, &from);
    b.finish("routed")
}

#[test]
fn weights_are_mixed_when_a_subnet_is_chosen() {
    let family = Family::convert("supernet-mixture", &largest(), &description());
    let mut answers: Vec<Vec<f32>> = Vec::new();
    for (d, one, two) in (0..2).flat_map(|d| (0..3).flat_map(move |w| (0..3).map(move |v| (d, w, v)))) {
        let (got, apart) = family.compare(&[d, one, two], &routed(d + 1, [WIDTHS[one], WIDTHS[two]]));
        assert!(apart <= 1e-3, "depth {d}, widths {one} {two}: {apart}");
        answers.push(got);
    }
    // Of depth 1 the second width says nothing, to the network or to its routers; what it is else is another network.
    let same = |a: usize, b: usize| answers[a] == answers[b];
    assert!(same(0, 1) && same(3, 5) && !same(0, 3) && !same(9, 10));
    // Every expert is stored once, whatever is mixed of it.
    let called = |name: &str| family.tensors(name);
    assert_eq!((called("one.up"), called("one.down"), called("two.up"), called("head")), (2, 3, 2, 1));
}

#[test]
fn what_cannot_be_mixed_is_refused() {
    let folder = Folder::new("supernet-mixture-bad");
    let model = folder.write("m.onnx", &largest());
    let refused = |from: &str, to: &str, words: &[&str]| {
        let text = description().replacen(from, to, 1);
        assert_ne!(text, description());
        let toml = folder.write("s.toml", text.as_bytes());
        let run = edge_convert().arg(&model).arg("--supernet").arg(&toml);
        run.arg("-o").arg(folder.file("p.pack")).arg("--no-cache").run().expect_saying(4, words);
    };
    refused("\"one.rows.1\"", "\"one.rows.2\"", &["no stored tensor `one.rows.2`"]);
    refused("\"one.rows.1\"", "\"one.whole.0\"", &["[[mixture]]", "2 experts", "2 features"]);
    refused("\"one.up:1\"", "\"one.up:0\"", &["weights for 32 rows", "axis 0 of `one.up` [16, 32] has 16"]);
    refused("experts = [\"\", \"e1/\"]", "experts = [\"\"]", &["two `experts`"]);
    refused("experts = [\"\", \"e1/\"]", "experts = [\"\", \"e2/\"]", &["no stored tensor `e2/one.up`"]);
    refused(
        "[\"depth\"], values = [[0.5, 1.0]]",
        "[\"depth\"], values = [[0.5]]",
        &["1 values", "`depth` of 2"],
    );
    refused("counts = [1, 2]", "counts = [1]", &["1 values", "`depth` of 2"]);
    refused("of = [\"one.down:1\"]", "of = [\"missing:1\"]", &["`missing:1`"]);
}
