//! Why a model is not imported.

use super::checkpoint::CheckpointError;
use super::gguf::GgufError;
use super::ofa::SupernetError;
use super::pretrained::PretrainedError;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Why a model is not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The GGUF file cannot be read, or holds no decoder that is implemented.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The checkpoint of a language model cannot be read, or is of none that is implemented.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The checkpoint holds no once-for-all network, or not that subnet.
    #[error(transparent)]
    Supernet(#[from] SupernetError),
    /// The bytes are not an ONNX model, or a part of one.
    #[error("{file}: not an ONNX model, or cut: {reason}")]
    Decode {
        /// The file, or `model` for bytes without one.
        file: String,
        /// What does not fit.
        reason: String,
    },
    /// More nodes than are read.
    #[error("{file}: {nodes} nodes; models of up to {most} are read; cut it in parts")]
    Nodes {
        /// The file, or `model` for bytes without one.
        file: String,
        /// How many it has.
        nodes: usize,
        /// Most that are read.
        most: usize,
    },
    /// A shape that is given for good does not suit the model.
    #[error("input `{input}` of {shape:?}: {reason}")]
    Fixed {
        /// The input.
        input: String,
        /// The shape.
        shape: Vec<usize>,
        /// What it contradicts.
        reason: String,
    },
    /// A domain's version is newer than this importer, or no version at all.
    #[error("opset {version} of domain `{domain}`: 1 to {newest} are known")]
    Opset {
        /// The domain; empty for ONNX's own.
        domain: String,
        /// The version asked for.
        version: i64,
        /// The newest known.
        newest: i64,
    },
    /// A node uses a domain that the model does not import.
    #[error("node `{node}`: domain `{domain}` is not among the model's opset imports")]
    DomainNotImported {
        /// The node.
        node: String,
        /// Its domain.
        domain: String,
    },
    /// A stored array is malformed or cannot be read.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// The array's name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A node reads a value that nothing computes and nothing stores.
    #[error("node `{node}` reads `{value}`, which is no input, no stored tensor and no result of a node")]
    MissingValue {
        /// The node, or the graph whose output it is.
        node: String,
        /// The value.
        value: String,
    },
    /// Nodes wait for one another.
    #[error("node `{node}` waits for its own result `{value}`, directly or through others")]
    Cycle {
        /// One node of the cycle.
        node: String,
        /// The operand that never comes.
        value: String,
    },
    /// Two definitions of one name.
    #[error("`{value}` is defined twice; the second time by `{node}`")]
    DuplicateValue {
        /// The name.
        value: String,
        /// The node, or `graph inputs`.
        node: String,
    },
    /// A node contradicts ONNX's definition of its operator.
    #[error("node `{node}` ({op}): {reason}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// A graph input or output is malformed or of a kind that has no place in the graph.
    #[error("graph {kind} `{name}`: {reason}")]
    Port {
        /// `input` or `output`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Functions or loops that expand without end.
    #[error(
        "`{function}` expands to more than {limit} nodes or values, or calls itself; a loop is unrolled turn by turn: \
         where their number is a free dimension, give its size (--fix NAME=DIMS)"
    )]
    Expansion {
        /// The function, or the operator at which it was too much.
        function: String,
        /// Most nodes or values after expansion.
        limit: usize,
    },
    /// `--state OUT=IN` that cannot be applied.
    #[error("state {output}={input}: {reason}")]
    State {
        /// The output's name.
        output: String,
        /// The input's name.
        input: String,
        /// Why not.
        reason: String,
    },
    /// What is said to be elastic does not suit the model.
    #[error("{file}: {why}")]
    Elastic {
        /// The description, or the model that it does not suit.
        file: String,
        /// What does not fit.
        why: String,
    },
    /// Everything that the importer does not implement, over the whole model.
    #[error("{}", Listing(.0))]
    Unsupported(Vec<Unsupported>),
}

/// Most reasons that are listed; a file with more means harm.
pub const MOST_LISTED: usize = 256;

/// Nodes that are not implemented, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unsupported {
    /// The operator.
    pub op: String,
    /// Its domain; empty for ONNX's own.
    pub domain: String,
    /// The domain's version in this model.
    pub opset: i64,
    /// The first node concerned.
    pub node: String,
    /// What is not implemented.
    pub reason: String,
    /// Its operands, as far as known: `f32[?, 3, 224, 224]`, `?`.
    pub inputs: Vec<String>,
    /// How many nodes are concerned.
    pub count: usize,
    /// What to do about it.
    pub hint: String,
}

struct Listing<'a>(&'a [Unsupported]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: usize = self.0.iter().map(|u| u.count).sum();
        write!(f, "{nodes} node{} not implemented:", if nodes == 1 { " is" } else { "s are" })?;
        for item in self.0 {
            write!(f, "\n  {item}")?;
        }
        if self.0.len() >= MOST_LISTED { f.write_str("\n  and others") } else { Ok(()) }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.domain.is_empty() {
            write!(f, "{}::", self.domain)?;
        }
        write!(f, "{} (opset {}): {}; node `{}`", self.op, self.opset, self.reason, self.node)?;
        if self.count > 1 {
            write!(f, " and {} more", self.count - 1)?;
        }
        if !self.inputs.is_empty() {
            write!(f, "; operands {}", self.inputs.join(", "))?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}
