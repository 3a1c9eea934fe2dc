//! The ids that a model answers with become text as they come: complete UTF-8 only, and nothing that may
//! yet turn out to be the beginning of a stop string.

use std::sync::Arc;

use crate::Tokenizer;
use crate::tokenizer::Alphabet;

/// What one more token gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Text to show now; may be empty.
    pub text: String,
    /// The stop string that was met. It and what follows it are not in any text.
    pub stopped: Option<String>,
}

/// A streaming detokenizer of one answer. The pieces that [`push`](Detokenizer::push) and
/// [`finish`](Detokenizer::finish) give, joined, are what [`Tokenizer::decode`] gives for all ids at once
/// (where bytes are not UTF-8, U+FFFD may stand for more of them there, or as another number).
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    stop: Vec<String>,
    show_special: bool,
    /// Control tokens that are shown all the same.
    shown_ids: Vec<u32>,
    /// Bytes of a character that is not complete.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
    /// Whether the space that begins a text is still to be left out.
    strip: bool,
    /// For vocabularies that only decode in context: the last ids, and how many of them are shown.
    window: Vec<u32>,
    shown: usize,
    done: bool,
}

/// How many ids of context a decoder that needs any is given.
const CONTEXT: usize = 6;

impl Detokenizer {
    /// For a text that begins with the first id given. Empty stop strings are ignored.
    pub fn new(tokenizer: Arc<Tokenizer>, stop: Vec<String>) -> Detokenizer {
        let strip = matches!(tokenizer.alphabet(), Alphabet::Spaces { strip: true, .. });
        Detokenizer {
            tokenizer,
            stop: stop.into_iter().filter(|stop| !stop.is_empty()).collect(),
            show_special: false,
            shown_ids: Vec::new(),
            bytes: Vec::new(),
            held: String::new(),
            strip,
            window: Vec::new(),
            shown: 0,
            done: false,
        }
    }

    /// For a text that goes on after other text: a space that it begins with belongs to it.
    #[must_use]
    pub fn continuing(mut self) -> Detokenizer {
        self.strip = false;
        self
    }

    /// Shows control tokens by their names (for parsers of tags that are control tokens).
    #[must_use]
    pub fn show_special(mut self, show: bool) -> Detokenizer {
        self.show_special = show;
        self
    }

    /// Shows these control tokens by their names: those that tags are made of
    /// ([`Dialect::tokens`](crate::Dialect::tokens)).
    #[must_use]
    pub fn showing(mut self, ids: Vec<u32>) -> Detokenizer {
        self.shown_ids = ids;
        self
    }

    /// Takes one more id. After a stop string nothing more comes.
    pub fn push(&mut self, id: u32) -> Step {
        if self.done {
            return Step::default();
        }
        if self.tokenizer.is_special(id) && !self.show_special && !self.shown_ids.contains(&id) {
            return Step::default();
        }
        let text = match self.tokenizer.alphabet() {
            Alphabet::Other => self.in_context(id),
            _ => self.complete(id),
        };
        self.release(&text)
    }

    /// Ends the answer: what was held back, incomplete characters as U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.done {
            return String::new();
        }
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned();
        let step = self.release(&rest);
        self.done = true;
        step.text + &std::mem::take(&mut self.held)
    }

    /// The characters that are complete with this token's bytes.
    fn complete(&mut self, id: u32) -> String {
        let mut token = self.tokenizer.token_bytes(id).unwrap_or_default();
        // An id without a text begins nothing.
        let begins = !token.is_empty() && std::mem::take(&mut self.strip);
        if begins && token.first() == Some(&b' ') && !self.tokenizer.is_special(id) {
            token.remove(0);
        }
        self.bytes.extend(token);
        let mut out = String::new();
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    out.push_str(text);
                    self.bytes.clear();
                    return out;
                }
                Err(error) => {
                    let (valid, rest) = self.bytes.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(valid));
                    let Some(bad) = error.error_len() else {
                        self.bytes = rest.to_vec();
                        return out;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.bytes = rest[bad..].to_vec();
                }
            }
        }
    }

    /// The text that this id adds to the last ones, for decoders that join tokens in their own way.
    fn in_context(&mut self, id: u32) -> String {
        let before = self.tokenizer.decode(&self.window[..self.shown], false);
        self.window.push(id);
        let after = self.tokenizer.decode(&self.window, false);
        let Some(new) = after.strip_prefix(&before) else { return String::new() };
        if new.ends_with(char::REPLACEMENT_CHARACTER) && self.window.len() < self.shown + CONTEXT {
            return String::new();
        }
        let new = new.to_owned();
        let drop = self.window.len().saturating_sub(CONTEXT);
        self.window.drain(..drop);
        self.shown = self.window.len();
        new
    }

    /// Adds text to what is held, and lets go of what no stop string can begin with any more.
    fn release(&mut self, text: &str) -> Step {
        if self.stop.is_empty() {
            return Step { text: text.to_owned(), stopped: None };
        }
        self.held.push_str(text);
        // The one that is complete first, and of those the one that began first.
        let met = self.stop.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, stop))
        });
        if let Some((_, start, stop)) = met.min_by_key(|&(end, start, _)| (end, start)) {
            let stopped = Some(stop.clone());
            self.held.truncate(start);
            self.done = true;
            return Step { text: std::mem::take(&mut self.held), stopped };
        }
        let keep = self.stop.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Step { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }
}

/// The length of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(at, _)| at).skip(1);
    let fits = lengths.filter(|&len| text.ends_with(&stop[..len]));
    fits.max().unwrap_or(0)
}
