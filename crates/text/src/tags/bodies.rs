//! What stands between the tags of a call: JSON in most families, and the forms of those that have one of their own.

use serde_json::{Map, Value};

use super::{ToolCall, pythonic};

pub(super) const DEEPSEEK_SEPARATOR: &str = "<｜tool▁sep｜>";
pub(super) const KIMI_SEPARATOR: &str = "<|tool_call_argument_begin|>";
pub(super) const MISTRAL_SEPARATOR: &str = "[ARGS]";
pub(super) const MISTRAL_ID: &str = "[CALL_ID]";

/// One object, a list of them, or several one after the other: `{"name": ..., "arguments": {...}}`, where
/// `arguments` may be `parameters`, and `name` `tool_name`, or all of it under `function` as the OpenAI API has it.
pub(super) fn json(body: &str) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    for value in serde_json::Deserializer::from_str(body.trim()).into_iter::<Value>() {
        match value.ok()? {
            Value::Array(list) => calls.extend(list.iter().map(call).collect::<Option<Vec<_>>>()?),
            one => calls.push(call(&one)?),
        }
    }
    (!calls.is_empty()).then_some(calls)
}

/// A list of objects whose opening bracket was part of the tag.
pub(super) fn listed(body: &str) -> Option<Vec<ToolCall>> {
    json(&format!("[{body}"))
}

/// Without a tag, or with Llama's: JSON objects, which may have `;` between them, or Python calls.
pub(super) fn bare(body: &str) -> Option<Vec<ToolCall>> {
    let each = || body.split(';').map(json).collect::<Option<Vec<_>>>().map(|lists| lists.concat());
    json(body).or_else(each).or_else(|| pythonic::calls(body.trim()))
}

fn call(value: &Value) -> Option<ToolCall> {
    let inner = value.get("function").filter(|f| f.is_object()).unwrap_or(value);
    let name = ["name", "tool_name", "function"].into_iter().find_map(|key| inner.get(key)?.as_str())?;
    let arguments = ["arguments", "parameters"].into_iter().find_map(|key| inner.get(key))?;
    let id = ["id", "tool_call_id"].into_iter().find_map(|key| value.get(key)).and_then(text);
    Some(ToolCall { id, name: name.to_owned(), arguments: object(arguments)? })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The arguments: an object, or a string that holds one.
fn object(value: &Value) -> Option<Value> {
    match value {
        Value::Object(_) => Some(value.clone()),
        Value::String(text) => parse_object(text),
        _ => None,
    }
}

fn parse_object(text: &str) -> Option<Value> {
    if text.trim().is_empty() {
        return Some(Value::Object(Map::new()));
    }
    serde_json::from_str(text.trim()).ok().filter(Value::is_object)
}

fn named(id: Option<String>, name: &str, arguments: &str) -> Option<Vec<ToolCall>> {
    let name = name.trim();
    let arguments = parse_object(arguments)?;
    (!name.is_empty()).then(|| vec![ToolCall { id, name: name.to_owned(), arguments }])
}

/// The recipient on the first line (the reader puts it there), then JSON.
pub(super) fn harmony(body: &str) -> Option<Vec<ToolCall>> {
    let (name, arguments) = body.split_once('\n')?;
    named(None, name, arguments)
}

/// `function<sep>name`, a line, and fenced JSON (V3, R1); or `name<sep>{...}` (V3.1 on).
pub(super) fn deepseek(body: &str) -> Option<Vec<ToolCall>> {
    let (kind, rest) = body.split_once(DEEPSEEK_SEPARATOR)?;
    match rest.split_once("```json") {
        Some((name, fenced)) if kind.trim() == "function" => {
            let end = fenced.rfind("```")?;
            named(None, name, &fenced[..end])
        }
        _ => named(None, kind, rest),
    }
}

/// `functions.name:0<sep>{...}`; the whole of the left is the call's id.
pub(super) fn kimi(body: &str) -> Option<Vec<ToolCall>> {
    let (id, arguments) = body.split_once(KIMI_SEPARATOR)?;
    let id = id.trim();
    let name = id.rsplit_once(':').map_or(id, |(name, _)| name);
    named(Some(id.to_owned()), name.strip_prefix("functions.").unwrap_or(name), arguments)
}

/// `name[CALL_ID]id[ARGS]{...}` (since the tokenizer v11), or a list of JSON objects.
pub(super) fn mistral(body: &str) -> Option<Vec<ToolCall>> {
    let Some((head, arguments)) = body.split_once(MISTRAL_SEPARATOR) else {
        return json(body).or_else(|| {
            let brace = body.find('{')?;
            named(None, &body[..brace], &body[brace..])
        });
    };
    let (name, id) = match head.split_once(MISTRAL_ID) {
        Some((name, id)) => (name, Some(id.trim().to_owned())),
        None => (head, None),
    };
    named(id, name, arguments)
}

/// GLM: the name, then `<arg_key>k</arg_key><arg_value>v</arg_value>` for each argument; a value that is
/// JSON is that, any other is text.
pub(super) fn glm(body: &str) -> Option<Vec<ToolCall>> {
    if body.trim_start().starts_with('{') {
        return json(body);
    }
    let (name, mut rest) = body.split_at(body.find("<arg_key>").unwrap_or(body.len()));
    let mut arguments = Map::new();
    while let Some((key, after)) = element(rest, "<arg_key>", "</arg_key>") {
        let (value, after) = element(after, "<arg_value>", "</arg_value>")?;
        arguments.insert(key.trim().to_owned(), literal(value));
        rest = after;
    }
    let whole = rest.trim().is_empty() && !name.trim().is_empty() && !name.trim().contains('\n');
    whole.then(|| vec![ToolCall { id: None, name: name.trim().to_owned(), arguments: arguments.into() }])
}

/// Qwen3-Coder: `<function=name><parameter=key>value</parameter></function>`.
pub(super) fn functions(body: &str) -> Option<Vec<ToolCall>> {
    if body.trim_start().starts_with(['{', '[']) {
        return json(body);
    }
    let mut calls = Vec::new();
    let mut rest = body;
    while let Some((inner, after)) = element(rest, "<function=", "</function>") {
        let (name, mut parameters) = inner.split_once('>')?;
        let mut arguments = Map::new();
        while let Some((parameter, after)) = element(parameters, "<parameter=", "</parameter>") {
            let (key, value) = parameter.split_once('>')?;
            let value = value.strip_prefix('\n').unwrap_or(value);
            arguments.insert(key.trim().to_owned(), literal(value.strip_suffix('\n').unwrap_or(value)));
            parameters = after;
        }
        calls.push(ToolCall { id: None, name: name.trim().to_owned(), arguments: arguments.into() });
        rest = after;
    }
    (!calls.is_empty()).then_some(calls)
}

/// The text between two tags, and what follows.
fn element<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let (_, inner) = text.split_once(open)?;
    inner.split_once(close)
}

/// A number, a truth value, a list or an object where the text is one; else the text.
fn literal(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::String(text.to_owned()))
}
