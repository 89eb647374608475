//! Words in pieces: the vocabulary as tables, with what is read of single characters.

use super::Found;
use super::characters::{Characters, characters};
use super::listed::{CONTROL, Listed, Tables, UNKNOWN};
use super::steps;
use crate::import::gguf::{Gguf, GgufError};
use edge_runtime::tokenizer::{TokenKind, Tokens, WORD_PIECES};
use serde_json::{Value, json};
use std::borrow::Cow;

/// What published tokenizers have before tokens that go on with a word,
pub(super) const CONTINUED: &str = "##";
/// and the most characters of a word that they look at.
pub(super) const LONGEST_WORD: usize = 100;
/// What files of llama.cpp have before tokens that begin a word instead.
const BEGINS: &[u8] = "\u{2581}".as_bytes();

/// The tokenizer of a GGUF file. Such a file does not say how its texts are normalized: as those of the models with small letters, whose accents are left out,
/// which is what llama.cpp does.
pub(super) fn import(file: &Gguf) -> Result<Found, GgufError> {
    let listed = Listed::read(file)?;
    let normalizer = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true});
    let read = match steps(&normalizer, &json!({"type": "BertPreTokenizer"})) {
        Ok(read) => read,
        Err(why) => return Ok(Found::Nothing(why)),
    };
    let is_special = |text: &[u8]| text.starts_with(b"[") && text.ends_with(b"]");
    let texts: Vec<Cow<'_, [u8]>> = listed
        .texts
        .iter()
        .map(|text| match text.strip_prefix(BEGINS) {
            Some(word) => Cow::Borrowed(word),
            None if is_special(text) => Cow::Borrowed(*text),
            None => Cow::Owned([CONTINUED.as_bytes(), text].concat()),
        })
        .collect();
    let kind = |(kind, text): (&i64, &&[u8])| match *kind {
        CONTROL | UNKNOWN => TokenKind::Control,
        _ if is_special(text) => TokenKind::Control,
        _ => TokenKind::Text,
    };
    let kinds: Vec<TokenKind> = listed.kinds.iter().zip(&listed.texts).map(kind).collect();
    let find = |word: &[u8]| listed.texts.iter().position(|text| *text == word).map(|id| id as u32);
    let named = listed.meanings(file, true)?;
    let tokens = Tokens {
        first: named.first.or(find(b"[CLS]")),
        behind: named.special.get("sep_token").copied().or(find(b"[SEP]")),
        unknown: named.unknown.or(find(b"[UNK]")),
        continued: Some(CONTINUED.into()),
        longest_word: LONGEST_WORD,
        ..named
    };
    let all = texts.iter().map(|text| &text[..]).zip(kinds);
    Ok(found(tokens, all, &read))
}

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
