//! What stands between the tags of a call: JSON in most families, and the forms of those that have one of their own.
//! Those with an element for each argument are in `markup.rs`, those written as Python in `pythonic.rs`.

use serde_json::{Map, Value};

use super::tools::Tools;
use super::{ToolCall, pythonic};

pub(super) const DEEPSEEK_SEPARATOR: &str = "<｜tool▁sep｜>";
pub(super) const KIMI_SEPARATOR: &str = "<|tool_call_argument_begin|>";
pub(super) const MISTRAL_SEPARATOR: &str = "[ARGS]";
pub(super) const MISTRAL_ID: &str = "[CALL_ID]";

/// One object, a list of them, or several one after the other: `{"name": ..., "arguments": {...}}`, where
/// `arguments` may be `parameters`, and `name` `tool_name`, or all of it under `function` as the OpenAI API has it.
pub(super) fn json(body: &str, _: &Tools) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    for value in serde_json::Deserializer::from_str(body.trim()).into_iter::<Value>() {
        calls.extend(listed_calls(&value.ok()?)?);
    }
    (!calls.is_empty()).then_some(calls)
}

fn listed_calls(value: &Value) -> Option<Vec<ToolCall>> {
    match value {
        Value::Array(list) => list.iter().map(call).collect(),
        one => call(one).map(|call| vec![call]),
    }
}

/// A list of objects whose opening bracket was part of the tag.
pub(super) fn listed(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    json(&format!("[{body}"), tools)
}

/// Apertus: a list of objects of one member, `{"name": {...}}`.
pub(super) fn keyed(body: &str, _: &Tools) -> Option<Vec<ToolCall>> {
    let list: Vec<Map<String, Value>> = serde_json::from_str(body.trim()).ok()?;
    let one = |map: Map<String, Value>| {
        let mut members = map.into_iter();
        let (name, arguments) = members.next().filter(|_| members.len() == 0)?;
        Some(ToolCall { id: None, name, arguments: object(&arguments)? })
    };
    list.into_iter().map(one).collect::<Option<Vec<_>>>().filter(|calls| !calls.is_empty())
}

/// Without a tag, or with Llama's: JSON objects, which may have `;` between them, Python calls, or Python's dictionaries.
pub(super) fn bare(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    let body = unfenced(body);
    let each = || body.split(';').map(|part| json(part, tools)).collect::<Option<Vec<_>>>();
    let literal = |text: &str| listed_calls(&pythonic::value(text)?).filter(|calls| !calls.is_empty());
    json(body, tools)
        .or_else(|| each().map(|lists| lists.concat()))
        .or_else(|| pythonic::calls(body))
        .or_else(|| literal(body))
        .or_else(|| literal(&format!("[{body}]")))
}

/// Without the fence of a block of code.
fn unfenced(body: &str) -> &str {
    let body = body.trim();
    let inner = body.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = inner.and_then(|rest| rest.split_once('\n')).filter(|(word, _)| !word.contains(['{', '[']));
    inner.map_or(body, |(_, lines)| lines.trim())
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

pub(super) fn named(id: Option<String>, name: &str, arguments: &str) -> Option<Vec<ToolCall>> {
    let name = name.trim();
    let arguments = parse_object(arguments)?;
    (!name.is_empty()).then(|| vec![ToolCall { id, name: name.to_owned(), arguments }])
}

/// The recipient on the first line (the reader puts it there), then JSON.
pub(super) fn harmony(body: &str, _: &Tools) -> Option<Vec<ToolCall>> {
    let (name, arguments) = body.split_once('\n')?;
    named(None, name, arguments)
}

/// `function<sep>name`, a line, and fenced JSON (V3, R1); or `name<sep>{...}` (V3.1 on).
pub(super) fn deepseek(body: &str, _: &Tools) -> Option<Vec<ToolCall>> {
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
pub(super) fn kimi(body: &str, _: &Tools) -> Option<Vec<ToolCall>> {
    let (id, arguments) = body.split_once(KIMI_SEPARATOR)?;
    let id = id.trim();
    let name = id.rsplit_once(':').map_or(id, |(name, _)| name);
    named(Some(id.to_owned()), name.strip_prefix("functions.").unwrap_or(name), arguments)
}

/// `name[CALL_ID]id[ARGS]{...}` (since the tokenizer v11), or a list of JSON objects.
pub(super) fn mistral(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    let Some((head, arguments)) = body.split_once(MISTRAL_SEPARATOR) else {
        return json(body, tools).or_else(|| {
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

/// Whether JSON that begins in `body` is in the midst of a string where `body` ends: a tag that follows is a part
/// of that string.
pub(super) fn within_string(body: &str) -> bool {
    let json = body.find(['{', '[']).map_or("", |at| &body[at..]);
    let (mut inside, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = inside,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    inside
}
