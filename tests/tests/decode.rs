//! Texts in pieces: what is kept of the tokens before gives the logits of one long run.

use edge_runtime::decode::{DecodeError, DecodeOptions, Decoder};
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::read_npz;
use edge_runtime::pack::PackFile;
use edge_tests::{Folder, cached_model, edge_convert};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FAMILIES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference").join(name)
}

fn converted(folder: &Folder, source: &Path) -> Arc<PackFile> {
    let pack = folder.file("m.pack");
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    Arc::new(PackFile::open(pack).unwrap())
}

fn device(threads: usize) -> Arc<Device> {
    Device::builder().threads(Some(threads)).budget(Some(2 << 30)).build().unwrap()
}

/// Ids and llama.cpp's logits of a tiny model.
fn stored(family: &str) -> (Vec<i64>, Vec<f32>) {
    let arrays = read_npz(&reference(&format!("gguf/{family}.npz")), 1 << 20).unwrap();
    let find = |name: &str| &arrays.iter().find(|array| array.name == name).unwrap().data;
    let ids = find("input_ids").as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    (ids, find("logits").as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// The logits after each token, the text cut into pieces.
fn in_pieces(decoder: &mut Decoder, pieces: &[&[i64]]) -> Vec<Vec<f32>> {
    pieces.iter().map(|piece| decoder.feed(piece).unwrap().to_vec()).collect()
}

fn all(decoder: &mut Decoder, ids: &[i64]) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    decoder
        .feed_all(ids, &mut |i, logits| {
            assert_eq!(i, rows.len());
            rows.push(logits.to_vec());
        })
        .unwrap();
    rows
}

/// The largest difference as a share of the range.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    let (least, most) = want.iter().fold((f32::MAX, f32::MIN), |(l, m), x| (l.min(*x), m.max(*x)));
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).fold(0.0, |far, (g, w)| f32::max(far, (g - w).abs())) / (most - least)
}

/// f32 keeps what llama.cpp's logits in floats have; f16 rounds keys and values by 2^-12 of themselves, which two layers bring to less
/// than 1e-3 of the range; i8 by 2^-8 of the largest of a head, to less than what a logit may lose in integers.
#[test]
fn families_give_the_logits_of_llama_cpp_in_pieces() {
    for family in FAMILIES {
        let folder = Folder::new("decode");
        let pack = converted(&folder, &reference(&format!("gguf/{family}.gguf")));
        let (ids, want) = stored(family);
        let gelu = if family == "gemma3" { 1e-3 } else { 2e-6 };
        for (kept, bound) in [(DType::F32, gelu), (DType::F16, 1e-3 + gelu), (DType::I8, 2e-2)] {
            let options = DecodeOptions { kept: Some(kept), exact: true, ..DecodeOptions::default() };
            let mut decoder = Decoder::open_with(&device(2), &pack, None, options).unwrap();
            let want: Vec<&[f32]> = want.chunks_exact(decoder.vocabulary()).collect();
            let rows = all(&mut decoder, &ids);
            assert_eq!((rows.len(), decoder.past()), (ids.len(), ids.len()));
            for (got, want) in rows.iter().zip(&want) {
                let far = apart(got, want);
                assert!(far <= bound, "{family} {kept}: {far:e}");
            }
            // The same bits however the text is cut.
            for cuts in [&[1usize][..], &[1, 2, 3], &[5], &[4, 5]] {
                decoder.truncate(0);
                let (mut from, mut pieces) = (0, Vec::new());
                for cut in cuts.iter().chain([&ids.len()]) {
                    pieces.push(&ids[from..*cut]);
                    from = *cut;
                }
                let ends: Vec<usize> = cuts.iter().copied().chain([ids.len()]).collect();
                for (end, got) in ends.into_iter().zip(in_pieces(&mut decoder, &pieces)) {
                    assert!(got == rows[end - 1], "{family} {kept}: {cuts:?}, token {}", end - 1);
                }
            }
            // Step by step, with a beginning that is used again.
            decoder.truncate(3);
            for (i, id) in ids.iter().enumerate().skip(3) {
                assert!(decoder.feed(&[*id]).unwrap() == rows[i], "{family} {kept}: step {i}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_context_is_refused_with_numbers() {
    let folder = Folder::new("decode");
    let pack = converted(&folder, &reference("gguf/llama.gguf"));
    let (ids, _) = stored("llama");
    let options = DecodeOptions { context: Some(7), exact: true, ..DecodeOptions::default() };
    let mut decoder = Decoder::open_with(&device(1), &pack, None, options).unwrap();
    assert_eq!((decoder.context(), decoder.past()), (7, 0));
    let error = decoder.feed(&ids[..8]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "8 more tokens behind 0 that are kept, of a context of 7: give fewer, or open with a longer context"
    );
    assert_eq!(decoder.past(), 0);
    let first = decoder.feed(&ids[..7]).unwrap().to_vec();
    assert!(matches!(decoder.feed(&ids[7..8]), Err(DecodeError::Context { more: 1, past: 7, context: 7 })));
    decoder.truncate(6);
    assert!(decoder.feed(&ids[6..7]).unwrap() == first);
    assert!(matches!(decoder.feed(&[]), Err(DecodeError::NoTokens)));
    decoder.truncate(0);
    assert!(matches!(decoder.feed(&[0, -1]), Err(DecodeError::Id { id: -1, index: 1, .. })));
    let vocabulary = decoder.vocabulary() as i64;
    let refused = decoder.feed_all(&[vocabulary], &mut |_, _| ()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("token 0 is {vocabulary}; the vocabulary has ids from 0 to {}", vocabulary - 1)
    );
    let long = Decoder::open(&device(1), &pack, None, Some(1 << 40)).err().unwrap().to_string();
    assert!(long.contains("a context of 1099511627776 tokens is asked for; 1 to"), "{long}");
}

/// Rounding rows to 8 bits by groups, as llama.cpp does, costs at most 2e-2 of the range.
#[test]
fn rounded_rows_stay_near() {
    for family in FAMILIES {
        let folder = Folder::new("decode");
        let pack = converted(&folder, &reference(&format!("gguf/{family}.gguf")));
        let (ids, want) = stored(family);
        let mut decoder = Decoder::open(&device(2), &pack, None, None).unwrap();
        let vocabulary = decoder.vocabulary();
        for (id, want) in ids.iter().zip(want.chunks_exact(vocabulary)) {
            let far = apart(decoder.feed(&[*id]).unwrap(), want);
            assert!(far <= 2e-2, "{family}: {far:e}");
        }
    }
}

/// llama.cpp's 48 greedy tokens (`expected/*.json`), with keys and values in f16: each has the greatest logit after those before it.
#[test]
fn real_models_go_on_as_llama_cpp_does() {
    for (name, file) in
        [("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3-270m", "gemma-3-270m-q4_k_m.gguf")]
    {
        let Some(source) = cached_model(&format!("{name}/{file}")) else { continue };
        let folder = Folder::new("decode");
        let pack = converted(&folder, &source);
        let about = std::fs::read(reference(&format!("expected/{name}.json"))).unwrap();
        let about: serde_json::Value = serde_json::from_slice(&about).unwrap();
        let ids = |key: &str| -> Vec<i64> {
            about[key].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
        };
        let (prompt, greedy) = (ids("prompt_ids"), ids("greedy_ids"));
        for exact in [true, false] {
            let options = DecodeOptions { context: Some(512), exact, ..DecodeOptions::default() };
            let mut decoder = Decoder::open_with(&device(2), &pack, None, options).unwrap();
            let mut logits = decoder.feed(&prompt).unwrap().to_vec();
            let (mut behind, mut most_behind) = (0, 0f32);
            for id in greedy.clone() {
                let most = logits.iter().copied().fold(f32::MIN, f32::max);
                let least = logits.iter().copied().fold(f32::MAX, f32::min);
                let lead = (most - logits[id as usize]) / (most - least);
                assert!(
                    lead <= if exact { 0.0 } else { 4e-2 },
                    "{name}: token {id} is {lead} of the range behind"
                );
                behind += usize::from(lead > 0.0);
                most_behind = most_behind.max(lead);
                logits = decoder.feed(&[id]).unwrap().to_vec();
            }
            eprintln!(
                "{name}: {behind} of 48 tokens are not the greatest, by {most_behind:.1e} of the range"
            );
            assert!(behind <= if exact { 0 } else { 3 }, "{name}: {behind}");
        }
    }
}

/// Negative log-likelihood a token, in nats.
fn loss(logits: &[f32], next: i64) -> f64 {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    sum.ln() + f64::from(most - logits[next as usize])
}

/// llama.cpp's perplexity of 511 tokens of text, up to 1 %; and that in pieces with all logits, in floats, is that of the steps with rounded
/// rows and halves of keys and values, up to 1 %.
#[test]
fn perplexity_is_that_of_llama_cpp() {
    for (name, file) in
        [("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3-270m", "gemma-3-270m-q4_k_m.gguf")]
    {
        let Some(source) = cached_model(&format!("{name}/{file}")) else { continue };
        let folder = Folder::new("decode");
        let pack = converted(&folder, &source);
        let arrays = read_npz(&reference(&format!("expected/{name}.npz")), 1 << 24).unwrap();
        let find = |name: &str| arrays.iter().find(|array| array.name == name).unwrap();
        let ids = find("in:ppl_ids").data.as_chunks::<8>().0.iter();
        let ids: Vec<i64> = ids.map(|b| i64::from_le_bytes(*b)).collect();
        let theirs = find("out:ppl_nll").data.as_chunks::<4>().0.iter();
        let theirs: Vec<f64> = theirs.map(|b| f64::from(f32::from_le_bytes(*b))).collect();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let exact = DecodeOptions { exact: true, context: Some(512), ..DecodeOptions::default() };
        let mut decoder = Decoder::open_with(&device(2), &pack, None, exact).unwrap();
        let mut floats = Vec::new();
        decoder
            .feed_all(&ids, &mut |i, logits| floats.extend(ids.get(i + 1).map(|next| loss(logits, *next))))
            .unwrap();
        drop(decoder);
        let mut decoder = Decoder::open(&device(2), &pack, None, Some(512)).unwrap();
        let mut steps = Vec::new();
        for pair in ids.windows(2) {
            steps.push(loss(decoder.feed(&pair[..1]).unwrap(), pair[1]));
        }
        let [floats, steps, theirs] = [&floats, &steps, &theirs].map(|losses| mean(losses).exp());
        eprintln!("{name}: perplexity {floats:.3} in floats, {steps:.3} in steps, llama.cpp's {theirs:.3}");
        assert!(steps <= 1.01 * theirs.max(floats), "{name}: {steps}, {theirs}");
        assert!(floats <= 1.01 * theirs, "{name}: {floats}, {theirs}");
    }
}
