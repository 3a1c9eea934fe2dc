//! Deleting a model: its link, its snapshots, and the contents that no other snapshot uses.
//!
//! What is deleted comes from the listing, never from joining what a person wrote to a folder; and
//! every path is checked once more to lie in the cache or in `./models` before it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::cache::{RepoCache, Standing, standing};
use crate::error::{Error, Kind, Result};
use crate::quants::Quants;
use crate::reference::{Reference, dir_name};
use crate::store::{Model, Origin, Store, files};

/// What is to be deleted; look at it, then give it to [`Store::remove`].
#[derive(Clone, Debug)]
pub struct Removal {
    /// The model's name.
    pub name: String,
    /// Files, folders and links. Of links only the link itself goes.
    pub paths: Vec<PathBuf>,
    /// Bytes that become free.
    pub bytes: u64,
}

impl Store {
    /// What deleting `text` would take: a name of the list, or `ORG/MODEL[:QUANT][@REVISION]`. Without a
    /// revision all of the model's snapshots go, with one only that; with a quantization only its files.
    pub fn plan_removal(&self, text: &str) -> Result<Removal> {
        let models = self.list();
        if let Some(model) = models.iter().find(|model| model.is_called(text)) {
            return Ok(self.plan_of(model));
        }
        let absent = || {
            let text = format!("{text:?} is not on this machine; `influence list` shows what is");
            Error::new(Kind::NotFound, text)
        };
        let reference = Reference::parse(text).map_err(|_| absent())?;
        let model = self.find(&models, &reference).ok_or_else(absent)?;
        let repo = model.repo.clone().ok_or_else(absent)?;
        let Some(quant) = &reference.quant else { return Ok(self.plan_commit(model, &repo)) };
        let picked = Quants::of(model.files.iter().map(|file| file.path.as_str()));
        let picked = picked.pick(&repo, Some(quant))?;
        let left = model.files.iter().any(|f| f.path.ends_with(".gguf") && !picked.files.contains(&f.path));
        if !left {
            return Ok(self.plan_commit(model, &repo));
        }
        Ok(self.plan_files(&reference.to_string(), &repo, |path| picked.files.contains(path)))
    }

    /// Deletes what was planned; the bytes that were freed.
    pub fn remove(&self, removal: &Removal) -> Result<u64> {
        removal.paths.iter().try_for_each(|path| self.check_inside(path))?;
        for path in &removal.paths {
            let gone = match fs::symlink_metadata(path) {
                Err(_) => continue,
                Ok(meta) if meta.is_symlink() => unlink(path),
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
                Ok(_) => fs::remove_file(path),
            };
            gone.map_err(|e| Error::io("cannot delete", path, e))?;
        }
        Ok(removal.bytes)
    }

    fn plan_of(&self, model: &Model) -> Removal {
        match (&model.repo, model.origin) {
            (Some(repo), _) if model.name.contains('@') => self.plan_commit(model, repo),
            (Some(repo), _) => self.plan_repo(repo),
            (None, Origin::File) => {
                let paths = model.files.iter().map(|file| self.models_dir.join(&file.path)).collect();
                Removal { name: model.name.clone(), paths, bytes: model.size }
            }
            (None, _) => {
                // Of a link to a folder elsewhere only the link goes, so nothing becomes free.
                let bytes = if model.path.is_symlink() { 0 } else { model.size };
                Removal { name: model.name.clone(), paths: vec![model.path.clone()], bytes }
            }
        }
    }

    /// All of a model: every snapshot, its locks, its links.
    fn plan_repo(&self, repo: &str) -> Removal {
        let cache = RepoCache::new(&self.cache_dir, repo);
        let mut paths = self.links(repo, &cache.root);
        paths.push(cache.root.clone());
        paths.extend(Some(cache.locks()).filter(|locks| locks.is_dir()));
        Removal { name: repo.to_owned(), bytes: disk_size(&cache.root), paths }
    }

    /// One snapshot of several; the last one takes the model with it.
    fn plan_commit(&self, model: &Model, repo: &str) -> Removal {
        let cache = RepoCache::new(&self.cache_dir, repo);
        let commit = model.revision.clone().unwrap_or_default();
        if cache.commits().len() <= 1 {
            return self.plan_repo(repo);
        }
        let snapshot = cache.snapshot(&commit);
        let inside = |pointer: &Path| pointer.starts_with(&snapshot);
        let (blobs, bytes) = only_used_by(&cache, inside);
        let mut paths = self.links(repo, &snapshot);
        paths.extend([snapshot.clone()]);
        paths.extend(blobs);
        paths.extend(refs_to(&cache, &commit));
        Removal { name: model.name.clone(), paths, bytes }
    }

    /// Some files, in every snapshot of the model.
    fn plan_files(&self, name: &str, repo: &str, goes: impl Fn(&String) -> bool) -> Removal {
        let cache = RepoCache::new(&self.cache_dir, repo);
        let mut pointers = BTreeSet::new();
        for commit in cache.commits() {
            let folder = cache.snapshot(&commit);
            let chosen = files(&folder).into_iter().map(|file| file.path).filter(&goes);
            pointers.extend(chosen.map(|path| folder.join(path)));
        }
        let (blobs, bytes) = only_used_by(&cache, |pointer: &Path| pointers.contains(pointer));
        Removal { name: name.to_owned(), paths: pointers.into_iter().chain(blobs).collect(), bytes }
    }

    /// The links (and copies of ours) in `./models` that lead below `target`.
    fn links(&self, repo: &str, target: &Path) -> Vec<PathBuf> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let own = |place: &PathBuf| match standing(place, &self.cache_dir) {
            Standing::OurLink => fs::canonicalize(place).is_ok_and(|to| to.starts_with(&target)),
            Standing::OurCopy => place.file_name().is_some_and(|name| name == dir_name(repo).as_str()),
            Standing::Free | Standing::Theirs => false,
        };
        self.places().into_iter().filter(own).collect()
    }

    /// An error unless `path` lies in the cache or in the models folder, by its real parent.
    fn check_inside(&self, path: &Path) -> Result<()> {
        let refuse = || {
            let text = format!(
                "{} is not in the cache and not in the models folder; nothing was deleted",
                path.display()
            );
            Error::new(Kind::Hostile, text)
        };
        if !matches!(path.components().next_back(), Some(Component::Normal(_))) {
            return Err(refuse());
        }
        let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        // What is not there cannot be deleted, so it cannot do harm.
        let Ok(parent) = fs::canonicalize(parent) else { return Ok(()) };
        let roots = [&self.cache_dir, &self.models_dir].map(|root| fs::canonicalize(root).ok());
        let inside = roots.iter().flatten().any(|root| parent.starts_with(root));
        if inside { Ok(()) } else { Err(refuse()) }
    }
}

/// The contents that only the pointers chosen by `goes` use, and their bytes (those of copies too).
fn only_used_by(cache: &RepoCache, goes: impl Fn(&Path) -> bool) -> (Vec<PathBuf>, u64) {
    let mut users: BTreeMap<PathBuf, bool> = BTreeMap::new();
    let mut bytes = 0;
    for commit in cache.commits() {
        let folder = cache.snapshot(&commit);
        for file in files(&folder) {
            let pointer = folder.join(&file.path);
            let going = goes(&pointer);
            match fs::read_link(&pointer)
                .ok()
                .and_then(|target| Some(cache.blob(target.file_name()?.to_str()?)))
            {
                Some(blob) => *users.entry(blob).or_insert(true) &= going,
                None => bytes += if going { file.size } else { 0 },
            }
        }
    }
    let gone: Vec<PathBuf> = users.into_iter().filter(|(_, going)| *going).map(|(blob, _)| blob).collect();
    bytes += gone.iter().map(|blob| disk_size(blob)).sum::<u64>();
    (gone, bytes)
}

/// The references that stand for `commit`.
fn refs_to(cache: &RepoCache, commit: &str) -> Vec<PathBuf> {
    let folder = cache.root.join("refs");
    let paths = files(&folder).into_iter().map(|file| folder.join(file.path));
    paths.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.trim() == commit)).collect()
}

/// The bytes of a file, or of all files below a folder; links count nothing.
fn disk_size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| disk_size(&entry.path())).sum()
        }
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    }
}

fn unlink(path: &Path) -> std::io::Result<()> {
    // Windows tells links to folders from links to files.
    if cfg!(windows) && path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}
