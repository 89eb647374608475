//! `tokenizer.json` of the `tokenizers` library, and what lies beside it: tokens with a meaning, the chat template.

use super::listed::is_end;
use super::steps::{Way, way};
use super::{Found, byte_pairs, merges, scored, words};
use crate::import::ImportError;
use crate::import::pretrained::{CONFIG, Config, Pretrained, PretrainedError, bytes, object};
use edge_runtime::tokenizer::{TokenKind, Tokens};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const TOKENIZER: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const GENERATION: &str = "generation_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const OLD_TEMPLATE: &str = "chat_template.json";
/// Longest `tokenizer.json`, and longest of the other files.
const LONGEST: u64 = 256 << 20;
const LONGEST_BESIDE: u64 = 16 << 20;
/// Classes whose texts begin with a token where nothing says otherwise.
const START: [&str; 4] = ["LlamaTokenizer", "LlamaTokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast"];

/// The kind of a file, before all of it is read.
#[derive(Deserialize)]
struct Outline {
    model: Kind,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

/// A text where the file has it; one with escapes is written out. A vocabulary of 262,144 tokens has half a million merges.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    vocab: HashMap<Text<'a>, u32>,
    #[serde(default, borrow)]
    merges: Vec<Merge<'a>>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    unk_token: Option<String>,
    max_input_chars_per_word: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A merge; older files have a blank between the two.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(#[serde(borrow)] [Text<'a>; 2]),
    Text(#[serde(borrow)] Text<'a>),
}

impl Merge<'_> {
    fn parts(&self) -> Option<[&str; 2]> {
        match self {
            Merge::Pair([left, right]) => Some([&left.0, &right.0]),
            // The first token may be a blank itself.
            Merge::Text(Text(text)) => {
                let at = text.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
                Some([&text[..at], &text[at + 1..]])
            }
        }
    }
}

/// The tokenizer of a checkpoint.
///
/// # Errors
/// When a file is cut, or contradicts itself or the others.
pub(in crate::import) fn import(model: &Pretrained) -> Result<Found, ImportError> {
    let path = model.folder().join(TOKENIZER);
    if !path.is_file() {
        return Ok(Found::Nothing(format!("there is no {TOKENIZER} beside config.json")));
    }
    let read = bytes(&path, LONGEST)?;
    let json = |e: serde_json::Error| PretrainedError::Json {
        path: path.clone(),
        why: format!("no tokenizer ({e}); the file may be cut: fetch it again"),
    };
    let Outline { model: Kind { kind } } = serde_json::from_slice(&read).map_err(json)?;
    let tables = match kind.as_deref() {
        None | Some("BPE") => tables,
        Some("WordPiece") => words_in_pieces,
        Some(kind) => {
            let kind: String = kind.chars().take(40).collect();
            return Ok(Found::Nothing(format!("tokens of model `{kind}` are not implemented")));
        }
    };
    let file: File<'_> = serde_json::from_slice(&read).map_err(json)?;
    let beside = Beside::read(model, path)?;
    let listed = Listed::of(&file, model, &beside)?;
    match tables(&file, listed, &beside) {
        Ok(found) => found,
        Err(why) => Ok(Found::Nothing(why)),
    }
}

/// The tables, or in words why there are none.
fn tables(
    file: &File<'_>,
    listed: Listed<'_>,
    beside: &Beside,
) -> Result<Result<Found, ImportError>, String> {
    let model = &file.model;
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    if affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
        return Err("tokens with a prefix or suffix for parts of words are not implemented".into());
    }
    let [takes_blanks, takes_blanks_before] = additions(file)?;
    let way = way(&file.normalizer, &file.pre_tokenizer, model.byte_fallback, model.ignore_merges)?;
    let [first, behind] = beside.around(file, &listed)?;
    let tokens = match beside.meanings(&listed) {
        Ok(tokens) => Tokens { first, behind, takes_blanks, takes_blanks_before, ..tokens },
        Err(e) => return Ok(Err(e)),
    };
    let Listed { texts, mut kinds } = listed;
    let wrong = |rank: usize, why: String| {
        let merge: String = model
            .merges
            .get(rank)
            .and_then(Merge::parts)
            .unwrap_or_default()
            .join(" ")
            .chars()
            .take(60)
            .collect();
        beside.wrong(TOKENIZER, "model.merges", format!("merge {rank}, `{merge}`: {why}"))
    };
    match way {
        Way::Bytes(split, left_out) => {
            let listed: Vec<(&[u8], TokenKind)> =
                texts.iter().map(|text| text.as_bytes()).zip(kinds.iter().copied()).collect();
            let merges = model.merges.iter().map(|merge| Some(merge.parts()?.map(str::as_bytes)));
            let tables = byte_pairs::tables(&listed, merges, split.whole, wrong);
            Ok(tables.map(|tables| byte_pairs::found(tokens, &tables, split, left_out)))
        }
        Way::Characters { blank, parted } => {
            for (text, kind) in texts.iter().zip(&mut kinds) {
                if *kind == TokenKind::Text && scored::byte(text.as_bytes()).is_some() {
                    *kind = TokenKind::Byte;
                }
                // Blanks are no U+2581 before a text is normalized: such a token is made by merges.
                if *kind == TokenKind::Added && !text.is_empty() && text.chars().all(|c| c == '\u{2581}') {
                    *kind = TokenKind::Text;
                }
            }
            if kinds.iter().filter(|kind| **kind == TokenKind::Byte).count() < 256 {
                return Err("not each of the 256 bytes is a token".into());
            }
            let is_text: Vec<bool> = kinds.iter().map(|kind| *kind == TokenKind::Text).collect();
            let within = |text: &&str| text.chars().skip(1).any(|c| c == '\u{2581}');
            if parted && texts.iter().zip(&is_text).any(|(text, is)| *is && within(text)) {
                return Err(
                    "texts parted before each blank, with tokens that reach over one, are not implemented"
                        .into(),
                );
            }
            if model.ignore_merges {
                return Err(
                    "characters of pieces that are tokens whatever merges give are not implemented".into()
                );
            }
            if let Some(rank) = model.merges.iter().position(|merge| merge.parts().is_none()) {
                return Ok(Err(wrong(rank, "two tokens are expected".into())));
            }
            let ranked = merges::scores(&texts, &is_text, model.merges.iter().filter_map(Merge::parts))?;
            let all = texts.iter().map(|text| text.as_bytes()).zip(kinds.iter().copied());
            let (mut tables, before) =
                scored::tables(all, ranked.scores).map_err(|id| format!("token {id} is no byte"))?;
            tables.sort(TokenKind::Text as u8);
            tables.sorted.retain(|id| ranked.reached[*id as usize]);
            Ok(Ok(scored::found(tokens, &tables, blank, before)))
        }
    }
}

/// The added tokens that take the white space behind them along, and those that take what is before them.
fn additions(file: &File<'_>) -> Result<[Vec<u32>; 2], String> {
    if let Some(added) = file.added_tokens.iter().find(|added| added.single_word) {
        return Err(format!(
            "added tokens that take whole words alone, as `{}` does, are not implemented",
            added.content.chars().take(40).collect::<String>()
        ));
    }
    let ids =
        |takes: fn(&&Added) -> bool| file.added_tokens.iter().filter(takes).map(|added| added.id).collect();
    Ok([ids(|added| added.rstrip), ids(|added| added.lstrip)])
}

/// The tables of pieces of words, or in words why there are none.
fn words_in_pieces(
    file: &File<'_>,
    listed: Listed<'_>,
    beside: &Beside,
) -> Result<Result<Found, ImportError>, String> {
    let [takes_blanks, takes_blanks_before] = additions(file)?;
    let model = &file.model;
    let unknown = match &model.unk_token {
        Some(text) => {
            let id = listed.find(text).filter(|_| !text.is_empty());
            Some(id.ok_or_else(|| format!("the token of unknown words, `{}`, is no token", shown(text)))?)
        }
        None => None,
    };
    let [first, behind] = beside.around(file, &listed)?;
    let tokens = match beside.meanings(&listed) {
        Ok(tokens) => Tokens { first, behind, unknown, takes_blanks, takes_blanks_before, ..tokens },
        Err(e) => return Ok(Err(e)),
    };
    let tokens = Tokens {
        continued: Some(model.continuing_subword_prefix.clone().unwrap_or_else(|| words::CONTINUED.into())),
        longest_word: model.max_input_chars_per_word.unwrap_or(words::LONGEST_WORD),
        ..tokens
    };
    let all = listed.texts.iter().map(|text| text.as_bytes()).zip(listed.kinds.iter().copied());
    Ok(Ok(words::found(tokens, all, &words::steps(&file.normalizer, &file.pre_tokenizer)?)))
}

/// Tokens by their ids, as many as the embedding has; those that the file does not have are empty.
struct Listed<'a> {
    texts: Vec<&'a str>,
    kinds: Vec<TokenKind>,
}

impl<'a> Listed<'a> {
    fn of(file: &'a File<'_>, model: &Pretrained, beside: &Beside) -> Result<Listed<'a>, ImportError> {
        let count = model.vocabulary();
        let (mut texts, mut kinds) = (vec![""; count], vec![TokenKind::Text; count]);
        let mut put = |text: &'a str, id: u32, kind| match texts.get_mut(id as usize) {
            Some(place) if place.is_empty() || *place == text => {
                *place = text;
                kinds[id as usize] = kind;
                Ok(())
            }
            found => {
                let why = match found {
                    Some(other) => format!(
                        "`{}` and `{}` have this id; one token is expected",
                        shown(other),
                        shown(text)
                    ),
                    None => format!(
                        "`{}` has this id, and the embedding has {count} rows: tokenizer and tensors are of different models; fetch both again",
                        shown(text)
                    ),
                };
                Err(beside.wrong(TOKENIZER, &format!("token {id}"), why))
            }
        };
        for (Text(text), id) in &file.model.vocab {
            put(text, *id, TokenKind::Text)?;
        }
        for added in &file.added_tokens {
            let kind = if added.special { TokenKind::Control } else { TokenKind::Added };
            put(&added.content, added.id, kind)?;
        }
        Ok(Listed { texts, kinds })
    }

    fn find(&self, text: &str) -> Option<u32> {
        self.texts.iter().position(|token| *token == text).map(|id| id as u32)
    }
}

fn shown(token: &str) -> String {
    token.chars().take(60).collect()
}

/// The files beside `tokenizer.json`; those that are not there are empty.
struct Beside {
    path: PathBuf,
    settings: Map<String, Value>,
    special: Map<String, Value>,
    /// Tokens that end a text, and the file that says it.
    ends: (Vec<usize>, &'static str),
    template: Option<String>,
}

impl Beside {
    fn read(model: &Pretrained, path: PathBuf) -> Result<Beside, ImportError> {
        let folder = model.folder();
        let optional = |name: &str| -> Result<Map<String, Value>, ImportError> {
            let path = folder.join(name);
            if path.is_file() { Ok(object(&path, LONGEST_BESIDE)?) } else { Ok(Map::new()) }
        };
        let settings = optional(SETTINGS)?;
        let generation = folder.join(GENERATION);
        let ends = match generation.is_file() {
            true => Config::read(&generation, &[])?.counts("eos_token_id")?,
            false => Vec::new(),
        };
        let ends = match ends.is_empty() {
            true => (model.config().counts("eos_token_id")?, CONFIG),
            false => (ends, GENERATION),
        };
        let template = template(folder, &settings, &optional(OLD_TEMPLATE)?)?;
        Ok(Beside { path, settings, special: optional(SPECIAL)?, ends, template })
    }

    fn wrong(&self, file: &str, key: &str, why: String) -> ImportError {
        PretrainedError::Key { path: self.path.with_file_name(file), key: key.into(), why }.into()
    }

    /// The text of a token with a meaning, and the file that says it.
    fn named(&self, key: &str) -> Option<(&str, &'static str)> {
        [(&self.settings, SETTINGS), (&self.special, SPECIAL)].into_iter().find_map(|(values, file)| {
            let value = values.get(key)?;
            Some((value.as_str().or_else(|| value.get("content")?.as_str())?, file))
        })
    }

    /// The tokens that texts begin and end with.
    fn around(&self, file: &File<'_>, listed: &Listed<'_>) -> Result<[Option<u32>; 2], String> {
        let [begins, ends] = around_text(&file.post_processor)?
            .map(|found| found.filter(|id| (*id as usize) < listed.texts.len()));
        let class = self.settings.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        let asked = self.settings.get("add_bos_token").and_then(Value::as_bool);
        let bos = || self.named("bos_token").and_then(|(text, _)| listed.find(text));
        let first = match asked.or(START.contains(&class).then_some(true)) {
            Some(true) => bos(),
            Some(false) => None,
            None => begins,
        };
        Ok([first, ends])
    }

    /// Special and last tokens, and the template.
    fn meanings(&self, listed: &Listed<'_>) -> Result<Tokens, ImportError> {
        let mut tokens =
            Tokens { tokens: listed.texts.len(), template: self.template.clone(), ..Tokens::default() };
        for name in ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token"] {
            let Some((text, file)) = self.named(name) else { continue };
            let id = listed.find(text).filter(|_| !text.is_empty()).ok_or_else(|| {
                let why = format!(
                    "`{}` is no token of {TOKENIZER}; fetch both again, of one revision",
                    shown(text)
                );
                self.wrong(file, name, why)
            })?;
            tokens.special.insert(name.into(), id);
        }
        tokens.unknown = tokens.special.get("unk_token").copied();
        tokens.last.extend(tokens.special.get("eos_token"));
        for id in &self.ends.0 {
            if *id >= listed.texts.len() {
                let why = format!("{id}, and there are {} tokens", listed.texts.len());
                return Err(self.wrong(self.ends.1, "eos_token_id", why));
            }
            tokens.last.push(*id as u32);
        }
        let control =
            |id: &usize| listed.kinds[*id] != TokenKind::Text && is_end(listed.texts[*id].as_bytes());
        tokens.last.extend((0..listed.texts.len()).filter(control).map(|id| id as u32));
        let mut seen = Vec::new();
        tokens.last.retain(|id| {
            !seen.contains(id) && {
                seen.push(*id);
                true
            }
        });
        Ok(tokens)
    }
}

/// The tokens that a post-processor puts before a text and behind it.
fn around_text(step: &Value) -> Result<[Option<u32>; 2], String> {
    const SEVERAL: &str = "texts that begin or end with more than one token are not implemented";
    let kind = step.get("type").and_then(Value::as_str).unwrap_or_default();
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match kind {
        "" | "ByteLevel" => Ok([None, None]),
        "Sequence" => {
            let all = step.get("processors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            all.iter().try_fold([None, None], |so_far, step| match (so_far, around_text(step)?) {
                (so_far, [None, None]) => Ok(so_far),
                ([None, None], found) => Ok(found),
                _ => Err(SEVERAL.to_string()),
            })
        }
        "BertProcessing" | "RobertaProcessing" => {
            Ok(["cls", "sep"].map(|name| step.get(name).and_then(|pair| id(pair.get(1)?))))
        }
        "TemplateProcessing" => {
            let single = step.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let name = |part: &Value| part.pointer("/SpecialToken/id")?.as_str().map(str::to_string);
            let text = single.iter().position(|part| name(part).is_none()).unwrap_or(single.len());
            let (before, rest) = single.split_at(text);
            let one = |parts: &[Value]| match parts {
                [] => Ok(None),
                [part] => {
                    let name = name(part).unwrap_or_default();
                    let ids =
                        step.get("special_tokens").and_then(|all| all.get(&name)?.get("ids")?.as_array());
                    match ids.map(Vec::as_slice) {
                        Some([one]) => Ok(id(one)),
                        _ => Err(SEVERAL.to_string()),
                    }
                }
                _ => Err(SEVERAL.to_string()),
            };
            Ok([one(before)?, one(rest.get(1..).unwrap_or_default())?])
        }
        other => {
            let other: String = other.chars().take(40).collect();
            Err(format!("tokens put around texts by `{other}` are not implemented"))
        }
    }
}

/// The chat template: a file of its own, or a setting; of several, the one that is called default.
fn template(
    folder: &Path,
    settings: &Map<String, Value>,
    old: &Map<String, Value>,
) -> Result<Option<String>, ImportError> {
    let path = folder.join(TEMPLATE);
    if path.is_file() {
        let json = |e| PretrainedError::Json { path: path.clone(), why: format!("no UTF-8: {e}") };
        return Ok(Some(String::from_utf8(bytes(&path, LONGEST_BESIDE)?).map_err(json)?));
    }
    let found = settings.get("chat_template").or_else(|| old.get("chat_template"));
    Ok(match found {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(all)) => {
            let default = all.iter().find(|one| one.get("name").and_then(Value::as_str) == Some("default"));
            default.and_then(|one| one.get("template")?.as_str()).map(str::to_string)
        }
        _ => None,
    })
}
