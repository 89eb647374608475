//! A pack's header with the bytes behind it.

use crate::graph::{Graph, Source, TensorId};
use crate::pack::{Acts, BlobId, BlobSource, ConstantData, Header, Rung, Take};
use crate::plan::{Matrix, PlanError, Thin};
use crate::sort;
use crate::subnet::{self, Chosen, Made};
use crate::weights::{self, Correction, Registry, WeightError, Weights};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// What a bound weight is known by: rungs of floats ask for no codes.
type Bound = (TensorId, Take, Acts);

/// A family of models, ready to be planned: everything of the pack but a decision.
pub struct Model {
    header: Arc<Header>,
    source: Arc<dyn BlobSource>,
    registry: Arc<Registry>,
    /// Weights bound so far: binding checks a tensor's expression but touches no weight.
    bound: Mutex<HashMap<Bound, Arc<dyn Weights>>>,
    /// The subnet that was asked for last, as a model of its own.
    made: Mutex<Option<(Net, Arc<SubnetModel>)>>,
    /// What is chosen among instead of the header's rungs.
    rungs: Option<Arc<[Rung]>>,
}

/// Which subnet a rung runs.
#[derive(Clone, PartialEq)]
enum Net {
    /// One of the header's, by its index.
    Stored(u32),
    Chosen(u32, Arc<Chosen>),
}

/// A subnet with the bytes of its pack.
struct SubnetModel {
    model: Arc<Model>,
    /// By tensor, which of the pack's it is or shows.
    shown: Vec<Option<u32>>,
}

/// A rung beside the model that has its graph.
pub(crate) enum Running<'a> {
    /// The rung runs a graph of the pack.
    Whole(&'a Model, &'a Rung),
    /// It runs a subnet of one.
    Subnet(Arc<Model>, Box<Rung>),
}

impl Running<'_> {
    /// The rung: its takes are of the model's tensors.
    pub fn rung(&self) -> &Rung {
        match self {
            Running::Whole(_, rung) => rung,
            Running::Subnet(_, rung) => rung,
        }
    }
}

impl Deref for Running<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        match self {
            Running::Whole(model, _) => model,
            Running::Subnet(model, _) => model,
        }
    }
}

impl Model {
    /// A model from its parts. `registry` knows the kinds of weight expressions.
    pub fn new(header: Arc<Header>, source: Arc<dyn BlobSource>, registry: Arc<Registry>) -> Model {
        Model { header, source, registry, bound: Mutex::default(), made: Mutex::default(), rungs: None }
    }

    /// The same model over other bytes: a mapping of one rung, a buffer that was read and verified.
    pub fn with_source(&self, source: Arc<dyn BlobSource>) -> Model {
        let rungs = self.rungs.clone();
        Model { rungs, ..Model::new(self.header.clone(), source, self.registry.clone()) }
    }

    /// The same model with other rungs to choose among: those of a subnet ([`Model::subnet`]).
    pub fn among(&self, rungs: Vec<Rung>) -> Model {
        let rungs = Some(rungs.into());
        Model { rungs, ..Model::new(self.header.clone(), self.source.clone(), self.registry.clone()) }
    }

    /// Whether other rungs than the header's are chosen among.
    pub(crate) fn has_own_rungs(&self) -> bool {
        self.rungs.is_some()
    }

    /// The same model with the header's rungs to choose among.
    pub(crate) fn ladder(&self) -> Model {
        Model::new(self.header.clone(), self.source.clone(), self.registry.clone())
    }

    /// What is chosen among: the header's rungs, if no others were given.
    pub fn rungs(&self) -> &[Rung] {
        self.rungs.as_deref().unwrap_or(&self.header.rungs)
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

    /// The header, for those that outlive the model.
    pub(crate) fn shared_header(&self) -> Arc<Header> {
        self.header.clone()
    }

    /// The kinds of weight expressions that this model may use.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// A rung beside the model that has its graph. Rungs of one subnet, one after the other, make it once.
    ///
    /// # Errors
    /// When the rung runs a subnet that cannot be made of its choice.
    pub(crate) fn running<'a>(&'a self, rung: &'a Rung) -> Result<Running<'a>, PlanError> {
        let net = match (&rung.chosen, rung.subnet) {
            (Some(chosen), _) => Net::Chosen(rung.graph, chosen.clone()),
            (None, Some(index)) => Net::Stored(index),
            (None, None) => return Ok(Running::Whole(self, rung)),
        };
        let mut last = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let subnet = match &*last {
            Some((made, subnet)) if *made == net => subnet.clone(),
            _ => {
                let subnet = Arc::new(self.make(&net)?);
                *last = Some((net, subnet.clone()));
                subnet
            }
        };
        let rung = Box::new(subnet::rung_of(subnet.model.header(), &subnet.shown, rung)?);
        Ok(Running::Subnet(subnet.model.clone(), rung))
    }

    /// Bytes that a rung's subnet takes of the heap beside the pack's header, an estimate from above; 0 for a graph of the pack.
    ///
    /// # Errors
    /// As [`Model::running`].
    pub(crate) fn subnet_bytes(&self, rung: &Rung) -> Result<u64, PlanError> {
        Ok(match self.running(rung)? {
            Running::Whole(..) => 0,
            Running::Subnet(model, rung) => {
                (subnet::heap_bytes(&model.header) + 2 * size_of_val(&rung.takes[..])) as u64
            }
        })
    }

    /// As [`Model::running`], for those who keep both.
    ///
    /// # Errors
    /// When the rung runs a subnet that cannot be made of its choice.
    pub(crate) fn owned(model: &Arc<Model>, rung: &Rung) -> Result<(Arc<Model>, Rung), PlanError> {
        match model.running(rung)? {
            Running::Whole(..) => Ok((model.clone(), rung.clone())),
            Running::Subnet(model, rung) => Ok((model, *rung)),
        }
    }

    fn make(&self, net: &Net) -> Result<SubnetModel, PlanError> {
        let Made { header, shown } = match net {
            Net::Chosen(graph, chosen) => {
                subnet::make_chosen(&self.header, *graph, chosen, self.source.as_ref())?
            }
            Net::Stored(index) => subnet::make(&self.header, *index, self.source.as_ref())?,
        };
        let model = Model::new(Arc::new(header), self.source.clone(), self.registry.clone());
        Ok(SubnetModel { model: Arc::new(model), shown })
    }

    /// The graph of a rung; of one that runs a subnet, the graph that the subnet is cut from.
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
        if let Some(weights) = bound.get(&(tensor, take, rung.acts)) {
            return Ok(weights.clone());
        }
        let bind = match rung.acts {
            Acts::I8 => weights::bind,
            Acts::F32 => weights::bind_reals,
        };
        let weights = bind(&self.registry, &self.header, tensor as usize, take, &self.source)?;
        let weights: Arc<dyn Weights> = weights.into();
        bound.insert((tensor, take, rung.acts), weights.clone());
        Ok(weights)
    }

    /// Lets go of the weights that were bound for plans; sessions hold theirs.
    pub(crate) fn forget_bound(&self) {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
    pub fn blobs_of(&self, rung: &Rung) -> Result<Vec<BlobId>, PlanError> {
        let own = rung.subnet.and_then(|subnet| self.header.subnets[subnet as usize].overlay);
        let mut blobs: Vec<BlobId> = own.into_iter().collect();
        blobs.extend(rung.chosen.iter().flat_map(|chosen| chosen.blobs()));
        if rung.subnet.is_some() || rung.chosen.is_some() {
            let elastic = self.graph(rung).elastic.iter();
            let constants = elastic.flat_map(|elastic| &elastic.mixtures).flat_map(|m| m.constants());
            let places = constants.filter_map(|id| self.header.constant(id)?.data.place());
            blobs.extend(places.map(|(blob, _)| blob));
        }
        let running = self.running(rung)?;
        for value in &running.graph(running.rung()).values {
            match value.source {
                Source::Constant(id) => {
                    let place = running.header.constant(id).and_then(|constant| constant.data.place());
                    blobs.extend(place.map(|(blob, _)| blob));
                }
                Source::Weight(tensor) => blobs.extend(running.tensor_blobs(running.rung(), tensor)?),
                Source::Computed => {}
            }
        }
        sort::ascending(&mut blobs);
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
        // What cannot be made says so when it is planned.
        let running = self.running(rung).ok()?;
        let tensors = 0..running.rung().takes.len() as TensorId;
        let refusals = tensors.filter_map(|tensor| running.tensor_blobs(running.rung(), tensor).err());
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
        let none = || PlanError::Constant { id, why: "there is no such constant".into() };
        let constant = self.header.constant(id).ok_or_else(none)?;
        let want = constant.dims.iter().product::<usize>() * constant.dtype.bytes();
        let bytes: Cow<'_, [u8]> = match &constant.data {
            ConstantData::Hex(digits) => Cow::Owned(unhex(digits).ok_or_else(|| PlanError::Constant {
                id,
                why: format!("`{:.20}` is no run of hexadecimal digits", digits),
            })?),
            ConstantData::Blob(blob) | ConstantData::Part(blob, _) => {
                let bytes = constant.bytes(self.source());
                bytes.ok_or_else(|| PlanError::Constant { id, why: format!("blob {blob} is not loaded") })?
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
        let constant = self.header.constant(id)?;
        let (blob, offset) = constant.data.place()?;
        let want = constant.dims.iter().product::<usize>() * constant.dtype.bytes();
        let bytes = self.source.blob(blob)?;
        match constant.data {
            ConstantData::Part(..) => bytes.get(usize::try_from(offset).ok()?..)?.get(..want),
            _ => Some(bytes).filter(|bytes| bytes.len() == want),
        }
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
