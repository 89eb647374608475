//! The header's content: everything about a pack but the bytes of its blobs. Stored as JSON.

use super::{BlobSource, Candidates};
use crate::graph::{DType, Graph, ValueId};
use crate::subnet::Chosen;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Index into [`Header::blobs`].
pub type BlobId = u32;

/// Everything a reader must know before it touches a weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Name, licence, origin, labels, pre-processing.
    pub card: Card,
    /// One graph a model; several for the subnets of a family.
    pub graphs: Vec<Graph>,
    /// Values stored as they are.
    pub constants: Vec<Constant>,
    /// Matrix operands.
    pub tensors: Vec<Tensor>,
    /// Where bytes lie.
    pub blobs: Vec<Blob>,
    /// Runs of blobs that are needed together, in file order.
    pub sections: Vec<Section>,
    /// The ladder, smallest first.
    pub rungs: Vec<Rung>,
    /// Subnets of elastic graphs that rungs run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Subnet>,
    /// What is expected of subnets that no rung runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Candidates>,
    /// Inputs with the outputs that an independent engine or the source model's runtime gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
    /// What the precision of single tensors costs, as far as it was measured; ascending by graph, tensor, root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cost>,
    /// How texts become token ids: [`crate::tokenizer::Tokens`], decoded by whoever needs it, so that others need no decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<serde_json::Map<String, serde_json::Value>>,
    /// The header that this one continues: tensors, constants and blobs count on from its. No file has one; a subnet's header, which is
    /// made in memory, shares all that the pack has.
    #[serde(skip)]
    pub whole: Option<Arc<Header>>,
}

impl Header {
    /// A tensor, the whole's first.
    pub fn tensor(&self, id: u32) -> Option<&Tensor> {
        let above = self.whole.as_ref().map_or(0, |whole| whole.tensors.len());
        match (id as usize).checked_sub(above) {
            Some(own) => self.tensors.get(own),
            None => self.whole.as_ref()?.tensors.get(id as usize),
        }
    }

    /// Number of tensors, the whole's among them.
    pub fn tensor_count(&self) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.tensors.len()) + self.tensors.len()
    }

    /// A constant, the whole's first.
    pub fn constant(&self, id: u32) -> Option<&Constant> {
        let above = self.whole.as_ref().map_or(0, |whole| whole.constants.len());
        match (id as usize).checked_sub(above) {
            Some(own) => self.constants.get(own),
            None => self.whole.as_ref()?.constants.get(id as usize),
        }
    }

    /// Number of constants, the whole's among them.
    pub fn constant_count(&self) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.constants.len()) + self.constants.len()
    }

    /// The blob of the tokenizer's tables, when it is one.
    pub fn tokenizer_blob(&self) -> Option<BlobId> {
        let blob = self.tokenizer.as_ref()?.get("blob")?.as_u64()?;
        BlobId::try_from(blob).ok()
    }

    /// The blobs: the whole's where there is one.
    pub fn all_blobs(&self) -> &[Blob] {
        self.whole.as_ref().map_or(&self.blobs, |whole| &whole.blobs)
    }
}

/// The model card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name of the model.
    pub name: String,
    /// Free text: source file, hash, licence, converter version, the source model's own metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Names of the classes of the first output's last axis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How a picture or a sound becomes an input, by input name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub preprocess: BTreeMap<String, Preprocess>,
}

/// How an input is made from a picture or from sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Preprocess {
    /// `x = (u8 - mean) / std`, one mean and std for all channels or one a channel.
    Image {
        /// `rgb`, `bgr` or `grey`.
        colour: Colour,
        /// `nchw` or `nhwc`: the order of the input's dimensions.
        layout: ImageLayout,
        /// Subtracted, in units of the u8 sample.
        mean: Vec<f32>,
        /// Divided by, in units of the u8 sample.
        std: Vec<f32>,
        /// Height and width to resize to when the input's own are free; the picture's own, rounded to `multiple`,
        /// when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<[usize; 2]>,
        /// A free height or width is rounded up to a multiple of this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        multiple: Option<usize>,
    },
    /// Mono samples in [-1, 1] at a given rate.
    Audio {
        /// Samples a second.
        sample_rate: u32,
    },
}

/// Order of colour channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Colour {
    Rgb,
    Bgr,
    Grey,
}

/// Order of a picture's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ImageLayout {
    Nchw,
    Nhwc,
}

/// A value stored as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constant {
    /// Element type.
    pub dtype: DType,
    /// Shape; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements.
    pub data: ConstantData,
}

/// Where a constant's elements are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstantData {
    /// In the header, as lower-case hexadecimal digits of the little-endian bytes (shapes, scalars).
    Hex(String),
    /// In a blob.
    Blob(BlobId),
    /// In a blob, from a byte on: one of several in it, or what a subnet has of a constant.
    Part(BlobId, u64),
}

impl ConstantData {
    /// The blob that the elements are in, and where in it.
    pub fn place(&self) -> Option<(BlobId, u64)> {
        match self {
            ConstantData::Hex(_) => None,
            ConstantData::Blob(blob) => Some((*blob, 0)),
            ConstantData::Part(blob, offset) => Some((*blob, *offset)),
        }
    }

    /// Data that stands in the header.
    pub fn hex(bytes: &[u8]) -> ConstantData {
        ConstantData::Hex(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }
}

impl Constant {
    /// The elements as little-endian bytes, row-major; in general not aligned to the element type. `None` when
    /// `source` does not hold the blob, or the digits are none.
    pub fn bytes<'a>(&self, source: &'a dyn BlobSource) -> Option<Cow<'a, [u8]>> {
        match &self.data {
            ConstantData::Blob(id) => source.blob(*id).map(Cow::Borrowed),
            ConstantData::Part(id, offset) => {
                let len = self.dims.iter().product::<usize>().checked_mul(self.dtype.bytes())?;
                let start = usize::try_from(*offset).ok()?;
                source.blob(*id)?.get(start..start.checked_add(len)?).map(Cow::Borrowed)
            }
            ConstantData::Hex(digits) => {
                let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
                let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
                let bytes: Option<Vec<u8>> =
                    pairs.iter().map(|&[hi, lo]| Some(digit(hi)? << 4 | digit(lo)?)).collect();
                bytes.filter(|_| rest.is_empty()).map(Cow::Owned)
            }
        }
    }
}

/// A matrix operand `[n, k]`: alternative expressions of one matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// The name in the source model.
    pub name: String,
    /// Rows: output channels, padded rows of groups included.
    pub n: usize,
    /// Columns: the dimension that is summed over.
    pub k: usize,
    /// Alternatives; a rung names one and how much of it.
    pub roots: Vec<Expr>,
}

/// A node or leaf of a weight expression; `kind` selects the implementation in `weights`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    /// `dense`, `planes`, `tiles`, `combine`, `view`...
    pub kind: String,
    /// Parameters of that kind.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Operands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
    /// The bytes of a leaf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<BlobId>,
}

/// An operand of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arg {
    /// An expression of its own.
    Expr(Box<Expr>),
    /// A root of another tensor, which must have a smaller index: `(tensor, root)`.
    Shared(u32, u32),
}

/// Bytes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// First byte, from the start of the file; a multiple of 64. 0 when the blob has no bytes.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// BLAKE3 of the bytes, its first 16 bytes.
    #[serde(with = "super::hex128")]
    pub hash: u128,
}

/// A run of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// First byte, from the start of the file; a multiple of what `layout::section_align` says for its length.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// How a rung holds activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acts {
    /// 32-bit floats.
    #[default]
    F32,
    /// 8-bit integers wherever a calibrated range allows it: an integer rung.
    I8,
}

/// Which expression of a tensor a rung uses, and how many of its terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Take(
    /// Index into [`Tensor::roots`].
    pub u32,
    /// Number of leading terms (planes, shells, levels).
    pub u32,
);

/// One member of the family that the pack holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Unique name, such as `w4.2-a8`.
    pub id: String,
    /// Index into [`Header::graphs`].
    pub graph: u32,
    /// Index into [`Header::subnets`], when the graph is elastic and this is not the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<u32>,
    /// The subnet that it runs when that is none of the header's ([`crate::Model::subnet`]). No file has one.
    #[serde(skip)]
    pub chosen: Option<Arc<Chosen>>,
    /// How activations are held.
    pub acts: Acts,
    /// One entry a tensor; `None` where the rung's graph does not use it.
    pub takes: Vec<Option<Take>>,
    /// Values of the graph that stay floats in a rung of i8 activations though they have a range; ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floats: Vec<ValueId>,
    /// Position just past the last byte that the rung needs: where a blob ends, or the header when it needs none.
    pub end: u64,
    /// Bytes of weights and constants that the rung reads: the lengths of its blobs.
    pub bytes: u64,
    /// Measured quality, comparable between the rungs of one pack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Planned memory at the shapes of the golden inputs: bytes of arena, state and scratch with one thread.
    #[serde(default)]
    pub arena: u64,
    /// The oldest runtime that can run it.
    #[serde(default)]
    pub min_runtime: u32,
    /// Names of features that the runtime must know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// What its noise is made of, as far as it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

/// What a rung's noise is made of. No runtime needs it: it explains a rung.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Signal-to-noise ratio in dB if the noise were the sum of what each tensor and each value costs alone.
    pub sum: f32,
    /// That of all of them together, on the same samples as tensors were measured on.
    pub together: f32,
    /// The tensor or value that costs most.
    pub worst: String,
    /// Its share of the sum, 0 to 1.
    pub share: f32,
}

/// A subnet of an elastic graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    /// Index into [`Header::graphs`].
    pub graph: u32,
    /// By variable of the graph, the option.
    pub choice: Choice,
    /// A blob of f32: the constants that it has of its own, those of [`crate::graph::Elastic::overlaid`] that it reads, in order; then
    /// least and greatest element of each of [`crate::graph::Elastic::ranged`], no numbers where there is no range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<BlobId>,
}

/// An option for each variable of an elastic graph; written as a text with a digit or letter (0 to 9, a to z) each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Choice(Vec<u8>);

impl Choice {
    /// Most options of a variable.
    pub const OPTIONS: usize = 36;

    /// A choice from the indices of its options; `None` when one is not below [`Choice::OPTIONS`].
    pub fn new(options: &[usize]) -> Option<Choice> {
        let option = |o: &usize| u8::try_from(*o).ok().filter(|o| usize::from(*o) < Choice::OPTIONS);
        options.iter().map(option).collect::<Option<Vec<u8>>>().map(Choice)
    }

    /// Number of variables.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no variables.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The option of a variable.
    ///
    /// # Panics
    /// When there is no such variable.
    pub fn option(&self, variable: usize) -> usize {
        usize::from(self.0[variable])
    }

    /// All options in order.
    pub fn options(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|o| usize::from(*o))
    }
}

impl TryFrom<String> for Choice {
    type Error = String;

    fn try_from(text: String) -> Result<Choice, String> {
        let option = |c: char| match c {
            '0'..='9' | 'a'..='z' => c.to_digit(36).map(|d| d as u8),
            _ => None,
        };
        let options: Option<Vec<u8>> = text.chars().map(option).collect();
        options.map(Choice).ok_or_else(|| format!("`{text:.40}` is no run of 0 to 9 and a to z"))
    }
}

impl From<Choice> for String {
    fn from(choice: Choice) -> String {
        choice.0.into_iter().filter_map(|o| char::from_digit(u32::from(o), 36)).collect()
    }
}

/// A measured quality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// What was measured: `sqnr_db`, `top1_agreement`, [`PERPLEXITY`]...
    pub metric: String,
    /// The value; greater is better, but of [`PERPLEXITY`].
    pub value: f32,
    /// On how many samples, and which: `32 held-out samples`, `4 samples of seeded noise`.
    pub samples: String,
}

/// The metric of language models: the exponential of the mean negative log-likelihood of a token. Less is better.
pub const PERPLEXITY: &str = "perplexity";

impl Quality {
    /// What orders the rungs of a pack: greater is better.
    pub fn rank(&self) -> f32 {
        if self.metric == PERPLEXITY { -self.value } else { self.value }
    }

    /// Digits behind the point that say something: perplexities of neighbouring rungs differ by parts of a hundred.
    pub fn digits(&self) -> usize {
        if self.metric == PERPLEXITY { 3 } else { 1 }
    }
}

/// What a tensor costs the outputs of a graph when it alone is coarse. No runtime needs it: it explains a ladder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Index into [`Header::graphs`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub graph: u32,
    /// Index into [`Header::tensors`].
    pub tensor: u32,
    /// Index into [`Tensor::roots`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub root: u32,
    /// Signal-to-noise ratio of the outputs in dB with 1, 2, ... leading terms of the root, every other tensor at its finest.
    pub db: Vec<f32>,
}

fn is_zero(id: &u32) -> bool {
    *id == 0
}

/// Inputs and expected outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// One entry an input, in order.
    pub inputs: Vec<GoldenValue>,
    /// One entry an output, in order.
    pub outputs: Vec<GoldenValue>,
    /// Which engine gave the outputs.
    pub reference: String,
}

/// One array of golden data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenValue {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub dims: Vec<usize>,
    /// Where the elements come from.
    pub source: GoldenSource,
}

/// Where golden elements come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoldenSource {
    /// Stored as they are.
    Blob(BlobId),
    /// Uniform in [lo, hi) by the counter-based generator, key = seed; integers are rounded down.
    Uniform {
        /// Key of the generator.
        seed: u64,
        /// Least value.
        lo: f32,
        /// Bound.
        hi: f32,
    },
}
