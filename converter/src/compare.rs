//! A pack beside the model that it was made of, layer by layer: where a rung departs from floats.

use crate::convert::{Options, Watch};
use crate::draft::float_draft;
use crate::error::ConvertError;
use crate::import;
use crate::measure::{Evaluator, Held, noise_ratio, sqnr_db};
use crate::samples::Samples;
use crate::simplify;
use edge_runtime::Model;
use edge_runtime::graph::{Graph, Node, Op, Source, ValueId};
use edge_runtime::pack::{Acts, PackFile, Rung};
use edge_runtime::weights::Registry;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Below this ratio in dB, a hundredth of the power, a layer's result departs from the float model's.
const DEPARTS: f64 = 20.0;

/// One result of a layer.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// The layer, as in the source model.
    pub name: String,
    /// What it computes.
    pub op: String,
    /// The result's name.
    pub value: String,
    /// How the rung holds it.
    pub held: Held,
    /// Elements over all samples that are finite in the float model.
    pub elements: usize,
    /// Signal-to-noise ratio in dB against the float model, the signal about its mean; at most 200, and -60 where a
    /// result is not finite and the other differs.
    pub sqnr_db: f64,
    /// Largest difference; infinite, and null in JSON, where a result is not finite and the other differs.
    pub max_error: f64,
    /// Largest less smallest value of the float model.
    pub range: f64,
}

/// What [`compare`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The source file.
    pub source: String,
    /// The pack.
    pub pack: String,
    /// The rung that was run.
    pub rung: String,
    /// What both ran on.
    pub samples: String,
    /// Results that both compute, in the order of the graph.
    pub layers: Vec<Layer>,
    /// The first layer whose result departs: below 20 dB.
    pub departs: Option<String>,
    /// Results of the float model that the rung does not keep: parts of fused layers.
    pub not_kept: usize,
}

/// Compares a rung of a pack with the float model, result by result, on the samples of `options` (or noise). `rung` is an id;
/// else it is the finest integer rung, or the finest of all. The weights of the source model are taken as they are.
///
/// # Errors
/// When the source cannot be imported, the pack cannot be opened or is of another model, or samples do not suit it.
pub fn compare(
    source: &Path,
    pack: &Path,
    rung: Option<&str>,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Comparison, ConvertError> {
    watch.stage("import", 1);
    let mut model = import::import_onnx_with(source, &options.settled)?;
    import::apply_states(&mut model, &options.states)?;
    let (model, _) = simplify::simplify_with_report(model, &simplify::Options::default());
    let float = float_draft(&model);
    let (float_model, float_rung) = (float.open(), &float.header.rungs[0]);
    let file = PackFile::open(pack)?;
    let mapped = Arc::new(file.map(file.file_len())?);
    let packed = Arc::new(Model::new(file.shared_header(), mapped, Arc::new(Registry::standard())));
    let rung = pick(&file, rung)?;
    let (ours, theirs) = (&model.graph, packed.graph(rung));
    same_inputs(ours, theirs, pack)?;
    watch.progress(1);

    let samples = Samples::of(options, &float_model, float_rung)?;
    let mut all = samples.calibration;
    // Of a single sample both are the same.
    if samples.held_out != all {
        all.extend(samples.held_out);
    }
    let names: HashMap<&str, ValueId> =
        (0..ours.values.len() as ValueId).map(|id| (ours.name(id), id)).collect();
    let evaluator = Evaluator::new(stop)?;
    let mut seen: HashMap<ValueId, Seen> = HashMap::new();
    watch.stage("compare", all.len());
    for (i, sample) in all.iter().enumerate() {
        let sample = std::slice::from_ref(sample);
        let mut wanted: HashMap<ValueId, Vec<f32>> = HashMap::new();
        evaluator.observe(&float_model, float_rung, sample, |value, x| {
            wanted.insert(value, x.to_vec());
        })?;
        evaluator.observe_all(&packed, rung, sample, |value, held, got| {
            let Some(id) = names.get(theirs.name(value)) else { return };
            if let Some(want) = wanted.get(id).filter(|want| want.len() == got.len()) {
                let got = source_units(&packed, theirs, value, got);
                seen.entry(*id).or_insert_with(|| Seen::new(held)).add(want, &got);
            }
        })?;
        watch.progress(i + 1);
    }
    let results = |node: &Node| node.outputs.iter().flatten().copied().collect::<Vec<_>>();
    let layers: Vec<Layer> = ours
        .body
        .nodes
        .iter()
        .flat_map(|node| results(node).into_iter().map(move |value| (node, value)))
        .filter_map(|(node, value)| Some(seen.get(&value)?.layer(node, ours.name(value))))
        .collect();
    if layers.is_empty() {
        let why =
            "no result of the pack has the name of one of the source model: it is of another model".into();
        return Err(ConvertError::Samples { path: pack.into(), why });
    }
    let not_kept = ours.body.nodes.iter().map(|node| results(node).len()).sum::<usize>() - layers.len();
    Ok(Comparison {
        source: source.display().to_string(),
        pack: pack.display().to_string(),
        rung: rung.id.clone(),
        samples: samples.origin,
        departs: layers.iter().find(|layer| layer.sqnr_db < DEPARTS).map(|layer| layer.name.clone()),
        layers,
        not_kept,
    })
}

/// The rung of that id; else the finest integer rung, or the finest.
fn pick<'a>(file: &'a PackFile, id: Option<&str>) -> Result<&'a Rung, ConvertError> {
    let rungs: Vec<&Rung> = file.available().iter().map(|i| &file.header().rungs[*i]).collect();
    let Some(id) = id else {
        let integer = rungs.iter().rev().find(|rung| rung.acts == Acts::I8);
        return integer.or(rungs.last()).copied().ok_or_else(|| ConvertError::Option {
            option: "--rung",
            why: "the pack has no rung that is whole".into(),
        });
    };
    rungs.iter().find(|rung| rung.id == id).copied().ok_or_else(|| {
        let known: Vec<&str> = rungs.iter().map(|rung| rung.id.as_str()).collect();
        ConvertError::Option {
            option: "--rung",
            why: format!("no rung `{id}`; there are {}", known.join(", ")),
        }
    })
}

/// A value of the pack in the units of the source model, whose channels the converter may have divided.
fn source_units<'x>(model: &Model, graph: &Graph, value: ValueId, x: &'x [f32]) -> Cow<'x, [f32]> {
    let exponents = graph.values[value as usize].exponents.map(|id| graph.values[id as usize].source);
    let Some(Source::Constant(id)) = exponents else { return x.into() };
    let Ok(exponents) = model.constant_bytes(id) else { return x.into() };
    let sizes: Vec<f32> = exponents.iter().map(|e| f32::from(*e as i8).exp2()).collect();
    x.iter().zip(sizes.iter().cycle()).map(|(x, size)| x * size).collect::<Vec<_>>().into()
}

/// An operation's name in the pack.
fn op_name(op: &Op) -> String {
    match serde_json::to_value(op) {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// Samples are made for the source's inputs and set by position.
fn same_inputs(source: &Graph, packed: &Graph, pack: &Path) -> Result<(), ConvertError> {
    let names = |graph: &Graph| -> Vec<String> {
        graph.inputs.iter().map(|port| graph.name(port.value).to_string()).collect()
    };
    let (want, got) = (names(source), names(packed));
    if want == got {
        return Ok(());
    }
    let why = format!("the pack takes {}, the source model {}", got.join(", "), want.join(", "));
    Err(ConvertError::Samples { path: pack.into(), why })
}

/// What was seen of one value in both runs.
struct Seen {
    held: Held,
    n: usize,
    sum: f64,
    squares: f64,
    noise: f64,
    max_error: f64,
    low: f64,
    high: f64,
}

impl Seen {
    fn new(held: Held) -> Seen {
        let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
        Seen { held, n: 0, sum: 0.0, squares: 0.0, noise: 0.0, max_error: 0.0, low, high }
    }

    fn add(&mut self, want: &[f32], got: &[f32]) {
        for (w, g) in want.iter().zip(got) {
            let (w, g) = (f64::from(*w), f64::from(*g));
            // Equal infinities are no error; anything else beside what is not finite is as large as can be.
            let error = if w == g || (w.is_nan() && g.is_nan()) { 0.0 } else { (w - g).abs() };
            let error = if error.is_nan() { f64::INFINITY } else { error };
            self.max_error = self.max_error.max(error);
            self.noise += error * error;
            if w.is_finite() {
                (self.n, self.sum, self.squares) = (self.n + 1, self.sum + w, self.squares + w * w);
                (self.low, self.high) = (self.low.min(w), self.high.max(w));
            }
        }
    }

    /// [`crate::measure::distortion`] of what was added, of which nothing is kept.
    fn distortion(&self) -> f64 {
        let n = self.n.max(1);
        noise_ratio(self.noise, self.squares - self.sum * self.sum / n as f64, n)
    }

    fn layer(&self, node: &Node, value: &str) -> Layer {
        Layer {
            name: node.name.clone(),
            op: op_name(&node.op),
            value: value.to_string(),
            held: self.held,
            elements: self.n,
            sqnr_db: sqnr_db(self.distortion()),
            max_error: self.max_error,
            range: (self.high - self.low).max(0.0),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} beside {}, rung {}, on {}", self.pack, self.source, self.rung, self.samples)?;
        writeln!(
            f,
            "{:>9} {:>12} {:>12} {:>5}  {:<16} layer",
            "SQNR, dB", "max error", "range", "held", "op"
        )?;
        for layer in &self.layers {
            let mark = if layer.sqnr_db < DEPARTS { "  <" } else { "" };
            writeln!(
                f,
                "{:>9.1} {:>12.4e} {:>12.4e} {:>5}  {:<16} {}{mark}",
                layer.sqnr_db,
                layer.max_error,
                layer.range,
                if layer.held == Held::I8 { "i8" } else { "f32" },
                layer.op,
                layer.name
            )?;
        }
        match &self.departs {
            Some(name) => writeln!(f, "first below {DEPARTS} dB: {name}")?,
            None => writeln!(f, "no layer is below {DEPARTS} dB")?,
        }
        if self.not_kept > 0 {
            writeln!(f, "{} results are parts of fused layers in this rung and not compared", self.not_kept)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Seen, sqnr_db};
    use crate::measure::distortion;

    #[test]
    fn figures_of_batches_are_those_of_all_at_once() {
        let (want, got) = ([1.0, 2.0, 5.0, -3.0], [1.1, 2.0, 4.5, -3.25]);
        let mut seen = Seen::new(Held::I8);
        seen.add(&want[..1], &got[..1]);
        seen.add(&want[1..], &got[1..]);
        let whole = distortion(&[vec![want.to_vec()]], &[vec![got.to_vec()]]);
        assert!((seen.distortion() / whole - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_finite_has_a_figure() {
        let of = |want: [f32; 3], got: [f32; 3]| {
            let mut seen = Seen::new(Held::F32);
            seen.add(&want, &got);
            sqnr_db(seen.distortion())
        };
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert_eq!(of([1.0, nan, -inf], [1.0, nan, -inf]), 200.0);
        for wrong in [[1.0, nan, inf], [1.0, 0.0, -inf], [nan, nan, -inf]] {
            assert_eq!(of([1.0, nan, -inf], wrong), -60.0, "{wrong:?}");
        }
    }
}
