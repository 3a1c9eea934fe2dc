//! `safe`: in Jinja its result is Markup, and what is added to Markup with `+` is escaped for HTML, even
//! though nothing else here is. Templates that mix the two depend on it. A safe text bears marks; where
//! a text with marks is printed, what stands outside of them is escaped and the marks go.

use minijinja::{Error, Output, State, Value};

/// Unicode noncharacters around a safe text.
const OPEN: char = '\u{FDD2}';
const CLOSE: char = '\u{FDD3}';

/// The filter `safe`.
pub(crate) fn safe(value: Value) -> Value {
    Value::from(format!("{OPEN}{}{CLOSE}", bare(&value.to_string())))
}

/// The test `escaped`.
pub(crate) fn is_safe(value: Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with(OPEN))
}

/// A value for `~`: without marks, floats as Python writes them, lists not too long.
pub(crate) fn text(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    Ok(match value.as_str() {
        Some(text) if text.contains(OPEN) => Value::from(bare(text)),
        None if value.is_number() && !value.is_integer() => Value::from(super::json::repr(&value)),
        _ => super::bounds::check(state, value)?,
    })
}

fn bare(text: &str) -> String {
    if !text.contains(OPEN) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut depth = 0usize;
    for c in text.chars() {
        match c {
            OPEN => depth += 1,
            CLOSE => depth = depth.saturating_sub(1),
            c if depth > 0 => out.push(c),
            c => push_escaped(c, &mut out),
        }
    }
    out
}

fn push_escaped(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    }
}

/// The filter `escape`.
pub(crate) fn escape(value: Value) -> Value {
    let text = value.to_string();
    if text.contains(OPEN) {
        return Value::from(bare(&text));
    }
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(c, &mut out));
    Value::from(out)
}

/// Prints a value.
pub(crate) fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) if text.contains(OPEN) => Ok(out.write_str(&bare(text))?),
        None if value.is_number() && !value.is_integer() => Ok(out.write_str(&super::json::repr(value))?),
        _ => minijinja::escape_formatter(out, state, &super::bounds::check(state, value.clone())?),
    }
}
