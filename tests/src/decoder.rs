//! A Llama decoder as its authors' formulas have it (Touvron et al., 2023; Su et al., 2021), in plain loops of f64: what converted ones are
//! compared with.

use crate::gguf::{BASE, BLOCKS, Builder, DEPTH, EPSILON, HEADS, INNER, VOCABULARY, WIDTH};
use edge_converter::import::gguf::blocks::Block;
use edge_converter::import::gguf::{Form, Kind};
use edge_runtime::graph::DType;

/// A tensor of the file as reals.
fn reals(file: &Builder, name: &str) -> Option<Vec<f64>> {
    let (_, dims, kind, bytes) = file.tensors.iter().find(|tensor| tensor.0 == name)?;
    let (kind, count) = (Kind::of(*kind)?, dims.iter().product::<usize>());
    let values: Vec<f32> = match kind.form {
        Form::Floats(DType::F32) => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Form::Floats(dtype) => edge_converter::draft::to_f32(dtype, bytes),
        Form::Codes(codes) => {
            let (mut block, mut out) = (Block::default(), vec![0.0; count]);
            for (bytes, out) in bytes.chunks_exact(kind.bytes).zip(out.chunks_exact_mut(kind.elements)) {
                (codes.decode)(bytes, &mut block);
                block.reals(&codes, out);
            }
            out
        }
        Form::Other => return None,
    };
    assert_eq!(values.len(), count);
    Some(values.into_iter().map(f64::from).collect())
}

fn product(file: &Builder, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let w = reals(file, &format!("{name}.weight")).unwrap();
    let bias = reals(file, &format!("{name}.bias"));
    let k = x[0].len();
    let row = |x: &Vec<f64>| {
        let dot = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        let mut y: Vec<f64> = w.chunks_exact(k).map(dot).collect();
        if let Some(bias) = &bias {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        y
    };
    x.iter().map(row).collect()
}

fn norm(file: &Builder, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let weight = reals(file, &format!("{name}.weight")).unwrap();
    let row = |x: &Vec<f64>| {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean + f64::from(EPSILON)).sqrt();
        x.iter().zip(&weight).map(|(x, w)| x * factor * w).collect()
    };
    x.iter().map(row).collect()
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
}

/// Neighbours of each head turned by the angle of their position.
fn rotate(x: &mut [Vec<f64>]) {
    for (position, x) in x.iter_mut().enumerate() {
        for (i, pair) in x.chunks_exact_mut(2).enumerate() {
            let i = i % (DEPTH / 2);
            let angle = position as f64 * f64::from(BASE).powf(-2.0 * i as f64 / DEPTH as f64);
            let (sin, cos) = angle.sin_cos();
            (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
        }
    }
}

fn attention(q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let [heads, kv] = HEADS;
    let mut out = vec![vec![0.0; heads * DEPTH]; q.len()];
    for (t, out) in out.iter_mut().enumerate() {
        for head in 0..heads {
            let (at, shared) = (head * DEPTH, head / (heads / kv) * DEPTH);
            let score = |s: usize| {
                let dot: f64 = (0..DEPTH).map(|i| q[t][at + i] * k[s][shared + i]).sum();
                dot / (DEPTH as f64).sqrt()
            };
            let scores: Vec<f64> = (0..=t).map(score).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            for (s, power) in powers.iter().enumerate() {
                (0..DEPTH).for_each(|i| out[at + i] += power / sum * v[s][shared + i]);
            }
        }
    }
    out
}

/// The logits of a file of [`crate::gguf::llama`], `[tokens, vocabulary]`.
pub fn logits(file: &Builder, ids: &[usize]) -> Vec<f64> {
    let table = reals(file, "token_embd.weight").unwrap();
    let mut x: Vec<Vec<f64>> = ids.iter().map(|id| table[id * WIDTH..][..WIDTH].to_vec()).collect();
    for i in 0..BLOCKS {
        let name = |part: &str| format!("blk.{i}.{part}");
        let y = norm(file, &name("attn_norm"), &x);
        let [mut q, mut k, v] = ["attn_q", "attn_k", "attn_v"].map(|part| product(file, &name(part), &y));
        rotate(&mut q);
        rotate(&mut k);
        add(&mut x, &product(file, &name("attn_output"), &attention(&q, &k, &v)));
        let y = norm(file, &name("ffn_norm"), &x);
        let [mut gate, up] = ["ffn_gate", "ffn_up"].map(|part| product(file, &name(part), &y));
        for (gate, up) in gate.iter_mut().zip(&up) {
            gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = *gate / (1.0 + (-*gate).exp()) * up);
            assert_eq!(gate.len(), INNER);
        }
        add(&mut x, &product(file, &name("ffn_down"), &gate));
    }
    let x = norm(file, "output_norm", &x);
    let tied = !file.tensors.iter().any(|tensor| tensor.0 == "output.weight");
    let logits = product(file, if tied { "token_embd" } else { "output" }, &x).concat();
    assert_eq!(logits.len(), ids.len() * VOCABULARY);
    logits
}
