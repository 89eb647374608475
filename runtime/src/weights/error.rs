//! Why a weight expression is refused.

use crate::pack::BlobId;

/// A weight expression that cannot be evaluated, or bytes that are not there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A tensor index past the header's tensors.
    #[error("tensor {tensor}: the header has {count} tensors")]
    NoTensor {
        /// The index asked for.
        tensor: usize,
        /// Tensors in the header.
        count: usize,
    },
    /// A tensor that the rung's graph uses but the rung does not choose an expression of.
    #[error("rung `{rung}` chooses no expression of tensor {tensor}, which its graph uses")]
    Unused {
        /// Index of the tensor.
        tensor: u32,
        /// The rung's id.
        rung: String,
    },
    /// A root index past a tensor's roots.
    #[error("tensor `{tensor}`: root {root} of {count}")]
    NoRoot {
        /// The tensor's name.
        tensor: String,
        /// The index asked for.
        root: u32,
        /// Roots of the tensor.
        count: usize,
    },
    /// A kind that this registry does not hold.
    #[error("tensor `{tensor}`: kind `{kind}` is none of {known}; a newer runtime may know it")]
    Kind {
        /// The tensor's name.
        tensor: String,
        /// The kind asked for.
        kind: String,
        /// Kinds of the registry.
        known: String,
    },
    /// A parameter that is missing, unknown or out of range; `value` is its JSON text, `none` when missing.
    #[error("tensor `{tensor}`: {kind}.{param} is {value}, expected {expected}")]
    Param {
        /// The tensor's name.
        tensor: String,
        /// Kind of the expression.
        kind: String,
        /// Name of the parameter.
        param: String,
        /// What it is.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// A size, a count or an operand that does not fit the expression.
    #[error("tensor `{tensor}`: {kind} has {what} {value}, expected {expected}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Kind of the expression.
        kind: String,
        /// What does not fit.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// A blob of another length than the expression needs.
    #[error("tensor `{tensor}`: {kind} blob {blob} has {len} bytes, expected {expected}")]
    BlobLen {
        /// The tensor's name.
        tensor: String,
        /// Kind of the expression.
        kind: String,
        /// The blob.
        blob: BlobId,
        /// Its length in the header, or in the source when that differs.
        len: u64,
        /// What the expression needs.
        expected: u64,
    },
    /// A blob that the header does not list, or that the source does not hold.
    #[error("tensor `{tensor}`: {kind} blob {blob} is not there")]
    NoBlob {
        /// The tensor's name.
        tensor: String,
        /// Kind of the expression.
        kind: String,
        /// The blob.
        blob: BlobId,
    },
    /// An operand shared with a tensor of the same or a greater index: the expression could be endless.
    #[error("tensor `{tensor}` shares tensor {shared}; only tensors before {index} can be shared")]
    SharedOrder {
        /// The tensor's name.
        tensor: String,
        /// Its index.
        index: u32,
        /// The index it names.
        shared: u32,
    },
    /// Expressions nested too deep.
    #[error("tensor `{tensor}`: expressions nest deeper than {limit}")]
    Depth {
        /// The tensor's name.
        tensor: String,
        /// The limit.
        limit: usize,
    },
    /// An expression with too many parts, shared ones counted at each use.
    #[error("tensor `{tensor}`: the expression has more than {limit} parts")]
    Parts {
        /// The tensor's name.
        tensor: String,
        /// The limit.
        limit: usize,
    },
}
