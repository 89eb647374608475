//! Graphs of subnets, and what is measured of them.

use super::elastic::{self, Family};
use super::source::Subnets;
use super::statistics::train_mode;
use crate::error::ConvertError;
use crate::import::ofa::Norm;
use crate::import::{Norms, Statistics};
use crate::journal::{Key, Mix};
use crate::measure::Evaluator;
use crate::model::Model;
use crate::samples::Sample;
use crate::simplify;
use edge_runtime::graph::ValueId;
use std::collections::HashMap;
use std::path::PathBuf;

/// A supernet and what runs it.
pub(super) struct Making<'a> {
    pub supernet: &'a dyn Subnets,
    pub evaluator: &'a Evaluator<'a>,
    /// See [`simplify::Options::keep_ones`].
    pub keep_ones: bool,
}

impl Making<'_> {
    pub fn model(&self, choice: &[usize], norms: Norms<'_>) -> Result<Model, ConvertError> {
        Ok(self.simplified(self.supernet.model(choice, norms)?))
    }

    fn simplified(&self, model: Model) -> Model {
        // Norms stay apart from the weights, which would else differ between the subnets.
        let options = simplify::Options { keep_affine: true, keep_ones: self.keep_ones, keep_equal: true };
        simplify::simplify_with_report(model, &options).0
    }

    pub fn family(&self) -> Result<Family, ConvertError> {
        // What is mixed is another in every subnet; its first experts are not.
        let mut experts = vec![0; self.supernet.mixtures().len()];
        let model = |choice: &[usize], experts: &[usize]| {
            Ok::<Model, ConvertError>(self.simplified(self.supernet.model_of(choice, experts)?))
        };
        let largest = self.supernet.largest();
        let template = model(&largest, &experts)?;
        let variables = self.supernet.variables().to_vec();
        let mut family = elastic::family(template, variables, |choice| model(choice, &experts))?;
        for (index, mixture) in self.supernet.mixtures().iter().enumerate() {
            let mut others = Vec::with_capacity(mixture.experts.len());
            for expert in 1..mixture.experts.len() {
                experts[index] = expert;
                others.push(model(&largest, &experts)?);
                experts[index] = 0;
            }
            let (features, layers) = self.supernet.router(index)?;
            family.mix(&others, features, layers)?;
        }
        Ok(family)
    }

    /// All that a measurement of the supernet follows from but the samples.
    pub fn key(&self) -> Result<Key, ConvertError> {
        let mut mix = Mix::of("source");
        for path in self.supernet.files() {
            let bytes =
                std::fs::read(path).map_err(|source| ConvertError::Io { path: path.into(), source })?;
            mix = mix.bytes(blake3::hash(&bytes).as_bytes());
        }
        Ok(mix.done())
    }

    /// Values whose constants follow from the statistics of batch normalizations.
    pub fn overlaid(&self, family: &Family, largest: &[usize]) -> Result<Vec<ValueId>, ConvertError> {
        let norms = self.supernet.norms(largest)?;
        if norms.is_empty() {
            return Ok(Vec::new());
        }
        let stored = self.model(largest, Norms::Stored)?;
        // Whatever is measured, it is not this.
        let odd =
            |channels: usize| Statistics { mean: vec![0.123_4; channels], variance: vec![7.654_3; channels] };
        let other: HashMap<String, Statistics> =
            norms.into_iter().map(|norm| (norm.name, odd(norm.channels))).collect();
        let given = self.model(largest, Norms::Given(&other))?;
        let (a, b) =
            (family.compare(&stored, "the largest network")?, family.compare(&given, "other statistics")?);
        let by_value: HashMap<ValueId, ValueId> =
            a.values.iter().map(|(own, whole)| (*whole, *own)).collect();
        let mut overlaid = Vec::new();
        for (own, whole) in &b.values {
            let (Some(new), Some(old)) =
                (given.constant(*own), by_value.get(whole).and_then(|v| stored.constant(*v)))
            else {
                continue;
            };
            if new != old {
                overlaid.push(*whole);
            }
        }
        overlaid.sort_unstable();
        Ok(overlaid)
    }

    pub fn statistics(
        &self,
        choice: &[usize],
        batches: &[Sample],
        name: &Key,
    ) -> Result<HashMap<String, Statistics>, ConvertError> {
        let norms = self.supernet.norms(choice)?;
        let all: usize = norms.iter().map(|norm| norm.channels).sum();
        let key = Mix::of("statistics").key(name).debug(&choice).done();
        let numbers = self.evaluator.known(key, 2 * all, || {
            let trained = train_mode(self.evaluator, self.supernet, choice, batches)?;
            let of = |norm: &Norm| trained.statistics.get(&norm.name).cloned().unwrap_or_default();
            let both = norms.iter().flat_map(|norm| {
                let Statistics { mean, variance } = of(norm);
                mean.into_iter().chain(variance)
            });
            Ok(both.map(f64::from).collect())
        })?;
        let mut at = 0;
        let mut statistics = HashMap::new();
        for Norm { name, channels } in norms {
            let part = |from: usize| numbers[from..from + channels].iter().map(|v| *v as f32).collect();
            statistics.insert(name, Statistics { mean: part(at), variance: part(at + channels) });
            at += 2 * channels;
        }
        Ok(statistics)
    }

    /// A subnet as an ONNX file, for engines that know no choices; `None` when it comes from none.
    pub fn file(
        &self,
        choice: &[usize],
        batches: &[Sample],
        name: &Key,
    ) -> Result<Option<tempfile::NamedTempFile>, ConvertError> {
        let statistics = self.statistics(choice, batches, name)?;
        let Some(bytes) = self.supernet.onnx(choice, Norms::Given(&statistics))? else { return Ok(None) };
        let io = |source| ConvertError::Io { path: PathBuf::from("a temporary file"), source };
        let mut file = tempfile::Builder::new().suffix(".onnx").tempfile().map_err(io)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(io)?;
        Ok(Some(file))
    }
}

/// A choice in words.
pub(super) fn named(supernet: &dyn Subnets, choice: &[usize]) -> String {
    let options = supernet.variables().iter().zip(choice);
    let names: Vec<String> = options.map(|(c, o)| format!("{} = {}", c.name, c.options[*o])).collect();
    names.join(", ")
}
