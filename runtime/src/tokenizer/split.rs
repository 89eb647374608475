//! A text in pieces. Patterns are what the regular expressions of byte-level tokenizers are made of: alternatives in order, each some words or a
//! sequence of repeated classes of characters, as long as possible, with or without a look at what follows.

use super::word;
use serde::{Deserialize, Serialize};

/// Classes of characters, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Classes(pub u32);

impl Classes {
    /// Unicode's general category L.
    pub const LETTER: Classes = Classes(1);
    /// Unicode's general category N.
    pub const NUMBER: Classes = Classes(2);
    /// Unicode's property White_Space.
    pub const SPACE: Classes = Classes(4);
    /// U+0020 itself.
    pub const BLANK: Classes = Classes(8);
    /// Carriage return and line feed.
    pub const LINE_END: Classes = Classes(16);
    /// Of `word_pieces`: read as nothing,
    pub const DROPPED: Classes = Classes(32);
    /// or as words of their own.
    pub const APART: Classes = Classes(64);

    /// Both.
    pub const fn or(self, other: Classes) -> Classes {
        Classes(self.0 | other.0)
    }

    /// Whether there is one of these.
    pub const fn any(self, of: Classes) -> bool {
        self.0 & of.0 != 0
    }
}

/// A repeated class of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Atom {
    /// A character of any of these, or
    pub of: Classes,
    /// of none of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
    /// So many at least,
    pub least: u32,
    /// and so many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
}

/// One alternative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// Words, of which the first that fits is taken; none where there are atoms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Atoms one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub atoms: Vec<Atom>,
    /// What follows is the end, or of one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Classes>,
}

impl Pattern {
    /// Whether it matches nothing that is empty, in bounded time.
    pub(super) fn is_sound(&self) -> bool {
        match (&self.words[..], &self.atoms[..]) {
            ([], atoms) if atoms.len() > ATOMS => false,
            ([], atoms) => {
                atoms.iter().any(|atom| atom.least > 0 && atom.most.is_none_or(|m| m >= atom.least))
            }
            (words, []) => words.iter().all(|word| !word.is_empty()),
            _ => false,
        }
    }
}

/// Most atoms of a pattern.
const ATOMS: usize = 4;

/// Words of a range: first and last character, classes.
const WORDS: usize = 3;

/// Classes of characters, those of ASCII at hand.
pub(super) struct Ranges {
    ascii: [u32; 128],
}

/// Classes of all characters.
pub(super) struct Table<'a> {
    ascii: &'a [u32; 128],
    bytes: &'a [u8],
}

impl Ranges {
    /// Of ranges that ascend; `None` when they do not.
    pub fn new(bytes: &[u8]) -> Option<Ranges> {
        let count = bytes.len() / (4 * WORDS);
        let range = |i: usize| (word(bytes, WORDS * i), word(bytes, WORDS * i + 1));
        let sound = (0..count).all(|i| range(i).0 <= range(i).1 && (i == 0 || range(i - 1).1 < range(i).0));
        let table = Table { ascii: &[0; 128], bytes };
        sound.then(|| Ranges { ascii: std::array::from_fn(|c| table.find(c as u32)) })
    }

    /// With the ranges themselves.
    pub fn over<'a>(&'a self, bytes: &'a [u8]) -> Table<'a> {
        Table { ascii: &self.ascii, bytes }
    }
}

impl Table<'_> {
    fn find(&self, c: u32) -> u32 {
        let (mut low, mut high) = (0, self.bytes.len() / (4 * WORDS));
        while low < high {
            let middle = low + (high - low) / 2;
            let at = WORDS * middle;
            if c < word(self.bytes, at) {
                high = middle;
            } else if c > word(self.bytes, at + 1) {
                low = middle + 1;
            } else {
                return word(self.bytes, at + 2);
            }
        }
        0
    }

    /// The classes of a character.
    pub fn of(&self, c: char) -> Classes {
        Classes(match self.ascii.get(c as usize) {
            Some(classes) => *classes,
            None => self.find(c as u32),
        })
    }

    fn is(&self, c: char, of: Classes, not: bool) -> bool {
        self.of(c).any(of) != not
    }

    /// The length of what atoms match of a text's beginning. A pattern's atoms are a few, and what a shorter match of one costs is a look at the
    /// next, so the time is that of the text.
    fn atoms(&self, atoms: &[Atom], text: &str, before: Option<Classes>) -> Option<usize> {
        let [atom, rest @ ..] = atoms else {
            let fits = match (before, text.chars().next()) {
                (Some(classes), Some(next)) => self.is(next, classes, false),
                _ => true,
            };
            return fits.then_some(0);
        };
        let most = atom.most.map_or(usize::MAX, |most| most as usize);
        let fits = |c: &char| self.is(*c, atom.of, atom.not);
        let (mut count, mut end) = (0, 0);
        for c in text.chars().take(most).take_while(fits) {
            (count, end) = (count + 1, end + c.len_utf8());
        }
        // As many as there are, then fewer.
        while count >= atom.least as usize {
            if let Some(more) = self.atoms(rest, &text[end..], before) {
                return Some(end + more);
            }
            let last = text[..end].chars().next_back()?;
            (count, end) = (count - 1, end - last.len_utf8());
        }
        None
    }

    fn pattern(&self, pattern: &Pattern, text: &str) -> Option<usize> {
        if pattern.words.is_empty() {
            return self.atoms(&pattern.atoms, text, pattern.before);
        }
        pattern.words.iter().find(|word| text.starts_with(word.as_str())).map(String::len)
    }
}

/// Calls `see` with each piece of a text, in order: what a pass matches, and what lies between.
pub(super) fn pieces(text: &str, passes: &[Vec<Pattern>], table: &Table<'_>, see: &mut dyn FnMut(&str)) {
    let [pass, rest @ ..] = passes else {
        if !text.is_empty() {
            see(text);
        }
        return;
    };
    let (mut from, mut at) = (0, 0);
    while let Some(next) = text[at..].chars().next() {
        match pass.iter().find_map(|pattern| table.pattern(pattern, &text[at..])).filter(|len| *len > 0) {
            Some(len) => {
                pieces(&text[from..at], rest, table, see);
                pieces(&text[at..at + len], rest, table, see);
                at += len;
                from = at;
            }
            None => at += next.len_utf8(),
        }
    }
    pieces(&text[from..], rest, table, see);
}
