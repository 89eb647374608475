//! The model card that the caller writes.

use crate::error::ConvertError;
use edge_runtime::pack::{Card, Preprocess};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a card file may hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    input: BTreeMap<String, Preprocess>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// Labels, or the file that has one a line, beside the card.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Labels {
    List(Vec<String>),
    File(String),
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::List(Vec::new())
    }
}

/// Reads a card from a TOML file (or JSON, by its extension).
///
/// ```toml
/// labels = "labels.txt"
/// [input.x]
/// kind = "image"
/// colour = "rgb"
/// layout = "nchw"
/// mean = [127.0]
/// std = [128.0]
/// ```
///
/// # Errors
/// When the file cannot be read or has other fields.
pub fn read_card(path: &Path) -> Result<Card, ConvertError> {
    let io = |source| ConvertError::Io { path: path.into(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    let wrong =
        |why: String| ConvertError::Option { option: "--card", why: format!("{}: {why}", path.display()) };
    let file: File = if path.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?
    } else {
        toml::from_str(&text).map_err(|e| wrong(e.to_string()))?
    };
    let labels = match file.labels {
        Labels::List(labels) => labels,
        Labels::File(name) => {
            let path = path.parent().unwrap_or(Path::new("")).join(name);
            let text = std::fs::read_to_string(&path).map_err(|source| ConvertError::Io { path, source })?;
            text.lines().map(str::to_string).collect()
        }
    };
    Ok(Card { name: file.name.unwrap_or_default(), metadata: file.metadata, labels, preprocess: file.input })
}
