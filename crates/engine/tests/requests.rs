//! How requests end, and what is refused.

mod fake;

use std::time::Duration;

use engine::{EngineConfig, EngineError, Event, FinishReason, Finished, Handle, Request, SamplingParams};
use fake::{VOCAB, config, fake, start};

fn greedy(tokens: Vec<u32>) -> Request {
    Request { params: SamplingParams::greedy(), ..Request::generate(tokens) }
}

fn end(handle: Handle) -> Finished {
    let last = handle.last();
    match last {
        Some(Event::Finished(finished)) => finished,
        other => panic!("the last event is {other:?}"),
    }
}

#[test]
fn an_answer_ends_by_length_by_context_and_by_a_stop_token() {
    let engine = start(fake(50), config(512, 32, 50));
    let answer = engine.run_one(Request { max_tokens: Some(5), ..greedy(vec![1, 2]) }).unwrap();
    let finished = answer.finished.unwrap();
    assert_eq!((finished.reason, answer.tokens.len()), (FinishReason::Length, 5));
    assert_eq!((finished.usage.prompt_tokens, finished.usage.completion_tokens), (2, 5));

    let full = engine.run_one(greedy(vec![1, 2])).unwrap();
    assert_eq!((full.finished.unwrap().reason, full.tokens.len()), (FinishReason::Context, 48));

    let id = answer.tokens[3];
    let first = answer.tokens.iter().position(|t| *t == id).unwrap();
    let stopped = Request { stop_ids: vec![90, id], max_tokens: Some(5), ..greedy(vec![1, 2]) };
    let answer = engine.run_one(stopped.clone()).unwrap();
    assert_eq!((answer.finished.unwrap().reason, answer.tokens.len()), (FinishReason::Eos(id), first + 1));
    let answer = engine.run_one(Request { ignore_eos: true, ..stopped }).unwrap();
    assert_eq!(answer.finished.unwrap().reason, FinishReason::Length);
}

#[test]
fn an_end_does_not_come_before_its_time() {
    let engine = start(fake(50), config(512, 32, 50));
    let free = engine.run_one(Request { max_tokens: Some(6), ..greedy(vec![1, 2]) }).unwrap().tokens;
    let stopped = Request { stop_ids: vec![free[0]], max_tokens: Some(6), ..greedy(vec![1, 2]) };
    assert_eq!(engine.run_one(stopped.clone()).unwrap().tokens.len(), 1);
    let answer = engine.run_one(Request { min_tokens: 4, ..stopped }).unwrap();
    assert!(!answer.tokens[..4].contains(&free[0]) && answer.tokens.len() >= 5, "{answer:?}");
}

#[test]
fn an_answer_that_repeats_itself_ends_if_that_was_asked() {
    let say = |loop_guard| {
        let mut model = fake(2000);
        model.script = (0..1000).map(|i| [5, 9, 2][i % 3]).collect();
        let request = Request { loop_guard, max_tokens: Some(600), ..greedy(vec![1, 2]) };
        let answer = start(model, config(512, 32, 2000)).run_one(request).unwrap();
        (answer.tokens.len(), answer.finished.unwrap().reason)
    };
    assert_eq!(say(true), (256, FinishReason::Loop));
    assert_eq!(say(false), (600, FinishReason::Length));
}

#[test]
fn log_probabilities_come_with_the_likeliest_others() {
    let engine = start(fake(50), config(512, 32, 50));
    let logprobs = |n| {
        let request = Request { max_tokens: Some(3), logprobs: n, ..greedy(vec![1, 2]) };
        let each =
            |event| if let Event::Token { id, logprob, .. } = event { Some((id, logprob)) } else { None };
        engine.submit(request).unwrap().filter_map(each).collect::<Vec<_>>()
    };
    assert!(logprobs(None).iter().all(|(_, l)| l.is_none()));
    for (id, logprob) in logprobs(Some(3)) {
        let logprob = logprob.unwrap();
        // Greedy: the token itself is the likeliest.
        assert_eq!((logprob.top.len(), logprob.top[0]), (3, (id, logprob.token)));
        assert!(logprob.top.is_sorted_by(|a, b| a.1 >= b.1) && logprob.token < 0.0);
    }
    assert!(logprobs(Some(0)).iter().all(|(_, l)| l.as_ref().is_some_and(|l| l.top.is_empty())));
}

#[test]
fn where_nothing_may_follow_the_answer_ends_with_the_reason() {
    let engine = start(fake(50), config(512, 32, 50));
    let logit_bias = (0..VOCAB as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    let params = SamplingParams { logit_bias, ..SamplingParams::default() };
    let error = engine.run_one(Request { params, ..greedy(vec![1]) }).unwrap_err().to_string();
    assert!(error.contains("--logit-bias"), "{error}");
}

#[test]
fn no_tokens_asked_for_is_an_answer_of_none() {
    let engine = start(fake(50), EngineConfig::default());
    let answer = engine.run_one(Request { max_tokens: Some(0), ..greedy(vec![1]) }).unwrap();
    assert_eq!((answer.tokens.len(), answer.finished.unwrap().reason), (0, FinishReason::Length));
}

#[test]
fn a_request_that_cannot_be_is_refused_with_what_is_wrong() {
    let engine = start(fake(50), EngineConfig::default());
    let refused = |request| engine.submit(request).err().unwrap().to_string();
    let long = refused(greedy(vec![1; 50]));
    assert!(long.contains("50 tokens long and the context holds 50"), "{long}");
    assert!(engine.submit(greedy(vec![1; 49])).is_ok());
    assert!(refused(greedy(vec![])).contains("no tokens"));
    let unknown = refused(greedy(vec![1, VOCAB as u32]));
    assert!(unknown.contains("token 1 of the prompt: found id 97"), "{unknown}");
    assert!(refused(Request { stop: vec!["x".into()], ..greedy(vec![1]) }).contains("tokenizer"));
    let params = SamplingParams { top_p: 2.0, ..SamplingParams::default() };
    assert!(refused(Request { params, ..greedy(vec![1]) }).contains("top_p"));
    assert!(engine.score(vec![1; 50], false).is_ok());
    let long = EngineError::TextTooLong { tokens: 51, context: 50 };
    assert_eq!(engine.score(vec![1; 51], false), Err(long));
}

#[test]
fn a_failing_model_ends_its_sequences_with_its_words_and_the_engine_goes_on() {
    let mut model = fake(200);
    model.fail_after = Some(40);
    let engine = start(model, config(512, 32, 200));
    let error = engine.run_one(greedy(vec![1; 10])).unwrap_err();
    assert!(error.to_string().contains("out of patience"), "{error}");
    assert!(engine.run_one(greedy(vec![1; 10])).is_err());
}

#[test]
fn nan_ends_the_sequence_it_befell_and_no_other() {
    let mut model = fake(200);
    model.nan_after = Some(42);
    let engine = start(model, config(512, 32, 400));
    let request = |last| Request { max_tokens: Some(1), ..greedy(vec![1, 2, last]) };
    let other = engine.submit(request(3)).unwrap();
    let error = engine.run_one(request(42)).unwrap_err();
    assert!(error.to_string().contains("the model produced NaN at position 2"), "{error}");
    assert_eq!(end(other).reason, FinishReason::Length);
}

#[test]
fn cancelling_ends_an_answer_that_runs_and_one_that_waits() {
    let mut model = fake(100_000);
    model.delay = Duration::from_millis(1);
    let engine = start(model, EngineConfig { max_running: 1, ..EngineConfig::default() });
    let mut running = engine.submit(greedy(vec![1])).unwrap();
    let waiting = engine.submit(greedy(vec![2])).unwrap();
    assert!(matches!(running.next(), Some(Event::Started { prompt_tokens: 1, cached_tokens: 0 })));
    assert!(matches!(running.next(), Some(Event::Token { .. })));
    waiting.canceller().cancel();
    assert_eq!(end(waiting).reason, FinishReason::Cancelled);
    running.canceller().cancel();
    let finished = end(running);
    assert_eq!(finished.reason, FinishReason::Cancelled);
    assert!(finished.usage.completion_tokens >= 1 && finished.timings.decode > Duration::ZERO);
}

#[test]
fn dropping_the_handle_makes_room_for_the_next() {
    let mut model = fake(100_000);
    model.delay = Duration::from_millis(1);
    let engine = start(model, EngineConfig { max_running: 1, ..EngineConfig::default() });
    drop(engine.submit(greedy(vec![1])).unwrap());
    let answer = engine.run_one(Request { max_tokens: Some(1), ..greedy(vec![2]) }).unwrap();
    assert_eq!(answer.tokens.len(), 1);
}

#[test]
fn dropping_the_engine_ends_what_runs() {
    let mut model = fake(100_000);
    model.delay = Duration::from_millis(1);
    let engine = start(model, EngineConfig::default());
    let handle = engine.submit(greedy(vec![1])).unwrap();
    drop(engine);
    assert_eq!(end(handle).reason, FinishReason::Cancelled);
}

#[test]
fn a_context_that_cannot_be_is_refused_and_one_that_is_not_asked_for_fits_itself() {
    let try_start = |config| engine::Engine::start(Box::new(fake(1000)), None, &config);
    let asked = |context| EngineConfig { context, cache_bytes: Some(8 * 320), ..EngineConfig::default() };
    let error = try_start(asked(Some(1001))).err().unwrap().to_string();
    assert!(error.contains("found 1001, expected 1 to 1000"), "{error}");
    assert!(matches!(
        try_start(asked(Some(500))).err(),
        Some(EngineError::CacheTooLarge { tokens: 500, .. })
    ));
    assert!(try_start(asked(Some(0))).is_err());
    assert_eq!(try_start(asked(Some(300))).unwrap().info().context, 300);
    let info = *try_start(asked(None)).unwrap().info();
    assert_eq!((info.context, info.model_context, info.cache_tokens), (320, 1000, 320));
    let none = EngineConfig { cache_bytes: Some(0), ..EngineConfig::default() };
    assert!(matches!(try_start(none).err(), Some(EngineError::CacheTooLarge { .. })));
}

/// A text is encoded in one step even if it is longer than a step, and each gets what is its own.
#[test]
fn texts_are_encoded_whole_and_each_gets_its_own() {
    let model = fake(50);
    let seen = model.seen.clone();
    let engine = start(model, config(8, 4, 64));
    let texts = vec![
        (vec![1, 2, 3], vec![0, 1, 1]),
        ((0..40).collect(), vec![]),
        (vec![5; 5], vec![]),
        (vec![9], vec![]),
    ];
    let found = engine.encode(texts).unwrap();
    let long: Vec<f32> = (0..40).map(|i| i as f32).collect();
    assert_eq!(found, [vec![1.0, 3.0, 4.0], long, vec![5.0; 5], vec![9.0]]);
    assert!(seen.lock().unwrap().rows.iter().all(|&rows| rows <= 8 || rows == 40));
    // Answers go on beside them, and the cache does not take one for the other.
    let before = engine.submit(Request { max_tokens: Some(20), ..greedy(vec![1, 2, 3]) }).unwrap();
    assert_eq!(engine.encode(vec![(vec![1, 2, 3], vec![])]).unwrap(), [vec![1.0, 2.0, 3.0]]);
    assert_eq!(end(before).reason, FinishReason::Length);
}

#[test]
fn what_a_model_cannot_do_is_refused_by_name() {
    let mut model = fake(50);
    model.spec.embedding = None;
    let engine = start(model, EngineConfig::default());
    assert_eq!(engine.encode(vec![(vec![1], vec![])]), Err(EngineError::NoPooling));
    let engine = start(fake(50), EngineConfig::default());
    let long = engine.encode(vec![(vec![1; 51], vec![])]);
    assert_eq!(long, Err(EngineError::TextTooLong { tokens: 51, context: 50 }));
    assert!(engine.encode(vec![(vec![1; 50], vec![])]).is_ok());
}
