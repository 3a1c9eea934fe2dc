//! What is asked: from an argument, a file or standard input, to the tokens of a prompt.
//!
//! Stands between the command line and `engine::Request`, for `generate`, `template` and `tokenize`.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use clap::error::ErrorKind;
use serde_json::{Map, Value, json};
use text::{ChatTemplate, Guarded, RenderOptions, Tokenizer};

/// The most that is read as a prompt, from a file or standard input: no context holds more.
const MAX_PROMPT: u64 = 64 << 20;

/// How a conversation is written down
#[derive(Args, Clone, Debug, Default)]
pub struct TemplateArgs {
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// A chat template in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// A variable of the template (JSON, or else text); may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    pub template_arg: Vec<(String, Value)>,
}

fn variable(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

impl TemplateArgs {
    /// The template that is to be used: that of the flag, else the model's.
    ///
    /// # Errors
    /// The file of --chat-template, if it cannot be read or does not parse; flags that need a template
    /// where there is none.
    pub fn template(&self, own: Option<ChatTemplate>, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        if let Some(path) = &self.chat_template {
            let source = read_file("--chat-template", path)?;
            let token = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
            let (bos, eos) = (token(tokenizer.bos()), token(tokenizer.eos()));
            let template = ChatTemplate::new(&source, bos.as_deref(), eos.as_deref(), Map::new());
            return template.map(Some).with_context(|| format!("--chat-template {}", path.display()));
        }
        let flag = match (&self.system, self.template_arg.is_empty()) {
            (Some(_), _) => "--system",
            (_, false) => "--template-arg",
            _ => return Ok(own),
        };
        if own.is_none() {
            let message = format!(
                "{flag}: this model has no chat template, which would say where it goes; put the text into the \
                 prompt, or give a --chat-template\n"
            );
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, message).into());
        }
        Ok(own)
    }

    /// The text of a conversation of one question. Control tokens that are spelt in it stay text.
    ///
    /// # Errors
    /// The template's own.
    pub fn render(&self, template: &ChatTemplate, tokenizer: &Tokenizer, text: &str) -> Result<Guarded> {
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.push(json!({"role": "user", "content": text}));
        self.render_messages(template, tokenizer, &messages.into())
    }

    /// The text of a conversation, ready for the model's answer.
    ///
    /// # Errors
    /// The template's own.
    pub fn render_messages(
        &self,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        messages: &Value,
    ) -> Result<Guarded> {
        let extra = self.template_arg.iter().cloned().collect();
        let options = RenderOptions { add_generation_prompt: true, extra, ..RenderOptions::default() };
        Ok(template.render_guarded(messages, options, &tokenizer.control_tokens())?)
    }
}

/// The text of PROMPT, of a file, or of standard input where it is `-` or piped. `name` is what the
/// argument is called.
///
/// # Errors
/// What cannot be read; that there is nothing to read.
pub fn read_prompt(argument: Option<&str>, file: Option<&Path>, name: &str) -> Result<String> {
    if let Some(path) = file {
        return read_file("-f", path);
    }
    match argument {
        Some("-") => {}
        Some(text) => return Ok(text.to_owned()),
        None if !io::stdin().is_terminal() => {}
        None => {
            let what = name.to_lowercase();
            let message = format!("found no {what}, expected {name}, -f FILE, or text on standard input\n");
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, message).into());
        }
    }
    read_text(io::stdin().lock(), "standard input")
}

/// The text of a file named by `flag`, without one newline at its end.
///
/// # Errors
/// The file and what is wrong with it.
pub fn read_file(flag: &str, path: &Path) -> Result<String> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("{flag} {name}: cannot open it"))?;
    read_text(file, &name)
}

fn read_text(from: impl Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_PROMPT + 1).read_to_end(&mut bytes).with_context(|| format!("{name}: cannot read it"))?;
    if bytes.len() as u64 > MAX_PROMPT {
        anyhow::bail!("{name}: found more than {} MiB, expected a prompt of at most that", MAX_PROMPT >> 20);
    }
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow::anyhow!("{name}: found bytes that are not UTF-8 at offset {at}, expected UTF-8 text")
    })?;
    if text.ends_with('\n') {
        text.truncate(text.len() - 1);
        if text.ends_with('\r') {
            text.truncate(text.len() - 1);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_without_its_last_newline_and_must_be_utf8() {
        assert_eq!(read_text(&b"a\n\n"[..], "f").unwrap(), "a\n");
        assert_eq!(read_text(&b"a\r\n"[..], "f").unwrap(), "a");
        assert_eq!(read_text(&b""[..], "f").unwrap(), "");
        let message = read_text(&b"ab\xff"[..], "f").unwrap_err().to_string();
        assert!(message.contains("f: found bytes that are not UTF-8 at offset 2"), "{message}");
        assert!(read_text(io::repeat(b'a'), "f").is_err());
    }

    #[test]
    fn variables_are_json_or_else_text() {
        assert_eq!(variable("enable_thinking=false"), Ok(("enable_thinking".into(), json!(false))));
        assert_eq!(variable("date=1 May=now"), Ok(("date".into(), json!("1 May=now"))));
        assert!(variable("thinking").is_err() && variable("=1").is_err());
    }
}
