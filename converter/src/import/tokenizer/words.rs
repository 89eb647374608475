//! Words in pieces: the vocabulary as tables, with what is read of single characters.

use super::Found;
use super::characters::{Characters, characters};
use super::listed::Tables;
use super::steps;
use edge_runtime::tokenizer::{TokenKind, Tokens, WORD_PIECES};
use serde_json::Value;

/// What a normalizer and a splitting come to.
///
/// # Errors
/// With what is not implemented, in words.
pub(super) fn steps(normalizer: &Value, splitting: &Value) -> Result<Characters, String> {
    characters(&steps::steps(normalizer, "normalizers"), &steps::steps(splitting, "pretokenizers"))
}

/// A tokenizer of these tokens.
pub(super) fn found<'t>(
    tokens: Tokens,
    all: impl Iterator<Item = (&'t [u8], TokenKind)>,
    read: &Characters,
) -> Found {
    let mut tables = Tables {
        texts: all.map(|(text, kind)| (text.to_vec(), kind as u8)).collect(),
        ranges: read.ranges.clone(),
        replaced: read.replaced.clone(),
        ..Tables::default()
    };
    tables.sort(TokenKind::Text as u8);
    let mut tokens = Tokens { kind: WORD_PIECES.into(), syllables: read.syllables, ..tokens };
    let blob = tables.finish(&mut tokens);
    Found::Tokenizer(Box::new(tokens), blob, None)
}
