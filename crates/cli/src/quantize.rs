//! `influence quantize`: a model as a GGUF file in another number format.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use models::{Checkpoint, Conversion, TARGETS, Target};
use serde_json::json;

use crate::interrupt::{INTERRUPTED, interrupted};
use crate::load::resolve;
use crate::terminal::spelled;

/// Write a model as a GGUF file in another number format
#[derive(Args, Debug)]
pub struct QuantizeArgs {
    /// ORG/MODEL that was downloaded, a name from `influence list`, or a path: safetensors or a GGUF
    #[arg(value_name = "MODEL")]
    model: String,
    /// The numbers' type: f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0, iq4_nl, q3_k_m, q2_k, ...
    #[arg(short, long = "quant", value_name = "TYPE", value_parser = target)]
    quant: &'static Target,
    /// The file to write
    #[arg(short, long, value_name = "FILE.gguf")]
    output: PathBuf,
    /// Give every matrix the same type: no more bits for those that need them
    #[arg(long)]
    pure: bool,
    /// Replace FILE.gguf if it is there
    #[arg(long)]
    force: bool,
    /// Threads that compute [default: as many as there are processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The type of this name, or an error that lists them all.
pub fn target(name: &str) -> Result<&'static Target, String> {
    let names = || TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(", ");
    Target::from_name(name).ok_or_else(|| format!("expected one of {}", names()))
}

/// Runs the verb.
///
/// # Errors
/// A model that cannot be understood, a file that cannot be written.
pub fn run(args: &QuantizeArgs) -> Result<ExitCode> {
    let to = &args.output;
    if to.exists() && !args.force {
        bail!("-o {}: it is there already; name another file, or replace it with --force", to.display());
    }
    let path = resolve(None, Some(&args.model))?;
    let checkpoint = Checkpoint::open(&path)?;
    if checkpoint.weight_files().iter().any(|file| same_file(file, to)) {
        bail!("-o {}: it is the model that is being read; name another file", to.display());
    }
    let conversion = checkpoint.convert(args.quant, args.pure)?;
    conversion.notes.iter().for_each(|note| eprintln!("note: {}", spelled(note)));
    let written = write(&conversion, to, args.threads).context("-o");
    let Some(notes) = written? else { return Ok(ExitCode::from(INTERRUPTED)) };
    notes.iter().for_each(|note| eprintln!("warning: {}", spelled(note)));
    report(args, &conversion, notes)?;
    Ok(ExitCode::SUCCESS)
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Writes the file `to` behind a bar on standard error; what was odd about the numbers. `None` after Ctrl-C, which
/// leaves nothing behind.
///
/// # Errors
/// The disk is full or gone; a tensor that cannot be read.
pub fn write(conversion: &Conversion, to: &Path, threads: Option<u16>) -> Result<Option<Vec<String>>> {
    let stop = interrupted()?;
    let numbers = conversion.numbers().max(1);
    let style = ProgressStyle::with_template("{bar:30} {percent} % of {msg}, {eta} left");
    let bar = ProgressBar::new(numbers)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(HumanBytes(conversion.bytes()).to_string());
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.map_or_else(cores, usize::from);
    let written = conversion.write(to, threads, |done| {
        bar.set_position(done);
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    let what = || {
        let size = HumanBytes(conversion.bytes());
        format!("{}: nothing was written; it needs {size}", to.display())
    };
    written.with_context(what)
}

fn report(args: &QuantizeArgs, conversion: &Conversion, warnings: Vec<String>) -> Result<()> {
    let bytes = std::fs::metadata(&args.output).map_or(conversion.bytes(), |m| m.len());
    let types = conversion.types();
    let bits = 8.0 * conversion.bytes() as f64 / conversion.numbers().max(1) as f64;
    let mut out = std::io::stdout().lock();
    if args.json {
        let object = json!({
            "file": args.output,
            "quant": args.quant.name,
            "bytes": bytes,
            "bits_per_weight": bits,
            "tensors": types,
            "notes": conversion.notes,
            "warnings": warnings,
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    let counts: Vec<String> = types.iter().map(|(name, n)| format!("{n} {name}")).collect();
    writeln!(
        out,
        "{}: {}, {bits:.2} bits a weight ({})",
        args.output.display(),
        HumanBytes(bytes),
        counts.join(", ")
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_in_any_case_and_listed_if_not() {
        assert_eq!(target("Q4_K_M").unwrap().file_type, 15);
        let message = target("q4_x").unwrap_err();
        assert!(message.contains("q4_k_m") && message.contains("iq4_nl"), "{message}");
    }
}
