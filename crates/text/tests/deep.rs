//! Schemas and grammars whose parts lead into each other very deep: compiled or refused, never the end of the process.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use text::{Constraint, GrammarFactory, Tokenizer};

fn factory() -> GrammarFactory {
    let vocab: Map<String, Value> =
        (b'!'..=b'~').map(|b| (char::from(b).to_string(), json!(b - b'!'))).collect();
    let file = json!({
        "version": "1.0",
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    let tokenizer = Tokenizer::from_json("made", file.to_string().as_bytes()).unwrap();
    GrammarFactory::new(Arc::new(tokenizer)).unwrap()
}

/// Rules that each are the next, the last a letter.
fn chain(name: &str, defined: &str, n: usize) -> String {
    let mut rules = String::new();
    for i in 0..n {
        let _ = writeln!(rules, "{name}{i}{defined} {name}{}", i + 1);
    }
    rules + &format!("{name}{n}{defined} \"a\"\n")
}

/// Definitions that each refer to the next through what `wrap` puts around the reference.
fn references(n: usize, wrap: impl Fn(Value) -> Value) -> Value {
    let reference = |i: usize| json!({ "$ref": format!("#/$defs/a{i}") });
    let mut defs: Map<String, Value> = (0..n).map(|i| (format!("a{i}"), wrap(reference(i + 1)))).collect();
    defs.insert(format!("a{n}"), json!({ "type": "integer" }));
    let mut schema = reference(0);
    schema["$defs"] = defs.into();
    schema
}

#[test]
fn depth_is_no_end_of_the_process() {
    let factory = factory();
    for n in [1_000, 9_000, 60_000] {
        let cases = [
            ("GBNF", Constraint::Grammar(format!("root ::= r0\n{}", chain("r", " ::=", n)))),
            ("Lark rules", Constraint::Grammar(format!("start: r0\n{}", chain("r", ":", n)))),
            ("Lark terminals", Constraint::Grammar(format!("start: R0\n{}", chain("R", ":", n)))),
            ("references", Constraint::JsonSchema(references(n, |next| next))),
            ("allOf", Constraint::JsonSchema(references(n, |next| json!({ "allOf": [next] })))),
            (
                "items",
                Constraint::JsonSchema(references(n, |next| json!({ "type": "array", "items": next }))),
            ),
        ];
        for (name, constraint) in cases {
            let made = factory.compile(&constraint);
            println!("{name}, {n} deep: {:?}", made.as_ref().map(|_| ()));
            if n == 1_000 && !name.starts_with("Lark t") {
                assert!(made.is_ok() || name == "items", "{name}: {:?}", made.err());
            }
        }
    }
    let stars = |n: usize| Constraint::Grammar(format!("root ::= \"a\"{}\n", "*".repeat(n)));
    assert!(factory.compile(&stars(3)).is_ok());
    let message = factory.compile(&stars(200_000)).unwrap_err().to_string();
    assert!(message.contains("line 1") && message.contains("in a row"), "{message}");
    let many = Constraint::Grammar(format!("root ::= \"a\"\n{}", chain("r", " ::=", 20_000)));
    let message = factory.compile(&many).unwrap_err().to_string();
    assert!(message.contains("10000 rules"), "{message}");
}
