//! GGUF files written byte by byte, and tiny Llama decoders in them.

use edge_converter::import::gguf::{Form, Kind};
use edge_runtime::random::{philox, uniform};

/// A file in the making.
pub struct Builder {
    /// The format's version.
    pub version: u32,
    keys: Vec<(String, Vec<u8>)>,
    /// Name, shape with the outermost dimension first, type, bytes.
    pub tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { version: 3, keys: Vec::new(), tensors: Vec::new() }
    }
}

/// A string as the format has it.
pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

impl Builder {
    /// Sets a key to a type's number and the bytes of its value.
    pub fn key(&mut self, key: &str, kind: u32, value: &[u8]) -> &mut Builder {
        self.keys.retain(|(known, _)| known != key);
        self.keys.push((key.to_string(), [&kind.to_le_bytes()[..], value].concat()));
        self
    }

    /// Adds a u32.
    pub fn count(&mut self, key: &str, value: u32) -> &mut Builder {
        self.key(key, 4, &value.to_le_bytes())
    }

    /// Adds an f32.
    pub fn real(&mut self, key: &str, value: f32) -> &mut Builder {
        self.key(key, 6, &value.to_le_bytes())
    }

    /// Adds a string.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Builder {
        self.key(key, 8, &string(value.as_bytes()))
    }

    /// Adds an array of strings.
    pub fn texts(&mut self, key: &str, values: &[&[u8]]) -> &mut Builder {
        let mut bytes = [&8u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        values.iter().for_each(|value| bytes.extend(string(value)));
        self.key(key, 9, &bytes)
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, name: &str, dims: &[usize], kind: u32, bytes: Vec<u8>) -> &mut Builder {
        self.tensors.push((name.to_string(), dims.to_vec(), kind, bytes));
        self
    }

    /// The file, its tensors in order at multiples of 32.
    pub fn finish(&self) -> Vec<u8> {
        let mut head = [&b"GGUF"[..], &self.version.to_le_bytes()].concat();
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            head.extend(string(key.as_bytes()));
            head.extend(value);
        }
        let mut data = Vec::new();
        for (name, dims, kind, bytes) in &self.tensors {
            head.extend(string(name.as_bytes()));
            head.extend((dims.len() as u32).to_le_bytes());
            dims.iter().rev().for_each(|size| head.extend((*size as u64).to_le_bytes()));
            head.extend(kind.to_le_bytes());
            data.resize(data.len().next_multiple_of(32), 0);
            head.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
        }
        head.resize(head.len().next_multiple_of(32), 0);
        [head, data].concat()
    }
}

/// What a tiny Llama is made of.
#[derive(Clone, Copy)]
pub struct Tiny {
    /// The type of its matrices.
    pub kind: &'static str,
    /// The type of its embedding.
    pub embedding: &'static str,
    /// Whether the embedding is the output's matrix too.
    pub tied: bool,
    /// Whether queries and keys have a bias.
    pub bias: bool,
}

/// Sizes of tiny models.
pub const BLOCKS: usize = 2;
/// Columns: a multiple of every type's block.
pub const WIDTH: usize = 256;
/// Columns between the gated products.
pub const INNER: usize = 512;
/// Heads of queries, and of keys and values.
pub const HEADS: [usize; 2] = [4, 2];
/// Elements of a head.
pub const DEPTH: usize = 64;
/// Tokens.
pub const VOCABULARY: usize = 50;
/// Of norms.
pub const EPSILON: f32 = 1e-5;
/// Of rotary positions.
pub const BASE: f32 = 500.0;

/// A model with noise for weights, of about the sizes that weights have.
pub fn llama(tiny: &Tiny) -> Builder {
    let mut b = Builder::default();
    b.text("general.architecture", "llama").text("tokenizer.ggml.model", "no_vocab");
    b.count("llama.block_count", BLOCKS as u32).count("llama.context_length", 64);
    b.count("llama.embedding_length", WIDTH as u32).count("llama.feed_forward_length", INNER as u32);
    b.count("llama.attention.head_count", HEADS[0] as u32);
    b.count("llama.attention.head_count_kv", HEADS[1] as u32);
    b.count("llama.vocab_size", VOCABULARY as u32).count("llama.rope.dimension_count", DEPTH as u32);
    b.real("llama.attention.layer_norm_rms_epsilon", EPSILON).real("llama.rope.freq_base", BASE);
    let [heads, kv] = HEADS.map(|heads| heads * DEPTH);
    let mut matrix = |name: &str, n: usize, k: usize, kind: &str| {
        let seed = 100 + b.tensors.len() as u64;
        let kind = Kind::named(kind).unwrap();
        b.tensor(&format!("{name}.weight"), &[n, k], kind.id, noise(kind, n * k, seed));
    };
    matrix("token_embd", VOCABULARY, WIDTH, tiny.embedding);
    for i in 0..BLOCKS {
        let all = [
            ("attn_q", heads, WIDTH),
            ("attn_k", kv, WIDTH),
            ("attn_v", kv, WIDTH),
            ("attn_output", WIDTH, heads),
            ("ffn_gate", INNER, WIDTH),
            ("ffn_up", INNER, WIDTH),
            ("ffn_down", WIDTH, INNER),
        ];
        all.into_iter().for_each(|(name, n, k)| matrix(&format!("blk.{i}.{name}"), n, k, tiny.kind));
    }
    if !tiny.tied {
        matrix("output", VOCABULARY, WIDTH, tiny.kind);
    }
    let mut vector = |name: &str, len: usize, middle: f32| {
        let seed = 900 + b.tensors.len() as u64;
        let values = (0..len as u64).flat_map(|i| (middle + uniform(seed, i) - 0.5).to_le_bytes());
        b.tensor(name, &[len], 0, values.collect());
    };
    vector("output_norm.weight", WIDTH, 1.0);
    for i in 0..BLOCKS {
        vector(&format!("blk.{i}.attn_norm.weight"), WIDTH, 1.0);
        vector(&format!("blk.{i}.ffn_norm.weight"), WIDTH, 1.0);
        if tiny.bias {
            vector(&format!("blk.{i}.attn_q.bias"), heads, 0.0);
            vector(&format!("blk.{i}.attn_k.bias"), kv, 0.0);
        }
    }
    b
}

/// 44 characters, then `<end>`, `<bos>`, `<user>`, `<bot>`, `é`'s two bytes.
fn characters() -> Vec<String> {
    let mut tokens: Vec<String> =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ.,:!?012".chars().map(String::from).collect();
    tokens.extend(["<end>", "<bos>", "<user>", "<bot>", "Ã", "©"].map(str::to_string));
    assert_eq!(tokens.len(), VOCABULARY);
    tokens
}

/// A tiny Llama with a tokenizer of characters and, if given, a chat template.
pub fn talking(template: Option<&str>) -> Builder {
    let mut file = llama(&Tiny { kind: "Q8_0", embedding: "Q8_0", tied: false, bias: false });
    let tokens = characters();
    let kinds = (0..VOCABULARY).map(|i| if (44..48).contains(&i) { 3i32 } else { 1 });
    let kinds: Vec<u8> = kinds.flat_map(i32::to_le_bytes).collect();
    file.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
    file.texts("tokenizer.ggml.tokens", &tokens.iter().map(String::as_bytes).collect::<Vec<_>>());
    file.texts("tokenizer.ggml.merges", &[]);
    file.key(
        "tokenizer.ggml.token_type",
        9,
        &[&5u32.to_le_bytes()[..], &(VOCABULARY as u64).to_le_bytes(), &kinds].concat(),
    );
    file.count("tokenizer.ggml.eos_token_id", 44).count("tokenizer.ggml.bos_token_id", 45);
    if let Some(template) = template {
        file.text("tokenizer.chat_template", template);
    }
    file
}

/// Where a block has floats, and about what: a scale and, at the second place, a minimum.
fn places(name: &str) -> &'static [(usize, f32)] {
    match name {
        "Q4_0" => &[(0, 0.01)],
        "Q4_1" => &[(0, 0.01), (2, -0.07)],
        "Q5_0" => &[(0, -0.005)],
        "Q5_1" => &[(0, 0.005), (2, -0.08)],
        "Q8_0" | "IQ4_NL" => &[(0, 0.0006)],
        "Q2_K" => &[(80, 0.005), (82, 0.007)],
        "Q3_K" => &[(108, 0.001)],
        "Q4_K" => &[(0, 0.0001), (2, 0.0008)],
        "Q5_K" => &[(0, 0.00005), (2, 0.0008)],
        "Q6_K" => &[(208, 0.00002)],
        "IQ4_XS" => &[(0, 0.00002)],
        _ => &[],
    }
}

/// Elements of a type: noise with scales of a fit size.
fn noise(kind: &Kind, elements: usize, seed: u64) -> Vec<u8> {
    let real = |i: usize| (uniform(seed, i as u64) - 0.5) * 0.2;
    match kind.name {
        "F32" => (0..elements).flat_map(|i| real(i).to_le_bytes()).collect(),
        "F16" => (0..elements).flat_map(|i| half::f16::from_f32(real(i)).to_le_bytes()).collect(),
        "BF16" => (0..elements).flat_map(|i| half::bf16::from_f32(real(i)).to_le_bytes()).collect(),
        name => {
            assert!(matches!(kind.form, Form::Codes(_)));
            let len = elements / kind.elements * kind.bytes;
            let mut bytes: Vec<u8> = (0..len as u64 / 16 + 1)
                .flat_map(|i| philox(seed, i))
                .flat_map(u32::to_le_bytes)
                .take(len)
                .collect();
            for (i, block) in bytes.chunks_exact_mut(kind.bytes).enumerate() {
                let about = 0.5 + uniform(seed + 7, i as u64);
                for (at, size) in places(name) {
                    block[*at..at + 2].copy_from_slice(&half::f16::from_f32(size * about).to_le_bytes());
                }
                if name == "Q8_K" {
                    block[..4].copy_from_slice(&(-0.0006 * about).to_le_bytes());
                }
            }
            bytes
        }
    }
}
