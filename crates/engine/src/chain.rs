//! The samplers: each a pure function over a list of candidates, in one order, in one table.
//!
//! Stands inside `sampler.rs`, which makes the list from logits before and draws from it after.
//! A sampler is a function here, a row of [`CHAIN`], and a field of `SamplingParams`.
//!
//! Nothing here calls the platform's mathematics: [`exp`] is made of sums and products in a fixed
//! order, so that a seed gives the same text everywhere the logits are the same.

use std::collections::BTreeMap;

use crate::SamplingParams;

/// A token that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// Its logit as the samplers so far have left it.
    pub logit: f32,
}

/// The tokens that may still be chosen; never empty.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// In ascending order of id until `sorted`.
    pub list: Vec<Candidate>,
    /// Whether the list is in descending order of logit (equal logits: ascending id).
    pub sorted: bool,
}

/// What a sampler does to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Changes logits, and so perhaps which is the largest.
    Shift,
    /// Drops tokens, never the likeliest: nothing to do when that one is chosen anyway.
    Truncate,
    /// Changes how much likelier a token is than another, but not their order.
    Scale,
}

/// A row of the chain.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Its name, as in an order given by the user.
    pub name: &'static str,
    /// What it does to the list.
    pub kind: LinkKind,
    /// Applies it. The tokens are those so far, prompt and answer.
    pub apply: fn(&mut Candidates, &SamplingParams, &[u32]),
}

/// The samplers in the order in which they are applied (llama.cpp's default order).
pub const CHAIN: &[Link] = &[
    Link { name: "penalties", kind: LinkKind::Shift, apply: penalties },
    Link { name: "top_k", kind: LinkKind::Truncate, apply: top_k },
    Link { name: "top_p", kind: LinkKind::Truncate, apply: top_p },
    Link { name: "min_p", kind: LinkKind::Truncate, apply: min_p },
    Link { name: "temperature", kind: LinkKind::Scale, apply: temperature },
];

/// Repetition, presence and frequency penalty over the last `repeat_last_n` tokens.
///
/// Repetition: a positive logit is divided by the penalty, a negative one multiplied (Keskar et al.
/// 2019, "CTRL", arXiv:1909.05858, section 4.1, as implemented by everyone since). Presence and
/// frequency: `logit - frequency * count - presence` for tokens that occur (OpenAI API reference).
fn penalties(candidates: &mut Candidates, params: &SamplingParams, tokens: &[u32]) {
    let SamplingParams { repeat_penalty, presence_penalty, frequency_penalty, .. } = *params;
    if repeat_penalty == 1.0 && presence_penalty == 0.0 && frequency_penalty == 0.0 {
        return;
    }
    let window = usize::try_from(params.repeat_last_n).unwrap_or(tokens.len());
    for (id, count) in occurrences(&tokens[tokens.len().saturating_sub(window)..]) {
        let Some(logit) = candidates.logit_mut(id) else { continue };
        if *logit == f32::NEG_INFINITY {
            continue;
        }
        let scaled = if *logit > 0.0 { *logit / repeat_penalty } else { *logit * repeat_penalty };
        let penalised = scaled - (frequency_penalty * count as f32 + presence_penalty);
        // A penalty near the ends of f32 may overflow; infinity would be no distribution any more.
        *logit = penalised.clamp(f32::MIN, f32::MAX);
        candidates.sorted = false;
    }
}

fn occurrences(tokens: &[u32]) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for &token in tokens {
        *counts.entry(token).or_insert(0) += 1;
    }
    counts
}

/// Keeps the `top_k` likeliest tokens (Fan et al. 2018, "Hierarchical Neural Story Generation",
/// arXiv:1805.04833).
fn top_k(candidates: &mut Candidates, params: &SamplingParams, _: &[u32]) {
    if params.top_k == 0 || params.top_k >= candidates.list.len() {
        return;
    }
    candidates.list = candidates.likeliest(params.top_k);
    candidates.sorted = true;
}

/// Keeps the smallest set of likeliest tokens whose probabilities sum to at least `top_p`: the
/// nucleus (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751).
fn top_p(candidates: &mut Candidates, params: &SamplingParams, _: &[u32]) {
    if params.top_p >= 1.0 {
        return;
    }
    let max = candidates.max_logit();
    // Only the nucleus has to be in order. The probability in bands of about equal logits shows in
    // which band it ends, before anything is sorted.
    let band = |c: &Candidate| (c.rank() >> 52) as usize;
    let (mut bands, mut total) = (vec![0.0; 1 << 12], 0.0);
    for candidate in &candidates.list {
        bands[band(candidate)] += weight(candidate, max);
        total += weight(candidate, max);
    }
    let target = f64::from(params.top_p) * total;
    let reaches = |sum: &mut f64, part: f64| {
        *sum += part;
        // Even a target of 0 needs one token.
        *sum >= target && *sum > 0.0
    };
    let mut sum = 0.0;
    let last_band = bands.iter().position(|&part| reaches(&mut sum, part)).unwrap_or(bands.len());
    candidates.list.retain(|c| band(c) <= last_band);
    candidates.list = candidates.likeliest(candidates.list.len());
    candidates.sorted = true;
    let mut sum = 0.0;
    if let Some(last) = candidates.list.iter().position(|c| reaches(&mut sum, weight(c, max))) {
        candidates.list.truncate(last + 1);
    }
}

/// Keeps tokens at least `min_p` times as likely as the likeliest (Nguyen et al. 2024, "Turning Up
/// the Heat: Min-p Sampling", arXiv:2407.01082).
fn min_p(candidates: &mut Candidates, params: &SamplingParams, _: &[u32]) {
    if params.min_p <= 0.0 {
        return;
    }
    let max = candidates.max_logit();
    candidates.list.retain(|c| c.logit == max || exp(c.logit - max) >= params.min_p);
}

/// Divides the logits by the temperature (Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm
/// for Boltzmann Machines"); 0 leaves the likeliest token alone, of equals the one of lowest id.
fn temperature(candidates: &mut Candidates, params: &SamplingParams, _: &[u32]) {
    if params.temperature == 0.0 {
        candidates.keep_likeliest();
        return;
    }
    let max = candidates.max_logit();
    // From the maximum down: a tiny temperature sends the others to minus infinity and it stays 0.
    for candidate in &mut candidates.list {
        candidate.logit = (candidate.logit - max) / params.temperature;
    }
}

impl Candidates {
    /// All tokens of a vocabulary.
    pub fn from_logits(logits: &[f32]) -> Self {
        let list = logits.iter().enumerate().map(|(id, &logit)| Candidate { id: id as u32, logit });
        Self { list: list.collect(), sorted: false }
    }

    /// The largest logit.
    pub fn max_logit(&self) -> f32 {
        match self.list.first() {
            Some(first) if self.sorted => first.logit,
            _ => self.list.iter().fold(f32::NEG_INFINITY, |max, c| if c.logit > max { c.logit } else { max }),
        }
    }

    /// Drops all but the likeliest, of equals the one of lowest id.
    pub fn keep_likeliest(&mut self) {
        let best = self.list.iter().map(Candidate::rank).min();
        self.list.clear();
        self.list.extend(best.map(Candidate::from_rank));
        self.sorted = true;
    }

    /// The `count` likeliest, in order. One pass: of a long list most are seen to be too unlikely by
    /// comparing with the worst of those that would do.
    pub fn likeliest(&self, count: usize) -> Vec<Candidate> {
        if self.sorted || count == 0 {
            return self.list[..count.min(self.list.len())].to_vec();
        }
        let room = count.saturating_mul(2).max(256);
        let (mut ranks, mut worst) = (Vec::with_capacity(room.min(self.list.len())), u64::MAX);
        for rank in self.list.iter().map(Candidate::rank) {
            if rank < worst {
                ranks.push(rank);
            }
            if ranks.len() == room {
                worst = *ranks.select_nth_unstable(count - 1).1;
                ranks.truncate(count);
            }
        }
        ranks.sort_unstable();
        ranks.truncate(count);
        ranks.into_iter().map(Candidate::from_rank).collect()
    }

    fn logit_mut(&mut self, id: u32) -> Option<&mut f32> {
        // As long as nothing was dropped or sorted, a token stands at its id.
        let place = match self.list.get(id as usize) {
            Some(c) if c.id == id => id as usize,
            _ => self.list.iter().position(|c| c.id == id)?,
        };
        Some(&mut self.list[place].logit)
    }
}

impl Candidate {
    /// A number that is smaller the likelier the candidate is, and of equals the lower its id: the
    /// bits of a float sort like its value once those of negative ones are turned over.
    fn rank(&self) -> u64 {
        // Plus zero: the two zeros are equal.
        let bits = (self.logit + 0.0).to_bits();
        let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        (u64::from(!ascending) << 32) | u64::from(self.id)
    }

    fn from_rank(rank: u64) -> Self {
        let ascending = !((rank >> 32) as u32);
        let bits = if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending };
        Self { id: rank as u32, logit: f32::from_bits(bits) }
    }
}

/// Probability of a candidate up to a common factor.
pub fn weight(candidate: &Candidate, max: f32) -> f64 {
    f64::from(exp(candidate.logit - max))
}

/// `e^x` for `x <= 0`, the same bits on every platform; 0 below -87. Relative error under 3e-7.
///
/// `e^x = 2^n * e^r` with `n` whole and `|r| <= ln(2) / 2`, and the Taylor polynomial of degree 7 for
/// `e^r`.
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let tiny = x <= -87.0;
    // Clamped rather than returned from, so that a loop over a vocabulary has no branch.
    let x = x.max(-87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // `n` stands in the last bits of `rounded`.
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let power = p * f32::from_bits(exponent << 23);
    if tiny { 0.0 } else { power }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(logits: &[f32]) -> Candidates {
        Candidates::from_logits(logits)
    }

    fn off() -> SamplingParams {
        SamplingParams::neutral()
    }

    fn ids(candidates: &Candidates) -> Vec<u32> {
        candidates.list.iter().map(|c| c.id).collect()
    }

    fn logits(candidates: &Candidates) -> Vec<f32> {
        candidates.list.iter().map(|c| c.logit).collect()
    }

    /// Logits of the probabilities 0.5, 0.25, 0.15, 0.1, in another order.
    fn four() -> Candidates {
        list(&[0.15f32.ln(), 0.5f32.ln(), 0.1f32.ln(), 0.25f32.ln()])
    }

    #[test]
    fn repetition_penalty_by_hand() {
        // CTRL: 4 / 2 = 2; -1 * 2 = -2; token 1 did not occur.
        let mut c = list(&[4.0, 3.0, -1.0]);
        penalties(&mut c, &SamplingParams { repeat_penalty: 2.0, ..off() }, &[0, 2, 2]);
        assert_eq!(logits(&c), [2.0, 3.0, -2.0]);
    }

    #[test]
    fn presence_and_frequency_penalty_by_hand() {
        // OpenAI: token 2 twice: -1 - 2 * 0.25 - 0.5 = -2; token 0 once: 4 - 0.25 - 0.5.
        let mut c = list(&[4.0, 3.0, -1.0]);
        let params = SamplingParams { presence_penalty: 0.5, frequency_penalty: 0.25, ..off() };
        penalties(&mut c, &params, &[0, 2, 2]);
        assert_eq!(logits(&c), [3.25, 3.0, -2.0]);
    }

    #[test]
    fn penalties_look_at_the_last_tokens_only() {
        let at = |last_n| {
            let mut c = list(&[4.0, 4.0, 4.0]);
            let params = SamplingParams { presence_penalty: 1.0, repeat_last_n: last_n, ..off() };
            penalties(&mut c, &params, &[0, 1, 2]);
            logits(&c)
        };
        assert_eq!(at(0), [4.0, 4.0, 4.0]);
        assert_eq!(at(2), [4.0, 3.0, 3.0]);
        assert_eq!(at(-1), [3.0, 3.0, 3.0]);
        assert_eq!(at(100), [3.0, 3.0, 3.0]);
    }

    #[test]
    fn top_k_by_hand() {
        let mut c = four();
        top_k(&mut c, &SamplingParams { top_k: 2, ..off() }, &[]);
        assert_eq!(ids(&c), [1, 3]);
        // Of equal logits the lower id stays.
        let mut c = list(&[1.0, 2.0, 1.0, 1.0]);
        top_k(&mut c, &SamplingParams { top_k: 2, ..off() }, &[]);
        assert_eq!(ids(&c), [1, 0]);
    }

    #[test]
    fn the_likeliest_of_a_long_list_are_those_that_sorting_finds() {
        let mut rng = crate::Rng::new(3);
        // Coarse values, so that there are many equals, of both signs and both zeros.
        let values = (0..20_000).map(|_| (rng.next_f64() * 64.0) as i32 - 32);
        let c = list(&values.map(|v| -(v as f32 * 0.5)).collect::<Vec<_>>());
        let mut sorted = c.list.clone();
        sorted.sort_by(|a, b| b.logit.partial_cmp(&a.logit).unwrap().then(a.id.cmp(&b.id)));
        for count in [0, 1, 2, 40, 127, 128, 1000, 19_999, 20_000, 30_000] {
            assert_eq!(c.likeliest(count), sorted[..count.min(20_000)], "{count}");
        }
    }

    #[test]
    fn top_p_by_hand() {
        // 0.5 + 0.25 < 0.8 <= 0.5 + 0.25 + 0.15: three tokens.
        for (p, expected) in [(0.8, &[1, 3, 0][..]), (0.4, &[1]), (0.0, &[1]), (1.0, &[0, 1, 2, 3])] {
            let mut c = four();
            top_p(&mut c, &SamplingParams { top_p: p, ..off() }, &[]);
            assert_eq!(ids(&c), expected, "top_p {p}");
        }
    }

    #[test]
    fn top_p_finds_a_large_nucleus_of_equals() {
        // A flat distribution over 5000: half of it is 2500 tokens, those of lowest id.
        let mut c = list(&[0.0; 5000]);
        top_p(&mut c, &SamplingParams { top_p: 0.5, ..off() }, &[]);
        assert_eq!(ids(&c), (0..2500).collect::<Vec<_>>());
    }

    #[test]
    fn min_p_by_hand() {
        // The likeliest has 0.5: at 0.25 times that, 0.125, 0.1 goes and 0.15 stays.
        let mut c = four();
        min_p(&mut c, &SamplingParams { min_p: 0.25, ..off() }, &[]);
        assert_eq!(ids(&c), [0, 1, 3]);
        let mut c = four();
        min_p(&mut c, &SamplingParams { min_p: 1.0, ..off() }, &[]);
        assert_eq!(ids(&c), [1]);
    }

    #[test]
    fn temperature_by_hand() {
        // At temperature 2 odds of 4 to 1 become odds of 2 to 1.
        let mut c = list(&[4f32.ln(), 0.0]);
        temperature(&mut c, &SamplingParams { temperature: 2.0, ..off() }, &[]);
        assert!((exp(c.list[1].logit - c.list[0].logit) - 0.5).abs() < 1e-6);
        // Zero is greedy, and of equals the lowest id wins.
        let mut c = list(&[1.0, 3.0, 3.0]);
        temperature(&mut c, &SamplingParams { temperature: 0.0, ..off() }, &[]);
        assert_eq!(ids(&c), [1]);
        // So small that a division overflows.
        let mut c = list(&[1.0, 3.0, 2.0]);
        temperature(&mut c, &SamplingParams { temperature: 1e-40, ..off() }, &[]);
        assert_eq!(logits(&c), [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn exp_is_the_exponential() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        for i in 0..87_000 {
            let x = -(i as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 3e-7 * exact, "exp({x})");
        }
    }
}
