//! Checkpoints of the transformers library through `edge-convert` and `edge-run`: that library's logits and token ids (`reference/hf/make_tiny.py`), and
//! checkpoints that are cut, lie, or ask for what is not implemented.

use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, read_npz, write_npz};
use edge_runtime::pack::PackFile;
use edge_runtime::tokenizer::Tokenizer;
use edge_tests::{Folder, edge_convert, edge_run};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FAMILIES: [&str; 7] = ["llama", "smollm2", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"];
/// Both compute in f32 with the same weights: what differs is the order of sums. As a share of the logits' range; at most 4.1e-7 was seen.
const BOUND: f64 = 2e-6;

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/hf").join(name)
}

/// A checkpoint of its own, to be changed: in the folder `m`.
fn copied(family: &str) -> (Folder, PathBuf) {
    let folder = Folder::new("pretrained");
    let to = folder.file("m");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(reference(family)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    (folder, to)
}

/// Changes a file of JSON.
fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn converted(folder: &Folder, source: &Path) -> PathBuf {
    let pack = folder.file("m.pack");
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    pack
}

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
        let begins = ["llama", "mistral", "gemma2", "gemma3"].contains(&family);
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

// ---- what is refused -------------------------------------------------------------------------------------

#[track_caller]
fn refused(folder: &Folder, source: &Path, code: i32, words: &[&str]) {
    edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).run().expect_saying(code, words);
    assert_eq!(folder.names(), ["m"]);
}

/// A changed configuration, refused.
#[track_caller]
fn refused_with(family: &str, code: i32, words: &[&str], with: impl FnOnce(&mut Value)) {
    let (folder, m) = copied(family);
    change(&m.join("config.json"), with);
    refused(&folder, &m, code, words);
}

#[test]
fn what_is_not_implemented_is_listed() {
    let known = [
        "LlamaForCausalLM (`llama`)",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM (`gemma3_text`)",
    ];
    let words: Vec<&str> =
        ["config.json", "PerceiverForCausalLM (`perceiver`)"].into_iter().chain(known).collect();
    refused_with("llama", 3, &words, |config| {
        config["architectures"] = json!(["PerceiverForCausalLM"]);
        config["model_type"] = "perceiver".into();
    });
    // A model that classifies has other tensors.
    refused_with("llama", 3, &["architecture LlamaForSequenceClassification (`llama`)"], |config| {
        config["architectures"] = json!(["LlamaForSequenceClassification"]);
    });
    refused_with("llama", 3, &["`model_type` `mamba2`; there is"], |config| {
        config.as_object_mut().unwrap().remove("architectures");
        config["model_type"] = "mamba2".into();
    });
    refused_with(
        "llama",
        3,
        &["config.json", "`rope_scaling` of type `yarn`; there is default, linear, llama3"],
        |config| {
            config["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0});
        },
    );
    refused_with(
        "gemma3",
        3,
        &["`rope_parameters`: stretched positions of layers that see a window"],
        |config| {
            let rope = json!({"rope_type": "linear", "factor": 2.0});
            config["rope_parameters"] = json!({"full_attention": rope, "sliding_attention": rope});
        },
    );
    refused_with("llama", 3, &["`hidden_act` \"relu\"; \"silu\" is expected in `llama`"], |config| {
        config["hidden_act"] = "relu".into();
    });
    // All at once.
    let words = [
        "config.json",
        "`quantization_config` (gptq)",
        "give the checkpoint before quantisation, or a GGUF file",
        "type `longrope`",
    ];
    refused_with("qwen2", 3, &words, |config| {
        config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4});
        config["rope_scaling"] = json!({"type": "longrope", "short_factor": [1.0]});
    });
}

#[test]
fn configurations_that_contradict_themselves_are_named() {
    refused_with("llama", 4, &["config.json: key `rope_scaling.low_freq_factor`: missing"], |config| {
        config["rope_scaling"].as_object_mut().unwrap().remove("low_freq_factor");
    });
    refused_with("llama", 4, &["low_freq_factor, high_freq_factor", "4 and 4"], |config| {
        config["rope_scaling"]["low_freq_factor"] = 4.0.into();
    });
    refused_with("llama", 4, &["key `hidden_size`: \"wide\"; a number is expected"], |config| {
        config["hidden_size"] = "wide".into();
    });
    refused_with("llama", 4, &["key `num_hidden_layers`: -2; a whole number"], |config| {
        config["num_hidden_layers"] = (-2).into();
    });
    refused_with("llama", 4, &["key `num_hidden_layers`: 4000000000; at most 65536"], |config| {
        config["num_hidden_layers"] = 4_000_000_000u32.into();
    });
    refused_with("llama", 4, &["key `num_attention_heads`: missing"], |config| {
        config.as_object_mut().unwrap().remove("num_attention_heads");
    });
    refused_with("gemma3", 4, &["key `layer_types`: 1 entries, and there is a layer 1"], |config| {
        config["layer_types"] = json!(["full_attention"]);
    });
    refused_with(
        "gemma3",
        4,
        &["key `layer_types`: `linear_attention`; full_attention and sliding_attention"],
        |config| {
            config["layer_types"][1] = "linear_attention".into();
        },
    );
    let (folder, m) = copied("llama");
    let text = std::fs::read_to_string(m.join("config.json")).unwrap();
    std::fs::write(m.join("config.json"), &text[..text.len() / 2]).unwrap();
    refused(&folder, &m, 4, &["config.json: no JSON", "fetch it again"]);
    std::fs::write(m.join("config.json"), "[".repeat(100_000)).unwrap();
    refused(&folder, &m, 4, &["config.json: no JSON"]);
}

#[test]
fn shapes_are_held_against_the_configuration() {
    let shape = ["model-00001-of-00002.safetensors: tensor `model.embed_tokens.weight`"];
    refused_with(
        "llama",
        4,
        &[shape[0], "shape [320, 24]; [321, 24] is expected by `vocab_size`"],
        |config| {
            config["vocab_size"] = 321.into();
        },
    );
    refused_with(
        "qwen3",
        4,
        &["`model.layers.0.mlp.gate_proj.weight`", "[40, 24]; [41, 24] is expected by config.json"],
        |config| {
            config["intermediate_size"] = 41.into();
        },
    );
    refused_with("qwen3", 4, &["`model.layers.0.self_attn.q_proj.weight`", "[32, 24]; [40, 24]"], |config| {
        config["head_dim"] = 10.into();
    });
    refused_with(
        "qwen3",
        4,
        &["config.json", "`num_key_value_heads`: 3 heads of keys for 4 of queries"],
        |config| {
            config["num_key_value_heads"] = 3.into();
        },
    );
    refused_with(
        "gemma2",
        4,
        &["`model.embed_tokens.weight`", "[320, 24]; [320, 28] is expected by config.json"],
        |config| {
            config["hidden_size"] = 28.into();
        },
    );
}

#[test]
fn missing_tensors_are_named_at_once() {
    // The layers of another model.
    let words = [
        "18 tensors are of 4 layers (`num_hidden_layers` of config.json) not there",
        "`model.layers.2.input_layernorm.weight`",
        "`model.layers.3.mlp.down_proj.weight`",
        "give its folder where one shard was given",
    ];
    refused_with("mistral", 4, &words, |config| config["num_hidden_layers"] = 4.into());
    refused_with("qwen2", 4, &["one tensor is of 2 layers", "not there: `lm_head.weight`"], |config| {
        config["tie_word_embeddings"] = false.into();
    });
    // One of two shards alone.
    let (folder, m) = copied("llama");
    refused(
        &folder,
        &m.join("model-00002-of-00002.safetensors"),
        4,
        &["model-00002-of-00002.safetensors", "`model.embed_tokens.weight`"],
    );
    // And those that the architecture does not have.
    refused_with(
        "smollm2",
        3,
        &["tensor `model.layers.0.self_attn.q_proj.bias` in architecture `llama`"],
        |config| {
            config["attention_bias"] = false.into();
        },
    );
}

#[test]
fn shards_and_index_belong_together() {
    let (folder, m) = copied("llama");
    let second = m.join("model-00002-of-00002.safetensors");
    let whole = std::fs::read(&second).unwrap();
    // Cut in the elements, in the header, in its length.
    for at in [whole.len() - 7, 40, 5] {
        std::fs::write(&second, &whole[..at]).unwrap();
        refused(&folder, &m, 4, &["model-00002-of-00002.safetensors", "may be cut"]);
    }
    std::fs::remove_file(&second).unwrap();
    refused(
        &folder,
        &m,
        4,
        &[
            "model.safetensors.index.json",
            "shard `model-00002-of-00002.safetensors` is missing in",
            "fetch it again",
        ],
    );
    std::fs::write(&second, &whole).unwrap();

    let index = m.join("model.safetensors.index.json");
    let map = std::fs::read(&index).unwrap();
    change(&index, |index| {
        index["weight_map"]["model.layers.9.extra.weight"] = "model-00001-of-00002.safetensors".into()
    });
    let words = [
        "index.json",
        "`model.layers.9.extra.weight` is not in `model-00001-of-00002.safetensors`",
        "of one revision",
    ];
    refused(&folder, &m, 4, &words);
    for elsewhere in ["../m/model-00001-of-00002.safetensors", "/etc/passwd", "..", "a/b"] {
        std::fs::write(&index, &map).unwrap();
        change(&index, |index| index["weight_map"]["model.norm.weight"] = elsewhere.into());
        let words = [
            &format!("shard `{elsewhere}` is not a file of its folder")[..],
            "only names without a folder are read",
        ];
        refused(&folder, &m, 4, &words);
    }
    std::fs::remove_file(&index).unwrap();
    refused(&folder, &m, 4, &["a folder without any of model.safetensors.index.json"]);
}

/// A number of a tensor that is none.
#[test]
fn numbers_are_finite() {
    let (folder, m) = copied("qwen3");
    let path = m.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    let at = end + header["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at + 50..at + 52].copy_from_slice(&0x7f80u16.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    refused(
        &folder,
        &m,
        4,
        &["model.safetensors: tensor `model.layers.1.mlp.up_proj.weight`", "element (1, 1) is not finite"],
    );
}

// ---- tokenizers -------------------------------------------------------------------------------------------

/// What a pack's card says of its tokenizer.
fn card(folder: &Folder, pack: &Path, key: &str) -> String {
    let said = edge_run().arg("inspect").arg(pack).args("--json").run().expect(0).json();
    let _ = folder;
    said["card"]["metadata"][key].as_str().unwrap_or_default().to_string()
}

#[test]
fn tokenizers_that_are_not_implemented_are_said_in_the_card() {
    let without = |family: &str, words: &str, with: &dyn Fn(&mut Value)| {
        let (folder, m) = copied(family);
        change(&m.join("tokenizer.json"), with);
        let pack = converted(&folder, &m);
        let said = card(&folder, &pack, "no_tokenizer");
        assert!(said.contains(words), "{said}");
        edge_run().arg(&pack).args("--prompt a").run().expect_saying(4, &["no tokenizer"]);
    };
    without("llama", "tokens of model `Unigram` are not implemented", &|t| {
        t["model"] = json!({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0});
    });
    without("llama", "`WordPiece`", &|t| t["model"]["type"] = "WordPiece".into());
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
    without("llama", "`<|im_end|>` does", &|t| t["added_tokens"][4]["rstrip"] = true.into());
    without("llama", "put around texts by `BertProcessing`", &|t| {
        t["post_processor"] = json!({"type": "BertProcessing"})
    });
    without("gemma3", "`first` stretch", &|t| {
        t["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false});
    });
    without("gemma3", "not each of the 256 bytes", &|t| {
        let id = t["model"]["vocab"].as_object_mut().unwrap().remove("<0x0A>").unwrap();
        t["model"]["vocab"]["other"] = id;
    });
    // Merges that no scores stand for.
    without("gemma3", "is not merged of", &|t| {
        let merges = t["model"]["merges"].as_array_mut().unwrap();
        let at = merges.iter().position(|pair| pair[0].as_str().unwrap().chars().count() > 1).unwrap();
        merges.remove(at);
    });
    without("gemma3", "lie between those of other tokens", &|t| {
        let merges = t["model"]["merges"].as_array_mut().unwrap();
        let joined = |pair: &Value| format!("{}{}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        let at = (1..merges.len()).find(|i| joined(&merges[*i]) == joined(&merges[*i - 1])).unwrap();
        let merge = merges.remove(at);
        merges.push(merge);
    });

    let (folder, m) = copied("llama");
    std::fs::remove_file(m.join("tokenizer.json")).unwrap();
    assert!(card(&folder, &converted(&folder, &m), "no_tokenizer").contains("there is no tokenizer.json"));
    let (folder, m) = copied("qwen2");
    assert!(card(&folder, &converted(&folder, &m), "tokenizer_without").contains("NFC"));
}

#[test]
fn tokenizers_that_contradict_themselves_are_refused() {
    let with = |family: &str, file: &str, words: &[&str], with: &dyn Fn(&mut Value)| {
        let (folder, m) = copied(family);
        change(&m.join(file), with);
        refused(&folder, &m, 4, words);
    };
    with(
        "llama",
        "tokenizer.json",
        &["tokenizer.json: key `model.merges`: merge 0, `a zz`", "among the tokens"],
        &|t| {
            t["model"]["merges"][0] = json!(["a", "zz"]);
        },
    );
    with("llama", "tokenizer.json", &["merge 1", "two tokens are expected"], &|t| {
        t["model"]["merges"][1] = "ab".into()
    });
    with(
        "llama",
        "tokenizer.json",
        &["key `token 4000000000`", "the embedding has 320 rows", "of different models"],
        &|t| {
            t["added_tokens"][4]["id"] = 4_000_000_000u32.into();
        },
    );
    with(
        "llama",
        "tokenizer.json",
        &["key `token 3`", "`<|im_start|>` and `<|im_end|>` have this id"],
        &|t| {
            t["added_tokens"][4]["id"] = 3.into();
        },
    );
    with(
        "llama",
        "tokenizer_config.json",
        &["tokenizer_config.json: key `eos_token`: `<end>` is no token of tokenizer.json"],
        &|s| {
            s["eos_token"] = "<end>".into();
        },
    );
    with("llama", "generation_config.json", &["key `eos_token_id`: 320, and there are 320 tokens"], &|s| {
        s["eos_token_id"] = 320.into()
    });
    with(
        "llama",
        "generation_config.json",
        &["generation_config.json: key `eos_token_id`: \"x\"; a token id"],
        &|s| {
            s["eos_token_id"] = "x".into();
        },
    );
    let (folder, m) = copied("llama");
    let text = std::fs::read(m.join("tokenizer.json")).unwrap();
    std::fs::write(m.join("tokenizer.json"), &text[..text.len() - 9]).unwrap();
    refused(&folder, &m, 4, &["tokenizer.json: no tokenizer", "may be cut: fetch it again"]);
}

#[test]
fn options_that_need_samples_are_refused() {
    let (folder, m) = copied("qwen3");
    let ended = edge_convert().arg(&m).arg("-o").arg(folder.file("m.pack")).args("--keep-float").run();
    ended.expect_saying(2, &["--keep-float", "leave the option out"]);
}
