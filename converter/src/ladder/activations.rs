//! Which values an integer rung must keep as floats.

use crate::draft::Draft;
use crate::error::ConvertError;
use crate::ladder::Probes;
use crate::measure::{Evaluator, distortion};
use edge_runtime::graph::{Graph, ValueId};
use edge_runtime::pack::Rung;
use std::sync::atomic::{AtomicBool, Ordering};

/// Output distortion that one more value's quantization may cost: 30 dB. What this finds are values that 256 levels
/// cannot hold, such as a power spectrum on its way to a logarithm.
const MOST: f64 = 1e-3;
/// Below this distortion of all values together, none is looked at alone: 30 dB.
const ENOUGH: f64 = 1e-3;

/// Takes away the ranges of values whose quantization to i8 costs the outputs too much, so that the planner holds them
/// as floats. Values are added in the order of the graph, each beside those that are i8 already: an operation that
/// turns i8 into i8 needs both. `rung` is the finest integer rung. Gives the names of those values.
///
/// # Errors
/// When a sample does not suit the model, or `stop` is set.
pub fn keep_floats(
    evaluator: &Evaluator,
    draft: &mut Draft,
    rung: &Rung,
    probes: &Probes<'_>,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<String>, ConvertError> {
    let index = rung.graph as usize;
    let cost = |draft: &Draft| -> Result<f64, ConvertError> {
        Ok(distortion(probes.want, &evaluator.run(&draft.open(), rung, probes.samples)?))
    };
    let all = ranges(&draft.header.graphs[index]);
    if cost(draft)? <= ENOUGH {
        return Ok(Vec::new());
    }
    // The weights' own share is there whatever the activations are.
    set(&mut draft.header.graphs[index], &[]);
    let mut so_far = cost(draft)?;
    let mut kept = Vec::new();
    let mut good = Vec::with_capacity(all.len());
    for (done, entry) in all.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Interrupted);
        }
        good.push(*entry);
        set(&mut draft.header.graphs[index], &good);
        let with = cost(draft)?;
        if with - so_far > MOST {
            good.pop();
            kept.push(draft.header.graphs[index].name(entry.0).to_string());
        } else {
            so_far = with;
        }
        progress(done + 1, all.len());
    }
    set(&mut draft.header.graphs[index], &good);
    Ok(kept)
}

type Entry = (ValueId, (f32, f32));

fn ranges(graph: &Graph) -> Vec<Entry> {
    let known = graph.values.iter().enumerate();
    known.filter_map(|(i, v)| Some((i as ValueId, v.range?))).collect()
}

/// Leaves a graph with these ranges alone.
fn set(graph: &mut Graph, entries: &[Entry]) {
    for value in &mut graph.values {
        value.range = None;
    }
    for (value, range) in entries {
        graph.values[*value as usize].range = Some(*range);
    }
}
