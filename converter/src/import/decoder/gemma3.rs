//! Gemma 3 (Gemma Team, 2025), text.
//!
//! ```text
//! x = embedding * sqrt(width)
//! x = x + norm(output(attention(norm(x))))      queries and keys normed by heads; of six layers, five see a window
//! x = x + norm(down(gelu(gate(norm(x))) * up(norm(x))))
//! logits = output(norm(x))                      tied to the embedding where there is no such tensor
//! ```
//!
//! The weights of norms are stored with 1 added.

use super::Family;
use super::attention::Sight;
use super::layers::{Layers, Linear};
use crate::import::gguf::GgufError;
use edge_runtime::graph::{Act, BinaryOp};

pub(super) const FAMILY: Family = Family { name: "gemma3", build };

/// Where files do not say it.
const FREQUENCY_BASE: f32 = 1_000_000.0;
/// Of layers that see a window, where files do not say it.
const LOCAL_FREQUENCY_BASE: f32 = 10_000.0;
/// Every so many layers, one sees all that came before; where files do not say it.
const PATTERN: usize = 6;
/// Layers of the one size whose scores have another factor, which no file says either.
const OTHER_SCALE: usize = 62;

fn build(layers: &mut Layers<'_>) -> Result<(), GgufError> {
    let (blocks, width) = (layers.needed("block_count")?, layers.needed("embedding_length")?);
    let inner = layers.needed("feed_forward_length")?;
    let epsilon = layers
        .real("attention.layer_norm_rms_epsilon")?
        .ok_or_else(|| layers.missing("attention.layer_norm_rms_epsilon"))?;
    let mut heads = layers.heads(width)?;
    heads.norms = Some(epsilon);
    let turned = layers.turned_width(heads.depth)?;
    let base = layers.real("rope.freq_base")?.unwrap_or(FREQUENCY_BASE);
    let factor = layers.position_factor()?;
    let window = layers.needed("attention.sliding_window")?;
    let local_base = layers.real("rope.freq_base_swa")?.unwrap_or(LOCAL_FREQUENCY_BASE);
    let pattern = layers.count("attention.sliding_window_pattern")?.unwrap_or(PATTERN);
    layers.without("final_logit_softcapping", "capped logits")?;
    if blocks == OTHER_SCALE && layers.real("attention.scale")?.is_none() {
        let what = format!(
            "{blocks} layers without the key `gemma3.attention.scale`: their factor is not 1 / sqrt(depth)"
        );
        return Err(layers.unsupported(vec![what]));
    }

    let [vocabulary, _] = layers.shape("token_embd.weight")?;
    let inputs = layers.inputs();
    let rows = layers.look_up(inputs.ids, "token_embd.weight", [vocabulary, width])?;
    let scale = layers.number("embedding/scale", (width as f32).sqrt());
    let mut x = layers.binary("embedding/scaled", BinaryOp::Mul, rows, scale);
    let global = layers.angles("rotary", inputs, turned, (base, factor), &[]);
    let local = layers.angles("rotary/local", inputs, turned, (local_base, 1.0), &[]);
    let all = Sight { angles: global, window: None };
    let near = Sight { angles: local, window: Some(window) };
    for i in 0..blocks {
        let block = format!("blk.{i}");
        let seen = if i % pattern + 1 == pattern { all } else { near };
        let y = layers.rms_norm(x, &format!("{block}.attn_norm"), width, epsilon)?;
        let y = layers.attention(y, &block, width, &heads, (inputs, seen))?;
        let output = format!("{block}.attn_output");
        let y = layers.linear(y, &Linear::plain(&output, width, heads.heads * heads.value_depth))?;
        let y = layers.rms_norm(y, &format!("{block}.post_attention_norm"), width, epsilon)?;
        x = layers.binary(&format!("{block}.attn_sum"), BinaryOp::Add, x, y);
        let y = layers.rms_norm(x, &format!("{block}.ffn_norm"), width, epsilon)?;
        let y = layers.gated(y, &block, [width, inner], Act::GeluTanh, None)?;
        let y = layers.rms_norm(y, &format!("{block}.post_ffw_norm"), width, epsilon)?;
        x = layers.binary(&format!("{block}.ffn_sum"), BinaryOp::Add, x, y);
    }
    let x = layers.wanted(x, inputs);
    let x = layers.rms_norm(x, "output_norm", width, epsilon)?;
    let last = if layers.has("output.weight") { "output" } else { "token_embd" };
    let logits = layers.linear(x, &Linear::plain(last, vocabulary, width))?;
    layers.output(logits, vocabulary)
}
