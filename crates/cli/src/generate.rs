//! `influence generate`: one prompt, one answer, on the screen as it comes.
//!
//! A client of the engine: prompt text -> tokens -> `engine::Request`, and `engine::Event` -> stdout.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use clap::Args;
use engine::{Canceller, Engine, EngineConfig, EngineInfo, FinishReason, Request};

use crate::answer::{About, Outcome, receive, report, seconds};
use crate::interrupt::on_interrupt;
use crate::load::{self, Loaded, ModelArgs};
use crate::prompt::{TemplateArgs, read_prompt};
use crate::sampling::SamplingArgs;
use crate::structure::{StructureArgs, reasoning_end};

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
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with_all = ["system", "chat_template", "template_arg"])]
    pub prompt_tokens: Option<Vec<u32>>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long, conflicts_with_all = ["system", "chat_template", "template_arg"])]
    pub raw: bool,
    /// How the prompt becomes a conversation
    #[command(flatten)]
    pub template: TemplateArgs,
    /// Print the answer when it is complete
    #[arg(long)]
    pub no_stream: bool,
    /// Give N answers to the prompt, which is read once; each has the seed after that of the one before it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), allow_negative_numbers = true)]
    pub n: u16,
    /// End the answer after N tokens [default: when the model does, or the context is full]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<usize>,
    /// With --json, how likely each token was, and each of the N likeliest in its place
    #[arg(long, value_name = "N", requires = "json", value_parser = clap::value_parser!(u16).range(0..=1000), allow_negative_numbers = true)]
    pub logprobs: Option<u16>,
    /// Print one JSON object: text, token ids, counts, timings, finish reason, seed
    #[arg(long)]
    pub json: bool,
    /// Say on stderr how long everything took, and how much memory
    #[arg(short, long)]
    pub verbose: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// What the answer has to look like
    #[command(flatten)]
    pub structure: StructureArgs,
    /// How tokens are chosen
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Runs the verb. Exit codes: 0, also when the reader of stdout went away; 130 when interrupted.
///
/// # Errors
/// A `clap::Error` for flags that do not go together; else whatever stands in the way.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    or_closed_pipe(answer(args))
}

fn answer(args: &GenerateArgs) -> Result<ExitCode> {
    // Before anything is loaded: a mistake shows at once.
    let prompt = match &args.prompt_tokens {
        Some(_) => None,
        None => Some(read_prompt(args.prompt.as_deref(), args.file.as_deref(), "PROMPT")?),
    };
    let mut loaded = load::load(&args.model)?;
    let request = request(args, prompt.as_deref(), &mut loaded)?;
    let Loaded { model, tokenizer, path, weights, load_time, .. } = loaded;
    let name = name(&path);
    let config = EngineConfig { context: args.model.ctx_size, ..EngineConfig::default() };
    let engine = Engine::start(model, Some(tokenizer.clone()), &config)?;
    if args.verbose {
        eprintln!("model    {name} ({}), loaded in {}", path.display(), seconds(load_time));
        if let Some(file) = &weights {
            eprintln!("weights  {}", file.display());
        }
        eprintln!("context  {}", context_line(engine.info()));
    }
    let about = About {
        name: &name,
        info: engine.info(),
        load_time,
        tokenizer: &tokenizer,
        logprobs: args.logprobs.is_some(),
    };
    answers(args, &engine, request, &about)
}

/// Runs the request as often as was asked for. The second and those after it begin when the first has
/// its first token: they find the prompt read.
fn answers(args: &GenerateArgs, engine: &Engine, request: Request, about: &About<'_>) -> Result<ExitCode> {
    let count = u64::from(args.n);
    let base = request.seed.unwrap_or_else(engine::Rng::fresh_seed);
    let seeded = |i: u64| Request { seed: Some(base.wrapping_add(i)), ..request.clone() };
    let first = engine.submit(seeded(0))?;
    // Ctrl-C ends the answers; once more ends the program, should a step take long.
    let running = Arc::new(Mutex::new(vec![first.canceller()]));
    let interrupted = running.clone();
    on_interrupt(move || lock(&interrupted).iter().for_each(Canceller::cancel))?;
    let mut waiting = VecDeque::new();
    let mut ended = ExitCode::SUCCESS;
    let outcome = receive(first, !args.no_stream && !args.json, || {
        for i in 1..count {
            let handle = engine.submit(seeded(i))?;
            lock(&running).push(handle.canceller());
            waiting.push_back(handle);
        }
        Ok(())
    })?;
    let mut next = Some(outcome);
    let mut number = 1;
    while let Some(outcome) = next {
        show(args, &outcome, about)?;
        let cancelled = outcome.finished.reason == FinishReason::Cancelled;
        let code = outcome.exit(about.info)?;
        if cancelled {
            ended = code;
        }
        number += 1;
        next = match waiting.pop_front() {
            Some(handle) => {
                if !args.json {
                    writeln!(io::stdout().lock(), "\n==> answer {number} of {count} <==")?;
                }
                Some(receive(handle, !args.no_stream && !args.json, || Ok(()))?)
            }
            None => None,
        };
    }
    Ok(ended)
}

fn lock(running: &Mutex<Vec<Canceller>>) -> MutexGuard<'_, Vec<Canceller>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints what is left of an answer when it is over.
fn show(args: &GenerateArgs, outcome: &Outcome, about: &About<'_>) -> Result<()> {
    if args.json {
        writeln!(io::stdout().lock(), "{}", outcome.to_json(about))?;
    } else {
        outcome.end_text(args.no_stream)?;
    }
    if args.verbose {
        report(&outcome.finished);
    }
    Ok(())
}

/// What to call the model at `path`.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Whether the answer goes on where the prompt ends, and the tokens of that.
fn tokens(args: &GenerateArgs, loaded: &mut Loaded, prompt: Option<&str>) -> Result<(bool, Vec<u32>)> {
    let Some(text) = prompt else { return Ok((true, args.prompt_tokens.clone().unwrap_or_default())) };
    let own = loaded.template.take().filter(|_| !args.raw);
    let tokenizer = &loaded.tokenizer;
    match args.template.template(own, tokenizer)? {
        Some(template) => {
            let whose = || format!("{} (--raw does without its chat template)", loaded.path.display());
            let rendered = args.template.render(&template, tokenizer, text).with_context(whose)?;
            Ok((false, tokenizer.encode_guarded(&rendered, false)?))
        }
        None => Ok((true, tokenizer.encode(text, true, false)?)),
    }
}

fn request(args: &GenerateArgs, prompt: Option<&str>, loaded: &mut Loaded) -> Result<Request> {
    let (continuing, tokens) = tokens(args, loaded, prompt)?;
    let constraint = args.structure.constraint()?;
    let constraint_after = constraint.as_ref().and_then(|_| reasoning_end(&loaded.tokenizer, &tokens));
    Ok(Request {
        params: args.sampling.params(&loaded.generation),
        seed: args.sampling.seed,
        max_tokens: args.max_tokens,
        min_tokens: args.sampling.min_tokens,
        stop: args.sampling.stop.clone(),
        stop_ids: loaded.stop_ids.clone(),
        ignore_eos: args.sampling.ignore_eos,
        // A conversation should end; raw text may be anything.
        loop_guard: args.sampling.loop_guard.unwrap_or(!continuing),
        logprobs: args.logprobs.map(usize::from),
        constraint,
        constraint_after,
        continuing,
        ..Request::generate(tokens)
    })
}

fn context_line(info: &EngineInfo) -> String {
    let mut line = format!("{} tokens, {} MiB of KV cache", info.context, info.cache_bytes.div_ceil(1 << 20));
    if info.context < info.model_context {
        line += &format!(" (the model was made for {})", info.model_context);
    }
    line
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
    fn a_closed_pipe_is_success_and_nothing_else_is() {
        let error = |kind| Err(io::Error::from(kind).into());
        assert!(or_closed_pipe(error(io::ErrorKind::BrokenPipe)).is_ok());
        assert!(or_closed_pipe(error(io::ErrorKind::StorageFull)).is_err());
    }
}
