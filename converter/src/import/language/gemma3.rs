//! Gemma 3 (Gemma Team, 2025), text: of six layers, five see a window, with a base of frequencies of their own; queries and keys are normed by heads.

use super::Family;
use super::gemma::{NORMS, Style, build};
use super::prenorm::HEAD_NORMS;
use crate::import::pretrained::{ATTENTION_BIASES, DECODER, Published};

const STYLE: Style =
    Style { head_norms: true, caps: false, pattern: 6, bases: [1_000_000.0, 10_000.0], other_scale: 62 };

pub(super) const FAMILY: Family = Family {
    name: "gemma3",
    build: |layers| build(layers, STYLE),
    published: &[Published {
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        names: &DECODER,
        places: &[&NORMS, &HEAD_NORMS, &ATTENTION_BIASES],
        numbers: &[
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 1_000_000.0),
            ("rope_local_base_freq", 10_000.0),
            ("head_dim", 256.0),
            ("query_pre_attn_scalar", 256.0),
            ("sliding_window", 4096.0),
        ],
        activations: &["gelu_pytorch_tanh"],
        head: &[],
        tied: true,
        keys: &[],
        behind_padding: false,
        added_to_norms: 1.0,
        is_local: |config, layer| {
            let stated = match config.count("sliding_window_pattern")? {
                None => config.count("_sliding_window_pattern")?,
                stated => stated,
            };
            let pattern = stated.unwrap_or(STYLE.pattern).max(1);
            Ok(layer % pattern + 1 != pattern)
        },
    }],
};
