//! A supernet of attention and of a block that runs several times: choices of heads cut q, k and v, which lie side by side in one matrix, and
//! change the sizes of reshapes; every subnet is the network that somebody would have written down for it.

use edge_runtime::random::uniform;
use edge_tests::family::Family;
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::{Free, N};
use edge_tests::{Folder, edge_convert};

const FEATURES: usize = 16;
const HEAD: usize = 8;
const HEADS: [usize; 3] = [1, 2, 4];
const TURNS: [usize; 3] = [1, 2, 4];

const DESCRIPTION: &str = r#"
[[choice]]
name = "heads"
options = [1, 2, 4]
[[choice]]
name = "turns"
options = [1, 2, 4]
[[cut]]
choice = "heads"
sizes = [24, 48, 96]
of = ["qkv:1", "qkv_bias:0"]
parts = 3
[[cut]]
choice = "heads"
sizes = [8, 16, 32]
of = ["project:0"]
[[constant]]
choice = "heads"
tensor = "heads"
values = [[0, 0, 1, 8], [0, 0, 2, 8], [0, 0, 4, 8]]
[[constant]]
choice = "heads"
tensor = "inner"
values = [[0, 0, 8], [0, 0, 16], [0, 0, 32]]
[[repeat]]
choice = "turns"
from = "mixed"
to = "turned"
times = [1, 2, 4]
"#;

fn noise(key: u64, count: usize, scale: f32) -> Vec<f32> {
    (0..count as u64).map(|i| (uniform(key, i) * 2.0 - 1.0) * scale).collect()
}

/// The first `inner` columns of each of three parts of rows that have `HEADS[2] * HEAD` columns a part.
fn parts(whole: &[f32], inner: usize) -> Vec<f32> {
    whole.chunks_exact(HEADS[2] * HEAD).flat_map(|part| part[..inner].to_vec()).collect()
}

/// The network of so many heads whose second block is written out `turns` times.
fn network(heads: usize, turns: usize) -> Vec<u8> {
    network_of(0, heads, turns, &[])
}

/// The same whose attention is that of one `training`; the file holds that of others too, after prefixes.
fn network_of(training: u64, heads: usize, turns: usize, others: &[(&str, u64)]) -> Vec<u8> {
    let (inner, most) = (heads * HEAD, HEADS[2] * HEAD);
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(5), N(FEATURES as i64)]).output("y");
    let array = |n: usize| n as i64;
    for (prefix, training) in [("", training)].iter().chain(others) {
        let values = |key, count, scale| noise(key + 100 * training, count, scale);
        let name = |name: &str| format!("{prefix}{name}");
        let qkv = parts(&values(1, FEATURES * 3 * most, 0.5), inner);
        b.array(&name("qkv"), &[array(FEATURES), array(3 * inner)], &qkv);
        b.array(&name("qkv_bias"), &[array(3 * inner)], &parts(&values(2, 3 * most, 0.3), inner));
        let project = &values(3, most * FEATURES, 0.4)[..inner * FEATURES];
        b.array(&name("project"), &[array(inner), array(FEATURES)], project);
    }
    b.array("up", &[array(FEATURES), 24], &noise(4, FEATURES * 24, 0.4));
    b.array("down", &[24, array(FEATURES)], &noise(5, FEATURES * 24, 0.4));
    b.ints("heads", &[0, 0, array(heads), array(HEAD)]).ints("inner", &[0, 0, array(inner)]);
    b.node("MatMul", "x qkv", "product", &[]).node("Add", "product qkv_bias", "all", &[]);
    b.node("Split", "all", "q k v", &[("axis", Int(-1))]);
    for (part, perm) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
        b.node("Reshape", &format!("{part} heads"), &format!("{part}h"), &[]);
        b.node("Transpose", &format!("{part}h"), &format!("{part}t"), &[("perm", Ints(&perm))]);
    }
    b.node("MatMul", "qt kt", "scores", &[]).node("Softmax", "scores", "shares", &[("axis", Int(-1))]);
    b.node("MatMul", "shares vt", "heard", &[]);
    b.node("Transpose", "heard", "tokens", &[("perm", Ints(&[0, 2, 1, 3]))]);
    b.node("Reshape", "tokens inner", "joined", &[]).node("MatMul", "joined project", "told", &[]);
    b.node("Add", "told x", "mixed", &[]);
    let mut value = "mixed".to_string();
    for turn in 0..turns {
        let last = turn + 1 == turns;
        let at = |name: &str| format!("{name}{turn}");
        let out = if last { "turned".to_string() } else { at("turned") };
        b.node("MatMul", &format!("{value} up"), &at("u"), &[]).node("Tanh", &at("u"), &at("t"), &[]);
        b.node("MatMul", &format!("{} down", at("t")), &at("d"), &[]);
        b.node("Add", &format!("{} {value}", at("d")), &out, &[]);
        value = out;
    }
    b.array("head", &[array(FEATURES), 7], &noise(6, FEATURES * 7, 0.5));
    b.node("MatMul", "turned head", "y", &[]);
    b.finish("attention")
}

#[test]
fn heads_and_turns_are_choices() {
    // The block that runs several times stands in the file once.
    let family = Family::convert("supernet-attention", &network(HEADS[2], 1), DESCRIPTION);
    for (h, t) in (0..3).flat_map(|h| (0..3).map(move |t| (h, t))) {
        let (_, apart) = family.compare(&[h, t], &network(HEADS[h], TURNS[t]));
        assert!(apart <= 1e-3, "{} heads, {} turns: {apart}", HEADS[h], TURNS[t]);
    }
}

/// Networks that were trained apart from a point on (few-shot search splits a supernet so) are one choice more: what they share is stored
/// once, and the parts of their own are cut by the other choices as ever.
#[test]
fn a_pack_holds_several_supernets() {
    let trainings = r#"
[[choice]]
name = "training"
options = ["first", "second", "third"]
[[swap]]
choice = "training"
of = ["*"]
prefixes = ["first/", "second/", ""]
"#;
    let largest = network_of(0, HEADS[2], 1, &[("first/", 1), ("second/", 2)]);
    let family = Family::convert("supernet-several", &largest, &format!("{DESCRIPTION}{trainings}"));
    for (h, t, training) in [(0, 0, 0), (0, 2, 1), (1, 0, 1), (1, 1, 2), (2, 0, 0), (2, 2, 2), (2, 1, 1)] {
        let of = [1, 2, 0][training];
        let (_, apart) = family.compare(&[h, t, training], &network_of(of, HEADS[h], TURNS[t], &[]));
        assert!(apart <= 1e-3, "{} heads, {} turns, training {training}: {apart}", HEADS[h], TURNS[t]);
    }
    // Matrices of the attention are there three times (of q, k and v for each number of heads), others once.
    let called = |name: &str| family.tensors(name);
    assert_eq!((called("qkv"), called("project"), called("up"), called("down")), (9, 3, 1, 1));
}

#[test]
fn what_does_not_suit_is_refused() {
    let folder = Folder::new("supernet-attention-bad");
    let model = folder.write("m.onnx", &network(HEADS[2], 1));
    let refused = |from: &str, to: &str, words: &[&str]| {
        let text = DESCRIPTION.replacen(from, to, 1);
        assert_ne!(text, DESCRIPTION);
        let description = folder.write("s.toml", text.as_bytes());
        let run = edge_convert().arg(&model).arg("--supernet").arg(&description);
        run.arg("-o").arg(folder.file("p.pack")).arg("--no-cache").run().expect_saying(4, words);
    };
    refused("[0, 0, 2, 8]", "[0, 0, 2]", &["[[constant]] `heads`", "3 elements"]);
    refused("parts = 3", "parts = 5", &["qkv", "96"]);
    refused("from = \"mixed\"", "from = \"turned\"", &["turned"]);
    refused("times = [1, 2, 4]", "times = [0, 2, 4]", &["turns", "0 times"]);
    // Sizes of a reshape that are not those of the heads.
    refused("[0, 0, 2, 8]", "[0, 0, 3, 8]", &["heads = 2", "[1, 5, 16]", "[0, 0, 3, 8]"]);
}
