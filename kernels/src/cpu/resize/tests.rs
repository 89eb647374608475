use super::*;
use crate::cpu::loops::supported;

fn spec(input: usize, output: usize, coordinates: Coordinates, interpolation: Interpolation) -> AxisSpec {
    AxisSpec { input, output, scale: None, coordinates, interpolation }
}

fn tables(spec: &AxisSpec) -> (Vec<u32>, Vec<f32>) {
    let (mut indices, mut weights) = (vec![0; spec.table_len()], vec![0.0; spec.table_len()]);
    spec.fill(&mut indices, &mut weights);
    (indices, weights)
}

fn line(spec: &AxisSpec, x: &[f32]) -> Vec<f32> {
    let (indices, weights) = tables(spec);
    let table = AxisTable::new(spec, &indices, &weights);
    let all: Vec<Vec<f32>> = supported()
        .map(|v| {
            let mut y = vec![9.0; spec.output];
            resize_axis(v, &table, 1, 1, x, &mut y);
            y
        })
        .collect();
    assert!(all.iter().all(|y| y == &all[0]));
    all[0].clone()
}

#[test]
fn nearest_modes_differ_at_ties() {
    let pick = |nearest, coordinates, input, output| {
        tables(&spec(input, output, coordinates, Interpolation::Nearest(nearest))).0
    };
    // Coordinates 0.5, 2.5.
    assert_eq!(pick(Nearest::Floor, Coordinates::HalfPixel, 4, 2), [0, 2]);
    assert_eq!(pick(Nearest::Ceil, Coordinates::HalfPixel, 4, 2), [1, 3]);
    assert_eq!(pick(Nearest::RoundPreferFloor, Coordinates::HalfPixel, 4, 2), [0, 2]);
    assert_eq!(pick(Nearest::RoundPreferCeil, Coordinates::HalfPixel, 4, 2), [1, 3]);
    // Coordinates -0.25, 0.25, 0.75, 1.25: the first is outside.
    assert_eq!(pick(Nearest::Floor, Coordinates::HalfPixel, 2, 4), [0, 0, 0, 1]);
    assert_eq!(pick(Nearest::Ceil, Coordinates::HalfPixel, 2, 4), [0, 1, 1, 1]);
    assert_eq!(pick(Nearest::RoundPreferFloor, Coordinates::HalfPixel, 2, 4), [0, 0, 1, 1]);
    assert_eq!(pick(Nearest::Floor, Coordinates::Asymmetric, 2, 4), [0, 0, 1, 1]);
    assert_eq!(pick(Nearest::RoundPreferFloor, Coordinates::AlignCorners, 4, 3), [0, 1, 3]);
    assert_eq!(pick(Nearest::RoundPreferCeil, Coordinates::AlignCorners, 4, 3), [0, 2, 3]);
}

#[test]
fn coordinate_modes_by_their_formulas() {
    let at = |coordinates, input, output, scale| {
        let spec = AxisSpec { scale, ..spec(input, output, coordinates, Interpolation::Linear) };
        let ramp: Vec<f32> = (0..input).map(|i| i as f32).collect();
        line(&spec, &ramp) // of a ramp, linear interpolation gives the coordinate itself
    };
    assert_eq!(at(Coordinates::HalfPixel, 2, 4, None), [0.0, 0.25, 0.75, 1.0]);
    assert_eq!(at(Coordinates::Asymmetric, 4, 2, None), [0.0, 2.0]);
    assert_eq!(at(Coordinates::AlignCorners, 3, 5, None), [0.0, 0.5, 1.0, 1.5, 2.0]);
    assert_eq!(at(Coordinates::AlignCorners, 3, 1, None), [0.0]);
    assert_eq!(at(Coordinates::PytorchHalfPixel, 4, 1, None), [0.0]);
    assert_eq!(at(Coordinates::HalfPixel, 4, 1, None), [1.5]);
    assert_eq!(at(Coordinates::PytorchHalfPixel, 4, 2, None), [0.5, 2.5]);
    // 4 * 0.6 = 2.4 elements cut to 2: the symmetric form keeps the centre at 1.5.
    let symmetric = at(Coordinates::HalfPixelSymmetric, 4, 2, Some(0.6));
    assert!((symmetric[0] + symmetric[1] - 3.0).abs() < 1e-5, "{symmetric:?}");
    assert!((at(Coordinates::HalfPixel, 4, 2, Some(0.6))[1] - 2.0).abs() < 1e-6);
}

#[test]
fn cubic_weights_are_keys_kernel() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let cubic = |exclude_outside| Interpolation::Cubic { a: -0.75, exclude_outside };
    let (_, weights) = tables(&spec(4, 8, Coordinates::HalfPixel, cubic(false)));
    // The kernel at distances 7/4, 3/4, 1/4, 5/4, in 256ths; odd results lie at the mirrored phase.
    for (o, row) in weights.chunks_exact(4).enumerate() {
        let want = if o % 2 == 0 { [-9.0, 67.0, 225.0, -27.0] } else { [-27.0, 225.0, 67.0, -9.0] };
        assert_eq!(row, want.map(|w| w / 256.0));
    }
    // The first result: its outer neighbours are the edge element, so 1 * (256 + 27) / 256 - 2 * 27 / 256.
    let got = line(&spec(4, 8, Coordinates::HalfPixel, cubic(false)), &x);
    assert_eq!((got[0], got[7]), (229.0 / 256.0, 5.0 - 229.0 / 256.0));
    let a_half = Interpolation::Cubic { a: -0.5, exclude_outside: true };
    let got = line(&spec(4, 8, Coordinates::HalfPixel, a_half), &x);
    assert!((got[3] + got[4] - 5.0).abs() < 1e-5 && got[0] < 1.0 && got.is_sorted(), "{got:?}");
    let (indices, weights) = tables(&spec(4, 8, Coordinates::HalfPixel, a_half));
    assert_eq!((indices[0], weights[0], weights[1]), (0, 0.0, 0.0), "outside the edge");
}

#[test]
fn axes_apply_one_after_the_other() {
    let interpolations = [
        Interpolation::Nearest(Nearest::Floor),
        Interpolation::Linear,
        Interpolation::Cubic { a: -0.75, exclude_outside: false },
    ];
    let (h, w, c, out_h, out_w) = (5, 7, 3, 8, 4);
    let x: Vec<f32> = (0..2 * h * w * c).map(|i| (i * 37 % 50) as f32).collect();
    for interpolation in interpolations {
        let (rows, cols) = (
            spec(h, out_h, Coordinates::HalfPixel, interpolation),
            spec(w, out_w, Coordinates::HalfPixel, interpolation),
        );
        let (row_tables, col_tables) = (tables(&rows), tables(&cols));
        let row_table = AxisTable::new(&rows, &row_tables.0, &row_tables.1);
        let col_table = AxisTable::new(&cols, &col_tables.0, &col_tables.1);
        for v in supported() {
            let mut wide = vec![0.0; 2 * out_h * w * c];
            resize_axis(v, &row_table, 2, w * c, &x, &mut wide);
            let mut y = vec![0.0; 2 * out_h * out_w * c];
            resize_axis(v, &col_table, 2 * out_h, c, &wide, &mut y);
            for (i, y) in y.iter().enumerate() {
                let (k, ox) = (i % c, i / c % out_w);
                let (oy, image) = (i / c / out_w % out_h, i / c / out_w / out_h);
                let (iy, wy) = row_table.row(oy);
                let (ix, wx) = col_table.row(ox);
                let want: f64 = (0..iy.len() * ix.len())
                    .map(|t| {
                        let (a, b) = (t / ix.len(), t % ix.len());
                        let pixel = (image * h + iy[a] as usize) * w + ix[b] as usize;
                        f64::from(wy[a]) * f64::from(wx[b]) * f64::from(x[pixel * c + k])
                    })
                    .sum();
                assert!((f64::from(*y) - want).abs() < 1e-4, "{interpolation:?} at {i}: {y}, want {want}");
            }
            if row_table.taps() == 1 {
                let mut fused = vec![0.0; y.len()];
                resize_nearest_2d(&row_table, &col_table, 2, c, &x, &mut fused);
                assert_eq!(fused, y);
            }
        }
    }
}

#[test]
fn bytes_are_rounded_once_and_nearest_is_exact() {
    let linear = spec(2, 4, Coordinates::HalfPixel, Interpolation::Linear);
    let (indices, weights) = tables(&linear);
    let table = AxisTable::new(&linear, &indices, &weights);
    let nearest = spec(3, 5, Coordinates::Asymmetric, Interpolation::Nearest(Nearest::Floor));
    let (indices, ones) = tables(&nearest);
    let nearest = AxisTable::new(&nearest, &indices, &ones);
    for v in supported() {
        let mut y = [0i8; 8];
        resize_axis(v, &table, 1, 2, &[-128i8, 10, 127, 12], &mut y);
        assert_eq!(y, [-128, 10, -64, 10, 63, 12, 127, 12]); // -64.25, 10.5, 63.25, 11.5
        let mut middle = [0f32; 4];
        resize_axis(v, &table, 1, 1, &[0u8, 255], &mut middle);
        assert_eq!(middle, [0.0, 63.75, 191.25, 255.0]);
        let mut y = [0u8; 5];
        resize_axis(v, &nearest, 1, 1, &[7u8, 255, 0], &mut y);
        assert_eq!(y, [7, 7, 255, 255, 0]);
        resize_axis::<f32, f32>(v, &table, 0, 3, &[], &mut []);
    }
}

#[test]
fn a_part_of_the_results_needs_a_part_of_the_operand() {
    let how = [
        Interpolation::Nearest(Nearest::Floor),
        Interpolation::Linear,
        Interpolation::Cubic { a: -0.75, exclude_outside: false },
    ];
    for (input, output) in [(7, 14), (9, 4), (5, 23)] {
        for interpolation in how {
            let spec =
                AxisSpec { input, output, scale: None, coordinates: Coordinates::HalfPixel, interpolation };
            let (mut indices, mut weights) = (vec![0; spec.table_len()], vec![0.0; spec.table_len()]);
            spec.fill(&mut indices, &mut weights);
            let table = AxisTable::new(&spec, &indices, &weights);
            let x: Vec<f32> = (0..input * 3).map(|i| (i as f32 * 0.7).sin()).collect();
            let v = crate::cpu::loops::select(crate::Isa::detect());
            let mut whole = vec![0.0; output * 3];
            resize_axis(v, &table, 1, 3, &x, &mut whole);
            for start in 0..output {
                for end in start + 1..=output {
                    let span = table.span(start..end);
                    let mut part = vec![0.0; (end - start) * 3];
                    let table = table.part(start..end, span.clone());
                    resize_axis(v, &table, 1, 3, &x[span.start * 3..span.end * 3], &mut part);
                    assert_eq!(part, whole[start * 3..end * 3], "{spec:?} {start}..{end}");
                }
            }
        }
    }
}
