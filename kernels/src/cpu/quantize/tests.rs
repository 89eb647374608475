use super::*;
use crate::cpu::elementwise::Broadcast;
use crate::cpu::loops::supported;

const X: [f32; 14] = [
    0.0,
    0.25,
    0.75,
    1.25,
    -0.25,
    -0.75,
    63.4,
    -64.3,
    1e30,
    -1e30,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    1e-40,
];

#[test]
fn quantize_rounds_ties_to_even_and_saturates() {
    for v in supported() {
        let mut q = [0i8; 14];
        quantize(v, Scaling::Divide(0.5), 1, &X, &mut q);
        assert_eq!(q, [1, 1, 3, 3, 1, -1, 127, -128, 127, -128, 127, -128, -128, 1]);
        let mut u = [0u8; 14];
        quantize(v, Scaling::Multiply(2.0), 128, &X, &mut u);
        assert_eq!(u, [128, 128, 130, 130, 128, 126, 255, 0, 255, 0, 255, 0, 0, 128]);
        let mut wide = [0i16; 14];
        quantize(v, Scaling::Divide(0.001), 0, &X, &mut wide);
        assert_eq!(wide[6..10], [32_767, -32_768, 32_767, -32_768]);
    }
}

#[test]
fn division_is_not_multiplication() {
    // 0.5 * 3 / 3 is a tie, 0.5 * 3 * (1 / 3) lies beside one.
    let (x, scale) = ([7.5f32 * 0.3; 1], 0.3f32);
    for v in supported() {
        for (scaling, value) in
            [(Scaling::Divide(scale), x[0] / scale), (Scaling::Multiply(1.0 / scale), x[0] * (1.0 / scale))]
        {
            let mut q = [0i8];
            quantize(v, scaling, 0, &x, &mut q);
            assert_eq!(q[0], value.round_ties_even() as i8);
        }
    }
}

#[test]
fn channels_have_their_own_scales() {
    let (scales, zeros) = ([0.5, 2.0, 1.0], [0, 10, -5]);
    let x: Vec<f32> = (0..24).map(|i| i as f32 * 1.5 - 18.0).collect();
    for dims in [[8, 3, 1], [2, 3, 4]] {
        for v in supported() {
            let mut q = [0i8; 24];
            quantize_channels(v, dims, &scales, &zeros, &x, &mut q);
            let mut back = [0.0; 24];
            dequantize_channels(v, dims, &scales, &zeros, &q, &mut back);
            for i in 0..24 {
                let c = i / dims[2] % 3;
                let want = (x[i] / scales[c]).round_ties_even() + zeros[c] as f32;
                assert_eq!(f32::from(q[i]), want);
                assert_eq!(back[i], (want - zeros[c] as f32) * scales[c]);
            }
        }
    }
}

#[test]
fn dequantize_every_width() {
    for v in supported() {
        let mut y = [0.0; 2];
        dequantize(v, 0.5, -1, &[i8::MIN, 127], &mut y);
        assert_eq!(y, [-63.5, 64.0]);
        dequantize(v, 0.5, 255, &[0u8, 255], &mut y);
        assert_eq!(y, [-127.5, 0.0]);
        dequantize(v, 0.25, 0, &[-400_000i32, 3], &mut y);
        assert_eq!(y, [-100_000.0, 0.75]);
    }
}

#[test]
fn sums_and_products_by_their_formulas() {
    let add_rescale = AddRescale { a_multiplier: 0.7, b_multiplier: -1.3, a_zero: 4, b_zero: -9, y_zero: 2 };
    let mul_rescale = MulRescale { multiplier: 0.013, a_zero: 4, b_zero: -9, y_zero: 2 };
    let a: Vec<i8> = (0..37 * 5).map(|i| (i * 89 % 256) as u8 as i8).collect();
    for (b_len, dims) in [(185, vec![5, 37]), (37, vec![37]), (1, vec![])] {
        let b: Vec<i8> = (0..b_len).map(|i| (i * 53 % 256) as u8 as i8).collect();
        let shape = Broadcast::new([&[5, 37], &dims]).unwrap();
        for v in supported() {
            let (mut sum, mut product) = (vec![0; 185], vec![0; 185]);
            add(v, &shape, add_rescale, &a, &b, &mut sum);
            mul(v, &shape, mul_rescale, &a, &b, &mut product);
            for i in 0..185 {
                let (x, y) = (f32::from(a[i]) - 4.0, f32::from(b[i % b_len]) + 9.0);
                let clamp = |x: f32| (x.round_ties_even() + 2.0).clamp(-128.0, 127.0) as i8;
                assert_eq!(sum[i], clamp(x.mul_add(0.7, y * -1.3)));
                assert_eq!(product[i], clamp(x * y * 0.013));
            }
        }
    }
}
