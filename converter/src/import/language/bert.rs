//! BERT (Devlin et al., 2019): encoders of texts, MiniLM among them; RoBERTa and DistilBERT.
//!
//! ```text
//! x = norm(word + position + type)
//! x = norm(x + output(attention(x)))            all tokens see each other, but for those that fill a text up
//! x = norm(x + down(act(up(x))))
//! last_hidden_state = x
//! sentence_embedding                            the mean of a text's tokens or the first one's vector, of length 1 where the model says so
//! logits = classifier(act(pooler(first)))       in place of both, where there is a classifier: tanh, DistilBERT's relu
//! ```

use super::Family;
use super::layers::{Layers, Linear};
use crate::import::ImportError;
use crate::import::pretrained::{DISTILLED, ENCODER, Place, Published};
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, DType, Op, ReduceOp, ValueId};

const MODEL: Published = Published {
    model_type: "bert",
    class: "BertModel",
    names: &ENCODER,
    places: &[],
    head: &[],
    numbers: &[("layer_norm_eps", 1e-12)],
    activations: &["gelu", "gelu_pytorch_tanh", "relu", "silu"],
    tied: true,
    keys: &[],
    behind_padding: false,
    added_to_norms: 0.0,
    is_local: |_, _| Ok(false),
};

const CLASSIFIER: Published = Published {
    class: "BertForSequenceClassification",
    head: &[
        Place::of("bert.pooler.dense.weight", "cls.weight"),
        Place::of("bert.pooler.dense.bias", "cls.bias"),
        Place::of("classifier.weight", "cls.output.weight"),
        Place::of("classifier.bias", "cls.output.bias"),
    ],
    ..MODEL
};

/// RoBERTa (Liu et al., 2019): no types, positions that begin behind the padding's number.
const ROBERTA: Published = Published {
    model_type: "roberta",
    class: "RobertaModel",
    numbers: &[("layer_norm_eps", 1e-12), ("pad_token_id", 1.0)],
    behind_padding: true,
    ..MODEL
};

const ROBERTA_CLASSIFIER: Published = Published {
    class: "RobertaForSequenceClassification",
    head: &[
        Place::of("classifier.dense.weight", "cls.weight"),
        Place::of("classifier.dense.bias", "cls.bias"),
        Place::of("classifier.out_proj.weight", "cls.output.weight"),
        Place::of("classifier.out_proj.bias", "cls.output.bias"),
    ],
    ..ROBERTA
};

/// DistilBERT (Sanh et al., 2019): no types at all, and names of its own.
const DISTILBERT: Published = Published {
    model_type: "distilbert",
    class: "DistilBertModel",
    names: &DISTILLED,
    // Its norms' epsilon is no parameter.
    numbers: &[("layer_norm_eps", 1e-12)],
    keys: &[
        ("block_count", "n_layers"),
        ("embedding_length", "dim"),
        ("feed_forward_length", "hidden_dim"),
        ("attention.head_count", "n_heads"),
    ],
    ..MODEL
};

const DISTILBERT_CLASSIFIER: Published = Published {
    class: "DistilBertForSequenceClassification",
    head: &[
        Place::of("pre_classifier.weight", "cls.relu.weight"),
        Place::of("pre_classifier.bias", "cls.relu.bias"),
        Place::of("classifier.weight", "cls.output.weight"),
        Place::of("classifier.bias", "cls.output.bias"),
    ],
    ..DISTILBERT
};

pub(super) const FAMILY: Family = Family {
    name: "bert",
    build,
    published: &[MODEL, CLASSIFIER, ROBERTA, ROBERTA_CLASSIFIER, DISTILBERT, DISTILBERT_CLASSIFIER],
};

/// What scores of tokens are lowered by that fill a text up: no exponential of a float is left of them.
const UNSEEN: f32 = 1e30;
/// Least number of tokens and least length that are divided by.
const LEAST: [f32; 2] = [1e-9, 1e-12];

/// A layer's sizes.
struct Sizes {
    width: usize,
    heads: usize,
    inner: usize,
    epsilon: f32,
    act: Act,
}

fn build(layers: &mut Layers<'_>) -> Result<(), ImportError> {
    let (blocks, width) = (layers.needed("block_count")?, layers.needed("embedding_length")?);
    let (heads, inner) = (layers.needed("attention.head_count")?, layers.needed("feed_forward_length")?);
    let epsilon = layers
        .real("attention.layer_norm_epsilon")?
        .ok_or_else(|| layers.missing("attention.layer_norm_epsilon"))?;
    if !width.is_multiple_of(heads) {
        let why = format!("{heads} heads for {width} columns; a divisor is expected");
        return Err(layers.wrong("attention.head_count", why));
    }
    let act = match layers.text("activation")? {
        Some("relu") => Act::Relu,
        Some("silu" | "swish") => Act::Silu,
        // Others than these are refused where the file is read.
        Some(name) if name.starts_with("gelu_") && name != "gelu_python" => Act::GeluTanh,
        _ => Act::Gelu,
    };
    let sizes = Sizes { width, heads, inner, epsilon, act };

    let [vocabulary, _] = layers.shape("token_embd.weight")?;
    let [positions, _] = layers.shape("position_embd.weight")?;
    let ids = layers.texts("input_ids");
    let mask = layers.texts("attention_mask");
    let mut x = layers.look_up("embedding", ids, "token_embd.weight", [vocabulary, width])?;
    if layers.has("token_types.weight") {
        let [types, _] = layers.shape("token_types.weight")?;
        // Where there is one type, no text says which it is.
        let of = match types {
            1 => layers.constant("types/only", Array::i64(&[1, 1], &[0])),
            _ => layers.texts("token_type_ids"),
        };
        let types = layers.look_up("types", of, "token_types.weight", [types, width])?;
        x = layers.binary("embedding/typed", BinaryOp::Add, x, types);
    }
    let first_place = layers.number_of("first_position")?.unwrap_or(0);
    let places = places(layers, ids, first_place);
    let places = layers.look_up("positions", places, "position_embd.weight", [positions, width])?;
    x = layers.binary("embedding/placed", BinaryOp::Add, x, places);
    x = layers.layer_norm(x, "token_embd_norm", width, epsilon)?;

    let seen = layers.op("seen", Op::Cast { to: DType::F32 }, &[Some(mask)]);
    let bias = bias(layers, seen);
    for i in 0..blocks {
        x = layer(layers, &format!("blk.{i}"), x, bias, &sizes)?;
    }
    if layers.has("cls.weight") || layers.has("cls.output.weight") {
        return classifier(layers, x, width);
    }
    layers.result("last_hidden_state", x, true, width);
    let pooled = match layers.number_of("pooling_type")? {
        // Every token has a vector.
        Some(0) => None,
        Some(2) => Some(first(layers, x)),
        Some(1) | None => Some(mean(layers, x, seen)),
        Some(other) => {
            let why = format!("{other}; 0 (none), 1 (the mean) or 2 (the first token's) is expected");
            return Err(layers.wrong("pooling_type", why));
        }
    };
    if let Some(mut pooled) = pooled {
        if layers.number_of("pooling_normalized")? == Some(1) {
            pooled = of_length_1(layers, pooled);
        }
        layers.result("sentence_embedding", pooled, false, width);
    }
    Ok(())
}

/// `[1, tokens]`: `first`, `first + 1`, ... of as many as texts have.
fn places(layers: &mut Layers<'_>, ids: ValueId, first: usize) -> ValueId {
    let tokens = layers.op("tokens", Op::Shape { start: 1, end: Some(2) }, &[Some(ids)]);
    let tokens = layers.op("tokens/count", Op::Squeeze { axes: vec![0] }, &[Some(tokens)]);
    let [zero, one] = [0, 1].map(|i| layers.constant(&format!("places/{i}"), Array::i64(&[], &[i])));
    let places = layers.op("places", Op::Range, &[Some(zero), Some(tokens), Some(one)]);
    let places = layers.op("places/of_text", Op::Unsqueeze { axes: vec![0] }, &[Some(places)]);
    if first == 0 {
        return places;
    }
    let first = layers.constant("places/first", Array::i64(&[], &[first as i64]));
    layers.binary("places/behind_padding", BinaryOp::Add, places, first)
}

/// What is added to scores, `[batch, 1, 1, tokens]`: 0 where a token counts.
fn bias(layers: &mut Layers<'_>, seen: ValueId) -> ValueId {
    let [one, unseen] =
        [("bias/1", 1.0), ("bias/unseen", UNSEEN)].map(|(name, value)| layers.number(name, value));
    let bias = layers.binary("bias/of_tokens", BinaryOp::Sub, seen, one);
    let bias = layers.binary("bias/scaled", BinaryOp::Mul, bias, unseen);
    layers.op("bias", Op::Unsqueeze { axes: vec![1, 2] }, &[Some(bias)])
}

fn layer(
    layers: &mut Layers<'_>,
    block: &str,
    x: ValueId,
    bias: ValueId,
    of: &Sizes,
) -> Result<ValueId, ImportError> {
    let &Sizes { width, heads, inner, epsilon, act } = of;
    let depth = width / heads;
    let by_heads = Op::Transpose { perm: vec![0, 2, 1, 3] };
    let mut part = |part: &str| {
        let name = format!("{block}.attn_{part}");
        let y = layers.linear(x, &Linear::plain(&name, width, width))?;
        let y = layers.reshape(&format!("{name}/heads"), y, &[0, 0, heads as i64, depth as i64]);
        Ok::<_, ImportError>(layers.op(&format!("{name}/by_heads"), by_heads.clone(), &[Some(y)]))
    };
    let (q, k, v) = (part("q")?, part("k")?, part("v")?);
    let attention = Op::Attention { k_transposed: false, scale: (1.0 / (depth as f64).sqrt()) as f32 };
    let y = layers.op(&format!("{block}.attn"), attention, &[q, k, v, bias].map(Some));
    let y = layers.op(&format!("{block}.attn/by_tokens"), by_heads, &[Some(y)]);
    let y = layers.reshape(&format!("{block}.attn/whole"), y, &[0, 0, width as i64]);
    let output = format!("{block}.attn_output");
    let y = layers.linear(y, &Linear { residual: Some(x), ..Linear::plain(&output, width, width) })?;
    let x = layers.layer_norm(y, &format!("{block}.attn_output_norm"), width, epsilon)?;
    let up = format!("{block}.ffn_up");
    let y = layers.linear(x, &Linear { act, ..Linear::plain(&up, inner, width) })?;
    let down = format!("{block}.ffn_down");
    let y = layers.linear(y, &Linear { residual: Some(x), ..Linear::plain(&down, width, inner) })?;
    layers.layer_norm(y, &format!("{block}.layer_output_norm"), width, epsilon)
}

/// `[batch, columns]`: the mean over the tokens that count.
fn mean(layers: &mut Layers<'_>, x: ValueId, seen: ValueId) -> ValueId {
    let sum = |axis: i32, keep_dims: bool| Op::Reduce { kind: ReduceOp::Sum, axes: vec![axis], keep_dims };
    let each = layers.op("pooling/seen", Op::Unsqueeze { axes: vec![2] }, &[Some(seen)]);
    let kept = layers.binary("pooling/kept", BinaryOp::Mul, x, each);
    let all = layers.op("pooling/sum", sum(1, false), &[Some(kept)]);
    let count = layers.op("pooling/tokens", sum(1, true), &[Some(seen)]);
    let least = layers.number("pooling/least", LEAST[0]);
    let count = layers.binary("pooling/count", BinaryOp::Max, count, least);
    layers.binary("pooling/mean", BinaryOp::Div, all, count)
}

/// `[batch, columns]`: the first token's.
fn first(layers: &mut Layers<'_>, x: ValueId) -> ValueId {
    let at = layers.constant("first/place", Array::i64(&[], &[0]));
    layers.op("first", Op::Gather { axis: 1 }, &[Some(x), Some(at)])
}

fn of_length_1(layers: &mut Layers<'_>, x: ValueId) -> ValueId {
    let length = Op::Reduce { kind: ReduceOp::L2, axes: vec![-1], keep_dims: true };
    let length = layers.op("pooling/length", length, &[Some(x)]);
    let least = layers.number("pooling/least_length", LEAST[1]);
    let length = layers.binary("pooling/divisor", BinaryOp::Max, length, least);
    layers.binary("pooling/normalized", BinaryOp::Div, x, length)
}

/// The logits of classes.
fn classifier(layers: &mut Layers<'_>, x: ValueId, width: usize) -> Result<(), ImportError> {
    let mut x = first(layers, x);
    let two = layers.has("cls.output.weight");
    for (name, act) in [("cls", Act::Tanh), ("cls.relu", Act::Relu)] {
        if two && layers.has(&format!("{name}.weight")) {
            x = layers.linear(x, &Linear { act, ..Linear::plain(name, width, width) })?;
        }
    }
    let last = if two { "cls.output" } else { "cls" };
    let [classes, _] = layers.shape(&format!("{last}.weight"))?;
    let logits = layers.linear(x, &Linear::plain(last, classes, width))?;
    layers.result("logits", logits, false, classes);
    Ok(())
}
