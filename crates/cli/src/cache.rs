//! Where influence keeps what it can make again, and `influence cache`, which shows and clears it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use etcetera::{BaseStrategy, choose_base_strategy};
use indicatif::HumanBytes;
use serde_json::json;

use crate::terminal::name;

/// The folder of what --quant made, within the cache.
const QUANTIZED: &str = "quantized";

/// Show or clear what --quant keeps for the next start
#[derive(Args, Debug)]
pub struct CacheArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum What {
    /// List the files
    List,
    /// Delete them; they are made again when they are needed
    Clear,
}

/// Folders for what can be made again, the best first: `INFLUENCE_CACHE` alone if it is set, else `influence` in
/// the user's cache folder, else in the one for temporary files.
pub fn folders() -> Vec<PathBuf> {
    match std::env::var_os("INFLUENCE_CACHE").filter(|v| !v.is_empty()) {
        Some(folder) => vec![folder.into()],
        None => {
            let cache = choose_base_strategy().ok().map(|s| s.cache_dir().join("influence"));
            cache.into_iter().chain([std::env::temp_dir().join("influence")]).collect()
        }
    }
}

/// The part of a cache folder that holds quantized models.
pub fn in_folder(folder: &Path) -> PathBuf {
    folder.join(QUANTIZED)
}

/// Where quantized models are kept; the folder is there.
///
/// # Errors
/// None of the folders can be made.
pub fn quantized() -> Result<PathBuf> {
    let mut failed = String::new();
    for folder in folders().iter().map(|f| in_folder(f)) {
        match std::fs::create_dir_all(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) => failed = format!("{}: {error}", folder.display()),
        }
    }
    anyhow::bail!("--quant has no folder for its result ({failed}); name one by INFLUENCE_CACHE")
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be deleted.
pub fn run(args: &CacheArgs) -> Result<()> {
    let files = files();
    match args.what.unwrap_or(What::List) {
        What::List => list(&files, args.json),
        What::Clear => clear(&files, args.json),
    }
}

/// All files of the cache with their bytes, parts of files too that a killed run left behind.
fn files() -> Vec<(PathBuf, u64)> {
    let entries = folders().into_iter().filter_map(|f| std::fs::read_dir(in_folder(&f)).ok());
    let mut files: Vec<_> = entries
        .flatten()
        .flatten()
        .filter(|e| is_ours(&e.path()))
        .filter_map(|e| Some((e.path(), e.metadata().ok().filter(|m| m.is_file())?.len())))
        .collect();
    files.sort();
    files
}

/// Nothing else is touched, should INFLUENCE_CACHE name a folder that has other files too.
fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "gguf" || e == "part")
}

fn list(files: &[(PathBuf, u64)], json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let rows: Vec<_> = files.iter().map(|(p, n)| json!({ "path": p, "bytes": n })).collect();
        return Ok(writeln!(out, "{}", json!(rows))?);
    }
    for (path, bytes) in files {
        writeln!(out, "{:>12}  {}", HumanBytes(*bytes).to_string(), name(&path.to_string_lossy()))?;
    }
    if files.is_empty() {
        eprintln!("nothing is kept; --quant TYPE on a verb that runs a model makes a file");
    }
    Ok(())
}

fn clear(files: &[(PathBuf, u64)], json: bool) -> Result<()> {
    for (path, _) in files {
        std::fs::remove_file(path).with_context(|| format!("{}: cannot delete it", path.display()))?;
    }
    let bytes: u64 = files.iter().map(|(_, n)| n).sum();
    if json {
        let object = json!({ "deleted": files.len(), "bytes": bytes });
        return Ok(writeln!(std::io::stdout().lock(), "{object}")?);
    }
    eprintln!("deleted {} files, {} are free again", files.len(), HumanBytes(bytes));
    Ok(())
}
