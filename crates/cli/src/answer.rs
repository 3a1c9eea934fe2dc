//! An answer as it comes in and as it goes out: text, JSON, a report.
//!
//! Stands after the engine: `engine::Event`s -> standard output, and standard error for what is not the
//! answer.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use engine::{EngineInfo, Event, FinishReason, Finished, Handle, Logprob};
use serde_json::{Value, json};
use text::Tokenizer;

use crate::interrupt::INTERRUPTED;
use crate::terminal;

/// What came of a request.
pub struct Outcome {
    tokens: Vec<u32>,
    logprobs: Vec<Option<Logprob>>,
    text: String,
    /// Why and how it ended.
    pub finished: Finished,
}

/// Takes the events of an answer, and shows its text as it comes if `stream`. Calls `begun` after its first
/// token: the prompt is read by then.
///
/// # Errors
/// Standard output's, and those of `begun`.
pub fn receive(handle: Handle, stream: bool, mut begun: impl FnMut() -> Result<()>) -> Result<Outcome> {
    let mut out = terminal::stdout();
    let (mut tokens, mut logprobs, mut answer) = (Vec::new(), Vec::new(), String::new());
    for event in handle {
        match event {
            Event::Token { id, text, logprob } => {
                if tokens.is_empty() {
                    begun()?;
                }
                tokens.push(id);
                logprobs.push(logprob);
                answer += &text;
                if stream && !text.is_empty() {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
            }
            Event::Finished(finished) => return Ok(Outcome { tokens, logprobs, text: answer, finished }),
            Event::Started { .. } | Event::Scored { .. } | Event::Encoded(_) => {}
        }
    }
    Err(engine::EngineError::Gone.into())
}

impl Outcome {
    /// What is left to print of a text: all of it if it was not streamed, and the end of its line.
    ///
    /// # Errors
    /// Standard output's.
    pub fn end_text(&self, all: bool) -> Result<()> {
        let mut out = terminal::stdout();
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

    /// The exit code; what ended an answer too soon is said on standard error.
    ///
    /// # Errors
    /// What the answer ended with.
    pub fn exit(self, info: &EngineInfo) -> Result<ExitCode> {
        if self.finished.satisfied == Some(false) {
            let reason = self.finished.reason.name();
            eprintln!("note: the answer was cut ({reason}) before it was what its constraint describes");
        }
        match self.finished.reason {
            FinishReason::Error(error) => Err(error.into()),
            FinishReason::Cancelled => Ok(ExitCode::from(INTERRUPTED)),
            FinishReason::Context => {
                eprintln!("note: the answer ended because its context of {} tokens is full", info.context);
                Ok(ExitCode::SUCCESS)
            }
            FinishReason::Loop => {
                eprintln!("note: the answer ended because it repeats itself; --loop-guard off lets it go on");
                Ok(ExitCode::SUCCESS)
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    /// The object that `--json` prints.
    pub fn to_json(&self, about: &About<'_>) -> Value {
        let About { name, info, load_time, .. } = about;
        let Finished { reason, usage, timings, seed, satisfied } = &self.finished;
        let stopped_by = match reason {
            FinishReason::Eos(id) => json!(id),
            FinishReason::Stop(text) => json!(text),
            FinishReason::Error(error) => json!(error.to_string()),
            _ => json!(null),
        };
        let mut object = json!({
            "model": name,
            "text": self.text,
            "tokens": self.tokens,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "finish_reason": reason.name(),
            "stopped_by": stopped_by,
            "constraint_satisfied": satisfied,
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
        });
        if about.logprobs {
            object["logprobs"] = self.logprobs_json(about.tokenizer);
        }
        object
    }

    /// For each token its log-probability and the likeliest in its place; `null` for one that was forced.
    fn logprobs_json(&self, tokenizer: &Tokenizer) -> Value {
        let text =
            |id: u32| tokenizer.token_bytes(id).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let one = |id: u32, logprob: f32| json!({ "id": id, "text": text(id), "logprob": logprob });
        let each = self.tokens.iter().zip(&self.logprobs).map(|(&id, logprob)| match logprob {
            None => Value::Null,
            Some(Logprob { token, top }) => {
                let mut object = one(id, *token);
                object["top"] = top.iter().map(|&(id, logprob)| one(id, logprob)).collect();
                object
            }
        });
        each.collect()
    }
}

/// What is said of every answer of a run.
pub struct About<'a> {
    /// The model's name.
    pub name: &'a str,
    /// Its context.
    pub info: &'a EngineInfo,
    /// How long it took to load.
    pub load_time: Duration,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Whether log-probabilities were asked for.
    pub logprobs: bool,
}

/// Where the time went, on standard error.
pub fn report(finished: &Finished) {
    let Finished { reason, usage, timings, seed, .. } = finished;
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

/// A time as it is printed.
pub fn seconds(time: Duration) -> String {
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
