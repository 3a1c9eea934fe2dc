//! Python's methods of strings, lists and dictionaries, as far as templates use them. Those that change
//! their object are refused, as transformers' sandbox refuses them.

use minijinja::value::{ValueKind, from_args};
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
        _ => return Ok(None),
    };
    let _ = ValueKind::String;
    Ok(Some(found))
}
