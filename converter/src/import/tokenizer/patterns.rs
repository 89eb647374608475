//! How texts are split: the regular expressions of published tokenizers as patterns.

use edge_runtime::tokenizer::{Atom, Classes, Pattern};
use regex_syntax::hir::{Class, HirKind};

const BLANK: Classes = Classes::BLANK;
const LETTER: Classes = Classes::LETTER;
const NUMBER: Classes = Classes::NUMBER;
const SPACE: Classes = Classes::SPACE;

fn atoms(atoms: &[(Classes, bool, u32, Option<u32>)]) -> Pattern {
    let atom = |(of, not, least, most): &(Classes, bool, u32, Option<u32>)| Atom {
        of: *of,
        not: *not,
        least: *least,
        most: *most,
    };
    Pattern { atoms: atoms.iter().map(atom).collect(), ..Pattern::default() }
}

/// GPT-2's: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
pub(super) fn gpt2() -> Vec<Pattern> {
    let words = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map(str::to_string).to_vec();
    let blank = (BLANK, false, 0, Some(1));
    let spaces = atoms(&[(SPACE, false, 1, None)]);
    vec![
        Pattern { words, ..Pattern::default() },
        atoms(&[blank, (LETTER, false, 1, None)]),
        atoms(&[blank, (NUMBER, false, 1, None)]),
        atoms(&[blank, (SPACE.or(LETTER).or(NUMBER), true, 1, None)]),
        Pattern { before: Some(SPACE), ..spaces.clone() },
        spaces,
    ]
}

/// Llama 3's: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`; Qwen 2's has one
/// number at a time.
fn llama3(numbers: u32) -> Vec<Pattern> {
    let line_end = |least| (Classes::LINE_END, false, least, None);
    let spaces = atoms(&[(SPACE, false, 1, None)]);
    vec![
        Pattern { words: any_case(&["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]), ..Pattern::default() },
        atoms(&[(Classes::LINE_END.or(LETTER).or(NUMBER), true, 0, Some(1)), (LETTER, false, 1, None)]),
        atoms(&[(NUMBER, false, 1, Some(numbers))]),
        atoms(&[(BLANK, false, 0, Some(1)), (SPACE.or(LETTER).or(NUMBER), true, 1, None), line_end(0)]),
        atoms(&[(SPACE, false, 0, None), line_end(1)]),
        Pattern { before: Some(SPACE), ..spaces.clone() },
        spaces,
    ]
}

/// Words in all that differ from them by case alone; U+017F is an s.
fn any_case(words: &[&str]) -> Vec<String> {
    let cases = |c: char| match c {
        's' => vec!['s', 'S', '\u{17f}'],
        c if c.is_ascii_lowercase() => vec![c, c.to_ascii_uppercase()],
        c => vec![c],
    };
    let grown = |all: Vec<String>, c: char| -> Vec<String> {
        all.iter().flat_map(|word| cases(c).into_iter().map(move |c| format!("{word}{c}"))).collect()
    };
    words.iter().flat_map(|word| word.chars().fold(vec![String::new()], grown)).collect()
}

/// How texts are split, and what goes with it.
pub(super) struct Split {
    pub passes: Vec<Vec<Pattern>>,
    /// Pieces that are tokens are taken as they are.
    pub whole: bool,
    /// Texts begin with a token where files do not say.
    pub starts: bool,
}

/// The splitting of a name; `None` when it is not known.
pub(super) fn named(name: &str) -> Option<Split> {
    let plain = |passes| Split { passes, whole: false, starts: false };
    Some(match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" => plain(vec![gpt2()]),
        "smollm" | "starcoder" | "refact" | "command-r" => plain(vec![digits(), gpt2()]),
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" => plain(vec![llama3(1)]),
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => {
            Split { passes: vec![llama3(3)], whole: true, starts: true }
        }
        _ => return None,
    })
}

/// Each number apart, before anything else.
pub(super) fn digits() -> Vec<Pattern> {
    vec![atoms(&[(NUMBER, false, 1, Some(1))])]
}

/// The splitting of a regular expression, one of those of published tokenizers; `None` when it is another.
pub(super) fn of_regex(regex: &str) -> Option<Vec<Pattern>> {
    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    match regex {
        GPT2 => Some(gpt2()),
        QWEN2 => Some(llama3(1)),
        LLAMA3 => Some(llama3(3)),
        _ => None,
    }
}

/// First and last character of each range with its classes, ascending, as Unicode has them.
pub(super) fn ranges() -> Vec<[u32; 3]> {
    // Where a class begins or ends.
    let mut edges: Vec<(u32, i64, u32)> = Vec::new();
    for (pattern, classes) in
        [(r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE), (" ", BLANK), (r"[\r\n]", Classes::LINE_END)]
    {
        let Ok(hir) = regex_syntax::parse(&format!("[{}]", pattern.trim_matches(['[', ']']))) else {
            continue;
        };
        match hir.kind() {
            HirKind::Class(Class::Unicode(class)) => edges.extend(class.iter().flat_map(|range| {
                [(range.start() as u32, 1, classes.0), (range.end() as u32 + 1, -1, classes.0)]
            })),
            HirKind::Literal(literal) => {
                let c = u32::from(literal.0[0]);
                edges.extend([(c, 1, classes.0), (c + 1, -1, classes.0)]);
            }
            _ => {}
        }
    }
    edges.sort_unstable();
    let (mut ranges, mut now): (Vec<[u32; 3]>, u32) = (Vec::new(), 0);
    for (i, (at, step, class)) in edges.iter().enumerate() {
        now = if *step > 0 { now | class } else { now & !class };
        let Some((end, ..)) = edges.get(i + 1).filter(|next| next.0 > *at && now != 0) else { continue };
        match ranges.last_mut() {
            Some(last) if last[1] + 1 == *at && last[2] == now => last[1] = end - 1,
            _ => ranges.push([*at, end - 1, now]),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::ranges;
    use edge_runtime::tokenizer::Classes;

    /// The standard library knows two of the classes, of a Unicode that may be some characters ahead.
    #[test]
    fn ranges_are_those_of_unicode() {
        let ranges = ranges();
        assert!(
            ranges.windows(2).all(|pair| pair[0][1] < pair[1][0]) && ranges.len() < 1200,
            "{}",
            ranges.len()
        );
        let classes = |c: char| {
            let i = ranges.partition_point(|range| range[1] < c as u32);
            ranges.get(i).filter(|range| range[0] <= c as u32).map_or(0, |range| range[2])
        };
        let has = |c, class: Classes| classes(c) & class.0 != 0;
        let mut newer = 0;
        for c in '\0'..=char::MAX {
            assert_eq!(has(c, Classes::SPACE), c.is_whitespace(), "{c:?}");
            assert!(!has(c, Classes::NUMBER) || c.is_numeric(), "{c:?}");
            newer += usize::from(c.is_numeric() && !has(c, Classes::NUMBER));
            assert!(!has(c, Classes::LETTER) || c.is_alphabetic(), "{c:?}");
            assert_eq!(has(c, Classes::BLANK), c == ' ', "{c:?}");
            assert_eq!(has(c, Classes::LINE_END), matches!(c, '\r' | '\n'), "{c:?}");
        }
        assert!(newer < 64, "{newer}");
        assert!(['a', 'ß', 'я', '中', 'ہ', 'ª'].into_iter().all(|c| has(c, Classes::LETTER)));
        assert!(!has('\u{301}', Classes::LETTER) && !has('_', Classes::LETTER));
    }
}
