//! The models that are on this machine: in the shared cache and in `./models`. Never uses the network.
//!
//! The last step before loading: a name becomes a path.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cache::{RepoCache, Standing, standing};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::quants::Quants;
use crate::reference::{Reference, dir_name, looks_like_path};
use crate::search::Format;

/// Folders deeper than this below a model are not looked into.
const DEEPEST: usize = 4;
/// More files than this are not a model; somebody named a whole disk.
const MOST_FILES: usize = 50_000;
const LONGEST_INDEX: u64 = 256 << 20;

/// The cache and the models folder.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) cache_dir: PathBuf,
    pub(crate) models_dir: PathBuf,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// Relative to the model's folder, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// Where a model lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A snapshot in the shared cache.
    Cache,
    /// A folder in `./models`.
    Folder,
    /// A GGUF file (or its shards) in `./models`.
    File,
}

/// A model on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// What to write after `-m`.
    pub name: String,
    /// Its link in `./models`, else its own folder or file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// The commit, of a model in the cache.
    pub revision: Option<String>,
    /// What its weights are, if it has any.
    pub format: Option<Format>,
    /// The quantizations of GGUF files.
    pub quants: Vec<String>,
    /// Whether every file that its weights need is here.
    pub complete: bool,
    /// Where it lies.
    pub origin: Origin,
    /// `ORG/MODEL`, of a model in the cache.
    pub repo: Option<String>,
    /// Its files.
    pub files: Vec<FileInfo>,
}

/// Whether the weights of a folder are all there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Every file is there.
    Yes,
    /// This one is missing.
    Missing(String),
    /// There are no weights.
    NoWeights,
}

impl Store {
    /// The store that `config` names.
    pub fn new(config: &Config) -> Store {
        Store { cache_dir: config.cache_dir.clone(), models_dir: config.models_dir.clone() }
    }

    /// Every model here, by name. What cannot be read is left out.
    pub fn list(&self) -> Vec<Model> {
        let mut models: Vec<Model> = self.repos().iter().flat_map(|repo| self.cached(repo)).collect();
        self.add_folder(&mut models);
        models.sort_by_key(|model| model.name.to_ascii_lowercase());
        models
    }

    /// The path to load for a path, `ORG/MODEL[:QUANT][@REVISION]` or a name of [`Store::list`]: a folder, or
    /// the first file of a GGUF.
    pub fn resolve(&self, text: &str) -> Result<PathBuf> {
        let path = Path::new(text);
        if path.is_file() {
            return Ok(path.to_owned());
        }
        if path.is_dir() {
            return load_path(text, path, &files(path), None);
        }
        let models = self.list();
        if let Some(model) = models.iter().find(|model| model.is_called(text)) {
            return model.load_path(None);
        }
        if looks_like_path(text) {
            return Err(Error::new(Kind::NotFound, format!("{text}: there is no such file or folder")));
        }
        let reference = Reference::parse(text)?;
        self.find(&models, &reference)
            .ok_or_else(|| absent(&reference, &models))?
            .load_path(reference.quant.as_deref())
    }

    /// The model in the cache that `reference` names, at its revision, else at the newest `main`.
    pub(crate) fn find<'a>(&self, models: &'a [Model], reference: &Reference) -> Option<&'a Model> {
        let same = |model: &&Model| {
            model.repo.as_ref().is_some_and(|repo| repo.eq_ignore_ascii_case(&reference.repo))
        };
        let repo = models.iter().find(same)?.repo.clone()?;
        let commit = RepoCache::new(&self.cache_dir, &repo).commit(reference.revision());
        let at =
            models.iter().filter(same).find(|model| model.revision.is_some() && model.revision == commit);
        let latest = || models.iter().filter(same).find(|model| !model.name.contains('@'));
        at.or_else(|| if reference.revision.is_none() { latest() } else { None })
    }

    /// `ORG/MODEL` of every model in the cache.
    fn repos(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.cache_dir).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("models--").map(|repo| repo.replace("--", "/"))
        };
        entries.filter_map(name).collect()
    }

    /// The snapshots of one model; the one of `main`, else the newest, has the plain name.
    fn cached(&self, repo: &str) -> Vec<Model> {
        let cache = RepoCache::new(&self.cache_dir, repo);
        let commits = cache.commits();
        let main = cache.commit("main").filter(|commit| commits.contains(commit));
        let main = main.or_else(|| commits.first().cloned());
        let model = |commit: String| {
            let short = commit.get(..12).unwrap_or(&commit);
            let name =
                if Some(&commit) == main.as_ref() { repo.to_owned() } else { format!("{repo}@{short}") };
            let mut model = Model::of_folder(name, cache.snapshot(&commit), Origin::Cache);
            (model.repo, model.revision) = (Some(repo.to_owned()), Some(commit));
            model
        };
        commits.into_iter().map(model).filter(|model| !model.files.is_empty()).collect()
    }

    /// Adds what `./models` holds: links give models of the cache their path, the rest is new.
    fn add_folder(&self, models: &mut Vec<Model>) {
        let mut loose = Vec::new();
        for place in self.places() {
            let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if place.is_file() {
                loose.push(name);
                continue;
            }
            match models.iter_mut().find(|model| self.stands_for(&place, &name, model)) {
                Some(model) => model.path = place,
                None => models.push(Model::of_folder(name, place, Origin::Folder)),
            }
        }
        models.retain(|model| model.origin != Origin::Folder || model.format.is_some());
        let quants = Quants::of(loose.iter().map(String::as_str));
        models.extend(quants.iter().map(|quant| Model::of_file(&self.models_dir, quant)));
    }

    /// What is in `./models`, by name; hidden things are ours or the system's.
    pub(crate) fn places(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.models_dir).into_iter().flatten().flatten();
        let shown = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
        let mut places: Vec<PathBuf> = entries.filter(shown).map(|entry| entry.path()).collect();
        places.sort();
        places
    }

    /// Whether `place` in `./models` is the link to (or our copy of) `model`.
    fn stands_for(&self, place: &Path, name: &str, model: &Model) -> bool {
        let Some(repo) = model.repo.as_ref() else { return false };
        match standing(place, &self.cache_dir) {
            Standing::OurLink => {
                let own = model.revision.as_ref().map(|c| RepoCache::new(&self.cache_dir, repo).snapshot(c));
                own.is_some_and(|own| fs::canonicalize(own).ok() == fs::canonicalize(place).ok())
            }
            Standing::OurCopy => !model.name.contains('@') && name == dir_name(repo),
            Standing::Free | Standing::Theirs => false,
        }
    }
}

impl Model {
    fn of_folder(name: String, path: PathBuf, origin: Origin) -> Model {
        let files = files(&path);
        let quants = Quants::of(files.iter().map(|file| file.path.as_str()));
        let gguf = Some(Format::Gguf).filter(|_| !quants.is_empty());
        let format = if files.iter().any(is_weights) { Some(Format::Safetensors) } else { gguf };
        Model {
            name,
            size: files.iter().map(|file| file.size).sum(),
            revision: None,
            format,
            quants: quants.iter().map(|quant| quant.name.clone()).collect(),
            complete: whole(&path, &files) == Whole::Yes,
            origin,
            repo: None,
            path,
            files,
        }
    }

    fn of_file(folder: &Path, quant: &crate::quants::Quant) -> Model {
        let size = |path: &String| fs::metadata(folder.join(path)).map_or(0, |meta| meta.len());
        let files: Vec<FileInfo> =
            quant.files.iter().map(|path| FileInfo { path: path.clone(), size: size(path) }).collect();
        let first = &quant.files[0];
        Model {
            name: first[..first.len() - ".gguf".len()].to_owned(),
            path: folder.join(first),
            size: files.iter().map(|file| file.size).sum(),
            revision: None,
            format: Some(Format::Gguf),
            quants: vec![quant.name.clone()],
            complete: quant.files.len() == quant.shards,
            origin: Origin::File,
            repo: None,
            files,
        }
    }

    /// Whether a person may mean this model: its name, `ORG_MODEL` for it, or its path.
    pub(crate) fn is_called(&self, text: &str) -> bool {
        let plain = text.trim_end_matches(['/', '\\']);
        let stem = plain.strip_suffix(".gguf").unwrap_or(plain);
        self.name.eq_ignore_ascii_case(plain)
            || dir_name(&self.name).eq_ignore_ascii_case(plain)
            || (self.origin == Origin::File && self.name.eq_ignore_ascii_case(stem))
            || same_path(&self.path, Path::new(plain))
    }

    fn load_path(&self, quant: Option<&str>) -> Result<PathBuf> {
        if self.origin == Origin::File {
            return if self.complete {
                Ok(self.path.clone())
            } else {
                Err(incomplete(&self.name, "a shard"))
            };
        }
        load_path(&self.name, &self.path, &self.files, quant)
    }
}

/// Whether two paths are the same word by word, `./` aside.
fn same_path(a: &Path, b: &Path) -> bool {
    let parts = |path: &Path| -> Vec<_> {
        let parts = path.components().filter(|part| *part != std::path::Component::CurDir);
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    parts(a) == parts(b)
}

/// What to load of a folder: itself, or the first file of one of its quantizations.
fn load_path(name: &str, folder: &Path, files: &[FileInfo], quant: Option<&str>) -> Result<PathBuf> {
    let quants = Quants::of(files.iter().map(|file| file.path.as_str()));
    let safetensors = files.iter().any(is_weights);
    if quant.is_none() && (safetensors || quants.is_empty()) {
        return match whole(folder, files) {
            Whole::Yes => Ok(folder.to_owned()),
            Whole::Missing(file) => Err(incomplete(name, &file)),
            Whole::NoWeights => {
                let text = format!("{name}: {} holds no *.safetensors and no *.gguf", folder.display());
                Err(Error::new(Kind::NotFound, text))
            }
        };
    }
    let quant = quants.pick(name, quant)?;
    if quant.files.len() != quant.shards {
        return Err(incomplete(
            name,
            &format!("{} of {} shards", quant.shards - quant.files.len(), quant.shards),
        ));
    }
    Ok(folder.join(&quant.files[0]))
}

fn incomplete(name: &str, file: &str) -> Error {
    let text = format!(
        "{name} is here only in part: {file} is missing; `influence download -m {name}` completes it"
    );
    Error::new(Kind::NotFound, text)
}

fn absent(reference: &Reference, models: &[Model]) -> Error {
    let word = reference.repo.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let near: Vec<&str> = models
        .iter()
        .map(|m| m.name.as_str())
        .filter(|name| name.to_ascii_lowercase().contains(&word))
        .collect();
    let near = if near.is_empty() { String::new() } else { format!("; here is {}", near.join(", ")) };
    let text =
        format!("{reference} is not on this machine: `influence download -m {reference}` fetches it{near}");
    Error::new(Kind::NotFound, text)
}

/// Safetensors count at the root only: below it they are other models' (`original/`, `vae/`).
fn is_weights(file: &FileInfo) -> bool {
    file.path.ends_with(".safetensors") && !file.path.contains('/')
}

/// Every file below `folder`, by path. Links to files count as the file, links to folders are not followed.
pub(crate) fn files(folder: &Path) -> Vec<FileInfo> {
    let mut found = Vec::new();
    walk(folder, "", DEEPEST, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<FileInfo>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if found.len() >= MOST_FILES {
            return;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{name}");
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if name.starts_with('.') && !name.starts_with(".git") {
            continue;
        }
        if meta.is_file() {
            found.push(FileInfo { path, size: meta.len() });
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), &format!("{path}/"), depth - 1, found);
        }
    }
}

/// Whether the weights of `folder`, which holds `files`, are all there.
pub(crate) fn whole(folder: &Path, files: &[FileInfo]) -> Whole {
    let has: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    if files.iter().any(is_weights) {
        let missing =
            indexed(folder, &has).into_iter().chain(promised(&has)).find(|path| !has.contains(path.as_str()));
        return missing.map_or(Whole::Yes, Whole::Missing);
    }
    let quants = Quants::of(has.iter().copied());
    let broken = quants.iter().find(|quant| quant.files.len() != quant.shards);
    match (quants.is_empty(), broken) {
        (true, _) => Whole::NoWeights,
        (false, None) => Whole::Yes,
        (false, Some(quant)) => Whole::Missing(format!("a shard of {}", quant.name)),
    }
}

/// The files that the index of sharded safetensors names.
fn indexed(folder: &Path, has: &BTreeSet<&str>) -> BTreeSet<String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    const NAME: &str = "model.safetensors.index.json";
    let path = folder.join(NAME);
    let small = has.contains(NAME) && fs::metadata(&path).is_ok_and(|meta| meta.len() <= LONGEST_INDEX);
    let text = small.then(|| fs::read(&path).ok()).flatten().unwrap_or_default();
    // An index that cannot be read is the loader's to complain about.
    serde_json::from_slice::<Index>(&text)
        .map_or_else(|_| BTreeSet::new(), |i| i.weight_map.into_values().collect())
}

/// The files that names like `model-00001-of-00003.safetensors` promise.
/// One at a time: a few files may promise more than fit into memory.
fn promised(has: &BTreeSet<&str>) -> impl Iterator<Item = String> + use<> {
    let parts = |path: &str| -> Option<(String, u32)> {
        let (head, total) = path.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (head, _) = head.rsplit_once('-')?;
        Some((head.to_owned(), total.parse().ok().filter(|total: &u32| *total < 10_000)?))
    };
    let groups: BTreeSet<(String, u32)> = has.iter().filter_map(|path| parts(path)).collect();
    let names = |(head, total): (String, u32)| {
        (1..=total).map(move |i| format!("{head}-{i:05}-of-{total:05}.safetensors"))
    };
    groups.into_iter().flat_map(names)
}
