//! Byte-level byte-pair encoding: vocabulary and merges of a file as tables.

use super::{Found, patterns};
use crate::import::gguf::{Gguf, GgufError};
use edge_runtime::tokenizer::{BYTE_PAIRS, Pattern, TokenKind, Tokens};
use std::collections::HashMap;

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
/// Kinds of tokens, as files number them.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

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

pub(super) fn import(file: &Gguf, split: Vec<Vec<Pattern>>) -> Result<Found, GgufError> {
    let missing = |key: &str| file.wrong_key(key, "missing".into());
    let written = file.strings(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
    let kinds = file.integers(KINDS)?.unwrap_or_else(|| vec![1; written.len()]);
    if kinds.len() != written.len() {
        return Err(file.wrong_key(KINDS, format!("{} elements for {} tokens", kinds.len(), written.len())));
    }
    let shown = |token: &[u8]| String::from_utf8_lossy(token).chars().take(60).collect::<String>();
    let mut ids: HashMap<&[u8], u32> = HashMap::with_capacity(written.len());
    let mut texts = Vec::with_capacity(written.len());
    for (i, (token, kind)) in written.iter().zip(&kinds).enumerate() {
        let kind = match *kind {
            CONTROL => TokenKind::Control,
            USER_DEFINED => TokenKind::Added,
            _ => TokenKind::Text,
        };
        // Added tokens are texts as they are. What is no byte-level token among the others no merge makes.
        let text = match kind {
            TokenKind::Text => bytes_of(token).unwrap_or_default(),
            _ => token.to_vec(),
        };
        ids.entry(token).or_insert(i as u32);
        texts.push((text, kind));
    }
    let mut merges = Vec::new();
    for (rank, merge) in file.strings(MERGES)?.ok_or_else(|| missing(MERGES))?.into_iter().enumerate() {
        let wrong = |why: &str| file.wrong_key(MERGES, format!("merge {rank}, `{}`: {why}", shown(merge)));
        let at = merge
            .iter()
            .skip(1)
            .position(|byte| *byte == b' ')
            .ok_or_else(|| wrong("two tokens are expected"))?;
        let (left, right) = (&merge[..=at], &merge[at + 2..]);
        let find = |token: &[u8]| ids.get(token).copied();
        match (find(left), find(right), find(&[left, right].concat())) {
            (Some(a), Some(b), Some(merged)) => merges.push([a, b, rank as u32, merged]),
            _ => return Err(wrong("both parts and what they become are expected among the tokens")),
        }
    }
    merges.sort_unstable();
    // Of a pair that is there twice, the lower rank counts.
    merges.dedup_by_key(|merge| (merge[0], merge[1]));
    let id = |key: &str| -> Result<Option<u32>, GgufError> {
        match file.count(key)? {
            Some(id) if id >= written.len() => {
                Err(file.wrong_key(key, format!("{id}, and there are {} tokens", written.len())))
            }
            id => Ok(id.map(|id| id as u32)),
        }
    };
    let starts = file.truth("tokenizer.ggml.add_bos_token")?.unwrap_or(false);
    let first = id("tokenizer.ggml.bos_token_id")?.filter(|_| starts);
    let mut last: Vec<u32> = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        last.extend(id(key)?.filter(|id| !last.contains(id)));
    }
    let ranges = patterns::ranges();
    let tokens = Tokens {
        kind: BYTE_PAIRS.into(),
        tokens: texts.len(),
        merges: merges.len(),
        ranges: ranges.len(),
        blob: 0,
        split,
        first,
        last,
    };
    Ok(Found::Tokenizer(tokens, tables(&texts, &merges, &ranges)))
}

/// The tables in their order.
fn tables(texts: &[(Vec<u8>, TokenKind)], merges: &[[u32; 4]], ranges: &[[u32; 3]]) -> Vec<u8> {
    let mut end = 0u32;
    let mut words = vec![end];
    for (text, _) in texts {
        end += text.len() as u32;
        words.push(end);
    }
    words.extend(merges.as_flattened());
    words.extend(ranges.as_flattened());
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(texts.iter().map(|(_, kind)| *kind as u8));
    bytes.extend(texts.iter().flat_map(|(text, _)| text));
    bytes
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
