//! The tools that a request offers: what an argument that was written as bare text means goes by its schema.

use std::collections::HashMap;

use serde_json::Value;

use super::pythonic;

/// The parameters of each tool by its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools(HashMap<String, Value>);

impl Tools {
    /// From tools as the OpenAI API has them, with or without `function` around each.
    pub(super) fn new(tools: &[Value]) -> Tools {
        let each = tools.iter().filter_map(|tool| {
            let tool = tool.get("function").unwrap_or(tool);
            let schema = ["parameters", "input_schema"].into_iter().find_map(|key| tool.get(key))?;
            Some((tool.get("name")?.as_str()?.to_owned(), schema.get("properties")?.clone()))
        });
        Tools(each.collect())
    }

    /// What `text` means as the argument `key` of `tool`: text where its schema says so; where the schema is
    /// not known, a number, truth value, list or object if it is written like one, else text.
    pub(super) fn typed(&self, tool: &str, key: &str, text: &str) -> Value {
        let kinds = self.kinds(tool, key);
        let meant = |value: &Value| {
            kinds.is_empty() || !kinds.contains(&"string") || kinds.iter().any(|kind| is_of(value, kind))
        };
        literal(text).filter(meant).unwrap_or_else(|| Value::String(text.to_owned()))
    }

    /// As [`typed`](Tools::typed), but text where the schema is not known.
    pub(super) fn typed_if_known(&self, tool: &str, key: &str, text: &str) -> Value {
        match self.kinds(tool, key).is_empty() {
            true => Value::String(text.to_owned()),
            false => self.typed(tool, key, text),
        }
    }

    fn kinds(&self, tool: &str, key: &str) -> Vec<&str> {
        self.0.get(tool).and_then(|properties| properties.get(key)).map(kinds).unwrap_or_default()
    }
}

/// The types that a schema allows, without following references; none if it does not say.
fn kinds(schema: &Value) -> Vec<&str> {
    let of_type = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let options = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    let of_options = options.flat_map(|option| option.get("type").and_then(Value::as_str));
    let listed = schema.get("enum").and_then(Value::as_array);
    let of_enum = listed.filter(|list| list.iter().all(Value::is_string)).map(|_| "string");
    of_type.into_iter().chain(of_options).chain(of_enum).collect()
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "integer" | "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// A value other than text, as JSON or as Python writes it.
fn literal(text: &str) -> Option<Value> {
    let text = text.trim();
    let value = serde_json::from_str(text).ok().or_else(|| pythonic::value(text))?;
    (!value.is_string()).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Tools;

    #[test]
    fn bare_text_goes_by_the_schema() {
        let schema = json!({"name": "f", "parameters": {"type": "object", "properties": {
            "text": {"type": "string"}, "count": {"type": "integer"}, "flag": {"type": "boolean"},
            "maybe": {"type": ["string", "null"]}, "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "colour": {"enum": ["1", "2"]}, "list": {"type": "array"}}}});
        let tools = Tools::new(&[json!({"type": "function", "function": schema})]);
        for (key, text, expected) in [
            ("text", "3", json!("3")),
            ("text", "true", json!("true")),
            ("text", "\"quoted\"", json!("\"quoted\"")),
            ("count", "3", json!(3)),
            ("count", "many", json!("many")),
            ("flag", "True", json!(true)),
            ("maybe", "null", json!(null)),
            ("maybe", "3", json!("3")),
            ("either", "3", json!(3)),
            ("either", "x", json!("x")),
            ("colour", "1", json!("1")),
            ("list", "['a', 1]", json!(["a", 1])),
            ("unknown", "3", json!(3)),
            ("unknown", "x 3", json!("x 3")),
            ("unknown", "\"quoted\"", json!("\"quoted\"")),
        ] {
            assert_eq!(tools.typed("f", key, text), expected, "{key} {text}");
        }
        assert_eq!(tools.typed("g", "text", "3"), json!(3));
    }
}
