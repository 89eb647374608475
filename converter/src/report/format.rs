//! How a rung holds a tensor, in words: any kind of weight expression, whether or not this page knows it.

use edge_runtime::pack::{Arg, Expr, Header, Take};
use serde_json::Value;

/// Nodes of an expression that are put into words.
const NODES: usize = 24;
/// Letters of the words at most.
const LETTERS: usize = 120;
/// Elements of a list that are shown.
const LISTED: usize = 6;

/// A tensor's format.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// In words.
    pub text: String,
    /// Bits of a stored code or element, where that is one number.
    pub bits: Option<u32>,
}

/// The format of a tensor at a take.
pub fn format(header: &Header, tensor: usize, take: Take) -> Format {
    let root = header.tensors.get(tensor).and_then(|t| t.roots.get(take.0 as usize));
    let Some(root) = root else { return Format { text: "no such root".into(), bits: None } };
    let mut words = Words { header, left: NODES };
    let (mut text, bits) = words.expr(root, take.1 as usize);
    if let Some((cut, _)) = text.char_indices().nth(LETTERS) {
        text.truncate(cut);
        text.push('…');
    }
    Format { text, bits }
}

/// Puts nodes into words until it has none left: an expression may share its parts many times over.
struct Words<'a> {
    header: &'a Header,
    left: usize,
}

impl Words<'_> {
    fn expr(&mut self, expr: &Expr, take: usize) -> (String, Option<u32>) {
        let Some(left) = self.left.checked_sub(1) else { return ("…".into(), None) };
        self.left = left;
        match expr.kind.as_str() {
            "dense" => dense(expr),
            "planes" => planes(expr, take),
            "row_codes" => self.around("row codes of ", expr, take),
            "view" => self.around("view of ", expr, take),
            "tiles" => self.around(&format!("{} tiles of ", expr.args.len()), expr, take),
            "combine" => self.combine(expr, take),
            "corrected" => self.corrected(expr, take),
            _ => self.other(expr, take),
        }
    }

    /// A kind that passes its take on; all its operands are alike.
    fn around(&mut self, what: &str, expr: &Expr, take: usize) -> (String, Option<u32>) {
        match expr.args.first() {
            Some(arg) => {
                let (text, bits) = self.arg(arg, take);
                (format!("{what}{text}"), bits)
            }
            None => (format!("{what}nothing"), None),
        }
    }

    fn combine(&mut self, expr: &Expr, take: usize) -> (String, Option<u32>) {
        let count = expr.args.len();
        let taken = if take == 0 { count } else { take.min(count) };
        let takes = expr.params.get("takes").and_then(Value::as_array);
        let take_of = |i: usize| takes.and_then(|t| t.get(i)?.as_u64()).unwrap_or(0) as usize;
        let terms: Vec<_> = expr
            .args
            .iter()
            .take(taken.min(NODES))
            .enumerate()
            .map(|(i, a)| self.arg(a, take_of(i)))
            .collect();
        // One term is as if it stood alone.
        let bits = if let [(_, bits)] = terms[..] { bits } else { None };
        let texts: Vec<String> = terms.into_iter().map(|(text, _)| text).collect();
        (format!("sum, {taken} of {count} terms: {}", texts.join(" + ")), bits)
    }

    /// The matrix, and what corrects it at this level.
    fn corrected(&mut self, expr: &Expr, take: usize) -> (String, Option<u32>) {
        let levels = expr.params.get("levels").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let index = if take == 0 { levels.len() } else { take }.saturating_sub(1);
        let level = levels.get(index).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let rank = level.get(2).and_then(Value::as_u64).unwrap_or(0);
        if level.first().is_some_and(Value::is_null) {
            return (format!("two thin matrices of rank {rank}"), None);
        }
        let inner = level.first().and_then(Value::as_u64).unwrap_or(0) as usize;
        let Some(matrix) = expr.args.first() else { return ("corrected, nothing".into(), None) };
        let (mut text, bits) = self.arg(matrix, inner);
        if level.get(1).and_then(Value::as_u64).is_some_and(|sets| sets > 0) {
            text += ", corrected by row";
        }
        if rank > 0 {
            text += &format!(", + rank {rank}");
        }
        (text, bits)
    }

    /// A kind that came after this page: its name, its parameters, its operands. A take passes through to a single operand, as it does
    /// for most kinds; of several it is not known what it counts.
    fn other(&mut self, expr: &Expr, take: usize) -> (String, Option<u32>) {
        let mut text = expr.kind.clone();
        let single = expr.args.len() == 1;
        if take > 0 && !single {
            text += &format!(", {take} taken");
        }
        for (name, value) in expr.params.iter().take(LISTED) {
            text += &format!(", {name} {}", shown(value));
        }
        let args: Vec<String> =
            expr.args.iter().take(NODES).map(|a| self.arg(a, if single { take } else { 0 }).0).collect();
        if !args.is_empty() {
            text += &format!(" ({})", args.join("; "));
        }
        (text, None)
    }

    fn arg(&mut self, arg: &Arg, take: usize) -> (String, Option<u32>) {
        match arg {
            Arg::Expr(expr) => self.expr(expr, take),
            Arg::Shared(tensor, root) => {
                let header = self.header;
                let roots = header.tensors.get(*tensor as usize).map(|t| &t.roots);
                match roots.and_then(|roots| roots.get(*root as usize)) {
                    Some(expr) => self.expr(expr, take),
                    None => ("nothing".into(), None),
                }
            }
        }
    }
}

fn dense(expr: &Expr) -> (String, Option<u32>) {
    let dtype = expr.params.get("dtype").and_then(Value::as_str).unwrap_or("of unknown type");
    let bits = match dtype {
        "f32" => Some(32),
        "f16" | "bf16" => Some(16),
        _ => None,
    };
    (format!("dense {dtype}"), bits)
}

fn planes(expr: &Expr, take: usize) -> (String, Option<u32>) {
    let stored = expr.params.get("bits").and_then(Value::as_array);
    let widths: Vec<u32> = match stored {
        Some(bits) => bits.iter().map(|b| b.as_u64().unwrap_or(0).min(64) as u32).collect(),
        None => edge_runtime::weights::planes::DEFAULT_BITS.to_vec(),
    };
    let taken = if take == 0 { widths.len() } else { take.min(widths.len()) };
    let (bits, all) = (widths[..taken].iter().sum::<u32>(), widths.iter().sum::<u32>());
    let group = match expr.params.get("group").and_then(Value::as_u64) {
        Some(0) | None => "one scale a row".to_string(),
        Some(group) => format!("group {group}"),
    };
    (format!("planes, {bits} of {all} bits, {group}"), Some(bits))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.len() > LISTED => format!("[{} values]", list.len()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::pack::Tensor;
    use serde_json::json;

    fn expr(value: Value) -> Expr {
        serde_json::from_value(value).unwrap()
    }

    fn header(roots: &[Value]) -> Header {
        let tensor = |(i, root): (usize, &Value)| Tensor {
            name: format!("t{i}"),
            n: 16,
            k: 32,
            roots: vec![expr(root.clone())],
        };
        Header { tensors: roots.iter().enumerate().map(tensor).collect(), ..Header::default() }
    }

    fn of(root: Value, take: u32) -> (String, Option<u32>) {
        let format = format(&header(&[root]), 0, Take(0, take));
        (format.text, format.bits)
    }

    #[test]
    fn known_kinds_in_words() {
        let planes =
            json!({"kind": "planes", "params": {"group": 32, "bits": [2, 2, 2, 2, 4, 4]}, "blobs": [0]});
        assert_eq!(of(planes.clone(), 3), ("planes, 6 of 16 bits, group 32".into(), Some(6)));
        assert_eq!(of(planes.clone(), 0), ("planes, 16 of 16 bits, group 32".into(), Some(16)));
        assert_eq!(of(planes.clone(), 99).1, Some(16));
        let whole = json!({"kind": "planes", "params": {"group": 0}});
        assert_eq!(of(whole, 1).0, "planes, 2 of 16 bits, one scale a row");
        let dense = json!({"kind": "dense", "params": {"dtype": "f32", "layout": "panel"}, "blobs": [0]});
        assert_eq!(of(dense.clone(), 1), ("dense f32".into(), Some(32)));
        let codes = json!({"kind": "row_codes", "args": [{"expr": planes}]});
        assert_eq!(of(codes, 4), ("row codes of planes, 8 of 16 bits, group 32".into(), Some(8)));
        let sum = json!({"kind": "combine", "params": {"takes": [2, 0]}, "args": [{"expr": planes}, {"expr": dense}]});
        assert_eq!(of(sum.clone(), 1), ("sum, 1 of 2 terms: planes, 4 of 16 bits, group 32".into(), Some(4)));
        assert_eq!(of(sum, 0).1, None);
        let levels = json!([[1, 1, 0, 0.0], [2, 2, 16, 1.5], [null, 1, 32, 2.5], [3, 0, 0, 0.0]]);
        let corrected = json!({"kind": "corrected", "params": {"levels": levels}, "args": [{"expr": planes}, {"expr": dense}]});
        let text = |take| of(corrected.clone(), take);
        assert_eq!(text(1), ("planes, 2 of 16 bits, group 32, corrected by row".into(), Some(2)));
        assert_eq!(text(2), ("planes, 4 of 16 bits, group 32, corrected by row, + rank 16".into(), Some(4)));
        assert_eq!(text(3), ("two thin matrices of rank 32".into(), None));
        assert_eq!(text(0), ("planes, 6 of 16 bits, group 32".into(), Some(6)));
        let view = json!({"kind": "view", "params": {"rows": [0, 8]}, "args": [{"shared": [0, 0]}]});
        let family = header(&[planes, view]);
        assert_eq!(format(&family, 1, Take(0, 1)).text, "view of planes, 2 of 16 bits, group 32");
        assert_eq!(format(&family, 1, Take(7, 1)).text, "no such root");
    }

    #[test]
    fn unknown_kinds_by_name_and_parameters() {
        let dense = json!({"kind": "dense", "params": {"dtype": "f16"}, "blobs": [0]});
        let factor =
            json!({"kind": "factor", "params": {"rank": 16}, "args": [{"expr": dense}, {"expr": dense}]});
        assert_eq!(of(factor, 2), ("factor, 2 taken, rank 16 (dense f16; dense f16)".into(), None));
        let sparse = json!({"kind": "sparse", "params": {"block": [1, 16], "rows": [0, 1, 2, 3, 4, 5, 6]}, "blobs": [0]});
        assert_eq!(of(sparse, 0).0, "sparse, block [1,16], rows [7 values]");
        let around = json!({"kind": "sparse", "params": {"form": "few"}, "args": [{"expr": {"kind": "planes", "params": {"group": 8}}}]});
        assert_eq!(of(around, 2).0, "sparse, form few (planes, 4 of 16 bits, group 8)");
        assert_eq!(of(json!({"kind": ""}), 0).0, "");
    }

    #[test]
    fn hostile_expressions_end() {
        let twice = |t: u32| json!({"kind": "c", "args": [{"shared": [t, 0]}, {"shared": [t, 0]}]});
        let mut roots = vec![json!({"kind": "x".repeat(1000)})];
        roots.extend((0..30).map(twice));
        let text = format(&header(&roots), 30, Take(0, 1)).text;
        assert!(text.chars().count() <= LETTERS + 1, "{text}");
        let bits = json!({"kind": "planes", "params": {"bits": [u64::MAX, -1, "x"], "group": -5}});
        assert_eq!(of(bits, 9).0, "planes, 64 of 64 bits, one scale a row");
    }
}
