//! Calls written as Python: `[weather(city="Rome", days=3), clock()]`, as Llama 3.2 and 4 and LFM 2 do; and Gemma's,
//! `call:weather{city:<|"|>Rome<|"|>}`. Keyword arguments of literals only; whatever else stands there is no call.

use serde_json::{Map, Number, Value};

use super::ToolCall;
use super::tools::Tools;

/// How deep lists and dictionaries may nest.
const DEPTH: usize = 64;
/// What Gemma writes around a text.
const QUOTES: [&str; 2] = ["<|\"|>", "<escape>"];
pub(super) const GEMMA_QUOTE: &str = QUOTES[0];
pub(super) const GEMMA_ESCAPE: &str = QUOTES[1];

/// The calls of a list, or several without brackets, a line or a `;` apart.
pub(super) fn calls(text: &str) -> Option<Vec<ToolCall>> {
    let mut reader = Reader { rest: text, bare_keys: false };
    let listed = reader.take('[');
    let mut calls = vec![reader.call()?];
    while if listed { reader.take(',') } else { reader.take(';') || !reader.at_end() } {
        calls.push(reader.call()?);
    }
    let closed = !listed || reader.take(']');
    (closed && reader.at_end()).then_some(calls)
}

/// A literal.
pub(super) fn value(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text, bare_keys: false };
    let value = reader.value(DEPTH)?;
    reader.at_end().then_some(value)
}

/// `call:name{key:value,...}`, one or several.
pub(super) fn gemma(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    let mut reader = Reader { rest: body, bare_keys: true };
    let mut calls = Vec::new();
    while !reader.at_end() {
        reader.rest = reader.rest.trim_start().strip_prefix("call:")?;
        let name = reader.until('{')?.to_owned();
        let Value::Object(mut arguments) = reader.dictionary(DEPTH)? else { return None };
        for (key, value) in &mut arguments {
            // One of its templates writes every value as a text.
            if let Some(text) = value.as_str().filter(|_| body.contains(GEMMA_ESCAPE)) {
                *value = tools.typed_if_known(&name, key, text);
            }
        }
        calls.push(ToolCall { id: None, name, arguments: arguments.into() });
    }
    (!calls.is_empty()).then_some(calls)
}

struct Reader<'a> {
    rest: &'a str,
    /// Whether the keys of a dictionary may be bare words.
    bare_keys: bool,
}

impl<'a> Reader<'a> {
    fn at_end(&self) -> bool {
        self.rest.trim().is_empty()
    }

    fn take(&mut self, wanted: char) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn must(&mut self, wanted: char) -> Option<()> {
        self.take(wanted).then_some(())
    }

    /// A bare word in front of `end`, which stays.
    fn until(&mut self, end: char) -> Option<&'a str> {
        let at = self.rest.find(end)?;
        let (word, rest) = self.rest.split_at(at);
        self.rest = rest;
        Some(word.trim()).filter(|word| !word.is_empty() && !word.contains(['\n', ',', '"', '\'']))
    }

    /// A name; dots are part of it.
    fn name(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end =
            text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        self.rest = rest;
        name.chars().next().filter(|c| c.is_alphabetic() || *c == '_').map(|_| name)
    }

    fn call(&mut self) -> Option<ToolCall> {
        let name = self.name()?.to_owned();
        self.must('(')?;
        let mut arguments = Map::new();
        while !self.take(')') {
            let key = self.name()?.to_owned();
            self.must('=')?;
            arguments.insert(key, self.value(DEPTH)?);
            if !self.take(',') {
                self.must(')')?;
                break;
            }
        }
        Some(ToolCall { id: None, name, arguments: arguments.into() })
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        if let Some(text) = QUOTES.iter().find_map(|quote| self.quoted(quote)) {
            return Some(Value::String(text));
        }
        match self.rest.trim_start().chars().next()? {
            quote @ ('"' | '\'') => self.string(quote).map(Value::String),
            '[' => self.list(depth),
            '{' => self.dictionary(depth),
            c if c.is_ascii_digit() || c == '-' || c == '.' => self.number(),
            _ => match self.name()? {
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                "None" | "none" | "null" => Some(Value::Null),
                _ => None,
            },
        }
    }

    /// A text between two of Gemma's quotes.
    fn quoted(&mut self, quote: &str) -> Option<String> {
        let (text, rest) = self.rest.trim_start().strip_prefix(quote)?.split_once(quote)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.must('[')?;
        let mut items = Vec::new();
        while !self.take(']') {
            items.push(self.value(depth)?);
            if !self.take(',') {
                self.must(']')?;
                break;
            }
        }
        Some(items.into())
    }

    fn dictionary(&mut self, depth: usize) -> Option<Value> {
        self.must('{')?;
        let mut items = Map::new();
        while !self.take('}') {
            let key = self.key(depth)?;
            self.must(':')?;
            items.insert(key, self.value(depth)?);
            if !self.take(',') {
                self.must('}')?;
                break;
            }
        }
        Some(items.into())
    }

    /// A text, or, as Gemma has them, a bare word.
    fn key(&mut self, depth: usize) -> Option<String> {
        let quoted = self.rest.trim_start().starts_with(['"', '\'', '<']);
        match self.bare_keys && !quoted {
            true => self.until(':').map(str::to_owned),
            false => self.value(depth)?.as_str().map(str::to_owned),
        }
    }

    fn number(&mut self) -> Option<Value> {
        let text = self.rest.trim_start();
        let of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = text.find(|c| !of_number(c)).unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        self.rest = rest;
        let whole = number.parse::<i64>().ok().map(Number::from);
        whole.or_else(|| Number::from_f64(number.parse().ok()?)).map(Value::Number)
    }

    fn string(&mut self, quote: char) -> Option<String> {
        self.must(quote)?;
        let mut out = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => escape(&mut chars, &mut out)?,
                c => out.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(out)
    }
}

/// What follows a backslash; of one that means nothing in Python both characters stay.
fn escape(chars: &mut std::str::Chars<'_>, out: &mut String) -> Option<()> {
    match chars.next()? {
        'n' => out.push('\n'),
        't' => out.push('\t'),
        'r' => out.push('\r'),
        'b' => out.push('\u{8}'),
        'f' => out.push('\u{c}'),
        '\n' => {}
        'x' => out.push(char::from_u32(hex(chars, 2)?)?),
        'U' => out.push(char::from_u32(hex(chars, 8)?)?),
        'u' => out.push(utf16(chars)?),
        c @ ('\\' | '\'' | '"' | '/') => out.push(c),
        c => out.extend(['\\', c]),
    }
    Some(())
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    (0..digits).try_fold(0_u32, |sum, _| Some(sum.checked_mul(16)? + chars.next()?.to_digit(16)?))
}

/// Four digits, or as JSON has it a pair of them for what lies beyond.
fn utf16(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let first = hex(chars, 4)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first);
    }
    let second = (chars.next()? == '\\' && chars.next()? == 'u').then(|| hex(chars, 4))??;
    let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
    char::from_u32(0x10000 + ((first - 0xD800) << 10) + low)
}
