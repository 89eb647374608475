//! Qwen 2 and 2.5 (Qwen Team, 2024), whose queries, keys and values have biases; Qwen 3 (2025), whose queries and keys are normed by heads.

use super::Family;
use super::prenorm::{Style, build};

pub(super) const SECOND: Family =
    Family { name: "qwen2", build: |layers| build(layers, Style { neighbours: false, head_norms: false }) };

pub(super) const THIRD: Family =
    Family { name: "qwen3", build: |layers| build(layers, Style { neighbours: false, head_norms: true }) };
