//! Every variant against dense products with zeros between, bit for bit, at positions of all kinds.

use super::super::super::spread;
use super::super::Split;
use super::super::tests::Weights;
use super::*;
use crate::MatMut;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{self, Scale};
use crate::cpu::gemm_i8::{self, I8Panels, I8Rows};
use crate::cpu::planes::select as planes;

const KINDS: [(usize, usize); 12] =
    [(2, 4), (1, 4), (1, 2), (2, 16), (8, 16), (4, 8), (2, 8), (1, 8), (4, 16), (3, 4), (1, 16), (5, 11)];

/// Panels of positions, of half of them in order.
fn positions(random: &mut Random, panels: usize, groups: usize, (keep, of): (usize, usize)) -> Vec<u8> {
    let bits = position_bits(of);
    let mut bytes = vec![0; panels * groups * keep * 2 * bits];
    for unit in 0..panels * groups {
        for lane in 0..PANEL {
            let mut own: Vec<usize> = (0..keep).map(|_| random.below(1 << bits)).collect();
            if random.below(2) == 0 {
                let first = random.below(of - keep + 1);
                own = (first..first + keep).collect();
            }
            for (slot, place) in own.into_iter().enumerate() {
                for b in 0..bits {
                    let bit = ((unit * keep + slot) * PANEL + lane) * bits + b;
                    bytes[bit / 8] |= ((place >> b & 1) as u8) << (bit % 8);
                }
            }
        }
    }
    bytes
}

/// Calls `f` for shapes, tails and splits: `(m, n, columns, keep and of, split, scale group)`.
fn each(
    random: &mut Random,
    mut f: impl FnMut(&mut Random, usize, usize, usize, (usize, usize), Split, usize),
) {
    let splits = [Split::Two, Split::TwoTwos, Split::ThreeTwos, Split::FourTwos];
    for i in 0..160 {
        let (kind, split) = (KINDS[i % KINDS.len()], splits[i / 2 % 4]);
        let cols = if i < 40 { 1 + i } else { 1 + random.below(400) };
        let k = cols.div_ceil(kind.1) * kind.0;
        let group = [8, 16, 32, 64, k][random.below(5)];
        let (m, n) = (1 + random.below(9), 1 + random.below(50));
        f(random, m, n, cols, kind, split, group);
    }
}

#[test]
fn floats_give_the_bits_of_dense_products() {
    let mut random = Random::new(5);
    let wide = [Split::Twelve, Split::Sixteen, Split::Four];
    let mut turn = 0;
    each(&mut random, |random, m, n, cols, (keep, of), split, group| {
        turn += 1;
        let split = if turn % 3 == 0 { wide[turn / 3 % 3] } else { split };
        let groups = cols.div_ceil(of);
        let w = Weights::new(random, split, (n, groups * keep, group), turn % 2 == 0);
        let bytes = positions(random, n.div_ceil(PANEL), groups, (keep, of));
        let few = Few { units: &bytes, keep, of };
        let all = random.floats(1 + m * cols);
        let x = Rows::new(&all[1..], m, cols, cols);
        let mut dense = vec![0.0; n.div_ceil(PANEL) * cols * PANEL];
        let (values, unit) = (w.floats(), bytes.len() / n.div_ceil(PANEL));
        for (panel, dense) in dense.chunks_mut(cols * PANEL).enumerate() {
            let own = Few { units: &bytes[panel * unit..][..unit], ..few };
            let values = &values[panel * groups * keep * PANEL..][..groups * keep * PANEL];
            spread::select(Isa::Scalar).few(&own, values, dense);
        }
        let (bias, panels) = (random.floats(n), w.panels(false));
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        let mut want = vec![0.0; m * n];
        gemm_f32::select(Isa::Scalar).run(MatMut::new(&mut want, m, n, n), x, &dense, &epilogue);
        for v in report(FLOAT_VARIANTS, |v| (v.name, v.isa)).into_iter().filter(|v| v.supported()) {
            let mut got = vec![f32::NAN; m * n];
            v.run(MatMut::new(&mut got, m, n, n), x, (&few, &panels), &epilogue);
            assert_same_bits(&got, &want, &format!("{} {m} x {n}, {keep} of {of} of {cols}", v.name));
        }
    });
}

#[test]
fn integers_give_the_bits_of_dense_products() {
    let mut random = Random::new(6);
    each(&mut random, |random, m, n, cols, (keep, of), split, group| {
        if !takes_codes(keep, of) {
            return;
        }
        let groups = cols.div_ceil(of);
        let w = Weights::new(random, split, (n, groups * keep, group), m % 2 == 0);
        let bytes = positions(random, n.div_ceil(PANEL), groups, (keep, of));
        let few = Few { units: &bytes, keep, of };
        let x = random.codes(m * cols);
        let x = Rows::new(&x, m, cols, cols);
        let zero_point = [0, -128, 127, 5, -77][random.below(5)];
        let (values, scales) = w.joined(true);
        let (from, to) =
            ((groups * keep).next_multiple_of(BLOCK) * PANEL, cols.next_multiple_of(BLOCK) * PANEL);
        let mut dense = vec![0; n.div_ceil(PANEL) * to];
        let mut colsum = vec![0; n.div_ceil(PANEL) * PANEL];
        let unit = bytes.len() / n.div_ceil(PANEL);
        for (panel, dense) in dense.chunks_mut(to).enumerate() {
            let own = Few { units: &bytes[panel * unit..][..unit], ..few };
            spread::select(Isa::Scalar).few_codes(&own, &values[panel * from..][..from], cols, dense);
            planes(Isa::Scalar).group_sums(dense, cols, cols, false, &mut colsum[panel * PANEL..][..PANEL]);
        }
        let panels = I8Panels {
            codes: &dense,
            scales: scales.as_flattened(),
            colsum: &colsum,
            k: cols,
            group: cols,
            half_offset: false,
            code_bits: 8,
        };
        let epilogue = Epilogue { scale: Scale::Uniform(0.003), ..Epilogue::default() };
        let (mut sums, multiply) = (vec![0; m], gemm_i8::select(Isa::Scalar));
        multiply.row_sums(x, &panels, &mut sums);
        let mut want = vec![0.0; m * n];
        let rows = I8Rows { rows: x, zero_point, row_sums: &sums };
        multiply.run(MatMut::new(&mut want, m, n, n), rows, &panels, &epilogue);
        let row = row_bytes(keep, of, cols);
        let mut filled = vec![0; m * row];
        filled.chunks_mut(row).enumerate().for_each(|(r, to)| fill_row(x.row(r), zero_point, to));
        let filled = Rows::new(&filled, m, row, row);
        let kept = w.panels(true);
        for v in report(CODE_VARIANTS, |v| (v.name, v.isa)).into_iter().filter(|v| v.supported()) {
            let mut got = vec![f32::NAN; m * n];
            v.run(MatMut::new(&mut got, m, n, n), filled, (cols, zero_point), (&few, &kept), &epilogue);
            let what = format!("{} {m} x {n}, {keep} of {of} of {cols}, {split:?} by {group}", v.name);
            assert_same_bits(&got, &want, &what);
        }
    });
}
