//! A conversation, turn by turn. What the model has read or written is not read again: the ids of a turn go on from those of the one before it,
//! wherever the template has the same text there.

use super::generator::{Answer, End, Generator, TextError, Until};
use super::sampler::Sampler;
use super::template::{ChatTemplate, Message};
use crate::tokenizer::{TokenKind, Tokenizer};

/// Messages, and how they were read.
pub struct Conversation {
    template: ChatTemplate,
    system: Option<Message>,
    messages: Vec<Message>,
    /// The text that was read and written until now, and its ids.
    text: String,
    ids: Vec<u32>,
}

impl Conversation {
    /// A conversation that begins with what the model is told, if anything.
    pub fn new(template: ChatTemplate, system: Option<String>) -> Conversation {
        let system = system.map(|text| Message::new("system", text));
        let messages = system.iter().cloned().collect();
        Conversation { template, system, messages, text: String::new(), ids: Vec::new() }
    }

    /// What was said.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Forgets what was said.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.messages.extend(self.system.clone());
        self.text.clear();
        self.ids.clear();
    }

    /// Says something to the model and shows its answer, which becomes part of the conversation, as far as it went.
    ///
    /// # Errors
    /// When the template refuses the messages, or as [`Generator::answer`]. Nothing was said then.
    pub fn say(
        &mut self,
        said: &str,
        generator: &mut Generator,
        sampler: &mut Sampler,
        until: &Until<'_>,
        show: &mut dyn FnMut(&str) -> std::io::Result<()>,
    ) -> Result<Answer, TextError> {
        self.messages.push(Message::new("user", said));
        let mut text = String::new();
        let answered = self.prompt(generator.tokenizer()).and_then(|prompt| {
            let answer = generator.answer(&prompt, sampler, until, &mut |part| {
                text += part;
                show(part)
            })?;
            self.ids = prompt;
            Ok(answer)
        });
        match answered {
            Ok(answer) => {
                let kind = |id: &u32| generator.tokenizer().kind(*id);
                let control = generator.written().iter().any(|id| kind(id) == Some(TokenKind::Control));
                // What was written is not what was shown when it was cut, or could not be shown.
                if answer.end == End::Stop || control || text.contains('\u{fffd}') {
                    self.text.clear();
                    self.ids.clear();
                } else {
                    self.text += &text;
                    self.ids.extend(generator.written());
                }
                self.messages.push(Message::new("assistant", text));
            }
            Err(_) => {
                self.messages.pop();
                self.text.clear();
                self.ids.clear();
            }
        }
        answered
    }

    /// The ids of the conversation up to where an answer begins. Templates write what texts begin with themselves.
    fn prompt(&mut self, tokenizer: &Tokenizer) -> Result<Vec<u32>, TextError> {
        let text = self.template.render(&self.messages, true, None)?;
        let (mut ids, mut from) = (Vec::new(), 0);
        if text.starts_with(&self.text) {
            from = self.text.len();
            ids.append(&mut self.ids);
        }
        tokenizer.encode(&text[from..], true, &mut ids);
        self.text = text;
        Ok(ids)
    }
}
