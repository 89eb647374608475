//! One broken expression for every rule.

use super::super::needed_blobs;
use super::*;

/// The error of binding tensor 0 after a change, the same from `needed_blobs` unless bytes alone are missing.
fn refused(change: impl FnOnce(&mut Pack)) -> WeightError {
    let mut pack = Pack::default();
    let w = gaussian(20 * 40, 1);
    let expr = pack.planes(&w, 20, 40, &planes::Spec { group: 8, ..Default::default() });
    pack.tensor(20, 40, expr);
    change(&mut pack);
    let last = pack.header.tensors.len() - 1;
    let error = pack.bind(last, 0).err().expect("refused");
    assert_eq!(needed_blobs(&Registry::standard(), &pack.header, last, Take(0, 0)).unwrap_err(), error);
    error
}

/// The error of one parameter of the planes set to a value.
fn param(name: &str, value: Value) -> String {
    refused(|pack| {
        pack.header.tensors[0].roots[0].params.insert(name.into(), value);
    })
    .to_string()
}

#[test]
fn errors_name_tensor_kind_parameter_value_and_what_was_expected() {
    assert_eq!(
        param("group", json!(12)),
        "tensor `t0`: planes.group is 12, expected a multiple of 8, or 0 for whole rows"
    );
    assert_eq!(param("group", json!("x")), "tensor `t0`: planes.group is \"x\", expected a number");
    let widths = "expected planes of 1, 2, 4 or 8 bits, at most 16 bits together";
    for bits in [json!([3]), json!([]), json!([8, 8, 1]), json!([4294967295u32, 2]), json!(7), json!([2, -2])]
    {
        assert_eq!(param("bits", bits.clone()), format!("tensor `t0`: planes.bits is {bits}, {widths}"));
    }
    assert!(param("scale", json!("bf16")).ends_with("planes.scale is \"bf16\", expected f16 or f32"));
    assert!(param("layout", json!("cols")).ends_with("expected panel, panel1 or rows"));
    assert!(param("gains", json!([1.0])).ends_with("expected 6 finite numbers, one a plane"));
    assert!(
        param("gains", json!([1, 1, 1, 1, 1, 1e300])).ends_with("expected 6 finite numbers, one a plane")
    );
    assert!(param("colour", json!(1)).contains("planes.colour is 1, expected one of group, bits, layout"));
    // A long value is cut.
    assert!(param("group", json!(vec![1; 1000])).len() < 200);
    // Another layout or group is another length of blob.
    assert_eq!(param("group", json!(16)), "tensor `t0`: planes blob 0 has 320 bytes, expected 192");
}

#[test]
fn sizes_counts_and_takes_must_fit() {
    let shape = |n, k| {
        let change = |pack: &mut Pack| (pack.header.tensors[0].n, pack.header.tensors[0].k) = (n, k);
        refused(change)
    };
    for (n, k) in [(0, 40), (20, 0), (usize::MAX, 40), (20, usize::MAX), (1 << 40, 1 << 40)] {
        assert!(matches!(shape(n, k), WeightError::Shape { what: "shape", .. }), "[{n}, {k}]");
    }
    assert!(matches!(shape(40, 40), WeightError::BlobLen { .. }));
    let fewer = refused(|pack| pack.header.tensors[0].roots[0].blobs.truncate(2));
    assert!(matches!(fewer, WeightError::Shape { what: "blobs", .. }), "{fewer}");
    let unlisted = refused(|pack| pack.header.tensors[0].roots[0].blobs[4] = 1000);
    assert!(matches!(unlisted, WeightError::NoBlob { blob: 1000, .. }), "{unlisted}");
    let args = refused(|pack| pack.header.tensors[0].roots[0].args.push(Arg::Shared(0, 0)));
    assert!(matches!(args, WeightError::Shape { what: "operands", .. }), "{args}");

    let mut pack = Pack::default();
    let expr = pack.planes(&gaussian(8, 1), 1, 8, &planes::Spec::default());
    pack.tensor(1, 8, expr);
    let error = |tensor, take| {
        bind(&Registry::standard(), &pack.header, tensor, take, &pack.source()).err().unwrap().to_string()
    };
    assert_eq!(error(0, Take(0, 7)), "tensor `t0`: planes has take 7, expected at most 6 planes");
    assert_eq!(error(0, Take(1, 1)), "tensor `t0`: root 1 of 1");
    assert_eq!(error(7, Take(0, 1)), "tensor 7: the header has 1 tensors");
    let cut: Arc<dyn BlobSource> = Arc::new(MemorySource::from(pack.blobs[..3].to_vec()));
    let with = |take| bind(&Registry::standard(), &pack.header, 0, Take(0, take), &cut);
    assert!(with(2).is_ok());
    assert!(matches!(with(3), Err(WeightError::NoBlob { blob: 3, .. })));
}

#[test]
fn nodes_refuse_what_they_cannot_show() {
    let of = |kind: &str, params: Value, args: Vec<Arg>| {
        refused(|pack| {
            pack.tensor(20, 40, node(kind, params.clone(), args.clone()));
        })
        .to_string()
    };
    let shared = || vec![Arg::Shared(0, 0)];
    let rows = of("view", json!({"rows": [0, 21], "channels": [0, 40]}), shared());
    assert!(rows.contains("view.rows is [0,21], expected [first, end), 20 long"), "{rows}");
    let past = of("view", json!({"rows": [5, 25], "channels": [0, 40]}), shared());
    assert!(past.contains("expected ranges in [20, 40]"), "{past}");
    let far = of("view", json!({"rows": [usize::MAX - 20, usize::MAX], "channels": [0, 40]}), shared());
    assert!(far.contains("expected ranges in [20, 40]"), "{far}");
    assert!(
        of("view", json!({"taps": 3, "rows": [0, 20], "channels": [0, 13]}), shared())
            .contains("view.taps is 3")
    );
    assert!(
        of("view", json!({"taps": 0, "rows": [0, 20], "channels": [0, 13]}), shared())
            .contains("view.taps is 0")
    );
    assert!(
        of("view", json!({"rows": [0, 20], "channels": [0, 40]}), Vec::new())
            .contains("operands 0, expected 1")
    );
    let unsaid = of(
        "view",
        json!({"rows": [0, 20], "channels": [0, 40]}),
        vec![own(Expr {
            kind: "dense".into(),
            params: Default::default(),
            args: Vec::new(),
            blobs: Vec::new(),
        })],
    );
    assert!(unsaid.contains("an operand of shape none, expected `of`"), "{unsaid}");
    let other = of("view", json!({"rows": [0, 20], "channels": [0, 40], "of": [30, 40]}), shared());
    assert!(other.contains("an operand of shape [20, 40], expected [30, 40]"), "{other}");

    let hole = of("tiles", json!({"blocks": [[0, 20, 0, 39]]}), shared());
    assert!(hole.contains("an operand of shape [20, 40], expected [20, 39]"), "{hole}");
    assert!(of("tiles", json!({"blocks": []}), Vec::new()).contains("tiles.blocks is []"));
    assert!(
        of("tiles", json!({"blocks": [[0, 21, 0, 40]]}), shared()).contains("in 20 rows and 40 channels")
    );
    assert!(of("tiles", json!({"blocks": [[4, 4, 0, 40]]}), shared()).contains("in 20 rows and 40 channels"));
    let twice = json!({"blocks": [[0, 20, 0, 40], [0, 20, 0, 40]]});
    assert!(of("tiles", twice, [shared(), shared()].concat()).contains("that do not overlap"));

    assert!(of("combine", json!({}), Vec::new()).contains("operands 0, expected at least 1"));
    assert!(of("combine", json!({"coefs": [1, 2]}), shared()).contains("combine.coefs is [1,2]"));
    assert!(
        of("combine", json!({"coefs": [[1, 2]]}), shared()).contains("each a finite number or 20 of them")
    );
    assert!(of("combine", json!({"coefs": [1e300]}), shared()).contains("combine.coefs is"));
    assert!(of("combine", json!({"takes": []}), shared()).contains("combine.takes is []"));
    assert!(of("combine", json!({"takes": [9]}), shared()).contains("take 9, expected at most 6 planes"));
}

#[test]
fn tiles_must_cover_what_is_seen_and_nothing_else() {
    let mut pack = Pack::default();
    let (a, b) = (gaussian(8 * 16, 1), gaussian(4 * 16, 2));
    let args = vec![own(pack.dense(&a, 8, 16)), own(pack.dense(&b, 4, 16))];
    pack.tensor(16, 16, node("tiles", json!({"blocks": [[0, 8, 0, 16], [8, 12, 0, 16]]}), args));
    let view =
        |rows: [usize; 2]| node("view", json!({"rows": rows, "channels": [0, 16]}), vec![Arg::Shared(0, 0)]);
    let (covered, open) = (pack.tensor(12, 16, view([0, 12])), pack.tensor(13, 16, view([0, 13])));
    assert_eq!(pack.checked(covered, 0), [a, b].concat());
    let error = pack.bind(open, 0).err().unwrap().to_string();
    assert!(error.contains("rectangles that cover rows 0..13, channels 0..16"), "{error}");
    assert!(pack.bind(0, 0).is_err());
}

#[test]
fn sharing_goes_down_and_ends() {
    let same = refused(|pack| {
        pack.tensor(20, 40, node("combine", json!({}), vec![Arg::Shared(1, 0)]));
    });
    assert_eq!(same.to_string(), "tensor `t1` shares tensor 1; only tensors before 1 can be shared");
    let chain = |args: usize, tensors: usize| {
        refused(|pack| {
            for below in 0..tensors {
                let args = vec![Arg::Shared(below as u32, 0); args];
                pack.tensor(20, 40, node("combine", json!({}), args));
            }
        })
    };
    assert!(matches!(chain(1, 16), WeightError::Depth { limit: 16, .. }));
    // 8^14 leaves: refused before they are made.
    assert!(matches!(chain(8, 14), WeightError::Parts { .. }));
}
