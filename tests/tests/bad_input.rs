//! Conversions of what is odd or wrong: weights, shapes, samples, wishes. A clear error, or a pack whose every rung answers with
//! finite numbers.

use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npz};
use edge_runtime::pack::PackFile;
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_runtime::{Session, device::Device};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Ended, Folder, edge_convert, inputs_of, models, open};
use std::path::{Path, PathBuf};

/// `y = relu(x w1) w2`: `x` `[1, K]`, `w1` `[K, H]`, `w2` `[H, M]`.
fn two_layers([k, h, m]: [i64; 3], w1: &[f32], w2: &[f32]) -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(k)]).output("y").array("w1", &[k, h], w1).array("w2", &[h, m], w2);
    b.node("MatMul", "x w1", "a", &[]).node("Relu", "a", "r", &[]).node("MatMul", "r w2", "y", &[]);
    b.finish("two")
}

fn noise(key: u64, count: i64) -> Vec<f32> {
    (0..count as u64).map(|i| uniform(key, i) * 2.0 - 1.0).collect()
}

fn convert(folder: &Folder, onnx: &[u8], args: &[&str]) -> (Ended, PathBuf) {
    let (source, pack) = (folder.write("m.onnx", onnx), folder.file("m.pack"));
    let mut program = edge_convert().arg(source).arg("-o").arg(&pack);
    for arg in args {
        program = program.arg(arg);
    }
    (program.run(), pack)
}

/// Signal to noise of the last rung against the floats that the model has, and that every rung's outputs are finite.
#[track_caller]
fn finest_db(pack: &Path, want: impl Fn(&[f32]) -> Vec<f32>) -> f64 {
    let model = open(pack, Registry::standard());
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 40)).build().unwrap();
    let mut db = 0.0;
    for rung in &model.header().rungs {
        let inputs = inputs_of(&model, rung, 1, 3);
        let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
        let mut session = Session::new(&device, &model, rung, &specs).unwrap();
        session.set_input(0, &inputs[0].1).unwrap();
        session.run().unwrap();
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let (got, want) = (floats(session.output(0).1), want(&floats(&inputs[0].1)));
        assert!(got.iter().all(|value| value.is_finite()), "{}: {got:?}", rung.id);
        let power = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let signal = power(&mut want.iter().map(|w| f64::from(*w)));
        let error = power(&mut want.iter().zip(&got).map(|(w, g)| f64::from(*w) - f64::from(*g)));
        db = if error == 0.0 { f64::INFINITY } else { 10.0 * (signal / error).log10() };
    }
    db
}

/// The model in 64 bits.
fn reference([k, h, m]: [i64; 3], w1: &[f32], w2: &[f32], x: &[f32]) -> Vec<f32> {
    let product = |x: &[f64], w: &[f32], k: i64, n: i64| -> Vec<f64> {
        let at = |r: i64, c: i64| x[r as usize] * f64::from(w[(r * n + c) as usize]);
        (0..n).map(|c| (0..k).map(|r| at(r, c)).sum()).collect()
    };
    let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    let hidden: Vec<f64> = product(&x, w1, k, h).into_iter().map(|v| v.max(0.0)).collect();
    product(&hidden, w2, h, m).into_iter().map(|v| v as f32).collect()
}

#[test]
fn odd_shapes_become_packs_that_answer() {
    // K that no group divides, one row, one column, one element, matrices smaller than thin ones would be.
    for shape @ [k, h, m] in
        [[33, 33, 7], [7, 5, 3], [1, 1, 1], [64, 1, 64], [1, 64, 1], [17, 1, 5], [31, 40, 33], [129, 65, 1]]
    {
        let folder = Folder::new("odd");
        // Positive, so that a hidden layer of one element is not always 0.
        let w1: Vec<f32> = noise(1, k * h).iter().map(|w| w.abs()).collect();
        let w2 = noise(2, h * m);
        let (ended, pack) = convert(&folder, &two_layers(shape, &w1, &w2), &[]);
        ended.expect(0);
        let db = finest_db(&pack, |x| reference(shape, &w1, &w2, x));
        assert!(db > 60.0, "{shape:?}: {db} dB");
    }
}

#[test]
fn weights_of_any_size_keep_their_precision() {
    // Past f16 at both ends; what comes out is of usual size.
    let shape @ [k, h, m] = [64, 64, 10];
    for scale in [1e-7, 1e-12, 1e6] {
        let folder = Folder::new("scale");
        let w1: Vec<f32> = noise(1, k * h).iter().map(|w| w * scale).collect();
        let w2: Vec<f32> = noise(2, h * m).iter().map(|w| w / scale).collect();
        let (ended, pack) = convert(&folder, &two_layers(shape, &w1, &w2), &[]);
        ended.expect(0);
        let db = finest_db(&pack, |x| reference(shape, &w1, &w2, x));
        assert!(db > 75.0, "{scale}: {db} dB");
    }
    // Zeros alone.
    let zeros = vec![0.0; 64 * 64];
    for (w1, w2) in [(zeros.clone(), noise(2, h * m)), (noise(1, k * h), zeros[..640].to_vec())] {
        let folder = Folder::new("zeros");
        let (ended, pack) = convert(&folder, &two_layers(shape, &w1, &w2), &[]);
        ended.expect(0);
        assert_eq!(finest_db(&pack, |_| vec![0.0; m as usize]), f64::INFINITY);
    }
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let shape @ [k, h, m] = [64, 32, 10];
    for (value, written) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let folder = Folder::new("nan");
        let mut w1 = noise(1, k * h);
        w1[3 * 32 + 5] = value;
        let (ended, pack) = convert(&folder, &two_layers(shape, &w1, &noise(2, h * m)), &[]);
        ended.expect_saying(4, &["`w1`", "[5, 3]", written, "export the model again"]);
        assert!(!pack.exists());
    }
    // In what is no matrix.
    let mut b = Builder::new();
    b.input("x", &[N(1), N(16)]).output("y").weight("w", &[16, 4], 0.3).array(
        "b",
        &[4],
        &[0.0, 0.0, f32::NAN, 0.0],
    );
    b.node("MatMul", "x w", "a", &[]).node("Add", "a b", "y", &[]);
    let folder = Folder::new("nan");
    convert(&folder, &b.finish("bias"), &[]).0.expect_saying(4, &["`b`", "element [2]", "NaN"]);
    // A model that overflows by itself.
    let large = vec![3e38; 64 * 32];
    let (ended, _) = convert(&folder, &two_layers(shape, &large, &noise(2, h * m)), &[]);
    ended.expect_saying(2, &["output `y`", "seeded noise", "--calib"]);
}

#[test]
fn sums_that_overflow_inside_a_model_are_not_fitted() {
    // The first product is beyond f32 for every sample and its sigmoid 0 or 1; both matrices are large enough for thin ones beside them.
    let mut b = Builder::new();
    let large: Vec<f32> = noise(1, 128 * 128).iter().map(|w| 6e4f32.copysign(*w)).collect();
    b.input("x", &[N(8), N(128)]).output("y").array("w1", &[128, 128], &large).weight("w2", &[128, 128], 0.1);
    b.node("MatMul", "x w1", "a", &[]).node("Sigmoid", "a", "s", &[]).node("MatMul", "s w2", "y", &[]);
    let folder = Folder::new("overflow");
    let x: Vec<f32> = noise(6, 12 * 8 * 128).iter().map(|v| v * 1e34).collect();
    let path = samples(&folder, "x.npz", &[("x", DType::F32, &[12, 8, 128], bytes(&x))]);
    let (ended, pack) = convert(&folder, &b.finish("overflow"), &["--calib", path.to_str().unwrap()]);
    ended.expect(0);
    finest_db(&pack, |_| vec![0.0]);
}

/// Writes samples for [`models::mlp`] and gives the path.
fn samples(folder: &Folder, name: &str, arrays: &[(&str, DType, &[usize], Vec<u8>)]) -> PathBuf {
    let path = folder.file(name);
    let array = |(name, dtype, dims, data): &(&str, DType, &[usize], Vec<u8>)| NamedArray {
        name: name.to_string(),
        dtype: *dtype,
        dims: dims.to_vec(),
        data: data.clone(),
    };
    write_npz(&path, &arrays.iter().map(array).collect::<Vec<_>>()).unwrap();
    path
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn samples_that_do_not_suit_are_named() {
    let folder = Folder::new("badsamples");
    let rows = noise(5, 12 * 32);
    let mut nan = rows.clone();
    nan[7 * 32 + 3] = f32::NAN;
    let f32s = |dims: &'static [usize], values: &[f32]| ("x", DType::F32, dims, bytes(values));
    let x = || f32s(&[12, 32], &rows);
    let labels = |values: &[f32]| ("labels", DType::F32, &[12][..], bytes(values));
    type Arrays = Vec<(&'static str, DType, &'static [usize], Vec<u8>)>;
    let cases: [(&str, Arrays, &[&str]); 10] = [
        ("shape", vec![f32s(&[12, 31], &rows[..12 * 31])], &["sample 0", "`x`", "[1, 31]", "[batch, 32]"]),
        ("rank", vec![f32s(&[12, 1, 2, 16], &rows)], &["`x`", "[1, 1, 2, 16]", "[batch, 32]"]),
        ("dtype", vec![("x", DType::I32, &[12, 32], bytes(&rows))], &["`x`", "is i32", "takes f32"]),
        ("nan", vec![f32s(&[12, 32], &nan)], &["sample 7", "`x`", "element 3", "NaN"]),
        ("none", vec![f32s(&[0, 32], &[])], &["no samples"]),
        ("name", vec![("z", DType::F32, &[12, 32], bytes(&rows))], &["`z`", "`x`"]),
        ("scalar", vec![f32s(&[], &rows[..1])], &["`x`", "a single number"]),
        ("negative", vec![x(), labels(&[-1.0; 12])], &["`labels`", "-1", "class"]),
        ("nanlabel", vec![x(), labels(&[f32::NAN; 12])], &["`labels`", "NaN", "class"]),
        ("few", vec![x(), ("labels", DType::F32, &[3], bytes(&[0.0; 3]))], &["`labels`", "3 labels", "12"]),
    ];
    let good = samples(&folder, "good.npz", &[x()]);
    for (name, arrays, words) in cases {
        let file = format!("{name}.npz");
        let path = samples(&folder, &file, &arrays);
        let path = path.to_str().unwrap();
        let words = [&[file.as_str()], words].concat();
        convert(&folder, &models::mlp(), &["--calib", path]).0.expect_saying(2, &words);
        let held_out = ["--calib", good.to_str().unwrap(), "--heldout", path];
        convert(&folder, &models::mlp(), &held_out).0.expect_saying(2, &words);
    }
    // In a directory, the file.
    let dir = folder.file("several");
    std::fs::create_dir(&dir).unwrap();
    for (name, columns) in [("a", 32), ("b", 30)] {
        let array = NamedArray {
            name: "x".into(),
            dtype: DType::F32,
            dims: vec![1, columns],
            data: bytes(&rows[..columns]),
        };
        write_npz(&dir.join(format!("{name}.npz")), &[array]).unwrap();
    }
    let ended = convert(&folder, &models::mlp(), &["--calib", dir.to_str().unwrap()]).0;
    ended.expect_saying(2, &["b.npz", "[1, 30]"]);
    // Cut anywhere, or no archive at all.
    let whole = std::fs::read(&good).unwrap();
    for at in [0, 1, 40, 200, whole.len() / 2, whole.len() - 1] {
        let cut = folder.write("cut.npz", &whole[..at]);
        convert(&folder, &models::mlp(), &["--calib", cut.to_str().unwrap()])
            .0
            .expect_saying(4, &["cut.npz"]);
    }
    let absent = folder.file("absent.npz");
    let ended = convert(&folder, &models::mlp(), &["--calib", absent.to_str().unwrap()]).0;
    ended.expect_saying(4, &["absent.npz"]);
    assert!(!folder.file("m.pack").exists());
}

#[test]
fn indices_past_a_table_are_the_samples_fault() {
    let mut b = Builder::new();
    b.int_input("ids", &[N(1), N(4)]).output("y").weight("e", &[300, 32], 1.0).weight("w", &[32, 8], 0.3);
    b.node("Gather", "e ids", "g", &[]).node("MatMul", "g w", "y", &[]);
    let folder = Folder::new("indices");
    let ids: Vec<u8> = (0..20i64).flat_map(|i| (i * 20).to_le_bytes()).collect();
    let path = samples(&folder, "ids.npz", &[("ids", DType::I64, &[5, 4], ids)]);
    let ended = convert(&folder, &b.finish("table"), &["--calib", path.to_str().unwrap()]).0;
    ended.expect_saying(2, &["gather", "index 3", "300"]);
}

#[test]
fn poor_samples_make_packs_that_answer() {
    let folder = Folder::new("poor");
    let rows = noise(5, 12 * 32);
    let large: Vec<f32> = rows.iter().map(|v| v * 1e30).collect();
    for (name, count, values) in [
        ("constant", 12, vec![0.5; 12 * 32]),
        ("zeros", 12, vec![0.0; 12 * 32]),
        ("one", 1, rows[..32].to_vec()),
        ("two", 2, rows[..64].to_vec()),
        ("large", 12, large),
    ] {
        let path = samples(&folder, name, &[("x", DType::F32, &[count, 32], bytes(&values))]);
        let (ended, pack) = convert(&folder, &models::mlp(), &["--calib", path.to_str().unwrap()]);
        ended.expect(0);
        let device = Device::builder().threads(Some(1)).budget(Some(1 << 40)).build().unwrap();
        let model = open(&pack, Registry::standard());
        for rung in &PackFile::open(&pack).unwrap().header().rungs {
            let inputs = inputs_of(&model, rung, 1, 3);
            let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
            let mut session = Session::new(&device, &model, rung, &specs).unwrap();
            session.set_input(0, &inputs[0].1).unwrap();
            session.run().unwrap();
            let y = session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            let sum: f32 = y.sum();
            assert!((sum - 1.0).abs() < 0.1, "{name}, {}: a softmax that sums to {sum}", rung.id);
        }
    }
}

#[test]
fn wishes_that_no_rung_meets_say_what_could_be() {
    let folder = Folder::new("nowish");
    let wish = |args: &[&str]| convert(&folder, &models::mlp(), args).0;
    wish(&["--budgets", "1"]).expect_saying(2, &["--budgets", "1 byte", "less than the smallest rung's"]);
    wish(&["--min-quality", "nan"]).expect_saying(2, &["--min-quality", "NaN", "expected a number"]);
    wish(&["--max-latency", "nan"]).expect_saying(2, &["--max-latency", "NaN", "expected milliseconds"]);
    wish(&["--max-latency=-1"]).expect_saying(2, &["--max-latency", "negative", "expected milliseconds"]);
    wish(&["--budgets", "2kB", "--min-quality", "90"]).expect_saying(2, &["--min-quality", "best rung's"]);
    assert!(!folder.file("m.pack").exists());
}
