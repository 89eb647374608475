//! What all kinds of tokenizers have in a file: tokens and their kinds, the ones with a meaning, the chat template.

use crate::import::gguf::{Gguf, GgufError};
use edge_runtime::tokenizer::Tokens;

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const TEMPLATE: &str = "tokenizer.chat_template";
/// Kinds of tokens, as files number them.
pub(super) const UNKNOWN: i64 = 2;
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
pub(super) const BYTE: i64 = 6;

/// Tokens that end a turn or a text in the templates of public families. Files name one or two of a model's; the others are known by what they say.
const ENDS: [&str; 15] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
];

/// Whether a token ends a turn or a text by what it says.
pub(super) fn is_end(text: &[u8]) -> bool {
    ENDS.iter().any(|word| word.as_bytes() == text)
}

/// The tokens of a file.
pub(super) struct Listed<'a> {
    pub texts: Vec<&'a [u8]>,
    pub kinds: Vec<i64>,
}

impl<'a> Listed<'a> {
    pub fn read(file: &'a Gguf) -> Result<Listed<'a>, GgufError> {
        let texts = file.strings(TOKENS)?.ok_or_else(|| file.wrong_key(TOKENS, "missing".into()))?;
        let kinds = file.integers(KINDS)?.unwrap_or_else(|| vec![1; texts.len()]);
        if kinds.len() != texts.len() {
            return Err(file.wrong_key(KINDS, format!("{} elements for {} tokens", kinds.len(), texts.len())));
        }
        Ok(Listed { texts, kinds })
    }

    /// The token that a key names.
    fn named(&self, file: &Gguf, key: &str) -> Result<Option<u32>, GgufError> {
        match file.count(key)? {
            Some(id) if id >= self.texts.len() => {
                Err(file.wrong_key(key, format!("{id}, and there are {} tokens", self.texts.len())))
            }
            id => Ok(id.map(|id| id as u32)),
        }
    }

    /// First, last and special tokens, and the template. `starts`: whether texts begin with a token where the file does not say.
    pub fn meanings(&self, file: &Gguf, starts: bool) -> Result<Tokens, GgufError> {
        let mut tokens = Tokens { tokens: self.texts.len(), ..Tokens::default() };
        for name in ["bos", "eos", "unknown", "seperator", "padding"] {
            if let Some(id) = self.named(file, &format!("tokenizer.ggml.{name}_token_id"))? {
                let name = match name {
                    "unknown" => "unk",
                    "seperator" => "sep",
                    "padding" => "pad",
                    name => name,
                };
                tokens.special.insert(format!("{name}_token"), id);
            }
        }
        let starts = file.truth("tokenizer.ggml.add_bos_token")?.unwrap_or(starts);
        tokens.first = tokens.special.get("bos_token").copied().filter(|_| starts);
        tokens.unknown = tokens.special.get("unk_token").copied();
        for name in ["eos", "eot", "eom"] {
            let id = self.named(file, &format!("tokenizer.ggml.{name}_token_id"))?;
            tokens.last.extend(id.filter(|id| !tokens.last.contains(id)));
        }
        for id in (0..self.texts.len()).filter(|id| matches!(self.kinds[*id], CONTROL | USER_DEFINED)) {
            if is_end(self.texts[id]) && !tokens.last.contains(&(id as u32)) {
                tokens.last.push(id as u32);
            }
        }
        tokens.template = file.text(TEMPLATE)?.map(str::to_string);
        Ok(tokens)
    }
}

/// The tables in their order: `runtime/PACK.md`, "Tokenizer".
#[derive(Default)]
pub(super) struct Tables {
    /// Bytes and kind of each token.
    pub texts: Vec<(Vec<u8>, u8)>,
    pub merges: Vec<[u32; 4]>,
    pub ranges: Vec<[u32; 3]>,
    pub scores: Vec<f32>,
    pub sorted: Vec<u32>,
    /// Characters and what they are read as, ascending.
    pub replaced: Vec<(char, String)>,
}

impl Tables {
    /// Sorts the tokens of a kind by their text, of equal ones the first.
    pub fn sort(&mut self, kind: u8) {
        let text = |id: &u32| &self.texts[*id as usize].0[..];
        let mut sorted: Vec<u32> = (0..self.texts.len() as u32).collect();
        sorted.retain(|id| self.texts[*id as usize].1 == kind && !text(id).is_empty());
        sorted.sort_by(|a, b| text(a).cmp(text(b)));
        sorted.dedup_by(|b, a| text(a) == text(b));
        self.sorted = sorted;
    }

    /// The blob, and its counts in `tokens`.
    pub fn finish(&self, tokens: &mut Tokens) -> Vec<u8> {
        tokens.merges = self.merges.len();
        tokens.ranges = self.ranges.len();
        tokens.scores = self.scores.len();
        tokens.sorted = self.sorted.len();
        tokens.replaced = self.replaced.len();
        let mut end = 0u32;
        let mut words = vec![end];
        for (text, _) in &self.texts {
            end += text.len() as u32;
            words.push(end);
        }
        words.extend(self.merges.as_flattened());
        words.extend(self.ranges.as_flattened());
        words.extend(self.scores.iter().map(|score| score.to_bits()));
        words.extend(&self.sorted);
        let mut end = 0u32;
        for (c, text) in &self.replaced {
            end += text.len() as u32;
            words.extend([u32::from(*c), end]);
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(self.texts.iter().map(|(_, kind)| *kind));
        bytes.extend(self.texts.iter().flat_map(|(text, _)| text));
        bytes.extend(self.replaced.iter().flat_map(|(_, text)| text.as_bytes()));
        bytes
    }
}
