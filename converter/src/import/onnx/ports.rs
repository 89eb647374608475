//! Inputs and outputs of the graph: declared types, and names for sizes that have none.

use super::ctx::{Binding, Ctx, Frame};
use super::guard;
use super::node::NodeView;
use super::proto::{GraphProto, NodeProto, TensorTypeProto, ValueInfoProto};
use super::ranks::{Extent, Fact, product};
use super::tensors;
use super::wide;
use crate::import::{ImportError, plan_time};
use edge_runtime::graph::{BinaryOp, DType, Dim, Filled, Op, Port, Source, ValueId};
use std::collections::HashSet;

/// Names for dimensions, none given twice.
pub struct Names {
    taken: HashSet<String>,
    next: usize,
}

impl Names {
    /// Knows every name that the graph's inputs and outputs use.
    pub fn of(graph: &GraphProto) -> Names {
        let declared = graph.input.iter().chain(&graph.output).filter_map(declared);
        let dims = declared.filter_map(|t| t.shape.as_ref()).flat_map(|s| &s.dim);
        Names { taken: dims.filter_map(|d| d.dim_param.clone()).collect(), next: 0 }
    }

    /// A dimension that is equal to no other.
    fn fresh(&mut self) -> Dim {
        loop {
            let name = format!("?{}", self.next);
            self.next += 1;
            if self.taken.insert(name.clone()) {
                return Dim::Named(name);
            }
        }
    }
}

fn declared(info: &ValueInfoProto) -> Option<&TensorTypeProto> {
    info.r#type.as_ref()?.tensor_type.as_ref()
}

/// Whether a dimension's name is one: others say only that the size is not known.
pub fn is_name(name: &str) -> bool {
    !matches!(name, "" | "?" | "-1" | "None" | "unk")
}

/// The declared shape. A size of 0 or less means "any": exporters write it so, and nobody computes with empty inputs.
fn dims(ty: &TensorTypeProto, names: &mut Names) -> Option<Vec<Dim>> {
    let shape = ty.shape.as_ref()?;
    let one = |dim: &super::proto::DimensionProto| match (dim.dim_value, dim.dim_param.as_deref()) {
        (Some(size), _) if size > 0 => usize::try_from(size).map_or_else(|_| names.fresh(), Dim::Fixed),
        (_, Some(name)) if is_name(name) => Dim::Named(name.to_owned()),
        _ => names.fresh(),
    };
    Some(shape.dim.iter().map(one).collect())
}

impl<'m> Ctx<'m> {
    /// Binds the graph's inputs. One that is stored as well is a constant (the rule before IR 4, and its use after).
    /// Floats of 16 bits are widened here.
    pub fn graph_inputs(
        &mut self,
        graph: &'m GraphProto,
        names: &mut Names,
        copy: &'m NodeProto,
    ) -> Result<(), ImportError> {
        let stored: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        for info in &graph.input {
            if self.find(&info.name).is_some() && stored.contains(info.name.as_str()) {
                continue;
            }
            let bad = |reason: String| ImportError::Port { kind: "input", name: info.name.clone(), reason };
            let found = match declared(info) {
                None if info.r#type.is_none() => return Err(bad("without a type".into())),
                None => Err("sequences, maps and optionals are not implemented".to_owned()),
                Some(ty) => match tensors::dtype(ty.elem_type) {
                    Ok(dtype) => Ok((ty, dtype)),
                    Err(name) => Err(format!("element type {name} is not implemented")),
                },
            };
            let (ty, dtype) = match found {
                Ok(found) => found,
                Err(reason) => {
                    guard::refuse_port(self, "graph input", &info.name, reason);
                    let value = self.value(&info.name, Fact { tainted: true, ..Fact::default() });
                    self.bind(&info.name, Binding::Value(value), "graph inputs")?;
                    continue;
                }
            };
            let dims = dims(ty, names);
            // The product must fit too: plans multiply it.
            let fixed =
                dims.iter().flatten().filter_map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None });
            if fixed
                .into_iter()
                .try_fold(1usize, usize::checked_mul)
                .is_none_or(|p| p > isize::MAX as usize / 8)
            {
                return Err(bad("its shape is beyond the address space".into()));
            }
            let known = dims.as_ref().map(|dims| {
                let size = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n) } else { None };
                dims.iter().map(size).collect()
            });
            let four_bits = tensors::four_bits(ty.elem_type);
            let value = self.value(&info.name, Fact { four_bits, ..Fact::new(Some(dtype), known) });
            let port = Port { value, dtype, dims, plan_time: false };
            if !plan_time::is_small(&port) {
                self.note_input_of_a_run(value);
            }
            self.model.graph.inputs.push(port);
            let wide = match wide::is_narrow(dtype) {
                true => self.emit(&named(copy, &info.name), Op::Cast { to: DType::F32 }, &[Some(value)]),
                false => value,
            };
            self.bind(&info.name, Binding::Value(wide), "graph inputs")?;
        }
        Ok(())
    }

    /// Fills the graph's outputs. Each is computed by a node and bears the output's name.
    pub fn graph_outputs(
        &mut self,
        graph: &'m GraphProto,
        names: &mut Names,
        copy: &'m NodeProto,
    ) -> Result<(), ImportError> {
        let computed: HashSet<ValueId> =
            self.blocks.iter().flat_map(|b| &b.nodes).flat_map(|n| &n.outputs).flatten().copied().collect();
        let mut seen = HashSet::new();
        let mut parts = Vec::new();
        for info in &graph.output {
            let missing =
                || ImportError::MissingValue { node: "graph outputs".into(), value: info.name.clone() };
            let binding = self.find(&info.name).ok_or_else(missing)?;
            let mut value = self.value_of(binding)?.ok_or_else(missing)?;
            let ty = declared(info);
            let told = ty.and_then(|t| tensors::dtype(t.elem_type).ok());
            let wide = matches!(self.fact(value).dtype, None | Some(DType::F32));
            let narrow = told.filter(|to| wide && wide::is_narrow(*to));
            if let Some(to) = narrow {
                value = self.narrowed(&named(copy, &info.name), value, to);
            }
            // What is narrowed is new, unless it is known.
            let new = narrow.is_some() && self.model.constant(value).is_none();
            if !new && (!computed.contains(&value) || !seen.insert(value)) {
                value = self.emit(&named(copy, &info.name), Op::Identity, &[Some(value)]);
            }
            self.rename(value, &info.name);
            let fact = self.fact(value).clone();
            let bad = |reason: &str| ImportError::Port {
                kind: "output",
                name: info.name.clone(),
                reason: reason.into(),
            };
            let part = match fact.extent {
                Extent::Part { axis, count } => {
                    let name = info.name.clone();
                    if axis > 0 && fact.size(0) != Some(1) {
                        let Some(joined) = self.joined(copy, &name, value, axis, count) else {
                            let reason =
                                "a size that depends on the data, before sizes that are not known".into();
                            guard::refuse_port(self, "graph output", &name, reason);
                            continue;
                        };
                        value = joined;
                        self.rename(value, &name);
                    }
                    Some((axis, count))
                }
                _ => None,
            };
            let dtype = match fact.dtype.or(told) {
                Some(dtype) => dtype,
                None if fact.tainted => DType::F32,
                None => return Err(bad("its element type is neither declared nor inferred")),
            };
            let told = ty.and_then(|t| dims(t, names));
            let mut dims = merge(&fact, told, names);
            if let Some((axis, count)) = part {
                // The planned size is no promise.
                if let Some(dim) = dims.as_mut().and_then(|d| d.get_mut(axis)) {
                    *dim = names.fresh();
                }
                parts.push((self.model.graph.outputs.len(), axis, count, info.name.as_str()));
            }
            self.model.graph.outputs.push(Port { value, dtype, dims, plan_time: false });
        }
        self.counts(&parts, copy);
        Ok(())
    }

    /// Adds the outputs that tell how much of others is filled, each count once.
    fn counts(&mut self, parts: &[(usize, usize, ValueId, &str)], copy: &'m NodeProto) {
        let mut ports: Vec<(ValueId, usize)> = Vec::new();
        for &(output, axis, count, name) in parts {
            let known = ports.iter().find(|(id, _)| *id == count).map(|(_, port)| *port);
            let port = known.unwrap_or_else(|| {
                let node = named(copy, &format!("{name}/count"));
                let value = self.emit(&node, Op::Identity, &[Some(count)]);
                self.rename(value, &node.name);
                let dims = Some(Vec::new());
                self.model.graph.outputs.push(Port { value, dtype: DType::I64, dims, plan_time: false });
                ports.push((count, self.model.graph.outputs.len() - 1));
                self.model.graph.outputs.len() - 1
            });
            self.model.graph.filled.push(Filled { output, axis, count: port });
        }
    }

    /// `x` with the filled entries of `axis` one after the other, for those of the axes before it as well. `None` when the sizes
    /// behind the axis are not known.
    fn joined(
        &mut self,
        copy: &'m NodeProto,
        name: &str,
        x: ValueId,
        axis: usize,
        count: ValueId,
    ) -> Option<ValueId> {
        let fact = self.fact(x).clone();
        let inner = product(fact.dims.as_ref()?[axis + 1..].iter().copied())?;
        let node = named(copy, name);
        let mut f = self.formula(&node);
        let (one, inner) = (f.integer(1), f.integer(inner as i64));
        let planned = f.size(x, axis);
        let planned = f.mul(planned, inner);
        let flat = f.reshape(x, &[-1]);
        let size = f.size(flat, 0);
        // Element k of the result is element k % filled of row k / filled.
        let filled = f.max(count, one);
        let filled = f.mul(filled, inner);
        let k = f.count_up(size);
        let row = f.div(k, filled);
        let row = f.mul(row, planned);
        let within = f.binary(BinaryOp::Mod, k, filled);
        let place = f.add(row, within);
        let last = f.sub(size, one);
        let place = f.min(place, last);
        let y = f.op(Op::Gather { axis: 0 }, &[flat, place]);
        let shape = f.shape(x, 0, None);
        Some(f.op(Op::Reshape { allow_zero: true }, &[y, shape]))
    }

    /// Gives a value its public name; whatever bears it already gets another.
    fn rename(&mut self, value: ValueId, name: &str) {
        if self.model.graph.values[value as usize].name == name {
            return;
        }
        let holder = self.model.graph.values.iter().position(|v| v.name == name);
        if let Some(holder) = holder.filter(|h| *h != value as usize) {
            // An input keeps its name too: inputs and outputs are looked up apart.
            if !self.model.graph.inputs.iter().any(|p| p.value as usize == holder) {
                let other = std::mem::take(&mut self.model.graph.values[value as usize].name);
                self.model.graph.values[holder].name = other;
            }
        }
        debug_assert!(matches!(self.model.graph.values[value as usize].source, Source::Computed));
        self.model.graph.values[value as usize].name = name.to_owned();
    }
}

/// A node of the importer's own.
fn named<'m>(copy: &'m NodeProto, name: &str) -> NodeView<'m> {
    let frame = Frame::default();
    let mut node = NodeView::new(copy, 1, &frame.prefix, &frame.call);
    node.name = name.to_owned();
    node
}

/// Inferred sizes, with declared names where nothing is inferred.
fn merge(fact: &Fact, told: Option<Vec<Dim>>, names: &mut Names) -> Option<Vec<Dim>> {
    let Some(known) = &fact.dims else { return told };
    let told = told.filter(|t| t.len() == known.len());
    let one = |(i, size): (usize, &Option<usize>)| match (size, told.as_ref().map(|t| &t[i])) {
        (Some(size), _) => Dim::Fixed(*size),
        (None, Some(Dim::Named(name))) => Dim::Named(name.clone()),
        // A declared number that inference cannot confirm is a hint and may be wrong.
        (None, _) => names.fresh(),
    };
    Some(known.iter().enumerate().map(one).collect())
}
