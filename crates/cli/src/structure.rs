//! The flags that say what an answer has to look like.
//!
//! Stands between the command line and `engine::Constraint`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use engine::Constraint;
use text::Tokenizer;

use crate::prompt::read_file;

/// What the answer has to look like. At most one of these.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "structure", multiple = false)]
#[command(next_help_heading = "Structure")]
pub struct StructureArgs {
    /// The answer is JSON of this schema
    #[arg(long, value_name = "SCHEMA")]
    pub json_schema: Option<String>,
    /// The answer is JSON of the schema in a file
    #[arg(long, value_name = "FILE")]
    pub json_schema_file: Option<PathBuf>,
    /// The answer as a whole matches a regular expression
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    /// The answer follows a grammar (Lark, or GBNF)
    #[arg(long, value_name = "GRAMMAR")]
    pub grammar: Option<String>,
    /// The answer follows the grammar in a file
    #[arg(long, value_name = "FILE")]
    pub grammar_file: Option<PathBuf>,
    /// The answer is of this form
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<Format>,
}

/// A form of answers that needs no description.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// A JSON object
    Json,
}

impl StructureArgs {
    /// What the flags ask for.
    ///
    /// # Errors
    /// A file that cannot be read; a schema that is no JSON, with the flag.
    pub fn constraint(&self) -> Result<Option<Constraint>> {
        let file = |flag: &str, path: &Option<PathBuf>| {
            path.as_deref().map(|path: &Path| read_file(flag, path)).transpose()
        };
        if let Some(Format::Json) = self.format {
            return Ok(Some(Constraint::Json));
        }
        if let Some(text) = &self.json_schema {
            return schema("--json-schema", text).map(Some);
        }
        if let Some(text) = file("--json-schema-file", &self.json_schema_file)? {
            return schema("--json-schema-file", &text).map(Some);
        }
        if let Some(regex) = &self.regex {
            return Ok(Some(Constraint::Regex(regex.clone())));
        }
        let grammar = file("--grammar-file", &self.grammar_file)?.or_else(|| self.grammar.clone());
        Ok(grammar.map(Constraint::Grammar))
    }
}

fn schema(flag: &str, text: &str) -> Result<Constraint> {
    let value = serde_json::from_str(text);
    value.map(Constraint::JsonSchema).map_err(|e| {
        let message = format!("{flag}: found text that is no JSON ({e}), expected a schema\n");
        clap::Error::raw(ErrorKind::ValueValidation, message).into()
    })
}

/// The words that end a reasoning which the prompt has begun; what is asked of the answer holds after
/// them.
pub fn reasoning_end(tokenizer: &Tokenizer, prompt: &[u32]) -> Option<String> {
    let tail = &prompt[prompt.len().saturating_sub(8)..];
    let text: Vec<u8> = tail.iter().filter_map(|&id| tokenizer.token_bytes(id)).flatten().collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    let pairs =
        [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|begin_of_thought|>", "<|end_of_thought|>")];
    pairs.iter().find(|(open, _)| text.trim_end().ends_with(open)).map(|(_, close)| (*close).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Flags {
        #[command(flatten)]
        structure: StructureArgs,
    }

    fn parse(flags: &[&str]) -> Result<Option<Constraint>, String> {
        let parsed = Flags::try_parse_from([&["influence"], flags].concat()).map_err(|e| e.to_string())?;
        parsed.structure.constraint().map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn one_constraint_and_no_more() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&["--format", "json"]), Ok(Some(Constraint::Json)));
        assert_eq!(parse(&["--regex", "a+"]), Ok(Some(Constraint::Regex("a+".into()))));
        assert_eq!(parse(&["--json-schema", "true"]), Ok(Some(Constraint::JsonSchema(true.into()))));
        assert!(parse(&["--regex", "a", "--grammar", "b"]).is_err_and(|m| m.contains("--regex")));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_flag() {
        assert!(parse(&["--json-schema", "{"]).is_err_and(|m| m.contains("--json-schema: found text")));
        for flag in ["--json-schema-file", "--grammar-file"] {
            assert!(parse(&[flag, "/nowhere"]).is_err_and(|m| m.contains(flag) && m.contains("/nowhere")));
        }
        assert!(parse(&["--format", "yaml"]).is_err_and(|m| m.contains("json")));
    }
}
