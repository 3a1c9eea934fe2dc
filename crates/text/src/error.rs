//! What can go wrong between text and tokens. Every message names the file (or the GGUF key), what was
//! found there, what was expected and what can be done.

use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A tokenizer's data is broken, or of a kind that is not supported.
    #[error("{origin}: {what}")]
    Tokenizer {
        /// The file, or the GGUF key.
        origin: String,
        /// What was found, what was expected, what to do.
        what: String,
    },
    /// A text could not be turned into tokens.
    #[error("cannot tokenize the text: {0}")]
    Encode(String),
    /// A chat template does not parse, or uses what does not exist.
    #[error("chat template: {0}")]
    TemplateSyntax(String),
    /// A chat template called `raise_exception`: the conversation does not suit the model.
    #[error("the model's chat template refuses this conversation: {0}")]
    TemplateRaised(String),
    /// A chat template failed, or went past its limits of work, output or depth.
    #[error("chat template: {0}")]
    TemplateRender(String),
    /// A schema or grammar is wrong, cannot be enforced, or went past its limits.
    #[error("{0}")]
    Grammar(String),
}

impl Error {
    /// An [`Error::Tokenizer`] at a place.
    pub(crate) fn tokenizer(origin: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Tokenizer { origin: origin.into(), what: what.into() }
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > limit {
        return Err(Error::tokenizer(
            path.display().to_string(),
            format!("the file has {size} bytes, more than the {limit} that such a file may have"),
        ));
    }
    std::fs::read(path).map_err(io)
}
