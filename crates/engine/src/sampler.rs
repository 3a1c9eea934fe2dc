//! From logits and the tokens so far to the next token.
//!
//! Stands after the model's forward and before `sequence.rs` appends the token: checks the logits,
//! runs the samplers of `chain.rs` over them, draws.

use std::collections::HashSet;
use std::sync::Arc;

use crate::candidates::{Mask, weight};
use crate::chain::{Link, LinkKind, State, link};
use crate::exponential::{exp, ln};
use crate::{Candidates, EngineError, SamplingParams};

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Token id.
    pub id: u32,
    /// How likely it was, where that was asked for.
    pub logprob: Option<Logprob>,
}

/// How likely a token was under the model itself, before any sampler or mask.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logprob {
    /// Its natural log-probability.
    pub token: f32,
    /// The likeliest tokens and their log-probabilities, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// What holds for one token only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// The tokens that a grammar allows; `None`: all.
    pub mask: Option<Mask<'a>>,
    /// Tokens that are not to come yet.
    pub banned: &'a [u32],
}

/// The sampler of one sequence: its parameters and its own random numbers.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    chain: Vec<&'static Link>,
    state: State,
    logprobs: Option<usize>,
}

impl Sampler {
    /// A sampler that gives the same tokens for the same seed and logits. `logprobs`: with each token
    /// its log-probability and those of so many others.
    pub fn new(params: SamplingParams, seed: u64, logprobs: Option<usize>) -> Self {
        let controlled = params.mirostat != 0 && params.samplers.contains(&"mirostat");
        let greedy = params.is_greedy();
        let runs = |link: &&Link| match link.kind {
            // Greedy needs no list of the likely.
            LinkKind::Truncate => !greedy && !controlled,
            LinkKind::Control => !greedy,
            LinkKind::Shift | LinkKind::Scale => true,
        };
        let chain = params.samplers.iter().filter_map(|name| link(name)).filter(runs).collect();
        Self { params, chain, state: State::new(seed), logprobs }
    }

    /// With the tokens over which DRY finds no repetition.
    #[must_use]
    pub fn breakers(mut self, breakers: Arc<HashSet<u32>>) -> Self {
        self.state.breakers = breakers;
        self
    }

    /// Chooses the token that follows `tokens` (prompt and answer so far; not empty), whose last one
    /// gave `logits`, `[vocab]`.
    ///
    /// # Errors
    /// [`EngineError::BadLogits`] when a logit is NaN or the largest is not finite;
    /// [`EngineError::NothingLeft`] when limits and biases leave no token.
    pub fn sample(
        &mut self,
        logits: &[f32],
        tokens: &[u32],
        limits: Limits<'_>,
    ) -> Result<Choice, EngineError> {
        let position = tokens.len().saturating_sub(1);
        check(logits, position)?;
        let mut candidates = candidates(logits, limits);
        for link in &self.chain {
            if candidates.max_logit() == f32::NEG_INFINITY {
                break;
            }
            (link.apply)(&mut candidates, &self.params, &mut self.state, tokens);
        }
        if candidates.max_logit() == f32::NEG_INFINITY {
            return Err(EngineError::NothingLeft { position });
        }
        let (id, probability) = draw(&candidates, &mut self.state);
        self.state.observe(probability, &self.params);
        Ok(Choice { id, logprob: self.logprobs.map(|top| logprob(logits, id, top)) })
    }
}

fn candidates(logits: &[f32], limits: Limits<'_>) -> Candidates {
    let mut candidates = match limits.mask {
        Some(mask) => Candidates::masked(logits, mask),
        None => Candidates::from_logits(logits),
    };
    // A grammar that only lets the answer end goes before the wish that it go on.
    if candidates.list.iter().any(|c| !limits.banned.contains(&c.id)) {
        candidates.remove(limits.banned);
    }
    candidates
}

fn logprob(logits: &[f32], id: u32, top: usize) -> Logprob {
    let total = log_sum_exp(logits);
    let likeliest = if top > 0 { Candidates::from_logits(logits).likeliest(top) } else { Vec::new() };
    Logprob {
        token: logits.get(id as usize).map_or(f32::NEG_INFINITY, |l| l - total),
        top: likeliest.iter().map(|c| (c.id, c.logit - total)).collect(),
    }
}

/// Refuses logits that are no distribution. `position` is for the message.
///
/// # Errors
/// [`EngineError::BadLogits`] when a logit is NaN or the largest is not finite.
pub fn check(logits: &[f32], position: usize) -> Result<(), EngineError> {
    let bad = |what| Err(EngineError::BadLogits { what, position });
    if logits.iter().any(|l| l.is_nan()) {
        return bad("NaN");
    }
    match max(logits) {
        m if m.is_finite() => Ok(()),
        _ => bad("infinite logits"),
    }
}

fn max(logits: &[f32]) -> f32 {
    logits.iter().fold(f32::NEG_INFINITY, |m, &l| if l > m { l } else { m })
}

/// `ln(sum(exp(logits)))`, summed in the order of the ids.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = max(logits);
    let sum: f64 = logits.iter().map(|&l| f64::from(exp(l - max))).sum();
    max + ln(sum) as f32
}

/// Draws a candidate with its probability, and says that. Takes one random number, even where there is
/// no choice, so that how many were taken does not depend on the logits.
fn draw(candidates: &Candidates, state: &mut State) -> (u32, f64) {
    let u = state.rng.next_f64();
    let max = candidates.max_logit();
    let total = candidates.total(max);
    let mut left = u * total;
    let mut chosen = (0, 1.0);
    for candidate in &candidates.list {
        let w = weight(candidate, max);
        if w > 0.0 {
            chosen = (candidate.id, w / total);
            if left < w {
                break;
            }
            left -= w;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(params: SamplingParams, seed: u64) -> Sampler {
        Sampler::new(params, seed, Some(2))
    }

    /// How often 100,000 draws gave each token beside the weights that it should have; the weights that
    /// are 0 must never come.
    fn chi_squared(params: SamplingParams, logits: &[f32], weights: &[f64]) -> f64 {
        let mut counts = vec![0u32; logits.len()];
        let mut s = sampler(params, 1234);
        for _ in 0..100_000 {
            counts[s.sample(logits, &[0], Limits::default()).unwrap().id as usize] += 1;
        }
        let total: f64 = weights.iter().sum();
        let mut chi2 = 0.0;
        for (count, weight) in counts.iter().zip(weights) {
            let expected = 100_000.0 * weight / total;
            match expected {
                0.0 => assert_eq!(*count, 0),
                _ => chi2 += (f64::from(*count) - expected).powi(2) / expected,
            }
        }
        chi2
    }

    #[test]
    fn a_hundred_thousand_draws_follow_the_distribution() {
        let logits = [1.0f32, 0.2, -0.5, 2.0, 1.5, -3.0, 0.0, 1.9];
        let order = |names: &[&'static str]| names.to_vec();
        let neutral = SamplingParams::neutral;
        // Parameters; the weight of a logit by the samplers' definitions; how many tokens are kept.
        type Case = (SamplingParams, fn(f64) -> f64, usize);
        let cases: [Case; 5] = [
            (neutral(), f64::exp, 8),
            (
                SamplingParams { temperature: 0.7, min_p: 0.05, ..neutral() },
                |l| if (l - 2.0).exp() >= 0.05 { (l / 0.7).exp() } else { 0.0 },
                7,
            ),
            (
                SamplingParams { temperature: 1.5, top_k: 4, ..neutral() },
                |l| if l >= 1.0 { (l / 1.5).exp() } else { 0.0 },
                4,
            ),
            // After a temperature of 2, min-p 0.5 keeps what is within 2 ln 2 of the top, not ln 2.
            (
                SamplingParams {
                    temperature: 2.0,
                    min_p: 0.5,
                    samplers: order(&["temperature", "min_p"]),
                    ..neutral()
                },
                |l| if l > 2.0 - 2.0 * 2f64.ln() { (l / 2.0).exp() } else { 0.0 },
                4,
            ),
            // XTC always: of 2, 1.9, 1.5, all above 0.15, only 1.5 stays, and what is below.
            (
                SamplingParams { xtc_probability: 1.0, xtc_threshold: 0.15, ..neutral() },
                |l| if l < 1.6 { l.exp() } else { 0.0 },
                6,
            ),
        ];
        for (params, weight, kept) in cases {
            let weights: Vec<f64> = logits.iter().map(|&l| weight(f64::from(l))).collect();
            assert_eq!(weights.iter().filter(|w| **w > 0.0).count(), kept, "{params:?}");
            // Passed by chance once in a thousand for 3, 5, 6 and 7 degrees of freedom.
            let bound = [16.27, 18.47, 20.52, 22.46, 24.32][kept - 4];
            let chi2 = chi_squared(params.clone(), &logits, &weights);
            assert!(chi2 < bound, "chi-squared {chi2} of {params:?}");
        }
    }

    #[test]
    fn mirostat_reaches_the_surprise_that_it_aims_at() {
        // A flat start would surprise by 9.97 bits on the average; Zipf's law over 1000 by 7.5.
        let logits: Vec<f32> = (1..=1000).map(|i| -(i as f32).ln()).collect();
        let total: f64 = (1..=1000).map(|i| 1.0 / f64::from(i)).sum();
        for tau in [3.0, 5.0] {
            let params =
                SamplingParams { mirostat: 2, mirostat_tau: tau, top_k: 1, ..SamplingParams::neutral() };
            let mut s = sampler(params, 7);
            // Its surprise is over what the bound leaves; that of the whole is no less.
            let mut bits = 0.0;
            for _ in 0..2000 {
                let id = s.sample(&logits, &[0], Limits::default()).unwrap().id;
                bits += (f64::from(id + 1) * total).log2();
            }
            assert!(bits / 2000.0 > f64::from(tau) - 0.3 && bits / 2000.0 < f64::from(tau) + 1.5, "{bits}");
        }
    }

    #[test]
    fn an_order_counts_and_a_sampler_that_is_left_out_does_nothing() {
        let chosen = |samplers: &[&'static str]| {
            let params = SamplingParams {
                logit_bias: vec![(2, 10.0)],
                top_k: 1,
                samplers: samplers.to_vec(),
                ..SamplingParams::neutral()
            };
            sampler(params, 0).sample(&[0.0, 30.0, 25.0], &[0], Limits::default()).unwrap().id
        };
        assert_eq!(chosen(&["logit_bias", "top_k"]), 2);
        assert_eq!(chosen(&["top_k", "logit_bias"]), 1);
        assert_eq!(chosen(&["top_k"]), 1);
    }

    #[test]
    fn limits_go_before_likelihood() {
        let params = SamplingParams::greedy();
        let at = |mask, banned| {
            let choice = sampler(params.clone(), 0).sample(&[1.0, 5.0, 3.0], &[0], Limits { mask, banned });
            choice.map(|c| c.id)
        };
        assert_eq!(at(Some(&[0b101]), &[]), Ok(2));
        assert_eq!(at(None, &[1]), Ok(2));
        // What only may end ends, though it should not yet.
        assert_eq!(at(Some(&[0b010]), &[1]), Ok(1));
        assert_eq!(at(Some(&[0]), &[]), Err(EngineError::NothingLeft { position: 0 }));
    }

    #[test]
    fn greedy_takes_the_largest_and_the_lowest_id_of_equals() {
        let mut s = sampler(SamplingParams::greedy(), 0);
        assert_eq!(s.sample(&[0.0, 5.0, 5.0, 1.0], &[0], Limits::default()).unwrap().id, 1);
        // Penalties work under greedy too.
        let mut s = sampler(SamplingParams { presence_penalty: 1.0, ..SamplingParams::greedy() }, 0);
        assert_eq!(s.sample(&[0.0, 5.0, 5.0, 1.0], &[1], Limits::default()).unwrap().id, 2);
    }

    #[test]
    fn logprob_is_of_the_model_and_not_of_the_samplers() {
        let mut s = sampler(SamplingParams { top_k: 1, temperature: 5.0, ..SamplingParams::neutral() }, 0);
        let choice = s.sample(&[0.25f32.ln(), 0.75f32.ln()], &[0], Limits::default()).unwrap();
        assert_eq!(choice.id, 1);
        let logprob = choice.logprob.unwrap();
        assert!((logprob.token - 0.75f32.ln()).abs() < 1e-6);
        assert_eq!((logprob.top[0], logprob.top[1].0), ((1, logprob.token), 0));
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits: Vec<f32> = (0..50).map(|i| (i * 7 % 13) as f32 / 4.0).collect();
        let run = |seed| {
            let mut s = sampler(SamplingParams::default(), seed);
            (0..40).map(|_| s.sample(&logits, &[0], Limits::default()).unwrap().id).collect::<Vec<_>>()
        };
        assert_eq!(run(9), run(9));
        assert_ne!(run(9), run(10));
        // A promise to users: these tokens belong to this seed for good.
        assert_eq!(run(9)[..8], EXPECTED);
    }
    const EXPECTED: [u32; 8] = [46, 48, 37, 27, 11, 24, 48, 37];

    #[test]
    fn logits_that_are_no_distribution_are_refused() {
        let mut s = sampler(SamplingParams::default(), 0);
        let nan = s.sample(&[0.0, f32::NAN], &[1, 2, 3], Limits::default()).unwrap_err().to_string();
        assert!(nan.contains("model produced NaN at position 2"), "{nan}");
        assert!(s.sample(&[0.0, f32::INFINITY], &[0], Limits::default()).is_err());
        assert!(s.sample(&[f32::NEG_INFINITY; 2], &[0], Limits::default()).is_err());
        // One that is impossible is not an error, and never comes.
        for _ in 0..100 {
            assert_eq!(s.sample(&[0.0, f32::NEG_INFINITY], &[0], Limits::default()).unwrap().id, 0);
        }
    }
}
