//! Answers under a constraint: they satisfy it or are said to be cut, and what shares the batch does not
//! matter.

mod fake;

use std::sync::Arc;

use engine::{
    Answer, Constraint, Engine, EngineConfig, Event, FinishReason, Finished, Request, SamplingParams,
};
use fake::{config, fake};
use serde_json::json;
use text::Tokenizer;

/// The printable characters, id 0 a space; 95 is the end.
fn tokenizer() -> Arc<Tokenizer> {
    let mut vocab = serde_json::Map::new();
    for byte in b' '..=b'~' {
        let text = if byte == b' ' { 'Ġ' } else { char::from(byte) };
        vocab.insert(text.into(), (byte - b' ').into());
    }
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{"id": 95, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false}],
        "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []}
    });
    Arc::new(Tokenizer::from_json("tokenizer.json", tokenizer.to_string().as_bytes()).unwrap())
}

fn start(config: &EngineConfig) -> (Engine, Arc<std::sync::Mutex<fake::Seen>>) {
    let model = fake(600);
    let seen = model.seen.clone();
    (Engine::start(Box::new(model), Some(tokenizer()), config).unwrap(), seen)
}

fn request(constraint: Constraint, seed: u64) -> Request {
    Request {
        params: SamplingParams { temperature: 1.0, ..SamplingParams::neutral() },
        seed: Some(seed),
        constraint: Some(constraint),
        stop_ids: vec![95],
        max_tokens: Some(300),
        ..Request::generate(vec![1, 2, 3])
    }
}

fn run(constraint: Constraint, seed: u64) -> (Answer, Finished) {
    let answer = start(&EngineConfig::default()).0.run_one(request(constraint, seed)).unwrap();
    let finished = answer.finished.clone().unwrap();
    (answer, finished)
}

fn schema() -> Constraint {
    Constraint::JsonSchema(json!({
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green"]},
            "count": {"type": "integer", "minimum": 3, "maximum": 40}
        },
        "required": ["colour", "count"],
        "additionalProperties": false
    }))
}

#[test]
fn a_model_that_says_anything_says_what_the_schema_allows() {
    for seed in 0..20 {
        let (answer, finished) = run(schema(), seed);
        assert_eq!(finished.satisfied, Some(true), "{}", answer.text);
        assert_eq!(finished.reason, FinishReason::Complete);
        let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert!(value["colour"] == "red" || value["colour"] == "green", "{value}");
        assert!((3..=40).contains(&value["count"].as_i64().unwrap()), "{value}");
    }
}

#[test]
fn an_answer_that_may_end_ends_by_the_end_token_and_is_whole() {
    let mut ends = 0;
    for seed in 0..20 {
        let (answer, finished) = run(Constraint::Regex("[a-f]{2,}".into()), seed);
        let text = answer.text.as_str();
        assert!(text.len() >= 2 && text.bytes().all(|b| (b'a'..=b'f').contains(&b)), "{text}");
        assert_eq!(finished.satisfied, Some(true));
        ends += usize::from(finished.reason == FinishReason::Eos(95));
    }
    assert!(ends > 10, "{ends}");
}

#[test]
fn what_the_length_cuts_is_said_to_be_cut() {
    let request = Request { max_tokens: Some(8), ..request(schema(), 1) };
    let finished = start(&EngineConfig::default()).0.run_one(request).unwrap().finished.unwrap();
    assert_eq!((finished.reason, finished.satisfied), (FinishReason::Length, Some(false)));
}

#[test]
fn what_can_only_follow_is_computed_in_one_step() {
    let (engine, seen) = start(&EngineConfig::default());
    let constraint = Constraint::Regex("(yes, without any doubt|no, and never again)".into());
    let handle = engine.submit(Request { logprobs: Some(0), ..request(constraint, 3) }).unwrap();
    let mut drawn = 0;
    let mut text = String::new();
    for event in handle {
        if let Event::Token { text: piece, logprob, .. } = event {
            text += &piece;
            drawn += usize::from(logprob.is_some());
        }
    }
    assert!(text == "yes, without any doubt" || text == "no, and never again", "{text}");
    assert!(drawn <= 2, "{drawn} tokens were drawn");
    drop(engine);
    // The prompt, and for each token drawn but the last what it forced.
    assert!(seen.lock().unwrap().rows.len() <= 2, "{:?}", seen.lock().unwrap().rows);
}

#[test]
fn among_others_and_cut_into_small_steps_an_answer_is_the_same() {
    let requests = || {
        let constraints = [schema(), Constraint::Json, Constraint::Regex("(ab|cd)+e{3}".into())];
        let all: Vec<Request> = (0..9).map(|i| request(constraints[i % 3].clone(), i as u64)).collect();
        all.into_iter().map(|r| Request { max_tokens: Some(60), ..r })
    };
    let alone: Vec<Vec<u32>> =
        requests().map(|r| start(&EngineConfig::default()).0.run_one(r).unwrap().tokens).collect();
    for (budget, block, cache) in [(512, 32, 2000), (5, 4, 2000), (64, 4, 100)] {
        let engine = start(&config(budget, block, cache)).0;
        let handles: Vec<_> = requests().map(|r| engine.submit(r).unwrap()).collect();
        for (handle, expected) in handles.into_iter().zip(&alone) {
            let id = |e| if let Event::Token { id, .. } = e { Some(id) } else { None };
            assert_eq!(handle.filter_map(id).collect::<Vec<_>>(), *expected);
        }
    }
}

#[test]
fn a_constraint_may_begin_after_a_reasoning() {
    let mut model = fake(600);
    // "hm.": then whatever the regular expression allows.
    model.script = vec![0, 0, b'h' - b' ', b'm' - b' ', b'.' - b' '].into_iter().map(u32::from).collect();
    let engine = Engine::start(Box::new(model), Some(tokenizer()), &EngineConfig::default()).unwrap();
    let request = Request {
        params: SamplingParams::greedy(),
        constraint_after: Some("m.".into()),
        ..request(Constraint::Regex("[0-9]{4}".into()), 0)
    };
    let answer = engine.run_one(request.clone()).unwrap();
    let rest = answer.text.strip_prefix("hm.").unwrap();
    assert!(rest.len() == 4 && rest.bytes().all(|b| b.is_ascii_digit()), "{}", answer.text);
    assert_eq!(answer.finished.unwrap().satisfied, Some(true));
    // One that never comes: not satisfied.
    let never = Request { constraint_after: Some("@@@".into()), max_tokens: Some(5), ..request };
    assert_eq!(engine.run_one(never).unwrap().finished.unwrap().satisfied, Some(false));
}

#[test]
fn a_constraint_that_cannot_be_is_refused_before_anything_runs() {
    let engine = start(&EngineConfig::default()).0;
    let refused = |constraint| engine.submit(request(constraint, 0)).err().unwrap().to_string();
    let unique = refused(Constraint::JsonSchema(json!({"type": "array", "uniqueItems": true})));
    assert!(unique.contains("uniqueItems"), "{unique}");
    assert!(refused(Constraint::Regex("(".into())).contains("constraint"));
    assert!(refused(Constraint::Grammar("root ::= missing".into())).contains("missing"));
    assert!(refused(Constraint::JsonSchema(json!(false))).contains("allows nothing"));
    let no_tokenizer = fake::start(fake(50), EngineConfig::default());
    assert!(no_tokenizer.submit(request(Constraint::Json, 0)).is_err());
}
