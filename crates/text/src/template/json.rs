//! `tojson` as transformers has it: Python's `json.dumps(x, ensure_ascii=False)`, nothing escaped for
//! HTML, with `indent`, `separators` and `sort_keys`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Deeper values are refused, as Python's own recursion limit would.
const MAX_DEPTH: usize = 200;

struct Style {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// The filter: `value|tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(crate) fn filter(
    state: &State<'_, '_>,
    value: &Value,
    ascii: Option<Value>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let ascii = kwargs.get::<Option<Value>>("ensure_ascii")?.or(ascii);
    let indent = kwargs.get::<Option<Value>>("indent")?.or(indent).filter(|indent| !indent.is_none());
    let separators = kwargs.get::<Option<Value>>("separators")?.filter(|value| !value.is_none());
    let sort = kwargs.get::<Option<Value>>("sort_keys")?.is_some_and(|sort| sort.is_true());
    kwargs.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(number) => Some(" ".repeat(i64::try_from(number)?.clamp(0, 64) as usize)),
    };
    let (mut item, mut key) = (", ".to_owned(), ": ".to_owned());
    if indent.is_some() {
        item = ",".to_owned();
    }
    if let Some(both) = separators {
        item = both.get_item(&Value::from(0))?.to_string();
        key = both.get_item(&Value::from(1))?.to_string();
    }
    let style = Style { indent, item, key, ascii: ascii.is_some_and(|ascii| ascii.is_true()), sort };
    let mut out = String::new();
    style.write(state, value, 0, &mut out)?;
    Ok(Value::from(out))
}

impl Style {
    fn write(
        &self,
        state: &State<'_, '_>,
        value: &Value,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(failed(format!("tojson: the value is nested more than {MAX_DEPTH} deep")));
        }
        state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list('[', ']', items.len(), depth, out, |at, out| {
                    self.write(state, &items[at], depth + 1, out)
                })?;
            }
            ValueKind::Map => self.map(state, value, depth, out)?,
            kind => return Err(failed(format!("Object of type {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn map(&self, state: &State<'_, '_>, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort {
            keys.sort_by_key(ToString::to_string);
        }
        self.list('{', '}', keys.len(), depth, out, |at, out| {
            let key = &keys[at];
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default(), out),
                ValueKind::None => out.push_str("\"null\""),
                ValueKind::Bool => out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
                ValueKind::Number => self.string(&number(key), out),
                kind => {
                    return Err(failed(format!("keys must be str, int, float, bool or None, not {kind}")));
                }
            }
            out.push_str(&self.key);
            self.write(state, &value.get_item(key)?, depth + 1, out)
        })
    }

    fn list(
        &self,
        open: char,
        close: char,
        len: usize,
        depth: usize,
        out: &mut String,
        mut each: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for at in 0..len {
            if at > 0 {
                out.push_str(&self.item);
            }
            self.new_line(depth + 1, out);
            each(at, out)?;
        }
        if len > 0 {
            self.new_line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c if self.ascii && !(' '..='~').contains(&c) => {
                    let mut units = [0u16; 2];
                    c.encode_utf16(&mut units)
                        .iter()
                        .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A JSON value as the engine's own.
pub(crate) fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text),
        Json::Array(list) => Value::from(list.into_iter().map(value).collect::<Vec<Value>>()),
        Json::Object(map) => Value::from_pairs(map.into_iter().map(|(key, item)| (key, value(item)))),
    }
}

/// A number as Python prints it (JSON writes the infinite ones otherwise).
pub(crate) fn repr(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(x) if x.is_nan() => "nan".to_owned(),
        Ok(x) if x.is_infinite() => if x > 0.0 { "inf" } else { "-inf" }.to_owned(),
        _ => number(value),
    }
}

/// A number as Python's `json` writes it.
pub(crate) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// A float as Python's `repr` writes it: the shortest digits that give it back, with an exponent below
/// 1e-4 and from 1e16.
pub(crate) fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let plain = format!("{x:?}");
    let scientific = format!("{x:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return plain };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    #[test]
    fn floats_as_python_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-2.5e-7, "-2.5e-07"),
            (1.5e300, "1.5e+300"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
        ];
        for (x, text) in cases {
            assert_eq!(super::float(x), text);
        }
    }
}
