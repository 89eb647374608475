//! What normalizers and splittings make of single characters, asked of the `tokenizers` library itself: of steps that see one character at a time
//! that is all there is to them.

use edge_runtime::tokenizer::Classes;
use serde_json::Value;
use tokenizers::{
    NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, PreTokenizerWrapper,
};

/// Normalizers that see one character at a time. Where several marks stand on one letter, Unicode orders them; those that are dropped anyway are as good as in order.
const NORMALIZERS: [&str; 5] = ["BertNormalizer", "Lowercase", "NFD", "NFKD", "StripAccents"];
/// And splittings.
const SPLITTINGS: [&str; 3] = ["BertPreTokenizer", "WhitespaceSplit", "Punctuation"];

const SYLLABLES: std::ops::RangeInclusive<char> = '\u{AC00}'..='\u{D7A3}';

/// What characters are read as.
pub(super) struct Characters {
    /// First and last character of each range with its classes, ascending.
    pub ranges: Vec<[u32; 3]>,
    /// Characters that are read as others, ascending.
    pub replaced: Vec<(char, String)>,
    /// Whether syllables of Hangul are read as their letters; none of them is in `replaced` then.
    pub syllables: bool,
}

/// What a character becomes between two others.
enum Read {
    /// A part of a word.
    Within(String),
    /// A word of its own.
    Apart(String),
    /// The end of a word.
    Space,
}

/// Of steps as `tokenizer.json` has them.
///
/// # Errors
/// With what is not implemented, in words.
pub(super) fn characters(normalizers: &[&Value], splittings: &[&Value]) -> Result<Characters, String> {
    let normalizers: Vec<NormalizerWrapper> = read(normalizers, &NORMALIZERS, "normalized")?;
    let splittings: Vec<PreTokenizerWrapper> = read(splittings, &SPLITTINGS, "split")?;
    let (mut ranges, mut replaced) = (Vec::<[u32; 3]>::new(), Vec::new());
    let (mut letters, mut kept) = (0, 0);
    for c in '\0'..=char::MAX {
        let (classes, text) = match one(c, &normalizers, &splittings)? {
            Read::Space => (Classes::SPACE, None),
            Read::Within(text) if text.is_empty() => (Classes::DROPPED, None),
            Read::Within(text) => (Classes(0), Some(text)),
            Read::Apart(text) => (Classes::APART, Some(text)),
        };
        let text = text.filter(|text| !is_one(text, c));
        if SYLLABLES.contains(&c) {
            kept += usize::from(text.is_none());
            letters += usize::from(text.as_deref().is_some_and(|text| text.chars().eq(decomposed(c))));
        }
        replaced.extend(text.map(|text| (c, text)));
        let at = u32::from(c);
        match ranges.last_mut() {
            Some(last) if last[1] + 1 == at && last[2] == classes.0 => last[1] = at,
            _ if classes.0 != 0 => ranges.push([at, at, classes.0]),
            _ => {}
        }
    }
    let all = SYLLABLES.count();
    let syllables = letters == all;
    if syllables {
        replaced.retain(|(c, _)| !SYLLABLES.contains(c));
    } else if kept != all {
        return Err("syllables of Hangul that are read as neither themselves nor their letters".into());
    }
    Ok(Characters { ranges, replaced, syllables })
}

/// Steps of known types.
fn read<S: serde::de::DeserializeOwned>(
    steps: &[&Value],
    known: &[&str],
    how: &str,
) -> Result<Vec<S>, String> {
    let one = |step: &&Value| {
        let kind: String =
            step.get("type").and_then(Value::as_str).unwrap_or_default().chars().take(40).collect();
        let isolated = step.get("behavior").and_then(Value::as_str).is_none_or(|how| how == "Isolated");
        if !known.contains(&kind.as_str()) || !isolated {
            return Err(format!("texts {how} by `{kind}` are not implemented for pieces of words"));
        }
        serde_json::from_value((*step).clone()).map_err(|e| format!("texts {how} by `{kind}`: {e}"))
    };
    steps.iter().map(one).collect()
}

fn one(
    c: char,
    normalizers: &[NormalizerWrapper],
    splittings: &[PreTokenizerWrapper],
) -> Result<Read, String> {
    // A letter that nothing changes.
    const BESIDE: char = 'a';
    let wrong = |e: tokenizers::Error| format!("character {c:?}: {e}");
    let mut text = NormalizedString::from([BESIDE, c, BESIDE].into_iter().collect::<String>());
    for step in normalizers {
        step.normalize(&mut text).map_err(wrong)?;
    }
    let mut pieces = PreTokenizedString::from(text);
    for step in splittings {
        step.pre_tokenize(&mut pieces).map_err(wrong)?;
    }
    let pieces: Vec<&str> = pieces
        .get_splits(OffsetReferential::Normalized, OffsetType::None)
        .into_iter()
        .map(|(piece, ..)| piece)
        .filter(|piece| !piece.is_empty())
        .collect();
    match pieces[..] {
        ["a", "a"] => Ok(Read::Space),
        ["a", text, "a"] => Ok(Read::Apart(text.to_string())),
        [whole] => {
            let text = whole.strip_prefix(BESIDE).and_then(|rest| rest.strip_suffix(BESIDE));
            text.map(|text| Read::Within(text.to_string()))
                .ok_or_else(|| format!("character {c:?} changes what stands beside it"))
        }
        _ => Err(format!("character {c:?} becomes several words")),
    }
}

fn is_one(text: &str, c: char) -> bool {
    let mut buffer = [0; 4];
    text == c.encode_utf8(&mut buffer)
}

/// The letters of a syllable: Unicode, 3.12.
fn decomposed(syllable: char) -> impl Iterator<Item = char> {
    let at = u32::from(syllable) - u32::from(*SYLLABLES.start());
    let letters = [0x1100 + at / 588, 0x1161 + at % 588 / 28, 0x11A7 + at % 28];
    letters.into_iter().take(if at.is_multiple_of(28) { 2 } else { 3 }).filter_map(char::from_u32)
}
