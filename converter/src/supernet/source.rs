//! Where subnets come from: an ONNX file with a description of what is elastic, or a checkpoint that says it itself.

use crate::convert::Options;
use crate::error::ConvertError;
use crate::import::checkpoint::Checkpoint;
use crate::import::ofa::{self, Norm, Space};
use crate::import::supernet::{Description, Mixture};
use crate::import::{self, ImportError, Layers, Norms};
use crate::model::Model;
use edge_runtime::graph::{Feature, Variable};
use std::path::{Path, PathBuf};

/// A family of subnets that share weights. A choice is the index of an option, one a variable.
pub trait Subnets {
    /// What can be chosen, smallest first; the last options together are the largest network.
    fn variables(&self) -> &[Variable];

    /// The subnet of a choice. Of [`Norms::Batch`] the last outputs are mean and variance of each of [`Subnets::norms`].
    ///
    /// # Errors
    /// When there is no such subnet.
    fn model(&self, choice: &[usize], norms: Norms<'_>) -> Result<Model, ImportError>;

    /// The batch normalizations of the subnet of a choice, in order.
    ///
    /// # Errors
    /// As [`Subnets::model`].
    fn norms(&self, choice: &[usize]) -> Result<Vec<Norm>, ImportError>;

    /// What routers mix.
    fn mixtures(&self) -> &[Mixture] {
        &[]
    }

    /// The subnet of a choice with one expert of every mixture, by their indices, in the place of what is mixed.
    ///
    /// # Errors
    /// As [`Subnets::model`].
    fn model_of(&self, choice: &[usize], _experts: &[usize]) -> Result<Model, ImportError> {
        self.model(choice, Norms::Stored)
    }

    /// What the router of a mixture is given, and its layers.
    ///
    /// # Errors
    /// When they are not stored.
    fn router(&self, _mixture: usize) -> Result<(Vec<Feature>, Layers), ImportError> {
        Ok((Vec::new(), Vec::new()))
    }

    /// The subnet of a choice as an ONNX file, for engines that know no choices; `None` when it comes from no such file.
    ///
    /// # Errors
    /// As [`Subnets::model`].
    fn onnx(&self, choice: &[usize], norms: Norms<'_>) -> Result<Option<Vec<u8>>, ImportError>;

    /// What it was read from: the model first, then all else that a subnet follows from.
    fn files(&self) -> Vec<&Path>;

    /// The choice of the largest network.
    fn largest(&self) -> Vec<usize> {
        self.variables().iter().map(|variable| variable.options.len() - 1).collect()
    }
}

/// The largest network as an ONNX file, and the description of what is elastic in it.
pub struct Described {
    supernet: import::Supernet,
    variables: Vec<Variable>,
    files: [PathBuf; 2],
}

impl Described {
    /// # Errors
    /// When the model is not supported, or the description does not suit it.
    pub fn open(model: &Path, description: &Path) -> Result<Described, ImportError> {
        let supernet = import::Supernet::open(model, Description::read(description)?)?;
        let variable = |choice: &import::supernet::Choices| Variable {
            name: choice.name.clone(),
            options: choice.options.iter().map(ToString::to_string).collect(),
        };
        let variables = supernet.description().choices.iter().map(variable).collect();
        Ok(Described { supernet, variables, files: [model.into(), description.into()] })
    }
}

impl Subnets for Described {
    fn variables(&self) -> &[Variable] {
        &self.variables
    }

    fn model(&self, choice: &[usize], norms: Norms<'_>) -> Result<Model, ImportError> {
        self.supernet.model(choice, norms)
    }

    fn mixtures(&self) -> &[Mixture] {
        &self.supernet.description().mixtures
    }

    fn model_of(&self, choice: &[usize], experts: &[usize]) -> Result<Model, ImportError> {
        self.supernet.model_of(choice, experts)
    }

    fn router(&self, mixture: usize) -> Result<(Vec<Feature>, Layers), ImportError> {
        let description = self.supernet.description();
        let features = description.mixtures[mixture].features.iter();
        let features = features.map(|feature| description.feature(feature)).collect();
        Ok((features, self.supernet.layers(mixture)?))
    }

    fn norms(&self, choice: &[usize]) -> Result<Vec<Norm>, ImportError> {
        let (names, channels) = (self.supernet.norms(choice)?, self.supernet.channels(choice)?);
        Ok(names.into_iter().zip(channels).map(|(name, channels)| Norm { name, channels }).collect())
    }

    fn onnx(&self, choice: &[usize], norms: Norms<'_>) -> Result<Option<Vec<u8>>, ImportError> {
        self.supernet.onnx(choice, norms).map(Some)
    }

    fn files(&self) -> Vec<&Path> {
        self.files.iter().map(PathBuf::as_path).collect()
    }
}

/// A checkpoint of a once-for-all network.
pub struct Saved {
    checkpoint: Checkpoint,
    supernet: ofa::Supernet,
    space: Space,
}

impl Saved {
    /// # Errors
    /// When the checkpoint cannot be read or is no such network, with every tensor that does not belong; when an option asks for what
    /// only a model with its own graph has.
    pub fn open(path: &Path, options: &Options) -> Result<Saved, ConvertError> {
        let asked = [
            ("--state", !options.states.is_empty(), "a once-for-all network has no states"),
            ("--fix", !options.settled.fixed.is_empty(), "a once-for-all network's input is of any size"),
            ("--keep-float", options.keep_float, "a pack of subnets has no exact rung; leave it out"),
            ("--low-rank", options.low_rank.is_some(), "products of subnets are not split; leave it out"),
            ("--equalize", options.equalize, "channels of subnets stay as they are; leave it out"),
            (
                "--witness",
                options.witness.as_ref().is_some_and(|witness| witness.required),
                "the witness reads ONNX, and a checkpoint has no graph to ask it about; leave it out",
            ),
        ];
        if let Some((option, _, why)) = asked.into_iter().find(|(_, given, _)| *given) {
            return Err(ConvertError::Option { option, why: why.into() });
        }
        let checkpoint = Checkpoint::open(path).map_err(ImportError::from)?;
        let supernet = ofa::Supernet::of(&checkpoint).map_err(ImportError::from)?;
        let space = supernet.space();
        if space.variables().is_empty() {
            let why = format!(
                "{}: every block, width and kernel has one option: nothing is elastic",
                path.display()
            );
            return Err(ConvertError::Supernet { why });
        }
        Ok(Saved { checkpoint, supernet, space })
    }

    /// The options that are most like choices in the package's terms: the same but for numbers that say nothing, as the depth of a stage of one block.
    #[cfg(test)]
    pub(super) fn options(&self, choices: &ofa::Choices) -> Vec<usize> {
        let mut options = self.largest();
        for variable in 0..options.len() {
            let json = |options: &[usize]| serde_json::to_value(self.space.choices(options)).ok();
            let apart = |option: usize, options: &[usize]| {
                let mut tried = options.to_vec();
                tried[variable] = option;
                let (a, b) = (json(&tried), serde_json::to_value(choices).ok());
                unlike(&a.unwrap_or_default(), &b.unwrap_or_default())
            };
            let best = (0..self.variables()[variable].options.len()).min_by_key(|o| apart(*o, &options));
            options[variable] = best.unwrap_or_default();
        }
        options
    }

    fn subnet(&self, choice: &[usize], norms: Norms<'_>) -> Result<(Model, Vec<Norm>), ImportError> {
        Ok(self.supernet.subnet(&self.checkpoint, &self.space.choices(choice), norms)?)
    }
}

impl Subnets for Saved {
    fn variables(&self) -> &[Variable] {
        self.space.variables()
    }

    fn model(&self, choice: &[usize], norms: Norms<'_>) -> Result<Model, ImportError> {
        Ok(self.subnet(choice, norms)?.0)
    }

    fn norms(&self, choice: &[usize]) -> Result<Vec<Norm>, ImportError> {
        Ok(self.subnet(choice, Norms::Stored)?.1)
    }

    fn onnx(&self, _: &[usize], _: Norms<'_>) -> Result<Option<Vec<u8>>, ImportError> {
        Ok(None)
    }

    fn files(&self) -> Vec<&Path> {
        self.checkpoint.files()
    }
}

/// Leaves in which two values of one form differ.
#[cfg(test)]
fn unlike(a: &serde_json::Value, b: &serde_json::Value) -> usize {
    use serde_json::Value;
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.iter().zip(b).map(|(a, b)| unlike(a, b)).sum(),
        (Value::Object(a), Value::Object(b)) => {
            a.iter().map(|(key, a)| b.get(key).map_or(1, |b| unlike(a, b))).sum()
        }
        _ => usize::from(a != b),
    }
}
