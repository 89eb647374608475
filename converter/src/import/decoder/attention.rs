//! Self-attention of a decoder: where tokens stand, how heads are turned by that, which tokens see which.

use super::Rows;
use super::layers::{Layers, Linear};
use crate::import::gguf::GgufError;
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, DType, Op, UnaryOp, ValueId};

/// The positions of the tokens of a run: 0, 1, ...
#[derive(Clone, Copy)]
pub(super) struct Positions {
    /// i64 `[tokens, 1]`.
    column: ValueId,
    /// i64 `[tokens]`.
    row: ValueId,
}

/// Cosines and sines of each position's angles, `[tokens, 1, width / 2]`.
#[derive(Clone, Copy)]
pub(super) struct Angles {
    cos: ValueId,
    sin: ValueId,
    /// Elements of a head that are turned.
    width: usize,
}

/// Heads, and what a layer of them needs beside its tensors.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` of queries.
    pub kv_heads: usize,
    /// Elements of a query and of a key.
    pub depth: usize,
    /// Elements of a value.
    pub value_depth: usize,
    /// The order of the rows of queries and keys.
    pub rows: Rows,
    /// A factor on the scores.
    pub scale: f32,
    /// The epsilon of norms over each head's query and key, where there are such norms.
    pub norms: Option<f32>,
}

impl Layers<'_> {
    /// The positions of the tokens.
    pub fn positions(&mut self, ids: ValueId) -> Positions {
        let size = self.op("tokens", Op::Shape { start: 1, end: Some(2) }, &[Some(ids)]);
        let count = self.op("tokens/count", Op::Squeeze { axes: vec![0] }, &[Some(size)]);
        let [first, step] = [("positions/first", 0), ("positions/step", 1)]
            .map(|(name, value)| self.constant(name, Array::i64(&[], &[value])));
        let row = self.op("positions", Op::Range, &[Some(first), Some(count), Some(step)]);
        let column = self.op("positions/column", Op::Unsqueeze { axes: vec![1] }, &[Some(row)]);
        Positions { column, row }
    }

    /// The angles of rotary positions (Su et al., RoFormer, 2021): pair `i` of `width / 2` is turned by
    /// `position * factor * base^(-2 i / width) / divisors[i]`.
    pub fn angles(
        &mut self,
        name: &str,
        positions: Positions,
        width: usize,
        (base, factor): (f32, f32),
        divisors: &[f32],
    ) -> Angles {
        let frequency = |i: usize| {
            let plain = f64::from(base).powf(-2.0 * i as f64 / width as f64) * f64::from(factor);
            (plain / divisors.get(i).map_or(1.0, |divisor| f64::from(*divisor))) as f32
        };
        let frequencies: Vec<f32> = (0..width / 2).map(frequency).collect();
        let frequencies =
            self.constant(&format!("{name}/frequencies"), Array::f32(&[width / 2], &frequencies));
        let cast = Op::Cast { to: DType::F32 };
        let at = self.op(&format!("{name}/positions"), cast, &[Some(positions.column)]);
        let angles = self.binary(&format!("{name}/angles"), BinaryOp::Mul, at, frequencies);
        let angles = self.op(&format!("{name}/by_heads"), Op::Unsqueeze { axes: vec![1] }, &[Some(angles)]);
        let cos = self.unary(&format!("{name}/cos"), UnaryOp::Cos, angles);
        let sin = self.unary(&format!("{name}/sin"), UnaryOp::Sin, angles);
        Angles { cos, sin, width }
    }

    /// What is added to scores `[tokens, tokens]`: 0 where a token sees another, itself and those before it, of which the last `window`
    /// where there is one; minus infinity elsewhere.
    pub fn mask(&mut self, name: &str, positions: Positions, window: Option<usize>) -> ValueId {
        let Positions { column, row } = positions;
        let mut seen = self.binary(&format!("{name}/before"), BinaryOp::LessOrEqual, row, column);
        if let Some(window) = window {
            // Compared as lines and columns: their difference would be a table of integers.
            let size = self.constant(&format!("{name}/window"), Array::i64(&[], &[window as i64]));
            let end = self.binary(&format!("{name}/end"), BinaryOp::Add, row, size);
            let near = self.binary(&format!("{name}/near"), BinaryOp::Less, column, end);
            seen = self.binary(&format!("{name}/seen"), BinaryOp::And, seen, near);
        }
        let zero = self.number(&format!("{name}/zero"), 0.0);
        let never = self.number(&format!("{name}/never"), f32::NEG_INFINITY);
        self.op(name, Op::Where, &[Some(seen), Some(zero), Some(never)])
    }

    /// `[1, tokens, heads, depth]` with each head's first `width` elements turned: `(a cos - b sin, b cos + a sin)`, `a` and `b` being
    /// the two halves of them.
    fn turned(&mut self, name: &str, x: ValueId, depth: usize, angles: Angles) -> ValueId {
        let Angles { cos, sin, width } = angles;
        let (turned, still) = match width < depth {
            true => {
                let [turned, still] = self.halves(&format!("{name}/still"), x, [width, depth - width]);
                (turned, Some(still))
            }
            false => (x, None),
        };
        let [a, b] = self.halves(&format!("{name}/halves"), turned, [width / 2; 2]);
        let mut product =
            |part: &str, x, table| self.binary(&format!("{name}/{part}"), BinaryOp::Mul, x, table);
        let [ac, bs, bc, as_] =
            [product("ac", a, cos), product("bs", b, sin), product("bc", b, cos), product("as", a, sin)];
        let first = self.binary(&format!("{name}/first"), BinaryOp::Sub, ac, bs);
        let second = self.binary(&format!("{name}/second"), BinaryOp::Add, bc, as_);
        let parts: Vec<_> = [Some(first), Some(second), still].into_iter().filter(Option::is_some).collect();
        self.op(&format!("{name}/turned"), Op::Concat { axis: -1 }, &parts)
    }

    /// Self-attention: `[1, tokens, heads * value_depth]` of `x`, `[1, tokens, width]`, before the product with the output's matrix.
    pub fn attention(
        &mut self,
        x: ValueId,
        block: &str,
        width: usize,
        of: &Heads,
        (angles, mask): (Angles, ValueId),
    ) -> Result<ValueId, GgufError> {
        let &Heads { heads, kv_heads, depth, value_depth, rows, scale, norms } = of;
        let (kv, each) = (kv_heads as i64, (heads / kv_heads) as i64);
        let turned = |layers: &mut Self, part: &str, count: usize| {
            let name = format!("{block}.attn_{part}");
            let y = layers.linear(x, &Linear { rows, ..Linear::plain(&name, count * depth, width) })?;
            let mut y = layers.reshape(&format!("{name}/heads"), y, &[0, 0, count as i64, depth as i64]);
            if let Some(epsilon) = norms {
                y = layers.rms_norm(y, &format!("{name}_norm"), depth, epsilon)?;
            }
            Ok::<_, GgufError>(layers.turned(&name, y, depth, angles))
        };
        let q = turned(self, "q", heads)?;
        let k = turned(self, "k", kv_heads)?;
        let v = format!("{block}.attn_v");
        let values = self.linear(x, &Linear::plain(&v, kv_heads * value_depth, width))?;
        // Heads of q that share one of k and v stand in a dimension of their own.
        let name = |part: &str| format!("{block}.attn/{part}");
        let q = self.reshape(&name("q"), q, &[0, 0, kv, each, depth as i64]);
        let q = self.op(&name("q/heads_first"), Op::Transpose { perm: vec![0, 2, 3, 1, 4] }, &[Some(q)]);
        let k = self.reshape(&name("k"), k, &[0, 0, kv, 1, depth as i64]);
        let k = self.op(&name("k/heads_first"), Op::Transpose { perm: vec![0, 2, 3, 1, 4] }, &[Some(k)]);
        let v = self.reshape(&name("v"), values, &[0, 0, kv, 1, value_depth as i64]);
        let v = self.op(&name("v/heads_first"), Op::Transpose { perm: vec![0, 2, 3, 1, 4] }, &[Some(v)]);
        let op = Op::Attention { k_transposed: false, scale };
        let y = self.op(&name("heads"), op, &[Some(q), Some(k), Some(v), Some(mask)]);
        let y = self.op(&name("tokens_first"), Op::Transpose { perm: vec![0, 3, 1, 2, 4] }, &[Some(y)]);
        Ok(self.reshape(&name("whole"), y, &[0, 0, (heads * value_depth) as i64]))
    }

    /// `down(act(gate(x)) * up(x))`, a residual added.
    pub fn gated(
        &mut self,
        x: ValueId,
        block: &str,
        [width, inner]: [usize; 2],
        act: Act,
        residual: Option<ValueId>,
    ) -> Result<ValueId, GgufError> {
        let name = |part: &str| format!("{block}.ffn_{part}");
        let gate = self.linear(x, &Linear { act, ..Linear::plain(&name("gate"), inner, width) })?;
        let up = self.linear(x, &Linear::plain(&name("up"), inner, width))?;
        let product = self.binary(&name("product"), BinaryOp::Mul, gate, up);
        self.linear(product, &Linear { residual, ..Linear::plain(&name("down"), width, inner) })
    }

    /// The numbers of heads and their sizes, held against one another.
    pub fn heads(&self, width: usize) -> Result<Heads, GgufError> {
        let heads = self.needed("attention.head_count")?;
        let kv_heads = self.count("attention.head_count_kv")?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let why = format!("{kv_heads} heads of keys for {heads} of queries; a divisor is expected");
            return Err(self.wrong("attention.head_count_kv", why));
        }
        let depth = match self.count("attention.key_length")? {
            Some(depth) => depth,
            None if width.is_multiple_of(heads) => width / heads,
            None => {
                let why = format!("{heads} heads for {width} columns; a divisor is expected");
                return Err(self.wrong("attention.head_count", why));
            }
        };
        let value_depth = self.count("attention.value_length")?.unwrap_or(depth);
        let scale = self.real("attention.scale")?.unwrap_or((1.0 / (depth as f64).sqrt()) as f32);
        Ok(Heads { heads, kv_heads, depth, value_depth, rows: Rows::Same, scale, norms: None })
    }

    /// How many elements of a head are turned.
    pub fn turned_width(&self, depth: usize) -> Result<usize, GgufError> {
        let width = self.count("rope.dimension_count")?.unwrap_or(depth);
        if width > depth || width % 2 == 1 {
            let why = format!("{width} elements of heads of {depth}; an even number of them is expected");
            return Err(self.wrong("rope.dimension_count", why));
        }
        Ok(width)
    }

    /// The factor on positions: 1, or less where contexts were stretched linearly, which a factor alone says too.
    pub fn position_factor(&self) -> Result<f32, GgufError> {
        let factor = match self.real("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // Of older files.
            None => self.real("rope.scale_linear")?,
        };
        match self.text("rope.scaling.type")? {
            Some("none") => Ok(1.0),
            None | Some("linear") => Ok(factor.map_or(1.0, |factor| 1.0 / factor)),
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                Err(self.unsupported(vec![format!("rope scaling `{other}`; there is none, linear")]))
            }
        }
    }
}
