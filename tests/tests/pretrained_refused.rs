//! Checkpoints of the transformers library that are cut, lie, or ask for what is not implemented: the file, the tensor or key, and what is expected.

use edge_tests::pretrained::{change, copied};
use edge_tests::{Folder, edge_convert};
use serde_json::{Value, json};
use std::path::Path;

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
        "type `dynamic`",
    ];
    refused_with("qwen2", 3, &words, |config| {
        config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4});
        config["rope_scaling"] = json!({"type": "dynamic", "factor": 2.0});
    });
    // Lists of divisors that are not one for each pair of a head, or hold other things.
    let with = |list: Value| {
        move |config: &mut Value| {
            config["rope_scaling"] = json!({"type": "longrope", "short_factor": list.clone(), "original_max_position_embeddings": 32})
        }
    };
    refused_with(
        "phi3",
        4,
        &["rope_scaling.short_factor", "3 numbers; 2 are expected"],
        with(json!([1.0, 1.0, 1.0])),
    );
    refused_with("phi3", 4, &["rope_scaling.short_factor", "numbers above 0"], with(json!([0.0, 1.0])));
    refused_with("phi3", 4, &["`partial_rotary_factor`", "at most 1"], |config| {
        config["partial_rotary_factor"] = 1.5.into();
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
    refused_with("llama", 4, &["key `rms_norm_eps`: 1e300; a number of 32 bits"], |config| {
        config["rms_norm_eps"] = 1e300.into();
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
    with(
        "llama",
        "generation_config.json",
        &["generation_config.json: key `eos_token_id`: 320, and there are 320 tokens"],
        &|s| s["eos_token_id"] = 320.into(),
    );
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
