//! Phi-3 (Microsoft, 2024) and Phi-4-mini: queries, keys and values are one tensor, gates and what they gate another.

use super::Family;
use super::prenorm::{NORM, Style, build};
use crate::import::ImportError;
use crate::import::pretrained::{Config, JOINED, Published};

pub(super) const FAMILY: Family = Family {
    name: "phi3",
    build: |layers| build(layers, Style { neighbours: false, head_norms: false, joined: true }),
    published: &[Published {
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        names: &JOINED,
        places: &[&[NORM]],
        numbers: &[
            ("rms_norm_eps", 1e-5),
            ("rope_theta", 10_000.0),
            ("original_max_position_embeddings", 4096.0),
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

fn is_local(config: &Config, _: usize) -> Result<bool, ImportError> {
    Ok(config.count("sliding_window")?.is_some())
}
