//! What of a node is not implemented, decided before its operator looks at it.

use super::ctx::Ctx;
use super::node::NodeView;
use super::ops::{self, Operator};
use super::proto::{AttributeProto, attribute_type};
use crate::import::{MOST_LISTED, Unsupported};

/// Why a node is refused.
pub struct Refusal {
    /// What is not implemented.
    pub reason: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Finds the operator of a node, or says why there is none for it.
pub fn check<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>) -> Result<&'static Operator, Refusal> {
    let versions = ops::versions(node.domain, node.op);
    let Some(operator) = versions.iter().find(|o| (o.since..=o.until).contains(&node.opset)) else {
        if versions.is_empty() {
            let reason = "operator not implemented".to_owned();
            return Err(Refusal { reason, hint: ops::hint(node.domain, node.op) });
        }
        let known: Vec<String> = versions.iter().map(|o| range(o.since, o.until)).collect();
        let reason =
            format!("opset {} of this operator is not implemented; {} are", node.opset, known.join(", "));
        return Err(Refusal { reason, hint: "export with a newer opset" });
    };
    for (name, attribute) in node.attributes() {
        if !operator.attributes.contains(name) {
            let reason = format!("attribute {name}={} is not implemented", shown(attribute));
            return Err(Refusal { reason, hint: "" });
        }
    }
    let (least, most) = operator.inputs;
    let count = node.inputs();
    if count < least || count > most {
        let reason = format!("{count} operands; {} are implemented", range(least as u64, most as u64));
        return Err(Refusal { reason, hint: "" });
    }
    if let Some(dtype) = ctx.operand_dtype(node, 0).filter(|d| !operator.types.contains(*d)) {
        return Err(Refusal { reason: format!("element type {dtype} is not implemented"), hint: "" });
    }
    for i in 0..count {
        if let Some(dtype) = ctx.foreign_dtype(node, i) {
            let reason = format!("operand {i}: element type {dtype} is not implemented");
            return Err(Refusal { reason, hint: "" });
        }
    }
    if (0..count).any(|i| ctx.four_bits(node, i)) && !FOUR_BITS.contains(&node.op) {
        let reason = "integers of 4 bits are not implemented for this operator".to_owned();
        return Err(Refusal { reason, hint: "dequantize them first" });
    }
    Ok(operator)
}

/// The operators that take bytes for integers of 4 bits: they move them, widen them, or know their range.
const FOUR_BITS: &[&str] = &[
    "Cast",
    "CastLike",
    "Constant",
    "DequantizeLinear",
    "Flatten",
    "GatherBlockQuantized",
    "Identity",
    "Pad",
    "QuantizeLinear",
    "Reshape",
    "Shape",
    "Size",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The versions or counts of a table's line, in words. What is beyond all files stands for "any more".
fn range<T: PartialOrd + Into<i128> + Copy>(least: T, most: T) -> String {
    match (least.into(), most.into()) {
        (least, most) if least == most => least.to_string(),
        (least, most) if most > i128::from(u32::MAX) => format!("{least} and more"),
        (least, most) => format!("{least} to {most}"),
    }
}

fn shown(attribute: &AttributeProto) -> String {
    match attribute.r#type {
        attribute_type::FLOAT => attribute.f.unwrap_or(0.0).to_string(),
        attribute_type::INT => attribute.i.unwrap_or(0).to_string(),
        attribute_type::STRING => {
            format!("{:?}", String::from_utf8_lossy(attribute.s.as_deref().unwrap_or(b"")))
        }
        attribute_type::INTS => format!("{:?}", attribute.ints),
        attribute_type::FLOATS => format!("{:?}", attribute.floats),
        _ => "..".into(),
    }
}

/// Adds an input or a result of the graph to the list.
pub fn refuse_port(ctx: &mut Ctx, kind: &str, name: &str, reason: String) {
    ctx.refused.push(Unsupported {
        op: kind.to_owned(),
        domain: String::new(),
        opset: ctx.frame.opsets.get("").copied().unwrap_or(0),
        node: name.to_owned(),
        reason,
        inputs: Vec::new(),
        count: 1,
        hint: "only tensors of numbers and booleans are implemented".to_owned(),
    });
}

/// Adds a refused node to the list, together with others of the same reason.
pub fn refuse<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, refusal: Refusal) {
    let Refusal { reason, hint } = refusal;
    let same = |u: &&mut Unsupported| {
        u.op == node.op && u.domain == node.domain && u.opset == node.opset && u.reason == reason
    };
    if let Some(known) = ctx.refused.iter_mut().find(same) {
        known.count += 1;
        return;
    }
    if ctx.refused.len() >= MOST_LISTED {
        return;
    }
    let inputs = ctx.described(node);
    ctx.refused.push(Unsupported {
        op: node.op.to_owned(),
        domain: node.domain.to_owned(),
        opset: node.opset,
        node: node.name.clone(),
        reason,
        inputs,
        count: 1,
        hint: hint.to_owned(),
    });
}
