//! The flags that say how tokens are chosen, for every verb that generates.
//!
//! Stands between the command line and `engine::SamplingParams`: what a flag does not say is as the
//! model's generation_config.json has it, and else as this program does.

use clap::Args;
use engine::{GenerationConfig, SamplingParams};

/// How tokens are chosen. Without a flag: as the model's generation_config.json says, else
/// temperature 0.8, top-k 40, top-p 0.95, min-p 0.05.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Randomness: 0 always takes the likeliest token
    #[arg(long, value_name = "T", value_parser = not_negative, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Choose among the N likeliest tokens; 0 is all
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Choose among the likeliest tokens that together have probability P; 1 is all
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Choose among tokens at least P times as likely as the likeliest; 0 is all
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Make recent tokens less likely; 1 is off
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true)]
    pub repeat_penalty: Option<f32>,
    /// How many recent tokens the penalties look at; 0 is none, -1 all [default: 64]
    #[arg(long, value_name = "N", value_parser = window, allow_negative_numbers = true)]
    pub repeat_last_n: Option<i64>,
    /// Taken once from the logit of every recent token; 0 is off
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Taken from the logit of a recent token for each time it occurs; 0 is off
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// The same seed gives the same text [default: a fresh one]
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,
}

impl SamplingArgs {
    /// The parameters: flags over the model's own over ours.
    pub fn params(&self, model: &GenerationConfig) -> SamplingParams {
        let own = model.params();
        SamplingParams {
            temperature: self.temperature.unwrap_or(own.temperature),
            top_k: self.top_k.unwrap_or(own.top_k),
            top_p: self.top_p.unwrap_or(own.top_p),
            min_p: self.min_p.unwrap_or(own.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(own.repeat_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(own.repeat_last_n),
            presence_penalty: self.presence_penalty.unwrap_or(own.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(own.frequency_penalty),
        }
    }
}

/// A number that `allowed` lets through. clap adds the flag and the value found.
fn number(text: &str, expected: &str, allowed: fn(f32) -> bool) -> Result<f32, String> {
    let value = text.parse().ok().filter(|v: &f32| v.is_finite() && allowed(*v));
    value.ok_or_else(|| format!("expected {expected}"))
}

fn not_negative(text: &str) -> Result<f32, String> {
    number(text, "a number of at least 0", |v| v >= 0.0)
}

fn positive(text: &str) -> Result<f32, String> {
    number(text, "a number above 0", |v| v > 0.0)
}

fn fraction(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to 1", |v| (0.0..=1.0).contains(&v))
}

fn finite(text: &str) -> Result<f32, String> {
    number(text, "a number", |_| true)
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a whole number of at least 0".to_owned())
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

fn window(text: &str) -> Result<i64, String> {
    let value = text.parse().ok().filter(|v: &i64| *v >= -1);
    value.ok_or_else(|| "expected -1 (all), 0 (none) or a count".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Flags {
        #[command(flatten)]
        sampling: SamplingArgs,
    }

    fn parse(flags: &[&str]) -> Result<SamplingArgs, String> {
        let parsed = Flags::try_parse_from([&["influence"], flags].concat());
        parsed.map(|f| f.sampling).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_go_over_the_model_and_the_model_over_the_defaults() {
        let model =
            GenerationConfig { temperature: Some(0.3), top_p: Some(0.5), ..GenerationConfig::default() };
        let params = parse(&["--temperature", "0", "--repeat-last-n", "-1"]).unwrap().params(&model);
        assert_eq!((params.temperature, params.top_p, params.top_k), (0.0, 0.5, 50));
        assert_eq!(params.repeat_last_n, -1);
        assert_eq!(parse(&[]).unwrap().params(&GenerationConfig::default()), SamplingParams::default());
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_with_flag_value_and_range() {
        for (flag, value) in [
            ("--temperature", "-1"),
            ("--temperature", "NaN"),
            ("--temperature", "inf"),
            ("--temperature", "hot"),
            ("--top-p", "1.5"),
            ("--top-p", "-0.1"),
            ("--min-p", "2"),
            ("--top-k", "-3"),
            ("--top-k", "1.5"),
            ("--repeat-penalty", "0"),
            ("--repeat-last-n", "-2"),
            ("--presence-penalty", "x"),
            ("--frequency-penalty", "nan"),
            ("--seed", "-1"),
            ("--seed", "99999999999999999999"),
        ] {
            let message = parse(&[flag, value]).expect_err(value);
            assert!(message.contains(flag) && message.contains(value), "{message}");
            assert!(message.contains("expected"), "{message}");
        }
        assert!(parse(&["--stop", ""]).is_err_and(|m| m.contains("--stop")));
    }
}
