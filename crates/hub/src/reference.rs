//! What a person writes to name a model: `ORG/MODEL[:QUANT][@REVISION]`, `ORG_MODEL`, or a path.
//!
//! The first thing that happens to `-m`; everything after works on a parsed [`Reference`].

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// A model on the Hub, its names already checked: they are safe as parts of paths and URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `ORG/MODEL`.
    pub repo: String,
    /// Which quantization of a repository of GGUF files, `Q4_K_M` say.
    pub quant: Option<String>,
    /// A branch, a tag or a commit; none is `main`.
    pub revision: Option<String>,
}

/// What an argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file or folder of this machine.
    Local(PathBuf),
    /// A model of the Hub.
    Hub(Reference),
}

impl Target {
    /// Sorts an argument into a path (it exists, or is written like one) or a reference.
    pub fn parse(text: &str) -> Result<Target> {
        if looks_like_path(text) || Path::new(text).exists() {
            return Ok(Target::Local(PathBuf::from(text)));
        }
        Reference::parse(text).map(Target::Hub)
    }
}

/// Whether `text` is written as a path: it starts with `.`, `/`, `~` or a drive, or ends in `.gguf`.
pub(crate) fn looks_like_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let drive = bytes.len() > 2 && bytes[1] == b':' && (bytes[2] == b'\\' || bytes[2] == b'/');
    text.starts_with(['.', '/', '~', '\\']) || drive || text.to_ascii_lowercase().ends_with(".gguf")
}

impl Reference {
    /// Parses `ORG/MODEL[:QUANT][@REVISION]`, the same with `_` for `/`, or the address of a model's page.
    pub fn parse(text: &str) -> Result<Reference> {
        let (rest, mut revision) = split(strip_host(text.trim()), '@');
        let (name, quant) = split(rest, ':');
        let (name, page) = name.split_once("/tree/").map_or((name, None), |(n, r)| (n, Some(r)));
        if page.is_some() {
            revision = page.map(|r| r.trim_end_matches('/'));
        }
        let name = name.trim_end_matches('/');
        let repo = match (name.contains('/'), name.split_once('_')) {
            (false, Some((org, model))) => format!("{org}/{model}"),
            _ => name.to_owned(),
        };
        check_repo(text, &repo)?;
        if let Some(quant) = quant {
            check_word(text, "quantization", quant)?;
        }
        if let Some(revision) = revision {
            check_revision(text, revision)?;
        }
        Ok(Reference { repo, quant: quant.map(str::to_owned), revision: revision.map(str::to_owned) })
    }

    /// The revision to ask for, `main` where none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The name of the model's folder in `./models`: `ORG_MODEL`.
    pub fn dir_name(&self) -> String {
        dir_name(&self.repo)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(quant) = &self.quant {
            write!(f, ":{quant}")?;
        }
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// `ORG/MODEL` as one path component, `ORG_MODEL`.
pub(crate) fn dir_name(repo: &str) -> String {
    repo.replace('/', "_")
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(head, tail)| (head, Some(tail)))
}

fn strip_host(text: &str) -> &str {
    [
        "https://huggingface.co/",
        "http://huggingface.co/",
        "https://hf.co/",
        "huggingface.co/",
        "hf.co/",
        "hf://",
    ]
    .iter()
    .find_map(|host| text.strip_prefix(host))
    .unwrap_or(text)
}

/// The Hub's own rules for a repository's name: two words of at most 96 letters, digits, `-`, `_`, `.`,
/// which neither start nor end with `-` or `.`, and hold no `--` or `..` (those would break the cache's
/// folder names).
pub(crate) fn check_repo(written: &str, repo: &str) -> Result<()> {
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() != 2 || parts.iter().any(|part| part.is_empty()) {
        let hint = if parts.len() == 1 && !repo.is_empty() {
            format!(". `influence search {repo}` finds models by words, `influence list` shows those here")
        } else {
            String::from(", for example ibm-granite/granite-3.1-1b-a400m-instruct")
        };
        return Err(usage(written, &format!("expected ORG/MODEL[:QUANT][@REVISION]{hint}")));
    }
    parts.iter().try_for_each(|part| check_part(written, part))
}

fn check_part(written: &str, part: &str) -> Result<()> {
    if let Some(c) = part.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c))) {
        return Err(usage(written, &format!("{c:?} is not allowed in {part:?}: letters, digits, - _ . are")));
    }
    if part.len() > 96 || part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
        let rule = "at most 96 characters that neither start nor end with - or .";
        return Err(usage(written, &format!("{part:?} is no name on the Hub ({rule})")));
    }
    if part.contains("--") || part.contains("..") {
        return Err(usage(written, &format!("{part:?} holds -- or .., which no name on the Hub does")));
    }
    Ok(())
}

fn check_word(written: &str, what: &str, word: &str) -> Result<()> {
    if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(usage(written, &format!("{word:?} is no {what}; one looks like Q4_K_M")));
    }
    Ok(())
}

/// A branch, tag, commit or `refs/pr/N`: it becomes a path below `refs/`, so it must stay there.
pub(crate) fn check_revision(written: &str, revision: &str) -> Result<()> {
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !part.contains("..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    };
    if revision.len() > 200 || !revision.split('/').all(good) {
        return Err(usage(
            written,
            &format!("{revision:?} is no revision; give a branch, a tag or a commit"),
        ));
    }
    Ok(())
}

/// Whether `text` is a full commit hash, the only revision that names one state for ever.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn usage(written: &str, problem: &str) -> Error {
    Error::new(Kind::Usage, format!("{written:?} does not name a model: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, Option<String>, Option<String>) {
        let r = Reference::parse(text).unwrap();
        (r.repo, r.quant, r.revision)
    }

    #[test]
    fn every_form_is_read() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(parse("a/b"), ("a/b".into(), None, None));
        assert_eq!(parse("a/b:Q4_K_M"), ("a/b".into(), some("Q4_K_M"), None));
        assert_eq!(parse("a/b@v1.0"), ("a/b".into(), None, some("v1.0")));
        assert_eq!(parse("a/b:Q8_0@refs/pr/3"), ("a/b".into(), some("Q8_0"), some("refs/pr/3")));
        assert_eq!(parse("a-b_c_d.e"), ("a-b/c_d.e".into(), None, None));
        assert_eq!(parse("https://huggingface.co/a/b/tree/dev"), ("a/b".into(), None, some("dev")));
        assert_eq!(parse("hf.co/a/b:Q4_0").1, some("Q4_0"));
        assert_eq!(Reference::parse("a/b:Q4_0@x").unwrap().to_string(), "a/b:Q4_0@x");
        assert_eq!(Reference::parse("a/b_c").unwrap().dir_name(), "a_b_c");
    }

    #[test]
    fn what_would_leave_a_folder_or_is_no_name_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "gpt2",
            "a/..",
            "../b",
            "a/b..c",
            "a--x/b",
            "a/b c",
            "a/b\0",
            "a/.b",
            "a/b:",
            "a/b:../x",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a/b@x//y",
            "a/b@.hidden",
            "a/é",
            "a\\b/c",
            "-a/b",
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text:?}");
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        assert!(Reference::parse("gpt2").unwrap_err().to_string().contains("influence search gpt2"));
    }

    #[test]
    fn paths_are_told_from_references() {
        for text in ["./x", "/x/y", "~/m", "m.gguf", "C:\\m", ".", "a/b.GGUF"] {
            assert!(matches!(Target::parse(text), Ok(Target::Local(_))), "{text}");
        }
        assert!(matches!(Target::parse("a/b:Q8_0"), Ok(Target::Hub(_))));
    }
}
