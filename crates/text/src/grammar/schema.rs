//! JSON schemas: what is refused before the library sees them, and how its refusals are said.
//!
//! The library refuses by itself what it knows and does not enforce. What it would take for an annotation
//! or read in another sense than the specification is refused here: a schema is enforced whole or not
//! at all.

use serde_json::{Map, Value, json};

use super::references::{self, Draft};
use super::rewrite;

/// How JSON is laid out: between two tokens, a blank or two, or one new line and its indentation. That is what writers of
/// JSON write; with more a weak model loses itself in it.
const SPACE: &str = r"\x20{1,2}|\x0D?\x0A(\x20{0,32}|\x09{0,8})";

/// The most objects and lists that a schema may have: so deep can references lead into each other.
pub const MAX_PARTS: usize = 100_000;

/// Any object.
pub fn object() -> Value {
    laid_out(Map::from_iter([("type".to_owned(), json!("object"))]))
}

/// A schema as the library is given it.
///
/// `apart`: also tells the options of a `oneOf` apart, which makes it larger.
///
/// # Errors
/// The keyword that cannot be enforced, and where it stands.
pub fn prepare(schema: Value, apart: bool) -> Result<Value, String> {
    match schema {
        Value::Bool(true) => Ok(laid_out(Map::new())),
        Value::Bool(false) => Err("found the schema false, which allows nothing".to_owned()),
        Value::Object(map) => {
            let schema = Value::Object(map);
            if parts(&schema) > MAX_PARTS {
                return Err(format!("found more than {MAX_PARTS} objects and lists, expected fewer"));
            }
            let Value::Object(mut map) = schema else { return Err("found no object".to_owned()) };
            Checker { root: &map, draft: Draft::of(&map) }.check(&map, "#", true)?;
            references::by_place(&mut map);
            rewrite::rewrite(&mut map, apart);
            Ok(laid_out(map))
        }
        other => Err(format!("found {}, expected a JSON object that is a schema", shown(&other))),
    }
}

/// The objects and lists in a value, itself among them.
fn parts(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(parts).sum::<usize>(),
        Value::Array(list) => 1 + list.iter().map(parts).sum::<usize>(),
        _ => 0,
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
    let first = what.lines().next().unwrap_or(what).trim();
    let behind = |words: &str| first.split_once(words).map(|(_, rest)| rest.trim());
    let unenforced = "which cannot be enforced token by token; leave it out to do without";
    if let Some(keys) = behind("Unimplemented keys: ") {
        format!("found {}, {unenforced}", keys.trim_matches(['[', ']']))
    } else if let Some(format) = behind("Unknown format: ") {
        format!("found the \"format\" {format:?}, {unenforced}")
    } else if let Some(target) = behind("'referencing' feature; ref ") {
        format!("found the \"$ref\" {target}, which leads out of the schema; expected one that stays in it")
    } else if let Some(why) = behind("Unsatisfiable schema: ") {
        format!("nothing satisfies the schema: {why}")
    } else if is_one_of(first) {
        format!("found a \"oneOf\" whose options cannot be told apart, {unenforced}, or say \"anyOf\"")
    } else if first.contains("NoExtensionBias") {
        "nothing that it allows can be written".to_owned()
    } else {
        // A regular expression's own words come last.
        let own = what.lines().rev().map(str::trim).find(|line| line.starts_with("error: "));
        let own = own.filter(|_| first.ends_with(':'));
        own.map_or_else(|| first.to_owned(), |own| format!("{first} {}", own.trim_start_matches("error: ")))
    }
}

/// Whether the library refused a `oneOf` whose options it could not tell apart.
pub fn is_one_of(what: &str) -> bool {
    what.contains("oneOf constraints are not supported")
}

/// Keywords whose value is a schema.
const ONE: &[&str] = &[
    "items",
    "additionalItems",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords whose value is an object of schemas.
const NAMED: &[&str] =
    &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// The schemas directly in a schema, with their places in it.
pub fn inner<'a>(schema: &'a Map<String, Value>, each: &mut dyn FnMut(&'a Map<String, Value>, &str)) {
    for (key, value) in schema {
        match value {
            Value::Object(map) if ONE.contains(&key.as_str()) => each(map, key),
            Value::Array(list) if LIST.contains(&key.as_str()) => {
                for (i, value) in list.iter().enumerate() {
                    value.as_object().into_iter().for_each(|map| each(map, &format!("{key}/{i}")));
                }
            }
            Value::Object(map) if NAMED.contains(&key.as_str()) => {
                for (name, value) in map {
                    let name = name.replace('~', "~0").replace('/', "~1").replace('%', "%25");
                    value.as_object().into_iter().for_each(|map| each(map, &format!("{key}/{name}")));
                }
            }
            _ => {}
        }
    }
}

/// As [`inner`], to be changed.
pub fn each_inner(schema: &mut Map<String, Value>, each: &mut dyn FnMut(&mut Map<String, Value>)) {
    for (key, value) in schema {
        let values: Vec<&mut Value> = match value {
            Value::Object(_) if ONE.contains(&key.as_str()) => vec![value],
            Value::Array(list) if LIST.contains(&key.as_str()) => list.iter_mut().collect(),
            Value::Object(map) if NAMED.contains(&key.as_str()) => map.values_mut().collect(),
            _ => continue,
        };
        values.into_iter().filter_map(Value::as_object_mut).for_each(&mut *each);
    }
}

struct Checker<'a> {
    root: &'a Map<String, Value>,
    draft: Draft,
}

impl Checker<'_> {
    fn check(&self, schema: &Map<String, Value>, at: &str, top: bool) -> Result<(), String> {
        self.keywords(schema, at, top)?;
        let mut found = Ok(());
        inner(schema, &mut |inner, path| {
            if found.is_ok() {
                found = self.check(inner, &format!("{at}/{path}"), false);
            }
        });
        found
    }

    fn keywords(&self, schema: &Map<String, Value>, at: &str, top: bool) -> Result<(), String> {
        let refuse = |key: &str, why: &str| Err(format!("found {key:?} in {at}, {why}"));
        for key in ["x-guidance", "$dynamicRef", "$recursiveRef"] {
            if schema.contains_key(key) {
                return refuse(key, "which is not supported");
            }
        }
        // Whether this names a document depends on the draft: a reference may mean one thing or another.
        let unclear = self.draft == Draft::Young && schema.get("id").is_some_and(Value::is_string);
        if unclear && !top && self.has_ref() {
            return refuse(
                "id",
                "which is only understood together with \"$ref\" where \"$schema\" says draft 4",
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
