//! Tests of weight expressions: every way of reading a weight against its definition.

use super::planes::{self, Layout, Spec};
use super::{CodesOut, PANEL, Registry, Weights, bind};
use crate::pack::{Arg, Blob, BlobSource, Expr, Header, MemorySource, Take, Tensor};
use crate::random::uniform;
use serde_json::json;
use std::sync::Arc;

/// Standard normal numbers by the sum of twelve uniforms.
fn gaussian(n: usize, key: u64) -> Vec<f32> {
    (0..n as u64).map(|i| (0..12).map(|j| uniform(key, i * 12 + j)).sum::<f32>() - 6.0).collect()
}

/// A header with one tensor a root, its blobs in memory.
struct Pack {
    header: Header,
    blobs: Vec<Vec<u8>>,
}

impl Pack {
    fn new() -> Pack {
        Pack { header: Header::default(), blobs: Vec::new() }
    }

    fn planes(&mut self, w: &[f32], n: usize, k: usize, spec: &Spec) -> Expr {
        let encoded = planes::encode(w, n, k, spec, &[]).unwrap();
        let ids = encoded.blobs.iter().map(|bytes| {
            self.header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: 0 });
            self.blobs.push(bytes.clone());
            self.blobs.len() as u32 - 1
        });
        let ids = ids.collect();
        encoded.expr(ids)
    }

    fn tensor(&mut self, n: usize, k: usize, root: Expr) -> usize {
        self.header.tensors.push(Tensor { name: "w".into(), n, k, roots: vec![root] });
        self.header.tensors.len() - 1
    }

    fn bind(&self, tensor: usize, take: u32) -> Box<dyn Weights> {
        let source: Arc<dyn BlobSource> = Arc::new(MemorySource::from(self.blobs.clone()));
        bind(&Registry::standard(), &self.header, tensor, Take(0, take), &source).unwrap()
    }
}

/// Floats, rows and codes all give the matrix that `materialize` defines.
fn reads_alike(w: &dyn Weights, what: &str) {
    let (n, k) = (w.n(), w.k());
    let want = w.materialize();
    let panels = n.div_ceil(PANEL);
    let mut floats = vec![f32::NAN; panels * k * PANEL];
    w.fill_f32(0..panels, &mut floats);
    for r in 0..panels * PANEL {
        for c in 0..k {
            let got = floats[(r / PANEL * k + c) * PANEL + r % PANEL];
            let want = if r < n { want[r * k + c] } else { 0.0 };
            assert_eq!(got.to_bits(), want.to_bits(), "{what}: floats at [{r}, {c}]: {got} for {want}");
        }
    }
    let mut row = vec![0.0; k];
    for r in 0..n {
        w.fill_row(r, &mut row);
        assert_eq!(row, want[r * k..(r + 1) * k], "{what}: row {r}");
    }
    let Some(form) = w.code_form() else { return };
    let (blocks, groups) = (k.div_ceil(8), k.div_ceil(form.group));
    let mut codes = vec![99i8; panels * blocks * 128];
    let mut scales = vec![f32::NAN; panels * groups * PANEL];
    let mut sums = vec![-1i32; panels * groups * PANEL];
    w.fill_codes(0..panels, CodesOut { codes: &mut codes, scales: &mut scales, sums: &mut sums });
    for r in 0..n {
        let (panel, lane) = (r / PANEL, r % PANEL);
        let mut totals = vec![0i32; groups];
        for c in 0..k {
            let q = i32::from(codes[((panel * blocks + c / 8) * PANEL + lane) * 8 + c % 8]);
            let integer = if form.half_offset { 2 * q + 1 } else { q };
            let group = c / form.group;
            totals[group] += integer;
            let got = scales[(panel * groups + group) * PANEL + lane] * integer as f32;
            let want = want[r * k + c];
            assert!((got - want).abs() <= want.abs() * 1e-6, "{what}: code at [{r}, {c}]: {got} for {want}");
        }
        for (group, total) in totals.iter().enumerate() {
            assert_eq!(sums[(panel * groups + group) * PANEL + lane], *total, "{what}: sum of group {group}");
        }
    }
}

#[test]
fn planes_read_alike_in_every_layout_precision_and_odd_shape() {
    for (layout, group) in [(Layout::Panel, 32), (Layout::Panel, 0), (Layout::Panel1, 0), (Layout::Rows, 32)]
    {
        for (n, k) in [(1, 1), (16, 32), (17, 33), (5, 70), (40, 9)] {
            let mut pack = Pack::new();
            let spec = Spec { group, layout, ..Spec::default() };
            let root = pack.planes(&gaussian(n * k, 1), n, k, &spec);
            let tensor = pack.tensor(n, k, root);
            for take in 1..=4 {
                reads_alike(
                    pack.bind(tensor, take).as_ref(),
                    &format!("{layout:?} {group} [{n}, {k}] take {take}"),
                );
            }
        }
    }
}

/// The design's figures for nested half-offset codes of Gaussian weights, group 32: 9.0, 21.0, 45.1, 93.3 dB. The scale
/// search may win a little.
#[test]
fn nested_planes_of_gaussian_weights_have_the_expected_error() {
    let (n, k) = (64, 512);
    let w = gaussian(n * k, 7);
    let mut pack = Pack::new();
    let root = pack.planes(&w, n, k, &Spec::default());
    let tensor = pack.tensor(n, k, root);
    for (take, least) in [(1, 8.7), (2, 20.5), (3, 44.5), (4, 91.0)] {
        let got = pack.bind(tensor, take).materialize();
        let signal: f64 = w.iter().map(|x| f64::from(*x).powi(2)).sum();
        let noise: f64 = w.iter().zip(&got).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let db = 10.0 * (signal / noise).log10();
        assert!(db >= least, "take {take}: {db:.1} dB, at least {least} expected");
    }
}

#[test]
fn a_view_of_tiles_is_the_beginning_of_every_tap() {
    let (taps, spec) = (3, Spec { group: 0, ..Spec::default() });
    let mut pack = Pack::new();
    let parts: [[usize; 4]; 3] = [[0, 16, 0, 8], [0, 16, 8, 24], [16, 20, 0, 24]];
    let args = parts.map(|[n0, n1, c0, c1]| {
        let (n, k) = (n1 - n0, taps * (c1 - c0));
        Arg::Expr(Box::new(pack.planes(&gaussian(n * k, (n0 * 100 + c0) as u64), n, k, &spec)))
    });
    let params = json!({ "taps": taps, "blocks": parts });
    let params = params.as_object().cloned().unwrap();
    let tiles = Expr { kind: "tiles".into(), params, args: args.to_vec(), blobs: Vec::new() };
    let whole = pack.tensor(20, taps * 24, tiles);
    let params = json!({ "taps": taps, "rows": [0, 16], "channels": [0, 8] }).as_object().cloned().unwrap();
    let view =
        Expr { kind: "view".into(), params, args: vec![Arg::Shared(whole as u32, 0)], blobs: Vec::new() };
    let small = pack.tensor(16, taps * 8, view);
    for take in 1..=4 {
        let (whole, small) = (pack.bind(whole, take), pack.bind(small, take));
        reads_alike(whole.as_ref(), "tiles");
        reads_alike(small.as_ref(), "view");
        let (large, part) = (whole.materialize(), small.materialize());
        for (r, tap, c) in (0..16).flat_map(|r| (0..taps).flat_map(move |t| (0..8).map(move |c| (r, t, c)))) {
            let at = (r * taps + tap) * 24 + c;
            assert_eq!(part[(r * taps + tap) * 8 + c], large[at], "[{r}, {tap}, {c}]");
        }
    }
}
