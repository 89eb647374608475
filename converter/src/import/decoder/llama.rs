//! Llama (Touvron et al., 2023) and what is built like it: SmolLM2, Mistral.

use super::Family;
use super::prenorm::{Style, build};

pub(super) const FAMILY: Family =
    Family { name: "llama", build: |layers| build(layers, Style { neighbours: true, head_norms: false }) };
