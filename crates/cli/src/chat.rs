//! `influence chat`: a conversation with a model, in a terminal or through a pipe.
//!
//! A client of the engine like `generate`: the conversation (`conversation.rs`) becomes a prompt by the model's own
//! template (`session.rs`), the answer's parts go to the screen as they come (`screen.rs`), and what was said is kept
//! (`store.rs`). Lines come from `input.rs`; those that begin with `/` go to `commands.rs`.

mod commands;
pub mod conversation;
mod fold;
pub mod full;
mod highlight;
mod inline;
mod input;
mod markdown;
mod screen;
mod session;
mod settings;
pub mod store;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use engine::{FinishReason, Finished};

use crate::interrupt::{Interrupted, end_at_once, on_each_interrupt};
use crate::load::ModelArgs;
use crate::shipped;
use conversation::Conversation;
use full::{ContextFull, WhenFull};
use input::{Entered, Input};
use screen::Screen;
use session::Session;
use settings::{Flags, Settings, Thinking};
use store::Store;

/// Talk to a model.
#[derive(Args, Debug)]
#[command(
    after_help = "Piped in, each line is a turn:  echo \"What is Rust?\" | influence chat -m ORG/MODEL"
)]
pub struct ChatArgs {
    /// What the model is told before all else
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Go on with a conversation that was kept: its number or title [default: the last one]
    #[arg(long = "continue", value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub go_on: Option<String>,
    /// Do not keep this conversation (`influence history --keep off` keeps none)
    #[arg(long)]
    pub no_save: bool,
    /// Do without the model's chat template: lines that begin with "User:" and "Assistant:"
    #[arg(long)]
    pub plain: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// How answers are made
    #[command(flatten)]
    pub flags: Flags,
}

/// What comes after a line.
pub enum Go {
    /// The next.
    On,
    /// The end.
    Leave,
}

/// A chat.
pub struct Chat {
    model: ModelArgs,
    plain: bool,
    session: Session,
    settings: Settings,
    /// What the template's switch for reasoning is set to.
    think: Option<bool>,
    talk: Conversation,
    /// Where conversations are kept, if this one is.
    store: Option<Store>,
    screen: Screen,
    input: Input,
    interactive: bool,
    /// Text of files that goes before the next question.
    attached: String,
    /// How often an answer was asked for again.
    again: u64,
    last: Option<Finished>,
}

/// Runs the verb. Exit codes: 0; 130 when Ctrl-C ended a chat without a terminal; 5 when the context is full there.
///
/// # Errors
/// Whatever stands in the way.
pub fn run(args: ChatArgs) -> Result<ExitCode> {
    let mut chat = Chat::start(args)?;
    chat.greet()?;
    loop {
        on_each_interrupt(|| ())?;
        if !chat.interactive {
            end_at_once()?;
        }
        let line = match chat.input.turn()? {
            Entered::Turn(line) => line,
            Entered::Interrupt => {
                chat.screen.note("(Ctrl-D or /exit leaves)")?;
                continue;
            }
            Entered::End => break,
        };
        match chat.obey(&line) {
            Ok(Go::On) => {}
            Ok(Go::Leave) => break,
            Err(error) if chat.interactive && !gone(&error) => chat.screen.note(&said(&error))?,
            Err(error) => return Err(error),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there is nobody left to talk to.
fn gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn said(error: &anyhow::Error) -> String {
    match error.downcast_ref::<clap::Error>() {
        Some(usage) => usage.render().to_string().trim_end().to_owned(),
        None => format!("error: {error:#}"),
    }
}

impl Chat {
    fn start(args: ChatArgs) -> Result<Self> {
        let ChatArgs { system, go_on, no_save, plain, mut model, flags } = args;
        let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
        let screen = Screen::new(interactive);
        let store = open_store(no_save, go_on.is_some())?;
        let mut talk = Conversation::default();
        if let Some(name) = &go_on {
            talk = Store::open()?.find(Some(name.as_str()).filter(|n| !n.is_empty()))?;
            if model.model.is_none() && model.model_path.is_none() && !talk.model.is_empty() {
                model.model = Some(talk.model.clone());
            }
        }
        if let Some(system) = system {
            talk.system = Some(system);
        }
        if interactive && named(&model)? != shipped::NAME {
            screen.note("(loading)")?;
        }
        let session = Session::start(&model, plain)?;
        talk.model = named(&model)?;
        let history = store.as_ref().and(interactive.then(store::folder)).transpose()?;
        let input = match interactive {
            true => Input::terminal(history.map(|folder| input::lines_in(&folder)))?,
            false => Input::Pipe,
        };
        let settings = Settings::new(flags);
        let (attached, think, again, last) = (String::new(), None, 0, None);
        Ok(Self {
            model,
            plain,
            session,
            settings,
            think,
            talk,
            store,
            screen,
            input,
            interactive,
            attached,
            again,
            last,
        })
    }

    /// The first lines in a terminal.
    fn greet(&self) -> Result<()> {
        if !self.interactive {
            return Ok(());
        }
        let Session { name, .. } = &self.session;
        self.screen.note(&format!(
            "{name}, context {} tokens. /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.",
            self.session.context()
        ))?;
        if self.talk.model == shipped::NAME {
            self.screen.note(
                "This is the small model that ships with influence: it writes very short stories and says what \
                 influence's commands do. For one to talk to:\n  influence search instruct\n  \
                 influence download -m ORG/MODEL\n  influence chat -m ORG/MODEL",
            )?;
        }
        self.recall()
    }

    /// Shows where a conversation stands that is gone on with.
    fn recall(&self) -> Result<()> {
        let (Some(id), Some(last)) = (self.talk.id, self.talk.messages.last()) else { return Ok(()) };
        let count = self.talk.messages.len();
        self.screen.note(&format!("Conversation {id}, {count} messages: {}\nThe last:", self.talk.name()))?;
        self.screen.note(&last.content)
    }

    /// Does what a line says.
    fn obey(&mut self, line: &str) -> Result<Go> {
        if line.trim().is_empty() {
            return Ok(Go::On);
        }
        if line.starts_with('/') {
            return commands::run(self, line.trim_end());
        }
        self.ask(line.trim()).map(|()| Go::On)
    }

    /// Asks a question, with the files that were attached.
    fn ask(&mut self, question: &str) -> Result<()> {
        let question = std::mem::take(&mut self.attached) + question;
        // An answer that failed has left its question behind.
        if self.talk.waits() {
            self.talk.undo();
        }
        self.talk.ask(question);
        self.answer()
    }

    /// Has the last question answered, shown and kept.
    fn answer(&mut self) -> Result<()> {
        let Some(prompt) = self.fitting()? else { return Ok(()) };
        let mut shown = self.screen.answer(self.settings.now.chat.thinking);
        let answer = self.session.answer(prompt, &self.settings.now, self.again, |part| shown.part(part));
        shown.end()?;
        let answer = answer?;
        let reason = answer.finished.reason.clone();
        let length = answer.finished.usage.prompt_tokens + answer.finished.usage.completion_tokens;
        self.talk.answer(answer.content, answer.reasoning);
        self.last = Some(answer.finished);
        self.keep()?;
        self.ended(&reason, length)
    }

    /// Says why an answer ended, where that is not the model's own end.
    fn ended(&self, reason: &FinishReason, length: usize) -> Result<()> {
        let context = self.session.context();
        match reason {
            FinishReason::Cancelled if !self.interactive => Err(Interrupted.into()),
            FinishReason::Cancelled => self.screen.note("(stopped)"),
            FinishReason::Length => self.screen.note("(ended after the tokens of --max-tokens)"),
            FinishReason::Context => {
                let stops = matches!(self.settings.now.chat.when_full, WhenFull::Ask | WhenFull::Stop);
                if !self.interactive && stops {
                    return Err(ContextFull::new(length, context).into());
                }
                self.screen.note(&format!("(the answer was cut: the context of {context} tokens is full)"))
            }
            _ => Ok(()),
        }
    }

    /// The last question, changed by the user; `None` if they would rather not.
    fn edited(&mut self, text: &str) -> Result<Option<String>> {
        Ok(match self.input.edit(text)? {
            Entered::Turn(text) => Some(text),
            Entered::Interrupt | Entered::End => None,
        })
    }

    /// Goes on with another model.
    fn change_model(&mut self, name: &str) -> Result<()> {
        let before = (self.model.model.take(), self.model.model_path.take());
        self.model.model = Some(name.to_owned());
        self.screen.note("(loading)")?;
        match Session::start(&self.model, self.plain) {
            Ok(session) => self.session = session,
            Err(error) => {
                (self.model.model, self.model.model_path) = before;
                return Err(error);
            }
        }
        self.talk.model = named(&self.model)?;
        self.screen.note(&format!("({}, context {} tokens)", self.session.name, self.session.context()))
    }

    /// Keeps the conversation as it is now, if it is to be kept.
    fn keep(&mut self) -> Result<()> {
        let said = !self.talk.messages.is_empty() || self.talk.id.is_some();
        match &mut self.store {
            Some(store) if said => store.save(&mut self.talk),
            _ => Ok(()),
        }
    }

    /// Keeps it from now on, whatever was said before.
    fn keep_anyway(&mut self) -> Result<()> {
        if self.store.is_none() {
            self.store = Some(Store::open()?);
        }
        self.keep()
    }

    /// The conversations that are kept.
    fn history(&self) -> Result<Store> {
        Store::open()
    }

    /// Changes to another conversation.
    fn go_on_with(&mut self, talk: Conversation) -> Result<()> {
        let model = std::mem::take(&mut self.talk.model);
        if !talk.model.is_empty() && talk.model != model {
            self.screen.note(&format!("(it was held with {}; /model changes to that)", talk.model))?;
        }
        self.talk = Conversation { model, ..talk };
        self.recall()
    }

    /// Begins a new conversation.
    fn clear(&mut self) {
        let Conversation { model, system, .. } = std::mem::take(&mut self.talk);
        self.talk = Conversation { model, system, ..Conversation::default() };
        self.attached.clear();
    }

    /// What `/think` alone says.
    fn thinking(&self) -> String {
        let reasons = match (self.session.can_switch(), self.session.reasons(), self.think) {
            (true, _, Some(true)) => "the model is asked to reason",
            (true, _, Some(false)) => "the model is asked not to reason",
            (true, _, None) => "the model reasons as it usually does (/think on and off)",
            (false, true, _) => "the model reasons as it likes: its chat template has no switch for it",
            (false, false, _) => "the model does not reason in a way that is known",
        };
        let shown = match self.settings.now.chat.thinking {
            Thinking::Show => "shown as it comes",
            Thinking::Fold => "folded into one line",
            Thinking::Hide => "not shown",
        };
        format!("{reasons}; its reasoning is {shown}")
    }

    /// What `/stats` says.
    fn statistics(&self) -> String {
        let Some(Finished { reason, usage, timings, seed, .. }) = &self.last else {
            return "nothing has been answered yet".to_owned();
        };
        let read = usage.prompt_tokens - usage.cached_tokens;
        let rate = |tokens: usize, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let (prefill, decode) = (timings.prefill.as_secs_f64(), timings.decode.as_secs_f64());
        format!(
            "context  {} of {} tokens\nprefill  {} tokens, {} of them cached, {:.1} tokens/s\n\
             decode   {} tokens, {:.1} tokens/s\nfinish   {}, seed {seed}\nmessages {}, {} of them not given any more\n",
            usage.prompt_tokens + usage.completion_tokens,
            self.session.context(),
            usage.prompt_tokens,
            usage.cached_tokens,
            rate(read, prefill),
            usage.completion_tokens,
            rate(usage.completion_tokens.saturating_sub(1), decode),
            reason.name(),
            self.talk.messages.len(),
            self.talk.forgotten,
        )
    }
}

/// Where this conversation will be kept, if it will. One that cannot be kept is no reason not to talk.
fn open_store(no_save: bool, needed: bool) -> Result<Option<Store>> {
    if no_save {
        return Ok(None);
    }
    match Store::open().and_then(|store| Ok((store.keeps()?, store))) {
        Ok((keeps, store)) => Ok(Some(store).filter(|_| keeps)),
        Err(error) if needed => Err(error),
        Err(error) => {
            eprintln!("warning: this conversation is not kept: {error:#}");
            Ok(None)
        }
    }
}

/// The model as `-m` takes it, wherever the next start is.
fn named(model: &ModelArgs) -> Result<String> {
    let whole = |path: &std::path::Path| {
        let whole =
            std::path::absolute(path).with_context(|| format!("{}: has no whole path", path.display()))?;
        Ok(whole.to_string_lossy().into_owned())
    };
    match (&model.model_path, &model.model) {
        (Some(path), _) => whole(path),
        (None, Some(name)) if std::path::Path::new(name).exists() => whole(name.as_ref()),
        (None, Some(name)) => Ok(name.clone()),
        (None, None) => Ok(shipped::NAME.to_owned()),
    }
}
