//! The crate against a stand-in for the Hub: nothing here touches the network or the user's folders.

#![allow(missing_docs)]

mod download;
mod failures;
mod search;
#[path = "../standin/mod.rs"]
mod standin;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub::download::{Downloaded, Event, Progress, Request, download};
use hub::{Config, Reference, Result};

use standin::{Model, Standin};

/// A stand-in, an empty cache and an empty models folder.
pub(crate) struct Bench {
    pub hub: Standin,
    pub dir: tempfile::TempDir,
    pub config: Config,
}

impl Bench {
    pub fn new() -> Bench {
        let hub = Standin::start();
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("home/hub"), dir.path().join("models"));
        config.endpoint = hub.endpoint();
        config.backoff = Duration::from_millis(5);
        config.stall_timeout = Duration::from_secs(20);
        config.retries = 3;
        hub.add("acme/usual", Model::usual());
        hub.add("acme/quants", Model::ggufs());
        Bench { hub, dir, config }
    }

    pub fn get(&self, name: &str) -> Result<Downloaded> {
        download(&self.config, &request(name), Arc::new(()))
    }

    /// The folder of a model in the cache.
    pub fn repo(&self, name: &str) -> PathBuf {
        self.config.cache_dir.join(format!("models--{}", name.replace('/', "--")))
    }

    pub fn model(&self, name: &str) -> Model {
        self.hub.state().models[name].clone()
    }

    /// The names in a model's `blobs`, sorted.
    pub fn blobs(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.repo(name).join("blobs")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Whether nothing stands for a whole model: no snapshot, no reference, no link.
    pub fn nothing_whole(&self, name: &str) -> bool {
        let repo = self.repo(name);
        let link = self.config.models_dir.join(name.replace('/', "_"));
        !repo.join("snapshots").exists() && !repo.join("refs").exists() && link.symlink_metadata().is_err()
    }
}

pub(crate) fn request(name: &str) -> Request {
    Request::new(Reference::parse(name).unwrap())
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Told {
    pub notes: Mutex<Vec<String>>,
    pub moved: Mutex<Vec<(usize, u64)>>,
    pub planned: Mutex<Vec<(String, u64, bool)>>,
    pub done: Mutex<Vec<usize>>,
}

impl Progress for Told {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::Note(text) => self.notes.lock().unwrap().push(text.to_owned()),
            Event::Plan(plan) => {
                *self.planned.lock().unwrap() =
                    plan.iter().map(|p| (p.path.clone(), p.size, p.present)).collect();
            }
            Event::Moved { file, at } => self.moved.lock().unwrap().push((file, at)),
            Event::Done { file } => self.done.lock().unwrap().push(file),
        }
    }
}
