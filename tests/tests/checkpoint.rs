//! The checkpoint of a once-for-all network through `edge-convert`: each rung's subnet is the one that `import::ofa` makes of the same choice, and what does
//! not belong to such a network is named.

use edge_converter::draft::float_draft;
use edge_converter::import::checkpoint::Checkpoint;
use edge_converter::import::ofa::Supernet;
use edge_converter::import::{Norms, Statistics};
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npz};
use edge_runtime::pack::{Acts, Rung, Take};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::{Folder, edge_convert, open};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pictures, each of `SIDE * SIDE`, that the subnets' statistics are of.
const PICTURES: usize = 16;
const SIDE: usize = 32;
const CLASSES: usize = 10;

type Tensors = Vec<(String, Vec<usize>)>;

fn noise(key: u64, dims: &[usize], scale: f32) -> Vec<f32> {
    let count: usize = dims.iter().product();
    (0..count as u64).map(|i| (uniform(key, i) * 2.0 - 1.0) * scale).collect()
}

/// A layer's convolution and its norm.
fn normed(tensors: &mut Tensors, layer: &str, dims: [usize; 4]) {
    tensors.push((format!("{layer}.conv.weight"), dims.to_vec()));
    for part in ["weight", "bias", "running_mean", "running_var"] {
        tensors.push((format!("{layer}.bn.{part}"), vec![dims[0]]));
    }
}

/// The names and shapes of a narrow network like the package's MobileNetV3.
fn tensors() -> Tensors {
    let mut t = Tensors::new();
    normed(&mut t, "first_conv", [8, 3, 3, 3]);
    let mut channels = 8;
    let mut block = 0;
    let mut add = |t: &mut Tensors, out: usize, expand: usize, kernel: usize, squeezes: bool| {
        let prefix = format!("blocks.{block}.mobile_inverted_conv.");
        let middle = channels * expand;
        if expand > 1 {
            normed(t, &format!("{prefix}inverted_bottleneck"), [middle, channels, 1, 1]);
        }
        normed(t, &format!("{prefix}depth_conv"), [middle, 1, kernel, kernel]);
        for large in (5..=kernel).step_by(2) {
            if expand > 1 {
                let side = (large - 2) * (large - 2);
                let name = format!("{prefix}depth_conv.conv.{large}to{}_matrix", large - 2);
                t.push((name, vec![side, side]));
            }
        }
        if squeezes {
            // The multiple of 8 nearest to a quarter of them.
            let few = ((middle / 4 + 4) / 8 * 8).max(8);
            let fc = format!("{prefix}depth_conv.se.fc");
            t.push((format!("{fc}.reduce.weight"), vec![few, middle, 1, 1]));
            t.push((format!("{fc}.reduce.bias"), vec![few]));
            t.push((format!("{fc}.expand.weight"), vec![middle, few, 1, 1]));
            t.push((format!("{fc}.expand.bias"), vec![middle]));
        }
        normed(t, &format!("{prefix}point_linear"), [out, middle, 1, 1]);
        (channels, block) = (out, block + 1);
    };
    add(&mut t, 8, 1, 3, false);
    // Five stages; the second can lose a block.
    add(&mut t, 16, 6, 5, false);
    for _ in 0..3 {
        add(&mut t, 24, 6, 7, true);
    }
    add(&mut t, 16, 6, 3, false);
    add(&mut t, 24, 6, 5, true);
    add(&mut t, 16, 6, 3, true);
    normed(&mut t, "final_expand_layer", [48, 16, 1, 1]);
    t.push(("feature_mix_layer.conv.weight".into(), vec![32, 48, 1, 1]));
    t.push(("classifier.linear.weight".into(), vec![CLASSES, 32]));
    t.push(("classifier.linear.bias".into(), vec![CLASSES]));
    t
}

/// Writes them with seeded elements.
fn write(folder: &Folder, name: &str, tensors: &Tensors) -> PathBuf {
    let array = |(i, (name, dims)): (usize, &(String, Vec<usize>))| {
        let inputs: usize = dims.iter().skip(1).product();
        let mut values = noise(1000 + i as u64, dims, (6.0 / inputs as f32).sqrt());
        if name.ends_with("_matrix") {
            let one = |j: usize| if j.is_multiple_of(dims[0] + 1) { 1.0 } else { 0.0 };
            values = noise(1000 + i as u64, dims, 0.1).iter().enumerate().map(|(j, v)| one(j) + v).collect();
        } else if dims.len() == 1 {
            let (middle, scale) = match name {
                _ if name.ends_with("running_var") => (1.0, 0.5),
                _ if name.ends_with("bn.weight") => (1.0, 0.25),
                _ => (0.0, 0.25),
            };
            values = noise(1000 + i as u64, dims, scale).iter().map(|v| v + middle).collect();
        }
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        NamedArray { name: name.clone(), dtype: DType::F32, dims: dims.clone(), data }
    };
    let path = folder.file(name);
    write_npz(&path, &tensors.iter().enumerate().map(array).collect::<Vec<_>>()).unwrap();
    path
}

fn pictures(folder: &Folder) -> (PathBuf, Vec<f32>) {
    let dims = vec![PICTURES, 3, SIDE, SIDE];
    let values = noise(7, &dims, 1.0);
    let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let path = folder.file("pictures.npz");
    write_npz(&path, &[NamedArray { name: "input".into(), dtype: DType::F32, dims, data }]).unwrap();
    (path, values)
}

/// All outputs of a rung for some pictures.
fn run(model: &Arc<Model>, rung: &Rung, pictures: &[f32]) -> Vec<Vec<f32>> {
    let dims = vec![pictures.len() / (3 * SIDE * SIDE), 3, SIDE, SIDE];
    let spec = InputSpec { name: "input".into(), dtype: DType::F32, dims, value: None };
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let mut session = Session::new(&device, model, rung, &[spec]).unwrap();
    let bytes: Vec<u8> = pictures.iter().flat_map(|v| v.to_le_bytes()).collect();
    session.set_input(0, &bytes).unwrap();
    session.run().unwrap();
    let outputs = model.graph(rung).outputs.len();
    let floats = |i: usize| {
        session.output(i).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
    };
    (0..outputs).map(floats).collect()
}

fn imported(model: &edge_converter::model::Model, pictures: &[f32]) -> Vec<Vec<f32>> {
    let draft = float_draft(model);
    run(&draft.open(), &draft.header.rungs[0], pictures)
}

/// Greatest difference over the range of what is wanted.
fn apart(want: &[f32], got: &[f32]) -> f32 {
    assert_eq!(want.len(), got.len());
    let (low, high) = want.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    want.iter().zip(got).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / (high - low)
}

fn convert(checkpoint: &Path, pack: &Path, more: &[&str]) -> edge_tests::Ended {
    let call = edge_convert().arg(checkpoint).arg("-o").arg(pack).arg("--no-cache");
    more.iter().fold(call, |call, word| call.arg(word)).run()
}

#[test]
fn a_checkpoint_becomes_a_pack_of_its_subnets() {
    let folder = Folder::new("checkpoint");
    // The ending says nothing.
    let path = write(&folder, "weights.bin", &tensors());
    let (samples, pictures) = pictures(&folder);
    let pack = folder.file("family.pack");
    let samples = samples.to_str().unwrap();
    // All samples calibrate, the same ones are held out.
    convert(&path, &pack, &["--calib", samples, "--heldout", samples]).expect(0);

    let model = open(&pack, Registry::standard());
    let header = model.header();
    let elastic = header.graphs[0].elastic.as_ref().unwrap();
    assert!(header.graphs.len() == 1 && elastic.subnets() >= 1000, "{} subnets", elastic.subnets());
    let names: Vec<&str> = elastic.variables.iter().map(|v| v.name.as_str()).collect();
    assert!(names.contains(&"stage2.depth") && names.contains(&"stage2.block3.kernel"), "{names:?}");

    let checkpoint = Checkpoint::open(&path).unwrap();
    let supernet = Supernet::of(&checkpoint).unwrap();
    let space = supernet.space();
    assert_eq!(space.variables(), &elastic.variables[..]);
    let planes = header.rungs.iter().flat_map(|r| r.takes.iter().flatten()).map(|take| take.1).max().unwrap();
    let length = std::fs::metadata(&pack).unwrap().len();
    let mut seen = Vec::new();
    // A float rung of every subnet.
    for rung in header.rungs.iter().rev().filter(|r| r.acts == Acts::F32) {
        let choice = &header.subnets[rung.subnet.unwrap() as usize].choice;
        if seen.contains(choice) {
            continue;
        }
        seen.push(choice.clone());
        let options: Vec<usize> = (0..choice.len()).map(|v| choice.option(v)).collect();
        let choices = space.choices(&options);
        // Its statistics, measured here: all pictures are one batch.
        let (trained, norms) = supernet.subnet(&checkpoint, &choices, Norms::Batch).unwrap();
        let outputs = imported(&trained, &pictures);
        assert_eq!(outputs.len(), 1 + 2 * norms.len());
        let statistics = norms.iter().zip(outputs[1..].chunks_exact(2)).map(|(norm, both)| {
            assert_eq!(both[0].len(), norm.channels);
            (norm.name.clone(), Statistics { mean: both[0].clone(), variance: both[1].clone() })
        });
        let statistics: HashMap<String, Statistics> = statistics.collect();
        let (alone, _) = supernet.subnet(&checkpoint, &choices, Norms::Given(&statistics)).unwrap();
        let two = &pictures[..2 * 3 * SIDE * SIDE];
        let want = imported(&alone, two).swap_remove(0);
        // In inference mode it is what it was in training mode.
        assert!(
            apart(&outputs[0][..2 * CLASSES], &want) <= 1e-4,
            "{}",
            apart(&outputs[0][..2 * CLASSES], &want)
        );
        // With every plane, whatever the ladder has of it: codes of 16 bits are off by 1e-5 of a row's range, eight blocks add up.
        let takes = rung.takes.iter().map(|take| take.map(|_| Take(0, planes))).collect();
        let fine = Rung { takes, end: length, ..rung.clone() };
        let got = run(&model, &fine, two).swap_remove(0);
        assert!(apart(&want, &got) <= 1e-3, "{}: {}", rung.id, apart(&want, &got));
        let stored = imported(&supernet.model(&checkpoint, &choices).unwrap(), two).swap_remove(0);
        assert!(apart(&stored, &got) > 1e-2, "the file's statistics are another network's");
    }
    assert!(seen.len() > 2, "{seen:?}");

    // Whatever the largest has not of the others is their smaller windows and their own statistics.
    let windows: usize = elastic
        .variables
        .iter()
        .filter(|v| v.name.ends_with("kernel"))
        .map(|v| v.options.iter().rev().skip(1).map(|k| k.parse::<usize>().unwrap().pow(2)).sum::<usize>())
        .sum();
    let largest = header.rungs.iter().max_by_key(|r| r.bytes).unwrap();
    assert_eq!(largest.subnet, Some(header.subnets.len() as u32 - 1));
    let overlays: u64 =
        header.subnets.iter().filter_map(|s| s.overlay).map(|blob| header.blobs[blob as usize].len).sum();
    let all: u64 = header.blobs.iter().map(|b| b.len).sum();
    // At most 144 channels a block, 2 bytes a weight, a scale of 4 a row and size, padding to 64 a blob of several planes.
    let bound = largest.bytes + overlays + 144 * (2 * windows as u64) + 24 * 1024;
    assert!(
        all <= bound,
        "{all} bytes in all, {} of the largest rung, {overlays} of statistics",
        largest.bytes
    );
}

#[test]
fn what_is_no_such_network_is_refused_by_name() {
    let folder = Folder::new("checkpoint-bad");
    let pack = folder.file("p.pack");
    let mut bad = tensors();
    let at = |tensors: &Tensors, name: &str| tensors.iter().position(|(n, _)| n == name).unwrap();
    bad.remove(at(&bad, "blocks.3.mobile_inverted_conv.point_linear.bn.running_mean"));
    let odd = at(&bad, "blocks.5.mobile_inverted_conv.inverted_bottleneck.conv.weight");
    bad[odd].1 = vec![7, 24, 1, 1];
    bad.push(("blocks.2.mobile_inverted_conv.gate".into(), vec![3]));
    let path = write(&folder, "bad.npz", &bad);
    let said = [
        "3 tensors are not as in a MobileNetV3-like supernet",
        "`blocks.3.mobile_inverted_conv.point_linear.bn.running_mean` is missing",
        "`blocks.5.mobile_inverted_conv.inverted_bottleneck.conv.weight` has shape [7, 24, 1, 1], expected [144, 24, 1, 1]",
        "`blocks.2.mobile_inverted_conv.gate` [3] belongs to no layer",
    ];
    convert(&path, &pack, &[]).expect_saying(4, &said);

    let other = [("conv1.weight", vec![4, 3, 3, 3]), ("layer1.0.bn1.bias", vec![4]), ("fc.bias", vec![10])];
    let other = other.map(|(name, dims)| (name.to_string(), dims)).to_vec();
    let path = write(&folder, "other.onnx", &other);
    let said =
        ["no once-for-all network", "`conv1`, `layer1`, `fc`", "MobileNetV3-", "ResNet50-like", "ONNX"];
    convert(&path, &pack, &[]).expect_saying(3, &said);

    let good = write(&folder, "good.npz", &tensors());
    convert(&good, &pack, &["--keep-float"]).expect_saying(2, &["--keep-float"]);
    convert(&good, &pack, &["--state", "a=b"]).expect_saying(2, &["--state"]);
    convert(&good, &pack, &["--shape", "input=1,4,32,32"])
        .expect_saying(2, &["input", "4, 32, 32]", "[batch, 3, height, width]"]);
    let description = folder.write("s.toml", b"");
    let described = ["--supernet", description.to_str().unwrap()];
    convert(&good, &pack, &described).expect_saying(2, &["a checkpoint says itself what is elastic"]);
    convert(&good, &pack, &[path.to_str().unwrap()]).expect_saying(2, &["converted alone"]);
    // A pickle that asks for code.
    let pickle = folder.write("evil.pth", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.");
    convert(&pickle, &pack, &[]).expect(4);
    assert!(!pack.exists());
}
