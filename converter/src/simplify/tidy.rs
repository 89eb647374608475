//! Removes what does nothing: copies, unused nodes, equal constants, repeated computations.

use super::Options;
use super::sweep::{Scope, count_uses, sweep};
use super::{common, sizes};
use crate::model::Model;
use edge_runtime::graph::{Block, ConstantId, DType, Graph, Node, Op, Source, Value, ValueId};
use std::collections::{HashMap, HashSet};

/// Bytes below which equal constants are looked for again after every pass; equal weights only come from the importer.
const SMALL_CONSTANT: usize = 4096;

/// Runs until nothing more is found; gives the number of nodes removed or replaced.
pub(super) fn tidy(model: &mut Model, options: &Options) -> usize {
    let mut changed = 0;
    loop {
        if !options.keep_equal {
            merge_constants(model, SMALL_CONSTANT);
        }
        let mut round = sweep(model, options, &mut 0, no_ops);
        round += merge_repeated(model);
        round += name_outputs(&mut model.graph);
        round += remove_dead(&mut model.graph);
        changed += round;
        if round == 0 {
            return changed;
        }
    }
}

/// Operations that give their operand back.
fn no_ops(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let x = node.inputs.first().copied().flatten()?;
    let y = node.outputs.first().copied().flatten()?;
    let same = match &node.op {
        // The sweep keeps this one only where it must name a graph output.
        Op::Identity => return (!scope.is_output(y)).then(|| vec![node.clone()]),
        Op::Cast { to } => scope.dtype(x) == Some(*to),
        Op::Transpose { perm } => !perm.is_empty() && perm.iter().enumerate().all(|(i, p)| i == *p),
        Op::Unsqueeze { axes } => axes.is_empty(),
        Op::Squeeze { axes } => axes.is_empty() && scope.dims(x).is_some_and(no_ones),
        Op::Concat { .. } => node.inputs.len() == 1,
        Op::Flatten { axis } => scope.rank(x) == Some(2) && sizes::axis(*axis, 2) == Some(1),
        Op::Reshape { allow_zero } => reshape_is_no_op(scope, node, x, *allow_zero),
        Op::Expand => {
            let shape = node.inputs.get(1).copied().flatten()?;
            let (dims, target) = (scope.dims(x)?, scope.elements(shape)?);
            target.len() <= dims.len()
                && target.iter().rev().zip(dims.iter().rev()).all(|(t, d)| t == d || t.is_one())
        }
        Op::Pad { .. } | Op::Tile => {
            let neutral = i64::from(node.op == Op::Tile);
            let amounts = scope.ints(node.inputs.get(1).copied().flatten()?)?;
            amounts.iter().all(|n| *n == neutral)
        }
        Op::Split { .. } => node.outputs.len() == 1,
        Op::Slice { axes } => takes_all(scope, node, x, axes)?,
        Op::Reduce { axes, keep_dims: true, kind } => {
            use edge_runtime::graph::ReduceOp::{Max, Mean, Min, Prod, Sum};
            let dims = scope.dims(x)?;
            matches!(kind, Max | Mean | Min | Prod | Sum)
                && sizes::axes(axes, dims.len())?.iter().all(|a| dims[*a].is_one())
        }
        _ => false,
    };
    let copy =
        Node { name: node.name.clone(), op: Op::Identity, inputs: vec![Some(x)], outputs: vec![Some(y)] };
    same.then(|| vec![copy])
}

/// Past any dimension: exporters write 10^9, 2^31 - 1 or 2^63 - 1 for "to the end".
const TO_THE_END: i64 = 1_000_000_000;

/// Whether a slice takes every element.
fn takes_all(scope: &Scope<'_>, node: &Node, x: ValueId, axes: &[i32]) -> Option<bool> {
    let ints = |i: usize| scope.ints(node.inputs.get(i).copied().flatten()?);
    let (starts, ends) = (ints(1)?, ints(2)?);
    if node.inputs.get(3).is_some_and(Option::is_some) && !ints(3)?.iter().all(|s| *s == 1) {
        return Some(false);
    }
    let size = |axis: i32| scope.dims(x).and_then(|d| d.get(sizes::axis(axis, d.len())?)?.known());
    let whole = |(i, axis): (usize, &i32)| {
        starts.get(i) == Some(&0)
            && ends.get(i).is_some_and(|e| *e >= TO_THE_END || size(*axis).is_some_and(|n| *e >= n))
    };
    Some(axes.iter().enumerate().all(whole))
}

fn no_ones(dims: &[sizes::Size]) -> bool {
    dims.iter().all(|d| d.known().is_some_and(|n| n != 1))
}

fn reshape_is_no_op(scope: &mut Scope<'_>, node: &Node, x: ValueId, allow_zero: bool) -> bool {
    let Some(shape) = node.inputs.get(1).copied().flatten() else { return false };
    let (Some(dims), Some(target)) = (scope.dims(x), scope.elements(shape)) else { return false };
    let kept = |t: &sizes::Size, d: &sizes::Size| t == d || (!allow_zero && *t == sizes::Size::Known(0));
    // One free dimension is what the others leave.
    let free = target.iter().filter(|t| **t == sizes::Size::Known(-1)).count();
    target.len() == dims.len()
        && free <= 1
        && target.iter().zip(dims).all(|(t, d)| *t == sizes::Size::Known(-1) || kept(t, d))
}

/// An `Identity` that names a graph output: the node before it takes the name where no other output has it.
fn name_outputs(graph: &mut Graph) -> usize {
    let mut taken: HashSet<ValueId> = graph.outputs.iter().chain(&graph.inputs).map(|p| p.value).collect();
    let nodes = &mut graph.body.nodes;
    let mut renamed = HashMap::new();
    for at in 0..nodes.len() {
        if nodes[at].op != Op::Identity {
            continue;
        }
        let Some((from, to)) = common::one_to_one(&nodes[at]) else { continue };
        let computed = graph.values[from as usize].source == Source::Computed;
        if !taken.contains(&to) || taken.contains(&from) || !computed || renamed.contains_key(&from) {
            continue;
        }
        // An If may compute it; a branch's own value cannot reach the graph's own block.
        let Some(made) = nodes.iter().position(|n| n.outputs.contains(&Some(from))) else { continue };
        nodes.iter_mut().enumerate().for_each(|(i, n)| {
            if i == made {
                n.outputs.iter_mut().filter(|o| **o == Some(from)).for_each(|o| *o = Some(to));
            }
        });
        nodes[at].outputs = vec![None];
        taken.insert(from);
        renamed.insert(from, to);
    }
    if !renamed.is_empty() {
        rename_uses(&mut graph.body, &renamed);
    }
    renamed.len()
}

fn rename_uses(block: &mut Block, renamed: &HashMap<ValueId, ValueId>) {
    let rename = |v: &mut ValueId| *v = renamed.get(v).copied().unwrap_or(*v);
    for node in &mut block.nodes {
        node.inputs.iter_mut().flatten().for_each(rename);
        node.op.blocks_mut().for_each(|block| rename_uses(block, renamed));
    }
    block.outputs.iter_mut().for_each(rename);
}

/// Removes nodes whose results nobody reads. Every operation is pure.
fn remove_dead(graph: &mut Graph) -> usize {
    fn visit(block: &mut Block, live: &mut [bool], removed: &mut usize) {
        block.outputs.iter().for_each(|v| live[*v as usize] = true);
        let before = block.nodes.len();
        let mut kept: Vec<Node> = Vec::with_capacity(before);
        for mut node in std::mem::take(&mut block.nodes).into_iter().rev() {
            if !node.outputs.iter().flatten().any(|v| live[*v as usize]) {
                continue;
            }
            // Results of an operation with blocks inside are matched to theirs by position.
            if !node.op.has_blocks() {
                for output in &mut node.outputs {
                    *output = output.filter(|v| live[*v as usize]);
                }
            }
            node.op.blocks_mut().for_each(|block| visit(block, live, removed));
            node.inputs.iter().flatten().for_each(|v| live[*v as usize] = true);
            kept.push(node);
        }
        kept.reverse();
        *removed += before - kept.len();
        block.nodes = kept;
    }
    let mut live = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|p| live[p.value as usize] = true);
    let mut removed = 0;
    visit(&mut graph.body, &mut live, &mut removed);
    removed
}

/// Equal arrays of at most so many bytes become one value.
pub(super) fn merge_constants(model: &mut Model, most_bytes: usize) {
    let mut first: HashMap<(DType, &[usize], &[u8]), ValueId> = HashMap::new();
    let mut renamed = HashMap::new();
    for id in 0..model.graph.values.len() as ValueId {
        let Some(array) = model.constant(id).filter(|a| a.data.len() <= most_bytes) else { continue };
        let kept = *first.entry((array.dtype, &array.dims, &array.data)).or_insert(id);
        if kept != id {
            renamed.insert(id, kept);
        }
    }
    if !renamed.is_empty() {
        rename_uses(&mut model.graph.body, &renamed);
    }
    // Equal reals are made of either's integers.
    for (id, kept) in renamed {
        let [of, to] = [id, kept].map(|id| model.graph.values[id as usize].source);
        if let (Source::Constant(of), Source::Constant(to)) = (of, to)
            && let Some(integers) = model.integers.get(&of).cloned()
        {
            model.integers.entry(to).or_insert(integers);
        }
    }
}

/// Merges nodes that compute the same thing from the same operands, within a block and into its branches.
fn merge_repeated(model: &mut Model) -> usize {
    fn visit(
        block: &mut Block,
        seen: &mut HashMap<String, Vec<Node>>,
        renamed: &mut HashMap<ValueId, ValueId>,
        ports: &HashSet<ValueId>,
        merged: &mut usize,
    ) {
        let mut here: Vec<String> = Vec::new();
        for node in &mut block.nodes {
            for v in node.inputs.iter_mut().flatten() {
                *v = renamed.get(v).copied().unwrap_or(*v);
            }
            if node.op.has_blocks() {
                node.op.blocks_mut().for_each(|block| visit(block, seen, renamed, ports, merged));
                continue;
            }
            // What each turn of a loop begins with is its own.
            if node.op == Op::Turn {
                continue;
            }
            let key = format!("{:?} {:?}", node.op, node.inputs);
            let twins = seen.entry(key.clone()).or_default();
            let covers = |twin: &&Node| {
                twin.outputs.len() == node.outputs.len()
                    && node.outputs.iter().zip(&twin.outputs).all(|(mine, theirs)| match (mine, theirs) {
                        (Some(v), Some(_)) => !ports.contains(v),
                        (mine, _) => mine.is_none(),
                    })
            };
            if let Some(twin) = twins.iter().find(covers) {
                for (mine, theirs) in node.outputs.iter_mut().zip(&twin.outputs) {
                    if let (Some(v), Some(w)) = (mine.take(), theirs) {
                        renamed.insert(v, *w);
                    }
                }
                *merged += 1;
            } else {
                twins.push(node.clone());
                here.push(key);
            }
        }
        block.outputs.iter_mut().for_each(|v| *v = renamed.get(v).copied().unwrap_or(*v));
        // What a branch computed is unknown outside it.
        for key in here {
            if let Some(twins) = seen.get_mut(&key) {
                twins.pop();
            }
        }
    }
    let ports: HashSet<ValueId> = model.graph.outputs.iter().map(|p| p.value).collect();
    let (mut seen, mut renamed, mut merged) = (HashMap::new(), HashMap::new(), 0);
    visit(&mut model.graph.body, &mut seen, &mut renamed, &ports, &mut merged);
    merged
}

/// Drops values and constants that nothing reads and numbers the rest anew.
pub(crate) fn compact(model: &mut Model) {
    let mut uses = count_uses(model, &model.graph.body);
    model.graph.inputs.iter().for_each(|p| uses[p.value as usize] += 1);
    model.graph.body.for_each(&mut |node| {
        node.outputs.iter().flatten().for_each(|v| uses[*v as usize] += 1);
    });
    let mut renamed = HashMap::new();
    let mut constants: HashMap<ConstantId, ConstantId> = HashMap::new();
    let mut arrays = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    for (id, mut value) in std::mem::take(&mut model.graph.values).into_iter().enumerate() {
        if uses[id] == 0 {
            continue;
        }
        if let Source::Constant(old) = &mut value.source {
            *old = *constants.entry(*old).or_insert_with(|| {
                arrays.push(model.constants[*old as usize].clone());
                arrays.len() as ConstantId - 1
            });
        }
        renamed.insert(id as ValueId, values.len() as ValueId);
        values.push(value);
    }
    model.graph.values = values;
    model.constants = arrays;
    model.integers = std::mem::take(&mut model.integers)
        .into_iter()
        .filter_map(|(old, integers)| Some((*constants.get(&old)?, integers)))
        .collect();
    let ports = model.graph.inputs.iter().chain(&model.graph.outputs).map(|p| renamed[&p.value]).collect();
    separate_names(&mut model.graph.values, &ports);
    let rename = |port: &mut edge_runtime::graph::Port| port.value = renamed[&port.value];
    model.graph.inputs.iter_mut().for_each(rename);
    model.graph.outputs.iter_mut().for_each(rename);
    rename_uses(&mut model.graph.body, &renamed);
    rename_definitions(&mut model.graph.body, &renamed);
}

/// Gives each value a name of its own: a value that passes derived bears its origin's name until here. Inputs and
/// outputs keep theirs.
fn separate_names(values: &mut [Value], ports: &HashSet<ValueId>) {
    let mut taken: HashSet<String> = ports.iter().map(|v| values[*v as usize].name.clone()).collect();
    for (id, value) in values.iter_mut().enumerate() {
        if ports.contains(&(id as ValueId)) {
            continue;
        }
        let mut count = 1;
        let mut name = value.name.clone();
        while !taken.insert(name.clone()) {
            count += 1;
            name = format!("{}#{count}", value.name);
        }
        value.name = name;
    }
}

fn rename_definitions(block: &mut Block, renamed: &HashMap<ValueId, ValueId>) {
    for node in &mut block.nodes {
        node.outputs.iter_mut().flatten().for_each(|v| *v = renamed[v]);
        node.op.blocks_mut().for_each(|block| rename_definitions(block, renamed));
    }
}
