//! The file of `--save-logits`, and the distance of a model from what it holds.
//!
//! Little-endian: `INFLOGP1`, then u32 vocabulary, window, windows; then for each window its tokens (u32 each)
//! and for each scored position a row of one u16 for each id of the vocabulary. With `d` the log-probability of
//! the likeliest id less that of an id, its number is `round(65535 sqrt(min(d, 32) / 32))`: finest where the
//! probability is. Reading, the row is normalised again. docs/quantize.md has the same in more words.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

const MAGIC: &[u8; 8] = b"INFLOGP1";
/// Nats below the likeliest token that a row reaches.
const RANGE: f32 = 32.0;
const STEPS: f32 = 65535.0;

/// Logits to natural log-probabilities.
pub fn log_softmax(row: &mut [f32]) {
    let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
    let shift = max + sum.ln() as f32;
    row.iter_mut().for_each(|x| *x -= shift);
}

fn pack(row: &[f32], bytes: &mut Vec<u8>) {
    let top = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    bytes.clear();
    for &logprob in row {
        let share = ((top - logprob) / RANGE).clamp(0.0, 1.0);
        bytes.extend(((share.sqrt() * STEPS).round() as u16).to_le_bytes());
    }
}

fn unpack(bytes: &[u8], row: &mut [f32]) {
    for (b, x) in bytes.chunks_exact(2).zip(row.iter_mut()) {
        *x = -RANGE * (f32::from(u16::from_le_bytes([b[0], b[1]])) / STEPS).powi(2);
    }
    log_softmax(row);
}

/// Positions of a window that are scored.
fn scored(window: usize) -> usize {
    window - 1 - window / 2
}

fn size(vocab: usize, window: usize, windows: usize) -> Option<u64> {
    let rows = (scored(window) as u64).checked_mul(vocab as u64)?.checked_mul(2)?;
    (windows as u64).checked_mul(rows.checked_add(4 * window as u64)?)?.checked_add(20)
}

/// A file in the making; it has its name only when it is whole.
pub struct Writer {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    bytes: Vec<u8>,
}

impl Writer {
    pub fn create(path: &Path, vocab: usize, window: usize, windows: usize) -> Result<Writer> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let what = || format!("--save-logits {}: cannot write it", path.display());
        let mut file = BufWriter::new(File::create(&part).with_context(what)?);
        file.write_all(MAGIC).with_context(what)?;
        for n in [vocab, window, windows] {
            file.write_all(&(n as u32).to_le_bytes()).with_context(what)?;
        }
        Ok(Writer { path: path.to_path_buf(), part, file, bytes: vec![] })
    }

    fn put(&mut self) -> Result<()> {
        let what = || format!("--save-logits {}: cannot write it", self.path.display());
        self.file.write_all(&self.bytes).with_context(what)
    }

    pub fn tokens(&mut self, tokens: &[u32]) -> Result<()> {
        self.bytes = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        self.put()
    }

    pub fn row(&mut self, row: &[f32]) -> Result<()> {
        pack(row, &mut self.bytes);
        self.put()
    }

    pub fn finish(mut self) -> Result<PathBuf> {
        let what = || format!("--save-logits {}: cannot write it", self.path.display());
        self.file.flush().with_context(what)?;
        std::fs::rename(&self.part, &self.path).with_context(what)?;
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a rename there is nothing of this name.
        let _ = std::fs::remove_file(&self.part);
    }
}

/// A file being read, window by window, row by row.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    window: usize,
    bytes: Vec<u8>,
    row: Vec<f32>,
}

impl Reader {
    /// Opens a file that was written with the same vocabulary, window and at least as many windows.
    pub fn open(path: &Path, vocab: usize, window: usize, windows: usize) -> Result<Reader> {
        let name = path.display();
        let file = File::open(path).with_context(|| format!("--kl-base {name}: cannot open it"))?;
        let length = file.metadata().with_context(|| format!("--kl-base {name}"))?.len();
        let mut file = BufReader::new(file);
        let mut head = [0; 20];
        if file.read_exact(&mut head).is_err() || !head.starts_with(MAGIC) {
            bail!("--kl-base {name}: not a file that --save-logits wrote");
        }
        let number = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]) as usize;
        let [their_vocab, their_window, their_windows] = [number(8), number(12), number(16)];
        if their_vocab != vocab {
            bail!("--kl-base {name}: found a vocabulary of {their_vocab}, expected the model's {vocab}");
        }
        if their_window != window {
            bail!(
                "--kl-base {name}: found windows of {their_window}, expected {window}; use -c {their_window}"
            );
        }
        if their_windows < windows {
            bail!(
                "--kl-base {name}: found {their_windows} windows, expected {windows}; use --chunks {their_windows}"
            );
        }
        match size(vocab, window, their_windows) {
            Some(expected) if expected == length => {}
            expected => bail!(
                "--kl-base {name}: found {length} bytes, expected {}; it is not whole",
                expected.map_or("another number".into(), |n| n.to_string())
            ),
        }
        Ok(Reader {
            path: path.to_path_buf(),
            file,
            window,
            bytes: vec![0; 2 * vocab],
            row: vec![0.0; vocab],
        })
    }

    /// The tokens of the next window must be these.
    pub fn tokens(&mut self, tokens: &[u32]) -> Result<()> {
        let mut bytes = vec![0; 4 * self.window];
        self.file.read_exact(&mut bytes).with_context(|| format!("--kl-base {}", self.path.display()))?;
        if bytes.chunks_exact(4).zip(tokens).any(|(b, t)| b != t.to_le_bytes()) {
            bail!("--kl-base {}: written for another text or tokenizer", self.path.display());
        }
        Ok(())
    }

    /// The next row, as natural log-probabilities.
    pub fn row(&mut self) -> Result<&[f32]> {
        self.file
            .read_exact(&mut self.bytes)
            .with_context(|| format!("--kl-base {}", self.path.display()))?;
        unpack(&self.bytes, &mut self.row);
        Ok(&self.row)
    }
}

/// How far the model is from the file, position by position.
#[derive(Default)]
pub struct Distances {
    kl: Vec<f32>,
    same_top: usize,
    base_nll: f64,
}

impl Distances {
    /// Adds a position whose next token is `next`: log-probabilities of the file and of the model.
    pub fn add(&mut self, base: &[f32], row: &[f32], next: usize) {
        // Kullback-Leibler divergence of the model from the base: sum of p log(p / q).
        let term = |(&p, &q): (&f32, &f32)| f64::from(p).exp() * f64::from(p - q);
        let kl: f64 = base.iter().zip(row).map(term).sum();
        self.kl.push(kl.max(0.0) as f32);
        self.same_top += usize::from(top(base) == top(row));
        self.base_nll -= f64::from(base.get(next).copied().unwrap_or(0.0));
    }

    pub fn summary(mut self) -> Summary {
        self.kl.sort_by(f32::total_cmp);
        let n = self.kl.len().max(1) as f64;
        let mean = self.kl.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = self.kl.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let at = |share: f64| self.kl.get((share * (n - 1.0)).round() as usize).copied().unwrap_or(0.0);
        Summary {
            mean,
            error: (variance / (n - 1.0).max(1.0)).sqrt(),
            median: at(0.5),
            high: at(0.99),
            max: at(1.0),
            same_top: self.same_top as f64 / n,
            base: (self.base_nll / n).exp(),
        }
    }
}

/// The likeliest id; of equals the first.
fn top(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// What there is to say of all positions. Divergences in nats.
pub struct Summary {
    mean: f64,
    error: f64,
    median: f32,
    high: f32,
    max: f32,
    same_top: f64,
    base: f64,
}

impl Summary {
    pub fn lines(&self) -> String {
        format!(
            "base       {:.4}\nKL         mean {:.6} +- {:.6}, median {:.6}, 99 % {:.6}, max {:.6}\n\
             same top   {:.2} %\n",
            self.base,
            self.mean,
            self.error,
            self.median,
            self.high,
            self.max,
            100.0 * self.same_top
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "base_perplexity": self.base,
            "mean": self.mean,
            "error": self.error,
            "median": self.median,
            "p99": self.high,
            "max": self.max,
            "same_top": self.same_top,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(logits: &[f32]) -> Vec<f32> {
        let mut row = logits.to_vec();
        log_softmax(&mut row);
        row
    }

    #[test]
    fn a_row_comes_back_nearly_as_it_was() {
        let original = row(&[3.0, 1.0, -2.0, -9.0, -60.0]);
        let (mut bytes, mut back) = (vec![], vec![0.0; 5]);
        pack(&original, &mut bytes);
        unpack(&bytes, &mut back);
        for i in 0..4 {
            assert!((back[i] - original[i]).abs() < 6e-4, "{i}: {} {}", back[i], original[i]);
        }
        assert!(back[4] < -32.0);
    }

    #[test]
    fn divergence_by_hand() {
        // p = (1/2, 1/2), q = (1/4, 3/4): 1/2 ln 2 + 1/2 ln(2/3).
        let (p, q) = (row(&[0.0, 0.0]), row(&[0.0, 3f32.ln()]));
        let mut distances = Distances::default();
        distances.add(&p, &q, 0);
        let summary = distances.summary();
        assert!((summary.mean - 0.5 * (2f64.ln() + (2f64 / 3.0).ln())).abs() < 1e-6);
        assert!((summary.base - 2.0).abs() < 1e-5);
        assert_eq!(summary.same_top, 0.0);
    }

    #[test]
    fn a_file_is_read_only_if_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base");
        let mut writer = Writer::create(&path, 3, 4, 1).unwrap();
        writer.tokens(&[0, 1, 2, 0]).unwrap();
        writer.row(&row(&[1.0, 2.0, 3.0])).unwrap();
        assert!(!path.exists());
        writer.finish().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let message = |vocab, window, windows| match Reader::open(&path, vocab, window, windows) {
            Ok(_) => panic!("opened"),
            Err(e) => e.to_string(),
        };
        assert!(message(4, 4, 1).contains("vocabulary"));
        assert!(message(3, 8, 1).contains("-c 4"));
        assert!(message(3, 4, 2).contains("--chunks 1"));
        let mut reader = Reader::open(&path, 3, 4, 1).unwrap();
        assert!(reader.tokens(&[0, 1, 2, 1]).is_err());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(message(3, 4, 1).contains("not whole"));
        std::fs::write(&path, "text").unwrap();
        assert!(message(3, 4, 1).contains("not a file"));
    }
}
