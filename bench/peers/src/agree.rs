//! Whether llama.cpp understands a file as we do: its logits beside ours and, for fixtures, beside the reference.
//!
//! llama.cpp runs in a process of its own for each file: what it does not like may end it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use models::{Batch, Checkpoint, CpuBackend, Embedding, Model, Pool, Target};
use weights::{DType, Safetensors, read_json};

#[path = "../../../crates/models/tests/drive/mod.rs"]
mod drive;

/// Of the spread of the logits: what the fixtures' tests allow.
const TOLERANCE: f32 = 1e-3;
/// Tokens for files without a reference.
const TOKENS: usize = 33;

#[derive(clap::Args)]
pub struct Agree {
    /// GGUF files, folders of safetensors, fixtures, or a folder of fixtures
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Convert folders to GGUFs of this type as `influence quantize` does (without it: their `model.gguf`)
    #[arg(short, long)]
    quantize: Option<String>,
    /// Give llama.cpp files that hold BF16 or F16 as they are, instead of the same numbers in f32
    #[arg(long)]
    as_it_is: bool,
    /// Print only what does not agree
    #[arg(long)]
    odd: bool,
}

/// A file to be looked at, and what it should say.
struct Case {
    name: String,
    gguf: PathBuf,
    /// What llama.cpp is given: the same numbers in f32, since it rounds what meets BF16.
    widened: PathBuf,
    tokens: Vec<u32>,
    reference: Option<Vec<f32>>,
}

impl Agree {
    pub fn run(&self) -> Result<()> {
        let room = tempfile::tempdir()?;
        println!("| file | llama.cpp | llama.cpp - reference | ours - reference | llama.cpp - ours |");
        println!("|---|---|---:|---:|---:|");
        let (mut agreed, mut seen) = (0, 0);
        for path in self.paths.iter().flat_map(|p| each(p)) {
            let case = match self.case(&path, room.path()) {
                Ok(Some(case)) => case,
                Ok(None) => continue,
                Err(error) => {
                    eprintln!("{}: {error:#}", path.display());
                    continue;
                }
            };
            seen += 1;
            agreed += usize::from(self.look(&case));
        }
        println!("\n{agreed} of {seen} agree within {TOLERANCE} of the spread");
        Ok(())
    }

    fn case(&self, path: &Path, room: &Path) -> Result<Option<Case>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.is_dir();
        let gguf = match &self.quantize {
            Some(kind) if folder => {
                let file = room.join(format!("{name}.gguf"));
                convert(path, kind, &file)?;
                file
            }
            _ if folder => path.join("model.gguf"),
            _ => path.to_path_buf(),
        };
        if !gguf.exists() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::open(&gguf)?;
        let half = checkpoint.tensors().any(|t| t.dtype == DType::BF16 || t.dtype == DType::F16);
        let widened = match half && !self.as_it_is {
            true => {
                let file = room.join(format!("{name}-f32.gguf"));
                convert(&gguf, "f32", &file)?;
                file
            }
            false => gguf.clone(),
        };
        let vocab = checkpoint.spec()?.vocab as u32;
        let (tokens, reference) = match folder && path.join("reference.json").exists() {
            true => reference(path)?,
            false => ((0..TOKENS as u32).map(|i| (i * 37 + 11) % vocab).collect(), None),
        };
        Ok(Some(Case { name, gguf, widened, tokens, reference }))
    }

    /// Prints the case's row; whether it agrees.
    fn look(&self, case: &Case) -> bool {
        let (ours, vectors) = match ours(&case.gguf, &case.tokens) {
            Ok(said) => said,
            Err(error) => {
                println!("| {} | we cannot load it: {error:#} | | | |", case.name);
                return false;
            }
        };
        let theirs = llama(case, vectors);
        let far = |a: Option<&Vec<f32>>, b: Option<&Vec<f32>>| Some(distance(a?, b?));
        let (llama, reference) = (theirs.as_ref().ok(), case.reference.as_ref());
        let rows = [far(llama, reference), far(Some(&ours), reference), far(llama, Some(&ours))];
        let agrees = rows[2].is_some_and(|d| d <= TOLERANCE) && rows[0].is_none_or(|d| d <= TOLERANCE);
        if agrees && self.odd {
            return true;
        }
        let said = match &theirs {
            Ok(_) if agrees => "agrees".to_string(),
            Ok(_) => "**differs**".to_string(),
            Err(error) => format!("cannot load: {error:#}"),
        };
        let shown = rows.map(|d| d.map_or(String::new(), |d| format!("{d:.1e}")));
        println!("| {} | {said} | {} |", case.name, shown.join(" | "));
        agrees
    }
}

/// A folder of fixtures stands for all of them.
fn each(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() || path.join("config.json").exists() {
        return vec![path.to_path_buf()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    all.retain(|p| p.join("config.json").exists() || p.extension().is_some_and(|e| e == "gguf"));
    all.sort();
    all
}

pub fn convert(folder: &Path, kind: &str, to: &Path) -> Result<()> {
    let target = Target::from_name(kind).with_context(|| format!("-q {kind}: not a type"))?;
    Checkpoint::open(folder)?.convert(target, false)?.write(to, 2, |_| true)?;
    Ok(())
}

/// The longest prompt of a fixture and what was said of it. (Of an encoder it had two token types, which llama.cpp does
/// not take.)
fn reference(dir: &Path) -> Result<(Vec<u32>, Option<Vec<f32>>)> {
    let said = read_json(&dir.join("reference.json"), 1 << 20)?;
    let tokens = serde_json::from_value(said["prompts"]["33"].clone())?;
    if said["kind"] == "encoder" {
        return Ok((tokens, None));
    }
    let file = Safetensors::open_file(&dir.join("reference.safetensors"))?;
    Ok((tokens, Some(floats(file.tensor("logits_33")?.bytes()))))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// What we say at each position, and whether it is an encoder's vectors.
fn ours(path: &Path, tokens: &[u32]) -> Result<(Vec<f32>, bool)> {
    let checkpoint = Checkpoint::open(path)?;
    let mut spec = checkpoint.spec()?;
    let backend = CpuBackend::suited(&checkpoint, Some(2));
    if spec.embedding.is_none() {
        let mut model = checkpoint.load_spec(spec, backend)?;
        return Ok((drive::logits(&mut model, tokens, tokens.len()), false));
    }
    spec.embedding = Some(Embedding { pool: Pool::Each, unit: false });
    let mut model = checkpoint.load_spec(spec, backend)?;
    drive::allocate(&mut model);
    let mut batch = Batch::default();
    drive::Sequence::new(tokens, 0).enter(tokens.len(), &mut batch);
    Ok((model.encode(&batch)?.remove(0), true))
}

fn llama(case: &Case, vectors: bool) -> Result<Vec<f32>> {
    child(&case.widened, &case.tokens, if vectors { &["--vectors"] } else { &[] })
}

/// What llama.cpp says at every position, in a process of its own.
pub fn child(gguf: &Path, tokens: &[u32], more: &[&str]) -> Result<Vec<f32>> {
    let list: Vec<String> = tokens.iter().map(u32::to_string).collect();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("logits").arg("-m").arg(gguf).args(["--tokens", &list.join(",")]).args(more);
    let output = command.stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // The first line says why, the others that it therefore failed.
        let why = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing").to_string();
        bail!("{}", why.replace('|', "/"));
    }
    let said = floats(&output.stdout);
    ensure!(said.iter().all(|x| x.is_finite()), "it says numbers that are not finite");
    Ok(said)
}

/// The largest difference as a share of the second one's spread.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    let (low, high) = b.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / (high - low)
}
