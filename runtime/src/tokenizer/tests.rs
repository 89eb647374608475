//! Small tables by hand. Against the `tokenizers` crate: `tests/tests/tokenizer.rs`.

use super::*;
use crate::pack::MemorySource;

/// The 256 bytes, `ab`, `abc`, `bc`, an added token and one that controls.
fn tables() -> (Tokens, Vec<u8>) {
    let mut texts: Vec<(Vec<u8>, u8)> = (0..=255u8).map(|byte| (vec![byte], 0)).collect();
    for (text, kind) in [("ab", 0), ("abc", 0), ("bc", 0), ("<x>", 1), ("<x>y", 1), ("<end>", 2)] {
        texts.push((text.into(), kind));
    }
    let (a, b, c) = (u32::from(b'a'), u32::from(b'b'), u32::from(b'c'));
    // `bc` comes before `ab` by rank.
    let merges = [[a, b, 1, 256], [b, c, 0, 258], [256, c, 2, 257]];
    let ranges = [[0x20, 0x20, 12], [0x30, 0x39, 2], [0x61, 0x7a, 1], [0x3b1, 0x3c9, 1]];
    let mut offsets = vec![0u32];
    texts.iter().for_each(|(text, _)| offsets.push(offsets.last().unwrap() + text.len() as u32));
    let words = offsets.iter().chain(merges.as_flattened()).chain(ranges.as_flattened());
    let mut blob: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
    blob.extend(texts.iter().map(|(_, kind)| *kind));
    blob.extend(texts.iter().flat_map(|(text, _)| text));
    let atom = |of, not, least, most| Atom { of, not, least, most };
    let (letters, blank) = (Classes::LETTER, Classes::BLANK);
    let spaces =
        |before| Pattern { atoms: vec![atom(Classes::SPACE, false, 1, None)], before, ..Pattern::default() };
    let split = vec![
        vec![Pattern { atoms: vec![atom(Classes::NUMBER, false, 1, Some(1))], ..Pattern::default() }],
        vec![
            Pattern { words: vec!["'s".into()], ..Pattern::default() },
            Pattern {
                atoms: vec![atom(blank, false, 0, Some(1)), atom(letters, false, 1, None)],
                ..Pattern::default()
            },
            spaces(Some(Classes::SPACE)),
            spaces(None),
        ],
    ];
    let tokens = Tokens {
        kind: BYTE_PAIRS.into(),
        tokens: texts.len(),
        merges: merges.len(),
        ranges: ranges.len(),
        blob: 0,
        split,
        first: None,
        last: vec![261],
        ..Tokens::default()
    };
    (tokens, blob)
}

fn open(tokens: Tokens, blob: Vec<u8>) -> Result<Tokenizer, TokenizerError> {
    let header = Header { tokenizer: tokens.described(), ..Header::default() };
    Tokenizer::new(&header, Arc::new(MemorySource::from(vec![blob])))
}

fn encoded(text: &str, control: bool) -> Vec<u32> {
    let (tokens, blob) = tables();
    let tokenizer = open(tokens, blob).unwrap();
    let mut ids = Vec::new();
    tokenizer.encode(text, control, &mut ids);
    let mut back = Vec::new();
    tokenizer.decode(&ids, &mut back).unwrap();
    assert_eq!(back, text.as_bytes());
    ids
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn pairs_are_merged_by_rank_and_from_the_left() {
    assert_eq!(encoded("ab", false), [256]);
    // `bc` first, and then nothing is known of `a` and `bc`.
    assert_eq!(encoded("abc", false), [97, 258]);
    assert_eq!(encoded("abab", false), [256, 256]);
    assert!(encoded("", false).is_empty());
}

#[test]
fn pieces_keep_apart_what_patterns_part() {
    assert_eq!(encoded("a1b", false), bytes("a1b"));
    assert_eq!(encoded("a b", false), bytes("a b"));
    // The last of some blanks belongs to the word behind them.
    assert_eq!(encoded("  ab", false), [32, 32, 256]);
    assert_eq!(encoded("αω'sab", false), [&bytes("αω's")[..], &[256]].concat());
    assert_eq!(encoded("a🙂b", false), bytes("a🙂b"));
}

#[test]
fn added_tokens_are_taken_whole_the_longest_first() {
    assert_eq!(encoded("a<x>b", false), [97, 259, 98]);
    assert_eq!(encoded("<x>y<x>", false), [260, 259]);
    assert_eq!(encoded("<end>", true), [261]);
    assert_eq!(encoded("<end>", false), bytes("<end>"));
}

#[test]
fn tables_that_lie_are_refused() {
    let (tokens, blob) = tables();
    for cut in 0..blob.len() {
        assert!(open(tokens.clone(), blob[..cut].to_vec()).is_err(), "{cut}");
    }
    for i in 0..tokens.tokens + 1 + 4 * tokens.merges + 3 * tokens.ranges {
        let mut damaged = blob.clone();
        damaged[4 * i..4 * i + 4].fill(0xff);
        // Ranks and classes may be anything.
        if let Ok(tokenizer) = open(tokens.clone(), damaged) {
            tokenizer.encode("abc  1<x>'s", true, &mut Vec::new());
        }
    }
    let with = |change: &dyn Fn(&mut Tokens)| {
        let mut tokens = tokens.clone();
        change(&mut tokens);
        open(tokens, blob.clone()).map(|_| ())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert!(with(&|t| t.merges = usize::MAX).is_err());
    assert!(with(&|t| t.tokens += 1).is_err());
    assert!(with(&|t| t.last = vec![262]).is_err());
    assert!(with(&|t| t.split[0][0].atoms[0].least = 0).is_err());
    assert!(with(&|t| t.split = vec![Vec::new(); 9]).is_err());
    assert_eq!(with(&|t| t.kind = "unigram".into()), Err(TokenizerError::Kind { kind: "unigram".into() }));
    assert_eq!(with(&|t| t.blob = 7), Err(TokenizerError::Missing { blob: 7 }));
}

#[test]
fn long_pieces_take_no_quadratic_time() {
    let (tokens, blob) = tables();
    let tokenizer = open(tokens, blob).unwrap();
    let text = "ab".repeat(200_000) + &" ".repeat(200_000);
    let mut ids = Vec::new();
    tokenizer.encode(&text, false, &mut ids);
    assert_eq!(ids.len(), 400_000);
}

/// An unknown token, all bytes but 0xff, then texts with scores, the first the greatest.
fn scored() -> (Tokens, Vec<u8>) {
    let mut texts: Vec<(Vec<u8>, u8)> = vec![("<unk>".into(), 2)];
    texts.extend((0..=254u8).map(|byte| (vec![byte], 3)));
    let words = [" ", "a", "b", ">", "ab", " ab", "bb", "a ", "> ", "> a", "<", "<x>"];
    let first = texts.len();
    texts.extend(words.iter().map(|word| (word.as_bytes().to_vec(), u8::from(*word == "<x>"))));
    let scores: Vec<f32> =
        (0..texts.len()).map(|i| if i < first { 0.0 } else { (first as f32) - (i as f32) }).collect();
    let mut sorted: Vec<u32> = (first as u32..texts.len() as u32 - 1).collect();
    sorted.sort_by(|a, b| texts[*a as usize].0.cmp(&texts[*b as usize].0));
    let mut offsets = vec![0u32];
    texts.iter().for_each(|(text, _)| offsets.push(offsets.last().unwrap() + text.len() as u32));
    let scores = scores.iter().map(|score| score.to_bits());
    let words: Vec<u32> = offsets.iter().copied().chain(scores).chain(sorted.iter().copied()).collect();
    let mut blob: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    blob.extend(texts.iter().map(|(_, kind)| *kind));
    blob.extend(texts.iter().flat_map(|(text, _)| text));
    let tokens = Tokens {
        kind: SCORED_PAIRS.into(),
        tokens: texts.len(),
        scores: texts.len(),
        sorted: sorted.len(),
        unknown: Some(0),
        before_blank: Some("a>".into()),
        ..Tokens::default()
    };
    (tokens, blob)
}

fn spoken(tokens: &Tokens, blob: &[u8], text: &str) -> Vec<String> {
    let tokenizer = open(tokens.clone(), blob.to_vec()).unwrap();
    let mut ids = Vec::new();
    tokenizer.encode(text, true, &mut ids);
    ids.iter().map(|id| String::from_utf8_lossy(tokenizer.text(*id).unwrap()).into_owned()).collect()
}

#[test]
fn scores_decide_what_is_joined() {
    let (tokens, blob) = scored();
    let said = |text: &str| spoken(&tokens, &blob, text);
    // `ab` has a greater score than `bb` and `a `, and ` ab` needs it.
    assert_eq!(said("abb"), ["ab", "b"]);
    assert_eq!(said(" ab"), [" ab"]);
    assert_eq!(said("a ab"), ["a", " ab"]);
    assert_eq!(said("a b"), ["a ", "b"]);
    // Over a blank, where a token does.
    assert_eq!(said("> ab"), [">", " ab"]);
    assert_eq!(said("> a"), ["> a"]);
    assert_eq!(said("b\u{2581}ab"), ["b", " ab"]);
    assert_eq!(said("<x>a<x"), ["<x>", "a", "<", "x"]);
    assert_eq!(spoken(&Tokens { blank: true, ..tokens.clone() }, &blob, "ab<x>ab"), [" ab", "<x>", " ab"]);
    // A character that is no token is spelled; what cannot be is unknown.
    let tokenizer = open(tokens.clone(), blob.clone()).unwrap();
    let mut ids = Vec::new();
    tokenizer.encode("é", true, &mut ids);
    assert_eq!(ids, [1 + 0xc3, 1 + 0xa9]);
    assert_eq!(
        (tokenizer.kind(0), tokenizer.kind(1), tokenizer.kind(9999)),
        (Some(TokenKind::Control), Some(TokenKind::Byte), None)
    );
    let without = Tokens { before_blank: Some(String::new()), ..tokens.clone() };
    assert_eq!(spoken(&without, &blob, "b ab b"), ["b", " ab", " ", "b"]);
}

#[test]
fn scored_tables_that_lie_are_refused() {
    let (tokens, blob) = scored();
    for cut in 0..blob.len() {
        assert!(open(tokens.clone(), blob[..cut].to_vec()).is_err(), "{cut}");
    }
    for i in 0..blob.len() / 4 {
        for value in [u32::MAX, 0x7fc0_0000, 7] {
            let mut damaged = blob.clone();
            damaged[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes());
            if let Ok(tokenizer) = open(tokens.clone(), damaged) {
                tokenizer.encode("ab > a é\u{10ffff}<x>\u{2581}", true, &mut Vec::new());
            }
        }
    }
    let with = |change: &dyn Fn(&mut Tokens)| {
        let mut tokens = tokens.clone();
        change(&mut tokens);
        open(tokens, blob.clone()).map(|_| ())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert!(with(&|t| t.scores -= 1).is_err());
    assert!(with(&|t| t.sorted += 1).is_err());
    assert!(with(&|t| t.unknown = Some(t.tokens as u32)).is_err());
    assert!(with(&|t| t.special = [("bos_token".to_string(), u32::MAX)].into()).is_err());
}

/// Words of a, b and c in pieces: letters are made small, `é` is read as `e` and one of b, U+0301 and U+0000 as nothing, `,` is a word of its own.
fn in_pieces() -> (Tokens, Vec<u8>) {
    let words = [
        "[UNK]",
        "a",
        "ab",
        "##b",
        "##c",
        "b",
        ",",
        "##\u{1112}",
        "\u{1112}",
        "##\u{1161}",
        "##\u{11ab}",
        "eb",
        "[END]",
    ];
    let kind = |word: &str| if word.starts_with('[') { 2 } else { 0 };
    let mut sorted: Vec<u32> = (1..words.len() as u32 - 1).collect();
    sorted.sort_by_key(|id| words[*id as usize]);
    let ranges = [[0, 0, 32], [0x20, 0x20, 4], [0x2c, 0x2c, 64], [0x301, 0x301, 32]];
    let replaced = [('A', "a"), ('B', "b"), ('C', "c"), ('é', "eb")];
    let mut offsets = vec![0u32];
    words.iter().for_each(|word| offsets.push(offsets.last().unwrap() + word.len() as u32));
    let mut end = 0;
    let replacements: Vec<u32> = replaced
        .iter()
        .flat_map(|(c, text)| {
            end += text.len() as u32;
            [u32::from(*c), end]
        })
        .collect();
    let all = offsets.iter().chain(ranges.as_flattened()).chain(&sorted).chain(&replacements);
    let mut blob: Vec<u8> = all.flat_map(|word| word.to_le_bytes()).collect();
    blob.extend(words.iter().map(|word| kind(word)));
    words.iter().for_each(|word| blob.extend(word.as_bytes()));
    replaced.iter().for_each(|(_, text)| blob.extend(text.as_bytes()));
    let tokens = Tokens {
        kind: WORD_PIECES.into(),
        tokens: words.len(),
        ranges: ranges.len(),
        sorted: sorted.len(),
        replaced: replaced.len(),
        unknown: Some(0),
        behind: Some(12),
        continued: Some("##".into()),
        longest_word: 6,
        syllables: true,
        takes_blanks: vec![12],
        ..Tokens::default()
    };
    (tokens, blob)
}

#[test]
fn words_are_taken_to_their_longest_pieces() {
    let (tokens, blob) = in_pieces();
    let said = |text: &str| spoken(&tokens, &blob, text);
    assert_eq!(said("abc  ABBC"), ["ab", "##c", "ab", "##b", "##c"]);
    assert_eq!(said("a,b"), ["a", ",", "b"]);
    assert_eq!(said("a\u{301}b\0c é"), ["ab", "##c", "eb"]);
    // A word that no pieces make, and one that is too long.
    assert_eq!(said("b ca b"), ["b", "[UNK]", "b"]);
    assert_eq!(said("abbbbb abbbbbb"), ["ab", "##b", "##b", "##b", "##b", "[UNK]"]);
    assert_eq!(said("한"), ["\u{1112}", "##\u{1161}", "##\u{11ab}"]);
    // The token that ends texts takes blanks behind it; a mark that parts words does not.
    assert_eq!(said("a[END] \u{a0}b[END]"), ["a", "[END]", "b", "[END]"]);
    let before = Tokens { takes_blanks_before: vec![12], ..tokens.clone() };
    assert_eq!(spoken(&before, &blob, "a  [END] b"), ["a", "[END]", "b"]);
    let tokenizer = open(tokens.clone(), blob.clone()).unwrap();
    assert_eq!(tokenizer.framed("a b a b", false, 3), [1, 5, 12]);
    let mut bytes = Vec::new();
    tokenizer.decode(&[2, 4, 6, 1], &mut bytes).unwrap();
    assert_eq!(bytes, b"abc , a");
}

#[test]
fn tables_of_words_that_lie_are_refused() {
    let (tokens, blob) = in_pieces();
    for cut in 0..blob.len() {
        assert!(open(tokens.clone(), blob[..cut].to_vec()).is_err(), "{cut}");
    }
    for i in 0..blob.len() / 4 {
        for value in [u32::MAX, 0, 1, 0xc3] {
            let mut damaged = blob.clone();
            damaged[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes());
            if let Ok(tokenizer) = open(tokens.clone(), damaged) {
                tokenizer.encode("ABC é,한 [END] a\u{301}", true, &mut Vec::new());
            }
        }
    }
    let with = |change: &dyn Fn(&mut Tokens)| {
        let mut tokens = tokens.clone();
        change(&mut tokens);
        open(tokens, blob.clone()).map(|_| ())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert!(with(&|t| t.replaced -= 1).is_err());
    assert!(with(&|t| t.replaced = usize::MAX).is_err());
    assert!(with(&|t| t.behind = Some(13)).is_err());
    assert!(with(&|t| t.takes_blanks = vec![99]).is_err());
    // Characters that do not ascend, and a text that ends within one.
    let places = 4 * (tokens.tokens + 1 + 3 * tokens.ranges + tokens.sorted);
    let changed = |at: usize, value: u32| {
        let mut damaged = blob.clone();
        damaged[at..at + 4].copy_from_slice(&value.to_le_bytes());
        open(tokens.clone(), damaged).map(|_| ()).unwrap_err().to_string()
    };
    assert!(changed(places, 0x2000).contains("not in order"));
    assert!(changed(places + 4, 9).contains("not in order"));
}
