//! Checks a decoded header: every count, id, size and place. What passes can be used without a further check of
//! ids against tables; what an operation's attributes or an expression's parameters mean is checked by those who
//! read them (`plan`, `weights`).
#![forbid(unsafe_code)]

mod elastic;
mod expr;
mod graph;

pub(crate) use graph::check_graph;

use super::layout::{check_places, file_order};
use super::{Colour, ConstantData, Cost, Golden, GoldenSource, Header, PackError, Preprocess};
use crate::graph::{Graph, Source};
use std::collections::HashMap;

/// Most graphs, rungs, roots of a tensor.
const MAX_FEW: usize = 1 << 10;
/// Most subnets.
const MAX_SUBNETS: usize = 1 << 14;
/// Most sections: one a rung, one of golden data, and as many again.
const MAX_SECTIONS: usize = 1 << 12;
/// Most tensors.
const MAX_TENSORS: usize = 1 << 16;
/// Most blobs, constants, labels; values or nodes of a graph.
const MAX_MANY: usize = 1 << 20;
/// Most dimensions of a shape.
const MAX_RANK: usize = 16;
/// Most elements of a shape, so that bytes and offsets computed from it do not overflow.
const MAX_ELEMENTS: u64 = 1 << 40;
/// Most pixels along a side of a picture.
const MAX_SIDE: usize = 1 << 16;

/// Checks everything about `header`, which ends at byte `header_end`.
pub(super) fn check(header: &Header, header_end: u64) -> Result<(), PackError> {
    check_counts(header)?;
    check_places(header, header_end)?;
    for (i, constant) in header.constants.iter().enumerate() {
        let place = || format!("constant {i}");
        let bytes = shape_elements(&constant.dims, place)? * constant.dtype.bytes() as u64;
        match &constant.data {
            ConstantData::Hex(digits) => {
                if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(PackError::Hex { place: place() });
                }
                equal(place, "number of hexadecimal digits", 2 * bytes, digits.len() as u64)?;
            }
            ConstantData::Blob(id) => check_blob_size(header, *id, bytes, place)?,
            ConstantData::Part(id, offset) => {
                in_range(place, "blob", *id, header.blobs.len())?;
                let len = header.blobs[*id as usize].len;
                if offset.checked_add(bytes).is_none_or(|end| end > len) {
                    let value = format!("{bytes} bytes from {offset}");
                    let need = "they must lie in the blob";
                    return Err(PackError::Number { place: place(), what: "the part", value, need });
                }
            }
        }
    }
    expr::check_tensors(header)?;
    let mut tensors_used = Vec::new();
    for i in 0..header.graphs.len() {
        tensors_used.push(check_graph(header, i)?);
        elastic::check_elastic(header, i)?;
    }
    elastic::check_subnets(header)?;
    elastic::check_candidates(header)?;
    check_rungs(header, header_end, &tensors_used)?;
    if let Some(golden) = &header.golden {
        check_golden(header, golden)?;
    }
    if let Some(blob) = header.tokenizer_blob() {
        in_range(|| "the tokenizer".to_owned(), "blob", blob, header.blobs.len())?;
    }
    for (name, preprocess) in &header.card.preprocess {
        check_preprocess(name, preprocess)?;
    }
    check_costs(header)
}

fn check_counts(header: &Header) -> Result<(), PackError> {
    if header.rungs.is_empty() {
        return Err(PackError::NoRungs);
    }
    for (what, count, cap) in [
        ("graphs", header.graphs.len(), MAX_FEW),
        ("rungs", header.rungs.len(), MAX_FEW),
        ("sections", header.sections.len(), MAX_SECTIONS),
        ("subnets", header.subnets.len(), MAX_SUBNETS),
        ("tensors", header.tensors.len(), MAX_TENSORS),
        ("blobs", header.blobs.len(), MAX_MANY),
        ("constants", header.constants.len(), MAX_MANY),
        ("labels", header.card.labels.len(), MAX_MANY),
        ("costs", header.costs.len(), MAX_MANY),
    ] {
        at_most(|| what.to_owned(), count, cap)?;
    }
    Ok(())
}

fn check_rungs(header: &Header, header_end: u64, tensors_used: &[Vec<u32>]) -> Result<(), PackError> {
    let ends: Vec<u64> = file_order(&header.blobs)
        .into_iter()
        .map(|id| header.blobs[id as usize].offset + header.blobs[id as usize].len)
        .collect();
    let mut ids = HashMap::new();
    for (i, rung) in header.rungs.iter().enumerate() {
        if rung.id.is_empty() {
            return Err(PackError::RungWithoutId { rung: i });
        }
        if let Some(first) = ids.insert(rung.id.as_str(), i) {
            return Err(PackError::RungTwice { id: rung.id.clone(), first, second: i });
        }
        let place = || format!("rung `{}`", rung.id);
        in_range(place, "graph", rung.graph, header.graphs.len())?;
        equal(place, "number of takes", header.tensors.len() as u64, rung.takes.len() as u64)?;
        for (tensor, take) in header.tensors.iter().zip(&rung.takes) {
            if let Some(take) = take {
                let place = || format!("rung `{}`, tensor `{}`", rung.id, tensor.name);
                in_range(place, "root", take.0, tensor.roots.len())?;
            }
        }
        // Ids of a subnet's values are known when it is made.
        let values = if rung.subnet.is_none() { header.graphs[rung.graph as usize].values.len() } else { 0 };
        for pair in rung.floats.windows(2) {
            if pair[0] >= pair[1] {
                return Err(PackError::Number {
                    place: place(),
                    what: "a float value",
                    value: pair[1].to_string(),
                    need: "must be above the one before it",
                });
            }
        }
        if let Some(last) = rung.floats.last() {
            in_range(place, "float value", *last, values)?;
        }
        if let Some(subnet) = rung.subnet {
            in_range(place, "subnet", subnet, header.subnets.len())?;
            let graph = header.subnets[subnet as usize].graph;
            equal(place, "graph of its subnet", u64::from(rung.graph), u64::from(graph))?;
        }
        // What a subnet uses is known when it is made.
        let used = tensors_used[rung.graph as usize].iter().filter(|_| rung.subnet.is_none());
        for &t in used {
            if rung.takes[t as usize].is_none() {
                return Err(PackError::Number {
                    place: format!("rung `{}`, tensor `{}`", rung.id, header.tensors[t as usize].name),
                    what: "the take",
                    value: "null".to_owned(),
                    need: "the rung's graph uses the tensor",
                });
            }
        }
        if rung.end != header_end && ends.binary_search(&rung.end).is_err() {
            return Err(PackError::RungEnd { rung: rung.id.clone(), end: rung.end });
        }
        // What weights need their kinds know, and what a subnet reads is known when it is made.
        if rung.subnet.is_none() && constants_end(header, &header.graphs[rung.graph as usize]) > rung.end {
            return Err(PackError::Number {
                place: format!("rung `{}`", rung.id),
                what: "the end",
                value: rung.end.to_string(),
                need: "must not be before a constant of the rung's graph",
            });
        }
        let available = rung.end - header_end;
        if rung.bytes > available {
            return Err(PackError::RungBytes { rung: rung.id.clone(), bytes: rung.bytes, available });
        }
        if let Some(quality) = &rung.quality {
            finite(place, "the quality", quality.value)?;
        }
        if let Some(parts) = &rung.parts {
            for number in [parts.sum, parts.together, parts.share] {
                finite(place, "a figure of its parts", number)?;
            }
        }
    }
    Ok(())
}

/// Where the last constant of a graph ends.
pub(crate) fn constants_end(header: &Header, graph: &Graph) -> u64 {
    let blobs = graph.values.iter().filter_map(|v| match v.source {
        Source::Constant(id) => {
            let (blob, _) = header.constant(id)?.data.place()?;
            header.all_blobs().get(blob as usize)
        }
        _ => None,
    });
    blobs.filter(|blob| blob.len > 0).map(|blob| blob.offset + blob.len).max().unwrap_or(0)
}

fn check_costs(header: &Header) -> Result<(), PackError> {
    let key = |cost: &Cost| (cost.graph, cost.tensor, cost.root);
    for (i, cost) in header.costs.iter().enumerate() {
        let place = || format!("cost {i}");
        in_range(place, "graph", cost.graph, header.graphs.len())?;
        in_range(place, "tensor", cost.tensor, header.tensors.len())?;
        in_range(place, "root", cost.root, header.tensors[cost.tensor as usize].roots.len())?;
        if i > 0 && key(&header.costs[i - 1]) >= key(cost) {
            let value = format!("{:?}", key(cost));
            let need = "each comes after a smaller one";
            return Err(PackError::Number { place: place(), what: "graph, tensor and root", value, need });
        }
        at_most(|| format!("cost {i}: precisions"), cost.db.len(), MAX_FEW)?;
        for &db in &cost.db {
            finite(place, "a ratio", db)?;
        }
    }
    Ok(())
}

fn check_golden(header: &Header, golden: &Golden) -> Result<(), PackError> {
    for (i, graph) in header.graphs.iter().enumerate() {
        let place = || format!("golden data for graph {i}");
        equal(place, "number of inputs", graph.inputs.len() as u64, golden.inputs.len() as u64)?;
        equal(place, "number of outputs", graph.outputs.len() as u64, golden.outputs.len() as u64)?;
    }
    let rungs_end = header.rungs.iter().map(|r| r.end).max().unwrap_or(0);
    let all = golden.inputs.iter().map(|v| ("input", v)).chain(golden.outputs.iter().map(|v| ("output", v)));
    for (i, (role, value)) in all.enumerate() {
        let nth = if role == "input" { i } else { i - golden.inputs.len() };
        let place = || format!("golden {role} {nth}");
        let bytes = shape_elements(&value.dims, place)? * value.dtype.bytes() as u64;
        match value.source {
            GoldenSource::Blob(id) => {
                check_blob_size(header, id, bytes, place)?;
                let last = header.sections.last().map_or(0, |s| s.offset);
                if bytes > 0 && (header.blobs[id as usize].offset < last || last < rungs_end) {
                    return Err(PackError::GoldenNotLast { blob: id });
                }
            }
            GoldenSource::Uniform { lo, hi, .. } => {
                finite(place, "the least value", lo)?;
                finite(place, "the bound", hi)?;
                if lo > hi {
                    let need = "must not be above the bound";
                    return Err(PackError::Number {
                        place: place(),
                        what: "the least value",
                        value: lo.to_string(),
                        need,
                    });
                }
            }
        }
    }
    Ok(())
}

fn check_preprocess(input: &str, preprocess: &Preprocess) -> Result<(), PackError> {
    let place = || format!("pre-processing of `{input}`");
    let number = |what, value: String, need| Err(PackError::Number { place: place(), what, value, need });
    match preprocess {
        Preprocess::Image { colour, mean, std, size, multiple, .. } => {
            let channels = if *colour == Colour::Grey { 1 } else { 3 };
            for (what, list) in [("number of means", mean), ("number of deviations", std)] {
                if list.len() != 1 {
                    equal(place, what, channels, list.len() as u64)?;
                }
            }
            for &m in mean {
                finite(place, "a mean", m)?;
            }
            for &s in std {
                finite(place, "a deviation", s)?;
                if s == 0.0 {
                    return number("a deviation", s.to_string(), "it is divided by");
                }
            }
            for side in size.iter().flatten().chain(multiple) {
                if !(1..=MAX_SIDE).contains(side) {
                    return number("a size", side.to_string(), "must be from 1 to 65536");
                }
            }
        }
        Preprocess::Audio { sample_rate } => {
            if *sample_rate == 0 {
                return number("the sample rate", "0".to_owned(), "must be at least 1");
            }
        }
    }
    Ok(())
}

/// The blob exists and has `bytes` bytes.
fn check_blob_size(
    header: &Header,
    id: u32,
    bytes: u64,
    place: impl Fn() -> String,
) -> Result<(), PackError> {
    in_range(&place, "blob", id, header.blobs.len())?;
    equal(place, "number of bytes of its blob", bytes, header.blobs[id as usize].len)
}

/// The number of elements of a shape, within bounds.
fn shape_elements(dims: &[usize], place: impl Fn() -> String) -> Result<u64, PackError> {
    at_most(|| format!("{}: dimensions", place()), dims.len(), MAX_RANK)?;
    // A 0 would hide an overflow of the others from whoever multiplies in another order.
    let product = dims.iter().try_fold(1u64, |n, &d| n.checked_mul((d as u64).max(1)));
    match product {
        Some(n) if n <= MAX_ELEMENTS => Ok(if dims.contains(&0) { 0 } else { n }),
        _ => Err(PackError::Shape { place: place(), dims: dims.to_vec(), cap: MAX_ELEMENTS }),
    }
}

fn at_most(what: impl Fn() -> String, count: usize, cap: usize) -> Result<(), PackError> {
    if count > cap {
        return Err(PackError::TooMany { what: what(), count: count as u64, cap: cap as u64 });
    }
    Ok(())
}

fn in_range(place: impl Fn() -> String, what: &'static str, id: u32, count: usize) -> Result<(), PackError> {
    if id as usize >= count {
        let (id, count) = (u64::from(id), count as u64);
        return Err(PackError::OutOfRange { place: place(), what, id, count });
    }
    Ok(())
}

fn equal(
    place: impl Fn() -> String,
    what: &'static str,
    expected: u64,
    actual: u64,
) -> Result<(), PackError> {
    if expected != actual {
        return Err(PackError::Mismatch { place: place(), what, expected, actual });
    }
    Ok(())
}

fn finite(place: impl Fn() -> String, what: &'static str, value: f32) -> Result<(), PackError> {
    if !value.is_finite() {
        let need = "must be a finite number";
        return Err(PackError::Number { place: place(), what, value: value.to_string(), need });
    }
    Ok(())
}
