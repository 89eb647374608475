//! A checkpoint as a list: what `edge-convert inspect` prints.

use super::Checkpoint;
use serde::Serialize;
use std::fmt;

/// The tensors of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// The part of the file that they are in; empty for all of it.
    pub part: String,
    /// Other parts that hold tensors.
    pub other_parts: Vec<String>,
    /// Bytes of all elements.
    pub bytes: u64,
    /// The tensors, in the file's order.
    pub tensors: Vec<Line>,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Bytes of its elements.
    pub bytes: u64,
}

impl Listing {
    /// Lists a checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Listing {
        let line = |info: &super::TensorInfo| Line {
            name: info.name.clone(),
            dtype: info.dtype.to_string(),
            shape: info.dims.clone(),
            bytes: info.bytes() as u64,
        };
        let tensors: Vec<Line> = checkpoint.tensors().iter().map(line).collect();
        Listing {
            part: checkpoint.part().to_string(),
            other_parts: checkpoint.others().to_vec(),
            bytes: tensors.iter().map(|t| t.bytes).sum(),
            tensors,
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |line: &Line| format!("{:?}", line.shape);
        let widest = |width: &dyn Fn(&Line) -> usize| self.tensors.iter().map(width).max().unwrap_or(0);
        let name = widest(&|line| line.name.chars().count());
        let dims = widest(&|line| shape(line).len());
        for line in &self.tensors {
            writeln!(
                f,
                "{:<name$}  {:<4}  {:<dims$}  {:>12}",
                line.name,
                line.dtype,
                shape(line),
                line.bytes
            )?;
        }
        let count = self.tensors.len();
        write!(f, "{count} tensor{}, {} bytes", if count == 1 { "" } else { "s" }, self.bytes)?;
        if !self.part.is_empty() {
            write!(f, ", in part `{}`", self.part)?;
        }
        if !self.other_parts.is_empty() {
            write!(f, "; other parts: {}", self.other_parts.join(", "))?;
        }
        writeln!(f)
    }
}
