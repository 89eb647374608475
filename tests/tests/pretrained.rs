//! Checkpoints of the transformers library through `edge-convert` and `edge-run`: that library's logits and token ids (`reference/hf/make_tiny.py`), tokenizers that
//! are not implemented.

use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, read_npz, write_npz};
use edge_runtime::pack::PackFile;
use edge_runtime::tokenizer::Tokenizer;
use edge_tests::pretrained::{change, converted, copied, reference};
use edge_tests::{Folder, edge_run};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const FAMILIES: [&str; 8] = ["llama", "smollm2", "qwen2", "qwen3", "phi3", "mistral", "gemma2", "gemma3"];
/// Both compute in f32 with the same weights: what differs is the order of sums. As a share of the logits' range; at most 4.1e-7 was seen.
const BOUND: f64 = 2e-6;

fn logits(folder: &Folder, pack: &Path, ids: &[i64]) -> Vec<f64> {
    let (input, out) = (folder.file("in.npz"), folder.file("out.npz"));
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
    edge_run().arg(pack).arg("--input").arg(input).arg("--output").arg(&out).run().expect(0);
    floats(&read_npz(&out, 1 << 24).unwrap()[0])
}

fn floats(array: &NamedArray) -> Vec<f64> {
    array.data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}

/// Ids, and the library's logits.
fn stored(family: &str) -> (Vec<i64>, Vec<f64>) {
    let arrays = read_npz(&reference(&format!("{family}.npz")), 1 << 20).unwrap();
    let find = |name: &str| arrays.iter().find(|array| array.name == name).unwrap();
    let ids = find("input_ids").data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    (ids, floats(find("logits")))
}

/// The largest difference as a share of the range.
fn error(got: &[f64], want: &[f64]) -> f64 {
    let most = want.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = want.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(got.len(), want.len());
    let far = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    far.fold(0.0, |most, d| if d <= most { most } else { d }) / (most - least)
}

fn open(pack: &Path) -> Tokenizer {
    let file = PackFile::open(pack).unwrap();
    let blob = &file.header().blobs[file.header().tokenizer_blob().unwrap() as usize];
    let source = file.map(blob.offset + blob.len).unwrap();
    Tokenizer::new(file.header(), Arc::new(source)).unwrap()
}

#[test]
fn families_give_the_logits_of_transformers() {
    for family in FAMILIES {
        let folder = Folder::new("pretrained");
        let (ids, want) = stored(family);
        let error = error(&logits(&folder, &converted(&folder, &reference(family)), &ids), &want);
        eprintln!("{family}: {error:.1e}");
        assert!(error <= BOUND, "{family}: {error:e}");
    }
}

#[test]
fn tokenizers_give_the_ids_of_the_library() {
    for family in FAMILIES {
        let folder = Folder::new("pretrained");
        let tokenizer = open(&converted(&folder, &reference(family)));
        let read = std::fs::read(reference(&format!("{family}.tokens.json"))).unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&read).unwrap();
        assert!(rows.len() > 100);
        for row in &rows {
            let mut ids = Vec::new();
            tokenizer.encode(row["text"].as_str().unwrap(), true, &mut ids);
            assert_eq!(json!(ids), row["ids"], "{family}: {}", row["text"]);
        }
        let tokens = tokenizer.tokens();
        // A post-processor puts `<s>` before Llama's texts, a setting before those of characters.
        let begins = ["llama", "phi3", "mistral", "gemma2", "gemma3"].contains(&family);
        assert_eq!((tokens.first, &tokens.last[..]), (begins.then_some(0), &[1, 4][..]), "{family}");
        assert_eq!((tokens.special["bos_token"], tokens.special["eos_token"]), (0, 1), "{family}");
        assert!(
            tokens.template.as_ref().is_some_and(|text| text.contains("add_generation_prompt")),
            "{family}"
        );
    }
}

/// A folder, its index and its one file are the same checkpoint.
#[test]
fn each_way_to_name_a_checkpoint_gives_the_same_weights() {
    let folder = Folder::new("pretrained");
    let mut packs = Vec::new();
    for source in ["llama", "llama/model.safetensors.index.json", "qwen3", "qwen3/model.safetensors"] {
        let pack = converted(&folder, &reference(source));
        let hashes: Vec<_> =
            PackFile::open(&pack).unwrap().header().blobs.iter().map(|blob| blob.hash).collect();
        packs.push(hashes);
    }
    assert_eq!(packs[0], packs[1]);
    assert_eq!(packs[2], packs[3]);
    assert!(packs[0].len() > 10);
}

#[test]
fn texts_are_written_and_measured() {
    let folder = Folder::new("pretrained");
    let pack = converted(&folder, &reference("llama"));
    let said = edge_run().arg(&pack).args("--prompt abc -n 8 --temp 0 --ignore-eos --json").run();
    assert_eq!(said.expect(0).json()["answer"]["tokens"], 8);
    let text = folder.write("text.txt", "A text of some words, again and again. ".repeat(20).as_bytes());
    edge_run().arg("perplexity").arg(&pack).arg(text).args("--ctx 32").run().expect(0);
}

/// Version 5 of the library keeps all of rotary positions in one place.
#[test]
fn newer_configurations_say_the_same() {
    let (folder, m) = copied("gemma3");
    change(&m.join("config.json"), |config| {
        let config = config.as_object_mut().unwrap();
        ["rope_theta", "rope_scaling", "rope_local_base_freq"].iter().for_each(|key| _ = config.remove(*key));
        let all = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6});
        let near = json!({"rope_type": "default", "rope_theta": 1e4});
        config.insert("rope_parameters".into(), json!({"full_attention": all, "sliding_attention": near}));
    });
    let (ids, want) = stored("gemma3");
    assert!(error(&logits(&folder, &converted(&folder, &m), &ids), &want) <= BOUND);

    let (folder, m) = copied("llama");
    change(&m.join("config.json"), |config| {
        let config = config.as_object_mut().unwrap();
        let mut rope = config.remove("rope_scaling").unwrap();
        rope["rope_theta"] = config.remove("rope_theta").unwrap();
        config.insert("rope_parameters".into(), rope);
    });
    let (ids, want) = stored("llama");
    assert!(error(&logits(&folder, &converted(&folder, &m), &ids), &want) <= BOUND);
}

// ---- tokenizers -------------------------------------------------------------------------------------------

/// What a pack's card says of its tokenizer.
fn card(pack: &Path, key: &str) -> String {
    let said = edge_run().arg("inspect").arg(pack).args("--json").run().expect(0).json();
    said["card"]["metadata"][key].as_str().unwrap_or_default().to_string()
}

#[test]
fn tokenizers_that_are_not_implemented_are_said_in_the_card() {
    let without = |family: &str, words: &str, with: &dyn Fn(&mut Value)| {
        let (folder, m) = copied(family);
        change(&m.join("tokenizer.json"), with);
        let pack = converted(&folder, &m);
        let said = card(&pack, "no_tokenizer");
        assert!(said.contains(words), "{said}");
        edge_run().arg(&pack).args("--prompt a").run().expect_saying(3, &["no tokenizer"]);
    };
    without("llama", "tokens of model `Unigram` are not implemented", &|t| {
        t["model"] = json!({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0});
    });
    without("llama", "split by `Split` are not implemented for pieces of words", &|t| {
        t["model"]["type"] = "WordPiece".into()
    });
    without("llama", "texts normalized by `Lowercase`", &|t| t["normalizer"] = json!({"type": "Lowercase"}));
    without("mistral", "texts normalized by `Nmt`", &|t| t["normalizer"] = json!({"type": "Nmt"}));
    without("llama", "texts split as `\\w+|\\s+` are not implemented", &|t| {
        t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+|\\s+".into();
    });
    without("llama", "texts split by `Punctuation`", &|t| {
        t["pre_tokenizer"]["pretokenizers"][0] = json!({"type": "Punctuation"})
    });
    without("llama", "`add_prefix_space`", &|t| {
        t["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into()
    });
    without("llama", "`<|im_end|>` does", &|t| t["added_tokens"][4]["single_word"] = true.into());
    without("llama", "put around texts by `Other`", &|t| t["post_processor"] = json!({"type": "Other"}));
    without("gemma3", "`first` stretch", &|t| {
        t["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false});
    });
    without("gemma3", "not each of the 256 bytes", &|t| {
        let id = t["model"]["vocab"].as_object_mut().unwrap().remove("<0x0A>").unwrap();
        t["model"]["vocab"]["other"] = id;
    });
    // Merges that no scores stand for: `▁the` is made of `▁t` and `he`. The last token becomes `▁th`.
    let with_another = |t: &mut Value| {
        let vocabulary = t["model"]["vocab"].as_object_mut().unwrap();
        let (last, _) = vocabulary.iter().find(|(_, id)| **id == 319).unwrap();
        let last = last.clone();
        let id = vocabulary.remove(&last).unwrap();
        vocabulary.insert("\u{2581}th".into(), id);
        let merges = t["model"]["merges"].as_array_mut().unwrap();
        merges.retain(|pair| format!("{}{}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()) != last);
        merges.push(json!(["\u{2581}t", "h"]));
    };
    without("gemma3", "`\u{2581}the` is not merged of `\u{2581}th` and `e`", &with_another);
    without("gemma3", "merges that make `\u{2581}the` lie between", &|t| {
        with_another(t);
        t["model"]["merges"].as_array_mut().unwrap().push(json!(["\u{2581}th", "e"]));
    });

    let (folder, m) = copied("llama");
    std::fs::remove_file(m.join("tokenizer.json")).unwrap();
    assert!(card(&converted(&folder, &m), "no_tokenizer").contains("there is no tokenizer.json"));
    let (folder, m) = copied("qwen2");
    assert!(card(&converted(&folder, &m), "tokenizer_without").contains("NFC"));
}
