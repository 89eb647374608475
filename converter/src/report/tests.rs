//! Pages of tiny packs: odd ladders, hostile names, and what a page never holds.

use super::gather::gather;
use super::page::{Cost, Page, PageOptions};
use super::render::{html, write_page};
use crate::convert::{Options, Watch, lower};
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::model::{Array, Model};
use edge_runtime::graph::{Act, DType, Dim, Node, Op, Port, Source};
use edge_runtime::pack::{Acts, BlobId, Cost as StoredCost, Quality, Take};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const HOSTILE: &str = "\u{202e}<script>alert(1)</script>\"><img onerror=alert(1)>'&amp;{{ view }}";

struct Quiet;

impl Watch for Quiet {
    fn stage(&mut self, _: &str, _: usize) {}
    fn progress(&mut self, _: usize) {}
    fn progress_of(&mut self, _: usize, _: usize) {}
}

/// `y = w x` of 32 inputs and `rows` outputs, its names starting with `name`.
fn model(name: &str, rows: usize) -> Model {
    let mut model = Model { name: name.to_string(), ..Model::default() };
    let x = model.graph.add_value("x", Source::Computed);
    let weights: Vec<f32> = (0..rows * 32).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let w = model.add_constant(format!("{name}.w"), Array::f32(&[rows, 32], &weights));
    let y = model.graph.add_value("y", Source::Computed);
    model.graph.body.nodes.push(Node {
        name: format!("{name}.product"),
        op: Op::Linear { out_features: rows, act: Act::None, act_after_residual: false },
        inputs: vec![Some(x), Some(w)],
        outputs: vec![Some(y)],
    });
    let port = |value, dims| Port { value, dtype: DType::F32, dims: Some(dims), plan_time: false };
    model.graph.inputs.push(port(x, vec![Dim::Fixed(1), Dim::Fixed(32)]));
    model.graph.outputs.push(port(y, vec![Dim::Fixed(1), Dim::Fixed(rows)]));
    model
}

/// Writes a pack of some models, each a graph, with a rung for each `(id, graph, planes, quality)`.
fn pack(
    dir: &TempDir,
    models: &[Model],
    rungs: &[(&str, usize, u32, Option<f32>)],
    change: impl FnOnce(&mut Draft),
) -> PathBuf {
    let mut draft = Draft::new(&models[0]);
    for model in models {
        lower(&mut draft, model, &Options::default()).unwrap();
    }
    let tensors = draft.header.tensors.len();
    for (id, graph, planes, quality) in rungs {
        let mut rung = plain_rung(id, *graph as u32, Acts::F32);
        rung.takes = (0..tensors).map(|t| (t == *graph).then_some(Take(0, *planes))).collect();
        rung.quality =
            quality.map(|value| Quality { metric: "sqnr_db".into(), value, samples: "noise".into() });
        draft.header.rungs.push(rung);
    }
    let opened = draft.open();
    let mut needs: Vec<Vec<BlobId>> = Vec::new();
    for i in 0..rungs.len() {
        let blobs = opened.blobs_of(&draft.header.rungs[i]).unwrap();
        draft.header.rungs[i].bytes = blobs.iter().map(|b| draft.blobs[*b as usize].len() as u64).sum();
        needs.push(blobs);
    }
    change(&mut draft);
    let all = (0..draft.blobs.len() as BlobId).map(|blob| vec![blob]).collect();
    let path = dir.path().join("m.pack");
    draft.write(&path, all, needs, &AtomicBool::new(false)).unwrap();
    path
}

fn gathered(pack: &Path) -> Page {
    gather(pack, &PageOptions::default(), &mut Quiet, &AtomicBool::new(false)).unwrap()
}

/// What every page keeps to, whatever is in it.
fn assert_sound(html: &str) {
    assert_eq!((html.matches("<script").count(), html.matches("</script").count()), (2, 2));
    for outside in ["http:", "https:", "src=", "url(", "@import", "<link rel=\"style", "<iframe", "<img"] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
    assert!(html.match_indices("href=").all(|(at, _)| html[at..].starts_with("href=\"data:,\"")));
    for number in [">NaN", "\"NaN", "NaN ", ">inf", "\"inf", "NaN%"] {
        assert!(!html.contains(number), "{number} in the page");
    }
}

#[test]
fn a_ladder_of_one_graph() {
    let dir = TempDir::new().unwrap();
    let rungs = [("w2", 0, 1, Some(9.0)), ("w4", 0, 2, Some(20.5)), ("w16", 0, 6, Some(80.0))];
    let path = pack(&dir, &[model("m", 16)], &rungs, |draft| {
        draft.header.costs = vec![StoredCost { db: vec![9.0, 20.5], ..StoredCost::default() }];
    });
    let page = gathered(&path);
    assert_eq!((page.best, page.rungs.len(), page.order.as_slice()), (2, 3, &[0][..]));
    let [w2, w4, w16] = &page.rungs[..] else { panic!("{page:?}") };
    assert_eq!((w2.mean_bits, w4.mean_bits, w16.mean_bits), (2.0, 4.0, 16.0));
    assert_eq!((w2.finer, w4.finer, w16.finer), (Some(1), Some(2), None));
    let lack = &w4.lacks[0];
    assert_eq!((lack.tensor, lack.from.as_str(), lack.to.as_str()), (0, "16 bits", "4 bits"));
    let cost = |rung: &super::page::RungFigures| rung.layers[0].as_ref().unwrap().cost;
    assert_eq!((cost(w2), cost(w4), cost(w16)), (Cost::Db(9.0), Cost::Db(20.5), Cost::Finest));
    for rung in &page.rungs {
        let planned = rung.planned.as_ref().unwrap();
        assert_eq!(rung.layers[0].as_ref().unwrap().bytes, rung.bytes);
        assert!(planned.weights >= rung.bytes && planned.peak() > planned.arena, "{planned:?}");
        assert!(planned.live.iter().all(|bytes| *bytes as u64 <= planned.arena));
        assert!(planned.peak_step.starts_with("m.product ("), "{}", planned.peak_step);
        assert!(rung.latency_ms.is_some_and(|ms| ms > 0.0));
    }
    let html = html(&page).unwrap();
    assert_sound(&html);
    for text in ["w4", "20.5 dB", "16 bits → 4 bits", "m.product", "planes, 16 of 16 bits"] {
        assert!(html.contains(text), "no {text}");
    }
    // Three charts, a point a rung in each.
    assert_eq!(html.matches("class=\"mark f32\"").count(), 9);
}

#[test]
fn one_rung_without_a_quality() {
    let dir = TempDir::new().unwrap();
    let path = pack(&dir, &[model("m", 16)], &[("only", 0, 3, None)], |_| {});
    let mut page = gathered(&path);
    assert_eq!(page.rungs[0].layers[0].as_ref().unwrap().cost, Cost::Unknown);
    let text = html(&page).unwrap();
    assert_sound(&text);
    assert_eq!(text.matches("Nothing to show.").count(), 3);
    assert!(text.contains("not measured") && text.contains("the finest of its kind"));
    // A reader refuses such a quality; a page shows none.
    page.rungs[0].quality = Some(f32::NAN);
    page.rungs[0].latency_ms = Some(f64::INFINITY);
    assert_sound(&html(&page).unwrap());
    page.rungs[0].quality = Some(7.0);
    page.rungs[0].planned = None;
    let text = html(&page).unwrap();
    assert_sound(&text);
    assert!(text.contains("no plan here") && text.contains("7.00"));
}

#[test]
fn a_family_shows_each_rung_its_own_tensors() {
    let dir = TempDir::new().unwrap();
    let rungs = [("s0-w2", 0, 1, Some(3.0)), ("s0-w8", 0, 4, Some(12.0)), ("s1-w2", 1, 1, Some(6.0))];
    let path = pack(&dir, &[model("small", 16), model("large", 48)], &rungs, |draft| {
        draft.header.costs = vec![StoredCost { graph: 1, tensor: 1, root: 0, db: vec![6.0] }];
    });
    let page = gathered(&path);
    let names = |i: usize| -> Vec<Option<&str>> {
        page.rungs[i].layers.iter().map(|l| l.as_ref().map(|l| l.name.as_str())).collect()
    };
    assert_eq!(names(0), [Some("small.w"), None]);
    assert_eq!(names(2), [None, Some("large.w")]);
    assert_eq!((page.rungs[0].finer, page.rungs[2].finer), (Some(1), None));
    assert_eq!(page.rungs[2].layers[1].as_ref().unwrap().cost, Cost::Db(6.0));
    assert_eq!(page.rungs[0].layers[0].as_ref().unwrap().cost, Cost::Unknown);
    let html = html(&page).unwrap();
    assert_sound(&html);
    assert!(html.contains("<li hidden>") && html.contains("large.w"));
}

#[test]
fn hostile_names_are_text() {
    let dir = TempDir::new().unwrap();
    let path =
        pack(&dir, &[model(HOSTILE, 16)], &[(HOSTILE, 0, 1, Some(1.0)), ("b", 0, 2, Some(2.0))], |draft| {
            draft.header.card.metadata.insert(HOSTILE.into(), HOSTILE.into());
            draft.header.card.metadata.insert("source".into(), HOSTILE.repeat(1000));
            draft.header.rungs[1].quality.as_mut().unwrap().metric = HOSTILE.into();
            draft.header.rungs[0].quality.as_mut().unwrap().samples = HOSTILE.into();
            draft.header.rungs[0].features.push(HOSTILE.into());
            draft.header.costs = vec![StoredCost { db: vec![f32::MIN, f32::MAX], ..StoredCost::default() }];
        });
    let html = html(&gathered(&path)).unwrap();
    assert_sound(&html);
    assert!(!html.contains('\u{202e}') && html.contains('\u{fffd}'));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;") && !html.contains("<script>alert"));
    assert!(html.len() < 100_000, "{}", html.len());
}

#[test]
fn a_cut_file_says_what_is_missing() {
    let dir = TempDir::new().unwrap();
    let rungs = [("w2", 0, 1, Some(9.0)), ("w16", 0, 6, Some(80.0))];
    let path = pack(&dir, &[model("m", 64)], &rungs, |_| {});
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let page = gathered(&path);
    assert_eq!((page.missing_bytes, page.best), (100, 0));
    assert!(page.rungs[0].latency_ms.is_some() && page.rungs[1].latency_ms.is_none());
    let html = html(&page).unwrap();
    assert_sound(&html);
    assert!(html.contains("The file is cut: 100 B are missing") && html.contains("lacks 100 bytes"));
}

#[test]
fn a_model_that_noise_does_not_suit_has_a_page() {
    let dir = TempDir::new().unwrap();
    let path = pack(&dir, &[model("m", 16)], &[("w2", 0, 1, Some(9.0))], |draft| {
        draft.header.graphs[0].inputs[0].dims = None;
    });
    let page = gathered(&path);
    assert!(page.not_planned.as_ref().is_some_and(|why| why.contains("--shape")), "{:?}", page.not_planned);
    let html = html(&page).unwrap();
    assert_sound(&html);
    assert!(html.contains("Memory was not planned") && html.contains("Latency was not measured"));
    // What somebody asked for is refused when it cannot be.
    let asked = |dims: &[usize]| {
        let options = PageOptions { shapes: vec![("x".into(), dims.to_vec())], ..PageOptions::default() };
        gather(&path, &options, &mut Quiet, &AtomicBool::new(false))
    };
    assert!(matches!(asked(&[1, 7]), Err(ConvertError::Select(_))));
    assert!(asked(&[1, 32]).unwrap().rungs[0].planned.is_some());
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let path = pack(&dir, &[model("m", 16)], &[("w2", 0, 1, None)], |_| {});
    let before = std::fs::read(&path).unwrap();
    let write = |to: &Path, stop: bool| {
        write_page(&path, to, &PageOptions::default(), &mut Quiet, &AtomicBool::new(stop)).map(|_| ())
    };
    assert!(matches!(write(&path, false), Err(ConvertError::Option { .. })));
    assert!(matches!(write(dir.path(), false), Err(ConvertError::Option { .. })));
    assert!(matches!(write(&dir.path().join("no/r.html"), false), Err(ConvertError::Io { .. })));
    assert!(matches!(write(&dir.path().join("r.html"), true), Err(ConvertError::Interrupted)));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    write(&dir.path().join("r.html"), false).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}
