//! One broken expression for every rule.

use super::super::{needed_blobs, sparse};
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
    assert!(param("layout", json!("cols")).ends_with("expected panel, panel1, rows or tight"));
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
    let through = of("combine", json!({"takes": [1], "through": true}), shared());
    assert!(through.contains("combine.takes is [1]") && through.contains("`through`"), "{through}");
    assert!(of("combine", json!({"through": 1}), shared()).contains("combine.through is 1"));
    assert!(of("combine", json!({"takes": []}), shared()).contains("combine.takes is []"));
    assert!(of("combine", json!({"takes": [9]}), shared()).contains("take 9, expected at most 6 planes"));
}

/// The error of the corrected matrix of [`corrected`] after a change to its expression.
fn of_corrected(change: impl FnOnce(&mut Expr)) -> String {
    refused(|pack| {
        let mut expr = corrected(pack);
        change(&mut expr);
        pack.tensor(20, 40, expr);
    })
    .to_string()
}

#[test]
fn corrections_refuse_levels_that_cannot_be() {
    let mut pack = Pack::default();
    let expr = corrected(&mut pack);
    pack.tensor(20, 40, expr);
    for take in 0..4 {
        assert!(pack.bind(0, take).is_ok(), "level {take}");
    }
    let levels = |levels: Value| of_corrected(|expr| drop(expr.params.insert("levels".into(), levels)));
    let bounds = "expected sets to 2, ranks to 20, ranges of 0 or more";
    for wrong in [
        json!([]),
        json!([[1, 3, 0, 0]]),
        json!([[1, 1, 21, 0.5]]),
        json!([[1, 1, 4097, 0.5]]),
        json!([[1, 1, 0, -1.0]]),
        json!([[1, 1, 0, 1e300]]),
    ] {
        let said = levels(wrong.clone());
        assert_eq!(said, format!("tensor `t1`: corrected.levels is {wrong}, {bounds}"));
    }
    let form = "expected a list of [take, sets of gains and shifts, rank, range]";
    for wrong in [
        json!(7),
        json!([1, 1, 0, 0]),
        json!([[1, 1, 0]]),
        json!([[-1, 1, 0, 0]]),
        json!([[1, 1, u64::MAX, "x"]]),
    ] {
        let said = levels(wrong.clone());
        assert!(said.starts_with("tensor `t1`: corrected.levels is ") && said.ends_with(form), "{said}");
    }
    assert!(of_corrected(|e| e.params.clear()).contains("corrected.levels is none"));
    assert!(
        of_corrected(|e| drop(e.params.insert("gain".into(), json!(1))))
            .contains("corrected.gain is 1, expected one of levels")
    );
    // Only what is taken is looked at: here the level with all there is.
    let of_second = |change: &dyn Fn(&mut Expr)| {
        of_corrected(|expr| {
            expr.params.insert("levels".into(), json!([[1, 1, 0, 0.0], [2, 2, 8, 1.5]]));
            change(expr);
        })
    };
    // Levels that the operands or blobs do not go with.
    assert!(levels(json!([[1, 1, 0, 0], [2, 2, 0, 0]])).contains("corrected has operands 3, expected 1"));
    assert!(levels(json!([[1, 0, 0, 0], [2, 0, 8, 1.0]])).contains("corrected has blobs 2, expected 0"));
    assert!(levels(json!([[1, 1, 0, 0], [2, 2, 9, 1.0]])).contains("planes blob"));
    assert!(levels(json!([[1, 1, 0, 0], [2, 1, 8, 1.0]])).contains("corrected blob"));
    assert!(
        levels(json!([[1, 1, 0, 0], [9, 2, 8, 1.0]]))
            .contains("planes has take 9, expected at most 6 planes")
    );
    assert!(of_corrected(|e| e.args.truncate(e.args.len() - 1)).contains("operands 2, expected 3"));
    assert!(of_corrected(|e| e.args.swap(0, 2)).contains("`t1`: planes blob"));
    assert!(of_corrected(|e| e.blobs.truncate(e.blobs.len() - 1)).contains("blobs 1, expected 2"));
    assert!(of_second(&|e| e.blobs.swap(0, 1)).contains("bytes, expected"));
    assert!(of_second(&|e| e.blobs[1] = 1000).contains("corrected blob 1000 is not there"));
    // Past the last level.
    let error = pack.bind(0, 4).err().unwrap().to_string();
    assert_eq!(error, "tensor `t0`: corrected has take 4, expected at most 3 levels");
}

/// The error of a sparse matrix after a change to its expression.
fn of_sparse(positions: &sparse::Positions, change: impl FnOnce(&mut Expr)) -> String {
    refused(|pack| {
        let values = pack.planes(&positions.values, positions.n, positions.k, &planes::Spec::default());
        let blobs = positions.blobs.iter().map(|bytes| pack.blob(bytes.clone())).collect();
        let mut expr = positions.expr(values, blobs);
        change(&mut expr);
        pack.tensor(20, 40, expr);
    })
    .to_string()
}

#[test]
fn sparse_forms_refuse_what_they_cannot_place() {
    let w: Vec<f32> =
        gaussian(20 * 40, 1).iter().enumerate().map(|(i, w)| if i % 4 < 2 { *w } else { 0.0 }).collect();
    let (blocks, few) = (sparse::blocks(&w, 20, 40, 2), sparse::few(&w, 20, 40, 2, 4).unwrap());
    let (bits, scaled) = (sparse::bitmap(&w, 20, 40, false), sparse::bitmap(&w, 20, 40, true));
    let set = |positions, name: &str, value: Value| {
        of_sparse(positions, |e| drop(e.params.insert(name.into(), value)))
    };
    let cases = [
        (&blocks, "form", json!("csr"), "expected blocks, few or bitmap"),
        (&blocks, "form", json!("few"), "sparse.block is 2, expected one of form, keep, of"),
        (&blocks, "block", json!(3), "expected 1, 2, 4 or 8, a divisor of K = 40"),
        (&blocks, "block", json!(0), "a divisor of K = 40"),
        (&blocks, "block", json!(-2), "a divisor of K = 40"),
        (&blocks, "entries", json!(0), "expected 1 to 20 blocks"),
        (&blocks, "entries", json!(21), "expected 1 to 20 blocks"),
        (&blocks, "entries", json!(u64::MAX), "expected 1 to 20 blocks"),
        (&blocks, "entries", json!(1), "sparse blob"),
        (&few, "of", json!(1), "expected 2 to 16"),
        (&few, "of", json!(17), "expected 2 to 16"),
        (&few, "keep", json!(0), "expected 1 to 3"),
        (&few, "keep", json!(4), "expected 1 to 3"),
        (&few, "keep", json!(1), "sparse blob"),
        (&bits, "count", json!(0), "expected 1 to 800 values"),
        (&bits, "count", json!(801), "expected 1 to 800 values"),
        (&bits, "count", json!(u64::MAX), "expected 1 to 800 values"),
        (&bits, "count", json!(1), "planes blob"),
        (&bits, "scaled", json!("yes"), "expected true or false"),
        (&bits, "scaled", json!(true), "sparse has blobs 2, expected 3"),
        (&scaled, "scaled", json!(false), "sparse has blobs 3, expected 2"),
        (&scaled, "colour", json!(1), "sparse.colour is 1, expected one of form, count, scaled"),
    ];
    for (positions, name, value, want) in cases {
        let said = set(positions, name, value.clone());
        assert!(said.starts_with("tensor `t1`: ") && said.contains(want), "{name} {value}: {said}");
    }
    for positions in [&blocks, &few, &bits, &scaled] {
        assert!(
            of_sparse(positions, |e| e.args.truncate(e.args.len() - 1))
                .contains("sparse has operands 0, expected 1")
        );
        assert!(of_sparse(positions, |e| e.blobs.truncate(e.blobs.len() - 1)).contains("expected"));
        assert!(of_sparse(positions, |e| e.blobs[0] = 1000).contains("sparse blob 1000 is not there"));
        // The scales of another matrix.
        assert!(of_sparse(positions, |e| e.blobs[0] = 0).contains("sparse blob 0 has"), "length");
        assert!(of_sparse(positions, |e| e.params.clear()).contains("sparse.form is none"));
    }
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
