//! Tokenizers of source models, as the flat tables that packs have (`runtime/PACK.md`, "Tokenizer").
//!
//! ```text
//! listed.rs      tokens, the ones with a meaning, the chat template; the tables' layout
//! byte_pairs.rs  vocabulary and merges of byte-level byte-pair encoding
//! patterns.rs    how texts are split before that, by the names that files give it
//! scored.rs      vocabulary and scores of SentencePiece's byte pairs
//! pretrained.rs  tokenizer.json of the `tokenizers` library and what lies beside it
//! steps.rs       its normalizers and splittings, as far as there are tables of such
//! merges.rs      scores that give what its merges give
//! words.rs       vocabulary of words in pieces
//! characters.rs  what steps make of single characters
//! ```

mod byte_pairs;
mod characters;
mod listed;
mod merges;
mod patterns;
pub(super) mod pretrained;
mod scored;
mod steps;
mod words;

use super::gguf::{Gguf, GgufError};
use edge_runtime::tokenizer::Tokens;

/// A tokenizer before its tables are a blob.
pub enum Found {
    /// One; the id of its blob is for whoever stores it. What of it is left out, if anything.
    Tokenizer(Box<Tokens>, Vec<u8>, Option<String>),
    /// None that is implemented, or none at all: why.
    Nothing(String),
}

/// The tokenizer of a file.
///
/// # Errors
/// When it contradicts itself: a merge of tokens that are not there, for one.
pub fn import(file: &Gguf) -> Result<Found, GgufError> {
    let nothing = |why: &str| Ok(Found::Nothing(why.to_string()));
    let name = |text: &str| text.chars().take(40).collect::<String>();
    match file.text("tokenizer.ggml.model")? {
        None | Some("no_vocab") => nothing("the file has none"),
        Some("llama") => scored::import(file),
        Some("bert") => words::import(file),
        Some("gpt2") => match file.text("tokenizer.ggml.pre")? {
            None => nothing("the file does not say how texts are split"),
            Some(pre) => match patterns::named(pre) {
                Some(split) => byte_pairs::import(file, split),
                None => Ok(Found::Nothing(format!("texts split as `{}` are not implemented", name(pre)))),
            },
        },
        Some(model) => Ok(Found::Nothing(format!("tokens of model `{}` are not implemented", name(model)))),
    }
}
