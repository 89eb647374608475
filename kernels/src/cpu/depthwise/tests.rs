//! Every variant against the scalar one bit for bit, and the scalar one against f64 loops.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{Addend, ResidualOrder, Rows, Scale};

/// A convolution of random shape, and a part of it.
struct Case {
    shape: DepthwiseShape,
    part: Part,
    image: Vec<f32>,
    codes: Vec<i8>,
    zero_point: i32,
    /// `[blocks][taps][16]` of the part.
    weights: Vec<f32>,
    weights_i16: Vec<i16>,
    scale: Vec<f32>,
    /// Of codes; the largest makes some that i32 does not hold.
    inv_scale: f32,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Case {
    fn new(random: &mut Random, shape: DepthwiseShape) -> Self {
        let blocks = shape.c.div_ceil(PANEL);
        let first = random.below(blocks);
        let last = first + random.below(blocks - first) + 1;
        let channels = first * PANEL..shape.c.min(last * PANEL);
        let start = random.below(shape.oh);
        let rows = start..start + random.below(shape.oh - start) + 1;
        let (pixels, taps) = (shape.h * shape.w * shape.c, shape.kh * shape.kw);
        // Of one byte, of two, and beyond what two bytes hold; sums of the last are not exact in f32.
        let largest = [127.9, 256.0, 16_256.0, 32_767.0][random.below(4)];
        let mut weights = random.floats((last - first) * taps * PANEL);
        for (i, w) in weights.iter_mut().enumerate() {
            let padding = i / PANEL / taps * PANEL + i % PANEL >= channels.len();
            *w = if padding { 0.0 } else { *w };
        }
        Case {
            shape,
            image: random.floats(pixels),
            codes: random.codes(pixels),
            zero_point: [-128, 127, -3][random.below(3)],
            inv_scale: [0.01, 1e-4, 1e9][random.below(3)],
            weights_i16: weights.iter().map(|w| (w * largest) as i16).collect(),
            weights,
            scale: random.floats(channels.len()),
            bias: random.floats(channels.len()),
            residual: random.floats(rows.len() * shape.ow * channels.len()),
            part: Part { rows, channels },
        }
    }

    fn random(random: &mut Random) -> Self {
        let channels = [50, 150][random.below(2)];
        let shape = DepthwiseShape {
            h: 1 + random.below(9),
            w: 1 + random.below(14),
            c: 1 + random.below(channels),
            kh: 1 + random.below(5),
            kw: 1 + random.below(5),
            stride_h: 1 + random.below(3),
            stride_w: 1 + random.below(3),
            dil_h: 1 + random.below(2),
            dil_w: 1 + random.below(2),
            pad_top: random.below(4),
            pad_left: random.below(4),
            oh: 1 + random.below(6),
            ow: 1 + random.below(12),
        };
        Case::new(random, shape)
    }

    fn size(&self) -> (usize, usize) {
        (self.part.rows.len() * self.shape.ow, self.part.channels.len())
    }

    fn epilogue(&self, kind: usize) -> Epilogue<'_> {
        let (m, n) = self.size();
        let residual = Addend::F32(Rows::new(&self.residual, m, n, n));
        Epilogue {
            scale: Scale::PerColumn(&self.scale),
            bias: (kind % 2 == 1).then_some(&self.bias[..]),
            residual: (kind % 3 == 2).then_some((residual, ResidualOrder::BeforeActivation)),
            act: [Activation::None, Activation::Clip { lo: 0.0, hi: 6.0 }, Activation::HardSwish][kind % 3],
            factor: (kind % 4 == 1).then_some(&self.bias[..]),
        }
    }

    fn f32(&self, variant: &F32Variant, kind: usize) -> Vec<f32> {
        let (m, n) = self.size();
        let mut out = vec![0.0; m * n];
        let view = MatMut::new(&mut out, m, n, n);
        variant.run(view, &self.shape, &self.part, &self.image, &self.weights, &self.epilogue(kind));
        out
    }

    /// Results as floats, and as codes between gaps that must stay.
    fn i8(&self, variant: &I8Variant, kind: usize) -> (Vec<f32>, Vec<i8>) {
        let (m, n) = self.size();
        let image = I8Image { codes: &self.codes, zero_point: self.zero_point };
        let epilogue = self.epilogue(kind);
        let (mut floats, mut codes) = (vec![0.0; m * n], vec![77; m * (n + 2)]);
        let view = MatMut::new(&mut floats, m, n, n);
        variant.run(view, &self.shape, &self.part, image, &self.weights_i16, &epilogue);
        let out = MatMut::new(&mut codes, m, n, n + 2);
        let out = Output::I8 { out, inv_scale: self.inv_scale, zero_point: -9 };
        variant.run(out, &self.shape, &self.part, image, &self.weights_i16, &epilogue);
        assert!(
            codes.chunks(n + 2).all(|row| row[n..] == [77; 2]),
            "{} wrote past its channels",
            variant.name
        );
        (floats, codes)
    }

    fn compare(&self, kind: usize) {
        let what = |name| format!("{name} {:?} {:?} epilogue {kind}", self.shape, self.part);
        for variant in F32_VARIANTS.iter().filter(|v| v.isa.supported()) {
            assert_same_bits(&self.f32(variant, kind), &self.f32(&scalar::F32, kind), &what(variant.name));
        }
        for variant in I8_VARIANTS.iter().filter(|v| v.isa.supported()) {
            let (got, want) = (self.i8(variant, kind), self.i8(&scalar::I8, kind));
            assert_same_bits(&got.0, &want.0, &what(variant.name));
            assert_eq!(got.1, want.1, "{}", what(variant.name));
        }
    }
}

#[test]
fn random_shapes_give_the_same_bits() {
    report(F32_VARIANTS, |v| (v.name, v.isa));
    report(I8_VARIANTS, |v| (v.name, v.isa));
    let mut random = Random::new(21);
    for _ in 0..3000 {
        Case::random(&mut random).compare(random.below(6));
    }
}

#[test]
fn layer_shapes_give_the_same_bits() {
    let mut random = Random::new(22);
    let square = |size, c, k, stride, out| DepthwiseShape {
        h: size,
        w: size,
        c,
        kh: k,
        kw: k,
        stride_h: stride,
        stride_w: stride,
        dil_h: 1,
        dil_w: 1,
        pad_top: (k - 1) / 2,
        pad_left: (k - 1) / 2,
        oh: out,
        ow: out,
    };
    for shape in [
        square(56, 24, 3, 1, 56),
        square(28, 120, 5, 2, 14),
        square(14, 480, 3, 1, 14),
        square(7, 96, 7, 1, 7),
        square(20, 16, 3, 1, 20),
        square(23, 32, 3, 2, 12),
        square(7, 192, 5, 1, 7),
        square(60, 80, 9, 1, 60),
        square(30, 40, 17, 1, 30),
        square(40, 33, 11, 2, 20),
    ] {
        Case::new(&mut random, shape).compare(random.below(6));
    }
}

#[test]
fn nan_reaches_only_the_pixels_that_see_it() {
    let mut random = Random::new(23);
    for _ in 0..200 {
        let mut case = Case::random(&mut random);
        let at = random.below(case.image.len());
        case.image[at] = [f32::NAN, f32::INFINITY][random.below(2)];
        case.compare(random.below(6));
    }
}

#[test]
fn i8_extremes_are_exact() {
    let mut random = Random::new(24);
    for (code, zero_point, weight) in
        [(-128, 127, 255), (127, -128, -255), (-128, 127, -255), (127, -128, 255)]
    {
        let mut case = Case::random(&mut random);
        case.zero_point = zero_point;
        case.codes.fill(code);
        case.weights_i16.fill(weight);
        case.scale.fill(1.0);
        case.compare(0);
        let s = case.shape;
        let got = case.i8(&scalar::I8, 0).0;
        let taps = s.rows(case.part.rows.start).len() * s.columns(0).len();
        let want = taps as f32 * f32::from(weight) * (f32::from(code) - zero_point as f32);
        assert_eq!(got[0], want, "{taps} taps of {weight} * ({code} - {zero_point})");
    }
}

#[test]
fn scalar_is_within_the_bound_of_f64() {
    let mut random = Random::new(25);
    for _ in 0..300 {
        let case = Case::random(&mut random);
        let s = case.shape;
        let (got_f32, got_i8) = (case.f32(&scalar::F32, 3), case.i8(&scalar::I8, 3).0);
        let n = case.part.channels.len();
        for (i, (&got_f32, &got_i8)) in got_f32.iter().zip(&got_i8).enumerate() {
            let (pixel, lane) = (i / n, i % n);
            let (oy, ox) = (case.part.rows.start + pixel / s.ow, pixel % s.ow);
            let (mut sum, mut size, mut exact) = (0.0, 0.0, 0i64);
            for tap in 0..s.kh * s.kw {
                let y = (oy * s.stride_h + tap / s.kw * s.dil_h) as isize - s.pad_top as isize;
                let x = (ox * s.stride_w + tap % s.kw * s.dil_w) as isize - s.pad_left as isize;
                if !(0..s.h as isize).contains(&y) || !(0..s.w as isize).contains(&x) {
                    continue;
                }
                let at = (y as usize * s.w + x as usize) * s.c + case.part.channels.start + lane;
                let w = (lane / PANEL * s.kh * s.kw + tap) * PANEL + lane % PANEL;
                let term = f64::from(case.image[at]) * f64::from(case.weights[w]);
                sum += term;
                size += term.abs();
                exact +=
                    i64::from(case.weights_i16[w]) * (i64::from(case.codes[at]) - i64::from(case.zero_point));
            }
            // Epilogue 3: scale and bias only.
            let (scale, bias) = (f64::from(case.scale[lane]), f64::from(case.bias[lane]));
            let unit = 2f64.powi(-24) * 1.01;
            let bound = unit * ((s.kh * s.kw + 1) as f64 * size * scale.abs() + bias.abs());
            let error = (f64::from(got_f32) - (sum * scale + bias)).abs();
            assert!(
                error <= bound,
                "f32 pixel {pixel} channel {lane} of {s:?}: error {error}, bound {bound}"
            );
            let want = exact as f64 * scale + bias;
            let bound = unit * 2.0 * ((exact as f64 * scale).abs() + bias.abs());
            let error = (f64::from(got_i8) - want).abs();
            assert!(error <= bound, "i8 pixel {pixel} channel {lane} of {s:?}: error {error}, bound {bound}");
        }
    }
}

#[test]
fn biases_that_are_no_numbers_give_the_same_codes() {
    let mut random = Random::new(27);
    for _ in 0..200 {
        let mut case = Case::random(&mut random);
        let at = random.below(case.bias.len());
        case.bias[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38][random.below(4)];
        case.compare(random.below(6));
    }
}

#[test]
#[should_panic(expected = "channels 8..20 of 20")]
fn a_part_inside_a_block_is_refused() {
    let mut case = Case::random(&mut Random::new(26));
    case.shape.c = 20;
    case.part.channels = 8..20;
    case.image = vec![0.0; case.shape.h * case.shape.w * 20];
    case.f32(&scalar::F32, 0);
}
