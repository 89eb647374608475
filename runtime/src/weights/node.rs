//! An expression under construction: what a constructor sees.

use super::registry::{Binding, Kind, Place};
use super::source::Bytes;
use super::window::Window;
use super::{PANEL, WeightError, Weights};
use crate::pack::BlobId;
use edge_kernels::Isa;
use serde::Deserialize;
use serde_json::Value;

/// Longest JSON text shown in an error.
const SHOWN: usize = 60;

/// Parts that a node counts as: its own memory is that of some hundred list elements.
const NODE_PARTS: usize = 256;

/// Most elements of a padded matrix, so that offsets in bytes fit every index type.
const MAX_ELEMENTS: usize = (isize::MAX / 16) as usize;

/// One expression of a tensor, its shape known, its operands and bytes not bound yet.
pub struct Node<'n, 'a> {
    binding: &'n mut Binding<'a>,
    place: Place<'a>,
    take: u32,
}

/// An operand and where the part that is wanted lies in it.
pub(super) struct Clip {
    pub(super) weights: Box<dyn Weights>,
    /// First wanted row.
    pub(super) row: usize,
    /// First wanted channel of each tap.
    pub(super) channel: usize,
    /// Channels of a tap in `weights`.
    pub(super) width: usize,
}

impl<'n, 'a> Node<'n, 'a> {
    pub(super) fn new(
        binding: &'n mut Binding<'a>,
        place: Place<'a>,
        take: u32,
    ) -> Result<Node<'n, 'a>, WeightError> {
        binding.charge(place.tensor, NODE_PARTS)?;
        let node = Node { binding, place, take };
        let padded = |size: usize| size.checked_next_multiple_of(2 * PANEL).filter(|_| size > 0);
        let elements = padded(place.n).zip(padded(place.k)).and_then(|(n, k)| n.checked_mul(k));
        match elements {
            Some(..=MAX_ELEMENTS) => Ok(node),
            _ => {
                let shape = format!("[{}, {}]", place.n, place.k);
                Err(node.shape_error("shape", shape, format!("1 to {MAX_ELEMENTS} elements")))
            }
        }
    }

    /// Whether nobody will ask for integer codes.
    pub fn is_for_reals(&self) -> bool {
        self.binding.reals
    }

    /// Rows.
    pub fn n(&self) -> usize {
        self.place.n
    }

    /// Columns.
    pub fn k(&self) -> usize {
        self.place.k
    }

    /// How much of the expression is wanted, in the kind's own measure; 0 is all of it.
    pub fn take(&self) -> u32 {
        self.take
    }

    /// The highest level of kernels that the weight may use.
    pub fn isa(&self) -> Isa {
        self.binding.registry.isa()
    }

    /// Number of operands.
    pub fn args(&self) -> usize {
        self.place.expr.args.len()
    }

    /// Refuses parameters that are not in `known`.
    ///
    /// # Errors
    /// Names the first unknown parameter.
    pub fn only(&mut self, known: &[&str]) -> Result<(), WeightError> {
        self.charge(self.place.expr.params.len())?;
        match self.place.expr.params.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(self.param_error(name, format!("one of {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    /// The parameter `name` as a `T`; `None` when it is not given.
    ///
    /// # Errors
    /// When it is given and is not a `T`; `expected` says what it should be.
    pub fn param<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, WeightError> {
        let Some(value) = self.place.expr.params.get(name) else {
            return Ok(None);
        };
        let elements = elements(value);
        self.charge(elements)?;
        T::deserialize(value).map(Some).map_err(|_| self.param_error(name, expected))
    }

    /// The parameter `name` as a `T`.
    ///
    /// # Errors
    /// When it is missing or is not a `T`.
    pub fn need<T: Deserialize<'a>>(&mut self, name: &str, expected: &str) -> Result<T, WeightError> {
        self.param(name, expected)?.ok_or_else(|| self.param_error(name, expected))
    }

    /// The error that says what parameter `name` should be.
    pub fn param_error(&self, name: &str, expected: impl Into<String>) -> WeightError {
        let mut value = self.place.expr.params.get(name).map_or_else(|| "none".into(), Value::to_string);
        if let Some((cut, _)) = value.char_indices().nth(SHOWN) {
            value.truncate(cut);
            value.push_str("...");
        }
        let (tensor, kind) = (self.binding.name(self.place.tensor), self.place.expr.kind.clone());
        WeightError::Param { tensor, kind, param: name.into(), value, expected: expected.into() }
    }

    /// The error that says what a size or a count should be.
    pub fn shape_error(
        &self,
        what: &'static str,
        value: impl ToString,
        expected: impl ToString,
    ) -> WeightError {
        WeightError::Shape {
            tensor: self.binding.name(self.place.tensor),
            kind: self.place.expr.kind.clone(),
            what,
            value: value.to_string(),
            expected: expected.to_string(),
        }
    }

    /// Checks the numbers of operands and of blobs.
    ///
    /// # Errors
    /// When one differs.
    pub fn counts(&self, args: usize, blobs: usize) -> Result<(), WeightError> {
        let expr = self.place.expr;
        if expr.args.len() != args {
            return Err(self.shape_error("operands", expr.args.len(), args));
        }
        match expr.blobs.len() == blobs {
            true => Ok(()),
            false => Err(self.shape_error("blobs", expr.blobs.len(), blobs)),
        }
    }

    /// Checks that blob `index` of the expression has `len` bytes, without needing it.
    ///
    /// # Errors
    /// When there is no such blob or it has another length.
    pub fn check_len(&self, index: usize, len: usize) -> Result<BlobId, WeightError> {
        let Some(&blob) = self.place.expr.blobs.get(index) else {
            return Err(self.shape_error("blobs", self.place.expr.blobs.len(), index + 1));
        };
        match self.binding.header.all_blobs().get(blob as usize) {
            None => Err(self.no_blob(blob)),
            Some(entry) if entry.len != len as u64 => Err(self.blob_len(blob, entry.len, len)),
            Some(_) => Ok(blob),
        }
    }

    /// Blob `index` of the expression, of `len` bytes.
    ///
    /// # Errors
    /// When there is no such blob, it has another length, or the source does not hold it.
    pub fn bytes(&mut self, index: usize, len: usize) -> Result<Bytes, WeightError> {
        let blob = self.check_len(index, len)?;
        self.binding.uses(blob);
        if self.binding.present {
            match self.binding.source.blob(blob) {
                None => return Err(self.no_blob(blob)),
                Some(held) if held.len() != len => return Err(self.blob_len(blob, held.len() as u64, len)),
                Some(_) => {}
            }
        }
        Ok(Bytes::new(self.binding.source.clone(), blob, len))
    }

    /// Operand `index`, all of its rows and columns. `shape` is its `(n, k)`, which a shared operand knows itself.
    ///
    /// # Errors
    /// When the operand cannot be bound or has another shape.
    pub fn operand(
        &mut self,
        index: usize,
        shape: Option<(usize, usize)>,
        take: u32,
    ) -> Result<Box<dyn Weights>, WeightError> {
        let place = self.arg(index, shape)?;
        self.binding.whole(place, take)
    }

    /// Operand `index`, as much of it as the window needs.
    pub(super) fn clip(
        &mut self,
        index: usize,
        shape: Option<(usize, usize)>,
        take: u32,
        window: &Window,
    ) -> Result<Clip, WeightError> {
        let place = self.arg(index, shape)?;
        let Window { rows, taps, channels } = window;
        let fits = *taps > 0
            && place.k.is_multiple_of(*taps)
            && !rows.is_empty()
            && rows.end <= place.n
            && !channels.is_empty()
            && channels.end <= place.k / taps;
        if !fits {
            let shape = format!("rows {rows:?} and channels {channels:?} of {taps} taps");
            return Err(self.shape_error(
                "a view of",
                shape,
                format!("ranges in [{}, {}]", place.n, place.k),
            ));
        }
        match self.binding.kind(&place)? {
            Kind::Windowed(construct) => {
                let weights = construct(&mut Node::new(self.binding, place, take)?, window)?;
                Ok(Clip { weights, row: 0, channel: 0, width: channels.len() })
            }
            Kind::Whole(_) => {
                let weights = self.binding.whole(place, take)?;
                Ok(Clip { weights, row: rows.start, channel: channels.start, width: place.k / taps })
            }
        }
    }

    /// Counts the work or memory of `parts` list elements against the limit of one bound expression.
    ///
    /// # Errors
    /// When the limit is passed.
    pub fn charge(&mut self, parts: usize) -> Result<(), WeightError> {
        self.binding.charge(self.place.tensor, parts)
    }

    fn arg(&mut self, index: usize, shape: Option<(usize, usize)>) -> Result<Place<'a>, WeightError> {
        match self.place.expr.args.get(index) {
            Some(arg) => self.binding.operand(&self.place, arg, shape),
            None => Err(self.shape_error("operands", self.place.expr.args.len(), index + 1)),
        }
    }

    fn no_blob(&self, blob: BlobId) -> WeightError {
        let (tensor, kind) = (self.binding.name(self.place.tensor), self.place.expr.kind.clone());
        WeightError::NoBlob { tensor, kind, blob }
    }

    fn blob_len(&self, blob: BlobId, len: u64, expected: usize) -> WeightError {
        let (tensor, kind) = (self.binding.name(self.place.tensor), self.place.expr.kind.clone());
        WeightError::BlobLen { tensor, kind, blob, len, expected: expected as u64 }
    }
}

/// Values in a JSON value.
fn elements(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(elements).sum::<usize>(),
        Value::Object(values) => 1 + values.values().map(elements).sum::<usize>(),
        _ => 1,
    }
}
