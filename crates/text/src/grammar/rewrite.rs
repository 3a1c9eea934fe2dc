//! JSON schemas in fewer keywords: what the library does not enforce, said by what it does, where that means exactly the
//! same. What cannot be said so stays as it is, and is refused by name.

use serde_json::{Map, Value, json};

type Schema = Map<String, Value>;

/// How many options a `oneOf` may have to be told apart pair by pair.
const OPTIONS: usize = 8;
/// How much text a schema may have that is repeated: nested, repetitions multiply.
const REPEATED: usize = 1 << 14;
/// Keywords that take part in what `unevaluated...` looks at and depend on the instance.
const CONDITIONAL: &[&str] = &[
    "anyOf",
    "oneOf",
    "if",
    "not",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "dependentSchemas",
    "dependencies",
];
const TYPES: [&str; 6] = ["null", "boolean", "object", "array", "number", "string"];
/// Formats that the library knows.
const KNOWN: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown"];
/// Formats of the specification that it does not know, and that are refused.
const UNKNOWN: &[&str] =
    &["idn-email", "idn-hostname", "iri", "iri-reference", "uri-reference", "uri-template", "regex"];
/// Formats of the specification as patterns.
const PATTERNS: &[(&str, &str)] = &[
    ("json-pointer", "^(/([^~/]|~[01])*)*$"),
    ("relative-json-pointer", "^(0|[1-9][0-9]*)(#|(/([^~/]|~[01])*)*)$"),
];

/// Rewrites a schema and those in it. `apart`: tells the options of `oneOf` apart too.
pub fn rewrite(schema: &mut Schema, apart: bool) {
    // These look at the schemas within as they were written.
    unevaluated(schema, "unevaluatedProperties", properties_beyond);
    unevaluated(schema, "unevaluatedItems", items_beyond);
    super::schema::each_inner(schema, &mut |inner| rewrite(inner, apart));
    whole_numbers(schema);
    conditions(schema);
    format(schema);
    dependencies(schema);
    property_names(schema);
    negation(schema);
    if apart {
        one_of(schema);
    }
}

fn is_small(schema: &Value) -> bool {
    schema.to_string().len() <= REPEATED
}

/// Adds a schema that has to hold too.
fn also(schema: &mut Schema, other: Value) {
    // Anything else there is no schema, and the library says so.
    if let Value::Array(list) = schema.entry("allOf").or_insert_with(|| json!([])) {
        list.push(other);
    }
}

/// `2.0` is a length as `2` is.
fn whole_numbers(schema: &mut Schema) {
    let of_count = ["Length", "Items", "Properties", "Contains"];
    for (key, value) in schema.iter_mut() {
        let counts =
            (key.starts_with("min") || key.starts_with("max")) && of_count.iter().any(|k| key.ends_with(k));
        if let Some(number) = value.as_f64().filter(|n| counts && n.fract() == 0.0 && (0.0..1e15).contains(n))
        {
            *value = json!(number as u64);
        }
    }
}

/// Without what has no meaning by itself, and `if` by cases where its opposite can be said.
fn conditions(schema: &mut Schema) {
    if !schema.contains_key("contains") {
        schema.remove("minContains");
        schema.remove("maxContains");
    }
    if !schema.contains_key("if") || !(schema.contains_key("then") || schema.contains_key("else")) {
        ["if", "then", "else"].iter().for_each(|key| drop(schema.remove(*key)));
        return;
    }
    if let Some(opposite) = schema.get("if").filter(|case| is_small(case)).and_then(negated) {
        let mut take = |key: &str| schema.remove(key).unwrap_or(Value::Bool(true));
        let (case, then, otherwise) = (take("if"), take("then"), take("else"));
        also(schema, json!({"anyOf": [{"allOf": [case, then]}, {"allOf": [opposite, otherwise]}]}));
    }
}

/// A format that no draft knows is an annotation.
fn format(schema: &mut Schema) {
    let Some(name) = schema.get("format").and_then(Value::as_str).map(str::to_owned) else { return };
    if let Some((_, pattern)) = PATTERNS.iter().find(|(known, _)| *known == name) {
        schema.remove("format");
        also(schema, json!({"pattern": pattern}));
    } else if !KNOWN.contains(&&*name) && !UNKNOWN.contains(&&*name) {
        schema.remove("format");
    }
}

/// Where nothing depends on the instance, `unevaluated...` is about what no keyword here speaks of.
fn unevaluated(schema: &mut Schema, key: &str, beyond: fn(&mut Schema, Value) -> Option<()>) {
    let Some(value) = schema.remove(key) else { return };
    let anything = value == Value::Bool(true) || value.as_object().is_some_and(Map::is_empty);
    if !anything && beyond(schema, value.clone()).is_none() {
        schema.insert(key.to_owned(), value);
    }
}

fn properties_beyond(schema: &mut Schema, value: Value) -> Option<()> {
    let mut seen = Seen::default();
    seen.look(schema)?;
    if seen.every_property {
        return Some(());
    }
    let mut name = |key: &str, names: Vec<String>| {
        let map = schema.entry(key).or_insert_with(|| json!({})).as_object_mut()?;
        for name in names {
            map.entry(name).or_insert(Value::Bool(true));
        }
        Some(())
    };
    name("properties", seen.properties)?;
    name("patternProperties", seen.patterns)?;
    schema.insert("additionalProperties".to_owned(), value);
    Some(())
}

fn items_beyond(schema: &mut Schema, value: Value) -> Option<()> {
    let mut seen = Seen::default();
    seen.look(schema)?;
    if seen.every_item {
        return Some(());
    }
    if schema.contains_key("contains") || schema.get("items").is_some_and(Value::is_array) {
        return None;
    }
    if seen.items > 0 {
        let first = schema.entry("prefixItems").or_insert_with(|| json!([])).as_array_mut()?;
        first.resize(seen.items.max(first.len()), Value::Bool(true));
    }
    schema.insert("items".to_owned(), value);
    Some(())
}

/// What a schema speaks of.
#[derive(Default)]
struct Seen {
    properties: Vec<String>,
    patterns: Vec<String>,
    every_property: bool,
    items: usize,
    every_item: bool,
}

impl Seen {
    /// `None` if that depends on the instance.
    fn look(&mut self, schema: &Schema) -> Option<()> {
        if CONDITIONAL.iter().any(|key| schema.contains_key(*key)) {
            return None;
        }
        let names =
            |key: &str| schema.get(key).and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
        self.properties.extend(names("properties"));
        self.patterns.extend(names("patternProperties"));
        let has = |keys: &[&str]| keys.iter().any(|key| schema.contains_key(*key));
        self.every_property |= has(&["additionalProperties", "unevaluatedProperties"]);
        self.every_item |= has(&["additionalItems", "unevaluatedItems"]);
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        self.items = self.items.max(list("prefixItems").or(list("items")).map_or(0, Vec::len));
        self.every_item |= schema.get("items").is_some_and(|items| !items.is_array());
        let parts = list("allOf").into_iter().flatten().filter_map(Value::as_object);
        parts.map(|part| self.look(part)).collect()
    }
}

/// Either the property is not there, or what depends on it holds.
fn dependencies(schema: &mut Schema) {
    for key in ["dependencies", "dependentRequired", "dependentSchemas"] {
        let Some(Value::Object(map)) = schema.get(key) else { continue };
        if !map.values().all(|v| v.is_array() || v.is_object() || v.is_boolean()) {
            continue;
        }
        let Some(Value::Object(map)) = schema.remove(key) else { continue };
        for (name, depends) in map {
            let absent = json!({"properties": {(name.clone()): false}});
            // Properties come in the order in which they are required: what others depend on first.
            let present = match depends {
                Value::Array(mut names) => {
                    names.push(name.into());
                    json!({ "required": names })
                }
                depends => json!({"required": [name], "allOf": [depends]}),
            };
            also(schema, json!({"anyOf": [absent, present]}));
        }
    }
}

/// Names of a list or a pattern: others may not be there.
fn property_names(schema: &mut Schema) {
    let Some(rule) = schema.get("propertyNames") else { return };
    let Some(names) = allowed_names(rule) else { return };
    schema.remove("propertyNames");
    if let Some(names) = names {
        also(schema, names);
    }
}

/// `Some(None)`: any name; `None`: cannot be said.
fn allowed_names(rule: &Value) -> Option<Option<Value>> {
    let rule = match rule {
        Value::Bool(true) => return Some(None),
        Value::Bool(false) => return Some(Some(json!({"additionalProperties": false}))),
        Value::Object(map) => map,
        _ => return None,
    };
    let notes = ["type", "title", "description", "$comment", "default", "examples"];
    if rule.get("type").is_some_and(|kind| kind != "string") {
        return None;
    }
    let mut keys: Vec<&str> = rule.keys().map(String::as_str).filter(|key| !notes.contains(key)).collect();
    keys.sort_unstable();
    let length = |key: &str| rule.get(key).map(Value::as_u64);
    let pattern = match keys[..] {
        [] => return Some(None),
        ["enum"] | ["const"] => {
            let list = rule.get("enum").cloned().unwrap_or_else(|| json!([rule["const"]]));
            let names = list.as_array()?.iter().filter_map(Value::as_str);
            let names: Schema = names.map(|name| (name.to_owned(), Value::Bool(true))).collect();
            return Some(Some(json!({"properties": names, "additionalProperties": false})));
        }
        ["pattern"] => rule["pattern"].as_str()?.to_owned(),
        ["maxLength"] | ["minLength"] | ["maxLength", "minLength"] => {
            let least = length("minLength").unwrap_or(Some(0))?;
            let most = length("maxLength").map_or(Some(String::new()), |n| Some(n?.to_string()))?;
            format!("^(?s:.){{{least},{most}}}$")
        }
        _ => return None,
    };
    Some(Some(json!({"patternProperties": {(pattern): true}, "additionalProperties": false})))
}

fn negation(schema: &mut Schema) {
    if let Some(opposite) = schema.get("not").and_then(negated) {
        schema.remove("not");
        also(schema, opposite);
    }
}

/// One and no other: where each option's opposite can be said.
fn one_of(schema: &mut Schema) {
    let Some(options) = schema.get("oneOf").and_then(Value::as_array) else { return };
    if options.len() > OPTIONS || !options.iter().all(is_small) {
        return;
    }
    let Some(opposites) = options.iter().map(negated).collect::<Option<Vec<_>>>() else { return };
    let alone = |(i, option): (usize, &Value)| {
        let others = opposites.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other.clone());
        json!({"allOf": std::iter::once(option.clone()).chain(others).collect::<Vec<_>>()})
    };
    let alone: Vec<Value> = options.iter().enumerate().map(alone).collect();
    schema.remove("oneOf");
    also(schema, json!({ "anyOf": alone }));
}

/// The schema of all that a schema refuses; `None` if that cannot be said.
fn negated(schema: &Value) -> Option<Value> {
    let map = match schema {
        Value::Bool(all) => return Some(Value::Bool(!all)),
        Value::Object(map) => map,
        _ => return None,
    };
    let notes = ["title", "description", "$comment", "default", "examples"];
    let rules = map.iter().filter(|(key, _)| !notes.contains(&key.as_str()));
    let ways = rules.map(|(key, value)| refused_by(key, value)).collect::<Option<Vec<_>>>()?;
    Some(any_of(ways.concat()))
}

fn any_of(mut ways: Vec<Value>) -> Value {
    ways.retain(|way| *way != Value::Bool(false));
    match ways.len() {
        0 => Value::Bool(false),
        1 => ways.remove(0),
        _ => json!({ "anyOf": ways }),
    }
}

/// The ways in which a value may be refused by one keyword.
fn refused_by(key: &str, value: &Value) -> Option<Vec<Value>> {
    let each = |value: &Value| value.as_array()?.iter().map(negated).collect::<Option<Vec<_>>>();
    let names = || value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    Some(match key {
        "not" => vec![value.clone()],
        "allOf" => each(value)?,
        "anyOf" => vec![json!({"allOf": each(value)?})],
        "type" => vec![other_types(value)?],
        "required" => {
            names()?.into_iter().map(|n| json!({"type": "object", "properties": {n: false}})).collect()
        }
        "properties" => {
            let wrong = value.as_object()?.iter().map(|(name, schema)| match negated(schema)? {
                Value::Bool(false) => Some(Value::Bool(false)),
                wrong => Some(json!({"type": "object", "required": [name], "properties": {name: wrong}})),
            });
            wrong.collect::<Option<Vec<_>>>()?
        }
        "const" => other_than(std::slice::from_ref(value))?,
        "enum" => other_than(value.as_array()?)?,
        _ => return None,
    })
}

fn other_types(kinds: &Value) -> Option<Value> {
    let kinds: Vec<&str> = match kinds {
        Value::String(kind) => vec![kind],
        Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    if kinds.iter().any(|kind| !TYPES.contains(kind)) {
        return None;
    }
    let others: Vec<&str> = TYPES.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    Some(if others.is_empty() { Value::Bool(false) } else { json!({ "type": others }) })
}

/// All values but some texts, truth values and null.
fn other_than(values: &[Value]) -> Option<Vec<Value>> {
    let mut ways = Vec::new();
    let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    if values.iter().any(|value| value.is_number() || value.is_array() || value.is_object()) {
        return None;
    }
    let mut whole = vec!["object", "array", "number"];
    if texts.is_empty() {
        whole.push("string");
    } else {
        let texts: Vec<Vec<char>> = texts.iter().map(|text| text.chars().collect()).collect();
        let texts: Vec<&[char]> = texts.iter().map(Vec::as_slice).collect();
        ways.push(json!({"type": "string", "pattern": format!("^({})$", no_text_of(&texts))}));
    }
    if !values.contains(&Value::Null) {
        whole.push("null");
    }
    ways.push(json!({ "type": whole }));
    let truths = [true, false].into_iter().filter(|truth| !values.contains(&Value::Bool(*truth)));
    ways.extend(truths.map(|truth| json!({ "const": truth })));
    Some(ways)
}

/// A regular expression for every text that is none of these.
fn no_text_of(texts: &[&[char]]) -> String {
    let mut ways = Vec::new();
    if texts.iter().all(|text| !text.is_empty()) {
        ways.push(String::new());
    }
    let mut firsts: Vec<char> = texts.iter().filter_map(|text| text.first().copied()).collect();
    firsts.sort_unstable();
    firsts.dedup();
    let code = |c: char| format!("\\x{{{:x}}}", c as u32);
    match firsts.is_empty() {
        true => ways.push("(?s:.)+".to_owned()),
        false => ways.push(format!("[^{}](?s:.)*", firsts.iter().map(|c| code(*c)).collect::<String>())),
    }
    for first in firsts {
        let rests: Vec<&[char]> =
            texts.iter().filter(|t| t.first() == Some(&first)).map(|t| &t[1..]).collect();
        ways.push(format!("{}({})", code(first), no_text_of(&rests)));
    }
    ways.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn rewritten(schema: Value, expected: Value) {
        let Value::Object(mut schema) = schema else { panic!("an object") };
        rewrite(&mut schema, false);
        assert_eq!(Value::Object(schema), expected);
    }

    #[test]
    fn what_means_nothing_goes_and_what_can_be_said_otherwise_is() {
        rewritten(json!({"minLength": 2.0, "minimum": 2.5}), json!({"minLength": 2, "minimum": 2.5}));
        rewritten(json!({"then": {}, "minContains": 1}), json!({}));
        rewritten(json!({"format": "topic"}), json!({}));
        rewritten(json!({"format": "iri"}), json!({"format": "iri"}));
        rewritten(
            json!({"dependencies": {"a": ["b"]}}),
            json!({"allOf": [{"anyOf": [{"properties": {"a": false}}, {"required": ["b", "a"]}]}]}),
        );
        rewritten(
            json!({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": false}),
            json!({"allOf": [{"properties": {"a": {}}}], "properties": {"a": true}, "patternProperties": {},
                   "additionalProperties": false}),
        );
        let open = json!({"anyOf": [{"properties": {"a": {}}}], "unevaluatedProperties": false});
        rewritten(open.clone(), open);
        rewritten(json!({"not": {"not": {"type": "null"}}}), json!({"allOf": [{"type": ["null"]}]}));
        let kept = json!({"not": {"pattern": "a"}});
        rewritten(kept.clone(), kept);
    }
}
