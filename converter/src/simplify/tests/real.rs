//! The real models, from the cache that `shared/models/fetch.py` fills.

use super::ops;
use crate::import::import_onnx;
use crate::model::Model;
use crate::simplify::{Options, simplify_with_report};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Each model and the transposes that may remain: at its inputs and outputs and where its rank really changes.
const MODELS: &[(&str, usize)] = &[
    ("efficientnet-lite0/efficientnet-lite0.onnx", 1),
    ("nudenet/320n.onnx", 9),
    ("rapidocr/ch_PP-OCRv4_det_infer.onnx", 2),
    ("rapidocr/ch_PP-OCRv4_rec_infer.onnx", 9),
    ("rapidocr/ch_ppocr_mobile_v2.0_cls_infer.onnx", 1),
    ("silero-vad/silero_vad.onnx", 9),
    ("silero-vad/silero_vad_16k_op15.onnx", 9),
    ("basic-pitch/nmp.onnx", 9),
    ("magika/model.onnx", 9),
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
