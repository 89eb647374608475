//! The names of a layer's tensors, in the forms in which the package has written them.
//!
//! Elastic layers hold a plain one, so that `conv.weight` may be `conv.conv.weight`, `bn.bias` be `bn.bn.bias` and `linear.weight` be
//! `linear.linear.weight`. Both are read wherever they stand.

use crate::import::checkpoint::{Checkpoint, TensorInfo};
use edge_runtime::graph::DType;
use std::collections::HashSet;

/// A checkpoint with an account of what was asked for.
pub(super) struct Names<'a> {
    checkpoint: &'a Checkpoint,
    asked: HashSet<&'a str>,
    pub problems: Vec<String>,
}

/// The tensor of a layer: `layer` ends in `conv`, `bn` or `linear`, or is nothing's.
pub(super) fn find<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<&'a TensorInfo> {
    let doubled = ["conv.weight", "linear.weight", "linear.bias"].iter().find(|end| name.ends_with(*end));
    let other = match doubled {
        Some(end) => {
            let layer = end.split_once('.').map_or("", |(layer, _)| layer);
            format!("{}{layer}.{end}", &name[..name.len() - end.len()])
        }
        None => name.replacen(".bn.", ".bn.bn.", 1),
    };
    checkpoint.get(name).or_else(|| checkpoint.get(&other))
}

impl<'a> Names<'a> {
    pub fn of(checkpoint: &'a Checkpoint) -> Names<'a> {
        Names { checkpoint, asked: HashSet::new(), problems: Vec::new() }
    }

    /// Whether some name begins so.
    pub fn any(&self, prefix: &str) -> bool {
        self.checkpoint.tensors().iter().any(|t| t.name.starts_with(prefix))
    }

    /// One more than the greatest number that stands behind a prefix.
    pub fn count(&self, prefix: &str) -> usize {
        let number = |t: &TensorInfo| t.name.strip_prefix(prefix)?.split_once('.')?.0.parse::<usize>().ok();
        let greatest = self.checkpoint.tensors().iter().filter_map(number).max();
        // No more than there are tensors, whatever number a name has.
        greatest.map_or(0, |n| n.saturating_add(1).min(self.checkpoint.tensors().len()))
    }

    /// The shape of a tensor that may be left out.
    pub fn optional<const N: usize>(&mut self, name: &str) -> Option<[usize; N]> {
        let info = find(self.checkpoint, name)?;
        self.asked.insert(&info.name);
        if !info.dtype.is_float() {
            self.problems.push(format!("`{}` is {}, expected floats", info.name, info.dtype));
        }
        match <[usize; N]>::try_from(&info.dims[..]) {
            Ok(dims) if dims.iter().all(|d| *d > 0) => Some(dims),
            _ => {
                self.problems
                    .push(format!("`{}` has shape {:?}, expected {N} dimensions", info.name, info.dims));
                None
            }
        }
    }

    /// The shape of a tensor, which has to be there.
    pub fn shape<const N: usize>(&mut self, name: &str) -> Option<[usize; N]> {
        if find(self.checkpoint, name).is_none() {
            self.problems.push(format!("`{name}` is missing"));
        }
        self.optional(name)
    }

    /// A tensor of a certain shape. Sizes that a missing tensor would have told are 0: there is nothing to compare.
    pub fn expect<const N: usize>(&mut self, name: &str, dims: [usize; N]) {
        match self.shape(name) {
            Some(found) if found != dims && !dims.contains(&0) => {
                self.problems.push(format!("`{name}` has shape {found:?}, expected {dims:?}"));
            }
            _ => {}
        }
    }

    /// A batch norm's four tensors; its count of batches is of no use.
    pub fn expect_norm(&mut self, prefix: &str, channels: usize) {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.expect(&format!("{prefix}.{part}"), [channels]);
        }
    }

    /// Tensors that nobody asked for are problems.
    pub fn finish(mut self) -> Vec<String> {
        for info in self.checkpoint.tensors() {
            let is_count = info.name.ends_with("num_batches_tracked") && info.dtype == DType::I64;
            if !is_count && !self.asked.contains(info.name.as_str()) {
                self.problems.push(format!("`{}` {:?} belongs to no layer", info.name, info.dims));
            }
        }
        // A tensor that is asked for twice is missed twice.
        let mut said = HashSet::new();
        self.problems.retain(|problem| said.insert(problem.clone()));
        self.problems
    }
}
