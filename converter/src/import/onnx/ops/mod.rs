//! The operators. Each is one function and one line in its family's table.

mod activation;
mod attention;
mod axes;
mod binary;
mod cast;
mod control;
mod conv;
mod conv_weight;
mod einsum;
mod gather;
mod generate;
mod integer;
mod loops;
mod matmul;
mod microsoft;
mod norm;
mod pool;
mod positions;
mod qlinear;
mod quantized;
mod reduce;
mod repeated;
mod reshape;
mod resize;
mod resize_table;
mod rnn;
mod roi;
mod sample;
mod select;
mod slice;
mod spectrum;
mod taps;
mod volume;
mod window;

use super::ctx::Ctx;
use super::node::{NodeView, OpError};
use edge_runtime::graph::DType;

/// Lowers one node: reads operands and attributes, appends operations, sets the node's results.
pub type Lower = for<'m> fn(&mut Ctx<'m>, &NodeView<'m>) -> Result<(), OpError>;

/// Element types of the first operand that an operator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// All of the graph's.
    Any,
    /// All but booleans.
    Number,
    /// Floats of any width.
    Float,
    /// Integers of any width.
    Integer,
}

impl Types {
    /// Whether the type is one of these.
    pub fn contains(self, dtype: DType) -> bool {
        match self {
            Types::Any => true,
            Types::Number => dtype != DType::Bool,
            Types::Float => dtype.is_float(),
            Types::Integer => !dtype.is_float() && dtype != DType::Bool,
        }
    }
}

/// An operator in a range of versions: what of it is implemented.
#[derive(Debug)]
pub struct Operator {
    /// ONNX's name.
    pub name: &'static str,
    /// First version of the domain with this meaning.
    pub since: i64,
    /// Last version with it.
    pub until: i64,
    /// Least and greatest number of operands.
    pub inputs: (usize, usize),
    /// Element types of operand 0.
    pub types: Types,
    /// Attributes that `lower` reads, or that have no effect on the result.
    pub attributes: &'static [&'static str],
    /// The function.
    pub lower: Lower,
}

/// As [`Operator::until`]: no newer version changes the meaning.
const NOW: i64 = i64::MAX;
/// As the greatest number of operands.
const MANY: usize = usize::MAX;

/// A table's line.
const fn op(
    name: &'static str,
    (since, until): (i64, i64),
    inputs: (usize, usize),
    types: Types,
    attributes: &'static [&'static str],
    lower: Lower,
) -> Operator {
    Operator { name, since, until, inputs, types, attributes, lower }
}

/// The families, each with its domain.
static FAMILIES: &[(&str, &[Operator])] = &[
    ("", activation::OPERATORS),
    ("", attention::OPERATORS),
    ("", binary::OPERATORS),
    ("", cast::OPERATORS),
    ("", control::OPERATORS),
    ("", conv::OPERATORS),
    ("", einsum::OPERATORS),
    ("", gather::OPERATORS),
    ("", generate::OPERATORS),
    ("", integer::OPERATORS),
    ("", loops::OPERATORS),
    ("", matmul::OPERATORS),
    ("com.microsoft", microsoft::OPERATORS),
    ("", norm::OPERATORS),
    ("", pool::OPERATORS),
    ("", quantized::OPERATORS),
    ("", reduce::OPERATORS),
    ("", reshape::OPERATORS),
    ("", resize::OPERATORS),
    ("", rnn::OPERATORS),
    ("", roi::OPERATORS),
    ("", sample::OPERATORS),
    ("", select::OPERATORS),
    ("", slice::OPERATORS),
    ("", spectrum::OPERATORS),
];

/// Every version range of an operator.
pub fn versions(domain: &str, name: &str) -> Vec<&'static Operator> {
    let families = FAMILIES.iter().filter(|(d, _)| *d == domain);
    families.flat_map(|(_, operators)| *operators).filter(|o| o.name == name).collect()
}

/// What to do about an operator that is not implemented.
pub fn hint(domain: &str, name: &str) -> &'static str {
    match (domain, name) {
        (_, n) if n.starts_with("QLinear") || n.starts_with("DynamicQuantize") => {
            "convert the float model; the pack quantises it"
        }
        ("", "Unique") => "its result's size depends on the data; end the model before it",
        ("", n) if n.starts_with("Random") || matches!(n, "Bernoulli" | "Multinomial") => {
            "a pack gives the same answer every time; make the noise an input"
        }
        ("", n) if n.starts_with("Sequence") || n.starts_with("String") => {
            "only tensors of numbers are implemented"
        }
        ("", _) => "",
        ("com.microsoft", _) => "export without the optimizer's fused operators",
        _ => "only ONNX's own domain is implemented",
    }
}
