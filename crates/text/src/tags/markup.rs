//! Calls written as elements, with an element for each argument: GLM, Qwen3-Coder, MiniMax, DeepSeek's DSML and
//! their kin. A value stands there as bare text; what it means goes by the tool's schema ([`Tools`]).

use serde_json::{Map, Value};

use super::tools::Tools;
use super::{ToolCall, bodies};

fn call(name: &str, arguments: Map<String, Value>) -> ToolCall {
    ToolCall { id: None, name: name.trim().to_owned(), arguments: arguments.into() }
}

/// GLM: the name, then `<arg_key>k</arg_key><arg_value>v</arg_value>` for each argument.
pub(super) fn glm(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    if body.trim_start().starts_with('{') {
        return bodies::json(body, tools);
    }
    let (name, mut rest) = body.split_at(body.find("<arg_key>").unwrap_or(body.len()));
    let name = name.trim();
    let mut arguments = Map::new();
    while let Some((key, after)) = element(rest, "<arg_key>", "</arg_key>") {
        let (value, after) = element(after, "<arg_value>", "</arg_value>")?;
        arguments.insert(key.trim().to_owned(), tools.typed(name, key.trim(), value));
        rest = after;
    }
    let whole = rest.trim().is_empty() && !name.is_empty() && !name.contains('\n');
    whole.then(|| vec![call(name, arguments)])
}

/// Qwen3-Coder: `<function=name><parameter=key>value</parameter></function>`, or JSON in place of the parameters.
pub(super) fn functions(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    if body.trim_start().starts_with(['{', '[']) {
        return bodies::json(body, tools);
    }
    let mut calls = Vec::new();
    let mut rest = body;
    while let Some((_, inner)) = rest.split_once("<function=") {
        let (name, inner) = inner.split_once('>')?;
        let (inner, after) = inner.split_once("</function>").unwrap_or((inner, ""));
        calls.push(function(name.trim(), inner, tools)?);
        rest = after;
    }
    (!calls.is_empty()).then_some(calls)
}

/// What stands behind `<function=`, which was the tag.
pub(super) fn opened_function(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    let (name, inner) = body.split_once('>')?;
    function(name.trim(), inner, tools).map(|call| vec![call])
}

fn function(name: &str, inner: &str, tools: &Tools) -> Option<ToolCall> {
    if inner.trim_start().starts_with('{') {
        return bodies::named(None, name, inner)?.pop();
    }
    let mut arguments = Map::new();
    let mut parameters = inner;
    while let Some((parameter, after)) = element(parameters, "<parameter=", "</parameter>") {
        let (key, value) = parameter.split_once('>')?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.trim().to_owned(), tools.typed(name, key.trim(), value));
        parameters = after;
    }
    (!name.is_empty()).then(|| call(name, arguments))
}

/// The names of the elements of a call and of its arguments.
struct Words {
    call: &'static str,
    argument: &'static str,
}

/// MiniMax: `<invoke name="f"><parameter name="k">v</parameter></invoke>`.
pub(super) fn invokes(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    elements(body, &Words { call: "invoke", argument: "parameter" }, tools)
}

/// DeepSeek since V3.2.
pub(super) fn dsml(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    elements(body, &Words { call: "｜DSML｜invoke", argument: "｜DSML｜parameter" }, tools)
}

/// Step 3: a call has a head like DeepSeek's.
pub(super) fn steptml(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    elements(body, &Words { call: "steptml:invoke", argument: "steptml:parameter" }, tools)
}

/// Muse: also behind a header that names the tool.
pub(super) fn atem(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    let words = Words { call: "atem:invoke", argument: "atem:parameter" };
    elements(body, &words, tools).or_else(|| bodies::harmony(body, tools))
}

/// MiniCPM 5: what stands behind `<function name="`, which was the tag.
pub(super) fn params(body: &str, tools: &Tools) -> Option<Vec<ToolCall>> {
    let whole = format!("<function name=\"{body}</function>");
    elements(&whole, &Words { call: "function", argument: "param" }, tools)
}

/// Calls one after another; there may be anything but elements of theirs around them.
fn elements(body: &str, words: &Words, tools: &Tools) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    let mut rest = body;
    while let Some((name, _, inner, after)) = named_element(rest, words.call) {
        let mut arguments = Map::new();
        let mut parameters = inner;
        while let Some((key, attributes, value, after)) = named_element(parameters, words.argument) {
            let value = value.strip_prefix("<![CDATA[").and_then(|v| v.strip_suffix("]]>")).unwrap_or(value);
            let value = match attributes.contains("string=\"true\"") {
                true => Value::String(value.to_owned()),
                false => tools.typed(name, key, value),
            };
            arguments.insert(key.to_owned(), value);
            parameters = after;
        }
        calls.push(call(name, arguments));
        rest = after;
    }
    (!calls.is_empty()).then_some(calls)
}

/// The first element `<word name="...">`: its name, its other attributes, what is in it and what follows.
fn named_element<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str, &'a str, &'a str)> {
    let (_, rest) = text.split_once(&format!("<{word} name=\""))?;
    let (name, rest) = rest.split_once('"')?;
    let (attributes, rest) = rest.split_once('>')?;
    let close = format!("</{word}>");
    let cdata = rest.starts_with("<![CDATA[").then(|| rest.find(&format!("]]>{close}"))).flatten();
    let end = cdata.map(|at| at + "]]>".len()).or_else(|| rest.find(&close))?;
    Some((name, attributes, &rest[..end], &rest[end + close.len()..]))
}

/// The text between two tags, and what follows.
fn element<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let (_, inner) = text.split_once(open)?;
    inner.split_once(close)
}
