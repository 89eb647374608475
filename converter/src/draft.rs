//! A pack in the making: the header, with every blob in memory.

use crate::candidate::Hashed;
use crate::import::tokenizer::Found;
use crate::model::{Array, Model};
use edge_runtime::graph::{DType, Graph};
use edge_runtime::pack::{
    self, Acts, Blob, BlobId, BlobSource, Card, Constant, ConstantData, Contents, Header, PackError, Rung,
    Tensor, Written,
};
use edge_runtime::tokenizer::Tokens;
use edge_runtime::weights::Registry;
use prost::bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Constants up to this size stand in the header itself: shapes and scalars, which the planner reads.
const INLINE: usize = 64;

/// Header and blobs of a pack that is not written yet.
#[derive(Default)]
pub struct Draft {
    /// Everything but the blobs' places.
    pub header: Header,
    /// By [`BlobId`]; the arrays of the model that are stored as they are share their bytes with it.
    pub blobs: Vec<Bytes>,
    /// Blobs by content: equal ones are stored once.
    known: HashMap<[u8; 32], BlobId>,
    /// The BLAKE3 hash of each blob as it was stored.
    hashes: Vec<[u8; 32]>,
    pub(crate) hashed: RefCell<Hashed>,
}

impl Draft {
    /// A draft with the model card of a model.
    pub fn new(model: &Model) -> Draft {
        let card = Card { name: model.name.clone(), metadata: model.metadata.clone(), ..Card::default() };
        Draft { header: Header { card, ..Header::default() }, ..Draft::default() }
    }

    /// The same draft, to be changed for a measurement. Blobs are shared.
    pub fn fork(&self) -> Draft {
        Draft {
            header: self.header.clone(),
            blobs: self.blobs.clone(),
            known: self.known.clone(),
            hashes: self.hashes.clone(),
            hashed: RefCell::default(),
        }
    }

    /// Stores bytes, or finds them.
    pub fn blob(&mut self, bytes: impl Into<Bytes>) -> BlobId {
        let bytes = bytes.into();
        let hash = *blake3::hash(&bytes).as_bytes();
        if let Some(id) = self.known.get(&hash) {
            return *id;
        }
        let id = self.blobs.len() as BlobId;
        self.header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: 0 });
        self.blobs.push(bytes);
        self.known.insert(hash, id);
        self.hashes.push(hash);
        id
    }

    /// Stores a tokenizer, or says in the card why there is none. Gives the blob of its tables.
    pub fn tokenizer(&mut self, found: Found) -> Option<BlobId> {
        match found {
            Found::Tokenizer(tokens, tables, left_out) => {
                if let Some(what) = left_out {
                    self.header.card.metadata.insert("tokenizer_without".into(), what);
                }
                let blob = self.blob(tables);
                self.header.tokenizer = Tokens { blob, ..*tokens }.described();
                Some(blob)
            }
            Found::Nothing(why) => {
                self.header.card.metadata.insert("no_tokenizer".into(), why);
                None
            }
        }
    }

    /// An id for bytes that come later.
    pub fn promise(&mut self) -> BlobId {
        let id = self.blobs.len() as BlobId;
        self.header.blobs.push(Blob { offset: 0, len: 0, hash: 0 });
        self.blobs.push(Bytes::new());
        self.hashes.push([0; 32]);
        id
    }

    /// The bytes of an id of [`Draft::promise`].
    pub fn keep(&mut self, id: BlobId, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.header.blobs[id as usize].len = bytes.len() as u64;
        self.hashes[id as usize] = *blake3::hash(&bytes).as_bytes();
        self.blobs[id as usize] = bytes;
    }

    /// The blobs as the runtime reads them.
    pub fn source(&self) -> Arc<dyn BlobSource> {
        Arc::new(Blobs(self.blobs.clone()))
    }

    /// The BLAKE3 hash of each blob, by [`BlobId`].
    pub fn hashes(&self) -> &[[u8; 32]] {
        &self.hashes
    }

    /// Stores a constant.
    pub fn constant(&mut self, array: &Array) -> u32 {
        let data = if array.data.len() <= INLINE {
            ConstantData::hex(&array.data)
        } else {
            ConstantData::Blob(self.blob(array.data.clone()))
        };
        self.header.constants.push(Constant { dtype: array.dtype, dims: array.dims.clone(), data });
        (self.header.constants.len() - 1) as u32
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, tensor: Tensor) -> u32 {
        self.header.tensors.push(tensor);
        (self.header.tensors.len() - 1) as u32
    }

    /// Adds a graph.
    pub fn graph(&mut self, graph: Graph) -> u32 {
        self.header.graphs.push(graph);
        (self.header.graphs.len() - 1) as u32
    }

    /// Forgets the blobs that `keep` does not name. Gives the new id of each old one; whoever holds ids has to follow.
    pub fn retain_blobs(&mut self, keep: impl Fn(BlobId) -> bool) -> Vec<Option<BlobId>> {
        let mut next = 0;
        let ids: Vec<Option<BlobId>> = (0..self.blobs.len() as BlobId)
            .map(|id| {
                keep(id).then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let kept = |id: usize| ids[id].is_some();
        let mut at = 0..self.blobs.len();
        self.header.blobs.retain(|_| at.next().is_some_and(kept));
        let mut at = 0..self.blobs.len();
        self.blobs.retain(|_| at.next().is_some_and(kept));
        let mut at = 0..self.hashes.len();
        self.hashes.retain(|_| at.next().is_some_and(kept));
        self.known.retain(|_, id| ids[*id as usize].map(|new| *id = new).is_some());
        ids
    }

    /// Writes the pack: sections in file order, and for each rung the blobs that it reads.
    ///
    /// # Errors
    /// When the file cannot be written, or `stop` is set.
    pub fn write(
        &mut self,
        path: &Path,
        sections: Vec<Vec<BlobId>>,
        needs: Vec<Vec<BlobId>>,
        stop: &AtomicBool,
    ) -> Result<Written, PackError> {
        let contents = Contents { header: self.header.clone(), sections, needs, min_runtime: 0 };
        let source = Blobs(std::mem::take(&mut self.blobs));
        let written = pack::write(path, contents, &source, stop)?;
        self.header = written.header.clone();
        Ok(written)
    }

    /// The draft as the runtime sees a pack.
    pub fn open(&self) -> Arc<edge_runtime::Model> {
        let source = self.source();
        let registry = Arc::new(Registry::standard());
        Arc::new(edge_runtime::Model::new(Arc::new(self.header.clone()), source, registry))
    }
}

/// Blobs in memory, before there is a file.
struct Blobs(Vec<Bytes>);

impl BlobSource for Blobs {
    fn blob(&self, id: BlobId) -> Option<&[u8]> {
        self.0.get(id as usize).map(|bytes| &bytes[..])
    }
}

/// The name of a rung of so many bits a weight, with as many digits as tell it from the rungs before it.
pub fn rung_id(rungs: &[Rung], prefix: &str, bits: f64, suffix: &str) -> String {
    let id = |digits: usize| format!("{prefix}w{bits:.digits$}{suffix}");
    (1..6).map(id).find(|id| rungs.iter().all(|r| r.id != *id)).unwrap_or_else(|| id(6))
}

/// A rung that runs a graph without any tensor of the ladder.
pub fn plain_rung(id: &str, graph: u32, acts: Acts) -> Rung {
    Rung {
        id: id.to_string(),
        graph,
        subnet: None,
        chosen: None,
        acts,
        takes: Vec::new(),
        floats: Vec::new(),
        end: 0,
        bytes: 0,
        quality: None,
        arena: 0,
        min_runtime: 0,
        features: Vec::new(),
        parts: None,
    }
}

/// The model as it came, every weight a float constant: the reference of all measurements.
pub fn float_draft(model: &Model) -> Draft {
    let mut draft = Draft::new(model);
    for array in &model.constants {
        draft.constant(array);
    }
    let graph = draft.graph(model.graph.clone());
    draft.header.rungs.push(plain_rung("float", graph, Acts::F32));
    draft
}

/// Elements of a value as `f32`, whatever their type.
pub fn to_f32(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        DType::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        DType::F16 => {
            bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
        }
        DType::Bf16 => {
            bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
        }
        DType::I8 => bytes.iter().map(|b| f32::from(*b as i8)).collect(),
        DType::U8 | DType::Bool => bytes.iter().map(|b| f32::from(*b)).collect(),
        DType::I16 => bytes.as_chunks::<2>().0.iter().map(|b| f32::from(i16::from_le_bytes(*b))).collect(),
        DType::U16 => bytes.as_chunks::<2>().0.iter().map(|b| f32::from(u16::from_le_bytes(*b))).collect(),
        DType::I32 => bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(),
        DType::U32 => bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b) as f32).collect(),
        DType::I64 => bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
        DType::U64 => bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b) as f32).collect(),
    }
}
