//! Where the Hub is, who we are to it, where models are kept, and how patient we are.
//!
//! Read once from the environment at the edge and passed down as a value, so that nothing below
//! looks at (or tests against) the process's environment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Kind, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// An access token; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as a person wrote it; surrounding blanks go, an empty one is none.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.to_owned()))
    }

    /// The value of an `Authorization` header.
    pub(crate) fn header(&self) -> Result<reqwest::header::HeaderValue> {
        let mut value =
            reqwest::header::HeaderValue::try_from(format!("Bearer {}", self.0)).map_err(|_| {
                Error::new(
                    Kind::Usage,
                    "the access token has characters that no token has; check HF_TOKEN and the token file",
                )
            })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Settings of every operation on the Hub and the local store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Hub's address without a closing slash (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Sent to the endpoint's own host only (`HF_TOKEN`, else the token file).
    pub token: Option<Token>,
    /// The shared cache, `$HF_HOME/hub` (`HF_HUB_CACHE`).
    pub cache_dir: PathBuf,
    /// Where the links to downloaded models go, `./models`.
    pub models_dir: PathBuf,
    /// No network at all (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Make copies where the cache would have links (`HF_HUB_DISABLE_SYMLINKS`).
    pub copy_files: bool,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a connection may bring nothing before it counts as cut (`HF_HUB_DOWNLOAD_TIMEOUT`).
    pub stall_timeout: Duration,
    /// How often a request is tried again in a row without any progress between.
    pub retries: u32,
    /// The wait before the first retry; it doubles with each.
    pub backoff: Duration,
    /// The longest `Retry-After` that is waited for.
    pub longest_wait: Duration,
}

impl Config {
    /// Settings for a cache and a models folder, the public Hub, nothing from the environment.
    pub fn new(cache_dir: impl Into<PathBuf>, models_dir: impl Into<PathBuf>) -> Self {
        Config {
            endpoint: ENDPOINT.to_owned(),
            token: None,
            cache_dir: cache_dir.into(),
            models_dir: models_dir.into(),
            offline: false,
            copy_files: false,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retries: 5,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(120),
        }
    }

    /// Settings from the process's environment.
    pub fn from_env() -> Result<Self> {
        let home = std::env::home_dir();
        Self::from_vars(home.as_deref(), |name| std::env::var(name).ok())
    }

    /// Settings from variables looked up by `var`, which the Hugging Face tools define.
    pub fn from_vars(home: Option<&Path>, var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| var(name).map(|value| expand(&value, home));
        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| home.map(|home| home.join(".cache/huggingface")))
            .ok_or_else(|| {
                Error::new(Kind::Usage, "no home folder is known: set HF_HOME to where models are to be kept")
            })?;
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| hf_home.join("hub"));
        let mut config = Config::new(cache, "./models");
        if let Some(endpoint) = var("HF_ENDPOINT") {
            config.endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        }
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        config.token = token(&var, &token_file);
        config.offline = truthy(var("HF_HUB_OFFLINE").or_else(|| var("TRANSFORMERS_OFFLINE")));
        config.copy_files = truthy(var("HF_HUB_DISABLE_SYMLINKS"));
        if let Some(seconds) = var("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.trim().parse::<u64>().ok())
        {
            config.stall_timeout = Duration::from_secs(seconds.clamp(1, 3600));
        }
        Ok(config)
    }
}

/// The token of the environment, else of the file that `hf auth login` writes.
fn token(var: &impl Fn(&str) -> Option<String>, file: &Path) -> Option<Token> {
    if let Some(text) = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")) {
        return Token::new(&text);
    }
    if truthy(var("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
        return None;
    }
    std::fs::read_to_string(file).ok().and_then(|text| Token::new(&text))
}

/// The values that the Hugging Face tools take for true.
fn truthy(value: Option<String>) -> bool {
    value.is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.trim().to_ascii_lowercase().as_str()))
}

fn expand(text: &str, home: Option<&Path>) -> PathBuf {
    match (text.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_owned(),
        (Some(rest), Some(home)) if rest.starts_with(['/', '\\']) => home.join(&rest[1..]),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Config {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let look = |name: &str| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        Config::from_vars(Some(Path::new("/home/u")), look).unwrap()
    }

    #[test]
    fn folders_follow_the_variables() {
        assert_eq!(from(&[]).cache_dir, Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(from(&[("XDG_CACHE_HOME", "/x")]).cache_dir, Path::new("/x/huggingface/hub"));
        assert_eq!(from(&[("HF_HOME", "~/hf")]).cache_dir, Path::new("/home/u/hf/hub"));
        assert_eq!(from(&[("HF_HOME", "/a"), ("HF_HUB_CACHE", "/b")]).cache_dir, Path::new("/b"));
    }

    #[test]
    fn endpoint_token_and_offline() {
        let config =
            from(&[("HF_ENDPOINT", "http://hub.test/"), ("HF_TOKEN", " hf_x\n"), ("HF_HUB_OFFLINE", "Yes")]);
        assert_eq!(config.endpoint, "http://hub.test");
        assert_eq!(config.token, Token::new("hf_x"));
        assert!(config.offline);
        assert!(!from(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(format!("{:?}", config.token), "Some(Token(..))");
    }

    #[test]
    fn token_file_is_read_unless_told_not_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(from(&[("HF_HOME", home)]).token, Token::new("hf_file"));
        assert_eq!(from(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
    }
}
