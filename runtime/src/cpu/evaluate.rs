//! Running steps while a plan is being made: what the planner knows, it computes with the same kernels.

use super::memory::Memory;
use super::{Context, Kernels};
use crate::device::Pool;
use crate::model::Model;
use crate::plan::{Buffer, BufferKind, BufferPlace, Fact, Matrix, Place, Step};
use edge_kernels::Isa;

/// Runs `steps` over `buffers` and gives `outputs` as known values.
///
/// # Errors
/// When a kernel refuses its operands (an index out of range).
pub(crate) fn evaluate(
    model: &Model,
    buffers: &[Buffer],
    steps: &[Step],
    outputs: &[Option<Fact>],
) -> Result<Vec<Option<Fact>>, String> {
    if let Some(step) = steps.iter().find(|s| s.weights.iter().any(|m| m.tensor().is_some())) {
        return Err(format!("`{}` reads a weight while the plan is made", step.op.name()));
    }
    let mut buffers = buffers.to_vec();
    let (mut arena, mut known) = (0usize, 0usize);
    let used = |id: usize| {
        let touches = |s: &Step| {
            let mut operands = s.inputs.iter().flatten().chain(&s.outputs);
            operands.any(|o| o.buffer as usize == id)
                || s.scratch.is_some_and(|scratch| scratch.buffer as usize == id)
                || s.weights.iter().any(|m| matches!(m, Matrix::Panels(o) if o.buffer as usize == id))
        };
        steps.iter().any(touches)
    };
    for (_, buffer) in buffers.iter_mut().enumerate().filter(|(id, _)| used(*id)) {
        let bytes = buffer.bytes.next_multiple_of(64);
        buffer.place = match buffer.kind {
            BufferKind::Arena | BufferKind::Input(_) | BufferKind::Kept => {
                arena += bytes;
                BufferPlace::Arena(arena - bytes)
            }
            BufferKind::Known(_) => {
                known += bytes;
                BufferPlace::Known(known - bytes)
            }
            BufferKind::Constant(_) => BufferPlace::Pack,
        };
    }
    let mut memory = Memory::for_buffers(&buffers, arena, known);
    let pool = Pool::new(1).map_err(|e| e.to_string())?;
    let ctx = Context { kernels: Kernels::select(Isa::detect()), pool: &pool, weights: &[] };
    for step in steps {
        super::run(&ctx, step, memory.views(model, &buffers, step))?;
    }
    let known = |fact: &Fact| match fact.place {
        Place::Buffer { buffer, offset } => {
            let operand = crate::plan::Operand {
                buffer,
                offset,
                dtype: fact.dtype,
                dims: fact.dims.clone(),
                quant: None,
                pitch: None,
            };
            let bytes = memory.read(model, &buffers, &operand);
            Fact { place: Place::Known(bytes.to_vec().into()), ..fact.clone() }
        }
        _ => fact.clone(),
    };
    Ok(outputs.iter().map(|o| o.as_ref().map(known)).collect())
}
