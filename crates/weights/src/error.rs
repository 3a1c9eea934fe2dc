//! What can be wrong with a model file, in words that name the file, the place and the way out.

use std::path::{Path, PathBuf};

/// The result of reading a model file.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system could not open or read it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The path leads to a folder, device, pipe or socket.
    #[error("{}: not a regular file but {found}; name a model file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file is something else than its name says.
    #[error("{}: not a {wanted} file (looks like {found})", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// The format that was asked for.
        wanted: &'static str,
        /// What it looks like, and what to do about it.
        found: String,
    },
    /// The file ends before what it announces.
    #[error(
        "{}: file truncated: expected {expected} bytes up to the end of {field}, found {found}; download it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The part that does not fit.
        field: String,
        /// The size the file would need.
        expected: u64,
        /// Its size.
        found: u64,
    },
    /// A field holds what the format forbids.
    #[error("{}: {field}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key, tensor or header field.
        field: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// Files that belong to a model are not beside it. All of them are listed.
    #[error("{}: {} not there: {}; download the model again", path.display(), count(files.len()), list(files))]
    MissingFiles {
        /// The file or folder that names them.
        path: PathBuf,
        /// Every missing file.
        files: Vec<PathBuf>,
    },
    /// A folder has no weights that can be read.
    #[error("{}: no weights: {problem}", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// What was looked for and what was there.
        problem: String,
    },
    /// A tensor was asked for that the model lacks.
    #[error("{}: tensor `{name}` is not in the file", path.display())]
    NoTensor {
        /// The model.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// A tensor was asked for whose numbers are stored in a way that is not known here.
    #[error("{}: tensor `{name}` is stored as {kind}, which this version does not read", path.display())]
    UnreadableTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type, as the file names it.
        kind: String,
    },
}

impl Error {
    pub(crate) fn malformed(path: &Path, field: impl Into<String>, problem: impl Into<String>) -> Error {
        let (field, problem) = (printable(&field.into()), printable(&problem.into()));
        Error::Malformed { path: path.to_path_buf(), field, problem }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
        Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn truncated(path: &Path, field: impl Into<String>, expected: u64, found: usize) -> Error {
        Error::Truncated {
            path: path.to_path_buf(),
            field: printable(&field.into()),
            expected,
            found: found as u64,
        }
    }
}

/// Names from a file may be long or hold terminal escapes: control characters are spelled out, length is cut.
pub(crate) fn printable(text: &str) -> String {
    const MAX: usize = 400;
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() >= MAX {
            shown.push_str("...");
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

fn count(n: usize) -> String {
    if n == 1 { "1 file is".to_string() } else { format!("{n} files are") }
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
}
