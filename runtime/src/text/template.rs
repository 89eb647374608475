//! Conversations as the model was taught to read them: Jinja templates that come with models, rendered as the `transformers` library renders them
//! (trim_blocks, lstrip_blocks, loop controls, `raise_exception`, `strftime_now`, a `tojson` that escapes no HTML).

use super::clock::strftime;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Steps of a template's program: so many that no template that ends by itself needs them, so few that one that does not ends soon.
const STEPS: u64 = 10_000_000;
/// Most bytes of a template.
const MOST: usize = 1 << 20;

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what a template knows else.
    pub role: String,
    /// What they said.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// Why there is no prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum TemplateError {
    #[error("the chat template, line {line}: {why}")]
    Syntax { line: usize, why: String },
    #[error("the chat template, line {line}: {why}; it was given {given}")]
    Render { line: usize, why: String, given: String },
    #[error("what the chat template is given beside the messages: {why}; a JSON object is expected")]
    More { why: String },
    #[error("the chat template has {bytes} bytes, at most {MOST} are read")]
    Long { bytes: usize },
}

/// A model's template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    special: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// A template with the texts of the model's special tokens by the names that templates have for them, such as `bos_token`.
    ///
    /// # Errors
    /// When it is no template.
    pub fn new(source: &str, special: BTreeMap<String, String>) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MOST {
            return Err(TemplateError::Long { bytes: source.len() });
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(STEPS));
        environment.set_formatter(print);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise);
        environment.add_function("strftime_now", now);
        environment.add_filter("tojson", json);
        let source = without_marks(source).into_owned();
        environment
            .template_from_named_str(NAME, &source)
            .map_err(|e| TemplateError::Syntax { line: e.line().unwrap_or(0), why: said(&e) })?;
        Ok(ChatTemplate { environment, source, special })
    }

    /// The prompt of a conversation; with `answer` it ends where the model's answer begins. `more` is what a template may know beside,
    /// such as `tools`: a JSON object as text, for templates show keys in the order in which they are given.
    ///
    /// # Errors
    /// When the template refuses the messages or does something that it cannot.
    pub fn render(
        &self,
        messages: &[Message],
        answer: bool,
        more: Option<&str>,
    ) -> Result<String, TemplateError> {
        let more: BTreeMap<String, Value> = match more {
            Some(more) => {
                serde_json::from_str(more).map_err(|e| TemplateError::More { why: e.to_string() })?
            }
            None => BTreeMap::new(),
        };
        let mut given: BTreeMap<&str, Value> = BTreeMap::new();
        // As the reference gives them when there are none.
        given.insert("tools", Value::from(()));
        given.insert("documents", Value::from(()));
        given.extend(self.special.iter().map(|(name, text)| (&name[..], Value::from(&text[..]))));
        given.extend(more.iter().map(|(name, value)| (&name[..], value.clone())));
        given.insert("messages", Value::from_serialize(messages));
        given.insert("add_generation_prompt", Value::from(answer));
        let rendered = self.environment.template_from_named_str(NAME, &self.source);
        rendered.and_then(|template| template.render(given)).map_err(|e| {
            let roles: Vec<&str> = messages.iter().map(|m| &m.role[..]).take(20).collect();
            let many = if messages.len() == 1 { "message" } else { "messages" };
            let given = format!("{} {many} ({})", messages.len(), roles.join(", "));
            TemplateError::Render { line: e.line().unwrap_or(0), why: said(&e), given }
        })
    }
}

const NAME: &str = "chat_template";

fn said(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it did not end after {STEPS} steps"),
        (kind, None) => kind.to_string(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
    }
}

/// The tags by which templates mark what a model learns to say are the reference's own; blocks that are always there do as much.
fn without_marks(source: &str) -> Cow<'_, str> {
    let mut text = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let tag = &rest[at + 2..];
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        let mark = [("generation", "if true"), ("endgeneration", "endif")].into_iter().find(|(word, _)| {
            let behind = inner.strip_prefix(word).map(|s| s.trim_start().trim_start_matches(['-', '+']));
            behind.is_some_and(|behind| behind.starts_with("%}"))
        });
        let until = rest.len() - inner.len();
        text += &rest[..until];
        rest = inner;
        if let Some((word, instead)) = mark {
            text += instead;
            rest = &rest[word.len()..];
        }
    }
    if text.is_empty() { Cow::Borrowed(source) } else { Cow::Owned(text + rest) }
}

/// Values as Python prints them.
fn print(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.write_str("None").map_err(Error::from),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn raise(message: Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

fn now(format: &str) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    strftime(format, i64::try_from(seconds).unwrap_or(0))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=...)`.
fn json(value: &Value, positional: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // What else the reference's filter takes changes nothing here, or is an error.
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(ignored)?;
    }
    options.assert_all_used()?;
    if !positional.is_empty() {
        return Err(Error::new(ErrorKind::TooManyArguments, "tojson takes its options by name"));
    }
    let mut bytes = Vec::new();
    let written = match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let pretty = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, pretty))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    let why = |e: String| Error::new(ErrorKind::BadSerialization, e);
    written.map_err(|e| why(e.to_string()))?;
    String::from_utf8(bytes).map(Value::from).map_err(|e| why(e.to_string()))
}

/// `", "` and `": "` between things, as Python has them.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
