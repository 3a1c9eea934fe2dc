//! Python's methods of strings, lists and dictionaries, as far as templates use them. Those that change
//! their object are refused, as transformers' sandbox refuses them.

use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, State, Value};

use super::filters::{Arguments, check_widths, failed};

/// Called for methods that the engine itself does not have.
pub(crate) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let found = match value.kind() {
        ValueKind::String => string(state, value.as_str().unwrap_or_default(), name, args)?,
        ValueKind::Seq | ValueKind::Iterable => list(state, value, name, args)?,
        ValueKind::Map if name == "copy" => Some(value.clone()),
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn arguments(args: &[Value]) -> Result<Arguments, Error> {
    Arguments::new(Rest(args.iter().cloned().map(ValueOrKwargs::from).collect()))
}

fn list(state: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(match name {
        "copy" => Some(value.clone()),
        "index" | "count" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let mut places = Vec::new();
            for (at, item) in value.try_iter()?.checked().enumerate() {
                state.consume_fuel(1)?;
                places.extend((item? == *wanted).then_some(at));
            }
            match (name, places.first()) {
                ("count", _) => Some(Value::from(places.len())),
                (_, Some(&at)) => Some(Value::from(at)),
                (_, None) => return Err(failed(format!("{wanted:?} is not in list"))),
            }
        }
        _ => None,
    })
}

fn string(state: &State<'_, '_>, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let found = match name {
        "removeprefix" | "removesuffix" | "partition" | "rpartition" => one(text, name, args)?,
        "ljust" | "rjust" | "center" | "zfill" => padded(state, text, name, args)?,
        "find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith" => {
            return within(text, name, args);
        }
        "rsplit" => {
            let given = arguments(args)?;
            let separator: Option<String> = given.get(0, "sep")?;
            let most: Option<i64> = given.get(1, "maxsplit")?;
            given.done(2)?;
            rsplit(text, separator.as_deref(), most)
        }
        "format" => {
            check_widths(text)?;
            return Ok(None);
        }
        "title" => Value::from(title(text)),
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss")),
        "swapcase" => Value::from(text.chars().map(swapped).collect::<String>()),
        "expandtabs" => {
            let given = arguments(args)?;
            expand(state, text, given.get(0, "tabsize")?.unwrap_or(8))?
        }
        "isidentifier" => {
            let letter = |c: char| c.is_alphabetic() || c == '_';
            let rest = text.chars().all(|c| letter(c) || c.is_numeric());
            Value::from(text.chars().next().is_some_and(letter) && rest)
        }
        "istitle" => Value::from(text.chars().any(char::is_alphabetic) && text == title(text)),
        "isprintable" => Value::from(!text.chars().any(char::is_control)),
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        _ => return Ok(None),
    };
    Ok(Some(found))
}

fn one(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (part,): (&str,) = from_args(args)?;
    let three = |parts: Option<(&str, &str)>, none: [&str; 3]| {
        let parts = parts.map_or(none, |(head, tail)| [head, part, tail]);
        Value::from(Tuple::from(parts.map(Value::from).to_vec()))
    };
    if part.is_empty() && name.ends_with("partition") {
        return Err(failed("empty separator"));
    }
    Ok(match name {
        "removeprefix" => Value::from(text.strip_prefix(part).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(part).unwrap_or(text)),
        "partition" => three(text.split_once(part), [text, "", ""]),
        _ => three(text.rsplit_once(part), ["", "", text]),
    })
}

fn padded(state: &State<'_, '_>, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let fill = fill.unwrap_or(if name == "zfill" { "0" } else { " " });
    if fill.chars().count() != 1 {
        return Err(failed("the fill character must be exactly one character long"));
    }
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    state.consume_fuel(missing as u64)?;
    let left = match name {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, rest) = match name {
        "zfill" if text.starts_with(['+', '-']) => text.split_at(1),
        _ => ("", text),
    };
    Ok(Value::from(format!("{sign}{}{rest}{}", fill.repeat(left), fill.repeat(missing - left))))
}

/// The searches that may be given where to begin and to end; without that the library's are right.
fn within(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let index = name.ends_with("index");
    if args.len() < 2 && !index {
        return Ok(None);
    }
    let (part, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
    let len = text.chars().count();
    let place = |at: Option<i64>, or: usize| match at {
        None => or,
        Some(at) if at < 0 => len.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX)),
        Some(at) => usize::try_from(at).unwrap_or(usize::MAX).min(len),
    };
    let (start, end) = (place(start, 0), place(end, len));
    let piece: String = text.chars().skip(start).take(end.saturating_sub(start)).collect();
    let wanted: Vec<String> = match part.as_str() {
        Some(part) => vec![part.to_owned()],
        None => part.try_iter()?.map(|one| one.to_string()).collect(),
    };
    let first = wanted.first().map(String::as_str).unwrap_or_default();
    let found = if name.starts_with('r') { piece.rfind(first) } else { piece.find(first) };
    let found = found.map(|at| start + piece[..at].chars().count());
    Ok(Some(match (name, found) {
        ("startswith", _) => Value::from(wanted.iter().any(|one| piece.starts_with(one.as_str()))),
        ("endswith", _) => Value::from(wanted.iter().any(|one| piece.ends_with(one.as_str()))),
        ("count", _) => Value::from(piece.matches(first).count()),
        (_, Some(at)) => Value::from(at),
        _ if index => return Err(failed("substring not found")),
        _ => Value::from(-1),
    }))
}

/// Each letter after something that is no letter upper, the others lower.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn swapped(c: char) -> char {
    let other: Vec<char> =
        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
    match other[..] {
        [one] => one,
        _ => c,
    }
}

fn expand(state: &State<'_, '_>, text: &str, size: usize) -> Result<Value, Error> {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                state.consume_fuel(spaces as u64)?;
                out.push_str(&" ".repeat(spaces));
                column += spaces;
            }
            c => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(Value::from(out))
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<i64>) -> Value {
    let most =
        most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(most, separator).collect(),
        None => {
            let mut rest = text.trim();
            let mut parts = Vec::new();
            while parts.len() + 1 < most && !rest.is_empty() {
                let cut = rest.rfind(char::is_whitespace);
                parts.push(
                    &rest[cut.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8))..],
                );
                rest = rest[..cut.unwrap_or(0)].trim_end();
            }
            parts.extend((!rest.is_empty()).then_some(rest));
            parts
        }
    };
    parts.reverse();
    Value::from(parts.into_iter().map(Value::from).collect::<Vec<Value>>())
}
