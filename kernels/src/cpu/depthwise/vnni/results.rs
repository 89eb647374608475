//! What follows the sums.

use std::arch::x86_64::{
    _mm_loadu_si128, _mm_mask_storeu_epi8, _mm_storeu_si128, _mm256_storeu_si256, _mm512_castps_si512,
    _mm512_castsi512_si256, _mm512_cvtepi32_ps, _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_storeu_ps,
    _mm512_storeu_si512,
};

use super::super::super::gemm_f32::epilogue_avx512::finish;
use super::super::super::tile::Aligned;
use super::super::{PANEL, Task};
use super::group::Group;
use super::{GROUP, Tile, exchange, load};

/// What follows the sums of `count` pixels, of the output rows and columns from `(oy, ox)` on.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
pub(super) fn store(
    task: &mut Task<'_, i8, i16>,
    group: &Group,
    (oy, ox): (usize, usize),
    count: usize,
    y: &mut Tile,
) {
    let s = task.shape;
    // Output rows that are there, those of quarters so many apart; the result's row of each.
    let apart = group.sizes.rows;
    let there = group.together().min((task.part.rows.end - oy).div_ceil(apart));
    let row = |t: usize| (oy + t * apart - task.part.rows.start) * s.ow + ox;
    let Some(codes) = &group.codes else {
        let [a, b, c, d] = &mut *y;
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d).take(count) {
            let blocks = exchange([load(a), load(b), load(c), load(d)]);
            for (to, block) in [a, b, c, d].into_iter().zip(blocks) {
                let real = _mm512_cvtepi32_ps(_mm512_castps_si512(block));
                // SAFETY: 16 floats.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), real) };
            }
        }
        for (i, y) in y.iter_mut().enumerate().take(there * group.blocks) {
            let row = row(i / group.blocks);
            finish(task.epilogue, &mut task.out, row, &group.columns[i], &mut y[..count]);
        }
        return;
    };
    let scale = group.scale.0.each_ref().map(|lanes| load(lanes));
    let bias = group.bias.0.each_ref().map(|lanes| load(lanes));
    let [a, b, c, d] = &*y;
    for (p, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate().take(count) {
        let value = |sums: &[f32; PANEL], i: usize| {
            let sum = _mm512_cvtepi32_ps(_mm512_castps_si512(load(sums)));
            _mm512_fmadd_ps(sum, scale[i], bias[i])
        };
        let values = [value(a, 0), value(b, 1), value(c, 2), value(d, 3)];
        let made = codes.of_values(values);
        let at = codes.at(row(0) + p, group.first);
        // SAFETY: the channels of the group, in the rows of the result that are there.
        unsafe {
            match (group.channels, there) {
                (GROUP, _) => _mm512_storeu_si512(at.cast(), made),
                (32, 2) => {
                    let next = codes.at(row(1) + p, group.first);
                    _mm256_storeu_si256(at.cast(), _mm512_castsi512_si256(made));
                    _mm256_storeu_si256(next.cast(), _mm512_extracti64x4_epi64::<1>(made));
                }
                _ => {
                    let Aligned(bytes) = &mut Aligned([0i8; GROUP]);
                    _mm512_storeu_si512(bytes.as_mut_ptr().cast(), made);
                    for i in 0..there * group.blocks {
                        let (t, block) = (i / group.blocks, i % group.blocks);
                        let to = codes.at(row(t) + p, group.first + block * PANEL);
                        let part = _mm_loadu_si128(bytes.as_ptr().add(i * PANEL).cast());
                        match group.channels - block * PANEL {
                            PANEL.. => _mm_storeu_si128(to.cast(), part),
                            valid => _mm_mask_storeu_epi8(to, ((1u32 << valid) - 1) as u16, part),
                        }
                    }
                }
            }
        }
    }
}
