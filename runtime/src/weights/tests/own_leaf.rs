//! A kind of weight that only this file knows, added through the registry: all that a new format needs.

use super::super::{CodeForm, Node};
use super::*;
use std::ops::Range;

/// `w[r][c] = scale * (2q + 1)`, `q` a hash of its place: a weight without bytes.
struct Hashed {
    n: usize,
    k: usize,
    scale: f32,
}

impl Hashed {
    fn code(&self, r: usize, c: usize) -> i8 {
        (philox(9, (r * self.k + c) as u64)[0] >> 25) as i8 - 64
    }
}

fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["scale"])?;
    node.counts(0, 0)?;
    let scale: f32 = node.need("scale", "a number")?;
    Ok(Box::new(Hashed { n: node.n(), k: node.k(), scale }))
}

impl Weights for Hashed {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        let value = |i: usize| f32::from(2 * i16::from(self.code(i / self.k, i % self.k)) + 1) * self.scale;
        (0..self.n * self.k).map(value).collect()
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        for (r, lane) in part.rows.clone().zip(part.lanes()) {
            for (i, c) in part.cols.clone().enumerate() {
                out[i * PANEL + lane] = f32::from(2 * i16::from(self.code(r, c)) + 1) * self.scale;
            }
        }
    }

    fn code_form(&self) -> Option<CodeForm> {
        Some(CodeForm { group: self.k, half_offset: true, bits: 7 })
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        let variant = edge_kernels::cpu::planes::select(Isa::Scalar);
        super::super::codes::fill(self, variant, panels, out);
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        for (r, lane) in part.rows.clone().zip(part.lanes()) {
            for (k, c) in part.cols.clone().enumerate().map(|(i, c)| (at + i, c)) {
                codes[(k / BLOCK * PANEL + lane) * BLOCK + k % BLOCK] = self.code(r, c);
            }
        }
    }

    fn scales_at(&self, _rows: Range<usize>, _col: usize, scales: &mut [f32]) {
        scales.fill(self.scale);
    }
}

#[test]
fn a_new_kind_works_alone_and_under_every_node() {
    let mut registry = Registry::standard();
    registry.add("hashed", construct);
    let leaf = || own(node("hashed", json!({"scale": 0.125}), Vec::new()));
    let mut pack = Pack::default();
    let Arg::Expr(root) = leaf() else { unreachable!() };
    pack.tensor(37, 90, *root);
    let shared = || Arg::Shared(0, 0);
    let view = json!({"taps": 5, "rows": [3, 30], "channels": [2, 18]});
    pack.tensor(27, 80, node("view", view, vec![shared()]));
    pack.tensor(37, 90, node("combine", json!({"coefs": [1, -2]}), vec![shared(), leaf()]));
    let blocks = json!({"taps": 2, "blocks": [[0, 20, 0, 24], [0, 20, 24, 32], [20, 23, 0, 32]]});
    pack.tensor(23, 64, node("tiles", blocks, vec![leaf(), leaf(), leaf()]));
    let source = pack.source();
    let forms = [Some(90), Some(80), None, Some(8)];
    for (tensor, form) in forms.into_iter().enumerate() {
        let weights = bind(&registry, &pack.header, tensor, Take(0, 0), &source).unwrap();
        check(&*weights, &weights.materialize());
        assert_eq!(weights.code_form().map(|form| form.group), form, "tensor {tensor}");
    }
    let unknown = pack.bind(0, 1).err().unwrap().to_string();
    assert_eq!(
        unknown,
        "tensor `t0`: kind `hashed` is none of combine, corrected, dense, planes, row_codes, sparse, tiles, view; a newer runtime may know it"
    );
}
