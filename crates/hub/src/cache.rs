//! The shared Hugging Face cache: where things lie, and how links are made.
//!
//! ```text
//! models--ORG--NAME/blobs/SUM               contents, by checksum
//! models--ORG--NAME/refs/main               the commit that a branch was, last time
//! models--ORG--NAME/snapshots/COMMIT/PATH   links into blobs (copies where links cannot be)
//! .locks/models--ORG--NAME/SUM.lock         held while SUM is written
//! ```
//! The layout is that of the `huggingface_hub` package, so each side finds what the other fetched.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::reference::is_commit;

/// The marker in a folder of `./models` that is a copy of ours, and may be replaced or removed.
const MARKER: &str = ".influence-copy";

/// One model's part of the cache.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    pub root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(crate) fn new(cache_dir: &Path, repo: &str) -> RepoCache {
        let folder = format!("models--{}", repo.replace('/', "--"));
        RepoCache { root: cache_dir.join(&folder), locks: cache_dir.join(".locks").join(folder) }
    }

    pub(crate) fn blob(&self, sum: &str) -> PathBuf {
        self.root.join("blobs").join(sum)
    }

    pub(crate) fn incomplete(&self, sum: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{sum}.incomplete"))
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.locks.clone()
    }

    pub(crate) fn lock_file(&self, sum: &str) -> PathBuf {
        self.locks.join(format!("{sum}.lock"))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The commit that `revision` stands for here, if it was ever fetched. A prefix of a commit will do.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        let named =
            fs::read_to_string(self.root.join("refs").join(revision)).ok().map(|text| text.trim().to_owned());
        if let Some(commit) = named.filter(|commit| is_commit(commit)) {
            return Some(commit);
        }
        let hex = revision.len() >= 7 && revision.bytes().all(|b| b.is_ascii_hexdigit());
        let mut known = self.commits().into_iter().filter(|commit| hex && commit.starts_with(revision));
        known.next().filter(|_| known.next().is_none())
    }

    /// Every commit with a snapshot here, the one last written first.
    pub(crate) fn commits(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("snapshots")).into_iter().flatten().flatten();
        let dated = entries.filter(|entry| entry.path().is_dir()).filter_map(|entry| {
            let time = entry.metadata().and_then(|meta| meta.modified()).ok();
            Some((time, entry.file_name().into_string().ok()?))
        });
        let mut dated: Vec<_> = dated.collect();
        dated.sort_by(|a, b| b.cmp(a));
        dated.into_iter().map(|(_, commit)| commit).collect()
    }

    /// Notes that `revision` is `commit`. Only after the snapshot is there: a reference to a missing
    /// commit makes other tools call the whole cache broken.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        make_parent(&path)?;
        let fresh = beside(&path);
        fs::write(&fresh, commit)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|e| Error::io("cannot write", &path, e))
    }

    /// Makes `snapshots/commit/path` stand for blob `sum`.
    pub(crate) fn place(&self, commit: &str, path: &str, sum: &str, copy: bool) -> Result<()> {
        let place = self.snapshot(commit).join(path);
        make_parent(&place)?;
        let up = "../".repeat(path.matches('/').count() + 2);
        let target = PathBuf::from(format!("{up}blobs/{sum}"));
        let fresh = beside(&place);
        let made = if copy { Err(io::ErrorKind::Unsupported.into()) } else { link_file(&target, &fresh) };
        made.or_else(|_: io::Error| fs::copy(self.blob(sum), &fresh).map(drop))
            .and_then(|()| fs::rename(&fresh, &place))
            .map_err(|e| Error::io("cannot place", &place, e))
    }
}

/// Waits for the lock of one content. It is given back when dropped, also when the process dies.
/// Where the file system has no locks there is none: then two writers write the same bytes at the same
/// places, and the length is checked before the file gets its name.
pub(crate) async fn lock(path: &Path, mut on_wait: impl FnMut()) -> Result<Option<File>> {
    make_parent(path)?;
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| Error::io("cannot open the lock", path, e))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    on_wait();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

pub(crate) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| Error::io("cannot make the folder", parent, e))
}

/// A name in the same folder that nobody else uses, to be renamed into place.
fn beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}.{count}.tmp", std::process::id()))
}

#[cfg(unix)]
fn link_file(target: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}
#[cfg(unix)]
use link_file as link_dir;

#[cfg(windows)]
fn link_file(target: &Path, at: &Path) -> io::Result<()> {
    // Windows keeps the target as it is written, and follows only its own separators.
    let target = target.to_string_lossy().replace('/', "\\");
    std::os::windows::fs::symlink_file(target, at)
}
#[cfg(windows)]
fn link_dir(target: &Path, at: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_dir(target, at)
}

/// What stands at a place in `./models`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Free,
    /// A link into the cache, or one that leads nowhere: may be replaced.
    OurLink,
    /// A copy that we made: may be replaced.
    OurCopy,
    /// A link to somewhere else, a folder or a file of the user's.
    Theirs,
}

/// What stands at `place`, seen from the cache at `cache_dir`.
pub(crate) fn standing(place: &Path, cache_dir: &Path) -> Standing {
    let Ok(meta) = fs::symlink_metadata(place) else { return Standing::Free };
    if meta.is_symlink() {
        let Ok(target) = fs::canonicalize(place) else { return Standing::OurLink };
        let inside = fs::canonicalize(cache_dir).is_ok_and(|cache| target.starts_with(cache));
        return if inside { Standing::OurLink } else { Standing::Theirs };
    }
    if place.join(MARKER).is_file() { Standing::OurCopy } else { Standing::Theirs }
}

/// An error unless `place` may be taken for a link of ours.
pub(crate) fn check_place(place: &Path, cache_dir: &Path) -> Result<()> {
    if standing(place, cache_dir) != Standing::Theirs {
        return Ok(());
    }
    let text = format!(
        "{} is there already and was not made by a download, so it is left as it is. Move it away, or choose another \
         folder for the link with --dir",
        place.display()
    );
    Err(Error::new(Kind::Other, text))
}

/// Makes `place` a link to the folder `snapshot`, or a copy where links cannot be.
pub(crate) fn publish(place: &Path, snapshot: &Path, cache_dir: &Path, copy: bool) -> Result<()> {
    check_place(place, cache_dir)?;
    make_parent(place)?;
    let fail = |e| Error::io("cannot make the link", place, e);
    let target = fs::canonicalize(snapshot).map_err(fail)?;
    let fresh = beside(place);
    let made = if copy { Err(io::ErrorKind::Unsupported.into()) } else { link_dir(&target, &fresh) };
    if made.is_err() {
        copy_tree(&target, &fresh).and_then(|()| fs::write(fresh.join(MARKER), "")).map_err(fail)?;
    }
    match standing(place, cache_dir) {
        Standing::OurCopy => fs::remove_dir_all(place).map_err(fail)?,
        Standing::OurLink if fresh.is_dir() && !fresh.is_symlink() => fs::remove_file(place).map_err(fail)?,
        _ => {}
    }
    fs::rename(&fresh, place).map_err(fail)
}

/// Copies the files below `from`, following the links of a snapshot.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() { copy_tree(&source, &place)? } else { fs::copy(&source, &place).map(drop)? }
    }
    Ok(())
}
