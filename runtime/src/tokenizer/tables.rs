//! The tables of a tokenizer where they lie, and whether they are sound.

use super::pairs::Pairs;
use super::{TokenKind, TokenizerError, Tokens};

/// Most tokens, merges and ranges, each.
const MOST: usize = 1 << 24;

/// Word `i` of little-endian words.
pub(super) fn word(bytes: &[u8], i: usize) -> u32 {
    bytes.get(4 * i..4 * i + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

/// Where the tables begin in the blob; `offsets` at 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub merges: usize,
    pub ranges: usize,
    scores: usize,
    sorted: usize,
    replaced: usize,
    kinds: usize,
    text: usize,
    replacements: usize,
}

/// The tables of a blob.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    blob: &'a [u8],
    places: Places,
    tokens: usize,
}

impl Places {
    /// Of a blob that is as long as it should be.
    pub fn new(tokens: &Tokens, blob: &[u8]) -> Result<Places, TokenizerError> {
        let wrong = |why: &str| TokenizerError::Tables { why: why.to_string() };
        let (n, m, r) = (tokens.tokens, tokens.merges, tokens.ranges);
        let (s, q, p) = (tokens.scores, tokens.sorted, tokens.replaced);
        if [n, m, r, s, q, p].iter().any(|count| *count > MOST) {
            return Err(wrong("more than 2^24 of something"));
        }
        if s != 0 && s != n {
            return Err(wrong(&format!("{s} scores for {n} tokens")));
        }
        let merges = 4 * (n + 1);
        let ranges = merges + 16 * m;
        let scores = ranges + 12 * r;
        let sorted = scores + 4 * s;
        let replaced = sorted + 4 * q;
        let kinds = replaced + 8 * p;
        let text = kinds + n;
        let last = if p == 0 { 0 } else { word(blob.get(replaced..).unwrap_or_default(), 2 * p - 1) };
        let length = (word(blob, n) as usize).saturating_add(last as usize);
        if blob.len() < text || blob.len() - text != length {
            return Err(wrong(&format!("{} bytes, {text} and {length} of text are expected", blob.len())));
        }
        let replacements = text + word(blob, n) as usize;
        let places = Places { merges, ranges, scores, sorted, replaced, kinds, text, replacements };
        let tables = Tables { blob, places, tokens: n };
        if word(blob, 0) != 0 || (0..n).any(|i| word(blob, i) > word(blob, i + 1)) {
            return Err(wrong("tokens do not follow one another"));
        }
        if !Pairs::new(tables.merges()).is_sound(n) {
            return Err(wrong("merges of tokens that are not there, or not in order"));
        }
        if (0..s).any(|i| !f32::from_bits(word(&blob[scores..], i)).is_finite()) {
            return Err(wrong("a score that is not finite"));
        }
        // Their order is not looked at, for that would read all texts: what is not found is not there.
        if (0..q).any(|i| word(&blob[sorted..], i) as usize >= n) {
            return Err(wrong("a sorted token that is not there"));
        }
        if (0..n).any(|i| tables.kind(i as u32).is_none()) {
            return Err(wrong("a token of an unknown kind"));
        }
        if !tables.are_replacements_sound() {
            return Err(wrong("replaced characters that are not in order, or become no text"));
        }
        Ok(places)
    }
}

impl<'a> Tables<'a> {
    pub fn new(blob: &'a [u8], places: Places, tokens: usize) -> Tables<'a> {
        Tables { blob, places, tokens }
    }

    /// Bytes of all texts.
    pub fn text_bytes(self) -> usize {
        self.blob.len().saturating_sub(self.places.text)
    }

    fn from(self, place: usize) -> &'a [u8] {
        self.blob.get(place..).unwrap_or_default()
    }

    pub fn merges(self) -> &'a [u8] {
        self.blob.get(self.places.merges..self.places.ranges).unwrap_or_default()
    }

    pub fn ranges(self) -> &'a [u8] {
        self.blob.get(self.places.ranges..self.places.scores).unwrap_or_default()
    }

    /// The bytes of a token.
    pub fn text(self, id: u32) -> Option<&'a [u8]> {
        let i = id as usize;
        if i >= self.tokens {
            return None;
        }
        let text = self.places.text;
        self.blob.get(text + word(self.blob, i) as usize..text + word(self.blob, i + 1) as usize)
    }

    pub fn kind(self, id: u32) -> Option<TokenKind> {
        if id as usize >= self.tokens {
            return None;
        }
        let kinds = [TokenKind::Text, TokenKind::Added, TokenKind::Control, TokenKind::Byte];
        kinds.get(usize::from(*self.blob.get(self.places.kinds + id as usize)?)).copied()
    }

    pub fn score(self, id: u32) -> f32 {
        f32::from_bits(word(self.from(self.places.scores), id as usize))
    }

    /// Character and end of its text, of the replaced ones in order.
    fn replacement(self, i: usize) -> (u32, usize) {
        let words = self.from(self.places.replaced);
        (word(words, 2 * i), word(words, 2 * i + 1) as usize)
    }

    fn replacements(self) -> usize {
        (self.places.kinds - self.places.replaced) / 8
    }

    fn are_replacements_sound(self) -> bool {
        let Ok(text) = std::str::from_utf8(self.from(self.places.replacements)) else { return false };
        let all = || (0..self.replacements()).map(|i| self.replacement(i));
        all().zip(all().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 <= b.1)
            && all().all(|(_, end)| text.is_char_boundary(end))
    }

    /// What a character is replaced by, if anything.
    pub fn replaced(self, c: char) -> Option<&'a str> {
        let (mut low, mut high) = (0, self.replacements());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.replacement(middle).0.cmp(&u32::from(c)) {
                std::cmp::Ordering::Equal => {
                    let from = if middle == 0 { 0 } else { self.replacement(middle - 1).1 };
                    let text = self.from(self.places.replacements).get(from..self.replacement(middle).1)?;
                    return std::str::from_utf8(text).ok();
                }
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The token of text that some bytes are, by the sorted tokens.
    pub fn find(self, bytes: &[u8]) -> Option<u32> {
        let sorted = self.blob.get(self.places.sorted..self.places.replaced)?;
        let (mut low, mut high) = (0, sorted.len() / 4);
        while low < high {
            let middle = low + (high - low) / 2;
            let id = word(sorted, middle);
            match self.text(id)?.cmp(bytes) {
                std::cmp::Ordering::Equal => return Some(id),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}
