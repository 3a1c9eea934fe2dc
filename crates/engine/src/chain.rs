//! The samplers: each a pure function over a list of candidates, in one table, in an order that can be
//! given.
//!
//! Stands inside `sampler.rs`, which makes the list from logits before and draws from it after. A
//! sampler is a function (`penalties.rs`, `truncation.rs`, `temperature.rs`), a row of [`CHAIN`], and its
//! parameters' rows in `params.rs`, from which flags, help and docs/sampling.md are made.

use std::collections::HashSet;
use std::sync::Arc;

use crate::exponential::ln;
use crate::penalties::{dry, logit_bias, penalties};
use crate::temperature::temperature;
use crate::truncation::{min_p, mirostat, top_k, top_n_sigma, top_p, typical_p, xtc};
use crate::{Candidates, Rng, SamplingParams};

/// What a sampler does to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Changes logits, and so perhaps which is the largest.
    Shift,
    /// Drops tokens: of no use where the likeliest one is taken anyway.
    Truncate,
    /// Changes how much likelier a token is than another, but not their order.
    Scale,
    /// Decides alone how many tokens are left: where it is on, no row that drops tokens runs.
    Control,
}

/// What samplers do. The tokens are those so far, prompt and answer.
pub type Apply = fn(&mut Candidates, &SamplingParams, &mut State, &[u32]);

/// A row of the chain.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Its name, as in an order given by the user.
    pub name: &'static str,
    /// What it does to the list.
    pub kind: LinkKind,
    /// Who thought of it.
    pub source: &'static str,
    /// Its parameters, rows of [`crate::PARAMETERS`].
    pub parameters: &'static [&'static str],
    /// Applies it.
    pub apply: Apply,
}

/// The samplers in the order in which they are applied where no other is given (that of llama.cpp).
#[rustfmt::skip]
pub const CHAIN: &[Link] = &[
    Link { name: "logit_bias", kind: LinkKind::Shift, apply: logit_bias,
        source: "OpenAI API reference", parameters: &["logit_bias"] },
    Link { name: "penalties", kind: LinkKind::Shift, apply: penalties,
        source: "Keskar et al. 2019, arXiv:1909.05858; OpenAI API reference",
        parameters: &["repeat_penalty", "presence_penalty", "frequency_penalty", "repeat_last_n"] },
    Link { name: "dry", kind: LinkKind::Shift, apply: dry,
        source: "p-e-w 2024, text-generation-webui pull request 5677",
        parameters: &["dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breaker"] },
    Link { name: "top_n_sigma", kind: LinkKind::Truncate, apply: top_n_sigma,
        source: "Tang et al. 2024, arXiv:2411.07641", parameters: &["top_n_sigma"] },
    Link { name: "top_k", kind: LinkKind::Truncate, apply: top_k,
        source: "Fan et al. 2018, arXiv:1805.04833", parameters: &["top_k"] },
    Link { name: "typical_p", kind: LinkKind::Truncate, apply: typical_p,
        source: "Meister et al. 2022, arXiv:2202.00666", parameters: &["typical_p"] },
    Link { name: "top_p", kind: LinkKind::Truncate, apply: top_p,
        source: "Holtzman et al. 2020, arXiv:1904.09751", parameters: &["top_p"] },
    Link { name: "min_p", kind: LinkKind::Truncate, apply: min_p,
        source: "Nguyen et al. 2024, arXiv:2407.01082", parameters: &["min_p"] },
    Link { name: "xtc", kind: LinkKind::Truncate, apply: xtc,
        source: "p-e-w 2024, text-generation-webui pull request 6335", parameters: &["xtc_probability", "xtc_threshold"] },
    Link { name: "temperature", kind: LinkKind::Scale, apply: temperature,
        source: "Ackley, Hinton and Sejnowski 1985; by entropy: kalomaze 2024, koboldcpp",
        parameters: &["temperature", "dynatemp_range", "dynatemp_exponent"] },
    Link { name: "mirostat", kind: LinkKind::Control, apply: mirostat,
        source: "Basu et al. 2021, arXiv:2007.14966", parameters: &["mirostat", "mirostat_tau", "mirostat_eta"] },
];

/// The row of a name, written with `_` or `-`.
pub fn link(name: &str) -> Option<&'static Link> {
    CHAIN.iter().find(|link| link.name == name.replace('-', "_"))
}

/// What a sequence's samplers remember from token to token.
#[derive(Clone, Debug)]
pub struct State {
    /// Its random numbers.
    pub rng: Rng,
    /// Mirostat's greatest surprise, once there was a token.
    pub mu: Option<f64>,
    /// Tokens over which DRY finds no repetition.
    pub breakers: Arc<HashSet<u32>>,
}

impl State {
    /// The state of a sequence that has no answer yet.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), mu: None, breakers: Arc::default() }
    }

    /// Tells mirostat how likely the token was that was drawn: `mu` moves by `mirostat_eta` times the
    /// error of its surprise.
    pub fn observe(&mut self, probability: f64, params: &SamplingParams) {
        if let Some(mu) = &mut self.mu {
            let surprise = -ln(probability) / std::f64::consts::LN_2;
            *mu -= f64::from(params.mirostat_eta) * (surprise - f64::from(params.mirostat_tau));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_belongs_to_one_row_and_every_row_has_some() {
        let named: Vec<&str> = CHAIN.iter().flat_map(|link| link.parameters).copied().collect();
        for parameter in crate::PARAMETERS.iter().filter(|p| p.name != "samplers") {
            let owners = named.iter().filter(|name| **name == parameter.name).count();
            assert_eq!(owners, 1, "{}", parameter.name);
        }
        assert_eq!(named.len() + 1, crate::PARAMETERS.len());
    }

    #[test]
    fn mirostat_moves_its_bound_by_the_error_of_the_surprise() {
        // Tau 5, eta 0.1, mu 10 at first; a token of probability 1/4 surprises by 2 bits: mu += 0.3.
        let mut state = State::new(0);
        state.mu = Some(10.0);
        state.observe(0.25, &SamplingParams::default());
        assert!(state.mu.is_some_and(|mu| (mu - 10.3).abs() < 1e-6));
    }
}
