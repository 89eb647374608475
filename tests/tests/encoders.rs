//! Encoders through `edge-convert` and `edge-run`: what the transformers library computes (`reference/hf/make_encoders.py`), vectors of texts, ladders that a text
//! makes, checkpoints that do not suit.

use edge_converter::import::checkpoint::Checkpoint;
use edge_runtime::inputs::{NamedArray, read_npy, read_npz};
use edge_runtime::pack::PackFile;
use edge_tests::gguf::Builder;
use edge_tests::pretrained::{change, converted, copied, reference};
use edge_tests::{Ended, Folder, cached_model, edge_convert, edge_run};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Both compute in f32 with the same weights: what differs is the order of sums. As a share of the range; at most 9.2e-7 was seen.
const BOUND: f64 = 2e-6;

fn floats(array: &NamedArray) -> Vec<f64> {
    array.data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}

fn find<'a>(arrays: &'a [NamedArray], name: &str) -> &'a NamedArray {
    arrays.iter().find(|array| array.name == name).unwrap()
}

/// The largest difference as a share of the range, where `counts`.
fn error(got: &NamedArray, want: &NamedArray, counts: impl Fn(usize) -> bool) -> f64 {
    let (got, want) = (floats(got), floats(want));
    let all: Vec<usize> = (0..want.len()).filter(|i| counts(*i)).collect();
    let most = all.iter().map(|i| want[*i]).fold(f64::NEG_INFINITY, f64::max);
    let least = all.iter().map(|i| want[*i]).fold(f64::INFINITY, f64::min);
    assert_eq!(got.len(), want.len());
    let far = all.iter().map(|i| (got[*i] - want[*i]).abs());
    far.fold(0.0, |most, d| if d <= most { most } else { d }) / (most - least)
}

#[test]
fn encoders_give_the_results_of_transformers() {
    let results = [
        ("bert", &["last_hidden_state", "sentence_embedding"][..]),
        ("bert_cased", &["last_hidden_state", "sentence_embedding"]),
        ("bert_classifier", &["logits"]),
        ("roberta", &["last_hidden_state", "sentence_embedding"]),
        ("roberta_classifier", &["logits"]),
        ("distilbert", &["last_hidden_state", "sentence_embedding"]),
        ("distilbert_classifier", &["logits"]),
    ];
    for (name, results) in results {
        let (folder, stored) = (Folder::new("encoder"), reference(&format!("{name}.npz")));
        let (pack, out) = (converted(&folder, &reference(name)), folder.file("out.npz"));
        let want = read_npz(&stored, 1 << 20).unwrap();
        let inputs = folder.file("in.npz");
        let of_inputs = |array: &&NamedArray| !results.contains(&array.name.as_str());
        let given: Vec<NamedArray> = want.iter().filter(of_inputs).cloned().collect();
        edge_runtime::inputs::write_npz(&inputs, &given).unwrap();
        edge_run().arg(pack).arg("--input").arg(inputs).arg("--output").arg(&out).run().expect(0);
        let got = read_npz(&out, 1 << 20).unwrap();
        assert_eq!(got.len(), results.len(), "{name}");
        for result in results {
            let (got, want) = (find(&got, result), find(&want, result));
            assert_eq!(got.dims, want.dims, "{name}: {result}");
            // What stands where the second text is filled up means nothing.
            let by_tokens = got.dims.len() == 3;
            let error = error(got, want, |i| !by_tokens || i < (got.dims[1] + 5) * got.dims[2]);
            eprintln!("{name}: {result}: {error:.1e}");
            assert!(error <= BOUND, "{name}: {result}: {error:e}");
        }
    }
}

/// A checkpoint as llama.cpp's converter writes it: names and keys of its own, tokens that begin words marked instead of those that go on with them.
fn as_gguf(name: &str) -> Vec<u8> {
    let source = reference(name);
    let tensors = Checkpoint::open(&source.join("model.safetensors")).unwrap();
    let mut file = Builder::default();
    file.text("general.architecture", "bert")
        .text("tokenizer.ggml.model", "bert")
        .text("tokenizer.ggml.pre", "jina-v2-en");
    let counts = [
        ("block_count", 2),
        ("context_length", 48),
        ("embedding_length", 24),
        ("feed_forward_length", 40),
        ("attention.head_count", 4),
        ("pooling_type", 1),
    ];
    counts.iter().for_each(|(key, count)| _ = file.count(&format!("bert.{key}"), *count));
    file.real("bert.attention.layer_norm_epsilon", 1e-12);
    let read: Value = serde_json::from_slice(&std::fs::read(source.join("tokenizer.json")).unwrap()).unwrap();
    let vocabulary = read["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![Vec::new(); vocabulary.len()];
    for (token, id) in vocabulary {
        let marked = match token.strip_prefix("##") {
            Some(rest) => rest.to_string(),
            None if token.starts_with('[') && token.ends_with(']') => token.clone(),
            None => format!("\u{2581}{token}"),
        };
        tokens[id.as_u64().unwrap() as usize] = marked.into_bytes();
    }
    file.texts("tokenizer.ggml.tokens", &tokens.iter().map(|token| &token[..]).collect::<Vec<_>>());
    file.count("tokenizer.ggml.seperator_token_id", 3).count("tokenizer.ggml.unknown_token_id", 1);
    let places = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    for info in tensors.tensors().iter().filter(|info| !info.name.starts_with("pooler")) {
        let (layer, rest) = match info.name.strip_prefix("encoder.layer.") {
            Some(rest) => (format!("blk.{}.", &rest[..1]), &rest[2..]),
            None => (String::new(), &info.name[..]),
        };
        let (stem, part) = rest.rsplit_once('.').unwrap();
        let (_, name) = places.iter().find(|(stored, _)| *stored == stem).unwrap();
        let bytes = tensors.bytes(&info.name).unwrap().into_owned();
        file.tensor(&format!("{layer}{name}.{part}"), &info.dims, 0, bytes);
    }
    file.finish()
}

#[test]
fn a_gguf_file_gives_the_same_vectors() {
    let folder = Folder::new("encoder");
    let (of_folder, of_file) = (converted(&folder, &reference("bert")), folder.file("g.pack"));
    let source = folder.write("m.gguf", &as_gguf("bert"));
    edge_convert().arg(source).arg("-o").arg(&of_file).run().expect(0);
    let vectors = |pack: &Path| -> Vec<Vec<f64>> {
        let texts = ["Größe, naïve façades", "it runs on any device.", "[SEP] 知之 unbelievable-words"];
        let run = texts.iter().fold(edge_run().arg("embed").arg(pack), |run, text| run.arg(text)).run();
        run.expect(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (a, b) = (vectors(&of_folder), vectors(&of_file));
    assert_eq!((a.len(), b.len()), (3, 3));
    assert!(a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn tokenizers_give_the_ids_of_the_library() {
    for (name, first, behind, longest) in
        [("bert", 2, 3, 48), ("bert_cased", 2, 3, 48), ("roberta", 0, 2, 48), ("distilbert", 2, 3, 48)]
    {
        let folder = Folder::new("encoder");
        let pack = converted(&folder, &reference(name));
        let read = std::fs::read(reference(&format!("{name}.tokens.json"))).unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&read).unwrap();
        assert!(rows.len() > 100);
        let texts: String = rows.iter().map(|row| format!("{}\n", row["text"])).collect();
        let mut child = edge_run().arg("tokenize").arg(&pack).args("--lines --no-bos").spawn_with_stdin();
        let mut pipe = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || pipe.write_all(texts.as_bytes()).unwrap());
        let said = Ended::of(child);
        writer.join().unwrap();
        said.expect(0);
        assert_eq!(said.stdout.lines().count(), rows.len());
        for (row, line) in rows.iter().zip(said.stdout.lines()) {
            let ids: Value = serde_json::from_str(line).unwrap();
            assert_eq!(ids, row["ids"], "{name}: {}", row["text"]);
        }
        let header = PackFile::open(&pack).unwrap();
        let tokens = header.header().tokenizer.clone().unwrap();
        let around = [&tokens["first"], &tokens["behind"], &tokens["longest"]];
        assert_eq!(around, [&json!(first), &json!(behind), &json!(longest)], "{name}");
    }
}

/// MiniLM, when it is in the models' cache: an independent BERT in float64 (`reference/expected/README.md`).
#[test]
fn minilm_gives_the_vectors_of_its_reference() {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_default();
    let name = "minilm/model.safetensors";
    if !home.join(".cache/edge-models").join(name).is_file() {
        return;
    }
    let Some(source) = cached_model(name) else { return };
    let (folder, root) = (Folder::new("encoder"), Path::new(env!("CARGO_MANIFEST_DIR")));
    let (pack, out) = (converted(&folder, &source), folder.file("out.npz"));
    let want = read_npz(&root.join("reference/expected/minilm.npz"), 1 << 20).unwrap();
    let given = ["input_ids", "attention_mask", "token_type_ids"].map(|name| {
        let array = find(&want, &format!("in:{name}")).clone();
        NamedArray { name: name.into(), ..array }
    });
    let inputs = folder.file("in.npz");
    edge_runtime::inputs::write_npz(&inputs, &given).unwrap();
    edge_run().arg(pack).arg("--input").arg(inputs).arg("--output").arg(&out).run().expect(0);
    let got = read_npz(&out, 1 << 24).unwrap();
    let (vectors, want) = (floats(find(&got, "sentence_embedding")), floats(find(&want, "out:embedding")));
    for (got, want) in vectors.chunks_exact(384).zip(want.chunks_exact(384)) {
        let length = got.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!(got.iter().zip(want).all(|(g, w)| (g / length - w).abs() < 1e-6));
    }
}

/// A vector of each text on a line, in a file, in JSON; alone or among others the same.
#[test]
fn texts_become_vectors() {
    let folder = Folder::new("encoder");
    let pack = converted(&folder, &reference("bert"));
    let texts = ["A small model", "is a fast model.", "", "it runs on any device, whatever its memory"];
    let embed = || edge_run().arg("embed").arg(&pack);
    let all = texts.iter().fold(embed(), |command, text| command.arg(text)).run();
    let vector = |line: &str| -> Vec<f64> { serde_json::from_str(line).unwrap() };
    let rows: Vec<Vec<f64>> = all.expect(0).stdout.lines().map(vector).collect();
    assert_eq!((rows.len(), rows[0].len()), (4, 24));
    for (text, row) in texts.iter().zip(&rows) {
        let length = row.iter().map(|x| x * x).sum::<f64>();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        let alone = vector(embed().arg(text).run().expect(0).stdout.trim());
        assert!(alone.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-5), "{text}");
    }
    let (lines, out) = (folder.write("lines.txt", texts.join("\n").as_bytes()), folder.file("out.npy"));
    let said = embed().arg("--lines").arg(lines).arg("-o").arg(&out).arg("--json").run().expect(0).json();
    assert_eq!((said["data"].as_array().unwrap().len(), &said["columns"]), (4, &json!(24)));
    let array = read_npy(&out, 1 << 20).unwrap();
    assert_eq!(array.dims, [4, 24]);
    assert!(floats(&array).iter().zip(rows.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-6));
    let table = embed().args("--cosine a b").run();
    assert_eq!(table.expect(0).stdout.lines().next().unwrap().split_whitespace().next(), Some("1.000"));
}

/// Runs may use the memory of their inputs, and one that follows another finds ids there again: where rungs are timed.
#[test]
fn encoders_are_timed() {
    let folder = Folder::new("encoder");
    let pack = converted(&folder, &reference("bert"));
    edge_run().arg("bench").arg(&pack).args("--repeat 3 --json").run().expect(0);
    edge_run().arg("profile-device").arg(&pack).arg("-o").arg(folder.file("board.json")).run().expect(0);
    let (inputs, stored) = (folder.file("in.npz"), read_npz(&reference("bert.npz"), 1 << 20).unwrap());
    let given = ["input_ids", "attention_mask", "token_type_ids"].map(|name| find(&stored, name).clone());
    edge_runtime::inputs::write_npz(&inputs, &given).unwrap();
    edge_run().arg(&pack).args("--latency 10s --input").arg(inputs).run().expect(0);
}

#[test]
fn long_texts_are_cut_and_other_packs_refused() {
    let folder = Folder::new("encoder");
    let pack = converted(&folder, &reference("bert"));
    let long = "words ".repeat(200);
    edge_run().arg("embed").arg(&pack).arg(&long).run().expect_saying(0, &["48 of its"]);
    edge_run()
        .arg("embed")
        .arg(&pack)
        .args("a --ctx 100")
        .run()
        .expect_saying(2, &["100 tokens", "48 at most"]);
    edge_run().arg("embed").arg(&pack).args("a --rung none").run().expect_saying(2, &["none"]);
    edge_run()
        .arg("embed")
        .arg(&pack)
        .args("a --mem 2MB")
        .run()
        .expect_saying(5, &["the least that would do"]);
    edge_run().arg(&pack).args("--prompt a").run().expect_saying(2, &["no decoder"]);
    let other = Folder::new("encoder");
    let decoder = converted(&other, &reference("qwen2"));
    edge_run().arg("embed").arg(&decoder).arg("a").run().expect_saying(2, &["no vector of a text", "`past`"]);
}

/// A text gives samples: the pack has a ladder, integer rungs too, and a budget chooses among them.
#[test]
fn a_text_makes_a_ladder() {
    let folder = Folder::new("encoder");
    let words = [
        "one file",
        "any device",
        "the budget",
        "a rung",
        "is planned",
        "within memory",
        "of weights",
        "runs on",
    ];
    let line =
        |i: usize| (0..9).map(|j| words[(i * 7 + j * (i + 3)) % 8]).collect::<Vec<_>>().join(" ") + "\n";
    let text = folder.write("text.txt", (0..60).map(line).collect::<String>().as_bytes());
    let pack = folder.file("m.pack");
    let said = edge_convert()
        .arg(reference("bert"))
        .arg("-o")
        .arg(&pack)
        .arg("--calib")
        .arg(&text)
        .args("--keep-float --json")
        .run();
    let report = said.expect(0).json();
    let rungs = report["rungs"].as_array().unwrap();
    assert!(rungs.len() > 3 && rungs.iter().any(|rung| rung["acts"] == "i8"), "{report}");
    assert!(report["samples"].as_str().unwrap().contains("text.txt"));
    let vector = |rung: &str| -> Vec<f64> {
        let said =
            edge_run().arg("embed").arg(&pack).args("--rung").arg(rung).arg("a rung of the budget").run();
        serde_json::from_str(&said.expect(0).stdout).unwrap()
    };
    let whole = vector("float");
    let cosine = |rung: &Value| {
        let other = vector(rung["id"].as_str().unwrap());
        whole.iter().zip(&other).map(|(a, b)| a * b).sum::<f64>()
    };
    let best = rungs.iter().filter(|rung| rung["acts"] == "i8").map(cosine).fold(0.0, f64::max);
    assert!(best > 0.99, "{best}");
    edge_run().arg("verify").arg(&pack).run().expect(0);
    let few = folder.write("few.txt", b"too short\n");
    let said = edge_convert().arg(reference("bert")).arg("-o").arg(&pack).arg("--calib").arg(few).run();
    said.expect_saying(2, &["few.txt", "at least 2 are expected"]);
}

/// What sentence-transformers would make of a decoder's tokens keeps it from nothing.
#[test]
fn a_decoder_beside_a_pooling_still_writes() {
    let (folder, m) = copied("qwen3");
    let modules = json!([{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]);
    std::fs::write(m.join("modules.json"), modules.to_string()).unwrap();
    std::fs::create_dir(m.join("1_Pooling")).unwrap();
    std::fs::write(m.join("1_Pooling/config.json"), r#"{"pooling_mode_lasttoken": true}"#).unwrap();
    let pack = converted(&folder, &m);
    edge_run().arg(&pack).args("--prompt abc -n 2 --temp 0").run().expect(0);
}

#[test]
fn what_is_not_implemented_is_said_at_once() {
    let refused = |name: &str, words: &[&str], with: &dyn Fn(&Path)| {
        let (folder, m) = copied(name);
        with(&m);
        let out = folder.file("m.pack");
        edge_convert().arg(&m).arg("-o").arg(&out).run().expect_saying(3, words);
        assert!(!out.exists());
    };
    refused("bert", &["relative_key", "module `Dense`", "pooling_mode_max_tokens", "tanh"], &|m| {
        change(&m.join("config.json"), |c| {
            c["position_embedding_type"] = "relative_key".into();
            c["hidden_act"] = "tanh".into();
        });
        change(&m.join("modules.json"), |c| {
            c.as_array_mut()
                .unwrap()
                .push(json!({"type": "sentence_transformers.models.Dense", "path": "3_Dense"}));
        });
        change(&m.join("1_Pooling/config.json"), |c| {
            c["pooling_mode_max_tokens"] = true.into();
        });
    });
    refused("bert", &["BertForQuestionAnswering"], &|m| {
        change(&m.join("config.json"), |c| c["architectures"] = json!(["BertForQuestionAnswering"]));
    });
    refused("bert", &["`../../other`", "a folder beside it"], &|m| {
        change(&m.join("modules.json"), |c| c[1]["path"] = "../../other".into());
    });

    let (folder, m) = copied("bert");
    change(&m.join("config.json"), |c| c["num_hidden_layers"] = 3.into());
    let run = edge_convert().arg(&m).arg("-o").arg(folder.file("m.pack")).run();
    run.expect_saying(4, &["encoder.layer.2.attention.self.query.weight", "`num_hidden_layers`"]);
    let (folder, m) = copied("bert");
    std::fs::write(m.join("modules.json"), "[{").unwrap();
    edge_convert()
        .arg(&m)
        .arg("-o")
        .arg(folder.file("m.pack"))
        .run()
        .expect_saying(4, &["modules.json", "cut"]);
}
