//! Against the definition: one bounds test an element.

use std::ops::Range;

use super::deconv::DeconvShape;
use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{Epilogue, Rows};

fn shape(random: &mut Random) -> ConvShape {
    let (ic, extra) = (1 + random.below(5), random.below(4));
    let (kh, kw) = (1 + random.below(4), 1 + random.below(4));
    let (ih, iw) = (1 + random.below(7), 1 + random.below(9));
    ConvShape {
        ih,
        iw,
        ic,
        pixel_stride: ic + extra,
        channel_offset: random.below(extra + 1),
        kh,
        kw,
        stride_h: 1 + random.below(3),
        stride_w: 1 + random.below(3),
        dil_h: 1 + random.below(2),
        dil_w: 1 + random.below(2),
        pad_top: random.below(4),
        pad_left: random.below(4),
        oh: 1 + random.below(6),
        ow: 1 + random.below(8),
    }
}

#[test]
fn windows_match_the_definition() {
    let mut random = Random::new(5);
    for _ in 0..3000 {
        let s = shape(&mut random);
        let image: Vec<i32> = (1..=(s.ih * s.iw * s.pixel_stride) as i32).collect();
        let first = random.below(s.oh * s.ow);
        let pixels = random.below(s.oh * s.ow - first + 1);
        let stride = s.k() + random.below(3);
        let mut got = vec![-1; pixels * stride];
        im2col_rows(&s, &image, first, pixels, -5, &mut got, stride);
        let mut want = vec![-1; pixels * stride];
        for i in 0..pixels {
            for j in 0..s.k() {
                let (ky, kx, c) = (j / s.ic / s.kw, j / s.ic % s.kw, j % s.ic);
                let (oy, ox) = ((first + i) / s.ow, (first + i) % s.ow);
                let y = (oy * s.stride_h + ky * s.dil_h) as isize - s.pad_top as isize;
                let x = (ox * s.stride_w + kx * s.dil_w) as isize - s.pad_left as isize;
                let inside = (0..s.ih as isize).contains(&y) && (0..s.iw as isize).contains(&x);
                let at = (y * s.iw as isize + x) * s.pixel_stride as isize + (s.channel_offset + c) as isize;
                want[i * stride + j] = if inside { image[at as usize] } else { -5 };
            }
        }
        assert_eq!(got, want, "{s:?} from {first}, {pixels} pixels");
    }
}

#[test]
fn only_a_plain_1x1_needs_no_gathering() {
    let plain = ConvShape {
        ih: 4,
        iw: 5,
        ic: 8,
        pixel_stride: 8,
        channel_offset: 0,
        kh: 1,
        kw: 1,
        stride_h: 1,
        stride_w: 1,
        dil_h: 1,
        dil_w: 1,
        pad_top: 0,
        pad_left: 0,
        oh: 4,
        ow: 5,
    };
    assert!(plain.is_pointwise());
    assert!(!ConvShape { pixel_stride: 16, ..plain }.is_pointwise());
    assert!(!ConvShape { stride_w: 2, ow: 3, ..plain }.is_pointwise());
    assert!(!ConvShape { pad_left: 1, ..plain }.is_pointwise());
    assert!(!ConvShape { oh: 5, ..plain }.is_pointwise());
}

/// Adds every input pixel's terms to the output where they fall: the definition of transposed convolution.
fn transposed(s: &DeconvShape, product: &[f32]) -> Vec<f64> {
    let mut out = vec![0.0; s.oh * s.ow * s.oc];
    for (pixel, terms) in product.chunks(s.n()).enumerate() {
        for (i, &term) in terms.iter().enumerate() {
            let (ky, kx, c) = (i / s.oc / s.kw, i / s.oc % s.kw, i % s.oc);
            let y = (pixel / s.iw * s.stride_h + ky * s.dil_h) as isize - s.pad_top as isize;
            let x = (pixel % s.iw * s.stride_w + kx * s.dil_w) as isize - s.pad_left as isize;
            if (0..s.oh as isize).contains(&y) && (0..s.ow as isize).contains(&x) {
                out[(y as usize * s.ow + x as usize) * s.oc + c] += f64::from(term);
            }
        }
    }
    out
}

#[test]
fn transposed_convolution_matches_its_definition_in_any_blocks() {
    report(deconv::VARIANTS, |v| (v.name, v.isa));
    let mut random = Random::new(6);
    for _ in 0..1500 {
        let s = DeconvShape {
            ih: 1 + random.below(5),
            iw: 1 + random.below(6),
            kh: 1 + random.below(4),
            kw: 1 + random.below(4),
            oc: 1 + random.below(35),
            stride_h: 1 + random.below(3),
            stride_w: 1 + random.below(3),
            dil_h: 1 + random.below(2),
            dil_w: 1 + random.below(2),
            pad_top: random.below(3),
            pad_left: random.below(3),
            oh: 1 + random.below(12),
            ow: 1 + random.below(12),
        };
        let product = random.floats(s.ih * s.iw * s.n());
        let bias = random.floats(s.oc);
        let epilogue = Epilogue { bias: Some(&bias), act: Activation::Relu, ..Epilogue::default() };
        let run = |variant: &deconv::Variant, rows: Range<usize>| {
            let mut out = vec![0.0; rows.len() * s.ow * s.oc];
            let view = MatMut::new(&mut out, rows.len() * s.ow, s.oc, s.oc);
            let inputs = s.input_rows(rows.clone());
            let part = &product[inputs.start * s.iw * s.n()..inputs.end * s.iw * s.n()];
            let part = Rows::new(part, inputs.len() * s.iw, s.n(), s.n());
            variant.run(view, &s, rows, part, &epilogue);
            out
        };
        let want = run(&deconv::VARIANTS[deconv::VARIANTS.len() - 1], 0..s.oh);
        for (i, (&got, sum)) in want.iter().zip(transposed(&s, &product)).enumerate() {
            let exact = (sum + f64::from(bias[i % s.oc])).max(0.0);
            // At most 16 terms below 1, and a bias.
            assert!(
                (f64::from(got) - exact).abs() <= 17.0 * 17.0 * 2f64.powi(-24),
                "{s:?} element {i}: {got}, {exact}"
            );
        }
        for variant in deconv::VARIANTS.iter().filter(|v| v.isa.supported()) {
            let cut = random.below(s.oh + 1);
            let got = [run(variant, 0..cut), run(variant, cut..s.oh)].concat();
            assert_same_bits(&got, &want, &format!("{} {s:?} cut at row {cut}", variant.name));
        }
    }
}

#[test]
fn windows_side_by_side_are_laid_out_as_the_definition_adds_them() {
    let mut random = Random::new(7);
    for _ in 0..300 {
        let (kh, kw, oc) = (1 + random.below(4), 1 + random.below(4), 1 + random.below(20));
        let (ih, iw) = (1 + random.below(5), 1 + random.below(6));
        let s = DeconvShape {
            ih,
            iw,
            kh,
            kw,
            oc,
            stride_h: kh,
            stride_w: kw,
            dil_h: 1,
            dil_w: 1,
            pad_top: 0,
            pad_left: 0,
            oh: ih * kh,
            ow: iw * kw,
        };
        assert!(s.tiles());
        let product = random.floats(s.ih * s.iw * s.n());
        let want: Vec<f32> = transposed(&s, &product).iter().map(|v| *v as f32).collect();
        let mut got = vec![9.0; want.len()];
        // In two parts, as two tasks would.
        let cut = random.below(ih + 1);
        let (above, below) = got.split_at_mut(cut * kh * s.ow * oc);
        let (first, rest) = product.split_at(cut * iw * s.n());
        deconv::lay_out(&s, first, above);
        deconv::lay_out(&s, rest, below);
        assert_eq!(got, want, "{s:?} cut at {cut}");
        for other in [
            DeconvShape { oh: s.oh + 1, ..s },
            DeconvShape { pad_top: 1, ..s },
            DeconvShape { stride_w: kw + 1, ..s },
        ] {
            assert!(!other.tiles());
        }
    }
}
