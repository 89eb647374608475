//! The real models, from the cache that `shared/models/fetch.py` fills.

use crate::import::import_onnx;
use std::path::PathBuf;

fn cache() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let default = PathBuf::from(home).join(".cache/edge-models");
    std::env::var_os("EDGE_MODELS").map_or(default, PathBuf::from)
}

#[test]
#[ignore = "needs the fetched models"]
fn the_float_models_import() {
    let mut refused = Vec::new();
    for file in [
        "efficientnet-lite0/efficientnet-lite0.onnx",
        "nudenet/320n.onnx",
        "rapidocr/ch_PP-OCRv4_det_infer.onnx",
        "rapidocr/ch_PP-OCRv4_rec_infer.onnx",
        "rapidocr/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "silero-vad/silero_vad.onnx",
        "silero-vad/silero_vad_16k_op15.onnx",
        "basic-pitch/nmp.onnx",
        "magika/model.onnx",
    ] {
        match import_onnx(&cache().join(file)) {
            Ok(model) => println!("==== {file}\n{}", model.to_text()),
            Err(error) => refused.push(format!("==== {file}\n{error}")),
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
