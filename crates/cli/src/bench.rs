//! `influence bench`: how fast a model reads and writes tokens here, and how much of what the machine
//! could do that is.
//!
//! A client of `engine::bench`, which drives the forward step without scheduler or sampler. The machine's
//! peaks are measured by the same run, the memory's right beside each test: it changes from second to second.

mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum, value_parser};
use engine::bench::{Bench, Probe, Work};

use crate::load::{self, NumberArgs};
use table::{Row, Rows};

/// Measure how fast a model runs here.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// The model's folder or .gguf file [default: the small model that ships with influence]
    #[arg(long, value_name = "PATH", conflicts_with = "model")]
    pub model_path: Option<PathBuf>,
    /// ORG/MODEL[:QUANT][@REVISION] that was downloaded, a name from `influence list`, or a path
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<String>,
    /// How the model is kept
    #[command(flatten)]
    pub numbers: NumberArgs,
    /// Tokens of the prompts that are read; 0 leaves the test out
    #[arg(short = 'p', long, value_name = "N,...", value_delimiter = ',', default_value = "512")]
    pub n_prompt: Vec<usize>,
    /// Tokens that are written one by one; 0 leaves the test out
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_value = "128")]
    pub n_gen: Vec<usize>,
    /// Tokens that are in the cache already when a test begins
    #[arg(short = 'd', long, value_name = "N,...", value_delimiter = ',', default_value = "0")]
    pub n_depth: Vec<usize>,
    /// Sequences that are written together
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_value = "1",
          value_parser = value_parser!(u16).range(1..))]
    pub batch: Vec<u16>,
    /// Threads that compute [default: physical cores, within affinity and cgroup quota]
    #[arg(short, long, value_name = "N,...", value_delimiter = ',',
          value_parser = value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,
    /// How often each test is run, after one run that does not count
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u16).range(1..))]
    pub repetitions: u16,
    /// How the results are written
    #[arg(short, long, value_enum, default_value_t = Output::Md)]
    pub output: Output,
}

/// How the results are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Output {
    /// A Markdown table
    Md,
    /// A JSON list, one object a test
    Json,
    /// Comma-separated values with a header
    Csv,
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
enum Test {
    Prefill { tokens: usize, depth: usize },
    Decode { tokens: usize, depth: usize, sequences: usize },
}

/// Runs the verb.
///
/// # Errors
/// A model that cannot be loaded, a test that the model's context or the memory has no room for.
pub fn run(args: &BenchArgs) -> Result<()> {
    let tests = tests(args);
    ensure!(!tests.is_empty(), "-p and -n are both 0: there is nothing to measure");
    let path = load::resolve(args.model_path.as_deref(), args.model.as_deref())?;
    let path = args.numbers.weights(&path, None)?.unwrap_or(path);
    let kv = args.numbers.kv_type.map(engine::KvType::from);
    let threads: Vec<_> = args.threads.iter().map(|&n| Some(usize::from(n))).collect();
    let threads = if threads.is_empty() { vec![None] } else { threads };
    let mut rows = Rows::new(args.output, io::stdout().lock());
    for threads in threads {
        measure(&path, (threads, kv), &tests, args.repetitions.into(), &mut rows)?;
    }
    Ok(rows.finish()?)
}

fn tests(args: &BenchArgs) -> Vec<Test> {
    let mut all = vec![];
    for &depth in &args.n_depth {
        let some = |list: &[usize]| list.iter().copied().filter(|&n| n > 0).collect::<Vec<_>>();
        all.extend(some(&args.n_prompt).into_iter().map(|tokens| Test::Prefill { tokens, depth }));
        for tokens in some(&args.n_gen) {
            let sequences = args.batch.iter().map(|&b| usize::from(b));
            all.extend(sequences.map(|sequences| Test::Decode { tokens, depth, sequences }));
        }
    }
    all
}

/// All tests with one number of threads.
fn measure(
    path: &Path,
    (threads, kv): (Option<usize>, Option<engine::KvType>),
    tests: &[Test],
    repetitions: usize,
    rows: &mut Rows<impl Write>,
) -> Result<()> {
    let probe = Probe::new(threads);
    let start = Instant::now();
    let mut bench = Bench::load(path, threads, kv)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let product_peak = probe.peak(bench.work.product);
    for &test in tests {
        let before = probe.read_gbs();
        let seconds = test.run(&mut bench, repetitions)?;
        let read_gbs = before.max(probe.read_gbs());
        let mut row = test.row(&bench.work, &seconds, product_peak, read_gbs);
        row.model = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        row.threads = probe.threads();
        row.load_seconds = load_seconds;
        rows.push(row)?;
    }
    Ok(())
}

impl Test {
    /// Seconds of each run. What is in the cache before the test is written once: a run overwrites nothing of
    /// it.
    fn run(self, bench: &mut Bench, repetitions: usize) -> Result<Vec<f64>> {
        let (sequences, tokens, depth) = match self {
            Test::Prefill { tokens, depth } => (1, tokens, depth),
            Test::Decode { tokens, depth, sequences } => (sequences, tokens, depth),
        };
        bench.allocate(sequences, depth + tokens)?;
        for sequence in 0..sequences {
            bench.prefill(sequence, 0, depth)?;
        }
        let mut once = |count: usize| match self {
            Test::Prefill { .. } => bench.prefill(0, depth, depth + count),
            Test::Decode { .. } => bench.decode(sequences, depth, count),
        };
        let warm = if matches!(self, Test::Prefill { .. }) { tokens } else { tokens.min(8) };
        once(warm)?;
        Ok((0..repetitions).map(|_| once(tokens)).collect::<std::result::Result<_, _>>()?)
    }

    fn row(self, work: &Work, seconds: &[f64], product_peak: f64, read_gbs: f64) -> Row {
        let (name, tokens) = match self {
            Test::Prefill { tokens, depth } => (format!("pp{tokens}{}", at(depth)), tokens),
            Test::Decode { tokens, depth, sequences } => {
                let together = if sequences > 1 { format!("x{sequences}") } else { String::new() };
                (format!("tg{tokens}{together}{}", at(depth)), tokens * sequences)
            }
        };
        let rates = seconds.iter().map(|s| tokens as f64 / s).collect();
        let row = Row { test: name, rates, bytes: work.bytes, parameters: work.parameters, ..Row::default() };
        let median = row.median();
        match self {
            Test::Prefill { .. } => {
                let gops = median * 2.0 * work.layer_parameters as f64 / 1e9;
                Row { rate: gops, unit: work.product.unit(), peak: product_peak, ..row }
            }
            Test::Decode { sequences, .. } => {
                let gbs = median / sequences as f64 * work.decode_bytes as f64 / 1e9;
                Row { rate: gbs, unit: "GB/s", peak: read_gbs, ..row }
            }
        }
    }
}

fn at(depth: usize) -> String {
    if depth > 0 { format!("@d{depth}") } else { String::new() }
}
