//! One node as an operator sees it, and the ways an operator can say no.

use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_type};
use crate::import::ImportError;
use std::collections::HashMap;

/// Why an operator cannot be lowered.
#[derive(Debug)]
pub enum OpError {
    /// Meaningful, but not implemented.
    Unsupported {
        /// What is not implemented.
        reason: String,
        /// What to do about it; may be empty.
        hint: &'static str,
    },
    /// Needs a rank, a size or a type that could not be inferred.
    Unknown(String),
    /// The node contradicts the operator's definition.
    Malformed(String),
    /// An error of another part of the model (a branch, a stored array).
    Import(Box<ImportError>),
}

impl From<ImportError> for OpError {
    fn from(error: ImportError) -> OpError {
        OpError::Import(Box::new(error))
    }
}

/// [`OpError::Unsupported`] without a hint.
pub fn unsupported<T>(reason: impl Into<String>) -> Result<T, OpError> {
    Err(OpError::Unsupported { reason: reason.into(), hint: "" })
}

/// [`OpError::Malformed`].
pub fn malformed<T>(reason: impl Into<String>) -> Result<T, OpError> {
    Err(OpError::Malformed(reason.into()))
}

/// [`OpError::Unknown`].
pub fn unknown<T>(what: impl Into<String>) -> Result<T, OpError> {
    Err(OpError::Unknown(what.into()))
}

/// A node with its attributes resolved (inside a function they may refer to the call's).
#[derive(Clone)]
pub struct NodeView<'m> {
    /// The node's name, or its first result's where it has none.
    pub name: String,
    /// Operator.
    pub op: &'m str,
    /// Domain; `ai.onnx` is the empty one.
    pub domain: &'m str,
    /// The domain's version.
    pub opset: i64,
    /// The node itself.
    pub proto: &'m NodeProto,
    attributes: Vec<(&'m str, &'m AttributeProto)>,
}

impl<'m> NodeView<'m> {
    /// Resolves a node. `call` holds the attributes of the function call around it; a reference to one that the call leaves out
    /// leaves it out here.
    pub fn new(
        proto: &'m NodeProto,
        opset: i64,
        prefix: &str,
        call: &HashMap<&'m str, &'m AttributeProto>,
    ) -> NodeView<'m> {
        let own = match (proto.name.as_str(), proto.output.iter().find(|o| !o.is_empty())) {
            ("", Some(output)) => output,
            ("", None) => &proto.op_type,
            (name, _) => name,
        };
        let mut attributes = Vec::with_capacity(proto.attribute.len());
        for attribute in &proto.attribute {
            if attribute.ref_attr_name.is_empty() {
                attributes.push((attribute.name.as_str(), attribute));
            } else if let Some(given) = call.get(attribute.ref_attr_name.as_str()) {
                attributes.push((attribute.name.as_str(), *given));
            }
        }
        let domain = domain(&proto.domain);
        NodeView { name: format!("{prefix}{own}"), op: &proto.op_type, domain, opset, proto, attributes }
    }

    /// The attributes, by name.
    pub fn attributes(&self) -> &[(&'m str, &'m AttributeProto)] {
        &self.attributes
    }

    /// Number of operands, trailing absent ones not counted.
    pub fn inputs(&self) -> usize {
        self.proto.input.iter().rposition(|n| !n.is_empty()).map_or(0, |last| last + 1)
    }

    /// The name of operand `i`, if it is given.
    pub fn input(&self, i: usize) -> Option<&'m str> {
        self.proto.input.get(i).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// The name of result `i`, if anybody may want it.
    pub fn output(&self, i: usize) -> Option<&'m str> {
        self.proto.output.get(i).map(String::as_str).filter(|n| !n.is_empty())
    }

    fn get(&self, name: &str) -> Option<&'m AttributeProto> {
        self.attributes.iter().find(|(n, _)| *n == name).map(|(_, a)| *a)
    }

    fn typed(&self, name: &str, number: i32, what: &str) -> Result<Option<&'m AttributeProto>, OpError> {
        match self.get(name) {
            // Files before IR 3 leave the type out.
            Some(a) if a.r#type != number && a.r#type != 0 => {
                malformed(format!("attribute `{name}` is not {what}"))
            }
            found => Ok(found),
        }
    }

    /// An integer attribute.
    pub fn int_if(&self, name: &str) -> Result<Option<i64>, OpError> {
        Ok(self.typed(name, attribute_type::INT, "an integer")?.map(|a| a.i.unwrap_or(0)))
    }

    /// An integer attribute or its default.
    pub fn int(&self, name: &str, default: i64) -> Result<i64, OpError> {
        Ok(self.int_if(name)?.unwrap_or(default))
    }

    /// An integer attribute used as yes or no.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, OpError> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// A float attribute.
    pub fn float_if(&self, name: &str) -> Result<Option<f32>, OpError> {
        Ok(self.typed(name, attribute_type::FLOAT, "a float")?.map(|a| a.f.unwrap_or(0.0)))
    }

    /// A float attribute or its default.
    pub fn float(&self, name: &str, default: f32) -> Result<f32, OpError> {
        Ok(self.float_if(name)?.unwrap_or(default))
    }

    /// A string attribute or its default.
    pub fn string(&self, name: &str, default: &'m str) -> Result<&'m str, OpError> {
        match self.typed(name, attribute_type::STRING, "a string")? {
            None => Ok(default),
            Some(a) => std::str::from_utf8(a.s.as_deref().unwrap_or(b""))
                .or_else(|_| malformed(format!("attribute `{name}` is not UTF-8"))),
        }
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Option<&'m [i64]>, OpError> {
        Ok(self.typed(name, attribute_type::INTS, "a list of integers")?.map(|a| a.ints.as_slice()))
    }

    /// A list of floats; empty when left out.
    pub fn floats(&self, name: &str) -> Result<&'m [f32], OpError> {
        let found = self.typed(name, attribute_type::FLOATS, "a list of floats")?;
        Ok(found.map_or(&[], |a| a.floats.as_slice()))
    }

    /// A list of strings.
    pub fn strings(&self, name: &str) -> Result<Option<Vec<String>>, OpError> {
        let found = self.typed(name, attribute_type::STRINGS, "a list of strings")?;
        Ok(found.map(|a| a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()))
    }

    /// A stored array.
    pub fn tensor(&self, name: &str) -> Result<Option<&'m TensorProto>, OpError> {
        Ok(self.typed(name, attribute_type::TENSOR, "a tensor")?.and_then(|a| a.t.as_ref()))
    }

    /// A branch.
    pub fn graph(&self, name: &str) -> Result<&'m GraphProto, OpError> {
        match self.typed(name, attribute_type::GRAPH, "a graph")?.and_then(|a| a.g.as_ref()) {
            Some(graph) => Ok(graph),
            None => malformed(format!("attribute `{name}` is missing")),
        }
    }

    /// A list of sizes; each must be in `least..=i32::MAX`.
    pub fn sizes(&self, name: &str, least: i64) -> Result<Option<Vec<usize>>, OpError> {
        let Some(values) = self.ints(name)? else { return Ok(None) };
        let ok = |v: &i64| (least..=i64::from(i32::MAX)).contains(v);
        if !values.iter().all(ok) {
            return malformed(format!("attribute `{name}` = {values:?}: each must be at least {least}"));
        }
        Ok(Some(values.iter().map(|v| *v as usize).collect()))
    }

    /// Refuses an attribute that has another value than the only one implemented.
    pub fn only_int(&self, name: &str, value: i64) -> Result<(), OpError> {
        match self.int(name, value)? {
            found if found == value => Ok(()),
            found => unsupported(format!("attribute {name}={found} is not implemented")),
        }
    }

    /// Refuses a result that is asked for.
    pub fn no_output(&self, i: usize, what: &str) -> Result<(), OpError> {
        match self.output(i) {
            None => Ok(()),
            Some(_) => unsupported(format!("result {i} ({what}) is not implemented")),
        }
    }
}

/// An axis as the graph holds it.
pub fn axis(value: i64) -> Result<i32, OpError> {
    i32::try_from(value).or_else(|_| malformed(format!("axis {value}")))
}

/// `ai.onnx` and the empty name are one domain.
pub fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}
