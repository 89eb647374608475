//! What it costs the outputs that 8 bits hold one value alone, everything else being floats.
//!
//! The graph in floats gets four more operations behind the value, which do what an integer rung does to it:
//! ```text
//! x' = clip(round(x / s), -128 - z, 127 - z) * s
//! ```
//! Its noise is the rounding of what is inside the range, `s^2 / 12` an element, and what is cut off of the rest. Cut is what other samples have
//! and the range has not seen. So each sample is judged with the ranges that the others show: a [`Fold`] of them at a time.

use crate::draft::Draft;
use crate::error::ConvertError;
use crate::journal::Mix;
use crate::ladder::Probes;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::Model;
use edge_runtime::graph::{Act, BinaryOp, Block, DType, Graph, Node, Op, Source, UnaryOp, ValueId};
use edge_runtime::pack::{Constant, ConstantData, Rung};
use edge_runtime::plan::{Quant, StepOp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Probes that are judged with the ranges of other samples.
pub struct Fold {
    /// Indices into the probes.
    pub probes: Vec<usize>,
    /// Ranges by value.
    pub ranges: Vec<Option<(f32, f32)>>,
}

/// The values that an integer rung holds as codes of 8 bits, or makes some of for products to take.
///
/// # Errors
/// When the sample does not suit the model, or the evaluator was stopped.
pub fn held(
    evaluator: &Evaluator<'_>,
    model: &Arc<Model>,
    rung: &Rung,
    sample: &Sample,
) -> Result<Vec<ValueId>, ConvertError> {
    let mut held = BTreeSet::new();
    evaluator.keep(model, rung, sample, |session| {
        let quantized = session.plan().steps.iter().filter(|step| matches!(step.op, StepOp::Quantize(_)));
        let places: BTreeSet<(u32, usize)> =
            quantized.flat_map(|step| step.inputs.iter().flatten()).map(|x| (x.buffer, x.offset)).collect();
        for (value, operand, _) in session.values() {
            let codes = operand.dtype == DType::I8 && operand.quant.is_some();
            if codes || places.contains(&(operand.buffer, operand.offset)) {
                held.insert(value);
            }
        }
    })?;
    Ok(held.into_iter().collect())
}

/// By value, the output distortion when 8 bits hold it alone; 0 for all but `values`. `float` is a draft whose first rung is the model in
/// floats.
///
/// # Errors
/// When a sample does not suit the model, or the evaluator was stopped.
pub fn alone(
    evaluator: &Evaluator<'_>,
    float: &Draft,
    values: &[ValueId],
    folds: &[Fold],
    probes: &Probes<'_>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<f64>, ConvertError> {
    let mut draft = float.fork();
    let rung = float.header.rungs[0].clone();
    let graph = float.header.graphs[rung.graph as usize].clone();
    let constants = draft.header.constants.len();
    let mut costs = vec![0.0; graph.values.len()];
    for (i, value) in values.iter().enumerate() {
        let range = |fold: &Fold| fold.ranges.get(*value as usize).copied().flatten();
        let name = Mix::of("alone").key(&float.candidate().key(&rung)).key(probes.key()).debug(value);
        let ends = |fold: &Fold| range(fold).map_or([f32::NAN; 2], |(lo, hi)| [lo, hi]);
        let key = folds.iter().fold(name, |mix, fold| mix.debug(&fold.probes).floats(&ends(fold))).done();
        let cost = evaluator.known(key, 1, || {
            let mut got = vec![Vec::new(); probes.samples.len()];
            for fold in folds {
                draft.header.constants.truncate(constants);
                let with = match range(fold) {
                    Some((lo, hi)) => {
                        rounded(&graph, &mut draft.header.constants, *value, Quant::covering(lo, hi))
                    }
                    None => None,
                };
                let Some(with) = with else { return Ok(vec![0.0]) };
                draft.header.graphs[rung.graph as usize] = with;
                let samples: Vec<Sample> = fold.probes.iter().map(|i| probes.samples[*i].clone()).collect();
                let outputs = evaluator.run(&draft.open(), &rung, &samples)?;
                fold.probes.iter().zip(outputs).for_each(|(i, outputs)| got[*i] = outputs);
            }
            Ok(vec![probes.distortion(&got)])
        })?;
        costs[*value as usize] = cost[0];
        progress(i + 1, values.len());
    }
    Ok(costs)
}

/// The graph with a value rounded to what codes stand for; `None` where a branch computes it.
fn rounded(graph: &Graph, constants: &mut Vec<Constant>, value: ValueId, quant: Quant) -> Option<Graph> {
    let mut graph = graph.clone();
    let made = graph.body.nodes.iter().position(|node| node.outputs.contains(&Some(value)));
    let at = match made {
        Some(node) => node + 1,
        None if graph.inputs.iter().any(|port| port.value == value) => 0,
        None => return None,
    };
    constants.push(Constant {
        dtype: DType::F32,
        dims: Vec::new(),
        data: ConstantData::hex(&quant.scale.to_le_bytes()),
    });
    let scale = graph.add_value("rounding scale", Source::Constant(constants.len() as u32 - 1));
    let zero = quant.zero_point as f32;
    let clip = Op::Unary(UnaryOp::Act(Act::Clip { lo: -128.0 - zero, hi: 127.0 - zero }));
    let steps = [
        (Op::Binary(BinaryOp::Div), true),
        (Op::Unary(UnaryOp::Round), false),
        (clip, false),
        (Op::Binary(BinaryOp::Mul), true),
    ];
    let (mut x, mut nodes) = (value, Vec::with_capacity(steps.len()));
    for (op, scaled) in steps {
        let out = graph.add_value("rounded", Source::Computed);
        let inputs = std::iter::once(Some(x)).chain(scaled.then_some(Some(scale))).collect();
        nodes.push(Node { name: "rounding".into(), op, inputs, outputs: vec![Some(out)] });
        x = out;
    }
    let mut rest = Block { nodes: graph.body.nodes.split_off(at), outputs: Vec::new() };
    replace(&mut rest, value, x);
    graph.body.nodes.extend(nodes);
    graph.body.nodes.append(&mut rest.nodes);
    graph.outputs.iter_mut().filter(|port| port.value == value).for_each(|port| port.value = x);
    Some(graph)
}

/// Whatever reads `value` reads `by`.
fn replace(block: &mut Block, value: ValueId, by: ValueId) {
    for node in &mut block.nodes {
        node.inputs.iter_mut().flatten().filter(|id| **id == value).for_each(|id| *id = by);
        node.op.blocks_mut().for_each(|block| replace(block, value, by));
    }
    block.outputs.iter_mut().filter(|id| **id == value).for_each(|id| *id = by);
}
