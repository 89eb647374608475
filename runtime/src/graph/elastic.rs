//! What subnets of one graph differ by.
//!
//! The graph as it stands is the largest network. A subnet is one option of every variable; each effect says what one variable changes, or
//! some together, and effects act one beside the other, in any order. `subnet.rs` makes the graph of a subnet.

use super::mixture::Mixture;
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
