//! The programs as a user meets them: help, exit codes, inputs, budgets.

use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npy};
use edge_runtime::pack::Acts;
use edge_tests::{Ended, Folder, Sample, edge_convert, edge_run, models};
use std::path::PathBuf;

fn array(folder: &Folder, file: &str, dtype: DType, dims: &[usize], byte: u8) -> PathBuf {
    let data = vec![byte; dims.iter().product::<usize>() * dtype.bytes()];
    let path = folder.file(file);
    write_npy(&path, &NamedArray { name: "x".into(), dtype, dims: dims.to_vec(), data }).unwrap();
    path
}

#[test]
fn help_has_examples_and_exit_codes() {
    for program in [edge_run(), edge_convert()] {
        let help = program.arg("--help").run();
        help.expect(0);
        assert!(help.stdout.contains("Examples:") && help.stdout.contains("Exit codes:"), "{}", help.stdout);
        assert_eq!(help.stderr, "");
    }
    edge_run().arg("--version").run().expect(0);
    edge_run().run().expect(2);
    edge_convert().run().expect(2);
    edge_run().args("--no-such-flag").run().expect(2);
}

#[test]
fn stdout_carries_the_answer_and_nothing_else() {
    let s = Sample::new(&models::classifier(), "");
    let text = s.run().arg("-vv").run();
    text.expect(0);
    assert_eq!(text.stdout.lines().count(), 1, "{text:#?}");
    assert!(text.stdout.starts_with("y f32 [1, 10]:"), "{text:#?}");
    let json = s.run().args("--json --top 3").run();
    let json = json.expect(0).json();
    assert_eq!(json["top"].as_array().map(Vec::len), Some(3));
    let output = s.folder.file("out.npz");
    let written = s.run().arg("--output").arg(&output).run();
    written.expect(0);
    assert!(output.is_file() && written.stdout.is_empty(), "{written:#?}");
    for command in ["plan", "inspect", "verify"] {
        edge_run().arg(command).arg(&s.pack).arg("--json").run().expect(0).json();
    }
    let bench = edge_run().arg("bench").arg(&s.pack).args("--mem 256MB --repeat 2 --format json").run();
    bench.expect(0).json();
}

#[test]
fn checkpoints_are_listed_and_code_in_them_is_refused() {
    let file =
        |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reference/checkpoints").join(name);
    let list = |name: &str| edge_convert().arg("inspect").arg(file(name));
    let text = list("every-type.pth").run();
    text.expect(0);
    assert!(text.stdout.contains("layer.0.weight  f32   [2, 3]"), "{text:#?}");
    let json = list("every-type.pth").args("--part optimizer --json").run();
    let json = json.expect(0).json();
    assert_eq!(json["tensors"].as_array().map(Vec::len), Some(2));
    list("code.pth").run().expect_saying(4, &["posix.system", "refused"]);
    list("nowhere.pth").run().expect_saying(4, &["nowhere.pth"]);
}

#[test]
fn a_profile_names_every_step_and_is_a_trace() {
    let s = Sample::new(&models::classifier(), "");
    let folder = Folder::new("trace");
    let trace = folder.file("trace.json");
    let bench = edge_run().arg("bench").arg(&s.pack).args("--repeat 2 --json --profile").arg(&trace).run();
    let bench = bench.expect(0).json();
    let steps = bench["steps"].as_array().unwrap();
    assert!(!steps.is_empty());
    for step in steps {
        assert!(step["us"].as_f64().unwrap() > 0.0 && !step["kernel"].as_str().unwrap().is_empty(), "{step}");
        // Bytes are moved by every step; at no rate above the limit by so much that it must be wrong.
        let share = step["share_of_limit"].as_f64().unwrap();
        assert!(share > 0.0 && share < 100.0, "{step}");
    }
    assert!(steps.iter().any(|step| step["gops"].as_f64().unwrap() > 0.0), "{steps:?}");
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.len(), 2 * steps.len());
    for pair in events.windows(2) {
        let end = pair[0]["ts"].as_f64().unwrap() + pair[0]["dur"].as_f64().unwrap();
        assert!(end <= pair[1]["ts"].as_f64().unwrap() + 0.01, "{pair:?}");
    }
    let nowhere = folder.path().join("no-folder").join("trace.json");
    let bench = edge_run().arg("bench").arg(&s.pack).args("--repeat 1 --profile").arg(&nowhere).run();
    bench.expect_saying(6, &["no-folder"]);
}

#[test]
fn a_bench_of_integers_says_what_floats_take_when_asked_for_more() {
    let s = Sample::new(&models::classifier(), "");
    let bench = |acts: Acts, more: &str| {
        let rung = s.rungs(acts).pop().unwrap();
        let run = edge_run().arg("bench").arg(&s.pack).args("--repeat 2 --rung").arg(rung).args(more).run();
        run.expect(0);
        run
    };
    assert!(bench(Acts::I8, "-v --json").json()["on_floats_ms"].as_f64().unwrap() > 0.0);
    let text = bench(Acts::I8, "-v").stdout;
    assert!(text.contains("floats between layers") && text.contains("integers save"), "{text}");
    assert!(bench(Acts::F32, "-v --json").json()["on_floats_ms"].is_null());
    assert!(bench(Acts::I8, "--json").json()["on_floats_ms"].is_null());
}

#[test]
fn limits_need_no_pack_and_nothing_else_does() {
    let limits = edge_run().args("bench --limits --json -t 1").run();
    let limits = limits.expect(0).json();
    let one = &limits["limits"][0];
    assert_eq!(one["threads"], 1);
    assert!(one["f32_gflops"].as_f64().unwrap() > 0.0 && one["i8_gops"].as_f64().unwrap() > 0.0, "{one}");
    edge_run().args("bench").run().expect_saying(2, &["PACK"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let s = Sample::new(&models::classifier(), "");
    let inspect = edge_run().arg("inspect").arg(&s.pack);
    for program in [s.run(), s.run().arg("--json"), inspect, edge_run().arg("--help")] {
        let mut child = program.spawn();
        drop(child.stdout.take());
        let ended = Ended::of(child);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    }
}

#[test]
fn budgets_that_are_none_or_too_small() {
    let s = Sample::new(&models::classifier(), "");
    let with =
        |mem: &str| edge_run().arg(&s.pack).arg("--input").arg(&s.input).arg(format!("--mem={mem}")).run();
    for wrong in ["banana", "-5MB", "", "MB", "1.5.2MB", "10XB", "99999999999999999999GB"] {
        with(wrong).expect_saying(2, &["--mem"]);
    }
    for small in ["0", "10KB"] {
        let ended = with(small);
        ended.expect(5);
        assert!(ended.stdout.is_empty(), "{ended:#?}");
    }
    // Large enough to read the header, too small for the process itself.
    with("1MB").expect(5);
    edge_run().arg("plan").arg(&s.pack).args("--mem 1MB").run().expect(5);
}

/// Times are whatever they are here, so only limits that anything and nothing meets are asked for.
#[test]
fn a_rung_that_is_fast_enough_runs_or_the_fastest_is_named() {
    let s = Sample::new(&models::classifier(), "");
    let plain = s.run().arg("--json").run();
    let within = s.run().args("--json --latency 100s").run();
    let rung = |ended: &Ended| ended.json()["rung"].as_str().unwrap().to_string();
    assert_eq!(rung(&within), rung(&plain));
    let slow = s.run().args("--latency 0.001us").run();
    slow.expect_saying(5, &["no rung that fits runs within 1.0ns", "the fastest of", "takes"]);
    assert!(slow.stdout.is_empty(), "{slow:#?}");
    s.run().args("--latency 5").run().expect_saying(2, &["--latency", "5ms"]);
    s.run().args("--latency 5ms --rung w8.0").run().expect_saying(2, &["--latency", "--rung"]);
    let bench =
        |latency: &str| edge_run().arg("bench").arg(&s.pack).args("--repeat 1 --latency").arg(latency).run();
    bench("100s").expect(0);
    bench("0.001us").expect(5);
}

#[test]
fn wrong_flags_are_usage() {
    let s = Sample::new(&models::classifier(), "");
    s.run().args("--rung none-such").run().expect_saying(2, &["none-such"]);
    s.run().env("EDGE_THREADS", "lots").run().expect(0);
    edge_run().arg("plan").arg(&s.pack).env("EDGE_THREADS", "lots").run().expect_saying(2, &["EDGE_THREADS"]);
    s.run().env("EDGE_ISA", "mmx").run().expect_saying(2, &["EDGE_ISA", "scalar"]);
    edge_run().arg(&s.pack).args("--threads 0 --input").arg(&s.input).run().expect(2);
    edge_run().arg("plan").arg(&s.pack).args("--shape x=1,a").run().expect_saying(2, &["--shape"]);
    edge_convert().arg(s.folder.file("m.onnx")).arg("-o").arg(&s.pack).args("--state y").run().expect(2);
}

#[test]
fn inputs_of_wrong_name_type_rank_or_shape_are_named() {
    let s = Sample::new(&models::classifier(), "");
    let run = |input: String| edge_run().arg(&s.pack).args("--mem 256MB --input").arg(input).run();
    let file = |p: PathBuf| p.display().to_string();

    edge_run().arg(&s.pack).args("--mem 256MB").run().expect_saying(2, &["`x`", "f32", "3, 16, 16"]);
    run(format!("wrong={}", s.input.display())).expect_saying(2, &["wrong", "`x`"]);
    let typed = array(&s.folder, "i64.npy", DType::I64, &[1, 3, 16, 16], 0);
    run(file(typed)).expect_saying(2, &["`x`", "i64", "f32"]);
    let flat = array(&s.folder, "flat.npy", DType::F32, &[768], 0);
    run(file(flat)).expect_saying(2, &["`x`", "[768]", "[1, 3, 16, 16]"]);
    let wide = array(&s.folder, "wide.npy", DType::F32, &[1, 3, 16, 17], 0);
    run(file(wide)).expect_saying(2, &["`x`", "[1, 3, 16, 17]", "[1, 3, 16, 16]"]);

    run(file(s.folder.file("none.npy"))).expect_saying(4, &["none.npy"]);
    let noise = s.folder.write("noise.npy", b"no array at all");
    run(file(noise)).expect_saying(4, &["noise.npy"]);
    let kind = s.folder.write("x.xyz", b"?");
    run(file(kind)).expect_saying(2, &["x.xyz"]);
    run(file(s.folder.write("x.png", b"no picture"))).expect(2);
}

#[test]
fn float_rungs_propagate_nan_and_integer_rungs_refuse_it() {
    let s = Sample::new(&models::classifier(), "");
    // Four bytes of ones are a NaN.
    let nan = array(&s.folder, "nan.npy", DType::F32, &[1, 3, 16, 16], 0xff);
    let run = |rung: &str| {
        edge_run().arg(&s.pack).arg("--input").arg(&nan).args("--mem 256MB --rung").arg(rung).run()
    };
    let float = s.rungs(Acts::F32).pop().unwrap();
    let ended = run(&float);
    ended.expect(0);
    assert!(ended.stdout.contains("NaN"), "{ended:#?}");
    let integer = s.rungs(Acts::I8).pop().unwrap();
    run(&integer).expect_saying(2, &["`x`"]);
}

#[test]
fn every_unsupported_node_is_listed_at_once() {
    let folder = Folder::new("unsupported");
    let (source, pack) = (folder.write("m.onnx", &models::unsupported()), folder.file("m.pack"));
    let text = edge_convert().arg(&source).arg("-o").arg(&pack).run();
    text.expect_saying(3, &["Frobnicate", "Quuxify"]);
    let json = edge_convert().arg(&source).arg("-o").arg(&pack).arg("--json").run();
    let json = json.expect(3).json();
    let list = json["unsupported"].as_array().unwrap();
    let found: Vec<_> =
        list.iter().map(|u| (u["op"].as_str().unwrap(), u["count"].as_u64().unwrap())).collect();
    assert_eq!(found, [("Frobnicate", 2), ("Quuxify", 1)], "{json}");
    for one in list {
        assert!(one["node"].is_string() && one["opset"] == 17 && one["inputs"].is_array(), "{one}");
    }
    assert_eq!(folder.names(), ["m.onnx"]);
}

#[test]
fn pictures_are_decoded_within_the_budget() {
    let folder = Folder::new("picture");
    let card =
        br#"{"input":{"x":{"kind":"image","colour":"rgb","layout":"nchw","mean":[127.0],"std":[128.0]}}}"#;
    let (source, card) = (folder.write("m.onnx", &models::classifier()), folder.write("card.json", card));
    let pack = folder.file("m.pack");
    edge_convert().arg(source).arg("-o").arg(&pack).arg("--card").arg(card).run().expect(0);
    let run = |file: PathBuf, mem: &str| {
        edge_run().arg(&pack).arg("--input").arg(file).args("--mem").arg(mem).run()
    };

    let small = folder.file("small.png");
    image::RgbImage::from_pixel(64, 48, image::Rgb([200, 90, 10])).save(&small).unwrap();
    run(small, "256MB").expect(0);
    let wrong = folder.write("wrong.png", b"\x89PNG\r\n\x1a\nand nothing more");
    run(wrong, "256MB").expect_saying(4, &["wrong.png"]);

    let large = folder.file("large.png");
    image::RgbImage::from_pixel(4000, 3000, image::Rgb([1, 2, 3])).save(&large).unwrap();
    let ended = run(large, "24MB");
    ended.expect(5);
    assert!(ended.stdout.is_empty(), "{ended:#?}");
    // 36 MB of samples were never held.
    assert!(ended.peak <= 24_000_000, "peak {}", ended.peak);
}

#[test]
fn states_and_free_dimensions_run() {
    let s = Sample::new(&models::lstm(), "--state hn=h --state cn=c");
    let all = s.run().run();
    all.expect(0);
    let s = Sample::new(&models::mlp(), "");
    for batch in [1, 7, 33] {
        let x = array(&s.folder, "b.npy", DType::F32, &[batch, 32], 0);
        let ended = edge_run().arg(&s.pack).arg("--input").arg(x).args("--mem 256MB").run();
        ended.expect(0);
        assert!(ended.stdout.starts_with(&format!("y f32 [{batch}, 10]")), "{ended:#?}");
    }
}

#[test]
fn the_ladder_has_the_rungs_that_were_asked_for() {
    let folder = Folder::new("wishes");
    let (source, pack) = (folder.write("m.onnx", &models::deep(4, 128)), folder.file("m.pack"));
    let convert = |args: &str| edge_convert().arg(&source).arg("-o").arg(&pack).args(args).run();
    let rungs = |args: &str| -> Vec<(String, u64, f64)> {
        let report = convert(&format!("--json {args}"));
        let rungs = report.expect(0).json()["rungs"].as_array().unwrap().clone();
        let rung = |r: &serde_json::Value| {
            let quality = r["quality"].as_f64().or(r["quality"]["value"].as_f64()).unwrap();
            (r["id"].as_str().unwrap().to_string(), r["bytes"].as_u64().unwrap(), quality)
        };
        rungs.iter().map(rung).collect()
    };
    // Two of 65,536 weights: 4.5 and 8.5 bits each.
    let sized = rungs("--budgets 37kB,70kB");
    assert!(sized.len() <= 8 && sized.iter().all(|(_, bytes, _)| *bytes <= 70_000), "{sized:?}");
    assert!(
        sized.iter().any(|(_, bytes, _)| *bytes > 60_000) && sized.iter().any(|r| r.1 <= 37_000),
        "{sized:?}"
    );
    // Those with f32 activations fill their sizes; the others take what integers gain from.
    let stepped: Vec<_> = rungs("--step 20kB").into_iter().filter(|(id, ..)| !id.contains("-a8")).collect();
    let fills = |bytes: u64| bytes % 20_000 > 12_000 || bytes > 130_000;
    assert!(stepped.len() > 4 && stepped.iter().all(|(_, bytes, _)| fills(*bytes)), "{stepped:?}");
    let good = rungs("--min-quality 40");
    assert!(!good.is_empty() && good.iter().all(|(.., quality)| *quality >= 40.0), "{good:?}");
    assert!(!rungs("--max-latency 1000").is_empty());
    // What cannot be, and what it could be.
    convert("--budgets 1kB").expect_saying(2, &["--budgets", "1 kB", "less than the smallest rung's"]);
    convert("--min-quality 500").expect_saying(2, &["--min-quality", "500", "above the best rung's"]);
    convert("--max-latency 0").expect_saying(2, &["--max-latency", "less than the fastest rung's"]);
    convert("--step 0").expect_saying(2, &["--step", "expected a size"]);
    convert("--budgets 2cats").expect(2);
}
