//! Byte-level byte-pair encoding: vocabulary and merges of a file as tables.

use super::listed::{CONTROL, Listed, Tables, USER_DEFINED};
use super::patterns::Split;
use super::{Found, patterns};
use crate::import::gguf::{Gguf, GgufError};
use edge_runtime::tokenizer::{BYTE_PAIRS, TokenKind, Tokens};
use std::collections::HashMap;

const MERGES: &str = "tokenizer.ggml.merges";

/// The byte that a character stands for: GPT-2 writes bytes that print as themselves and all others from U+0100 on, in order.
fn byte_of(c: char) -> Option<u8> {
    let prints = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let code = c as u32;
    if code < 256 {
        return prints(code).then_some(code as u8);
    }
    (0..256).filter(|byte| !prints(*byte)).nth((code - 256) as usize).map(|byte| byte as u8)
}

/// The bytes of a token as files write it.
fn bytes_of(token: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(token).ok()?.chars().map(byte_of).collect()
}

/// A token for a message.
fn shown(token: &[u8]) -> String {
    String::from_utf8_lossy(token).chars().take(60).collect()
}

/// The tables of tokens and merges, which are two tokens each in the order of their rank; `wrong` makes an error of a rank and a reason.
pub(super) fn tables<'t, E>(
    listed: &[(&'t [u8], TokenKind)],
    all: impl Iterator<Item = Option<[&'t [u8]; 2]>>,
    whole: bool,
    wrong: impl Fn(usize, String) -> E,
) -> Result<Tables, E> {
    let mut ids: HashMap<&[u8], u32> = HashMap::with_capacity(listed.len());
    let mut texts = Vec::with_capacity(listed.len());
    for (i, (token, kind)) in listed.iter().enumerate() {
        // Added tokens are texts as they are. What is no byte-level token among the others no merge makes.
        let text = match kind {
            TokenKind::Text => bytes_of(token).unwrap_or_default(),
            _ => token.to_vec(),
        };
        ids.entry(token).or_insert(i as u32);
        texts.push((text, *kind as u8));
    }
    let mut merges = Vec::new();
    for (rank, merge) in all.enumerate() {
        let Some([left, right]) = merge else { return Err(wrong(rank, "two tokens are expected".into())) };
        let find = |token: &[u8]| ids.get(token).copied();
        match (find(left), find(right), find(&[left, right].concat())) {
            (Some(a), Some(b), Some(merged)) => merges.push([a, b, rank as u32, merged]),
            _ => {
                let why = "both parts and what they become are expected among the tokens".into();
                return Err(wrong(rank, why));
            }
        }
    }
    merges.sort_unstable();
    // Of a pair that is there twice, the lower rank counts.
    merges.dedup_by_key(|merge| (merge[0], merge[1]));
    let mut tables = Tables { texts, merges, ranges: patterns::ranges(), ..Tables::default() };
    if whole {
        tables.sort(TokenKind::Text as u8);
    }
    Ok(tables)
}

pub(super) fn import(file: &Gguf, split: Split) -> Result<Found, GgufError> {
    let listed = Listed::read(file)?;
    let kind = |kind: &i64| match *kind {
        CONTROL => TokenKind::Control,
        USER_DEFINED => TokenKind::Added,
        _ => TokenKind::Text,
    };
    let tokens: Vec<(&[u8], TokenKind)> =
        listed.texts.iter().copied().zip(listed.kinds.iter().map(kind)).collect();
    let missing = || file.wrong_key(MERGES, "missing".into());
    let merges = file.strings(MERGES)?.ok_or_else(missing)?;
    let parts = merges.iter().map(|merge| {
        let at = merge.iter().skip(1).position(|byte| *byte == b' ')?;
        Some([&merge[..=at], &merge[at + 2..]])
    });
    let wrong = |rank: usize, why: String| {
        file.wrong_key(MERGES, format!("merge {rank}, `{}`: {why}", shown(merges[rank])))
    };
    let tables = tables(&tokens, parts, split.whole, wrong)?;
    let tokens = listed.meanings(file, split.starts)?;
    Ok(found(tokens, &tables, split, None))
}

/// A tokenizer of tables.
pub(super) fn found(tokens: Tokens, tables: &Tables, split: Split, left_out: Option<String>) -> Found {
    let mut tokens = tokens;
    tokens.kind = BYTE_PAIRS.into();
    tokens.split = split.passes;
    tokens.whole = split.whole;
    // Bytes are never unknown.
    tokens.unknown = None;
    let blob = tables.finish(&mut tokens);
    Found::Tokenizer(Box::new(tokens), blob, left_out)
}

#[cfg(test)]
mod tests {
    use super::byte_of;

    /// The table of GPT-2's `bytes_to_unicode`: 188 bytes are themselves, then U+0100 to U+0143.
    #[test]
    fn characters_stand_for_bytes() {
        let all: Vec<u8> = ('\0'..='\u{200}').filter_map(byte_of).collect();
        assert_eq!(all.len(), 256);
        assert!((0..=255).all(|byte| all.contains(&byte)));
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
        assert_eq!(byte_of('\u{143}'), Some(173));
        assert_eq!((byte_of(' '), byte_of('\u{144}'), byte_of('中')), (None, None, None));
    }
}
