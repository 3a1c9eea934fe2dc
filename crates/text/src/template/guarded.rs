//! Rendering so that control tokens which stand in the messages stay text: each is marked inside, the
//! marks pass through the template, and [`Tokenizer::encode_guarded`](crate::Tokenizer::encode_guarded)
//! takes them out after it has looked for control tokens.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::{ChatTemplate, RenderOptions};
use crate::Result;
use crate::tokenizer::MARK;

/// A rendered conversation that knows which control tokens are the template's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    text: String,
    marked: Option<String>,
}

impl Guarded {
    /// The rendered text, without marks.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn marked(&self) -> Option<&str> {
        self.marked.as_deref()
    }
}

impl ChatTemplate {
    /// Renders like [`render`](ChatTemplate::render), and keeps apart the control tokens that the
    /// template wrote and those (of `control`, [`Tokenizer::control_tokens`](crate::Tokenizer)) that were
    /// in the messages, tools or documents, in any case of letters.
    ///
    /// A token is told by its whole text inside one string of the messages. Not guarded: a control token
    /// of a single character, and one that arises where a message's text meets the template's own.
    ///
    /// # Errors
    /// As [`render`](ChatTemplate::render).
    pub fn render_guarded(
        &self,
        messages: &Json,
        options: RenderOptions,
        control: &[String],
    ) -> Result<Guarded> {
        let control: Vec<String> =
            control.iter().filter(|token| token.chars().nth(1).is_some()).map(|t| t.to_lowercase()).collect();
        let mut found = false;
        let mut options = options;
        let mut marked = messages.clone();
        mark(&mut marked, &control, &mut found);
        for given in [&mut options.tools, &mut options.documents].into_iter().flatten() {
            mark(given, &control, &mut found);
        }
        options.extra.values_mut().for_each(|value| mark(value, &control, &mut found));
        let text = self.render(&marked, options)?;
        if !found {
            return Ok(Guarded { text, marked: None });
        }
        Ok(Guarded { text: text.replace(MARK, ""), marked: Some(text) })
    }
}

/// Puts a mark into every control token of every string, keys included.
fn mark(value: &mut Json, control: &[String], found: &mut bool) {
    match value {
        Json::String(text) => mark_text(text, control, found),
        Json::Array(list) => list.iter_mut().for_each(|item| mark(item, control, found)),
        Json::Object(map) => {
            for (mut key, mut item) in std::mem::take(map) {
                mark_text(&mut key, control, found);
                mark(&mut item, control, found);
                map.insert(key, item);
            }
        }
        _ => {}
    }
}

fn mark_text(text: &mut String, control: &[String], found: &mut bool) {
    if text.contains(MARK) {
        *text = text.replace(MARK, "");
    }
    // Lowercasing one character at a time keeps the places where characters begin.
    let lower: Vec<(usize, String)> =
        text.char_indices().map(|(at, c)| (at, c.to_lowercase().collect())).collect();
    let joined: String = lower.iter().map(|(_, c)| c.as_str()).collect();
    let firsts: HashSet<char> = control.iter().filter_map(|token| token.chars().next()).collect();
    let mut cuts = Vec::new();
    let mut start = 0;
    for (at, (_, piece)) in lower.iter().enumerate() {
        let may = piece.chars().next().is_some_and(|c| firsts.contains(&c));
        if may && control.iter().any(|token| joined[start..].starts_with(token.as_str())) {
            cuts.extend(lower.get(at + 1).map(|(place, _)| *place));
        }
        start += piece.len();
    }
    *found |= !cuts.is_empty();
    cuts.into_iter().rev().for_each(|cut| text.insert(cut, MARK));
}
