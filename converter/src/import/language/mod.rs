//! Language models: the runtime's graph from a file's metadata, one file a family.
//!
//! ```text
//! file.rs       parameters and tensors by their roles: what a family reads, whatever kind of file they are in
//! layers.rs     matrices, norms, look-ups: what every family is made of
//! attention.rs  rotary angles, windows, heads
//! prenorm.rs    the layers of Llama, Qwen and Phi-3
//! gemma.rs      those of Gemma 2 and 3
//! bert.rs       encoders
//! llama.rs      a family: its keys, its tensors, the order of its layers, its forms in Hugging Face's checkpoints
//! ```
//!
//! A decoder's graph takes token ids, the number of tokens before them and the places among them whose logits are wanted, and gives these logits; keys
//! and values are kept (`Graph::decoding`). An encoder's takes texts of one length, filled up, and which of their tokens count. Matrices stay in the file: [`Weight`] says which part of which tensor
//! each is, and whoever stores them reads a few rows at a time.

mod attention;
mod bert;
mod file;
mod gemma;
mod gemma2;
mod gemma3;
mod layers;
mod llama;
mod phi3;
mod prenorm;
mod qwen;

pub use file::{ModelFile, Stored};

use super::ImportError;
use super::pretrained::Published;
use crate::model::Array;
use edge_runtime::graph::Graph;
use layers::Layers;

/// A language model before its matrices are stored.
#[derive(Debug)]
pub struct LanguageModel {
    /// What it computes; `Source::Constant` counts in `constants`, `Source::Weight` in `weights`.
    pub graph: Graph,
    /// Norms and shapes.
    pub constants: Vec<Array>,
    /// Matrices.
    pub weights: Vec<Weight>,
}

/// A matrix `[n, k]` of a graph, made of a tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Its name: the tensor's, or of a part of its rows one of its own.
    pub name: String,
    /// The tensor.
    pub tensor: String,
    /// What of it.
    pub part: Part,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// Which row of the tensor each row is.
    pub rows: Rows,
    /// Whether products read it; else rows of it are looked up.
    pub product: bool,
}

/// What a matrix is of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Its floats.
    Floats,
    /// Its codes with their scales. Where groups have minima, a code of `b` bits stands for `scale * (code - (2^b - 1) / 2)`: it lies
    /// evenly around 0.
    Codes,
    /// For each group of columns what is missing then, `minimum + scale * (2^b - 1) / 2`: a column a group.
    Minima,
}

/// The order of a matrix's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// As in the file.
    Same,
    /// A part of a tensor of several matrices, one below the other.
    From {
        /// The first row.
        first: usize,
        /// Rows of the tensor.
        all: usize,
    },
    /// Of each `head` rows, the first `turned` are pairs of neighbours that rotary positions turn together; here all first elements of these
    /// pairs stand before all second ones.
    Pairs {
        /// Rows of a head.
        head: usize,
        /// Those that are turned.
        turned: usize,
    },
}

impl Rows {
    /// Rows of the tensor that so many of these are of.
    pub fn all(self, n: usize) -> usize {
        if let Rows::From { all, .. } = self { all } else { n }
    }

    /// The tensor's row that row `r` is.
    pub fn of(self, r: usize) -> usize {
        let (head, turned) = match self {
            Rows::Same => return r,
            Rows::From { first, .. } => return first + r,
            Rows::Pairs { head, turned } => (head, turned),
        };
        let (first, at, half) = (r / head * head, r % head, turned / 2);
        match at {
            at if at < half => first + 2 * at,
            at if at < turned => first + 2 * (at - half) + 1,
            at => first + at,
        }
    }
}

/// A family of architectures.
pub(super) struct Family {
    /// What files call it: `general.architecture`.
    pub name: &'static str,
    /// Makes the graph.
    build: fn(&mut Layers<'_>) -> Result<(), ImportError>,
    /// Its forms in Hugging Face's checkpoints.
    pub published: &'static [Published],
}

pub(super) static FAMILIES: &[Family] =
    &[llama::FAMILY, qwen::SECOND, qwen::THIRD, gemma2::FAMILY, gemma3::FAMILY, phi3::FAMILY, bert::FAMILY];

/// Makes the graph of a file, its codes and minima as they are.
///
/// # Errors
/// When its architecture or one of its types is not implemented, a key or a tensor is missing or has another shape, or there are tensors
/// that the architecture does not have.
pub fn import(file: &dyn ModelFile) -> Result<LanguageModel, ImportError> {
    build(file, false)
}

/// As [`import`], every matrix being of the numbers that the file's codes stand for.
///
/// # Errors
/// As [`import`].
pub fn import_floats(file: &dyn ModelFile) -> Result<LanguageModel, ImportError> {
    build(file, true)
}

fn build(file: &dyn ModelFile, as_floats: bool) -> Result<LanguageModel, ImportError> {
    let name = file.family()?;
    let mut what = Vec::new();
    let family = FAMILIES.iter().find(|family| family.name == name);
    if family.is_none() {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        let name: String = name.chars().take(100).collect();
        what.push(format!("architecture `{name}`; there is {}", known.join(", ")));
    }
    what.extend(file.not_decoded());
    match family {
        Some(family) if what.is_empty() => {
            let mut layers = Layers::new(file, family.name, as_floats);
            (family.build)(&mut layers)?;
            layers.finish()
        }
        _ => Err(file.not_implemented(what)),
    }
}
