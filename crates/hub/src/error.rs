//! What can go wrong between the Hub and the disk, sorted by what the caller should do about it.
//!
//! Not on the way of a token: everything here happens before a model is loaded.

use std::path::Path;

/// What kind of trouble it is; the command line turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is malformed (a bad reference, flag or name).
    Usage,
    /// The model, revision or file does not exist, neither there nor here.
    NotFound,
    /// The Hub cannot be reached, or `HF_HUB_OFFLINE` forbids trying.
    Offline,
    /// The model is gated or private, or the token is not valid.
    AccessDenied,
    /// The disk has no room for it.
    DoesNotFit,
    /// The Hub asked to wait for longer than we are ready to.
    RateLimited,
    /// Bytes arrived that are not the bytes the Hub promised.
    Corrupt,
    /// The Hub's answer is not to be trusted: names that leave the folder, endless pages.
    Hostile,
    /// Anything else: a broken server, a file that cannot be written.
    Other,
}

impl Kind {
    /// The program's exit code for this kind: 2 usage, 3 not found or offline, 4 access denied,
    /// 5 does not fit, else 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::NotFound | Kind::Offline => 3,
            Kind::AccessDenied => 4,
            Kind::DoesNotFit => 5,
            Kind::RateLimited | Kind::Corrupt | Kind::Hostile | Kind::Other => 1,
        }
    }
}

/// An error of this crate: a kind for the program, a text for the person (what was found, what was
/// expected, what to do next).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
}

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` that reads `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A file operation that failed: `doing` is a phrase like "cannot write". A full disk is told apart.
    pub(crate) fn io(doing: &str, path: &Path, cause: std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let path = path.display();
        match cause.kind() {
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Error::new(
                Kind::DoesNotFit,
                format!(
                    "{doing} {path}: the disk is full ({cause}). Free some space (`influence list`, `influence rm \
                     MODEL`) or set HF_HOME to a larger disk; what was downloaded is kept and continued from"
                ),
            ),
            E::PermissionDenied | E::ReadOnlyFilesystem => Error::new(
                Kind::Other,
                format!("{doing} {path}: {cause}. Choose a folder that you may write to (HF_HOME, --dir)"),
            ),
            _ => Error::new(Kind::Other, format!("{doing} {path}: {cause}")),
        }
    }
}
