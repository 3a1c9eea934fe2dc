//! Sums that say whether a file is the one the Hub has: sha256 for large files (LFS), git's own sha1
//! of a blob for the small ones. The sum is also the file's name in the cache's `blobs` folder.

use sha2::{Digest, Sha256};

/// What a file's content must sum to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// sha256 of the content, hexadecimal.
    Sha256(String),
    /// sha1 over `blob LENGTH\0` and the content, hexadecimal (git's object name).
    Git(String),
    /// The server names the content but does not say how; only the length can be checked.
    Opaque(String),
    /// Not known yet: the answer for the file itself must tell.
    Unknown,
}

impl Sum {
    pub(crate) fn sha256(text: &str) -> Sum {
        if is_hex(text, 64) { Sum::Sha256(text.to_owned()) } else { Sum::Unknown }
    }

    pub(crate) fn git(text: &str) -> Sum {
        if is_hex(text, 40) { Sum::Git(text.to_owned()) } else { Sum::Unknown }
    }

    /// The sum behind an `ETag`; `None` if it could not even be a file's name.
    pub(crate) fn etag(text: &str) -> Option<Sum> {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        match text.len() {
            64 if is_hex(text, 64) => Some(Sum::Sha256(text.to_owned())),
            40 if is_hex(text, 40) => Some(Sum::Git(text.to_owned())),
            1..=128 if plain => Some(Sum::Opaque(text.to_owned())),
            _ => None,
        }
    }

    /// The name of the file's content in the cache; empty while it is unknown.
    pub(crate) fn name(&self) -> &str {
        match self {
            Sum::Sha256(name) | Sum::Git(name) | Sum::Opaque(name) => name,
            Sum::Unknown => "",
        }
    }

    /// Something to feed a content of `size` bytes to.
    pub(crate) fn hasher(&self, size: u64) -> Hasher {
        match self {
            Sum::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Sum::Git(_) => Hasher::Git(sha1::Sha1::new_with_prefix(format!("blob {size}\0"))),
            Sum::Opaque(_) | Sum::Unknown => Hasher::Nothing,
        }
    }

    /// Whether `found`, what a hasher of this sum gave, is right.
    pub(crate) fn is(&self, found: &str) -> bool {
        match self {
            Sum::Sha256(name) | Sum::Git(name) => name == found,
            Sum::Opaque(_) | Sum::Unknown => true,
        }
    }
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A sum being made.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(sha1::Sha1),
    Nothing,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Git(h) => h.update(bytes),
            Hasher::Nothing => {}
        }
    }

    /// The sum, hexadecimal; empty where none is made.
    pub(crate) fn finish(self) -> String {
        match self {
            Hasher::Sha256(h) => hex(&h.finalize()),
            Hasher::Git(h) => hex(&h.finalize()),
            Hasher::Nothing => String::new(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(sum: Sum, content: &[u8]) -> String {
        let mut hasher = sum.hasher(content.len() as u64);
        content.chunks(2).for_each(|chunk| hasher.update(chunk));
        hasher.finish()
    }

    #[test]
    fn sums_are_those_of_sha256sum_and_git_hash_object() {
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(sum(Sum::sha256(sha256), b"hello"), sha256);
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        assert_eq!(sum(Sum::git(git), b"hello"), git);
    }

    #[test]
    fn etags_become_sums_or_are_refused_as_names() {
        assert!(matches!(Sum::etag(&"a".repeat(64)), Some(Sum::Sha256(_))));
        assert!(matches!(Sum::etag(&"0".repeat(40)), Some(Sum::Git(_))));
        assert!(matches!(Sum::etag("5f-1a"), Some(Sum::Opaque(_))));
        for bad in ["", "../x", "a/b", "a.b", "a b", &"z".repeat(129)] {
            assert_eq!(Sum::etag(bad), None, "{bad}");
        }
    }
}
