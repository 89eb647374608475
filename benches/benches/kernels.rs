//! Kernels at the shapes of real layers, every variant that this CPU runs, against the machine's measured limits.

use criterion::{Criterion, criterion_group, criterion_main};
use edge_benches::{Against, Aligned, Machine, Work, codes, floats, zeros};
use edge_kernels::cpu::activation::Activation;
use edge_kernels::cpu::depthwise::{self, DepthwiseShape, I8Image, Part};
use edge_kernels::cpu::elementwise::{BinaryOp, Broadcast, InOut, UnaryOp, binary, unary};
use edge_kernels::cpu::gemm_f32::{self, Epilogue, Output, PANEL, Rows};
use edge_kernels::cpu::gemm_i8::{self, BLOCK, I8Panels, I8Rows};
use edge_kernels::cpu::gemm_u8::{self, FOUR, U8Panels};
use edge_kernels::cpu::gemv_half::{self, Half, HalfPanels};
use edge_kernels::cpu::gemv_planes::{self, MAX_PLANES, PlanePanels, Split, StoredScales};
use edge_kernels::cpu::loops;
use edge_kernels::cpu::softmax::{Softmax, softmax};
use edge_kernels::{Isa, MatMut};
use std::hint::black_box;

/// M, N, K of matrix products.
const PRODUCTS: [(&str, usize, usize, usize); 7] = [
    ("efficientnet-lite0 expand 56x56x24 to 144", 3136, 144, 24),
    ("efficientnet-lite0 head 7x7x320 to 1280", 49, 1280, 320),
    ("minilm feed-forward 128 tokens", 128, 1536, 384),
    ("ppocr-rec classifier 40 columns", 40, 6625, 120),
    ("ppocr-det 3x3 at 40x40x96 to 24", 1600, 24, 864),
    ("efficientnet-lite0 project 56x56x144 to 40", 3136, 40, 144),
    ("lstm step, one row", 1, 512, 128),
];

/// Height and width, channels, kernel, stride.
const DEPTHWISE: [(&str, usize, usize, usize, usize); 5] = [
    ("efficientnet-lite0 112x112x32 3x3", 112, 32, 3, 1),
    ("efficientnet-lite0 56x56x144 5x5 stride 2", 56, 144, 5, 2),
    ("efficientnet-lite0 14x14x480 5x5", 14, 480, 5, 1),
    ("efficientnet-lite0 7x7x1152 5x5", 7, 1152, 5, 1),
    ("efficientnet-lite0 112x112x96 3x3 stride 2", 112, 96, 3, 2),
];

fn products(c: &mut Criterion, machine: &Machine) {
    let mut group = Against::new(c.benchmark_group("gemm_f32"), machine);
    for (shape, m, n, k) in PRODUCTS {
        // As a layer has it: sums alone would take a shorter way.
        let bias = floats(n);
        let epilogue = Epilogue { bias: Some(&bias), act: Activation::Relu, ..Epilogue::default() };
        let (a, panels) = (floats(m * k), floats(n.div_ceil(PANEL) * PANEL * k));
        let mut out = zeros::<f32>(m * n);
        for variant in gemm_f32::VARIANTS.iter().filter(|v| v.isa.supported()) {
            let work = Work::Operations(2 * (m * n * k) as u64);
            group.bench(&format!("{} {shape}", variant.name), work, || {
                let out = MatMut::new(black_box(&mut out), m, n, n);
                variant.run(out, Rows::new(black_box(&a), m, k, k), black_box(&panels), &epilogue);
            });
            assert!(out.iter().all(|y| y.is_finite()));
        }
    }
    group.finish();

    let mut group = Against::new(c.benchmark_group("gemm_i8"), machine);
    let epilogue = Epilogue::default();
    // A scale for 32 weights, and one for a whole row.
    let sizes = |k: usize| if k.is_multiple_of(32) { vec![32, k] } else { vec![k] };
    let all = PRODUCTS
        .into_iter()
        .flat_map(|(shape, m, n, k)| sizes(k).into_iter().map(move |g| (shape, m, n, k, g)));
    for (shape, m, n, k, group_size) in all {
        let shape = format!("{shape}, groups of {group_size}");
        let (columns, groups) = (n.div_ceil(PANEL) * PANEL, k.div_ceil(group_size));
        let x = codes(m * k);
        let mut w = zeros::<i8>(columns * k.div_ceil(BLOCK) * BLOCK);
        let blocks = w.chunks_exact_mut(k.div_ceil(BLOCK) * PANEL * BLOCK);
        blocks.for_each(|panel| {
            let whole = k / BLOCK * PANEL * BLOCK;
            panel[..whole].copy_from_slice(&codes(whole));
        });
        let scales = vec![0.01; columns * groups];
        let colsum = vec![7; columns * groups];
        let mut out = zeros::<i8>(m * n);
        for variant in gemm_i8::VARIANTS.iter().filter(|v| v.isa.supported()) {
            let panels = I8Panels {
                codes: &w,
                scales: &scales,
                colsum: &colsum,
                k,
                group: group_size,
                half_offset: true,
                code_bits: 8,
            };
            let mut row_sums = vec![0; m * groups];
            variant.row_sums(Rows::new(&x, m, k, k), &panels, &mut row_sums);
            let work = Work::OperationsI8(2 * (m * n * k) as u64);
            let ran = group.bench(&format!("{} {shape}", variant.name), work, || {
                let rows = Rows::new(black_box(&x), m, k, k);
                let rows = I8Rows { rows, zero_point: 3, row_sums: &row_sums };
                let out = MatMut::new(black_box(&mut out), m, n, n);
                let out = Output::I8 { out, inv_scale: 0.02, zero_point: -5 };
                variant.run(out, rows, black_box(&panels), &epilogue);
            });
            assert!(!ran || out.iter().any(|y| *y != out[0]));
        }
    }
    group.finish();

    let mut group = Against::new(c.benchmark_group("gemm_u8"), machine);
    for (shape, m, n, k) in PRODUCTS {
        let (columns, words) = (n.div_ceil(PANEL) * PANEL, k.div_ceil(FOUR));
        let (x, w) = (codes(m * k), codes(columns * words.next_multiple_of(2) * FOUR));
        let (scales, sums, mut out) = (vec![0.01; columns], vec![7; columns], zeros::<i8>(m * n));
        for variant in gemm_u8::VARIANTS.iter().filter(|v| v.isa.supported()) {
            let (mut rows, mut panels) = (zeros::<u32>(m * words), zeros::<u32>(columns * words));
            for (x, row) in x.chunks_exact(k).zip(rows.chunks_exact_mut(words)) {
                variant.words_of_row(x, row);
            }
            let panel = words * PANEL;
            let each = w.chunks_exact(words.next_multiple_of(2) * FOUR * PANEL);
            for (codes, panel) in each.zip(panels.chunks_exact_mut(panel)) {
                variant.words_of_codes(codes, panel);
            }
            let work = Work::OperationsI8(2 * (m * n * k) as u64);
            let ran = group.bench(&format!("{} {shape}", variant.name), work, || {
                let panels = U8Panels { words: black_box(&panels), scales: &scales, sums: &sums };
                let out = MatMut::new(black_box(&mut out), m, n, n);
                let out = Output::I8 { out, inv_scale: 0.02, zero_point: -5 };
                variant.run(out, Rows::new(black_box(&rows), m, words, words), 3, &panels, &epilogue);
            });
            assert!(!ran || out.iter().any(|y| *y != out[0]));
        }
    }
    group.finish();
}

/// A number of about 1 in f16, and a small one in bf16.
fn half_of(code: i8) -> [u8; 2] {
    (0x3c00 + u16::from(code as u8)).to_le_bytes()
}

/// Few rows times a matrix that no cache holds: bound by reading it.
fn skinny(c: &mut Criterion, machine: &Machine) {
    const N: usize = 16_384;
    const K: usize = 4096;
    const GROUP: usize = 32;
    let mut group = Against::new(c.benchmark_group("gemv"), machine);
    let epilogue = Epilogue::default();
    let panels = floats(N * K);
    for m in [1, 4] {
        let (a, mut out) = (floats(m * K), zeros::<f32>(m * N));
        let variants = gemm_f32::VARIANTS.iter().filter(|v| v.isa.supported() && v.isa != Isa::Scalar);
        for variant in variants {
            let work = Work::Bytes(4 * (N * K) as u64);
            group.bench(&format!("{} {m} rows, {N} x {K}", variant.name), work, || {
                let out = MatMut::new(black_box(&mut out), m, N, N);
                variant.run(out, Rows::new(black_box(&a), m, K, K), black_box(&panels), &epilogue);
            });
        }
    }
    drop(panels);
    let (w, groups) = (codes(N * K), K / GROUP);
    let (scales, colsum) = (vec![0.01; N * groups], vec![7; N * groups]);
    let panels = I8Panels {
        codes: &w,
        scales: &scales,
        colsum: &colsum,
        k: K,
        group: GROUP,
        half_offset: true,
        code_bits: 8,
    };
    for m in [1, 4] {
        let (x, mut out) = (codes(m * K), zeros::<f32>(m * N));
        let variants = gemm_i8::VARIANTS.iter().filter(|v| v.isa.supported() && v.isa != Isa::Scalar);
        for variant in variants {
            let mut row_sums = vec![0; m * groups];
            variant.row_sums(Rows::new(&x, m, K, K), &panels, &mut row_sums);
            // A byte a weight, a scale and a sum a group.
            let work = Work::Bytes((N * K + 8 * N * groups) as u64);
            group.bench(&format!("{} {m} rows, {N} x {K}, groups of {GROUP}", variant.name), work, || {
                let rows =
                    I8Rows { rows: Rows::new(black_box(&x), m, K, K), zero_point: 3, row_sums: &row_sums };
                let out = MatMut::new(black_box(&mut out), m, N, N);
                variant.run(out, rows, black_box(&panels), &epilogue);
            });
        }
    }
    let halves: Vec<u8> = w.iter().flat_map(|q| half_of(*q)).collect();
    for kind in [Half::F16, Half::Bf16] {
        let panels = HalfPanels { kind, bytes: &halves, k: K };
        for m in [1, 4] {
            let (x, mut c) = (floats(m * K), zeros::<f32>(m * N));
            for variant in gemv_half::VARIANTS.iter().filter(|v| v.isa.supported()) {
                let name = format!("{} {m} rows, {N} x {K}, {kind:?}", variant.name);
                group.bench(&name, Work::Bytes(2 * (N * K) as u64), || {
                    let out = MatMut::new(&mut c, m, N, N);
                    variant.run(out, Rows::new(&x, m, K, K), &panels, &Epilogue::default());
                });
            }
        }
    }
    // As a pack holds them: 4 and 8 bits in planes of 2, a scale of f16 for 32.
    let bytes: Vec<u8> = w.iter().map(|q| *q as u8).collect();
    let stored = vec![0x3c; 2 * N * groups];
    for split in [Split::TwoTwos, Split::FourTwos] {
        let mut planes = [&bytes[..0]; MAX_PLANES];
        for (to, plane) in planes.iter_mut().zip(bytes.chunks(N * K / 4)).take(split.bits() as usize / 2) {
            *to = plane;
        }
        for one_scale in [false, true] {
            let panels = PlanePanels {
                split,
                planes,
                scales: StoredScales::F16(&stored),
                gain: 1.0,
                step: 1.0 / (1 << split.bits()) as f32,
                k: K,
                group: GROUP,
                one_scale,
                odd: true,
            };
            for m in [1, 4] {
                let (x, mut c) = (floats(m * K), vec![0.0; m * N]);
                let variants = gemv_planes::FLOAT_VARIANTS.iter().filter(|v| v.isa.supported() && !one_scale);
                for variant in variants {
                    let work = Work::Bytes((N * K * split.bits() as usize / 8 + 2 * N * groups) as u64);
                    let name = format!("{} {m} rows, {N} x {K}, {} bits", variant.name, split.bits());
                    group.bench(&name, work, || {
                        let out = MatMut::new(&mut c, m, N, N);
                        variant.run(out, Rows::new(&x, m, K, K), &panels, &Epilogue::default());
                    });
                }
            }
            for m in [1, 4] {
                let x = codes(m * K);
                let x = Rows::new(&x, m, K, K);
                let mut c = vec![0.0; m * N];
                let mut sums = vec![0; m * groups];
                gemm_i8::select(Isa::detect()).group_sums(x, GROUP, 1, &mut sums);
                let sums = if one_scale { &[][..] } else { &sums };
                for variant in gemv_planes::VARIANTS.iter().filter(|v| v.isa.supported()) {
                    let work = Work::Bytes((N * K * split.bits() as usize / 8 + 2 * N * groups) as u64);
                    let of = if one_scale { "column" } else { "group" };
                    let name = format!(
                        "{} {m} rows, {N} x {K}, {} bits, a scale a {of}",
                        variant.name,
                        split.bits()
                    );
                    group.bench(&name, work, || {
                        let out = MatMut::new(&mut c, m, N, N);
                        variant.run(out, x, 3, sums, &panels, &Epilogue::default());
                    });
                }
            }
        }
    }
    group.finish();
}

fn depthwise(c: &mut Criterion, machine: &Machine) {
    let mut group = Against::new(c.benchmark_group("depthwise"), machine);
    let epilogue = Epilogue { act: Activation::Clip { lo: 0.0, hi: 6.0 }, ..Epilogue::default() };
    for (name, side, channels, kernel, stride) in DEPTHWISE {
        let out_side = side.div_ceil(stride);
        let shape = DepthwiseShape {
            h: side,
            w: side,
            c: channels,
            kh: kernel,
            kw: kernel,
            stride_h: stride,
            stride_w: stride,
            dil_h: 1,
            dil_w: 1,
            pad_top: (kernel - 1) / 2,
            pad_left: (kernel - 1) / 2,
            oh: out_side,
            ow: out_side,
        };
        let part = Part { rows: 0..out_side, channels: 0..channels };
        let (pixels, taps) = (out_side * out_side, kernel * kernel);
        let work = Work::Operations(2 * (pixels * channels * taps) as u64);
        let weights = channels.div_ceil(PANEL) * taps * PANEL;

        let (image, w) = (floats(side * side * channels), floats(weights));
        let mut out = zeros::<f32>(pixels * channels);
        for variant in depthwise::F32_VARIANTS.iter().filter(|v| v.isa.supported()) {
            group.bench(&format!("{} {name}", variant.name), work, || {
                let out = MatMut::new(black_box(&mut out), pixels, channels, channels);
                variant.run(out, &shape, &part, black_box(&image), black_box(&w), &epilogue);
            });
        }
        let (image, w) = (codes(side * side * channels), codes(weights));
        let mut out = zeros::<i8>(pixels * channels);
        for (kind, factor, offset) in [("8 bits", 1, 0), ("odd numbers of 9 bits", 2, 1)] {
            let w = Aligned::new(w.len(), |i| factor * i16::from(w[i].max(-127)) + offset);
            for variant in depthwise::I8_VARIANTS.iter().filter(|v| v.isa.supported()) {
                group.bench(&format!("{} {name}, {kind}", variant.name), work, || {
                    let out = MatMut::new(black_box(&mut out), pixels, channels, channels);
                    let out = Output::I8 { out, inv_scale: 0.02, zero_point: -5 };
                    let image = I8Image { codes: black_box(&image), zero_point: 3 };
                    variant.run(out, &shape, &part, image, black_box(&w), &epilogue);
                });
            }
        }
    }
    group.finish();
}

fn elementwise(c: &mut Criterion, machine: &Machine) {
    // A map of 56 x 56 x 144: 1.8 MB, more than a second-level cache; and a row of it.
    const LEN: usize = 56 * 56 * 144;
    let mut group = Against::new(c.benchmark_group("elementwise"), machine);
    let (a, b, row) = (floats(LEN), floats(LEN), floats(144));
    let mut out = zeros::<f32>(LEN);
    for variant in loops::supported().filter(|variant| !variant.wide()) {
        let isa = variant.isa();
        for (name, op) in [
            ("relu6", UnaryOp::Activation(Activation::Clip { lo: 0.0, hi: 6.0 })),
            ("sigmoid", UnaryOp::Activation(Activation::Sigmoid)),
            ("gelu", UnaryOp::Activation(Activation::Gelu)),
            ("exp", UnaryOp::Exp),
        ] {
            group.bench(&format!("{name}__{isa} 56x56x144"), Work::Bytes(8 * LEN as u64), || {
                unary(variant, op, InOut::Apart(black_box(&a), black_box(&mut out)));
            });
        }
        let same = Broadcast::new([&[LEN], &[LEN]]).expect("equal shapes");
        group.bench(&format!("add__{isa} 56x56x144"), Work::Bytes(12 * LEN as u64), || {
            binary(variant, BinaryOp::Add, &same, black_box(&a), &b, black_box(&mut out));
        });
        let rows = Broadcast::new([&[56 * 56, 144], &[144]]).expect("a row for every pixel");
        group.bench(&format!("mul by a row__{isa} 56x56x144"), Work::Bytes(8 * LEN as u64), || {
            binary(variant, BinaryOp::Mul, &rows, black_box(&a), &row, black_box(&mut out));
        });
    }
    group.finish();

    let mut group = Against::new(c.benchmark_group("softmax"), machine);
    for (name, rows, n) in [("minilm attention 12 x 128 rows", 1536, 128), ("1000 classes", 1, 1000)] {
        let x = floats(rows * n);
        let mut out = zeros::<f32>(rows * n);
        for variant in loops::supported() {
            let ran = group.bench(
                &format!("{} {name}", variant.name()),
                Work::Bytes(8 * (rows * n) as u64),
                || {
                    let io = InOut::Apart(black_box(&x), black_box(&mut out));
                    softmax(variant, Softmax::Softmax, [rows, n, 1], io);
                },
            );
            assert!(!ran || out.chunks(n).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-4));
        }
    }
    group.finish();
}

fn kernels(c: &mut Criterion) {
    let machine = Machine::measure();
    println!("{machine}");
    products(c, &machine);
    skinny(c, &machine);
    depthwise(c, &machine);
    elementwise(c, &machine);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = kernels
}
criterion_main!(benches);
