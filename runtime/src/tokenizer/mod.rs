//! From text to token ids and back: byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019) out of flat tables that are
//! read where the pack is mapped. `runtime/PACK.md`, "Tokenizer", has their layout.
//!
//! ```text
//! split.rs  a text in pieces, by patterns that are data
//! pairs.rs  the bytes of a piece merged pair by pair
//! ```
#![forbid(unsafe_code)]

mod pairs;
mod split;

pub use split::{Atom, Classes, Pattern};

use crate::pack::{BlobId, BlobSource, Header};
use pairs::Pairs;
use serde::{Deserialize, Serialize};
use split::Ranges;
use std::sync::Arc;

/// The kind of tokenizer that this runtime has.
pub const BYTE_PAIRS: &str = "byte_pairs";

/// Most tokens, merges and ranges, each.
const MOST: usize = 1 << 24;
/// Most passes of patterns.
const PASSES: usize = 8;

/// How a pack's texts become token ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// `byte_pairs`; a reader that does not know the kind reads ids alone.
    pub kind: String,
    /// Number of tokens.
    pub tokens: usize,
    /// Number of merges.
    pub merges: usize,
    /// Number of ranges of characters with classes.
    pub ranges: usize,
    /// The tables.
    pub blob: BlobId,
    /// Passes that split a text, each the pieces of the one before; patterns in the order in which they are tried.
    pub split: Vec<Vec<Pattern>>,
    /// The token that a text begins with, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// Tokens that end what a model says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<u32>,
}

/// What tokens are, a byte each in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// Bytes of text, made by merges.
    Text = 0,
    /// Taken from a text as a whole before it is split.
    Added = 1,
    /// As `Added`, where the caller allows it: what controls a model is not for everyone to write.
    Control = 2,
}

/// Why a tokenizer cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum TokenizerError {
    #[error("the pack has no tokenizer; give token ids")]
    None,
    #[error("the pack's tokenizer is of kind `{kind}`, this runtime has `{BYTE_PAIRS}`; give token ids")]
    Kind { kind: String },
    #[error("the tokenizer's tables, blob {blob}, are not in what is mapped of the pack")]
    Missing { blob: BlobId },
    #[error("the tokenizer's tables: {why}; make the pack again")]
    Tables { why: String },
    #[error("token {id} is none of the {tokens} that there are")]
    Token { id: u32, tokens: usize },
}

/// A tokenizer over a pack's bytes.
pub struct Tokenizer {
    source: Arc<dyn BlobSource>,
    tokens: Tokens,
    places: Places,
    /// The token of each byte that is one.
    bytes: [Option<u32>; 256],
    /// Tokens that are taken from a text as a whole, and whether they control.
    added: Vec<(u32, bool)>,
    /// Whether an added token begins with a byte.
    begins: [bool; 256],
    ranges: Ranges,
}

/// Where the tables begin in the blob; `offsets` at 0.
#[derive(Clone, Copy)]
struct Places {
    merges: usize,
    ranges: usize,
    kinds: usize,
    text: usize,
}

/// Word `i` of little-endian words.
fn word(bytes: &[u8], i: usize) -> u32 {
    bytes.get(4 * i..4 * i + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

impl Tokens {
    /// As a pack's header has it.
    pub fn described(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(described)) => Some(described),
            _ => None,
        }
    }
}

impl Tokenizer {
    /// The tokenizer of a pack, whose `source` holds the blob of its tables. Every number of them is checked once.
    ///
    /// # Errors
    /// When there is none, it is of another kind, or its tables contradict themselves.
    pub fn new(header: &Header, source: Arc<dyn BlobSource>) -> Result<Tokenizer, TokenizerError> {
        let described = header.tokenizer.clone().ok_or(TokenizerError::None)?;
        match described.get("kind").and_then(|kind| kind.as_str()) {
            Some(BYTE_PAIRS) => {}
            kind => return Err(TokenizerError::Kind { kind: kind.unwrap_or_default().to_string() }),
        }
        let tokens: Tokens = serde_json::from_value(described.into())
            .map_err(|e| TokenizerError::Tables { why: e.to_string() })?;
        let wrong = |why: &str| TokenizerError::Tables { why: why.to_string() };
        let blob = source.blob(tokens.blob).ok_or(TokenizerError::Missing { blob: tokens.blob })?;
        let (n, m, r) = (tokens.tokens, tokens.merges, tokens.ranges);
        if [n, m, r].iter().any(|count| *count > MOST) {
            return Err(wrong("more than 2^24 of something"));
        }
        let merges = 4 * (n + 1);
        let ranges = merges + 16 * m;
        let kinds = ranges + 12 * r;
        let text = kinds + n;
        let places = Places { merges, ranges, kinds, text };
        let length = word(blob, n) as usize;
        if blob.len() < text || blob.len() - text != length {
            return Err(wrong(&format!("{} bytes, {text} and {length} of text are expected", blob.len())));
        }
        if word(blob, 0) != 0 || (0..n).any(|i| word(blob, i) > word(blob, i + 1)) {
            return Err(wrong("tokens do not follow one another"));
        }
        let table = Pairs::new(&blob[merges..ranges]);
        if !table.is_sound(n) {
            return Err(wrong("merges of tokens that are not there, or not in order"));
        }
        let classes = Ranges::new(&blob[ranges..kinds]).ok_or_else(|| wrong("ranges are not in order"))?;
        if tokens.split.len() > PASSES || tokens.split.iter().flatten().any(|pattern| !pattern.is_sound()) {
            return Err(wrong("patterns that match nothing, or too much"));
        }
        let (mut bytes, mut added, mut begins) = ([None; 256], Vec::new(), [false; 256]);
        for i in 0..n {
            let token = &blob[text + word(blob, i) as usize..text + word(blob, i + 1) as usize];
            match (blob[kinds + i], token) {
                (0, [byte]) => bytes[usize::from(*byte)] = Some(i as u32),
                (0, _) | (_, []) => {}
                (kind @ 1..=2, token) => {
                    begins[usize::from(token[0])] = true;
                    added.push((i as u32, kind == TokenKind::Control as u8));
                }
                _ => return Err(wrong("a token of an unknown kind")),
            }
        }
        let known = |id: &u32| (*id as usize) < n;
        if !tokens.first.iter().chain(&tokens.last).all(known) {
            return Err(wrong("a first or last token that is not there"));
        }
        Ok(Tokenizer { tokens, places, bytes, added, begins, ranges: classes, source })
    }

    /// What the pack says of it.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn blob(&self) -> &[u8] {
        // It was there when the tokenizer was made.
        self.source.blob(self.tokens.blob).unwrap_or_default()
    }

    /// The bytes of a token.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn text(&self, id: u32) -> Result<&[u8], TokenizerError> {
        let tokens = self.tokens.tokens;
        if id as usize >= tokens {
            return Err(TokenizerError::Token { id, tokens });
        }
        let (blob, i) = (self.blob(), id as usize);
        let place = self.places.text + word(blob, i) as usize..self.places.text + word(blob, i + 1) as usize;
        Ok(blob.get(place).unwrap_or_default())
    }

    /// Appends the ids of a text; control tokens are read in it where `control`. What a text begins with ([`Tokens::first`]) is left to
    /// the caller. A byte that is no token is left out: vocabularies that were trained lack some that no text has.
    pub fn encode(&self, text: &str, control: bool, ids: &mut Vec<u32>) {
        let (mut from, mut at) = (0, 0);
        let all = text.as_bytes();
        while at < all.len() {
            match self.added_at(&all[at..], control) {
                Some((id, len)) => {
                    self.pieces(&text[from..at], ids);
                    ids.push(id);
                    at += len;
                    from = at;
                }
                None => at += 1,
            }
        }
        self.pieces(&text[from..], ids);
    }

    /// The longest added token that bytes begin with, and its length. A token is UTF-8, so it ends between characters.
    fn added_at(&self, bytes: &[u8], control: bool) -> Option<(u32, usize)> {
        if !self.begins[usize::from(*bytes.first()?)] {
            return None;
        }
        let here = |(id, controls): &(u32, bool)| {
            let token = self.text(*id).ok()?;
            let is = (control || !controls) && bytes.starts_with(token) && std::str::from_utf8(token).is_ok();
            is.then_some((*id, token.len()))
        };
        // Of equal ones the first.
        self.added.iter().filter_map(here).reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    fn pieces(&self, text: &str, ids: &mut Vec<u32>) {
        let blob = self.blob();
        let Some(table) = blob.get(self.places.merges..self.places.ranges) else { return };
        let Some(ranges) = blob.get(self.places.ranges..self.places.kinds) else { return };
        let pairs = Pairs::new(table);
        let classes = self.ranges.over(ranges);
        split::pieces(text, &self.tokens.split, &classes, &mut |piece| {
            pairs.merge(piece.bytes().filter_map(|byte| self.bytes[usize::from(byte)]), ids);
        });
    }

    /// Appends the bytes of tokens. They need not be UTF-8 before the last of a text.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn decode(&self, ids: &[u32], bytes: &mut Vec<u8>) -> Result<(), TokenizerError> {
        ids.iter().try_for_each(|id| {
            bytes.extend(self.text(*id)?);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
