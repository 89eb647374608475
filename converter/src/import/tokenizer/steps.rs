//! Normalizers and splittings of `tokenizer.json`: which of them packs have tables for.

use super::patterns::{self, Split};
use edge_runtime::tokenizer::Pattern;
use serde_json::Value;

/// What stands for a blank in SentencePiece's texts.
const BLANK: &str = "\u{2581}";

/// How texts become tokens.
pub(super) enum Way {
    /// Bytes are merged; what is left out, if anything.
    Bytes(Split, Option<String>),
    /// Characters are merged, a blank put before each text or not; `parted` before each blank, too.
    Characters { blank: bool, parted: bool },
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// A name for a message.
fn shown(step: &Value) -> String {
    kind(step).chars().take(40).collect()
}

/// The steps of a sequence; one step is a sequence of one, null of none.
pub(super) fn steps<'a>(step: &'a Value, of: &str) -> Vec<&'a Value> {
    match step {
        Value::Null => Vec::new(),
        step if kind(step) == "Sequence" => step
            .get(of)
            .and_then(Value::as_array)
            .map(|all| all.iter().flat_map(|s| steps(s, of)).collect())
            .unwrap_or_default(),
        step => vec![step],
    }
}

fn flag(step: &Value, key: &str, default: bool) -> bool {
    step.get(key).and_then(Value::as_bool).unwrap_or(default)
}

/// What normalizers and splittings come to.
///
/// # Errors
/// With what is not implemented, in words.
pub(super) fn way(
    normalizer: &Value,
    splitting: &Value,
    bytes_are_tokens: bool,
    whole: bool,
) -> Result<Way, String> {
    let normalizers = steps(normalizer, "normalizers");
    let splittings = steps(splitting, "pretokenizers");
    if splittings.iter().any(|step| kind(step) == "ByteLevel") {
        let left_out = match &normalizers[..] {
            [] => None,
            [one] if kind(one) == "NFC" => {
                Some("the normalizer NFC: texts are read as they are, and expected in that form".to_string())
            }
            [first, ..] => return Err(format!("texts normalized by `{}` are not implemented", shown(first))),
        };
        let passes = passes(&splittings)?;
        return Ok(Way::Bytes(Split { passes, whole, starts: false }, left_out));
    }
    if !bytes_are_tokens {
        return Err("byte pairs that neither split texts into bytes nor spell what is unknown in bytes are not implemented".into());
    }
    characters(&normalizers, &splittings)
}

/// The passes that split a text before bytes are merged.
fn passes(splittings: &[&Value]) -> Result<Vec<Vec<Pattern>>, String> {
    let mut passes = Vec::new();
    for (i, step) in splittings.iter().enumerate() {
        match kind(step) {
            "ByteLevel" if i + 1 < splittings.len() => {
                return Err("texts that are split after they became bytes are not implemented".into());
            }
            "ByteLevel" if flag(step, "add_prefix_space", true) => {
                return Err("texts that a blank is put before (`add_prefix_space`) are not implemented for byte-level tokens".into());
            }
            "ByteLevel" if flag(step, "use_regex", true) => passes.push(patterns::gpt2()),
            "ByteLevel" => {}
            "Digits" if flag(step, "individual_digits", false) => passes.push(patterns::digits()),
            "Split" => {
                let regex = step.pointer("/pattern/Regex").and_then(Value::as_str).unwrap_or_default();
                let isolated = step.get("behavior").and_then(Value::as_str) == Some("Isolated");
                match patterns::of_regex(regex).filter(|_| isolated && !flag(step, "invert", false)) {
                    Some(pass) => passes.push(pass),
                    None => {
                        let regex: String = regex.chars().take(300).collect();
                        return Err(format!("texts split as `{regex}` are not implemented"));
                    }
                }
            }
            _ => return Err(format!("texts split by `{}` are not implemented", shown(step))),
        }
    }
    Ok(passes)
}

fn characters(normalizers: &[&Value], splittings: &[&Value]) -> Result<Way, String> {
    let (mut blank, mut replaced, mut parted) = (false, false, false);
    for step in normalizers {
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        match kind(step) {
            "Prepend" if text("prepend") == BLANK && !replaced => blank = true,
            "Replace"
                if step.pointer("/pattern/String").and_then(Value::as_str) == Some(" ")
                    && text("content") == BLANK =>
            {
                replaced = true;
            }
            _ => return Err(format!("texts normalized by `{}` are not implemented", shown(step))),
        }
    }
    for step in splittings {
        match kind(step) {
            // Nothing is left to be split there.
            "Split" if replaced && step.pointer("/pattern/String").and_then(Value::as_str) == Some(" ") => {}
            "Metaspace" if step.get("replacement").and_then(Value::as_str) == Some(BLANK) => {
                let default = if flag(step, "add_prefix_space", true) { "always" } else { "never" };
                match step.get("prepend_scheme").and_then(Value::as_str).unwrap_or(default) {
                    "always" => blank = true,
                    "never" => {}
                    other => {
                        let other: String = other.chars().take(40).collect();
                        return Err(format!(
                            "a blank put before the `{other}` stretch of text alone is not implemented"
                        ));
                    }
                }
                replaced = true;
                parted |= flag(step, "split", true);
            }
            _ => return Err(format!("texts split by `{}` are not implemented", shown(step))),
        }
    }
    if !replaced {
        return Err("characters whose blanks are no U+2581 are not implemented".into());
    }
    Ok(Way::Characters { blank, parted })
}
