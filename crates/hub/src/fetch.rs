//! One file from the Hub into the cache: a lock, what is there already, the rest by `Range`, the sum.
//!
//! Bytes go to `SUM.incomplete`; the file gets the name `SUM` when its length and its sum are right, by
//! one rename. Whatever interrupts this leaves the `.incomplete` file to go on from.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::header::{self, HeaderMap};

use crate::api::{self, Entry};
use crate::cache::{self, RepoCache};
use crate::checksum::{Hasher, Sum};
use crate::client::{Answer, Client, Failure};
use crate::download::{Event, Progress};
use crate::error::{Error, Kind, Result};

/// This much new content makes a cut connection count as progress: the tries start anew.
const PROGRESS: u64 = 64 << 10;

/// A file to be fetched.
pub(crate) struct Job {
    pub client: Arc<Client>,
    pub cache: RepoCache,
    pub repo: String,
    pub commit: String,
    pub entry: Entry,
    /// Its place in the plan, for progress.
    pub index: usize,
    pub force: bool,
    pub progress: Arc<dyn Progress>,
}

/// The part of a file that is on the disk, and its sum so far.
struct Part {
    path: PathBuf,
    file: File,
    at: u64,
    hasher: Hasher,
}

impl Job {
    /// Brings the file into `blobs` and gives the name it has there.
    pub(crate) async fn run(mut self) -> Result<String> {
        if self.entry.sum == Sum::Unknown {
            self.learn().await?;
        }
        let name = self.entry.sum.name().to_owned();
        let waiting = || {
            let text = format!("{}: another process is downloading it, waiting", self.entry.path);
            self.progress.on(Event::Note(&text));
        };
        let _lock = cache::lock(&self.cache.lock_file(&name), waiting).await?;
        let blob = self.cache.blob(&name);
        if self.force || !is_whole(&blob, self.entry.size) {
            self.fetch(&name, &blob).await?;
        }
        self.progress.on(Event::Done { file: self.index });
        Ok(name)
    }

    /// Asks the file itself for its sum, where the list of files did not have it.
    async fn learn(&mut self) -> Result<()> {
        let mut tries = 0;
        let answer = loop {
            match self.ask(None).await {
                Ok(answer) => break answer,
                Err(failure) => self.client.wait(failure, &mut tries).await?,
            }
        };
        let bad = || {
            let text = format!(
                "{}: the Hub gives no usable ETag, so nothing says what its content is",
                self.entry.path
            );
            Error::new(Kind::Hostile, text)
        };
        self.entry.size = answer.linked_size.or(answer.response.content_length()).unwrap_or(self.entry.size);
        self.entry.sum = answer.etag.as_deref().and_then(Sum::etag).ok_or_else(bad)?;
        Ok(())
    }

    async fn ask(&self, from: Option<u64>) -> std::result::Result<Answer, Failure> {
        let url = api::resolve(&self.client, &self.repo, &self.commit, &self.entry.path);
        self.client.get(&url, from, &format!("{}/{}", self.repo, self.entry.path)).await
    }

    async fn fetch(&self, name: &str, blob: &Path) -> Result<()> {
        let path = self.cache.incomplete(name);
        let mut part = tokio::task::block_in_place(|| Part::open(path, &self.entry))?;
        let resumed = part.at > 0;
        self.fill(&mut part).await?;
        if let Err(error) = part.finish(&self.entry, blob) {
            if !resumed {
                return Err(error);
            }
            // The part from before may have been to blame; the file is gone, take it from the start.
            self.progress.on(Event::Note(&format!("{}: the part kept from before was bad", self.entry.path)));
            let mut part = Part::open(self.cache.incomplete(name), &self.entry)?;
            self.fill(&mut part).await?;
            part.finish(&self.entry, blob)?;
        }
        Ok(())
    }

    /// Asks until the part is as long as the file.
    async fn fill(&self, part: &mut Part) -> Result<()> {
        let mut tries = 0;
        self.progress.on(Event::Moved { file: self.index, at: part.at });
        while part.at < self.entry.size {
            let before = part.at;
            if let Err(failure) = self.more(part).await {
                if part.at >= before + PROGRESS {
                    tries = 0;
                }
                self.client.wait(failure, &mut tries).await?;
            }
        }
        Ok(())
    }

    /// One request, written as far as it goes.
    async fn more(&self, part: &mut Part) -> std::result::Result<(), Failure> {
        let what = format!("{}/{}", self.repo, self.entry.path);
        let mut answer = self.ask((part.at > 0).then_some(part.at)).await?;
        self.check_promise(&answer).map_err(Failure::Final)?;
        let start = first_byte(answer.response.status().as_u16(), answer.response.headers());
        if start != Some(part.at) {
            // The server does not continue: from the start then, if this is the start.
            part.restart(&self.entry).map_err(Failure::Final)?;
            if start != Some(0) {
                let error = Error::new(
                    Kind::Other,
                    format!("{what}: the server sent another part than was asked for"),
                );
                return Err(Failure::Again { after: None, error });
            }
        }
        while let Some(chunk) = answer.response.chunk().await.map_err(|e| self.client.broken(&e, &what))? {
            if part.at + chunk.len() as u64 > self.entry.size {
                return Err(Failure::Final(self.too_long(part)));
            }
            part.write(&chunk).map_err(Failure::Final)?;
            self.progress.on(Event::Moved { file: self.index, at: part.at });
        }
        if part.at < self.entry.size {
            let text = format!("{what}: the connection ended after {} of {} bytes", part.at, self.entry.size);
            return Err(Failure::Again { after: None, error: Error::new(Kind::Offline, text) });
        }
        Ok(())
    }

    /// What the Hub promises for the file must be what its list of files said.
    fn check_promise(&self, answer: &Answer) -> Result<()> {
        let size = answer.linked_size.unwrap_or(self.entry.size);
        let other = match (&self.entry.sum, answer.etag.as_deref().and_then(Sum::etag)) {
            (Sum::Sha256(own), Some(Sum::Sha256(told))) | (Sum::Git(own), Some(Sum::Git(told))) => {
                *own != told
            }
            _ => false,
        };
        if !other && size == self.entry.size {
            return Ok(());
        }
        let text = format!(
            "{}/{}: the Hub promises {size} bytes with sum {}, its list of files said {} bytes with sum {}; try again later",
            self.repo,
            self.entry.path,
            answer.etag.as_deref().unwrap_or("unknown"),
            self.entry.size,
            self.entry.sum.name(),
        );
        Err(Error::new(Kind::Corrupt, text))
    }

    fn too_long(&self, part: &Part) -> Error {
        let _ = fs::remove_file(&part.path);
        let text = format!(
            "{}/{}: the server sent more than the {} bytes that the Hub promised; what came was removed",
            self.repo, self.entry.path, self.entry.size
        );
        Error::new(Kind::Corrupt, text)
    }
}

impl Part {
    /// Opens what is there of `entry` and sums it up; a part longer than the file is none.
    fn open(path: PathBuf, entry: &Entry) -> Result<Part> {
        cache::make_parent(&path)?;
        let fail = |e| Error::io("cannot open", &path, e);
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        let mut hasher = entry.sum.hasher(entry.size);
        let mut at = 0;
        if len > entry.size {
            file.set_len(0).map_err(fail)?;
        } else if len > 0 {
            at = sum_up(&mut file, &mut hasher).map_err(fail)?;
        }
        Ok(Part { path, file, at, hasher })
    }

    fn restart(&mut self, entry: &Entry) -> Result<()> {
        if self.at == 0 {
            return Ok(());
        }
        let done = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        done.map_err(|e| Error::io("cannot write", &self.path, e))?;
        (self.at, self.hasher) = (0, entry.sum.hasher(entry.size));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("cannot write", &self.path, e))?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Checks length and sum and gives the file its name; removes it where they are wrong.
    fn finish(self, entry: &Entry, blob: &Path) -> Result<()> {
        let fail = |e| Error::io("cannot finish", &self.path, e);
        let len = self.file.metadata().map_err(fail)?.len();
        let found = self.hasher.finish();
        if len == entry.size && entry.sum.is(&found) {
            // Without this a power cut could leave the name with nothing behind it.
            self.file.sync_data().map_err(fail)?;
            return fs::rename(&self.path, blob).map_err(fail);
        }
        let _ = fs::remove_file(&self.path);
        let text = format!(
            "{}: wrong checksum: got {found} over {len} bytes, the Hub promised {} over {} bytes. The file was removed; \
             try again, and if it stays wrong something between here and the Hub alters it",
            entry.path,
            entry.sum.name(),
            entry.size
        );
        Err(Error::new(Kind::Corrupt, text))
    }
}

/// Whether `path` is a file of exactly `size` bytes.
pub(crate) fn is_whole(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

fn sum_up(file: &mut File, hasher: &mut Hasher) -> std::io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(at),
            n => {
                hasher.update(&buffer[..n]);
                at += n as u64;
            }
        }
    }
}

/// The offset of an answer's first byte: 0 for a whole file, that of `Content-Range` for a part.
fn first_byte(status: u16, headers: &HeaderMap) -> Option<u64> {
    if status != 206 {
        return Some(0);
    }
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
