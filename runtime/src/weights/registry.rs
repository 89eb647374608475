//! From an expression in the header to a bound weight.
//!
//! Each kind has one constructor. It checks parameters, operands and blob lengths, so that afterwards no method of
//! the weight can panic or read out of bounds on any bytes. Outside this module nobody asks for a kind by name.

use super::node::Node;
use super::source::Absent;
use super::window::Window;
use super::{WeightError, Weights, combine, corrected, dense, planes, row_codes, sparse, tiles, view};
use crate::pack::BlobSource;
use crate::pack::{Arg, BlobId, Expr, Header, Take};
use edge_kernels::Isa;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Expressions inside expressions.
const MAX_DEPTH: usize = 16;

/// Nodes, leaves, operands and list elements of one bound expression, shared ones counted at each use. Bounds time
/// and memory of binding: without it, 16 levels that share one another double at each.
const MAX_PARTS: usize = 1 << 20;

/// Builds a weight of one kind from its node.
pub type Construct = fn(&mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError>;

/// Builds the part of a weight that lies inside a window, from the operands that the part needs.
pub(super) type ConstructWindow = fn(&mut Node<'_, '_>, &Window) -> Result<Box<dyn Weights>, WeightError>;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Whole(Construct),
    Windowed(ConstructWindow),
}

/// The kinds of weight expressions, by name.
#[derive(Clone)]
pub struct Registry {
    kinds: BTreeMap<String, Kind>,
    isa: Isa,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::standard()
    }
}

impl Registry {
    /// Every kind that `runtime/PACK.md` specifies, decoded by the best kernels of this CPU.
    pub fn standard() -> Registry {
        Registry::for_isa(Isa::detect())
    }

    /// Every kind that `runtime/PACK.md` specifies, decoded by kernels at or below `isa`.
    pub fn for_isa(isa: Isa) -> Registry {
        let mut registry = Registry { kinds: BTreeMap::new(), isa };
        registry.add("dense", dense::construct);
        registry.add("planes", planes::construct);
        registry.add("row_codes", row_codes::construct);
        registry.add("corrected", corrected::construct);
        registry.add("sparse", sparse::construct);
        let windowed: [(&str, ConstructWindow); 3] =
            [("tiles", tiles::construct), ("view", view::construct), ("combine", combine::construct)];
        for (kind, construct) in windowed {
            registry.kinds.insert(kind.into(), Kind::Windowed(construct));
        }
        registry
    }

    /// Adds a kind, or replaces it.
    pub fn add(&mut self, kind: impl Into<String>, construct: Construct) {
        self.kinds.insert(kind.into(), Kind::Whole(construct));
    }

    /// Whether every expression of a pack is of a kind that is here.
    pub(crate) fn knows_all(&self, header: &Header) -> bool {
        fn knows(registry: &Registry, expr: &Expr) -> bool {
            let operand = |arg: &Arg| match arg {
                Arg::Expr(expr) => knows(registry, expr),
                Arg::Shared(..) => true,
            };
            registry.kinds.contains_key(&expr.kind) && expr.args.iter().all(operand)
        }
        header.tensors.iter().flat_map(|tensor| &tensor.roots).all(|root| knows(self, root))
    }

    /// The highest level of kernels that weights may use.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

/// Binds the part `take` of a tensor to the bytes of `source`.
///
/// The weight holds the source, so it has no lifetime; it holds no copy of any blob.
///
/// # Errors
/// When the expression breaks a rule of `runtime/PACK.md`, or a blob that it needs is not in `source`.
pub fn bind(
    registry: &Registry,
    header: &Header,
    tensor: usize,
    take: Take,
    source: &Arc<dyn BlobSource>,
) -> Result<Box<dyn Weights>, WeightError> {
    Binding::new(registry, header, Some(source)).tensor(tensor, take)
}

/// As [`bind`], for readers of reals alone: codes are not asked for, so what is there for their sake is left out.
///
/// # Errors
/// As [`bind`].
pub fn bind_reals(
    registry: &Registry,
    header: &Header,
    tensor: usize,
    take: Take,
    source: &Arc<dyn BlobSource>,
) -> Result<Box<dyn Weights>, WeightError> {
    let binding = Binding::new(registry, header, Some(source));
    Binding { reals: true, ..binding }.tensor(tensor, take)
}

/// The blobs that the part `take` of a tensor reads, shared operands' included, in the order of first use.
///
/// # Errors
/// When the expression breaks a rule of `runtime/PACK.md`.
pub fn needed_blobs(
    registry: &Registry,
    header: &Header,
    tensor: usize,
    take: Take,
) -> Result<Vec<BlobId>, WeightError> {
    let mut binding = Binding::new(registry, header, None);
    binding.tensor(tensor, take)?;
    Ok(binding.blobs)
}

/// What the nodes of one expression share while they are bound.
pub(super) struct Binding<'a> {
    pub(super) registry: &'a Registry,
    pub(super) header: &'a Header,
    pub(super) source: Arc<dyn BlobSource>,
    /// Whether blobs must be there, not only listed.
    pub(super) present: bool,
    /// Whether nobody will ask for integer codes.
    pub(super) reals: bool,
    /// Blobs in use, in the order of first use.
    blobs: Vec<BlobId>,
    seen: BTreeSet<BlobId>,
    parts: usize,
}

/// An expression with its place: whose, how deep, which shape.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) expr: &'a Expr,
    pub(super) tensor: u32,
    pub(super) depth: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

impl<'a> Binding<'a> {
    fn new(registry: &'a Registry, header: &'a Header, source: Option<&Arc<dyn BlobSource>>) -> Binding<'a> {
        let present = source.is_some();
        let source = source.map_or_else(|| Arc::new(Absent) as Arc<dyn BlobSource>, Arc::clone);
        let (blobs, seen) = (Vec::new(), BTreeSet::new());
        Binding { registry, header, source, present, reals: false, blobs, seen, parts: 0 }
    }

    fn tensor(&mut self, tensor: usize, take: Take) -> Result<Box<dyn Weights>, WeightError> {
        let count = self.header.tensor_count();
        let index = u32::try_from(tensor).map_err(|_| WeightError::NoTensor { tensor, count })?;
        let place = self.root(index, take.0, 0)?;
        self.whole(place, take.1)
    }

    /// A root of a tensor.
    fn root(&self, index: u32, root: u32, depth: usize) -> Result<Place<'a>, WeightError> {
        let header = self.header;
        let count = header.tensor_count();
        let tensor = header.tensor(index).ok_or(WeightError::NoTensor { tensor: index as usize, count })?;
        let expr = tensor.roots.get(root as usize).ok_or_else(|| WeightError::NoRoot {
            tensor: tensor.name.clone(),
            root,
            count: tensor.roots.len(),
        })?;
        Ok(Place { expr, tensor: index, depth, n: tensor.n, k: tensor.k })
    }

    /// The operand `arg` of the expression at `outer`. `shape` is what the outer expression says about it.
    pub(super) fn operand(
        &self,
        outer: &Place<'a>,
        arg: &'a Arg,
        shape: Option<(usize, usize)>,
    ) -> Result<Place<'a>, WeightError> {
        let depth = outer.depth + 1;
        if depth >= MAX_DEPTH {
            return Err(WeightError::Depth { tensor: self.name(outer.tensor), limit: MAX_DEPTH });
        }
        let shape_error = |value: String, expected: String| WeightError::Shape {
            tensor: self.name(outer.tensor),
            kind: outer.expr.kind.clone(),
            what: "an operand of shape",
            value,
            expected,
        };
        match arg {
            Arg::Expr(expr) => {
                let (n, k) = shape.ok_or_else(|| shape_error("none".into(), "`of`: [n, channels]".into()))?;
                Ok(Place { expr, tensor: outer.tensor, depth, n, k })
            }
            Arg::Shared(tensor, root) => {
                if *tensor >= outer.tensor {
                    return Err(WeightError::SharedOrder {
                        tensor: self.name(outer.tensor),
                        index: outer.tensor,
                        shared: *tensor,
                    });
                }
                let place = self.root(*tensor, *root, depth)?;
                match shape {
                    Some((n, k)) if (n, k) != (place.n, place.k) => {
                        Err(shape_error(format!("[{}, {}]", place.n, place.k), format!("[{n}, {k}]")))
                    }
                    _ => Ok(place),
                }
            }
        }
    }

    /// Binds all of an expression.
    pub(super) fn whole(&mut self, place: Place<'a>, take: u32) -> Result<Box<dyn Weights>, WeightError> {
        let kind = self.kind(&place)?;
        let window = Window::whole(place.n, place.k);
        let mut node = Node::new(self, place, take)?;
        match kind {
            Kind::Whole(construct) => construct(&mut node),
            Kind::Windowed(construct) => construct(&mut node, &window),
        }
    }

    /// The constructor of an expression.
    pub(super) fn kind(&self, place: &Place<'a>) -> Result<Kind, WeightError> {
        self.registry.kinds.get(&place.expr.kind).copied().ok_or_else(|| WeightError::Kind {
            tensor: self.name(place.tensor),
            kind: place.expr.kind.clone(),
            known: self.registry.kinds.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Notes that the expression reads a blob.
    pub(super) fn uses(&mut self, blob: BlobId) {
        if self.seen.insert(blob) {
            self.blobs.push(blob);
        }
    }

    /// Counts parts against the limit.
    pub(super) fn charge(&mut self, tensor: u32, parts: usize) -> Result<(), WeightError> {
        self.parts = self.parts.saturating_add(parts);
        match self.parts {
            ..=MAX_PARTS => Ok(()),
            _ => Err(WeightError::Parts { tensor: self.name(tensor), limit: MAX_PARTS }),
        }
    }

    /// Name of a tensor, for errors.
    pub(super) fn name(&self, tensor: u32) -> String {
        self.header.tensor(tensor).map_or_else(|| format!("#{tensor}"), |t| t.name.clone())
    }
}
