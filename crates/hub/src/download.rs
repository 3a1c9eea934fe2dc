//! A model from the Hub into the cache, and the link to it in `./models`.
//!
//! Order matters here: contents first, then the snapshot's links, then the reference, then the link in
//! `./models`. Stop it anywhere, and nothing that is half there can be taken for whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::api::{self, Entry, Info};
use crate::cache::{self, RepoCache};
use crate::choose::{Wish, choose};
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::fetch::{Job, is_whole};
use crate::reference::{Reference, dir_name};
use crate::store::{self, Whole};

/// What to download and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model.
    pub reference: Reference,
    /// Globs of the files wanted, in place of those that a run needs.
    pub include: Vec<String>,
    /// Globs of the files not wanted.
    pub exclude: Vec<String>,
    /// How many files at once, at least 1.
    pub jobs: usize,
    /// Fetch also what is here already.
    pub force: bool,
}

impl Request {
    /// The files that a run of `reference` needs, four at once.
    pub fn new(reference: Reference) -> Request {
        Request { reference, include: Vec::new(), exclude: Vec::new(), jobs: 4, force: false }
    }
}

/// A file of a download.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its path in the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether it was here before.
    pub present: bool,
}

/// What happens during a download. Files are named by their index in the plan.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Something a person should know: renamed, waiting.
    Note(&'a str),
    /// What will be fetched; comes once, first.
    Plan(&'a [Planned]),
    /// Bytes `0..at` of a file are on the disk; `at` falls back where a server begins anew.
    Moved {
        /// Index in the plan.
        file: usize,
        /// Bytes.
        at: u64,
    },
    /// A file is whole and its sum is right.
    Done {
        /// Index in the plan.
        file: usize,
    },
}

/// Who is told; called from several threads.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn on(&self, event: Event<'_>);
}

/// Tells nobody.
impl Progress for () {
    fn on(&self, _event: Event<'_>) {}
}

/// A model that is here.
#[derive(Clone, Debug)]
pub struct Downloaded {
    /// Its name of today: another one than asked for if it was renamed.
    pub repo: String,
    /// The commit.
    pub commit: String,
    /// Its folder in the cache.
    pub snapshot: PathBuf,
    /// The link to that folder, `./models/ORG_MODEL`.
    pub link: PathBuf,
    /// What to give to `--model-path`: the link, or for a quantization its first file below the link.
    pub path: PathBuf,
    /// The files, relative to the folder.
    pub files: Vec<String>,
    /// Their bytes.
    pub size: u64,
}

/// Downloads a model, or finds it here if the settings say to stay offline.
pub fn download(config: &Config, request: &Request, progress: Arc<dyn Progress>) -> Result<Downloaded> {
    cache::check_place(&config.models_dir.join(request.reference.dir_name()), &config.cache_dir)?;
    if config.offline {
        return offline(config, request);
    }
    let client = Arc::new(Client::new(config, "download")?);
    crate::block_on(run(client, request, progress))
}

async fn run(client: Arc<Client>, request: &Request, progress: Arc<dyn Progress>) -> Result<Downloaded> {
    let config = &client.config;
    let info = api::info(&client, &request.reference).await?;
    if info.repo != request.reference.repo {
        progress.on(Event::Note(&format!("{} is now called {}", request.reference.repo, info.repo)));
        cache::check_place(&config.models_dir.join(dir_name(&info.repo)), &config.cache_dir)?;
    }
    let entries = api::tree(&client, &info.repo, &info.commit).await?;
    let quant = request.reference.quant.as_deref();
    let wish = Wish { quant, include: &request.include, exclude: &request.exclude };
    let entries = choose(&info.repo, entries, &wish)?;
    let cache = RepoCache::new(&config.cache_dir, &info.repo);
    let plan = plan(&cache, &info.commit, &entries, request.force);
    check_room(&config.cache_dir, &cache, &entries, &plan)?;
    progress.on(Event::Plan(&plan));
    let sums = fetch_all(&client, &cache, &info, &entries, &plan, request, &progress).await?;
    for ((entry, sum), planned) in entries.iter().zip(sums).zip(&plan) {
        let stands = planned.present && is_whole(&cache.snapshot(&info.commit).join(&entry.path), entry.size);
        if let Some(sum) = sum.filter(|_| !stands) {
            cache.place(&info.commit, &entry.path, &sum, config.copy_files)?;
        }
    }
    cache.write_ref(request.reference.revision(), &info.commit)?;
    let paths = entries.iter().map(|entry| entry.path.clone()).collect();
    finish(config, info, cache, paths, entries.iter().map(|entry| entry.size).sum())
}

fn plan(cache: &RepoCache, commit: &str, entries: &[Entry], force: bool) -> Vec<Planned> {
    let here = |entry: &Entry| {
        let sum = entry.sum.name();
        let blob = !sum.is_empty() && is_whole(&cache.blob(sum), entry.size);
        blob || is_whole(&cache.snapshot(commit).join(&entry.path), entry.size)
    };
    let planned = |entry: &Entry| Planned {
        path: entry.path.clone(),
        size: entry.size,
        present: !force && here(entry),
    };
    entries.iter().map(planned).collect()
}

/// Whether the disk takes what is still to come.
fn check_room(cache_dir: &Path, cache: &RepoCache, entries: &[Entry], plan: &[Planned]) -> Result<()> {
    let there =
        |entry: &Entry| std::fs::metadata(cache.incomplete(entry.sum.name())).map_or(0, |meta| meta.len());
    let missing = entries.iter().zip(plan).filter(|(_, planned)| !planned.present);
    let need = missing.map(|(entry, _)| entry.size.saturating_sub(there(entry))).fold(0, u64::saturating_add);
    let folder = cache_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    // A file system that cannot say how much is left is found out by writing.
    let Ok(room) = fs4::available_space(folder) else { return Ok(()) };
    if need <= room {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let text = format!(
        "{:.1} GiB are to be downloaded and the disk of {} has room for {:.1} GiB. Free some space (`influence list`, \
         `influence rm MODEL`), set HF_HOME to a larger disk, or take a smaller quantization",
        gib(need),
        cache_dir.display(),
        gib(room)
    );
    Err(Error::new(Kind::DoesNotFit, text))
}

/// Fetches what is not here, `jobs` files at a time; the names of the contents in the order of `entries`,
/// none for a file that already stands in the snapshot and has no content of its own in `blobs`.
async fn fetch_all(
    client: &Arc<Client>,
    cache: &RepoCache,
    info: &Info,
    entries: &[Entry],
    plan: &[Planned],
    request: &Request,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Option<String>>> {
    let mut sums: Vec<Option<String>> = vec![None; entries.len()];
    let mut running: JoinSet<(usize, Result<String>)> = JoinSet::new();
    for (index, entry) in entries.iter().enumerate() {
        if plan[index].present {
            let sum = entry.sum.name();
            sums[index] = (!sum.is_empty() && cache.blob(sum).exists()).then(|| sum.to_owned());
            continue;
        }
        if running.len() >= request.jobs.max(1) {
            collect(&mut running, &mut sums).await?;
        }
        let job = Job {
            client: client.clone(),
            cache: cache.clone(),
            repo: info.repo.clone(),
            commit: info.commit.clone(),
            entry: entry.clone(),
            index,
            force: request.force,
            progress: progress.clone(),
        };
        running.spawn(async move { (index, job.run().await) });
    }
    // Leaving early drops the set, which stops the others; their parts stay to go on from.
    while !running.is_empty() {
        collect(&mut running, &mut sums).await?;
    }
    Ok(sums)
}

async fn collect(running: &mut JoinSet<(usize, Result<String>)>, sums: &mut [Option<String>]) -> Result<()> {
    match running.join_next().await {
        None => Ok(()),
        Some(Ok((index, sum))) => {
            sums[index] = Some(sum?);
            Ok(())
        }
        Some(Err(e)) => Err(Error::new(Kind::Other, format!("a download ended unexpectedly: {e}"))),
    }
}

/// Without the network: the model as it is in the cache, if it is whole.
fn offline(config: &Config, request: &Request) -> Result<Downloaded> {
    let reference = &request.reference;
    let cache = RepoCache::new(&config.cache_dir, &reference.repo);
    let missing = |why: &str| {
        let text =
            format!("{reference} is not in {} {why}, and HF_HUB_OFFLINE is set; unset it to download", {
                config.cache_dir.display()
            });
        Error::new(Kind::Offline, text)
    };
    let commit = cache.commit(reference.revision()).ok_or_else(|| missing("at that revision"))?;
    let files = store::files(&cache.snapshot(&commit));
    let quants = crate::quants::Quants::of(files.iter().map(|file| file.path.as_str()));
    let (paths, whole) = match &reference.quant {
        Some(quant) => {
            let quant =
                quants.pick(&reference.repo, Some(quant)).map_err(|_| missing("in that quantization"))?;
            (quant.files.clone(), quant.files.len() == quant.shards)
        }
        None => {
            let whole = store::whole(&cache.snapshot(&commit), &files) == Whole::Yes;
            (files.iter().map(|file| file.path.clone()).collect(), whole)
        }
    };
    if !whole {
        return Err(missing("as a whole (some of its files are missing)"));
    }
    let size = files.iter().filter(|file| paths.contains(&file.path)).map(|file| file.size).sum();
    finish(config, Info { repo: reference.repo.clone(), commit }, cache, paths, size)
}

/// Makes the link and says what was done.
fn finish(
    config: &Config,
    info: Info,
    cache: RepoCache,
    files: Vec<String>,
    size: u64,
) -> Result<Downloaded> {
    let snapshot = cache.snapshot(&info.commit);
    let link = config.models_dir.join(dir_name(&info.repo));
    cache::publish(&link, &snapshot, &config.cache_dir, config.copy_files)?;
    let only_gguf = files.iter().all(|path| path.to_ascii_lowercase().ends_with(".gguf"));
    let path = match files.iter().min().filter(|_| only_gguf) {
        Some(first) => link.join(first),
        None => link.clone(),
    };
    Ok(Downloaded { repo: info.repo, commit: info.commit, snapshot, link, path, files, size })
}
