//! `influence list`: the models on this machine.

use ::hub::Store;
use ::hub::store::Model;
use indicatif::HumanBytes;

use super::table::{Column, render};
use super::{Folder, clean, print};

/// List the models on this machine
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub folder: Folder,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const COLUMNS: [Column; 6] = [
    Column { title: "MODEL", right: false, rank: 0 },
    Column { title: "SIZE", right: true, rank: 1 },
    Column { title: "FORMAT", right: false, rank: 2 },
    Column { title: "STATE", right: false, rank: 3 },
    Column { title: "REVISION", right: false, rank: 5 },
    Column { title: "PATH", right: false, rank: 4 },
];

/// Prints the cache and the models folder.
pub fn run(args: Args) -> anyhow::Result<()> {
    let models = Store::new(&args.folder.config()?).list();
    if args.json {
        return print(&serde_json::to_string_pretty(&models)?);
    }
    if models.is_empty() {
        eprintln!(
            "no models here; `influence search WORDS` finds some, `influence download -m ORG/MODEL` fetches one"
        );
        return Ok(());
    }
    print(&render(&COLUMNS, &models.iter().map(row).collect::<Vec<_>>()))
}

fn row(model: &Model) -> Vec<String> {
    let format = match model.format {
        Some(format) if model.quants.is_empty() => format.name().to_owned(),
        Some(format) => format!("{} {}", format.name(), model.quants.join(",")),
        None => String::new(),
    };
    let state = match (model.format, model.complete) {
        (None, _) => "no weights",
        (_, false) => "in part",
        (_, true) => "",
    };
    vec![
        clean(&model.name),
        HumanBytes(model.size).to_string(),
        clean(&format),
        state.to_owned(),
        model.revision.as_deref().unwrap_or_default().chars().take(12).collect(),
        clean(&model.path.to_string_lossy()),
    ]
}
