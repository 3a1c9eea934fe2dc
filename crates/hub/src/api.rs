//! What the Hub says about one model: which commit a revision is, and the files of that commit.

use reqwest::Url;
use serde::Deserialize;

use crate::checksum::Sum;
use crate::client::{Client, next_page};
use crate::error::{Error, Kind, Result};
use crate::reference::{Reference, check_repo, is_commit};

/// More files than this are not a model.
const MOST_FILES: usize = 200_000;
const MOST_PAGES: usize = 2_000;

/// A model at one commit.
#[derive(Debug)]
pub(crate) struct Info {
    /// Its name of today, which may not be the one asked for.
    pub repo: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

/// A file of a commit.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its path in the repository; not yet checked.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What its content must sum to.
    pub sum: Sum,
}

#[derive(Deserialize)]
struct RawInfo {
    #[serde(default)]
    id: String,
    #[serde(default)]
    sha: String,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
struct RawEntry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<RawLfs>,
}

#[derive(Deserialize)]
struct RawLfs {
    #[serde(default)]
    oid: String,
    size: Option<u64>,
}

/// Which commit `reference` is, and what the model is called today.
pub(crate) async fn info(client: &Client, reference: &Reference) -> Result<Info> {
    let mut parts = vec!["api", "models"];
    parts.extend(reference.repo.split('/'));
    parts.extend(["revision", reference.revision()]);
    let what = reference.to_string();
    let (raw, _): (RawInfo, _) = client.json(&client.url(parts), &what).await?;
    if raw.disabled {
        let text = format!("{what}: the Hub has disabled access to this model; see its page");
        return Err(Error::new(Kind::AccessDenied, text));
    }
    let repo = if raw.id.is_empty() { reference.repo.clone() } else { raw.id };
    check_repo(&repo, &repo)
        .map_err(|e| Error::new(Kind::Hostile, format!("{what}: the Hub's answer: {e}")))?;
    if !is_commit(&raw.sha) {
        let text =
            format!("{what}: the Hub gave {:?} where a commit (40 hexadecimal digits) was expected", raw.sha);
        return Err(Error::new(Kind::Hostile, text));
    }
    Ok(Info { repo, commit: raw.sha })
}

/// Every file of `repo` at `commit`.
pub(crate) async fn tree(client: &Client, repo: &str, commit: &str) -> Result<Vec<Entry>> {
    let mut parts = vec!["api", "models"];
    parts.extend(repo.split('/'));
    parts.extend(["tree", commit]);
    let mut url = client.url(parts);
    url.query_pairs_mut().append_pair("recursive", "true");
    let what = format!("the files of {repo}");
    let mut entries = Vec::new();
    let mut page = Some(url);
    for _ in 0..MOST_PAGES {
        let Some(url) = page else { return Ok(entries) };
        let (raw, headers): (Vec<RawEntry>, _) = client.json(&url, &what).await?;
        entries.extend(raw.into_iter().filter(|raw| raw.kind == "file").map(entry));
        if entries.len() > MOST_FILES {
            break;
        }
        page = next_page(&headers, &url).filter(|next| client.is_home(next));
    }
    Err(Error::new(
        Kind::Hostile,
        format!("{what}: more than {MOST_FILES} files or {MOST_PAGES} pages; not a model"),
    ))
}

fn entry(raw: RawEntry) -> Entry {
    let (size, sum) = match raw.lfs {
        Some(lfs) => (lfs.size.unwrap_or(raw.size), Sum::sha256(lfs.oid.trim_start_matches("sha256:"))),
        None => (raw.size, Sum::git(&raw.oid)),
    };
    Entry { path: raw.path, size, sum }
}

/// Where the content of `path` is found.
pub(crate) fn resolve(client: &Client, repo: &str, commit: &str, path: &str) -> Url {
    let mut parts: Vec<&str> = repo.split('/').collect();
    parts.extend(["resolve", commit]);
    parts.extend(path.split('/'));
    client.url(parts)
}
