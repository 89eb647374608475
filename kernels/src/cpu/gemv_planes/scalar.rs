//! The definition, by the definitions of what it is made of.

use super::super::planes::{self, UNIT, join, largest_number, raise_to};
use super::{BLOCK, Isa, PANEL, PlanePanels, StoredScales, TOP, Task, Variant};
use half::f16;

pub(super) const VARIANT: Variant =
    Variant { name: "gemv_planes_a8__scalar", isa: Isa::Scalar, most_rows: super::MAX_ROWS, run };

fn run(task: &mut Task<'_>) {
    let (m, n, w) = (task.out.rows(), task.out.cols(), task.w);
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        for row in 0..m {
            let mut acc = if w.one_scale { by_column(task, panel, row) } else { by_group(task, panel, row) };
            task.epilogue.finish(&mut task.out, row, &columns, std::slice::from_mut(&mut acc));
        }
    }
}

/// Scales of group `g` of a panel, as steps.
pub(super) fn scales(w: &PlanePanels<'_>, panel: usize, g: usize) -> [f32; PANEL] {
    let first = (panel * w.groups() + g) * PANEL;
    std::array::from_fn(|lane| {
        let stored = match w.scales {
            StoredScales::F16(bytes) => f16::from_le_bytes(bytes.as_chunks().0[first + lane]).to_f32(),
            StoredScales::F32(bytes) => f32::from_le_bytes(bytes.as_chunks().0[first + lane]),
        };
        stored * w.gain * w.step
    })
}

/// Codes `q` of unit `unit` of a panel.
pub(super) fn codes(w: &PlanePanels<'_>, panel: usize, unit: usize) -> [i8; UNIT] {
    let mut codes = [0; UNIT];
    let list = w.list();
    let used = list.iter().filter(|plane| plane.bits > 0).count();
    join(&list[..used], panel * w.k.div_ceil(BLOCK) + unit, &mut codes);
    codes.map(|p| (i32::from(p) - (1 << (w.split.bits() - 1))) as i8)
}

/// Calls `f(k, codes of the 16 columns)` for each k of group `g`.
pub(super) fn each_k<T: Copy>(
    w: &PlanePanels<'_>,
    g: usize,
    mut unit_of: impl FnMut(usize) -> [T; UNIT],
    mut f: impl FnMut(usize, [T; PANEL]),
) {
    let ks = g * w.group..w.k.min((g + 1).saturating_mul(w.group));
    for unit in ks.start / BLOCK..ks.end.div_ceil(BLOCK) {
        let codes = unit_of(unit);
        for k in ks.start.max(unit * BLOCK)..ks.end.min((unit + 1) * BLOCK) {
            f(k, std::array::from_fn(|lane| codes[lane * BLOCK + k % BLOCK]));
        }
    }
}

fn by_group(task: &Task<'_>, panel: usize, row: usize) -> [f32; PANEL] {
    let (w, x) = (task.w, task.x.row(row));
    let mut acc = [0.0f32; PANEL];
    for g in 0..w.groups() {
        let mut t = [0i32; PANEL];
        each_k(
            w,
            g,
            |unit| codes(w, panel, unit),
            |k, q| {
                for (t, q) in t.iter_mut().zip(q) {
                    *t += (2 * i32::from(q) + i32::from(w.odd)) * (i32::from(x[k]) - task.zero_point);
                }
            },
        );
        let scales = scales(w, panel, g);
        for (lane, acc) in acc.iter_mut().enumerate() {
            *acc = (t[lane] as f32).mul_add(scales[lane], *acc);
        }
    }
    acc
}

fn by_column(task: &Task<'_>, panel: usize, row: usize) -> [f32; PANEL] {
    let (w, x) = (task.w, task.x.row(row));
    let mut largest = [0.0; PANEL];
    for g in 0..w.groups() {
        raise_to(&mut largest, &[scales(w, panel, g)]);
    }
    let (rounds, bits) = (planes::select(Isa::Scalar), w.split.bits());
    let mut t = [0i32; PANEL];
    for g in 0..w.groups() {
        let scales = scales(w, panel, g);
        let rounded = |unit: usize| {
            let mut codes = codes(w, panel, unit);
            rounds.round_codes(&mut codes, BLOCK, (bits, true), std::slice::from_ref(&scales), &largest);
            codes
        };
        each_k(w, g, rounded, |k, c| {
            for (t, c) in t.iter_mut().zip(c) {
                *t += i32::from(c) * (i32::from(x[k]) - task.zero_point);
            }
        });
    }
    let number = largest_number(bits, true) as f32 / TOP;
    std::array::from_fn(|lane| (t[lane] as f32).mul_add(largest[lane] * number, 0.0))
}
