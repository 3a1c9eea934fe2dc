//! How far a quantized file is from its original in f32, computed by us and by llama.cpp.
//!
//! The original's answer is ours, with every number in f32. Both sides then compute each quantized file as they do by
//! default: ours with activations rounded for the kernels (small models exactly), llama.cpp with its repacked weights,
//! flash attention and keys and values in F16.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use models::{Batch, CacheShape, Checkpoint, CpuBackend, Model, Span};

use crate::agree::{child, convert};
use crate::token;

#[derive(clap::Args)]
pub struct Quality {
    /// The original: a GGUF or a folder in F32, F16 or BF16
    #[arg(short, long)]
    model: PathBuf,
    /// The types to compare, quantized as `influence quantize` does
    #[arg(short, long, value_delimiter = ',', default_value = "q8_0,q6_k,q5_k_m,q4_k_m,q4_0,q3_k_m,q2_k")]
    quants: Vec<String>,
    /// A file of token ids, as `influence tokenize --json` or a list of numbers has them (without it: ids that repeat rarely)
    #[arg(long)]
    ids: Option<PathBuf>,
    /// Tokens to read
    #[arg(short = 'p', long, default_value_t = 512)]
    n_prompt: usize,
    #[arg(short, long, default_value_t = 2)]
    threads: usize,
}

/// Logits of every position.
struct Said {
    rows: Vec<f32>,
    vocab: usize,
}

impl Quality {
    pub fn run(&self) -> Result<()> {
        let room = tempfile::tempdir()?;
        let original = room.path().join("f32.gguf");
        convert(&self.model, "f32", &original)?;
        let vocab = Checkpoint::open(&original)?.spec()?.vocab;
        let tokens = self.tokens(vocab)?;
        let base = ours(&original, &tokens, CpuBackend::exact(Some(self.threads)))?;
        println!(
            "| {} | perplexity | KL of influence | KL of llama.cpp | ratio | same token: influence | llama.cpp | perplexity: influence | llama.cpp |",
            self.model.file_stem().unwrap_or_default().to_string_lossy()
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        let llama = Said { rows: child(&original, &tokens, &["--as-usual"])?, vocab };
        let (kl, same) = base.distance(&llama);
        println!(
            "| f32 | {:.4} | 0 | {kl:.2e} | | | {same:.1} % | | {:.4} |",
            base.perplexity(&tokens),
            llama.perplexity(&tokens)
        );
        for quant in &self.quants {
            let file = room.path().join(format!("{quant}.gguf"));
            convert(&self.model, quant, &file)?;
            self.line(quant, &file, &tokens, &base)?;
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    fn line(&self, quant: &str, file: &Path, tokens: &[u32], base: &Said) -> Result<()> {
        let backend = CpuBackend::suited(&Checkpoint::open(file)?, Some(self.threads));
        let mine = ours(file, tokens, backend)?;
        let theirs = Said { rows: child(file, tokens, &["--as-usual"])?, vocab: base.vocab };
        let ((a, same_a), (b, same_b)) = (base.distance(&mine), base.distance(&theirs));
        println!(
            "| {quant} | | {a:.3e} | {b:.3e} | {:.3} | {same_a:.1} % | {same_b:.1} % | {:.4} | {:.4} |",
            a / b,
            mine.perplexity(tokens),
            theirs.perplexity(tokens)
        );
        Ok(())
    }

    fn tokens(&self, vocab: usize) -> Result<Vec<u32>> {
        let Some(file) = &self.ids else {
            return Ok((0..self.n_prompt).map(|i| token(i, vocab)).collect());
        };
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
        let ids: Vec<u32> = numbers.take(self.n_prompt).map(str::parse).collect::<Result<_, _>>()?;
        ensure!(ids.iter().all(|&id| (id as usize) < vocab), "{}: ids beyond {vocab}", file.display());
        Ok(ids)
    }
}

impl Said {
    /// The mean Kullback-Leibler divergence of another from this, in nats, and how often both find the same token
    /// likeliest, in %.
    fn distance(&self, other: &Said) -> (f64, f64) {
        let (mut sum, mut same, mut count) = (0.0, 0, 0);
        for (p, q) in self.rows.chunks_exact(self.vocab).zip(other.rows.chunks_exact(self.vocab)) {
            let (at_p, at_q) = (shift(p), shift(q));
            sum += p
                .iter()
                .zip(q)
                .map(|(&p, &q)| {
                    let (p, q) = (f64::from(p) - at_p, f64::from(q) - at_q);
                    p.exp() * (p - q)
                })
                .sum::<f64>();
            (same, count) = (same + usize::from(top(p) == top(q)), count + 1);
        }
        (sum / count.max(1) as f64, 100.0 * same as f64 / count.max(1) as f64)
    }

    fn perplexity(&self, tokens: &[u32]) -> f64 {
        let rows = self.rows.chunks_exact(self.vocab).zip(&tokens[1..]);
        let sum: f64 = rows.map(|(row, &next)| shift(row) - f64::from(row[next as usize])).sum();
        (sum / (tokens.len() - 1) as f64).exp()
    }
}

/// The logarithm of the sum of exponentials.
fn shift(row: &[f32]) -> f64 {
    let max = f64::from(row.iter().fold(f32::MIN, |a, &b| a.max(b)));
    max + row.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln()
}

fn top(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

fn ours(path: &Path, tokens: &[u32], backend: CpuBackend) -> Result<Said> {
    const BLOCK: usize = 32;
    let mut model = Checkpoint::open(path)?.load(backend)?;
    let blocks = tokens.len().div_ceil(BLOCK);
    model.allocate(CacheShape { blocks, block_size: BLOCK, states: 1 })?;
    let span = Span {
        start: 0,
        len: tokens.len(),
        blocks: (0..blocks as u32).collect(),
        length: tokens.len(),
        state: 0,
    };
    let every = 0..tokens.len() as u32;
    let batch = Batch {
        tokens: tokens.to_vec(),
        positions: every.clone().collect(),
        slots: every.clone().map(|p| span.slot(p as usize, BLOCK)).collect(),
        outputs: every.collect(),
        spans: vec![span],
        types: vec![],
    };
    Ok(Said { rows: model.forward(&batch)?, vocab: model.spec().vocab })
}
