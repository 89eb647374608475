//! The layers of Gemma 2 and 3 (Gemma Team, 2024 and 2025), text.
//!
//! ```text
//! x = embedding * sqrt(width)
//! x = x + norm(output(attention(norm(x))))      some layers see a window
//! x = x + norm(down(gelu(gate(norm(x))) * up(norm(x))))
//! logits = output(norm(x))                      tied to the embedding where there is no such tensor
//! ```
//!
//! GGUF has the weights of norms with 1 added, Hugging Face's checkpoints without.

use super::attention::Sight;
use super::layers::{Layers, Linear};
use crate::import::ImportError;
use crate::import::pretrained::Place;
use edge_runtime::graph::{Act, BinaryOp, Op, UnaryOp};

/// What generations differ by.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Whether each head's query and key are normed.
    pub head_norms: bool,
    /// Whether scores and logits are capped.
    pub caps: bool,
    /// Every so many layers, the last of them sees all that came before; where files do not say it.
    pub pattern: usize,
    /// The base of frequencies, and that of layers that see a window; where files do not say it.
    pub bases: [f32; 2],
    /// Layers of the one size whose scores have another factor, which GGUF files do not say.
    pub other_scale: usize,
}

/// Norms in Hugging Face's checkpoints.
pub(super) const NORMS: [Place; 3] = [
    Place::of("post_attention_layernorm.weight", "post_attention_norm.weight"),
    Place::of("pre_feedforward_layernorm.weight", "ffn_norm.weight"),
    Place::of("post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
];

/// The whole graph.
pub(super) fn build(layers: &mut Layers<'_>, style: Style) -> Result<(), ImportError> {
    let (blocks, width) = (layers.needed("block_count")?, layers.needed("embedding_length")?);
    let inner = layers.needed("feed_forward_length")?;
    let epsilon = layers
        .real("attention.layer_norm_rms_epsilon")?
        .ok_or_else(|| layers.missing("attention.layer_norm_rms_epsilon"))?;
    let mut heads = layers.heads(width)?;
    heads.norms = style.head_norms.then_some(epsilon);
    let mut logit_cap = None;
    if style.caps {
        heads.soft_cap = layers.real("attn_logit_softcapping")?;
        logit_cap = layers.real("final_logit_softcapping")?;
    } else {
        layers.without("attn_logit_softcapping", "capped scores")?;
        layers.without("final_logit_softcapping", "capped logits")?;
    }
    let turned = layers.turned_width(heads.depth)?;
    let base = layers.real("rope.freq_base")?.unwrap_or(style.bases[0]);
    let factor = layers.position_factor()?;
    let divisors = layers.divisors(turned / 2, base)?;
    let window = layers.needed("attention.sliding_window")?;
    let local_base = layers.real("rope.freq_base_swa")?.unwrap_or(style.bases[1]);
    let pattern = layers.count("attention.sliding_window_pattern")?.unwrap_or(style.pattern);
    if blocks == style.other_scale && layers.real("attention.scale")?.is_none() {
        let what =
            format!("{blocks} layers without the key `attention.scale`: their factor is not 1 / sqrt(depth)");
        return Err(layers.unsupported(vec![what]));
    }

    let [vocabulary, _] = layers.shape("token_embd.weight")?;
    let inputs = layers.inputs();
    let rows = layers.look_up("embedding", inputs.ids, "token_embd.weight", [vocabulary, width])?;
    let scale = layers.number("embedding/scale", (width as f32).sqrt());
    let mut x = layers.binary("embedding/scaled", BinaryOp::Mul, rows, scale);
    let global = layers.angles("rotary", inputs, turned, (base, factor), (&divisors, None));
    let local = match local_base == base && factor == 1.0 && divisors.is_empty() {
        true => global,
        false => layers.angles("rotary/local", inputs, turned, (local_base, 1.0), (&[], None)),
    };
    let all = Sight { angles: global, window: None };
    let near = Sight { angles: local, window: Some(window) };
    for i in 0..blocks {
        let block = format!("blk.{i}");
        let is_local = layers.is_local(i)?.unwrap_or(i % pattern + 1 != pattern);
        let seen = if is_local { near } else { all };
        let y = layers.rms_norm(x, &format!("{block}.attn_norm"), width, epsilon)?;
        let y = layers.attention(y, &block, width, &heads, (inputs, seen))?;
        let output = format!("{block}.attn_output");
        let y = layers.linear(y, &Linear::plain(&output, width, heads.heads * heads.value_depth))?;
        let y = layers.rms_norm(y, &format!("{block}.post_attention_norm"), width, epsilon)?;
        x = layers.binary(&format!("{block}.attn_sum"), BinaryOp::Add, x, y);
        let y = layers.rms_norm(x, &format!("{block}.ffn_norm"), width, epsilon)?;
        let y = layers.gated(y, &block, [width, inner], (Act::GeluTanh, false), None)?;
        let y = layers.rms_norm(y, &format!("{block}.post_ffw_norm"), width, epsilon)?;
        x = layers.binary(&format!("{block}.ffn_sum"), BinaryOp::Add, x, y);
    }
    let x = layers.wanted(x, inputs);
    let x = layers.rms_norm(x, "output_norm", width, epsilon)?;
    let last = if layers.has("output.weight") { "output" } else { "token_embd" };
    let mut logits = layers.linear(x, &Linear::plain(last, vocabulary, width))?;
    if let Some(cap) = logit_cap {
        let part = layers.number("output/cap/inverse", 1.0 / cap);
        let y = layers.binary("output/cap/part", BinaryOp::Mul, logits, part);
        let y = layers.op("output/cap/tanh", Op::Unary(UnaryOp::Act(Act::Tanh)), &[Some(y)]);
        let cap = layers.number("output/cap", cap);
        logits = layers.binary("output/capped", BinaryOp::Mul, y, cap);
    }
    layers.output(logits, vocabulary)
}
