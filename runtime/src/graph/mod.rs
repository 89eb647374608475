//! The runtime's own graph: what a model computes, before any device or shape is known.
//!
//! Values live in one flat table, so a branch of [`Op::If`] or the body of a loop refers to outer values by the same ids. Spatial
//! operations are channels-last. Axes are attributes; a negative one counts from the end. Sizes that an exporter computed with
//! shape arithmetic stay operands, which the planner evaluates.

mod dtype;
mod elastic;
mod mixture;
mod op;

pub use dtype::DType;
pub use elastic::{Change, Effect, Elastic, Variable};
pub use mixture::{Count, Feature, Layer, Mixed, Mixture};
pub use op::{
    Act, BinaryOp, CoordinateMode, Direction, Interpolation, NearestMode, Op, PadMode, Pads, PoolKind,
    ReduceOp, RnnActivation, ScatterReduction, UnaryOp, Window,
};

use serde::{Deserialize, Serialize};

/// Index into [`Graph::values`].
pub type ValueId = u32;
/// Index into the pack's table of constants.
pub type ConstantId = u32;
/// Index into the pack's table of weight tensors.
pub type TensorId = u32;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An input of the graph or the result of a node.
    Computed,
    /// Stored as it is: a bias, a shape, a table.
    Constant(ConstantId),
    /// A matrix operand, stored as weight expressions.
    Weight(TensorId),
}

/// One value of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The name in the source model.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// Least and greatest element seen in calibration; an integer rung needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(f32, f32)>,
    /// The codes that the source model itself gives it, `(scale, zero_point)` of i8; an integer rung holds a value that has a range so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<(f32, i32)>,
    /// The constant that says how the source model's value was divided: channel `c`, along the last dimension, by `2^exponents[c]`.
    /// No computation needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponents: Option<ValueId>,
}

/// A dimension of a graph input as the model declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Free, but equal wherever the name stands.
    Named(String),
}

/// An input or output of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The value.
    pub value: ValueId,
    /// Element type.
    pub dtype: DType,
    /// Declared shape; `None` when even the rank is unknown.
    pub dims: Option<Vec<Dim>>,
    /// The planner reads this input's values (a sample rate, a target size): they are part of the plan's key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plan_time: bool,
}

/// An output that is the next run's input: a recurrent state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Position in [`Graph::inputs`].
    pub input: usize,
    /// Position in [`Graph::outputs`].
    pub output: usize,
}

/// An output whose size along an axis depends on the data: a run fills a part of what is planned for it, and says how much.
///
/// The elements of the part lie one after the other from the output's start on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    /// Position in [`Graph::outputs`].
    pub output: usize,
    /// The axis.
    pub axis: usize,
    /// Position in [`Graph::outputs`] of the `i64` that tells the size.
    pub count: usize,
}

/// Keys or values of a layer, kept between runs: `heads` times `depth` numbers a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// The value, which one [`Op::CachedAttention`] reads and writes in place. No other operation takes it, and none makes it.
    pub value: ValueId,
    /// Heads of keys or values.
    pub heads: usize,
    /// Elements of each.
    pub depth: usize,
}

/// What a graph that takes a text piece by piece keeps between runs, and by which ports it is told.
///
/// How many tokens there is room for is decided when a plan is made; how many are kept is an input of each run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoding {
    /// Position in [`Graph::inputs`] of the new tokens' ids, i64 `[1, tokens]`.
    pub ids: usize,
    /// Position in [`Graph::inputs`] of the number of tokens that are kept, i64 `[1]`.
    pub past: usize,
    /// Position in [`Graph::inputs`] of the places among the new tokens whose logits are wanted, i64 `[wanted]`.
    pub wanted: usize,
    /// Position in [`Graph::outputs`] of the logits, f32 `[1, wanted, vocabulary]`.
    pub logits: usize,
    /// The most tokens that the model was made for.
    pub longest: usize,
    /// What is kept.
    pub caches: Vec<Cache>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The name in the source model, for errors and profiles.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands; `None` where an optional one is left out.
    #[serde(rename = "in")]
    pub inputs: Vec<Option<ValueId>>,
    /// Results; `None` where nobody needs one.
    #[serde(rename = "out")]
    pub outputs: Vec<Option<ValueId>>,
}

/// Nodes in an order in which operands precede their use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The block's results (of a branch; empty for the graph's own block, which has [`Graph::outputs`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<ValueId>,
}

/// A model, or one subnet of a family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Every value of the graph and of its branches.
    pub values: Vec<Value>,
    /// What the caller gives, in order.
    pub inputs: Vec<Port>,
    /// What the caller gets, in order.
    pub outputs: Vec<Port>,
    /// Outputs that feed inputs of the next run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<State>,
    /// Outputs of which a run fills a part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filled: Vec<Filled>,
    /// How it decodes text, when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding: Option<Box<Decoding>>,
    /// The operations.
    pub body: Block,
    /// What its subnets differ by; the graph itself is the largest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Box<Elastic>>,
}

impl Graph {
    /// Adds a value and gives its id.
    pub fn add_value(&mut self, name: impl Into<String>, source: Source) -> ValueId {
        let id = self.values.len() as ValueId;
        self.values.push(Value { name: name.into(), source, range: None, codes: None, exponents: None });
        id
    }

    /// The value's name.
    ///
    /// # Panics
    /// When the id is not of this graph.
    pub fn name(&self, id: ValueId) -> &str {
        &self.values[id as usize].name
    }
}

impl Block {
    /// Calls `f` for each node, the blocks of an operation after the node itself.
    pub fn for_each(&self, f: &mut impl FnMut(&Node)) {
        for node in &self.nodes {
            f(node);
            for block in node.op.blocks() {
                block.for_each(f);
            }
        }
    }
}
