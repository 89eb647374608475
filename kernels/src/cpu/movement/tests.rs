use super::*;
use crate::cpu::shape::ShapeError;

/// `elem_size` bytes of element `i`, none of them alike.
fn bytes(n: usize, elem_size: usize) -> Vec<u8> {
    (0..n * elem_size).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The copy by its definition, one byte at a time.
fn naive(size: usize, dims: &[usize], src: &[u8], s: Strides<'_>, dst: &mut [u8], d: Strides<'_>) {
    let total: usize = dims.iter().product();
    for flat in 0..total {
        let (mut rest, mut from, mut to) = (flat, s.offset as isize, d.offset as isize);
        for axis in (0..dims.len()).rev() {
            let i = (rest % dims[axis]) as isize;
            rest /= dims[axis];
            from += i * s.strides[axis];
            to += i * d.strides[axis];
        }
        for b in 0..size {
            dst[to as usize * size + b] = src[from as usize * size + b];
        }
    }
}

fn dense(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis] as isize;
    }
    strides
}

fn check(dims: &[usize], src_offset: usize, src_strides: &[isize], dst_strides: &[isize]) {
    for size in [1, 2, 3, 4, 8, 16] {
        let s = Strides { offset: src_offset, strides: src_strides };
        let d = Strides { offset: 2, strides: dst_strides };
        let plan = CopyPlan::new(size, dims, s, d).unwrap();
        let src = bytes(plan.src_len().div_ceil(size), size);
        let mut want = vec![0; plan.dst_len()];
        let mut got = want.clone();
        naive(size, dims, &src, s, &mut want, d);
        plan.run(&src, &mut got);
        assert_eq!(got, want, "size {size} dims {dims:?} src {src_strides:?} dst {dst_strides:?}");
        let Some(all) = plan.rows() else { continue };
        for each in [1, 3] {
            got.fill(0);
            let written = got[all.offset..].chunks_mut(each * all.pitch);
            for (first, to) in (0..all.count).step_by(each).zip(written) {
                plan.of_rows(&all, first..all.count.min(first + each)).run(&src, to);
            }
            assert_eq!(
                got, want,
                "rows of size {size} dims {dims:?} src {src_strides:?} dst {dst_strides:?}"
            );
        }
    }
}

#[test]
fn every_transpose_of_four_dimensions() {
    for dims in [[2, 3, 4, 5], [1, 17, 1, 33], [3, 8, 16, 2], [40, 1, 19, 1], [1, 32, 48, 3]] {
        let strides = dense(&dims);
        for a in 0..4 {
            for b in (0..4).filter(|b| *b != a) {
                for c in (0..4).filter(|c| *c != a && *c != b) {
                    let order = [a, b, c, 6 - a - b - c];
                    let out_dims = order.map(|i| dims[i]);
                    let src = order.map(|i| strides[i]);
                    check(&out_dims, 0, &src, &dense(&out_dims));
                }
            }
        }
    }
}

#[test]
fn slices_reversals_and_repeats() {
    check(&[], 0, &[], &[]);
    check(&[6], 5, &[-1], &[1]);
    check(&[3, 4], 11, &[-4, -1], &[4, 1]);
    check(&[3, 4], 3, &[8, -1], &[4, 1]); // every second row, backwards
    check(&[5, 4], 0, &[0, 1], &[4, 1]); // expand rows
    check(&[5, 4], 0, &[1, 0], &[4, 1]); // expand columns
    check(&[3, 2, 7], 0, &[7, 0, 1], &[14, 7, 1]); // tile
    check(&[3, 4], 0, &[4, 1], &[10, 1]); // concatenate: a part of wider rows
    check(&[3, 4], 0, &[4, 1], &[1, 3]); // transpose given in source order
    check(&[9, 20, 3], 0, &[3, 27, 1], &[60, 3, 1]); // channels kept, plane transposed
    check(&[2, 2, 2, 2, 2, 2, 2, 2], 0, &[1, 2, 4, 8, 16, 32, 64, 128], &dense(&[2; 8]));
}

#[test]
fn contiguous_copies_of_any_rank_become_one_run() {
    let dims = [2; 12];
    let strides = dense(&dims);
    let side = Strides { offset: 0, strides: &strides };
    let plan = CopyPlan::new(4, &dims, side, side).unwrap();
    assert_eq!(plan.src_len(), 4096 * 4);
    let src = bytes(4096, 4);
    let mut dst = vec![0; 4096 * 4];
    plan.run(&src, &mut dst);
    assert_eq!(src, dst);
}

#[test]
fn empty_boxes_need_nothing() {
    let side = Strides { offset: 99, strides: &[-5, 1] };
    let plan = CopyPlan::new(4, &[0, 3], side, side).unwrap();
    assert_eq!((plan.src_len(), plan.dst_len()), (0, 0));
    plan.run(&[], &mut []);
}

#[test]
fn strides_that_leave_the_buffers_are_refused() {
    let one = Strides { offset: 0, strides: &[1] };
    let e = CopyPlan::new(4, &[3], Strides { offset: 1, strides: &[-1] }, one).unwrap_err();
    assert_eq!(e, ShapeError::BeforeStart);
    let e = CopyPlan::new(4, &[3], Strides { offset: 0, strides: &[isize::MAX] }, one).unwrap_err();
    assert_eq!(e, ShapeError::TooLarge);
    let e = CopyPlan::new(4, &[3, 3], one, one).unwrap_err();
    assert_eq!(e, ShapeError::Rank { want: 2, got: 1 });
    let nine: Vec<isize> = (0..9).map(|i| 1 << (2 * i)).collect();
    let s = Strides { offset: 0, strides: &nine };
    let d = dense(&[2; 9]);
    let e = CopyPlan::new(4, &[2; 9], s, Strides { offset: 0, strides: &d }).unwrap_err();
    assert_eq!(e, ShapeError::TooManyDims { dims: 9 });
}

#[test]
#[should_panic(expected = "source of 11 bytes, needs 12")]
fn a_short_source_is_refused() {
    let one = Strides { offset: 0, strides: &[1] };
    CopyPlan::new(4, &[3], one, one).unwrap().run(&[0; 11], &mut [0; 12]);
}

#[test]
fn fill_repeats_any_pattern() {
    let mut dst = [0u8; 12];
    fill(&mut dst, &[1, 2, 3]);
    assert_eq!(dst, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
    fill(&mut dst, &[7, 7]);
    assert_eq!(dst, [7; 12]);
    fill(&mut [], &[1, 2]);
}

fn pad_1d(mode: PadMode, n: usize, before: isize, after: isize) -> Vec<u8> {
    let src: Vec<u8> = (0..n as u8).collect();
    let plan = PadPlan::new(mode, 1, &[n], &[before], &[after]).unwrap();
    let mut dst = vec![99; plan.out_dims()[0]];
    plan.run(&src, &mut dst);
    dst
}

#[test]
fn pad_modes_in_one_dimension() {
    assert_eq!(pad_1d(PadMode::Reflect, 3, 2, 2), [2, 1, 0, 1, 2, 1, 0]);
    assert_eq!(pad_1d(PadMode::Reflect, 3, 5, 0), [1, 0, 1, 2, 1, 0, 1, 2]);
    assert_eq!(pad_1d(PadMode::Edge, 3, 2, 1), [0, 0, 0, 1, 2, 2]);
    assert_eq!(pad_1d(PadMode::Wrap, 3, 4, 2), [2, 0, 1, 2, 0, 1, 2, 0, 1]);
    assert_eq!(pad_1d(PadMode::Edge, 4, -1, -2), [1]);
    assert_eq!(pad_1d(PadMode::Edge, 4, -6, 4), [3, 3]);
    assert_eq!(pad_1d(PadMode::Wrap, 4, -2, 3), [2, 3, 0, 1, 2]);
    assert_eq!(pad_1d(PadMode::Reflect, 0, 0, 0), []);
}

#[test]
fn pad_in_three_dimensions_is_each_dimension_alone() {
    let (dims, before, after) = ([2usize, 3, 4], [1isize, -1, 2], [0isize, 2, 1]);
    for mode in [PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
        let plan = PadPlan::new(mode, 2, &dims, &before, &after).unwrap();
        assert_eq!(plan.out_dims(), [3, 4, 7]);
        let src = bytes(24, 2);
        let mut dst = vec![0; 3 * 4 * 7 * 2];
        plan.run(&src, &mut dst);
        let lines: Vec<Vec<u8>> = (0..3).map(|a| pad_1d(mode, dims[a], before[a], after[a])).collect();
        for i in 0..3 * 4 * 7 {
            let at = [i / 28, i / 7 % 4, i % 7].into_iter().zip(&lines).map(|(i, line)| usize::from(line[i]));
            let from = at.zip(dims).fold(0, |flat, (i, dim)| flat * dim + i);
            assert_eq!(dst[2 * i..2 * i + 2], src[2 * from..2 * from + 2], "{mode:?} at {i}");
        }
    }
}

#[test]
fn impossible_paddings_are_refused() {
    let e = PadPlan::new(PadMode::Reflect, 1, &[1], &[1], &[0]).unwrap_err();
    assert_eq!(e, ShapeError::TooFewToPad { axis: 0, dim: 1 });
    let e = PadPlan::new(PadMode::Edge, 1, &[2], &[-3], &[0]).unwrap_err();
    assert_eq!(e, ShapeError::BeforeStart);
}

/// A few rows after a few rows are the whole copy.
#[test]
fn copies_row_by_row() {
    // dims, source (offset, strides), destination strides; height and elements of a row of the destination
    type Case<'a> = (&'a [usize], usize, &'a [isize], &'a [isize], usize, usize);
    let cases: [Case; 6] = [
        (&[6, 20], 0, &[20, 1], &[20, 1], 6, 20),              // all of it
        (&[6, 5, 3], 2, &[40, 8, 1], &[15, 3, 1], 6, 15),      // a part of wider pixels
        (&[6, 5, 3], 0, &[15, 3, 1], &[35, 7, 1], 6, 35),      // to a part of wider pixels
        (&[8, 9, 3], 0, &[9, 1, 72], &[27, 3, 1], 8, 27),      // planes to pixels
        (&[8, 9, 3], 215, &[-9, -1, -72], &[27, 3, 1], 8, 27), // upside down
        (&[4, 6, 5], 0, &[0, 5, 1], &[30, 5, 1], 4, 30),       // one row again and again
    ];
    for (dims, offset, src_strides, dst_strides, height, row) in cases {
        for size in [1, 4] {
            let s = Strides { offset, strides: src_strides };
            let plan = CopyPlan::new(size, dims, s, Strides { offset: 0, strides: dst_strides }).unwrap();
            let src = bytes(plan.src_len().div_ceil(size), size);
            let mut want = vec![0; height * row * size];
            plan.run(&src, &mut want);
            for each in 1..=height {
                let mut got = vec![0; want.len()];
                for first in (0..height).step_by(each) {
                    let rows = each.min(height - first);
                    let by = Side::Destination;
                    let (part, pitch) = plan.first_rows(by, row * size, height, rows).unwrap();
                    let part = part.further(Side::Source, first as isize * pitch).unwrap();
                    part.run(&src[..part.src_len()], &mut got[first * row * size..][..rows * row * size]);
                }
                assert_eq!(got, want, "{dims:?} of {size} bytes, {each} rows at a time");
            }
        }
    }
    let ahead =
        CopyPlan::new(4, &[2], Strides { offset: 3, strides: &[1] }, Strides { offset: 0, strides: &[1] });
    assert!(
        ahead.unwrap().further(Side::Source, -12).is_some()
            && ahead.unwrap().further(Side::Source, -13).is_none()
    );
    // By rows of the source: pixels to planes.
    let (s, d) = (Strides { offset: 0, strides: &[27, 3, 1] }, Strides { offset: 0, strides: &[9, 1, 72] });
    let plan = CopyPlan::new(4, &[8, 9, 3], s, d).unwrap();
    let (src, mut want) = (bytes(8 * 27, 4), vec![0; 8 * 27 * 4]);
    plan.run(&src, &mut want);
    for each in 1..=8 {
        let mut got = vec![0; want.len()];
        for first in (0..8).step_by(each) {
            let (part, pitch) = plan.first_rows(Side::Source, 27 * 4, 8, each.min(8 - first)).unwrap();
            let part = part.further(Side::Destination, first as isize * pitch).unwrap();
            part.run(&src[first * 27 * 4..][..part.src_len()], &mut got);
        }
        assert_eq!(got, want, "{each} rows at a time");
    }
    let s = Strides { offset: 0, strides: &[4, 1] };
    let inner = CopyPlan::new(4, &[3, 4], s, Strides { offset: 21, strides: &[10, 1] }).unwrap();
    assert_eq!(inner.first_rows(Side::Destination, 40, 5, 1), None, "rows around what is copied");
}
