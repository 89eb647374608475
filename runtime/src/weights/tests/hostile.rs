//! Random damage to valid expressions and random blobs: binding refuses, or everything can be read.

use super::super::{needed_blobs, sparse};
use super::*;

/// A stream of random choices.
struct Choice(u64, u64);

impl Choice {
    fn below(&mut self, bound: usize) -> usize {
        self.1 += 1;
        philox(self.0, self.1)[0] as usize % bound
    }

    fn value(&mut self) -> Value {
        let numbers = [0, 1, 2, 3, 4, 7, 8, 9, 16, 20, 32, 40, 255, 1 << 20, u64::MAX / 2, u64::MAX];
        let number = |choice: &mut Choice| numbers[choice.below(numbers.len())];
        match self.below(14) {
            0 => json!(["f32", "f16", "bf16", "panel", "panel1", "rows", "tight", "x"][self.below(8)]),
            1 => json!(-1),
            2 => json!(0.5),
            3 => json!(1e300),
            4 => Value::Null,
            5 => json!({"a": 1}),
            6 => (0..self.below(5)).map(|_| json!([1, 2, 4, 8][self.below(4)])).collect(),
            7 => json!([number(self), number(self)]),
            8 => json!([[number(self), number(self), number(self), number(self)]]),
            9 => json!([[0, 8, 0, 40], [number(self), 20, 0, number(self)]]),
            11 => json!(true),
            10 => json!([[1, 1, 0, 0.5], [number(self), self.below(4), number(self), 2.0]]),
            _ => json!(number(self)),
        }
    }

    /// An expression somewhere below `expr`.
    fn walk<'a>(&mut self, expr: &'a mut Expr) -> &'a mut Expr {
        let own: Vec<usize> =
            (0..expr.args.len()).filter(|&i| matches!(expr.args[i], Arg::Expr(_))).collect();
        if own.is_empty() || self.below(3) == 0 {
            return expr;
        }
        let index = own[self.below(own.len())];
        match &mut expr.args[index] {
            Arg::Expr(below) => self.walk(below),
            Arg::Shared(..) => unreachable!("only operands of its own were kept"),
        }
    }

    /// Damages one thing.
    fn damage(&mut self, pack: &mut Pack) {
        let count = pack.header.tensors.len();
        let index = self.below(count);
        let tensor = &mut pack.header.tensors[index];
        let sizes = [0, 1, 8, 16, 17, 20, 40, 41, 80, usize::MAX, 1 << 33];
        match self.below(10) {
            0 => tensor.n = sizes[self.below(sizes.len())],
            1 => tensor.k = sizes[self.below(sizes.len())],
            2 => {
                let blob = self.below(pack.header.blobs.len());
                let len = [0, 1, 31, 32, 640, 1 << 40][self.below(6)];
                pack.header.blobs[blob].len = len;
                // Sometimes the bytes follow.
                if len < 1000 && self.below(2) == 0 {
                    pack.blobs[blob] = bytes(len as usize, self.1);
                }
            }
            choice => {
                let expr = self.walk(&mut tensor.roots[0]);
                match choice {
                    3..=5 => {
                        let names = ["group", "bits", "layout", "scale", "gains", "dtype", "taps", "rows"];
                        let more = ["channels", "of", "blocks", "coefs", "takes"];
                        let sparse = ["form", "block", "entries", "keep", "count", "scaled", "levels"];
                        let whole = ["whole", "zeros", "alike"];
                        let name = [&names[..], &more, &sparse, &whole].concat()[self.below(23)];
                        let value = self.value();
                        expr.params.insert(name.into(), value);
                    }
                    6 => {
                        let name = expr.params.keys().nth(self.below(3)).cloned();
                        name.map(|name| expr.params.remove(&name));
                    }
                    7 => {
                        let kinds = [
                            "dense",
                            "planes",
                            "tiles",
                            "view",
                            "combine",
                            "sparse",
                            "corrected",
                            "row_codes",
                            "",
                        ];
                        expr.kind = kinds[self.below(9)].into();
                    }
                    8 if !expr.blobs.is_empty() => {
                        let at = self.below(expr.blobs.len());
                        expr.blobs[at] = [0, 1, 2, 3, 5, 9, 1 << 31][self.below(7)];
                    }
                    _ => {
                        let arg = Arg::Shared(self.below(count + 1) as u32, self.below(2) as u32);
                        match self.below(2) {
                            0 => expr.args.push(arg),
                            _ => expr.args = vec![arg],
                        }
                    }
                }
            }
        }
    }
}

/// Every kind, some nested.
fn sound() -> Pack {
    let mut pack = Pack::default();
    let w = gaussian(20 * 40, 1);
    let expr = pack.dense(&w, 20, 40);
    pack.tensor(20, 40, expr);
    for layout in [planes::Layout::Panel, planes::Layout::Panel1, planes::Layout::Rows] {
        let expr = pack.planes(&w, 20, 40, &planes::Spec { layout, group: 8, ..Default::default() });
        pack.tensor(20, 40, expr);
    }
    let half = cut(&w, 40, 5, [0, 20], [0, 4]);
    let args =
        vec![own(pack.planes(&half, 20, 20, &planes::Spec::default())), own(pack.dense(&half, 20, 20))];
    let blocks = json!({"taps": 5, "blocks": [[0, 20, 0, 4], [0, 20, 4, 8]]});
    pack.tensor(20, 40, node("tiles", blocks, args));
    let view = json!({"taps": 5, "rows": [3, 20], "channels": [1, 8]});
    pack.tensor(17, 35, node("view", view, vec![Arg::Shared(4, 0)]));
    let terms = vec![Arg::Shared(1, 0), own(pack.dense(&w, 20, 40)), Arg::Shared(4, 0)];
    pack.tensor(20, 40, node("combine", json!({"coefs": [1, 0.5, -1], "takes": [1, 0, 2]}), terms));
    pack.tensor(20, 40, node("row_codes", json!({}), vec![Arg::Shared(1, 0)]));
    let thin: Vec<f32> = w.iter().enumerate().map(|(i, w)| if i % 4 < 2 { *w } else { 0.0 }).collect();
    let forms = [
        Some(sparse::blocks(&thin, 20, 40, 1)),
        sparse::few(&thin, 20, 40, 2, 4),
        Some(sparse::bitmap(&thin, 20, 40, true)),
    ];
    for positions in forms.into_iter().flatten() {
        let values = pack.planes(&positions.values, positions.n, positions.k, &planes::Spec::default());
        let blobs = positions.blobs.iter().map(|bytes| pack.blob(bytes.clone())).collect();
        pack.tensor(20, 40, positions.expr(values, blobs));
    }
    let expr = corrected(&mut pack);
    pack.tensor(20, 40, expr);
    pack
}

#[test]
fn damaged_expressions_are_refused_or_readable() {
    let registry = Registry::standard();
    let (mut read, mut refused) = (0, 0);
    for seed in 0..3000 {
        let mut choice = Choice(seed, 0);
        let mut pack = sound();
        for blob in &mut pack.blobs {
            if choice.below(3) == 0 {
                *blob = bytes(blob.len(), seed);
            }
        }
        for _ in 0..1 + choice.below(3) {
            choice.damage(&mut pack);
        }
        for tensor in 0..pack.header.tensors.len() {
            let take = choice.below(6) as u32;
            let needed = needed_blobs(&registry, &pack.header, tensor, Take(0, take));
            match pack.bind(tensor, take) {
                Ok(weights) => {
                    read += 1;
                    assert!(needed.is_ok(), "seed {seed}, tensor {tensor}");
                    // Every second reading is enough, and half the time.
                    if seed % 2 == 0 {
                        check(&*weights, &weights.materialize());
                    }
                    if let Some(correction) = weights.correction() {
                        let (mut scale, mut bias) = (vec![1.0; weights.n()], vec![0.0; weights.n()]);
                        correction.apply(&mut scale, &mut bias, 1.0, seed % 2 == 0);
                        for thin in correction.factors().iter().flat_map(|f| [&f.u, &f.v]) {
                            check(&**thin, &thin.materialize());
                        }
                    }
                }
                Err(error) => {
                    refused += 1;
                    let text = error.to_string();
                    assert!(text.len() < 400, "{text}");
                }
            }
        }
    }
    assert!(read > 3000 && refused > 1000, "{read} read, {refused} refused");
}
