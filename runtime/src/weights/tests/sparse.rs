//! `sparse`: each form against the matrix that it was made of, in every leaf; and bytes that nobody wrote.

use super::super::sparse::{self, Positions};
use super::*;

/// A matrix of which `keep(row, column)` stays, 0 elsewhere.
fn masked(n: usize, k: usize, seed: u64, keep: impl Fn(usize, usize) -> bool) -> Vec<f32> {
    let w = gaussian(n * k, seed);
    (0..n * k).map(|i| if keep(i / k, i % k) { w[i] } else { 0.0 }).collect()
}

fn chance(seed: u64, at: usize, percent: u32) -> bool {
    philox(seed, at as u64)[0] % 100 < percent
}

/// How values are stored.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Leaf {
    Dense,
    Planes,
    RowCodes,
}

fn expr(pack: &mut Pack, positions: &Positions, leaf: Leaf) -> Expr {
    let (w, n, k) = (&positions.values, positions.n, positions.k);
    let spec = planes::Spec { group: 8, ..Default::default() };
    let values = match leaf {
        Leaf::Dense => pack.dense(w, n, k),
        Leaf::Planes => pack.planes(w, n, k, &spec),
        Leaf::RowCodes => {
            let planes = pack.planes(w, n, k, &spec);
            node("row_codes", json!({}), vec![own(planes)])
        }
    };
    let blobs = positions.blobs.iter().map(|bytes| pack.blob(bytes.clone())).collect();
    positions.expr(values, blobs)
}

/// Binds the positions with their values in each leaf, reads them in every way and compares with `w`: exactly, or its zeros exactly and
/// the rest as near as planes are.
fn check_positions(w: &[f32], n: usize, k: usize, positions: &Positions) {
    for leaf in [Leaf::Dense, Leaf::Planes, Leaf::RowCodes] {
        let mut pack = Pack::default();
        let expr = expr(&mut pack, positions, leaf);
        let tensor = pack.tensor(n, k, expr);
        for take in if leaf == Leaf::Dense { 0..1 } else { 0..5 } {
            let got = pack.checked(tensor, take);
            for (i, (&got, &want)) in got.iter().zip(w).enumerate() {
                let near = match (leaf, take) {
                    (Leaf::Dense, _) => (got - want).abs() <= 1e-6 * want.abs(),
                    (_, 0) => (got - want).abs() < 1e-3,
                    _ => want == 0.0 || got.signum() == want.signum() || want.abs() < 0.5,
                };
                let zero = want != 0.0 || got == 0.0;
                assert!(near && zero, "{leaf:?}, take {take}, [{}, {}]: {got}, want {want}", i / k, i % k);
            }
            let form = pack.bind(tensor, take).unwrap().code_form();
            // Of planes of 12 bits and more there are none.
            let scaled = leaf == Leaf::Planes && positions.params.get("scaled") == Some(&json!(true));
            let unscaled = positions.params.get("scaled") == Some(&json!(false));
            let expected = (leaf == Leaf::RowCodes || scaled) && !unscaled && (1..5).contains(&take);
            assert_eq!(form.is_some(), expected, "{leaf:?}, take {take}");
            assert!(form.is_none_or(|form| form.group == k && !form.half_offset));
        }
    }
}

#[test]
fn blocks_keep_their_columns() {
    for (n, k, block) in
        [(16, 8, 8), (20, 40, 4), (33, 64, 8), (40, 37, 1), (5, 6, 2), (70, 320, 4), (48, 264, 1)]
    {
        for percent in [10, 50, 100] {
            let keep = |r: usize, c: usize| chance(7, r / PANEL * 1000 + c / block, percent);
            let w = masked(n, k, 1, keep);
            let positions = sparse::blocks(&w, n, k, block);
            check_positions(&w, n, k, &positions);
        }
    }
}

#[test]
fn a_panel_may_keep_nothing_and_a_row_have_nothing() {
    let w = masked(40, 32, 2, |r, c| r / PANEL == 1 && r != 20 && c % 8 < 4);
    let blocks = sparse::blocks(&w, 40, 32, 4);
    assert_eq!(blocks.params["entries"], json!(4));
    check_positions(&w, 40, 32, &blocks);
    check_positions(&w, 40, 32, &sparse::few(&w, 40, 32, 4, 8).unwrap());
    check_positions(&w, 40, 32, &sparse::bitmap(&w, 40, 32, false));
    check_positions(&w, 40, 32, &sparse::bitmap(&w, 40, 32, true));
    // Nothing at all is a matrix, too.
    let none = vec![0.0; 40 * 32];
    let positions = [
        sparse::blocks(&none, 40, 32, 8),
        sparse::few(&none, 40, 32, 1, 4).unwrap(),
        sparse::bitmap(&none, 40, 32, true),
    ];
    for positions in positions {
        let mut pack = Pack::default();
        let expr = expr(&mut pack, &positions, Leaf::Planes);
        let tensor = pack.tensor(40, 32, expr);
        assert!(pack.checked(tensor, 2).iter().all(|w| *w == 0.0));
    }
}

#[test]
fn few_of_some_columns_stay() {
    for (n, k, keep, of) in [
        (16, 16, 2, 4),
        (20, 38, 1, 4),
        (33, 67, 4, 8),
        (7, 5, 1, 2),
        (18, 130, 3, 5),
        (40, 100, 7, 16),
        (17, 9, 15, 16),
    ] {
        // Which of each group, in the order of some noise; now and then one fewer.
        let rank = |r: usize, c: usize| {
            let own = philox(3, (r * k + c) as u64)[0];
            let group = c / of * of..k.min(c / of * of + of);
            group.filter(|c| philox(3, (r * k + c) as u64)[0] < own).count()
        };
        let fewer = |r: usize, c: usize| usize::from(keep > 1 && chance(5, r * k + c / of, 20));
        let w = masked(n, k, 4, |r, c| rank(r, c) < keep - fewer(r, c));
        check_positions(&w, n, k, &sparse::few(&w, n, k, keep, of).unwrap());
    }
    assert_eq!(sparse::few(&[1.0, 2.0, 3.0, 0.0], 1, 4, 2, 4), None);
}

#[test]
fn bits_say_what_stays() {
    for (n, k, percent) in [(16, 8, 50), (20, 40, 10), (33, 65, 30), (1, 1, 100), (50, 300, 5), (40, 64, 100)]
    {
        let w = masked(n, k, 6, |r, c| chance(8, r * k + c, percent));
        check_positions(&w, n, k, &sparse::bitmap(&w, n, k, false));
        check_positions(&w, n, k, &sparse::bitmap(&w, n, k, true));
    }
}

/// The page's words, written out for a few bytes.
#[test]
fn values_are_those_of_the_definition() {
    let mut pack = Pack::default();
    // Blocks of 2: the list ends before an index that is not greater, or past K.
    for (list, want) in [
        ([1u16, 2, 2], [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]),
        ([2, 0, 1], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]),
        ([0, 3, 1], [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]),
        ([9, 0, 1], [0.0; 6]),
    ] {
        let values = pack.dense(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1, 6);
        let blob = pack.blob(list.iter().flat_map(|i| i.to_le_bytes()).collect());
        let params = json!({"form": "blocks", "block": 2, "entries": 3});
        let expr = Expr { blobs: vec![blob], ..node("sparse", params, vec![own(values)]) };
        let tensor = pack.tensor(1, 6, expr);
        assert_eq!(pack.checked(tensor, 0), want);
    }
    // 2 of 4, of 6 columns: (1, 3), then (0, past K); and (2, 2: nothing), then (1, 0: nothing).
    let values = pack.dense(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 2, 4);
    let units = [[1u32, 2], [3, 2], [0, 1], [2, 0]];
    let blob = pack.blob(units.iter().flat_map(|[a, b]| (a | (b << 2)).to_le_bytes()).collect());
    let expr = Expr {
        blobs: vec![blob],
        ..node("sparse", json!({"form": "few", "keep": 2, "of": 4}), vec![own(values)])
    };
    let tensor = pack.tensor(2, 6, expr);
    assert_eq!(pack.checked(tensor, 0), [0.0, 1.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 7.0]);
    // Bits of three columns; the values end before the last.
    let values = pack.dense(&(1..=16).map(|v| v as f32).collect::<Vec<_>>(), 16, 1);
    let masks = pack.blob([0b101u16, 0, 0b110].iter().flat_map(|m| m.to_le_bytes()).collect());
    let starts = pack.blob(vec![1, 0, 0, 0]);
    let scales = pack.blob([2.0f32, 1.0, -1.0].iter().flat_map(|s| s.to_le_bytes()).collect());
    let expr = Expr {
        blobs: vec![masks, starts, scales],
        ..node("sparse", json!({"form": "bitmap", "count": 4, "scaled": true}), vec![own(values)])
    };
    let tensor = pack.tensor(3, 3, expr);
    assert_eq!(pack.bind(tensor, 0).unwrap().materialize(), [4.0, 0.0, 0.0, 0.0, 0.0, 4.0, -3.0, 0.0, 0.0]);
}

#[test]
fn any_bytes_are_positions() {
    for seed in 0..60 {
        let (n, k) = (1 + philox(1, seed)[0] as usize % 50, 8 * (1 + philox(2, seed)[0] as usize % 30));
        let w = masked(n, k, seed, |r, c| chance(seed, r * k + c, 25));
        let few = sparse::few(&masked(n, k, seed, |_, c| c % 8 < 3), n, k, 3, 8).unwrap();
        let all = [sparse::blocks(&w, n, k, 4), sparse::bitmap(&w, n, k, true), few];
        for mut positions in all {
            for (i, blob) in positions.blobs.iter_mut().enumerate() {
                let mut junk = bytes(blob.len(), seed + i as u64);
                // Lists whose indices are small get further.
                junk.iter_mut().skip(1).step_by(2).for_each(|high| *high &= (seed % 2) as u8);
                *blob = junk;
            }
            for leaf in [Leaf::Dense, Leaf::RowCodes] {
                let mut pack = Pack::default();
                let expr = expr(&mut pack, &positions, leaf);
                let tensor = pack.tensor(n, k, expr);
                pack.checked(tensor, if leaf == Leaf::Dense { 0 } else { 2 });
            }
        }
    }
}

#[test]
fn what_is_no_sparse_expression_is_refused() {
    let refusal = |params: Value, blob: usize| {
        let mut pack = Pack::default();
        let values = pack.dense(&[1.0; 32], 16, 2);
        let blob = pack.blob(vec![0; blob]);
        let expr = Expr { blobs: vec![blob], ..node("sparse", params, vec![own(values)]) };
        let tensor = pack.tensor(16, 8, expr);
        pack.bind(tensor, 0).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(refusal(json!({"form": "blocks", "block": 1, "entries": 2}), 4), "");
    let param = |text: &str| format!("tensor `t0`: sparse.{text}");
    for (params, want) in [
        (json!({"form": "rows"}), param("form is \"rows\", expected blocks, few or bitmap")),
        (json!({}), param("form is none, expected blocks, few or bitmap")),
        (
            json!({"form": "blocks", "block": 3, "entries": 1}),
            param("block is 3, expected 1, 2, 4 or 8, a divisor of K = 8"),
        ),
        (json!({"form": "blocks", "block": 4, "entries": 3}), param("entries is 3, expected 1 to 2 blocks")),
        (json!({"form": "blocks", "block": 4, "entries": 0}), param("entries is 0, expected 1 to 2 blocks")),
        (json!({"form": "few", "keep": 2, "of": 17}), param("of is 17, expected 2 to 16")),
        (json!({"form": "few", "keep": 4, "of": 4}), param("keep is 4, expected 1 to 3")),
        (json!({"form": "bitmap", "count": 129}), param("count is 129, expected 1 to 128 values")),
        (json!({"form": "few", "keep": 1, "of": 4, "x": 1}), param("x is 1, expected one of form, keep, of")),
    ] {
        assert_eq!(refusal(params, 4), want);
    }
    let short = refusal(json!({"form": "blocks", "block": 1, "entries": 2}), 6);
    assert_eq!(short, "tensor `t0`: sparse blob 1 has 6 bytes, expected 4");
}
