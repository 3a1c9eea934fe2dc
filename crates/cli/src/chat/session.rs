//! A model at work in a chat: a conversation becomes a prompt, and an answer the parts that are shown.
//!
//! Stands between the commands and the engine. The template is the model's own; the engine's prefix cache makes the
//! next turn read only what is new.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use engine::{Engine, EngineConfig, EngineError, Event, FinishReason, Finished, GenerationConfig, Request};
use serde_json::{Map, Value, json};
use text::{ChatTemplate, Dialect, Part, RenderOptions, TagReader, Tokenizer};

use super::conversation::{Conversation, Role};
use super::settings::Flags;
use crate::generate;
use crate::interrupt::on_each_interrupt;
use crate::load::{self, Loaded, ModelArgs};

/// What a template may call the switch for reasoning.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// A loaded model.
pub struct Session {
    /// What to call it.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    dialect: Dialect,
    generation: GenerationConfig,
    stop_ids: Vec<u32>,
    /// The tokens that the cache may still hold: the last prompt and its answer.
    spoken: Vec<u32>,
}

/// A conversation, ready to be continued.
pub struct Prompt {
    /// Its tokens.
    pub tokens: Vec<u32>,
    reader: Option<TagReader>,
}

/// What came of a prompt.
pub struct Answer {
    /// What was said.
    pub content: String,
    /// What was thought.
    pub reasoning: Option<String>,
    /// How it ended.
    pub finished: Finished,
}

impl Session {
    /// Loads the model that the flags name. `plain`: does without its chat template.
    ///
    /// # Errors
    /// Whatever keeps it from running; a model without a chat template, unless `plain`.
    pub fn start(args: &ModelArgs, plain: bool) -> Result<Self> {
        let Loaded { model, tokenizer, template, generation, stop_ids, path, .. } = load::load(args)?;
        let template = template.filter(|_| !plain);
        if template.is_none() && !plain {
            let message = format!(
                "{}: this model has no chat template, which would say how a conversation is written down for it. \
                 --plain writes one as lines that begin with \"User:\" and \"Assistant:\"; \
                 `influence generate` continues a text\n",
                path.display()
            );
            return Err(clap::Error::raw(ErrorKind::InvalidValue, message).into());
        }
        let config = EngineConfig { context: args.ctx_size, ..EngineConfig::default() };
        let engine = Engine::start(model, Some(Arc::clone(&tokenizer)), &config)?;
        let dialect = template.as_ref().map_or_else(Dialect::default, |t| Dialect::of(t.source(), false));
        let name = generate::name(&path);
        Ok(Self {
            name,
            path,
            engine,
            tokenizer,
            template,
            dialect,
            generation,
            stop_ids,
            spoken: Vec::new(),
        })
    }

    /// Tokens that a conversation may grow to.
    pub fn context(&self) -> usize {
        self.engine.info().context
    }

    /// Whether its template has a switch for reasoning.
    pub fn can_switch(&self) -> bool {
        let source = self.template.as_ref().map_or("", ChatTemplate::source);
        SWITCHES.iter().any(|name| source.contains(name))
    }

    /// Whether it reasons in tags.
    pub fn reasons(&self) -> bool {
        self.dialect.reasons()
    }

    /// The conversation as tokens. `think`: what the template's switch for reasoning is set to.
    ///
    /// # Errors
    /// The template refuses the conversation.
    pub fn prompt(&self, talk: &Conversation, think: Option<bool>) -> Result<Prompt> {
        let Some(template) = &self.template else { return self.plain(talk) };
        let switches = think.into_iter().flat_map(|on| SWITCHES.map(|name| (name.to_owned(), json!(on))));
        let options = RenderOptions {
            add_generation_prompt: true,
            extra: switches.collect::<Map<String, Value>>(),
            ..RenderOptions::default()
        };
        let rendered = template.render_guarded(&talk.prompt(), options, &self.tokenizer.control_tokens());
        let whose = || format!("{} (--plain does without its chat template)", self.path.display());
        let rendered = rendered.with_context(whose)?;
        let tokens = self.as_spoken(self.tokenizer.encode_guarded(&rendered, false)?);
        Ok(Prompt { tokens, reader: Some(self.dialect.read(rendered.text())) })
    }

    /// The conversation as lines, for a model without a template.
    fn plain(&self, talk: &Conversation) -> Result<Prompt> {
        let mut text = talk.system.as_ref().map_or_else(String::new, |system| format!("{system}\n\n"));
        if let Some(summary) = &talk.summary {
            text += &format!("{summary}\n\n");
        }
        for message in talk.sent() {
            let who = if message.role == Role::User { "User" } else { "Assistant" };
            text += &format!("{who}: {}\n", message.content.trim());
        }
        text += "Assistant:";
        Ok(Prompt { tokens: self.as_spoken(self.tokenizer.encode(&text, true, false)?), reader: None })
    }

    /// A model's own answer may be cut into other tokens than the tokenizer cuts its text into. Where the text is the
    /// same, the tokens that it gave are taken, which the cache holds.
    fn as_spoken(&self, tokens: Vec<u32>) -> Vec<u32> {
        let bytes = |id: &u32| self.tokenizer.token_bytes(*id).unwrap_or_default();
        let spoken: Vec<u8> = self.spoken.iter().flat_map(bytes).collect();
        let mut at = 0;
        for (i, id) in tokens.iter().enumerate() {
            if at == spoken.len() && at > 0 {
                let special = |list: &[u32]| -> Vec<u32> {
                    list.iter().copied().filter(|&id| self.tokenizer.is_special(id)).collect()
                };
                let same = special(&tokens[..i]) == special(&self.spoken);
                return if same { [&self.spoken, &tokens[i..]].concat() } else { tokens };
            }
            let token = bytes(id);
            if !spoken[at..].starts_with(&token) {
                return tokens;
            }
            at += token.len();
        }
        tokens
    }

    /// Answers a prompt; `show` gets its parts as they come. Ctrl-C ends the answer.
    ///
    /// # Errors
    /// The engine refuses the request or fails; `show` fails.
    pub fn answer(
        &mut self,
        prompt: Prompt,
        flags: &Flags,
        again: u64,
        mut show: impl FnMut(Part) -> Result<()>,
    ) -> Result<Answer> {
        let plain = prompt.reader.is_none();
        let mut reader = prompt.reader;
        self.spoken.clone_from(&prompt.tokens);
        let handle = self.engine.submit(self.request(prompt.tokens, flags, again, plain))?;
        let canceller = handle.canceller();
        on_each_interrupt(move || canceller.cancel())?;
        let mut gathered = Gathered::default();
        for event in handle {
            match event {
                Event::Token { id, text, .. } => {
                    if !self.stop_ids.contains(&id) {
                        self.spoken.push(id);
                    }
                    let parts = match &mut reader {
                        Some(reader) => reader.push(&text),
                        None => vec![Part::Content(text)],
                    };
                    gathered.take(parts, &mut show)?;
                }
                Event::Finished(Finished { reason: FinishReason::Error(error), .. }) => {
                    return Err(error.into());
                }
                Event::Finished(finished) => {
                    gathered.take(reader.map(TagReader::finish).unwrap_or_default(), &mut show)?;
                    let reasoning = Some(gathered.reasoning).filter(|text| !text.is_empty());
                    return Ok(Answer { content: gathered.content, reasoning, finished });
                }
                Event::Started { .. } | Event::Scored { .. } | Event::Encoded(_) => {}
            }
        }
        Err(EngineError::Gone.into())
    }

    fn request(&self, tokens: Vec<u32>, flags: &Flags, again: u64, plain: bool) -> Request {
        let mut stop = flags.sampling.stop.clone();
        if plain {
            stop.extend(["\nUser:".to_owned(), "\nAssistant:".to_owned()]);
        }
        Request {
            params: flags.sampling.params(&self.generation),
            // The same question asked again is to be answered in another way.
            seed: flags.sampling.seed.map(|seed| seed.wrapping_add(again)),
            max_tokens: flags.chat.max_tokens,
            stop,
            stop_ids: self.stop_ids.clone(),
            min_tokens: flags.sampling.min_tokens,
            ignore_eos: flags.sampling.ignore_eos,
            loop_guard: flags.sampling.loop_guard.unwrap_or(true),
            shown: self.dialect.tokens(&self.tokenizer),
            ..Request::generate(tokens)
        }
    }
}

/// The parts of an answer, together.
#[derive(Default)]
struct Gathered {
    content: String,
    reasoning: String,
}

impl Gathered {
    fn take(&mut self, parts: Vec<Part>, show: &mut impl FnMut(Part) -> Result<()>) -> Result<()> {
        for part in parts {
            match &part {
                Part::Content(text) => self.content += text,
                Part::Reasoning(text) => self.reasoning += text,
                Part::Call(call) => self.content += &format!("\n{} {}\n", call.name, call.arguments),
            }
            show(part)?;
        }
        Ok(())
    }
}
