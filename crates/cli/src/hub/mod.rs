//! The verbs that bring models here and take them away: `search`, `download`, `list`, `rm`.
//!
//! Each is a declaration ([`clap::Args`]) and a `run`. The work is done by the `hub` crate; what is here
//! is words, tables and bars.

pub mod download;
pub mod list;
pub mod progress;
pub mod rm;
pub mod search;
mod table;

use std::io::Write;
use std::path::PathBuf;

use ::hub::Config;

use crate::terminal::name as clean;

/// Where downloaded models are linked.
#[derive(Debug, clap::Args)]
pub struct Folder {
    /// Folder with the links to downloaded models
    #[arg(long, value_name = "FOLDER", default_value = "./models")]
    pub dir: PathBuf,
}

impl Folder {
    /// The settings of the environment with this folder.
    fn config(&self) -> ::hub::Result<Config> {
        Ok(Config { models_dir: self.dir.clone(), ..Config::from_env()? })
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
