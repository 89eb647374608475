//! Qwen 2 and 2.5 (Qwen Team, 2024), whose queries, keys and values have biases; Qwen 3 (2025), whose queries and keys are normed by heads.

use super::Family;
use super::prenorm::{HEAD_NORMS, NORM, Style, build};
use crate::import::ImportError;
use crate::import::pretrained::{ATTENTION_BIASES, Config, DECODER, Place, Published};

const BIASES: [Place; 3] = [
    Place::of("self_attn.q_proj.bias", "attn_q.bias"),
    Place::of("self_attn.k_proj.bias", "attn_k.bias"),
    Place::of("self_attn.v_proj.bias", "attn_v.bias"),
];

pub(super) const SECOND: Family = Family {
    name: "qwen2",
    build: |layers| build(layers, Style { neighbours: false, head_norms: false, joined: false }),
    published: &[Published {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        names: &DECODER,
        places: &[&[NORM], &BIASES],
        numbers: &[
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 10_000.0),
            ("sliding_window", 4096.0),
            ("max_window_layers", 28.0),
        ],
        activations: &["silu"],
        head: &[],
        tied: false,
        keys: &[],
        behind_padding: false,
        added_to_norms: 0.0,
        is_local,
    }],
};

pub(super) const THIRD: Family = Family {
    name: "qwen3",
    build: |layers| build(layers, Style { neighbours: false, head_norms: true, joined: false }),
    published: &[Published {
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        names: &DECODER,
        places: &[&[NORM], &HEAD_NORMS, &ATTENTION_BIASES],
        numbers: &[
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 10_000.0),
            ("head_dim", 128.0),
            ("sliding_window", 4096.0),
            ("max_window_layers", 28.0),
        ],
        activations: &["silu"],
        head: &[],
        tied: false,
        keys: &[],
        behind_padding: false,
        added_to_norms: 0.0,
        is_local,
    }],
};

/// Where windows are asked for, the last layers have one.
fn is_local(config: &Config, layer: usize) -> Result<bool, ImportError> {
    let from = config.count("max_window_layers")?.unwrap_or_default();
    Ok(config.flag("use_sliding_window")?.unwrap_or(false) && layer >= from)
}
