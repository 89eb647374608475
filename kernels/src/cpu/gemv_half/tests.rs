//! The definition against `gemm_f32` with the same weights widened, and every variant against that, bit for bit.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{self, Addend, ResidualOrder};
use half::{bf16, f16};

#[test]
fn every_variant_gives_the_bits_of_weights_widened() {
    let mut random = Random::new(1);
    let mut shapes =
        vec![(1, 1, 1), (1, 200, 33), (2, 70, 129), (4, 16, 1280), (5, 17, 7), (1, 31, 0), (9, 48, 3)];
    for _ in 0..80 {
        shapes.push((1 + random.below(9), 1 + random.below(70), 1 + random.below(200)));
    }
    for (i, (m, n, k)) in shapes.into_iter().enumerate() {
        let kind = if i % 2 == 0 { Half::F16 } else { Half::Bf16 };
        let mut floats = random.floats(n.div_ceil(PANEL) * k * PANEL);
        // Subnormal, largest, infinite, of either sign.
        for (w, special) in floats.iter_mut().zip([1e-7, -65504.0, f32::INFINITY, -0.0, 3e-8]) {
            *w = special;
        }
        let bytes: Vec<[u8; 2]> = match kind {
            Half::F16 => floats.iter().map(|w| f16::from_f32(*w).to_le_bytes()).collect(),
            Half::Bf16 => floats.iter().map(|w| bf16::from_f32(*w).to_le_bytes()).collect(),
        };
        let widened: Vec<f32> = match kind {
            Half::F16 => bytes.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Half::Bf16 => bytes.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        };
        // A byte in front: as stored bytes may, they lie at any place. Rows end where the data does.
        let stored: Vec<u8> = [7].into_iter().chain(bytes.concat()).collect();
        let w = HalfPanels { kind, bytes: &stored[1..], k };
        let stride = k + random.below(3);
        let all = random.floats(1 + (m - 1) * stride + k);
        let x = Rows::new(&all[1..], m, k, stride);
        let (bias, residual) = (random.floats(n), random.floats(m * n));
        let residual = (i % 3 == 0)
            .then_some((Addend::F32(Rows::new(&residual, m, n, n)), ResidualOrder::AfterActivation));
        let act = if i % 4 == 0 { Activation::Relu } else { Activation::None };
        let epilogue = Epilogue { bias: Some(&bias), residual, act, ..Epilogue::default() };
        let mut want = vec![0.0; m * n];
        gemm_f32::select(Isa::Scalar).run(MatMut::new(&mut want, m, n, n), x, &widened, &epilogue);
        for v in report(VARIANTS, |v| (v.name, v.isa)).into_iter().chain([&scalar::VARIANT]) {
            let mut got = vec![9.0; m * n];
            v.run(MatMut::new(&mut got, m, n, n), x, &w, &epilogue);
            assert_same_bits(&got, &want, &format!("{} {m} x {n} x {k}, {kind:?}", v.name));
        }
    }
}

#[test]
#[should_panic(expected = "bytes of weights for N = 17, K = 4")]
fn weights_that_are_too_short_are_refused() {
    let (x, bytes, mut out) = ([0.0; 4], [0; 2 * 2 * 16 * 4 - 2], [0.0; 17]);
    let w = HalfPanels { kind: Half::F16, bytes: &bytes, k: 4 };
    let x = Rows::new(&x, 1, 4, 4);
    scalar::VARIANT.run(MatMut::new(&mut out, 1, 17, 17), x, &w, &Epilogue::default());
}
