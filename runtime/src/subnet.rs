//! From an elastic graph and a choice to the graph of a subnet (`graph/elastic.rs`).
//!
//! Nothing is copied but descriptions: a narrower matrix is a `view` of the shared one, a shorter constant a part of its blob, or of
//! the rung's overlay. What comes out is a pack's header with one graph and one rung, checked like any other, so that neither
//! planner nor session knows that there was a choice.

mod asked;
mod chosen;
mod mixture;
mod near;

pub use asked::{ChoiceError, elastic_graph};
pub use chosen::{Chosen, Cut, Statistics, plays};
pub use mixture::{Coefficients, Dense, route};
pub(crate) use near::{Neighbour, Point, neighbours};

use crate::graph::{Change, DType, Elastic, Graph, Node, Source, ValueId};
use crate::pack::{
    Arg, BlobId, BlobSource, Card, Choice, Constant, ConstantData, Expr, Header, Rung, Tensor,
};
use crate::pack::{check_graph, constants_end};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// A subnet that cannot be made of its choice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum SubnetError {
    #[error("subnet {subnet}: {place}: {why}")]
    Effect { subnet: String, place: String, why: String },
    #[error("subnet {subnet} is no sound graph")]
    Graph { subnet: String, source: Box<crate::pack::PackError> },
    #[error("rung `{rung}` takes nothing of tensor `{tensor}`, which its subnet uses")]
    Take { rung: String, tensor: String },
    #[error("rung `{rung}` ends at byte {end}, a constant of its subnet at {constant}")]
    End { rung: String, end: u64, constant: u64 },
    #[error("subnet {subnet}: the file ends before blob {blob}, which it needs; fetch the rest of the pack")]
    Missing { subnet: String, blob: BlobId },
}

/// A subnet as a pack of its own: one graph, and everything that its ids refer to.
pub struct Made {
    /// It has no rungs.
    pub header: Header,
    /// By tensor: the tensor of the whole that it is or shows; `None` when the graph does not use it.
    pub shown: Vec<Option<u32>>,
}

/// A rung of the whole as one of a subnet, of whose tensors `shown` says what they are.
///
/// # Errors
/// When it takes nothing of a tensor that the subnet uses, or ends before a constant.
pub(crate) fn rung_of(header: &Header, shown: &[Option<u32>], rung: &Rung) -> Result<Rung, SubnetError> {
    // A pack in the making has no places yet.
    let constant = constants_end(header, &header.graphs[0]);
    if rung.end > 0 && constant > rung.end {
        return Err(SubnetError::End { rung: rung.id.clone(), end: rung.end, constant });
    }
    let mut takes = Vec::with_capacity(shown.len());
    for (id, shown) in shown.iter().enumerate() {
        let take = shown.map(|whole| rung.takes.get(whole as usize).copied().flatten());
        if take == Some(None) {
            let tensor = header.tensor(id as u32).map(|tensor| tensor.name.clone()).unwrap_or_default();
            return Err(SubnetError::Take { rung: rung.id.clone(), tensor });
        }
        takes.push(take.flatten());
    }
    Ok(Rung { graph: 0, subnet: None, chosen: None, takes, ..rung.clone() })
}

/// What values lose, by value.
#[derive(Default)]
struct Cuts {
    rows: HashMap<ValueId, usize>,
    /// Channels of the whole, and of what is kept.
    channels: HashMap<ValueId, [usize; 2]>,
    elements: HashMap<ValueId, (usize, usize)>,
}

/// Makes subnet `index`. `source` holds the pack's blobs, of which its own and those of routers are read.
///
/// # Errors
/// When an effect does not suit the graph, a blob is not loaded, or the result is no sound graph: the author of a pack may write anything.
///
/// # Panics
/// When the pack has no such subnet.
pub fn make(header: &Arc<Header>, index: u32, source: &dyn BlobSource) -> Result<Made, SubnetError> {
    let subnet = &header.subnets[index as usize];
    let (mut making, cuts) = Making::new(header, subnet.graph, &subnet.choice, index.to_string())?;
    if let Some(blob) = subnet.overlay {
        let bytes = source.blob(blob);
        let bytes =
            bytes.ok_or_else(|| making.error("its own blob".into(), format!("blob {blob} is not loaded")))?;
        making.overlay(blob, bytes, &cuts)?;
    }
    making.mix(&subnet.choice, &cuts, source)?;
    making.cut(&cuts)?;
    making.finish()
}

/// Makes a subnet that is none of the pack's.
///
/// # Errors
/// As [`make`].
pub(crate) fn make_chosen(
    header: &Arc<Header>,
    graph: u32,
    chosen: &Chosen,
    source: &dyn BlobSource,
) -> Result<Made, SubnetError> {
    let (mut making, cuts) = Making::new(header, graph, &chosen.choice, String::from(chosen.choice.clone()))?;
    making.borrow(chosen, &cuts)?;
    making.mix(&chosen.choice, &cuts, source)?;
    making.cut(&cuts)?;
    making.finish()
}

/// A header that continues the whole.
fn continued(header: &Arc<Header>) -> Header {
    Header {
        card: Card { name: header.card.name.clone(), ..Card::default() },
        whole: Some(header.clone()),
        ..Header::default()
    }
}

/// What is no number, or no order, is no range.
fn range([a, b, c, d, e, f, g, h]: &[u8; 8]) -> Option<(f32, f32)> {
    let range = (f32::from_le_bytes([*a, *b, *c, *d]), f32::from_le_bytes([*e, *f, *g, *h]));
    (range.0.is_finite() && range.1.is_finite() && range.0 <= range.1).then_some(range)
}

/// Sets what stands at a JSON pointer of an operation. By way of text, which what decodes headers reads.
fn set(node: &mut Node, pointer: &str, value: &serde_json::Value) -> Result<(), String> {
    let said = |e: serde_json::Error| format!("`{pointer}` = {value}: {e}");
    let text = serde_json::to_vec(&node.op).map_err(said)?;
    let mut op: serde_json::Value = serde_json::from_slice(&text).map_err(said)?;
    let place =
        op.pointer_mut(pointer).ok_or_else(|| format!("its operation has no attribute `{pointer}`"))?;
    *place = value.clone();
    let text = serde_json::to_vec(&op).map_err(said)?;
    node.op = serde_json::from_slice(&text).map_err(said)?;
    Ok(())
}

struct Making<'a> {
    header: &'a Arc<Header>,
    elastic: &'a Elastic,
    /// How errors name the subnet.
    name: String,
    graph: Graph,
    /// By node of the whole, whether the subnet has it.
    kept: Vec<bool>,
    new: Header,
    /// The tensor that each new one shows; of a mixture its first expert, of all of which a rung takes as much.
    views: Vec<u32>,
}

/// A constant that a subnet reads of those that are overlaid.
struct Own {
    /// Index into [`Elastic::overlaid`].
    index: usize,
    value: ValueId,
    /// As the subnet has it.
    dims: Vec<usize>,
    bytes: usize,
}

/// What is elastic in a graph where nothing is.
static NONE: Elastic = Elastic {
    variables: Vec::new(),
    effects: Vec::new(),
    mixtures: Vec::new(),
    overlaid: Vec::new(),
    ranged: Vec::new(),
};

impl<'a> Making<'a> {
    /// The graph of a choice, but for what it has of its own and what is cut.
    fn new(
        header: &'a Arc<Header>,
        graph: u32,
        choice: &Choice,
        name: String,
    ) -> Result<(Making<'a>, Cuts), SubnetError> {
        let whole = &header.graphs[graph as usize];
        let elastic = whole.elastic.as_deref().unwrap_or(&NONE);
        let graph = Graph { elastic: None, ..whole.clone() };
        let kept = vec![true; graph.body.nodes.len()];
        let mut making =
            Making { header, elastic, name, graph, kept, new: continued(header), views: Vec::new() };
        let mut cuts = Cuts::default();
        let mut bypassed: HashMap<ValueId, ValueId> = HashMap::new();
        for effect in &elastic.effects {
            let option = effect.entry(&elastic.variables, |variable| choice.option(variable));
            match &effect.change {
                Change::Rows { value, sizes } => {
                    cuts.rows.insert(*value, sizes[option]);
                }
                Change::Channels { value, channels, sizes } => {
                    cuts.channels.insert(*value, [*channels, sizes[option]]);
                }
                Change::Elements { value, axis, sizes } => {
                    cuts.elements.insert(*value, (*axis, sizes[option]));
                }
                Change::Source { value, sources } => {
                    if let Some(source) = sources[option] {
                        making.graph.values[*value as usize].source = source;
                    }
                }
                Change::Attribute { node, pointer, values } => {
                    let node = &mut making.graph.body.nodes[*node as usize];
                    let place = format!("node `{}`", node.name);
                    set(node, pointer, &values[option]).map_err(|why| making.error(place, why))?;
                }
                Change::Bypass { value, by } => {
                    if let Some(by) = by[option] {
                        bypassed.insert(*value, by);
                    }
                }
            }
        }
        making.bypass(&bypassed)?;
        making.drop_unused();
        Ok((making, cuts))
    }

    fn error(&self, place: String, why: impl Into<String>) -> SubnetError {
        SubnetError::Effect { subnet: self.name.clone(), place, why: why.into() }
    }

    fn value_error(&self, value: ValueId, why: impl Into<String>) -> SubnetError {
        self.error(format!("value `{}`", self.graph.name(value)), why)
    }

    /// Has whoever reads a bypassed value read what stands for it.
    fn bypass(&mut self, by: &HashMap<ValueId, ValueId>) -> Result<(), SubnetError> {
        let stands = |value: ValueId| {
            let mut now = value;
            // As long as there are further ones: a chain of blocks that are all left out.
            for _ in 0..=by.len() {
                match by.get(&now) {
                    Some(next) => now = *next,
                    None => return Ok(now),
                }
            }
            Err(value)
        };
        let mut uses: Vec<&mut ValueId> = Vec::new();
        for node in &mut self.graph.body.nodes {
            uses.extend(node.inputs.iter_mut().flatten());
        }
        uses.extend(self.graph.outputs.iter_mut().map(|port| &mut port.value));
        let mut circle = None;
        for value in uses {
            match stands(*value) {
                Ok(now) => *value = now,
                Err(value) => circle = Some(value),
            }
        }
        circle.map_or(Ok(()), |value| Err(self.value_error(value, "is bypassed by itself")))
    }

    /// Leaves out nodes whose results nobody reads, and values that are read no more.
    fn drop_unused(&mut self) {
        let graph = &mut self.graph;
        let mut read = vec![false; graph.values.len()];
        let mark = |value: ValueId, read: &mut Vec<bool>| {
            if let Some(read) = read.get_mut(value as usize) {
                *read = true;
            }
        };
        graph.outputs.iter().for_each(|port| mark(port.value, &mut read));
        let mut keep = vec![false; graph.body.nodes.len()];
        for (node, keep) in graph.body.nodes.iter().zip(&mut keep).rev() {
            let results = || node.outputs.iter().flatten();
            *keep = results().any(|v| read.get(*v as usize) == Some(&true));
            if *keep {
                node.inputs.iter().flatten().for_each(|v| mark(*v, &mut read));
            }
        }
        let mut each = keep.iter();
        graph.body.nodes.retain(|_| each.next() == Some(&true));
        self.kept = keep;
        // Blocks inside a node read what they like; an elastic graph has none that are cut.
        let branches = |node: &Node| node.op.has_blocks();
        if graph.body.nodes.iter().any(branches) {
            return;
        }
        for (value, read) in graph.values.iter_mut().zip(read) {
            if !read {
                value.source = Source::Computed;
            }
        }
    }

    /// The constants that the subnet reads of those that are overlaid, in order, as it has them.
    fn own(&self, cuts: &Cuts) -> Result<Vec<Own>, SubnetError> {
        let mut own = Vec::new();
        for (index, &value) in self.elastic.overlaid.iter().enumerate() {
            let Source::Constant(id) = self.graph.values[value as usize].source else { continue };
            let Some(constant) = self.new.constant(id) else { continue };
            let mut dims = constant.dims.clone();
            if let Some((axis, size)) = cuts.elements.get(&value)
                && let Some(dim) = dims.get_mut(*axis)
            {
                *dim = *size;
            }
            let bytes = dims.iter().try_fold(4usize, |n, d| n.checked_mul(*d));
            let (Some(bytes), DType::F32) = (bytes, constant.dtype) else {
                let why = format!("{dims:?} {} cannot be a subnet's own", constant.dtype);
                return Err(self.value_error(value, why));
            };
            own.push(Own { index, value, dims, bytes });
        }
        Ok(own)
    }

    /// Where each constant of [`Making::own`] lies in a subnet's own bytes, and the ranges behind them.
    fn laid_out<'b>(&self, own: &[Own], bytes: &'b [u8]) -> Result<(Vec<usize>, &'b [[u8; 8]]), SubnetError> {
        let (mut offset, mut places) = (0usize, Vec::with_capacity(own.len()));
        for Own { value, dims, bytes: len, .. } in own {
            places.push(offset);
            let end = offset.checked_add(*len).filter(|end| *end <= bytes.len());
            offset = end.ok_or_else(|| {
                self.value_error(
                    *value,
                    format!("{} bytes of its own do not hold {dims:?} f32 too", bytes.len()),
                )
            })?;
        }
        let (ranges, rest) = bytes[offset..].as_chunks::<8>();
        if ranges.len() != self.elastic.ranged.len() || !rest.is_empty() {
            let have = bytes.len() - offset;
            let why = format!("{have} bytes of ranges for {} values, 8 each", self.elastic.ranged.len());
            return Err(self.error("its own blob".into(), why));
        }
        Ok((places, ranges))
    }

    /// What the subnet has of its own: the constants that it reads of those that are overlaid, in order, then ranges of values.
    fn overlay(&mut self, blob: BlobId, bytes: &[u8], cuts: &Cuts) -> Result<(), SubnetError> {
        let own = self.own(cuts)?;
        let (places, ranges) = self.laid_out(&own, bytes)?;
        for (Own { value, dims, .. }, place) in own.into_iter().zip(places) {
            self.own_constant(value, dims, blob, place as u64);
        }
        for (value, bytes) in self.elastic.ranged.iter().zip(ranges) {
            self.graph.values[*value as usize].range = range(bytes);
        }
        Ok(())
    }

    /// What others have of their own that the subnet was given.
    fn borrow(&mut self, chosen: &Chosen, cuts: &Cuts) -> Result<(), SubnetError> {
        for Own { index, value, dims, .. } in self.own(cuts)? {
            if let Some((blob, place)) = chosen.constants.get(index).copied().flatten() {
                self.own_constant(value, dims, blob, place);
            }
        }
        for (value, range) in self.elastic.ranged.iter().zip(&chosen.ranges) {
            self.graph.values[*value as usize].range = *range;
        }
        Ok(())
    }

    fn own_constant(&mut self, value: ValueId, dims: Vec<usize>, blob: BlobId, place: u64) {
        let data = ConstantData::Part(blob, place);
        let new = self.constant(Constant { dtype: DType::F32, dims, data });
        self.graph.values[value as usize].source = Source::Constant(new);
    }

    fn constant(&mut self, constant: Constant) -> u32 {
        self.new.constants.push(constant);
        (self.new.constant_count() - 1) as u32
    }

    fn cut(&mut self, cuts: &Cuts) -> Result<(), SubnetError> {
        let overlaid = self.header.constant_count();
        for value in 0..self.graph.values.len() as ValueId {
            match self.graph.values[value as usize].source {
                Source::Weight(tensor) => {
                    let (rows, channels) = (cuts.rows.get(&value), cuts.channels.get(&value));
                    if rows.is_some() || channels.is_some() {
                        let view = self.view(value, tensor, rows.copied(), channels.copied())?;
                        self.graph.values[value as usize].source = Source::Weight(view);
                    }
                }
                Source::Constant(id) if (id as usize) < overlaid => {
                    if let Some((axis, size)) = cuts.elements.get(&value) {
                        let constant = self.part(value, id, *axis, *size)?;
                        let new = self.constant(constant);
                        self.graph.values[value as usize].source = Source::Constant(new);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The tensor that shows the first rows, and the first channels of every tap, of another.
    fn view(
        &mut self,
        value: ValueId,
        tensor: u32,
        rows: Option<usize>,
        channels: Option<[usize; 2]>,
    ) -> Result<u32, SubnetError> {
        let Some(whole) = self.new.tensor(tensor) else {
            return Err(self.value_error(value, format!("tensor {tensor} is none of the pack's")));
        };
        let n = rows.unwrap_or(whole.n);
        let [all, c] = channels.unwrap_or([whole.k, whole.k]);
        if n == 0 || n > whole.n || c == 0 || c > all || !whole.k.is_multiple_of(all) {
            let why = format!("[{n}, {c} of {all} channels] is no part of [{}, {}]", whole.n, whole.k);
            return Err(self.value_error(value, why));
        }
        if n == whole.n && c == all {
            return Ok(tensor);
        }
        let taps = whole.k / all;
        let view = |root: usize| {
            let mut params = serde_json::Map::new();
            params.insert("taps".into(), json!(taps));
            params.insert("rows".into(), json!([0, n]));
            params.insert("channels".into(), json!([0, c]));
            Expr {
                kind: "view".into(),
                params,
                args: vec![Arg::Shared(tensor, root as u32)],
                blobs: Vec::new(),
            }
        };
        let name = format!("{} [0..{n}, 0..{c}]", whole.name);
        let roots = (0..whole.roots.len()).map(view).collect();
        // Of what is mixed, what the mixture shows.
        let shown = (tensor as usize).checked_sub(self.header.tensors.len());
        let shown = shown.map_or(tensor, |own| self.views[own]);
        Ok(self.tensor(Tensor { name, n, k: taps * c, roots }, shown))
    }

    /// Adds a tensor, of which a rung takes as much as of one of the whole.
    fn tensor(&mut self, tensor: Tensor, shown: u32) -> u32 {
        self.new.tensors.push(tensor);
        self.views.push(shown);
        (self.new.tensor_count() - 1) as u32
    }

    /// The first elements of a constant along an axis.
    fn part(&self, value: ValueId, id: u32, axis: usize, size: usize) -> Result<Constant, SubnetError> {
        let constant = &self.header.constants[id as usize];
        let whole = constant.dims.get(axis).copied();
        let leads = constant.dims.iter().take(axis).all(|d| *d == 1);
        if !leads || whole.is_none_or(|whole| size > whole) {
            let why = format!("{size} elements of axis {axis} are no first part of {:?}", constant.dims);
            return Err(self.value_error(value, why));
        }
        let mut dims = constant.dims.clone();
        dims[axis] = size;
        let data = match &constant.data {
            ConstantData::Blob(blob) => ConstantData::Part(*blob, 0),
            ConstantData::Part(blob, offset) => ConstantData::Part(*blob, *offset),
            ConstantData::Hex(digits) => {
                let bytes = dims.iter().product::<usize>() * constant.dtype.bytes();
                ConstantData::Hex(digits.chars().take(2 * bytes).collect())
            }
        };
        Ok(Constant { dtype: constant.dtype, dims, data })
    }

    fn finish(self) -> Result<Made, SubnetError> {
        let Making { name, graph, mut new, views, .. } = self;
        let whole = new.tensor_count() - views.len();
        new.graphs.push(graph);
        let used = check_graph(&new, 0);
        let used = used.map_err(|e| SubnetError::Graph { subnet: name, source: Box::new(e) })?;
        let mut shown = vec![None; new.tensor_count()];
        for tensor in used {
            let view = (tensor as usize).checked_sub(whole);
            shown[tensor as usize] = Some(view.map_or(tensor, |view| views[view]));
        }
        Ok(Made { header: new, shown })
    }
}

/// A view's parameters as JSON, and its operand: a few small maps and lists.
const VIEW_BYTES: usize = 2048;

/// Bytes of the heap that a subnet's header takes, an estimate from above.
pub(crate) fn heap_bytes(header: &Header) -> usize {
    let graph = &header.graphs[0];
    let values: usize = graph.values.iter().map(|v| size_of_val(v) + v.name.len() + 16).sum();
    let node = |n: &Node| {
        let operands = size_of_val(&n.inputs[..]) + size_of_val(&n.outputs[..]);
        size_of_val(n) + n.name.len() + operands + 128
    };
    let nodes: usize = graph.body.nodes.iter().map(node).sum();
    let digits = |c: &Constant| if let ConstantData::Hex(digits) = &c.data { digits.len() } else { 0 };
    let constant = |c: &Constant| size_of_val(c) + 8 * c.dims.len() + 32 + digits(c);
    let constants: usize = header.constants.iter().map(constant).sum();
    // A number of JSON, and the same for who multiplies.
    let coefficients = |t: &Tensor| {
        let coefs = t.roots.iter().filter_map(|root| root.params.get("coefs")?.as_array());
        coefs.flatten().map(|c| 40 * (1 + c.as_array().map_or(0, Vec::len))).sum::<usize>()
    };
    let tensors: usize = header.tensors.iter().map(|t| VIEW_BYTES + coefficients(t)).sum();
    // Vectors that grew may have room for as much again.
    2 * (values + nodes + constants + tensors)
}
