//! The samplers that change logits: bias, penalties for what was said already, DRY.
//!
//! Rows of `CHAIN` (chain.rs), run before those that drop tokens unless the user orders otherwise.

use std::collections::{BTreeMap, HashSet};

use crate::chain::State;
use crate::{Candidates, SamplingParams};

/// Adds to the logits of named tokens; minus infinity forbids one (OpenAI API reference, `logit_bias`).
pub fn logit_bias(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, _: &[u32]) {
    let (forbidden, moved): (Vec<_>, Vec<_>) =
        params.logit_bias.iter().partition(|(_, bias)| *bias == f32::NEG_INFINITY);
    candidates.remove(&forbidden.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    for (id, bias) in moved {
        candidates.change(id, |logit| logit + bias);
    }
    candidates.settle();
}

/// Repetition, presence and frequency penalty over the last `repeat_last_n` tokens.
///
/// Repetition: a positive logit is divided by the penalty, a negative one multiplied (Keskar et al.
/// 2019, "CTRL", arXiv:1909.05858, section 4.1, as implemented by everyone since). Presence and
/// frequency: `logit - frequency * count - presence` for tokens that occur (OpenAI API reference).
pub fn penalties(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, tokens: &[u32]) {
    let SamplingParams { repeat_penalty, presence_penalty, frequency_penalty, .. } = *params;
    if repeat_penalty == 1.0 && presence_penalty == 0.0 && frequency_penalty == 0.0 {
        return;
    }
    for (id, count) in occurrences(last(tokens, params.repeat_last_n)) {
        candidates.change(id, |logit| {
            let scaled = if logit > 0.0 { logit / repeat_penalty } else { logit * repeat_penalty };
            scaled - (frequency_penalty * count as f32 + presence_penalty)
        });
    }
    candidates.settle();
}

/// The last `count` tokens; -1 is all.
fn last(tokens: &[u32], count: i64) -> &[u32] {
    let window = usize::try_from(count).unwrap_or(tokens.len());
    &tokens[tokens.len().saturating_sub(window)..]
}

fn occurrences(tokens: &[u32]) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for &token in tokens {
        *counts.entry(token).or_insert(0) += 1;
    }
    counts
}

/// DRY ("don't repeat yourself"; p-e-w 2024, text-generation-webui pull request 5677): a token that
/// would make a sequence of `n` tokens longer that stands at the end and stood somewhere before loses
/// `multiplier * base^(n - allowed_length)`, for the greatest `n` that is at least `allowed_length`.
/// Sequences do not reach over breakers, and a breaker loses nothing.
pub fn dry(candidates: &mut Candidates, params: &SamplingParams, state: &mut State, tokens: &[u32]) {
    if params.dry_multiplier == 0.0 {
        return;
    }
    let repeats = repeats(last(tokens, params.dry_penalty_last_n), &state.breakers);
    for (id, length) in repeats {
        if length >= params.dry_allowed_length && !state.breakers.contains(&id) {
            // A power this large is beyond f32 for every base that does anything.
            let excess = (length - params.dry_allowed_length).min(1 << 20) as i32;
            let penalty = f64::from(params.dry_multiplier) * power(params.dry_base.into(), excess);
            candidates.change(id, |logit| (f64::from(logit) - penalty) as f32);
        }
    }
    candidates.settle();
}

/// For each token that followed an earlier occurrence of how the text ends: the length of the longest.
/// By the Z-algorithm over the text read backwards (Gusfield 1997, "Algorithms on Strings, Trees, and
/// Sequences", section 1.4): linear however much repeats.
fn repeats(tokens: &[u32], breakers: &HashSet<u32>) -> BTreeMap<u32, usize> {
    let most = tokens.iter().rev().take_while(|t| !breakers.contains(t)).count();
    let back: Vec<u32> = tokens.iter().rev().copied().collect();
    let mut z = vec![0; back.len()];
    let (mut left, mut right) = (0, 0);
    let mut found = BTreeMap::new();
    for i in 1..back.len() {
        let mut length = if i < right { z[i - left].min(right - i) } else { 0 };
        while back.get(i + length).is_some_and(|t| *t == back[length]) {
            length += 1;
        }
        if i + length > right {
            (left, right) = (i, i + length);
        }
        z[i] = length;
        let longest = found.entry(back[i - 1]).or_insert(0);
        *longest = length.min(most).max(*longest);
    }
    found
}

/// `base^exponent` by squaring: the platform's own power may differ in the last bit.
fn power(base: f64, exponent: i32) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::testing::{ids, list, logits};

    fn off() -> SamplingParams {
        SamplingParams::neutral()
    }

    fn run(sampler: crate::chain::Apply, start: &[f32], params: SamplingParams, tokens: &[u32]) -> Vec<f32> {
        let mut c = list(start);
        sampler(&mut c, &params, &mut State::new(0), tokens);
        logits(&c)
    }

    #[test]
    fn logit_bias_by_hand() {
        let mut c = list(&[4.0, 3.0, -1.0]);
        let params =
            SamplingParams { logit_bias: vec![(2, 5.5), (1, f32::NEG_INFINITY), (99, 1.0)], ..off() };
        logit_bias(&mut c, &params, &mut State::new(0), &[]);
        assert_eq!((ids(&c), logits(&c)), (vec![0, 2], vec![4.0, 4.5]));
    }

    #[test]
    fn repetition_penalty_by_hand() {
        // CTRL: 4 / 2 = 2; -1 * 2 = -2; token 1 did not occur.
        let params = SamplingParams { repeat_penalty: 2.0, ..off() };
        assert_eq!(run(penalties, &[4.0, 3.0, -1.0], params, &[0, 2, 2]), [2.0, 3.0, -2.0]);
    }

    #[test]
    fn presence_and_frequency_penalty_by_hand() {
        // OpenAI: token 2 twice: -1 - 2 * 0.25 - 0.5 = -2; token 0 once: 4 - 0.25 - 0.5.
        let params = SamplingParams { presence_penalty: 0.5, frequency_penalty: 0.25, ..off() };
        assert_eq!(run(penalties, &[4.0, 3.0, -1.0], params, &[0, 2, 2]), [3.25, 3.0, -2.0]);
    }

    #[test]
    fn penalties_look_at_the_last_tokens_only() {
        let at = |repeat_last_n| {
            let params = SamplingParams { presence_penalty: 1.0, repeat_last_n, ..off() };
            run(penalties, &[4.0, 4.0, 4.0], params, &[0, 1, 2])
        };
        assert_eq!(at(0), [4.0, 4.0, 4.0]);
        assert_eq!(at(2), [4.0, 3.0, 3.0]);
        assert_eq!(at(-1), [3.0, 3.0, 3.0]);
        assert_eq!(at(100), [3.0, 3.0, 3.0]);
    }

    #[test]
    fn dry_by_hand() {
        // The text ends with 1 2 3. "1 2 3" stood before 4; "3" alone before 5 (after 6).
        let text = [1, 2, 3, 4, 6, 3, 5, 1, 2, 3];
        let params = SamplingParams { dry_multiplier: 0.5, dry_base: 2.0, ..off() };
        // Allowed 2: token 4 loses 0.5 * 2^(3 - 2) = 1; token 5 would repeat 1 only.
        assert_eq!(run(dry, &[0.0; 7], params.clone(), &text), [0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0]);
        // Allowed 1: 0.5 * 2^2 = 2 and 0.5 * 2^0.
        let one = SamplingParams { dry_allowed_length: 1, ..params.clone() };
        assert_eq!(run(dry, &[0.0; 7], one, &text), [0.0, 0.0, 0.0, 0.0, -2.0, -0.5, 0.0]);
        // The last 5 tokens hold only "3" before 5.
        let near = SamplingParams { dry_allowed_length: 1, dry_penalty_last_n: 5, ..params };
        assert_eq!(run(dry, &[0.0; 7], near, &text), [0.0, 0.0, 0.0, 0.0, 0.0, -0.5, 0.0]);
    }

    #[test]
    fn dry_stops_at_breakers() {
        let text = [1, 2, 3, 4, 1, 2, 3];
        let params = SamplingParams { dry_multiplier: 1.0, dry_base: 2.0, ..off() };
        let with = |breaker| {
            let mut c = list(&[0.0; 5]);
            let mut state = State::new(0);
            state.breakers = std::sync::Arc::new(HashSet::from([breaker]));
            dry(&mut c, &params, &mut state, &text);
            logits(&c)[4]
        };
        // 3 long; "2 3" after the breaker 1; "3" is less than the two that are allowed; 4 itself.
        assert_eq!((with(0), with(1), with(2), with(4)), (-2.0, -1.0, 0.0, 0.0));
    }

    #[test]
    fn repeats_are_those_that_looking_everywhere_finds() {
        let mut rng = crate::Rng::new(5);
        for n in [0, 1, 2, 5, 40, 200] {
            let tokens: Vec<u32> = (0..n).map(|_| (rng.next_f64() * 3.0) as u32).collect();
            let mut expected = BTreeMap::new();
            for i in 1..tokens.len() {
                let same = |k: &usize| *k < i && tokens[i - 1 - k] == tokens[tokens.len() - 1 - k];
                let length = (0..).take_while(same).count();
                let longest = expected.entry(tokens[i]).or_insert(0);
                *longest = length.max(*longest);
            }
            assert_eq!(repeats(&tokens, &HashSet::new()), expected, "{tokens:?}");
        }
    }

    #[test]
    fn a_long_repeat_is_the_least_likely_and_no_infinity() {
        let params = SamplingParams { dry_multiplier: 1.0, ..off() };
        assert_eq!(run(dry, &[0.0; 2], params, &[1; 5000])[1], f32::MIN);
    }
}
