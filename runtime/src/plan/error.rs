//! Why a plan cannot be made.

use crate::graph::DType;

/// A plan that cannot be made; every variant names the node or input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum PlanError {
    #[error("the model has no input `{name}`; it has {have}")]
    NoSuchInput { name: String, have: String },
    #[error("input `{name}` is missing")]
    MissingInput { name: String },
    #[error("input `{name}` is {got}, the model takes {want}")]
    InputType { name: String, got: DType, want: DType },
    #[error("input `{name}` has shape {got:?}, the model takes {want}")]
    InputShape { name: String, got: Vec<usize>, want: String },
    #[error("input `{name}`: dimension `{dim}` is {got} here and {other} in another input")]
    DimConflict { name: String, dim: String, got: usize, other: usize },
    #[error("input `{name}` decides shapes: its value must be given when the plan is made")]
    NeedsValue { name: String },
    #[error("node `{node}` ({op}): {why}")]
    Node { node: String, op: &'static str, why: String },
    #[error("graph value {value} is used by node `{node}` before anything computes it")]
    Undefined { node: String, value: u32 },
    #[error("output `{name}` is never computed")]
    NoOutput { name: String },
    #[error("node `{node}`: a tensor of {bytes} bytes is beyond the limit of {limit}")]
    TooLarge { node: String, bytes: u128, limit: u64 },
    #[error("constant {id}: {why}")]
    Constant { id: u32, why: String },
    #[error(transparent)]
    Weight(Box<crate::weights::WeightError>),
    #[error(transparent)]
    Subnet(Box<crate::subnet::SubnetError>),
}

impl From<crate::weights::WeightError> for PlanError {
    fn from(error: crate::weights::WeightError) -> PlanError {
        PlanError::Weight(Box::new(error))
    }
}

impl From<crate::subnet::SubnetError> for PlanError {
    fn from(error: crate::subnet::SubnetError) -> PlanError {
        PlanError::Subnet(Box::new(error))
    }
}
