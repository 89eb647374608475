//! How one vector is made of those of all tokens: `modules.json` of the `sentence-transformers` library, and what it names.

use super::{PretrainedError, object};
use crate::import::ImportError;
use serde_json::Value;
use std::path::Path;

const MODULES: &str = "modules.json";
const LONGEST: u64 = 1 << 20;

/// What a text's vector is made of, in the numbers that GGUF files have for it.
pub(super) const MEAN: usize = 1;
pub(super) const FIRST: usize = 2;

/// Keys of a pooling's file, and what they ask for.
const WAYS: [(&str, Option<usize>); 6] = [
    ("pooling_mode_mean_tokens", Some(MEAN)),
    ("pooling_mode_cls_token", Some(FIRST)),
    ("pooling_mode_max_tokens", None),
    ("pooling_mode_mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", None),
    ("pooling_mode_lasttoken", None),
];

/// How a text's vector is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pooling {
    /// [`MEAN`] or [`FIRST`].
    pub way: usize,
    /// Whether it has length 1.
    pub normalized: bool,
}

impl Default for Pooling {
    /// The mean, as the library has it where nothing is said.
    fn default() -> Pooling {
        Pooling { way: MEAN, normalized: false }
    }
}

impl Pooling {
    /// Of a checkpoint's folder. What is not implemented goes to `what`.
    ///
    /// # Errors
    /// When a file is cut or is something else.
    pub fn of(folder: &Path, what: &mut Vec<String>) -> Result<Pooling, ImportError> {
        let mut pooling = Pooling::default();
        let path = folder.join(MODULES);
        if !path.is_file() {
            return Ok(pooling);
        }
        let json = |why: String| PretrainedError::Json { path: path.clone(), why };
        let modules: Vec<Value> = serde_json::from_slice(&super::bytes(&path, LONGEST)?)
            .map_err(|e| json(format!("no list of modules ({e}); the file may be cut: fetch it again")))?;
        for module in &modules {
            let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
            match text("type").rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => pooling.normalized = true,
                "Pooling" => pooling.way = way(folder, text("path"), what)?,
                other => {
                    let other: String = other.chars().take(40).collect();
                    what.push(format!(
                        "module `{other}` of {MODULES}; there is Transformer, Pooling, Normalize"
                    ));
                }
            }
        }
        Ok(pooling)
    }
}

/// The way that a pooling's file asks for.
fn way(folder: &Path, path: &str, what: &mut Vec<String>) -> Result<usize, ImportError> {
    // Within the folder: a name that leads elsewhere is not followed.
    let inside = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        what.push(format!(
            "module of {MODULES} in `{}`; a folder beside it is expected",
            path.chars().take(100).collect::<String>()
        ));
        return Ok(MEAN);
    }
    let values = object(&folder.join(path).join(super::CONFIG), LONGEST)?;
    let asked = |key: &str| values.get(key).and_then(Value::as_bool) == Some(true);
    let found: Vec<(&str, Option<usize>)> = WAYS.into_iter().filter(|(key, _)| asked(key)).collect();
    match found[..] {
        [(_, Some(way))] => Ok(way),
        _ => {
            let found: Vec<&str> = found.iter().map(|(key, _)| *key).collect();
            what.push(format!(
                "pooling by `{}`; one of pooling_mode_mean_tokens, pooling_mode_cls_token is expected",
                found.join(", ")
            ));
            Ok(MEAN)
        }
    }
}
