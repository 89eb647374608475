//! Words in pieces, as BERT reads them (Devlin et al., 2019; Wu et al., Google's Neural Machine Translation System, 2016): characters are normalized one by one, parted
//! into words, and of each word the longest token that it begins with is taken, then the longest of those that go on with words.

use super::Classes;
use super::split::Table;
use super::tables::Tables;

/// Syllables of Hangul, and the letters that they are made of: Unicode, 3.12.
const SYLLABLES: std::ops::RangeInclusive<char> = '\u{AC00}'..='\u{D7A3}';
const LEAD: u32 = 0x1100;
const VOWEL: u32 = 0x1161;
const TAIL: u32 = 0x11A7;
const VOWELS: u32 = 21;
const TAILS: u32 = 28;

/// How texts become tokens.
pub(super) struct WordPieces<'a> {
    pub tables: Tables<'a>,
    pub classes: Table<'a>,
    /// What tokens begin with that go on with a word.
    pub continued: &'a str,
    /// What stands for a word that no tokens make.
    pub unknown: Option<u32>,
    /// Most characters of a word; a longer one is unknown.
    pub longest_word: usize,
    /// Whether syllables of Hangul are read as their letters.
    pub syllables: bool,
}

impl WordPieces<'_> {
    /// Appends the ids of a text.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let (mut word, mut buffer) = (String::new(), String::new());
        for c in text.chars() {
            let classes = self.classes.of(c);
            if classes.any(Classes::DROPPED) {
                continue;
            }
            let apart = classes.any(Classes::APART);
            if apart || classes.any(Classes::SPACE) {
                self.word(&word, &mut buffer, ids);
                word.clear();
            }
            if classes.any(Classes::SPACE) {
                continue;
            }
            match self.tables.replaced(c) {
                Some(text) => word.push_str(text),
                None if self.syllables && SYLLABLES.contains(&c) => word.extend(letters(c)),
                None => word.push(c),
            }
            if apart {
                self.word(&word, &mut buffer, ids);
                word.clear();
            }
        }
        self.word(&word, &mut buffer, ids);
    }

    /// Appends the ids of a word. `buffer` is for texts of tokens.
    fn word(&self, word: &str, buffer: &mut String, ids: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let before = ids.len();
        let is_long = word.chars().nth(self.longest_word).is_some();
        let mut rest = if is_long { None } else { Some(word) };
        while let Some(text) = rest.filter(|text| !text.is_empty()) {
            let prefix = if ids.len() > before { self.continued } else { "" };
            rest = self.piece(text, prefix, buffer).map(|(id, len)| {
                ids.push(id);
                &text[len..]
            });
        }
        if rest.is_none() {
            ids.truncate(before);
            ids.extend(self.unknown);
        }
    }

    /// The longest token that is `prefix` and a beginning of `text`, and the length of that.
    fn piece(&self, text: &str, prefix: &str, buffer: &mut String) -> Option<(u32, usize)> {
        buffer.clear();
        buffer.push_str(prefix);
        buffer.push_str(text);
        loop {
            if let Some(id) = self.tables.find(buffer.as_bytes()) {
                return Some((id, buffer.len() - prefix.len()));
            }
            buffer.pop();
            if buffer.len() <= prefix.len() {
                return None;
            }
        }
    }
}

/// The letters of a syllable.
fn letters(syllable: char) -> impl Iterator<Item = char> {
    let at = syllable as u32 - *SYLLABLES.start() as u32;
    let tail = at % TAILS;
    let letters = [LEAD + at / (VOWELS * TAILS), VOWEL + at % (VOWELS * TAILS) / TAILS, TAIL + tail];
    letters.into_iter().take(if tail == 0 { 2 } else { 3 }).filter_map(char::from_u32)
}
