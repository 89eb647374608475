//! From groups to steps: every band of every step is one of its own.

use super::grouping::{Grouping, Unit, Weight};
use crate::graph::{DType, ReduceOp};
use crate::plan::rows::{self, Makes, Rows};
use crate::plan::step::{Step, StepOp};
use crate::plan::{Buffer, BufferId, BufferKind, Operand, Plan};

/// Gives the plan the steps of a grouping. False when a kernel would refuse a part: the plan stays as it is then.
pub(super) fn unroll(plan: &mut Plan, grouping: &Grouping, weight: &Weight) -> bool {
    let mut out = Unrolled { buffers: plan.buffers.clone(), steps: Vec::new() };
    grouping.sizes().skip(plan.buffers.len()).for_each(|bytes| _ = out.buffer(bytes));
    for unit in &weight.units {
        if unit.bands == 0 {
            out.steps.push(grouping.line(unit.lines[0]).step.clone());
        } else if out.bands(grouping, unit).is_none() {
            return false;
        }
    }
    (plan.steps, plan.buffers) = (out.steps, out.buffers);
    true
}

struct Unrolled {
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
}

impl Unrolled {
    fn buffer(&mut self, bytes: usize) -> BufferId {
        self.buffers.push(Buffer { kind: BufferKind::Arena, bytes, place: Default::default() });
        (self.buffers.len() - 1) as BufferId
    }

    fn bands(&mut self, grouping: &Grouping, unit: &Unit) -> Option<()> {
        let schedule = grouping.schedule(&unit.lines, unit.bands)?;
        let lines: Vec<_> = unit.lines.iter().map(|i| grouping.line(*i)).collect();
        // Where the rows of each picture lie in the band at hand, and how far the sums of each step have come.
        let mut places: Vec<Option<Rows>> = vec![None; schedule.pictures.len()];
        let mut states: Vec<Option<Operand>> = vec![None; lines.len()];
        for band in 0..unit.bands {
            for (place, picture) in places.iter_mut().zip(&schedule.pictures) {
                let Some(first) = picture.first.get(band).copied() else { continue };
                match place {
                    Some(place) if picture.is_kept() => {
                        let (gone, held) = (first - place.first, picture.made[band] - place.first);
                        place.first = first;
                        if gone > 0 && held > gone {
                            let writer = lines.iter().find(|l| l.step.outputs[0].buffer == picture.buffer)?;
                            let op = StepOp::MoveToFront { from: gone * picture.row };
                            let rows = operand(place.buffer, DType::U8, held * picture.row);
                            self.steps.push(plain(writer.step.name, op, Vec::new(), vec![rows]));
                        }
                    }
                    _ => {
                        // What no later band needs lives in this one alone.
                        let kept = picture.is_kept();
                        let rows = if kept { picture.most_rows() } else { picture.made[band + 1] - first };
                        *place = Some(Rows { buffer: self.buffer(rows * picture.row), first });
                    }
                }
            }
            for (t, line) in lines.iter().enumerate() {
                let rows = schedule.made[t][band]..schedule.made[t][band + 1];
                if rows.is_empty() {
                    continue;
                }
                let by = line.by.as_ref()?;
                let place = |o: &Operand| {
                    let at = schedule.pictures.iter().position(|p| p.buffer == o.buffer);
                    at.and_then(|at| places[at]).unwrap_or(Rows { buffer: o.buffer, first: 0 })
                };
                let mut part = rows::part(&line.step, by, &rows, place)?;
                if let Some(scratch) = &mut part.scratch {
                    scratch.buffer = self.buffer(scratch.bytes);
                }
                if by.makes == Makes::Sums {
                    self.sums(part, &line.step, &mut states[t], rows.end == by.height)?;
                } else {
                    self.steps.push(part);
                }
            }
        }
        Some(())
    }

    /// Adds some rows to the sums of a picture; after the last, the sums.
    fn sums(&mut self, mut part: Step, whole: &Step, state: &mut Option<Operand>, last: bool) -> Option<()> {
        let (StepOp::AddRows(sums), StepOp::Reduce { kind, shape }) = (&part.op, &whole.op) else {
            return None;
        };
        let quant = whole.inputs.first()?.as_ref()?.quant;
        let (dtype, words) = match quant {
            Some(_) => (DType::I32, sums.cols),
            None => (DType::F32, sums.state_len()),
        };
        let state = match state {
            Some(state) => state.clone(),
            None => state.insert(operand(self.buffer(words * 4), dtype, words)).clone(),
        };
        part.outputs = vec![state.clone()];
        let name = part.name;
        self.steps.push(part);
        if last {
            let divisor = if *kind == ReduceOp::Mean { shape.count() as f32 } else { 1.0 };
            let codes = quant.map(|quant| (quant, shape.count()));
            self.steps.push(plain(
                name,
                StepOp::SumRows { divisor, codes },
                vec![Some(state)],
                whole.outputs.clone(),
            ));
        }
        Some(())
    }
}

fn operand(buffer: BufferId, dtype: DType, elements: usize) -> Operand {
    Operand { buffer, offset: 0, dtype, dims: vec![elements], quant: None, pitch: None }
}

fn plain(name: u32, op: StepOp, inputs: Vec<Option<Operand>>, outputs: Vec<Operand>) -> Step {
    Step { name, op, inputs, outputs, weights: Vec::new(), scratch: None, once: false }
}
