//! The definition against `gemm_i8` with the same codes joined, and every variant against the definition, bit for bit.

use super::super::planes::{self, UNIT, largest_number, raise_to};
use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{self, Addend, ResidualOrder, Scale};
use crate::cpu::gemm_i8::{self, I8Panels, I8Rows};
use half::f16;

const SPLITS: [Split; 5] = [Split::Two, Split::TwoTwos, Split::ThreeTwos, Split::FourTwos, Split::Four];

fn every() -> impl Iterator<Item = &'static Variant> {
    report(VARIANTS, |v| (v.name, v.isa)).into_iter().chain([&scalar::VARIANT])
}

/// Panels of random codes, 0 past K, and their scales.
pub(super) struct Weights {
    split: Split,
    n: usize,
    k: usize,
    group: usize,
    planes: Vec<Vec<u8>>,
    scales: Vec<u8>,
    halves: bool,
    gain: f32,
    pub(super) odd: bool,
}

impl Weights {
    pub(super) fn new(
        random: &mut Random,
        split: Split,
        (n, k, group): (usize, usize, usize),
        halves: bool,
    ) -> Weights {
        let (panels, units) = (n.div_ceil(PANEL), k.div_ceil(BLOCK));
        let mut codes = vec![0u32; panels * units * UNIT];
        for (i, code) in codes.iter_mut().enumerate() {
            let column = i / (units * UNIT).max(1) * PANEL + i % UNIT / BLOCK;
            let row = i / UNIT % units * BLOCK + i % BLOCK;
            *code = if column < n && row < k { random.below(1 << split.bits()) as u32 } else { 0 };
        }
        let mut left = split.bits();
        let cut = |w: u32| {
            left -= w;
            let len = UNIT * w as usize / 8;
            let mut bytes = vec![0u8; codes.len() / UNIT * len];
            for (i, code) in codes.iter().enumerate() {
                let (unit, place) = (i / UNIT, i % UNIT);
                let bits = (code >> left & ((1 << w) - 1)) << (place / len * w as usize);
                bytes[unit * len + place % len] |= bits as u8;
            }
            bytes
        };
        let planes = split.planes().into_iter().filter(|w| *w > 0).map(cut).collect();
        // Of either sign, some 0 or very small, and one infinite: what a pack holds may be anything.
        let scales: Vec<f32> = (0..panels * k.div_ceil(group) * PANEL)
            .map(|i| match random.below(40) {
                0 => 0.0,
                1 => 1e-7,
                _ => (random.below(2000) as f32 - 1000.0) / if i % 7 == 0 { 5.0 } else { 5000.0 },
            })
            .collect();
        let scales = match halves {
            true => scales.iter().flat_map(|s| f16::from_f32(*s).to_le_bytes()).collect(),
            false => scales.iter().flat_map(|s| s.to_le_bytes()).collect(),
        };
        Weights {
            split,
            n,
            k,
            group,
            planes,
            scales,
            halves,
            gain: 1.0 + random.below(3) as f32 / 8.0,
            odd: true,
        }
    }

    pub(super) fn panels(&self, one_scale: bool) -> PlanePanels<'_> {
        let mut planes: [&[u8]; MAX_PLANES] = [&[]; MAX_PLANES];
        for (to, from) in planes.iter_mut().zip(&self.planes) {
            *to = from;
        }
        PlanePanels {
            split: self.split,
            planes,
            scales: match self.halves {
                true => StoredScales::F16(&self.scales),
                false => StoredScales::F32(&self.scales),
            },
            gain: self.gain,
            step: 1.0 / (1 << self.split.bits()) as f32,
            k: self.k,
            group: self.group,
            one_scale,
            odd: self.odd,
        }
    }

    /// Scales as steps, `[panels][groups][16]`.
    fn steps(&self) -> Vec<[f32; PANEL]> {
        let w = self.panels(false);
        let stored: Vec<f32> = match w.scales {
            StoredScales::F16(bytes) => {
                bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
            }
            StoredScales::F32(bytes) => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        };
        let steps: Vec<f32> = stored.iter().map(|s| s * w.gain * w.step).collect();
        steps.as_chunks().0.to_vec()
    }

    /// The codes joined and their scales, by the definition of `planes`.
    pub(super) fn joined(&self, one_scale: bool) -> (Vec<i8>, Vec<[f32; PANEL]>) {
        let (w, join) = (self.panels(one_scale), planes::select(Isa::Scalar));
        let (units, panels) = (self.k.div_ceil(BLOCK), self.n.div_ceil(PANEL));
        let mut codes = vec![0i8; panels * units * UNIT];
        join.join_i8(&w.list()[..self.planes.len()], &mut codes);
        let mut scales = self.steps();
        let groups = self.k.div_ceil(self.group);
        if one_scale {
            let mut rows = Vec::new();
            for (codes, scales) in codes.chunks_mut(units * UNIT).zip(scales.chunks(groups)) {
                let mut largest = [0.0; PANEL];
                raise_to(&mut largest, scales);
                join.round_codes(codes, self.group, (self.split.bits(), true), scales, &largest);
                let number = largest_number(self.split.bits(), true) as f32 / 127.0;
                rows.push(largest.map(|most| most * number));
            }
            scales = rows;
        }
        for (i, code) in codes.iter_mut().enumerate() {
            let row = i / UNIT % units * BLOCK + i % BLOCK;
            *code = if row < self.k { *code } else { 0 };
        }
        (codes, scales)
    }

    /// The weights joined, `[panels][K][16]`.
    pub(super) fn floats(&self) -> Vec<f32> {
        let (panels, n, k, group) = (self.panels(false), self.n, self.k, self.group);
        let mut joined = vec![0.0; n.div_ceil(PANEL) * k * PANEL];
        let (list, steps, units) = (panels.list(), self.steps(), k.div_ceil(BLOCK));
        for (panel, joined) in joined.chunks_mut(k * PANEL).enumerate() {
            let planes: Vec<Plane<'_>> = list[..self.planes.len()]
                .iter()
                .map(|plane| {
                    let unit = UNIT * plane.bits as usize / 8;
                    Plane { bytes: &plane.bytes[panel * units * unit..][..units * unit], ..*plane }
                })
                .collect();
            let steps = &steps[panel * k.div_ceil(group)..][..k.div_ceil(group)];
            planes::select(Isa::Scalar).join_f32(
                &planes,
                steps.as_flattened(),
                planes::Numbers::Odd,
                group,
                joined,
            );
        }
        joined
    }

    /// The product of the codes joined, by the definitions of `planes` and `gemm_i8`.
    fn product(
        &self,
        x: Rows<'_, i8>,
        zero_point: i32,
        one_scale: bool,
        out: Output<'_>,
        epilogue: &Epilogue<'_>,
    ) {
        let (join, multiply) = (planes::select(Isa::Scalar), gemm_i8::select(Isa::Scalar));
        let (codes, mut scales) = self.joined(one_scale);
        if !self.odd {
            // Of codes, which are half the numbers.
            scales.as_flattened_mut().iter_mut().for_each(|scale| *scale *= 2.0);
        }
        let units = self.k.div_ceil(BLOCK);
        let group = if one_scale { self.k } else { self.group };
        let mut colsum = Vec::new();
        for codes in codes.chunks(units * UNIT) {
            let mut sums = vec![0; self.k.div_ceil(group) * PANEL];
            join.group_sums(codes, self.k, group, !one_scale && self.odd, &mut sums);
            colsum.extend(sums);
        }
        let panels = I8Panels {
            codes: &codes,
            scales: scales.as_flattened(),
            colsum: &colsum,
            k: self.k,
            group,
            half_offset: !one_scale && self.odd,
            code_bits: 8,
        };
        let mut row_sums = vec![0; x.rows() * panels.groups()];
        multiply.row_sums(x, &panels, &mut row_sums);
        multiply.run(out, I8Rows { rows: x, zero_point, row_sums: &row_sums }, &panels, epilogue);
    }
}

#[test]
fn every_variant_gives_the_bits_of_codes_joined() {
    let mut random = Random::new(1);
    let mut shapes = vec![
        (1, 1, 1, 8),
        (1, 200, 33, 32),
        (2, 70, 129, 64),
        (3, 48, 64, 32),
        (5, 17, 7, 8),
        (8, 33, 96, 40),
        (1, 16, 1280, 32),
        (7, 3, 250, 250),
        (4, 5, 33_000, 33_000),
        (1, 5, 32_999, 8),
    ];
    for _ in 0..120 {
        let k = 1 + random.below(300);
        let group = [8, 16, 32, 64, k][random.below(5)];
        shapes.push((1 + random.below(MAX_ROWS), 1 + random.below(70), k, group));
    }
    for (i, (m, n, k, group)) in shapes.into_iter().enumerate() {
        let (split, stride) = (SPLITS[i % SPLITS.len()], k + random.below(3));
        let mut w = Weights::new(&mut random, split, (n, k, group), i % 3 > 0);
        w.odd = i % 4 > 0;
        // Rows end where the data does, so that a read past a row is a read past the slice.
        let all = random.codes(1 + (m - 1) * stride + k);
        let x = Rows::new(&all[1..], m, k, stride);
        let zero_point = [0, -128, 127, 5, -77][i / 5 % 5];
        let (bias, residual) = (random.floats(n), random.floats(m * n));
        let epilogue = match i % 2 {
            0 => Epilogue { scale: Scale::Uniform(0.003), ..Epilogue::default() },
            _ => Epilogue {
                scale: Scale::PerColumn(&bias),
                bias: Some(&bias),
                residual: Some((Addend::F32(Rows::new(&residual, m, n, n)), ResidualOrder::BeforeActivation)),
                act: Activation::HardSwish,
                factor: Some(&bias),
            },
        };
        let whole = k.next_multiple_of(BLOCK);
        let mut filled = vec![0; m * whole];
        filled.chunks_mut(whole).enumerate().for_each(|(r, row)| row[..k].copy_from_slice(x.row(r)));
        let filled = Rows::new(&filled, m, whole, whole);
        let mut sums = vec![0; m * k.div_ceil(group)];
        gemm_i8::select(Isa::detect()).group_sums(x, group, 1, &mut sums);
        for one_scale in
            [false, true].into_iter().filter(|one_scale| !one_scale || (split.is_nested() && w.odd))
        {
            let panels = w.panels(one_scale);
            let sums = if one_scale { &[][..] } else { &sums };
            let mut want = vec![0.0; m * n];
            w.product(x, zero_point, one_scale, MatMut::new(&mut want, m, n, n).into(), &epilogue);
            for v in every() {
                let what = format!(
                    "{} {m} x {n} x {k} by {group}, {split:?}, zero {zero_point}, {one_scale}",
                    v.name
                );
                let mut got = vec![f32::NAN; m * n];
                v.run(MatMut::new(&mut got, m, n, n), filled, zero_point, sums, &panels, &epilogue);
                assert_same_bits(&got, &want, &what);
                let mut codes = vec![1; m * n];
                let to = Output::I8 { out: MatMut::new(&mut codes, m, n, n), inv_scale: 3.0, zero_point: -5 };
                v.run(to, filled, zero_point, sums, &panels, &epilogue);
                let mut want = vec![0; m * n];
                let to = Output::I8 { out: MatMut::new(&mut want, m, n, n), inv_scale: 3.0, zero_point: -5 };
                w.product(x, zero_point, one_scale, to, &epilogue);
                assert_eq!(codes, want, "{what}");
            }
        }
    }
}

#[test]
fn floats_give_the_bits_of_weights_joined() {
    let mut random = Random::new(3);
    let mut shapes = vec![
        (1, 1, 1, 8),
        (1, 200, 33, 32),
        (2, 70, 129, 64),
        (5, 17, 7, 8),
        (4, 16, 1280, 32),
        (1, 16, 250, 250),
    ];
    for _ in 0..100 {
        let k = 1 + random.below(300);
        let group = [8, 16, 32, 64, k][random.below(5)];
        shapes.push((1 + random.below(9), 1 + random.below(70), k, group));
    }
    let splits = SPLITS.into_iter().chain([Split::Twelve, Split::Sixteen]);
    for (i, ((m, n, k, group), split)) in shapes.into_iter().zip(splits.cycle()).enumerate() {
        let w = Weights::new(&mut random, split, (n, k, group), i % 3 > 0);
        let (stride, bias) = (k + random.below(3), random.floats(n));
        let all = random.floats(1 + (m - 1) * stride + k);
        let x = Rows::new(&all[1..], m, k, stride);
        let panels = w.panels(i % 2 == 0);
        let act = if i % 4 == 0 { Activation::Relu } else { Activation::None };
        let epilogue = Epilogue { bias: Some(&bias), act, ..Epilogue::default() };
        let joined = w.floats();
        let mut want = vec![0.0; m * n];
        gemm_f32::select(Isa::Scalar).run(MatMut::new(&mut want, m, n, n), x, &joined, &epilogue);
        for v in
            report(FLOAT_VARIANTS, |v| (v.name, v.isa)).into_iter().chain([FLOAT_VARIANTS.last().unwrap()])
        {
            let mut got = vec![f32::NAN; m * n];
            v.run(MatMut::new(&mut got, m, n, n), x, &panels, &epilogue);
            assert_same_bits(&got, &want, &format!("{} {m} x {n} x {k} by {group}, {split:?}", v.name));
        }
    }
}

#[test]
fn splits_are_those_that_kernels_are_made_for() {
    for split in SPLITS.into_iter().chain([Split::Twelve, Split::Sixteen, Split::OneFour]) {
        assert_eq!(Split::of(split.planes().into_iter().filter(|w| *w > 0)), Some(split));
    }
    assert_eq!(Split::of([]), None);
    assert_eq!(Split::of([1]), None);
    assert_eq!(Split::of([2, 2, 4]), None);
    assert_eq!(Split::of([2; 7]), None);
}

#[test]
#[should_panic(expected = "a plane of 2 bits")]
fn a_plane_that_is_too_short_is_refused() {
    let w = Weights::new(&mut Random::new(2), Split::FourTwos, (16, 32, 32), true);
    let mut panels = w.panels(true);
    panels.planes[2] = &panels.planes[2][1..];
    let (x, mut out) = ([0; 32], [0.0; 16]);
    let x = Rows::new(&x, 1, 32, 32);
    scalar::VARIANT.run(MatMut::new(&mut out, 1, 16, 16), x, 0, &[], &panels, &Epilogue::default());
}
