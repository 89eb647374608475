//! The real models, from the cache that `shared/models/fetch.py` fills.

use super::reference::{Tensor, run};
use super::{noise, ops};
use crate::import::import_onnx;
use crate::model::Model;
use crate::simplify::{Options, simplify_with_report};
use edge_runtime::graph::Dim;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Each model and the transposes that may remain: at its inputs and outputs, and around the heads of attention.
const MODELS: &[(&str, usize)] = &[
    ("efficientnet-lite0/efficientnet-lite0.onnx", 1),
    ("nudenet/320n.onnx", 2),
    ("rapidocr/ch_PP-OCRv4_det_infer.onnx", 1),
    ("rapidocr/ch_PP-OCRv4_rec_infer.onnx", 5),
    ("rapidocr/ch_ppocr_mobile_v2.0_cls_infer.onnx", 1),
    ("silero-vad/silero_vad.onnx", 4),
    ("silero-vad/silero_vad_16k_op15.onnx", 2),
    ("basic-pitch/nmp.onnx", 0),
    ("magika/model.onnx", 0),
];

fn cache() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    std::env::var_os("EDGE_MODELS").map_or(PathBuf::from(home).join(".cache/edge-models"), PathBuf::from)
}

fn histogram(model: &Model) -> BTreeMap<String, usize> {
    ops(model).into_iter().fold(BTreeMap::new(), |mut all, op| {
        *all.entry(op).or_default() += 1;
        all
    })
}

#[test]
#[ignore = "needs the fetched models"]
fn the_float_models_simplify() {
    for (file, transposes) in MODELS {
        let model = import_onnx(&cache().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let before = histogram(&model);
        let start = std::time::Instant::now();
        let (simple, reports) = simplify_with_report(model, &Options::default());
        let after = histogram(&simple);
        println!("==== {file}: {:?}", start.elapsed());
        for (op, count) in &before {
            println!("{op:40} {count:5} -> {}", after.get(op).copied().unwrap_or(0));
        }
        for (op, count) in after.iter().filter(|(op, _)| !before.contains_key(*op)) {
            println!("{op:40}     0 -> {count}");
        }
        println!(
            "{}",
            reports.iter().map(|r| format!("{}: {}", r.name, r.changed)).collect::<Vec<_>>().join(", ")
        );
        if std::env::var_os("EDGE_DUMP").is_some() {
            println!("{}", simple.to_text());
        }
        let left = after.get("Transpose").copied().unwrap_or(0);
        assert!(left <= *transposes, "{file}: {left} transposes");
    }
}

/// The models whose operations the reference knows, and small shapes to run them on.
const SMALL: &[(&str, &[&[usize]])] = &[
    ("rapidocr/ch_PP-OCRv4_det_infer.onnx", &[&[1, 3, 32, 64]]),
    ("rapidocr/ch_PP-OCRv4_rec_infer.onnx", &[&[2, 3, 48, 40]]),
    ("rapidocr/ch_ppocr_mobile_v2.0_cls_infer.onnx", &[&[2, 3, 48, 64]]),
    ("nudenet/320n.onnx", &[&[1, 3, 64, 96]]),
    ("magika/model.onnx", &[&[1, 2048]]),
    ("efficientnet-lite0/efficientnet-lite0.onnx", &[&[1, 3, 64, 64]]),
];

#[test]
#[ignore = "needs the fetched models"]
fn the_float_models_compute_the_same() {
    for (file, shapes) in SMALL {
        let model = import_onnx(&cache().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let mut seed = 1;
        let inputs: Vec<Tensor> = shapes
            .iter()
            .map(|dims| Tensor { dims: dims.to_vec(), data: noise(&mut seed, dims.iter().product()) })
            .collect();
        let before = run(&model, &inputs);
        let (simple, _) = simplify_with_report(model, &Options::default());
        for (want, got) in before.iter().zip(run(&simple, &inputs)) {
            assert_eq!(want.dims, got.dims, "{file}");
            let largest = want.data.iter().fold(0f64, |m, v| m.max(v.abs()));
            let worst = want.data.iter().zip(&got.data).map(|(w, g)| (w - g).abs()).fold(0f64, f64::max);
            println!("{file}: largest {largest:.2e}, worst difference {worst:.2e}");
            // Weights are rounded to f32 once more where something was folded into them.
            assert!(worst <= 2e-5 * largest, "{file}: {worst} of {largest}");
        }
    }
}

/// Every model of ONNX's own suite that imports: simplifying it changes neither its outputs' names nor, where the
/// reference can run it, their values.
#[test]
#[ignore = "needs the fetched models"]
fn the_suite_computes_the_same() {
    let folder = cache().join("onnx-suite/node");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let (mut simplified, mut compared, mut wrong) = (0, 0, Vec::new());
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(model) = import_onnx(&entry.path().join("model.onnx")) else { continue };
        let (simple, _) = simplify_with_report(model.clone(), &Options::default());
        simplified += 1;
        let names =
            |m: &Model| m.graph.outputs.iter().map(|p| m.graph.name(p.value).to_owned()).collect::<Vec<_>>();
        if names(&model) != names(&simple) {
            wrong.push(format!("{name}: names"));
        }
        let Some(inputs) = inputs(&model) else { continue };
        // The reference panics at what it does not know.
        let Ok(before) = std::panic::catch_unwind(|| run(&model, &inputs)) else { continue };
        compared += 1;
        let Ok(after) = std::panic::catch_unwind(|| run(&simple, &inputs)) else {
            wrong.push(format!("{name}: cannot run {:?}", ops(&simple)));
            continue;
        };
        let near = |w: &f64, g: &f64| {
            w == g || (w.is_nan() && g.is_nan()) || (w - g).abs() <= 1e-5 * (1.0 + w.abs())
        };
        for (want, got) in before.iter().zip(&after) {
            if want.dims != got.dims || !want.data.iter().zip(&got.data).all(|(w, g)| near(w, g)) {
                wrong.push(format!("{name}: {:?} to {:?}", ops(&model), ops(&simple)));
            }
        }
    }
    println!("simplified {simplified}, compared {compared}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Seeded inputs, free dimensions 4, integers 0 and 1.
fn inputs(model: &Model) -> Option<Vec<Tensor>> {
    let mut seed = 3;
    let ports = model.graph.inputs.iter();
    ports
        .map(|port| {
            let dims: Vec<usize> =
                port.dims.as_ref()?.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { 4 }).collect();
            let noise = noise(&mut seed, dims.iter().product());
            let round = |v: f64| if port.dtype.is_float() { v } else { f64::from(v > 0.0) };
            Some(Tensor { dims, data: noise.into_iter().map(round).collect() })
        })
        .collect()
}
