//! From what a pickle holds to named tensors: the model among what a training script saved, and the names in it.

use super::pickle::{Id, Object, Pickle, Tensor};
use crate::import::checkpoint::CheckpointError;
use std::path::Path;

/// The keys under which training scripts put the model's tensors, in the order in which they are looked for.
const MODELS: [&str; 7] = ["state_dict", "model_state_dict", "model", "module", "net", "network", "params"];
/// Most containers within one another.
const MAX_DEPTH: usize = 32;
/// Bytes of the longest name.
const MAX_NAME: usize = 1024;
/// Most objects that are looked at: shared ones count wherever they are met.
const MAX_VISITS: usize = 4 << 20;

/// The tensors that were found.
pub(super) struct Found<'a> {
    pub tensors: Vec<(String, &'a Tensor)>,
    /// The key of the part that they are in; empty for all.
    pub part: String,
    /// Keys of other parts that hold tensors.
    pub others: Vec<String>,
}

/// The model's tensors by name; `part` names the entry of the outermost dictionaries that holds them, `a.b` one in another.
pub(super) fn tensors<'a>(
    path: &Path,
    pickle: &'a Pickle,
    part: Option<&str>,
) -> Result<Found<'a>, CheckpointError> {
    let leading = leading(pickle);
    let mut walk = Walk { path, pickle, open: Vec::new(), visits: 0, leading, tensors: Vec::new() };
    let mut at = pickle.root;
    let mut taken: Vec<String> = Vec::new();
    let mut others = Vec::new();
    if let Some(part) = part {
        for key in part.split('.') {
            let known: Vec<String> = walk.entries(at).into_iter().map(|(key, _)| key).collect();
            let Some((key, next)) = walk.entries(at).into_iter().find(|(k, _)| k == key) else {
                return Err(CheckpointError::Missing {
                    path: path.into(),
                    what: "part",
                    name: part.into(),
                    known,
                });
            };
            taken.push(key);
            at = next;
        }
    } else {
        // A state dict is flat: a dictionary under one of these keys is a model's, whatever tensors (an accuracy) lie beside it.
        while taken.len() < MAX_DEPTH {
            let entries = walk.entries(at);
            let is_model =
                |name: &&str| entries.iter().any(|(k, id)| *k == **name && walk.is_dict_of_tensors(*id));
            let Some(key) = MODELS.iter().find(|name| is_model(name)).copied() else { break };
            let others_here = entries.iter().filter(|(k, id)| k != key && walk.leads_to_tensors(*id));
            let prefix = taken.iter().fold(String::new(), |all, key| all + key + ".");
            others.extend(others_here.map(|(k, _)| format!("{prefix}{k}")));
            let Some((_, next)) = entries.iter().rev().find(|(k, _)| k == key) else { break };
            taken.push(key.to_string());
            at = *next;
        }
    }
    walk.visit(at, &mut String::new())?;
    Ok(Found { tensors: walk.tensors, part: taken.join("."), others })
}

struct Walk<'p, 'a> {
    path: &'p Path,
    pickle: &'a Pickle,
    /// The containers around the object that is visited.
    open: Vec<Id>,
    visits: usize,
    /// Which objects hold tensors, at any depth.
    leading: Vec<bool>,
    tensors: Vec<(String, &'a Tensor)>,
}

/// Which objects are tensors or hold some: from the tensors back to whatever holds them.
fn leading(pickle: &Pickle) -> Vec<bool> {
    let mut holders: Vec<(Id, Id)> = Vec::new();
    let mut open: Vec<Id> = Vec::new();
    for (id, object) in (0..).zip(&pickle.objects) {
        match object {
            Object::Tensor(_) => open.push(id),
            Object::Dict(pairs) => holders.extend(pairs.iter().map(|(_, value)| (*value, id))),
            Object::List(items) | Object::Tuple(items) => {
                holders.extend(items.iter().map(|item| (*item, id)))
            }
            _ => {}
        }
    }
    holders.sort_unstable();
    let mut leading = vec![false; pickle.objects.len()];
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut leading[id as usize], true) {
            let first = holders.partition_point(|(held, _)| *held < id);
            open.extend(
                holders[first..].iter().take_while(|(held, _)| *held == id).map(|(_, holder)| holder),
            );
        }
    }
    leading
}

impl<'a> Walk<'_, 'a> {
    fn object(&self, id: Id) -> &'a Object {
        &self.pickle.objects[id as usize]
    }

    /// The entries of a dictionary that have names.
    fn entries(&self, id: Id) -> Vec<(String, Id)> {
        match self.object(id) {
            Object::Dict(pairs) => {
                pairs.iter().filter_map(|(key, value)| Some((self.key(*key)?, *value))).collect()
            }
            _ => Vec::new(),
        }
    }

    fn key(&self, id: Id) -> Option<String> {
        match self.object(id) {
            Object::Str(text) => Some(text.clone()),
            Object::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn is_dict_of_tensors(&self, id: Id) -> bool {
        matches!(self.object(id), Object::Dict(_)) && self.leads_to_tensors(id)
    }

    /// Whether an object holds tensors, at any depth.
    fn leads_to_tensors(&self, id: Id) -> bool {
        self.leading[id as usize]
    }

    /// Takes every tensor of an object; `name` is that of the object.
    fn visit(&mut self, id: Id, name: &mut String) -> Result<(), CheckpointError> {
        let wrong = |path: &Path, name: &str, why: String| {
            let tensor = if name.is_empty() { "(the whole)".to_string() } else { name.to_string() };
            Err(CheckpointError::Tensor { path: path.into(), tensor, why })
        };
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return wrong(
                self.path,
                name,
                format!("more than {MAX_VISITS} objects, shared ones counted each time"),
            );
        }
        let children: Vec<(Option<String>, Id)> = match self.object(id) {
            Object::Tensor(tensor) => {
                self.tensors.push((name.clone(), tensor));
                return Ok(());
            }
            Object::Dict(pairs) => pairs.iter().map(|(key, value)| (self.key(*key), *value)).collect(),
            Object::List(items) | Object::Tuple(items) => {
                items.iter().enumerate().map(|(i, id)| (Some(i.to_string()), *id)).collect()
            }
            _ => return Ok(()),
        };
        if self.open.contains(&id) {
            return wrong(self.path, name, "it holds itself".to_string());
        }
        if self.open.len() >= MAX_DEPTH {
            return wrong(self.path, name, format!("containers within more than {MAX_DEPTH} others"));
        }
        self.open.push(id);
        for (key, child) in children {
            let Some(key) = key else {
                if self.leads_to_tensors(child) {
                    return wrong(
                        self.path,
                        name,
                        "an entry whose key is neither a name nor a number".to_string(),
                    );
                }
                continue;
            };
            let len = name.len();
            if len > 0 {
                name.push('.');
            }
            name.push_str(&key);
            if name.len() > MAX_NAME {
                return wrong(
                    self.path,
                    &format!("{name:.80}.."),
                    format!("a name of more than {MAX_NAME} bytes"),
                );
            }
            self.visit(child, name)?;
            name.truncate(len);
        }
        self.open.pop();
        Ok(())
    }
}
