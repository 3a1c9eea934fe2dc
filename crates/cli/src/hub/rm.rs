//! `influence rm`: a model goes, with its link and its part of the cache.

use std::io::{IsTerminal, Write};

use ::hub::{Error, Kind, Removal, Store};
use indicatif::HumanBytes;

use super::{Folder, clean};

/// Delete a model from this machine
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name of `influence list`, or ORG/MODEL[:QUANT][@REVISION]
    pub model: String,
    #[command(flatten)]
    pub folder: Folder,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// Shows what would go, asks, deletes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let store = Store::new(&args.folder.config()?);
    let removal = store.plan_removal(&args.model)?;
    if !args.yes && !agreed(&removal)? {
        eprintln!("nothing was deleted");
        return Ok(());
    }
    let bytes = store.remove(&removal)?;
    eprintln!("deleted {}, {} are free again", clean(&removal.name), HumanBytes(bytes));
    Ok(())
}

/// Whether a person says yes; without one to ask, `--yes` has to.
fn agreed(removal: &Removal) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let text = format!("{}: there is nobody to ask whether to delete it; add --yes", removal.name);
        return Err(Error::new(Kind::Usage, text).into());
    }
    for path in removal.paths.iter().take(20) {
        eprintln!("  {}", clean(&path.to_string_lossy()));
    }
    if removal.paths.len() > 20 {
        eprintln!("  and {} more", removal.paths.len() - 20);
    }
    eprint!("delete {} ({})? [y/N] ", clean(&removal.name), HumanBytes(removal.bytes));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
