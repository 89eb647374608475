//! From text to token ids and back: byte-pair encoding (Sennrich et al., 2016), of bytes (Radford et al., 2019) or of characters with scores (Kudo and
//! Richardson, 2018), and words in pieces (Wu et al., 2016), out of flat tables that are read where the pack is mapped. `runtime/PACK.md`, "Tokenizer", has
//! their layout.
//!
//! ```text
//! tables.rs      the tables
//! split.rs       a text in pieces, by patterns that are data
//! pairs.rs       what lies in a piece merged pair by pair
//! scored.rs      the same by the scores of tokens
//! word_pieces.rs words, and the longest tokens that they are made of
//! ```
#![forbid(unsafe_code)]

mod pairs;
mod scored;
mod split;
mod tables;
mod word_pieces;

use crate::sort;
pub use split::{Atom, Classes, Pattern};

use crate::pack::{BlobId, BlobSource, Header};
use pairs::Pairs;
use scored::Scored;
use serde::{Deserialize, Serialize};
use split::Ranges;
use std::collections::BTreeMap;
use std::sync::Arc;
use tables::{Places, Tables, word};
use word_pieces::WordPieces;

/// The kind of tokenizers that merge bytes.
pub const BYTE_PAIRS: &str = "byte_pairs";
/// The kind of those that merge characters by scores.
pub const SCORED_PAIRS: &str = "scored_pairs";
/// The kind of those that take words to pieces.
pub const WORD_PIECES: &str = "word_pieces";

/// Most passes of patterns.
const PASSES: usize = 8;

/// How a pack's texts become token ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// `byte_pairs`, `scored_pairs` or `word_pieces`; a reader that does not know the kind reads ids alone.
    pub kind: String,
    /// Number of tokens.
    pub tokens: usize,
    /// Number of merges.
    #[serde(default, skip_serializing_if = "is_default")]
    pub merges: usize,
    /// Number of ranges of characters with classes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ranges: usize,
    /// Number of scores: as many as tokens, or none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scores: usize,
    /// Number of tokens that are sorted by their text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sorted: usize,
    /// Number of characters that are read as others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replaced: usize,
    /// The tables.
    pub blob: BlobId,
    /// Passes that split a text, each the pieces of the one before; patterns in the order in which they are tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub split: Vec<Vec<Pattern>>,
    /// The token that a text begins with, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// Added and control tokens that take the white space behind them along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub takes_blanks: Vec<u32>,
    /// Those that take the white space before them along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub takes_blanks_before: Vec<u32>,
    /// The token that a text ends with, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u32>,
    /// Tokens that end what a model says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<u32>,
    /// Most tokens of a text that the model was made for, those that it begins and ends with among them, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest: Option<usize>,
    /// Of `byte_pairs`: a piece that is a token is taken as it is, whatever merges give.
    #[serde(default, skip_serializing_if = "is_default")]
    pub whole: bool,
    /// Of `scored_pairs`: a blank is put before a text, and before what follows a token that was taken whole.
    #[serde(default, skip_serializing_if = "is_default")]
    pub blank: bool,
    /// Of `scored_pairs`: the characters that tokens have before a blank. A text is parted before blanks that follow others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_blank: Option<String>,
    /// Of `word_pieces`: what tokens begin with that go on with a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<String>,
    /// Of `word_pieces`: most characters of a word that is not unknown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub longest_word: usize,
    /// Of `word_pieces`: syllables of Hangul are read as their letters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub syllables: bool,
    /// What stands for text that is no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<u32>,
    /// Tokens that templates know by a name, such as `bos_token`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub special: BTreeMap<String, u32>,
    /// How the model reads a conversation: a Jinja template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What tokens are, a byte each in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// Text, made by merges.
    Text = 0,
    /// Taken from a text as a whole before it is split.
    Added = 1,
    /// As `Added`, where the caller allows it: what controls a model is not for everyone to write.
    Control = 2,
    /// A byte of text that is no token otherwise.
    Byte = 3,
}

/// Why a tokenizer cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum TokenizerError {
    #[error("the pack has no tokenizer; give token ids")]
    None,
    #[error(
        "the pack's tokenizer is of kind `{kind}`, this runtime has `{BYTE_PAIRS}`, `{SCORED_PAIRS}` and `{WORD_PIECES}`; give token ids"
    )]
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
    /// Tokens that are taken from a text as a whole, and whether they control; by their first byte.
    added: Vec<(u32, bool)>,
    /// Where those that begin with a byte begin.
    begins: Vec<u32>,
    ranges: Ranges,
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
            Some(BYTE_PAIRS | SCORED_PAIRS | WORD_PIECES) => {}
            kind => return Err(TokenizerError::Kind { kind: kind.unwrap_or_default().to_string() }),
        }
        let tokens: Tokens = serde_json::from_value(described.into())
            .map_err(|e| TokenizerError::Tables { why: e.to_string() })?;
        let wrong = |why: &str| TokenizerError::Tables { why: why.to_string() };
        let blob = source.blob(tokens.blob).ok_or(TokenizerError::Missing { blob: tokens.blob })?;
        let places = Places::new(&tokens, blob)?;
        let n = tokens.tokens;
        let tables = Tables::new(blob, places, n);
        let classes = Ranges::new(tables.ranges()).ok_or_else(|| wrong("ranges are not in order"))?;
        if tokens.split.len() > PASSES || tokens.split.iter().flatten().any(|pattern| !pattern.is_sound()) {
            return Err(wrong("patterns that match nothing, or too much"));
        }
        let spelled = if tokens.kind == BYTE_PAIRS { TokenKind::Text } else { TokenKind::Byte };
        let (mut bytes, mut added) = ([None; 256], Vec::new());
        for id in 0..n as u32 {
            match (tables.kind(id), tables.text(id).unwrap_or_default()) {
                (Some(kind), [byte]) if kind == spelled => bytes[usize::from(*byte)] = Some(id),
                (Some(TokenKind::Added | TokenKind::Control), [first, ..]) => added.push((*first, id)),
                _ => {}
            }
        }
        let known = |id: &u32| (*id as usize) < n;
        let named = tokens
            .first
            .iter()
            .chain(&tokens.behind)
            .chain(&tokens.last)
            .chain(&tokens.unknown)
            .chain(&tokens.takes_blanks);
        let named = named.chain(&tokens.takes_blanks_before);
        if !named.chain(tokens.special.values()).all(known) {
            return Err(wrong("a first, last or special token that is not there"));
        }
        sort::ascending(&mut added);
        let begins = (0..=256)
            .map(|byte| added.partition_point(|(first, _)| u16::from(*first) < byte) as u32)
            .collect();
        let added = added.iter().map(|(_, id)| (*id, tables.kind(*id) == Some(TokenKind::Control))).collect();
        Ok(Tokenizer { tokens, places, bytes, added, begins, ranges: classes, source })
    }

    /// What the pack says of it.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Bytes of the tables that were not read when they were checked: the texts.
    pub fn unread(&self) -> usize {
        self.tables().text_bytes()
    }

    fn tables(&self) -> Tables<'_> {
        // The blob was there when the tokenizer was made.
        Tables::new(self.source.blob(self.tokens.blob).unwrap_or_default(), self.places, self.tokens.tokens)
    }

    /// The bytes of a token.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn text(&self, id: u32) -> Result<&[u8], TokenizerError> {
        self.tables().text(id).ok_or(TokenizerError::Token { id, tokens: self.tokens.tokens })
    }

    /// What a token is; `None` when there is no such token.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.tables().kind(id)
    }

    /// The texts of special tokens by their names.
    pub fn special(&self) -> BTreeMap<String, String> {
        let text = |id: &u32| String::from_utf8_lossy(self.text(*id).unwrap_or_default()).into_owned();
        self.tokens.special.iter().map(|(name, id)| (name.clone(), text(id))).collect()
    }

    /// Appends the ids of a text; control tokens are read in it where `control`. What a text begins and ends with ([`Tokens::first`],
    /// [`Tokens::behind`]) is left to the caller. A byte that is no token is left out: vocabularies that were trained lack some that no text has.
    pub fn encode(&self, text: &str, control: bool, ids: &mut Vec<u32>) {
        let (mut from, mut at) = (0, 0);
        let all = text.as_bytes();
        while at < all.len() {
            match self.added_at(&all[at..], control) {
                Some((id, len)) => {
                    let before = &text[from..at];
                    let takes = self.tokens.takes_blanks_before.contains(&id);
                    self.pieces(if takes { before.trim_end() } else { before }, ids);
                    ids.push(id);
                    at += len;
                    if self.tokens.takes_blanks.contains(&id) {
                        at = text.len() - text[at..].trim_start().len();
                    }
                    from = at;
                }
                None => at += 1,
            }
        }
        self.pieces(&text[from..], ids);
    }

    /// The ids of a text with what it begins and ends with, at most so many: of a longer text the beginning.
    pub fn framed(&self, text: &str, control: bool, most: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = self.tokens.first.into_iter().collect();
        self.encode(text, control, &mut ids);
        ids.extend(self.tokens.behind);
        self.cut(&mut ids, most);
        ids
    }

    /// Cuts what [`Tokenizer::framed`] gave to so many ids; what the text ends with stays.
    pub fn cut(&self, ids: &mut Vec<u32>, most: usize) {
        if ids.len() > most {
            ids.truncate(most.saturating_sub(self.tokens.behind.iter().count()));
            ids.extend(self.tokens.behind);
        }
    }

    /// The longest added token that bytes begin with, and its length. A token is UTF-8, so it ends between characters.
    fn added_at(&self, bytes: &[u8], control: bool) -> Option<(u32, usize)> {
        let first = usize::from(*bytes.first()?);
        let [from, to] = [*self.begins.get(first)?, *self.begins.get(first + 1)?];
        let tables = self.tables();
        let here = |(id, controls): &(u32, bool)| {
            let token = tables.text(*id)?;
            let is = (control || !controls) && bytes.starts_with(token) && std::str::from_utf8(token).is_ok();
            is.then_some((*id, token.len()))
        };
        // Of equal ones the first.
        let added = self.added.get(from as usize..to as usize)?;
        added.iter().filter_map(here).reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    fn pieces(&self, text: &str, ids: &mut Vec<u32>) {
        let tables = self.tables();
        if self.tokens.kind == SCORED_PAIRS {
            let (bytes, unknown) = (&self.bytes, self.tokens.unknown);
            let before_blank = self.tokens.before_blank.as_deref();
            return Scored { tables, bytes, unknown, before_blank }.encode(text, self.tokens.blank, ids);
        }
        let classes = self.ranges.over(tables.ranges());
        if self.tokens.kind == WORD_PIECES {
            let continued = self.tokens.continued.as_deref().unwrap_or_default();
            let Tokens { unknown, longest_word, syllables, .. } = self.tokens;
            return WordPieces { tables, classes, continued, unknown, longest_word, syllables }
                .encode(text, ids);
        }
        let pairs = Pairs::new(tables.merges());
        split::pieces(text, &self.tokens.split, &classes, &mut |piece| {
            let whole = self.tokens.whole.then(|| tables.find(piece.as_bytes())).flatten();
            match whole {
                Some(id) => ids.push(id),
                None => pairs.merge(piece.bytes().filter_map(|byte| self.bytes[usize::from(byte)]), ids),
            }
        });
    }

    /// Appends the bytes of tokens. They need not be UTF-8 before the last of a text. Of `word_pieces` words are parted by blanks, which is not how they
    /// were written.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn decode(&self, ids: &[u32], bytes: &mut Vec<u8>) -> Result<(), TokenizerError> {
        let continued = self.tokens.continued.as_deref().unwrap_or_default().as_bytes();
        for id in ids {
            let text = self.text(*id)?;
            let text = match text.strip_prefix(continued) {
                Some(rest) if !continued.is_empty() => rest,
                _ => {
                    if self.tokens.kind == WORD_PIECES && !bytes.is_empty() {
                        bytes.push(b' ');
                    }
                    text
                }
            };
            bytes.extend(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
