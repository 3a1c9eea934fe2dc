//! JSON schemas: what is refused before the library sees them, and how its refusals are said.
//!
//! The library refuses by itself what it knows and does not enforce. What it would take for an annotation
//! or read in another sense than the specification is refused here: a schema is enforced whole or not
//! at all.

use serde_json::{Map, Value, json};

/// How JSON is laid out: between two tokens, a blank or two, or one new line and its indentation. That is what writers of
/// JSON write; with more a weak model loses itself in it.
const SPACE: &str = r"\x20{1,2}|\x0D?\x0A(\x20{0,32}|\x09{0,8})";

/// Any object.
pub fn object() -> Value {
    laid_out(Map::from_iter([("type".to_owned(), json!("object"))]))
}

/// A schema as the library is given it.
///
/// # Errors
/// The keyword that cannot be enforced, and where it stands.
pub fn prepare(schema: Value) -> Result<Value, String> {
    match schema {
        Value::Bool(true) => Ok(laid_out(Map::new())),
        Value::Bool(false) => Err("found the schema false, which allows nothing".to_owned()),
        Value::Object(map) => {
            Checker { root: &map }.check(&map, "#", true)?;
            Ok(laid_out(map))
        }
        other => Err(format!("found {}, expected a JSON object that is a schema", shown(&other))),
    }
}

fn laid_out(mut schema: Map<String, Value>) -> Value {
    schema.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": SPACE }));
    Value::Object(schema)
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

/// A refusal by the library in the words of this program.
pub fn explain(what: &str) -> String {
    let what = what.lines().next().unwrap_or(what).trim();
    match what.split_once("Unimplemented keys: ") {
        Some((_, keys)) => format!(
            "found {}, which cannot be enforced token by token; leave it out to do without",
            keys.trim_matches(['[', ']'])
        ),
        None => what.to_owned(),
    }
}

struct Checker<'a> {
    root: &'a Map<String, Value>,
}

/// Keywords whose value is a schema.
const ONE: &[&str] = &["items", "additionalItems", "additionalProperties"];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords whose value is an object of schemas.
const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];

impl Checker<'_> {
    fn check(&self, schema: &Map<String, Value>, at: &str, top: bool) -> Result<(), String> {
        self.keywords(schema, at, top)?;
        let inner = |value: &Value, at: &str| match value {
            Value::Object(map) => self.check(map, at, false),
            _ => Ok(()),
        };
        for (key, value) in schema {
            let at = format!("{at}/{key}");
            match value {
                Value::Object(_) if ONE.contains(&key.as_str()) => inner(value, &at)?,
                Value::Array(list) if LIST.contains(&key.as_str()) => {
                    list.iter().enumerate().try_for_each(|(i, v)| inner(v, &format!("{at}/{i}")))?;
                }
                Value::Object(map) if NAMED.contains(&key.as_str()) => {
                    map.iter().try_for_each(|(name, v)| inner(v, &format!("{at}/{name}")))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn keywords(&self, schema: &Map<String, Value>, at: &str, top: bool) -> Result<(), String> {
        let refuse = |key: &str, why: &str| Err(format!("found {key:?} in {at}, {why}"));
        for key in ["x-guidance", "$dynamicRef", "$recursiveRef"] {
            if schema.contains_key(key) {
                return refuse(key, "which is not supported");
            }
        }
        // Without this a reference below would be looked up in the wrong document.
        if !top
            && ["$id", "id"].iter().any(|id| schema.get(*id).is_some_and(Value::is_string))
            && self.has_ref()
        {
            return refuse(
                "$id",
                "a document within the schema, which is not supported together with \"$ref\"",
            );
        }
        Ok(())
    }

    fn has_ref(&self) -> bool {
        fn within(value: &Value) -> bool {
            match value {
                Value::Object(map) => map.contains_key("$ref") || map.values().any(within),
                Value::Array(list) => list.iter().any(within),
                _ => false,
            }
        }
        self.root.values().any(within)
    }
}
