//! A pack: opened, checked, planned; the first rung that is there, run.

use super::{Parts, blobs, bound};
use crate::Folder;
use edge_runtime::device::Device;
use edge_runtime::graph::Dim;
use edge_runtime::pack::{BLOB_ALIGN, Header, MAGIC, PREAMBLE, PackFile, Section, section_align};
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The header's text: longer ones tell nothing more.
const MOST_TEXT: usize = 1 << 16;

/// Headers are filled with spaces up to a multiple of this, so that what follows stays where it is while the text changes.
const PAGE: usize = 4096;

/// Steps of a run, those of all turns of its loops together.
const STEPS: usize = 1 << 12;
/// What a session may take.
const BUDGET: u64 = 24 << 20;

/// Multiply-adds of a run that is worth its time.
const WORK: u64 = 1 << 24;

thread_local! {
    static PLACE: (Folder, PathBuf) = {
        let folder = Folder::new("fuzz-pack");
        let path = folder.file("m.pack");
        (folder, path)
    };
    static DEVICE: Arc<Device> = Device::builder().threads(Some(1)).budget(Some(BUDGET)).build().unwrap();
}

/// Opens the input as a pack, plans every rung that is whole, and runs the first.
///
/// An input that starts as a pack does is the file itself. Any other is a header's text and blobs ([`Parts`]), of which a file is made
/// that has the right hash; with the flag set, blobs also lie where the format has them, whatever their lengths.
pub fn pack(input: &[u8]) {
    let file = match input.starts_with(&MAGIC[..6]) {
        true => input.to_vec(),
        false => match assembled(&Parts::of(input)) {
            Some(file) => file,
            None => return,
        },
    };
    // Made before anything is counted.
    DEVICE.with(|_| ());
    PLACE.with(|(_, path)| {
        std::fs::write(path, &file).unwrap();
        bound(file.len(), || {
            let Ok(pack) = PackFile::open(path) else { return };
            use_of(&pack);
        });
    });
}

/// The file of a header's text and blobs.
fn assembled(parts: &Parts<'_>) -> Option<Vec<u8>> {
    if parts.text.len() > MOST_TEXT {
        return None;
    }
    let mut text = parts.text.to_vec();
    let mut body = parts.bytes.to_vec();
    if parts.flag
        && let Ok(mut header) = serde_json::from_slice::<Header>(parts.text)
    {
        let contents = blobs::cut(header.blobs.iter().map(|blob| blob.len), parts.bytes)?;
        let mut start = 0;
        // Where the header ends depends on its length, which depends on the numbers in it.
        while header_end(text.len()) != start {
            start = start.max(header_end(text.len()));
            place(&mut header, start);
            text = serde_json::to_vec(&header).ok()?;
            text.resize(text.len().max((start - PREAMBLE).saturating_sub(PAGE - 1)), b' ');
        }
        body = vec![0; end_of(&header, start).checked_sub(start)?];
        for (blob, bytes) in header.blobs.iter().zip(&contents).filter(|(_, bytes)| !bytes.is_empty()) {
            let at = (blob.offset as usize).checked_sub(start)?;
            body.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        }
    }
    let end = header_end(text.len());
    text.resize(end - PREAMBLE, b' ');
    let mut file = vec![0; PREAMBLE];
    file[..8].copy_from_slice(&MAGIC);
    file[16..24].copy_from_slice(&(text.len() as u64).to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..24]).update(&text);
    file[24..40].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    file.extend(text);
    file.extend(body);
    Some(file)
}

fn header_end(text: usize) -> usize {
    (PREAMBLE + text).next_multiple_of(PAGE)
}

fn end_of(header: &Header, start: usize) -> usize {
    header.sections.last().map_or(start, |s| (s.offset + s.len) as usize)
}

/// Puts all blobs into one section, in the order that they are in, and the ends of rungs where the same blobs end as before.
fn place(header: &mut Header, start: usize) {
    let mut order: Vec<usize> = (0..header.blobs.len()).filter(|i| header.blobs[*i].len > 0).collect();
    order.sort_by_key(|i| header.blobs[*i].offset);
    let mut ends = BTreeMap::new();
    let mut len = 0u64;
    for i in &order {
        let blob = &mut header.blobs[*i];
        let offset = len.next_multiple_of(BLOB_ALIGN);
        len = offset + blob.len;
        ends.insert(blob.offset.saturating_add(blob.len), len);
        blob.offset = offset;
    }
    let at = (start as u64).next_multiple_of(section_align(len));
    order.iter().for_each(|i| header.blobs[*i].offset += at);
    header.blobs.iter_mut().filter(|blob| blob.len == 0).for_each(|blob| blob.offset = 0);
    header.sections = if len > 0 { vec![Section { offset: at, len }] } else { Vec::new() };
    let all = if len > 0 { at + len } else { start as u64 };
    for rung in &mut header.rungs {
        rung.end = ends.get(&rung.end).map_or(all, |end| at + end);
        rung.bytes = rung.bytes.min(rung.end.saturating_sub(start as u64));
    }
}

/// Everything that a program does with a pack.
fn use_of(pack: &PackFile) {
    let header = pack.header();
    let Some(end) = pack.available().iter().map(|i| header.rungs[*i].end).max() else { return };
    let Ok(mapped) = pack.map(end) else { return };
    let model = Arc::new(Model::new(pack.shared_header(), Arc::new(mapped), Arc::new(Registry::standard())));
    for (count, index) in pack.available().iter().take(8).enumerate() {
        let rung = &header.rungs[*index];
        // Three sizes for dimensions that are free.
        for free in [2, 1, 5] {
            let Some(specs) = inputs(&model, *index, free) else { return };
            let options = PlanOptions { threads: 1, fast: free == 2, ..PlanOptions::default() };
            let Ok(plan) = Plan::within(&model, rung, &specs, options, BUDGET) else { continue };
            let work: u64 = plan.steps.iter().map(|step| step.work().multiply_adds).sum();
            if count == 0 && work <= WORK {
                run(&model, *index, plan, &specs);
            }
        }
    }
}

/// Specs for a rung's inputs; `None` when they are beyond reason.
fn inputs(model: &Model, rung: usize, free: usize) -> Option<Vec<InputSpec>> {
    let graph = model.graph(&model.header().rungs[rung]);
    let mut specs = Vec::with_capacity(graph.inputs.len());
    let mut total = 0;
    for port in &graph.inputs {
        let size = |d: &Dim| match d {
            Dim::Fixed(n) => *n,
            Dim::Named(_) => free,
        };
        let dims: Vec<usize> = port.dims.as_deref().unwrap_or(&[Dim::Fixed(3)]).iter().map(size).collect();
        let bytes = dims.iter().try_fold(port.dtype.bytes(), |n, d| n.checked_mul(*d))?;
        total += bytes.min(1 << 20);
        if total >= 1 << 20 {
            return None;
        }
        let value = port.plan_time.then(|| elements(bytes).into());
        specs.push(InputSpec { name: graph.name(port.value).into(), dtype: port.dtype, dims, value });
    }
    Some(specs)
}

/// Small numbers in any element type: zeros, ones, and floats of all sizes.
fn elements(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| if i % 8 == 3 { 0x3f } else { (i % 16 == 0).into() }).collect()
}

fn run(model: &Arc<Model>, rung: usize, plan: Plan, specs: &[InputSpec]) {
    DEVICE.with(|device| {
        let rung = &model.header().rungs[rung];
        let Ok(mut session) = Session::with_plan(device, model, rung, plan) else { return };
        for _ in 0..2 {
            for (i, spec) in specs.iter().enumerate() {
                let bytes = spec.dims.iter().product::<usize>() * spec.dtype.bytes();
                if session.set_input(i, &elements(bytes)).is_err() {
                    return;
                }
            }
            // A loop may have no end.
            let (stop, mut left) = (session.cancel_flag(), STEPS);
            let ended = session.run_observed(|_, _| {
                left = left.saturating_sub(1);
                stop.fetch_or(left == 0, Ordering::Relaxed);
            });
            if ended.is_err() {
                return;
            }
            for i in 0..session.plan().outputs.len() {
                session.result(i);
            }
        }
    });
}
