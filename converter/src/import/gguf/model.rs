//! A GGUF file as a language model: its own names are the roles.

use super::{Form, Gguf, GgufError, Kind};
use crate::import::ImportError;
use crate::import::language::{ModelFile, Stored};
use crate::import::tokenizer::{self, Found};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const ARCHITECTURE: &str = "general.architecture";
/// Divisors of frequencies; of two kinds those for contexts that are not stretched.
const DIVISORS: [&str; 2] = ["rope_freqs.weight", SHORT];
const SHORT: &str = "rope_factors_short.weight";

impl Gguf {
    /// The key of a role: the architecture's name is before it.
    fn key(&self, role: &str) -> Result<String, GgufError> {
        Ok(format!("{}.{role}", self.text(ARCHITECTURE)?.unwrap_or_default()))
    }
}

impl ModelFile for Gguf {
    fn path(&self) -> &Path {
        Gguf::path(self)
    }

    fn family(&self) -> Result<&str, ImportError> {
        Ok(self.text(ARCHITECTURE)?.ok_or_else(|| self.wrong_key(ARCHITECTURE, "missing".into()))?)
    }

    fn count_of(&self, role: &str) -> Result<Option<usize>, ImportError> {
        let count = self.count(&self.key(role)?)?;
        // The context that the divisors are for which are taken.
        let original = match role {
            "context_length" if self.get(SHORT).is_some() => {
                self.count(&self.key("rope.scaling.original_context_length")?)?
            }
            _ => None,
        };
        Ok(original.or(count))
    }

    fn real_of(&self, role: &str) -> Result<Option<f32>, ImportError> {
        Ok(self.real(&self.key(role)?)?)
    }

    fn text_of(&self, role: &str) -> Result<Option<&str>, ImportError> {
        Ok(self.text(&self.key(role)?)?)
    }

    fn is_local(&self, _: usize) -> Result<Option<bool>, ImportError> {
        Ok(None)
    }

    fn divisors(&self, pairs: usize, _: f32) -> Result<Vec<f32>, ImportError> {
        let found = DIVISORS.iter().find_map(|name| Some((*name, self.stored(name)?)));
        let Some((name, stored)) = found else { return Ok(Vec::new()) };
        match stored.kind.form {
            Form::Floats(dtype) if stored.dims == [pairs] => {
                let divisors = crate::draft::to_f32(dtype, stored.bytes);
                match divisors.iter().position(|value| !value.is_finite()) {
                    Some(at) => Err(self.wrong(name, format!("element {at} is {}", divisors[at]))),
                    None => Ok(divisors),
                }
            }
            _ => {
                let why = format!(
                    "{} of shape {:?}; floats of shape [{pairs}] are expected",
                    stored.kind.name, stored.dims
                );
                Err(self.wrong(name, why))
            }
        }
    }

    fn turns_neighbours(&self) -> bool {
        true
    }

    fn added_to(&self, _: &str) -> f32 {
        0.0
    }

    fn stored(&self, role: &str) -> Option<Stored<'_>> {
        let info = self.get(role)?;
        Some(Stored { dims: &info.dims, kind: Kind::of(info.kind)?, bytes: self.bytes(info) })
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.tensors()
            .iter()
            .filter(|info| !used.contains(&info.name))
            .map(|info| info.name.clone())
            .collect()
    }

    fn stated_in(&self) -> &'static str {
        "the file's keys"
    }

    fn not_decoded(&self) -> Vec<String> {
        let mut found: BTreeMap<u32, (usize, &str)> = BTreeMap::new();
        for info in self.tensors() {
            let decoded = Kind::of(info.kind).is_some_and(|kind| !matches!(kind.form, Form::Other));
            if !decoded {
                found.entry(info.kind).or_insert((0, &info.name)).0 += 1;
            }
        }
        let line = |(id, (count, first)): (u32, (usize, &str))| {
            let name = Kind::of(id).map_or_else(|| format!("of number {id}"), |kind| kind.name.to_string());
            let tensors = if count == 1 { "tensor" } else { "tensors" };
            format!("type {name} of {count} {tensors}, `{first}` first; quantise the model to another type")
        };
        found.into_iter().take(crate::import::MOST_LISTED).map(line).collect()
    }

    fn let_go(&self, part: &[u8]) {
        self.release(part);
    }

    fn tokenizer(&self) -> Result<Found, ImportError> {
        Ok(tokenizer::import(self)?)
    }

    fn wrong_parameter(&self, role: &str, why: String) -> ImportError {
        let key = self.key(role).unwrap_or_else(|_| role.to_string());
        self.wrong_key(&key, why).into()
    }

    fn wrong(&self, role: &str, why: String) -> ImportError {
        self.wrong_tensor(role, why).into()
    }

    fn not_implemented(&self, what: Vec<String>) -> ImportError {
        GgufError::Unsupported { path: Gguf::path(self).into(), what }.into()
    }
}
