//! A model as text, for people.

use crate::model::Model;
use edge_runtime::graph::{Block, Dim, Node, Op, Port, Source, ValueId};
use std::fmt::Write;

impl Model {
    /// One line a node: results, operation with its attributes, operands. Constants show type and shape.
    pub fn to_text(&self) -> String {
        let mut text = format!("model {}\n", self.name);
        for (kind, ports) in [("input", &self.graph.inputs), ("output", &self.graph.outputs)] {
            for port in ports {
                _ = writeln!(text, "{kind} {}", self.port(port));
            }
        }
        let port = |ports: &[Port], i: usize| {
            ports.get(i).map_or("?".to_owned(), |p| self.graph.name(p.value).to_owned())
        };
        for filled in &self.graph.filled {
            let [output, count] = [filled.output, filled.count].map(|i| port(&self.graph.outputs, i));
            _ = writeln!(text, "filled {output} along {}: {count}", filled.axis);
        }
        for state in &self.graph.states {
            let (output, input) =
                (port(&self.graph.outputs, state.output), port(&self.graph.inputs, state.input));
            _ = writeln!(text, "state {output} -> {input}");
        }
        self.block(&mut text, &self.graph.body, 0);
        text
    }

    fn port(&self, port: &Port) -> String {
        let name = self.graph.name(port.value);
        let dim = |d: &Dim| match d {
            Dim::Fixed(size) => size.to_string(),
            Dim::Named(name) => name.clone(),
        };
        let dims = match &port.dims {
            Some(dims) => format!("[{}]", dims.iter().map(dim).collect::<Vec<_>>().join(", ")),
            None => String::new(),
        };
        format!("{name}: {}{dims}{}", port.dtype, if port.plan_time { " (read by the planner)" } else { "" })
    }

    fn block(&self, text: &mut String, block: &Block, depth: usize) {
        let indent = "  ".repeat(depth);
        for node in &block.nodes {
            _ = writeln!(text, "{indent}{}", self.node(node));
            let names = if matches!(node.op, Op::If { .. }) { ["then", "else"] } else { ["body", ""] };
            for (name, block) in names.into_iter().zip(node.op.blocks()) {
                _ = writeln!(text, "{indent}{name}:");
                self.block(text, block, depth + 1);
                let outputs: Vec<String> = block.outputs.iter().map(|v| self.operand(*v)).collect();
                _ = writeln!(text, "{indent}  -> {}", outputs.join(", "));
            }
        }
    }

    fn node(&self, node: &Node) -> String {
        let list = |ids: &[Option<ValueId>]| {
            let one = |id: &Option<ValueId>| id.map_or("-".to_owned(), |id| self.operand(id));
            ids.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let op = match &node.op {
            Op::If { .. } => "If".to_owned(),
            Op::Loop { most: Some(most), .. } => format!("Loop {{ most: {most} }}"),
            Op::Loop { .. } => "Loop".to_owned(),
            op => format!("{op:?}"),
        };
        format!("{} = {op}({})", list(&node.outputs), list(&node.inputs))
    }

    fn operand(&self, id: ValueId) -> String {
        let Some(value) = self.graph.values.get(id as usize) else { return format!("%{id}?") };
        match value.source {
            Source::Computed => format!("%{}", value.name),
            Source::Weight(tensor) => format!("weight {tensor} `{}`", value.name),
            Source::Constant(id) => match self.constants.get(id as usize) {
                Some(array) if array.elements() <= 8 && array.dims.len() <= 1 => {
                    match (array.as_i64(), array.as_f32()) {
                        (Some(values), _) => format!("{}{values:?}", array.dtype),
                        (_, Some(values)) => format!("{}{values:?}", array.dtype),
                        _ => format!("{}{:?}", array.dtype, array.dims),
                    }
                }
                Some(array) => format!("`{}` {}{:?}", value.name, array.dtype, array.dims),
                None => format!("constant {id}?"),
            },
        }
    }
}
