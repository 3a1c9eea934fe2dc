//! An answer's text becomes content, reasoning and tool calls.
//!
//! Stands behind the detokenizer: pieces of text go into a [`TagReader`], and out come the parts that a
//! person reads, those that the model thought, and the calls that it wants made. Which tags a model writes
//! is told by its chat template ([`Dialect::of`]); the table of families is `tags/table.rs`. A tag is never
//! shown in part: what may yet become one is held back. However an answer is cut into pieces, the joined
//! parts are the same.

mod bodies;
mod markup;
mod pythonic;
mod table;
mod tools;

use serde_json::Value;

use crate::Tokenizer;
use table::{CALLS, Family, Goes, Mark, Mode, REASONING};
use tools::Tools;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// What the answer says.
    Content(String),
    /// What the model thought before it.
    Reasoning(String),
    /// A call that the model wants made, whole.
    Call(ToolCall),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What the model calls this call, if its family has such names.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

/// The tags that a model writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialect {
    reasoning: Option<&'static Family>,
    calls: Option<&'static Family>,
    tools: bool,
}

impl Dialect {
    /// Finds out from a chat template. `tools`: whether the request offers tools; only then can an answer
    /// that is bare JSON, or bare Python calls, be a call.
    pub fn of(template: &str, tools: bool) -> Dialect {
        let first = |table: &'static [Family]| {
            table.iter().find(|family| family.when.iter().all(|word| template.contains(word)))
        };
        Dialect { reasoning: first(REASONING), calls: first(CALLS), tools }
    }

    /// The names of its families, of reasoning and of tool calls.
    pub fn names(&self) -> (Option<&'static str>, Option<&'static str>) {
        (self.reasoning.map(|f| f.name), self.calls.map(|f| f.name))
    }

    /// Whether the model reasons in tags of its own.
    pub fn reasons(&self) -> bool {
        self.reasoning.is_some()
    }

    /// The control tokens that its tags are made of: the detokenizer has to show them.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let control = tokenizer.control_tokens().into_iter();
        let used = control.filter(|token| {
            let in_mark = self.marks().any(|mark| mark.text.contains(token.as_str()));
            let in_body = self.calls.is_some_and(|family| family.inside.contains(&token.as_str()));
            in_mark || in_body
        });
        used.filter_map(|token| tokenizer.id(&token)).collect()
    }

    /// A reader of the answer to `prompt`, the rendered conversation: its end may have opened a tag.
    pub fn read(&self, prompt: &str) -> TagReader {
        let end = prompt.trim_end();
        let opens = |mark: &Mark| mark.to != Mode::Routed && end.ends_with(mark.text.trim_end());
        let opened = self.marks().find(|mark| opens(mark)).map(|mark| mark.to);
        let usual = self.headed().map_or(Mode::Content, |family| family.start);
        TagReader {
            dialect: *self,
            tools: Tools::default(),
            mode: opened.unwrap_or(usual),
            held: String::new(),
            space: String::new(),
            buffer: String::new(),
            opener: String::new(),
            fresh: true,
            nothing_said: true,
            done: Vec::new(),
        }
    }

    /// Whether a call may come without a tag.
    fn bare(&self) -> bool {
        self.tools
            && self.calls.is_none_or(|family| family.bare)
            && !self.marks().any(|mark| mark.text.starts_with(['{', '[']))
    }

    fn families(&self) -> impl Iterator<Item = &'static Family> + use<> {
        [self.reasoning, self.calls].into_iter().flatten()
    }

    fn marks(&self) -> impl Iterator<Item = &'static Mark> + use<> {
        self.families().flat_map(|family| family.marks)
    }

    /// The family whose messages have heads.
    fn headed(&self) -> Option<&'static Family> {
        self.families().find(|family| family.start == Mode::Header)
    }
}

/// Reads one answer.
#[derive(Debug)]
pub struct TagReader {
    dialect: Dialect,
    tools: Tools,
    mode: Mode,
    /// Text that may be the beginning of a tag.
    held: String,
    /// White space that is shown once something follows it.
    space: String,
    /// The call, or the header, that is being read.
    buffer: String,
    /// The tag that began the call.
    opener: String,
    /// Whether white space is left out: a part has just begun.
    fresh: bool,
    /// Whether no content has come yet.
    nothing_said: bool,
    done: Vec<Part>,
}

/// What a scan of the held text found.
enum Found {
    /// A tag at this byte.
    Mark(usize, &'static Mark),
    /// Nothing before this byte; from there on may begin a tag.
    Text(usize),
}

impl TagReader {
    /// Tells the reader which tools are offered (as the OpenAI API has them). Families that write arguments as
    /// bare text leave open whether `3` is a number or a text; the tool's schema says.
    pub fn knowing(mut self, tools: &[Value]) -> TagReader {
        self.tools = Tools::new(tools);
        self
    }

    /// Takes a piece; gives the parts that are certain with it.
    pub fn push(&mut self, piece: &str) -> Vec<Part> {
        self.held.push_str(piece);
        loop {
            self.look_for_bare();
            match self.scan() {
                Found::Mark(at, mark) => {
                    let rest = self.held.split_off(at + mark.text.len());
                    self.held.truncate(at);
                    let before = std::mem::replace(&mut self.held, rest);
                    self.text(&before);
                    self.enter(mark);
                }
                Found::Text(until) => {
                    let rest = self.held.split_off(until);
                    let text = std::mem::replace(&mut self.held, rest);
                    self.text(&text);
                    return std::mem::take(&mut self.done);
                }
            }
        }
    }

    /// Ends the answer; gives what was held back.
    pub fn finish(mut self) -> Vec<Part> {
        let held = std::mem::take(&mut self.held);
        self.text(&held);
        match self.mode {
            Mode::Call | Mode::Bare => self.close_call(""),
            Mode::Header => {
                let head = std::mem::take(&mut self.opener) + &self.buffer;
                self.fresh = false;
                self.say(Mode::Content, &head);
            }
            Mode::Content => {
                let space = std::mem::take(&mut self.space);
                if !self.fresh {
                    self.part(Mode::Content, &space);
                }
            }
            Mode::Reasoning | Mode::Aside | Mode::Routed => {}
        }
        self.done
    }

    /// Looks for a tag from left to right, so that how the text came does not matter.
    fn scan(&self) -> Found {
        for (at, _) in self.held.char_indices() {
            let (rest, said) = (&self.held[at..], !self.nothing_said || !self.held[..at].trim().is_empty());
            let open = |mark: &&Mark| mark.from == self.mode && !(mark.first && said);
            let whole = self.dialect.marks().filter(open).filter(|m| rest.starts_with(m.text));
            let longest = whole.max_by_key(|mark| mark.text.len());
            let more = |mark: &Mark| mark.text.len() > rest.len() && mark.text.starts_with(rest);
            if self.dialect.marks().filter(open).any(more) {
                return Found::Text(at);
            }
            if let Some(mark) = longest {
                return Found::Mark(at, mark);
            }
        }
        Found::Text(self.held.len())
    }

    /// An answer that begins like a call without a tag is kept until its end tells.
    fn look_for_bare(&mut self) {
        let begins = || self.held.trim_start().starts_with(['{', '[']);
        if self.mode == Mode::Content && self.nothing_said && self.dialect.bare() && begins() {
            // White space that came with it is left out, as it is where it came before.
            let space = self.held.len() - self.held.trim_start().len();
            self.held.drain(..space);
            self.mode = Mode::Bare;
        }
    }

    /// Text without tags, in the mode of the moment.
    fn text(&mut self, text: &str) {
        match self.mode {
            Mode::Content | Mode::Reasoning => self.say(self.mode, text),
            Mode::Call | Mode::Header | Mode::Bare => self.buffer.push_str(text),
            Mode::Aside | Mode::Routed => {}
        }
    }

    /// Shows text, without the white space that a part begins or ends with.
    fn say(&mut self, mode: Mode, text: &str) {
        let text = if self.fresh { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        self.fresh = false;
        let shown = text.trim_end();
        if shown.is_empty() {
            self.space.push_str(text);
            return;
        }
        let whole = std::mem::take(&mut self.space) + shown;
        self.space.push_str(&text[shown.len()..]);
        self.nothing_said &= mode != Mode::Content;
        self.part(mode, &whole);
    }

    fn part(&mut self, mode: Mode, text: &str) {
        let text = text.to_owned();
        match (mode, self.done.last_mut()) {
            _ if text.is_empty() => {}
            (Mode::Reasoning, Some(Part::Reasoning(last))) => *last += &text,
            (Mode::Reasoning, _) => self.done.push(Part::Reasoning(text)),
            (_, Some(Part::Content(last))) => *last += &text,
            _ => self.done.push(Part::Content(text)),
        }
    }

    fn enter(&mut self, mark: &'static Mark) {
        if self.mode == Mode::Call && self.within_string() {
            self.buffer.push_str(mark.text);
            return;
        }
        if self.mode == Mode::Call {
            self.close_call(mark.text);
        }
        if mark.to == Mode::Header && self.mode == Mode::Header {
            self.buffer.push(' ');
            return;
        }
        if mark.to == Mode::Routed {
            self.route(mark.text);
            return;
        }
        if mark.to == Mode::Header {
            // What was said goes on if the head turns out to be none.
            mark.text.clone_into(&mut self.opener);
            self.mode = Mode::Header;
            return;
        }
        self.begin(mark.to);
        if mark.to == Mode::Call {
            mark.text.clone_into(&mut self.opener);
        }
    }

    /// A part begins: white space in front of it is left out.
    fn begin(&mut self, mode: Mode) {
        self.space.clear();
        self.fresh = true;
        self.mode = mode;
    }

    /// Whether the call that is being read is in the midst of a string: what looks like a tag there is none.
    fn within_string(&self) -> bool {
        self.dialect.calls.is_some_and(|family| family.json) && bodies::within_string(&self.buffer)
    }

    /// Where a message goes stands in its head, which `end` ends.
    fn route(&mut self, end: &str) {
        let head = std::mem::take(&mut self.buffer);
        let goes = self.dialect.headed().map_or(Goes::Content, |family| (family.route)(head.trim()));
        let opener = std::mem::take(&mut self.opener);
        match goes {
            Goes::Reasoning => self.begin(Mode::Reasoning),
            Goes::Content => self.begin(Mode::Content),
            Goes::Call(to) => {
                self.begin(Mode::Call);
                self.buffer = to + "\n";
            }
            Goes::Nowhere => {
                self.mode = Mode::Content;
                self.text(&(opener + &head + end));
            }
        }
    }

    /// Ends a call. What is none after all is shown as it was written.
    fn close_call(&mut self, closer: &str) {
        let body = std::mem::take(&mut self.buffer);
        let opener = std::mem::take(&mut self.opener);
        let bare = self.mode == Mode::Bare;
        let parse = self.dialect.calls.map_or(bodies::json as table::Body, |family| family.body);
        let parse = if bare { bodies::bare } else { parse };
        let calls = parse(&body, &self.tools);
        match calls {
            Some(calls) => self.done.extend(calls.into_iter().map(Part::Call)),
            None => {
                self.fresh = false;
                self.say(Mode::Content, &(opener + &body + closer));
            }
        }
    }
}

#[cfg(test)]
mod tests;
