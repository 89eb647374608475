//! What is elastic in a graph, and the subnets: ids in range, an entry for every option. Whether an effect suits what it changes is
//! found when a subnet is made (`subnet.rs`), and the graph that comes out is checked like any other.
#![forbid(unsafe_code)]

use super::{MAX_FEW, MAX_MANY, at_most, equal, finite, in_range};
use crate::graph::{Change, Elastic, Feature, Mixed, Mixture, Source};
use crate::pack::NUMBERS;
use crate::pack::{Choice, Header, PackError};

/// Most entries of a table of subnets.
const MAX_CANDIDATES: usize = 1 << 16;

/// Checks the elastic parts of graph `index`.
pub(super) fn check_elastic(header: &Header, index: usize) -> Result<(), PackError> {
    let graph = &header.graphs[index];
    let Some(elastic) = &graph.elastic else { return Ok(()) };
    at_most(|| format!("graph {index}: variables"), elastic.variables.len(), MAX_FEW)?;
    at_most(|| format!("graph {index}: effects"), elastic.effects.len(), MAX_MANY)?;
    for variable in &elastic.variables {
        let options = || format!("graph {index}, variable `{}`: options", variable.name);
        at_most(options, variable.options.len(), Choice::OPTIONS)?;
        if variable.options.is_empty() {
            let need = "a variable must have an option";
            return Err(PackError::Number { place: options(), what: "the number", value: "0".into(), need });
        }
    }
    let place = || format!("graph {index}, elastic parts");
    let value = |id: u32| in_range(place, "value", id, graph.values.len());
    for effect in &elastic.effects {
        at_most(|| format!("graph {index}: variables of an effect"), effect.with.len(), MAX_FEW)?;
        for variable in effect.variables() {
            in_range(place, "variable", variable as u32, elastic.variables.len())?;
        }
        let variable = &elastic.variables[effect.variable as usize];
        let entries = || format!("graph {index}, variable `{}`, an effect", variable.name);
        let options = effect.change.options() as u64;
        equal(entries, "number of entries", effect.entries(&elastic.variables), options)?;
        match &effect.change {
            Change::Rows { value: id, .. }
            | Change::Channels { value: id, .. }
            | Change::Elements { value: id, .. } => value(*id)?,
            Change::Source { value: id, sources } => {
                value(*id)?;
                for source in sources.iter().flatten() {
                    match source {
                        Source::Constant(id) => in_range(place, "constant", *id, header.constants.len())?,
                        Source::Weight(id) => in_range(place, "tensor", *id, header.tensors.len())?,
                        Source::Computed => {
                            return Err(PackError::Number {
                                place: place(),
                                what: "a source",
                                value: "computed".to_owned(),
                                need: "must be stored",
                            });
                        }
                    }
                }
            }
            Change::Attribute { node, .. } => in_range(place, "node", *node, graph.body.nodes.len())?,
            Change::Bypass { value: id, by } => {
                value(*id)?;
                by.iter().flatten().try_for_each(|by| value(*by))?;
            }
        }
    }
    at_most(|| format!("graph {index}: mixtures"), elastic.mixtures.len(), MAX_MANY)?;
    elastic.mixtures.iter().try_for_each(|mixture| check_mixture(header, index, elastic, mixture))?;
    elastic.overlaid.iter().chain(&elastic.ranged).try_for_each(|id| value(*id))
}

/// Ids of a mixture, and a number for every option; whether layers fit each other is found when a subnet is made.
fn check_mixture(
    header: &Header,
    index: usize,
    elastic: &Elastic,
    mixture: &Mixture,
) -> Result<(), PackError> {
    let place = || format!("graph {index}, a mixture");
    let graph = &header.graphs[index];
    at_most(|| format!("{}: features", place()), mixture.features.len(), MAX_FEW)?;
    at_most(|| format!("{}: layers", place()), mixture.layers.len(), MAX_FEW)?;
    at_most(|| format!("{}: values", place()), mixture.values.len(), MAX_MANY)?;
    let options = |variable: u32, entries: usize| {
        in_range(place, "variable", variable, elastic.variables.len())?;
        let options = elastic.variables[variable as usize].options.len();
        equal(place, "number of entries", options as u64, entries as u64)
    };
    for Feature { of, values, first } in &mixture.features {
        at_most(|| format!("{}: variables of a feature", place()), of.len(), MAX_FEW)?;
        equal(place, "number of lists of a feature", of.len() as u64, values.len() as u64)?;
        for (variable, values) in of.iter().zip(values) {
            options(*variable, values.len())?;
            values.iter().try_for_each(|value| finite(place, "a value of a feature", *value))?;
        }
        if let Some(first) = first {
            options(first.variable, first.counts.len())?;
        }
    }
    for id in mixture.constants() {
        in_range(place, "constant", id, header.constants.len())?;
    }
    for Mixed { value, experts } in &mixture.values {
        in_range(place, "value", *value, graph.values.len())?;
        at_most(|| format!("{}: experts", place()), experts.len(), MAX_FEW)?;
        for expert in experts {
            match expert {
                Source::Weight(id) => in_range(place, "tensor", *id, header.tensors.len())?,
                Source::Constant(_) => {}
                Source::Computed => {
                    let need = "must be stored";
                    let value = "computed".to_owned();
                    return Err(PackError::Number { place: place(), what: "an expert", value, need });
                }
            }
        }
    }
    Ok(())
}

/// Checks the subnets.
pub(super) fn check_subnets(header: &Header) -> Result<(), PackError> {
    for (i, subnet) in header.subnets.iter().enumerate() {
        let place = || format!("subnet {i}");
        in_range(place, "graph", subnet.graph, header.graphs.len())?;
        let elastic = header.graphs[subnet.graph as usize].elastic.as_deref();
        let variables = elastic.map_or(&[][..], |e| &e.variables);
        equal(place, "number of options", variables.len() as u64, subnet.choice.len() as u64)?;
        for (variable, option) in variables.iter().zip(subnet.choice.options()) {
            let place = || format!("subnet {i}, variable `{}`", variable.name);
            in_range(place, "option", option as u32, variable.options.len())?;
        }
        if let Some(blob) = subnet.overlay {
            in_range(place, "blob", blob, header.blobs.len())?;
        }
    }
    Ok(())
}

/// Checks the table of subnets, but for its entries: these are checked by whoever reads them.
pub(super) fn check_candidates(header: &Header) -> Result<(), PackError> {
    let Some(table) = &header.candidates else { return Ok(()) };
    let place = || "the table of subnets".to_owned();
    in_range(place, "graph", table.graph, header.graphs.len())?;
    in_range(place, "blob", table.blob, header.blobs.len())?;
    at_most(|| format!("{}: entries", place()), table.count as usize, MAX_CANDIDATES)?;
    finite(place, "the spread", table.spread)?;
    let variables = header.graphs[table.graph as usize].elastic.as_ref().map_or(0, |e| e.variables.len());
    let want = u64::from(table.count) * (variables + NUMBERS) as u64;
    equal(place, "number of bytes", want, header.blobs[table.blob as usize].len)
}
