//! `influence generate`: one prompt, one answer, on the screen as it comes.
//!
//! A client of the engine: prompt text -> tokens -> `engine::Request`, and `engine::Event` -> stdout.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use clap::error::ErrorKind;
use engine::{Engine, EngineConfig, EngineInfo, Event, FinishReason, Finished, Handle, Request};
use serde_json::json;
use text::{ChatTemplate, RenderOptions, Tokenizer};

use crate::interrupt::{INTERRUPTED, on_interrupt};
use crate::load::{self, Loaded, ModelArgs};
use crate::sampling::SamplingArgs;

/// The most that is read as a prompt, from a file or standard input: no context holds more.
const MAX_PROMPT: u64 = 64 << 20;

/// Answer a prompt.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// The prompt; `-`, or nothing where something is piped in, reads standard input
    #[arg(value_name = "PROMPT", conflicts_with_all = ["file", "prompt_tokens"])]
    pub prompt: Option<String>,
    /// Read the prompt from a file (one newline at its end is left out)
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt_tokens")]
    pub file: Option<PathBuf>,
    /// Token ids as the prompt, as they are: no template, no special tokens
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub prompt_tokens: Option<Vec<u32>>,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "prompt_tokens"])]
    pub system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long)]
    pub raw: bool,
    /// Print the answer when it is complete
    #[arg(long)]
    pub no_stream: bool,
    /// End the answer after N tokens [default: when the model does, or the context is full]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<usize>,
    /// Print one JSON object: text, token ids, counts, timings, finish reason, seed
    #[arg(long)]
    pub json: bool,
    /// Say on stderr how long everything took, and how much memory
    #[arg(short, long)]
    pub verbose: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// How tokens are chosen
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// What is to be continued.
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// Runs the verb. Exit codes: 0, also when the reader of stdout went away; 130 when interrupted.
///
/// # Errors
/// A `clap::Error` for flags that do not go together; else whatever stands in the way.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    or_closed_pipe(answer(args))
}

fn answer(args: &GenerateArgs) -> Result<ExitCode> {
    let prompt = read_prompt(args)?;
    let loaded = load::load(&args.model)?;
    let request = request(args, prompt, &loaded)?;
    let Loaded { model, tokenizer, path, weights, load_time, .. } = loaded;
    let name = name(&path);
    let config = EngineConfig { context: args.model.ctx_size, ..EngineConfig::default() };
    let engine = Engine::start(model, Some(tokenizer), &config)?;
    if args.verbose {
        eprintln!("model    {name} ({}), loaded in {}", path.display(), seconds(load_time));
        if let Some(file) = &weights {
            eprintln!("weights  {}", file.display());
        }
        eprintln!("context  {}", context_line(engine.info()));
    }
    let handle = engine.submit(request)?;
    // Ctrl-C ends the answer; once more ends the program, should a step take long.
    let canceller = handle.canceller();
    on_interrupt(move || canceller.cancel())?;
    let outcome = receive(handle, !args.no_stream && !args.json)?;
    if args.json {
        let object = outcome.to_json(&name, engine.info(), load_time);
        writeln!(io::stdout().lock(), "{object}")?;
    } else {
        outcome.end_text(args.no_stream)?;
    }
    if args.verbose {
        report(&outcome.finished);
    }
    outcome.exit(engine.info())
}

/// What to call the model at `path`.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Where the prompt comes from, before anything is loaded: a mistake shows at once.
fn read_prompt(args: &GenerateArgs) -> Result<Prompt> {
    if let Some(tokens) = &args.prompt_tokens {
        return Ok(Prompt::Tokens(tokens.clone()));
    }
    if let Some(path) = &args.file {
        return read_file(path).map(Prompt::Text);
    }
    match args.prompt.as_deref() {
        Some("-") => {}
        Some(text) => return Ok(Prompt::Text(text.to_owned())),
        None if !io::stdin().is_terminal() => {}
        None => {
            let message = "found no prompt, expected PROMPT, -f FILE, or text on standard input\n";
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, message).into());
        }
    }
    read_text(io::stdin().lock(), "standard input").map(Prompt::Text)
}

/// The text of the file that -f names, without one newline at its end.
pub fn read_file(path: &Path) -> Result<String> {
    read_text_file(path, "-f")
}

/// The text of a file that a flag or command names, without one newline at its end.
pub fn read_text_file(path: &Path, flag: &str) -> Result<String> {
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

fn request(args: &GenerateArgs, prompt: Prompt, loaded: &Loaded) -> Result<Request> {
    let template = loaded.template.as_ref().filter(|_| !args.raw);
    if args.system.is_some() && template.is_none() {
        let message = "--system: this model has no chat template, which would say where it goes; \
                       put the text into the prompt\n";
        return Err(clap::Error::raw(ErrorKind::ArgumentConflict, message).into());
    }
    let (tokens, continuing) = match prompt {
        Prompt::Tokens(tokens) => (tokens, true),
        Prompt::Text(text) => match template {
            Some(template) => {
                let tokens = chat(template, &loaded.tokenizer, args.system.as_deref(), &text);
                let whose = || format!("{} (--raw does without its chat template)", loaded.path.display());
                (tokens.with_context(whose)?, false)
            }
            None => (loaded.tokenizer.encode(&text, true, false)?, true),
        },
    };
    Ok(Request {
        params: args.sampling.params(&loaded.generation),
        seed: args.sampling.seed,
        max_tokens: args.max_tokens,
        stop: args.sampling.stop.clone(),
        stop_ids: loaded.stop_ids.clone(),
        continuing,
        ..Request::generate(tokens)
    })
}

/// The tokens of a conversation of one question. Control tokens that are spelt in it stay text.
fn chat(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    system: Option<&str>,
    text: &str,
) -> Result<Vec<u32>> {
    let mut messages = Vec::new();
    if let Some(system) = system {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": text}));
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let rendered = template.render_guarded(&messages.into(), options, &tokenizer.control_tokens())?;
    Ok(tokenizer.encode_guarded(&rendered, false)?)
}

/// What came of a request.
struct Outcome {
    tokens: Vec<u32>,
    text: String,
    finished: Finished,
}

/// Takes the events of an answer, and shows its text as it comes if `stream`.
fn receive(handle: Handle, stream: bool) -> Result<Outcome> {
    let mut out = io::stdout().lock();
    let (mut tokens, mut answer) = (Vec::new(), String::new());
    for event in handle {
        match event {
            Event::Token { id, text, .. } => {
                tokens.push(id);
                answer += &text;
                if stream && !text.is_empty() {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
            }
            Event::Finished(finished) => return Ok(Outcome { tokens, text: answer, finished }),
            Event::Started { .. } | Event::Scored { .. } => {}
        }
    }
    Err(engine::EngineError::Gone.into())
}

impl Outcome {
    /// What is left to print of a text: all of it if it was not streamed, and the end of its line.
    fn end_text(&self, all: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if all {
            out.write_all(self.text.as_bytes())?;
        }
        // What failed before its first word leaves nothing on stdout.
        let nothing = self.text.is_empty() && matches!(self.finished.reason, FinishReason::Error(_));
        if !self.text.ends_with('\n') && !nothing {
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }

    fn exit(self, info: &EngineInfo) -> Result<ExitCode> {
        match self.finished.reason {
            FinishReason::Error(error) => Err(error.into()),
            FinishReason::Cancelled => Ok(ExitCode::from(INTERRUPTED)),
            FinishReason::Context => {
                eprintln!("note: the answer ended because its context of {} tokens is full", info.context);
                Ok(ExitCode::SUCCESS)
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    fn to_json(&self, name: &str, info: &EngineInfo, load_time: Duration) -> serde_json::Value {
        let Finished { reason, usage, timings, seed } = &self.finished;
        let stopped_by = match reason {
            FinishReason::Eos(id) => json!(id),
            FinishReason::Stop(text) => json!(text),
            FinishReason::Error(error) => json!(error.to_string()),
            _ => json!(null),
        };
        json!({
            "model": name,
            "text": self.text,
            "tokens": self.tokens,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "finish_reason": reason.name(),
            "stopped_by": stopped_by,
            "seed": seed,
            "context": info.context,
            "timings": {
                "load_seconds": load_time.as_secs_f64(),
                "queue_seconds": timings.queue.as_secs_f64(),
                "prefill_seconds": timings.prefill.as_secs_f64(),
                "decode_seconds": timings.decode.as_secs_f64(),
                "prefill_tokens_per_second": prefill_rate(&self.finished),
                "decode_tokens_per_second": decode_rate(&self.finished),
            },
            "peak_memory_bytes": engine::peak_memory(),
        })
    }
}

fn report(finished: &Finished) {
    let Finished { reason, usage, timings, seed } = finished;
    let rate = |rate: Option<f64>| rate.map_or(String::new(), |r| format!(", {r:.1} tokens/s"));
    eprintln!(
        "prefill  {} tokens ({} of them cached) in {}{}",
        usage.prompt_tokens,
        usage.cached_tokens,
        seconds(timings.prefill),
        rate(prefill_rate(finished))
    );
    let (tokens, time) = (usage.completion_tokens, seconds(timings.decode));
    eprintln!("decode   {tokens} tokens in {time}{}", rate(decode_rate(finished)));
    if let Some(bytes) = engine::peak_memory() {
        eprintln!("memory   {} MiB at most", bytes >> 20);
    }
    eprintln!("finish   {}, seed {seed}", reason.name());
}

fn context_line(info: &EngineInfo) -> String {
    let mut line = format!("{} tokens, {} MiB of KV cache", info.context, info.cache_bytes.div_ceil(1 << 20));
    if info.context < info.model_context {
        line += &format!(" (the model was made for {})", info.model_context);
    }
    line
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// Tokens of the prompt per second, those that were not cached.
fn prefill_rate(finished: &Finished) -> Option<f64> {
    let tokens = finished.usage.prompt_tokens - finished.usage.cached_tokens;
    per_second(tokens, finished.timings.prefill)
}

/// Tokens of the answer per second, after the first, which the prefill gives.
fn decode_rate(finished: &Finished) -> Option<f64> {
    per_second(finished.usage.completion_tokens.saturating_sub(1), finished.timings.decode)
}

fn per_second(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// A reader of stdout that has seen enough is no failure.
pub fn or_closed_pipe(result: Result<ExitCode>) -> Result<ExitCode> {
    let closed = |e: &anyhow::Error| {
        e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    match result {
        Err(error) if closed(&error) => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Flags {
        #[command(flatten)]
        generate: GenerateArgs,
    }

    fn parse(flags: &[&str]) -> Result<GenerateArgs, String> {
        let parsed = Flags::try_parse_from([&["influence"], flags].concat());
        parsed.map(|f| f.generate).map_err(|e| e.to_string())
    }

    #[test]
    fn one_prompt_and_no_more() {
        assert_eq!(parse(&["hello"]).unwrap().prompt.as_deref(), Some("hello"));
        assert_eq!(parse(&["-"]).unwrap().prompt.as_deref(), Some("-"));
        assert_eq!(parse(&["--prompt-tokens", "1,2,3"]).unwrap().prompt_tokens, Some(vec![1, 2, 3]));
        for wrong in [
            &["hello", "-f", "x"][..],
            &["hello", "--prompt-tokens", "1"],
            &["-f", "x", "--prompt-tokens", "1"],
            &["--system", "x", "--raw", "hello"],
            &["--prompt-tokens", "1,x"],
            &["--prompt-tokens", "-1"],
            &["--max-tokens", "many", "hello"],
        ] {
            let message = parse(wrong).expect_err("flags that do not go together");
            assert!(message.contains("--") || message.contains("PROMPT"), "{message}");
        }
    }

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
    fn a_closed_pipe_is_success_and_nothing_else_is() {
        let error = |kind| Err(io::Error::from(kind).into());
        assert!(or_closed_pipe(error(io::ErrorKind::BrokenPipe)).is_ok());
        assert!(or_closed_pipe(error(io::ErrorKind::StorageFull)).is_err());
    }
}
