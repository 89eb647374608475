use super::*;
use crate::cpu::loops::{BLOCK, supported};
use crate::cpu::shape::ShapeError;

fn floats(n: usize) -> Vec<f32> {
    let mut state = 7u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 0.9
        })
        .collect()
}

/// The elements of each result, in row-major order.
fn groups(dims: &[usize], axes: &[usize]) -> Vec<Vec<usize>> {
    let kept: Vec<usize> = (0..dims.len()).filter(|a| !axes.contains(a)).collect();
    let mut groups = vec![vec![]; kept.iter().map(|a| dims[*a]).product()];
    for flat in 0..dims.iter().product() {
        let (mut rest, mut at) = (flat, vec![0; dims.len()]);
        for axis in (0..dims.len()).rev() {
            at[axis] = rest % dims[axis];
            rest /= dims[axis];
        }
        groups[kept.iter().fold(0, |o, a| o * dims[*a] + at[*a])].push(flat);
    }
    groups
}

const CASES: &[(&[usize], &[usize])] = &[
    (&[], &[]),
    (&[5], &[]),
    (&[5], &[0]),
    (&[100], &[0]),
    (&[3, 37], &[1]),
    (&[37, 3], &[0]),
    (&[4, 9, 70], &[1]),
    (&[4, 9, 130], &[0, 1]),
    (&[2, 3, 4, 5], &[1, 3]),
    (&[2, 3, 4, 5], &[0, 2]),
    (&[2, 3, 4, 5, 2], &[3, 1]),
    (&[3, 1, 5, 1], &[1, 2]),
    (&[0, 3], &[0]),
    (&[3, 0], &[0]),
    (&[3, 0, 2], &[1]),
    (&[3, 0, 4, 5, 6], &[3, 1]),
    (&[2, 3, 0], &[0, 2]),
    (&[5, 0, 40], &[1]),
    (&[1, 1], &[0, 1]),
];

const OPS: [ReduceOp; 10] = [
    ReduceOp::Sum,
    ReduceOp::Mean,
    ReduceOp::Max,
    ReduceOp::Min,
    ReduceOp::Prod,
    ReduceOp::L1,
    ReduceOp::L2,
    ReduceOp::SumSquare,
    ReduceOp::LogSum,
    ReduceOp::LogSumExp,
];

fn exact(op: ReduceOp, x: &[f64]) -> f64 {
    let sum = |f: fn(f64) -> f64| x.iter().map(|x| f(*x)).sum::<f64>() + 0.0;
    match op {
        ReduceOp::Sum => sum(|x| x),
        ReduceOp::Mean => sum(|x| x) / x.len() as f64,
        ReduceOp::Max => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ReduceOp::Min => x.iter().copied().fold(f64::INFINITY, f64::min),
        ReduceOp::Prod => x.iter().product(),
        ReduceOp::L1 => sum(f64::abs),
        ReduceOp::L2 => sum(|x| x * x).sqrt(),
        ReduceOp::SumSquare => sum(|x| x * x),
        ReduceOp::LogSum => sum(|x| x).ln(),
        ReduceOp::LogSumExp => sum(f64::exp).ln(),
    }
}

#[test]
fn every_operation_over_every_set_of_axes() {
    for &(dims, axes) in CASES {
        let shape = Reduction::new(dims, axes).unwrap();
        let x = floats(dims.iter().product());
        let groups = groups(dims, axes);
        assert_eq!((shape.len(), shape.operand_len()), (groups.len(), x.len()));
        for op in OPS {
            let mut first: Option<Vec<u32>> = None;
            for v in supported() {
                let mut out = vec![123.0; groups.len()];
                reduce(v, op, &shape, &x, &mut out);
                for (got, group) in out.iter().zip(&groups) {
                    let values: Vec<f64> = group.iter().map(|i| f64::from(x[*i])).collect();
                    let want = exact(op, &values);
                    let size: f64 = values.iter().map(|x| x.abs()).sum();
                    // A logarithm of a sum near 0 magnifies the sum's error.
                    let slack = if op == ReduceOp::LogSum { 1e-6 * size / want.exp() } else { 1e-6 * size };
                    let near = (f64::from(*got) - want).abs() <= 1e-6 * want.abs() + slack;
                    let same = *got == want as f32 || (got.is_nan() && want.is_nan());
                    assert!(near || same, "{op:?} of {dims:?} over {axes:?}: {got}, want {want}");
                }
                let bits: Vec<u32> = out.iter().map(|x| if x.is_nan() { 0 } else { x.to_bits() }).collect();
                assert_eq!(first.get_or_insert(bits.clone()), &bits, "{op:?} {dims:?} {axes:?}");
            }
        }
    }
}

#[test]
fn integers_are_exact() {
    for &(dims, axes) in CASES {
        let shape = Reduction::new(dims, axes).unwrap();
        let x: Vec<i64> = (0..dims.iter().product::<usize>() as i64).map(|i| i * 37 % 11 - 5).collect();
        let groups = groups(dims, axes);
        let run = |op| {
            let mut out = vec![99; groups.len()];
            reduce_int(op, &shape, &x, &mut out);
            out
        };
        let want = |f: &dyn Fn(Vec<i64>) -> i64| -> Vec<i64> {
            groups.iter().map(|g| f(g.iter().map(|i| x[*i]).collect())).collect()
        };
        assert_eq!(run(IntReduceOp::Sum), want(&|g| g.iter().sum()));
        assert_eq!(run(IntReduceOp::Mean), want(&|g| g.iter().sum::<i64>() / (g.len() as i64).max(1)));
        assert_eq!(run(IntReduceOp::Max), want(&|g| g.iter().copied().max().unwrap_or(i64::MIN)));
        assert_eq!(run(IntReduceOp::Min), want(&|g| g.iter().copied().min().unwrap_or(i64::MAX)));
        assert_eq!(run(IntReduceOp::Prod), want(&|g| g.iter().fold(1, |a: i64, b| a.wrapping_mul(*b))));
        assert_eq!(run(IntReduceOp::L1), want(&|g| g.iter().map(|x| x.abs()).sum()));
        assert_eq!(run(IntReduceOp::SumSquare), want(&|g| g.iter().map(|x| x * x).sum()));
    }
}

/// Adds up parts as stated: blocks of elements, then blocks of blocks.
fn by_blocks(parts: impl Iterator<Item = f32>) -> f32 {
    let sum = |x: &[f32]| x.iter().fold(0.0, |sum, x| sum + x);
    let parts: Vec<f32> = parts.collect();
    let blocks: Vec<f32> = parts.chunks(BLOCK).map(sum).collect();
    sum(&blocks.chunks(BLOCK).map(sum).collect::<Vec<f32>>())
}

/// The stated order for a run of contiguous elements.
fn by_lanes(x: &[f32]) -> f32 {
    let lane = |lane: usize| by_blocks(x.iter().copied().skip(lane).step_by(16));
    let mut lanes: Vec<f32> = (0..16).map(lane).collect();
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

#[test]
fn the_order_of_additions_is_the_stated_one() {
    for v in supported() {
        for n in [1, 2, 3, 7, 15, 16, 17, 53, 511, 512, 513, 2000, 20_000] {
            let x = floats(n);
            let mut out = [0.0];
            reduce(v, ReduceOp::Sum, &Reduction::new(&[n], &[0]).unwrap(), &x, &mut out);
            assert_eq!(out[0].to_bits(), by_lanes(&x).to_bits(), "{n} in a run");

            // Of 91 the first 64 are worked on at once, then 8 at a time, and 3 are left.
            for columns in [3, 91] {
                let x = floats(n * columns);
                let mut out = vec![0.0; columns];
                reduce(v, ReduceOp::Sum, &Reduction::new(&[n, columns], &[0]).unwrap(), &x, &mut out);
                for (c, out) in out.iter().enumerate() {
                    let want = by_blocks(x[c..].iter().copied().step_by(columns));
                    assert_eq!(out.to_bits(), want.to_bits(), "{n} in column {c} of {columns}");
                }
            }
        }
    }
}

#[test]
fn long_sums_keep_their_low_bits() {
    // One rounding an element would lose about 3e-4 of this one.
    let n = 1 << 20;
    let x: Vec<f32> = (0..n).map(|i| 1.0 + (i % 7) as f32 * 1e-3).collect();
    let want: f64 = x.iter().map(|x| f64::from(*x)).sum();
    for v in supported() {
        for (dims, axes) in [(vec![n], vec![0]), (vec![n / 4, 4], vec![0])] {
            let shape = Reduction::new(&dims, &axes).unwrap();
            let mut out = vec![0.0; shape.len()];
            reduce(v, ReduceOp::Sum, &shape, &x, &mut out);
            let got: f64 = out.iter().map(|x| f64::from(*x)).sum();
            assert!((got - want).abs() <= 2e-6 * want, "{dims:?}: {got}, want {want}");
        }
    }
}

#[test]
fn nan_and_infinities() {
    let shape = Reduction::new(&[2, 20], &[1]).unwrap();
    let mut x = vec![1.0; 40];
    (x[3], x[25]) = (f32::NAN, f32::NEG_INFINITY);
    for v in supported() {
        let run = |op| {
            let mut out = [0.0; 2];
            reduce(v, op, &shape, &x, &mut out);
            out
        };
        for op in OPS {
            assert!(run(op)[0].is_nan(), "{op:?}");
        }
        assert_eq!(run(ReduceOp::Min)[1], f32::NEG_INFINITY);
        assert!((run(ReduceOp::LogSumExp)[1] - (1.0 + 19f32.ln())).abs() < 1e-6);
        let mut out = [0.0; 2];
        reduce(v, ReduceOp::LogSumExp, &shape, &[f32::NEG_INFINITY; 40], &mut out);
        assert_eq!(out, [f32::NEG_INFINITY; 2]);
        reduce(v, ReduceOp::LogSumExp, &shape, &[500.0; 40], &mut out);
        assert!((out[0] - (500.0 + 20f32.ln())).abs() < 1e-3);
    }
}

#[test]
fn impossible_reductions_are_refused() {
    assert_eq!(Reduction::new(&[2, 3], &[2]).unwrap_err(), ShapeError::Rank { want: 2, got: 3 });
    let axes: Vec<usize> = (0..10).step_by(2).collect();
    assert_eq!(Reduction::new(&[2; 10], &axes).unwrap_err(), ShapeError::TooManyDims { dims: 10 });
}

#[test]
fn rows_a_few_at_a_time_add_up_to_the_same_bits() {
    for v in supported() {
        for (rows, cols) in [(1, 5), (40, 3), (33, 64), (1100, 70), (2500, 2)] {
            let x = floats(rows * cols);
            let shape = Reduction::new(&[rows, cols], &[0]).unwrap();
            let (mut sum, mut mean) = (vec![0.0; cols], vec![0.0; cols]);
            reduce(v, ReduceOp::Sum, &shape, &x, &mut sum);
            reduce(v, ReduceOp::Mean, &shape, &x, &mut mean);
            for each in [1, 7, 32, 100, rows] {
                let mut sums = PartialSums { cols, before: 0 };
                let mut state = vec![f32::NAN; sums.state_len()];
                for part in x.chunks(each * cols) {
                    add_rows(v, sums, part, &mut state);
                    sums.before += part.len() / cols;
                }
                for (want, divisor) in [(&sum, 1.0), (&mean, rows as f32)] {
                    let mut got = vec![0.0; cols];
                    total(&state, divisor, &mut got);
                    assert_eq!(&got, want, "{rows} rows of {cols}, {each} at a time");
                }
            }
        }
    }
}

#[test]
fn some_of_the_results_are_those_of_all() {
    for (dims, axes) in
        CASES.iter().copied().chain([(&[300, 5][..], &[1][..]), (&[40, 200], &[0]), (&[3, 50, 70], &[1, 0])])
    {
        let shape = Reduction::new(dims, axes).unwrap();
        let x = floats(shape.operand_len());
        for v in supported() {
            for op in OPS {
                let mut all = vec![0.0; shape.len()];
                reduce(v, op, &shape, &x, &mut all);
                let mut got = vec![0.0; shape.len()];
                for (i, got) in got.chunks_mut(33).enumerate() {
                    match shape.part(33 * i..33 * i + got.len()) {
                        Some((part, first)) => reduce(v, op, &part, &x[first..][..part.operand_len()], got),
                        None => got.copy_from_slice(&all[33 * i..][..got.len()]),
                    }
                }
                let same =
                    all.iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                assert!(same, "{op:?} of {dims:?} over {axes:?}");
            }
        }
    }
}

#[test]
fn sums_of_codes_are_exact_at_every_shape_and_extreme() {
    let mut state = 3u32;
    let mut code = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    };
    for cols in [1, 2, 3, 7, 8, 9, 16, 17, 24, 32, 40, 63, 64, 65, 88, 200] {
        for rows in [0, 1, 2, 5, 255, 256, 257, 700] {
            for gap in [0, 1, 13] {
                // From an odd address, with codes past the last row that are not the matrix's.
                let pitch = cols + gap;
                let len = if rows == 0 { 0 } else { (rows - 1) * pitch + cols };
                let all: Vec<i8> = match (rows + gap) % 3 {
                    0 => vec![i8::MIN; len + 1],
                    1 => vec![i8::MAX; len + 1],
                    _ => (0..=len).map(|_| code()).collect(),
                };
                let codes = &all[1..];
                let column = |c| codes.iter().skip(c).step_by(pitch).map(|q| i32::from(*q)).sum::<i32>();
                let want: Vec<i32> = (0..cols).map(|c| 5 + column(c)).collect();
                for v in supported() {
                    let mut got = vec![5; cols];
                    add_codes(v, codes, pitch, &mut got);
                    assert_eq!(got, want, "{}: {rows} rows of {cols}, {pitch} apart", v.name());
                }
            }
        }
    }
}
