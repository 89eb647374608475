//! Subnets of an ONNX file that a description calls elastic (`import/supernet.rs`): the file's own message, edited before it is lowered.
//!
//! What comes out is the ONNX model that somebody would have exported of the subnet, so that whatever reads ONNX reads it.

mod cut;
mod edit;
mod kernel;
mod mixture;
mod norms;
mod shape;

pub use mixture::{Layers, Mixing};
pub use norms::Statistics;

use super::files::Files;
use super::proto::{GraphProto, ModelProto};
use super::{lower, read};
use crate::import::ImportError;
use crate::import::supernet::{Description, Skip};
use crate::model::Model;
use edit::Edit;
use prost::Message;
use std::collections::HashMap;
use std::path::Path;

/// How a subnet's batch normalizations are written.
#[derive(Clone, Copy, Debug)]
pub enum Norms<'a> {
    /// With the statistics of the file, of which a narrower layer has the first.
    Stored,
    /// With these statistics.
    Given(&'a HashMap<String, Statistics>),
    /// With those of the batch that runs: means and variances are outputs too, in the order of [`Supernet::norms`].
    Batch,
}

/// A file with elastic parts.
pub struct Supernet {
    proto: ModelProto,
    files: Files,
    file: String,
    description: Description,
}

impl Supernet {
    /// Reads an ONNX file for a description.
    ///
    /// # Errors
    /// When it cannot be read, or has not what the description names.
    pub fn open(path: &Path, description: Description) -> Result<Supernet, ImportError> {
        let base = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let files = Files::of(Some(base));
        let bytes = files.open(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let file = path.display().to_string();
        let mut proto = read::model(bytes, &file)?;
        if let Some(graph) = &mut proto.graph {
            if graph.name.is_empty() {
                graph.name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            }
            // Shapes that were written down are those of the largest network.
            graph.value_info.clear();
        }
        let supernet = Supernet { proto, files, file, description };
        supernet.proto_of(&supernet.description.largest(), Norms::Stored, Mixing::Routed)?;
        Ok(supernet)
    }

    /// What is elastic.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The subnet of a choice.
    ///
    /// # Errors
    /// When the description does not suit the model, or the model is not supported.
    pub fn model(&self, choice: &[usize], norms: Norms<'_>) -> Result<Model, ImportError> {
        lower(&self.proto_of(choice, norms, Mixing::Routed)?, &self.files, None)
    }

    /// The subnet of a choice with one expert of every mixture in the place of what is mixed.
    ///
    /// # Errors
    /// As [`Supernet::model`].
    pub fn model_of(&self, choice: &[usize], experts: &[usize]) -> Result<Model, ImportError> {
        lower(&self.proto_of(choice, Norms::Stored, Mixing::Experts(experts))?, &self.files, None)
    }

    /// The router of a mixture.
    ///
    /// # Errors
    /// When its layers are not stored.
    pub fn layers(&self, mixture: usize) -> Result<Layers, ImportError> {
        let mut proto = self.proto.clone();
        let edit = Edit::new(proto.graph.get_or_insert_default(), &self.files, 1);
        let layers = edit.layers(&self.description.mixtures[mixture]);
        layers.map_err(|why| ImportError::Elastic { file: self.file.clone(), why })
    }

    /// The subnet of a choice as an ONNX file.
    ///
    /// # Errors
    /// When the description does not suit the model.
    pub fn onnx(&self, choice: &[usize], norms: Norms<'_>) -> Result<Vec<u8>, ImportError> {
        Ok(self.proto_of(choice, norms, Mixing::Routed)?.encode_to_vec())
    }

    /// The batch normalizations of the subnet of a choice, by the names of their results.
    ///
    /// # Errors
    /// As [`Supernet::onnx`].
    pub fn norms(&self, choice: &[usize]) -> Result<Vec<String>, ImportError> {
        let proto = self.proto_of(choice, Norms::Stored, Mixing::Routed)?;
        Ok(norms::names(proto.graph.as_ref().unwrap_or(&GraphProto::default())))
    }

    /// Channels of each of [`Supernet::norms`].
    ///
    /// # Errors
    /// As [`Supernet::onnx`].
    pub fn channels(&self, choice: &[usize]) -> Result<Vec<usize>, ImportError> {
        let proto = self.proto_of(choice, Norms::Stored, Mixing::Routed)?;
        Ok(norms::channels(proto.graph.as_ref().unwrap_or(&GraphProto::default())))
    }

    fn proto_of(
        &self,
        choice: &[usize],
        norms: Norms<'_>,
        mixing: Mixing<'_>,
    ) -> Result<ModelProto, ImportError> {
        let mut proto = self.proto.clone();
        let opset = read::opsets(&proto.opset_import)?.get("").copied().unwrap_or(1);
        let graph = proto.graph.get_or_insert_default();
        let mut edit = Edit::new(graph, &self.files, opset);
        let of = |name: &str| self.description.option(choice, name);
        let made = (|| {
            for table in &self.description.repeats {
                edit.repeat(&table.from, &table.to, table.times[of(&table.choice)])?;
            }
            for table in &self.description.constants {
                edit.constant(&table.tensor, &table.values[of(&table.choice)])?;
            }
            for table in &self.description.swaps {
                edit.swap(table, of(&table.choice))?;
            }
            for index in 0..self.description.mixtures.len() {
                edit.mixture(&self.description, index, choice, mixing)?;
            }
            for table in &self.description.kernels {
                edit.kernel(table, of(&table.choice))?;
            }
            for table in &self.description.cuts {
                edit.cut(table, table.sizes[of(&table.choice)])?;
            }
            let left_out = |table: &Skip| {
                let options = self.description.choices.iter().find(|c| c.name == table.choice);
                let option = options.map(|c| &c.options[of(&table.choice)]);
                option.is_some_and(|option| table.options.contains(option))
            };
            let blocks = self.description.skips.iter();
            let blocks: Vec<(&str, &str, bool)> =
                blocks.map(|table| (&table.from[..], &table.to[..], left_out(table))).collect();
            edit.skip(&blocks)?;
            for table in &self.description.resolutions {
                edit.resolution(table, of(&table.choice))?;
            }
            edit.drop_unused();
            match norms {
                Norms::Stored => Ok(()),
                Norms::Given(statistics) => edit.norms_given(statistics),
                Norms::Batch => edit.norms_of_batch(),
            }
        })();
        made.map_err(|why| ImportError::Elastic { file: self.file.clone(), why })?;
        Ok(proto)
    }
}
