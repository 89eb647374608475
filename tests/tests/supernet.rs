//! A supernet in one pack: each rung's subnet is the network that somebody would have written down for it, and no weight is stored twice.

use edge_converter::{Options, convert_supernet};
use edge_runtime::Session;
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npz};
use edge_runtime::pack::{Acts, Choice, Header, Rung, Take};
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_tests::onnx::Attr::{Float, Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::{Free, N};
use edge_tests::{Folder, Quiet, convert_in_process, edge_convert, edge_run, inputs_of, open};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Options of the five choices: expansion and window of two blocks, and whether there is the second.
const WIDTHS: [usize; 3] = [16, 24, 48];
const KERNELS: [usize; 2] = [3, 5];

const DESCRIPTION: &str = r#"
[[choice]]
name = "a.width"
options = [16, 24, 48]
[[choice]]
name = "a.kernel"
options = [3, 5]
[[choice]]
name = "depth"
options = ["one", "two"]
[[choice]]
name = "b.width"
options = [16, 24, 48]
[[cut]]
choice = "a.width"
sizes = [16, 24, 48]
of = ["a.up:0", "a.up_bias:0", "a.deep*:0", "a.down:1"]
[[kernel]]
choice = "a.kernel"
sizes = [3, 5]
weight = "a.deep"
transforms = ["a.matrix"]
[[skip]]
choice = "depth"
options = ["one"]
from = "a.out"
to = "b.out"
[[cut]]
choice = "b.width"
sizes = [16, 24, 48]
of = ["b.up:0", "b.up_bias:0", "b.deep*:0", "b.down:1"]
"#;

fn noise(key: u64, dims: &[usize], scale: f32) -> Vec<f32> {
    let count: usize = dims.iter().product();
    (0..count as u64).map(|i| (uniform(key, i) * 2.0 - 1.0) * scale).collect()
}

/// The first `n` rows, and of each the first `k` of `whole` columns times `inner`.
fn part(values: &[f32], whole: usize, n: usize, k: usize, inner: usize) -> Vec<f32> {
    values.chunks_exact(whole * inner).take(n).flat_map(|row| row[..k * inner].to_vec()).collect()
}

/// The middle of windows of 5 through a matrix, as the paper writes it.
fn shrunk(windows: &[f32], matrix: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for window in windows.chunks_exact(25) {
        let middle: Vec<f32> = (0..9).map(|i| window[(i / 3 + 1) * 5 + i % 3 + 1]).collect();
        out.extend((0..9).map(|r| (0..9).map(|c| matrix[9 * r + c] * middle[c]).sum::<f32>()));
    }
    out
}

/// The network with these sizes.
fn network(widths: [usize; 2], kernel: usize, two: bool) -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(3), N(12), N(12)]).output("y");
    b.array("stem", &[16, 3, 3, 3], &noise(1, &[16, 27], 0.4));
    b.node("Conv", "x stem", "s", &[("strides", Ints(&[2, 2])), ("pads", Ints(&[1; 4]))]);
    b.node("Relu", "s", "s.out", &[]);
    let mut value = "s.out".to_string();
    for (i, name) in ["a", "b"].into_iter().enumerate().take(if two { 2 } else { 1 }) {
        let (key, c) = (10 * i as u64 + 10, widths[i]);
        let most = WIDTHS[2];
        let deep = noise(key + 2, &[most, 25], 0.3);
        let matrix = noise(99, &[9, 9], 0.4);
        let side = if name == "a" { kernel } else { 5 };
        let windows = if side == 3 { shrunk(&deep, &matrix) } else { deep };
        let at = |part: &str| format!("{name}.{part}");
        b.array(&at("up"), &[c as i64, 16, 1, 1], &part(&noise(key, &[most, 16], 0.4), 16, c, 16, 1));
        b.array(&at("up_bias"), &[c as i64], &noise(key + 1, &[most], 0.2)[..c]);
        b.array(&at("deep"), &[c as i64, 1, side as i64, side as i64], &windows[..c * side * side]);
        b.array(&at("deep_bias"), &[c as i64], &noise(key + 3, &[most], 0.2)[..c]);
        b.array(&at("down"), &[16, c as i64, 1, 1], &part(&noise(key + 4, &[16, most], 0.3), most, 16, c, 1));
        if name == "a" && kernel == 5 {
            b.array("a.matrix", &[9, 9], &matrix);
        }
        let (k, p) = (side as i64, side as i64 / 2);
        let window: &[(&str, _)] =
            &[("kernel_shape", Ints(&[k, k])), ("pads", Ints(&[p; 4])), ("group", Int(c as i64))];
        b.node("Conv", &format!("{value} {name}.up {name}.up_bias"), &at("u"), &[]);
        b.node("Relu", &at("u"), &at("ur"), &[]);
        b.node("Conv", &format!("{name}.ur {name}.deep {name}.deep_bias"), &at("d"), window);
        b.node("Relu", &at("d"), &at("dr"), &[]);
        b.node("Conv", &format!("{name}.dr {name}.down"), &at("p"), &[]);
        b.node("Add", &format!("{name}.p {value}"), &at("out"), &[]);
        value = at("out");
    }
    b.array("head", &[10, 16], &noise(3, &[10, 16], 0.5));
    b.node("GlobalAveragePool", &value, "g", &[]).node("Flatten", "g", "f", &[("axis", Int(1))]);
    b.node("Gemm", "f head", "y", &[("transB", Int(1))]);
    b.finish("elastic")
}

fn supernet(folder: &Folder) -> PathBuf {
    let (model, description) = (folder.file("largest.onnx"), folder.file("supernet.toml"));
    folder.write("largest.onnx", &network([48, 48], 5, true));
    folder.write("supernet.toml", DESCRIPTION.as_bytes());
    let pack = folder.file("family.pack");
    let stop = AtomicBool::new(false);
    convert_supernet(&model, &description, &pack, &Options::default(), &mut Quiet, &stop).unwrap();
    pack
}

/// The outputs of a rung for two seeded pictures; of a subnet's with all planes.
fn answer(pack: &Path, rung: &str) -> Vec<f32> {
    let model = open(pack, Registry::standard());
    let rung = model.header().rungs.iter().find(|r| r.id == rung).unwrap();
    let mut whole = rung.clone();
    if rung.subnet.is_some() {
        whole.takes = vec![Some(Take(0, 0)); rung.takes.len()];
        whole.end = u64::MAX;
    }
    let rung = &whole;
    let inputs = inputs_of(&model, rung, 2, 5);
    let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let mut session = Session::new(&device, &model, rung, &specs).unwrap();
    session.set_input(0, &inputs[0].1).unwrap();
    session.run().unwrap();
    session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn header(pack: &Path) -> Header {
    open(pack, Registry::standard()).header().clone()
}

/// Greatest difference over the greatest element.
fn apart(want: &[f32], got: &[f32]) -> f32 {
    assert_eq!(want.len(), got.len());
    let most = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    want.iter().zip(got).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / most
}

#[test]
fn a_rung_of_a_subnet_is_that_network() {
    let folder = Folder::new("supernet");
    let pack = supernet(&folder);
    let header = header(&pack);
    let variables = &header.graphs[0].elastic.as_ref().unwrap().variables;
    assert_eq!(
        variables.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(),
        ["a.width", "a.kernel", "depth", "b.width"]
    );
    assert_eq!((header.graphs.len(), header.graphs[0].elastic.as_ref().unwrap().subnets()), (1, 36));
    let mut seen = Vec::new();
    // Every subnet with all planes, whatever its rungs take: codes of 16 bits, whose error is below 1e-4 of the range.
    for rung in header.rungs.iter().rev().filter(|r| r.acts == Acts::F32) {
        let subnet = &header.subnets[rung.subnet.unwrap() as usize];
        if seen.contains(&subnet.choice) {
            continue;
        }
        seen.push(subnet.choice.clone());
        let [wide, kernel, depth, second] = [0, 1, 2, 3].map(|v| subnet.choice.option(v));
        let two = depth == 1;
        let alone = network([WIDTHS[wide], WIDTHS[second]], KERNELS[kernel], two);
        let (onnx, plain) = (folder.write("alone.onnx", &alone), folder.file("alone.pack"));
        convert_in_process(&onnx, &plain, &[]);
        let (want, got) = (answer(&plain, "float"), answer(&pack, &rung.id));
        assert!(apart(&want, &got) <= 1e-3, "{}: {}", rung.id, apart(&want, &got));
    }
    assert!(seen.len() > 2, "{seen:?}");
}

/// Whether or not it has rungs: a choice of the whole pack, at the finest precision.
#[test]
fn every_subnet_is_that_network() {
    let folder = Folder::new("supernet-every");
    let pack = supernet(&folder);
    let model = open(&pack, Registry::standard());
    let header = model.header();
    let finest = header.rungs.iter().filter(|r| r.acts == Acts::F32).max_by_key(|r| r.bytes).unwrap();
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    for options in (0..36).map(|i| [i % 3, i / 3 % 2, i / 6 % 2, i / 12]) {
        let alone = network([WIDTHS[options[0]], WIDTHS[options[3]]], KERNELS[options[1]], options[2] == 1);
        let (onnx, plain) = (folder.write("alone.onnx", &alone), folder.file("alone.pack"));
        convert_in_process(&onnx, &plain, &[]);
        let cut = model.subnet(0, &Choice::new(&options).unwrap(), Some(finest)).unwrap();
        let rung = Rung { takes: vec![Some(Take(0, 0)); finest.takes.len()], ..cut.rungs[0].clone() };
        let inputs = inputs_of(&model, &rung, 2, 5);
        let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
        let mut session = Session::new(&device, &model, &rung, &specs).unwrap();
        session.set_input(0, &inputs[0].1).unwrap();
        session.run().unwrap();
        let got: Vec<f32> =
            session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let want = answer(&plain, "float");
        assert!(apart(&want, &got) <= 1e-3, "{options:?}: {}", apart(&want, &got));
    }
}

#[test]
fn weights_of_subnets_are_parts_of_one_another() {
    let folder = Folder::new("supernet-bytes");
    let header = header(&supernet(&folder));
    // Of all rungs with every plane, the largest has no fewer blobs than any other: the others' are among them, but for their windows.
    let largest = header.rungs.iter().max_by_key(|r| r.bytes).unwrap();
    assert_eq!(largest.subnet, Some(header.subnets.len() as u32 - 1));
    let shared: u64 = header.blobs.iter().map(|b| b.len).sum();
    // Windows of 3 of one block, and nothing else, is beside it: 48 x 9 weights of 2 bytes and their scales, in three parts.
    assert!(shared <= largest.bytes + 8192, "{shared} {}", largest.bytes);
}

/// A pointwise convolution and a normalization: the statistics are those of the samples.
#[test]
fn normalizations_have_the_statistics_of_the_samples() {
    let folder = Folder::new("supernet-norms");
    let (weight, scale, shift) = (noise(1, &[6, 4], 0.8), noise(2, &[6], 1.0), noise(3, &[6], 0.5));
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(4), N(3), N(3)]).output("y");
    b.array("w", &[6, 4, 1, 1], &weight).array("bn.scale", &[6], &scale).array("bn.shift", &[6], &shift);
    b.array("bn.mean", &[6], &[9.0; 6]).array("bn.variance", &[6], &[0.5; 6]).array(
        "h",
        &[2, 6, 1, 1],
        &noise(4, &[2, 6], 1.0),
    );
    b.node("Conv", "x w", "c", &[]).node(
        "BatchNormalization",
        "c bn.scale bn.shift bn.mean bn.variance",
        "n",
        &[("epsilon", Float(1e-3))],
    );
    b.node("Conv", "n h", "y", &[]);
    let model = folder.write("m.onnx", &b.finish("norms"));
    let text = "[[choice]]\nname = \"w\"\noptions = [3, 6]\n[[cut]]\nchoice = \"w\"\nsizes = [3, 6]\nof = [\"w:0\", \"bn.*:0\", \"h:1\"]\n";
    let description = folder.write("s.toml", text.as_bytes());
    let (rows, pixels) = (40, 9);
    let x = noise(7, &[rows, 4 * pixels], 2.0);
    let data = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let samples = folder.file("x.npz");
    write_npz(
        &samples,
        &[NamedArray { name: "x".into(), dtype: DType::F32, dims: vec![rows, 4, 3, 3], data }],
    )
    .unwrap();
    let pack = folder.file("p.pack");
    // All samples calibrate, the same ones are held out.
    let options = Options { calib: Some(samples.clone()), held_out: Some(samples), ..Options::default() };
    convert_supernet(&model, &description, &pack, &options, &mut Quiet, &AtomicBool::new(false)).unwrap();
    let header = header(&pack);
    for (index, subnet) in header.subnets.iter().enumerate() {
        let channels = [3, 6][subnet.choice.option(0)];
        let overlay = header.blobs[subnet.overlay.unwrap() as usize];
        let bytes = std::fs::read(&pack).unwrap();
        let own: Vec<f32> = bytes[overlay.offset as usize..][..8 * channels]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        for c in 0..channels {
            let y = |r: usize, p: usize| {
                (0..4)
                    .map(|k| f64::from(weight[4 * c + k]) * f64::from(x[(r * 4 + k) * pixels + p]))
                    .sum::<f64>()
            };
            // Twice the same samples: calibration and those held out.
            let all: Vec<f64> =
                (0..rows).flat_map(|r| (0..pixels).map(move |p| (r, p))).map(|(r, p)| y(r, p)).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let variance = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64;
            let factor = f64::from(scale[c]) / (variance + 1e-3).sqrt();
            let bias = f64::from(shift[c]) - mean * factor;
            // Factor and bias, in either order; batches of 64 of 80 samples average to within 2 %.
            let has =
                |want: f64| own.iter().any(|v| (f64::from(*v) - want).abs() <= 0.02 * want.abs().max(0.05));
            assert!(
                has(factor) && has(bias),
                "subnet {index}, channel {c}: {factor} {bias} not among {own:?}"
            );
        }
    }
}

#[test]
fn what_does_not_suit_the_model_is_refused() {
    let folder = Folder::new("supernet-bad");
    let model = folder.write("m.onnx", &network([48, 48], 5, true));
    let refused = |from: &str, to: &str, words: &[&str]| {
        let text = DESCRIPTION.replace(from, to);
        assert_ne!(text, DESCRIPTION);
        let description = folder.write("s.toml", text.as_bytes());
        let run = edge_convert()
            .arg(&model)
            .arg("--supernet")
            .arg(&description)
            .arg("-o")
            .arg(folder.file("p.pack"))
            .arg("--no-cache");
        run.run().expect_saying(4, words);
    };
    refused("\"a.up:0\"", "\"a.upp:0\"", &["a.upp:0", "no stored tensor"]);
    refused("\"a.up:0\"", "\"a.up\"", &["NAME:AXIS"]);
    refused("\"a.up:0\"", "\"a.up:7\"", &["a.up", "axis 7", "[48, 16, 1, 1]"]);
    refused("from = \"a.out\"", "from = \"a.nowhere\"", &["a.nowhere"]);
    refused("weight = \"a.deep\"", "weight = \"a.up\"", &["a.up", "[48, 16, 1, 1]"]);
    refused("transforms = [\"a.matrix\"]", "transforms = [\"head\"]", &["head", "[9, 9]"]);
    refused("sizes = [3, 5]\nweight", "sizes = [3, 7]\nweight", &["a.deep", "7"]);
    refused("options = [16, 24, 48]", "options = [16, 24]", &["entries", "options"]);
    // Widths that do not suit each other: both are said.
    refused("\"a.down:1\"", "\"a.down:0\"", &["a.width"]);
}

#[test]
fn a_budget_chooses_a_subnet() {
    let folder = Folder::new("supernet-budget");
    let pack = supernet(&folder);
    let header = header(&pack);
    let inputs: Vec<f32> = noise(3, &[3 * 144], 1.0);
    let data = inputs.iter().flat_map(|v| v.to_le_bytes()).collect();
    let x = folder.file("x.npz");
    write_npz(&x, &[NamedArray { name: "x".into(), dtype: DType::F32, dims: vec![1, 3, 12, 12], data }])
        .unwrap();
    let run =
        |mem: &str| edge_run().arg(&pack).arg("--input").arg(&x).args(&format!("--mem {mem} --json")).run();
    let large = run("1GB");
    let best = header.rungs.iter().max_by(|a, b| {
        let value = |r: &edge_runtime::pack::Rung| r.quality.as_ref().unwrap().value;
        value(a).total_cmp(&value(b))
    });
    assert_eq!(large.expect(0).json()["rung"], best.unwrap().id.as_str());
    let nothing = run("4MB");
    assert_eq!(nothing.code, Some(5), "{nothing:#?}");
}

/// Subnets and rungs follow the times of the device that they are for, wherever they are converted.
#[test]
fn a_profile_of_a_device_decides_what_is_fast() {
    let folder = Folder::new("supernet-device");
    let pack = supernet(&folder);
    let board = folder.file("board.json");
    let profile = edge_run().arg("profile-device").arg(&pack).arg("-o").arg(&board);
    let profile = profile.args("--threads 1 --repeat 2 --subnets 30 --shape 1,3,12,12 --json").run();
    let mut file = profile.expect(0).json();
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&board).unwrap()).unwrap();
    assert_eq!(file, written);
    let mut kinds = [0, 0];
    for step in file["steps"].as_array_mut().unwrap() {
        let (words, us) = (step["step"].as_str().unwrap(), step["us"].as_f64().unwrap());
        assert!(us > 0.0 && us < 1e6, "{step}");
        let slow = words.starts_with("depthwise 5x5");
        kinds[usize::from(slow)] += 1;
        // A device on which nothing takes long but large windows.
        step["us"] = if slow { 1000.0 } else { 1.0 }.into();
    }
    assert!(kinds[0] > 10 && kinds[1] > 3, "{kinds:?}");
    file["run_over_steps"] = 1.0.into();
    folder.write("board.json", file.to_string().as_bytes());

    let convert = |more: &str| {
        let run = edge_convert().arg(folder.file("largest.onnx"));
        let run = run.arg("--supernet").arg(folder.file("supernet.toml")).arg("--device").arg(&board);
        run.arg("-o").arg(folder.file("made.pack")).args("--no-cache --json").args(more).run()
    };
    let report = convert("--max-latency 0.5").expect(0).json();
    let rungs = report["rungs"].as_array().unwrap();
    assert!(!rungs.is_empty());
    let header = header(&folder.file("made.pack"));
    for rung in rungs {
        let ms = rung["latency_ms"].as_f64().unwrap();
        assert!(ms > 0.0 && ms < 0.1, "{rung}");
        let rung = header.rungs.iter().find(|r| rung["id"] == r.id.as_str()).unwrap();
        let choice: Vec<usize> = header.subnets[rung.subnet.unwrap() as usize].choice.options().collect();
        assert_eq!((choice[1], choice[2]), (0, 0), "windows of 3 alone: {}", rung.id);
    }
    // The page of another pack tells its rungs apart as well.
    let page = folder.file("page.html");
    let run = edge_convert().arg("report").arg(&pack).arg("-o").arg(&page).arg("--device").arg(&board);
    let figures = run.args("--json --shape x=1,3,12,12").run().expect(0).json();
    let rungs = figures["rungs"].as_array().unwrap();
    let times: Vec<f64> = rungs.iter().filter_map(|rung| rung["latency_ms"].as_f64()).collect();
    assert!(times.iter().any(|ms| *ms > 2.0) && times.iter().any(|ms| *ms < 1.1), "{times:?}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("Latencies expected of"));

    folder.write("board.json", b"[]");
    convert("").expect_saying(2, &["option --device: ", "no profile of a device", "profile-device"]);
    std::fs::remove_file(&board).unwrap();
    convert("").expect_saying(6, &["board.json"]);
}
