//! Byte pairs as SentencePiece has them (Kudo and Richardson, 2018): characters are joined as long as that gives a token, the one of the greatest score
//! first; what is no token in the end is spelled in bytes.

use super::pairs::{Symbol, merge, symbols};
use super::tables::Tables;
use std::borrow::Cow;
use std::cmp::Reverse;

/// U+2581 stands for a blank in SentencePiece's texts; in tables a blank does.
const BLANK: char = '\u{2581}';
/// No token.
const NONE: u32 = u32::MAX;

/// How texts become tokens.
pub(super) struct Scored<'a> {
    pub tables: Tables<'a>,
    /// The token of each byte.
    pub bytes: &'a [Option<u32>; 256],
    pub unknown: Option<u32>,
    /// Characters that tokens have before a blank; `None` when there are too many.
    pub before_blank: Option<&'a str>,
}

/// Ascending as the numbers are.
fn order(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

impl Scored<'_> {
    /// Appends the ids of a text, which `blank` is put before.
    pub fn encode(&self, text: &str, blank: bool, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut text = match text.contains(BLANK) {
            true => Cow::Owned(text.replace(BLANK, " ")),
            false => Cow::Borrowed(text),
        };
        if blank {
            text.to_mut().insert(0, ' ');
        }
        let mut from = 0;
        let mut last = '\0';
        for (at, c) in text.char_indices() {
            // No token reaches over this place, so both sides are joined by themselves.
            let apart = c == ' ' && last != ' ' && self.before_blank.is_some_and(|all| !all.contains(last));
            if apart && at > from {
                self.piece(&text[from..at], ids);
                from = at;
            }
            last = c;
        }
        self.piece(&text[from..], ids);
    }

    fn piece(&self, text: &str, ids: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        let mut symbols = symbols(text.char_indices().map(|(at, c)| (NONE, at + c.len_utf8())));
        let find = |left: &Symbol, right: &Symbol| {
            let id = self.tables.find(&bytes[left.start..right.end])?;
            Some((Reverse(order(self.tables.score(id))), id))
        };
        merge(&mut symbols, find, |symbol| {
            let part = &bytes[symbol.start..symbol.end];
            match symbol.id {
                NONE => match self.tables.find(part) {
                    Some(id) => ids.push(id),
                    None => self.spelled(part, ids),
                },
                id => ids.push(id),
            }
        });
    }

    fn spelled(&self, part: &[u8], ids: &mut Vec<u32>) {
        let known = part.iter().all(|byte| self.bytes[usize::from(*byte)].is_some());
        match self.unknown {
            Some(unknown) if !known => ids.push(unknown),
            _ => ids.extend(part.iter().filter_map(|byte| self.bytes[usize::from(*byte)])),
        }
    }
}
