//! Language models as the `transformers` library stores them: a folder of `config.json`, tensors and `tokenizer.json`.
//!
//! ```text
//! config.rs   the parameters: keys of config.json, rotary positions, what families leave unsaid
//! places.rs   which tensor has which role
//! pooling.rs  how one vector is made of those of all tokens, as the `sentence-transformers` library stores it
//! model.rs    the folder as a model
//! ```
//!
//! Tensors are read by `import/checkpoint`, the tokenizer by `import/tokenizer`; families are in `import/language`, each with its [`Published`]
//! forms. Rows of queries and keys are in the order of half heads, whatever the family.

mod config;
mod error;
mod model;
mod places;
mod pooling;

pub use config::Config;
pub(crate) use config::{bytes, object};
pub use error::PretrainedError;
pub(super) use places::{ATTENTION_BIASES, DECODER, DISTILLED, ENCODER, JOINED, PRODUCT_BIASES};
pub use places::{Names, Place, Published, When};

use super::checkpoint::Checkpoint;
use super::gguf::{Form, Kind};
use super::language::FAMILIES;
use super::{ImportError, MOST_LISTED};
use config::Rope;
use edge_runtime::graph::DType;
use pooling::Pooling;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The parameters of a checkpoint.
pub const CONFIG: &str = "config.json";

/// An open checkpoint of a language model.
#[derive(Debug)]
pub struct Pretrained {
    /// What was asked for: a folder, a file of tensors, an index of several.
    path: PathBuf,
    folder: PathBuf,
    config: Config,
    family: &'static str,
    form: &'static Published,
    rope: Rope,
    pooling: Pooling,
    checkpoint: Checkpoint,
    /// Roles, and the tensors that have them.
    roles: HashMap<String, String>,
    /// The other way round; tensors that are left aside have no role.
    names: HashMap<String, Option<String>>,
}

impl Pretrained {
    /// Whether a path is a folder, a file or an index of tensors with a `config.json` beside it that says what model it is, or that cannot be read.
    pub fn is_one(path: &Path) -> bool {
        let (folder, is_folder) = place(path);
        let config = folder.join(CONFIG);
        if !config.is_file() || !(is_folder || is_tensors(path)) {
            return false;
        }
        match Config::read(&config, &[]) {
            Ok(config) => config.has("model_type") || config.has("architectures"),
            Err(_) => true,
        }
    }

    /// Reads the parameters, maps the tensors and gives each its role.
    ///
    /// # Errors
    /// When a file cannot be read or contradicts itself, the architecture, a way of stretching positions, of quantising or a type of tensor is not implemented
    /// (all of these at once), or tensors are missing (all at once too).
    pub fn open(path: &Path) -> Result<Pretrained, ImportError> {
        let (folder, _) = place(path);
        let mut config = Config::read(&folder.join(CONFIG), &[])?;
        let (family, form) = architecture(&config)?;
        config.numbers = form.numbers;
        let mut what = Vec::new();
        if config.has("quantization_config") {
            let method = config.quantization();
            what.push(format!(
                "`quantization_config` ({method}): the codes of such checkpoints are decoded by nothing here; give the checkpoint before quantisation, or \
                 a GGUF file"
            ));
        }
        for key in ["hidden_act", "hidden_activation", "activation"] {
            let found = config.text(key)?;
            if let Some(act) =
                found.filter(|act| form.activations.iter().all(|known| !is_activation(act, known)))
            {
                let known =
                    form.activations.iter().map(|known| format!("{known:?}")).collect::<Vec<_>>().join(", ");
                what.push(format!("`{key}` {act:?}; {known} is expected in `{}`", form.model_type));
            }
        }
        if config.flag("use_bidirectional_attention")? == Some(true) {
            what.push("`use_bidirectional_attention`: an encoder's attention".into());
        }
        if let Some(kind) = config.text("position_embedding_type")?.filter(|kind| *kind != "absolute") {
            what.push(format!("`position_embedding_type` {kind:?}; absolute is expected"));
        }
        // What makes vectors of a decoder's tokens has no part in writing.
        let pooling = if form.writes() { Pooling::default() } else { Pooling::of(&folder, &mut what)? };
        let rope = match config.rope(&mut what) {
            // What is not implemented is said with the rest.
            Err(_) if !what.is_empty() => Rope::default(),
            rope => rope?,
        };
        if !what.is_empty() {
            return Err(PretrainedError::Unsupported { path: config.path, what }.into());
        }
        let checkpoint = Checkpoint::open(path)?;
        if !is_tensors(checkpoint.path()) {
            let what =
                "tensors that are not in safetensors; save the model in that form, as `save_pretrained` does"
                    .into();
            return Err(
                PretrainedError::Unsupported { path: checkpoint.path().into(), what: vec![what] }.into()
            );
        }
        let blocks = config.count(model::key(form, "block_count").unwrap_or_default())?.unwrap_or_default();
        let tied = config.flag("tie_word_embeddings")?.unwrap_or(form.tied);
        let (roles, missing) = places::roles(form, &config, &checkpoint, blocks, tied)?;
        if !missing.is_empty() {
            return Err(
                PretrainedError::Missing { path: checkpoint.path().into(), blocks, names: missing }.into()
            );
        }
        let mut names: HashMap<String, Option<String>> =
            roles.iter().map(|(role, name)| (name.clone(), Some(role.clone()))).collect();
        for name in places::aside(form, &checkpoint, tied) {
            names.entry(name).or_default();
        }
        let made = Pretrained {
            path: path.into(),
            folder,
            config,
            family,
            form,
            rope,
            pooling,
            checkpoint,
            roles,
            names,
        };
        made.check_vocabulary()?;
        Ok(made)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many tokens the embedding has.
    pub fn vocabulary(&self) -> usize {
        let name = self.roles.get("token_embd.weight");
        let info = name.and_then(|name| self.checkpoint.get(name));
        info.and_then(|info| info.dims.first().copied()).unwrap_or_default()
    }

    fn check_vocabulary(&self) -> Result<(), ImportError> {
        let (Some(stated), found) = (self.config.count("vocab_size")?, self.vocabulary()) else {
            return Ok(());
        };
        if stated == found {
            return Ok(());
        }
        let key = model::key(self.form, "embedding_length").unwrap_or_default();
        let width = self.config.count(key)?.unwrap_or_default();
        let name = self.roles.get("token_embd.weight").map_or("", String::as_str);
        let dims = self.checkpoint.get(name).map(|info| info.dims.clone()).unwrap_or_default();
        let why = format!(
            "shape {dims:?}; [{stated}, {width}] is expected by `vocab_size` and `{key}` of {CONFIG}"
        );
        Err(self.checkpoint.wrong_in_file(name, why).into())
    }

    /// Types of tensors with a role that are no floats of 32 or 16 bits.
    fn other_types(&self) -> Vec<String> {
        let mut found: BTreeMap<String, (usize, &str)> = BTreeMap::new();
        for info in self.checkpoint.tensors() {
            let has_role = !matches!(self.names.get(&info.name), Some(None));
            if has_role && kind(info.dtype).is_none() {
                found.entry(info.dtype.to_string()).or_insert((0, &info.name)).0 += 1;
            }
        }
        let line = |(dtype, (count, first)): (String, (usize, &str))| {
            let tensors = if count == 1 { "tensor" } else { "tensors" };
            format!(
                "type {dtype} of {count} {tensors}, `{first}` first; bf16, f16 and f32 are read: save the model in one of them"
            )
        };
        found.into_iter().take(MOST_LISTED).map(line).collect()
    }
}

/// The type of a tensor's elements, of those that there are in such files.
fn kind(dtype: DType) -> Option<&'static Kind> {
    let name = match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::Bf16 => "BF16",
        _ => return None,
    };
    Kind::named(name).filter(|kind| matches!(kind.form, Form::Floats(_)))
}

/// Names of one function.
fn is_activation(found: &str, expected: &str) -> bool {
    let plain = |name: &str| match name {
        "swish" => "silu".to_string(),
        "gelu_tanh" | "gelu_new" | "gelu_fast" => "gelu_pytorch_tanh".to_string(),
        name => name.to_string(),
    };
    plain(found) == plain(expected)
}

/// The folder that a path is in or is, and whether it is.
fn place(path: &Path) -> (PathBuf, bool) {
    match path.is_dir() {
        true => (path.into(), true),
        false => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => (parent.into(), false),
            _ => (".".into(), false),
        },
    }
}

/// Whether a path's name is that of tensors in this form.
fn is_tensors(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

/// The family of a checkpoint.
fn architecture(config: &Config) -> Result<(&'static str, &'static Published), ImportError> {
    let all = || FAMILIES.iter().flat_map(|family| family.published.iter().map(|form| (family.name, form)));
    let (model_type, classes) = (config.text("model_type")?, config.texts("architectures")?);
    let fits = |form: &Published| {
        model_type.is_none_or(|found| found == form.model_type)
            && (classes.is_empty() || classes.contains(&form.class))
            && !(model_type.is_none() && classes.is_empty())
    };
    if let Some(found) = all().find(|(_, form)| fits(form)) {
        return Ok(found);
    }
    let known: Vec<String> =
        all().map(|(_, form)| format!("{} (`{}`)", form.class, form.model_type)).collect();
    let shown = |text: &str| text.chars().take(100).collect::<String>();
    let found = match (model_type, &classes[..]) {
        (Some(model_type), []) => format!("`model_type` `{}`", shown(model_type)),
        (model_type, classes) => format!(
            "architecture {} (`{}`)",
            shown(&classes.join(", ")),
            shown(model_type.unwrap_or("no model_type"))
        ),
    };
    let what = vec![format!("{found}; there is {}", known.join(", "))];
    Err(PretrainedError::Unsupported { path: config.path.clone(), what }.into())
}
