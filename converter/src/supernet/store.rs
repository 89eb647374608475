//! An elastic graph in a draft: every matrix once, in blocks that its subnets are made of.

use super::elastic::{Family, Sizes};
use crate::compress::{self, Matrix, Stored, Use};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::graph::{Change, DType, Effect, Mixed, Mixture, Source, Variable};
use edge_runtime::pack::{Arg, Expr, Tensor};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they came.
    Exact,
    /// In planes of a code of 16 bits.
    Planes,
}

/// A matrix of some subnet.
struct Kept<'a> {
    stored: Stored<'a>,
    sizes: Sizes,
}

/// The draft of a family: graph 0 is elastic, and there are no rungs.
///
/// # Errors
/// When a matrix is not finite.
pub fn draft(family: &Family, precision: Precision) -> Result<Draft, ConvertError> {
    let mut draft = Draft::new(&family.template);
    let matrices = matrices(family)?;
    let mut places: HashMap<u32, Source> = HashMap::new();
    // Equal ones are one in the pack, whatever the graph's values are.
    let mut known: HashMap<(DType, &[usize], &[u8]), u32> = HashMap::new();
    for (id, Kept { stored, sizes }) in &matrices {
        let root = match precision {
            Precision::Exact => compress::as_it_lies(&mut draft, stored),
            Precision::Planes => tiles(&mut draft, &stored.matrix(), sizes)?,
        };
        let tensor = Tensor { name: stored.name.clone(), n: stored.n, k: stored.k, roots: vec![root] };
        places.insert(*id, Source::Weight(draft.tensor(tensor)));
    }
    let mut place = |source: &mut Source| {
        if let Source::Constant(id) = *source {
            let array = &family.template.constants[id as usize];
            *source = *places.entry(id).or_insert_with(|| {
                let key = (array.dtype, &array.dims[..], &array.data[..]);
                Source::Constant(*known.entry(key).or_insert_with(|| draft.constant(array)))
            });
        }
    };
    let mut graph = family.template.graph.clone();
    graph.values.iter_mut().for_each(|value| place(&mut value.source));
    let mut elastic = family.elastic.clone();
    for effect in &mut elastic.effects {
        if let Change::Source { sources, .. } = &mut effect.change {
            sources.iter_mut().flatten().for_each(&mut place);
        }
    }
    for Mixture { layers, values, .. } in &mut elastic.mixtures {
        values.iter_mut().flat_map(|mixed| &mut mixed.experts).for_each(&mut place);
        for id in layers.iter_mut().flat_map(|layer| [Some(&mut layer.weight), layer.bias.as_mut()]).flatten()
        {
            // No router is a matrix of the graph.
            let mut source = Source::Constant(*id);
            place(&mut source);
            if let Source::Constant(stored) = source {
                *id = stored;
            }
        }
    }
    graph.elastic = Some(Box::new(elastic));
    draft.graph(graph);
    Ok(draft)
}

/// The matrices of the family: the template's, those that stand in their place in some subnets, and those that are mixed.
fn matrices(family: &Family) -> Result<BTreeMap<u32, Kept<'_>>, ConvertError> {
    let template = &family.template;
    let mut all: BTreeMap<u32, Kept<'_>> = BTreeMap::new();
    for (id, stored) in compress::matrices(&template.graph, &template.constants)? {
        let sizes = family.sizes.get(&id).cloned().unwrap_or_default();
        all.insert(id, Kept { stored, sizes });
    }
    for effect in &family.elastic.effects {
        let Change::Source { value, sources } = &effect.change else { continue };
        let Source::Constant(own) = template.graph.values[*value as usize].source else { continue };
        let Some(Kept { stored: Stored { used, name, .. }, sizes }) = all.get(&own) else { continue };
        let (used, name, sizes) = (*used, name.clone(), sizes.clone());
        let names = entry_names(&family.elastic.variables, effect);
        for (entry, source) in names.into_iter().zip(sources) {
            let Some(Source::Constant(id)) = source else { continue };
            let array = &template.constants[*id as usize];
            let &[n, k] = &array.dims[..] else { continue };
            let name = format!("{name} ({entry})");
            compress::finite(&name, array)?;
            let stored = Stored { name, n, k, used, array };
            all.entry(*id).or_insert(Kept { stored, sizes: sizes.clone() });
        }
    }
    for Mixed { value, experts } in family.elastic.mixtures.iter().flat_map(|mixture| &mixture.values) {
        let Source::Constant(own) = template.graph.values[*value as usize].source else { continue };
        let Some(Kept { stored: Stored { used, name, n, k, .. }, sizes }) = all.get(&own) else { continue };
        let (used, n, k, name, sizes) = (*used, *n, *k, name.clone(), sizes.clone());
        for (e, source) in experts.iter().enumerate().skip(1) {
            let Source::Constant(id) = source else { continue };
            let array = &template.constants[*id as usize];
            let name = format!("{name} (expert {e})");
            compress::finite(&name, array)?;
            let stored = Stored { name, n, k, used, array };
            all.entry(*id).or_insert(Kept { stored, sizes: sizes.clone() });
        }
    }
    Ok(all)
}

/// What is chosen where each entry of an effect stands.
fn entry_names(variables: &[Variable], effect: &Effect) -> Vec<String> {
    let mut names = vec![String::new()];
    for v in effect.variables() {
        let Variable { name, options } = &variables[v];
        let each = |before: &String| {
            let comma = if before.is_empty() { "" } else { ", " };
            options.iter().map(|o| format!("{before}{comma}{name} = {o}")).collect::<Vec<_>>()
        };
        names = names.iter().flat_map(each).collect();
    }
    names
}

/// The ends of the parts of a side that is cut to some sizes.
fn ends(sizes: impl Iterator<Item = usize>, whole: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = sizes.filter(|size| *size > 0 && *size < whole).collect();
    ends.push(whole);
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// Blocks of planes that every size is a union of.
fn tiles(draft: &mut Draft, matrix: &Matrix<'_>, sizes: &Sizes) -> Result<Expr, ConvertError> {
    let channels = match (matrix.used, sizes.channels) {
        (Use::Product, Some(channels)) if matrix.k.is_multiple_of(channels) => channels,
        _ => matrix.k,
    };
    let taps = matrix.k / channels;
    let rows = ends(sizes.rows.iter().copied(), matrix.n);
    let kept = ends(sizes.kept.iter().copied().filter(|_| taps * channels == matrix.k), channels);
    if rows.len() * kept.len() == 1 {
        return Ok(compress::planes(draft, matrix)?.expr);
    }
    let (mut blocks, mut args) = (Vec::new(), Vec::new());
    let mut n0 = 0;
    for n1 in rows {
        let mut c0 = 0;
        for &c1 in &kept {
            let block = matrix.part(taps, [n0, n1, c0, c1]);
            args.push(Arg::Expr(Box::new(compress::planes(draft, &block)?.expr)));
            blocks.push([n0, n1, c0, c1]);
            c0 = c1;
        }
        n0 = n1;
    }
    let mut params = serde_json::Map::new();
    params.insert("taps".into(), json!(taps));
    params.insert("blocks".into(), json!(blocks));
    Ok(Expr { kind: "tiles".into(), params, args, blobs: Vec::new() })
}
