//! From tokens to the text that a client sees: whole characters, stop strings, the tail.

mod fake;

use std::sync::Arc;

use engine::{Answer, Engine, EngineConfig, Event, FinishReason, Request, SamplingParams};
use fake::fake;
use text::Tokenizer;

/// Byte-level, one token per entry; 5 and 6 are the two bytes of `é`; 7 is the end.
const TOKENS: [&str; 8] = ["a", "b", "c", "Ġ", "ab", "Ã", "©", "<end>"];

fn tokenizer() -> Arc<Tokenizer> {
    let vocab: Vec<String> = TOKENS[..7].iter().enumerate().map(|(i, t)| format!("\"{t}\": {i}")).collect();
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{{"id": 7, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false}}],
        "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}},
        "decoder": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}},
        "model": {{"type": "BPE", "vocab": {{{}}}, "merges": ["a b"]}}}}"#,
        vocab.join(", ")
    );
    Arc::new(Tokenizer::from_json("tokenizer.json", json.as_bytes()).unwrap())
}

/// Runs a model that says these tokens after a prompt of one.
fn say(script: &[u32], request: Request) -> (Answer, Vec<String>) {
    let engine = || {
        let mut model = fake(100);
        model.script = script.to_vec();
        Engine::start(Box::new(model), Some(tokenizer()), &EngineConfig::default()).unwrap()
    };
    let text = |event| match event {
        Event::Token { text, .. } => Some(text),
        _ => None,
    };
    let first = engine();
    let pieces = first.submit(request.clone()).unwrap().filter_map(text).collect();
    (engine().run_one(request).unwrap(), pieces)
}

fn request(stop: &[&str]) -> Request {
    Request {
        params: SamplingParams::greedy(),
        stop: stop.iter().map(|s| s.to_string()).collect(),
        stop_ids: vec![7],
        max_tokens: Some(20),
        ..Request::generate(vec![0])
    }
}

#[test]
fn characters_come_whole_and_the_end_token_is_a_token_without_text() {
    let (answer, pieces) = say(&[0, 5, 6, 3, 4, 7], request(&[]));
    assert_eq!(pieces, ["a", "", "é", " ", "ab", ""]);
    assert_eq!((answer.text.as_str(), answer.tokens.as_slice()), ("aé ab", &[0, 5, 6, 3, 4, 7][..]));
    assert_eq!(answer.finished.unwrap().reason, FinishReason::Eos(7));
}

#[test]
fn a_stop_string_that_straddles_tokens_is_never_shown() {
    let (answer, pieces) = say(&[0, 1, 2, 0, 0], request(&["xyz", "bca"]));
    assert_eq!(pieces, ["a", "", "", ""]);
    assert_eq!(answer.tokens, [0, 1, 2, 0]);
    assert_eq!(answer.finished.unwrap().reason, FinishReason::Stop("bca".into()));
}

#[test]
fn what_was_held_for_a_stop_string_comes_with_the_last_token() {
    let (answer, pieces) = say(&[0, 1, 2, 7], request(&["bca"]));
    assert_eq!(pieces, ["a", "", "", "bc"]);
    assert_eq!(answer.text, "abc");
}

#[test]
fn a_character_that_the_length_cuts_is_marked() {
    let (answer, _) = say(&[0, 5, 6], Request { max_tokens: Some(2), ..request(&[]) });
    assert_eq!(answer.text, "a\u{FFFD}");
    assert_eq!(answer.finished.unwrap().reason, FinishReason::Length);
}

#[test]
fn what_breaks_a_repetition_is_looked_up_in_the_vocabulary() {
    let run = |breakers: &[&str]| {
        let params = SamplingParams {
            dry_multiplier: 1e9,
            dry_sequence_breaker: breakers.iter().map(|b| b.to_string()).collect(),
            ..SamplingParams::greedy()
        };
        let mut model = fake(100);
        model.script = vec![1, 2, 4, 1, 2, 4, 1, 2, 4];
        let engine = Engine::start(Box::new(model), Some(tokenizer()), &EngineConfig::default()).unwrap();
        engine.run_one(Request { params, max_tokens: Some(9), ..Request::generate(vec![0]) })
    };
    // "b" is in "b" and "ab": nothing is longer than a token. "c" alone cuts at one token too.
    assert_eq!(run(&["b"]).unwrap().tokens, [1, 2, 4, 1, 2, 4, 1, 2, 4]);
    assert_ne!(run(&["none of them"]).map(|a| a.tokens).unwrap_err().to_string(), "");
    assert_ne!(run(&["Z", "\n"]).unwrap_err().to_string(), "");
    assert_ne!(run(&["\n"]).unwrap().tokens, [1, 2, 4, 1, 2, 4, 1, 2, 4]);
}
