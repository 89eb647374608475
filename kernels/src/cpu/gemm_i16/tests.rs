//! Every variant against the scalar one bit for bit, the scalar one against [`gemm_i8`]'s and exact sums.

use super::*;
use crate::MatMut;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{Addend, ResidualOrder, Scale};
use crate::cpu::gemm_i8;

struct Case {
    m: usize,
    n: usize,
    k: usize,
    group: usize,
    largest: i32,
    /// `[K][N]`
    w: Vec<i16>,
    panels: Vec<i16>,
    scales: Vec<f32>,
    /// `[M][stride]`, starting at 1: off alignment.
    x: Vec<i16>,
    stride: usize,
    bias: Vec<f32>,
    residual: Vec<i8>,
}

impl Case {
    fn new(random: &mut Random, m: usize, n: usize, k: usize, group: usize) -> Case {
        let room = i64::from(i32::MAX) / MAX_ACTIVATION / group.min(k).max(1) as i64;
        let largest = [255, 32767][random.below(2)].min(room as i32);
        let stride = k.div_ceil(PAIR) * PAIR + random.below(5);
        let columns = k.div_ceil(PAIR) * PAIR;
        let below =
            |random: &mut Random, size: i32| (random.below(2 * size as usize + 1) as i32 - size) as i16;
        let mut case = Case {
            m,
            n,
            k,
            group,
            largest,
            w: (0..k * n).map(|_| below(random, largest)).collect(),
            panels: Vec::new(),
            scales: random.floats(n.div_ceil(PANEL) * k.div_ceil(group) * PANEL),
            // Rows end where the data does, so that a read past a row is a read past the slice.
            x: (0..1 + m.saturating_sub(1) * stride + columns).map(|_| below(random, 255)).collect(),
            stride,
            bias: random.floats(n),
            residual: random.codes(m * n),
        };
        case.pack();
        case
    }

    fn pack(&mut self) {
        let pairs = self.k.div_ceil(PAIR);
        self.panels = vec![0; self.n.div_ceil(PANEL) * pairs * PANEL * PAIR];
        for column in 0..self.n {
            let (panel, lane) = (column / PANEL, column % PANEL);
            for i in 0..self.k {
                let at = ((panel * pairs + i / PAIR) * PANEL + lane) * PAIR + i % PAIR;
                self.panels[at] = self.w[i * self.n + column];
            }
        }
    }

    fn panels(&self) -> I16Panels<'_> {
        let (k, group, largest) = (self.k, self.group, self.largest);
        I16Panels { weights: &self.panels, scales: &self.scales, k, group, largest }
    }

    fn epilogue(&self, kind: usize) -> Epilogue<'_> {
        let rows = Rows::new(&self.residual, self.m, self.n, self.n);
        let residual = Addend::I8 { rows, scale: 0.25, zero_point: 9 };
        Epilogue {
            scale: Scale::Uniform(0.003),
            bias: (kind % 2 == 1).then_some(&self.bias[..]),
            residual: (kind % 3 == 1).then_some((residual, ResidualOrder::BeforeActivation)),
            ..Epilogue::default()
        }
    }

    fn rows(&self) -> Rows<'_, i16> {
        Rows::new(&self.x[1..], self.m, self.k.div_ceil(PAIR) * PAIR, self.stride)
    }

    fn floats(&self, variant: &Variant, kind: usize) -> Vec<f32> {
        let mut c = vec![0.0; self.m * self.n];
        let out = MatMut::new(&mut c, self.m, self.n, self.n);
        variant.run(out, self.rows(), &self.panels(), &self.epilogue(kind));
        c
    }

    fn codes(&self, variant: &Variant, kind: usize) -> Vec<i8> {
        let stride = self.n + 1;
        let mut c = vec![0; self.m * stride];
        let out = MatMut::new(&mut c, self.m, self.n, stride);
        let out = Output::I8 { out, inv_scale: 3.0, zero_point: -5 };
        variant.run(out, self.rows(), &self.panels(), &self.epilogue(kind));
        assert!(c.chunks(stride).all(|row| row[self.n] == 0), "{} wrote past its row", variant.name);
        c
    }

    fn compare(&self, variant: &Variant, kind: usize) {
        let Case { m, n, k, group, .. } = self;
        let what = format!("{} M {m} N {n} K {k} group {group} epilogue {kind}", variant.name);
        assert_same_bits(&self.floats(variant, kind), &self.floats(&scalar::VARIANT, kind), &what);
        assert_eq!(self.codes(variant, kind), self.codes(&scalar::VARIANT, kind), "{what}");
    }
}

fn others() -> Vec<&'static Variant> {
    report(VARIANTS, |v| (v.name, v.isa))
}

#[test]
fn small_shapes_give_the_same_bits() {
    let mut random = Random::new(21);
    for variant in others() {
        for m in 0..=13 {
            for n in 1..=33 {
                for k in 1..=24 {
                    let group = [2, 8, 16, k][random.below(4)];
                    Case::new(&mut random, m, n, k, group).compare(variant, random.below(6));
                }
            }
        }
    }
}

#[test]
fn layer_shapes_give_the_same_bits() {
    let mut random = Random::new(22);
    let shapes = [
        (196, 64, 256, 32),
        (1, 1000, 1280, 64),
        (49, 112, 333, 128),
        (64, 24, 27, 27),
        (5, 70, 4608, 4608),
        (2, 130, 576, 32),
        (3, 16, 0, 8),
    ];
    for variant in others() {
        for (m, n, k, group) in shapes {
            for kind in 0..6 {
                Case::new(&mut random, m, n, k, group).compare(variant, kind);
            }
        }
    }
}

#[test]
fn extremes_are_exact() {
    let mut random = Random::new(23);
    for (k, w) in [(257, 32_767i32), (257, -32_767), (33_024, 255), (33_024, -255), (77, 32_767)] {
        for x in [255, -255] {
            let mut case = Case::new(&mut random, 2, 3, k, k);
            case.largest = w.abs();
            case.w.fill(w as i16);
            case.x.fill(x as i16);
            case.scales.fill(1.0);
            case.pack();
            let want = (i64::from(w) * i64::from(x) * k as i64) as f32 * 0.003;
            for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
                assert_eq!(case.floats(variant, 0), [want; 6], "{} w {w} x {x} K {k}", variant.name);
            }
        }
    }
}

#[test]
fn half_offset_codes_give_the_bits_of_the_8_bit_product() {
    let mut random = Random::new(24);
    for (m, n, k, group) in [(7, 37, 64, 32), (3, 16, 45, 45), (13, 20, 1000, 40), (1, 5, 9, 8)] {
        let (zero_point, q, x) = (random.below(256) as i32 - 128, random.codes(k * n), random.codes(m * k));
        let mut case = Case::new(&mut random, m, n, k, group);
        case.largest = 255;
        case.w = q.iter().map(|q| 2 * i16::from(*q) + 1).collect();
        case.pack();
        case.stride = k.div_ceil(PAIR) * PAIR;
        case.x = vec![0; 1 + m * case.stride];
        widen(loops::select(Isa::Scalar), Rows::new(&x, m, k, k), zero_point, &mut case.x[1..], case.stride);

        let (blocks, groups, panels) = (k.div_ceil(gemm_i8::BLOCK), k.div_ceil(group), n.div_ceil(PANEL));
        let mut codes = vec![0i8; panels * blocks * PANEL * gemm_i8::BLOCK];
        let mut colsum = vec![0i32; panels * groups * PANEL];
        for column in 0..n {
            for i in 0..k {
                let (panel, lane) = (column / PANEL, column % PANEL);
                let block = panel * blocks + i / gemm_i8::BLOCK;
                codes[(block * PANEL + lane) * gemm_i8::BLOCK + i % gemm_i8::BLOCK] = q[i * n + column];
                colsum[(panel * groups + i / group) * PANEL + lane] += i32::from(case.w[i * n + column]);
            }
        }
        let w = gemm_i8::I8Panels {
            codes: &codes,
            scales: &case.scales,
            colsum: &colsum,
            k,
            group,
            half_offset: true,
            code_bits: 8,
        };
        for v in loops::supported() {
            let mut pairs = vec![9; case.panels.len()];
            pairs_of_codes(v, &codes, true, k, &mut pairs);
            // Columns past N are 1 each, and fall away with their scales.
            let own = |i: &usize| i / (k.div_ceil(PAIR) * PANEL * PAIR) * PANEL + i / PAIR % PANEL < n;
            assert!((0..pairs.len()).filter(own).all(|i| pairs[i] == case.panels[i]), "{m} {n} {k}");
        }
        let variant = gemm_i8::select(Isa::Scalar);
        let mut row_sums = vec![0; m * groups];
        variant.row_sums(Rows::new(&x, m, k, k), &w, &mut row_sums);
        let rows = gemm_i8::I8Rows { rows: Rows::new(&x, m, k, k), zero_point, row_sums: &row_sums };
        let mut want = vec![0.0; m * n];
        variant.run(MatMut::new(&mut want, m, n, n), rows, &w, &case.epilogue(1));
        for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
            assert_same_bits(&case.floats(variant, 1), &want, &format!("{} {m} {n} {k}", variant.name));
        }
    }
}

#[test]
fn widening_takes_the_zero_point_off_and_pads() {
    let x: Vec<i8> = (0..3 * 77).map(|i| (i * 31 % 256) as u8 as i8).collect();
    for v in loops::supported() {
        for zero_point in [-128, 0, 127] {
            let mut out = vec![9; 3 * 80];
            widen(v, Rows::new(&x, 3, 77, 77), zero_point, &mut out, 80);
            for (i, out) in out.iter().enumerate() {
                let (row, column) = (i / 80, i % 80);
                let want = if column < 77 { i32::from(x[row * 77 + column]) - zero_point } else { 0 };
                assert_eq!(i32::from(*out), want);
            }
        }
    }
}

#[test]
#[should_panic(expected = "258 products of weights to 32767 do not fit i32")]
fn a_group_that_could_overflow_is_refused() {
    let mut case = Case::new(&mut Random::new(26), 1, 1, 258, 258);
    case.largest = 32_767;
    case.floats(&scalar::VARIANT, 0);
}
