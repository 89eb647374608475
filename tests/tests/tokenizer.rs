//! Tokenizers of converted files against the `tokenizers` crate: equal ids for texts of all scripts, and the texts back.

use edge_converter::import::gguf::Gguf;
use edge_runtime::inputs::read_npz;
use edge_runtime::pack::PackFile;
use edge_runtime::random::philox;
use edge_runtime::tokenizer::Tokenizer;
use edge_tests::gguf::{Tiny, llama};
use edge_tests::{Folder, cached_model, edge_convert};
use serde_json::{Value, json};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};

/// Sentences in many scripts, beside what is written in this repository.
const SENTENCES: &str = "Le cœur a ses raisons. Übung macht den Meister. Быть или не быть, вот в чём вопрос. 知之为知之，不知为不知。\
    吾輩は猫である。名前はまだ無い。 모든 인간은 태어날 때부터 자유롭다. सत्यमेव जयते। إن مع العسر يسرا. בראשית ברא אלהים. ความพยายามอยู่ที่ไหน \
    Γνῶθι σεαυτόν. Ångström, naïve, façade; 1,234.56 € ½ ² Ⅷ ٣٤٥ 🙂👩‍👩‍👧🇩🇪 ∀x∈ℝ: x²≥0\n\n\tdef f(x):\r\n        return x  # it's, they're, I'd\n";

/// Where random characters come from.
const BLOCKS: [(u32, u32); 18] = [
    (0x20, 0x7e),
    (0x20, 0x7e),
    (0x30, 0x39),
    (0xa0, 0x17f),
    (0x300, 0x36f),
    (0x391, 0x3c9),
    (0x410, 0x44f),
    (0x5d0, 0x5ea),
    (0x620, 0x669),
    (0x905, 0x96f),
    (0xe01, 0xe4e),
    (0x2000, 0x206f),
    (0x2150, 0x218b),
    (0x3040, 0x30ff),
    (0x4e00, 0x9fff),
    (0xac00, 0xd7a3),
    (0xe000, 0xe0ff),
    (0x1f300, 0x1f64f),
];

fn corpus() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = ["README.md", "ARCHITECTURE.md", "runtime/PACK.md", "runtime/src/session/mod.rs"];
    let texts = files.map(|name| std::fs::read_to_string(root.join(name)).unwrap());
    texts.concat() + &SENTENCES.repeat(20)
}

/// Text `i` of a sequence: parts of a corpus, random characters, blanks, words that are split apart, added tokens.
fn text(i: u64, corpus: &[char], added: &[&str]) -> String {
    let mut text = String::new();
    let parts = 1 + philox(1, i)[0] % 6;
    for part in 0..u64::from(parts) {
        let word = philox(2, i * 8 + part);
        let count = word[1] as usize % 24;
        match word[0] % 8 {
            0..=2 => {
                let at = word[2] as usize % (corpus.len() - count);
                text.extend(&corpus[at..at + count]);
            }
            3 | 4 => text.extend((0..count as u64).filter_map(|j| {
                let word = philox(3, i * 1024 + part * 32 + j);
                let (first, last) = BLOCKS[word[0] as usize % BLOCKS.len()];
                char::from_u32(first + word[1] % (last - first + 1))
            })),
            5 => {
                let blanks = [' ', ' ', '\n', '\t', '\r', '\u{a0}', '\u{3000}'];
                let blank = |j: u64| blanks[philox(4, i * 64 + j)[0] as usize % blanks.len()];
                text.extend((0..count as u64 % 9).map(blank));
            }
            6 => {
                let words =
                    ["'s", "'ll", "'LL", "'", "don't", "I'd've", " 's", "2024", "3.14", "x1y2", "--", "…"];
                text.push_str(words[word[2] as usize % words.len()]);
            }
            _ if added.is_empty() => {}
            _ => {
                let token = added[word[2] as usize % added.len()];
                let end = if word[3].is_multiple_of(3) { token.len() - 1 } else { token.len() };
                text.push_str(&token[..end]);
            }
        }
    }
    text
}

fn open(pack: &Path) -> Tokenizer {
    let file = PackFile::open(pack).unwrap();
    let blob = file.header().tokenizer_blob().unwrap() as usize;
    let blob = &file.header().blobs[blob];
    // Nothing behind its tables is mapped.
    let source = file.map(blob.offset + blob.len).unwrap();
    Tokenizer::new(file.header(), Arc::new(source)).unwrap()
}

/// Texts of each comparison; fewer where the reference is not optimised.
const TEXTS: u64 = if cfg!(debug_assertions) { 5_000 } else { 50_000 };

/// Equal ids of so many texts, and the texts back.
fn same(ours: &Tokenizer, theirs: &tokenizers::Tokenizer, count: u64, added: &[&str]) {
    let corpus: Vec<char> = corpus().chars().collect();
    let (mut ids, mut bytes, mut all) = (Vec::new(), Vec::new(), 0);
    // Bytes that are no token are left out.
    let mut known = [false; 256];
    for id in 0..ours.tokens().tokens as u32 {
        if let [byte] = ours.text(id).unwrap() {
            known[usize::from(*byte)] = true;
        }
    }
    for i in 0..count {
        let text = text(i, &corpus, added);
        ids.clear();
        bytes.clear();
        ours.encode(&text, true, &mut ids);
        let want = theirs.encode(text.as_str(), false).unwrap();
        assert_eq!(ids, want.get_ids(), "text {i}: {text:?}");
        ours.decode(&ids, &mut bytes).unwrap();
        let kept = text.bytes().filter(|byte| known[usize::from(*byte)]);
        assert!(bytes.iter().copied().eq(kept), "text {i}");
        all += ids.len();
    }
    eprintln!("{count} texts, {all} tokens");
}

/// What a splitting is in the reference: its pre-tokenizers, and whether pieces that are tokens are taken whole.
fn splitting(pre: &str) -> (Vec<Value>, bool) {
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let split = |numbers: &str| {
        let regex = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
    };
    match pre {
        "gpt-2" => (vec![bytes(true)], false),
        "smollm" => (vec![json!({"type": "Digits", "individual_digits": true}), bytes(true)], false),
        "qwen2" => (vec![split(""), bytes(false)], false),
        "llama-bpe" => (vec![split("{1,3}"), bytes(false)], true),
        _ => panic!("{pre}"),
    }
}

/// A tokenizer as its own format has it.
fn described(pre: &str, vocabulary: Value, merges: Value, added: &[(u32, &str)]) -> tokenizers::Tokenizer {
    let (passes, whole) = splitting(pre);
    let passes = json!({"type": "Sequence", "pretokenizers": passes});
    build(
        json!({"pre_tokenizer": passes, "normalizer": null}),
        added,
        json!({"vocab": vocabulary, "merges": merges, "ignore_merges": whole}),
    )
}

fn build(parts: Value, added: &[(u32, &str)], model: Value) -> tokenizers::Tokenizer {
    let added = added.iter().map(|(id, content)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    });
    let mut whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(), "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false}
    });
    whole.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    whole["model"].as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
    tokenizers::Tokenizer::from_str(&whole.to_string()).unwrap()
}

/// Tokens by id and merges, of a vocabulary trained here.
fn trained() -> (Vec<String>, Vec<String>) {
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    let bytes = tokenizers::pre_tokenizers::byte_level::ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(bytes));
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let trainer = BpeTrainer::builder().vocab_size(2000).show_progress(false);
    let mut trainer: TrainerWrapper = trainer.initial_alphabet(alphabet.into_iter().collect()).build().into();
    tokenizer.train(&mut trainer, corpus().lines()).unwrap();
    let whole: Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
    let vocabulary = whole["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); vocabulary.len()];
    for (token, id) in vocabulary {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let merge = |merge: &Value| match merge {
        Value::Array(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        merge => merge.as_str().unwrap().to_string(),
    };
    (tokens, whole["model"]["merges"].as_array().unwrap().iter().map(merge).collect())
}

#[test]
fn a_trained_vocabulary_gives_the_ids_of_the_reference() {
    let (mut tokens, merges) = trained();
    assert!(merges.len() > 1000);
    let vocabulary = |tokens: &[String]| {
        Value::Object(tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect())
    };
    let plain = vocabulary(&tokens);
    let added = ["<|end|>", "<|end|>s", "<|user says|>", "[é]"];
    let ids: Vec<(u32, &str)> =
        added.iter().enumerate().map(|(i, token)| ((tokens.len() + i) as u32, *token)).collect();
    let kinds = (0..tokens.len()).map(|_| 1i32).chain([3, 3, 3, 4]);
    let kinds: Vec<u8> = kinds.flat_map(i32::to_le_bytes).collect();
    tokens.extend(added.map(str::to_string));
    for pre in ["gpt-2", "smollm", "qwen2", "llama-bpe"] {
        let mut file = llama(&Tiny { kind: "Q8_0", embedding: "Q8_0", tied: true, bias: false });
        file.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", pre);
        file.texts("tokenizer.ggml.tokens", &tokens.iter().map(String::as_bytes).collect::<Vec<_>>());
        file.texts("tokenizer.ggml.merges", &merges.iter().map(String::as_bytes).collect::<Vec<_>>());
        let count = (tokens.len() as u64).to_le_bytes();
        file.key("tokenizer.ggml.token_type", 9, &[&5u32.to_le_bytes()[..], &count, &kinds].concat());
        file.count("tokenizer.ggml.eos_token_id", tokens.len() as u32 - 4);
        let folder = Folder::new("tokenizer");
        let (source, pack) = (folder.write("m.gguf", &file.finish()), folder.file("m.pack"));
        edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
        let ours = open(&pack);
        assert_eq!(ours.tokens().last, [tokens.len() as u32 - 4]);
        let theirs = described(pre, plain.clone(), json!(merges), &ids);
        same(&ours, &theirs, TEXTS, &added);
    }
}

/// SmolLM2's own, when it is in the models' cache; and what llama.cpp makes of a prompt and of a text (`tests/reference/expected`).
#[test]
fn smollm2_has_the_ids_of_the_reference() {
    let Some(source) = optional("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let folder = Folder::new("tokenizer");
    let pack = folder.file("m.pack");
    edge_convert().arg(&source).arg("-o").arg(&pack).run().expect(0);
    let ours = open(&pack);
    let mut ids = Vec::new();
    ours.encode("The three primary colors are", false, &mut ids);
    assert_eq!(ids, [504, 1296, 3003, 4683, 359]);
    if let Some(text) = optional("text/jargon.txt") {
        // The bytes whose first 512 tokens `expected/smollm2.npz` has, as llama.cpp read them.
        let bytes = std::fs::read(text).unwrap();
        let text = String::from_utf8_lossy(&bytes[400_000..406_000]).replace('\u{fffd}', "");
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/expected/smollm2.npz");
        let stored = read_npz(&expected, 1 << 20).unwrap();
        let want = stored.iter().find(|array| array.name == "in:ppl_ids").unwrap();
        let width = want.dtype.bytes();
        let want = want.data.chunks_exact(width).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        ids.clear();
        ours.encode(&text, false, &mut ids);
        assert!(ids.iter().copied().take(512).eq(want));
    }

    let file = Gguf::open(&source).unwrap();
    let strings = |key: &str| {
        let strings = file.strings(key).unwrap().unwrap();
        strings.into_iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let (tokens, merges) = (strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges"));
    let kinds = file.integers("tokenizer.ggml.token_type").unwrap().unwrap();
    let controls = tokens.iter().zip(&kinds).enumerate().filter(|(_, (_, kind))| **kind == 3);
    let added: Vec<(u32, &str)> = controls.map(|(id, (token, _))| (id as u32, token.as_str())).collect();
    assert!(added.len() > 10);
    let vocabulary = tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let theirs = described("smollm", Value::Object(vocabulary), json!(merges), &added);
    let names: Vec<&str> = added.iter().map(|(_, token)| *token).collect();
    same(&ours, &theirs, TEXTS, &names);
}

/// Tokens with scores: a vocabulary of characters trained here, against the reference's byte pairs with the merges that such scores stand for, every
/// split of a token into two.
#[test]
fn scores_give_the_ids_of_the_reference() {
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    let blanks = tokenizers::normalizers::replace::Replace::new(" ", "\u{2581}").unwrap();
    tokenizer.with_normalizer(Some(blanks)).unwrap();
    // Words begin with their blank, as SentencePiece trains them.
    let words = tokenizers::pre_tokenizers::metaspace::Metaspace::new(
        '\u{2581}',
        tokenizers::pre_tokenizers::metaspace::PrependScheme::Never,
        true,
    );
    tokenizer.with_pre_tokenizer(Some(words));
    let mut trainer: TrainerWrapper =
        BpeTrainer::builder().vocab_size(1500).show_progress(false).build().into();
    tokenizer.train(&mut trainer, corpus().lines()).unwrap();
    let whole: Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
    let mut trained: Vec<(u64, String)> = whole["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (id.as_u64().unwrap(), text.clone()))
        .collect();
    trained.sort();
    // Byte tokens first, as such files have them, and an added token.
    let mut tokens: Vec<String> = vec!["<unk>".into(), "<s>".into(), "</s>".into()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let before = tokens.len();
    tokens.extend(trained.into_iter().map(|(_, text)| text));
    let kinds: Vec<i32> = (0..tokens.len())
        .map(|i| [2, 3, 3].get(i).copied().unwrap_or(if i < before { 6 } else { 1 }))
        .collect();
    let scores: Vec<f32> =
        (0..tokens.len()).map(|i| if i < before { 0.0 } else { before as f32 - i as f32 }).collect();
    let ids: std::collections::HashMap<&str, usize> =
        tokens.iter().enumerate().skip(before).map(|(i, t)| (t.as_str(), i)).collect();
    let mut merges = Vec::new();
    for token in &tokens[before..] {
        let places = token.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
        merges.extend(
            places
                .map(|at| token.split_at(at))
                .filter(|(a, b)| ids.contains_key(a) && ids.contains_key(b))
                .map(|(a, b)| json!([a, b])),
        );
    }
    let vocabulary =
        Value::Object(tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect());
    let added = [(1, "<s>"), (2, "</s>")];
    for prefix in [false, true] {
        let mut file = llama(&Tiny { kind: "Q8_0", embedding: "Q8_0", tied: true, bias: false });
        file.text("tokenizer.ggml.model", "llama").text("tokenizer.ggml.pre", "default");
        file.texts("tokenizer.ggml.tokens", &tokens.iter().map(String::as_bytes).collect::<Vec<_>>());
        let array = |kind: u32, words: Vec<[u8; 4]>| {
            [&kind.to_le_bytes()[..], &(tokens.len() as u64).to_le_bytes(), words.as_flattened()].concat()
        };
        file.key(
            "tokenizer.ggml.token_type",
            9,
            &array(5, kinds.iter().map(|kind| kind.to_le_bytes()).collect()),
        );
        file.key(
            "tokenizer.ggml.scores",
            9,
            &array(6, scores.iter().map(|score| score.to_le_bytes()).collect()),
        );
        file.key("tokenizer.ggml.add_space_prefix", 7, &[u8::from(prefix)]);
        file.count("tokenizer.ggml.bos_token_id", 1)
            .count("tokenizer.ggml.eos_token_id", 2)
            .count("tokenizer.ggml.unknown_token_id", 0);
        let folder = Folder::new("tokenizer");
        let (source, pack) = (folder.write("m.gguf", &file.finish()), folder.file("m.pack"));
        edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
        let ours = open(&pack);
        assert_eq!((ours.tokens().first, &ours.tokens().last[..]), (Some(1), &[2][..]));
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let steps = if prefix {
            vec![json!({"type": "Prepend", "prepend": "\u{2581}"}), replace]
        } else {
            vec![replace]
        };
        let parts = json!({"pre_tokenizer": null, "normalizer": {"type": "Sequence", "normalizers": steps}});
        let model = json!({"vocab": vocabulary, "merges": merges, "byte_fallback": true, "unk_token": "<unk>", "fuse_unk": true});
        let theirs = build(parts, &added, model);
        let corpus: Vec<char> = corpus().chars().collect();
        let (mut ids, mut bytes) = (Vec::new(), Vec::new());
        for i in 0..TEXTS / 4 {
            let text = text(i, &corpus, if prefix { &[] } else { &["<s>", "</s>"] });
            ids.clear();
            bytes.clear();
            ours.encode(&text, true, &mut ids);
            assert_eq!(ids, theirs.encode(text.as_str(), false).unwrap().get_ids(), "text {i}: {text:?}");
            ours.decode(&ids, &mut bytes).unwrap();
            let blank = if prefix && !text.is_empty() { " " } else { "" };
            assert_eq!(String::from_utf8(bytes.clone()).unwrap(), format!("{blank}{text}"));
        }
    }
}

/// Words in pieces: tokenizers that are trained in `reference/hf/make_encoders.py`, with small letters and without, and MiniLM's own when it is in the models' cache.
#[test]
fn pieces_of_words_give_the_ids_of_the_reference() {
    let own = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/hf").join(name);
    let cached = optional("minilm/model.safetensors").and_then(|file| Some(file.parent()?.to_path_buf()));
    for source in [own("bert"), own("bert_cased")].into_iter().chain(cached) {
        let folder = Folder::new("tokenizer");
        let pack = folder.file("m.pack");
        edge_convert().arg(source.join("model.safetensors")).arg("-o").arg(&pack).run().expect(0);
        let ours = open(&pack);
        let mut theirs = tokenizers::Tokenizer::from_file(source.join("tokenizer.json")).unwrap();
        theirs.with_padding(None).with_truncation(None).unwrap();
        let corpus: Vec<char> = corpus().chars().collect();
        let (mut ids, mut all, mut unknown) = (Vec::new(), 0, 0);
        for i in 0..TEXTS {
            let text = text(i, &corpus, &["[SEP]", "[MASK]", "[CLS]x"]);
            ids.clear();
            ours.encode(&text, true, &mut ids);
            let want = theirs.encode(text.as_str(), false).unwrap();
            assert_eq!(ids, want.get_ids(), "{source:?}, text {i}: {text:?}");
            all += ids.len();
            unknown += ids.iter().filter(|id| Some(**id) == ours.tokens().unknown).count();
        }
        eprintln!("{TEXTS} texts, {all} tokens, {unknown} unknown");
        assert!(unknown * 4 < all);
        // What all of them begin and end with; what users write is not taken for it.
        let framed = theirs.encode("A [SEP] B", true).unwrap();
        let [first, last] = [framed.get_ids()[0], framed.get_ids()[framed.len() - 1]];
        let plain = ours.framed("A [SEP] B", false, 64);
        assert_eq!((plain[0], plain[plain.len() - 1]), (first, last));
        assert!(plain.len() > framed.len() && !plain[1..plain.len() - 1].contains(&last));
        let cut = ours.framed("a b c d e f", false, 4);
        assert_eq!((cut.len(), cut[0], cut[3]), (4, first, last));
        // Words of a text, parted by blanks.
        let (ids, mut bytes) = (ours.framed("a text, of words", false, 64), Vec::new());
        ours.decode(&ids[1..ids.len() - 1], &mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a text , of words");
    }
}

/// Files whose ids llama.cpp gave (`reference/tokenization.py`), where they are in the models' cache.
#[test]
fn stored_ids_are_those_of_llama_cpp() {
    for (name, stored) in [
        ("gemma3-270m/gemma-3-270m-q4_k_m.gguf", "gemma3-270m"),
        ("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2"),
    ] {
        let Some(source) = optional(name) else { continue };
        let folder = Folder::new("tokenizer");
        let pack = folder.file("m.pack");
        edge_convert().arg(&source).arg("-o").arg(&pack).run().expect(0);
        let ours = open(&pack);
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("reference/expected/{stored}.tokens.json"));
        let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut ids = Vec::new();
        for row in &rows {
            ids.clear();
            ours.encode(row["text"].as_str().unwrap(), true, &mut ids);
            assert_eq!(json!(ids), row["ids"], "{name}: {}", row["text"]);
        }
        assert!(rows.len() >= 400);
    }
}

/// A model that CI does not fetch.
fn optional(name: &str) -> Option<std::path::PathBuf> {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from).unwrap_or_default();
    home.join(".cache/edge-models").join(name).is_file().then(|| cached_model(name)).flatten()
}
