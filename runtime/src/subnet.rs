//! From an elastic graph and a choice to the graph of a subnet (`graph/elastic.rs`).
//!
//! Nothing is copied but descriptions: a narrower matrix is a `view` of the shared one, a shorter constant a part of its blob, or of
//! the rung's overlay. What comes out is a pack's header with one graph and one rung, checked like any other, so that neither
//! planner nor session knows that there was a choice.

use crate::graph::{Change, DType, Elastic, Graph, Node, Op, Source, ValueId};
use crate::pack::{Arg, BlobId, Card, Constant, ConstantData, Expr, Header, Rung, Tensor};
use crate::pack::{check_graph, constants_end};
use serde_json::json;
use std::collections::HashMap;

/// A subnet that cannot be made of its choice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum SubnetError {
    #[error("subnet {subnet}: {place}: {why}")]
    Effect { subnet: u32, place: String, why: String },
    #[error("subnet {subnet} is no sound graph")]
    Graph { subnet: u32, source: Box<crate::pack::PackError> },
    #[error("rung `{rung}` takes nothing of tensor `{tensor}`, which its subnet uses")]
    Take { rung: String, tensor: String },
    #[error("rung `{rung}` ends at byte {end}, a constant of its subnet at {constant}")]
    End { rung: String, end: u64, constant: u64 },
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
    for (shown, tensor) in shown.iter().zip(&header.tensors) {
        let take = shown.map(|whole| rung.takes.get(whole as usize).copied().flatten());
        if take == Some(None) {
            return Err(SubnetError::Take { rung: rung.id.clone(), tensor: tensor.name.clone() });
        }
        takes.push(take.flatten());
    }
    Ok(Rung { graph: 0, subnet: None, takes, ..rung.clone() })
}

/// What values lose, by value.
#[derive(Default)]
struct Cuts {
    rows: HashMap<ValueId, usize>,
    /// Channels of the whole, and of what is kept.
    channels: HashMap<ValueId, [usize; 2]>,
    elements: HashMap<ValueId, (usize, usize)>,
}

/// Makes subnet `index`. `overlay` is what lies in its own blob.
///
/// # Errors
/// When an effect does not suit the graph, or the result is no sound graph: the author of a pack may write anything.
///
/// # Panics
/// When the pack has no such subnet.
pub fn make(header: &Header, index: u32, overlay: &[u8]) -> Result<Made, SubnetError> {
    let subnet = &header.subnets[index as usize];
    let elastic_graph = &header.graphs[subnet.graph as usize];
    let none = Elastic::default();
    let elastic = elastic_graph.elastic.as_deref().unwrap_or(&none);
    let graph = Graph { elastic: None, ..elastic_graph.clone() };
    let mut making = Making { header, index, graph, new: copied(header), views: Vec::new() };
    let mut cuts = Cuts::default();
    let mut bypassed: HashMap<ValueId, ValueId> = HashMap::new();
    for effect in &elastic.effects {
        let option = subnet.choice.option(effect.variable as usize);
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
                set(node, pointer, &values[option]).map_err(|why| SubnetError::Effect {
                    subnet: index,
                    place,
                    why,
                })?;
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
    if let Some(blob) = subnet.overlay {
        making.overlay(elastic, blob, overlay, &cuts)?;
    }
    making.cut(&cuts)?;
    making.finish()
}

/// What a subnet's header has of the whole: everything that its own ids refer to.
fn copied(header: &Header) -> Header {
    Header {
        card: Card { name: header.card.name.clone(), ..Card::default() },
        constants: header.constants.clone(),
        tensors: header.tensors.clone(),
        blobs: header.blobs.clone(),
        ..Header::default()
    }
}

/// Sets what stands at a JSON pointer of an operation.
fn set(node: &mut Node, pointer: &str, value: &serde_json::Value) -> Result<(), String> {
    let mut op = serde_json::to_value(&node.op).map_err(|e| e.to_string())?;
    let place =
        op.pointer_mut(pointer).ok_or_else(|| format!("its operation has no attribute `{pointer}`"))?;
    *place = value.clone();
    node.op = serde_json::from_value(op).map_err(|e| format!("`{pointer}` = {value}: {e}"))?;
    Ok(())
}

struct Making<'a> {
    header: &'a Header,
    index: u32,
    graph: Graph,
    new: Header,
    /// The tensor that each new one shows.
    views: Vec<u32>,
}

impl Making<'_> {
    fn error(&self, place: String, why: impl Into<String>) -> SubnetError {
        SubnetError::Effect { subnet: self.index, place, why: why.into() }
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
        let mut kept = keep.iter();
        graph.body.nodes.retain(|_| kept.next() == Some(&true));
        // The branches of an `if` read what they like; an elastic graph has none that are cut.
        let branches = |node: &Node| matches!(node.op, Op::If { .. });
        if graph.body.nodes.iter().any(branches) {
            return;
        }
        for (value, read) in graph.values.iter_mut().zip(read) {
            if !read {
                value.source = Source::Computed;
            }
        }
    }

    /// What the subnet has of its own: the constants that it reads of those that are overlaid, in order, then ranges of values.
    fn overlay(
        &mut self,
        elastic: &Elastic,
        blob: BlobId,
        bytes: &[u8],
        cuts: &Cuts,
    ) -> Result<(), SubnetError> {
        let mut offset = 0usize;
        for &value in &elastic.overlaid {
            let Source::Constant(id) = self.graph.values[value as usize].source else { continue };
            let constant = &self.new.constants[id as usize];
            let mut dims = constant.dims.clone();
            if let Some((axis, size)) = cuts.elements.get(&value)
                && let Some(dim) = dims.get_mut(*axis)
            {
                *dim = *size;
            }
            let len = dims.iter().try_fold(4usize, |n, d| n.checked_mul(*d));
            let end = len.and_then(|len| offset.checked_add(len)).filter(|end| *end <= bytes.len());
            let (Some(end), DType::F32) = (end, constant.dtype) else {
                let why =
                    format!("{} bytes of its own do not hold {dims:?} {} too", bytes.len(), constant.dtype);
                return Err(self.value_error(value, why));
            };
            let data = ConstantData::Part(blob, offset as u64);
            let new = self.constant(Constant { dtype: DType::F32, dims, data });
            self.graph.values[value as usize].source = Source::Constant(new);
            offset = end;
        }
        let (ranges, rest) = bytes[offset..].as_chunks::<8>();
        if ranges.len() != elastic.ranged.len() || !rest.is_empty() {
            let have = bytes.len() - offset;
            let why = format!("{have} bytes of ranges for {} values, 8 each", elastic.ranged.len());
            return Err(self.error("its own blob".into(), why));
        }
        for (value, [a, b, c, d, e, f, g, h]) in elastic.ranged.iter().zip(ranges) {
            let range = (f32::from_le_bytes([*a, *b, *c, *d]), f32::from_le_bytes([*e, *f, *g, *h]));
            // What is no number, or no order, is no range.
            let sound = range.0.is_finite() && range.1.is_finite() && range.0 <= range.1;
            self.graph.values[*value as usize].range = sound.then_some(range);
        }
        Ok(())
    }

    fn constant(&mut self, constant: Constant) -> u32 {
        self.new.constants.push(constant);
        (self.new.constants.len() - 1) as u32
    }

    fn cut(&mut self, cuts: &Cuts) -> Result<(), SubnetError> {
        let overlaid = self.header.constants.len();
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
        let whole = &self.header.tensors[tensor as usize];
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
        self.new.tensors.push(Tensor { name, n, k: taps * c, roots });
        self.views.push(tensor);
        Ok((self.new.tensors.len() - 1) as u32)
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
        let Making { index, graph, mut new, views, .. } = self;
        let whole = new.tensors.len() - views.len();
        new.graphs.push(graph);
        let used = check_graph(&new, 0);
        let used = used.map_err(|e| SubnetError::Graph { subnet: index, source: Box::new(e) })?;
        let mut shown = vec![None; new.tensors.len()];
        for tensor in used {
            let view = (tensor as usize).checked_sub(whole);
            shown[tensor as usize] = Some(view.map_or(tensor, |view| views[view]));
        }
        Ok(Made { header: new, shown })
    }
}
