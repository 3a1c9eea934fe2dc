//! `influence download`: a model from the Hub to `./models/ORG_MODEL`.

use std::sync::Arc;

use ::hub::Reference;
use ::hub::download::{Downloaded, Request, download};
use serde_json::json;

use super::progress::Screen;
use super::{Folder, print};

/// Download a model from the Hugging Face Hub
///
/// Only the files that a run needs are fetched. A download that was cut goes on where it stopped.
/// The last line on standard output is the model's path.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// ORG/MODEL[:QUANT][@REVISION]
    #[arg(long, short = 'm', value_name = "MODEL")]
    pub model: String,
    /// Branch, tag or commit (the same as @REVISION)
    #[arg(long)]
    pub revision: Option<String>,
    /// Fetch the files that match instead of those a run needs (*.json, onnx/); may be given again
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Do not fetch the files that match; may be given again
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    #[command(flatten)]
    pub folder: Folder,
    /// Files at once
    #[arg(long, short = 'j', default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// Fetch also what is here already
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Downloads and prints the path.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut reference = Reference::parse(&args.model)?;
    if let Some(revision) = &args.revision {
        reference.revision = Reference::parse(&format!("{}@{revision}", reference.repo))?.revision;
    }
    let request = Request {
        include: args.include,
        exclude: args.exclude,
        jobs: usize::from(args.jobs),
        force: args.force,
        ..Request::new(reference)
    };
    let screen = Arc::new(Screen::new());
    let got = download(&args.folder.config()?, &request, screen.clone());
    screen.finish();
    let got = got?;
    if args.json {
        print(&serde_json::to_string_pretty(&report(&got))?)
    } else {
        print(&got.path.to_string_lossy())
    }
}

fn report(got: &Downloaded) -> serde_json::Value {
    json!({
        "repo": got.repo,
        "commit": got.commit,
        "path": got.path,
        "link": got.link,
        "snapshot": got.snapshot,
        "files": got.files,
        "size": got.size,
    })
}
