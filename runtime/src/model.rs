//! A pack's header with the bytes behind it.

use crate::graph::{Graph, Source, TensorId};
use crate::pack::{BlobId, BlobSource, ConstantData, Header, Rung, Take};
use crate::plan::{Matrix, PlanError, Thin};
use crate::weights::{self, Correction, Registry, WeightError, Weights};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A family of models, ready to be planned: everything of the pack but a decision.
pub struct Model {
    header: Arc<Header>,
    source: Arc<dyn BlobSource>,
    registry: Arc<Registry>,
    /// Weights bound so far: binding checks a tensor's expression but touches no weight.
    bound: Mutex<HashMap<(TensorId, Take), Arc<dyn Weights>>>,
}

impl Model {
    /// A model from its parts. `registry` knows the kinds of weight expressions.
    pub fn new(header: Arc<Header>, source: Arc<dyn BlobSource>, registry: Arc<Registry>) -> Model {
        Model { header, source, registry, bound: Mutex::default() }
    }

    /// The same model over other bytes: a mapping of one rung, a buffer that was read and verified.
    pub fn with_source(&self, source: Arc<dyn BlobSource>) -> Model {
        Model::new(self.header.clone(), source, self.registry.clone())
    }

    /// The card's name, as messages show it.
    pub fn name(&self) -> &str {
        match self.header.card.name.as_str() {
            "" => "a model without a name",
            name => name,
        }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The kinds of weight expressions that this model may use.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The graph of a rung.
    ///
    /// # Panics
    /// When the rung is of another pack.
    pub fn graph(&self, rung: &Rung) -> &Graph {
        &self.header.graphs[rung.graph as usize]
    }

    /// The weight that a rung uses for a tensor.
    ///
    /// # Errors
    /// When the tensor's expression is not sound.
    pub fn weights(&self, rung: &Rung, tensor: TensorId) -> Result<Arc<dyn Weights>, WeightError> {
        let take = rung.takes.get(tensor as usize).copied().flatten();
        let take = take.ok_or_else(|| WeightError::Unused { tensor, rung: rung.id.clone() })?;
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weights) = bound.get(&(tensor, take)) {
            return Ok(weights.clone());
        }
        let weights = weights::bind(&self.registry, &self.header, tensor as usize, take, &self.source)?;
        let weights: Arc<dyn Weights> = weights.into();
        bound.insert((tensor, take), weights.clone());
        Ok(weights)
    }

    /// The blobs that a rung reads of a tensor.
    pub(crate) fn tensor_blobs(&self, rung: &Rung, tensor: TensorId) -> Result<Vec<BlobId>, WeightError> {
        match rung.takes.get(tensor as usize).copied().flatten() {
            Some(take) => weights::needed_blobs(&self.registry, &self.header, tensor as usize, take),
            None => Ok(Vec::new()),
        }
    }

    /// Every blob that a rung reads: its weights', and the constants' of its graph.
    ///
    /// # Errors
    /// When a tensor's expression is not sound.
    pub fn blobs_of(&self, rung: &Rung) -> Result<Vec<BlobId>, WeightError> {
        let mut blobs = Vec::new();
        for value in &self.graph(rung).values {
            match value.source {
                Source::Constant(id) => {
                    if let ConstantData::Blob(blob) = self.header.constants[id as usize].data {
                        blobs.push(blob);
                    }
                }
                Source::Weight(tensor) => blobs.extend(self.tensor_blobs(rung, tensor)?),
                Source::Computed => {}
            }
        }
        blobs.sort_unstable();
        blobs.dedup();
        Ok(blobs)
    }

    /// Where bytes come from.
    pub(crate) fn source(&self) -> &dyn BlobSource {
        self.source.as_ref()
    }

    /// The kind of weight expression that a rung reaches and the registry does not know, as an error; what the rung does not take may be
    /// of any kind.
    pub(crate) fn unknown_kind(&self, rung: &Rung) -> Option<WeightError> {
        let tensors = 0..rung.takes.len() as TensorId;
        let refusals = tensors.filter_map(|tensor| self.tensor_blobs(rung, tensor).err());
        refusals.into_iter().find(|error| matches!(error, WeightError::Kind { .. }))
    }

    /// Lets the memory behind a blob go, when the source can bring it back.
    pub(crate) fn release(&self, blob: BlobId) {
        self.source.release(blob);
    }

    /// The weight behind a matrix operand, when it is stored in the pack.
    pub(crate) fn stored(&self, rung: &Rung, matrix: &Matrix) -> Option<Arc<dyn Weights>> {
        let weights = self.weights(rung, matrix.tensor()?).ok()?;
        let Matrix::Factor(_, thin) = matrix else { return Some(weights) };
        let factors = weights.correction()?.factors()?;
        Some(match thin {
            Thin::U => factors.u.clone(),
            Thin::V => factors.v.clone(),
        })
    }

    /// Whether a weight has integer codes in a rung, as `depthwise` convolutions or as other products take them.
    pub(crate) fn has_codes(&self, rung: &Rung, tensor: TensorId, depthwise: bool) -> bool {
        let Ok(weights) = self.weights(rung, tensor) else { return false };
        match weights.correction().and_then(Correction::alone) {
            _ if depthwise => weights.has_codes_i16(),
            Some(thin) => thin.u.code_form().is_some() && thin.v.code_form().is_some(),
            None => weights.code_form().is_some(),
        }
    }

    /// Bytes that one worker needs to decode a matrix's panels.
    pub(crate) fn panel_scratch(&self, rung: &Rung, matrix: &Matrix, integer: bool) -> usize {
        let Some(weights) = self.stored(rung, matrix) else { return 0 };
        let form = weights.code_form().filter(|_| integer);
        crate::cpu::panels::panel_scratch(weights.as_ref(), form)
    }

    /// The bytes of a constant, wherever they are.
    ///
    /// # Errors
    /// When the header's digits are not a value of the constant's type and shape, or the blob is missing.
    pub fn constant_bytes(&self, id: u32) -> Result<Cow<'_, [u8]>, PlanError> {
        let constant = &self.header.constants[id as usize];
        let want = constant.dims.iter().product::<usize>() * constant.dtype.bytes();
        let bytes: Cow<'_, [u8]> = match &constant.data {
            ConstantData::Hex(digits) => Cow::Owned(unhex(digits).ok_or_else(|| PlanError::Constant {
                id,
                why: format!("`{:.20}` is no run of hexadecimal digits", digits),
            })?),
            ConstantData::Blob(blob) => {
                let bytes = self.source.blob(*blob);
                Cow::Borrowed(
                    bytes.ok_or_else(|| PlanError::Constant {
                        id,
                        why: format!("blob {blob} is not loaded"),
                    })?,
                )
            }
        };
        if bytes.len() != want {
            let why = format!("{} bytes for {:?} {}", bytes.len(), constant.dims, constant.dtype);
            return Err(PlanError::Constant { id, why });
        }
        Ok(bytes)
    }

    /// The bytes of a constant that lies in a blob of the right size.
    pub(crate) fn constant_bytes_mapped(&self, id: u32) -> Option<&[u8]> {
        let constant = self.header.constants.get(id as usize)?;
        let ConstantData::Blob(blob) = constant.data else { return None };
        let want = constant.dims.iter().product::<usize>() * constant.dtype.bytes();
        self.source.blob(blob).filter(|bytes| bytes.len() == want)
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
