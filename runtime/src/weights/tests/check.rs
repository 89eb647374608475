//! Every way to read a weight against its values.
//!
//! What it names comes from the module around it: fuzzing (`edge-tests`) includes this file and checks damaged expressions with it.

use super::{BLOCK, CodeForm, CodesOut, PANEL, Part, Weights};
use super::{philox, uniform};
use edge_kernels::cpu::gemm_f32::{self, Epilogue, Rows};
use edge_kernels::cpu::gemm_i8::{self, I8Panels, I8Rows};
use edge_kernels::cpu::{gemv_half, gemv_planes};
use edge_kernels::{Isa, MatMut};

/// Equal bits, or NaN both: which NaN a product gives is the CPU's choice.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// What outputs hold before they are written.
const JUNK: f32 = 77.25;

/// Reads `w` in every way and compares with `want`, its values.
///
/// Products with planes as they are stored count on PACK.md's padding of 0 past K: where bytes are anybody's (not `padded`), they are left out.
pub fn check_bytes(w: &dyn Weights, want: &[f32], padded: bool) {
    let (n, k) = (w.n(), w.k());
    assert_eq!(want.len(), n * k);
    let panels = n.div_ceil(PANEL);
    let mut out = vec![JUNK; panels * k * PANEL];
    w.fill_f32(0..panels, &mut out);
    for (i, &got) in out.iter().enumerate() {
        let (r, c) = (i / (k * PANEL) * PANEL + i % PANEL, i / PANEL % k);
        let want = if r < n { want[r * k + c] } else { 0.0 };
        assert!(same(got, want), "[{n}, {k}] row {r}, column {c}: {got}, want {want}");
    }
    let mut last = vec![JUNK; k * PANEL];
    w.fill_f32(panels - 1..panels, &mut last);
    assert!(last.iter().zip(&out[(panels - 1) * k * PANEL..]).all(|(&a, &b)| same(a, b)));
    if let Some(borrowed) = w.borrow_f32(0..panels) {
        assert_eq!(borrowed.len(), out.len());
        let stored = |i: usize| i / (k * PANEL) * PANEL + i % PANEL < n;
        assert!((0..out.len()).all(|i| !stored(i) || same(borrowed[i], out[i])), "borrowed [{n}, {k}]");
    }
    let mut row = vec![JUNK; k];
    for r in 0..n {
        w.fill_row(r, &mut row);
        assert!(row.iter().zip(&want[r * k..]).all(|(&a, &b)| same(a, b)), "row {r} of [{n}, {k}]");
    }
    for seed in 0..8 {
        let part = random_part(n, k, seed);
        let mut out = vec![JUNK; part.cols.len() * PANEL];
        w.fill_part(&part, &mut out);
        for (i, &got) in out.iter().enumerate() {
            let (c, lane) = (part.cols.start + i / PANEL, i % PANEL);
            let inside = (part.lane..part.lane + part.rows.len()).contains(&lane);
            let want = if inside { want[(part.rows.start + lane - part.lane) * k + c] } else { JUNK };
            assert!(same(got, want), "{part:?} of [{n}, {k}], column {c}, lane {lane}: {got}, want {want}");
        }
    }
    if padded || w.k().is_multiple_of(BLOCK) {
        check_stored(w, &out);
    }
    check_codes(w, want);
    check_columns(w, want);
}

/// Multiplies a row with `w` as it is stored, where it may be borrowed so and the CPU has a kernel for it: the bits of a product with
/// `panels`, its floats. For integers, a product with its codes.
fn check_stored(w: &dyn Weights, panels: &[f32]) {
    let (n, k, all) = (w.n(), w.k(), 0..w.n().div_ceil(PANEL));
    let x: Vec<f32> = (0..k).map(|i| uniform(3, i as u64) * 2.0 - 1.0).collect();
    let (x, epilogue) = (Rows::new(&x, 1, k, k), Epilogue::default());
    let product = |multiply: &dyn Fn(MatMut<'_, f32>)| {
        let mut out = vec![JUNK; n];
        multiply(MatMut::new(&mut out, 1, n, n));
        out
    };
    let want = product(&|out| gemm_f32::select(Isa::Scalar).run(out, x, panels, &epilogue));
    let same_bits = |got: Vec<f32>, want: &[f32], how: &str| {
        assert!(
            got.iter().zip(want).all(|(a, b)| same(*a, *b)),
            "[{n}, {k}] as stored, {how}: {got:?}, want {want:?}"
        );
    };
    if let (Some(kernel), Some(w)) = (
        gemv_planes::select_floats(Isa::detect()),
        w.borrow_planes(all.clone()).filter(|w| w.odd && w.split.is_plain()),
    ) {
        same_bits(product(&|out| kernel.run(out, x, &w, &epilogue)), &want, "planes");
    }
    if let (Some(kernel), Some(w)) = (gemv_half::select(Isa::detect()), w.borrow_halves(all.clone())) {
        same_bits(product(&|out| kernel.run(out, x, &w, &epilogue)), &want, "halves");
    }
    let (Some(kernel), Some(form)) = (gemv_planes::select(Isa::detect()), w.code_form()) else { return };
    let Some(planes) = w.borrow_planes(all.clone()).filter(|w| w.split.is_plain()) else { return };
    let (whole, groups) = (k.next_multiple_of(BLOCK), k.div_ceil(form.group));
    let mut codes: Vec<i8> = (0..whole).map(|i| philox(5, i as u64)[0] as i8).collect();
    codes[k..].fill(0);
    let (x, definition) = (Rows::new(&codes, 1, k, k), gemm_i8::select(Isa::Scalar));
    let mut stored = (
        vec![0; all.len() * whole * PANEL],
        vec![0.0; all.len() * groups * PANEL],
        vec![0; all.len() * groups * PANEL],
    );
    w.fill_codes(all, CodesOut { codes: &mut stored.0, scales: &mut stored.1, sums: &mut stored.2 });
    let CodeForm { group, half_offset, bits } = form;
    let w = I8Panels {
        codes: &stored.0,
        scales: &stored.1,
        colsum: &stored.2,
        k,
        group,
        half_offset,
        code_bits: bits,
    };
    let (mut row_sums, mut sums) = (vec![0; groups], vec![0; k.div_ceil(planes.group)]);
    definition.row_sums(x, &w, &mut row_sums);
    definition.group_sums(x, planes.group, 1, &mut sums);
    let rows = I8Rows { rows: x, zero_point: 5, row_sums: &row_sums };
    let want = product(&|out| definition.run(out, rows, &w, &epilogue));
    let (x, sums) = (Rows::new(&codes, 1, whole, whole), if planes.one_scale { &[][..] } else { &sums });
    same_bits(product(&|out| kernel.run(out, x, 5, sums, &planes, &epilogue)), &want, "codes");
}

fn random_part(n: usize, k: usize, seed: u64) -> Part {
    let [a, b, c, d] = philox(seed, (n * 1000 + k) as u64).map(|word| word as usize);
    let (row, col) = (a % n, b % k);
    let rows = 1 + c % (n - row).min(PANEL);
    Part { rows: row..row + rows, cols: col..col + 1 + d % (k - col), lane: (c >> 8) % (PANEL + 1 - rows) }
}

/// Whether a code's value is within half a step of `want`, or the last one before it, or there is no such value.
fn is_rounded(got: f32, want: f32, scale: f32) -> bool {
    // A factor of 15 bits moves the largest code by less than 0.01 step.
    let near = (got - want).abs() <= 0.51 * scale.abs() + f32::MIN_POSITIVE;
    let last = got.abs() >= 126.99 * scale.abs() && want.abs() > got.abs() && want.signum() == got.signum();
    near || last || !(want.is_finite() && scale.is_finite())
}

/// The integer side of [`check`]. Codes with one scale a row may be rounded: then they are within half a step.
fn check_codes(w: &dyn Weights, want: &[f32]) {
    let Some(form) = w.code_form() else { return };
    let rounded = form.group == w.k() && !form.half_offset && form.bits == 8;
    let close = |got: f32, want: f32, scale: f32| same(got, want) || rounded && is_rounded(got, want, scale);
    let (n, k) = (w.n(), w.k());
    assert!(form.group.is_multiple_of(BLOCK) || form.group == k, "{form:?} of K = {k}");
    let (panels, blocks, groups) = (n.div_ceil(PANEL), k.div_ceil(BLOCK), k.div_ceil(form.group));
    let mut codes = vec![99; panels * blocks * PANEL * BLOCK];
    let (mut scales, mut sums) = (vec![JUNK; panels * groups * PANEL], vec![77; panels * groups * PANEL]);
    w.fill_codes(0..panels, CodesOut { codes: &mut codes, scales: &mut scales, sums: &mut sums });
    let number = |q: i8| if form.half_offset { 2 * i32::from(q) + 1 } else { i32::from(q) };
    let limit = 1i32 << (form.bits - 1);
    let mut totals = vec![0; sums.len()];
    for (i, &q) in codes.iter().enumerate() {
        let unit = i / (PANEL * BLOCK);
        let (panel, lane) = (unit / blocks, i / BLOCK % PANEL);
        let (r, c) = (panel * PANEL + lane, unit % blocks * BLOCK + i % BLOCK);
        assert!((-limit..limit).contains(&i32::from(q)), "{q} is no code of {form:?}");
        assert!((r < n && c < k) || q == 0, "padding of row {r}, column {c} is {q}");
        if c < k {
            let at = (panel * groups + c / form.group) * PANEL + lane;
            totals[at] += number(q);
            let got = number(q) as f32 * scales[at];
            let want = if r < n { want[r * k + c] } else { 0.0 };
            assert!(
                close(got, want, scales[at]),
                "[{n}, {k}] {form:?} row {r}, column {c}: {got}, want {want}"
            );
        }
    }
    assert_eq!(sums, totals, "sums of [{n}, {k}] {form:?}");
}

/// Columns of integers: the values exactly, or as near as [`check_codes`] has it.
fn check_columns(w: &dyn Weights, want: &[f32]) {
    if !w.has_codes_i16() {
        return;
    }
    let (n, k, panels) = (w.n(), w.k(), w.n().div_ceil(PANEL));
    let rounded = w.code_form().is_some_and(|form| !form.half_offset && form.bits == 8);
    let (mut wide, mut scales) = (vec![99i16; panels * k * PANEL], vec![JUNK; panels * PANEL]);
    w.fill_codes_i16(0..panels, &mut wide, &mut scales);
    for (i, &code) in wide.iter().enumerate() {
        let (panel, lane) = (i / (k * PANEL), i % PANEL);
        let (r, c) = (panel * PANEL + lane, i / PANEL % k);
        let want = if r < n { want[r * k + c] } else { 0.0 };
        let scale = scales[panel * PANEL + lane];
        let got = f32::from(code) * scale;
        let close = same(got, want) || rounded && is_rounded(got, want, scale);
        assert!(close, "i16 [{n}, {k}] row {r}, column {c}: {got}, want {want}");
        assert!(r < n || code == 0, "i16 padding of row {r} is {code}");
    }
}
