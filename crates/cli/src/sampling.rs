//! The flags that say how tokens are chosen, for every verb that generates.
//!
//! Stands between the command line and `engine::SamplingParams`: what a flag does not say is as the
//! model's generation_config.json has it, and else as this program does.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use engine::{GenerationConfig, PARAMETERS, Parameter, SamplingParams};

/// How tokens are chosen. Without a flag: as the model's generation_config.json says, else as the help
/// of the flag.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// The parameters of the samplers
    #[command(flatten)]
    pub chosen: Chosen,
    /// The same seed gives the same text [default: a fresh one]
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,
    /// Let no token that ends the answer come before there are N others
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub min_tokens: usize,
    /// Go on after a token that ends the answer
    #[arg(long)]
    pub ignore_eos: bool,
    /// Whether to end an answer that repeats itself [default: on for a conversation, off for raw text]
    #[arg(long, value_name = "on|off", value_parser = switch)]
    pub loop_guard: Option<bool>,
}

impl SamplingArgs {
    /// The parameters: flags over the model's own over ours.
    pub fn params(&self, model: &GenerationConfig) -> SamplingParams {
        let mut params = model.params();
        for (row, values) in &self.chosen.0 {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            // They were read once already, when the flags were parsed.
            let _ = row.read(&mut params, &values);
        }
        params
    }
}

/// The samplers' parameters that flags give: rows of [`PARAMETERS`] with their values.
#[derive(Clone, Debug, Default)]
pub struct Chosen(Vec<(&'static Parameter, Vec<String>)>);

impl Args for Chosen {
    fn augment_args(command: Command) -> Command {
        PARAMETERS.iter().fold(command, |command, row| command.arg(flag(row)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Chosen {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut chosen = Self::default();
        chosen.update_from_arg_matches(matches)?;
        Ok(chosen)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for row in PARAMETERS {
            let Some(values) = matches.get_many::<String>(row.name) else { continue };
            let values: Vec<String> = values.cloned().collect();
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            // Each value is right by itself; together they may not be.
            row.read(&mut SamplingParams::default(), &texts)
                .map_err(|e| clap::Error::raw(ErrorKind::InvalidValue, format!("--{e}\n")))?;
            self.0.retain(|(other, _)| other.name != row.name);
            self.0.push((row, values));
        }
        Ok(())
    }
}

/// The flag of a row.
fn flag(row: &'static Parameter) -> Arg {
    let default = (row.get)(&SamplingParams::default());
    let help =
        if default.is_empty() { row.help.to_owned() } else { format!("{} [default: {default}]", row.help) };
    let read = move |text: &str| {
        let read = row.read(&mut SamplingParams::default(), &[text]);
        read.map(|()| text.to_owned()).map_err(|_| format!("expected {}", row.expected))
    };
    Arg::new(row.name)
        .long(flag_name(row))
        .value_name(row.value)
        .help(help)
        .action(if row.many { ArgAction::Append } else { ArgAction::Set })
        .allow_hyphen_values(row.name != "samplers" && row.name != "dry_sequence_breaker")
        .value_parser(read)
}

/// The name of a row's flag: that of the row with `-` for `_`.
fn flag_name(row: &Parameter) -> &'static str {
    static NAMES: LazyLock<BTreeMap<&str, String>> =
        LazyLock::new(|| PARAMETERS.iter().map(|row| (row.name, row.name.replace('_', "-"))).collect());
    NAMES.get(row.name).map_or("", String::as_str)
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
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
    fn every_row_has_a_flag_with_its_help() {
        use clap::CommandFactory;
        let help = Flags::command().render_long_help().to_string();
        for row in PARAMETERS {
            assert!(
                help.contains(&format!("--{} <{}>", row.name.replace('_', "-"), row.value)),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn lists_and_orders_are_taken_whole() {
        let params =
            parse(&["--logit-bias", "5=-inf", "--logit-bias", "7=1.5", "--samplers", "min-p,temperature"])
                .unwrap()
                .params(&GenerationConfig::default());
        assert_eq!(params.logit_bias, [(5, f32::NEG_INFINITY), (7, 1.5)]);
        assert_eq!(params.samplers, ["min_p", "temperature"]);
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
            ("--mirostat", "1"),
            ("--samplers", "top_k,heat"),
            ("--logit-bias", "5"),
            ("--dry-base", "0.5"),
            ("--loop-guard", "maybe"),
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
