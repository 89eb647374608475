//! From a supernet to a pack whose rungs are subnets times precisions.

use super::candidates;
use super::elastic::Family;
use super::explicit::{self, Explicit, explicit};
use super::making::{Making, named};
use super::source::{Described, Saved, Subnets};
use super::statistics::batches;
use super::store::{self, Precision};
use crate::board::Board;
use crate::calibrate;
use crate::convert::{Options, PROBES, WITNESSED, Watch, describe, finite, names};
use crate::draft::{Draft, float_draft, plain_rung};
use crate::error::ConvertError;
use crate::family::rungs::{self, HELD_OUT, Probed};
use crate::golden::{GoldenRun, golden};
use crate::import::Norms;
use crate::journal::{Journal, Mix};
use crate::ladder::{self, Kind, Probes};
use crate::measure::{Evaluator, Outputs, sqnr_db};
use crate::model::Model;
use crate::report::{Report, RungReport};
use crate::samples::{Sample, Samples};
use crate::units::Units;
use crate::witness::{self, Case, Verdict};
use edge_runtime::graph::{Source, ValueId};
use edge_runtime::pack::{Acts, Choice, Cost, Subnet, Take};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Samples that a subnet's own statistics are measured on (Cai et al. take 2,000 pictures).
const STATISTICS: usize = 2048;

/// Converts a supernet: the largest network, and the description of what is elastic in it.
///
/// # Errors
/// When the model is not supported, the description does not suit it, samples do not suit it, or the pack cannot be written.
pub fn convert(
    source: &Path,
    description: &Path,
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    watch.stage("import", 1);
    convert_subnets(&Described::open(source, description)?, output, options, watch, stop)
}

/// Converts the checkpoint of a once-for-all network, which says itself what is elastic.
///
/// # Errors
/// As [`convert`], and when the checkpoint is no such network.
pub fn convert_checkpoint(
    source: &Path,
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    watch.stage("import", 1);
    convert_subnets(&Saved::open(source, options)?, output, options, watch, stop)
}

fn convert_subnets(
    supernet: &dyn Subnets,
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    let board = Board::of(options.device.as_deref())?;
    let first = Evaluator::new(stop)?;
    let mut making = Making { supernet, evaluator: &first, keep_ones: false };
    let mut family = match making.family() {
        // Subnets with a size of 1, as of one head, may have fewer transposes than the largest network.
        Err(ConvertError::Supernet { .. }) => {
            making.keep_ones = true;
            making.family()?
        }
        family => family?,
    };
    let largest = supernet.largest();
    let whole = making.model(&largest, Norms::Stored)?;
    watch.progress(1);

    let float = float_draft(&whole);
    let samples = Samples::of(options, &float.open(), &float.header.rungs[0])?;
    let name = Mix::of("supernet").key(&making.key()?).key(&samples.key()).done();
    let evaluator = Evaluator::new(stop)?.timed_on(board);
    let journal = Journal::open(options.cache.as_ref(), evaluator.device(), &name);
    let evaluator = evaluator.keeping(journal);
    let making = Making { evaluator: &evaluator, ..making };

    let held_out = &samples.held_out[..samples.held_out.len().min(HELD_OUT)];
    let probes = &samples.calibration[..samples.calibration.len().min(PROBES)];
    let (front, searched) = making.front(&family, &whole, &samples, &name, watch)?;

    watch.stage("calibrate", front.len());
    family.elastic.overlaid = making.overlaid(&family, &largest)?;
    let mut exact = store::draft(&family, Precision::Exact)?;
    let mut working = store::draft(&family, Precision::Planes)?;
    let all = batches(&whole.graph, &samples.calibration[..samples.calibration.len().min(STATISTICS)]);
    let mut constants: Vec<Vec<Vec<f32>>> = Vec::new();
    let mut models = Vec::new();
    for (i, found) in front.iter().enumerate() {
        let statistics = making.statistics(&found.choice, &all, &name)?;
        let model = making.model(&found.choice, Norms::Given(&statistics))?;
        let own = own_constants(&family, &model)?;
        for draft in [&mut exact, &mut working] {
            let overlay = (!own.is_empty()).then(|| draft.blob(explicit::overlay(&own, &[])));
            let choice = Choice::new(&found.choice).unwrap_or_default();
            draft.header.subnets.push(Subnet { graph: 0, choice, overlay });
        }
        constants.push(own);
        models.push(model);
        watch.progress(i + 1);
    }
    let floats = explicit(&exact)?;
    let mut written = explicit(&working)?;
    if let Some(model) = supernet.files().first() {
        describe(&mut written.draft, model, options);
    }

    let mut probed = Vec::new();
    let mut reference: Vec<Outputs> = Vec::new();
    let (mut golden_run, mut verdict) = (None, Verdict::Absent);
    watch.stage("run the subnets", models.len());
    for (graph, model) in models.iter().enumerate() {
        let float = one(&floats.draft, graph);
        let (opened, rung) = (float.open(), float.header.rungs[0].clone());
        let want = evaluator.run(&opened, &rung, probes)?;
        finite(model, &want, &samples.origin)?;
        same_as_imported(&evaluator, model, probes, &want, &front[graph].choice, supernet)?;
        let ranges = calibrate::ranges(&evaluator, &float, &samples.calibration, |_| {})?;
        for (value, range) in written.draft.header.graphs[graph].values.iter_mut().zip(ranges) {
            value.range = range;
        }
        let units = Units::of(&evaluator.output_dims(&opened, &rung, &probes[0])?, &want);
        let elements =
            calibrate::elements(&evaluator, &opened, &rung, &float.header.graphs[0], &probes[..1])?;
        if graph + 1 == models.len() {
            reference = evaluator.run(&opened, &rung, held_out)?;
            golden_run = GoldenRun::new(&evaluator, &opened, &rung, options);
            if let Some(file) = making.file(&front[graph].choice, &all, &name)? {
                let pairs = probes.iter().zip(&want).take(WITNESSED);
                let cases: Vec<Case<'_>> =
                    golden_run.iter().map(GoldenRun::case).chain(pairs.map(Case::of)).collect();
                verdict =
                    witness::ask(options.witness.as_ref(), file.path(), &names(&model.graph), &cases, stop)?;
            }
        }
        probed.push(Probed { want, units, elements });
        watch.progress(graph + 1);
    }

    let (candidates, float_values) =
        rungs::candidates(&evaluator, &mut written.draft, &probed, probes, options, watch)?;
    let none = Units::default();
    let units = probed.last().map_or(&none, |p| &p.units);
    let held = Probes::new(held_out, &reference, units);
    let (measured, latencies) =
        rungs::measured(&evaluator, &written.draft, candidates, &held, &samples.origin, options, watch)?;

    // The same again, without the blobs that the subnets had before their ranges were known.
    let mut draft = store::draft(&family, Precision::Planes)?;
    draft.header.subnets = working.header.subnets;
    fold(&mut draft, &written, &constants);
    let opened = draft.open();
    let mut links = Vec::with_capacity(measured.len());
    for rung in measured {
        let folded = written.folded(&rung, draft.header.tensors.len());
        let kind = Kind::of(&folded);
        links.push(ladder::link(&draft, &opened, (folded, kind))?);
    }
    let chain = options.wishes.of(ladder::undominated(links), &latencies)?;
    draft.header.rungs = chain.iter().map(|link| link.rung.clone()).collect();
    let mut behind = match models.last() {
        Some(model) => golden(&mut draft, model, golden_run.as_ref(), &verdict)?,
        None => Vec::new(),
    };
    behind.extend(candidates::candidates(&evaluator, &mut draft, &searched, &held)?);
    let (sections, needs) = ladder::layout(&draft, &chain, behind);
    watch.stage("write", 1);
    let written = draft.write(output, sections, needs, stop)?;
    watch.progress(1);
    Ok(Report {
        source: supernet.files().iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        output: output.display().to_string(),
        bytes: written.file_len,
        padding: written.padding,
        nodes: [whole.graph.body.nodes.len(); 2],
        passes: Vec::new(),
        samples: samples.origin,
        measurements: evaluator.journal().into(),
        witness: verdict,
        float_values,
        low_rank: Vec::new(),
        tensors: Vec::new(),
        rungs: draft.header.rungs.iter().map(|rung| RungReport::new(rung, &latencies)).collect(),
    })
}

/// Takes what was measured of explicit graphs into the elastic draft: ranges, costs, and the model card.
fn fold(draft: &mut Draft, written: &Explicit, constants: &[Vec<Vec<f32>>]) {
    let ranged = explicit::ranged(written);
    for (i, own) in constants.iter().enumerate() {
        let bytes = explicit::overlay(own, &written.ranges(i, &ranged));
        let blob = (!bytes.is_empty()).then(|| draft.blob(bytes));
        draft.header.subnets[i].overlay = blob;
    }
    if let Some(elastic) = &mut draft.header.graphs[0].elastic {
        elastic.ranged = ranged;
    }
    draft.header.card.clone_from(&written.draft.header.card);
    // Of a tensor, the largest network's cost is the one that is kept.
    let largest = written.draft.header.graphs.len().saturating_sub(1) as u32;
    let costs = written.draft.header.costs.iter().filter(|cost| cost.graph == largest);
    let mut costs: Vec<_> =
        costs.map(|cost| Cost { graph: 0, tensor: written.shown(cost.tensor), ..cost.clone() }).collect();
    costs.sort_by_key(|cost| cost.tensor);
    costs.dedup_by_key(|cost| cost.tensor);
    draft.header.costs = costs;
}

/// A draft with one of a draft's graphs and a rung that takes all of its tensors.
fn one(all: &Draft, graph: usize) -> Draft {
    let mut draft = Draft::default();
    all.blobs.iter().for_each(|bytes| {
        draft.blob(bytes.clone());
    });
    draft.header.tensors.clone_from(&all.header.tensors);
    draft.header.constants.clone_from(&all.header.constants);
    let mut rung = plain_rung("float", 0, Acts::F32);
    rung.takes = vec![None; all.header.tensors.len()];
    for value in &all.header.graphs[graph].values {
        if let Source::Weight(tensor) = value.source {
            rung.takes[tensor as usize] = Some(Take(0, 1));
        }
    }
    draft.graph(all.header.graphs[graph].clone());
    draft.header.rungs.push(rung);
    draft
}

/// The constants that a subnet has of its own, in the order of those that are overlaid: those that it reads.
fn own_constants(family: &Family, model: &Model) -> Result<Vec<Vec<f32>>, ConvertError> {
    let difference = family.compare(model, "a subnet with statistics of its own")?;
    let by_value: HashMap<ValueId, ValueId> =
        difference.values.iter().map(|(own, whole)| (*whole, *own)).collect();
    let mut constants = Vec::new();
    for value in &family.elastic.overlaid {
        let array = by_value.get(value).and_then(|own| model.constant(*own));
        constants.extend(array.and_then(crate::model::Array::as_f32));
    }
    Ok(constants)
}

/// What the elastic graph gives for a choice is what the importer gives for it.
fn same_as_imported(
    evaluator: &Evaluator<'_>,
    model: &Model,
    probes: &[Sample],
    want: &[Outputs],
    choice: &[usize],
    supernet: &dyn Subnets,
) -> Result<(), ConvertError> {
    let float = float_draft(model);
    let imported = evaluator.run(&float.open(), &float.header.rungs[0], probes)?;
    // The same operations on the same numbers: what differs is at most how sums are cut.
    let apart = crate::measure::distortion(&imported, want);
    if sqnr_db(apart) >= 100.0 {
        return Ok(());
    }
    let why = format!(
        "the choices do not act one beside the other: with {} the shared graph gives another answer than the subnet itself ({:.1} dB)",
        named(supernet, choice),
        sqnr_db(apart)
    );
    Err(ConvertError::Supernet { why })
}
