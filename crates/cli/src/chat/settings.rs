//! What `/set` and the flags say of the answers: every flag of `sampling.rs` by its own name, and a few of the chat's.

use anyhow::{Result, bail};
use clap::builder::Resettable;
use clap::{Args, Command, FromArgMatches};

use super::full::WhenFull;
use crate::sampling::SamplingArgs;

/// How reasoning is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Thinking {
    /// All of it, dimmed
    Show,
    /// One line while it lasts; `/think last` unfolds it
    Fold,
    /// Not at all
    Hide,
}

/// The chat's own flags, which `/set` takes too.
#[derive(Args, Clone, Debug)]
pub struct ChatFlags {
    /// End each answer after N tokens [default: when the model does, or the context is full]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<usize>,
    /// How reasoning is shown
    #[arg(long, value_enum, value_name = "HOW", default_value = "fold")]
    pub thinking: Thinking,
    /// What to do when the context is full; without a terminal, `ask` is `stop`
    #[arg(long, value_enum, value_name = "WHAT", default_value = "ask")]
    pub when_full: WhenFull,
}

/// All of them.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// The chat's own
    #[command(flatten)]
    pub chat: ChatFlags,
    /// How tokens are chosen
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// The flags, and what `/set` changed since.
#[derive(Clone, Debug)]
pub struct Settings {
    given: Flags,
    changed: Vec<(String, String)>,
    /// The flags as they are now.
    pub now: Flags,
}

/// Without default values: a flag that is not there changes nothing.
fn command() -> Command {
    let command = Command::new("/set").no_binary_name(true).disable_help_flag(true);
    Flags::augment_args_for_update(command).mut_args(|flag| flag.default_value(Resettable::Reset))
}

/// The names that `/set` takes, with what they mean.
pub fn names() -> Vec<(String, String)> {
    let command = command();
    let flags = command.get_arguments().filter_map(|flag| {
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        Some((flag.get_long()?.to_owned(), help))
    });
    flags.collect()
}

impl Settings {
    /// As the command line says.
    pub fn new(given: Flags) -> Self {
        Self { now: given.clone(), given, changed: Vec::new() }
    }

    /// `/set NAME VALUE`; the value `default` takes back what was set before.
    ///
    /// # Errors
    /// There is no such name, or it does not take the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let name = name.trim_start_matches("--").replace('_', "-");
        if !names().iter().any(|(known, _)| *known == name) {
            let known: Vec<String> = names().into_iter().map(|(name, _)| name).collect();
            bail!("/set: found {name:?}, expected one of {}", known.join(", "));
        }
        let mut changed = self.changed.clone();
        changed.retain(|(other, _)| *other != name);
        if value != "default" {
            changed.push((name, value.to_owned()));
        }
        let words = changed.iter().map(|(name, value)| format!("--{name}={value}"));
        let mut now = self.given.clone();
        let parsed = command().try_get_matches_from(words).and_then(|m| now.update_from_arg_matches(&m));
        if let Err(error) = parsed {
            // Its first paragraph: what was found, and what could have been.
            let message = error.render().to_string();
            let lines: Vec<&str> =
                message.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
            bail!("/set: {}", lines.join(" ").trim_start_matches("error: "));
        }
        (self.changed, self.now) = (changed, now);
        Ok(())
    }

    /// What `/set` alone shows.
    pub fn list(&self) -> String {
        let line = |(name, help): (String, String)| {
            let set = self.changed.iter().find(|(other, _)| *other == name);
            let value = set.map_or("", |(_, value)| value.as_str());
            format!("  {name:<20} {value:<10} {help}\n")
        };
        names().into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn every_flag_can_be_set_and_set_back() {
        let mut settings = Settings::new(Line::parse_from(["x", "--top-k", "5", "--max-tokens", "9"]).flags);
        settings.set("temperature", "0.25").unwrap();
        settings.set("top_k", "7").unwrap();
        settings.set("max-tokens", "3").unwrap();
        settings.set("thinking", "show").unwrap();
        let params = |settings: &Settings| settings.now.sampling.params(&engine::GenerationConfig::default());
        assert_eq!(params(&settings).temperature, 0.25);
        assert_eq!(params(&settings).top_k, 7);
        assert_eq!((settings.now.chat.max_tokens, settings.now.chat.thinking), (Some(3), Thinking::Show));
        settings.set("top-k", "default").unwrap();
        assert_eq!(params(&settings).top_k, 5);
        assert!(settings.list().contains("0.25"));
        let mut settings =
            Settings::new(Line::parse_from(["x", "--thinking", "hide", "--when-full", "drop"]).flags);
        settings.set("seed", "4").unwrap();
        assert_eq!(
            (settings.now.chat.thinking, settings.now.chat.when_full),
            (Thinking::Hide, WhenFull::Drop)
        );
    }

    #[test]
    fn what_cannot_be_set_is_told_and_changes_nothing() {
        let mut settings = Settings::new(Line::parse_from(["x"]).flags);
        let unknown = settings.set("warmth", "1").unwrap_err().to_string();
        assert!(unknown.contains("warmth") && unknown.contains("temperature"), "{unknown}");
        let wrong = settings.set("temperature", "hot").unwrap_err().to_string();
        assert!(wrong.contains("hot") && wrong.contains("expected"), "{wrong}");
        let wrong = settings.set("when-full", "maybe").unwrap_err().to_string();
        assert!(wrong.contains("maybe") && wrong.contains("summarise"), "{wrong}");
        let params = settings.now.sampling.params(&engine::GenerationConfig::default());
        assert_eq!(params.temperature, engine::SamplingParams::default().temperature);
    }
}
