use super::*;

#[test]
fn gather_takes_rows_and_counts_from_the_end() {
    let x: Vec<u16> = (0..24).collect();
    let mut y = [0; 18];
    gather([2, 4, 3], &x, &[3i64, -4, -1], &mut y).unwrap();
    assert_eq!(y, [9, 10, 11, 0, 1, 2, 9, 10, 11, 21, 22, 23, 12, 13, 14, 21, 22, 23]);
    let e = gather([2, 4, 3], &x, &[0i32, 4, -9], &mut y).unwrap_err();
    assert_eq!(e, IndexError { position: 1, index: 4, dim: 4 });
    assert_eq!(e.to_string(), "index 4 at position 1 is outside a dimension of 4");
    assert_eq!(y[0], 9, "untouched after an error");
    gather::<u16, i64>([2, 4, 3], &x, &[], &mut []).unwrap();
    assert!(gather::<u16, i64>([2, 0, 3], &[], &[0], &mut [0; 6]).is_err());
    for extreme in [i64::MIN, i64::MAX] {
        assert!(gather([1, 4, 1], &x[..4], &[extreme], &mut [0]).is_err());
    }
}

#[test]
fn elements_replace_one_coordinate() {
    let (dims, index_dims) = ([3usize, 4, 5], [2usize, 6, 3]);
    let x: Vec<f32> = (0..60).map(|i| i as f32).collect();
    let indices: Vec<i64> = (0..36).map(|i| i * 7 % 8 - 4).collect();
    let shape = ElementsShape::new(&dims, &index_dims, 1).unwrap();
    let mut y = [0.0; 36];
    gather_elements(&shape, &x, &indices, &mut y).unwrap();
    let target = |p: usize| (p / 18 * 4 + (indices[p] + 4) as usize % 4) * 5 + p % 3;
    for (p, y) in y.iter().enumerate() {
        assert_eq!(*y, x[target(p)], "at {p}");
    }
    for scatter in [Scatter::Replace, Scatter::Add, Scatter::Mul, Scatter::Max, Scatter::Min] {
        let updates: Vec<f32> = (0..36).map(|i| (i * 5 % 17) as f32 - 3.0).collect();
        let (mut got, mut want) = (x.clone(), x.clone());
        scatter_elements(&shape, scatter, &mut got, &indices, &updates).unwrap();
        for (p, u) in updates.iter().enumerate() {
            let old = want[target(p)];
            want[target(p)] = match scatter {
                Scatter::Replace => *u,
                Scatter::Add => old + u,
                Scatter::Mul => old * u,
                Scatter::Max => f32::max(old, *u),
                Scatter::Min => f32::min(old, *u),
            };
        }
        assert_eq!(got, want, "{scatter:?}");
    }
    assert!(ElementsShape::new(&dims, &[4, 6, 3], 1).is_err());
    assert!(ElementsShape::new(&dims, &[3, 4], 1).is_err());
    let mut bad = indices.clone();
    bad[5] = 4;
    let e = gather_elements(&shape, &x, &bad, &mut y).unwrap_err();
    assert_eq!(e, IndexError { position: 5, index: 4, dim: 4 });
    let empty = ElementsShape::new(&[0, 4], &[0, 2], 1).unwrap();
    gather_elements::<f32, i64>(&empty, &[], &[], &mut []).unwrap();
}

#[test]
fn tuples_address_slices() {
    let x: Vec<i32> = (0..2 * 3 * 4 * 2).collect();
    let shape = NdShape { batch: 2, dims: &[3, 4], inner: 2, tuples: 2 };
    let indices = [0i64, 1, -1, -1, 2, 0, 1, 3];
    let mut y = [0; 8];
    gather_nd(&shape, &x, &indices, &mut y).unwrap();
    assert_eq!(y, [2, 3, 22, 23, 40, 41, 38, 39]);

    let mut data = x.clone();
    scatter_nd(&shape, Scatter::Add, &mut data, &indices, &[100, 200, 300, 400, 500, 600, 700, 800]).unwrap();
    assert_eq!((data[2], data[3], data[22], data[41], data[38]), (102, 203, 322, 641, 738));
    assert_eq!(data.iter().zip(&x).filter(|(a, b)| a != b).count(), 8);

    // The same slot twice: the last one stays, sums take both.
    let shape = NdShape { batch: 1, dims: &[2], inner: 1, tuples: 2 };
    let mut data = [5u8, 6];
    scatter_nd(&shape, Scatter::Replace, &mut data, &[0i32, 0], &[1, 2]).unwrap();
    assert_eq!(data, [2, 6]);
    scatter_nd(&shape, Scatter::Add, &mut data, &[1i32, -1], &[1, 2]).unwrap();
    assert_eq!(data, [2, 9]);
    let e = scatter_nd(&shape, Scatter::Add, &mut data, &[1i32, 2], &[1, 2]).unwrap_err();
    assert_eq!((e, data), (IndexError { position: 1, index: 2, dim: 2 }, [2, 9]));

    // No indexed dimensions: every tuple is the whole.
    let whole = NdShape { batch: 1, dims: &[], inner: 3, tuples: 2 };
    let mut y = [0u8; 6];
    gather_nd::<u8, i64>(&whole, &[1, 2, 3], &[], &mut y).unwrap();
    assert_eq!(y, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn arg_extreme_breaks_ties_and_finds_nan() {
    let run = |extreme, ties, x: &[f32]| {
        let mut y = [0];
        arg_extreme(extreme, ties, [1, x.len(), 1], x, &mut y);
        y[0]
    };
    let x = [1.0, 3.0, 3.0, -2.0, -2.0];
    assert_eq!(run(Extreme::Largest, Ties::First, &x), 1);
    assert_eq!(run(Extreme::Largest, Ties::Last, &x), 2);
    assert_eq!(run(Extreme::Smallest, Ties::First, &x), 3);
    assert_eq!(run(Extreme::Smallest, Ties::Last, &x), 4);
    let x = [1.0, f32::NAN, f32::INFINITY, f32::NAN];
    assert_eq!(run(Extreme::Largest, Ties::First, &x), 1);
    assert_eq!(run(Extreme::Smallest, Ties::Last, &x), 3);
    let mut y = [9; 4];
    arg_extreme(Extreme::Largest, Ties::First, [2, 3, 2], &[1, 2, 5, 0, 3, 9, -1, -2, -3, -1, 0, -4], &mut y);
    assert_eq!(y, [1, 2, 2, 1]);
    arg_extreme::<f32>(Extreme::Largest, Ties::First, [0, 3, 2], &[], &mut []);
}

#[test]
fn top_k_is_a_stable_sort_cut_off() {
    let x: Vec<f32> = (0..60).map(|i| if i % 13 == 5 { f32::NAN } else { (i * 29 % 11) as f32 }).collect();
    for [outer, n, inner] in [[1, 60, 1], [3, 10, 2], [2, 5, 6]] {
        for extreme in [Extreme::Largest, Extreme::Smallest] {
            for k in [0, 1, 3, n] {
                let mut values = vec![0.0; outer * k * inner];
                let mut indices = vec![0; outer * k * inner];
                let mut scratch = vec![0; n];
                top_k(extreme, [outer, n, inner], k, &x, &mut values, &mut indices, &mut scratch);
                for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                    let key = |j: &usize| {
                        let x = x[(o * n + j) * inner + i];
                        if x.is_nan() { f32::INFINITY } else { x }
                    };
                    let mut want: Vec<usize> = (0..n).collect();
                    want.sort_by(|a, b| match extreme {
                        Extreme::Largest => key(b).total_cmp(&key(a)),
                        Extreme::Smallest => key(a).total_cmp(&key(b)),
                    });
                    for (rank, want) in want[..k].iter().enumerate() {
                        let at = (o * k + rank) * inner + i;
                        assert_eq!(indices[at], *want as i64);
                        assert_eq!(values[at].to_bits(), x[(o * n + want) * inner + i].to_bits());
                    }
                }
            }
        }
    }
}

#[test]
fn cumsum_in_all_four_ways() {
    let run = |exclusive, reverse| {
        let mut y = [0; 4];
        cumsum(CumSum { exclusive, reverse }, [1, 4, 1], &[1, 2, 3, 4], &mut y);
        y
    };
    assert_eq!(run(false, false), [1, 3, 6, 10]);
    assert_eq!(run(true, false), [0, 1, 3, 6]);
    assert_eq!(run(false, true), [10, 9, 7, 4]);
    assert_eq!(run(true, true), [9, 7, 4, 0]);
    let mut y = [0.0f32; 8];
    cumsum(CumSum::default(), [2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut y);
    assert_eq!(y, [1.0, 2.0, 4.0, 6.0, 5.0, 6.0, 12.0, 14.0]);
}

#[test]
fn one_hot_range_and_triangles() {
    let mut y = [0u8; 12];
    one_hot([2, 3, 2], &[0i64, -1, 5, 1], [7, 9], &mut y);
    assert_eq!(y, [9, 7, 7, 7, 7, 9, 7, 7, 7, 9, 7, 7]);
    one_hot::<u8, i64>([2, 0, 2], &[0, 0, 0, 0], [0, 1], &mut []);

    let mut floats = [0.0; 3];
    range_f32(1.0, -0.5, &mut floats);
    assert_eq!(floats, [1.0, 0.5, 0.0]);
    let mut ints = [0i64; 3];
    range_int(10, -3, &mut ints);
    assert_eq!(ints, [10, 7, 4]);

    for k in -5i64..=5 {
        for triangle in [Triangle::Upper, Triangle::Lower] {
            let mut y = [1i32; 24];
            trilu(triangle, k, [3, 4], &mut y);
            for (i, y) in y.iter().enumerate() {
                let (r, c) = ((i / 4 % 3) as i64, (i % 4) as i64);
                let kept = if triangle == Triangle::Upper { c - r >= k } else { c - r <= k };
                assert_eq!(*y, i32::from(kept), "{triangle:?} {k} at {r}, {c}");
            }
        }
    }
    trilu::<f32>(Triangle::Upper, i64::MIN, [0, 4], &mut []);
}

#[test]
fn nonzero_lists_coordinates() {
    let x = [0.0, 1.0, f32::NAN, -0.0, 0.0, 2.0];
    let mut y = [9; 7];
    assert_eq!(nonzero(&[2, 3], &x, &mut y), 3);
    assert_eq!(y, [0, 0, 1, 1, 2, 2, 9]);
    assert_eq!(nonzero(&[], &[5u8], &mut []), 1);
    assert_eq!(nonzero::<u8>(&[2, 0], &[], &mut []), 0);
}
