//! Llama (Touvron et al., 2023) and what is built like it: SmolLM2, Mistral (Jiang et al., 2023), whose layers see a window in its first version.

use super::Family;
use super::prenorm::{NORM, Style, build};
use crate::import::pretrained::{ATTENTION_BIASES, DECODER, PRODUCT_BIASES, Published};

const STYLE: Style = Style { neighbours: true, head_norms: false, joined: false };

pub(super) const FAMILY: Family =
    Family { name: "llama", build: |layers| build(layers, STYLE), published: &[LLAMA, MISTRAL] };

const LLAMA: Published = Published {
    model_type: "llama",
    class: "LlamaForCausalLM",
    names: &DECODER,
    places: &[&[NORM], &ATTENTION_BIASES, &PRODUCT_BIASES],
    numbers: &[("rms_norm_eps", 1e-6), ("rope_theta", 10_000.0)],
    activations: &["silu"],
    head: &[],
    tied: false,
    keys: &[],
    behind_padding: false,
    added_to_norms: 0.0,
    is_local: |_, _| Ok(false),
};

const MISTRAL: Published = Published {
    model_type: "mistral",
    class: "MistralForCausalLM",
    names: &DECODER,
    places: &[&[NORM]],
    numbers: &[
        ("rms_norm_eps", 1e-6),
        ("rope_theta", 10_000.0),
        ("num_key_value_heads", 8.0),
        ("sliding_window", 4096.0),
    ],
    is_local: |config, _| Ok(config.count("sliding_window")?.is_some()),
    ..LLAMA
};
