//! Models in floats of 16 bits: stored exactly in half the bytes, computed in 32 bits, their inputs and outputs of the type that they have.

use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, read_npz, write_npy};
use edge_runtime::pack::{Acts, PackFile};
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_runtime::{Session, device::Device};
use edge_tests::onnx::Attr::{Float, Int, Ints};
use edge_tests::onnx::Dim::N;
use edge_tests::onnx::{BFLOAT16, Builder, FLOAT, FLOAT16};
use edge_tests::{Folder, edge_convert, edge_run, open};
use half::{bf16, f16};
use std::path::{Path, PathBuf};

/// A type of floats: ONNX's number, the graph's, its bits of a value, and back.
struct Type(i64, DType, fn(f32) -> u16, fn(u16) -> f32);

const TYPES: [Type; 2] = [
    Type(FLOAT16, DType::F16, |v| f16::from_f32(v).to_bits(), |b| f16::from_bits(b).to_f32()),
    Type(BFLOAT16, DType::Bf16, |v| bf16::from_f32(v).to_bits(), |b| bf16::from_bits(b).to_f32()),
];

fn noise(key: u64, dims: &[i64], scale: f32) -> Vec<f32> {
    (0..dims.iter().product::<i64>() as u64).map(|i| (uniform(key, i) * 2.0 - 1.0) * scale).collect()
}

/// `x` [1, 3, 12, 12] to `y` [1, 10]: a convolution with its norm, a depthwise one, a product; every float of the file is of `ty`, or of 32
/// bits with the same values.
fn model(ty: &Type, wide: bool) -> Vec<u8> {
    let mut b = Builder::new();
    let port = if wide { FLOAT } else { ty.0 };
    b.float_input("x", port, &[N(1), N(3), N(12), N(12)]).float_output("y", port);
    let stored: [(&str, &[i64], f32); 9] = [
        ("w1", &[32, 3, 3, 3], 0.4),
        ("gain", &[32], 1.5),
        ("shift", &[32], 0.3),
        ("mean", &[32], 0.2),
        ("w2", &[32, 1, 3, 3], 0.4),
        ("b2", &[32], 0.1),
        ("w3", &[10, 32], 0.5),
        ("b3", &[10], 0.1),
        ("half", &[], 0.5),
    ];
    for (key, (name, dims, scale)) in stored.into_iter().enumerate() {
        let bits: Vec<u16> = noise(key as u64, dims, scale).into_iter().map(ty.2).collect();
        match wide {
            true => b.array(name, dims, &bits.iter().map(|bits| ty.3(*bits)).collect::<Vec<_>>()),
            false => b.halves(name, ty.0, dims, &bits),
        };
    }
    let variance: Vec<u16> = noise(9, &[32], 1.0).iter().map(|v| (ty.2)(v.abs() + 0.5)).collect();
    match wide {
        true => b.array("variance", &[32], &variance.iter().map(|bits| ty.3(*bits)).collect::<Vec<_>>()),
        false => b.halves("variance", ty.0, &[32], &variance),
    };
    let same: &[(&str, _)] = &[("kernel_shape", Ints(&[3, 3])), ("pads", Ints(&[1, 1, 1, 1]))];
    b.node("Conv", "x w1", "c1", same);
    b.node("BatchNormalization", "c1 gain shift mean variance", "n1", &[("epsilon", Float(1e-3))]);
    b.node("Relu", "n1", "r1", &[]);
    b.node("Conv", "r1 w2 b2", "c2", &[same, &[("group", Int(32))]].concat());
    b.node("Mul", "c2 half", "h", &[]).node("GlobalAveragePool", "h", "g", &[]);
    b.node("Flatten", "g", "f", &[("axis", Int(1))]).node("Gemm", "f w3 b3", "y", &[("transB", Int(1))]);
    b.finish("half")
}

fn convert(folder: &Folder, name: &str, onnx: &[u8]) -> PathBuf {
    let (source, pack) = (folder.write(&format!("{name}.onnx"), onnx), folder.file(&format!("{name}.pack")));
    edge_convert().arg(source).arg("-o").arg(&pack).arg("--keep-float").run().expect(0);
    pack
}

/// The outputs of every rung, the last one the exact one, for `x` given as bytes.
fn outputs(pack: &Path, dtype: DType, x: &[u8]) -> Vec<(String, Vec<u8>)> {
    let model = open(pack, Registry::standard());
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 40)).build().unwrap();
    let run = |rung: &edge_runtime::pack::Rung| {
        let graph = model.graph(rung);
        assert_eq!([graph.inputs[0].dtype, graph.outputs[0].dtype], [dtype; 2], "{}", rung.id);
        let spec =
            edge_runtime::plan::InputSpec { name: "x".into(), dtype, dims: vec![1, 3, 12, 12], value: None };
        let mut session = Session::new(&device, &model, rung, &[spec]).unwrap();
        session.set_input(0, x).unwrap();
        session.run().unwrap();
        (rung.id.clone(), session.output(0).1.to_vec())
    };
    model.header().rungs.iter().map(run).collect()
}

#[test]
fn the_exact_rung_has_half_the_bytes_and_the_floats_results() {
    for ty in &TYPES {
        let folder = Folder::new("half");
        let (narrow, wide) =
            (convert(&folder, "narrow", &model(ty, false)), convert(&folder, "wide", &model(ty, true)));
        let bits: Vec<u16> = noise(20, &[3, 12, 12], 1.0).into_iter().map(ty.2).collect();
        let x: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let x32: Vec<u8> = bits.iter().flat_map(|b| ty.3(*b).to_le_bytes()).collect();
        let (got, want) = (outputs(&narrow, ty.1, &x), outputs(&wide, DType::F32, &x32));
        let (got, want) = (&got.last().unwrap().1, &want.last().unwrap().1);
        let largest = floats(want).iter().fold(0f32, |most, v| most.max(v.abs()));
        for (i, (got, want)) in got.as_chunks::<2>().0.iter().zip(floats(want)).enumerate() {
            let (got, near) = (ty.3(u16::from_le_bytes(*got)), ty.3((ty.2)(want)));
            // One rounding, of a sum whose factors are multiplied in another order.
            let step = if ty.1 == DType::F16 { 2f32.powi(-10) } else { 2f32.powi(-7) };
            assert!((got - near).abs() <= step * near.abs() + 1e-6 * largest, "{i}: {got}, not {want}");
        }
        // Every matrix as it was stored: the norm did not make the first one wider.
        let (narrow, wide) = (PackFile::open(&narrow).unwrap(), PackFile::open(&wide).unwrap());
        let exact = |pack: &PackFile| {
            let header = pack.header();
            let leaves = header.tensors.iter().map(|t| t.roots.last().unwrap());
            let bytes: u64 =
                leaves.clone().flat_map(|e| &e.blobs).map(|b| header.blobs[*b as usize].len).sum();
            let types: Vec<String> = leaves.map(|e| e.params["dtype"].as_str().unwrap().into()).collect();
            (bytes, types)
        };
        let ((half, types), (whole, _)) = (exact(&narrow), exact(&wide));
        assert_eq!((2 * half, types), (whole, vec![ty.1.to_string(); 3]));
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn integer_rungs_are_made_of_them() {
    let ty = &TYPES[0];
    let folder = Folder::new("half");
    let pack = convert(&folder, "m", &model(ty, false));
    let x: Vec<u8> = noise(20, &[3, 12, 12], 1.0).into_iter().flat_map(|v| (ty.2)(v).to_le_bytes()).collect();
    let rungs = PackFile::open(&pack).unwrap().header().rungs.clone();
    let best =
        rungs.iter().filter(|r| r.acts == Acts::I8).filter_map(|r| r.quality.as_ref()).map(|q| q.value);
    assert!(best.fold(0.0, f32::max) > 25.0, "{rungs:?}");
    let all = outputs(&pack, ty.1, &x);
    let values = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<2>().0.iter().map(|b| ty.3(u16::from_le_bytes(*b))).collect()
    };
    assert!(all.iter().all(|(_, bytes)| values(bytes).iter().all(|v| v.is_finite())));
}

#[test]
fn edge_run_takes_and_gives_the_models_type() {
    let ty = &TYPES[0];
    let folder = Folder::new("half");
    let pack = convert(&folder, "m", &model(ty, false));
    let values = noise(20, &[3, 12, 12], 1.0);
    let array =
        |dtype: DType, data: Vec<u8>| NamedArray { name: "x".into(), dtype, dims: vec![1, 3, 12, 12], data };
    let (halves, wide, out) = (folder.file("x.npy"), folder.file("x32.npy"), folder.file("out.npz"));
    write_npy(&halves, &array(DType::F16, values.iter().flat_map(|v| (ty.2)(*v).to_le_bytes()).collect()))
        .unwrap();
    write_npy(&wide, &array(DType::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())).unwrap();
    edge_run().arg(&pack).arg("--input").arg(&halves).arg("--output").arg(&out).run().expect(0);
    let y = read_npz(&out, 1 << 20).unwrap();
    assert_eq!((y[0].dtype, &y[0].dims[..]), (DType::F16, &[1, 10][..]));
    let ended = edge_run().arg(&pack).arg("--input").arg(&wide).run();
    ended.expect_saying(2, &["`x`", "f32", "f16"]);
}
