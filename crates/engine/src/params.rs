//! What a request may say about the choice of tokens: a field and a row for each parameter of the
//! samplers of `chain.rs`.
//!
//! The rows of [`PARAMETERS`] are what flags, their help, `/set` and docs/sampling.md are made from.

use crate::EngineError;
use crate::chain::{CHAIN, link};

/// Parameters of all samplers. The default is what llama.cpp takes where nothing else is said. What
/// each means, and which values it may have, stands in its row of [`PARAMETERS`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The rows say it, once.
pub struct SamplingParams {
    pub temperature: f32,
    pub dynatemp_range: f32,
    pub dynatemp_exponent: f32,
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub top_n_sigma: f32,
    pub xtc_probability: f32,
    pub xtc_threshold: f32,
    pub repeat_penalty: f32,
    pub repeat_last_n: i64,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub dry_multiplier: f32,
    pub dry_base: f32,
    pub dry_allowed_length: usize,
    pub dry_penalty_last_n: i64,
    pub dry_sequence_breaker: Vec<String>,
    pub mirostat: u32,
    pub mirostat_tau: f32,
    pub mirostat_eta: f32,
    pub logit_bias: Vec<(u32, f32)>,
    /// Names of rows of [`CHAIN`], each at most once.
    pub samplers: Vec<&'static str>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: -1,
            dry_sequence_breaker: ["\n", ":", "\"", "*"].map(str::to_owned).to_vec(),
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            logit_bias: Vec::new(),
            samplers: CHAIN.iter().map(|link| link.name).collect(),
        }
    }
}

/// A row: a parameter as it is written, explained, read and checked.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its field of [`SamplingParams`]; its flag has `-` for `_`.
    pub name: &'static str,
    /// What stands for its value in help.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
    /// The values that are allowed, in words.
    pub expected: &'static str,
    /// Whether it may be given several times, one value each.
    pub many: bool,
    /// Reads its values; `None` if they are of the wrong kind. `allowed` is to be asked too.
    pub set: fn(&mut SamplingParams, &[&str]) -> Option<()>,
    /// Writes its value.
    pub get: fn(&SamplingParams) -> String,
    /// Whether its value is one that is expected.
    pub allowed: fn(&SamplingParams) -> bool,
}

/// A row of a parameter that is one number: name, placeholder, help, allowed values in words and in code.
macro_rules! number {
    ($field:ident, $value:literal, $help:literal, $expected:literal, |$v:ident| $allowed:expr) => {
        Parameter {
            name: stringify!($field),
            value: $value,
            help: $help,
            expected: $expected,
            many: false,
            set: |params, texts| {
                params.$field = texts.last()?.parse().ok()?;
                Some(())
            },
            get: |params| params.$field.to_string(),
            allowed: |params| {
                let $v = params.$field;
                $allowed
            },
        }
    };
}

/// All parameters, in the order of help and docs.
#[rustfmt::skip]
pub const PARAMETERS: &[Parameter] = &[
    number!(temperature, "T", "Randomness: 0 always takes the likeliest token",
        "a number of at least 0", |v| v >= 0.0 && v.is_finite()),
    number!(top_k, "N", "Choose among the N likeliest tokens; 0 is all", "a whole number of at least 0", |_v| true),
    number!(top_p, "P", "Choose among the likeliest tokens that together have probability P; 1 is all",
        "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)),
    number!(min_p, "P", "Choose among tokens at least P times as likely as the likeliest; 0 is all",
        "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)),
    number!(typical_p, "P", "Choose among tokens about as surprising as is to be expected, that together have probability P; 1 is all",
        "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)),
    number!(top_n_sigma, "N", "Choose among tokens with logits within N standard deviations of the largest; 0 is all",
        "a number of at least 0", |v| v >= 0.0 && v.is_finite()),
    number!(xtc_probability, "P", "How often to exclude all top choices but the least likely; 0 is never",
        "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)),
    number!(xtc_threshold, "P", "How likely a token is that XTC calls a top choice; above 0.5 there are never two",
        "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)),
    number!(dynatemp_range, "X", "Let the temperature go by how sure the model is, so far below and above; 0 is off",
        "a number of at least 0", |v| v >= 0.0 && v.is_finite()),
    number!(dynatemp_exponent, "X", "How the temperature follows the entropy: above 1 later, below 1 sooner",
        "a number of at least 0", |v| v >= 0.0 && v.is_finite()),
    number!(mirostat, "N", "Control how surprising the text is: 0 is off, 2 is Mirostat 2 in place of all samplers that drop tokens",
        "0 (off) or 2", |v| v == 0 || v == 2),
    number!(mirostat_tau, "X", "The surprise that Mirostat aims at, in bits", "a number of at least 0", |v| v >= 0.0 && v.is_finite()),
    number!(mirostat_eta, "X", "How fast Mirostat corrects itself", "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)),
    number!(repeat_penalty, "X", "Make recent tokens less likely; 1 is off", "a number above 0", |v| v > 0.0 && v.is_finite()),
    number!(presence_penalty, "X", "Taken once from the logit of every recent token; 0 is off", "a number", |v| v.is_finite()),
    number!(frequency_penalty, "X", "Taken from the logit of a recent token for each time it occurs; 0 is off",
        "a number", |v| v.is_finite()),
    number!(repeat_last_n, "N", "How many recent tokens these three look at; 0 is none, -1 all",
        "-1 (all), 0 (none) or a count", |v| v >= -1),
    number!(dry_multiplier, "X", "Make tokens less likely that would lengthen a repetition; 0 is off",
        "a number of at least 0", |v| v >= 0.0 && v.is_finite()),
    number!(dry_base, "X", "DRY takes multiplier * base^(length - allowed length) from a logit",
        "a number of at least 1", |v| v >= 1.0 && v.is_finite()),
    number!(dry_allowed_length, "N", "The longest repetition that DRY leaves alone is one shorter",
        "a whole number of at least 0", |_v| true),
    number!(dry_penalty_last_n, "N", "How many recent tokens DRY looks at; 0 is none, -1 all",
        "-1 (all), 0 (none) or a count", |v| v >= -1),
    Parameter {
        name: "dry_sequence_breaker",
        value: "TEXT",
        help: "A text over which DRY finds no repetition, in place of the usual ones; \"none\" is none; may be given several times",
        expected: "a text that is not empty, or none",
        many: true,
        set: |params, texts| {
            params.dry_sequence_breaker =
                if texts == ["none"] { Vec::new() } else { texts.iter().map(|&t| t.to_owned()).collect() };
            Some(())
        },
        get: |params| params.dry_sequence_breaker.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(" "),
        allowed: |params| params.dry_sequence_breaker.iter().all(|t| !t.is_empty()),
    },
    Parameter {
        name: "logit_bias",
        value: "ID=X",
        help: "Add X to the logit of a token, -inf forbids it; may be given several times (influence tokenize says ids)",
        expected: "a token id, =, and a number or -inf",
        many: true,
        set: |params, texts| {
            params.logit_bias = texts.iter().map(|text| bias(text)).collect::<Option<_>>()?;
            Some(())
        },
        get: |params| params.logit_bias.iter().map(|(id, x)| format!("{id}={x}")).collect::<Vec<_>>().join(" "),
        allowed: |params| params.logit_bias.iter().all(|(_, x)| *x < f32::INFINITY),
    },
    Parameter {
        name: "samplers",
        value: "NAMES",
        help: "The samplers to apply, in this order, with commas between",
        expected: "names of samplers, each once, of: logit_bias, penalties, dry, top_n_sigma, top_k, typical_p, top_p, min_p, xtc, temperature, mirostat",
        many: false,
        set: |params, texts| {
            let names = texts.last()?.split(',').map(|name| Some(link(name.trim())?.name));
            params.samplers = names.collect::<Option<_>>()?;
            Some(())
        },
        get: |params| params.samplers.join(","),
        allowed: |params| {
            let names = &params.samplers;
            names.iter().enumerate().all(|(i, name)| link(name).is_some() && !names[..i].contains(name))
        },
    },
];

fn bias(text: &str) -> Option<(u32, f32)> {
    let (id, bias) = text.split_once('=')?;
    Some((id.trim().parse().ok()?, bias.trim().parse().ok()?))
}

impl Parameter {
    /// The row of a name, written with `_` or `-`.
    pub fn named(name: &str) -> Option<&'static Parameter> {
        PARAMETERS.iter().find(|p| p.name == name.replace('-', "_"))
    }

    /// Reads and checks values into `params`, which stay as they were if that fails.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] with what was found and what is expected.
    pub fn read(&self, params: &mut SamplingParams, texts: &[&str]) -> Result<(), EngineError> {
        let mut changed = params.clone();
        match (self.set)(&mut changed, texts) {
            Some(()) if (self.allowed)(&changed) => {
                *params = changed;
                Ok(())
            }
            _ => Err(EngineError::Parameter {
                name: self.name,
                found: texts.join(" "),
                expected: self.expected,
            }),
        }
    }
}

impl SamplingParams {
    /// The likeliest token every time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Every sampler off: draws from the model's own distribution.
    pub fn neutral() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Self::default() }
    }

    /// Whether the likeliest token is always taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 && self.dynatemp_range == 0.0 && self.samplers.contains(&"temperature")
    }

    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] with the first one that lies outside.
    pub fn validate(&self) -> Result<(), EngineError> {
        match PARAMETERS.iter().find(|row| !(row.allowed)(self)) {
            None => Ok(()),
            Some(Parameter { name, expected, get, .. }) => {
                Err(EngineError::Parameter { name, found: get(self), expected })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_outside_their_range_are_named() {
        let ok = SamplingParams::default();
        assert!(ok.validate().is_ok());
        let cases: [(SamplingParams, &str); 9] = [
            (SamplingParams { temperature: -1.0, ..ok.clone() }, "temperature"),
            (SamplingParams { temperature: f32::NAN, ..ok.clone() }, "temperature"),
            (SamplingParams { top_p: 1.5, ..ok.clone() }, "top_p"),
            (SamplingParams { min_p: -0.1, ..ok.clone() }, "min_p"),
            (SamplingParams { repeat_penalty: 0.0, ..ok.clone() }, "repeat_penalty"),
            (SamplingParams { presence_penalty: f32::INFINITY, ..ok.clone() }, "presence_penalty"),
            (SamplingParams { repeat_last_n: -2, ..ok.clone() }, "repeat_last_n"),
            (SamplingParams { samplers: vec!["top_k", "top_k"], ..ok.clone() }, "samplers"),
            (SamplingParams { logit_bias: vec![(0, f32::NAN)], ..ok.clone() }, "logit_bias"),
        ];
        for (params, name) in cases {
            let message = params.validate().unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("expected"), "{message}");
        }
    }

    #[test]
    fn what_a_row_writes_it_reads() {
        let start = SamplingParams { logit_bias: vec![(3, -1.5)], ..SamplingParams::default() };
        for row in PARAMETERS.iter().filter(|row| row.name != "dry_sequence_breaker") {
            let mut params = start.clone();
            row.read(&mut params, &[&(row.get)(&start)]).unwrap();
            assert_eq!(params, start, "{}", row.name);
        }
    }

    #[test]
    fn lists_are_read_whole() {
        let read = |name: &str, texts: &[&str]| {
            let mut params = SamplingParams::default();
            Parameter::named(name).unwrap().read(&mut params, texts).map(|()| params)
        };
        assert_eq!(read("samplers", &["min-p, temperature"]).unwrap().samplers, ["min_p", "temperature"]);
        assert!(read("samplers", &["min_p,heat"]).is_err() && read("samplers", &[""]).is_err());
        let bias = read("logit-bias", &["5=2", "7=-inf"]).unwrap().logit_bias;
        assert_eq!(bias, [(5, 2.0), (7, f32::NEG_INFINITY)]);
        assert!(["5", "x=1", "5=inf", "5=", "-1=2"].iter().all(|t| read("logit_bias", &[t]).is_err()));
        assert!(read("dry_sequence_breaker", &["none"]).unwrap().dry_sequence_breaker.is_empty());
        assert_eq!(read("dry_sequence_breaker", &["a", "b"]).unwrap().dry_sequence_breaker, ["a", "b"]);
    }

    #[test]
    fn the_samplers_row_names_them_all() {
        let expected = Parameter::named("samplers").unwrap().expected;
        assert!(expected.ends_with(&CHAIN.iter().map(|l| l.name).collect::<Vec<_>>().join(", ")));
    }
}
