use super::*;
use crate::cpu::loops::supported;

fn axis(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: [usize; 2],
    ceil: bool,
) -> PoolAxis {
    let [before, after] = pads;
    let span = (input + before + after).saturating_sub((kernel - 1) * dilation + 1);
    let output = if ceil { span.div_ceil(stride) } else { span / stride } + 1;
    PoolAxis { input, output, kernel, stride, dilation, before, after }
}

fn pools() -> Vec<Pool> {
    let one = axis(5, 1, 1, 1, [0, 0], false);
    let mut pools = vec![];
    for channels in [1, 3, 16, 70] {
        for (y, x) in [
            (axis(6, 2, 2, 1, [0, 0], false), axis(7, 3, 2, 1, [1, 1], false)),
            (axis(7, 3, 2, 1, [0, 1], true), axis(6, 3, 2, 1, [1, 1], true)),
            (axis(9, 3, 1, 2, [2, 2], false), axis(5, 2, 3, 3, [1, 2], false)),
            (axis(4, 4, 4, 1, [0, 0], false), one),
            (axis(1, 3, 1, 1, [2, 2], false), axis(2, 2, 2, 1, [3, 3], false)),
        ] {
            pools.push(Pool { batch: 2, channels, y, x });
        }
    }
    pools
}

/// Elements under every window, by the definition, and the taps inside the padded operand.
fn windows<T: Copy>(p: &Pool, x: &[T]) -> Vec<(Vec<T>, usize)> {
    let tap = |a: &PoolAxis, o: usize, k: usize| (o * a.stride + k * a.dilation) as isize - a.before as isize;
    let mut all = vec![];
    for i in 0..p.output_len() {
        let (c, ox) = (i % p.channels, i / p.channels % p.x.output);
        let (oy, image) =
            (i / p.channels / p.x.output % p.y.output, i / p.channels / p.x.output / p.y.output);
        let (mut taps, mut padded) = (vec![], 0);
        for (ky, kx) in (0..p.y.kernel).flat_map(|ky| (0..p.x.kernel).map(move |kx| (ky, kx))) {
            let (iy, ix) = (tap(&p.y, oy, ky), tap(&p.x, ox, kx));
            let end = |a: &PoolAxis| (a.input + a.after) as isize;
            padded += usize::from(iy < end(&p.y) && ix < end(&p.x));
            if (0..p.y.input as isize).contains(&iy) && (0..p.x.input as isize).contains(&ix) {
                let pixel = (image * p.y.input + iy as usize) * p.x.input + ix as usize;
                taps.push(x[pixel * p.channels + c]);
            }
        }
        all.push((taps, padded));
    }
    all
}

#[test]
fn max_and_average_take_exactly_the_taps_inside() {
    for p in pools() {
        let x: Vec<f32> = (0..p.input_len()).map(|i| (i * 7919 % 241) as f32 / 8.0 - 15.0).collect();
        let windows = windows(&p, &x);
        for v in supported() {
            let mut y = vec![99.0; p.output_len()];
            max_pool(v, &p, f32::NEG_INFINITY, &x, &mut y);
            for (y, (taps, _)) in y.iter().zip(&windows) {
                assert_eq!(*y, taps.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            }
            for count in [PoolCount::Inside, PoolCount::Padded] {
                average_pool(v, &p, count, &x, &mut y);
                for (y, (taps, padded)) in y.iter().zip(&windows) {
                    let n = if count == PoolCount::Inside { taps.len() } else { *padded };
                    assert_eq!(*y, taps.iter().sum::<f32>() / n.max(1) as f32 + 0.0, "{p:?}");
                }
            }
        }
    }
}

#[test]
fn eight_bit_pools_are_exact() {
    for p in pools() {
        let x: Vec<i8> = (0..p.input_len()).map(|i| (i * 7919 % 256) as u8 as i8).collect();
        let windows = windows(&p, &x);
        let rescale = AverageRescale { multiplier: 0.75, x_zero: -3, y_zero: 5 };
        for v in supported() {
            let mut y = vec![99; p.output_len()];
            max_pool(v, &p, i8::MIN, &x, &mut y);
            for (y, (taps, _)) in y.iter().zip(&windows) {
                assert_eq!(*y, taps.iter().copied().max().unwrap_or(i8::MIN));
            }
            for count in [PoolCount::Inside, PoolCount::Padded] {
                average_pool_quantized(v, &p, count, rescale, &x, &mut y);
                for (y, (taps, padded)) in y.iter().zip(&windows) {
                    let n = if count == PoolCount::Inside { taps.len() } else { *padded };
                    let sum: i32 = taps.iter().map(|x| i32::from(*x) + 3).sum();
                    let want = (sum as f32 * (0.75 / n.max(1) as f32)).round_ties_even() as i32 + 5;
                    assert_eq!(i32::from(*y), want.clamp(-128, 127));
                }
            }
        }
    }
}

#[test]
fn nan_stays_and_empty_batches_do_nothing() {
    let a = axis(4, 2, 2, 1, [0, 0], false);
    let p = Pool { batch: 1, channels: 1, y: a, x: a };
    let mut x = [1.0; 16];
    x[5] = f32::NAN;
    for v in supported() {
        let mut y = [0.0; 4];
        max_pool(v, &p, f32::NEG_INFINITY, &x, &mut y);
        assert!(y[0].is_nan() && y[1..] == [1.0; 3]);
        let none = Pool { batch: 0, ..p };
        max_pool(v, &none, f32::NEG_INFINITY, &[], &mut []);
        average_pool(v, &none, PoolCount::Inside, &[], &mut []);
    }
}
