//! Which tensor has which role: names as the `transformers` library has them, roles as GGUF does.

use super::Config;
use crate::import::ImportError;
use crate::import::checkpoint::Checkpoint;
use std::collections::HashMap;

/// What Hugging Face's checkpoints of an architecture are like.
#[derive(Debug)]
pub struct Published {
    /// `model_type` of config.json.
    pub model_type: &'static str,
    /// The class of a model that writes text, in `architectures`.
    pub class: &'static str,
    /// Tensors of each layer beside those that all architectures have.
    pub places: &'static [&'static [Place]],
    /// Numbers by their keys, where config.json does not say them.
    pub numbers: &'static [(&'static str, f64)],
    /// The gated products' function.
    pub activation: &'static str,
    /// Whether logits are products with the embedding, where config.json does not say it.
    pub tied: bool,
    /// What is missing in the weights of norms.
    pub added_to_norms: f32,
    /// Whether a layer sees a window, where `layer_types` of config.json does not say it.
    pub is_local: fn(&Config, usize) -> Result<bool, ImportError>,
}

/// A tensor of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its name behind `model.layers.N.`.
    pub stored: &'static str,
    /// Its role behind `blk.N.`.
    pub role: &'static str,
    /// When there is one.
    pub when: When,
}

/// When there is a tensor.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// In each checkpoint.
    Always,
    /// In those whose config.json has this key as true.
    Set(&'static str),
}

impl Place {
    /// A tensor of each checkpoint.
    pub const fn of(stored: &'static str, role: &'static str) -> Place {
        Place { stored, role, when: When::Always }
    }

    const fn set(key: &'static str, stored: &'static str, role: &'static str) -> Place {
        Place { stored, role, when: When::Set(key) }
    }
}

/// Of each layer of every architecture.
const LAYER: [Place; 8] = [
    Place::of("input_layernorm.weight", "attn_norm.weight"),
    Place::of("self_attn.q_proj.weight", "attn_q.weight"),
    Place::of("self_attn.k_proj.weight", "attn_k.weight"),
    Place::of("self_attn.v_proj.weight", "attn_v.weight"),
    Place::of("self_attn.o_proj.weight", "attn_output.weight"),
    Place::of("mlp.gate_proj.weight", "ffn_gate.weight"),
    Place::of("mlp.up_proj.weight", "ffn_up.weight"),
    Place::of("mlp.down_proj.weight", "ffn_down.weight"),
];

/// Biases around attention, where config.json asks for them.
pub(crate) const ATTENTION_BIASES: [Place; 4] = [
    Place::set("attention_bias", "self_attn.q_proj.bias", "attn_q.bias"),
    Place::set("attention_bias", "self_attn.k_proj.bias", "attn_k.bias"),
    Place::set("attention_bias", "self_attn.v_proj.bias", "attn_v.bias"),
    Place::set("attention_bias", "self_attn.o_proj.bias", "attn_output.bias"),
];

/// Biases of the gated products, where config.json asks for them.
pub(crate) const PRODUCT_BIASES: [Place; 3] = [
    Place::set("mlp_bias", "mlp.gate_proj.bias", "ffn_gate.bias"),
    Place::set("mlp_bias", "mlp.up_proj.bias", "ffn_up.bias"),
    Place::set("mlp_bias", "mlp.down_proj.bias", "ffn_down.bias"),
];

/// The output's matrix.
const OUTPUT: &str = "lm_head.weight";
/// Most layers: a checkpoint has a tensor of each, and of each the missing ones are listed.
const MAX_LAYERS: usize = 1 << 16;

/// Roles with the tensors that have them, and the tensors that are not there.
pub(super) fn roles(
    form: &Published,
    config: &Config,
    checkpoint: &Checkpoint,
    blocks: usize,
    tied: bool,
) -> Result<(HashMap<String, String>, Vec<String>), ImportError> {
    if blocks > MAX_LAYERS {
        return Err(config.wrong("num_hidden_layers", format!("{blocks}; at most {MAX_LAYERS} are expected")));
    }
    let mut wanted = vec![
        ("model.embed_tokens.weight".to_string(), "token_embd.weight".to_string()),
        ("model.norm.weight".to_string(), "output_norm.weight".to_string()),
    ];
    if !tied {
        wanted.push((OUTPUT.into(), "output.weight".into()));
    }
    let mut places: Vec<Place> = LAYER.to_vec();
    for place in form.places.iter().copied().flatten() {
        let is_there = match place.when {
            When::Always => true,
            When::Set(key) => config.flag(key)?.unwrap_or(false),
        };
        if is_there {
            places.push(*place);
        }
    }
    for i in 0..blocks {
        let of =
            |place: &Place| (format!("model.layers.{i}.{}", place.stored), format!("blk.{i}.{}", place.role));
        wanted.extend(places.iter().map(of));
    }
    let (mut roles, mut missing) = (HashMap::with_capacity(wanted.len()), Vec::new());
    for (name, role) in wanted {
        if checkpoint.get(&name).is_some() {
            roles.insert(role, name);
        } else {
            missing.push(name);
        }
    }
    Ok((roles, missing))
}

/// Tensors that nothing is missed of: frequencies that follow from config.json, and an output's matrix that is the embedding.
pub(super) fn aside(checkpoint: &Checkpoint, tied: bool) -> Vec<String> {
    let names = checkpoint.tensors().iter().map(|info| &info.name);
    let is = |name: &&String| name.ends_with(".rotary_emb.inv_freq") || (tied && *name == OUTPUT);
    names.filter(is).cloned().collect()
}
