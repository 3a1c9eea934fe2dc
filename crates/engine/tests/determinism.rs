//! The same question has the same answer, whatever else runs and however the work is cut.

mod fake;

use engine::{Engine, Event, Finished, Limits, Request, Sampler, SamplingParams};
use fake::{VOCAB, config, expected_in, expected_logits, fake, start};
use models::{Rope, Scaling};

/// Requests of many lengths that share beginnings, greedy and drawn.
fn requests() -> Vec<Request> {
    (0..8u32)
        .map(|i| {
            let shared = (0..20).map(|t| t * 3 % VOCAB as u32);
            let own = (0..i * 5).map(|t| (t * 7 + i) % VOCAB as u32);
            let params = if i % 3 == 0 { SamplingParams::greedy() } else { SamplingParams::default() };
            Request {
                params: SamplingParams { repeat_penalty: 1.1, ..params },
                seed: Some(u64::from(i)),
                max_tokens: Some(30 + i as usize),
                logprobs: Some(0),
                ..Request::generate(shared.chain(own).collect())
            }
        })
        .collect()
}

/// The answer by the definition: the sampler over the logits of the whole history, no engine.
fn by_definition(request: &Request) -> Vec<u32> {
    let mut sampler = Sampler::new(request.params.clone(), request.seed.unwrap(), None);
    let mut tokens = request.tokens.clone();
    for _ in 0..request.max_tokens.unwrap() {
        let id = sampler.sample(&expected_logits(&tokens), &tokens, Limits::default()).unwrap().id;
        tokens.push(id);
    }
    tokens.split_off(request.tokens.len())
}

fn together(engine: &Engine, requests: &[Request]) -> Vec<Vec<u32>> {
    let handles: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).unwrap()).collect();
    let tokens = |event| match event {
        Event::Token { id, .. } => Some(id),
        _ => None,
    };
    handles.into_iter().map(|h| h.filter_map(tokens).collect()).collect()
}

#[test]
fn alone_an_answer_is_what_the_definition_says() {
    for request in requests() {
        let engine = start(fake(200), config(512, 32, 200));
        let answer = engine.run_one(request.clone()).unwrap();
        assert_eq!(answer.tokens, by_definition(&request));
    }
}

#[test]
fn among_seven_others_it_is_the_same_however_tight_budget_blocks_and_cache_are() {
    let expected: Vec<_> = requests().iter().map(by_definition).collect();
    // Caches from one that holds a single sequence (so that all others are thrown out again and
    // again) to one that holds all.
    for (budget, block_size, cache) in
        [(512, 32, 2000), (7, 4, 100), (1, 1, 93), (3, 8, 128), (16, 2, 200), (512, 32, 96), (9, 5, 150)]
    {
        let model = fake(93);
        let seen = model.seen.clone();
        let engine = start(model, config(budget, block_size, cache));
        let got = together(&engine, &requests());
        assert_eq!(got, expected, "budget {budget}, blocks of {block_size}, cache of {cache} tokens");
        // Once more, with whatever the prefix cache has kept.
        assert_eq!(together(&engine, &requests()), expected);
        assert!(seen.lock().unwrap().rows.iter().all(|rows| *rows <= budget), "budget {budget}");
    }
}

#[test]
fn a_tight_cache_really_preempts() {
    // All eight need 8 * 20 + 5 * 28 + 8 * 30 + 28 = 568 rows if nothing is computed twice or shared.
    let model = fake(93);
    let seen = model.seen.clone();
    let engine = start(model, config(64, 4, 96));
    together(&engine, &requests());
    drop(engine);
    let seen = seen.lock().unwrap();
    let rows: usize = seen.rows.iter().sum();
    let answered: usize = requests().iter().filter_map(|r| r.max_tokens).sum();
    assert_eq!(seen.outputs, answered, "one output per token of an answer");
    assert!(rows > answered + 8 * 20, "{rows} rows: nothing was computed again");
    assert!(seen.spans.iter().any(|&n| n > 1), "nothing ran together");
}

#[test]
fn a_step_never_exceeds_its_budget_and_long_prompts_are_cut() {
    let model = fake(2000);
    let seen = model.seen.clone();
    let engine = start(model, config(50, 32, 4000));
    let long = Request { max_tokens: Some(3), ..Request::generate(vec![5; 1000]) };
    engine.run_one(long).unwrap();
    drop(engine);
    assert_eq!(seen.lock().unwrap().rows, [vec![50; 20], vec![1; 2]].concat());
}

#[test]
fn a_prompt_that_was_read_is_not_read_again() {
    let model = fake(500);
    let seen = model.seen.clone();
    let engine = start(model, config(512, 32, 500));
    let request = Request { max_tokens: Some(2), ..Request::generate((0..90).collect()) };
    let cached = |_| {
        engine.submit(request.clone()).unwrap().find_map(|event| match event {
            Event::Finished(Finished { usage, .. }) => Some(usage.cached_tokens),
            _ => None,
        })
    };
    let cached: Vec<_> = (0..2).map(cached).collect();
    assert_eq!(cached, [Some(0), Some(64)]);
    drop(engine);
    assert_eq!(seen.lock().unwrap().rows, [90, 1, 26, 1]);
}

#[test]
fn scores_are_the_same_however_they_are_cut() {
    let tokens: Vec<u32> = (0..90).map(|t| t * 5 % VOCAB as u32).collect();
    let mut all = Vec::new();
    for (budget, block) in [(512, 32), (7, 4), (1, 1)] {
        let engine = start(fake(200), config(budget, block, 200));
        // A generation first, so that the prefix cache knows the beginning.
        engine.run_one(Request { max_tokens: Some(1), ..Request::generate(tokens[..40].to_vec()) }).unwrap();
        all.push(engine.score(tokens.clone(), true).unwrap());
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    let score = &all[0];
    assert_eq!((score.logprobs.len(), score.logits.len(), score.logprobs[0]), (90, 90, None));
    for (position, logits) in score.logits.iter().enumerate() {
        assert_eq!(*logits, expected_logits(&tokens[..=position]));
        let Some(next) = tokens.get(position + 1) else { continue };
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let exact = f64::from(logits[*next as usize]) - sum.ln();
        let got = f64::from(score.logprobs[position + 1].unwrap());
        assert!((got - exact).abs() < 1e-5, "position {position}: {got}, expected {exact}");
    }
}

#[test]
fn scores_and_answers_share_a_tight_cache() {
    let tokens: Vec<u32> = (0..90).map(|t| t * 5 % VOCAB as u32).collect();
    let alone = start(fake(93), config(512, 32, 93)).score(tokens.clone(), true).unwrap();
    let engine = start(fake(93), config(11, 4, 96));
    let handles: Vec<_> = requests().into_iter().map(|r| engine.submit(r).unwrap()).collect();
    assert_eq!(engine.score(tokens, true).unwrap(), alone);
    for (handle, request) in handles.into_iter().zip(requests()) {
        let got: Vec<u32> =
            handle.filter_map(|e| if let Event::Token { id, .. } = e { Some(id) } else { None }).collect();
        assert_eq!(got, by_definition(&request));
    }
}

#[test]
fn rotations_that_follow_the_length_are_computed_again_when_it_changes_them() {
    let long = Scaling::LongRope { short: vec![1.0], long: vec![2.0], original: 40, attention_factor: 1.0 };
    for scaling in [Scaling::Dynamic { factor: 2.0, original: 40 }, long] {
        let rope = Rope { dim: 2, theta: 1e4, interleaved: false, scaling };
        let model = || {
            let mut model = fake(93);
            model.spec.ropes = vec![rope.clone()];
            model
        };
        let spec = model().spec;
        let engine = start(model(), config(16, 4, 120));
        for request in requests() {
            let mut sampler = Sampler::new(request.params.clone(), request.seed.unwrap(), None);
            let mut tokens = request.tokens.clone();
            for _ in 0..request.max_tokens.unwrap() {
                let logits = expected_in(spec.rope_regime(tokens.len()), &tokens);
                tokens.push(sampler.sample(&logits, &tokens, Limits::default()).unwrap().id);
            }
            assert_eq!(engine.run_one(request.clone()).unwrap().tokens, tokens[request.tokens.len()..]);
        }
    }
}
