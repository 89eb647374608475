//! The inputs that a plan is made for.

use super::error::PlanError;
use crate::graph::{DType, Dim, Graph};
use std::sync::Arc;

/// Name, type and shape of an input, and its value where shapes depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// The input's name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub dims: Vec<usize>,
    /// Little-endian elements; needed for inputs that decide shapes ([`crate::graph::Port::plan_time`]).
    pub value: Option<Arc<[u8]>>,
}

/// Brings the given inputs into the graph's order and checks each against its declaration.
pub(super) fn bind(graph: &Graph, given: &[InputSpec]) -> Result<Vec<InputSpec>, PlanError> {
    let names =
        || graph.inputs.iter().map(|p| format!("`{}`", graph.name(p.value))).collect::<Vec<_>>().join(", ");
    for spec in given {
        if !graph.inputs.iter().any(|p| graph.name(p.value) == spec.name) {
            return Err(PlanError::NoSuchInput { name: spec.name.clone(), have: names() });
        }
    }
    let mut sizes: Vec<(&str, usize)> = Vec::new();
    let mut bound = Vec::with_capacity(graph.inputs.len());
    for port in &graph.inputs {
        let name = graph.name(port.value);
        let spec = given.iter().find(|s| s.name == name);
        let spec = spec.ok_or_else(|| PlanError::MissingInput { name: name.to_string() })?;
        if spec.dtype != port.dtype {
            return Err(PlanError::InputType { name: name.to_string(), got: spec.dtype, want: port.dtype });
        }
        if let Some(dims) = &port.dims {
            let wrong = || PlanError::InputShape {
                name: name.to_string(),
                got: spec.dims.clone(),
                want: describe(dims),
            };
            if dims.len() != spec.dims.len() {
                return Err(wrong());
            }
            for (declared, got) in dims.iter().zip(&spec.dims) {
                match declared {
                    Dim::Fixed(n) if n == got => {}
                    Dim::Fixed(_) => return Err(wrong()),
                    Dim::Named(dim) => match sizes.iter().find(|(d, _)| d == dim) {
                        Some((_, other)) if other != got => {
                            return Err(PlanError::DimConflict {
                                name: name.to_string(),
                                dim: dim.clone(),
                                got: *got,
                                other: *other,
                            });
                        }
                        Some(_) => {}
                        None => sizes.push((dim, *got)),
                    },
                }
            }
        }
        let bytes = spec.dims.iter().try_fold(spec.dtype.bytes(), |n, d| n.checked_mul(*d));
        let bytes =
            bytes.filter(|bytes| *bytes as u64 <= super::LIMIT).ok_or_else(|| PlanError::TooLarge {
                node: name.to_string(),
                bytes: spec.dims.iter().fold(spec.dtype.bytes() as u128, |n, d| n.saturating_mul(*d as u128)),
                limit: super::LIMIT,
            })?;
        if port.plan_time && spec.value.as_ref().is_none_or(|v| v.len() != bytes) {
            return Err(PlanError::NeedsValue { name: name.to_string() });
        }
        bound.push(spec.clone());
    }
    Ok(bound)
}

/// A declared shape as people write it: `[batch, 3, 224, 224]`.
pub(crate) fn describe(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Named(name) if name.starts_with('?') => "?".to_string(),
            Dim::Named(name) => name.clone(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}
