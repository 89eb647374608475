//! Values that a router mixes of several stored ones, knowing the choice.

use super::{Source, ValueId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Stored values that are weighted sums of experts, the weights being what a router makes of the choice: it is known as soon as a subnet is
/// chosen, so what runs has no router (Jawahar et al. 2024, "Mixture-of-Supernets", section 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Mixture {
    /// What the router is given, a number each.
    pub features: Vec<Feature>,
    /// Its layers, the first one first; a softmax over experts follows the last.
    pub layers: Vec<Layer>,
    /// What is mixed so.
    pub values: Vec<Mixed>,
}

/// A number that says something of a choice: the mean of some that options stand for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Feature {
    /// Indices into [`Elastic::variables`].
    pub of: Vec<u32>,
    /// By variable of these, what its options stand for.
    pub values: Vec<Vec<f32>>,
    /// A variable that says how many of these count, the first ones: layers that are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Count>,
}

/// How many of some variables count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Index into [`Elastic::variables`].
    pub variable: u32,
    /// One an option.
    pub counts: Vec<u32>,
}

/// A layer of a router: `y = W x + b`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The constant that is W, f32 `[outputs, inputs]`. The last layer has an output for each expert, or for each row of what is mixed and
    /// each expert, those of one row side by side.
    pub weight: u32,
    /// The constant that is b, f32, an element an output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<u32>,
    /// Whether what is below 0 becomes 0.
    pub relu: bool,
}

/// A value and the stored ones that it is mixed of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mixed {
    /// The value.
    pub value: ValueId,
    /// Constants (f32) or tensors, all of one shape; tensors are of one form too, and a rung takes as much of each.
    pub experts: Vec<Source>,
}

impl Feature {
    /// The number of a choice, of which `option` is told for a variable. Every variable has a value for every option.
    pub fn value(&self, option: impl Fn(usize) -> usize) -> f32 {
        let count = self
            .first
            .as_ref()
            .map_or(self.of.len(), |first| first.counts[option(first.variable as usize)] as usize);
        let counted = self.of.iter().zip(&self.values).take(count);
        let sum: f32 = counted.map(|(variable, values)| values[option(*variable as usize)]).sum();
        sum / count.clamp(1, self.of.len().max(1)) as f32
    }
}

impl Mixture {
    /// The constants that the router and what is mixed of constants are read from.
    pub fn constants(&self) -> impl Iterator<Item = u32> + '_ {
        let layers = self.layers.iter().flat_map(|layer| [Some(layer.weight), layer.bias]).flatten();
        let experts = self.values.iter().flat_map(|mixed| &mixed.experts).filter_map(|source| match source {
            Source::Constant(id) => Some(*id),
            _ => None,
        });
        layers.chain(experts)
    }
}

/// Read by hand: visitors of five structures that few packs have would be a hundredth of the program.
impl TryFrom<Value> for Mixture {
    type Error = String;

    fn try_from(value: Value) -> Result<Mixture, String> {
        Ok(Mixture {
            features: each(&value, "features", &feature)?,
            layers: each(&value, "layers", &layer)?,
            values: each(&value, "values", &mixed)?,
        })
    }
}

fn feature(value: &Value) -> Option<Feature> {
    let first = match value.get("first") {
        None | Some(Value::Null) => None,
        Some(first) => Some(Count {
            variable: number(first.get("variable")?)?,
            counts: list(first.get("counts")?, &number)?,
        }),
    };
    let floats = |value: &Value| list(value, &|v: &Value| v.as_f64().map(|v| v as f32));
    Some(Feature {
        of: list(value.get("of")?, &number)?,
        values: list(value.get("values")?, &floats)?,
        first,
    })
}

fn layer(value: &Value) -> Option<Layer> {
    let bias = match value.get("bias") {
        None | Some(Value::Null) => None,
        Some(bias) => Some(number(bias)?),
    };
    let relu = value.get("relu").map_or(Some(false), Value::as_bool)?;
    Some(Layer { weight: number(value.get("weight")?)?, bias, relu })
}

fn mixed(value: &Value) -> Option<Mixed> {
    let expert = |value: &Value| match (value.get("weight"), value.get("constant")) {
        (Some(id), None) => Some(Source::Weight(number(id)?)),
        (None, Some(id)) => Some(Source::Constant(number(id)?)),
        _ => None,
    };
    Some(Mixed { value: number(value.get("value")?)?, experts: list(value.get("experts")?, &expert)? })
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn list<T>(value: &Value, of: &dyn Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(of).collect()
}

fn each<T>(value: &Value, key: &str, of: &dyn Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    let found = value.get(key).and_then(|value| list(value, of));
    found.ok_or_else(|| {
        format!("`{key}` of a mixture is {}, no list of what runtime/PACK.md says", value[key])
    })
}
