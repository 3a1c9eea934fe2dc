//! `influence tokenize`, `detokenize` and `template`: what a text is to a model, without running it.
//!
//! Clients of the tokenizer and the chat template; no weight is read.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use engine::TextParts;
use serde_json::{Value, json};

use crate::load;
use crate::prompt::{TemplateArgs, read_file, read_prompt};
use crate::terminal;

/// Which model's
#[derive(Args)]
pub struct Which {
    /// The model's folder or .gguf file [default: the small model that ships with influence]
    #[arg(long, value_name = "PATH", conflicts_with = "model")]
    model_path: Option<PathBuf>,
    /// ORG/MODEL[:QUANT][@REVISION] that was downloaded, a name from `influence list`, or a path
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,
}

impl Which {
    fn open(&self) -> Result<TextParts> {
        let path = load::resolve(self.model_path.as_deref(), self.model.as_deref())?;
        Ok(engine::load_text(&path)?)
    }
}

/// Print the tokens of a text
#[derive(Args)]
pub struct TokenizeArgs {
    /// The text; `-`, or nothing where something is piped in, reads standard input
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    text: Option<String>,
    /// Read the text from a file (one newline at its end is left out)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Without the special tokens that the model puts around a text
    #[arg(long)]
    no_special: bool,
    /// Make control tokens that are spelt in the text into control tokens
    #[arg(long)]
    parse_special: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Prints a line for each token: id and text.
pub fn tokenize(args: &TokenizeArgs) -> Result<()> {
    let text = read_prompt(args.text.as_deref(), args.file.as_deref(), "TEXT")?;
    let tokenizer = args.which.open()?.tokenizer;
    let ids = tokenizer.encode(&text, !args.no_special, args.parse_special)?;
    let piece =
        |id: u32| String::from_utf8_lossy(&tokenizer.token_bytes(id).unwrap_or_default()).into_owned();
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let texts: Vec<String> = ids.iter().map(|&id| piece(id)).collect();
        writeln!(out, "{}", json!({ "tokens": ids, "texts": texts, "count": ids.len() }))?;
    } else {
        for &id in &ids {
            writeln!(out, "{id:>8}  {:?}", piece(id))?;
        }
    }
    Ok(out.flush()?)
}

/// Print the text of tokens
#[derive(Args)]
pub struct DetokenizeArgs {
    /// Token ids; without any, from standard input
    #[arg(value_name = "ID", value_delimiter = ',')]
    ids: Vec<u32>,
    /// Leave control tokens out
    #[arg(long)]
    skip_special: bool,
    #[command(flatten)]
    which: Which,
}

/// Prints the text, as it is.
pub fn detokenize(args: &DetokenizeArgs) -> Result<()> {
    let ids = if args.ids.is_empty() { read_ids(io::stdin().lock())? } else { args.ids.clone() };
    let tokenizer = args.which.open()?.tokenizer;
    if let Some((index, id)) = ids.iter().enumerate().find(|(_, id)| tokenizer.token(**id).is_none()) {
        anyhow::bail!(
            "token {index}: found id {id}, expected one of this vocabulary, below {}",
            tokenizer.vocab_size()
        );
    }
    let mut out = terminal::stdout();
    writeln!(out, "{}", tokenizer.decode(&ids, args.skip_special))?;
    Ok(out.flush()?)
}

/// Ids between blanks, commas or brackets: what other programs print works too.
fn read_ids(from: impl BufRead) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for line in from.lines() {
        let line = line.context("standard input: cannot read it")?;
        for word in
            line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|w| !w.is_empty())
        {
            let id = word
                .parse()
                .map_err(|_| anyhow::anyhow!("standard input: found {word:?}, expected token ids"));
            ids.push(id?);
        }
    }
    Ok(ids)
}

/// Print what a conversation becomes in a model's chat template
#[derive(Args)]
pub struct TemplateVerbArgs {
    /// The model, as with -m of the other verbs [default: the small model that ships with influence]
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// What the user says
    #[arg(long, value_name = "TEXT", default_value = "Hello!")]
    user: String,
    /// The whole conversation in a file: a JSON list of messages with role and content
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "system"])]
    messages: Option<PathBuf>,
    /// Print the template itself
    #[arg(long)]
    source: bool,
    #[command(flatten)]
    template: TemplateArgs,
}

/// Prints the text that the model would be given.
pub fn template(args: &TemplateVerbArgs) -> Result<()> {
    let path = load::resolve(None, args.model.as_deref())?;
    let TextParts { tokenizer, template } = engine::load_text(&path)?;
    let Some(template) = args.template.template(template, &tokenizer)? else {
        anyhow::bail!("{}: this model has no chat template; --chat-template FILE gives one", path.display());
    };
    let mut out = terminal::stdout();
    if args.source {
        writeln!(out, "{}", template.source())?;
        return Ok(out.flush()?);
    }
    let messages = args.messages.as_deref().map(|file| -> Result<Value> {
        let text = read_file("--messages", file)?;
        let what = || format!("--messages {}: expected a JSON list of messages", file.display());
        serde_json::from_str(&text).with_context(what)
    });
    let rendered = match messages.transpose()? {
        Some(messages) => args.template.render_messages(&template, &tokenizer, &messages)?,
        None => args.template.render(&template, &tokenizer, &args.user)?,
    };
    writeln!(out, "{}", rendered.text())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_however_they_are_separated() {
        assert_eq!(read_ids(&b"[1, 2,3]\n 4\n"[..]).unwrap(), [1, 2, 3, 4]);
        assert!(read_ids(&b"1 x"[..]).unwrap_err().to_string().contains("\"x\""));
    }
}
