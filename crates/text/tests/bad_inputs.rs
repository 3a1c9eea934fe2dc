//! Hostile and broken files: each is refused with a message, or accepted where that is right, in time and
//! without taking the process down.

mod support;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use support::material;
use text::{ChatTemplate, Error, RenderOptions, Tokenizer};

/// What became of an input: an error's message, or what it gave.
type Outcome = Result<String, String>;

/// Runs on a thread with the stack that threads have, within the time given.
fn within(seconds: u64, what: &str, work: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let (send, receive) = mpsc::channel();
    let started = Instant::now();
    std::thread::spawn(move || send.send(work()));
    let outcome = receive.recv_timeout(Duration::from_secs(seconds));
    println!("{what}: {:?} in {:?}", outcome, started.elapsed());
    outcome.unwrap_or_else(|_| panic!("{what}: no end within {seconds} s, or a panic"))
}

fn folder(tag: &str, name: &str, data: &[u8]) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("text-bad-{}-{tag}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(name), data).unwrap();
    dir
}

fn tokenizer(dir: &Path) -> Outcome {
    let tokenizer = Tokenizer::from_folder(dir).map_err(|e| e.to_string())?;
    let ids = tokenizer.encode("hello <|im_start|> [UNK] world", true, true).map_err(|e| e.to_string())?;
    let missing = tokenizer.decode(&[50_000, 99_999, u32::MAX], false);
    tokenizer.token_bytes(77_777);
    Ok(format!("{} ids, {missing:?}", ids.len()))
}

fn template(source: &str) -> Outcome {
    let made = ChatTemplate::new(source, Some("<s>"), Some("</s>"), Map::new()).map_err(|e| e.to_string())?;
    let messages = json!([{"role": "user", "content": "hi"}]);
    made.render(&messages, RenderOptions::default()).map_err(|e| e.to_string())
}

#[test]
fn every_bad_input_ends_as_it_must() {
    let Some(dir) = material("bad-inputs") else { return };
    let cases: Value = serde_json::from_slice(&std::fs::read(dir.join("cases.json")).unwrap()).unwrap();
    let mut count = 0;
    for case in cases.as_array().unwrap() {
        let (id, kind) = (case["id"].as_str().unwrap(), case["kind"].as_str().unwrap());
        let Some(data) = case["file"].as_str().map(|file| std::fs::read(dir.join(file)).unwrap()) else {
            continue;
        };
        let outcome = match kind {
            "tokenizer" | "tiktoken" | "spm" => {
                let name = match kind {
                    "tokenizer" => "tokenizer.json",
                    "tiktoken" => "model.tiktoken",
                    _ => "tokenizer.model",
                };
                let folder = folder(id, name, &data);
                let outcome = within(5, id, {
                    let folder = folder.clone();
                    move || tokenizer(&folder)
                });
                std::fs::remove_dir_all(&folder).unwrap();
                if let Err(message) = &outcome {
                    assert!(message.contains(name), "{id}: the message does not name the file: {message}");
                }
                outcome
            }
            "template" => within(20, id, move || template(&String::from_utf8(data).unwrap())),
            _ => continue,
        };
        count += 1;
        match id {
            "tok-vocab-gap" => assert!(outcome.unwrap().ends_with("\"\"")),
            "tok-added-empty" => assert!(outcome.is_ok()),
            "tpl-generation" => assert_eq!(outcome.unwrap(), "x"),
            "tpl-ssti" => assert!(outcome.is_err() || outcome.unwrap().trim().is_empty()),
            "tpl-pow" => {
                let exact = "196627050475552913618075908526912116283103450944214766927315415537966391196809";
                assert!(outcome.is_err() || outcome.unwrap() == exact);
            }
            "tok-type-unknown" => assert!(outcome.unwrap_err().contains("type")),
            "tpl-unknown-filter" => assert!(outcome.unwrap_err().contains("evil")),
            _ => assert!(outcome.is_err(), "{id} must be refused: {}", case["must"]),
        }
    }
    assert!(count >= 20, "only {count} cases of these kinds");
}

const DEEP: &str = "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% for j in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";

#[test]
fn templates_are_limited_in_work_output_and_depth() {
    let cases = [
        (
            "nested value",
            "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}x",
        ),
        (
            "nested map",
            "{% set ns = namespace(x={}) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
        ),
        (
            "nested print",
            "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        ),
        (
            "nested compare",
            "{% set ns = namespace(x=[], y=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        ),
        ("nested to the end", &format!("{DEEP}x")),
        (
            "shared list",
            "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|string }}",
        ),
        (
            "shared map",
            "{% set ns = namespace(x={}) %}{% for i in range(99) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x ~ 1 }}",
        ),
        ("macro list", "{% macro m(x) %}{{ m(x + x) }}{% endmacro %}{{ m([1]) }}"),
        ("loop list", "{% for x in [[1]] recursive %}{{ loop([x + x]) }}{% endfor %}"),
        ("with list", &format!("{}x", "{% with x = [x, x] %}".repeat(120))),
        ("long list", "{{ ([0] * 99999999) }}{{ ([0] * 99999999)|string }}"),
        (
            "growing text",
            "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}x",
        ),
        (
            "growing list",
            "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}{{ ns.x }}",
        ),
        (
            "replace",
            "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('a','aaaaaaaaaaaaaaaa') %}{% endfor %}x",
        ),
        ("repeat", "{{ ('a' * 99999999) * 99999999 }}"),
        ("repeats", "{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}"),
        ("indent", "{{ ('a\n' * 100000)|indent(4000) }}"),
        ("ljust", "{{ 'a'.ljust(99999999999) }}"),
        ("center", "{{ 'a'.center(99999999999) }}"),
        ("format", "{{ '%99999999999d' % 1 }}"),
        ("format star", "{{ '%*d' % (99999999999, 1) }}{{ '%*d'|format(99999999999, 1) }}"),
        ("format nested", "{{ '{:{}}'.format(1, 99999999999) }}"),
        ("format filter", "{{ '%99999999999d'|format(1) }}"),
        ("format method", "{{ '{:>99999999999}'.format(1) }}"),
        ("join", "{{ ('a' * 1000000).join(range(100000)) }}"),
        ("range", "{{ range(999999999999)|list|length }}"),
        ("recursive loop", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
        ("caller", "{% macro m() %}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}"),
        ("many tags", &"{% if x %}".repeat(3000)),
        ("long expression", &format!("{{{{ {} }}}}", vec!["a"; 200_000].join(" ~ "))),
        ("long sum", &format!("{{{{ {} }}}}", vec!["1"; 200_000].join(" + "))),
        ("long filter chain", &format!("{{{{ 'a'{} }}}}", "|safe".repeat(100_000))),
        ("long attribute chain", &format!("{{{{ messages{} }}}}", ".a".repeat(100_000))),
        ("not", &format!("{{{{ {}a }}}}", "not ".repeat(100_000))),
        ("minus", &format!("{{{{ {}1 }}}}", "-".repeat(100_000))),
        ("brackets", &format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000))),
        ("conditional", &format!("{{{{ {} a }}}}", "a if b else ".repeat(50_000))),
    ];
    for (name, source) in cases {
        let source = source.to_owned();
        // Ending at all is what counts; where the limits do not bite, the answer is short.
        if let Ok(text) =
            within(30, name, move || template(&source).map(|text| text.chars().take(99).collect()))
        {
            assert!(text.len() < 1000, "{name}");
        }
    }
}

#[test]
fn what_a_template_raises_is_told_apart() {
    let made =
        ChatTemplate::new("{{ raise_exception('no ' ~ messages[0].role) }}", None, None, Map::new()).unwrap();
    let error = made.render(&json!([{"role": "system"}]), RenderOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::TemplateRaised(words) if words == "no system"), "{error}");
}
