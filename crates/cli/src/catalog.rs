//! `influence models`: the architectures that can be run, from the table that the loader reads.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

/// List the architectures that can be run
#[derive(Args)]
pub struct CatalogArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the table.
pub fn run(args: &CatalogArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let row = |(title, gguf, classes)| json!({ "models": title, "gguf": gguf, "classes": classes });
        let rows: Vec<Value> = models::supported().map(row).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(());
    }
    writeln!(out, "{:<20} {:<10} CONFIG.JSON", "MODELS", "GGUF")?;
    for (title, gguf, classes) in models::supported() {
        writeln!(out, "{title:<20} {gguf:<10} {}", classes.join(", "))?;
    }
    Ok(())
}
