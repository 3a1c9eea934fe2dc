//! References of JSON schemas by their own names (`$id`, `$anchor`) become references by place (`#/...`), which is all
//! that the library follows. One that leaves the document stays as it is, and is refused.

use std::collections::HashMap;

use serde_json::{Map, Value};

type Schema = Map<String, Value>;

/// What counts of the version of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// Up to 4: a schema's name is `id`.
    Four,
    /// 6 and 7: nothing beside a reference counts, as before.
    Seven,
    /// What is younger, or does not say.
    Young,
}

impl Draft {
    /// As `$schema` says.
    pub fn of(root: &Schema) -> Self {
        let says = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let is_one_of = |drafts: &[&str]| drafts.iter().any(|draft| says.contains(draft));
        match says {
            _ if is_one_of(&["draft-03", "draft-04"]) => Self::Four,
            _ if is_one_of(&["draft-06", "draft-07"]) => Self::Seven,
            _ => Self::Young,
        }
    }

    /// The keyword of a schema's name.
    pub fn ids(self) -> &'static [&'static str] {
        if self == Self::Four { &["id"] } else { &["$id"] }
    }
}

/// Rewrites every reference that has its target in this document, and takes the names away.
pub fn by_place(root: &mut Schema) {
    let draft = Draft::of(root);
    let mut names = HashMap::new();
    let base = name_of(root, "", draft).unwrap_or_default();
    names.insert(base.clone(), String::new());
    collect(root, &base, "", draft, &mut names);
    replace(root, &base, draft, &names);
    let mut copies = Map::new();
    let before = Value::Object(root.clone());
    to_definitions(root, &before, &mut copies);
    if copies.is_empty() {
        return;
    }
    if let Value::Object(definitions) = root.entry("$defs").or_insert_with(|| Map::new().into()) {
        definitions.extend(copies);
    }
}

/// Keywords that `rewrite.rs` may take away, with what is in them.
const TAKEN: &[&str] =
    &["if", "then", "else", "not", "dependencies", "dependentSchemas", "propertyNames", "oneOf"];

/// A reference into what may be taken away, or by escapes that the library does not read, becomes one to a copy.
fn to_definitions(schema: &mut Schema, root: &Value, copies: &mut Schema) {
    if let Some(place) =
        schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/"))
    {
        let moves = place.contains(['~', '%']) || place.split('/').any(|part| TAKEN.contains(&part));
        let name = format!("at {}", place.replace(['~', '%', '/'], " "));
        let target = root.pointer(&format!("/{}", decoded(place))).filter(|_| moves);
        if let Some(mut target) = target.cloned() {
            schema.insert("$ref".to_owned(), Value::from(format!("#/$defs/{name}")));
            if !copies.contains_key(&name) {
                copies.insert(name.clone(), Value::Null);
                target.as_object_mut().into_iter().for_each(|inner| to_definitions(inner, root, copies));
                copies.insert(name, target);
            }
        }
    }
    super::schema::each_inner(schema, &mut |inner| to_definitions(inner, root, copies));
}

/// Without `%xx`.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a schema calls itself, in full, without the fragment.
fn name_of(schema: &Schema, base: &str, draft: Draft) -> Option<String> {
    if draft != Draft::Young && schema.contains_key("$ref") {
        return None;
    }
    let id = draft.ids().iter().find_map(|key| schema.get(*key)?.as_str())?;
    let whole = id.split('#').next().unwrap_or_default();
    (!whole.is_empty()).then(|| joined(base, whole))
}

fn collect(schema: &Schema, base: &str, at: &str, draft: Draft, names: &mut HashMap<String, String>) {
    let own = name_of(schema, base, draft);
    if let Some(name) = &own {
        names.entry(name.clone()).or_insert_with(|| at.to_owned());
    }
    let base = own.as_deref().unwrap_or(base);
    let of_id = draft.ids().iter().find_map(|key| schema.get(*key)?.as_str());
    let anchors = ["$anchor", "$dynamicAnchor"].into_iter().filter_map(|key| schema.get(key)?.as_str());
    for anchor in anchors.chain(of_id.and_then(|id| id.split_once('#')).map(|(_, anchor)| anchor)) {
        names.entry(format!("{base}#{anchor}")).or_insert_with(|| at.to_owned());
    }
    super::schema::inner(schema, &mut |inner, path| {
        collect(inner, base, &format!("{at}/{path}"), draft, names)
    });
}

fn replace(schema: &mut Schema, base: &str, draft: Draft, names: &HashMap<String, String>) {
    let own = name_of(schema, base, draft);
    let base = own.as_deref().unwrap_or(base).to_owned();
    if let Some(target) = schema.get("$ref").and_then(Value::as_str)
        && let Some(place) = place(target, &base, names)
    {
        schema.insert("$ref".to_owned(), Value::from(format!("#{place}")));
    }
    if draft != Draft::Young && schema.contains_key("$ref") {
        schema.retain(|key, _| matches!(key.as_str(), "$ref" | "definitions" | "$defs" | "$schema"));
    }
    for key in ["$id", "id", "$anchor"] {
        if schema.get(key).is_some_and(Value::is_string) {
            schema.remove(key);
        }
    }
    super::schema::each_inner(schema, &mut |inner| replace(inner, &base, draft, names));
}

/// Where in this document a reference leads.
fn place(target: &str, base: &str, names: &HashMap<String, String>) -> Option<String> {
    let (document, fragment) = target.split_once('#').unwrap_or((target, ""));
    let document = if document.is_empty() { base.to_owned() } else { joined(base, document) };
    if fragment.is_empty() || fragment.starts_with('/') {
        return Some(format!("{}{fragment}", names.get(&document)?));
    }
    names.get(&format!("{document}#{fragment}")).cloned()
}

/// A reference from where it stands (RFC 3986, 5.2), without query.
fn joined(base: &str, reference: &str) -> String {
    let scheme = |text: &str| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-')))?;
        text[end..].starts_with(':').then_some(end + 1)
    };
    if scheme(reference).is_some() {
        return reference.to_owned();
    }
    let after = scheme(base).unwrap_or(0);
    let authority = match base[after..].strip_prefix("//") {
        Some(rest) => after + 2 + rest.find('/').unwrap_or(rest.len()),
        None => after,
    };
    if reference.starts_with("//") {
        return format!("{}{reference}", &base[..after]);
    }
    let (front, path) = base.split_at(authority);
    let folder = path.rfind('/').map_or("", |at| &path[..=at]);
    let path = if reference.starts_with('/') { reference.to_owned() } else { format!("{folder}{reference}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.len() > 1 => drop(parts.pop()),
            ".." => {}
            part => parts.push(part),
        }
    }
    let slash = if !front.is_empty() && front.contains("//") && !path.starts_with('/') { "/" } else { "" };
    format!("{front}{slash}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_joined_as_addresses_are() {
        for (base, reference, expected) in [
            ("http://a.b/c/d.json", "e.json", "http://a.b/c/e.json"),
            ("http://a.b/c/d.json", "/e.json", "http://a.b/e.json"),
            ("http://a.b/c/d.json", "../e", "http://a.b/e"),
            ("http://a.b", "e", "http://a.b/e"),
            ("http://a.b/c/", "urn:x:y", "urn:x:y"),
            ("", "e.json", "e.json"),
        ] {
            assert_eq!(joined(base, reference), expected, "{base} {reference}");
        }
    }

    #[test]
    fn what_is_taken_away_is_copied_first() {
        let mut schema = json!({
            "properties": {"a": {"$ref": "#/if"}, "b": {"$ref": "#/$defs/x~1y%25"}}, "if": {"type": "null"},
            "$defs": {"x/y%": {"properties": {"c": {"$ref": "#/$defs/x~1y%25"}}}}
        });
        by_place(schema.as_object_mut().unwrap());
        assert_eq!(schema["properties"]["a"]["$ref"], "#/$defs/at if");
        assert_eq!(schema["$defs"]["at if"], json!({"type": "null"}));
        let name = schema["properties"]["b"]["$ref"].as_str().unwrap()["#/$defs/".len()..].to_owned();
        assert_eq!(schema["$defs"][&name]["properties"]["c"]["$ref"], format!("#/$defs/{name}"));
    }

    #[test]
    fn names_become_places() {
        let mut schema = json!({
            "$id": "http://x.y/root.json", "$ref": "sub/a.json#/properties/b",
            "$defs": {"a": {"$id": "sub/a.json", "properties": {"b": {"$anchor": "here"}, "c": {"$ref": "#here"}}}},
            "properties": {"d": {"$ref": "#/$defs/a"}, "e": {"$ref": "other.json"}}
        });
        by_place(schema.as_object_mut().unwrap());
        assert_eq!(schema["$ref"], "#/$defs/a/properties/b");
        assert_eq!(schema["$defs"]["a"]["properties"]["c"]["$ref"], "#/$defs/a/properties/b");
        assert_eq!(schema["properties"]["d"]["$ref"], "#/$defs/a");
        assert_eq!(schema["properties"]["e"]["$ref"], "other.json");
    }
}
