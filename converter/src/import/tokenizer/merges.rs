//! Scores that give what ranked merges give: of neighbours whose text is a token, the one of the greatest score is joined first.
//!
//! Merges say which pairs may be joined, scores do not: every split of a token counts. So scores stand for merges when each token's merges are all its
//! splits, and no other token's lie between them. Tokenizers that were made of SentencePiece's models are so.

use std::collections::{HashMap, HashSet};

/// Scores of tokens, and which of them are joined or begin with: the others no text becomes.
pub(super) struct Ranked {
    pub scores: Vec<f32>,
    pub reached: Vec<bool>,
}

/// Whether a text is one character again and again.
fn is_run(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next();
    chars.all(|c| Some(c) == first)
}

/// Scores for merges of two texts each, in the order of their rank; `text` says which tokens are texts that may be joined.
///
/// # Errors
/// With why there are none, in words.
pub(super) fn scores<'t>(
    tokens: &[&'t str],
    text: &[bool],
    merges: impl Iterator<Item = [&'t str; 2]>,
) -> Result<Ranked, String> {
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| text[*id]) {
        ids.entry(token).or_insert(id as u32);
    }
    let one = |token: &str| token.chars().nth(1).is_none();
    let mut scores = vec![0.0f32; tokens.len()];
    let mut reached: Vec<bool> = tokens.iter().zip(text).map(|(token, text)| *text && one(token)).collect();
    let (mut pairs, mut last, mut score, mut joined) = (HashSet::new(), None, 0.0f32, String::new());
    for [left, right] in merges {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let (Some(a), Some(b), Some(id)) = (ids.get(left), ids.get(right), ids.get(&joined[..])) else {
            continue;
        };
        pairs.insert((*a, *b));
        let id = *id as usize;
        if last == Some(id) {
            continue;
        }
        if !reached[id] {
            // Below the numbers that f32 counts by ones there are more ranks than tokens can be.
            score -= 1.0;
            (scores[id], reached[id]) = (score, true);
        } else if !is_run(tokens[id]) {
            // Runs of a character are joined from the left, whichever is first.
            return Err(format!(
                "merges that make `{}` lie between those of other tokens, which no scores stand for",
                shown(tokens[id])
            ));
        }
        last = Some(id);
    }
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| reached[*id]) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            let known = |part: &str| ids.get(part).copied().filter(|id| reached[*id as usize]);
            let (a, b) = (known(left), known(right));
            // A character that is no token is spelled in bytes, and joined with nothing.
            let may = |found: Option<u32>, part: &str| found.is_some() || one(part);
            let is_merge = a.zip(b).is_some_and(|pair| pairs.contains(&pair));
            if may(a, left) && may(b, right) && !is_merge {
                return Err(format!(
                    "`{}` is not merged of `{}` and `{}`, both of which are there: no scores stand for that",
                    shown(tokens[id]),
                    shown(left),
                    shown(right)
                ));
            }
        }
    }
    Ok(Ranked { scores, reached })
}

fn shown(token: &str) -> String {
    token.chars().take(60).collect()
}
