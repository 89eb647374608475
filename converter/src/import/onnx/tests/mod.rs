//! Small models built in code.

mod control;
mod dynamic;
mod layers;
mod quantised;
mod real;
mod refusals;
mod shapes;
mod transformers;

use super::import_onnx_bytes;
use super::proto::*;
use crate::import::{ImportError, Unsupported};
use crate::model::Model;
use edge_runtime::graph::{Node, Op, ValueId};
use prost::Message;

/// ONNX's number of `f32`.
const FLOAT: i32 = 1;
/// ONNX's number of `i64`.
const INT64: i32 = 7;

/// A dimension: a number, or a name.
#[derive(Clone, Copy)]
enum D {
    N(i64),
    S(&'static str),
}
use D::{N, S};

fn port(name: &str, elem_type: i32, dims: Option<&[D]>) -> ValueInfoProto {
    let dim = |d: &D| match d {
        N(n) => DimensionProto { dim_value: Some(*n), dim_param: None },
        S(s) => DimensionProto { dim_value: None, dim_param: Some((*s).to_owned()) },
    };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type, shape });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}

fn f32s(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let (name, dims, float_data) = (name.to_owned(), dims.to_vec(), values.to_vec());
    TensorProto { name, dims, float_data, data_type: FLOAT, ..TensorProto::default() }
}

fn i64s(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    let (name, dims, int64_data) = (name.to_owned(), dims.to_vec(), values.to_vec());
    TensorProto { name, dims, int64_data, data_type: INT64, ..TensorProto::default() }
}

fn list(names: &str) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    names.split(' ').map(|n| if n == "-" { String::new() } else { n.to_owned() }).collect()
}

/// `inputs` and `outputs` are names between spaces; `-` is an operand that is left out.
fn node(op: &str, inputs: &str, outputs: &str, attribute: &[AttributeProto]) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: String::new(),
        input: list(inputs),
        output: list(outputs),
        attribute: attribute.to_vec(),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, attribute_type::INT) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, attribute_type::FLOAT) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, attribute_type::INTS) }
}

fn string(name: &str, value: &str) -> AttributeProto {
    let s = Some(prost::bytes::Bytes::copy_from_slice(value.as_bytes()));
    AttributeProto { s, ..attribute(name, attribute_type::STRING) }
}

fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, attribute_type::TENSOR) }
}

fn graph(name: &str, node: &[NodeProto], outputs: &str) -> AttributeProto {
    let output = list(outputs).iter().map(|o| port(o, FLOAT, None)).collect();
    let g = Some(GraphProto { node: node.to_vec(), output, ..GraphProto::default() });
    AttributeProto { g, ..attribute(name, attribute_type::GRAPH) }
}

/// A model of ONNX's own domain.
fn model(
    opset: i64,
    input: &[ValueInfoProto],
    initializer: &[TensorProto],
    node: &[NodeProto],
    outputs: &str,
) -> ModelProto {
    let output = list(outputs).iter().map(|o| port(o, FLOAT, None)).collect();
    ModelProto {
        ir_version: 8,
        graph: Some(GraphProto {
            name: "small".into(),
            node: node.to_vec(),
            initializer: initializer.to_vec(),
            input: input.to_vec(),
            output,
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        ..ModelProto::default()
    }
}

fn try_import(model: &ModelProto) -> Result<Model, ImportError> {
    import_onnx_bytes(&model.encode_to_vec(), None)
}

#[track_caller]
fn import(model: &ModelProto) -> Model {
    match try_import(model) {
        Ok(model) => model,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn refusals(model: &ModelProto) -> Vec<Unsupported> {
    match try_import(model) {
        Err(ImportError::Unsupported(list)) => list,
        other => panic!("{other:?}"),
    }
}

/// The first node that `f` accepts, anywhere in the graph.
#[track_caller]
fn find(model: &Model, f: impl Fn(&Op) -> bool) -> Node {
    let mut found = None;
    model.graph.body.for_each(&mut |n| {
        if found.is_none() && f(&n.op) {
            found = Some(n.clone());
        }
    });
    found.unwrap_or_else(|| panic!("not in\n{}", model.to_text()))
}

fn operand(node: &Node, i: usize) -> ValueId {
    node.inputs[i].unwrap_or_else(|| panic!("operand {i} of {node:?}"))
}

#[track_caller]
fn floats(model: &Model, id: ValueId) -> Vec<f32> {
    model.constant(id).and_then(crate::model::Array::as_f32).unwrap_or_else(|| panic!("value {id}"))
}

#[track_caller]
fn integers(model: &Model, id: ValueId) -> Vec<i64> {
    model.constant(id).and_then(crate::model::Array::as_i64).unwrap_or_else(|| panic!("value {id}"))
}

/// Names of the operations, in order.
fn ops(model: &Model) -> Vec<String> {
    let mut names = Vec::new();
    model.graph.body.for_each(&mut |n| {
        let text = format!("{:?}", n.op);
        names.push(text.chars().take_while(char::is_ascii_alphanumeric).collect());
    });
    names
}
