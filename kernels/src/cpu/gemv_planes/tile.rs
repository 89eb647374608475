//! The tiles of a product: some rows times a panel.

use super::super::gemm_f32::Columns;
use super::super::tile::Aligned;
#[cfg(target_arch = "x86_64")]
use super::PlanePanels;
use super::{BLOCK, Epilogue, MAX_PLANES, Output, PANEL, Split, StoredScales, Task};

/// Most rows of a tile.
pub(super) const ROWS: usize = 4;
/// Bytes of a plane that are asked for before they are read: beyond the page that the CPU looks ahead in by itself.
#[cfg(target_arch = "x86_64")]
pub(super) const AHEAD: usize = 4 << 10;

/// Results of a tile.
pub(super) type Results = [[f32; PANEL]; ROWS];

/// Makes the results of a tile.
///
/// # Safety
/// The CPU has the instructions, and the tile is one of [`each_tile`].
pub(super) type Make = unsafe fn(&Tile<'_>, &mut Results);

/// The epilogue of an instruction set.
pub(super) type Finish = unsafe fn(&Epilogue<'_>, &mut Output<'_>, usize, &Columns, &mut [[f32; PANEL]]);

/// The operands of a tile.
pub(super) struct Tile<'a> {
    pub(super) split: Split,
    pub(super) one_scale: bool,
    /// What codes add to twice themselves, less `2^b`.
    pub(super) odd: i32,
    /// Rows to be made, 1 or as many as the kernel has, and those that are there: the last ones may be the same row again.
    #[cfg_attr(target_arch = "aarch64", expect(dead_code, reason = "its kernels have one row"))]
    pub(super) rows: usize,
    there: usize,
    /// The panel's units in each plane.
    pub(super) planes: [*const u8; MAX_PLANES],
    /// Rows of activations.
    pub(super) x: [*const i8; ROWS],
    pub(super) units: usize,
    pub(super) group_units: usize,
    pub(super) groups: usize,
    k: usize,
    group: usize,
    /// Sums of the activations' groups: those of the first row, and of the next group so many behind.
    sums: &'a [i32],
    /// Scales of rounded rows, as their sums lie.
    row_scales: &'a [f32],
    m: usize,
    row: usize,
    pub(super) scales: Scales,
    pub(super) zero_point: i32,
}

/// Scales of a panel.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    /// 16 of each group.
    pub(super) at: *const u8,
    pub(super) halves: bool,
    pub(super) gain: f32,
    pub(super) step: f32,
}

impl Tile<'_> {
    /// Ones in the bytes of those k of a unit that are below K.
    #[inline(always)]
    pub(super) fn valid(&self, unit: usize) -> i64 {
        let below = self.k - unit * BLOCK;
        if below >= BLOCK { -1 } else { (1 << (8 * below)) - 1 }
    }

    /// The sum of the activations of a group, each less the zero point.
    #[inline(always)]
    pub(super) fn rest(&self, g: usize, r: usize) -> i32 {
        let valid = self.group.min(self.k - g * self.group) as i32;
        let sum = self.sums[g * self.m + self.row + r.min(self.there - 1)];
        sum - valid * self.zero_point
    }

    /// The sum of a rounded row's codes in a group, and their scale.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn rounded(&self, g: usize, r: usize) -> (i32, f32) {
        let at = g * self.m + self.row + r.min(self.there - 1);
        (self.sums[at], self.row_scales[at])
    }
}

/// The units of a panel in each plane, and its scales.
#[cfg(target_arch = "x86_64")]
pub(super) fn panel_of(w: &PlanePanels<'_>, panel: usize) -> ([*const u8; MAX_PLANES], Scales) {
    let mut planes = [std::ptr::null(); MAX_PLANES];
    for (to, plane) in planes.iter_mut().zip(w.list()) {
        let each = w.k.div_ceil(BLOCK) * PANEL * plane.bits as usize;
        *to = plane.bytes[panel * each..][..each].as_ptr();
    }
    let (bytes, size) = match w.scales {
        StoredScales::F16(bytes) => (bytes, 2),
        StoredScales::F32(bytes) => (bytes, 4),
    };
    let each = w.groups() * PANEL * size;
    let at = bytes[panel * each..][..each].as_ptr();
    (planes, Scales { at, halves: size == 2, gain: w.gain, step: w.step })
}

/// Calls `make` and `finish` for all tiles, of one row or `most`.
///
/// # Safety
/// The CPU has what both need.
#[inline(always)]
pub(super) unsafe fn each_tile(task: &mut Task<'_>, most: usize, make: Make, finish: Finish) {
    let (m, n, w) = (task.out.rows(), task.out.cols(), task.w);
    let (units, groups) = (w.k.div_ceil(BLOCK), w.groups());
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        let mut planes = [std::ptr::null(); MAX_PLANES];
        for (to, plane) in planes.iter_mut().zip(w.list()) {
            let each = units * PANEL * plane.bits as usize;
            *to = plane.bytes[panel * each..][..each].as_ptr();
        }
        let (bytes, size) = match w.scales {
            StoredScales::F16(bytes) => (bytes, 2),
            StoredScales::F32(bytes) => (bytes, 4),
        };
        let each = groups * PANEL * size;
        let at = bytes[panel * each..][..each].as_ptr();
        let mut row = 0;
        while row < m {
            let rows = if m - row >= 2 { most } else { 1 };
            let there = rows.min(m - row);
            let x = std::array::from_fn(|r| task.x.row(row + r.min(there - 1)).as_ptr());
            let tile = Tile {
                split: w.split,
                one_scale: w.one_scale,
                odd: i32::from(w.odd),
                rows,
                there,
                planes,
                x,
                units,
                group_units: w.group.div_ceil(BLOCK),
                groups,
                k: w.k,
                group: w.group,
                sums: task.sums,
                row_scales: task.row_scales,
                m,
                row,
                scales: Scales { at, halves: size == 2, gain: w.gain, step: w.step },
                zero_point: task.zero_point,
            };
            let Aligned(results) = &mut Aligned([[0.0; PANEL]; ROWS]);
            // SAFETY: the caller's promise. The planes have the units of a panel and the scales its groups, cut out above.
            unsafe {
                make(&tile, results);
                finish(task.epilogue, &mut task.out, row, &columns, &mut results[..there]);
            }
            row += there;
        }
    }
}
