//! The independent engine: what its process does to a conversion, whatever becomes of it; and, with the feature `witness`,
//! what it says.

use edge_converter::witness::{Verdict, Witness};
use edge_converter::{ConvertError, Options, Report};
use edge_tests::{Folder, Quiet, models};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A program that is called as the witness is: `--witness-child MODEL IN.npz OUT.npz`.
fn stand_in(folder: &Folder, commands: &str) -> PathBuf {
    let path = folder.write("witness.sh", format!("#!/bin/sh\n{commands}\n").as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn convert(folder: &Folder, program: &Path, seconds: f64, required: bool) -> Result<Report, ConvertError> {
    let source = folder.write("m.onnx", &models::mlp());
    let witness = Witness { program: program.into(), timeout: Duration::from_secs_f64(seconds), required };
    let options = Options { witness: Some(witness), ..Options::default() };
    let pack = folder.file("m.pack");
    edge_converter::convert(&[source], &pack, &options, &mut Quiet, &AtomicBool::new(false))
}

#[track_caller]
fn cannot_run(commands: &str, seconds: f64, words: &str) {
    let folder = Folder::new("witness");
    let program = stand_in(&folder, commands);
    let report = convert(&folder, &program, seconds, false).unwrap();
    let Verdict::CannotRun { why } = &report.witness else { panic!("{:?}", report.witness) };
    assert!(why.contains(words), "{why}");
    assert!(folder.file("m.pack").is_file());
}

#[test]
fn an_engine_that_refuses_is_quoted() {
    cannot_run("echo 'no such operator: Frobnicate' >&2; exit 1", 10.0, "no such operator: Frobnicate");
}

#[test]
fn an_engine_that_crashes_harms_nothing() {
    cannot_run("echo 'thread main panicked' >&2; kill -SEGV $$", 10.0, "signal: 11");
    cannot_run("exit 0", 10.0, "out.npz");
}

#[test]
fn an_engine_that_hangs_is_stopped() {
    let start = Instant::now();
    cannot_run("exec sleep 60", 0.2, "no answer in 0.2 s");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_missing_engine_is_said() {
    let folder = Folder::new("witness");
    let report = convert(&folder, &folder.file("nobody"), 10.0, false).unwrap();
    assert!(report.witness.to_string().contains("nobody"), "{}", report.witness);
}

#[test]
fn no_pack_is_written_that_a_required_witness_does_not_confirm() {
    let folder = Folder::new("witness");
    let program = stand_in(&folder, "echo 'not today' >&2; exit 1");
    let error = convert(&folder, &program, 10.0, true).unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(error.to_string().contains("not today"), "{error}");
    assert_eq!(folder.names(), ["m.onnx", "witness.sh"]);
}

#[cfg(not(feature = "witness"))]
#[test]
fn a_program_without_the_engine_says_how_to_get_it() {
    let folder = Folder::new("witness");
    let source = folder.write("m.onnx", &models::mlp());
    let pack = folder.file("m.pack");
    let ended = edge_tests::edge_convert().arg(&source).arg("-o").arg(&pack).args("--witness require").run();
    ended.expect_saying(2, &["--witness", "--features witness"]);
    edge_tests::edge_convert().arg(&source).arg("-o").arg(&pack).args("--witness off").run().expect(0);
}

#[cfg(feature = "witness")]
mod engine {
    use super::*;
    use edge_tests::onnx::Builder;
    use edge_tests::onnx::Dim::N;
    use edge_tests::{Program, edge_convert, edge_run};

    fn program(folder: &Folder, onnx: &[u8]) -> Program {
        let source = folder.write("m.onnx", onnx);
        edge_convert().arg(source).arg("-o").arg(folder.file("m.pack"))
    }

    #[test]
    fn it_confirms_small_models_and_the_pack_says_so() {
        for (onnx, args) in
            [(models::classifier(), ""), (models::mlp(), ""), (models::lstm(), "--state hn=h --state cn=c")]
        {
            let folder = Folder::new("witness");
            let ended = program(&folder, &onnx).args(args).args("--witness require --json").run();
            let verdict = ended.expect(0).json()["witness"].clone();
            assert_eq!(verdict["verdict"], "agrees", "{verdict}");
            assert!(verdict["error"].as_f64().unwrap() < 1e-5, "{verdict}");
            let inspected = edge_run().arg("inspect").arg(folder.file("m.pack")).run();
            assert!(inspected.expect(0).stdout.contains("tract"), "{inspected:#?}");
        }
    }

    #[test]
    fn another_model_s_outputs_are_a_disagreement() {
        let folder = Folder::new("witness");
        let mut other = Builder::new();
        other.input("x", &[edge_tests::onnx::Dim::Free("batch"), N(32)]).output("y");
        other.weight("w", &[10, 32], 0.3).node(
            "Gemm",
            "x w",
            "z",
            &[("transB", edge_tests::onnx::Attr::Int(1))],
        );
        other.node("Softmax", "z", "y", &[("axis", edge_tests::onnx::Attr::Int(1))]);
        let other = folder.write("other.onnx", &other.finish("other"));
        let convert = edge_tests::program("edge-convert");
        let commands =
            format!("exec '{}' --witness-child '{}' \"$3\" \"$4\"", convert.display(), other.display());
        let program = stand_in(&folder, &commands);
        let report = convert_with(&folder, &program);
        let Verdict::Disagrees { output, error, .. } = &report.witness else {
            panic!("{:?}", report.witness)
        };
        assert!(output == "y" && *error > 1e-3);
        assert!(report.to_string().contains("DISAGREES"), "{report}");
    }

    fn convert_with(folder: &Folder, program: &Path) -> Report {
        convert(folder, program, 60.0, false).unwrap()
    }
}
