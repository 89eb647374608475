//! `edge-run-case MODEL INPUTS_DIR OUT_DIR`: one test of the ONNX suite, for `tests/conformance/suite.py`.
#![forbid(unsafe_code)]

use edge_converter::case::{is_refusal, run_case};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, inputs_dir, out_dir] = args.as_slice() else {
        eprintln!("usage: edge-run-case MODEL INPUTS_DIR OUT_DIR");
        return ExitCode::from(2);
    };
    match run_case(model, inputs_dir, out_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("edge-run-case: {e}");
            ExitCode::from(if is_refusal(&e) { 3 } else { 1 })
        }
    }
}
