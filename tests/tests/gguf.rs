//! Decoders in GGUF files through `edge-convert` and `edge-run`: families against llama.cpp, matrices of every type against plain loops.

use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, read_npz, write_npz};
use edge_tests::decoder::logits;
use edge_tests::gguf::{Builder, Tiny, llama};
use edge_tests::{Folder, edge_convert, edge_run};
use std::path::Path;

/// Types whose numbers the pack holds exactly: what differs is the order of sums in f32.
const EXACT: [&str; 10] = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_K", "IQ4_NL"];
/// Types with scales of scales: what becomes of these is rounded to f16, by 2^-12 of itself. That is of a whole group alike, and two layers of it come
/// to at most 1.1e-3 of the range here (Q2_K, whose minima are large beside its steps).
const ROUNDED: [&str; 6] = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"];

const IDS: [i64; 9] = [3, 49, 0, 7, 7, 21, 40, 1, 33];

/// The logits of a converted file, and the pack's bytes.
fn run(file: &[u8], ids: &[i64]) -> (Vec<f32>, u64) {
    let folder = Folder::new("gguf");
    let (source, pack) = (folder.write("m.gguf", file), folder.file("m.pack"));
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    let input = folder.file("in.npz");
    let array = |name: &str, dims: Vec<usize>, numbers: Vec<i64>| NamedArray {
        name: name.into(),
        dtype: DType::I64,
        dims,
        data: numbers.into_iter().flat_map(i64::to_le_bytes).collect(),
    };
    let arrays = [
        array("input_ids", vec![1, ids.len()], ids.to_vec()),
        array("past", vec![1], vec![0]),
        array("wanted", vec![ids.len()], (0..ids.len() as i64).collect()),
    ];
    write_npz(&input, &arrays).unwrap();
    let out = folder.file("out.npz");
    edge_run().arg(&pack).arg("--input").arg(input).arg("--output").arg(&out).run().expect(0);
    let logits = read_npz(&out, 1 << 24).unwrap().swap_remove(0);
    assert_eq!((&logits.name[..], &logits.dims[..2]), ("logits", &[1, ids.len()][..]));
    (floats(&logits), std::fs::metadata(&pack).unwrap().len())
}

fn floats(array: &NamedArray) -> Vec<f32> {
    array.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The largest difference as a share of the range.
fn error(got: &[f32], want: &[f64]) -> f64 {
    let range = |f: fn(f64, f64) -> f64, from: f64| want.iter().copied().fold(from, f);
    let spread = range(f64::max, f64::NEG_INFINITY) - range(f64::min, f64::INFINITY);
    assert_eq!(got.len(), want.len());
    let far = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
    far.fold(0.0, |most, d| if d <= most { most } else { d }) / spread
}

fn check(tiny: &Tiny, bound: f64) {
    let file = llama(tiny);
    let want = logits(&file, &IDS.map(|id| id as usize));
    let (got, bytes) = run(&file.finish(), &IDS);
    let error = error(&got, &want);
    eprintln!(
        "{} / {}, pack of {bytes} bytes for {}: {error:.1e}",
        tiny.kind,
        tiny.embedding,
        file.finish().len()
    );
    assert!(error <= bound, "{} with an embedding of {}: {error:e}", tiny.kind, tiny.embedding);
}

/// Files and logits of `tests/reference/gguf/make_tiny.py`. llama.cpp takes its GELU from a table of f16.
#[test]
fn families_give_the_logits_of_llama_cpp() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/gguf");
    for (family, bound) in
        [("llama", 2e-6), ("qwen2", 2e-6), ("qwen3", 2e-6), ("gemma2", 1e-3), ("gemma3", 1e-3)]
    {
        let file = std::fs::read(folder.join(format!("{family}.gguf"))).unwrap();
        let stored = read_npz(&folder.join(format!("{family}.npz")), 1 << 20).unwrap();
        let find = |name: &str| stored.iter().find(|array| array.name == name).unwrap();
        let ids: Vec<i64> =
            find("input_ids").data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
        let want: Vec<f64> = floats(find("logits")).into_iter().map(f64::from).collect();
        let error = error(&run(&file, &ids).0, &want);
        eprintln!("{family}: {error:.1e}");
        assert!(error <= bound, "{family}: {error:e}");
    }
}

#[test]
fn exact_types_give_the_logits_of_plain_loops() {
    for kind in EXACT {
        check(&Tiny { kind, embedding: kind, tied: true, bias: false }, 2e-6);
    }
}

#[test]
fn types_with_scales_of_scales_do_up_to_their_rounding() {
    for kind in ROUNDED {
        check(&Tiny { kind, embedding: kind, tied: true, bias: false }, 2e-3);
    }
}

#[test]
fn embeddings_are_looked_up_and_biases_added() {
    for embedding in ["Q4_1", "Q5_1", "Q8_0", "F16"] {
        check(&Tiny { kind: "Q4_0", embedding, tied: false, bias: true }, 2e-6);
    }
    check(&Tiny { kind: "Q8_0", embedding: "Q4_K", tied: false, bias: false }, 2e-3);
}

/// Version 2 differs in nothing that little-endian files show.
#[test]
fn version_2_is_read_too() {
    let mut file = llama(&Tiny { kind: "Q8_0", embedding: "Q8_0", tied: true, bias: false });
    let newer = run(&file.finish(), &IDS).0;
    file.version = 2;
    assert_eq!(run(&file.finish(), &IDS).0, newer);
}

/// A token sees those before it alone.
#[test]
fn later_tokens_change_no_logit() {
    let file = llama(&Tiny { kind: "Q4_1", embedding: "Q8_0", tied: true, bias: false }).finish();
    let (all, _) = run(&file, &IDS);
    let (first, _) = run(&file, &IDS[..4]);
    let same = all.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(same && first.len() < all.len());
}

#[track_caller]
fn refused(file: &Builder, code: i32, words: &[&str]) {
    let folder = Folder::new("gguf");
    let source = folder.write("m.gguf", &file.finish());
    edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).run().expect_saying(code, words);
    assert_eq!(folder.names(), ["m.gguf"]);
}

#[test]
fn what_is_not_implemented_is_listed_at_once() {
    let mut file = Builder::default();
    file.text("general.architecture", "perceiver");
    file.tensor("a", &[2, 256], 16, vec![0; 132]).tensor("b", &[2, 256], 16, vec![0; 132]);
    file.tensor("c", &[4], 99, vec![0; 16]);
    let words = [
        "architecture `perceiver`; there is llama, qwen2, qwen3, gemma2, gemma3",
        "IQ2_XXS of 2 tensors, `a` first",
        "number 99",
    ];
    refused(&file, 3, &words);

    let mut file = llama(&Tiny { kind: "Q8_0", embedding: "Q8_0", tied: true, bias: false });
    file.tensor("blk.0.attn_sinks.weight", &[4], 0, vec![0; 16]);
    refused(&file, 3, &["tensor `blk.0.attn_sinks.weight` in architecture `llama`"]);

    let tiny = Tiny { kind: "Q8_0", embedding: "Q8_0", tied: true, bias: false };
    let mut file = llama(&tiny);
    file.text("llama.rope.scaling.type", "yarn");
    refused(&file, 3, &["rope scaling `yarn`"]);
    let mut file = llama(&tiny);
    file.count("llama.expert_count", 8);
    refused(&file, 3, &["mixture of experts (key `llama.expert_count`)"]);
}

#[test]
fn what_contradicts_itself_is_named() {
    let tiny = Tiny { kind: "Q8_0", embedding: "Q8_0", tied: true, bias: false };
    let mut file = llama(&tiny);
    file.tensors.retain(|tensor| tensor.0 != "blk.1.ffn_up.weight");
    refused(&file, 4, &["m.gguf", "tensor `blk.1.ffn_up.weight`: missing"]);
    let mut file = llama(&tiny);
    file.tensors[1].1 = vec![128, 512];
    refused(&file, 4, &["tensor `blk.0.attn_q.weight`: shape [128, 512]; [256, 256] is expected"]);
    let mut file = llama(&tiny);
    file.tensors[1].3[34..36].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    refused(&file, 4, &["`blk.0.attn_q.weight`", "row 0, columns from 32 on, is inf"]);
    refused(
        Builder::default().text("general.architecture", "llama"),
        4,
        &["key `llama.block_count`: missing"],
    );
    refused(&Builder::default(), 4, &["key `general.architecture`: missing"]);
}

#[test]
fn options_that_need_samples_are_refused() {
    let folder = Folder::new("gguf");
    let source = folder
        .write("m.gguf", &llama(&Tiny { kind: "Q8_0", embedding: "Q8_0", tied: true, bias: false }).finish());
    let ended = edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).args("--keep-float").run();
    ended.expect_saying(2, &["--keep-float", "leave the option out"]);
}
