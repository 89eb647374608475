//! What is elastic in the runtime's graph, found by comparing: the graph that the importer and the simplifier make of each option beside
//! that of the largest network. So whatever they do to a graph is done to its elastic parts, and no pass knows of choices.

use super::difference::{Difference, Stored, difference};
use crate::compress;
use crate::error::ConvertError;
use crate::model::{Array, Model};
use edge_runtime::graph::{Change, Effect, Elastic, Source, ValueId, Variable};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The largest network with its elastic parts.
pub struct Family {
    /// The graph and everything that some subnet reads: `elastic` refers to these constants.
    pub template: Model,
    /// Constants that are stored as matrices.
    pub matrices: HashSet<u32>,
    /// What the choices change.
    pub elastic: Elastic,
    /// Sizes `[rows, channels]` that constants which are matrices are cut to, by constant.
    pub sizes: BTreeMap<u32, Sizes>,
}

/// What a matrix is cut to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Numbers of rows.
    pub rows: BTreeSet<usize>,
    /// Channels of the whole, where they are cut.
    pub channels: Option<usize>,
    /// Numbers of channels.
    pub kept: BTreeSet<usize>,
}

/// What one place of the graph is, in a subnet.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Attribute(Json),
    Bypass(ValueId),
    Stored(Stored),
}

/// A place of the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Attribute(u32, String),
    Bypass(ValueId),
    Stored(ValueId),
}

/// Most combinations of options of which graphs are made for one place.
const MAX_COMBINATIONS: usize = 1296;

/// A kind of change of one place: changes of two kinds act one beside the other, two of one kind do not.
type Kind = (Place, std::mem::Discriminant<Change>);

/// Finds what is elastic in `template`. `subnet` makes the graph of a choice.
///
/// Each variable is compared alone; where several have changes of one kind for one place, all combinations of their options are.
///
/// # Errors
/// When a subnet cannot be made, or its graph is not the largest one with blocks left out and arrays cut.
pub fn family(
    template: Model,
    variables: Vec<Variable>,
    mut subnet: impl FnMut(&[usize]) -> Result<Model, ConvertError>,
) -> Result<Family, ConvertError> {
    let largest: Vec<usize> = variables.iter().map(|v| v.options.len() - 1).collect();
    let matrices: HashSet<u32> =
        compress::matrices(&template.graph, &template.constants)?.into_keys().collect();
    let whole = items(&template, &matrices, &subnet(&largest)?, "the largest network")?;
    let mut family =
        Family { template, matrices: HashSet::new(), elastic: Elastic::default(), sizes: BTreeMap::new() };
    // Of choices with at most one option that is not the largest network's: many combinations are of such.
    let mut known: HashMap<Vec<usize>, BTreeMap<Place, Item>> = HashMap::from([(largest.clone(), whole)]);
    let mut effects: Vec<(Place, Effect)> = Vec::new();
    for (v, variable) in variables.iter().enumerate() {
        let mut by_option = Vec::with_capacity(variable.options.len());
        for option in 0..variable.options.len() {
            let mut choice = largest.clone();
            choice[v] = option;
            if !known.contains_key(&choice) {
                let what = format!("`{}` = {}", variable.name, variable.options[option]);
                let found = items(&family.template, &matrices, &subnet(&choice)?, &what)?;
                known.insert(choice.clone(), found);
            }
            by_option.push(choice);
        }
        let by_option: Vec<&BTreeMap<Place, Item>> = by_option.iter().map(|choice| &known[choice]).collect();
        effects.extend(effects_of(&mut family, &[v], &by_option)?);
    }
    let mut by_kind: BTreeMap<Place, Vec<(Kind, Vec<usize>)>> = BTreeMap::new();
    for (place, effect) in &effects {
        let kind = (place.clone(), std::mem::discriminant(&effect.change));
        let of_place = by_kind.entry(place.clone()).or_default();
        match of_place.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, together)) => together.push(effect.variable as usize),
            None => of_place.push((kind, vec![effect.variable as usize])),
        }
    }
    let mut together: BTreeMap<Vec<usize>, Vec<Kind>> = BTreeMap::new();
    for (kind, several) in by_kind.into_values().flatten().filter(|(_, several)| several.len() > 1) {
        together.entry(several).or_default().push(kind);
    }
    for (several, kinds) in together {
        let all = combinations(&variables, &several);
        // What comes of too many is refused where subnets are checked.
        let Some(all) = all else { continue };
        let mut made = Vec::with_capacity(all.len());
        for options in all {
            let mut choice = largest.clone();
            several.iter().zip(&options).for_each(|(v, option)| choice[*v] = *option);
            if let Some(known) = known.get(&choice) {
                made.push(Cow::Borrowed(known));
                continue;
            }
            let named = several
                .iter()
                .zip(&options)
                .map(|(v, option)| format!("`{}` = {}", variables[*v].name, variables[*v].options[*option]));
            let what = named.collect::<Vec<_>>().join(", ");
            made.push(Cow::Owned(items(&family.template, &matrices, &subnet(&choice)?, &what)?));
        }
        let by_combination: Vec<&BTreeMap<Place, Item>> = made.iter().map(|found| &**found).collect();
        let is_joint = |place: &Place, effect: &Effect| {
            kinds.iter().any(|(p, kind)| p == place && *kind == std::mem::discriminant(&effect.change))
        };
        effects.retain(|(place, effect)| !is_joint(place, effect));
        let joint = effects_of(&mut family, &several, &by_combination)?;
        effects.extend(joint.into_iter().filter(|(place, effect)| is_joint(place, effect)));
    }
    family.matrices = matrices;
    family.elastic.variables = variables;
    family.elastic.effects = effects.into_iter().map(|(_, effect)| effect).collect();
    Ok(family)
}

/// Every combination of options of some variables, those of the last side by side; `None` when they are too many.
fn combinations(variables: &[Variable], several: &[usize]) -> Option<Vec<Vec<usize>>> {
    let mut all = vec![Vec::new()];
    for v in several {
        let options = variables[*v].options.len();
        if all.len() * options > MAX_COMBINATIONS {
            return None;
        }
        let each = |before: &Vec<usize>| {
            let before = before.clone();
            (0..options).map(move |option| [&before[..], &[option]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(each).collect();
    }
    Some(all)
}

/// What some variables change, of which there is the graph of every combination of options; and where.
fn effects_of(
    family: &mut Family,
    variables: &[usize],
    by_option: &[&BTreeMap<Place, Item>],
) -> Result<Vec<(Place, Effect)>, ConvertError> {
    let mut effects = Vec::new();
    let places: BTreeSet<&Place> = by_option.iter().flat_map(|items| items.keys()).collect();
    for place in places {
        let entries: Vec<Option<&Item>> = by_option.iter().map(|items| items.get(place)).collect();
        if entries.windows(2).all(|pair| pair[0] == pair[1]) {
            continue;
        }
        for change in changes(family, place, &entries)? {
            let with = variables[1..].iter().map(|v| *v as u32).collect();
            effects.push((place.clone(), Effect { variable: variables[0] as u32, with, change }));
        }
    }
    Ok(effects)
}

fn items(
    template: &Model,
    matrices: &HashSet<u32>,
    subnet: &Model,
    what: &str,
) -> Result<BTreeMap<Place, Item>, ConvertError> {
    let found = difference(template, matrices, subnet)
        .map_err(|why| ConvertError::Supernet { why: format!("{what}: {why}") })?;
    let Difference { attributes, bypassed, stored, .. } = found;
    let attributes =
        attributes.into_iter().map(|(node, at, value)| (Place::Attribute(node, at), Item::Attribute(value)));
    let bypassed = bypassed.into_iter().map(|(value, by)| (Place::Bypass(value), Item::Bypass(by)));
    let stored = stored.into_iter().map(|(value, stored)| (Place::Stored(value), Item::Stored(stored)));
    Ok(attributes.chain(bypassed).chain(stored).collect())
}

/// The changes of one place by option; `None` where it is as in the template.
fn changes(
    family: &mut Family,
    place: &Place,
    entries: &[Option<&Item>],
) -> Result<Vec<Change>, ConvertError> {
    match place {
        Place::Attribute(node, pointer) => {
            let op = serde_json::to_value(&family.template.graph.body.nodes[*node as usize].op);
            let own = op.ok().and_then(|op| op.pointer(pointer).cloned()).unwrap_or_default();
            let value = |item: &Option<&Item>| match item {
                Some(Item::Attribute(value)) => value.clone(),
                _ => own.clone(),
            };
            let values = entries.iter().map(value).collect();
            Ok(vec![Change::Attribute { node: *node, pointer: pointer.clone(), values }])
        }
        Place::Bypass(value) => {
            let by = |item: &Option<&Item>| match item {
                Some(Item::Bypass(by)) => Some(*by),
                _ => None,
            };
            Ok(vec![Change::Bypass { value: *value, by: entries.iter().map(by).collect() }])
        }
        Place::Stored(value) => stored_changes(family, *value, entries),
    }
}

fn stored_changes(
    family: &mut Family,
    value: ValueId,
    entries: &[Option<&Item>],
) -> Result<Vec<Change>, ConvertError> {
    let own = family.template.constant(value).cloned().unwrap_or_else(|| Array::f32(&[0], &[]));
    let Source::Constant(id) = family.template.graph.values[value as usize].source else {
        let name = family.template.graph.name(value);
        return Err(ConvertError::Supernet {
            why: format!("`{name}` is stored in some subnets and computed in others"),
        });
    };
    let mut changes = Vec::new();
    let stored = |entry: &Option<&Item>| match entry {
        Some(Item::Stored(stored)) => Some(stored.clone()),
        _ => None,
    };
    let entries: Vec<Option<Stored>> = entries.iter().map(stored).collect();
    // Rows, channels and elements: whole where an option says nothing.
    let sizes = |size: fn(&Stored) -> Option<usize>, whole: usize| -> Option<Vec<usize>> {
        let some = entries.iter().any(|e| e.as_ref().and_then(size).is_some());
        some.then(|| entries.iter().map(|e| e.as_ref().and_then(size).unwrap_or(whole)).collect())
    };
    let rows = sizes(
        |s| if let Stored::Part { rows, .. } = s { *rows } else { None },
        own.dims.first().copied().unwrap_or(0),
    );
    let channels = entries.iter().find_map(|e| match e {
        Some(Stored::Part { channels: Some((all, _)), .. }) => Some(*all),
        _ => None,
    });
    let kept = channels.and_then(|all| {
        sizes(
            |s| if let Stored::Part { channels, .. } = s { channels.map(|(_, kept)| kept) } else { None },
            all,
        )
    });
    let matrix = family.sizes.entry(id).or_default();
    if let Some(sizes) = rows {
        matrix.rows.extend(&sizes);
        changes.push(Change::Rows { value, sizes });
    }
    if let (Some(channels), Some(sizes)) = (channels, kept) {
        matrix.channels = Some(channels);
        matrix.kept.extend(&sizes);
        changes.push(Change::Channels { value, channels, sizes });
    }
    let axis = entries.iter().find_map(|e| match e {
        Some(Stored::Elements { axis, .. }) => Some(*axis),
        _ => None,
    });
    if let Some(axis) = axis {
        let whole = own.dims.get(axis).copied().unwrap_or(0);
        let size = |s: &Stored| if let Stored::Elements { size, .. } = s { Some(*size) } else { None };
        let sizes = entries.iter().map(|e| e.as_ref().and_then(size).unwrap_or(whole)).collect();
        changes.push(Change::Elements { value, axis, sizes });
    }
    if entries.iter().any(|e| matches!(e, Some(Stored::Other(_)))) {
        let mut sources = Vec::with_capacity(entries.len());
        for entry in &entries {
            sources.push(match entry {
                Some(Stored::Other(array)) => {
                    let constants = &mut family.template.constants;
                    let known = constants.iter().position(|known| known == array);
                    let id = known.unwrap_or_else(|| {
                        constants.push(array.clone());
                        constants.len() - 1
                    });
                    Some(Source::Constant(id as u32))
                }
                _ => None,
            });
        }
        changes.push(Change::Source { value, sources });
    }
    Ok(changes)
}

impl Family {
    /// What a subnet's model has in the template's terms.
    ///
    /// # Errors
    /// As [`family`].
    pub fn compare(&self, subnet: &Model, what: &str) -> Result<Difference, ConvertError> {
        let found = difference(&self.template, &self.matrices, subnet);
        found.map_err(|why| ConvertError::Supernet { why: format!("{what}: {why}") })
    }
}
