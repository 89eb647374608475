//! A pack of a newer converter: rungs that take what this runtime does not know are skipped, the others run.

use edge_runtime::Model;
use edge_runtime::device::Device;
use edge_runtime::pack::{Arg, Expr, Header, PackFile, Take};
use edge_runtime::select::{Member, Request, SelectError, candidates, choose_together, next_better, select};
use edge_runtime::weights::Registry;
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Folder, convert_in_process, inputs_of};
use std::sync::Arc;

/// An expression of a kind that nobody has.
fn made_up(args: Vec<Arg>) -> Expr {
    let params = serde_json::json!({"colour": [1, 2, 3]}).as_object().unwrap().clone();
    Expr { kind: "hologram".into(), params, args, blobs: Vec::new() }
}

/// The pack's model after a change to its header.
fn changed(pack: &PackFile, change: impl FnOnce(&mut Header)) -> Model {
    let mut header = pack.header().clone();
    change(&mut header);
    let source = Arc::new(pack.map(pack.file_len()).unwrap());
    Model::new(Arc::new(header), source, Arc::new(Registry::standard()))
}

#[test]
fn rungs_of_an_unknown_kind_are_skipped() {
    let folder = Folder::new("newer");
    let path = folder.file("m.pack");
    // Wide enough for thin matrices, and of rows enough to fit them: the pack has corrected levels.
    let mut b = Builder::new();
    b.input("x", &[N(32), N(128)]).output("y").weight("w", &[128, 160], 0.2).weight("v", &[160, 128], 0.2);
    b.node("MatMul", "x w", "a", &[]).node("Relu", "a", "r", &[]).node("MatMul", "r v", "y", &[]);
    convert_in_process(&folder.write("m.onnx", &b.finish("two")), &path, &[]);
    let pack = PackFile::open(&path).unwrap();
    let kinds: Vec<&str> = pack.header().tensors.iter().map(|t| t.roots[0].kind.as_str()).collect();
    assert!(kinds.contains(&"corrected"), "{kinds:?}");
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let plain = changed(&pack, |_| ());
    let specs: Vec<_> =
        inputs_of(&plain, &plain.header().rungs[0], 1, 1).into_iter().map(|(spec, _)| spec).collect();
    let chosen = |model: &Model| select(&device, model, &specs, &Request::default());
    let best = chosen(&plain).unwrap().rung;
    let rung = |model: &Model, i: usize| model.header().rungs[i].id.clone();
    assert_eq!(rung(&plain, best), "float");

    // A root of its own that only the best rung takes.
    let own_root = |header: &mut Header| {
        header.tensors[1].roots.push(made_up(Vec::new()));
        let root = header.tensors[1].roots.len() as u32 - 1;
        header.rungs[best].takes[1] = Some(Take(root, 1));
    };
    let model = changed(&pack, own_root);
    let second = chosen(&model).unwrap();
    assert_ne!(second.rung, best);
    let others = candidates(&device, &model, &specs, &Request::default(), &second).unwrap();
    assert_eq!(others.len(), model.header().rungs.len() - 1);
    assert!(next_better(&device, &model, &specs, &Request::default(), &second).unwrap().is_none());
    let member = |model| Member { name: "m", model, inputs: &specs, request: Request::default() };
    let shares = choose_together(&device, &[member(&model)]).unwrap();
    assert_eq!(shares[0].rung, second.rung);
    // Asked for, it says why not.
    let forced = Request { forced: Some("float"), ..Request::default() };
    let said = select(&device, &model, &specs, &forced).unwrap_err().to_string();
    let name = &model.header().tensors[1].name;
    assert!(
        said.contains(&format!("tensor `{name}`: kind `hologram`")) && said.contains("newer runtime"),
        "{said}"
    );

    // A root that no rung takes is nobody's.
    let idle = changed(&pack, |header| header.tensors[1].roots.push(made_up(Vec::new())));
    assert_eq!(chosen(&idle).unwrap().rung, best);

    // Thin matrices of another kind: only the levels that have them are lost, in f32 and integer rungs.
    let (mut lost, mut kept) = (0, 0);
    let thin = changed(&pack, |header| {
        for tensor in &mut header.tensors {
            for root in tensor.roots.iter_mut().filter(|root| root.kind == "corrected") {
                for arg in root.args.iter_mut().skip(1) {
                    *arg = Arg::Expr(Box::new(made_up(Vec::new())));
                }
            }
        }
    });
    for (i, r) in thin.header().rungs.iter().enumerate() {
        let request = Request { available: &[i], ..Request::default() };
        match select(&device, &thin, &specs, &request) {
            Ok(_) => kept += 1,
            Err(SelectError::Plan(error)) if error.to_string().contains("hologram") => lost += 1,
            Err(error) => panic!("{}: {error}", r.id),
        }
    }
    assert!(kept > 0 && kept + lost == thin.header().rungs.len(), "{kept} kept, {lost} lost");
    assert_eq!(chosen(&thin).unwrap().rung, best);

    // Inside another expression, and everywhere: nothing is left, and the error names the kind.
    let nowhere = changed(&pack, |header| {
        for tensor in &mut header.tensors {
            for root in &mut tensor.roots {
                let inner = std::mem::replace(root, made_up(Vec::new()));
                *root = Expr {
                    args: vec![Arg::Expr(Box::new(made_up(vec![Arg::Expr(Box::new(inner))])))],
                    ..made_up(Vec::new())
                };
                root.kind = "row_codes".into();
                root.params.clear();
            }
        }
    });
    let said = chosen(&nowhere).unwrap_err().to_string();
    assert!(said.contains("kind `hologram`"), "{said}");
}
