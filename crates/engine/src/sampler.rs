//! From logits and the tokens so far to the next token.
//!
//! Stands after the model's forward and before `sequence.rs` appends the token: checks the logits,
//! runs the samplers of `chain.rs` over them, draws.

use crate::chain::{CHAIN, Candidates, LinkKind, weight};
use crate::{EngineError, Rng, SamplingParams};

/// A chosen token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Token id.
    pub id: u32,
    /// Its natural log-probability under the model itself, before any sampler; only when asked for.
    pub logprob: Option<f32>,
}

/// The sampler of one sequence: its parameters and its own random numbers.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    rng: Rng,
    logprobs: bool,
}

impl Sampler {
    /// A sampler that gives the same tokens for the same seed and logits.
    pub fn new(params: SamplingParams, seed: u64, logprobs: bool) -> Self {
        Self { params, rng: Rng::new(seed), logprobs }
    }

    /// Chooses the token that follows `tokens` (prompt and answer so far; not empty), whose last one
    /// gave `logits`, `[vocab]`.
    ///
    /// # Errors
    /// [`EngineError::BadLogits`] when a logit is NaN or the largest is not finite.
    pub fn sample(&mut self, logits: &[f32], tokens: &[u32]) -> Result<Choice, EngineError> {
        check(logits, tokens.len().saturating_sub(1))?;
        let mut candidates = Candidates::from_logits(logits);
        for link in CHAIN {
            // Greedy needs no list of the likely: they never lack the likeliest.
            if self.params.temperature > 0.0 || link.kind != LinkKind::Truncate {
                (link.apply)(&mut candidates, &self.params, tokens);
            }
        }
        let id = draw(&candidates, &mut self.rng);
        let logprob =
            if self.logprobs { logits.get(id as usize).map(|l| l - log_sum_exp(logits)) } else { None };
        Ok(Choice { id, logprob })
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
    let sum: f64 = logits.iter().map(|&l| f64::from(crate::chain::exp(l - max))).sum();
    max + sum.ln() as f32
}

/// Draws a candidate with its probability. Takes one random number, even where there is no choice, so
/// that how many were taken does not depend on the samplers.
fn draw(candidates: &Candidates, rng: &mut Rng) -> u32 {
    let u = rng.next_f64();
    let max = candidates.max_logit();
    let total: f64 = candidates.list.iter().map(|c| weight(c, max)).sum();
    let mut left = u * total;
    let mut chosen = 0;
    for candidate in &candidates.list {
        let w = weight(candidate, max);
        if w > 0.0 {
            chosen = candidate.id;
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
        Sampler::new(params, seed, true)
    }

    #[test]
    fn a_hundred_thousand_draws_follow_the_distribution() {
        // 8 tokens, temperature 0.7, min_p 0.05: the truncated ones must never come.
        let logits = [1.0f32, 0.2, -0.5, 2.0, 1.5, -3.0, 0.0, 1.9];
        let params = SamplingParams { temperature: 0.7, min_p: 0.05, ..SamplingParams::neutral() };
        let kept = |l: f32| f64::from(l - 2.0).exp() >= 0.05;
        let w: Vec<f64> =
            logits.iter().map(|&l| if kept(l) { (f64::from(l) / 0.7).exp() } else { 0.0 }).collect();
        let total: f64 = w.iter().sum();
        let mut counts = [0u32; 8];
        let mut s = sampler(params, 1234);
        for _ in 0..100_000 {
            counts[s.sample(&logits, &[0]).unwrap().id as usize] += 1;
        }
        let mut chi2 = 0.0;
        for (count, w) in counts.iter().zip(&w) {
            let expected = 100_000.0 * w / total;
            if expected == 0.0 {
                assert_eq!(*count, 0);
            } else {
                chi2 += (f64::from(*count) - expected).powi(2) / expected;
            }
        }
        // 7 tokens kept, 6 degrees of freedom: 22.46 is passed by chance once in a thousand.
        assert_eq!(w.iter().filter(|w| **w > 0.0).count(), 7);
        assert!(chi2 < 22.46, "chi-squared {chi2}, counts {counts:?}");
    }

    #[test]
    fn greedy_takes_the_largest_and_the_lowest_id_of_equals() {
        let mut s = sampler(SamplingParams::greedy(), 0);
        assert_eq!(s.sample(&[0.0, 5.0, 5.0, 1.0], &[0]).unwrap().id, 1);
        // Penalties work under greedy too.
        let mut s = sampler(SamplingParams { presence_penalty: 1.0, ..SamplingParams::greedy() }, 0);
        assert_eq!(s.sample(&[0.0, 5.0, 5.0, 1.0], &[1]).unwrap().id, 2);
    }

    #[test]
    fn logprob_is_of_the_model_and_not_of_the_samplers() {
        let mut s = sampler(SamplingParams { top_k: 1, temperature: 5.0, ..SamplingParams::neutral() }, 0);
        let choice = s.sample(&[0.25f32.ln(), 0.75f32.ln()], &[0]).unwrap();
        assert_eq!(choice.id, 1);
        assert!((choice.logprob.unwrap() - 0.75f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits: Vec<f32> = (0..50).map(|i| (i * 7 % 13) as f32 / 4.0).collect();
        let run = |seed| {
            let mut s = sampler(SamplingParams::default(), seed);
            (0..40).map(|_| s.sample(&logits, &[0]).unwrap().id).collect::<Vec<_>>()
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
        let nan = s.sample(&[0.0, f32::NAN], &[1, 2, 3]).unwrap_err().to_string();
        assert!(nan.contains("model produced NaN at position 2"), "{nan}");
        assert!(s.sample(&[0.0, f32::INFINITY], &[0]).is_err());
        assert!(s.sample(&[f32::NEG_INFINITY; 2], &[0]).is_err());
        // One that is impossible is not an error, and never comes.
        for _ in 0..100 {
            assert_eq!(s.sample(&[0.0, f32::NEG_INFINITY], &[0]).unwrap().id, 0);
        }
    }
}
