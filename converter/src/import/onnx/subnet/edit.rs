//! A graph that is edited: its nodes, its stored arrays by name, and what reads them.

use super::super::files::Files;
use super::super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_type};
use super::super::tensors;
use crate::model::Array;
use edge_runtime::graph::DType;
use std::collections::{HashMap, HashSet};

/// A graph in the making, with what it takes to read its arrays.
pub struct Edit<'a> {
    pub graph: &'a mut GraphProto,
    files: &'a Files,
    /// Version of ONNX's own operators.
    pub opset: i64,
    /// Stored arrays by name.
    arrays: HashMap<String, usize>,
}

impl<'a> Edit<'a> {
    pub fn new(graph: &'a mut GraphProto, files: &'a Files, opset: i64) -> Edit<'a> {
        let arrays = graph.initializer.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Edit { graph, files, opset, arrays }
    }

    /// Names of the stored arrays, in the file's order.
    pub fn stored(&self) -> impl Iterator<Item = &str> {
        self.graph.initializer.iter().map(|t| t.name.as_str())
    }

    /// A stored array.
    pub fn array(&self, name: &str) -> Result<Array, String> {
        let index =
            self.arrays.get(name).ok_or_else(|| format!("the model has no stored tensor `{name}`"))?;
        tensors::read(&self.graph.initializer[*index], self.files).map_err(|e| e.to_string())
    }

    /// Stores an array, in the place of the one of that name if there is one.
    pub fn store(&mut self, name: &str, array: &Array) -> Result<(), String> {
        let before = self.arrays.get(name).copied();
        let kind = before.map(|i| self.graph.initializer[i].data_type);
        let kind = kind.or_else(|| number(array.dtype));
        let data_type = kind.ok_or_else(|| format!("`{name}`: {} is not stored so", array.dtype))?;
        let data = match tensors::four_bits(data_type) {
            true => tensors::packed(&array.data),
            false => array.data.to_vec(),
        };
        let tensor = TensorProto {
            name: name.to_owned(),
            dims: array.dims.iter().map(|d| *d as i64).collect(),
            data_type,
            raw_data: Some(data.into()),
            ..TensorProto::default()
        };
        match before {
            Some(index) => self.graph.initializer[index] = tensor,
            None => {
                self.arrays.insert(name.to_owned(), self.graph.initializer.len());
                self.graph.initializer.push(tensor);
            }
        }
        Ok(())
    }

    /// Nodes that read a value, with the operand's position.
    pub fn readers(&self, value: &str) -> Vec<(usize, usize)> {
        let nodes = self.graph.node.iter().enumerate();
        let reads = nodes.flat_map(|(n, node)| node.input.iter().enumerate().map(move |(i, v)| (n, i, v)));
        reads.filter(|(_, _, v)| *v == value).map(|(n, i, _)| (n, i)).collect()
    }

    /// Whether a value is computed or given.
    pub fn has_value(&self, value: &str) -> bool {
        self.graph.input.iter().any(|port| port.name == value)
            || self.graph.node.iter().any(|node| node.output.iter().any(|v| v == value))
    }

    /// Has whoever reads a value read another.
    pub fn reroute(&mut self, from: &str, to: &str) {
        for node in &mut self.graph.node {
            for input in node.input.iter_mut().filter(|v| *v == from) {
                *input = to.to_owned();
            }
        }
    }

    /// Leaves out nodes whose results nobody reads, and arrays that no node does.
    pub fn drop_unused(&mut self) {
        let mut producer: HashMap<&str, usize> = HashMap::new();
        for (n, node) in self.graph.node.iter().enumerate() {
            node.output.iter().filter(|v| !v.is_empty()).for_each(|v| {
                producer.insert(v, n);
            });
        }
        let mut kept = vec![false; self.graph.node.len()];
        let mut read: HashSet<String> = HashSet::new();
        let mut open: Vec<String> = self.graph.output.iter().map(|port| port.name.clone()).collect();
        while let Some(value) = open.pop() {
            if !read.insert(value.clone()) {
                continue;
            }
            let Some(&n) = producer.get(value.as_str()) else { continue };
            if !std::mem::replace(&mut kept[n], true) {
                values_of(&self.graph.node[n], &mut open);
            }
        }
        let mut kept = kept.into_iter();
        self.graph.node.retain(|_| kept.next().unwrap_or(true));
        self.graph.initializer.retain(|tensor| read.contains(&tensor.name));
        let arrays = self.graph.initializer.iter().enumerate();
        self.arrays = arrays.map(|(i, t)| (t.name.clone(), i)).collect();
    }
}

/// Every value that a node reads, its branches' among them.
fn values_of(node: &NodeProto, values: &mut Vec<String>) {
    values.extend(node.input.iter().filter(|v| !v.is_empty()).cloned());
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        values.extend(graph.output.iter().map(|port| port.name.clone()));
        graph.node.iter().for_each(|node| values_of(node, values));
    }
}

fn number(dtype: DType) -> Option<i32> {
    (1..=16).find(|number| tensors::dtype(*number) == Ok(dtype))
}

/// A node of ONNX's own domain, named after its result.
pub fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: output.to_owned(),
        input: inputs.iter().map(|v| (*v).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

/// A list of integers as an attribute.
pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let (name, ints) = (name.to_owned(), ints.to_vec());
    AttributeProto { name, ints, r#type: attribute_type::INTS, ..AttributeProto::default() }
}

/// An integer as an attribute.
pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i: Some(i),
        r#type: attribute_type::INT,
        ..AttributeProto::default()
    }
}

/// A text as an attribute.
pub fn text(name: &str, s: &str) -> AttributeProto {
    let s = Some(s.to_owned().into_bytes().into());
    AttributeProto { name: name.to_owned(), s, r#type: attribute_type::STRING, ..AttributeProto::default() }
}

impl NodeProto {
    /// An attribute that is an integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute.iter().find(|a| a.name == name).and_then(|a| a.i)
    }

    /// An attribute that is a list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute.iter().find(|a| a.name == name).map(|a| a.ints.as_slice())
    }

    /// Sets an attribute.
    pub fn set(&mut self, attribute: AttributeProto) {
        self.attribute.retain(|a| a.name != attribute.name);
        self.attribute.push(attribute);
    }
}
