//! What subnets of one graph differ by.
//!
//! The graph as it stands is the largest network. A subnet is one option of every variable; each effect says what one variable changes, or
//! some together, and effects act one beside the other, in any order. `subnet.rs` makes the graph of a subnet.

use super::{Source, ValueId};
use serde::{Deserialize, Serialize};

/// The elastic parts of a graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Elastic {
    /// What can be chosen.
    pub variables: Vec<Variable>,
    /// What the choices change.
    pub effects: Vec<Effect>,
    /// Values that are mixed of several stored ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixtures: Vec<Mixture>,
    /// Constants (f32) that a rung may bring itself, such as what normalizations became, in the order of its overlay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlaid: Vec<ValueId>,
    /// Values whose calibrated ranges a rung's overlay brings, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranged: Vec<ValueId>,
}

/// One thing that can be chosen: a depth, a width, a kernel, a resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Unique name.
    pub name: String,
    /// Names of the options; the last is the largest network's.
    pub options: Vec<String>,
}

/// What one variable changes in one place, or several of which no one can say alone what stands there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Index into [`Elastic::variables`].
    pub variable: u32,
    /// Further variables: there is an entry for every combination of options then, those of the last variable side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<u32>,
    /// What changes.
    #[serde(flatten)]
    pub change: Change,
}

/// A change, one entry an option of its variable, or a combination of options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A stored matrix keeps its first rows.
    Rows {
        /// The matrix.
        value: ValueId,
        /// Rows that are kept.
        sizes: Vec<usize>,
    },
    /// A stored matrix keeps the first channels of every tap.
    Channels {
        /// The matrix.
        value: ValueId,
        /// Channels of the whole: taps are columns / channels.
        channels: usize,
        /// Channels that are kept.
        sizes: Vec<usize>,
    },
    /// A constant keeps its first elements along an axis before which all dimensions are 1.
    Elements {
        /// The constant.
        value: ValueId,
        /// The axis.
        axis: usize,
        /// Elements that are kept.
        sizes: Vec<usize>,
    },
    /// Another stored value stands in a value's place; `None` leaves it.
    Source {
        /// The value.
        value: ValueId,
        /// Stored values.
        sources: Vec<Option<Source>>,
    },
    /// An attribute of a node's operation.
    Attribute {
        /// Index into the graph's nodes.
        node: u32,
        /// Where it stands in the operation's JSON form, as a JSON pointer.
        pointer: String,
        /// What stands there.
        values: Vec<serde_json::Value>,
    },
    /// Whoever reads a value reads another, computed before it, instead; `None` leaves it. Nodes whose results nobody reads then
    /// are left out.
    Bypass {
        /// The value.
        value: ValueId,
        /// What is read instead.
        by: Vec<Option<ValueId>>,
    },
}

/// Stored values that are weighted sums of experts, the weights being what a router makes of the choice: it is known as soon as a subnet is
/// chosen, so what runs has no router (Jawahar et al. 2024, "Mixture-of-Supernets", section 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// What the router is given, a number each.
    pub features: Vec<Feature>,
    /// Its layers, the first one first; a softmax over experts follows the last.
    pub layers: Vec<Layer>,
    /// What is mixed so.
    pub values: Vec<Mixed>,
}

/// A number that says something of a choice: the mean of some that options stand for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Indices into [`Elastic::variables`].
    pub of: Vec<u32>,
    /// By variable of these, what its options stand for.
    pub values: Vec<Vec<f32>>,
    /// A variable that says how many of these count, the first ones: layers that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Count>,
}

/// How many of some variables count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Index into [`Elastic::variables`].
    pub variable: u32,
    /// One an option.
    pub counts: Vec<u32>,
}

/// A layer of a router: `y = W x + b`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The constant that is W, f32 `[outputs, inputs]`. The last layer has an output for each expert, or for each row of what is mixed and
    /// each expert, those of one row side by side.
    pub weight: u32,
    /// The constant that is b, f32, an element an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<u32>,
    /// Whether what is below 0 becomes 0.
    #[serde(default)]
    pub relu: bool,
}

/// A value and the stored ones that it is mixed of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Effect {
    /// Its variables, of which all are said to be in range.
    pub fn variables(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(&self.variable).chain(&self.with).map(|variable| *variable as usize)
    }

    /// Entries that its change must have, as far as they can be counted in 64 bits.
    pub fn entries(&self, variables: &[Variable]) -> u64 {
        self.variables().fold(1, |n: u64, v| n.saturating_mul(variables[v].options.len() as u64))
    }

    /// The entry of a choice, of which `option` is told for a variable.
    pub fn entry(&self, variables: &[Variable], option: impl Fn(usize) -> usize) -> usize {
        self.variables().fold(0, |entry, v| entry * variables[v].options.len() + option(v))
    }
}

impl Change {
    /// Number of options, or combinations of them, that it has entries for.
    pub fn options(&self) -> usize {
        match self {
            Change::Rows { sizes, .. } | Change::Channels { sizes, .. } | Change::Elements { sizes, .. } => {
                sizes.len()
            }
            Change::Source { sources, .. } => sources.len(),
            Change::Attribute { values, .. } => values.len(),
            Change::Bypass { by, .. } => by.len(),
        }
    }
}

impl Elastic {
    /// Number of subnets, as far as it can be counted in 64 bits.
    pub fn subnets(&self) -> u64 {
        self.variables.iter().fold(1, |n: u64, v| n.saturating_mul(v.options.len() as u64))
    }
}
