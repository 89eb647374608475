//! What a blob is for, in words, for errors.
#![forbid(unsafe_code)]

use super::{Arg, BlobId, ConstantData, Expr, GoldenSource, GoldenValue, Header};
use crate::graph::Source;

/// The first thing that refers to the blob: a tensor and which part of its expression, a constant, golden data.
/// Unreferenced: says so.
pub(super) fn owner_of(header: &Header, id: BlobId) -> String {
    for tensor in &header.tensors {
        for (r, root) in tensor.roots.iter().enumerate() {
            let mut path = format!("tensor `{}`, root {r}", tensor.name);
            if find(root, id, &mut path) {
                return path;
            }
        }
    }
    for (c, constant) in header.constants.iter().enumerate() {
        if constant.data.place().is_some_and(|(blob, _)| blob == id) {
            let what =
                if matches!(constant.data, ConstantData::Part(..)) { "constants from" } else { "constant" };
            let mut values = header.graphs.iter().flat_map(|g| &g.values);
            return match values.find(|v| v.source == Source::Constant(c as u32)) {
                Some(value) => format!("{what} `{}`", value.name),
                None => format!("{what} {c}"),
            };
        }
    }
    if let Some(subnet) = header.subnets.iter().position(|subnet| subnet.overlay == Some(id)) {
        return format!("constants of subnet {subnet}");
    }
    if header.tokenizer_blob() == Some(id) {
        return "the tokenizer's tables".to_owned();
    }
    if let Some(golden) = &header.golden {
        let is = |value: &GoldenValue| matches!(value.source, GoldenSource::Blob(blob) if blob == id);
        if let Some(i) = golden.inputs.iter().position(is) {
            return format!("golden input {i}");
        }
        if let Some(i) = golden.outputs.iter().position(is) {
            return format!("golden output {i}");
        }
    }
    "nothing refers to it".to_owned()
}

/// Extends `path` to the leaf that has the blob; leaves it as it was when there is none. The depth of expressions
/// is that of the header's brackets, which is bounded before anything is decoded.
fn find(expr: &Expr, id: BlobId, path: &mut String) -> bool {
    let before = path.len();
    path.push_str(&format!(", {}", expr.kind));
    if let Some(i) = expr.blobs.iter().position(|&blob| blob == id) {
        if expr.blobs.len() > 1 {
            path.push_str(&format!(", part {i}"));
        }
        return true;
    }
    for (i, arg) in expr.args.iter().enumerate() {
        if let Arg::Expr(arg) = arg {
            let before = path.len();
            path.push_str(&format!(" operand {i}"));
            if find(arg, id, path) {
                return true;
            }
            path.truncate(before);
        }
    }
    path.truncate(before);
    false
}
