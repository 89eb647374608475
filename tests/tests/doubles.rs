//! Inputs and outputs that are doubles: computed as floats, and refused where floats end.

use edge_runtime::graph::DType;
use edge_runtime::plan::InputSpec;
use edge_runtime::weights::Registry;
use edge_runtime::{RunError, Session, device::Device};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Folder, edge_convert, open};

/// ONNX's number of doubles.
const DOUBLE: i64 = 11;

#[test]
fn doubles_are_computed_as_floats_and_refused_beyond_them() {
    let folder = Folder::new("doubles");
    let mut b = Builder::new();
    b.float_input("x", DOUBLE, &[N(3)]).float_output("y", DOUBLE).node("Add", "x x", "y", &[]);
    let (source, pack) = (folder.write("m.onnx", &b.finish("m")), folder.file("m.pack"));
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    let model = open(&pack, Registry::standard());
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 40)).build().unwrap();
    let spec = InputSpec { name: "x".into(), dtype: DType::F64, dims: vec![3], value: None };
    let mut session = Session::new(&device, &model, &model.rungs()[0], &[spec]).unwrap();
    let mut answer = |x: [f64; 3]| -> Result<Vec<f64>, RunError> {
        session.set_input(0, &x.map(f64::to_le_bytes).concat())?;
        session.run()?;
        let bytes = session.output(0).1.as_chunks::<8>().0;
        Ok(bytes.iter().map(|b| f64::from_le_bytes(*b)).collect())
    };
    assert_eq!(answer([1.5, -2.25, f64::from(f32::MAX)]).unwrap(), [3.0, -4.5, f64::INFINITY]);
    assert_eq!(answer([1e-320, f64::INFINITY, 0.25]).unwrap(), [0.0, f64::INFINITY, 0.5]);
    let error = answer([0.0, -1e39, 0.0]).unwrap_err();
    assert!(matches!(error, RunError::TooLarge { index: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("input `x`, element 1 is -1e39"), "{error}");
}
