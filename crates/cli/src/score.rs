//! `influence score`: how likely each token of a text is, and on request all logits.
//!
//! A client of the engine, for evaluation harnesses: what a model makes of a text, nothing sampled.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use engine::{Engine, EngineConfig, Event, FinishReason, Finished, Handle, Request};
use serde_json::json;
use text::Tokenizer;

use crate::generate::{name, or_closed_pipe};
use crate::load::{self, Loaded, ModelArgs};

/// Say how likely a text is, token by token.
#[derive(Args, Debug)]
#[group(id = "scored", required = true, multiple = false, args = ["text", "tokens"])]
pub struct ScoreArgs {
    /// The text to be scored, with the special tokens that the model puts around a text
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Token ids to be scored, as they are
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub tokens: Option<Vec<u32>>,
    /// Also print the logits that follow every position
    #[arg(long, requires = "json")]
    pub logits: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Runs the verb.
///
/// # Errors
/// Whatever stands in the way of a score.
pub fn run(args: &ScoreArgs) -> Result<ExitCode> {
    or_closed_pipe(score(args))
}

fn score(args: &ScoreArgs) -> Result<ExitCode> {
    let Loaded { model, tokenizer, path, .. } = load::load(&args.model)?;
    let name = name(&path);
    let tokens = match (&args.tokens, &args.text) {
        (Some(tokens), _) => tokens.clone(),
        (None, text) => tokenizer.encode(text.as_deref().unwrap_or_default(), true, false)?,
    };
    let config = EngineConfig { context: args.model.ctx_size, ..EngineConfig::default() };
    let engine = Engine::start(model, Some(tokenizer.clone()), &config)?;
    let handle = engine.submit(Request::score(tokens.clone(), args.logits))?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        print_json(&mut out, handle, &name, &tokens, args.logits)?;
    } else {
        print_table(&mut out, handle, &tokens, &tokenizer)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The sum of what is known of a text's tokens.
#[derive(Default)]
struct Total {
    scored: usize,
    logprob: f64,
}

impl Total {
    fn add(&mut self, logprob: Option<f32>) {
        if let Some(logprob) = logprob {
            self.scored += 1;
            self.logprob += f64::from(logprob);
        }
    }

    /// Mean negative log-likelihood in nats; `None` if nothing was scored.
    fn nll(&self) -> Option<f64> {
        (self.scored > 0).then(|| -self.logprob / self.scored as f64)
    }
}

/// Calls `each` for every position: number, log-probability, logits.
fn positions(
    handle: Handle,
    mut each: impl FnMut(usize, Option<f32>, Option<Vec<f32>>) -> io::Result<()>,
) -> Result<()> {
    for event in handle {
        match event {
            Event::Scored { position, logprob, logits } => each(position, logprob, logits)?,
            Event::Finished(Finished { reason: FinishReason::Error(error), .. }) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// One object, its logits written as they come: those of a long text are more than fits in memory.
fn print_json(out: &mut impl Write, handle: Handle, name: &str, tokens: &[u32], logits: bool) -> Result<()> {
    write!(out, "{{\"model\":{},\"tokens\":{}", json!(name), json!(tokens))?;
    if logits {
        write!(out, ",\"logits\":[")?;
    }
    let (mut logprobs, mut total) = (Vec::new(), Total::default());
    positions(handle, |position, logprob, row| {
        logprobs.push(logprob);
        total.add(logprob);
        if let Some(row) = row {
            let comma = if position > 0 { "," } else { "" };
            write!(out, "{comma}{}", serde_json::to_string(&row).map_err(io::Error::from)?)?;
        }
        Ok(())
    })?;
    if logits {
        write!(out, "]")?;
    }
    let (nll, sum) = (total.nll(), total.logprob);
    let perplexity = nll.map(f64::exp);
    writeln!(
        out,
        ",\"logprobs\":{},\"sum_logprob\":{},\"mean_nll\":{},\"perplexity\":{}}}",
        serde_json::to_string(&logprobs)?,
        json!(sum),
        json!(nll),
        json!(perplexity)
    )?;
    Ok(())
}

/// A line per token: log-probability, id, text.
fn print_table(out: &mut impl Write, handle: Handle, tokens: &[u32], tokenizer: &Tokenizer) -> Result<()> {
    let mut total = Total::default();
    positions(handle, |position, logprob, _| {
        total.add(logprob);
        let id = tokens.get(position).copied().unwrap_or_default();
        let value = logprob.map_or("-".to_owned(), |l| format!("{l:.4}"));
        writeln!(out, "{value:>10} {id:>8}  {:?}", tokenizer.decode(&[id], false))
    })?;
    if let Some(nll) = total.nll() {
        writeln!(
            out,
            "sum {:.4}, mean negative log-likelihood {nll:.4}, perplexity {:.3}",
            total.logprob,
            nll.exp()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Flags {
        #[command(flatten)]
        score: ScoreArgs,
    }

    fn parse(flags: &[&str]) -> Result<ScoreArgs, String> {
        let parsed = Flags::try_parse_from([&["influence"], flags].concat());
        parsed.map(|f| f.score).map_err(|e| e.to_string())
    }

    #[test]
    fn a_text_or_tokens_and_not_both() {
        assert_eq!(parse(&["--tokens", "1,2,3"]).unwrap().tokens, Some(vec![1, 2, 3]));
        assert!(parse(&["--text", "x", "--logits", "--json"]).unwrap().logits);
        assert!(parse(&["--text", "x", "--tokens", "1"]).is_err_and(|m| m.contains("--tokens")));
        assert!(parse(&[]).is_err_and(|m| m.contains("--text")));
        assert!(parse(&["--text", "x", "--logits"]).is_err_and(|m| m.contains("--json")));
    }

    #[test]
    fn the_mean_leaves_out_the_token_that_has_no_score() {
        let mut total = Total::default();
        assert_eq!(total.nll(), None);
        for logprob in [None, Some(-1.0), Some(-2.0)] {
            total.add(logprob);
        }
        assert_eq!(total.nll(), Some(1.5));
    }
}
