//! Every variant against dense products of what is spread, bit for bit.

use super::super::gemm_f32::tests::{Random, assert_same_bits, report};
use super::super::gemm_f32::{self, Scale};
use super::super::gemm_i8::{self, I8Panels, I8Rows};
use super::super::{planes, spread};
use super::*;
use crate::MatMut;

#[test]
fn any_columns_at_a_time_give_the_bits_of_dense_products() {
    let mut random = Random::new(7);
    for i in 0..120 {
        let k = if i < 30 { 1 + i } else { 1 + random.below(300) };
        let (m, n, density) = (1 + i % MAX_ROWS, 1 + random.below(PANEL), [0, 10, 50, 100][random.below(4)]);
        let mask = |random: &mut Random| {
            (0..16).fold(0u16, |mask, _| mask << 1 | u16::from(random.below(100) < density)).to_le_bytes()
        };
        let masks: Vec<[u8; 2]> = (0..k).map(|_| mask(&mut random)).collect();
        let spare = random.below(3);
        let values = random.floats(count(&masks) + spare);
        let mut scales = [0.0; PANEL];
        scales.copy_from_slice(&random.floats(PANEL));
        let epilogue = Epilogue { scale: Scale::Uniform(0.25), ..Epilogue::default() };
        let scalar = spread::select(Isa::Scalar);
        // In pieces of some blocks.
        let step = BLOCK * (1 + random.below(6));
        let pieces = || {
            masks.chunks(step).enumerate().map(|(i, own)| {
                let before = count(&masks[..i * step]);
                Columns { first: i * step, masks: own, values: &values[before..] }
            })
        };
        for v in report(VARIANTS, |v| (v.name, v.isa)).into_iter().filter(|v| v.supported()) {
            let what = format!("{} {m} x {n} of {k}, {density} %", v.name);
            let rows = m.min(MAX_FLOAT_ROWS);
            let x = random.floats(rows * k);
            let x = Rows::new(&x, rows, k, k);
            let mut dense = vec![0.0; k * PANEL];
            scalar.bits(&masks, &values, &scales, &mut dense);
            let (mut want, mut got) = (vec![0.0; rows * n], vec![f32::NAN; rows * n]);
            gemm_f32::select(Isa::Scalar).run(MatMut::new(&mut want, rows, n, n), x, &dense, &epilogue);
            let mut sums = Sums::default();
            pieces().for_each(|columns| v.add_f32(columns, &scales, x, &mut sums));
            v.finish(&sums, MatMut::new(&mut got, rows, n, n), None, &epilogue);
            assert_same_bits(&got, &want, &what);

            let x = random.codes(m * k);
            let x = Rows::new(&x, m, k, k);
            let (zero_point, whole) = ([0, -128, 127, 5][random.below(4)], k.next_multiple_of(BLOCK));
            let (mut codes, mut colsum) = (vec![0; whole * PANEL], [0; PANEL]);
            scalar.bits_codes(&masks, &values, &mut codes);
            planes::select(Isa::Scalar).group_sums(&codes, k, k, false, &mut colsum);
            let w = I8Panels {
                codes: &codes,
                scales: &scales,
                colsum: &colsum,
                k,
                group: k,
                half_offset: false,
                code_bits: 8,
            };
            let (multiply, mut row_sums) = (gemm_i8::select(Isa::Scalar), vec![0; m]);
            multiply.row_sums(x, &w, &mut row_sums);
            let (mut want, mut got) = (vec![0.0; m * n], vec![f32::NAN; m * n]);
            let rows = I8Rows { rows: x, zero_point, row_sums: &row_sums };
            multiply.run(MatMut::new(&mut want, m, n, n), rows, &w, &epilogue);
            let mut filled = vec![0; m * whole];
            for (r, to) in filled.chunks_mut(whole).enumerate() {
                super::super::gemv_planes::few::fill_row(x.row(r), zero_point, to);
            }
            let mut sums = Sums::default();
            let filled = Rows::new(&filled, m, whole, whole);
            pieces().for_each(|columns| v.add_i8(columns, filled, &mut sums));
            v.finish(&sums, MatMut::new(&mut got, m, n, n), Some((&scales, zero_point)), &epilogue);
            assert_same_bits(&got, &want, &what);
        }
    }
}
