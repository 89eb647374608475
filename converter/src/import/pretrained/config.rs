//! `config.json`: numbers, truths and texts by their keys, and what is said of rotary positions, in the forms of several versions of the library.

use super::PretrainedError;
use crate::import::ImportError;
use serde_json::{Map, Value};
use std::f64::consts::PI;
use std::path::{Path, PathBuf};

/// Longest file of parameters that is read.
const LONGEST: u64 = 16 << 20;
/// Largest number that is exact where numbers are reals.
const EXACT: f64 = 4_294_967_295.0;

/// The parameters of a checkpoint. A key whose value is null is as good as missing, except that nothing stands for it.
#[derive(Debug)]
pub struct Config {
    pub(super) path: PathBuf,
    values: Map<String, Value>,
    /// Numbers by their keys, where the file does not have these.
    pub(super) numbers: &'static [(&'static str, f64)],
}

/// How positions turn heads.
#[derive(Debug, Default)]
pub(super) struct Rope {
    /// The base of frequencies.
    pub base: Option<f64>,
    /// That of layers that see a window.
    pub local_base: Option<f64>,
    /// How much of a head is turned.
    pub part: f64,
    pub stretched: Stretched,
}

/// How positions are stretched to longer contexts.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Stretched {
    #[default]
    Not,
    /// All frequencies are divided by a factor.
    Linear(f64),
    /// Slow ones are, fast ones are not, those between by degrees (Llama Team, The Llama 3 Herd of Models, 2024): of a frequency that turns around
    /// `r` times in `context` tokens `(r - low) / (high - low)` is kept.
    ByFrequency { factor: f64, low: f64, high: f64, context: f64 },
    /// Each by a divisor of its own, cosines and sines by a factor (Ding et al., LongRoPE, 2024). There are two lists of divisors; this one is for the context
    /// that the model had before it was stretched.
    ByList { divisors: Vec<f64>, scale: f64, context: usize },
}

impl Rope {
    /// What frequency `base^(-i / pairs)` of each pair is divided by; empty when it is nothing.
    ///
    /// # Errors
    /// When a list has more or fewer.
    pub fn divisors(&self, pairs: usize, base: f64) -> Result<Vec<f32>, String> {
        let (factor, low, high, context) = match &self.stretched {
            Stretched::Not | Stretched::Linear(_) => return Ok(Vec::new()),
            Stretched::ByList { divisors, .. } if divisors.len() == pairs => {
                return Ok(divisors.iter().map(|divisor| *divisor as f32).collect());
            }
            Stretched::ByList { divisors, .. } => {
                return Err(format!(
                    "{} numbers; {pairs} are expected, one for each pair of a head",
                    divisors.len()
                ));
            }
            Stretched::ByFrequency { factor, low, high, context } => (*factor, *low, *high, *context),
        };
        let divisor = |i: usize| {
            let turns = context * base.powf(-(i as f64) / pairs as f64) / (2.0 * PI);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - kept) / factor + kept)) as f32
        };
        Ok((0..pairs).map(divisor).collect())
    }
}

/// A value for a message.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Reads a file of JSON whose value is an object.
pub(crate) fn object(path: &Path, longest: u64) -> Result<Map<String, Value>, PretrainedError> {
    let json = |why: String| PretrainedError::Json { path: path.into(), why };
    let bytes = bytes(path, longest)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(other) => Err(json(format!("{}; an object is expected", shown(&other)))),
        Err(e) => Err(json(format!("no JSON ({e}); the file may be cut: fetch it again"))),
    }
}

/// Reads a regular file of so many bytes at most.
pub(crate) fn bytes(path: &Path, longest: u64) -> Result<Vec<u8>, PretrainedError> {
    let read = |source| PretrainedError::Read { path: path.into(), source };
    let meta = std::fs::metadata(path).map_err(read)?;
    if !meta.is_file() || meta.len() > longest {
        let why = format!("{} bytes; a file of at most {longest} is expected", meta.len());
        return Err(PretrainedError::Json { path: path.into(), why });
    }
    std::fs::read(path).map_err(read)
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no JSON object.
    pub fn read(path: &Path, numbers: &'static [(&'static str, f64)]) -> Result<Config, ImportError> {
        Ok(Config { path: path.into(), values: object(path, LONGEST)?, numbers })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with a key.
    pub fn wrong(&self, key: &str, why: String) -> ImportError {
        PretrainedError::Key { path: self.path.clone(), key: key.into(), why }.into()
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key has a value.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A real number; what stands for it when the file does not have the key.
    ///
    /// # Errors
    /// When it is something else, or not finite.
    pub fn real(&self, key: &str) -> Result<Option<f64>, ImportError> {
        match self.values.get(key) {
            None => Ok(self.numbers.iter().find(|(known, _)| *known == key).map(|(_, number)| *number)),
            Some(value) => real(value).map_err(|why| self.wrong(key, why)),
        }
    }

    /// A whole number of 0 or more.
    ///
    /// # Errors
    /// When it is something else, or more than 2^32 - 1.
    pub fn count(&self, key: &str) -> Result<Option<usize>, ImportError> {
        match self.real(key)? {
            Some(number) if number.fract() != 0.0 || !(0.0..=EXACT).contains(&number) => {
                Err(self.wrong(key, format!("{number}; a whole number of 0 to 2^32 - 1 is expected")))
            }
            number => Ok(number.map(|number| number as usize)),
        }
    }

    /// A truth.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ImportError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, format!("{}; true or false is expected", shown(other)))),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ImportError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, format!("{}; a string is expected", shown(other)))),
        }
    }

    /// Texts; none when the key is not there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn texts(&self, key: &str) -> Result<Vec<&str>, ImportError> {
        let wrong =
            |value: &Value| self.wrong(key, format!("{}; an array of strings is expected", shown(value)));
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(value @ Value::Array(all)) => {
                all.iter().map(|one| one.as_str().ok_or_else(|| wrong(value))).collect()
            }
            Some(other) => Err(wrong(other)),
        }
    }

    /// Whole numbers of one key, which has one or several.
    ///
    /// # Errors
    /// When it is something else.
    pub fn counts(&self, key: &str) -> Result<Vec<usize>, ImportError> {
        let wrong =
            |value: &Value| self.wrong(key, format!("{}; a token id or several are expected", shown(value)));
        let one =
            |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| wrong(value));
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) => all.iter().map(one).collect(),
            Some(value) => Ok(vec![one(value)?]),
        }
    }

    /// Whether a layer sees a window alone; `None` when the layers are not listed.
    ///
    /// # Errors
    /// When the list is too short, or has something else.
    pub fn layer_is_local(&self, layer: usize) -> Result<Option<bool>, ImportError> {
        const KEY: &str = "layer_types";
        let all = self.texts(KEY)?;
        match all.get(layer) {
            None if all.is_empty() => Ok(None),
            None => Err(self.wrong(KEY, format!("{} entries, and there is a layer {layer}", all.len()))),
            Some(&"full_attention") => Ok(Some(false)),
            Some(&"sliding_attention") => Ok(Some(true)),
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                Err(self
                    .wrong(KEY, format!("`{other}`; full_attention and sliding_attention are implemented")))
            }
        }
    }

    /// How the checkpoint is quantised, in a word.
    pub(super) fn quantization(&self) -> String {
        let method = self.get("quantization_config").and_then(|value| value.get("quant_method"));
        method.and_then(Value::as_str).unwrap_or("of no stated method").chars().take(40).collect()
    }

    /// What is said of rotary positions; what is not implemented goes to `what`.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub(super) fn rope(&self, what: &mut Vec<String>) -> Result<Rope, ImportError> {
        let mut rope = Rope {
            base: self.real("rope_theta")?,
            local_base: self.real("rope_local_base_freq")?,
            part: 1.0,
            ..Rope::default()
        };
        if let Some(part) = self.real("partial_rotary_factor")? {
            if !(part > 0.0 && part <= 1.0) {
                let why = format!("{part}; a number above 0, at most 1, is expected");
                return Err(self.wrong("partial_rotary_factor", why));
            }
            rope.part = part;
        }
        // Since version 5 all of it is in one place, by kinds of layers where these differ.
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(key) else { continue };
            let (all, local) = match value.get("full_attention") {
                Some(all) => (all, value.get("sliding_attention")),
                None => (value, None),
            };
            rope.base = self.part(key, all, "rope_theta")?.or(rope.base);
            rope.stretched = self.stretched(key, all, what)?;
            if let Some(local) = local {
                rope.local_base = self.part(key, local, "rope_theta")?.or(rope.local_base);
                if self.stretched(key, local, what)? != Stretched::Not {
                    what.push(format!("`{key}`: stretched positions of layers that see a window"));
                }
            }
        }
        Ok(rope)
    }

    /// A number within a value.
    fn part(&self, key: &str, value: &Value, part: &str) -> Result<Option<f64>, ImportError> {
        match value.get(part) {
            None => Ok(None),
            Some(number) => real(number).map_err(|why| self.wrong(&format!("{key}.{part}"), why)),
        }
    }

    fn stretched(&self, key: &str, value: &Value, what: &mut Vec<String>) -> Result<Stretched, ImportError> {
        if !value.is_object() {
            return Err(self.wrong(key, format!("{}; an object is expected", shown(value))));
        }
        let kind = value.get("rope_type").or_else(|| value.get("type"));
        let number = |part: &str| match self.part(key, value, part)? {
            Some(number) if number > 0.0 => Ok(number),
            Some(number) => {
                Err(self.wrong(&format!("{key}.{part}"), format!("{number}; a number above 0 is expected")))
            }
            None => Err(self.wrong(&format!("{key}.{part}"), "missing".into())),
        };
        match kind.and_then(Value::as_str) {
            None | Some("default") => Ok(Stretched::Not),
            Some("linear") => Ok(Stretched::Linear(number("factor")?)),
            Some("llama3") => {
                let context = match self.part(key, value, "original_max_position_embeddings")? {
                    None => self.real("original_max_position_embeddings")?,
                    context => context,
                };
                let context = context.filter(|context| *context > 0.0).ok_or_else(|| {
                    self.wrong(
                        &format!("{key}.original_max_position_embeddings"),
                        "a number above 0 is expected".into(),
                    )
                })?;
                let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
                if low >= high {
                    let why = format!("{low} and {high}; the first is expected to be less");
                    return Err(self.wrong(&format!("{key}.low_freq_factor, high_freq_factor"), why));
                }
                Ok(Stretched::ByFrequency { factor: number("factor")?, low, high, context })
            }
            Some("longrope" | "su") => self.by_list(key, value),
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                what.push(format!("`{key}` of type `{other}`; there is default, linear, llama3, longrope"));
                Ok(Stretched::Not)
            }
        }
    }
}

impl Config {
    fn by_list(&self, key: &str, value: &Value) -> Result<Stretched, ImportError> {
        const LIST: &str = "short_factor";
        let wrong = |part: &str, why: &str| self.wrong(&format!("{key}.{part}"), why.into());
        let list =
            value.get(LIST).and_then(Value::as_array).ok_or_else(|| wrong(LIST, "a list is expected"))?;
        let number = |value: &Value| value.as_f64().filter(|divisor| divisor.is_finite() && *divisor > 0.0);
        let divisors: Option<Vec<f64>> = list.iter().map(number).collect();
        let divisors = divisors.ok_or_else(|| wrong(LIST, "numbers above 0 are expected"))?;
        const ORIGINAL: &str = "original_max_position_embeddings";
        let context = match self.part(key, value, ORIGINAL)? {
            None => self.real(ORIGINAL)?,
            context => context,
        };
        let context =
            context.filter(|context| *context >= 2.0 && context.fract() == 0.0 && *context <= EXACT);
        let context = context.ok_or_else(|| wrong(ORIGINAL, "a whole number of 2 and more is expected"))?;
        let stated = self.part(key, value, "attention_factor")?;
        let stretched = self.real("max_position_embeddings")?.unwrap_or(context) / context;
        // As the library has it: formula 7 of the paper.
        let scale = stated.unwrap_or(if stretched > 1.0 {
            (1.0 + stretched.ln() / context.ln()).sqrt()
        } else {
            1.0
        });
        Ok(Stretched::ByList { divisors, scale, context: context as usize })
    }
}

/// A finite number, or none for null.
fn real(value: &Value) -> Result<Option<f64>, String> {
    match value {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("{}; a number is expected", shown(value))),
        },
    }
}
