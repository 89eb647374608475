//! Gemma 2 (Gemma Team, 2024): every second layer sees a window, scores and logits are capped.

use super::Family;
use super::gemma::{NORMS, Style, build};
use crate::import::pretrained::{ATTENTION_BIASES, DECODER, Published};

const STYLE: Style =
    Style { head_norms: false, caps: true, pattern: 2, bases: [10_000.0; 2], other_scale: 46 };

pub(super) const FAMILY: Family = Family {
    name: "gemma2",
    build: |layers| build(layers, STYLE),
    published: &[Published {
        model_type: "gemma2",
        class: "Gemma2ForCausalLM",
        names: &DECODER,
        places: &[&NORMS, &ATTENTION_BIASES],
        numbers: &[
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 10_000.0),
            ("head_dim", 256.0),
            ("query_pre_attn_scalar", 256.0),
            ("sliding_window", 4096.0),
            ("attn_logit_softcapping", 50.0),
            ("final_logit_softcapping", 30.0),
        ],
        activations: &["gelu_pytorch_tanh"],
        head: &[],
        tied: true,
        keys: &[],
        behind_padding: false,
        added_to_norms: 1.0,
        is_local: |_, layer| Ok(layer % 2 == 0),
    }],
};
