//! Tests of weight expressions: every way to read a weight against `materialize`, and `materialize` against the
//! source's values or the format's definition.

mod check;
mod feedback;
mod hostile;
mod leaves;
mod nodes;
mod own_leaf;
mod refusals;
mod sparse;

use super::{
    BLOCK, CodeForm, CodesOut, PANEL, Part, Registry, WeightError, Weights, bind, bind_reals, dense, planes,
};
use crate::pack::{Arg, Blob, BlobId, BlobSource, Expr, Header, MemorySource, Take, Tensor};
use crate::random::{philox, uniform};
use edge_kernels::Isa;
use serde_json::{Value, json};
use std::sync::Arc;

/// Reads a weight in every way and compares with `want`, its values.
fn check(w: &dyn Weights, want: &[f32]) {
    check::check_bytes(w, want, true);
}

/// A header under construction and its blobs.
#[derive(Default)]
struct Pack {
    header: Header,
    blobs: Vec<Vec<u8>>,
}

impl Pack {
    fn blob(&mut self, bytes: Vec<u8>) -> BlobId {
        let entry = Blob { offset: 0, len: bytes.len() as u64, hash: 0 };
        self.header.blobs.push(entry);
        self.blobs.push(bytes);
        (self.blobs.len() - 1) as BlobId
    }

    fn tensor(&mut self, n: usize, k: usize, root: Expr) -> usize {
        let name = format!("t{}", self.header.tensors.len());
        self.header.tensors.push(Tensor { name, n, k, roots: vec![root] });
        self.header.tensors.len() - 1
    }

    fn dense(&mut self, w: &[f32], n: usize, k: usize) -> Expr {
        let encoded = dense::encode(w, n, k, super::Float::F32, dense::Layout::Panel).unwrap();
        let blob = self.blob(encoded.blob.clone());
        encoded.expr(blob)
    }

    fn planes(&mut self, w: &[f32], n: usize, k: usize, spec: &planes::Spec) -> Expr {
        let encoded = planes::encode(w, n, k, spec, &[]).unwrap();
        let blobs = encoded.blobs.iter().map(|bytes| self.blob(bytes.clone())).collect();
        encoded.expr(blobs)
    }

    fn source(&self) -> Arc<dyn BlobSource> {
        Arc::new(MemorySource::from(self.blobs.clone()))
    }

    fn bind(&self, tensor: usize, take: u32) -> Result<Box<dyn Weights>, WeightError> {
        bind(&Registry::standard(), &self.header, tensor, Take(0, take), &self.source())
    }

    /// As [`Pack::bind`], for readers of reals.
    fn bind_reals(&self, tensor: usize, take: u32) -> Result<Box<dyn Weights>, WeightError> {
        bind_reals(&Registry::standard(), &self.header, tensor, Take(0, take), &self.source())
    }

    /// The weight as bound for each instruction set, every way to read it checked; returns its values.
    fn checked(&self, tensor: usize, take: u32) -> Vec<f32> {
        let mut values = Vec::new();
        for isa in [Isa::Scalar, Isa::detect()] {
            let registry = Registry::for_isa(isa);
            let weights = bind(&registry, &self.header, tensor, Take(0, take), &self.source()).unwrap();
            values = weights.materialize();
            check(&*weights, &values);
        }
        values
    }
}

/// A node.
fn node(kind: &str, params: Value, args: Vec<Arg>) -> Expr {
    let Value::Object(params) = params else { panic!("parameters are an object") };
    Expr { kind: kind.into(), params, args, blobs: Vec::new() }
}

fn own(expr: Expr) -> Arg {
    Arg::Expr(Box::new(expr))
}

/// Standard normal numbers (Box-Muller).
fn gaussian(len: usize, seed: u64) -> Vec<f32> {
    let at = |i: usize| f64::from(uniform(seed, i as u64));
    let normal = |i: usize| {
        let (u, v) = (1.0 - at(2 * i), at(2 * i + 1));
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    (0..len).map(normal).collect()
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|i| philox(seed, i as u64)[0] as u8).collect()
}

/// The part of a matrix `[n, k]` of `taps` taps.
fn cut(w: &[f32], k: usize, taps: usize, rows: [usize; 2], channels: [usize; 2]) -> Vec<f32> {
    let width = k / taps;
    let mut out = Vec::new();
    for r in rows[0]..rows[1] {
        for tap in 0..taps {
            let first = r * k + tap * width;
            out.extend(&w[first + channels[0]..first + channels[1]]);
        }
    }
    out
}

/// Three levels of a matrix `[20, 40]`: coarse planes with gains and shifts, finer ones with thin matrices of rank 8 as well, all.
fn corrected(pack: &mut Pack) -> Expr {
    let w = gaussian(20 * 40, 1);
    let matrix = own(pack.planes(&w, 20, 40, &planes::Spec::default()));
    let v = own(pack.planes(&gaussian(8 * 40, 2), 8, 40, &planes::Spec::default()));
    let u = own(pack.planes(&gaussian(20 * 8, 3), 20, 8, &planes::Spec { group: 8, ..Default::default() }));
    let rows = [bytes(4 * 20, 4), bytes(8 * 20, 5)].map(|bytes| pack.blob(bytes));
    let levels = json!([[1, 1, 0, 0.0], [2, 2, 8, 1.5], [0, 0, 0, 0.0]]);
    Expr { blobs: rows.to_vec(), ..node("corrected", json!({"levels": levels}), vec![matrix, v, u]) }
}
