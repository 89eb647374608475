//! Every variant against dense products of the same weights with zeros, bit for bit; and lists of any bytes.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{self, Addend, ResidualOrder, Scale};
use crate::cpu::gemm_i8::{self, I8Panels, I8Rows};

/// A matrix of which some blocks are kept, and its lists.
struct Case {
    n: usize,
    /// Elements of a row.
    k: usize,
    block: usize,
    entries: usize,
    blocks: Vec<[u8; 2]>,
    /// Whether a panel keeps an element.
    mask: Vec<bool>,
}

impl Case {
    /// Of the blocks of K, each panel keeps some of `entries`; the rest of a list is `end`.
    fn new(random: &mut Random, n: usize, k: usize, block: usize, end: u16) -> Case {
        let (panels, all) = (n.div_ceil(PANEL), k / block);
        let entries = 1 + random.below(all.max(1) + 2);
        let (mut blocks, mut mask) = (Vec::new(), vec![false; panels * k]);
        for panel in 0..panels {
            let density = random.below(101);
            let kept: Vec<usize> = (0..all).filter(|_| random.below(100) < density).take(entries).collect();
            for &index in &kept {
                mask[panel * k + index * block..][..block].fill(true);
            }
            let last = kept.len();
            // Nothing ends with a block 0 but a list that has one.
            let end = if last == 0 { u16::MAX } else { end };
            blocks.extend(kept.into_iter().map(|index| (index as u16).to_le_bytes()));
            blocks.extend((last..entries).map(|_| end.to_le_bytes()));
        }
        Case { n, k, block, entries, blocks, mask }
    }

    fn kept(&self) -> Kept<'_> {
        Kept { blocks: &self.blocks, entries: self.entries, block: self.block }
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Values of all rows of the lists, and the dense panels `[K][16]` that they make.
    fn spread<T: Copy + Default>(&self, values: &[[T; PANEL]]) -> Vec<T> {
        let mut dense = vec![T::default(); self.panels() * self.k * PANEL];
        let rows = self.kept().rows();
        for panel in 0..self.panels() {
            for (entry, index) in self.kept().list(panel, self.k).enumerate() {
                for i in 0..self.block {
                    let to = (panel * self.k + index * self.block + i) * PANEL;
                    dense[to..to + PANEL].copy_from_slice(&values[panel * rows + entry * self.block + i]);
                }
            }
        }
        dense
    }
}

/// Rows of `k` elements: as they lie, or in runs.
fn rows<'a, T: Copy>(data: &'a [T], m: usize, k: usize, runs: usize, offset: usize) -> Rows<'a, T> {
    let len = k / runs;
    if runs * len != k || runs == 1 {
        return Rows::new(&data[offset..], m, k, k + 1);
    }
    let offsets: Vec<usize> = (0..runs).rev().map(|run| offset + run * (len + 3)).collect();
    Rows::windows(data, m, len, k + 3 * runs, &offsets)
}

/// The elements of such rows, dense.
fn gathered<T: Copy>(rows: Rows<'_, T>) -> Vec<T> {
    (0..rows.rows()).flat_map(|r| (0..rows.runs()).flat_map(move |i| rows.run(r, i)).copied()).collect()
}

fn shapes(random: &mut Random) -> Vec<(usize, usize, usize, usize)> {
    let mut shapes = vec![
        (1, 1, 1, 1),
        (1, 64, 40, 4),
        (2, 130, 64, 8),
        (3, 70, 33, 1),
        (12, 16, 24, 8),
        (13, 33, 30, 2),
        (25, 48, 7, 1),
        (196, 20, 96, 4),
        (0, 16, 8, 1),
        (4, 5, 4096, 8),
    ];
    for _ in 0..150 {
        let block = [1, 1, 2, 4, 8][random.below(5)];
        shapes.push((1 + random.below(30), 1 + random.below(150), block * (1 + random.below(40)), block));
    }
    shapes
}

fn epilogue<'a>(kind: usize, vector: &'a [f32], residual: Rows<'a, f32>) -> Epilogue<'a> {
    match kind % 3 {
        0 => Epilogue { scale: Scale::Uniform(0.003), ..Epilogue::default() },
        1 => Epilogue::default(),
        _ => Epilogue {
            scale: Scale::PerColumn(vector),
            bias: Some(vector),
            residual: Some((Addend::F32(residual), ResidualOrder::BeforeActivation)),
            act: Activation::HardSwish,
            factor: Some(vector),
        },
    }
}

#[test]
fn floats_have_the_bits_of_a_dense_product() {
    let mut random = Random::new(1);
    for (i, (m, n, k, block)) in shapes(&mut random).into_iter().enumerate() {
        let case = Case::new(&mut random, n, k, block, [0, u16::MAX, (k / block) as u16][i % 3]);
        let kept = case.kept();
        let values = random.floats(case.panels() * kept.rows() * PANEL);
        let dense = case.spread(values.as_chunks().0);
        assert!(
            dense.chunks(PANEL).zip(&case.mask).all(|(row, kept)| *kept || row.iter().all(|w| *w == 0.0))
        );
        let data = random.floats(m * (k + 24) + k + 60);
        let a = rows(&data, m, k, 1 + random.below(4), random.below(3));
        let (vector, residual) = (random.floats(n), random.floats(m * n));
        let epilogue = epilogue(i, &vector, Rows::new(&residual, m, n, n));
        let (mut want, x) = (vec![0.0; m * n], gathered(a));
        let x = Rows::new(&x, m, k, k);
        gemm_f32::select(Isa::Scalar).run(MatMut::new(&mut want, m, n, n), x, &dense, &epilogue);
        for v in report(F32_VARIANTS, |v| (v.name, v.isa)).into_iter().chain([&scalar::F32]) {
            let (mut got, mut places) = (vec![f32::NAN; m * n], vec![9; TOGETHER * kept.rows()]);
            v.run(MatMut::new(&mut got, m, n, n), a, kept, &values, &mut places, &epilogue);
            assert_same_bits(&got, &want, &format!("{} {m} x {n} x {k}, block {block}", v.name));
        }
    }
}

#[test]
fn integers_have_the_bits_of_a_dense_product() {
    let mut random = Random::new(2);
    for (i, (m, n, words, block)) in shapes(&mut random).into_iter().enumerate() {
        let k = words * FOUR;
        let case = Case::new(&mut random, n, words, block, [0, u16::MAX, (words / block) as u16][i % 3]);
        let kept = case.kept();
        let extreme = i % 4 == 0;
        let code = |random: &mut Random| if extreme { -127 } else { (random.next() as i8).max(-127) };
        let values: Vec<u32> = (0..case.panels() * kept.rows() * PANEL)
            .map(|_| u32::from_le_bytes([0; 4].map(|_| code(&mut random) as u8)))
            .collect();
        let dense = case.spread(values.as_chunks().0);
        // Words of the dense matrix as codes `[K/8][16][8]`, and their sums.
        let each = k.next_multiple_of(BLOCK) * PANEL;
        let (mut codes, mut sums) = (vec![0i8; case.panels() * each], vec![0; case.panels() * PANEL]);
        for (i, word) in dense.iter().enumerate() {
            let (panel, row, lane) = (i / (words * PANEL), i / PANEL % words, i % PANEL);
            for (j, code) in word.to_le_bytes().into_iter().enumerate() {
                let at = row * FOUR / BLOCK * PANEL * BLOCK + lane * BLOCK + row * FOUR % BLOCK + j;
                codes[panel * each + at] = code as i8;
                sums[panel * PANEL + lane] += i32::from(code as i8);
            }
        }
        let mut again = vec![0; words * PANEL];
        words_of_codes(loops::select(Isa::Scalar), &codes[..each], &mut again);
        assert_eq!(again, dense[..words * PANEL]);
        let scales = random.floats(case.panels() * PANEL);
        let mut bytes = random.codes(m * k);
        if extreme {
            bytes.fill(-128);
        }
        let zero_point = [0, -128, 127, 5, -77][i % 5];
        let (vector, residual) = (random.floats(n), random.floats(m * n));
        let epilogue = epilogue(i, &vector, Rows::new(&residual, m, n, n));
        let panels = I8Panels {
            codes: &codes,
            scales: &scales,
            colsum: &sums,
            k,
            group: k,
            half_offset: false,
            code_bits: 8,
        };
        let definition = gemm_i8::select(Isa::Scalar);
        let mut row_sums = vec![0; m];
        let x = Rows::new(&bytes, m, k, k);
        definition.row_sums(x, &panels, &mut row_sums);
        let x = I8Rows { rows: x, zero_point, row_sums: &row_sums };
        let (mut want, mut want_codes) = (vec![0.0; m * n], vec![0; m * n]);
        definition.run(MatMut::new(&mut want, m, n, n), x, &panels, &epilogue);
        definition.run(quantized(&mut want_codes, m, n), x, &panels, &epilogue);
        for v in report(I8_VARIANTS, |v| (v.name, v.isa)).into_iter().chain([&scalar::I8]) {
            let isa = loops::select(v.isa);
            let mut made = vec![0; m * words];
            for (row, made) in bytes.chunks(k).zip(made.chunks_mut(words)) {
                words_of_row(isa, row, made);
            }
            let x = Rows::new(&made, m, words, words);
            let w = I8Values { words: &values, scales: &scales, sums: &sums };
            let (mut got, mut got_codes) = (vec![f32::NAN; m * n], vec![1; m * n]);
            let mut places = vec![9; TOGETHER * kept.rows()];
            v.run(MatMut::new(&mut got, m, n, n), x, zero_point, kept, &w, &mut places, &epilogue);
            v.run(quantized(&mut got_codes, m, n), x, zero_point, kept, &w, &mut places, &epilogue);
            let what = format!("{} {m} x {n} x {k}, block {block}, zero {zero_point}", v.name);
            assert_same_bits(&got, &want, &what);
            assert_eq!(got_codes, want_codes, "{what}");
        }
    }
}

fn quantized(c: &mut [i8], m: usize, n: usize) -> Output<'_> {
    Output::I8 { out: MatMut::new(c, m, n, n), inv_scale: 3.0, zero_point: -5 }
}

#[test]
fn any_bytes_are_lists() {
    let mut random = Random::new(3);
    let list = |entries: &[u16], k| {
        let blocks: Vec<[u8; 2]> = entries.iter().map(|e| e.to_le_bytes()).collect();
        Kept { blocks: &blocks, entries: blocks.len(), block: 4 }.list(0, k).collect::<Vec<_>>()
    };
    assert_eq!(list(&[0, 2, 3, 3, 5], 40), [0, 2, 3]);
    assert_eq!(list(&[1, 0], 40), [1]);
    assert_eq!(list(&[3, 9, 10], 40), [3, 9]);
    assert_eq!(list(&[9, u16::MAX], 39), []);
    for _ in 0..200 {
        let (n, k, entries) = (1 + random.below(90), 1 + random.below(300), random.below(60));
        let (panels, block) = (n.div_ceil(PANEL), 1 + random.below(9));
        let blocks: Vec<[u8; 2]> =
            (0..panels * entries).map(|_| (random.below(k + 3) as u16).to_le_bytes()).collect();
        let kept = Kept { blocks: &blocks, entries, block };
        let (values, a) = (random.floats(panels * kept.rows() * PANEL), random.floats(5 * k));
        let a = Rows::new(&a, 5, k, k);
        let (epilogue, mut places) = (Epilogue::default(), vec![0; TOGETHER * kept.rows()]);
        let mut want = vec![0.0; 5 * n];
        scalar::F32.run(MatMut::new(&mut want, 5, n, n), a, kept, &values, &mut places, &epilogue);
        for v in F32_VARIANTS.iter().filter(|v| v.isa.supported()) {
            let mut got = vec![0.0; 5 * n];
            v.run(MatMut::new(&mut got, 5, n, n), a, kept, &values, &mut places, &epilogue);
            assert_same_bits(&got, &want, v.name);
        }
    }
}

#[test]
#[should_panic(expected = "room for places")]
fn too_little_room_is_refused() {
    let kept = Kept { blocks: &[[0, 0]], entries: 1, block: 1 };
    let (mut out, epilogue) = ([0.0; 4], Epilogue::default());
    let a = Rows::new(&[1.0], 1, 1, 1);
    select_f32(Isa::detect()).run(MatMut::new(&mut out, 1, 4, 4), a, kept, &[0.0; 16], &mut [], &epilogue);
}

#[test]
fn gathered_rows_are_what_a_panel_keeps() {
    let mut random = Random::new(4);
    for block in [1, 2, 3, 4, 8] {
        let case = Case::new(&mut random, 40, 24 * block, block, u16::MAX);
        let (kept, row) = (case.kept(), random.floats(case.k));
        for panel in 0..3 {
            let mut want = vec![7.0; kept.rows()];
            for (entry, index) in kept.list(panel, case.k).enumerate() {
                for i in 0..block {
                    want[entry * block + i] = row[index * block + i];
                }
            }
            let mut got = vec![0.0; kept.rows()];
            gather_f32(&kept, panel, &row, 7.0, &mut got);
            assert_eq!(got, want);
            let codes: Vec<i8> = row.iter().map(|x| (x * 100.0) as i8).collect();
            let (mut got, scaled) =
                (vec![0; kept.rows()], want.iter().map(|x| if *x == 7.0 { 7 } else { (x * 100.0) as i8 }));
            gather_i8(&kept, panel, &codes, 7, &mut got);
            assert!(got.into_iter().eq(scaled));
        }
    }
}
