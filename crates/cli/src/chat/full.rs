//! When a conversation does not fit the context any more: the user is told, and chooses.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use engine::FinishReason;
use serde_json::json;

use super::Chat;
use super::conversation::{Conversation, Role};
use super::session::Prompt;
use crate::interrupt::Interrupted;

/// What to do when the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenFull {
    /// Ask
    Ask,
    /// Send nothing
    Stop,
    /// Leave out the oldest messages
    Drop,
    /// Put a summary in place of the oldest messages
    Summarise,
}

/// Of the context, this part is kept free for an answer.
const ROOM: usize = 16;
/// What dropping and summarising leave free.
const AFTERWARDS: usize = 4;
/// What a summary may take.
const SUMMARY: usize = 8;

/// A conversation that does not fit, and nobody who could say what to do. Exit code 5.
#[derive(Debug)]
pub struct ContextFull {
    tokens: usize,
    context: usize,
}

impl ContextFull {
    /// So many tokens in a context of so many.
    pub fn new(tokens: usize, context: usize) -> Self {
        Self { tokens, context }
    }
}

impl fmt::Display for ContextFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, context } = self;
        write!(
            f,
            "context full: the conversation is {tokens} tokens long and the context holds {context}, the answer \
             included; --when-full drop leaves out the oldest messages, --when-full summarise puts a summary in \
             their place, -c asks for a longer context, if the model allows it"
        )
    }
}

impl std::error::Error for ContextFull {}

impl Chat {
    /// The conversation as a prompt that leaves room for an answer; `None`: the user chose to stop.
    ///
    /// # Errors
    /// [`ContextFull`] where nobody can be asked; whatever the template has against the conversation.
    pub fn fitting(&mut self) -> Result<Option<Prompt>> {
        let context = self.session.context();
        let wanted = (context / ROOM).min(self.settings.now.chat.max_tokens.unwrap_or(usize::MAX)).max(1);
        let prompt = self.session.prompt(&self.talk, self.think)?;
        if prompt.tokens.len() + wanted <= context {
            return Ok(Some(prompt));
        }
        let full = ContextFull { tokens: prompt.tokens.len(), context };
        if self.talk.second_question().is_none() {
            // The last question alone is too much, if not for any answer at all.
            return if prompt.tokens.len() < context {
                Ok(Some(prompt))
            } else {
                self.cannot(full).map(|()| None)
            };
        }
        match self.choice(&full)? {
            WhenFull::Drop => self.drop_oldest()?,
            WhenFull::Summarise => self.summarise()?,
            WhenFull::Ask | WhenFull::Stop => return self.cannot(full).map(|()| None),
        }
        self.fitting()
    }

    fn cannot(&mut self, full: ContextFull) -> Result<()> {
        if !self.interactive {
            return Err(full.into());
        }
        self.talk.undo();
        self.screen
            .note(&format!("{full}. Nothing was sent; /undo and /clear make room, and /set when-full."))
    }

    fn choice(&mut self, full: &ContextFull) -> Result<WhenFull> {
        let set = self.settings.now.chat.when_full;
        if set != WhenFull::Ask || !self.interactive {
            return Ok(set);
        }
        let ContextFull { tokens, context } = full;
        self.screen.note(&format!(
            "The context is full: {tokens} of {context} tokens, and the answer needs some."
        ))?;
        loop {
            let answer = self.input.line("[s]top, [d]rop the oldest messages, or s[u]mmarise them? ")?;
            match answer.as_deref().map(str::trim).map(str::to_lowercase).as_deref() {
                None | Some("s" | "stop") => return Ok(WhenFull::Stop),
                Some("d" | "drop") => return Ok(WhenFull::Drop),
                Some("u" | "summarise" | "summarize") => return Ok(WhenFull::Summarise),
                Some(_) => {}
            }
        }
    }

    /// Leaves out the oldest exchanges until some room is free, or only the last question is left.
    fn drop_oldest(&mut self) -> Result<()> {
        let (context, before) = (self.session.context(), self.talk.forgotten);
        while let Some(next) = self.talk.second_question() {
            self.talk.forgotten = next;
            let length = self.session.prompt(&self.talk, self.think)?.tokens.len();
            if length + context / AFTERWARDS <= context {
                break;
            }
        }
        self.screen.note(&format!(
            "(the model is no longer given the {} oldest messages; they stay in the history)",
            self.talk.forgotten - before
        ))
    }

    /// Has the model sum up the older half of what it is given; where even that does not fit, drops it.
    fn summarise(&mut self) -> Result<()> {
        let questions: Vec<usize> = (self.talk.forgotten + 1..self.talk.messages.len())
            .filter(|&i| self.talk.messages[i].role == Role::User)
            .collect();
        let limit = self.session.context() / SUMMARY;
        let room = self.session.context().saturating_sub(limit.max(1));
        for &until in questions.iter().take(questions.len().div_ceil(2)).rev() {
            let prompt = self.session.prompt(&self.to_be_summed_up(until), Some(false))?;
            if prompt.tokens.len() > room {
                continue;
            }
            let mut flags = self.settings.now.clone();
            flags.chat.max_tokens = Some(limit.max(1));
            self.screen.note("(summing up what was said before)")?;
            let answer = self.session.answer(prompt, &flags, 0, |_| Ok(()))?;
            if answer.finished.reason == FinishReason::Cancelled {
                self.talk.undo();
                return Err(Interrupted.into());
            }
            let summary = answer.content.trim().to_owned();
            if summary.is_empty() {
                break;
            }
            (self.talk.forgotten, self.talk.summary) = (until, Some(summary));
            return Ok(());
        }
        self.screen.note("(no summary could be made)")?;
        self.drop_oldest()
    }

    fn to_be_summed_up(&self, until: usize) -> Conversation {
        let mut text =
            String::from("Sum up this conversation in a few sentences; keep names, numbers and decisions.\n");
        let before =
            self.talk.summary.as_ref().map(|summary| json!({ "role": "earlier", "content": summary }));
        let messages = self.talk.messages[self.talk.forgotten..until].iter();
        let messages = messages.map(|m| json!({ "role": m.role.name(), "content": m.content }));
        for message in before.into_iter().chain(messages) {
            let word = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            text += &format!("\n{}: {}\n", word("role"), word("content"));
        }
        let mut talk = Conversation::default();
        talk.ask(text);
        talk
    }
}
