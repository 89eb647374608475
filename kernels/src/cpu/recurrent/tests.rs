use super::*;
use crate::cpu::loops::supported;

const N: usize = 19;

fn floats(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 4_194_304.0 - 2.0
        })
        .collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn near(got: &[f32], want: impl Iterator<Item = f64>) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() < 1e-6, "at {i}: {got}, want {want}");
    }
}

#[test]
fn lstm_follows_its_equations() {
    let (gates, cell, p) = (floats(4 * N, 1), floats(N, 2), floats(3 * N, 3));
    for (clip, peephole, input_forget) in
        [(None, None, false), (Some(0.7), None, false), (None, Some(&p[..]), false), (None, None, true)]
    {
        let lstm = Lstm { clip, peephole, input_forget, ..Lstm::default() };
        let limit = f64::from(clip.unwrap_or(f32::MAX));
        let peep = |k: usize, i: usize| peephole.map_or(0.0, |p| f64::from(p[k * N + i]));
        let gate =
            |k: usize, i: usize, extra: f64| (f64::from(gates[k * N + i]) + extra).clamp(-limit, limit);
        let want_cell = |i: usize| {
            let c = f64::from(cell[i]);
            let input = sigmoid(gate(0, i, peep(0, i) * c));
            let forget = if input_forget { 1.0 - input } else { sigmoid(gate(2, i, peep(2, i) * c)) };
            forget * c + input * gate(3, i, 0.0).tanh()
        };
        let want_hidden = |i: usize| {
            let c = want_cell(i);
            sigmoid(gate(1, i, peep(1, i) * c)) * c.clamp(-limit, limit).tanh()
        };
        let mut first: Option<Vec<f32>> = None;
        for v in supported() {
            let (mut g, mut c, mut h) = (gates.clone(), cell.clone(), vec![9.0; N]);
            lstm_step(v, &lstm, &mut g, &mut c, &mut h);
            near(&c, (0..N).map(want_cell));
            near(&h, (0..N).map(want_hidden));
            h.extend(c);
            assert_eq!(first.get_or_insert(h.clone()), &h);
        }
    }
}

#[test]
fn both_forms_of_the_gru_follow_their_equations() {
    let (gates, recurrent, hidden) = (floats(3 * N, 4), floats(N, 5), floats(N, 6));
    let gru = Gru::default();
    let z = |i: usize| sigmoid(f64::from(gates[i]));
    let r = |i: usize| sigmoid(f64::from(gates[N + i]));
    let blend = |i: usize, n: f64| z(i) * f64::from(hidden[i]) + (1.0 - z(i)) * n.tanh();
    for v in supported() {
        let (mut g, mut h) = (gates.clone(), hidden.clone());
        gru_step(v, &gru, &mut g, &recurrent, &mut h);
        let n = |i: usize| f64::from(gates[2 * N + i]) + r(i) * f64::from(recurrent[i]);
        near(&h, (0..N).map(|i| blend(i, n(i))));

        let (mut g, mut h, mut reset_h) = (gates.clone(), hidden.clone(), vec![9.0; N]);
        let (zr, candidate) = g.split_at_mut(2 * N);
        gru_reset(v, &gru, zr, &h, &mut reset_h);
        near(&reset_h, (0..N).map(|i| r(i) * f64::from(hidden[i])));
        gru_finish(v, &gru, &zr[..N], candidate, &mut h);
        near(&h, (0..N).map(|i| blend(i, f64::from(gates[2 * N + i]))));

        let clipped = Gru { clip: Some(0.5), ..gru };
        let (mut g, mut h) = (vec![100.0; 3 * N], vec![0.0; N]);
        gru_step(v, &clipped, &mut g, &recurrent, &mut h);
        let want = (1.0 - sigmoid(0.5)) * 0.5f64.tanh();
        near(&h, std::iter::repeat_n(want, N));
    }
}
