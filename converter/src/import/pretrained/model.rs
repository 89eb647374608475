//! A checkpoint as a language model: keys of config.json and names of tensors behind the roles that families read.

use super::config::Stretched;
use super::{CONFIG, Pretrained, PretrainedError, Published, kind};
use crate::import::ImportError;
use crate::import::language::{ModelFile, Stored};
use crate::import::tokenizer::{Found, pretrained};
use std::collections::BTreeSet;
use std::path::Path;

/// Roles of parameters, and the keys that have them.
const KEYS: [(&str, &str); 14] = [
    ("block_count", "num_hidden_layers"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("context_length", "max_position_embeddings"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.value_length", "head_dim"),
    ("attention.layer_norm_epsilon", "layer_norm_eps"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("attention.sliding_window", "sliding_window"),
    ("attention.sliding_window_pattern", "sliding_window_pattern"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
];

/// The key of a role.
pub(super) fn key(form: &Published, role: &str) -> Option<&'static str> {
    form.keys.iter().chain(&KEYS).find(|(known, _)| *known == role).map(|(_, key)| *key)
}

impl ModelFile for Pretrained {
    fn path(&self) -> &Path {
        &self.path
    }

    fn family(&self) -> Result<&str, ImportError> {
        Ok(self.family)
    }

    fn count_of(&self, role: &str) -> Result<Option<usize>, ImportError> {
        match role {
            "pooling_type" => Ok(Some(self.pooling.way)),
            "pooling_normalized" => Ok(Some(self.pooling.normalized.into())),
            "rope.dimension_count" if self.rope.part != 1.0 => {
                let (width, heads) =
                    (self.count_of("embedding_length")?, self.count_of("attention.head_count")?);
                let share = width.zip(heads).map(|(width, heads)| width / heads.max(1));
                let depth = self.count_of("attention.key_length")?.or(share);
                Ok(depth.map(|depth| (depth as f64 * self.rope.part) as usize))
            }
            // The context that the divisors are for which are taken.
            "context_length" => match self.rope.stretched {
                Stretched::ByList { context, .. } => Ok(Some(context)),
                _ => {
                    let all = self.config.count("max_position_embeddings")?;
                    let first = self.count_of("first_position")?.unwrap_or_default();
                    Ok(all.map(|all| all.saturating_sub(first)))
                }
            },
            "first_position" if self.form.behind_padding => {
                Ok(self.config.count("pad_token_id")?.map(|padding| padding + 1))
            }
            role => key(self.form, role).map_or(Ok(None), |key| self.config.count(key)),
        }
    }

    fn real_of(&self, role: &str) -> Result<Option<f32>, ImportError> {
        let number = match role {
            "rope.freq_base" => self.rope.base,
            "rope.freq_base_swa" => self.rope.local_base,
            "rope.scaling.factor" => match self.rope.stretched {
                Stretched::Linear(factor) => Some(factor),
                _ => None,
            },
            "rope.scaling.attn_factor" => match self.rope.stretched {
                Stretched::ByList { scale, .. } => Some(scale),
                _ => None,
            },
            "attention.scale" => match self.config.real("query_pre_attn_scalar")? {
                Some(size) if size <= 0.0 => {
                    let why = format!("{size}; a number above 0 is expected");
                    return Err(self.config.wrong("query_pre_attn_scalar", why));
                }
                size => size.map(|size| 1.0 / size.sqrt()),
            },
            role => match key(self.form, role) {
                Some(key) => self.config.real(key)?,
                None => None,
            },
        };
        match number.map(|number| (number, number as f32)) {
            Some((number, narrow)) if !narrow.is_finite() => {
                Err(self.wrong_parameter(role, format!("{number:e}; a number of 32 bits is expected")))
            }
            number => Ok(number.map(|(_, narrow)| narrow)),
        }
    }

    fn text_of(&self, role: &str) -> Result<Option<&str>, ImportError> {
        match role {
            "activation" => Ok(self.config.text("hidden_act")?.or(self.config.text("activation")?)),
            _ => Ok(None),
        }
    }

    fn is_local(&self, layer: usize) -> Result<Option<bool>, ImportError> {
        match self.config.layer_is_local(layer)? {
            None => (self.form.is_local)(&self.config, layer).map(Some),
            listed => Ok(listed),
        }
    }

    fn divisors(&self, pairs: usize, base: f32) -> Result<Vec<f32>, ImportError> {
        self.rope
            .divisors(pairs, base.into())
            .map_err(|why| self.config.wrong("rope_scaling.short_factor", why))
    }

    fn turns_neighbours(&self) -> bool {
        false
    }

    fn added_to(&self, role: &str) -> f32 {
        if role.ends_with("norm.weight") { self.form.added_to_norms } else { 0.0 }
    }

    fn stored(&self, role: &str) -> Option<Stored<'_>> {
        let name = self.roles.get(role)?;
        let info = self.checkpoint.get(name)?;
        Some(Stored { dims: &info.dims, kind: kind(info.dtype)?, bytes: self.checkpoint.mapped(name)? })
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        let is_used = |name: &str| match self.names.get(name) {
            Some(Some(role)) => used.contains(role),
            Some(None) => true,
            None => false,
        };
        let names = self.checkpoint.tensors().iter().map(|info| info.name.clone());
        names.filter(|name| !is_used(name)).collect()
    }

    fn stated_in(&self) -> &'static str {
        CONFIG
    }

    fn not_decoded(&self) -> Vec<String> {
        self.other_types()
    }

    fn let_go(&self, part: &[u8]) {
        self.checkpoint.release(part);
    }

    fn tokenizer(&self) -> Result<Found, ImportError> {
        pretrained::import(self)
    }

    fn wrong_parameter(&self, role: &str, why: String) -> ImportError {
        self.config.wrong(key(self.form, role).unwrap_or(role), why)
    }

    fn wrong(&self, role: &str, why: String) -> ImportError {
        match self.roles.get(role) {
            Some(name) => self.checkpoint.wrong_in_file(name, why).into(),
            None => self.checkpoint.wrong(role, why).into(),
        }
    }

    fn not_implemented(&self, what: Vec<String>) -> ImportError {
        PretrainedError::Unsupported { path: self.checkpoint.path().into(), what }.into()
    }
}
