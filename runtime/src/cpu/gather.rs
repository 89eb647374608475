//! Steps that address elements by index.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::graph::{DType, ScatterReduction};
use crate::plan::{AxisShape, Matrix, Operand, Step, StepOp};
use edge_kernels::cpu::boxes::{self, Suppression};
use edge_kernels::cpu::elementwise::Number;
use edge_kernels::cpu::gather::{
    self as kernels, CumSum, ElementsShape, Extreme, NdShape, Scatter, Triangle,
};

/// Scratch bytes of a top-k over `n` elements.
pub(crate) fn top_k_scratch(n: usize) -> usize {
    n * 4
}

/// The boxes kept of each batch and class, one row after the other; behind them the first again (an index of what is there), or
/// zeros. Gives how many.
fn suppress(
    how: &Suppression,
    [batches, classes, count, _]: [usize; 4],
    boxes: &[f32],
    scores: &[f32],
    places: &mut [i64],
    scratch: &mut [u32],
) -> i64 {
    places.fill(0);
    let mut rows = places.as_chunks_mut::<3>().0.iter_mut();
    let mut kept = 0;
    for batch in 0..batches {
        let boxes = &boxes[batch * count * 4..][..count * 4];
        for class in 0..classes {
            let scores = &scores[(batch * classes + class) * count..][..count];
            kept += boxes::suppress(how, boxes, scores, scratch, |i| {
                if let Some(row) = rows.next() {
                    *row = [batch as i64, class as i64, i64::from(i)];
                }
            });
        }
    }
    if let Some((first, rest)) = places.as_chunks_mut::<3>().0.split_first_mut() {
        rest.iter_mut().skip(kept.max(1) - 1).for_each(|row| *row = *first);
    }
    kept as i64
}

fn axes(shape: AxisShape) -> [usize; 3] {
    [shape.outer, shape.n, shape.inner]
}

fn dims(operand: &Option<Operand>) -> &[usize] {
    operand.as_ref().map_or(&[], |o| &o.dims)
}

pub(super) fn run(ctx: &Context<'_>, step: &Step, mut views: Views<'_>) -> Result<(), String> {
    let first = views.inputs[0].unwrap_or_default();
    let second = views.inputs[1].unwrap_or_default();
    let scratch = std::mem::take(&mut views.scratch);
    let [out, out1, ..] = views.outputs;
    match &step.op {
        StepOp::Gather { shape } => {
            let indices = super::elements::<i64>(second);
            by_width(step.outputs[0].dtype, Gather { shape: axes(*shape), indices, x: first, y: out })
        }
        StepOp::GatherRows { row } => rows(ctx, step, first, *row, floats_mut(out)),
        StepOp::GatherElements { axis } => {
            let shape = ElementsShape::new(dims(&step.inputs[0]), dims(&step.inputs[1]), *axis);
            let shape = shape.map_err(|e| e.to_string())?;
            let indices = super::elements::<i64>(second);
            by_width(step.outputs[0].dtype, GatherElements { shape, indices, x: first, y: out })
        }
        StepOp::GatherNd { batch_dims } => {
            let (data, index) = (dims(&step.inputs[0]), dims(&step.inputs[1]));
            let shape = nd_shape(data, index, *batch_dims);
            let indices = super::elements::<i64>(second);
            by_width(step.outputs[0].dtype, GatherNd { shape, indices, x: first, y: out })
        }
        StepOp::ScatterElements { axis, reduction } => {
            let shape = ElementsShape::new(&step.outputs[0].dims, dims(&step.inputs[0]), *axis);
            let shape = shape.map_err(|e| e.to_string())?;
            let indices = super::elements::<i64>(first);
            let scatter = scatter(*reduction);
            by_number(
                step.outputs[0].dtype,
                ScatterElements { shape, scatter, indices, updates: second, y: out },
            )
        }
        StepOp::ScatterNd { reduction } => {
            let shape = nd_shape(&step.outputs[0].dims, dims(&step.inputs[0]), 0);
            let indices = super::elements::<i64>(first);
            let scatter = scatter(*reduction);
            by_number(step.outputs[0].dtype, ScatterNd { shape, scatter, indices, updates: second, y: out })
        }
        StepOp::TopK { shape, k, largest } => {
            let extreme = if *largest { Extreme::Largest } else { Extreme::Smallest };
            let scratch = &mut super::elements_mut::<u32>(scratch)[..shape.n];
            let places = super::elements_mut(out1);
            kernels::top_k(extreme, axes(*shape), *k, floats(first), floats_mut(out), places, scratch);
            Ok(())
        }
        StepOp::NonMaxSuppression { shape } => {
            let bound = |i: usize| views.inputs[i].and_then(|bytes| floats(bytes).first().copied());
            let how = Suppression { most: shape[3], overlap: bound(2).unwrap_or(0.0), score: bound(3) };
            let (places, scratch) = (super::elements_mut(out), super::elements_mut(scratch));
            let kept = suppress(&how, *shape, floats(first), floats(second), places, scratch);
            super::elements_mut::<i64>(out1).fill(kept);
            Ok(())
        }
        StepOp::CumSum { shape, exclusive, reverse } => {
            let how = CumSum { exclusive: *exclusive, reverse: *reverse };
            let shape = axes(*shape);
            match step.outputs[0].dtype {
                DType::F32 => kernels::cumsum(how, shape, floats(first), floats_mut(out)),
                DType::I32 => {
                    kernels::cumsum::<i32>(how, shape, super::elements(first), super::elements_mut(out))
                }
                _ => kernels::cumsum::<i64>(how, shape, super::elements(first), super::elements_mut(out)),
            }
            Ok(())
        }
        StepOp::OneHot { shape } => {
            let indices = super::elements::<i64>(first);
            by_width(step.outputs[0].dtype, OneHot { shape: axes(*shape), indices, values: second, y: out })
        }
        StepOp::Trilu { upper, k } => {
            out.copy_from_slice(first);
            let dims = &step.outputs[0].dims;
            let matrix = [dims[dims.len() - 2], dims[dims.len() - 1]];
            let triangle = if *upper { Triangle::Upper } else { Triangle::Lower };
            by_width(step.outputs[0].dtype, Trilu { triangle, k: *k, matrix, y: out })
        }
        other => Err(format!("{} is no index operation", other.name())),
    }
}

/// Rows of a stored table, decoded one by one.
fn rows(ctx: &Context<'_>, step: &Step, indices: &[u8], row: usize, out: &mut [f32]) -> Result<(), String> {
    let Some(Matrix::Tensor(tensor)) = step.weights.first() else { return Err("no table".into()) };
    let table = ctx.tensor(*tensor)?;
    let indices = super::elements::<i64>(indices);
    let n = table.n() as i64;
    for (position, (index, out)) in indices.iter().zip(out.chunks_exact_mut(row.max(1))).enumerate() {
        let at = if *index < 0 { index + n } else { *index };
        if !(0..n).contains(&at) {
            return Err(format!("index {index} at position {position} is outside a table of {n} rows"));
        }
        table.fill_row(at as usize, out);
    }
    Ok(())
}

fn nd_shape<'a>(data: &'a [usize], index: &[usize], batch_dims: usize) -> NdShape<'a> {
    let depth = index.last().copied().unwrap_or(0);
    NdShape {
        batch: data[..batch_dims].iter().product(),
        dims: &data[batch_dims..batch_dims + depth],
        inner: data[batch_dims + depth..].iter().product(),
        tuples: index[batch_dims..index.len() - 1].iter().product(),
    }
}

fn scatter(reduction: ScatterReduction) -> Scatter {
    match reduction {
        ScatterReduction::None => Scatter::Replace,
        ScatterReduction::Add => Scatter::Add,
        ScatterReduction::Mul => Scatter::Mul,
        ScatterReduction::Max => Scatter::Max,
        ScatterReduction::Min => Scatter::Min,
    }
}

/// An operation that only moves elements, so that a type stands for every type of its width.
trait ByWidth {
    fn run<T: bytemuck::Pod + Default>(self) -> Result<(), String>;
}

fn by_width(dtype: DType, op: impl ByWidth) -> Result<(), String> {
    match dtype.bytes() {
        1 => op.run::<u8>(),
        2 => op.run::<u16>(),
        4 => op.run::<u32>(),
        _ => op.run::<u64>(),
    }
}

/// An operation that may compute with elements.
trait ByNumber {
    fn run<T: bytemuck::Pod + Number>(self) -> Result<(), String>;
}

fn by_number(dtype: DType, op: impl ByNumber) -> Result<(), String> {
    match dtype {
        DType::F32 => op.run::<f32>(),
        DType::I8 => op.run::<i8>(),
        DType::U8 | DType::Bool => op.run::<u8>(),
        DType::I16 => op.run::<i16>(),
        DType::U16 => op.run::<u16>(),
        DType::I32 => op.run::<i32>(),
        DType::U32 => op.run::<u32>(),
        DType::I64 => op.run::<i64>(),
        DType::U64 => op.run::<u64>(),
        other => Err(format!("a scatter of {other} elements")),
    }
}

struct Gather<'a> {
    shape: [usize; 3],
    indices: &'a [i64],
    x: &'a [u8],
    y: &'a mut [u8],
}

impl ByWidth for Gather<'_> {
    fn run<T: bytemuck::Pod + Default>(self) -> Result<(), String> {
        let (x, y) = (super::elements::<T>(self.x), super::elements_mut(self.y));
        kernels::gather(self.shape, x, self.indices, y).map_err(|e| e.to_string())
    }
}

struct GatherElements<'a> {
    shape: ElementsShape,
    indices: &'a [i64],
    x: &'a [u8],
    y: &'a mut [u8],
}

impl ByWidth for GatherElements<'_> {
    fn run<T: bytemuck::Pod + Default>(self) -> Result<(), String> {
        let (x, y) = (super::elements::<T>(self.x), super::elements_mut(self.y));
        kernels::gather_elements(&self.shape, x, self.indices, y).map_err(|e| e.to_string())
    }
}

struct GatherNd<'a> {
    shape: NdShape<'a>,
    indices: &'a [i64],
    x: &'a [u8],
    y: &'a mut [u8],
}

impl ByWidth for GatherNd<'_> {
    fn run<T: bytemuck::Pod + Default>(self) -> Result<(), String> {
        let (x, y) = (super::elements::<T>(self.x), super::elements_mut(self.y));
        kernels::gather_nd(&self.shape, x, self.indices, y).map_err(|e| e.to_string())
    }
}

struct ScatterElements<'a> {
    shape: ElementsShape,
    scatter: Scatter,
    indices: &'a [i64],
    updates: &'a [u8],
    y: &'a mut [u8],
}

impl ByNumber for ScatterElements<'_> {
    fn run<T: bytemuck::Pod + Number>(self) -> Result<(), String> {
        let (updates, y) = (super::elements::<T>(self.updates), super::elements_mut(self.y));
        kernels::scatter_elements(&self.shape, self.scatter, y, self.indices, updates)
            .map_err(|e| e.to_string())
    }
}

struct ScatterNd<'a> {
    shape: NdShape<'a>,
    scatter: Scatter,
    indices: &'a [i64],
    updates: &'a [u8],
    y: &'a mut [u8],
}

impl ByNumber for ScatterNd<'_> {
    fn run<T: bytemuck::Pod + Number>(self) -> Result<(), String> {
        let (updates, y) = (super::elements::<T>(self.updates), super::elements_mut(self.y));
        kernels::scatter_nd(&self.shape, self.scatter, y, self.indices, updates).map_err(|e| e.to_string())
    }
}

struct OneHot<'a> {
    shape: [usize; 3],
    indices: &'a [i64],
    values: &'a [u8],
    y: &'a mut [u8],
}

impl ByWidth for OneHot<'_> {
    fn run<T: bytemuck::Pod + Default>(self) -> Result<(), String> {
        let [off, on] = *super::elements::<T>(self.values) else { return Err("two values expected".into()) };
        kernels::one_hot(self.shape, self.indices, [off, on], super::elements_mut(self.y));
        Ok(())
    }
}

struct Trilu<'a> {
    triangle: Triangle,
    k: i64,
    matrix: [usize; 2],
    y: &'a mut [u8],
}

impl ByWidth for Trilu<'_> {
    fn run<T: bytemuck::Pod + Default>(self) -> Result<(), String> {
        kernels::trilu(self.triangle, self.k, self.matrix, super::elements_mut::<T>(self.y));
        Ok(())
    }
}
