//! SentencePiece's byte pairs: tokens with scores. A blank stands where files have U+2581.

use super::Found;
use super::listed::{BYTE, CONTROL, Listed, Tables, UNKNOWN, USER_DEFINED};
use crate::import::gguf::{Gguf, GgufError};
use edge_runtime::tokenizer::{SCORED_PAIRS, TokenKind, Tokens};
use std::collections::BTreeSet;

const SCORES: &str = "tokenizer.ggml.scores";
/// Most characters that tokens have before a blank, for texts to be parted before blanks.
const BEFORE_BLANK: usize = 64;

/// The byte of a token such as `<0x0A>`.
pub(super) fn byte(token: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(token).ok()?.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

pub(super) fn import(file: &Gguf) -> Result<Found, GgufError> {
    let listed = Listed::read(file)?;
    let scores = file.reals(SCORES)?.ok_or_else(|| file.wrong_key(SCORES, "missing".into()))?;
    if scores.len() != listed.texts.len() {
        return Err(
            file.wrong_key(SCORES, format!("{} elements for {} tokens", scores.len(), listed.texts.len()))
        );
    }
    if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
        return Err(
            file.wrong_key(SCORES, format!("{} of token {at}; a finite number is expected", scores[at]))
        );
    }
    let kind = |kind: &i64| match *kind {
        CONTROL | UNKNOWN => TokenKind::Control,
        USER_DEFINED => TokenKind::Added,
        BYTE => TokenKind::Byte,
        _ => TokenKind::Text,
    };
    let listed_kinds = listed.kinds.iter().map(kind);
    let (mut tables, before) =
        tables(listed.texts.iter().copied().zip(listed_kinds), scores).map_err(|id| {
            file.wrong_key(
                super::listed::TOKENS,
                format!("token {id} is a byte; `<0x00>` to `<0xFF>` is expected"),
            )
        })?;
    tables.sort(TokenKind::Text as u8);
    let tokens = listed.meanings(file, true)?;
    let blank = file.truth("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    Ok(found(tokens, &tables, blank, before))
}

/// A tokenizer of tables; `before` is what [`tables`] gives with them.
pub(super) fn found(tokens: Tokens, tables: &Tables, blank: bool, before: Option<String>) -> Found {
    let mut tokens = tokens;
    tokens.kind = SCORED_PAIRS.into();
    tokens.blank = blank;
    tokens.before_blank = before;
    let blob = tables.finish(&mut tokens);
    Found::Tokenizer(Box::new(tokens), blob, None)
}

/// The tables of tokens with scores, which nothing is sorted of, and the characters that tokens have before a blank unless these are many.
///
/// # Errors
/// With the token that is said to be a byte and is none.
pub(super) fn tables<'t>(
    tokens: impl Iterator<Item = (&'t [u8], TokenKind)>,
    scores: Vec<f32>,
) -> Result<(Tables, Option<String>), usize> {
    let mut tables = Tables { scores, ..Tables::default() };
    let mut before: BTreeSet<char> = BTreeSet::new();
    for (id, (text, kind)) in tokens.enumerate() {
        let text = match kind {
            TokenKind::Byte => vec![byte(text).ok_or(id)?],
            // Whoever means blanks by it writes U+2581 here too.
            _ => String::from_utf8_lossy(text).replace('\u{2581}', " ").into_bytes(),
        };
        if kind == TokenKind::Text {
            let text = String::from_utf8_lossy(&text);
            let pairs = text.chars().zip(text.chars().skip(1));
            before.extend(pairs.filter(|(a, b)| *a != ' ' && *b == ' ').map(|(a, _)| a));
        }
        tables.texts.push((text, kind as u8));
    }
    let before = (before.len() <= BEFORE_BLANK).then(|| before.iter().collect());
    Ok((tables, before))
}
