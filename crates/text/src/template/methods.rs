//! Python's methods of strings, lists and dictionaries, as far as templates use them. Those that change
//! their object are refused, as transformers' sandbox refuses them.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, State, Value};

/// Called for methods that the engine itself does not have.
pub(crate) fn call(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if let Some(done) = string(state, text, name, args)? {
            return Ok(done);
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn pad(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<(String, usize), Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let fill = fill.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return Err(Error::new(ErrorKind::InvalidOperation, "the fill character must be exactly one character"));
    }
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    state.consume_fuel(missing as u64)?;
    Ok((fill.to_owned(), missing))
}

fn string(state: &State<'_, '_>, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let found = match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "ljust" => {
            let (fill, missing) = pad(state, text, args)?;
            Value::from(format!("{text}{}", fill.repeat(missing)))
        }
        "rjust" => {
            let (fill, missing) = pad(state, text, args)?;
            Value::from(format!("{}{text}", fill.repeat(missing)))
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(text, separator, most)
        }
        _ => return Ok(None),
    };
    Ok(Some(found))
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<i64>) -> Value {
    let most = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(most, separator).collect(),
        None => {
            let mut rest = text.trim();
            let mut parts = Vec::new();
            while parts.len() + 1 < most && !rest.is_empty() {
                let cut = rest.rfind(char::is_whitespace);
                parts.push(&rest[cut.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8))..]);
                rest = rest[..cut.unwrap_or(0)].trim_end();
            }
            parts.extend((!rest.is_empty()).then_some(rest));
            parts
        }
    };
    parts.reverse();
    Value::from(parts.into_iter().map(Value::from).collect::<Vec<Value>>())
}
