//! The transforms, written once for all instruction sets.

use super::super::gemm_f32::{Columns, Epilogue, Output, PANEL};
use super::{Inputs, Outputs, POINTS, SIDE, TILE, across};
use crate::MatMut;

/// The interpolation points other than 0 and infinity are `+-SMALL` and `+-LARGE`, whose squares are 1/2 and 2.
const SMALL: f32 = std::f32::consts::FRAC_1_SQRT_2;
const LARGE: f32 = std::f32::consts::SQRT_2;

/// Some channels in a register of an instruction set. There is a value only where the CPU has that set: [`Lanes::load`] asks for
/// it, and everything else starts from values.
pub(super) trait Lanes: Copy {
    /// Channels, a divisor of 16.
    const WIDTH: usize;
    /// The first [`Lanes::WIDTH`] elements.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn load(from: &[f32]) -> Self;
    /// To the first [`Lanes::WIDTH`] elements.
    fn store(self, to: &mut [f32]);
    /// Brings what lies there into the cache, if it can.
    fn prefetch(_: *const f32) {}
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, factor: f32) -> Self;
    /// `self * factor + other`, rounded once.
    fn times_plus(self, factor: f32, other: Self) -> Self;
}

/// Positions along a side.
const ALL: [usize; SIDE] = [0, 1, 2, 3, 4, 5];

/// What a side of a tile becomes.
type Side<L> = [L; SIDE];

const NONE: [f32; PANEL] = [0.0; PANEL];

/// `G g` of three elements.
#[inline(always)]
fn filter_side<L: Lanes>([g0, g1, g2]: [L; 3]) -> Side<L> {
    // g(p) / N(p), where N is the product of p's distances from the other points: -3/2 and 6.
    let small = g2.times_plus(-1.0 / 3.0, g0.times(-2.0 / 3.0));
    let large = g2.times_plus(1.0 / 3.0, g0.times(1.0 / 6.0));
    [
        g0,
        g1.times_plus(SMALL * (-2.0 / 3.0), small),
        g1.times_plus(SMALL * (2.0 / 3.0), small),
        g1.times_plus(LARGE * (1.0 / 6.0), large),
        g1.times_plus(LARGE * (-1.0 / 6.0), large),
        g2,
    ]
}

/// `B^T d` of six elements.
#[inline(always)]
fn input_side<L: Lanes>([d0, d1, d2, d3, d4, d5]: Side<L>) -> Side<L> {
    let (small, small_odd) = (d2.times_plus(-2.0, d4), d1.times_plus(-2.0, d3));
    let (large, large_odd) = (d2.times_plus(-0.5, d4), d1.times_plus(-0.5, d3));
    [
        d2.times_plus(-2.5, d0.plus(d4)),
        small_odd.times_plus(SMALL, small),
        small_odd.times_plus(-SMALL, small),
        large_odd.times_plus(LARGE, large),
        large_odd.times_plus(-LARGE, large),
        d3.times_plus(-2.5, d1.plus(d5)),
    ]
}

/// `A^T m` of six elements.
#[inline(always)]
fn output_side<L: Lanes>([m0, m1, m2, m3, m4, m5]: Side<L>) -> [L; TILE] {
    let (small, large) = (m1.plus(m2), m3.plus(m4));
    let (small_odd, large_odd) = (m1.minus(m2), m3.minus(m4));
    [
        m0.plus(small).plus(large),
        large_odd.times_plus(LARGE, small_odd.times(SMALL)),
        large.times_plus(2.0, small.times(0.5)),
        large_odd.times_plus(2.0 * LARGE, small_odd.times_plus(0.5 * SMALL, m5)),
    ]
}

/// Elements from a weight to one whose line is brought into the cache.
const AHEAD: usize = 128;

/// See [`super::Variant::transform`].
///
/// # Safety
/// The CPU has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn filter<L: Lanes>(panel: &[f32], out: &mut MatMut<'_, f32>) {
    let row = out.cols();
    for first in (0..row).step_by(L::WIDTH) {
        let tap = |ky: usize, kx: usize| {
            let weights = &panel[(ky * 3 + kx) * row + first..];
            // Nine rows are read side by side, each weight once.
            L::prefetch(weights.as_ptr().wrapping_add(AHEAD));
            // SAFETY: the caller's promise.
            unsafe { L::load(weights) }
        };
        let columns = [0, 1, 2].map(|kx| filter_side([tap(0, kx), tap(1, kx), tap(2, kx)]));
        for y in ALL {
            let points = filter_side([columns[0][y], columns[1][y], columns[2][y]]);
            for (x, lanes) in points.into_iter().enumerate() {
                lanes.store(&mut out.row(y * SIDE + x)[first..]);
            }
        }
    }
}

/// What pixels outside the image are read from.
const ZEROS: &[f32; PANEL] = &[0.0; PANEL];

/// The elements under a tile.
struct Pixels {
    /// Channel 0 of each pixel, or zeros.
    at: [[*const f32; SIDE]; SIDE],
    /// All ones where there are channels to step over, 0 for zeros.
    steps: [[usize; SIDE]; SIDE],
}

impl Pixels {
    /// Of tile `number`.
    fn new(task: &Inputs<'_>, number: usize) -> Pixels {
        let s = task.shape;
        let (top, left) = (number / across(s) * TILE, number % across(s) * TILE);
        let mut pixels = Pixels { at: [[ZEROS.as_ptr(); SIDE]; SIDE], steps: [[0; SIDE]; SIDE] };
        for y in 0..SIDE {
            let row = (top + y).wrapping_sub(s.pad_top);
            if row >= s.ih {
                continue;
            }
            for x in 0..SIDE {
                let column = (left + x).wrapping_sub(s.pad_left);
                if column < s.iw {
                    let start = (row * s.iw + column) * s.pixel_stride + s.channel_offset;
                    pixels.at[y][x] = task.image[start..][..s.ic].as_ptr();
                    pixels.steps[y][x] = usize::MAX;
                }
            }
        }
        pixels
    }

    /// Channels from `first` on.
    ///
    /// # Safety
    /// The CPU has the instruction set of `L`, and the image has `L::WIDTH` channels from `first` on.
    #[inline(always)]
    unsafe fn load<L: Lanes>(&self, y: usize, x: usize, first: usize) -> L {
        // SAFETY: the caller's promise; there are 16 zeros, which no step leaves.
        unsafe { L::load(std::slice::from_raw_parts(self.at[y][x].add(first & self.steps[y][x]), L::WIDTH)) }
    }
}

/// Fills `[36][tiles][C]`, the points so far apart as asked.
///
/// # Safety
/// The CPU has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn input<L: Lanes>(task: &Inputs<'_>, out: &mut [f32]) {
    let s = task.shape;
    if s.ic < L::WIDTH {
        return plain_input(task, out);
    }
    assert!(
        task.tiles.len() * s.ic <= task.apart && POINTS * task.apart <= out.len(),
        "tiles leave their matrices"
    );
    for (tile, number) in task.tiles.clone().enumerate() {
        let pixels = Pixels::new(task, number);
        for first in (0..s.ic).step_by(L::WIDTH) {
            // The last channels may be done twice.
            let first = first.min(s.ic - L::WIDTH);
            let side = |x: usize| {
                ALL.map(|y: usize| {
                    if x >= SIDE - TILE {
                        // The next tile's pixel.
                        L::prefetch(pixels.at[y][x].wrapping_add(TILE * s.pixel_stride + first));
                    }
                    // SAFETY: the caller's promise, and that many channels.
                    unsafe { pixels.load::<L>(y, x, first) }
                })
            };
            let columns = ALL.map(|x| input_side(side(x)));
            for y in ALL {
                let row = input_side(ALL.map(|x: usize| columns[x][y]));
                for (x, lanes) in row.into_iter().enumerate() {
                    let at = (y * SIDE + x) * task.apart + tile * s.ic + first;
                    // SAFETY: a tile's channels in a point's matrix, which `out` holds: checked above.
                    lanes.store(unsafe { out.get_unchecked_mut(at..at + L::WIDTH) });
                }
            }
        }
    }
}

/// For fewer channels than a register has.
#[inline(never)]
fn plain_input(task: &Inputs<'_>, out: &mut [f32]) {
    // SAFETY: plain numbers need no instruction set.
    unsafe { input::<f32>(task, out) }
}

/// Most tiles of a row that are finished together.
const GROUP: usize = 6;

/// Results of up to [`GROUP`] tiles: output rows, of pixels, of channels.
#[repr(C, align(64))]
struct Results([[[f32; PANEL]; GROUP * TILE]; TILE]);

/// Turns `[36][tiles][width]` into results; `finish` is the epilogue of the instruction set.
///
/// # Safety
/// The CPU has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn output<L: Lanes>(
    task: &mut Outputs<'_, '_>,
    finish: impl Fn(&Epilogue<'_>, &mut Output<'_>, usize, &Columns, &mut [[f32; PANEL]]),
) {
    let (s, n) = (task.shape, task.out.cols());
    for first in (0..n).step_by(PANEL) {
        let columns = task.epilogue.columns(first, n);
        let mut number = task.tiles.start;
        while number < task.tiles.end {
            let (row, column) = (number / across(s), number % across(s));
            let count = GROUP.min(task.tiles.end - number).min(across(s) - column);
            let mut results = Results([[NONE; GROUP * TILE]; TILE]);
            for tile in 0..count {
                let at = (number + tile - task.tiles.start) * task.block.width + first;
                for lane in (0..PANEL).step_by(L::WIDTH) {
                    let point = |y: usize, x: usize| {
                        let from = (y * SIDE + x) * task.block.products + at + lane;
                        // SAFETY: the caller's promise.
                        unsafe { L::load(&task.products[from..]) }
                    };
                    let columns = ALL.map(|x| output_side(ALL.map(|y| point(y, x))));
                    for (y, results) in results.0.iter_mut().enumerate() {
                        let row = output_side(ALL.map(|x: usize| columns[x][y]));
                        for (to, lanes) in results[tile * TILE..].iter_mut().zip(row) {
                            lanes.store(&mut to[lane..]);
                        }
                    }
                }
            }
            let left = column * TILE;
            let width = (count * TILE).min(s.ow - left);
            for (y, results) in (row * TILE..task.rows.end).zip(&mut results.0) {
                let m = (y - task.rows.start) * s.ow + left;
                finish(task.epilogue, task.out, m, &columns, &mut results[..width]);
            }
            number += count;
        }
    }
}
