//! Self-attention of a decoder: how heads are turned by where tokens stand, which tokens see which.

use super::Rows;
use super::layers::{Inputs, Layers, Linear};
use crate::import::ImportError;
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, Op, ValueId};

/// What a layer sees, and how heads are turned by positions.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    /// Cosines and sines of each token's angles, `[tokens, elements of a head that are turned]`.
    pub angles: ValueId,
    /// Of the tokens before one and itself, so many; all of them when there is no window.
    pub window: Option<usize>,
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
    /// What scores are capped to, where they are: `soft_cap * tanh(score / soft_cap)`.
    pub soft_cap: Option<f32>,
    /// Whether queries, keys and values are one tensor.
    pub joined: bool,
    /// The epsilon of norms over each head's query and key, where there are such norms.
    pub norms: Option<f32>,
}

impl Layers<'_> {
    /// The angles of rotary positions (Su et al., RoFormer, 2021): pair `i` of `width / 2` is turned by
    /// `position * factor * base^(-2 i / width) / divisors[i]`. `scale` is a factor on cosines and sines.
    pub fn angles(
        &mut self,
        name: &str,
        inputs: Inputs,
        width: usize,
        (base, factor): (f32, f32),
        (divisors, scale): (&[f32], Option<f32>),
    ) -> ValueId {
        let frequency = |i: usize| {
            let plain = f64::from(base).powf(-2.0 * i as f64 / width as f64) * f64::from(factor);
            (plain / divisors.get(i).map_or(1.0, |divisor| f64::from(*divisor))) as f32
        };
        let frequencies: Vec<f32> = (0..width / 2).map(frequency).collect();
        let frequencies =
            self.constant(&format!("{name}/frequencies"), Array::f32(&[width / 2], &frequencies));
        let table = self.op(name, Op::RotaryTable, &[Some(inputs.ids), Some(inputs.past), Some(frequencies)]);
        match scale {
            Some(scale) => {
                let scale = self.number(&format!("{name}/scale"), scale);
                self.binary(&format!("{name}/scaled"), BinaryOp::Mul, table, scale)
            }
            None => table,
        }
    }

    /// Self-attention: `[1, tokens, heads * value_depth]` of `x`, `[1, tokens, width]`, before the product with the output's matrix.
    pub fn attention(
        &mut self,
        x: ValueId,
        block: &str,
        width: usize,
        of: &Heads,
        (inputs, sight): (Inputs, Sight),
    ) -> Result<ValueId, ImportError> {
        let &Heads { heads, kv_heads, depth, value_depth, rows, scale, soft_cap, joined, norms } = of;
        let whole = format!("{block}.attn_qkv");
        let (sizes, all) = (
            [heads, kv_heads].map(|count| count * depth),
            (heads + kv_heads) * depth + kv_heads * value_depth,
        );
        // Of the part that begins with this row, where it is a part.
        let from = |first: usize, rows: Rows| if joined { Rows::From { first, all } } else { rows };
        let part_of = joined.then_some(&whole[..]);
        let turned = |layers: &mut Self, part: &str, count: usize, first: usize| {
            let name = format!("{block}.attn_{part}");
            let rows = from(first, rows);
            let y =
                layers.linear(x, &Linear { rows, part_of, ..Linear::plain(&name, count * depth, width) })?;
            let mut y = layers.reshape(&format!("{name}/heads"), y, &[0, 0, count as i64, depth as i64]);
            if let Some(epsilon) = norms {
                y = layers.rms_norm(y, &format!("{name}_norm"), depth, epsilon)?;
            }
            Ok::<_, ImportError>(layers.op(
                &format!("{name}/turned"),
                Op::Rotary,
                &[Some(y), Some(sight.angles)],
            ))
        };
        let q = turned(self, "q", heads, 0)?;
        let k = turned(self, "k", kv_heads, sizes[0])?;
        let name = format!("{block}.attn_v");
        let rows = from(sizes[0] + sizes[1], Rows::Same);
        let of_values = Linear { rows, part_of, ..Linear::plain(&name, kv_heads * value_depth, width) };
        let v = self.linear(x, &of_values)?;
        let v = self.reshape(&format!("{name}/heads"), v, &[0, 0, kv_heads as i64, value_depth as i64]);
        let keys = self.cache(&format!("{block}.attn/keys"), kv_heads, depth);
        let values = self.cache(&format!("{block}.attn/values"), kv_heads, value_depth);
        let op = Op::CachedAttention { scale, window: sight.window, soft_cap };
        let operands = [q, k, v, keys, values, inputs.past].map(Some);
        Ok(self.op(&format!("{block}.attn"), op, &operands))
    }

    /// `down(act(gate(x)) * up(x))`, a residual added. `joined`: gate and up are one tensor.
    pub fn gated(
        &mut self,
        x: ValueId,
        block: &str,
        [width, inner]: [usize; 2],
        (act, joined): (Act, bool),
        residual: Option<ValueId>,
    ) -> Result<ValueId, ImportError> {
        let name = |part: &str| format!("{block}.ffn_{part}");
        // Where both are one tensor, it is called as the second, and the first is above.
        let (whole, [of_gate, of_up]) =
            (name("up"), ["gate", if joined { "linear" } else { "up" }].map(name));
        let part_of = joined.then_some(&whole[..]);
        let rows = |first| if joined { Rows::From { first, all: 2 * inner } } else { Rows::Same };
        let linear = |name, first| Linear { rows: rows(first), part_of, ..Linear::plain(name, inner, width) };
        let gate = self.linear(x, &Linear { act, ..linear(&of_gate, 0) })?;
        let up = self.linear(x, &linear(&of_up, inner))?;
        let product = self.binary(&name("product"), BinaryOp::Mul, gate, up);
        self.linear(product, &Linear { residual, ..Linear::plain(&name("down"), width, inner) })
    }

    /// The numbers of heads and their sizes, held against one another.
    pub fn heads(&self, width: usize) -> Result<Heads, ImportError> {
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
        let soft_cap = None;
        Ok(Heads {
            heads,
            kv_heads,
            depth,
            value_depth,
            rows: Rows::Same,
            scale,
            soft_cap,
            joined: false,
            norms: None,
        })
    }

    /// How many elements of a head are turned.
    pub fn turned_width(&self, depth: usize) -> Result<usize, ImportError> {
        let width = self.count("rope.dimension_count")?.unwrap_or(depth);
        if width > depth || width % 2 == 1 {
            let why = format!("{width} elements of heads of {depth}; an even number of them is expected");
            return Err(self.wrong("rope.dimension_count", why));
        }
        Ok(width)
    }

    /// The factor on cosines and sines, where contexts were stretched so.
    pub fn rotary_scale(&self) -> Result<Option<f32>, ImportError> {
        self.real("rope.scaling.attn_factor")
    }

    /// The factor on positions: 1, or less where contexts were stretched linearly, which a factor alone says too.
    pub fn position_factor(&self) -> Result<f32, ImportError> {
        let factor = match self.real("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // Of older files.
            None => self.real("rope.scale_linear")?,
        };
        match self.text("rope.scaling.type")? {
            Some("none") => Ok(1.0),
            // Each frequency has a divisor of its own.
            Some("longrope") => Ok(1.0),
            None | Some("linear") => Ok(factor.map_or(1.0, |factor| 1.0 / factor)),
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                Err(self
                    .unsupported(vec![format!("rope scaling `{other}`; there is none, linear, longrope")]))
            }
        }
    }
}
