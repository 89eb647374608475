//! What changes the graph's shape: blocks left out or run again, pictures made smaller, other constants.

use super::super::proto::{NodeProto, ValueInfoProto};
use super::super::tensors;
use super::edit::{Edit, int, ints, node, text};
use crate::import::supernet::{Resolution, Swap};
use crate::model::Array;
use std::collections::{HashMap, HashSet};
use wildmatch::WildMatch;

impl Edit<'_> {
    /// Leaves blocks out: who reads a block's result reads what enters it, and where that is the result of another block that is left
    /// out, what enters that. Each is (what enters, the result, whether it is left out).
    ///
    /// # Errors
    /// When the graph has not these values, or a block is all there is, or follows itself.
    pub fn skip(&mut self, blocks: &[(&str, &str, bool)]) -> Result<(), String> {
        for (from, to, _) in blocks {
            if let Some(missing) = [from, to].into_iter().find(|v| !self.has_value(v)) {
                return Err(format!("[[skip]] from `{from}` to `{to}`: the model computes no `{missing}`"));
            }
            if self.graph.output.iter().any(|port| port.name == *to) {
                return Err(format!("[[skip]] from `{from}` to `{to}`: `{to}` is an output of the model"));
            }
        }
        let instead: HashMap<&str, &str> =
            blocks.iter().filter(|(_, _, left_out)| *left_out).map(|(from, to, _)| (*to, *from)).collect();
        for (_, to, _) in blocks.iter().filter(|(_, _, left_out)| *left_out) {
            let mut enters = *to;
            for _ in 0..instead.len() {
                enters = instead.get(enters).copied().unwrap_or(enters);
            }
            if instead.contains_key(enters) {
                return Err(format!("[[skip]]: blocks that are left out lead from `{to}` to itself"));
            }
            self.reroute(to, enters);
        }
        Ok(())
    }

    /// Sets the elements of a stored array.
    ///
    /// # Errors
    /// When there is no such array, or it has another number of elements.
    pub fn constant(&mut self, name: &str, values: &[f64]) -> Result<(), String> {
        let array = self.array(name)?;
        if array.elements() != values.len() {
            let (have, shape) = (values.len(), &array.dims);
            return Err(format!("[[constant]] `{name}`: {have} elements for shape {shape:?}"));
        }
        self.store(name, &tensors::from_f64(array.dtype, &array.dims, values))
    }

    /// Has arrays of another network stand in the place of those that a table names. What that network has not is the same in both.
    ///
    /// # Errors
    /// When the table names no array, there is none of the prefix, or one has another form.
    pub fn swap(&mut self, table: &Swap, option: usize) -> Result<(), String> {
        let wrong = |why: String| format!("[[swap]] of choice `{}`: {why}", table.choice);
        let prefix = &table.prefixes[option];
        let patterns: Vec<WildMatch> = table.of.iter().map(|of| WildMatch::new(of)).collect();
        let stored: HashSet<&str> = self.stored().collect();
        let named = |name: &&str| patterns.iter().any(|pattern| pattern.matches(name));
        let names: Vec<&str> = self.stored().filter(named).collect();
        if names.is_empty() {
            return Err(wrong(format!("no stored tensor is called {:?}", table.of)));
        }
        let pairs: Vec<(String, String)> = names
            .iter()
            .map(|name| ((*name).to_owned(), format!("{prefix}{name}")))
            .filter(|(_, other)| !prefix.is_empty() && stored.contains(other.as_str()))
            .collect();
        if pairs.is_empty() && !prefix.is_empty() {
            return Err(wrong(format!("no stored tensor is called `{prefix}{}`", names[0])));
        }
        for (name, other) in pairs {
            let (own, array) = (self.array(&name)?, self.array(&other)?);
            if (own.dtype, &own.dims) != (array.dtype, &array.dims) {
                return Err(wrong(format!(
                    "`{name}` is {}{:?}, `{other}` is {}{:?}",
                    own.dtype, own.dims, array.dtype, array.dims
                )));
            }
            self.store(&name, &array)?;
        }
        Ok(())
    }

    /// Has the block between two values run `times` times, each time on what came out before.
    ///
    /// # Errors
    /// When there is no block between them.
    pub fn repeat(&mut self, from: &str, to: &str, times: usize) -> Result<(), String> {
        let inside = self.between(from, to);
        if inside.is_empty() {
            return Err(format!("[[repeat]] from `{from}` to `{to}`: no node leads from one to the other"));
        }
        let results: HashSet<String> =
            inside.iter().flat_map(|n| self.graph.node[*n].output.iter().cloned()).collect();
        let outside: Vec<usize> = (0..self.graph.node.len()).filter(|n| !inside.contains(n)).collect();
        let mut last = to.to_owned();
        let mut copies: Vec<NodeProto> = Vec::new();
        for turn in 2..=times {
            let renamed = |value: &String| match value {
                v if v == from => last.clone(),
                v if results.contains(v) => format!("{v}@{turn}"),
                v => v.clone(),
            };
            for n in &inside {
                let mut copy = self.graph.node[*n].clone();
                copy.input.iter_mut().for_each(|v| *v = renamed(v));
                copy.output.iter_mut().filter(|v| !v.is_empty()).for_each(|v| *v = format!("{v}@{turn}"));
                if !copy.name.is_empty() {
                    copy.name = format!("{}@{turn}", copy.name);
                }
                copies.push(copy);
            }
            last = format!("{to}@{turn}");
        }
        if last != to {
            for n in outside {
                self.graph.node[n].input.iter_mut().filter(|v| *v == to).for_each(|v| v.clone_from(&last));
            }
            self.graph.node.extend(copies);
        }
        Ok(())
    }

    /// Nodes that read what follows from one value and that another follows from.
    fn between(&self, from: &str, to: &str) -> Vec<usize> {
        let nodes = &self.graph.node;
        // Nodes may stand in any order.
        let mut follows: HashSet<&str> = HashSet::from([from]);
        let mut ahead: HashSet<usize> = HashSet::new();
        loop {
            let before = ahead.len();
            for (n, node) in nodes.iter().enumerate() {
                if node.input.iter().any(|v| follows.contains(v.as_str())) && ahead.insert(n) {
                    follows.extend(node.output.iter().map(String::as_str));
                }
            }
            if ahead.len() == before {
                break;
            }
        }
        let producers: HashMap<&str, usize> = nodes
            .iter()
            .enumerate()
            .flat_map(|(n, node)| node.output.iter().map(move |v| (v.as_str(), n)))
            .collect();
        let (mut open, mut found) = (vec![to], Vec::new());
        while let Some(value) = open.pop() {
            let Some(&n) = producers.get(value) else { continue };
            if ahead.contains(&n) && !found.contains(&n) {
                found.push(n);
                open.extend(nodes[n].input.iter().map(String::as_str).filter(|v| *v != from));
            }
        }
        found.sort_unstable();
        found
    }

    /// Makes a picture smaller before anything reads it. One that keeps its size goes the same way, so that all subnets have one graph: no
    /// step of a plan is left of it.
    ///
    /// # Errors
    /// When there is no such input, or its operators cannot say a size.
    pub fn resolution(&mut self, table: &Resolution, option: usize) -> Result<(), String> {
        let (input, size) = (&table.input, table.sizes[option] as i64);
        let wrong = |why: String| format!("[[resolution]] of choice `{}`: {why}", table.choice);
        let port = self.graph.input.iter().find(|port| port.name == *input);
        let port = port.ok_or_else(|| wrong(format!("the model has no input `{input}`")))?;
        let own = own_size(port);
        if let (Some(own), Some(last)) = (own, table.sizes.last())
            && own != [*last as i64; 2]
        {
            return Err(wrong(format!("the last size is {last}, `{input}` has {} x {}", own[0], own[1])));
        }
        if self.opset < 13 {
            return Err(wrong(format!("needs opset 13, the model has {}", self.opset)));
        }
        let resized = format!("{input}.resized");
        self.reroute(input, &resized);
        let name = |part: &str| format!("{resized}.{part}");
        // The sizes of batch and channels are the picture's own.
        let ends = [("from", vec![0]), ("to", vec![2]), ("size", vec![size, size])];
        for (part, values) in &ends {
            self.store(&name(part), &Array::i64(&[values.len()], values))?;
        }
        let mut resize = node("Resize", &[input.as_str(), "", "", &name("sizes")], &resized);
        resize.set(text("mode", "linear"));
        resize.set(text("coordinate_transformation_mode", "half_pixel"));
        let mut concat = node("Concat", &[&name("batch"), &name("size")], &name("sizes"));
        concat.set(int("axis", 0));
        let new = [
            node("Shape", &[input], &name("shape")),
            node("Slice", &[&name("shape"), &name("from"), &name("to")], &name("batch")),
            concat,
            resize,
        ];
        self.graph.node.splice(0..0, new);
        Ok(())
    }
}

/// Height and width of a picture, where the file says them.
fn own_size(port: &ValueInfoProto) -> Option<[i64; 2]> {
    let shape = port.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let [.., h, w] = &shape.dim[..] else { return None };
    Some([h.dim_value?, w.dim_value?])
}

impl Edit<'_> {
    /// The mean over batch and places of a value `[N, C, ...]`, one a channel: `[1, C, 1, ...]`.
    pub fn mean(&mut self, value: &str, rank: i64, output: &str) -> Result<NodeProto, String> {
        let axes: Vec<i64> = std::iter::once(0).chain(2..rank).collect();
        // Axes became an operand in opset 18.
        let mut mean = match self.opset >= 18 {
            true => {
                let name = format!("{output}.axes");
                self.store(&name, &Array::i64(&[axes.len()], &axes))?;
                node("ReduceMean", &[value, &name], output)
            }
            false => {
                let mut mean = node("ReduceMean", &[value], output);
                mean.set(ints("axes", &axes));
                mean
            }
        };
        mean.set(int("keepdims", 1));
        Ok(mean)
    }
}
