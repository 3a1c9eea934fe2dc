//! influence, llama.cpp and candle on the same files, by turns.
//!
//! Each measurement is a process of its own: `influence bench -o json`, or this program again with a peer's
//! name. A round measures all of them once, one after the other; a machine that slows down slows them alike,
//! and ratios are taken within a round. What memory gives at the moment is probed before each process.

mod agree;
#[cfg(feature = "candle")]
mod candle;
mod llama;
mod probe;
mod quality;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Measure all of them by turns and print the ratios
    Compare(Compare),
    /// Measure llama.cpp in this process
    Llama {
        #[command(flatten)]
        job: Job,
        /// Leave the weights as they are in the file instead of repacking them at load time
        #[arg(long)]
        no_repack: bool,
    },
    /// Measure candle in this process
    #[cfg(feature = "candle")]
    Candle(Job),
    /// Compare llama.cpp's logits with ours, and both with the references of fixtures
    Agree(agree::Agree),
    /// Compare how far quantized files are from their original, computed by us and by llama.cpp
    Quality(quality::Quality),
    /// Write what llama.cpp in this process says at every position, as f32, to standard output
    Logits {
        #[arg(short, long)]
        model: PathBuf,
        #[arg(long, value_delimiter = ',')]
        tokens: Vec<u32>,
        /// Of an encoder: the vector of every position
        #[arg(long)]
        vectors: bool,
        /// Keys and values in F16, flash attention and repacked weights, instead of everything in f32
        #[arg(long)]
        as_usual: bool,
    },
}

#[derive(clap::Args)]
struct Compare {
    /// The GGUF files
    #[arg(short, long, required = true, num_args = 1..)]
    models: Vec<PathBuf>,
    /// The influence to be measured
    #[arg(long, default_value = "influence")]
    influence: PathBuf,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(short, long, value_delimiter = ',', default_value = "2")]
    threads: Vec<usize>,
    #[arg(short = 'p', long, default_value_t = 512)]
    n_prompt: usize,
    #[arg(short, long, default_value_t = 64)]
    n_gen: usize,
    #[arg(short = 'd', long, default_value_t = 0)]
    n_depth: usize,
    /// Sequences that are written together
    #[arg(short, long, default_value_t = 1)]
    batch: usize,
    /// Runs of each test in one process
    #[arg(short, long, default_value_t = 1)]
    repetitions: usize,
    /// Which peers: llama, llama-plain (no repacking), candle
    #[arg(long, value_delimiter = ',', default_value = "llama,llama-plain,candle")]
    peers: Vec<String>,
    /// Also write every measurement, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What one process measures.
#[derive(clap::Args, Clone)]
struct Job {
    #[arg(short, long)]
    model: PathBuf,
    #[arg(short, long)]
    threads: usize,
    #[arg(short = 'p', long)]
    n_prompt: usize,
    #[arg(short, long)]
    n_gen: usize,
    #[arg(short = 'd', long)]
    n_depth: usize,
    #[arg(short, long)]
    batch: usize,
    #[arg(short, long)]
    repetitions: usize,
}

/// What it prints: the fields of `influence bench -o json` that matter here.
#[derive(Serialize, Deserialize)]
struct Measured {
    test: String,
    tokens_per_second: Vec<f64>,
}

/// One process's answer to one test.
#[derive(Clone, Serialize)]
struct Sample {
    model: String,
    threads: usize,
    test: String,
    round: usize,
    runner: String,
    tokens_per_second: f64,
    read_gbs: f64,
}

fn main() -> Result<()> {
    match Cli::parse().mode {
        Mode::Compare(compare) => compare.run(),
        Mode::Llama { job, no_repack } => print(&llama::measure(&job, !no_repack)?),
        #[cfg(feature = "candle")]
        Mode::Candle(job) => print(&candle::measure(&job)?),
        Mode::Agree(agree) => agree.run(),
        Mode::Quality(quality) => quality.run(),
        Mode::Logits { model, tokens, vectors, as_usual } => {
            let said = llama::logits(&model, &tokens, vectors, as_usual)?;
            let bytes: Vec<u8> = said.iter().flat_map(|x| x.to_le_bytes()).collect();
            Ok(std::io::stdout().write_all(&bytes)?)
        }
    }
}

fn print(measured: &[Measured]) -> Result<()> {
    println!("{}", serde_json::to_string(measured)?);
    Ok(())
}

impl Compare {
    fn run(&self) -> Result<()> {
        let mut all = vec![];
        for model in &self.models {
            for &threads in &self.threads {
                for round in 0..self.rounds {
                    self.round(model, threads, round, &mut all)?;
                }
            }
        }
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
        }
        report::print(&all);
        Ok(())
    }

    fn round(&self, model: &Path, threads: usize, round: usize, all: &mut Vec<Sample>) -> Result<()> {
        let runners = std::iter::once("influence").chain(self.peers.iter().map(String::as_str));
        for runner in runners {
            let read_gbs = probe::read_gbs(threads);
            let measured = match self.measure(runner, model, threads) {
                Ok(measured) => measured,
                // A peer need not know every format.
                Err(error) if runner != "influence" => {
                    eprintln!("{runner}: {}: {error:#}", model.display());
                    continue;
                }
                Err(error) => return Err(error),
            };
            for Measured { test, tokens_per_second } in measured {
                let tokens_per_second = report::median(tokens_per_second);
                let name = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                eprintln!(
                    "{name} {threads}t {test} round {round}: {runner} {tokens_per_second:.1} ({read_gbs:.0} GB/s)"
                );
                let runner = runner.to_string();
                all.push(Sample { model: name, threads, test, round, runner, tokens_per_second, read_gbs });
            }
        }
        Ok(())
    }

    fn measure(&self, runner: &str, model: &Path, threads: usize) -> Result<Vec<Measured>> {
        let mut command = match runner {
            "influence" => Command::new(&self.influence),
            _ => Command::new(std::env::current_exe()?),
        };
        match runner {
            "influence" => command.args(["bench", "-o", "json"]),
            "llama" => command.arg("llama"),
            "llama-plain" => command.args(["llama", "--no-repack"]),
            "candle" => command.arg("candle").env("RAYON_NUM_THREADS", threads.to_string()),
            other => bail!("--peers: found {other}, expected llama, llama-plain or candle"),
        };
        command.arg("-m").arg(model);
        for (flag, value) in [
            ("-t", threads),
            ("-p", self.n_prompt),
            ("-n", self.n_gen),
            ("-d", self.n_depth),
            ("-b", self.batch),
            ("-r", self.repetitions),
        ] {
            command.args([flag, &value.to_string()]);
        }
        let output =
            command.stderr(Stdio::piped()).output().with_context(|| format!("cannot start {runner}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        ensure!(output.status.success(), "{}: {last}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Job {
    /// Runs both tests on a peer: `prefill(from, to)` and `decode(from, count)` each once more than counted.
    fn run(&self, peer: &mut impl Peer) -> Result<Vec<Measured>> {
        let mut out = vec![];
        let at = if self.n_depth > 0 { format!("@d{}", self.n_depth) } else { String::new() };
        if self.n_prompt > 0 {
            let test = format!("pp{}{at}", self.n_prompt);
            out.push(self.repeat(peer, test, 1, self.n_prompt, |p, count| p.prefill(0, count))?);
        }
        if self.n_gen > 0 {
            let together = if self.batch > 1 { format!("x{}", self.batch) } else { String::new() };
            let test = format!("tg{}{together}{at}", self.n_gen);
            let decode = |p: &mut _, count| Peer::decode(p, self.batch, count);
            out.push(self.repeat(peer, test, self.batch, self.n_gen, decode)?);
        }
        Ok(out)
    }

    /// Each run begins from a cache of `n_depth` tokens a sequence, which is not timed; the first does not count.
    fn repeat<P: Peer>(
        &self,
        peer: &mut P,
        test: String,
        sequences: usize,
        tokens: usize,
        run: impl Fn(&mut P, usize) -> Result<()>,
    ) -> Result<Measured> {
        let mut tokens_per_second = vec![];
        for i in 0..=self.repetitions {
            peer.clear()?;
            for sequence in 0..sequences {
                if self.n_depth > 0 {
                    peer.prefill(sequence, self.n_depth)?;
                }
            }
            let start = std::time::Instant::now();
            run(peer, if i == 0 { tokens.min(WARM) } else { tokens })?;
            if i > 0 {
                tokens_per_second.push((tokens * sequences) as f64 / start.elapsed().as_secs_f64());
            }
        }
        Ok(Measured { test, tokens_per_second })
    }
}

/// Tokens of the run that does not count.
const WARM: usize = 32;

/// What a peer has to be able to do. Sequences continue where they are.
trait Peer {
    /// Forgets everything.
    fn clear(&mut self) -> Result<()>;
    /// Reads `count` tokens into a sequence; logits of the last one.
    fn prefill(&mut self, sequence: usize, count: usize) -> Result<()>;
    /// Writes `count` tokens of each of `sequences` sequences, one step after the other; logits of each.
    fn decode(&mut self, sequences: usize, count: usize) -> Result<()>;
}

/// Tokens that are not all the same; which ones is without effect on the speed.
fn token(position: usize, vocab: usize) -> u32 {
    ((position as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as u32 % vocab as u32
}
