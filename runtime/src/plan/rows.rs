//! Steps row by row: which rows of its operands a step needs for some rows of its result, and the step that makes just those.

use super::step::{ConvGeometry, Step, StepOp};
use super::{Buffer, BufferKind, Operand};
use edge_kernels::cpu::elementwise::Broadcast;
use edge_kernels::cpu::movement::Side;
use edge_kernels::cpu::reduce::PartialSums;
use edge_kernels::cpu::resize::AxisTable;
use std::ops::Range;

/// The axis of a picture's rows: `[1, height, ...]`.
const AXIS: usize = 1;

/// What a step makes of some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Makes {
    /// Rows of its result.
    Rows,
    /// A part of its sums, which are there when all rows are in.
    Sums,
    /// Elements all over its result.
    Elements,
}

/// A step whose result is a picture `[1, height, ...]`, or made of one.
#[derive(Clone, Debug)]
pub(super) struct ByRows {
    /// Rows of the result; of the operand, where rows of that make no rows of the result.
    pub height: usize,
    /// Rows at multiples of which a part may begin.
    pub align: usize,
    /// The operands that are read by rows, with their heights. Others are read whole.
    pub inputs: Vec<Option<usize>>,
    /// What becomes of a band.
    pub makes: Makes,
    /// For a picture stretched along its height, the operand's rows that each row of the result is made of.
    spans: Vec<Range<usize>>,
}

impl ByRows {
    /// `None` for a step that must make its result at once.
    pub fn of(step: &Step, buffers: &[Buffer]) -> Option<ByRows> {
        let [result] = &step.outputs[..] else { return None };
        let makes = match &step.op {
            StepOp::Reduce { .. } => Makes::Sums,
            StepOp::Copy { .. } if scatters(step).is_some() => Makes::Elements,
            _ => Makes::Rows,
        };
        let dims = match makes {
            Makes::Rows => &result.dims,
            Makes::Sums | Makes::Elements => &step.inputs.first()?.as_ref()?.dims,
        };
        let (1, height @ 1..) = (*dims.first()?, *dims.get(AXIS)?) else { return None };
        let mut by =
            ByRows { height, align: 1, inputs: vec![None; step.inputs.len()], makes, spans: Vec::new() };
        match makes {
            Makes::Rows => _ = row_bytes(result, height)?,
            Makes::Sums | Makes::Elements => by.inputs[0] = Some(height),
        }
        match &step.op {
            StepOp::Conv { geometry: g, .. }
            | StepOp::Depthwise { geometry: g, .. }
            | StepOp::Winograd { geometry: g, .. } => {
                by.window(step, g)?;
                by.align =
                    if matches!(step.op, StepOp::Winograd { .. }) { crate::cpu::winograd::ROWS } else { 1 };
            }
            StepOp::Pool { geometry, .. } => by.window(step, geometry)?,
            StepOp::ConvTranspose { geometry: g, .. } => {
                by.window(step, g)?;
                by.align = g.stride[0].max(1);
            }
            StepOp::Gemm { m, .. } => {
                if !m.is_multiple_of(height) {
                    return None;
                }
                by.alike(step, 0, dims)?;
                by.residual(step)?;
            }
            StepOp::Unary(_)
            | StepOp::Table(_)
            | StepOp::Quantize(_)
            | StepOp::QuantizeByDivision(_)
            | StepOp::Dequantize(_)
            | StepOp::Cast => {
                by.same(step, 0, dims)?;
            }
            StepOp::Binary { .. } | StepOp::Where { .. } => {
                (0..step.inputs.len()).try_for_each(|i| by.broadcast(step, i, dims))?
            }
            StepOp::ResizeAxis { shape, spec, .. } => {
                let x = step.inputs.first()?.as_ref()?;
                if shape.outer == 1 && x.dims.get(AXIS) == Some(&shape.n) && spec.output == height {
                    by.inputs[0] = Some(shape.n);
                    let (indices, weights) = table_of(step, buffers)?;
                    let table = AxisTable::new(spec, &indices, &weights);
                    by.spans = (0..height).map(|r| table.span(r..r + 1)).collect();
                } else if shape.outer.is_multiple_of(height) {
                    by.alike(step, 0, dims)?;
                } else {
                    return None;
                }
            }
            StepOp::Copy { .. } if makes == Makes::Elements => {}
            StepOp::Copy { plan } => {
                let (_, pitch) = plan.first_rows(Side::Destination, row_bytes(result, height)?, height, 1)?;
                let x = step.inputs.first()?.as_ref()?;
                let rows = x.dims.first() == Some(&1) && x.dims.get(AXIS) == Some(&height);
                if rows
                    && x.pitch.is_none()
                    && row_bytes(x, height).is_some_and(|row| isize::try_from(row) == Ok(pitch))
                {
                    by.inputs[0] = Some(height);
                }
            }
            StepOp::Reduce { kind, shape } => {
                let columns = *dims.last()?;
                let sums = matches!(kind, crate::graph::ReduceOp::Sum | crate::graph::ReduceOp::Mean);
                let all_rows =
                    shape.len() == columns && result.elements() == columns && dims.len() > AXIS + 1;
                if !sums || !all_rows || columns < 2 || result.dtype != crate::graph::DType::F32 {
                    return None;
                }
            }
            _ => return None,
        }
        Some(by)
    }

    fn window(&mut self, step: &Step, g: &ConvGeometry) -> Option<()> {
        let x = step.inputs.first()?.as_ref()?;
        let [1, height, width, _] = x.dims[..] else { return None };
        let [_, _, out_width, _] = step.outputs[0].dims[..] else { return None };
        // A convolution along a column is turned: its rows are one another's columns.
        if g.batch != 1 || [g.ih, g.iw, g.oh, g.ow] != [height, width, self.height, out_width] {
            return None;
        }
        self.inputs[0] = Some(height);
        self.residual(step)
    }

    /// The residual, if there is one: by rows, or one that is the same everywhere.
    fn residual(&mut self, step: &Step) -> Option<()> {
        match step.inputs.get(3) {
            Some(Some(x)) if x.dims.len() > 1 => self.alike(step, 3, &step.outputs[0].dims),
            _ => Some(()),
        }
    }

    /// Operand `i`, if it is there, has the result's rows, of another width.
    fn alike(&mut self, step: &Step, i: usize, dims: &[usize]) -> Option<()> {
        if let Some(x) = step.inputs.get(i)?.as_ref() {
            if x.dims.len() != dims.len() || x.dims[..=AXIS] != dims[..=AXIS] {
                return None;
            }
            self.inputs[i] = Some(self.height);
        }
        Some(())
    }

    /// Operand `i` has the result's shape.
    fn same(&mut self, step: &Step, i: usize, dims: &[usize]) -> Option<()> {
        let x = step.inputs.get(i)?.as_ref()?;
        self.inputs[i] = (x.dims == dims).then_some(self.height);
        self.inputs[i].map(|_| ())
    }

    /// Operand `i` is read by rows where it has them, else the same for all.
    fn broadcast(&mut self, step: &Step, i: usize, dims: &[usize]) -> Option<()> {
        let x = step.inputs.get(i)?.as_ref()?;
        let Some(axis) = (x.dims.len() + AXIS).checked_sub(dims.len()) else { return Some(()) };
        if x.dims.get(axis) == Some(&self.height) && self.height > 1 {
            self.inputs[i] = Some(self.height);
        }
        Some(())
    }

    /// Rows of operand `i`, which is read by rows, for these rows of the result (at least one).
    pub fn needs(&self, step: &Step, i: usize, rows: &Range<usize>) -> Range<usize> {
        match &step.op {
            StepOp::Conv { geometry: g, .. }
            | StepOp::Depthwise { geometry: g, .. }
            | StepOp::Winograd { geometry: g, .. }
            | StepOp::Pool { geometry: g, .. }
                if i == 0 =>
            {
                let span = (g.kernel[0] - 1) * g.dilation[0] + 1;
                let end = ((rows.end - 1) * g.stride[0] + span).saturating_sub(g.pad_top).min(g.ih);
                // Windows that see padding alone still stand somewhere.
                (rows.start * g.stride[0]).saturating_sub(g.pad_top).min(end.saturating_sub(1))..end.max(1)
            }
            StepOp::ConvTranspose { geometry, .. } => {
                let needed = crate::cpu::transposed::input_rows(geometry, rows.clone());
                needed.start.min(needed.end.saturating_sub(1))..needed.end.max(1)
            }
            StepOp::ResizeAxis { .. } if !self.spans.is_empty() => {
                let spans = &self.spans[rows.clone()];
                let start = spans.iter().map(|s| s.start).min().unwrap_or(0);
                start..spans.iter().map(|s| s.end).max().unwrap_or(start)
            }
            _ => rows.clone(),
        }
    }

    /// The first row of operand `i` that any row of the result from `row` on needs.
    pub fn needs_from(&self, step: &Step, i: usize, row: usize) -> usize {
        if self.spans.is_empty() {
            return self.needs(step, i, &(row..row + 1)).start;
        }
        self.spans[row..].iter().map(|s| s.start).min().unwrap_or(0)
    }
}

/// Where the rows of an operand or a result lie: the buffer that has them, and the row that comes first there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub buffer: super::BufferId,
    pub first: usize,
}

/// The step that makes the rows `rows` of a step's result. `place` says where the rows of a buffer lie.
///
/// `None` when its kernel would need more scratch than the whole step.
pub(super) fn part(
    step: &Step,
    by: &ByRows,
    rows: &Range<usize>,
    place: impl Fn(&Operand) -> Rows,
) -> Option<Step> {
    let mut part = step.clone();
    let count = rows.len();
    for (i, height) in by.inputs.iter().enumerate() {
        if let (Some(height), Some(x)) = (height, &step.inputs[i]) {
            let needed = by.needs(step, i, rows);
            let axis = match step.op {
                StepOp::Binary { .. } | StepOp::Where { .. } => {
                    x.dims.len() + AXIS - step.outputs[0].dims.len()
                }
                _ => AXIS,
            };
            part.inputs[i] = Some(rows_of(x, *height, axis, &needed, place(x))?);
        }
    }
    if by.makes == Makes::Rows {
        part.outputs[0] = rows_of(&step.outputs[0], by.height, AXIS, rows, place(&step.outputs[0]))?;
    }
    let shape = |o: &Option<Operand>| o.as_ref().map(|o| o.dims.clone()).unwrap_or_default();
    match &mut part.op {
        StepOp::Conv { geometry: g, .. } => {
            let whole = *g;
            windows(g, rows, &by.needs(step, 0, rows))?;
            let narrow = crate::cpu::narrow::scratch;
            if narrow(g).is_some() != narrow(&whole).is_some() {
                return None;
            }
        }
        StepOp::Depthwise { geometry: g, .. }
        | StepOp::Winograd { geometry: g, .. }
        | StepOp::Pool { geometry: g, .. } => {
            windows(g, rows, &by.needs(step, 0, rows))?;
        }
        StepOp::ConvTranspose { geometry: g, .. } => {
            let needed = by.needs(step, 0, rows);
            let whole = crate::cpu::transposed::scratch(g);
            (g.pad_top, g.ih, g.oh) =
                ((g.pad_top + rows.start).checked_sub(needed.start * g.stride[0])?, needed.len(), count);
            if crate::cpu::transposed::scratch(g) > whole {
                return None;
            }
        }
        StepOp::Gemm { m, .. } => *m = *m / by.height * count,
        StepOp::Binary { broadcast, .. } => {
            let shapes = [shape(&part.inputs[0]), shape(&part.inputs[1])];
            **broadcast = Broadcast::new(shapes.each_ref().map(Vec::as_slice)).ok()?;
        }
        StepOp::Where { broadcast } => {
            let shapes = [shape(&part.inputs[0]), shape(&part.inputs[1]), shape(&part.inputs[2])];
            **broadcast = Broadcast::new(shapes.each_ref().map(Vec::as_slice)).ok()?;
        }
        StepOp::ResizeAxis { shape, results, operand, .. } => {
            if by.spans.is_empty() {
                shape.outer = shape.outer / by.height * count;
            } else {
                (*results, *operand) = (rows.clone(), by.needs(step, 0, rows));
            }
        }
        StepOp::Copy { plan } => {
            let (side, other, operand) = match by.makes {
                Makes::Elements => (Side::Source, Side::Destination, step.inputs[0].as_ref()?),
                _ => (Side::Destination, Side::Source, &step.outputs[0]),
            };
            let (first, pitch) = plan.first_rows(side, row_bytes(operand, by.height)?, by.height, count)?;
            let both = by.makes == Makes::Rows && by.inputs[0].is_some();
            **plan = if both { first } else { first.further(other, rows.start as isize * pitch)? };
        }
        StepOp::Reduce { .. } => {
            let x = step.inputs[0].as_ref()?;
            let cols = *x.dims.last()?;
            part.op =
                StepOp::AddRows(PartialSums { cols, before: rows.start * (x.elements() / cols / by.height) });
        }
        _ => {}
    }
    Some(part)
}

/// The windows of the output rows `rows`, which see the input rows `needed`. `None` when the first of them lies below the image.
fn windows(g: &mut ConvGeometry, rows: &Range<usize>, needed: &Range<usize>) -> Option<()> {
    let (first, pad) = (rows.start * g.stride[0], g.pad_top);
    g.pad_bottom += g.ih - needed.end;
    g.pad_top = pad.saturating_sub(first);
    (g.ih, g.oh) = (needed.len(), rows.len());
    (g.pad_top + first == pad + needed.start).then_some(())
}

/// Bytes from a row of a picture to the next; `None` when rows do not lie alike.
pub(super) fn row_bytes(operand: &Operand, height: usize) -> Option<usize> {
    let elements = match (operand.pitch, operand.dims.last()) {
        (Some(pitch), Some(last)) if *last > 0 => operand.elements() / last * pitch,
        _ => operand.elements(),
    };
    (height > 0 && elements.is_multiple_of(height)).then(|| elements / height * operand.dtype.bytes())
}

/// Whether a copy takes rows of a picture apart. Between planes and pixels either side's rows can be told apart: those of the
/// side that has more of them are rows, the other's are channels.
fn scatters(step: &Step) -> Option<()> {
    let (StepOp::Copy { plan }, [Some(x)], [y]) = (&step.op, &step.inputs[..], &step.outputs[..]) else {
        return None;
    };
    let (1, height) = (*x.dims.first()?, *x.dims.get(AXIS)?) else { return None };
    let row = row_bytes(x, height)?;
    plan.first_rows(Side::Source, row, height, 1)?;
    let fewer = y.dims.first() != Some(&1) || *y.dims.get(AXIS)? < height;
    (x.pitch.is_none() && fewer).then_some(())
}

/// Some rows of an operand.
fn rows_of(
    operand: &Operand,
    height: usize,
    axis: usize,
    rows: &Range<usize>,
    place: Rows,
) -> Option<Operand> {
    let row = row_bytes(operand, height)?;
    let mut part = operand.clone();
    part.dims[axis] = rows.len();
    part.buffer = place.buffer;
    part.offset += rows.start.checked_sub(place.first)? * row;
    Some(part)
}

/// The indices and weights of a step that stretches.
fn table_of(step: &Step, buffers: &[Buffer]) -> Option<(Vec<u32>, Vec<f32>)> {
    let known = |i: usize| {
        let operand = step.inputs.get(i)?.as_ref()?;
        match &buffers[operand.buffer as usize].kind {
            BufferKind::Known(bytes) => Some(bytes.as_chunks::<4>().0),
            _ => None,
        }
    };
    let indices = known(1)?.iter().map(|b| u32::from_le_bytes(*b)).collect();
    Some((indices, known(2)?.iter().map(|b| f32::from_le_bytes(*b)).collect()))
}
