//! What can be wrong with a model, said so that the reader knows what to do next.

/// Why a model could not be read, understood or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No row of the architecture table has this name.
    #[error("{file}: the architecture {name} is not supported{}\n  supported: {supported}\n  see `influence models` and docs/models.md", why.as_deref().map(|w| format!(": {w}")).unwrap_or_default())]
    Architecture {
        /// The file that names it.
        file: String,
        /// The name found there.
        name: String,
        /// What stands in the way, where it is known.
        why: Option<String>,
        /// The names that would have been understood.
        supported: String,
    },
    /// A hyperparameter is missing or cannot be.
    #[error("{file}: {arch}: {key}: found {found}, expected {expected}")]
    Hparam {
        /// The file.
        file: String,
        /// The architecture that asks.
        arch: String,
        /// The key as the file spells it.
        key: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// The file says something about the model that the loader did not look at.
    #[error(
        "{file}: {arch} does not read {keys}; a model that needs it would run wrongly, so it is refused\n  if it is known not to change the result, report it so that it can be listed as ignored"
    )]
    Unread {
        /// The file.
        file: String,
        /// The architecture.
        arch: String,
        /// The keys or tensors, comma separated.
        keys: String,
    },
    /// A tensor is missing, misshapen or of a type that cannot be used here.
    #[error("{file}: tensor {tensor}: found {found}, expected {expected}")]
    Tensor {
        /// The file or folder.
        file: String,
        /// The tensor as the file names it.
        tensor: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A model folder lacks something.
    #[error("{path}: found {found}, expected {expected}")]
    Folder {
        /// The folder or file.
        path: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The file itself is broken.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// The backend failed (memory, device).
    #[error("backend {backend}: {message}")]
    Backend {
        /// Which backend.
        backend: &'static str,
        /// What it said.
        message: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
