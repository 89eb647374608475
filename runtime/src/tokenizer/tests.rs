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
