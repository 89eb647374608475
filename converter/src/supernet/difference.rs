//! What a subnet's graph has that the largest network's has not: attributes, blocks that are gone, arrays that are cut.

use crate::compress::{Use, matrix_operands};
use crate::model::{Array, Model};
use edge_runtime::graph::{Graph, Node, Op, Source, ValueId};
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};

/// How a subnet differs from the largest network, in the terms of the latter.
#[derive(Default)]
pub struct Difference {
    /// Attributes of operations: node, JSON pointer, what the subnet has there.
    pub attributes: Vec<(u32, String, Json)>,
    /// Values that the subnet does not compute, and what its operations read instead.
    pub bypassed: HashMap<ValueId, ValueId>,
    /// Stored values that are others.
    pub stored: HashMap<ValueId, Stored>,
    /// Values of the subnet as values of the largest network.
    pub values: HashMap<ValueId, ValueId>,
}

/// What a subnet has of a stored value.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// Of a matrix the first rows, and of the channels of every tap (how many there are) the first.
    Part { rows: Option<usize>, channels: Option<(usize, usize)> },
    /// Of an array the first elements along an axis before which all dimensions are 1.
    Elements { axis: usize, size: usize },
    /// Something else.
    Other(Array),
}

/// Compares a subnet's graph with the largest network's, of whose constants `matrices` are stored as such.
///
/// # Errors
/// Says what the subnet has that cannot be made of the other.
pub fn difference(template: &Model, matrices: &HashSet<u32>, subnet: &Model) -> Result<Difference, String> {
    let (whole, part) = (&template.graph, &subnet.graph);
    let mut comparing =
        Comparing { template, matrices, subnet, found: Difference::default(), same: HashSet::new() };
    if whole.inputs.len() != part.inputs.len() || whole.outputs.len() != part.outputs.len() {
        return Err("it has other inputs or outputs".into());
    }
    for (a, b) in whole.inputs.iter().zip(&part.inputs) {
        comparing.found.values.insert(b.value, a.value);
    }
    let nodes = by_name(whole);
    let mut seen: HashMap<(&str, std::mem::Discriminant<Op>), usize> = HashMap::new();
    for node in &part.body.nodes {
        let kind = (node.name.as_str(), std::mem::discriminant(&node.op));
        let nth = seen.entry(kind).or_insert(0);
        let Some(&index) = nodes.get(&(kind.0, kind.1, *nth)) else {
            return Err(format!(
                "node `{}` ({:.60}) has no counterpart in the largest network",
                node.name,
                format!("{:?}", node.op)
            ));
        };
        *nth += 1;
        comparing.node(index, node)?;
    }
    for (a, b) in whole.outputs.iter().zip(&part.outputs) {
        comparing.operand(a.value, b.value, None)?;
    }
    Ok(comparing.found)
}

/// Nodes by their name, kind and position among those of one name and kind.
fn by_name(graph: &Graph) -> HashMap<(&str, std::mem::Discriminant<Op>, usize), usize> {
    let mut seen: HashMap<(&str, std::mem::Discriminant<Op>), usize> = HashMap::new();
    let mut nodes = HashMap::new();
    for (index, node) in graph.body.nodes.iter().enumerate() {
        let kind = (node.name.as_str(), std::mem::discriminant(&node.op));
        let nth = seen.entry(kind).or_insert(0);
        nodes.insert((kind.0, kind.1, *nth), index);
        *nth += 1;
    }
    nodes
}

struct Comparing<'a> {
    template: &'a Model,
    matrices: &'a HashSet<u32>,
    subnet: &'a Model,
    found: Difference,
    /// Stored values that are the same.
    same: HashSet<ValueId>,
}

impl Comparing<'_> {
    fn node(&mut self, index: usize, b: &Node) -> Result<(), String> {
        let a = &self.template.graph.body.nodes[index];
        if a.op.has_blocks() {
            return Err(format!(
                "node `{}` has branches or turns; a graph that decides by itself is not elastic",
                a.name
            ));
        }
        let json = |op: &Op| serde_json::to_value(op).map_err(|e| e.to_string());
        attributes(&json(&a.op)?, &json(&b.op)?, &mut String::new(), &mut |pointer, value| {
            self.found.attributes.push((index as u32, pointer.to_owned(), value.clone()));
        })
        .map_err(|at| format!("node `{}`: `{at}` has another form", b.name))?;
        if a.inputs.len() != b.inputs.len() || a.outputs.len() != b.outputs.len() {
            return Err(format!("node `{}` has other operands", b.name));
        }
        let taps = taps(&a.op);
        for (i, pair) in a.inputs.iter().zip(&b.inputs).enumerate() {
            match pair {
                (None, None) => {}
                (Some(whole), Some(part)) => {
                    let uses = matrix_operands(&a.op).iter().find(|(at, _)| *at == i);
                    self.operand(*whole, *part, uses.map(|(_, used)| (*used, taps)))
                        .map_err(|why| format!("node `{}`, operand {i}: {why}", b.name))?;
                }
                _ => {
                    return Err(format!(
                        "node `{}`: operand {i} is there in one and not in the other",
                        b.name
                    ));
                }
            }
        }
        for pair in a.outputs.iter().zip(&b.outputs) {
            if let (Some(whole), Some(part)) = pair {
                self.found.values.insert(*part, *whole);
            }
        }
        Ok(())
    }

    /// A value that both read in one place.
    fn operand(
        &mut self,
        whole: ValueId,
        part: ValueId,
        matrix: Option<(Use, Option<usize>)>,
    ) -> Result<(), String> {
        let name = || self.template.graph.name(whole).to_owned();
        match (self.template.constant(whole), self.subnet.constant(part)) {
            (Some(a), Some(b)) => {
                self.found.values.insert(part, whole);
                if a == b {
                    self.same.insert(whole);
                    return match self.found.stored.get(&whole) {
                        Some(other) => Err(format!("`{}` is read as it is and as {other:?}", name())),
                        None => Ok(()),
                    };
                }
                if self.same.contains(&whole) {
                    return Err(format!("`{}` is read as it is and as another", name()));
                }
                // What is read in another way too is stored as it is.
                let source = self.template.graph.values[whole as usize].source;
                let is_matrix = matches!(source, Source::Constant(id) if self.matrices.contains(&id));
                let stored = compare(a, b, matrix.filter(|_| is_matrix));
                match self.found.stored.insert(whole, stored.clone()) {
                    Some(before) if before != stored => {
                        Err(format!("`{}` is read as {before:?} and as {stored:?}", name()))
                    }
                    _ => Ok(()),
                }
            }
            (None, None) => {
                let stands = self.found.values.get(&part).copied();
                let stands = stands.ok_or_else(|| format!("`{}` comes from elsewhere", name()))?;
                if stands == whole {
                    return Ok(());
                }
                match self.found.bypassed.insert(whole, stands) {
                    Some(before) if before != stands => Err(format!("`{}` stands for two values", name())),
                    _ => Ok(()),
                }
            }
            _ => Err(format!("`{}` is stored in one and computed in the other", name())),
        }
    }
}

/// Taps of the window that an operation's matrix is for; `None` when its rows alone can be cut.
fn taps(op: &Op) -> Option<usize> {
    match op {
        Op::Conv { window, groups: 1, .. } => Some(window.kernel.iter().product()),
        Op::Conv { .. } => None,
        _ => Some(1),
    }
}

/// What a subnet's array is of the largest network's.
fn compare(a: &Array, b: &Array, matrix: Option<(Use, Option<usize>)>) -> Stored {
    let other = || Stored::Other(b.clone());
    if a.dtype != b.dtype || a.dims.len() != b.dims.len() {
        return other();
    }
    if let (Some((_, taps)), [n, k], [m, j]) = (matrix, &a.dims[..], &b.dims[..]) {
        let size = a.dtype.bytes();
        let taps = taps.unwrap_or(1);
        let cut_rows_alone = k == j;
        if m > n || j > k || !k.is_multiple_of(taps) || !j.is_multiple_of(taps) {
            return other();
        }
        if !cut_rows_alone && matches!(matrix, Some((_, None))) {
            return other();
        }
        let (all, kept) = (k / taps, j / taps);
        let same = (0..*m).all(|row| {
            (0..taps).all(|tap| {
                let long = &a.data[(row * k + tap * all) * size..][..kept * size];
                long == &b.data[(row * j + tap * kept) * size..][..kept * size]
            })
        });
        if !same {
            return other();
        }
        let channels = (kept < all).then_some((all, kept));
        return Stored::Part { rows: (m < n).then_some(*m), channels };
    }
    let differs: Vec<usize> = (0..a.dims.len()).filter(|i| a.dims[*i] != b.dims[*i]).collect();
    match differs[..] {
        [axis] if a.dims[..axis].iter().all(|d| *d == 1) && a.data.starts_with(&b.data) => {
            Stored::Elements { axis, size: b.dims[axis] }
        }
        _ => other(),
    }
}

/// Calls `see` with the pointer and the second's value of every leaf in which two JSON values differ.
///
/// # Errors
/// The pointer at which they have different forms.
fn attributes(a: &Json, b: &Json, at: &mut String, see: &mut impl FnMut(&str, &Json)) -> Result<(), String> {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) if a.len() == b.len() => {
            for (key, value) in a {
                let len = at.len();
                at.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1")));
                let other = b.get(key).ok_or_else(|| at.clone())?;
                attributes(value, other, at, see)?;
                at.truncate(len);
            }
            Ok(())
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (i, (value, other)) in a.iter().zip(b).enumerate() {
                let len = at.len();
                at.push_str(&format!("/{i}"));
                attributes(value, other, at, see)?;
                at.truncate(len);
            }
            Ok(())
        }
        (Json::Object(_) | Json::Array(_), _) | (_, Json::Object(_) | Json::Array(_)) => Err(at.clone()),
        _ if a == b => Ok(()),
        _ => {
            see(at, b);
            Ok(())
        }
    }
}
