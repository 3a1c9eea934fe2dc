//! Calls written as Python: `[weather(city="Rome", days=3), clock()]`, as Llama 3.2 and 4 and LFM 2 do.
//! Keyword arguments of literals only; whatever else stands there is no call.

use serde_json::{Map, Number, Value};

use super::ToolCall;

/// How deep lists and dictionaries may nest.
const DEPTH: usize = 64;

/// The calls of a list, or a single one without brackets.
pub(super) fn calls(text: &str) -> Option<Vec<ToolCall>> {
    let mut reader = Reader { rest: text };
    let listed = reader.take('[');
    let mut calls = vec![reader.call()?];
    while listed && reader.take(',') {
        calls.push(reader.call()?);
    }
    let closed = !listed || reader.take(']');
    (closed && reader.rest.trim().is_empty()).then_some(calls)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
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

    /// A name; dots are part of it.
    fn name(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(text.len());
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
        let text = self.rest.trim_start();
        match text.chars().next()? {
            quote @ ('"' | '\'') => self.string(quote).map(Value::String),
            '[' => self.list(depth),
            '{' => self.dictionary(depth),
            c if c.is_ascii_digit() || c == '-' || c == '.' => self.number(),
            _ => match self.name()? {
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                "None" | "null" => Some(Value::Null),
                _ => None,
            },
        }
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
            let Value::String(key) = self.value(depth)? else { return None };
            self.must(':')?;
            items.insert(key, self.value(depth)?);
            if !self.take(',') {
                self.must('}')?;
                break;
            }
        }
        Some(items.into())
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
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Some(out);
                }
                '\\' => out.push(match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                c => out.push(c),
            }
        }
        None
    }
}
