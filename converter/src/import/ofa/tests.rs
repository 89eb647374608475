//! Against what the authors' package computes (`tests/reference/ofa`), on weights that its README specifies.

use super::{Choices, Family, Supernet, SupernetError, divisible, middle};
use crate::draft::{float_draft, to_f32};
use crate::import::checkpoint::Checkpoint;
use crate::model::Model;
use edge_runtime::Session;
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::read_npz;
use edge_runtime::pack::Rung;
use edge_runtime::plan::InputSpec;
use edge_runtime::random::philox;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Deserialize)]
struct Reference {
    crc32: u32,
    gain: f64,
    tensors: Vec<(String, Vec<usize>)>,
    subnets: Vec<Subnet>,
}

#[derive(Deserialize)]
struct Subnet {
    resolution: usize,
    config: Choices,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/ofa")
}

fn reference(net: &str) -> Reference {
    serde_json::from_slice(&std::fs::read(folder().join(format!("{net}.json"))).unwrap()).unwrap()
}

/// FNV-1a, 64 bits.
fn key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The numbers in [-1, 1) of a name, `2 u - 1`.
fn signed(name: &str, len: usize) -> Vec<f32> {
    let key = key(name);
    let words = (0..len.div_ceil(4) as u64).flat_map(|block| philox(key, block));
    words.take(len).map(|word| 2.0 * ((word >> 8) as f32 * (1.0 / (1 << 24) as f32)) - 1.0).collect()
}

/// A generated tensor's elements.
fn generated(name: &str, dims: &[usize], gain: f64) -> Vec<f32> {
    let mut values = signed(name, dims.iter().product());
    // From 2 u - 1 back to u, exactly.
    let unsigned = |s: f32| (s + 1.0) * 0.5;
    if name.ends_with("_matrix") {
        for (i, v) in values.iter_mut().enumerate() {
            let one = if i % (dims[0] + 1) == 0 { 1.0 } else { 0.0 };
            *v = one + 0.125 * *v;
        }
        return values;
    }
    let bound = (gain / dims[1.min(dims.len() - 1)..].iter().product::<usize>() as f64).sqrt() as f32;
    for v in &mut values {
        *v = match name {
            _ if name.ends_with("running_var") => 0.5 + unsigned(*v),
            _ if name.ends_with("running_mean") => 0.25 * *v,
            _ if name.contains(".bn.") && name.ends_with("weight") => 0.75 + 0.5 * unsigned(*v),
            _ if name.ends_with("bias") => 0.25 * *v,
            _ => bound * *v,
        };
    }
    values
}

/// Writes the supernet as safetensors; `rename` changes names on their way.
fn write(net: &Reference, path: &Path, rename: impl Fn(&str) -> String) {
    let mut crc = crc32fast::Hasher::new();
    let tensor = |(name, dims): &(String, Vec<usize>)| {
        let (dtype, bytes) = if name.ends_with("num_batches_tracked") {
            (Dtype::I64, 1i64.to_le_bytes().to_vec())
        } else {
            let bytes = generated(name, dims, net.gain).iter().flat_map(|v| v.to_le_bytes()).collect();
            (Dtype::F32, bytes)
        };
        crc.update(&bytes);
        (rename(name), dtype, dims.clone(), bytes)
    };
    let tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = net.tensors.iter().map(tensor).collect();
    assert_eq!(crc.finalize(), net.crc32, "the generator differs from the reference's");
    let views = tensors.iter().map(|(name, dtype, dims, bytes)| {
        (name.as_str(), TensorView::new(*dtype, dims.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// The logits of one picture.
fn logits(device: &Arc<Device>, model: &Model, resolution: usize) -> Vec<f32> {
    let draft = float_draft(model);
    logits_of(device, &draft.open(), &draft.header.rungs[0], resolution)
}

/// The same of a rung.
pub(crate) fn logits_of(
    device: &Arc<Device>,
    model: &Arc<edge_runtime::Model>,
    rung: &Rung,
    resolution: usize,
) -> Vec<f32> {
    let dims = vec![1, 3, resolution, resolution];
    let spec = InputSpec { name: "input".into(), dtype: DType::F32, dims, value: None };
    let mut session = Session::new(device, model, rung, &[spec]).unwrap();
    let picture = signed("input", 3 * resolution * resolution);
    let bytes: Vec<u8> = picture.iter().flat_map(|v| v.to_le_bytes()).collect();
    session.set_input(0, &bytes).unwrap();
    session.run().unwrap();
    to_f32(DType::F32, session.result(0).1)
}

/// The greatest difference as a part of the range of what is wanted.
pub(crate) fn apart(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let (low, high) = want.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max) / (high - low)
}

/// A network's checkpoint in a folder, and each of its sampled subnets: pixels, choices and the package's logits.
pub(crate) fn sampled(net: &str, dir: &Path) -> (PathBuf, Vec<(usize, Choices, Vec<f32>)>) {
    let said = reference(net);
    let path = dir.join(format!("{net}.safetensors"));
    write(&said, &path, str::to_string);
    let wanted = read_npz(&folder().join("logits.npz"), 1 << 20).unwrap();
    let subnets = said.subnets.into_iter().enumerate().map(|(i, subnet)| {
        let want = wanted.iter().find(|a| a.name == format!("{net}/{i}")).unwrap();
        (subnet.resolution, subnet.config, to_f32(want.dtype, &want.data))
    });
    (path, subnets.collect())
}

/// Every sampled subnet of a network: sliced, transformed, run.
fn matches(net: &str, family: Family) {
    let dir = tempfile::tempdir().unwrap();
    let (path, subnets) = sampled(net, dir.path());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let supernet = Supernet::of(&checkpoint).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((supernet.family, supernet.classes), (family, 1000));
    assert_eq!(supernet.largest(), subnets[0].1);
    let device = Device::builder().budget(Some(u64::MAX / 2)).build().unwrap();
    let mut worst = 0f32;
    for (i, (resolution, config, want)) in subnets.iter().enumerate() {
        let model = supernet.model(&checkpoint, config).unwrap();
        let error = apart(&logits(&device, &model, *resolution), want);
        // The bound is the issue's; both sides sum in f32, in another order.
        assert!(error <= 1e-4, "{net} {i}: {error} of the range");
        worst = worst.max(error);
    }
    println!("{net}: {} subnets, at most {worst:e} of the range apart", subnets.len());
}

#[test]
fn subnets_of_mobilenet_v3_match_the_package() {
    matches("mobilenet-v3", Family::MobileNetV3);
}

#[test]
fn subnets_of_proxyless_nas_match_the_package() {
    matches("proxyless", Family::ProxylessNas);
}

#[test]
fn subnets_of_resnet50_match_the_package() {
    matches("resnet50", Family::ResNet50);
}

#[test]
fn channels_are_rounded_as_the_package_does() {
    for (v, wanted) in
        [(1.0, 8), (12.0, 16), (11.9, 16), (8.8, 8), (8.9, 16), (166.4, 168), (40.0, 40), (20.8, 24)]
    {
        assert_eq!(divisible(v), wanted, "{v}");
    }
    // 168 * 0.25 = 42, and 40 is not a tenth less; 2.5 rounds to 2.
    assert_eq!((middle(168, 0.25), middle(10, 0.25), middle(24, 6.0)), (40, 8, 144));
}

/// A checkpoint of shapes alone, every element zero.
fn of_shapes(dir: &Path, tensors: &[(String, Vec<usize>)]) -> Checkpoint {
    let path = dir.join("shapes.safetensors");
    let zeros: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(name, dims)| {
            let width = if name.ends_with("num_batches_tracked") { 8 } else { 4 };
            vec![0; dims.iter().product::<usize>() * width]
        })
        .collect();
    let views = tensors.iter().zip(&zeros).map(|((name, dims), zeros)| {
        let dtype = if name.ends_with("num_batches_tracked") { Dtype::I64 } else { Dtype::F32 };
        (name.as_str(), TensorView::new(dtype, dims.clone(), zeros).unwrap())
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
    Checkpoint::open(&path).unwrap()
}

#[test]
fn what_can_be_chosen_is_found_in_names_and_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = reference("mobilenet-v3").tensors;
    let supernet = Supernet::of(&of_shapes(dir.path(), &tensors)).unwrap();
    assert_eq!((supernet.blocks.len(), supernet.stages.len()), (21, 5));
    assert_eq!((supernet.stages[1].blocks.clone(), &supernet.stages[1].depths[..]), (5..9, &[2, 3, 4][..]));
    assert_eq!((&supernet.expands[..], &supernet.widths[..]), (&[3.0, 4.0, 6.0][..], &[1.0][..]));
    let block = &supernet.blocks[6];
    assert_eq!((block.channels, block.stride, &block.kernels[..]), ([40, 240, 40], 1, &[3, 5, 7][..]));
    assert!(block.squeezes && block.expands && !supernet.blocks[0].expands);

    // The published checkpoints have an older name for a block, and elastic layers without what they hold.
    let older: Vec<(String, Vec<usize>)> = tensors
        .iter()
        .map(|(name, dims)| {
            let name =
                name.replace("blocks.3.conv.", "blocks.3.mobile_inverted_conv.").replace(".bn.bn.", ".bn.");
            (name.replace(".conv.conv.weight", ".conv.weight"), dims.clone())
        })
        .collect();
    let same = Supernet::of(&of_shapes(dir.path(), &older)).unwrap();
    assert_eq!(same.blocks[3].prefix, "blocks.3.mobile_inverted_conv.");
    assert_eq!(same.stages, supernet.stages);

    // Without the matrices of a layer its kernel cannot shrink.
    let fixed: Vec<(String, Vec<usize>)> = tensors
        .iter()
        .filter(|(name, _)| !name.starts_with("blocks.4.") || !name.ends_with("matrix"))
        .cloned()
        .collect();
    assert_eq!(Supernet::of(&of_shapes(dir.path(), &fixed)).unwrap().blocks[4].kernels, [7]);
}

#[test]
fn every_tensor_that_does_not_belong_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = reference("resnet50").tensors;
    let find =
        |tensors: &[(String, Vec<usize>)], name: &str| tensors.iter().position(|(n, _)| n == name).unwrap();
    tensors.remove(find(&tensors, "blocks.3.conv2.bn.bn.running_var"));
    let at = find(&tensors, "blocks.5.conv1.conv.conv.weight");
    tensors[at].1 = vec![8, 9, 1, 1];
    tensors.push(("blocks.2.conv2.se.weight".into(), vec![3]));
    tensors.push(("classifier.linear.scale".into(), vec![2]));
    let Err(SupernetError::Tensors { problems, .. }) = Supernet::of(&of_shapes(dir.path(), &tensors)) else {
        panic!("it is taken");
    };
    let said = problems.join("\n");
    assert_eq!(problems.len(), 4, "{said}");
    for part in [
        "`blocks.3.conv2.bn.running_var` is missing",
        "`blocks.5.conv1.conv.weight` has shape [8, 9, 1, 1], expected [",
        "`blocks.2.conv2.se.weight` [3] belongs to no layer",
        "`classifier.linear.scale` [2] belongs to no layer",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let other = of_shapes(dir.path(), &[("conv1.weight".into(), vec![2, 2])]);
    assert!(Supernet::of(&other).unwrap_err().to_string().contains("no once-for-all network"));
}

#[test]
fn choices_that_the_network_does_not_have_are_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = of_shapes(dir.path(), &reference("proxyless").tensors);
    let supernet = Supernet::of(&checkpoint).unwrap();
    let mut choices = supernet.largest();
    (choices.ks[0], choices.ks[1], choices.e[2], choices.e[3], choices.d[1]) = (4, 9, 7.0, f64::NAN, 0);
    // One of a stage of one block: more than there are keep all.
    choices.d[5] = 4;
    let Err(SupernetError::Choices(said)) = supernet.model(&checkpoint, &choices) else {
        panic!("it is built")
    };
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said.contains(&"`d[1]` is 0, which keeps 0 of 4 blocks".to_string()), "{said:?}");
    assert!(said.contains(&"`ks[0]` is 4, expected one of [3, 5, 7]".to_string()), "{said:?}");
    let Err(SupernetError::Choices(said)) = supernet.model(&checkpoint, &Choices::default()) else {
        panic!("it is built")
    };
    assert_eq!(
        said,
        [
            "`ks` has 0 entries, expected 21",
            "`e` has 0 entries, expected 21",
            "`d` has 0 entries, expected 6"
        ]
    );

    let checkpoint = of_shapes(dir.path(), &reference("resnet50").tensors);
    let supernet = Supernet::of(&checkpoint).unwrap();
    let mut choices = supernet.largest();
    choices.w[2] = 3;
    let Err(SupernetError::Choices(said)) = supernet.model(&checkpoint, &choices) else {
        panic!("it is built")
    };
    assert_eq!(said, ["`w[2]` is 3, expected a position in [0.65, 0.8, 1.0]"]);
}

#[test]
fn every_option_of_every_variable_is_a_subnet() {
    let dir = tempfile::tempdir().unwrap();
    // 5 stages of up to 4 blocks, 20 expand ratios, 20 kernels; a stage of one block has no depth. Bottlenecks: 3 of the stem, 2 of each of 4 stages, 18 ratios.
    for (net, count) in [("mobilenet-v3", 45), ("proxyless", 47), ("resnet50", 29)] {
        let supernet = Supernet::of(&of_shapes(dir.path(), &reference(net).tensors)).unwrap();
        let space = supernet.space();
        assert_eq!(space.variables().len(), count, "{net}");
        let largest: Vec<usize> = space.variables().iter().map(|v| v.options.len() - 1).collect();
        assert_eq!(space.choices(&largest), supernet.largest(), "{net}");
        for (v, variable) in space.variables().iter().enumerate() {
            for option in 0..variable.options.len() {
                let mut choice = largest.clone();
                choice[v] = option;
                let choices = space.choices(&choice);
                assert_eq!(choices == supernet.largest(), option == largest[v], "{}", variable.name);
                assert!(supernet.sizes(&choices).is_ok(), "{}: {choices:?}", variable.name);
            }
        }
    }
}
