//! Every variant against the scalar one bit for bit, and the scalar one against f64 loops.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{Addend, MAX_RUNS, ResidualOrder, Scale};

/// Operands of one product, activations strided and starting off alignment.
struct Case {
    m: usize,
    n: usize,
    k: usize,
    group: usize,
    half_offset: bool,
    code_bits: u32,
    /// `[K][N]`
    q: Vec<i8>,
    codes: Vec<i8>,
    scales: Vec<f32>,
    colsum: Vec<i32>,
    x: Vec<i8>,
    x_stride: usize,
    zero_point: i32,
    bias: Vec<f32>,
    residual: Vec<i8>,
}

impl Case {
    fn new(random: &mut Random, m: usize, n: usize, k: usize, group: usize) -> Self {
        let x_stride = k + random.below(5);
        let code_bits = 1 + random.below(8) as u32;
        let mut case = Case {
            m,
            n,
            k,
            group,
            half_offset: random.below(2) == 0,
            code_bits,
            q: random.codes(k * n).iter().map(|q| q >> (8 - code_bits)).collect(),
            codes: Vec::new(),
            scales: random.floats(n.div_ceil(PANEL) * k.div_ceil(group) * PANEL),
            colsum: Vec::new(),
            // Rows end where the data does, so that a read past a row is a read past the slice.
            x: random.codes(1 + m.saturating_sub(1) * x_stride + k),
            x_stride,
            zero_point: random.below(256) as i32 - 128,
            bias: random.floats(n),
            residual: random.codes(m * n),
        };
        case.pack();
        case
    }

    /// Makes `codes` and `colsum` from `q`.
    fn pack(&mut self) {
        let (n, k, panels) = (self.n, self.k, self.n.div_ceil(PANEL));
        let groups = k.div_ceil(self.group);
        self.codes = vec![0; panels * k.div_ceil(BLOCK) * PANEL * BLOCK];
        self.colsum = vec![0; panels * groups * PANEL];
        for column in 0..n {
            let (panel, lane) = (column / PANEL, column % PANEL);
            for i in 0..k {
                let q = self.q[i * n + column];
                let block = panel * k.div_ceil(BLOCK) + i / BLOCK;
                self.codes[(block * PANEL + lane) * BLOCK + i % BLOCK] = q;
                self.colsum[(panel * groups + i / self.group) * PANEL + lane] += self.weight(q);
            }
        }
    }

    fn weight(&self, q: i8) -> i32 {
        if self.half_offset { 2 * i32::from(q) + 1 } else { i32::from(q) }
    }

    fn rows(&self) -> Rows<'_, i8> {
        Rows::new(&self.x[1..], self.m, self.k, self.x_stride)
    }

    fn panels(&self) -> I8Panels<'_> {
        I8Panels {
            codes: &self.codes,
            scales: &self.scales,
            colsum: &self.colsum,
            k: self.k,
            group: self.group,
            half_offset: self.half_offset,
            code_bits: self.code_bits,
        }
    }

    fn call(&self, variant: &Variant, out: Output<'_>, kind: usize) {
        let w = self.panels();
        let mut row_sums = vec![0; self.m * w.groups()];
        variant.row_sums(self.rows(), &w, &mut row_sums);
        let residual = Rows::new(&self.residual, self.m, self.n, self.n);
        let residual = Addend::I8 { rows: residual, scale: 0.25, zero_point: 9 };
        let epilogue = Epilogue {
            scale: Scale::Uniform(0.003),
            bias: (kind % 2 == 1).then_some(&self.bias[..]),
            residual: match kind % 3 {
                0 => None,
                1 => Some((residual, ResidualOrder::BeforeActivation)),
                _ => Some((residual, ResidualOrder::AfterActivation)),
            },
            act: if kind % 4 == 3 { Activation::HardSwish } else { Activation::None },
            factor: (kind % 4 > 1).then_some(&self.bias[..]),
        };
        let x = I8Rows { rows: self.rows(), zero_point: self.zero_point, row_sums: &row_sums };
        variant.run(out, x, &w, &epilogue);
    }

    fn run_f32(&self, variant: &Variant, kind: usize) -> Vec<f32> {
        let mut c = vec![0.0; self.m * self.n];
        self.call(variant, MatMut::new(&mut c, self.m, self.n, self.n).into(), kind);
        c
    }

    fn run_i8(&self, variant: &Variant, kind: usize) -> Vec<i8> {
        let stride = self.n + 1;
        let mut c = vec![0; self.m * stride];
        let out = MatMut::new(&mut c, self.m, self.n, stride);
        self.call(variant, Output::I8 { out, inv_scale: 3.0, zero_point: -5 }, kind);
        assert!(c.chunks(stride).all(|row| row[self.n] == 0), "{} wrote past its row", variant.name);
        c
    }

    fn compare(&self, variant: &Variant, kind: usize) {
        let what = format!(
            "{} M {} N {} K {} group {} bits {} half-offset {} epilogue {kind}",
            variant.name, self.m, self.n, self.k, self.group, self.code_bits, self.half_offset
        );
        assert_same_bits(&self.run_f32(variant, kind), &self.run_f32(&scalar::VARIANT, kind), &what);
        assert_eq!(self.run_i8(variant, kind), self.run_i8(&scalar::VARIANT, kind), "{what}");
    }
}

fn others() -> Vec<&'static Variant> {
    report(VARIANTS, |v| (v.name, v.isa))
}

#[test]
fn small_shapes_give_the_same_bits() {
    let mut random = Random::new(11);
    for variant in others() {
        for m in 0..=13 {
            for n in 1..=33 {
                for k in 1..=40 {
                    let group = [8, 16, 32, k][random.below(4)];
                    Case::new(&mut random, m, n, k, group).compare(variant, random.below(12));
                }
            }
        }
    }
}

#[test]
fn layer_shapes_give_the_same_bits() {
    let mut random = Random::new(12);
    let shapes = [
        (196, 64, 256, 32),
        (1, 1000, 1280, 64),
        (49, 112, 333, 128),
        (64, 24, 27, 27),
        (5, 70, 4608, 4608),
        (4, 17, 2304, 32),
        (3, 115, 50, 16),
        (3, 16, 0, 8),
    ];
    for variant in others() {
        for (m, n, k, group) in shapes {
            for _ in 0..4 {
                Case::new(&mut random, m, n, k, group).compare(variant, random.below(12));
            }
        }
    }
}

#[test]
fn rows_in_runs_give_the_bits_of_whole_rows() {
    let mut random = Random::new(17);
    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
        for _ in 0..300 {
            let (m, n) = (1 + random.below(30), 1 + random.below(50));
            let (runs, len) = (1 + random.below(MAX_RUNS), BLOCK * (1 + random.below(9)));
            let k = runs * len;
            let group = [8, 32, len, k][random.below(4)];
            let mut case = Case::new(&mut random, m, n, k, group);
            let (offsets, stride): (Vec<usize>, usize) =
                ((0..runs).map(|_| random.below(200)).collect(), random.below(30));
            let data = random.codes(200 + m * stride + len);
            let x = Rows::windows(&data, m, len, stride, &offsets);
            case.x = [0]
                .into_iter()
                .chain((0..m).flat_map(|r| (0..runs).flat_map(move |i| x.run(r, i).to_vec())))
                .collect();
            case.x_stride = k;
            let want = case.run_f32(&scalar::VARIANT, 0);
            let w = case.panels();
            let mut row_sums = vec![0; m * w.groups()];
            variant.row_sums(x, &w, &mut row_sums);
            let x = I8Rows { rows: x, zero_point: case.zero_point, row_sums: &row_sums };
            let mut got = vec![0.0; m * n];
            let epilogue = Epilogue { scale: Scale::Uniform(0.003), ..Epilogue::default() };
            variant.run(MatMut::new(&mut got, m, n, n), x, &w, &epilogue);
            assert_same_bits(
                &got,
                &want,
                &format!("{} {m} x {n}, {runs} runs of {len}, group {group}", variant.name),
            );
        }
    }
}

#[test]
fn extremes_are_exact() {
    let mut random = Random::new(13);
    for code_bits in 1..=8 {
        for (half_offset, k) in [(true, MAX_GROUP_HALF_OFFSET), (false, MAX_GROUP_PLAIN), (true, 77)] {
            for (largest_q, x, zero_point) in
                [(true, -128, 127), (false, -128, 127), (true, 127, -128), (false, 127, -128)]
            {
                let mut case = Case::new(&mut random, 2, 3, k, k);
                let q = if largest_q { (1 << (code_bits - 1)) - 1 } else { -1 << (code_bits - 1) };
                (case.half_offset, case.code_bits, case.zero_point) = (half_offset, code_bits, zero_point);
                case.q.fill(q as i8);
                case.x.fill(x as i8);
                case.scales.fill(1.0);
                case.pack();
                let want = case.weight(q as i8) as i64 * i64::from(x - zero_point) * k as i64;
                for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
                    let got = case.run_f32(variant, 0);
                    let want = (want as f32) * 0.003;
                    assert_eq!(got, [want; 6], "{} bits {code_bits} q {q} x {x} K {k}", variant.name);
                }
            }
        }
    }
}

#[test]
fn the_largest_products_are_exact_in_every_tile() {
    // Least codes times least activations: two products of 8 bits pass i16, as do four of 7 bits, and so on.
    let mut random = Random::new(18);
    let others = others();
    for code_bits in 1..=8 {
        for m in 1..=13 {
            for n in [3, 8, 16, 29] {
                for k in [8, 23, 8 * ((1 << (8 - code_bits)) + 1), 2064] {
                    let mut case = Case::new(&mut random, m, n, k, k);
                    (case.code_bits, case.zero_point) = (code_bits, -128);
                    case.q.fill((-1i32 << (code_bits - 1)) as i8);
                    case.x.fill(-128);
                    case.pack();
                    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
                        assert!(
                            case.run_f32(variant, 0).iter().all(|&y| y == 0.0),
                            "{}: x is the zero point",
                            variant.name
                        );
                    }
                    case.zero_point = 127;
                    for variant in &others {
                        case.compare(variant, 0);
                    }
                }
            }
        }
    }
}

#[test]
fn scalar_is_within_the_bound_of_f64() {
    let mut random = Random::new(14);
    for (m, n, k, group) in [(3, 17, 1, 8), (5, 16, 40, 16), (2, 33, 1000, 32), (1, 5, 9000, 9000)] {
        let case = Case::new(&mut random, m, n, k, group);
        let c = case.run_f32(&scalar::VARIANT, 1);
        for row in 0..m {
            for column in 0..n {
                let (mut want, mut size) = (0.0, 0.0);
                let scales = &case.scales[column / PANEL * k.div_ceil(group) * PANEL..];
                for (i, &x) in case.rows().row(row).iter().enumerate() {
                    let w = f64::from(case.weight(case.q[i * n + column]))
                        * f64::from(scales[i / group * PANEL + column % PANEL]);
                    let term = w * f64::from(i32::from(x) - case.zero_point) * f64::from(0.003f32);
                    want += term;
                    size += term.abs();
                }
                // Residual kind 1: added before the activation, which is none.
                let residual = f64::from(i32::from(case.residual[row * n + column]) - 9) * 0.25;
                want += f64::from(case.bias[column]) + residual;
                size += f64::from(case.bias[column].abs()) + residual.abs();
                // Two roundings a group (to f32, and the sum), and two of the epilogue.
                let bound = (2 * k.div_ceil(group) + 2) as f64 * 2f64.powi(-24) * size * 1.01;
                let error = (f64::from(c[row * n + column]) - want).abs();
                assert!(error <= bound, "[{row}, {column}] of {m} x {n} x {k}: error {error}, bound {bound}");
            }
        }
    }
}

#[test]
fn row_sums_are_exact_for_every_length() {
    let mut random = Random::new(15);
    let x = random.codes(3 * 1400);
    for k in (1..=130usize).chain([255, 256, 257, 511, 1311]) {
        for group in [8, 32, 40, 64, k] {
            check_row_sums(&mut random, Rows::new(&x[1..], 3, k, k + 2), group);
        }
    }
    // Rows that lie densely, more than are summed at once.
    for k in 1..=70 {
        check_row_sums(&mut random, Rows::new(&x[1..], 21, k, k), k);
    }
    // Whatever lies in 64 bytes, the sum of a group is exact.
    let least = vec![-128; 600];
    check_row_sums(&mut random, Rows::new(&least, 1, 600, 600), 32);
}

#[test]
fn row_sums_go_over_the_ends_of_runs() {
    let mut random = Random::new(17);
    let x = random.codes(20_000);
    for (len, runs, groups) in [(8, 3, [8, 16, 24]), (48, 3, [32, 40, 144]), (3000, 3, [32, 4104, 9000])] {
        let offsets: Vec<usize> = (0..runs).map(|_| random.below(9000)).collect();
        for group in groups {
            check_row_sums(&mut random, Rows::windows(&x, 5, len, 13, &offsets), group);
        }
    }
}

fn check_row_sums(random: &mut Random, rows: Rows<'_, i8>, group: usize) {
    let (m, k) = (rows.rows(), rows.cols());
    let groups = k.div_ceil(group);
    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
        let (half_offset, code_bits) = (random.below(2) == 0, 1 + random.below(8) as u32);
        let w = I8Panels { codes: &[], scales: &[], colsum: &[], k, group, half_offset, code_bits };
        let mut got = vec![0; m * groups];
        variant.row_sums(rows, &w, &mut got);
        let factor = (variant.row_factor)(half_offset);
        for row in 0..m {
            let all: Vec<i8> = (0..rows.runs()).flat_map(|i| rows.run(row, i).to_vec()).collect();
            for (g, x) in all.chunks(group).enumerate() {
                let sum: i32 = x.iter().map(|&x| i32::from(x)).sum();
                assert_eq!(got[g * m + row], sum * factor, "{} K {k} group {group} sum {g}", variant.name);
            }
        }
    }
}

#[test]
#[should_panic(expected = "33001 k in a group, at most 33000 fit i32")]
fn a_group_that_could_overflow_is_refused() {
    let mut case = Case::new(&mut Random::new(16), 1, 1, 33_001, 33_001);
    case.half_offset = true;
    case.run_f32(&scalar::VARIANT, 0);
}

#[test]
fn sums_of_blocks_are_exact() {
    let mut random = Random::new(18);
    for v in crate::cpu::loops::supported() {
        for (pixels, channels) in [(1, 8), (3, 16), (17, 24), (40, 8), (0, 8)] {
            let mut row = random.codes(pixels * channels);
            row.iter_mut().take(8).for_each(|x| *x = -128);
            row.iter_mut().rev().take(8).for_each(|x| *x = 127);
            let mut sums = vec![0; row.len() / BLOCK];
            block_sums(v, &row, channels, -255, &mut sums);
            for (i, got) in sums.iter().enumerate() {
                let (c, x) = (i / pixels, i % pixels);
                let block = &row[x * channels + c * BLOCK..][..BLOCK];
                let want = block.iter().map(|x| i32::from(*x)).sum::<i32>() * -255;
                assert_eq!(*got, want, "{pixels} x {channels} channel block {c} pixel {x}");
            }
        }
    }
}

#[test]
fn sums_of_windows_are_those_of_their_elements() {
    let mut random = Random::new(19);
    for v in crate::cpu::loops::supported() {
        for (kw, stride, per_pixel, group) in [(3, 1, 2, 48), (1, 2, 1, 8), (2, 3, 3, 24), (5, 1, 1, 1000)] {
            let (slots, pixels, channels) = (3, 23, per_pixel * BLOCK);
            let windows = (pixels - kw) / stride + 1;
            let ring = random.codes(slots * pixels * channels);
            let mut blocks = Vec::new();
            for row in ring.chunks(pixels * channels) {
                let mut sums = vec![0; row.len() / BLOCK];
                block_sums(v, row, channels, 2, &mut sums);
                blocks.extend(sums);
            }
            // Tap rows in slots 2, 0 and 1.
            let taps = [2, 0, 1].map(|slot| slot * pixels * per_pixel);
            let w = WindowBlocks { windows, taps: &taps, kw, stride, per_pixel, pixels, group };
            let mut got = vec![7; (3 * kw * channels).div_ceil(group) * windows];
            window_sums(v, &w, &blocks, &mut got);
            for m in 0..windows {
                let slot = |s: usize| &ring[(s * pixels + m * stride) * channels..][..kw * channels];
                let all: Vec<i8> = [2, 0, 1].into_iter().flat_map(|s| slot(s).to_vec()).collect();
                for (g, x) in all.chunks(group).enumerate() {
                    let want = 2 * x.iter().map(|x| i32::from(*x)).sum::<i32>();
                    assert_eq!(got[g * windows + m], want, "{w:?} window {m} group {g}");
                }
            }
        }
    }
}
