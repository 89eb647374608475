//! Every variant against the scalar one bit for bit, and that one against the sum that defines a convolution, in f64.

use super::*;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{Addend, ResidualOrder, Scale};

/// An image of `ih` x `iw` pixels with `c` channels and a result padded by so many rows and columns.
fn shape(ih: usize, iw: usize, c: usize, pads: [usize; 4]) -> ConvShape {
    let [top, left, bottom, right] = pads;
    ConvShape {
        ih,
        iw,
        ic: c,
        pixel_stride: c + 3,
        channel_offset: 2,
        kh: 3,
        kw: 3,
        stride_h: 1,
        stride_w: 1,
        dil_h: 1,
        dil_w: 1,
        pad_top: top,
        pad_left: left,
        oh: ih + top + bottom - 2,
        ow: iw + left + right - 2,
    }
}

struct Case {
    shape: ConvShape,
    n: usize,
    image: Vec<f32>,
    /// `[ceil(N/16)][9 C][16]`
    panels: Vec<f32>,
}

impl Case {
    fn random(random: &mut Random, shape: ConvShape, n: usize) -> Case {
        let image = random.floats(shape.image_len().unwrap());
        let mut panels = random.floats(n.div_ceil(PANEL) * shape.k() * PANEL);
        for (i, w) in panels.iter_mut().enumerate() {
            if i / (shape.k() * PANEL) * PANEL + i % PANEL >= n {
                *w = 0.0;
            }
        }
        Case { shape, n, image, panels }
    }

    fn run(&self, variant: &Variant, rows: Range<usize>, epilogue: &Epilogue<'_>) -> Vec<f32> {
        self.run_channels(variant, rows, 0..self.n, epilogue)
    }

    fn run_channels(
        &self,
        variant: &Variant,
        rows: Range<usize>,
        channels: Range<usize>,
        epilogue: &Epilogue<'_>,
    ) -> Vec<f32> {
        let (c, n) = (self.shape.ic, self.n);
        let (row, stride) = filters(c, n).unwrap();
        let mut filters = vec![f32::NAN; stride * POINTS];
        for (i, panel) in self.panels.chunks(self.shape.k() * PANEL).enumerate() {
            let mut all = MatMut::new(&mut filters, POINTS, row, stride);
            variant.transform(panel, all.part(0..POINTS, i * c * PANEL..(i + 1) * c * PANEL));
        }
        let transformed = Transformed { filters: &filters, n, first: channels.start };
        let scratch = scratch_floats(c, n).unwrap();
        let n = channels.len();
        let (m, pitch) = (rows.len() * self.shape.ow, n + 2);
        let mut out = vec![-77.0; m * pitch];
        // What lies there before must not matter.
        let mut scratch = vec![f32::NAN; scratch];
        let gemm = gemm_f32::select(variant.isa);
        let to = MatMut::new(&mut out, m, n, pitch);
        variant.run(to, &self.shape, rows, &self.image, transformed, gemm, epilogue, &mut scratch);
        assert!(out.chunks(pitch).all(|row| row[n..] == [-77.0; 2]), "{} wrote past its row", variant.name);
        out.chunks(pitch).flat_map(|row| row[..n].to_vec()).collect()
    }

    /// The sums that define the result: in f64, and as the matrix product makes them.
    fn sums(&self) -> Vec<(f64, f32)> {
        let (s, n) = (&self.shape, self.n);
        let mut sums = vec![(0.0, 0.0f32); s.oh * s.ow * n];
        for (pixel, sums) in sums.chunks_exact_mut(n).enumerate() {
            for (tap, y, x) in (0..9).map(|tap| (tap, pixel / s.ow + tap / 3, pixel % s.ow + tap % 3)) {
                let (y, x) = (y.wrapping_sub(s.pad_top), x.wrapping_sub(s.pad_left));
                if y >= s.ih || x >= s.iw {
                    continue;
                }
                let at = (y * s.iw + x) * s.pixel_stride + s.channel_offset;
                for (c, input) in self.image[at..][..s.ic].iter().enumerate() {
                    for (o, (exact, single)) in sums.iter_mut().enumerate() {
                        let w = self.panels[(o / PANEL * s.k() + tap * s.ic + c) * PANEL + o % PANEL];
                        *exact += f64::from(*input) * f64::from(w);
                        *single = input.mul_add(w, *single);
                    }
                }
            }
        }
        sums
    }
}

#[test]
fn results_are_the_convolution_within_the_stated_error() {
    report(VARIANTS, |v| (v.name, v.isa));
    let mut random = Random::new(51);
    for (h, w, c, n) in [(64, 64, 1, 1), (12, 31, 16, 16), (9, 31, 24, 40), (16, 16, 96, 24), (8, 8, 300, 17)]
    {
        let case = Case::random(&mut random, shape(h, w, c, [1; 4]), n);
        let got = case.run(&scalar::VARIANT, 0..case.shape.oh, &Epilogue::default());
        let (mut worst, mut direct) = (0.0f64, 0.0f64);
        for (got, (exact, single)) in got.iter().zip(case.sums()) {
            worst = worst.max((f64::from(*got) - exact).abs());
            direct = direct.max((f64::from(single) - exact).abs());
        }
        println!("{c} channels: greatest error {worst:.2e}, of the direct sum {direct:.2e}");
        let bound = if c < 16 { 8.0 } else { 3.0 };
        assert!(worst < bound * direct, "{c} channels: {worst} and {direct}");
    }
}

#[test]
fn all_variants_give_the_same_bits() {
    let mut random = Random::new(52);
    for _ in 0..120 {
        let mut below = |bound: usize| random.below(bound);
        let pads = [below(3), below(3), below(3), below(3)];
        let (ih, iw, c) = (3 + below(14), 3 + below(40), 1 + below(40));
        let (shape, n) = (shape(ih, iw, c, pads), 1 + below(50));
        let start = below(shape.oh.div_ceil(TILE)) * TILE;
        let rows = start..start + 1 + below(shape.oh - start);
        let (m, act) =
            (rows.len() * shape.ow, [Activation::None, Activation::Relu, Activation::Silu][below(3)]);
        let case = Case::random(&mut random, shape, n);
        let (scale, bias, residual) = (random.floats(n), random.floats(n), random.floats(m * n));
        let residual = (Addend::F32(Rows::new(&residual, m, n, n)), ResidualOrder::AfterActivation);
        let epilogue = Epilogue {
            scale: Scale::PerColumn(&scale),
            bias: Some(&bias),
            residual: Some(residual),
            act,
            factor: Some(&scale),
        };
        let want = case.run(&scalar::VARIANT, rows.clone(), &epilogue);
        for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
            let got = case.run(variant, rows.clone(), &epilogue);
            assert_same_bits(&got, &want, &format!("{} {shape:?} rows {rows:?} n {n}", variant.name));
        }
    }
}

#[test]
fn a_part_of_the_rows_is_that_part_of_the_result() {
    let case = Case::random(&mut Random::new(53), shape(30, 50, 20, [1, 1, 1, 1]), 20);
    let row = case.shape.ow * case.n;
    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
        let whole = case.run(variant, 0..case.shape.oh, &Epilogue::default());
        for rows in [0..4, 4..30, 8..9, 28..30, 12..12] {
            let part = case.run(variant, rows.clone(), &Epilogue::default());
            assert_same_bits(&part, &whole[rows.start * row..rows.end * row], variant.name);
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_tile() {
    let mut case = Case::random(&mut Random::new(54), shape(12, 12, 8, [1; 4]), 16);
    case.image[(6 * 12 + 6) * case.shape.pixel_stride + 3] = f32::INFINITY;
    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
        let out = case.run(variant, 0..12, &Epilogue::default());
        for (pixel, channels) in out.chunks(16).enumerate() {
            // The tile of rows and columns 4 to 7 and no other reads the element.
            let near = (4..8).contains(&(pixel / 12)) && (4..8).contains(&(pixel % 12));
            assert_eq!(channels.iter().any(|y| !y.is_finite()), near, "{} pixel {pixel}", variant.name);
        }
    }
}

#[test]
fn sizes_that_overflow_have_no_scratch() {
    assert!(scratch_floats(usize::MAX / 64, 16).is_none());
    assert!(filters(1 << 40, usize::MAX - 3).is_none());
    assert!(scratch_floats(8, 8).is_some());
}
