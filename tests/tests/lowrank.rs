//! Models whose matrices are of low rank: products become two, what they compute stays, packs become smaller.

use edge_converter::compress::Family;
use edge_converter::{Options, Report};
use edge_runtime::Session;
use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, PackFile};
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_tests::onnx::Attr::Ints;
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Folder, Quiet, edge_convert, inputs_of, open};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// The rank of the matrices that are of low rank.
const RANK: usize = 12;

/// A product of two seeded matrices, multiplied out to `[n, k]`; its results are about as large as its inputs.
fn low(key: u64, n: usize, k: usize) -> Vec<f32> {
    let at = |key: u64, i: usize| f64::from(uniform(key, i as u64)) * 2.0 - 1.0;
    let scale = 3.0 / ((RANK * k) as f64).sqrt();
    let element = |i: usize| -> f64 {
        (0..RANK).map(|r| at(key, i / k * RANK + r) * at(key + 1, r * k + i % k)).sum::<f64>() * scale
    };
    (0..n * k).map(|i| element(i) as f32).collect()
}

/// A strided convolution of low rank with a function and a residual after it, one that is not, and two products of rows that are.
fn model() -> Vec<u8> {
    let same: &[(&str, _)] = &[("pads", Ints(&[1, 1, 1, 1]))];
    let strided: &[(&str, _)] = &[("pads", Ints(&[1, 1, 1, 1])), ("strides", Ints(&[2, 2]))];
    let mut b = Builder::new();
    b.input("x", &[N(1), N(48), N(14), N(10)]).output("y");
    b.array("thin.conv", &[64, 48, 3, 3], &low(1, 64, 48 * 9)).weight("b0", &[64], 0.2);
    b.weight("full.conv", &[64, 64, 3, 3], 0.08);
    b.array("thin.point", &[64, 64, 1, 1], &low(5, 64, 64));
    b.array("thin.rows", &[64, 96], &low(9, 64, 96)).weight("b3", &[96], 0.3);
    b.node("Conv", "x thin.conv b0", "c0", strided).node("Relu", "c0", "r0", &[]);
    b.node("Conv", "r0 full.conv", "c1", same).node("Conv", "c1 thin.point", "c2", &[]);
    b.node("Add", "c2 r0", "s2", &[]).node("Relu", "s2", "r2", &[]);
    b.node("Transpose", "r2", "t", &[("perm", Ints(&[0, 2, 3, 1]))]).node("MatMul", "t thin.rows", "m", &[]);
    b.node("Add", "m b3", "a", &[]).node("Sigmoid", "a", "y", &[]);
    b.finish("thin")
}

fn convert(folder: &Folder, name: &str, options: &Options) -> (Report, PathBuf) {
    let pack = folder.file(name);
    let source = folder.write("m.onnx", &model());
    let report =
        edge_converter::convert(&[source], &pack, options, &mut Quiet, &AtomicBool::new(false)).unwrap();
    (report, pack)
}

/// Outputs of the finest rung with such activations.
fn outputs(pack: &Path, acts: Acts) -> Vec<f32> {
    let model = open(pack, Registry::standard());
    let rung = model.header().rungs.iter().rev().find(|r| r.acts == acts).unwrap();
    let device = Device::builder().threads(Some(2)).budget(Some(1 << 30)).build().unwrap();
    let inputs = inputs_of(&model, rung, 3, 1);
    let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let mut session = Session::new(&device, &model, rung, &specs).unwrap();
    for (i, (_, data)) in inputs.iter().enumerate() {
        session.set_input(i, data).unwrap();
    }
    session.run().unwrap();
    session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Bytes of the rung of so many bits for every weight.
fn bytes(pack: &Path, bits: u32) -> u64 {
    let id = format!("w{bits}.0");
    PackFile::open(pack).unwrap().header().rungs.iter().find(|r| r.id == id).unwrap().bytes
}

fn sqnr_db(want: &[f32], got: &[f32]) -> f64 {
    let mean = want.iter().map(|w| f64::from(*w)).sum::<f64>() / want.len() as f64;
    let signal: f64 = want.iter().map(|w| (f64::from(*w) - mean).powi(2)).sum();
    let noise: f64 = want.iter().zip(got).map(|(w, g)| (f64::from(*w) - f64::from(*g)).powi(2)).sum();
    10.0 * (signal / noise).log10()
}

#[test]
fn products_of_low_rank_become_two_that_give_the_same() {
    let folder = Folder::new("lowrank");
    let (report, thin) = convert(&folder, "thin.pack", &Options::default());
    let mut names: Vec<(&str, [usize; 2], usize)> =
        report.low_rank.iter().map(|l| (l.name.as_str(), l.dims, l.rank)).collect();
    names.sort_unstable();
    let want = [("thin.conv", [64, 432], 16), ("thin.point", [64, 64], 16), ("thin.rows", [96, 64], 16)];
    assert_eq!(names, want, "and not the convolution of full rank");
    assert!(report.low_rank.iter().all(|l| l.sqnr_db > 90.0), "{:?}", report.low_rank);
    assert!(report.to_string().contains("low rank: thin.conv of 64 x 432 as two of rank 16"), "{report}");

    let without = Options { keep_float: true, without: vec![Family::LowRank], ..Options::default() };
    let (report, dense) = convert(&folder, "dense.pack", &without);
    assert!(report.low_rank.is_empty());
    // The last rung's weights are the model's own.
    let exact = outputs(&dense, Acts::F32);
    let (float, integer) = (outputs(&thin, Acts::F32), outputs(&thin, Acts::I8));
    assert!(sqnr_db(&exact, &float) > 60.0, "{}", sqnr_db(&exact, &float));
    assert!(sqnr_db(&exact, &integer) > 25.0, "{}", sqnr_db(&exact, &integer));
    // 16 columns for 64 + 432, 64 + 64 and 96 + 64 in place of 64 x 432, 64 x 64 and 96 x 64, of 74,752 weights in all.
    let share = bytes(&thin, 16) as f64 / bytes(&dense, 16) as f64;
    assert!((0.65..0.75).contains(&share), "{share}");

    // Floats of the factors, where exact weights are asked for, are as near as floats are.
    let (report, both) = convert(&folder, "both.pack", &Options { keep_float: true, ..Options::default() });
    assert_eq!(report.low_rank.len(), 3);
    let db = sqnr_db(&exact, &outputs(&both, Acts::F32));
    assert!(db > 110.0, "{db}");
}

#[test]
fn the_page_and_the_command_name_them() {
    let folder = Folder::new("lowrank");
    let (source, pack) = (folder.write("m.onnx", &model()), folder.file("m.pack"));
    let said = edge_convert().arg(&source).arg("-o").arg(&pack).args("--low-rank 60").run();
    assert!(
        said.expect(0).stdout.contains("low rank: thin.rows of 96 x 64 as two of rank 16"),
        "{}",
        said.stdout
    );
    let page = folder.file("m.html");
    edge_convert().args("report --no-latency").arg(&pack).arg("-o").arg(&page).run().expect(0);
    let page = std::fs::read_to_string(page).unwrap();
    for part in ["thin.conv V (rank 16)", "thin.conv U (rank 16)"] {
        assert!(page.contains(part), "{part}");
    }
    let said = edge_convert().arg(&source).arg("-o").arg(&pack).args("--low-rank 0").run();
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("--low-rank: 0 dB, expected 1 to 200"), "{}", said.stderr);
}
