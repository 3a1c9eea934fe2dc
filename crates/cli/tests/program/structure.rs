//! `influence generate` held to a form, several answers, and the samplers' flags, with the model that ships.

use serde_json::Value;

use crate::home::{Home, argument, stderr};

const CAT: &str = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
    "age": {"type": "integer", "minimum": 0, "maximum": 20}}, "required": ["name", "age"], "additionalProperties": false}"#;

fn answer(home: &Home, flags: &[&str]) -> Value {
    let most: &[&str] = if flags.contains(&"--max-tokens") { &[] } else { &["--max-tokens", "200"] };
    home.json(&[&["generate", "Describe a cat.", "--json", "--seed", "7"], most, flags].concat())
}

#[test]
fn an_answer_is_json_of_its_schema() {
    let home = Home::new();
    let file = home.write("cat.json", CAT);
    for flags in [["--json-schema", CAT], ["--json-schema-file", argument(&file)]] {
        let object = answer(&home, &flags);
        let cat: Value = serde_json::from_str(object["text"].as_str().unwrap()).unwrap();
        assert!(cat["name"].as_str().unwrap().chars().count() <= 12, "{cat}");
        assert!((0..=20).contains(&cat["age"].as_i64().unwrap()), "{cat}");
        assert_eq!((&object["constraint_satisfied"], cat.as_object().unwrap().len()), (&true.into(), 2));
    }
    let free = answer(&home, &[]);
    assert!(free["constraint_satisfied"].is_null());
}

#[test]
fn regular_expressions_and_grammars_hold_an_answer_too() {
    let home = Home::new();
    let word = answer(&home, &["--regex", "(yes|no)"]);
    assert!(word["text"] == "yes" || word["text"] == "no", "{word}");
    let gbnf = "root ::= \"(\" root \")\" | [a-c]{2}";
    let text = answer(&home, &["--grammar", gbnf])["text"].as_str().unwrap().to_owned();
    let depth = text.matches('(').count();
    assert!(text.len() == 2 * depth + 2 && text.ends_with(&")".repeat(depth)), "{text}");
    let lark = "start: WORD (\" \" WORD)~2\nWORD: /[a-z]{1,8}/";
    let text = answer(&home, &["--grammar", lark])["text"].as_str().unwrap().to_owned();
    assert_eq!(text.split(' ').count(), 3, "{text}");
    let text = answer(&home, &["--format", "json", "--max-tokens", "400"]);
    if text["constraint_satisfied"] == true {
        let value: Value = serde_json::from_str(text["text"].as_str().unwrap()).unwrap();
        assert!(value.is_object());
    }
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let home = Home::new();
    let run = home
        .influence(&["generate", "Describe a cat.", "--json-schema", CAT, "--max-tokens", "3", "--json"])
        .output()
        .unwrap();
    let object: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(
        (&object["finish_reason"], &object["constraint_satisfied"]),
        (&"length".into(), &false.into())
    );
    assert!(stderr(&run).contains("was cut (length)"), "{}", stderr(&run));
}

#[test]
fn what_cannot_be_enforced_is_wrong_use_and_named() {
    let home = Home::new();
    for (flags, part) in [
        (["--json-schema", r#"{"type": "array", "uniqueItems": true}"#], "uniqueItems"),
        (["--json-schema", "{\"type\": "], "--json-schema"),
        (["--regex", "(a"], "unclosed group"),
        (["--logit-bias", "99999999=1"], "99999999"),
        (["--grammar", "root ::= x"], "no rule named x"),
    ] {
        let (code, error) = home.fails(&[&["generate", "x"], &flags[..]].concat());
        assert!(code == 2 && error.contains(part), "{code}: {error}");
    }
    let (code, _) = home.fails(&["generate", "x", "--regex", "a", "--format", "json"]);
    assert_eq!(code, 2);
}

#[test]
fn several_answers_are_those_of_their_seeds() {
    let home = Home::new();
    let flags = ["generate", "Once upon a time", "--json", "--max-tokens", "20", "--temperature", "1.3"];
    let lines = home.text(&[&flags[..], &["--seed", "5", "--n", "3"]].concat());
    let several: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(several.len(), 3);
    for (answer, seed) in several.iter().zip(["5", "6", "7"]) {
        let alone = home.json(&[&flags[..], &["--seed", seed]].concat());
        assert_eq!((&answer["text"], &answer["seed"]), (&alone["text"], &alone["seed"]));
    }
    let text = home.text(&["generate", "Once upon a time", "--max-tokens", "5", "--n", "2"]);
    assert!(text.contains("\n==> answer 2 of 2 <==\n"), "{text}");
}

#[test]
fn log_probabilities_are_in_the_object() {
    let home = Home::new();
    let object = answer(&home, &["--logprobs", "2", "--max-tokens", "4", "--temperature", "0"]);
    let rows = object["logprobs"].as_array().unwrap();
    assert_eq!(rows.len(), object["tokens"].as_array().unwrap().len());
    for (row, id) in rows.iter().zip(object["tokens"].as_array().unwrap()) {
        assert_eq!((&row["id"], &row["top"][0]["id"], row["top"].as_array().unwrap().len()), (id, id, 2));
        assert!(row["logprob"].as_f64().unwrap() <= 0.0 && row["text"].is_string());
    }
}

#[test]
fn an_end_is_put_off_and_a_token_forbidden() {
    let home = Home::new();
    let early = answer(&home, &["--max-tokens", "30", "--temperature", "0"]);
    let first = early["tokens"][0].to_string();
    let bias = format!("{first}=-inf");
    let other = answer(&home, &["--max-tokens", "5", "--temperature", "0", "--logit-bias", &bias]);
    assert_ne!(other["tokens"][0], early["tokens"][0]);
    let long = answer(&home, &["--min-tokens", "150", "--max-tokens", "150", "--temperature", "0"]);
    assert_eq!(long["completion_tokens"], 150);
}
