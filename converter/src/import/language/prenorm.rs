//! Layers that norm what they read and add what they make: what Llama began with, and Qwen and Phi-3 have too.
//!
//! ```text
//! x = x + output(attention(norm(x)))            grouped queries, rotary positions
//! x = x + down(silu(gate(norm(x))) * up(norm(x)))
//! logits = output(norm(x))                      tied to the embedding where there is no such tensor
//! ```

use super::attention::Sight;
use super::layers::{Layers, Linear};
use crate::import::ImportError;
use crate::import::pretrained::Place;
use edge_runtime::graph::Act;

/// What families differ by.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Whether the authors' rotary positions turn neighbours; else elements that are half a head apart.
    pub neighbours: bool,
    /// Whether each head's query and key are normed.
    pub head_norms: bool,
    /// Whether queries, keys and values are one tensor, and gates and what they gate another.
    pub joined: bool,
}

/// In Hugging Face's checkpoints: the norm before the gated products,
pub(super) const NORM: Place = Place::of("post_attention_layernorm.weight", "ffn_norm.weight");
/// and those of heads.
pub(super) const HEAD_NORMS: [Place; 2] = [
    Place::of("self_attn.q_norm.weight", "attn_q_norm.weight"),
    Place::of("self_attn.k_norm.weight", "attn_k_norm.weight"),
];

/// Where files do not say it.
const FREQUENCY_BASE: f32 = 10_000.0;

/// The whole graph.
pub(super) fn build(layers: &mut Layers<'_>, style: Style) -> Result<(), ImportError> {
    layers.without("expert_count", "a mixture of experts")?;
    let (blocks, width) = (layers.needed("block_count")?, layers.needed("embedding_length")?);
    let inner = layers.needed("feed_forward_length")?;
    let epsilon = layers
        .real("attention.layer_norm_rms_epsilon")?
        .ok_or_else(|| layers.missing("attention.layer_norm_rms_epsilon"))?;
    let mut heads = layers.heads(width)?;
    let turned = layers.turned_width(heads.depth)?;
    if style.neighbours {
        heads.rows = layers.rows_of_neighbours(heads.depth, turned);
    }
    heads.norms = style.head_norms.then_some(epsilon);
    heads.joined = style.joined;
    let base = layers.real("rope.freq_base")?.unwrap_or(FREQUENCY_BASE);
    let factor = layers.position_factor()?;
    let divisors = layers.divisors(turned / 2, base)?;

    let [vocabulary, _] = layers.shape("token_embd.weight")?;
    let inputs = layers.inputs();
    let mut x = layers.look_up("embedding", inputs.ids, "token_embd.weight", [vocabulary, width])?;
    let scale = layers.rotary_scale()?;
    let angles = layers.angles("rotary", inputs, turned, (base, factor), (&divisors, scale));
    for i in 0..blocks {
        let block = format!("blk.{i}");
        let window = match layers.is_local(i)? {
            Some(true) => Some(layers.needed("attention.sliding_window")?),
            _ => None,
        };
        let sight = Sight { angles, window };
        let y = layers.rms_norm(x, &format!("{block}.attn_norm"), width, epsilon)?;
        let y = layers.attention(y, &block, width, &heads, (inputs, sight))?;
        let output = format!("{block}.attn_output");
        let linear = Linear::plain(&output, width, heads.heads * heads.value_depth);
        x = layers.linear(y, &Linear { residual: Some(x), ..linear })?;
        let y = layers.rms_norm(x, &format!("{block}.ffn_norm"), width, epsilon)?;
        x = layers.gated(y, &block, [width, inner], (Act::Silu, style.joined), Some(x))?;
    }
    let x = layers.wanted(x, inputs);
    let x = layers.rms_norm(x, "output_norm", width, epsilon)?;
    let last = if layers.has("output.weight") { "output" } else { "token_embd" };
    let logits = layers.linear(x, &Linear::plain(last, vocabulary, width))?;
    layers.output(logits, vocabulary)
}
