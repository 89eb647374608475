//! The order of nodes. ONNX wants operands before their use; some exporters do not care.

use super::proto::{GraphProto, NodeProto};
use crate::import::ImportError;
use std::collections::{HashMap, HashSet, VecDeque};

/// The nodes so that each follows those whose results it reads; in the given order where that does.
///
/// # Errors
/// [`ImportError::Cycle`].
pub fn sorted(nodes: &[NodeProto]) -> Result<Vec<&NodeProto>, ImportError> {
    let mut maker: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        // Of two definitions the first counts here; the duplicate is refused when it is bound.
        node.output.iter().filter(|o| !o.is_empty()).for_each(|o| _ = maker.entry(o).or_insert(i));
    }
    let needs: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| {
            let mut names = HashSet::new();
            reads(node, &mut names);
            let mut needs: Vec<usize> = names.iter().filter_map(|n| maker.get(n).copied()).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect();
    if needs.iter().enumerate().all(|(i, needs)| needs.iter().all(|n| *n < i)) {
        return Ok(nodes.iter().collect());
    }
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|n| users[*n].push(i));
    }
    let mut ready: VecDeque<usize> = (0..nodes.len()).filter(|i| waiting[*i] == 0).collect();
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_front() {
        sorted.push(&nodes[i]);
        for user in &users[i] {
            waiting[*user] -= 1;
            if waiting[*user] == 0 {
                ready.push_back(*user);
            }
        }
    }
    match on_cycle(&needs, &waiting) {
        None => Ok(sorted),
        Some((node, needed)) => {
            let node = &nodes[node];
            let value = nodes[needed].output.first().cloned().unwrap_or_default();
            let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
            Err(ImportError::Cycle { node: name.cloned().unwrap_or_default(), value })
        }
    }
}

/// A node on a cycle and one that it waits for, among those still waiting.
fn on_cycle(needs: &[Vec<usize>], waiting: &[usize]) -> Option<(usize, usize)> {
    let stuck = |i: usize| needs[i].iter().copied().find(|n| waiting[*n] > 0);
    let mut node = waiting.iter().position(|w| *w > 0)?;
    // As many steps back as there are nodes end inside a cycle, wherever they start.
    for _ in 0..needs.len() {
        node = stuck(node)?;
    }
    Some((node, stuck(node)?))
}

/// The names that a node reads, those of its branches included unless a branch defines them itself.
fn reads<'a>(node: &'a NodeProto, names: &mut HashSet<&'a str>) {
    names.extend(node.input.iter().map(String::as_str));
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        branch_reads(graph, names);
    }
}

fn branch_reads<'a>(graph: &'a GraphProto, names: &mut HashSet<&'a str>) {
    let mut inner = HashSet::new();
    graph.node.iter().for_each(|n| reads(n, &mut inner));
    inner.extend(graph.output.iter().map(|o| o.name.as_str()));
    for own in graph.node.iter().flat_map(|n| &n.output).chain(graph.initializer.iter().map(|t| &t.name)) {
        inner.remove(own.as_str());
    }
    names.extend(inner);
}
