//! What routers mix: the values in which the graphs of a mixture's experts differ.

use super::difference::{Difference, Stored};
use super::elastic::Family;
use crate::error::ConvertError;
use crate::import::Layers;
use crate::model::{Array, Model};
use edge_runtime::graph::{DType, Feature, Layer, Mixed, Mixture, Source, ValueId};
use std::collections::BTreeMap;

impl Family {
    /// Adds a mixture. `others` are the largest network with its second expert, its third and so on; the template has the first.
    ///
    /// # Errors
    /// When they differ in more than stored arrays, or in arrays that cannot be mixed.
    pub fn mix(
        &mut self,
        others: &[Model],
        features: Vec<Feature>,
        layers: Layers,
    ) -> Result<(), ConvertError> {
        let wrong = |why: String| ConvertError::Supernet { why: format!("[[mixture]]: {why}") };
        let mut found: BTreeMap<ValueId, Vec<Array>> = BTreeMap::new();
        for (e, other) in others.iter().enumerate() {
            let Difference { attributes, bypassed, stored, .. } =
                self.compare(other, &format!("[[mixture]], expert {}", e + 1))?;
            if !attributes.is_empty() || !bypassed.is_empty() {
                return Err(wrong(format!(
                    "the graph of expert {} is another than that of the first",
                    e + 1
                )));
            }
            for (value, stored) in stored {
                let name = self.template.graph.name(value);
                let own = self.template.constant(value);
                let same = |array: &Array| {
                    own.is_some_and(|own| (own.dtype, &own.dims) == (array.dtype, &array.dims))
                };
                let Stored::Other(array) = stored else {
                    return Err(wrong(format!("`{name}` of expert {} is a part of the first one's", e + 1)));
                };
                if !same(&array) || !array.dtype.is_float() {
                    let (dtype, dims) = (array.dtype, &array.dims);
                    return Err(wrong(format!(
                        "`{name}` of expert {} is {dtype}{dims:?}, which cannot be mixed",
                        e + 1
                    )));
                }
                let arrays = found.entry(value).or_default();
                // Experts that are as the first.
                arrays.resize_with(e, || own.cloned().unwrap_or_else(|| Array::f32(&[0], &[])));
                arrays.push(array);
            }
        }
        let mut values = Vec::with_capacity(found.len());
        for (value, mut arrays) in found {
            let own = self.template.constant(value).cloned();
            let own = own.unwrap_or_else(|| Array::f32(&[0], &[]));
            arrays.resize_with(others.len(), || own.clone());
            let source = self.template.graph.values[value as usize].source;
            let is_matrix = matches!(source, Source::Constant(id) if self.matrices.contains(&id));
            if !is_matrix && own.dtype != DType::F32 {
                let name = self.template.graph.name(value);
                return Err(wrong(format!("`{name}` is {}; what is no matrix is mixed as f32", own.dtype)));
            }
            let experts = arrays.into_iter().map(|array| Source::Constant(self.constant(array)));
            let experts = std::iter::once(source).chain(experts.collect::<Vec<_>>()).collect();
            values.push(Mixed { value, experts });
        }
        let mut constant = |array: Array| self.constant(array);
        let layers = layers.into_iter().map(|(weight, bias, relu)| Layer {
            weight: constant(weight),
            bias: bias.map(&mut constant),
            relu,
        });
        let layers = layers.collect();
        self.elastic.mixtures.push(Mixture { features, layers, values });
        Ok(())
    }

    /// A constant of the template beside those that its graph reads.
    fn constant(&mut self, array: Array) -> u32 {
        self.template.constants.push(array);
        (self.template.constants.len() - 1) as u32
    }
}
