//! Schemas and grammars against the vectors of others: every valid instance is accepted token by token,
//! every invalid one refused, or the schema is refused by name. What is counted stands in
//! docs/conformance.md. The vectors are read from ../shared/material where that is present.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use text::{Constraint, Grammar, GrammarFactory, Tokenizer};

/// Whether a text goes through a grammar, by its masks, and may end where it ends.
fn accepts(grammar: &Grammar, tokens: &[u32]) -> bool {
    let mut grammar = grammar.clone();
    for &token in tokens {
        let Ok(mask) = grammar.mask() else { return false };
        let allowed = mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
        if !allowed || grammar.consume(token).is_err() {
            return false;
        }
    }
    grammar.is_accepting()
}

/// What came of the vectors of a group.
#[derive(Default)]
struct Count {
    schemas: usize,
    refused: BTreeMap<String, usize>,
    valid: usize,
    invalid: usize,
    /// Valid instances that are not accepted: text that is correct but cannot come.
    missed: Vec<String>,
    /// Invalid instances that are accepted: there must be none.
    wrong: Vec<String>,
}

impl Count {
    fn check(
        &mut self,
        factory: &GrammarFactory,
        name: &str,
        constraint: &Constraint,
        texts: &[(Vec<String>, bool)],
    ) {
        self.schemas += 1;
        let grammar = match factory.compile(constraint) {
            Ok(grammar) => grammar,
            Err(error) => {
                *self.refused.entry(error.to_string()).or_default() += 1;
                return;
            }
        };
        for (forms, valid) in texts {
            let accepted = forms.iter().any(|text| accepts(&grammar, &support::byte_tokens(text)));
            let told = || format!("{name}: {}", forms[0].chars().take(100).collect::<String>());
            match (valid, accepted) {
                (true, true) => self.valid += 1,
                (false, false) => self.invalid += 1,
                (true, false) => self.missed.push(told()),
                (false, true) => self.wrong.push(told()),
            }
        }
    }

    fn print(&self, group: &str) {
        let refused: usize = self.refused.values().sum();
        println!(
            "{group}: {} schemas, {refused} refused; {} valid accepted, {} not; {} invalid refused, {} not",
            self.schemas,
            self.valid,
            self.missed.len(),
            self.invalid,
            self.wrong.len()
        );
        if std::env::var_os("INFLUENCE_SHOW").is_some() {
            self.refused.iter().for_each(|(why, n)| println!("    refused {n}: {why}"));
            self.missed.iter().for_each(|what| println!("    not accepted: {what}"));
            self.wrong.iter().for_each(|what| println!("    WRONGLY ACCEPTED: {what}"));
        }
    }
}

/// An instance as JSON: as it is, and with its properties in the order in which the schema names them.
fn forms(schema: &Value, instance: &Value) -> Vec<String> {
    let mut order = Vec::new();
    names(schema, &mut order);
    let ordered = in_order(instance, &order);
    vec![instance.to_string(), ordered.to_string()]
}

fn names(schema: &Value, order: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                order.extend(properties.keys().cloned());
            }
            if let Some(Value::Array(required)) = map.get("required") {
                order.extend(required.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            map.values().for_each(|value| names(value, order));
        }
        Value::Array(list) => list.iter().for_each(|value| names(value, order)),
        _ => {}
    }
}

fn in_order(instance: &Value, order: &[String]) -> Value {
    match instance {
        Value::Object(map) => {
            let place = |key: &String| order.iter().position(|name| name == key).unwrap_or(order.len());
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| place(key));
            Value::Object(pairs.into_iter().map(|(k, v)| (k.clone(), in_order(v, order))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(|v| in_order(v, order)).collect()),
        other => other.clone(),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    files
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn instances(schema: &Value, tests: &Value) -> Vec<(Vec<String>, bool)> {
    let tests = tests.as_array().unwrap().iter();
    tests.map(|t| (forms(schema, &t["data"]), t["valid"].as_bool().unwrap())).collect()
}

/// Groups of schemas with their instances.
fn schemas(factory: &GrammarFactory, material: &Path) -> Vec<(String, Count)> {
    let mut groups = Vec::new();
    for draft in ["draft7", "draft2020-12"] {
        let mut count = Count::default();
        for file in files(&material.join("JSON-Schema-Test-Suite/tests").join(draft)) {
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            for case in json(&file).as_array().unwrap() {
                let mut schema = case["schema"].clone();
                if let (Value::Object(map), "draft7") = (&mut schema, draft) {
                    map.entry("$schema").or_insert("http://json-schema.org/draft-07/schema#".into());
                }
                let name = format!("{stem}: {}", case["description"].as_str().unwrap());
                let instances = instances(&schema, &case["tests"]);
                count.check(factory, &name, &Constraint::JsonSchema(schema), &instances);
            }
        }
        groups.push((format!("JSON Schema Test Suite {draft}"), count));
    }
    let mut count = Count::default();
    for file in files(&material.join("maskbench")) {
        let case = json(&file);
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let instances = instances(&case["schema"], &case["tests"]);
        count.check(factory, &name, &Constraint::JsonSchema(case["schema"].clone()), &instances);
    }
    groups.push(("MaskBench".to_owned(), count));
    groups
}

/// The grammars of llama.cpp's tests, with texts as they are.
fn grammars(factory: &GrammarFactory, material: &Path) -> Vec<(String, Count)> {
    let mut groups: BTreeMap<String, Count> = BTreeMap::new();
    for file in ["llamacpp_grammar_integration.json", "llamacpp_llguidance.json"] {
        for case in json(&material.join(file)).as_array().unwrap() {
            let (kind, input) = (case["kind"].as_str().unwrap(), case["input"].as_str().unwrap());
            let constraint = match kind {
                "json_schema" => Constraint::JsonSchema(serde_json::from_str(input).unwrap()),
                _ => Constraint::Grammar(input.to_owned()),
            };
            // Where llama.cpp departs from JSON Schema, JSON Schema counts.
            let truth = |text: &Value, valid| {
                let differs = case["differs_from_jsonschema"].as_array();
                let row = differs.and_then(|rows| rows.iter().find(|row| row["text"] == *text));
                row.and_then(|row| row["jsonschema"].as_bool()).unwrap_or(valid)
            };
            let texts = |key: &str, valid| {
                let texts = case[key].as_array().unwrap().iter();
                texts
                    .map(move |t| (vec![t.as_str().unwrap().to_owned()], truth(t, valid)))
                    .collect::<Vec<_>>()
            };
            let all = [texts("valid", true), texts("invalid", false)].concat();
            let name = format!("{kind} {}", case["name"].as_str().unwrap());
            groups.entry(format!("{file}, {kind}")).or_default().check(factory, &name, &constraint, &all);
        }
    }
    let mut count = Count::default();
    for case in json(&material.join("llamacpp_schema_to_grammar.json")).as_array().unwrap() {
        // The grammar that llama.cpp makes of a schema is one more GBNF to be read.
        let Some(grammar) = case["grammar"].as_str().filter(|g| !g.is_empty()) else { continue };
        let name = case["name"].as_str().unwrap();
        count.check(factory, name, &Constraint::Grammar(grammar.to_owned()), &[]);
    }
    groups.insert("llamacpp_schema_to_grammar.json, gbnf".to_owned(), count);
    groups.into_iter().collect()
}

#[test]
fn no_schema_and_no_grammar_is_taken_for_another() {
    let Some(material) = support::material("structured") else { return };
    let factory = GrammarFactory::new(support::bytes()).unwrap();
    let mut groups = schemas(&factory, &material);
    groups.extend(grammars(&factory, &material));
    for (name, count) in &groups {
        count.print(name);
    }
    for (name, count) in &groups {
        assert!(count.wrong.is_empty(), "{name}: {:#?}", count.wrong);
    }
}

#[test]
fn nobody_gets_lost_in_white_space() {
    let factory = GrammarFactory::new(support::bytes()).unwrap();
    let grammar = factory.compile(&Constraint::Json).unwrap();
    let deep = |blanks: usize| format!("{{\n{}\"a\": 1}}", " ".repeat(blanks));
    for text in [
        "{\"a\":1}",
        "{ \"a\" : 1, \"b\": [] }",
        "{\r\n\t\"a\": 1\r\n}",
        &deep(32),
        "{\n  \"a\": [\n    1\n  ]\n}",
    ] {
        assert!(accepts(&grammar, &support::byte_tokens(text)), "{text:?}");
    }
    for text in ["{   \"a\": 1}", "{\n\n\"a\": 1}", "{\"a\": \n 1}", &deep(33), " {\"a\": 1}"] {
        assert!(!accepts(&grammar, &support::byte_tokens(text)), "{text:?}");
    }
}

#[test]
fn a_list_that_is_refused_leaves_all_other_texts() {
    let factory = GrammarFactory::new(support::bytes()).unwrap();
    let lists: [&[&str]; 4] = [&["a"], &["a", "ab", "b-"], &["", "é\n"], &["xx", "xy"]];
    for list in lists {
        let schema = serde_json::json!({"type": "string", "not": {"enum": list}});
        let grammar = factory.compile(&Constraint::JsonSchema(schema)).unwrap();
        for text in ["", "a", "ab", "abc", "b", "b-", "é\n", "é", "x", "xx", "xy", "xyz", "\n"] {
            let written = support::byte_tokens(&Value::from(text).to_string());
            assert_eq!(accepts(&grammar, &written), !list.contains(&text), "{list:?} {text:?}");
        }
    }
}

#[test]
fn what_is_refused_is_named() {
    let factory = GrammarFactory::new(support::bytes()).unwrap();
    let refused = |constraint: Constraint| factory.compile(&constraint).unwrap_err().to_string();
    let schema = |text: &str| refused(Constraint::JsonSchema(serde_json::from_str(text).unwrap()));
    for (text, words) in [
        (r#"{"type": "array", "uniqueItems": true}"#, ["uniqueItems", "token by token"]),
        (r#"{"type": "string", "format": "iri"}"#, ["format", "iri"]),
        (r#"{"$ref": "http://x.y/z"}"#, ["$ref", "http://x.y/z"]),
        (r#"{"oneOf": [{"pattern": "a"}, {"pattern": "b"}]}"#, ["oneOf", "anyOf"]),
        (r#"{"type": "integer", "minimum": 5, "maximum": 1}"#, ["minimum", "maximum"]),
        (r#"{"not": {"pattern": "a"}}"#, ["not", "token by token"]),
    ] {
        let said = schema(text);
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("feature"), "{text}: {said}");
    }
    assert!(refused(Constraint::Regex("(a".to_owned())).contains("unclosed group"));
}

/// Writes a text with the longest tokens that the masks allow, and takes what is forced; the time that
/// masks took, and tokens forced.
fn write(grammar: &mut Grammar, tokenizer: &Tokenizer, text: &str) -> (Vec<Duration>, usize) {
    let mut rest = text.as_bytes();
    let (mut times, mut forced) = (Vec::new(), 0);
    while !rest.is_empty() {
        let start = Instant::now();
        let mask = grammar.mask().unwrap().to_vec();
        times.push(start.elapsed());
        let allowed = (0..tokenizer.vocab_size() as u32)
            .filter(|id| mask.get(*id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1));
        let fits = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id).unwrap();
            assert!(!tokenizer.is_special(*id), "a control token in a text");
            !bytes.is_empty() && rest.starts_with(&bytes)
        };
        let best = allowed.filter(fits).max_by_key(|id| tokenizer.token_bytes(*id).unwrap().len());
        let best = best.unwrap_or_else(|| panic!("no token for {:?}", String::from_utf8_lossy(rest)));
        grammar.consume(best).unwrap();
        rest = &rest[tokenizer.token_bytes(best).unwrap().len()..];
        for id in grammar.forced() {
            let bytes = tokenizer.token_bytes(id).unwrap();
            rest = rest.strip_prefix(&bytes[..]).expect("what is forced is what the text says");
            forced += 1;
        }
    }
    (times, forced)
}

#[test]
fn real_vocabularies_write_what_a_grammar_allows() {
    let Some(dir) = support::material("tokenizers/hf") else { return };
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "kind": {"enum": ["domestic", "wild"]},
            "tags": {"type": "array", "items": {"type": "string"}}, "weight": {"type": "number"}
        },
        "required": ["name", "kind", "tags", "weight"],
        "additionalProperties": false
    });
    let text = "{\"name\": \"Kätzchen 猫, the second of her name\", \"kind\": \"domestic\",\n  \
                \"tags\": [\"small\", \"grey with white paws\"], \"weight\": 3.75}";
    for name in ["smollm3", "qwen3", "gpt-oss", "mistral", "falcon"] {
        let tokenizer = Arc::new(Tokenizer::from_folder(&dir.join(name)).unwrap());
        let start = Instant::now();
        let factory = GrammarFactory::new(tokenizer.clone()).unwrap();
        let built = start.elapsed();
        let mut grammar = factory.compile(&Constraint::JsonSchema(schema.clone())).unwrap();
        let (mut times, forced) = write(&mut grammar, &tokenizer, text);
        assert!(grammar.is_complete() && grammar.is_accepting(), "{name}");
        assert!(forced > 0, "{name}: nothing was forced");
        times.sort_unstable();
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        let (vocab, count, middle, most) =
            (tokenizer.vocab_size(), times.len(), times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{name} ({vocab} tokens): vocabulary ready in {built:.0?}, {count} masks of {mean:.0?} on the average \
             (median {middle:.0?}, at most {most:.0?}), {forced} tokens forced"
        );
    }
}
