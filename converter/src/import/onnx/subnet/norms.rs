//! Batch normalizations of a subnet: with other statistics, or with those of the batch that runs.
//!
//! The statistics of a channel depend on everything before it, so that a subnet's are not a part of the largest network's. They are
//! measured by running it as in training, where every normalization uses the mean and the variance of the batch.

use super::super::proto::{GraphProto, NodeProto, TypeProto, ValueInfoProto};
use super::super::proto::{TensorTypeProto, attribute_type};
use super::edit::{Edit, node};
use crate::model::Array;
use std::collections::HashMap;

/// What a batch normalization has measured, one a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Variances (of the population, as in inference).
    pub variance: Vec<f32>,
}

/// Results of the batch normalizations, in the graph's order.
pub fn names(graph: &GraphProto) -> Vec<String> {
    let norms = graph.node.iter().filter(|node| is_norm(node));
    norms.filter_map(|node| node.output.first().cloned()).collect()
}

/// Channels of the batch normalizations, in the graph's order.
pub fn channels(graph: &GraphProto) -> Vec<usize> {
    let elements = |name: &String| {
        let stored = graph.initializer.iter().find(|t| t.name == *name);
        stored.map_or(0, |t| t.dims.iter().product::<i64>() as usize)
    };
    let norms = graph.node.iter().filter(|node| is_norm(node));
    norms.map(|node| node.input.get(1).map_or(0, elements)).collect()
}

fn is_norm(node: &NodeProto) -> bool {
    node.op_type == "BatchNormalization" && matches!(node.domain.as_str(), "" | "ai.onnx")
}

impl Edit<'_> {
    /// Writes statistics into the normalizations whose results they are listed by.
    ///
    /// # Errors
    /// When a normalization has another number of channels.
    pub fn norms_given(&mut self, statistics: &HashMap<String, Statistics>) -> Result<(), String> {
        for n in 0..self.graph.node.len() {
            let node = &self.graph.node[n];
            let Some(result) = node.output.first().filter(|_| is_norm(node)).cloned() else { continue };
            let Some(own) = statistics.get(&result) else { continue };
            for (position, part, values) in [(3, "mean", &own.mean), (4, "variance", &own.variance)] {
                let stored = self.array(&self.graph.node[n].input[position].clone())?;
                if stored.elements() != values.len() {
                    let (want, have) = (stored.elements(), values.len());
                    return Err(format!(
                        "normalization `{result}` has {want} channels, {have} were measured"
                    ));
                }
                // Nodes may share what is stored, and each has its own statistics.
                let name = format!("{result}.{part}");
                self.store(&name, &Array::f32(&[values.len()], values))?;
                self.graph.node[n].input[position] = name;
            }
        }
        Ok(())
    }

    /// Spells normalizations out, with the mean and the variance of what runs, which become outputs.
    ///
    /// # Errors
    /// When a normalization's operands are not stored, or the rank of the graph's input is not known.
    pub fn norms_of_batch(&mut self) -> Result<(), String> {
        let nodes = std::mem::take(&mut self.graph.node);
        for norm in nodes {
            if !is_norm(&norm) {
                self.graph.node.push(norm);
                continue;
            }
            let [x, scale, shift, ..] = &norm.input[..] else {
                return Err(format!("normalization `{}` has {} operands", norm.name, norm.input.len()));
            };
            let y = norm.output.first().cloned().unwrap_or_default();
            let name = |part: &str| format!("{y}.batch_{part}");
            let channels = self.array(scale)?.elements();
            // What is normalized is a picture in every network that is trained so.
            let rank = 4;
            let wide = |array: &Array| Array { dims: vec![1, channels, 1, 1], ..array.clone() };
            for (stored, part) in [(scale, "scale"), (shift, "shift")] {
                let array = wide(&self.array(stored)?);
                self.store(&name(part), &array)?;
            }
            let epsilon =
                norm.attribute.iter().find(|a| a.name == "epsilon" && a.r#type == attribute_type::FLOAT);
            let epsilon = epsilon.and_then(|a| a.f).unwrap_or(1e-5);
            self.store(&name("epsilon"), &Array::f32(&[1, 1, 1, 1], &[epsilon]))?;
            let mean = self.mean(x, rank, &name("mean"))?;
            let variance = self.mean(&name("square"), rank, &name("variance"))?;
            self.graph.node.extend([
                mean,
                node("Sub", &[x, &name("mean")], &name("centred")),
                node("Mul", &[&name("centred"), &name("centred")], &name("square")),
                variance,
                node("Add", &[&name("variance"), &name("epsilon")], &name("wide")),
                node("Sqrt", &[&name("wide")], &name("deviation")),
                node("Div", &[&name("scale"), &name("deviation")], &name("factor")),
                node("Mul", &[&name("centred"), &name("factor")], &name("scaled")),
                node("Add", &[&name("scaled"), &name("shift")], &y),
            ]);
            for part in ["mean", "variance"] {
                let tensor_type = Some(TensorTypeProto { elem_type: 1, shape: None });
                let r#type = Some(TypeProto { tensor_type });
                self.graph.output.push(ValueInfoProto { name: name(part), r#type });
            }
        }
        Ok(())
    }
}
