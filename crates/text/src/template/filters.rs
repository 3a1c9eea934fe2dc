//! Filters, tests and functions that Jinja has and the engine has otherwise or not at all.

use minijinja::value::{ArgType, Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::{bounds, markup};

/// Adds them all.
pub(crate) fn register(env: &mut Environment<'_>) {
    env.add_function("raise_exception", super::raise);
    env.add_filter("tojson", super::json::filter);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("indent", indent);
    env.add_filter("sort", sort);
    env.add_filter("join", join);
    env.add_filter("truncate", truncate);
    env.add_filter("wordcount", wordcount);
    env.add_filter("safe", markup::safe);
    env.add_filter("center", center);
    env.add_filter("e", markup::escape);
    env.add_filter("escape", markup::escape);
    env.add_filter("forceescape", markup::escape);
    env.add_filter("string", string);
    env.add_filter("list", list);
    env.add_filter("urlencode", urlencode);
    env.add_filter("format", format);
    env.add_filter("python_percent", percent);
    env.add_filter("python_value", bounds::check);
    env.add_filter("python_text", markup::text);
    env.add_filter("python_iterator", iterator);
    env.add_filter("python_attribute", attribute);
    env.add_test("iterable", iterable);
    env.add_test("sequence", sequence);
    env.add_test("callable", callable);
    env.add_test("escaped", markup::is_safe);
    env.set_formatter(markup::print);
}

pub(crate) fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Arguments by their places and names, as Python takes them.
pub(crate) struct Arguments {
    positional: Vec<Value>,
    named: Kwargs,
}

impl Arguments {
    pub(crate) fn new(given: Rest<ValueOrKwargs>) -> Result<Arguments, Error> {
        let mut positional: Vec<Value> = given.0.into_iter().map(Value::from).collect();
        let named: Vec<Value> = positional.pop_if(|last| last.is_kwargs()).into_iter().collect();
        let (named,): (Kwargs,) = from_args(&named)?;
        Ok(Arguments { positional, named })
    }

    /// The argument at this place or of this name; `None` where it is not given, or is Python's None.
    pub(crate) fn get<T>(&self, at: usize, name: &str) -> Result<Option<T>, Error>
    where
        T: for<'a> ArgType<'a, Output = T>,
    {
        let named = self.named.get::<Option<Value>>(name)?;
        let given = named.as_ref().or(self.positional.get(at)).filter(|value| !value.is_none());
        given.map(|value| T::from_value(Some(value))).transpose()
    }

    /// Fails if there are more than `most` arguments, or ones whose names nothing asked for.
    pub(crate) fn done(&self, most: usize) -> Result<(), Error> {
        if self.positional.len() > most {
            let given = self.positional.len();
            return Err(failed(format!("takes at most {most} arguments, but {given} were given")));
        }
        self.named.assert_all_used()
    }
}

/// The name that Python has for a value's type.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Seq if value.is_tuple() => "tuple",
        ValueKind::Seq => "list",
        ValueKind::Map => "dict",
        ValueKind::Iterable => "list",
        _ => "object",
    }
}

/// What a `for` goes over. Undefined is empty, a string its characters, a number or None an error.
fn iterator(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            Err(failed(format!("'{}' object is not iterable", type_name(&value))))
        }
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            state.consume_fuel(text.len() as u64 / 8)?;
            Ok(Value::from(text.chars().map(|c| Value::from(c.to_string())).collect::<Vec<Value>>()))
        }
        _ => bounds::check(state, value),
    }
}

/// A method's bare name as an attribute: something that is callable.
fn attribute(value: Value, name: &str) -> Result<Value, Error> {
    const OF_DICT: [&str; 4] = ["keys", "values", "items", "get"];
    let has = match value.kind() {
        ValueKind::Map => OF_DICT.contains(&name),
        ValueKind::String => !OF_DICT.contains(&name),
        ValueKind::Seq => matches!(name, "count" | "index"),
        _ => false,
    };
    match has {
        true => Ok(Value::from_function(|| -> Result<Value, Error> { Err(failed("not to be called")) })),
        false => value.get_attr(name),
    }
}

fn iterable(value: Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain)
}

fn sequence(value: Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain)
}

/// A value as text, floats as Python writes them.
fn string(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    Ok(match value.kind() {
        ValueKind::String => value,
        ValueKind::Number => Value::from(super::json::repr(&value)),
        _ => Value::from(bounds::check(state, value)?.to_string()),
    })
}

fn list(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    Ok(Value::from(items(state, &value)?))
}

/// `"%s: %d" % (a, b)`.
fn percent(format: &str, value: Value) -> Result<Value, Error> {
    use minijinja::formatting::{FormatStyle, format as formatted};
    let given: Vec<Value> = if value.is_tuple() { value.try_iter()?.collect() } else { vec![value] };
    check_widths(format)?;
    formatted(FormatStyle::Printf, format, &given).map(Value::from)
}

/// `"%s: %d"|format(a, b)`.
fn format(format: &str, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    use minijinja::formatting::{FormatStyle, format as formatted};
    check_widths(format)?;
    let given: Vec<Value> = given.0.into_iter().map(Value::from).collect();
    formatted(FormatStyle::Printf, format, &given).map(Value::from)
}

/// A format may not ask for fields wider than four digits, nor take a width from its arguments: the
/// engine would fill memory.
pub(crate) fn check_widths(format: &str) -> Result<(), Error> {
    let (mut digits, mut percent, mut open, mut before) = (0, false, false, ' ');
    for c in format.chars() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        let nested = open && c == '{' && before != '{';
        if digits > 4 || (percent && c == '*') || nested {
            return Err(failed(
                "a format asks for a field of more than four digits, or of a width from elsewhere",
            ));
        }
        percent = c == '%' || (percent && (c.is_ascii_digit() || "-+ #.*".contains(c)));
        open = c == '{' || (open && c != '}');
        before = c;
    }
    Ok(())
}

/// Percent-encodes a text, or the pairs of a dictionary as a query.
fn urlencode(value: Value) -> Result<Value, Error> {
    fn quoted(text: &str, query: bool) -> String {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    out.push(char::from(byte))
                }
                b'/' if !query => out.push('/'),
                b' ' if query => out.push('+'),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    }
    if value.kind() != ValueKind::Map {
        return Ok(Value::from(quoted(&value.to_string(), false)));
    }
    let mut pairs = Vec::new();
    for key in value.try_iter()? {
        let item = value.get_item(&key)?;
        pairs.push(format!("{}={}", quoted(&key.to_string(), true), quoted(&item.to_string(), true)));
    }
    Ok(Value::from(pairs.join("&")))
}

fn callable(value: Value) -> bool {
    matches!(value.kind(), ValueKind::Plain) && value.as_object().is_some()
}

/// Python's `int()`, and the default where it fails.
fn int(value: Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = Arguments::new(given)?;
    let default = given.get(0, "default")?.unwrap_or_else(|| Value::from(0));
    let base: i64 = given.get(1, "base")?.unwrap_or(10);
    given.done(2)?;
    Ok(match value.kind() {
        ValueKind::Bool => Value::from(i64::from(value.is_true())),
        ValueKind::Number if value.is_integer() => value,
        ValueKind::Number => whole(f64::try_from(value)?).unwrap_or(default),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            let radix = u32::try_from(base).ok().filter(|base| (2..=36).contains(base)).unwrap_or(10);
            let digits = match radix {
                16 => text.trim_start_matches("0x").trim_start_matches("0X"),
                8 => text.trim_start_matches("0o"),
                2 => text.trim_start_matches("0b"),
                _ => text.as_str(),
            };
            match i128::from_str_radix(digits, radix) {
                Ok(number) => i64::try_from(number).map_or_else(|_| Value::from(number), Value::from),
                Err(_) => parse_float(&text).and_then(whole).unwrap_or(default),
            }
        }
        _ => default,
    })
}

fn whole(x: f64) -> Option<Value> {
    (x.is_finite() && x.abs() < 9e18).then(|| Value::from(x.trunc() as i64))
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.trim_start_matches(['+', '-']);
    let named = ["inf", "infinity", "nan"].iter().any(|name| digits.eq_ignore_ascii_case(name));
    if !named && !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.parse().ok()
}

/// Python's `float()`, and the default where it fails.
fn float(value: Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = Arguments::new(given)?;
    let default = given.get(0, "default")?.unwrap_or_else(|| Value::from(0.0));
    given.done(1)?;
    Ok(match value.kind() {
        ValueKind::Bool => Value::from(if value.is_true() { 1.0 } else { 0.0 }),
        ValueKind::Number => Value::from(f64::try_from(value)?),
        ValueKind::String => parse_float(value.as_str().unwrap_or_default()).map_or(default, Value::from),
        _ => default,
    })
}

/// `indent(width=4, first=False, blank=False)`; the width may be the text to indent with.
fn indent(state: &State<'_, '_>, value: Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = Arguments::new(given)?;
    let width: Value = given.get(0, "width")?.unwrap_or_else(|| Value::from(4));
    let first = given.get(1, "first")?.unwrap_or(false);
    let blank = given.get(2, "blank")?.unwrap_or(false);
    given.done(3)?;
    let with = match width.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(i64::try_from(width)?.clamp(0, 4096)).unwrap_or(0)),
    };
    let text = value.to_string() + "\n";
    state.consume_fuel((with.len() * text.lines().count()) as u64 / 16)?;
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if (at == 0 && first) || (at > 0 && (blank || !line.is_empty())) {
            out.push_str(&with);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

/// The part of a value that `attribute` names: "a.b.0", or a number.
fn part(value: &Value, attribute: &Value) -> Result<Value, Error> {
    let Some(path) = attribute.as_str() else { return value.get_item(attribute) };
    path.split('.').try_fold(value.clone(), |value, name| match name.parse::<i64>() {
        Ok(at) => value.get_item(&Value::from(at)),
        Err(_) => value.get_attr(name),
    })
}

fn items(state: &State<'_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    if matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number) {
        return Err(failed(format!("'{}' object is not iterable", type_name(value))));
    }
    let mut out = Vec::new();
    for item in value.try_iter()?.checked() {
        state.consume_fuel(1)?;
        out.push(item?);
    }
    Ok(out)
}

/// `sort(reverse=False, case_sensitive=False, attribute=None)`.
fn sort(state: &State<'_, '_>, value: Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = Arguments::new(given)?;
    let reverse: bool = given.get(0, "reverse")?.unwrap_or(false);
    let case: bool = given.get(1, "case_sensitive")?.unwrap_or(false);
    let attribute: Option<Value> = given.get(2, "attribute")?;
    given.done(3)?;
    let fold = |value: Value| match value.as_str() {
        Some(text) if !case => Value::from(text.to_lowercase()),
        _ => value,
    };
    let mut keyed = Vec::new();
    for item in items(state, &value)? {
        let key: Vec<Value> = match &attribute {
            None => vec![fold(item.clone())],
            Some(names) if names.as_str().is_some() => {
                let names = names.as_str().unwrap_or_default().split(',');
                names.map(|name| part(&item, &Value::from(name)).map(fold)).collect::<Result<_, _>>()?
            }
            Some(name) => vec![fold(part(&item, name)?)],
        };
        keyed.push((key, item));
    }
    keyed.sort_by(|(a, _), (b, _)| if reverse { b.cmp(a) } else { a.cmp(b) });
    Ok(Value::from(keyed.into_iter().map(|(_, item)| item).collect::<Vec<Value>>()))
}

/// `join(d="", attribute=None)`.
fn join(state: &State<'_, '_>, value: Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = Arguments::new(given)?;
    let with: Option<Value> = given.get(0, "d")?;
    let with = with.map(|with| with.to_string()).unwrap_or_default();
    let attribute: Option<Value> = given.get(1, "attribute")?;
    given.done(2)?;
    let mut out = String::new();
    for (at, item) in items(state, &value)?.iter().enumerate() {
        let item = match &attribute {
            Some(name) => part(item, name)?.to_string(),
            None => item.to_string(),
        };
        state.consume_fuel((with.len() + item.len()) as u64 / 64)?;
        if at > 0 {
            out.push_str(&with);
        }
        out.push_str(&item);
    }
    Ok(Value::from(out))
}

/// `truncate(length=255, killwords=False, end="...", leeway=5)`.
fn truncate(value: Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = Arguments::new(given)?;
    let length: usize = given.get(0, "length")?.unwrap_or(255);
    let kill: bool = given.get(1, "killwords")?.unwrap_or(false);
    let end: String = given.get(2, "end")?.unwrap_or_else(|| "...".to_owned());
    let leeway: usize = given.get(3, "leeway")?.unwrap_or(5);
    given.done(4)?;
    let text = value.to_string();
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(text));
    }
    let keep = length.checked_sub(end.chars().count());
    let keep =
        keep.ok_or_else(|| failed(format!("expected length >= {}, got {length}", end.chars().count())))?;
    let head: String = text.chars().take(keep).collect();
    let head =
        if kill { head.as_str() } else { head.rsplit_once(' ').map_or(head.as_str(), |(head, _)| head) };
    Ok(Value::from(format!("{head}{end}")))
}

fn wordcount(value: Value) -> usize {
    let text = value.to_string();
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).count()
}

/// `center(width=80)`.
fn center(state: &State<'_, '_>, value: Value, width: Option<usize>) -> Result<Value, Error> {
    let text = value.to_string();
    let missing = width.unwrap_or(80).saturating_sub(text.chars().count());
    state.consume_fuel(missing as u64)?;
    let left = missing / 2 + (missing & width.unwrap_or(80) & 1);
    Ok(Value::from(format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left))))
}
