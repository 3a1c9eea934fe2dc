//! Real chat templates against what transformers renders.

mod support;

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::{Map, Value};
use support::material;
use text::{ChatTemplate, Clock, Error, RenderOptions};

const NOW: Clock = Clock { year: 2026, month: 1, day: 15, hour: 9, minute: 30, second: 5 };

fn options(context: &Map<String, Value>) -> (Value, RenderOptions) {
    let mut extra = context.clone();
    let messages = extra.remove("messages").unwrap_or(Value::Null);
    let options = RenderOptions { extra, now: NOW, ..RenderOptions::default() };
    (messages, options)
}

/// `None` if it is as it should be, else what was found.
fn compare(template: &ChatTemplate, case: &Value) -> Option<String> {
    let (messages, options) = options(case["context"].as_object().unwrap());
    let got = template.render(&messages, options);
    if let Some(want) = case.get("expected").and_then(Value::as_str) {
        return match got {
            Ok(text) if text == want => None,
            Ok(text) => Some(difference(&text, want)),
            Err(e) => Some(format!("error: {e}")),
        };
    }
    let error = &case["error"];
    match got {
        Ok(text) => {
            Some(format!("rendered {:?}, must fail: {error}", text.chars().take(80).collect::<String>()))
        }
        Err(Error::TemplateRaised(words)) => {
            let raised = error["kind"] == "raise_exception";
            (raised && error["message"] != words.as_str()).then(|| format!("raised {words:?}, not {error}"))
        }
        Err(e) => (error["kind"] == "raise_exception").then(|| format!("error {e}, not {error}")),
    }
}

fn difference(got: &str, want: &str) -> String {
    let same = got.chars().zip(want.chars()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(30);
    let part = |text: &str| text.chars().skip(from).take(110).collect::<String>();
    format!("differs at {same}:\n    got  {:?}\n    want {:?}", part(got), part(want))
}

#[test]
fn real_templates_render_as_transformers_renders_them() {
    let Some(dir) = material("templates") else { return };
    let mut templates: BTreeMap<String, Result<ChatTemplate, String>> = BTreeMap::new();
    for line in std::fs::read_to_string(dir.join("templates.jsonl")).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let source = row["template"].as_str().unwrap();
        let made =
            ChatTemplate::new(source, row["bos_token"].as_str(), row["eos_token"].as_str(), Map::new());
        templates.insert(row["id"].as_str().unwrap().to_owned(), made.map_err(|e| e.to_string()));
    }
    let mut failures: Vec<String> = Vec::new();
    let mut passed = 0;
    let file = std::io::BufReader::new(std::fs::File::open(dir.join("rendered.jsonl")).unwrap());
    for line in file.lines() {
        let case: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let wrong = match &templates[case["template"].as_str().unwrap()] {
            Ok(template) => compare(template, &case),
            // A template that does not compile fails for every conversation.
            Err(e) => case.get("expected").map(|_| e.clone()),
        };
        match wrong {
            None => passed += 1,
            Some(wrong) => failures.push(format!("{}: {wrong}", case["id"].as_str().unwrap())),
        }
    }
    println!("{} templates, {passed} of {} renderings equal", templates.len(), passed + failures.len());
    if let Ok(path) = std::env::var("TEXT_REPORT") {
        std::fs::write(path, failures.join("\n")).unwrap();
    }
    assert!(
        failures.is_empty(),
        "{} differ:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

#[test]
fn small_templates_render_as_jinja_renders_them() {
    // JINJA_CASES: another file of the same form.
    let given = std::env::var_os("JINJA_CASES").map(std::path::PathBuf::from);
    let Some(path) = given.or_else(|| material("templates/jinja.json")) else { return };
    let cases: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut passed, mut failures) = (0, Vec::new());
    for case in cases.as_array().unwrap() {
        let source = case["template"].as_str().unwrap();
        let context = case["context"].as_object().cloned().unwrap_or_default();
        let got = ChatTemplate::new(source, None, None, Map::new()).and_then(|template| {
            let (messages, options) = options(&context);
            template.render(&messages, options)
        });
        let right = match (&got, case["transformers"].as_str()) {
            (Ok(text), Some(want)) => text == want,
            (Err(_), None) => true,
            _ => false,
        };
        match right {
            true => passed += 1,
            false => failures.push(format!(
                "{}: {source:?}\n    {context:?}\n    got  {got:?}\n    want {:?} {}",
                case["name"], case["transformers"], case["transformers_error"]
            )),
        }
    }
    println!("jinja.json: {passed} of {} equal", passed + failures.len());
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
