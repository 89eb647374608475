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
    /// The class of the model, in `architectures`.
    pub class: &'static str,
    /// How its tensors are called.
    pub names: &'static Names,
    /// Tensors of each layer beside those that all of these names have.
    pub places: &'static [&'static [Place]],
    /// Tensors outside of layers beside those, by their whole names.
    pub head: &'static [Place],
    /// Roles of parameters with keys of its own.
    pub keys: &'static [(&'static str, &'static str)],
    /// Whether the positions of tokens begin behind the number of the token that texts are filled up with.
    pub behind_padding: bool,
    /// Numbers by their keys, where config.json does not say them.
    pub numbers: &'static [(&'static str, f64)],
    /// Functions between a layer's products that it may have.
    pub activations: &'static [&'static str],
    /// Whether logits are products with the embedding, where config.json does not say it.
    pub tied: bool,
    /// What is missing in the weights of norms.
    pub added_to_norms: f32,
    /// Whether a layer sees a window, where `layer_types` of config.json does not say it.
    pub is_local: fn(&Config, usize) -> Result<bool, ImportError>,
}

impl Published {
    /// Whether it writes text; else it reads one, and its results may be made one vector.
    pub(super) fn writes(&self) -> bool {
        self.names.output.is_some()
    }
}

/// How the tensors of a model are called.
#[derive(Debug)]
pub struct Names {
    /// What names begin with; of several that which the first tensor has.
    prefixes: &'static [&'static str],
    /// Outside of layers.
    outside: &'static [Place],
    /// What the names of layers go on with, before their number.
    layers: &'static str,
    /// Of each layer.
    each: &'static [Place],
    /// The output's matrix, where it is not the embedding.
    output: Option<Place>,
    /// What ends the names of tensors that nothing is missed of.
    aside: &'static [&'static str],
}

/// A tensor.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its name; of a layer's, what is behind that of the layer.
    pub stored: &'static str,
    /// Its role; of a layer's, what is behind `blk.N.`.
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

const DECODER_PREFIXES: &[&str] = &["model."];
const DECODER_OUTSIDE: &[Place] =
    &[Place::of("embed_tokens.weight", "token_embd.weight"), Place::of("norm.weight", "output_norm.weight")];
const OUTPUT: Place = Place::of("lm_head.weight", "output.weight");

/// Names of what writes text.
pub(crate) static DECODER: Names = Names {
    prefixes: DECODER_PREFIXES,
    outside: DECODER_OUTSIDE,
    layers: "layers.",
    each: &LAYER,
    output: Some(OUTPUT),
    aside: &[".rotary_emb.inv_freq"],
};

/// Names of what writes text, where matrices that read the same are one tensor.
pub(crate) static JOINED: Names = Names {
    prefixes: DECODER_PREFIXES,
    outside: DECODER_OUTSIDE,
    layers: "layers.",
    each: &[
        Place::of("input_layernorm.weight", "attn_norm.weight"),
        Place::of("self_attn.qkv_proj.weight", "attn_qkv.weight"),
        Place::of("self_attn.o_proj.weight", "attn_output.weight"),
        Place::of("mlp.gate_up_proj.weight", "ffn_up.weight"),
        Place::of("mlp.down_proj.weight", "ffn_down.weight"),
    ],
    output: Some(OUTPUT),
    aside: &[".rotary_emb.inv_freq"],
};

/// Names of BERT and RoBERTa.
pub(crate) static ENCODER: Names = Names {
    prefixes: &["", "bert.", "roberta."],
    outside: &[
        Place::of("embeddings.word_embeddings.weight", "token_embd.weight"),
        Place::of("embeddings.position_embeddings.weight", "position_embd.weight"),
        Place::of("embeddings.token_type_embeddings.weight", "token_types.weight"),
        Place::of("embeddings.LayerNorm.weight", "token_embd_norm.weight"),
        Place::of("embeddings.LayerNorm.bias", "token_embd_norm.bias"),
    ],
    layers: "encoder.layer.",
    each: &[
        Place::of("attention.self.query.weight", "attn_q.weight"),
        Place::of("attention.self.query.bias", "attn_q.bias"),
        Place::of("attention.self.key.weight", "attn_k.weight"),
        Place::of("attention.self.key.bias", "attn_k.bias"),
        Place::of("attention.self.value.weight", "attn_v.weight"),
        Place::of("attention.self.value.bias", "attn_v.bias"),
        Place::of("attention.output.dense.weight", "attn_output.weight"),
        Place::of("attention.output.dense.bias", "attn_output.bias"),
        Place::of("attention.output.LayerNorm.weight", "attn_output_norm.weight"),
        Place::of("attention.output.LayerNorm.bias", "attn_output_norm.bias"),
        Place::of("intermediate.dense.weight", "ffn_up.weight"),
        Place::of("intermediate.dense.bias", "ffn_up.bias"),
        Place::of("output.dense.weight", "ffn_down.weight"),
        Place::of("output.dense.bias", "ffn_down.bias"),
        Place::of("output.LayerNorm.weight", "layer_output_norm.weight"),
        Place::of("output.LayerNorm.bias", "layer_output_norm.bias"),
    ],
    output: None,
    // What a classifier reads is left out where there is none.
    aside: &[
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
    ],
};

/// Names of DistilBERT.
pub(crate) static DISTILLED: Names = Names {
    prefixes: &["", "distilbert."],
    outside: &[
        Place::of("embeddings.word_embeddings.weight", "token_embd.weight"),
        Place::of("embeddings.position_embeddings.weight", "position_embd.weight"),
        Place::of("embeddings.LayerNorm.weight", "token_embd_norm.weight"),
        Place::of("embeddings.LayerNorm.bias", "token_embd_norm.bias"),
    ],
    layers: "transformer.layer.",
    each: &[
        Place::of("attention.q_lin.weight", "attn_q.weight"),
        Place::of("attention.q_lin.bias", "attn_q.bias"),
        Place::of("attention.k_lin.weight", "attn_k.weight"),
        Place::of("attention.k_lin.bias", "attn_k.bias"),
        Place::of("attention.v_lin.weight", "attn_v.weight"),
        Place::of("attention.v_lin.bias", "attn_v.bias"),
        Place::of("attention.out_lin.weight", "attn_output.weight"),
        Place::of("attention.out_lin.bias", "attn_output.bias"),
        Place::of("sa_layer_norm.weight", "attn_output_norm.weight"),
        Place::of("sa_layer_norm.bias", "attn_output_norm.bias"),
        Place::of("ffn.lin1.weight", "ffn_up.weight"),
        Place::of("ffn.lin1.bias", "ffn_up.bias"),
        Place::of("ffn.lin2.weight", "ffn_down.weight"),
        Place::of("ffn.lin2.bias", "ffn_down.bias"),
        Place::of("output_layer_norm.weight", "layer_output_norm.weight"),
        Place::of("output_layer_norm.bias", "layer_output_norm.bias"),
    ],
    output: None,
    aside: &["embeddings.position_ids"],
};

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
    let names = form.names;
    let is_there = |prefix: &&&str| {
        names.outside.iter().any(|place| checkpoint.get(&format!("{prefix}{}", place.stored)).is_some())
    };
    let prefix = names.prefixes.iter().find(is_there).or(names.prefixes.first()).copied().unwrap_or_default();
    let outside =
        names.outside.iter().map(|place| (format!("{prefix}{}", place.stored), place.role.to_string()));
    let mut wanted: Vec<(String, String)> = outside.collect();
    let head = form.head.iter().chain(names.output.iter().filter(|_| !tied));
    wanted.extend(head.map(|place| (place.stored.to_string(), place.role.to_string())));
    let mut places: Vec<Place> = names.each.to_vec();
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
        let of = |place: &Place| {
            (format!("{prefix}{}{i}.{}", names.layers, place.stored), format!("blk.{i}.{}", place.role))
        };
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

/// Tensors that nothing is missed of: what follows from config.json, an output's matrix that is the embedding, what a head that is not there reads.
pub(super) fn aside(form: &Published, checkpoint: &Checkpoint, tied: bool) -> Vec<String> {
    let all = checkpoint.tensors().iter().map(|info| &info.name);
    let output = form.names.output.filter(|_| tied).map(|place| place.stored);
    let is = |name: &&String| {
        form.names.aside.iter().any(|end| name.ends_with(end)) || output.is_some_and(|output| *name == output)
    };
    all.filter(is).cloned().collect()
}
