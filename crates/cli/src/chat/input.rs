//! Where turns come from: a line editor in a terminal, with history and completion, or the lines of a pipe.

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};

use super::{commands, settings};

/// What encloses a message of several lines.
const QUOTES: &str = "\"\"\"";
/// Lines of the history of lines.
const LINES: usize = 2000;

/// What was entered.
pub enum Entered {
    /// A turn, or a command.
    Turn(String),
    /// Ctrl-C at the prompt.
    Interrupt,
    /// The end: Ctrl-D, or that of the pipe.
    End,
}

/// Where turns come from.
pub enum Input {
    /// A terminal.
    Terminal(Box<Terminal>),
    /// Anything else.
    Pipe,
}

/// A terminal's line editor.
pub struct Terminal {
    editor: Editor<Completion, FileHistory>,
    history: Option<PathBuf>,
}

impl Input {
    /// The terminal; lines are kept in `history`.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn terminal(history: Option<PathBuf>) -> Result<Self> {
        let config = Config::builder().max_history_size(LINES)?.history_ignore_dups(true)?.build();
        let mut editor = Editor::with_config(config).context("cannot use this terminal")?;
        editor.set_helper(Some(Completion { files: FilenameCompleter::new() }));
        if let Some(path) = &history {
            // There is none at the first start, and a chat does without.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal(Box::new(Terminal { editor, history })))
    }

    /// The next turn.
    ///
    /// # Errors
    /// The terminal or the pipe fails.
    pub fn turn(&mut self) -> Result<Entered> {
        match self {
            Self::Terminal(terminal) => terminal.turn("> ", ""),
            Self::Pipe => piped(&mut io::stdin().lock()),
        }
    }

    /// A turn that begins as `text`, to be changed.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn edit(&mut self, text: &str) -> Result<Entered> {
        match self {
            Self::Terminal(terminal) => terminal.turn("edit> ", text),
            Self::Pipe => Ok(Entered::End),
        }
    }

    /// The answer to a question of the program; `None` if there is none.
    ///
    /// # Errors
    /// The terminal fails.
    pub fn line(&mut self, question: &str) -> Result<Option<String>> {
        let Self::Terminal(terminal) = self else { return Ok(None) };
        match terminal.editor.readline(question) {
            Ok(line) => Ok(Some(line)),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Terminal {
    fn turn(&mut self, prompt: &str, initial: &str) -> Result<Entered> {
        match self.editor.readline_with_initial(prompt, (initial, "")) {
            Ok(line) => {
                if !line.trim().is_empty() && self.editor.add_history_entry(&line)? {
                    self.keep();
                }
                Ok(Entered::Turn(joined(&line)))
            }
            Err(ReadlineError::Interrupted) => Ok(Entered::Interrupt),
            Err(ReadlineError::Eof) => Ok(Entered::End),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }

    /// Lines that cannot be kept are no reason to stop.
    fn keep(&mut self) {
        if let Some(path) = &self.history {
            let _ = self.editor.append_history(path);
        }
    }
}

/// Reads a turn of a pipe: a line, or several where the first says that it goes on.
fn piped(from: &mut impl BufRead) -> Result<Entered> {
    let mut text = String::new();
    loop {
        let read = from.read_line(&mut text).context("standard input: cannot read it")?;
        let line = text.trim_end_matches(['\n', '\r']);
        if read == 0 && text.is_empty() {
            return Ok(Entered::End);
        }
        if read == 0 || !goes_on(line) {
            return Ok(Entered::Turn(joined(line)));
        }
    }
}

/// Whether more lines belong to it: a backslash at its end, or an opened `"""`.
fn goes_on(text: &str) -> bool {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(inner) => !inner.trim_end().ends_with(QUOTES),
        None => text.ends_with('\\'),
    }
}

/// The text that was meant: without the marks of several lines.
fn joined(text: &str) -> String {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(inner) => {
            let inner = inner.trim_end();
            inner.strip_suffix(QUOTES).unwrap_or(inner).trim_matches('\n').to_owned()
        }
        None => text.replace("\\\r\n", "\n").replace("\\\n", "\n"),
    }
}

/// Completes commands, what can be set, and paths.
struct Completion {
    files: FilenameCompleter,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..at];
        let Some(command) = before.strip_prefix('/') else { return Ok((at, Vec::new())) };
        let Some((name, argument)) = command.split_once(' ') else {
            let names = commands::names().map(|name| (name.to_owned(), format!("/{name}")));
            return Ok((1, beginning_with(command, names)));
        };
        let start = at - argument.len();
        match commands::takes(name) {
            commands::Takes::Path => self.files.complete_path(line, at),
            commands::Takes::Setting if !argument.contains(' ') => {
                let names = settings::names().into_iter().map(|(name, _)| (name.clone(), name));
                Ok((start, beginning_with(argument, names)))
            }
            commands::Takes::Words(words) => {
                let words = words.iter().map(|word| ((*word).to_owned(), (*word).to_owned()));
                Ok((start, beginning_with(argument, words)))
            }
            commands::Takes::Setting | commands::Takes::Text => Ok((at, Vec::new())),
        }
    }
}

fn beginning_with(typed: &str, all: impl Iterator<Item = (String, String)>) -> Vec<Pair> {
    all.filter(|(name, _)| name.starts_with(typed))
        .map(|(replacement, display)| Pair { display, replacement })
        .collect()
}

impl Validator for Completion {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let more = goes_on(context.input());
        Ok(if more { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}

impl Helper for Completion {}

/// The file of the lines that were entered.
pub fn lines_in(folder: &Path) -> PathBuf {
    folder.join("lines.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(text: &str) -> Vec<String> {
        let mut from = text.as_bytes();
        let mut turns = Vec::new();
        while let Entered::Turn(turn) = piped(&mut from).unwrap() {
            turns.push(turn);
        }
        turns
    }

    #[test]
    fn a_line_is_a_turn_unless_it_says_that_it_goes_on() {
        assert_eq!(turns("one\ntwo\r\n\nthree"), ["one", "two", "", "three"]);
        assert_eq!(turns("one\\\ntwo\nthree\n"), ["one\ntwo", "three"]);
        assert_eq!(turns("\"\"\"\none\n\ntwo\n\"\"\"\nthree"), ["one\n\ntwo", "three"]);
        assert_eq!(turns("\"\"\"one\"\"\"\ntwo"), ["one", "two"]);
        assert_eq!(turns("\"\"\"open\nto the end"), ["open\nto the end"]);
    }

    #[test]
    fn commands_settings_and_paths_are_completed() {
        let completion = Completion { files: FilenameCompleter::new() };
        let history = FileHistory::new();
        let complete = |line: &str| {
            let (start, found) = completion.complete(line, line.len(), &Context::new(&history)).unwrap();
            (start, found.into_iter().map(|pair| pair.replacement).collect::<Vec<_>>())
        };
        assert_eq!(complete("/he"), (1, vec!["help".to_owned()]));
        let (start, names) = complete("/set top-");
        assert!(start == 5 && names.contains(&"top-k".to_owned()) && !names.contains(&"min-p".to_owned()));
        assert_eq!(complete("/think la"), (7, vec!["last".to_owned()]));
        let manifest = format!("/file {}/Cargo.to", env!("CARGO_MANIFEST_DIR"));
        assert!(complete(&manifest).1.iter().any(|path| path.ends_with("Cargo.toml")));
        assert_eq!(complete("he").1, [] as [String; 0]);
    }
}
