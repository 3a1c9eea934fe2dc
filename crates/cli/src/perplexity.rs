//! `influence perplexity`: how well a model foretells a text, and how far a quantized one is from its original.
//!
//! As llama.cpp measures it: the text is cut into windows of the context's length, each is read on its own and
//! scored on its second half. A client of the engine, like `score`.

mod base;

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use engine::{Engine, EngineConfig, Event, FinishReason, Finished, Request};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use text::Tokenizer;

use crate::generate::{name, or_closed_pipe};
use crate::interrupt::{INTERRUPTED, interrupted};
use crate::load::{self, Loaded, ModelArgs};
use base::{Distances, Reader, Writer};

/// Tokens of a window where `-c` does not say.
const WINDOW: usize = 512;
/// The largest text that is read.
const MAX_TEXT: u64 = 256 << 20;

/// Say how well a model foretells a text
#[derive(Args, Debug)]
pub struct PerplexityArgs {
    /// The text
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Stop after this many windows [default: all that are whole]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    /// Write the probabilities of every token to FILE, for --kl-base of another run
    #[arg(long, value_name = "FILE", conflicts_with = "kl_base")]
    pub save_logits: Option<PathBuf>,
    /// Compare with the probabilities that --save-logits wrote of another model: its original, say
    #[arg(long, value_name = "FILE")]
    pub kl_base: Option<PathBuf>,
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
pub fn run(args: &PerplexityArgs) -> Result<ExitCode> {
    or_closed_pipe(measure(args))
}

fn measure(args: &PerplexityArgs) -> Result<ExitCode> {
    let text = read(&args.file)?;
    let Loaded { model, tokenizer, path, .. } = load::load(&args.model)?;
    let window = args.model.ctx_size.unwrap_or_else(|| WINDOW.min(model.spec().context));
    let windows = windows(&tokenizer, &text, window, args)?;
    let config = EngineConfig { context: Some(window), ..EngineConfig::default() };
    let engine = Engine::start(model, Some(tokenizer), &config)?;
    let vocab = engine.info().vocab;
    let mut meter =
        Meter { estimate: Estimate::default(), rows: Rows::open(args, vocab, window, windows.len())? };
    let stop = interrupted()?;
    let bar = bar(windows.len());
    for (i, tokens) in windows.iter().enumerate() {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        meter.window(&engine, tokens)?;
        show(&bar, i + 1, windows.len(), &meter.estimate);
    }
    bar.finish_and_clear();
    report(args, &name(&path), window, windows.len(), meter)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("-f {name}: cannot open it"))?;
    let mut bytes = vec![];
    file.take(MAX_TEXT + 1).read_to_end(&mut bytes).with_context(|| format!("-f {name}: cannot read it"))?;
    if bytes.len() as u64 > MAX_TEXT {
        bail!("-f {name}: found more than {} MiB, expected a text of at most that", MAX_TEXT >> 20);
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow::anyhow!("-f {name}: found bytes that are not UTF-8 at offset {at}, expected UTF-8 text")
    })
}

/// The text's tokens in windows of equal length, each beginning with the token that begins a text where the model
/// has that. What is left at the end is not scored.
fn windows(tokenizer: &Tokenizer, text: &str, window: usize, args: &PerplexityArgs) -> Result<Vec<Vec<u32>>> {
    if window < 4 {
        bail!("-c {window}: expected at least 4 tokens in a window");
    }
    let tokens = tokenizer.encode(text, true, false)?;
    let bos = tokenizer.encode("", true, false)?.first().copied().filter(|&id| tokenizer.bos() == Some(id));
    let most = args.chunks.map_or(usize::MAX, |n| n as usize);
    let mut windows: Vec<Vec<u32>> = tokens.chunks_exact(window).take(most).map(<[u32]>::to_vec).collect();
    if windows.is_empty() {
        bail!(
            "-f {}: found {} tokens, expected at least the {window} of one window; take a longer text or -c {}",
            args.file.display(),
            tokens.len(),
            (tokens.len() / 4).max(4)
        );
    }
    if let Some(bos) = bos {
        windows.iter_mut().for_each(|w| w[0] = bos);
    }
    Ok(windows)
}

/// The sum over all scored tokens.
#[derive(Default)]
struct Estimate {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Estimate {
    fn add(&mut self, logprob: f32) {
        let nll = -f64::from(logprob);
        (self.count, self.sum, self.squares) = (self.count + 1, self.sum + nll, self.squares + nll * nll);
    }

    /// Mean negative log-likelihood in nats.
    fn nll(&self) -> f64 {
        self.sum / self.count as f64
    }

    fn perplexity(&self) -> f64 {
        self.nll().exp()
    }

    /// Standard error of the mean, carried through the exponential.
    fn error(&self) -> f64 {
        let variance = (self.squares / self.count as f64 - self.nll().powi(2)).max(0.0);
        (variance / (self.count.max(2) - 1) as f64).sqrt() * self.perplexity()
    }
}

/// What is done with the whole distribution of each position, if anything.
enum Rows {
    None,
    Save(Box<Writer>),
    Compare(Box<Reader>, Distances),
}

impl Rows {
    fn open(args: &PerplexityArgs, vocab: usize, window: usize, chunks: usize) -> Result<Rows> {
        Ok(match (&args.save_logits, &args.kl_base) {
            (Some(path), _) => Rows::Save(Box::new(Writer::create(path, vocab, window, chunks)?)),
            (_, Some(path)) => {
                Rows::Compare(Box::new(Reader::open(path, vocab, window, chunks)?), Distances::default())
            }
            _ => Rows::None,
        })
    }

    fn start(&mut self, tokens: &[u32]) -> Result<()> {
        match self {
            Rows::None => Ok(()),
            Rows::Save(writer) => writer.tokens(tokens),
            Rows::Compare(reader, _) => reader.tokens(tokens),
        }
    }

    fn row(&mut self, logits: Option<Vec<f32>>, next: u32) -> Result<()> {
        let Some(mut row) = logits else { return Ok(()) };
        base::log_softmax(&mut row);
        match self {
            Rows::None => Ok(()),
            Rows::Save(writer) => writer.row(&row),
            Rows::Compare(reader, distances) => {
                distances.add(reader.row()?, &row, next as usize);
                Ok(())
            }
        }
    }
}

struct Meter {
    estimate: Estimate,
    rows: Rows,
}

impl Meter {
    /// Scores the second half of a window.
    fn window(&mut self, engine: &Engine, tokens: &[u32]) -> Result<()> {
        let first = tokens.len() / 2;
        let wanted = !matches!(self.rows, Rows::None);
        self.rows.start(tokens)?;
        for event in engine.submit(Request::score(tokens.to_vec(), wanted))? {
            match event {
                Event::Scored { position, logprob, logits } => {
                    // The logits after a position foretell the next token; those after the last, nothing.
                    if (first..tokens.len() - 1).contains(&position) {
                        self.rows.row(logits, tokens[position + 1])?;
                    }
                    if let Some(logprob) = logprob.filter(|_| position > first) {
                        self.estimate.add(logprob);
                    }
                }
                Event::Finished(Finished { reason: FinishReason::Error(error), .. }) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn bar(windows: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} windows, {eta} left, {msg}");
    ProgressBar::new(windows as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The running estimate, on standard error.
fn show(bar: &ProgressBar, done: usize, of: usize, estimate: &Estimate) {
    if std::io::stderr().is_terminal() {
        bar.set_message(format!("perplexity {:.4}", estimate.perplexity()));
        bar.inc(1);
    } else {
        eprintln!("[{done}/{of}] {:.4}", estimate.perplexity());
    }
}

fn report(args: &PerplexityArgs, name: &str, window: usize, windows: usize, meter: Meter) -> Result<()> {
    let Meter { estimate, rows } = meter;
    let mut object = json!({
        "model": name,
        "file": args.file,
        "window": window,
        "windows": windows,
        "tokens_scored": estimate.count,
        "mean_nll": estimate.nll(),
        "perplexity": estimate.perplexity(),
        "error": estimate.error(),
    });
    let mut lines = format!(
        "perplexity {:.4} +- {:.4} over {} tokens in {windows} windows of {window}\n",
        estimate.perplexity(),
        estimate.error(),
        estimate.count
    );
    match rows {
        Rows::None => {}
        Rows::Save(writer) => {
            lines += &format!("log-probabilities written to {}\n", writer.finish()?.display());
        }
        Rows::Compare(_, distances) => {
            let summary = distances.summary();
            lines += &summary.lines();
            object["kl"] = summary.json();
        }
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{object}")?
    } else {
        out.write_all(lines.as_bytes())?
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_the_mean() {
        let mut estimate = Estimate::default();
        for nll in [1.0, 2.0, 3.0, 2.0] {
            estimate.add(-nll);
        }
        assert!((estimate.nll() - 2.0).abs() < 1e-12);
        assert!((estimate.perplexity() - 2f64.exp()).abs() < 1e-9);
        // Variance 0.5, over 3: sqrt(1/6) of the perplexity.
        assert!((estimate.error() - (1f64 / 6.0).sqrt() * 2f64.exp()).abs() < 1e-9);
    }
}
