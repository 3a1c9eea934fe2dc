//! Where answers and notes go: a terminal with styles, one without, or a pipe that wants nothing but the answers.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use text::Part;

use super::fold::{Fold, folded};
use super::markdown::Markdown;
use super::settings::Thinking;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";
/// To the beginning of the line, which is emptied.
const OVER: &str = "\r\x1b[2K";
/// Between two changes of a line that tells how far something is.
const BEAT: Duration = Duration::from_millis(100);

/// What can be shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Colours and lines that are written over.
    pub styled: bool,
    /// Whether a person looks at it.
    pub interactive: bool,
    /// Whether lines are folded between words: code is not, so that a line can be copied.
    folds: bool,
}

impl Screen {
    /// As the environment says: standard output, `TERM`, `NO_COLOR`.
    pub fn new(interactive: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let folds = interactive && io::stdout().is_terminal() && !dumb;
        let styled = folds && set("NO_COLOR").is_none();
        Self { styled, interactive, folds }
    }

    /// A text of the program, folded where the terminal can take it.
    fn fitted(&self, text: &str) -> String {
        if self.folds { folded(text, width()) } else { text.to_owned() }
    }

    /// Tells the user something; a pipe gets it on standard error.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn note(&self, text: &str) -> Result<()> {
        let text = self.fitted(&clean(text));
        if !self.interactive {
            eprintln!("{text}");
        } else if self.styled {
            writeln!(io::stdout(), "{DIM}{text}{PLAIN}")?;
        } else {
            writeln!(io::stdout(), "{text}")?;
        }
        Ok(())
    }

    /// Prints what a command was asked for.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn print(&self, text: &str) -> Result<()> {
        let text = if self.interactive { self.fitted(&clean(text)) } else { text.to_owned() };
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let mut out = io::stdout();
        write!(out, "{text}{end}")?;
        Ok(out.flush()?)
    }

    /// A place for one answer.
    pub fn answer(&self, thinking: Thinking) -> Shown {
        let markdown = self.styled.then(|| Markdown::new(width()));
        Shown { screen: *self, thinking, markdown, thought: None, ended: self.interactive }
    }
}

/// The columns of the terminal.
fn width() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0)).clamp(10, 400)
}

/// Text without what a terminal would take for a command.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// An answer on the screen.
pub struct Shown {
    screen: Screen,
    thinking: Thinking,
    markdown: Option<Markdown>,
    thought: Option<Thought>,
    /// Whether the last line is ended.
    ended: bool,
}

struct Thought {
    since: Instant,
    told: Option<Instant>,
    words: usize,
    fold: Fold,
}

impl Shown {
    /// Shows a part as it comes.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn part(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Reasoning(text) => self.reasoning(&text),
            Part::Content(text) => {
                self.end_reasoning()?;
                self.content(&text)
            }
            Part::Call(call) => {
                self.end_reasoning()?;
                self.content(&format!("\n`{} {}`\n", call.name, call.arguments))
            }
        }
    }

    fn content(&mut self, text: &str) -> Result<()> {
        let shown = match &mut self.markdown {
            Some(markdown) => markdown.push(text),
            None if self.screen.interactive => clean(text),
            None => text.to_owned(),
        };
        self.ended = if text.is_empty() { self.ended } else { text.ends_with('\n') };
        write(&shown)
    }

    fn reasoning(&mut self, text: &str) -> Result<()> {
        let Screen { styled, interactive, .. } = self.screen;
        let first = self.thought.is_none();
        let begun =
            || Thought { since: Instant::now(), told: None, words: 0, fold: Fold::new(width(), 0, "") };
        let thought = self.thought.get_or_insert_with(begun);
        thought.words += text.matches(char::is_whitespace).count();
        match self.thinking {
            Thinking::Show if styled => write(&format!("{DIM}{}{PLAIN}", thought.fold.push(&clean(text)))),
            Thinking::Show if interactive => {
                write(&format!("{}{}", if first { "[thinking]\n" } else { "" }, clean(text)))
            }
            Thinking::Show => {
                eprint!("{text}");
                Ok(())
            }
            Thinking::Fold if styled && thought.told.is_none_or(|at| at.elapsed() > BEAT) => {
                thought.told = Some(Instant::now());
                write(&format!("{OVER}{DIM}thinking, {} words{PLAIN}", thought.words))
            }
            Thinking::Fold | Thinking::Hide => Ok(()),
        }
    }

    fn end_reasoning(&mut self) -> Result<()> {
        let Some(mut thought) = self.thought.take() else { return Ok(()) };
        let folded =
            format!("thought for {:.1} s (/think last shows it)", thought.since.elapsed().as_secs_f64());
        match (self.thinking, self.screen) {
            (Thinking::Show, Screen { styled: true, .. }) => {
                write(&format!("{DIM}{}{PLAIN}\n\n", thought.fold.finish()))
            }
            (Thinking::Show, Screen { interactive: true, .. }) => write("\n[answer]\n"),
            (Thinking::Show, _) => {
                eprintln!();
                Ok(())
            }
            (Thinking::Fold, Screen { styled: true, .. }) => write(&format!("{OVER}{DIM}{folded}{PLAIN}\n")),
            (Thinking::Fold, Screen { interactive: true, .. }) => write(&format!("({folded})\n")),
            _ => Ok(()),
        }
    }

    /// Ends it, on a line of its own.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn end(mut self) -> Result<()> {
        self.end_reasoning()?;
        match self.markdown {
            Some(markdown) => write(&markdown.finish()),
            None if self.ended => Ok(()),
            None => write("\n"),
        }
    }
}

fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
