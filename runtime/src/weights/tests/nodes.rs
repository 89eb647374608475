//! `tiles`, `view` and `combine`: what they show, what they need, which codes they keep.

use super::super::needed_blobs;
use super::*;

const BYTE: [u32; 2] = [4, 4];

fn spec(group: usize) -> planes::Spec {
    planes::Spec { group, bits: BYTE.to_vec(), ..Default::default() }
}

/// A ladder of `[n, taps * channels]` matrices in L-shaped shells: each tile's rows and channels.
const SHELLS: [[usize; 4]; 5] =
    [[0, 24, 0, 16], [0, 24, 16, 40], [24, 40, 0, 40], [0, 40, 40, 48], [40, 53, 0, 48]];

/// Tiles of planes of one group size each over `SHELLS`; returns the tensor.
fn shells(pack: &mut Pack, w: &[f32], taps: usize, groups: [usize; 5]) -> usize {
    let k = taps * 48;
    let mut args = Vec::new();
    for ([n0, n1, c0, c1], group) in SHELLS.into_iter().zip(groups) {
        let part = cut(w, k, taps, [n0, n1], [c0, c1]);
        args.push(own(pack.planes(&part, n1 - n0, taps * (c1 - c0), &spec(group))));
    }
    pack.tensor(53, k, node("tiles", json!({"taps": taps, "blocks": SHELLS}), args))
}

/// A view of a shared tensor.
fn view(pack: &mut Pack, of: usize, taps: usize, rows: [usize; 2], channels: [usize; 2]) -> usize {
    let params = json!({"taps": taps, "rows": rows, "channels": channels});
    let arg = Arg::Shared(of as u32, 0);
    pack.tensor(rows[1] - rows[0], taps * (channels[1] - channels[0]), node("view", params, vec![arg]))
}

#[test]
fn tiles_and_views_show_their_parts() {
    for taps in [1, 9] {
        let k = taps * 48;
        let w = gaussian(53 * k, 4);
        let mut pack = Pack::default();
        let tensor = shells(&mut pack, &w, taps, [8, 8, 8, 8, 8]);
        for take in [1, 2] {
            let whole = pack.checked(tensor, take);
            for (i, [n0, n1, c0, c1]) in SHELLS.into_iter().enumerate() {
                // Each tile is its own leaf.
                let mut alone = Pack::default();
                let tile = cut(&w, k, taps, [n0, n1], [c0, c1]);
                let expr = alone.planes(&tile, n1 - n0, taps * (c1 - c0), &spec(8));
                let leaf = alone.tensor(n1 - n0, taps * (c1 - c0), expr);
                assert_eq!(alone.checked(leaf, take), cut(&whole, k, taps, [n0, n1], [c0, c1]), "tile {i}");
            }
            for (rows, channels) in [
                ([0, 24], [0, 16]),
                ([0, 24], [0, 40]),
                ([0, 40], [0, 40]),
                ([0, 53], [0, 48]),
                ([0, 40], [0, 44]),
                ([5, 50], [3, 47]),
                ([30, 31], [20, 21]),
            ] {
                let part = view(&mut pack, tensor, taps, rows, channels);
                assert_eq!(
                    pack.checked(part, take),
                    cut(&whole, k, taps, rows, channels),
                    "{rows:?} {channels:?}"
                );
                // A view of a view is a view.
                let (n, c) = (rows[1] - rows[0], channels[1] - channels[0]);
                let inner = view(&mut pack, part, taps, [n / 3, n], [0, c.div_ceil(2)]);
                let want = cut(&pack.checked(part, take), taps * c, taps, [n / 3, n], [0, c.div_ceil(2)]);
                assert_eq!(pack.checked(inner, take), want);
            }
            // Rows alone may be cut with any number of taps.
            let rows = view(&mut pack, tensor, 1, [8, 30], [0, k]);
            assert_eq!(pack.checked(rows, take), cut(&whole, k, 1, [8, 30], [0, k]));
        }
    }
}

#[test]
fn tiles_keep_codes_where_groups_line_up() {
    let form = |taps: usize, groups: [usize; 5], rows: [usize; 2], channels: [usize; 2]| {
        let mut pack = Pack::default();
        let tensor = shells(&mut pack, &gaussian(53 * 48 * taps, 5), taps, groups);
        let part = view(&mut pack, tensor, taps, rows, channels);
        pack.checked(part, 2);
        pack.bind(part, 2).unwrap().code_form().map(|form| (form.group, form.half_offset, form.bits))
    };
    for taps in [1, 9] {
        assert_eq!(form(taps, [16, 8, 8, 8, 8], [0, 24], [0, 16]), Some((16, true, 8)));
        assert_eq!(form(taps, [16, 8, 8, 8, 8], [0, 24], [0, 40]), Some((8, true, 8)));
        assert_eq!(form(taps, [8; 5], [0, 53], [0, 48]), Some((8, true, 8)));
        // 12 channels end inside a group of 8: four codes a scale are no whole block.
        assert_eq!(form(taps, [8; 5], [0, 24], [0, 12]), None);
    }
    // Whole-row scales repeat for every tap and edge; alone, they stay one group.
    assert_eq!(form(9, [0; 5], [0, 53], [0, 48]), Some((8, true, 8)));
    assert_eq!(form(9, [0; 5], [0, 24], [0, 16]), Some((9 * 16, true, 8)));
    assert_eq!(form(9, [0; 5], [3, 20], [0, 11]), Some((9 * 11, true, 8)));
    assert_eq!(form(9, [0; 5], [0, 24], [0, 20]), None);
    // A group of 32 in a tap of 40 would straddle taps: it is halved until it does not.
    assert_eq!(form(9, [16, 8, 32, 8, 8], [24, 40], [0, 40]), Some((32, true, 8)));
    assert_eq!(form(9, [16, 8, 32, 8, 8], [24, 40], [0, 32]), Some((8, true, 8)));
    // More than 8 bits have no codes.
    let mut pack = Pack::default();
    let expr = pack.planes(&gaussian(64, 1), 1, 64, &planes::Spec::default());
    let tensor = pack.tensor(1, 64, expr);
    let forms =
        [1, 2, 3, 4, 5].map(|take| pack.bind(tensor, take).unwrap().code_form().map(|form| form.bits));
    assert_eq!(forms, [Some(2), Some(4), Some(6), Some(8), None]);
}

#[test]
fn only_the_blobs_in_view_are_needed() {
    let mut pack = Pack::default();
    let tensor = shells(&mut pack, &gaussian(53 * 48 * 9, 6), 9, [8; 5]);
    let registry = Registry::standard();
    // Blobs of tile i: 3i scales, 3i + 1 and 3i + 2 planes.
    for (rows, channels, take, want) in [
        ([0, 24], [0, 16], 1, vec![0, 1]),
        ([0, 24], [0, 16], 2, vec![0, 1, 2]),
        ([0, 24], [0, 40], 1, vec![0, 1, 3, 4]),
        ([0, 40], [0, 40], 2, vec![0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ([39, 41], [47, 48], 1, vec![9, 10, 12, 13]),
        ([0, 53], [0, 48], 0, (0..15).collect()),
    ] {
        let part = view(&mut pack, tensor, 9, rows, channels);
        let needed = needed_blobs(&registry, &pack.header, part, Take(0, take)).unwrap();
        assert_eq!(needed, want, "{rows:?} {channels:?} take {take}");
        // Nothing else has to be there.
        let mut short = Pack { header: pack.header.clone(), blobs: pack.blobs.clone() };
        for (id, blob) in short.blobs.iter_mut().enumerate() {
            if !needed.contains(&(id as BlobId)) {
                blob.clear();
            }
        }
        short.checked(part, take);
        short.blobs[needed[0] as usize].clear();
        assert!(matches!(short.bind(part, take), Err(WeightError::BlobLen { .. })));
    }
}

#[test]
fn combine_sums_a_prefix_of_its_terms() {
    let (n, k) = (21, 75);
    let (a, b, c) = (gaussian(n * k, 7), gaussian(n * k, 8), gaussian(n * k, 9));
    let mut pack = Pack::default();
    let shared = pack.dense(&a, n, k);
    let base = pack.tensor(n, k, shared);
    let args =
        vec![Arg::Shared(base as u32, 0), own(pack.dense(&b, n, k)), own(pack.planes(&c, n, k, &spec(8)))];
    let rows: Vec<f32> = (0..n).map(|r| r as f32 * 0.25 - 1.0).collect();
    let params = json!({"coefs": [1.0, rows, -0.5], "takes": [0, 0, 1]});
    let tensor = pack.tensor(n, k, node("combine", params, args));

    let mut alone = Pack::default();
    let expr = alone.planes(&c, n, k, &spec(8));
    let leaf = alone.tensor(n, k, expr);
    let coarse = alone.checked(leaf, 1);
    assert_eq!(pack.checked(tensor, 1), a);
    let two: Vec<f32> = (0..n * k).map(|i| a[i] + rows[i / k] * b[i]).collect();
    assert_eq!(pack.checked(tensor, 2), two);
    let three: Vec<f32> = (0..n * k).map(|i| two[i] - 0.5 * coarse[i]).collect();
    assert_eq!(pack.checked(tensor, 3), three);
    assert_eq!(pack.checked(tensor, 0), three);
    // A view reaches through the sum, row coefficients included.
    let part = view(&mut pack, tensor, 5, [4, 20], [2, 13]);
    assert_eq!(pack.checked(part, 3), cut(&three, k, 5, [4, 20], [2, 13]));
    // Terms that are not taken need not be there.
    let needed = needed_blobs(&Registry::standard(), &pack.header, tensor, Take(0, 2)).unwrap();
    assert_eq!(needed, [0, 1]);
    // Sums nest.
    let args = vec![Arg::Shared(tensor as u32, 0), Arg::Shared(base as u32, 0)];
    let outer = pack.tensor(n, k, node("combine", json!({"coefs": [2.0, -1.0], "takes": [2, 0]}), args));
    let want: Vec<f32> = (0..n * k).map(|i| 2.0 * two[i] + -a[i]).collect();
    assert_eq!(pack.checked(outer, 0), want);
}

#[test]
fn combine_takes_its_terms_as_far_as_it_is_taken() {
    let (n, k) = (21, 75);
    let (a, b) = (gaussian(n * k, 7), gaussian(n * k, 8));
    let mut pack = Pack::default();
    let (first, second) = (pack.planes(&a, n, k, &spec(8)), pack.planes(&b, n, k, &spec(32)));
    let leaves = [first, second].map(|expr| pack.tensor(n, k, expr));
    let rows: Vec<f32> = (0..n).map(|r| r as f32 * 0.25 - 1.0).collect();
    let params = json!({"coefs": [0.75, rows], "through": true});
    let args = leaves.map(|leaf| Arg::Shared(leaf as u32, 0)).to_vec();
    let tensor = pack.tensor(n, k, node("combine", params, args));
    for take in [1, 2, 0] {
        let [first, second] = leaves.map(|leaf| pack.checked(leaf, take));
        let want: Vec<f32> = (0..n * k).map(|i| 0.75 * first[i] + rows[i / k] * second[i]).collect();
        assert_eq!(pack.checked(tensor, take), want, "take {take}");
        let part = view(&mut pack, tensor, 5, [4, 20], [2, 13]);
        assert_eq!(pack.checked(part, take), cut(&want, k, 5, [4, 20], [2, 13]));
    }
    // Scales and the first plane of each.
    let needed = needed_blobs(&Registry::standard(), &pack.header, tensor, Take(0, 1)).unwrap();
    assert_eq!(needed, [0, 1, 3, 4]);
}

#[test]
fn row_codes_are_the_matrix_rounded_to_one_scale_a_row() {
    for (n, k, group) in [(21, 75, 32), (16, 64, 8), (40, 1400, 32), (3, 9, 0), (17, 20, 8)] {
        let mut w = gaussian(n * k, 11);
        // Groups of unlike sizes, a row of zeros.
        for (i, w) in w.iter_mut().enumerate() {
            let size = 1.0 + (i % k / 32 % 3) as f32;
            *w *= if i / k == 2 { 0.0 } else { size };
        }
        let mut pack = Pack::default();
        let grouped = pack.planes(&w, n, k, &planes::Spec { group, ..Default::default() });
        let grouped = pack.tensor(n, k, grouped);
        let tensor = pack.tensor(n, k, node("row_codes", json!({}), vec![Arg::Shared(grouped as u32, 0)]));
        for take in 1..=6 {
            // Whatever reads reals reads the operand.
            assert_eq!(pack.checked(tensor, take), pack.checked(grouped, take), "take {take} of [{n}, {k}]");
            let form = pack.bind(tensor, take).unwrap().code_form();
            let one_scale = form.map(|form| (form.group, form.half_offset, form.bits));
            assert_eq!(one_scale, (take < 5).then_some((k, false, 8)), "take {take} of [{n}, {k}]");
        }
        // The largest code of each row is the largest there can be, and every part of the matrix has the codes of the whole.
        let weights = pack.bind(tensor, 4).unwrap();
        let whole = codes_of(&*weights);
        for (r, codes) in whole.chunks(k).enumerate() {
            let largest = codes.iter().map(|q| q.unsigned_abs()).max();
            assert!(r == 2 || largest >= Some(120), "row {r} of [{n}, {k}]: {largest:?}");
        }
        let (rows, channels) = ([1, n - 1], [k / 4, k - 1]);
        let part = view(&mut pack, tensor, 1, rows, channels);
        let part = pack.bind(part, 4).unwrap();
        if part.code_form().is_some() {
            let want: Vec<i8> = (rows[0]..rows[1])
                .flat_map(|r| whole[r * k + channels[0]..r * k + channels[1]].to_vec())
                .collect();
            assert_eq!(codes_of(&*part), want, "a view of [{n}, {k}]");
        }
    }
}

/// More than 8 bits, and stored reals, by the formula of `PACK.md`; read as they are where nobody asks for codes.
#[test]
fn reals_become_codes_of_one_scale_a_row() {
    for (n, k) in [(21, 75), (16, 64), (40, 1400), (3, 9), (1, 1)] {
        let mut w = gaussian(n * k, 12);
        // A row of zeros, one of tiny numbers, one with a number that is none.
        for (i, w) in w.iter_mut().enumerate() {
            *w *= [1.0, 1.0, 0.0, 1e-30][(i / k).min(3)];
        }
        let mut pack = Pack::default();
        let planes =
            pack.planes(&w, n, k, &planes::Spec { scale: super::super::Float::F32, ..Default::default() });
        let planes = pack.tensor(n, k, planes);
        let stored = pack.dense(&w, n, k);
        let stored = pack.tensor(n, k, stored);
        for (operand, take) in [(planes, 5), (planes, 6), (stored, 0)] {
            let node = node("row_codes", json!({"wide": true}), vec![Arg::Shared(operand as u32, 0)]);
            let tensor = pack.tensor(n, k, node);
            let weights = pack.bind(tensor, take).unwrap();
            assert_eq!(pack.checked(tensor, take), pack.checked(operand, take));
            let (codes, scales) = given_out(&*weights);
            for (r, row) in weights.materialize().chunks(k).enumerate() {
                let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                let factor = if largest > 0.0 { (127.0 / largest).min(f32::MAX) } else { 0.0 };
                let want: Vec<i8> = row.iter().map(|w| (w * factor).round_ties_even() as i8).collect();
                assert_eq!(&codes[r * k..][..k], want, "row {r} of [{n}, {k}], take {take}");
                assert_eq!(scales[r], largest / 127.0, "row {r} of [{n}, {k}], take {take}");
            }
            let reals = pack.bind_reals(tensor, take).unwrap();
            assert_eq!(reals.code_form(), None);
            assert_eq!(reals.materialize(), weights.materialize());
        }
    }
}

/// `[n][k]` codes.
fn codes_of(w: &dyn Weights) -> Vec<i8> {
    given_out(w).0
}

/// `[n][k]` codes, and the scales of the first group of each row.
fn given_out(w: &dyn Weights) -> (Vec<i8>, Vec<f32>) {
    let (n, k, form) = (w.n(), w.k(), w.code_form().unwrap());
    let (panels, blocks, groups) = (n.div_ceil(PANEL), k.div_ceil(BLOCK), k.div_ceil(form.group));
    let mut codes = vec![99; panels * blocks * PANEL * BLOCK];
    let (mut scales, mut sums) = (vec![0.0; panels * groups * PANEL], vec![0; panels * groups * PANEL]);
    w.fill_codes(0..panels, CodesOut { codes: &mut codes, scales: &mut scales, sums: &mut sums });
    let at = |r: usize, c: usize| ((r / PANEL * blocks + c / BLOCK) * PANEL + r % PANEL) * BLOCK + c % BLOCK;
    let scale = |r: usize| scales[r / PANEL * groups * PANEL + r % PANEL];
    ((0..n * k).map(|i| codes[at(i / k, i % k)]).collect(), (0..n).map(scale).collect())
}

#[test]
fn one_term_times_one_keeps_bytes_and_codes() {
    let mut pack = Pack::default();
    let arg = own(pack.planes(&gaussian(16 * 64, 1), 16, 64, &spec(32)));
    let tensor = pack.tensor(16, 64, node("combine", json!({}), vec![arg]));
    assert_eq!(pack.bind(tensor, 1).unwrap().code_form().map(|form| form.group), Some(32));
    pack.checked(tensor, 1);
}

#[test]
fn a_view_of_its_own_expression_names_its_shape() {
    let w = gaussian(20 * 30, 3);
    let mut pack = Pack::default();
    let arg = own(pack.dense(&w, 20, 30));
    let params = json!({"taps": 3, "rows": [2, 19], "channels": [4, 10], "of": [20, 10]});
    let tensor = pack.tensor(17, 18, node("view", params, vec![arg]));
    assert_eq!(pack.checked(tensor, 0), cut(&w, 30, 3, [2, 19], [4, 10]));
}
