//! `edge-run chat`: a conversation, line by line.

use super::args::ChatArgs;
use super::cache;
use super::open::{self, Context, Opened};
use super::took;
use crate::exit::Failure;
use edge_runtime::text::{ChatTemplate, Conversation, End, Sampler, Sampling, TextError, Until};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// An answer is being written: an interrupt stops it. Else it ends the program.
static ANSWERING: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Bytes of a line that are too many.
const LONGEST: u64 = 1 << 20;
const HELP: &str = "/clear forgets the conversation, /exit ends it; Ctrl-C stops an answer";

pub fn command(args: &ChatArgs) -> Result<(), Failure> {
    let sampling = args.write.sampling();
    let context = args.write.ctx.map_or(Context::Most, Context::Asked);
    let mut opened = open::prepare(&args.pack, &args.target)?.open(&args.target, context, Some(&sampling))?;
    let cached = args.write.prompt_cache.as_deref();
    cache::restore(cached, &mut opened.generator)?;
    let mut chat = Chat::new(args, sampling, &opened)?;
    if let Err(e) = ctrlc::set_handler(interrupted) {
        log::warn!("an interrupt will not stop an answer cleanly: {e}");
    }
    let (mut input, terminal) = (std::io::stdin().lock(), std::io::stdin().is_terminal());
    if terminal {
        eprintln!("{HELP}");
    }
    let (mut bytes, mut number) = (Vec::new(), 0);
    loop {
        if terminal {
            eprint!("> ");
        }
        bytes.clear();
        let read = (&mut input).take(LONGEST).read_until(b'\n', &mut bytes);
        let read = read.map_err(|e| Failure::Usage(format!("stdin: {e}")))?;
        number += 1;
        match read as u64 {
            0 => return cache::save(cached, &opened.generator),
            LONGEST => {
                return Err(Failure::Usage(format!(
                    "line {number} has {LONGEST} bytes or more; give fewer at a time"
                )));
            }
            _ => {}
        }
        let said = match std::str::from_utf8(&bytes) {
            Ok(line) => line.trim_end_matches(['\n', '\r']),
            Err(e) => {
                let at = e.valid_up_to();
                let what = format!("line {number} is not UTF-8: byte {at} of it is {:#04x}", bytes[at]);
                if terminal {
                    eprintln!("edge-run: {what}");
                    continue;
                }
                return Err(Failure::Usage(what));
            }
        };
        match said.trim() {
            "" => continue,
            "/exit" | "/quit" => return cache::save(cached, &opened.generator),
            "/clear" => {
                chat.conversation.clear();
                continue;
            }
            "/help" => {
                eprintln!("{HELP}");
                continue;
            }
            _ => {}
        }
        match chat.answer(&mut opened, said) {
            // What is too long, or not what the template takes, is for the one who sits there to mend.
            Err(failure @ (Failure::Text(TextError::Long { .. }) | Failure::Template(_))) if terminal => {
                eprintln!("edge-run: {failure} (/clear forgets the conversation)");
            }
            answered => answered?,
        }
    }
}

fn interrupted() {
    if ANSWERING.load(Ordering::Relaxed) {
        STOPPED.store(true, Ordering::Relaxed);
    } else {
        eprintln!();
        std::process::exit(crate::exit::INTERRUPTED.into());
    }
}

/// What was said, and how it goes on.
struct Chat<'a> {
    args: &'a ChatArgs,
    conversation: Conversation,
    sampler: Sampler,
}

impl<'a> Chat<'a> {
    fn new(args: &'a ChatArgs, sampling: Sampling, opened: &Opened) -> Result<Chat<'a>, Failure> {
        let tokenizer = opened.generator.tokenizer();
        let template = match (&args.chat_template, &tokenizer.tokens().template) {
            (Some(path), _) => read(path)?,
            (None, Some(template)) => template.clone(),
            (None, None) => {
                return Err(Failure::Usage(format!(
                    "{} has no chat template, so how its model reads a conversation is not known; give one with --chat-template, or go on from \
                     a text with --prompt",
                    args.pack.display()
                )));
            }
        };
        let template = ChatTemplate::new(&template, tokenizer.special())?;
        let vocabulary = opened.generator.decoder().vocabulary();
        let sampler = Sampler::new(sampling, vocabulary).map_err(TextError::from)?;
        Ok(Chat { args, conversation: Conversation::new(template, args.system.clone()), sampler })
    }

    /// Answers what was said; on an error it was not said.
    fn answer(&mut self, opened: &mut Opened, said: &str) -> Result<(), Failure> {
        let (target, write) = (&self.args.target, &self.args.write);
        let until = Until {
            tokens: write.tokens,
            stops: &write.stop,
            ignore_last: write.ignore_eos,
            stopped: &STOPPED,
        };
        let mut out = std::io::stdout().lock();
        STOPPED.store(false, Ordering::Relaxed);
        ANSWERING.store(true, Ordering::Relaxed);
        let answer =
            self.conversation.say(said, &mut opened.generator, &mut self.sampler, &until, &mut |part| {
                if target.json {
                    return Ok(());
                }
                out.write_all(part.as_bytes())?;
                out.flush()
            });
        ANSWERING.store(false, Ordering::Relaxed);
        let (answer, context) = (answer?, opened.generator.decoder().context());
        if target.json {
            let mut value = took::json(&answer, opened.load, context);
            value["role"] = json!("assistant");
            value["content"] = json!(self.conversation.messages().last().map(|message| &message.content));
            writeln!(out, "{value}")?;
        } else {
            writeln!(out)?;
        }
        out.flush()?;
        if answer.end == End::Context {
            eprintln!("edge-run: the context of {context} tokens is full (/clear forgets the conversation)");
        }
        if target.verbose > 0 {
            eprintln!("edge-run: {}", took::line(&answer, opened.load, context));
        }
        Ok(())
    }
}

/// A template's file.
fn read(path: &std::path::Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::BadFile(format!("{}: {e}", path.display())))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::BadFile(format!("{}: byte {at} is not UTF-8", path.display()))
    })
}
