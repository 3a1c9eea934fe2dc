//! The samplers that drop tokens: top-n-sigma, top-k, typical-p, top-p, min-p, XTC, mirostat.
//!
//! Rows of `CHAIN` (chain.rs). None of them drops all.

use crate::candidates::{ascending, weight};
use crate::chain::State;
use crate::exponential::{exp, ln};
use crate::{Candidates, SamplingParams};

/// Keeps tokens whose logit is at most `top_n_sigma` standard deviations below the largest (Tang et al.
/// 2024, "Top-nσ: Not All Logits Are You Need", arXiv:2411.07641).
pub fn top_n_sigma(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, _: &[u32]) {
    if params.top_n_sigma <= 0.0 {
        return;
    }
    let finite = || candidates.list.iter().map(|c| f64::from(c.logit)).filter(|l| l.is_finite());
    let count = finite().count() as f64;
    let mean = finite().sum::<f64>() / count;
    let variance = finite().map(|l| (l - mean) * (l - mean)).sum::<f64>() / count;
    let max = candidates.max_logit();
    let least = f64::from(max) - f64::from(params.top_n_sigma) * variance.sqrt();
    candidates.list.retain(|c| c.logit == max || f64::from(c.logit) >= least);
}

/// Keeps the `top_k` likeliest tokens (Fan et al. 2018, "Hierarchical Neural Story Generation",
/// arXiv:1805.04833).
pub fn top_k(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, _: &[u32]) {
    if params.top_k == 0 || params.top_k >= candidates.list.len() {
        return;
    }
    candidates.list = candidates.likeliest(params.top_k);
    candidates.sorted = true;
}

/// Keeps the tokens whose information content is nearest to the entropy, until they have probability
/// `typical_p` (Meister et al. 2022, "Locally Typical Sampling", arXiv:2202.00666).
pub fn typical_p(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, _: &[u32]) {
    if params.typical_p >= 1.0 {
        return;
    }
    let entropy = entropy(candidates);
    let max = candidates.max_logit();
    let log_total = ln(candidates.total(max));
    let distance = |logit: f32| ((f64::from(max) - f64::from(logit) + log_total) - entropy).abs() as f32;
    candidates
        .keep_share(params.typical_p, |c| u64::from(ascending(distance(c.logit))) << 32 | u64::from(c.id));
    candidates.list.sort_unstable_by_key(|c| c.rank());
    candidates.sorted = true;
}

/// Entropy of the candidates in nats: `ln Z + sum(w * (max - logit)) / Z`.
pub fn entropy(candidates: &Candidates) -> f64 {
    let max = candidates.max_logit();
    let (mut total, mut sum) = (0.0, 0.0);
    for candidate in &candidates.list {
        let w = weight(candidate, max);
        total += w;
        if w > 0.0 {
            sum += w * (f64::from(max) - f64::from(candidate.logit));
        }
    }
    ln(total) + sum / total
}

/// Keeps the smallest set of likeliest tokens whose probabilities sum to at least `top_p`: the
/// nucleus (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751).
pub fn top_p(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, _: &[u32]) {
    if params.top_p >= 1.0 {
        return;
    }
    candidates.keep_share(params.top_p, |c| c.rank());
    candidates.sorted = true;
}

/// Keeps tokens at least `min_p` times as likely as the likeliest (Nguyen et al. 2024, "Turning Up
/// the Heat: Min-p Sampling", arXiv:2407.01082).
pub fn min_p(candidates: &mut Candidates, params: &SamplingParams, _: &mut State, _: &[u32]) {
    if params.min_p <= 0.0 {
        return;
    }
    let max = candidates.max_logit();
    candidates.list.retain(|c| c.logit == max || exp(c.logit - max) >= params.min_p);
}

/// XTC, "exclude top choices" (p-e-w 2024, text-generation-webui pull request 6335): with probability
/// `xtc_probability` drops of the tokens that have at least `xtc_threshold` all but the least likely.
/// Takes one random number where it is on, whether or not anything is dropped.
pub fn xtc(candidates: &mut Candidates, params: &SamplingParams, state: &mut State, _: &[u32]) {
    if params.xtc_probability <= 0.0 || state.rng.next_f64() >= f64::from(params.xtc_probability) {
        return;
    }
    let max = candidates.max_logit();
    let least = f64::from(params.xtc_threshold) * candidates.total(max);
    let top = |c: &&crate::Candidate| weight(c, max) >= least;
    let Some(kept) = candidates.list.iter().filter(top).map(|c| c.rank()).max() else { return };
    candidates.list.retain(|c| c.rank() >= kept);
}

/// Mirostat 2 (Basu et al. 2021, "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
/// Perplexity", arXiv:2007.14966, algorithm 2): drops tokens that would surprise by more than `mu` bits,
/// which `State::observe` moves so that the surprise is `mirostat_tau` on the average.
pub fn mirostat(candidates: &mut Candidates, params: &SamplingParams, state: &mut State, _: &[u32]) {
    if params.mirostat != 2 {
        return;
    }
    let mu = *state.mu.get_or_insert(2.0 * f64::from(params.mirostat_tau));
    let max = candidates.max_logit();
    let log_total = ln(candidates.total(max));
    let bits = |logit: f32| (f64::from(max) - f64::from(logit) + log_total) / std::f64::consts::LN_2;
    candidates.list.retain(|c| c.logit == max || bits(c.logit) <= mu);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidates::testing::{ids, list};
    use crate::chain::Apply;

    fn off() -> SamplingParams {
        SamplingParams::neutral()
    }

    /// Logits of the probabilities 0.5, 0.25, 0.15, 0.1, in another order.
    fn four() -> Candidates {
        list(&[0.15f32.ln(), 0.5f32.ln(), 0.1f32.ln(), 0.25f32.ln()])
    }

    fn kept(sampler: Apply, mut c: Candidates, params: SamplingParams) -> Vec<u32> {
        sampler(&mut c, &params, &mut State::new(0), &[]);
        ids(&c)
    }

    #[test]
    fn top_n_sigma_by_hand() {
        // Logits 0, 2, 4, 6: mean 3, variance (9 + 1 + 1 + 9) / 4 = 5, deviation 2.236.
        let at =
            |n| kept(top_n_sigma, list(&[0.0, 2.0, 4.0, 6.0]), SamplingParams { top_n_sigma: n, ..off() });
        assert_eq!(at(1.0), [2, 3]);
        assert_eq!(at(2.0), [1, 2, 3]);
        assert_eq!((at(0.0).len(), at(0.1)), (4, vec![3]));
        // One that is impossible has no part in the deviation.
        let c = list(&[0.0, 2.0, f32::NEG_INFINITY, 4.0, 6.0]);
        assert_eq!(kept(top_n_sigma, c, SamplingParams { top_n_sigma: 1.0, ..off() }), [3, 4]);
    }

    #[test]
    fn top_k_by_hand() {
        let two = SamplingParams { top_k: 2, ..off() };
        assert_eq!(kept(top_k, four(), two.clone()), [1, 3]);
        // Of equal logits the lower id stays.
        assert_eq!(kept(top_k, list(&[1.0, 2.0, 1.0, 1.0]), two), [1, 0]);
    }

    #[test]
    fn typical_p_by_hand() {
        // Entropy 0.5 * 0.693 + 0.25 * 1.386 + 0.15 * 1.897 + 0.1 * 2.303 = 1.208. Information content
        // and distance: 0.5: 0.693, 0.515; 0.25: 1.386, 0.178; 0.15: 1.897, 0.689; 0.1: 2.303, 1.095.
        let at = |p| kept(typical_p, four(), SamplingParams { typical_p: p, ..off() });
        assert_eq!(at(0.2), [3]);
        assert_eq!(at(0.7), [1, 3]);
        assert_eq!(at(0.8), [1, 3, 0]);
        assert_eq!(at(1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn top_p_by_hand() {
        // 0.5 + 0.25 < 0.8 <= 0.5 + 0.25 + 0.15: three tokens.
        for (p, expected) in [(0.8, &[1, 3, 0][..]), (0.4, &[1]), (0.0, &[1]), (1.0, &[0, 1, 2, 3])] {
            assert_eq!(kept(top_p, four(), SamplingParams { top_p: p, ..off() }), expected, "top_p {p}");
        }
    }

    #[test]
    fn top_p_finds_a_large_nucleus_of_equals() {
        // A flat distribution over 5000: half of it is 2500 tokens, those of lowest id.
        let half = SamplingParams { top_p: 0.5, ..off() };
        assert_eq!(kept(top_p, list(&[0.0; 5000]), half), (0..2500).collect::<Vec<_>>());
    }

    #[test]
    fn min_p_by_hand() {
        // The likeliest has 0.5: at 0.25 times that, 0.125, 0.1 goes and 0.15 stays.
        assert_eq!(kept(min_p, four(), SamplingParams { min_p: 0.25, ..off() }), [0, 1, 3]);
        assert_eq!(kept(min_p, four(), SamplingParams { min_p: 1.0, ..off() }), [1]);
    }

    #[test]
    fn xtc_by_hand() {
        let at = |threshold| {
            let params = SamplingParams { xtc_probability: 1.0, xtc_threshold: threshold, ..off() };
            kept(xtc, four(), params)
        };
        // At least 0.12: 0.5, 0.25, 0.15, of which only 0.15 (token 0) stays; and 0.1, which is below.
        assert_eq!(at(0.12), [0, 2]);
        assert_eq!(at(0.2), [0, 2, 3]);
        // A single top choice is kept, and so are all where there is none.
        assert_eq!((at(0.4).len(), at(0.6).len()), (4, 4));
    }

    #[test]
    fn xtc_comes_as_often_as_asked_and_takes_one_number_each_time() {
        let params = SamplingParams { xtc_probability: 0.3, xtc_threshold: 0.12, ..off() };
        let mut state = State::new(11);
        let mut cut = 0;
        for _ in 0..10_000 {
            let mut c = four();
            xtc(&mut c, &params, &mut state, &[]);
            cut += usize::from(c.list.len() == 2);
        }
        // 3000 expected, deviation 45.8.
        assert!((2850..3150).contains(&cut), "{cut}");
        let mut rng = crate::Rng::new(11);
        (0..10_000).for_each(|_| _ = rng.next_u64());
        assert_eq!(state.rng.next_u64(), rng.next_u64());
    }

    #[test]
    fn mirostat_by_hand() {
        // Surprise of 0.5, 0.25, 0.15, 0.1 in bits: 1, 2, 2.737, 3.322. The first mu is 2 tau.
        let at = |tau| kept(mirostat, four(), SamplingParams { mirostat: 2, mirostat_tau: tau, ..off() });
        assert_eq!(at(1.1), [1, 3]);
        assert_eq!(at(1.5), [0, 1, 3]);
        assert_eq!(at(0.1), [1]);
        assert_eq!(kept(mirostat, four(), off()).len(), 4);
    }
}
