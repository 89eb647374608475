//! Every variant against the scalar one bit for bit, and the scalar one against f64 loops.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;

/// A fixed-seed generator (xorshift64*), so that a failure repeats.
pub(in crate::cpu) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    /// In [-1, 1).
    pub fn float(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }

    pub fn codes(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.next() as i8).collect()
    }
}

/// Equal bits, except that any NaN equals any NaN (its sign and payload are the CPU's choice).
#[track_caller]
pub(in crate::cpu) fn assert_same_bits(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan());
        assert!(same, "{what}: element {i}: got {g:?}, want {w:?}");
    }
}

/// Prints which variants of a table this CPU runs; returns those beside the scalar one.
pub(in crate::cpu) fn report<V>(
    table: &'static [V],
    name_isa: fn(&V) -> (&'static str, Isa),
) -> Vec<&'static V> {
    let (run, skipped): (Vec<_>, Vec<_>) = table.iter().partition(|v| name_isa(v).1.supported());
    let names = |list: &[&V]| list.iter().map(|v| name_isa(v).0).collect::<Vec<_>>().join(", ");
    println!("variants run: {}; skipped: {}", names(&run), names(&skipped));
    run.into_iter().filter(|v| name_isa(v).1 != Isa::Scalar).collect()
}

/// Operands of one product, A and C strided and starting off alignment.
struct Case {
    m: usize,
    n: usize,
    k: usize,
    a: Vec<f32>,
    a_stride: usize,
    panels: Vec<f32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    factor: Vec<f32>,
    residual: Vec<f32>,
    residual_codes: Vec<i8>,
}

impl Case {
    fn new(random: &mut Random, m: usize, n: usize, k: usize) -> Self {
        let a_stride = k + random.below(5);
        let mut panels = vec![0.0; n.div_ceil(PANEL) * PANEL * k];
        let b = random.floats(k * n);
        pack_panels_f32(StridedMatrix { data: &b, k_stride: n, n_stride: 1 }, k, n, &mut panels);
        Case {
            m,
            n,
            k,
            a: random.floats(m * a_stride + k + 1),
            a_stride,
            panels,
            scale: random.floats(n),
            bias: random.floats(n),
            factor: random.floats(n),
            residual: random.floats(m * n),
            residual_codes: random.codes(m * n),
        }
    }

    fn a(&self) -> Rows<'_, f32> {
        Rows::new(&self.a[1..], self.m, self.k, self.a_stride)
    }

    /// Epilogue number `kind`; every field takes each of its forms for some number.
    fn epilogue(&self, kind: usize) -> Epilogue<'_> {
        let rows = Rows::new(&self.residual, self.m, self.n, self.n);
        let codes = Rows::new(&self.residual_codes, self.m, self.n, self.n);
        let addend_i8 = Addend::I8 { rows: codes, scale: 0.03, zero_point: -7 };
        let acts = [
            Activation::None,
            Activation::Relu,
            Activation::Clip { lo: 0.0, hi: 6.0 },
            Activation::LeakyRelu { alpha: 0.1 },
            Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Activation::HardSwish,
            Activation::Silu,
        ];
        Epilogue {
            scale: match kind % 3 {
                0 => Scale::One,
                1 => Scale::PerColumn(&self.scale),
                _ => Scale::Uniform(0.7),
            },
            bias: kind.is_multiple_of(2).then_some(&self.bias[..]),
            residual: match kind % 5 {
                0 | 1 => None,
                2 => Some((Addend::F32(rows), ResidualOrder::BeforeActivation)),
                3 => Some((Addend::F32(rows), ResidualOrder::AfterActivation)),
                _ => Some((addend_i8, ResidualOrder::BeforeActivation)),
            },
            act: acts[kind % acts.len()],
            factor: (kind % 4 > 1).then_some(&self.factor[..]),
        }
    }

    /// The result of a variant, and proof that it wrote nothing else.
    fn run(&self, variant: &Variant, kind: usize) -> Vec<f32> {
        let stride = self.n + 3;
        let mut c = vec![-77.0; self.m * stride + 1];
        let view = MatMut::new(&mut c[1..], self.m, self.n, stride);
        variant.run(view, self.a(), &self.panels, &self.epilogue(kind));
        for row in c[1..].chunks(stride) {
            assert!(
                row[self.n.min(row.len())..].iter().all(|&gap| gap == -77.0),
                "{} wrote past its row",
                variant.name
            );
        }
        c
    }

    /// The result as codes.
    fn run_i8(&self, variant: &Variant, kind: usize) -> Vec<i8> {
        let mut c = vec![0; self.m * self.n];
        let out = MatMut::new(&mut c, self.m, self.n, self.n);
        let out = Output::I8 { out, inv_scale: 40.0, zero_point: 11 };
        variant.run(out, self.a(), &self.panels, &self.epilogue(kind));
        c
    }

    fn compare(&self, variant: &Variant, kind: usize) {
        let what = format!("{} M {} N {} K {} epilogue {kind}", variant.name, self.m, self.n, self.k);
        assert_same_bits(&self.run(variant, kind), &self.run(&scalar::VARIANT, kind), &what);
        assert_eq!(self.run_i8(variant, kind), self.run_i8(&scalar::VARIANT, kind), "{what}");
    }
}

fn others() -> Vec<&'static Variant> {
    report(VARIANTS, |v| (v.name, v.isa))
}

#[test]
fn small_shapes_give_the_same_bits() {
    let mut random = Random::new(1);
    for variant in others() {
        for m in 0..=13 {
            for n in 1..=33 {
                for k in 1..=40 {
                    Case::new(&mut random, m, n, k).compare(variant, random.below(30));
                }
            }
        }
    }
}

#[test]
fn layer_shapes_give_the_same_bits() {
    let mut random = Random::new(2);
    let shapes = [
        (196, 256, 256),
        (1, 1000, 1280),
        (49, 112, 333),
        (64, 24, 27),
        (7, 70, 4608),
        (2, 97, 768),
        (3, 115, 50),
        (4, 16, 0),
    ];
    for variant in others() {
        for (m, n, k) in shapes {
            Case::new(&mut random, m, n, k).compare(variant, random.below(30));
        }
    }
}

#[test]
fn rows_in_runs_give_the_bits_of_whole_rows() {
    let mut random = Random::new(5);
    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
        for _ in 0..300 {
            let (m, n) = (1 + random.below(30), 1 + random.below(50));
            let (runs, len, stride) = (1 + random.below(MAX_RUNS), random.below(20), random.below(30));
            let offsets: Vec<usize> = (0..runs).map(|_| random.below(200)).collect();
            let data = random.floats(200 + m * stride + len);
            let a = Rows::windows(&data, m, len, stride, &offsets);
            let whole: Vec<f32> =
                (0..m).flat_map(|r| (0..runs).flat_map(move |i| a.run(r, i).to_vec())).collect();
            let k = runs * len;
            let panels = random.floats(n.div_ceil(PANEL) * PANEL * k);
            let (mut got, mut want) = (vec![0.0; m * n], vec![0.0; m * n]);
            variant.run(MatMut::new(&mut got, m, n, n), a, &panels, &Epilogue::default());
            let a = Rows::new(&whole, m, k, k);
            scalar::VARIANT.run(MatMut::new(&mut want, m, n, n), a, &panels, &Epilogue::default());
            assert_same_bits(&got, &want, &format!("{} {m} x {n}, {runs} runs of {len}", variant.name));
        }
    }
}

#[test]
#[should_panic(expected = "needs Some(21) elements, got 20")]
fn a_run_past_the_data_is_refused() {
    Rows::windows(&[0u8; 20], 2, 3, 8, &[0, 10]);
}

#[test]
fn nan_and_infinity_come_through() {
    let mut random = Random::new(3);
    for variant in others() {
        for kind in 0..30 {
            let mut case = Case::new(&mut random, 9, 35, 19);
            let a = random.below(case.a.len());
            case.a[a] = f32::NAN;
            let a = random.below(case.a.len());
            case.a[a] = f32::INFINITY;
            let b = random.below(case.panels.len());
            case.panels[b] = f32::NEG_INFINITY;
            case.residual[kind] = f32::NAN;
            case.compare(variant, kind);
        }
    }
    let mut case = Case::new(&mut random, 1, 1, 3);
    case.a.fill(f32::NAN);
    for kind in 0..30 {
        assert!(case.run(&scalar::VARIANT, kind)[1].is_nan(), "epilogue {kind} lost a NaN");
    }
}

#[test]
fn scalar_is_within_the_bound_of_f64() {
    let mut random = Random::new(4);
    for (m, n, k) in [(3, 17, 1), (5, 16, 40), (2, 33, 1000), (1, 5, 9000)] {
        let case = Case::new(&mut random, m, n, k);
        let c = case.run(&scalar::VARIANT, 0);
        let mut mean = 0.0;
        for row in 0..m {
            for column in 0..n {
                let panel = &case.panels[column / PANEL * PANEL * k..];
                let (mut want, mut size) = (f64::from(case.bias[column]), f64::from(case.bias[column].abs()));
                for (i, &a) in case.a().row(row).iter().enumerate() {
                    let term = f64::from(a) * f64::from(panel[i * PANEL + column % PANEL]);
                    want += term;
                    size += term.abs();
                }
                // Each of the K + 1 roundings errs by 2^-24 of a partial sum, none above `size`.
                let bound = (k + 1) as f64 * 2f64.powi(-24) * size * 1.01;
                let error = f64::from(c[1 + row * (n + 3) + column]) - want;
                assert!(
                    error.abs() <= bound,
                    "[{row}, {column}] of {m} x {n} x {k}: error {error}, bound {bound}"
                );
                mean += error / bound / (m * n) as f64;
            }
        }
        assert!(mean.abs() < 0.25, "errors lean to one side: mean {mean} of the bound for K = {k}");
    }
}

#[test]
fn epilogue_steps_match_their_formula() {
    let a = [2.0f32, -3.0];
    let panels = [1.0; 16];
    let one = |epilogue: &Epilogue<'_>| {
        let mut c = [0.0; 2];
        scalar::VARIANT.run(MatMut::new(&mut c, 2, 1, 1), Rows::new(&a, 2, 1, 1), &panels, epilogue);
        c
    };
    let residual = Addend::F32(Rows::new(&[10.0, 1.0], 2, 1, 1));
    let codes = Addend::I8 { rows: Rows::new(&[5, -128], 2, 1, 1), scale: 0.5, zero_point: 3 };
    let base = Epilogue { scale: Scale::PerColumn(&[2.0]), bias: Some(&[0.5]), ..Epilogue::default() };
    assert_eq!(one(&Epilogue::default()), [2.0, -3.0]);
    assert_eq!(one(&base), [4.5, -5.5]);
    let before = Some((residual, ResidualOrder::BeforeActivation));
    let after = Some((residual, ResidualOrder::AfterActivation));
    assert_eq!(one(&Epilogue { residual: before, act: Activation::Relu, ..base }), [14.5, 0.0]);
    assert_eq!(one(&Epilogue { residual: after, act: Activation::Relu, ..base }), [14.5, 1.0]);
    let quantized = Some((codes, ResidualOrder::AfterActivation));
    assert_eq!(one(&Epilogue { residual: quantized, ..base }), [5.5, -71.0]);
    let halved = Epilogue { act: Activation::Relu, factor: Some(&[0.5]), ..base };
    assert_eq!(one(&Epilogue { residual: before, ..halved }), [7.25, 0.0]);
    assert_eq!(one(&Epilogue { residual: after, ..halved }), [12.25, 1.0]);
}

#[test]
fn every_form_of_an_activation_is_the_scalar_one() {
    let specials = [0.0, f32::NAN, f32::INFINITY, 1e-40, 104.5, 103.5, 88.0, 87.5, 1e30];
    let dense = (0..4000).map(|i| f32::from_bits(0x3000_0000 + i * 0x8_1234));
    let a: Vec<f32> = specials.into_iter().chain(dense).flat_map(|x| [x, -x]).collect();
    let (m, panels) = (a.len(), [1.0; 16]);
    for act in
        [Activation::Sigmoid, Activation::Silu, Activation::Tanh, Activation::Gelu, Activation::GeluTanh]
    {
        let epilogue = Epilogue { act, ..Epilogue::default() };
        for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
            let mut c = vec![0.0; m];
            variant.run(MatMut::new(&mut c, m, 1, 1), Rows::new(&a, m, 1, 1), &panels, &epilogue);
            // The product adds to 0, which loses the sign of -0.
            let want: Vec<f32> = a.iter().map(|x| act.apply(x + 0.0)).collect();
            assert_same_bits(&c, &want, &format!("{act:?} by {}", variant.name));
        }
    }
}

#[test]
fn codes_round_to_even_and_saturate() {
    let a = [0.5, 1.5, -0.5, -2.5, 1e30, -1e30, f32::INFINITY, f32::NAN, 116.4, 117.0];
    let want = [10, 12, 10, 8, 127, -128, 127, -128, 126, 127];
    let panels = [1.0; 16];
    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
        let mut c = [0; 10];
        let out = Output::I8 { out: MatMut::new(&mut c, 10, 1, 1), inv_scale: 1.0, zero_point: 10 };
        variant.run(out, Rows::new(&a, 10, 1, 1), &panels, &Epilogue::default());
        assert_eq!(c, want, "{}", variant.name);
    }
}

#[test]
fn packing_reads_any_strides_and_pads_with_zeros() {
    let (k, n) = (5, 19);
    let row_major: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
    let column_major: Vec<f32> = (0..k * n).map(|i| row_major[i % k * n + i / k]).collect();
    let (mut one, mut two) = (vec![9.0; 2 * PANEL * k], vec![9.0; 2 * PANEL * k]);
    pack_panels_f32(StridedMatrix { data: &row_major, k_stride: n, n_stride: 1 }, k, n, &mut one);
    pack_panels_f32(StridedMatrix { data: &column_major, k_stride: 1, n_stride: k }, k, n, &mut two);
    assert_eq!(one, two);
    assert_eq!(one[2 * PANEL + 3], row_major[2 * n + 3]);
    assert_eq!(one[k * PANEL + PANEL + 2], row_major[n + 18]);
    assert_eq!(one[k * PANEL + 3..][..13], [0.0; 13]);
}

#[test]
#[should_panic(expected = "panel elements for N = 17, K = 2")]
fn a_missing_panel_is_refused() {
    let mut c = [0.0; 17];
    scalar::VARIANT.run(
        MatMut::new(&mut c, 1, 17, 17),
        Rows::new(&[0.0; 2], 1, 2, 2),
        &[0.0; 32],
        &Epilogue::default(),
    );
}

#[test]
fn the_table_is_ordered_and_always_answers() {
    assert_eq!(select(Isa::Scalar).isa, Isa::Scalar);
    assert!(VARIANTS.is_sorted_by_key(|v| std::cmp::Reverse(v.isa)));
    assert!(select(Isa::detect()).isa <= Isa::detect());
}
