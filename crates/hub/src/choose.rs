//! Which files of a repository a run needs, and which names are fit to be written to a disk.

use crate::api::Entry;
use crate::error::{Error, Kind, Result};
use crate::quants::Quants;

/// Beside the weights: what a run reads, at the root of the repository.
const NEEDED: [&str; 18] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
    "adapter_config.json",
    "params.json",
];

/// What the person wants of the repository.
pub(crate) struct Wish<'a> {
    pub quant: Option<&'a str>,
    pub include: &'a [String],
    pub exclude: &'a [String],
}

/// The files to download, in the repository's order; every name is safe below a folder.
pub(crate) fn choose(repo: &str, entries: Vec<Entry>, wish: &Wish<'_>) -> Result<Vec<Entry>> {
    if let Some(entry) = entries.iter().find(|entry| leaves_folder(&entry.path)) {
        let text = format!(
            "{repo} holds a file named {:?}, which would be written outside of the model's folder. No honest model does \
             that; nothing was downloaded",
            entry.path
        );
        return Err(Error::new(Kind::Hostile, text));
    }
    let picked =
        if wish.include.is_empty() { needed(repo, &entries, wish.quant)? } else { included(&entries, wish) };
    let excluded = |path: &str| wish.exclude.iter().any(|glob| matches(glob, path));
    let chosen: Vec<Entry> =
        entries.into_iter().filter(|entry| picked.contains(&entry.path) && !excluded(&entry.path)).collect();
    if let Some(problem) = chosen.iter().find_map(|entry| unportable(&entry.path)) {
        return Err(Error::new(Kind::Hostile, format!("{repo}: {problem}; nothing was downloaded")));
    }
    if chosen.is_empty() {
        let text = format!("{repo}: no file is left to download; check --include and --exclude");
        return Err(Error::new(Kind::NotFound, text));
    }
    Ok(chosen)
}

fn included(entries: &[Entry], wish: &Wish<'_>) -> Vec<String> {
    let paths = entries.iter().map(|entry| entry.path.clone());
    paths.filter(|path| wish.include.iter().any(|glob| matches(glob, path))).collect()
}

/// The run's own choice: safetensors with what stands beside them, or one quantization of GGUF.
fn needed(repo: &str, entries: &[Entry], quant: Option<&str>) -> Result<Vec<String>> {
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let root = |path: &&&str| !path.contains('/');
    let weights: Vec<&str> =
        paths.iter().filter(root).filter(|p| p.ends_with(".safetensors")).copied().collect();
    let quants = Quants::of(paths.iter().copied());
    if quant.is_some() || (weights.is_empty() && !quants.is_empty()) {
        return quants.pick(repo, quant).map(|picked| picked.files.clone());
    }
    if weights.is_empty() {
        return Err(no_weights(repo, &paths));
    }
    let whole = weights.iter().any(|path| path.starts_with("model"));
    // Mistral's own format, the same weights again.
    let again = |path: &str| whole && path.starts_with("consolidated");
    let wanted = |path: &&&str| NEEDED.contains(*path) || (weights.contains(*path) && !again(path));
    Ok(paths.iter().filter(wanted).map(|path| (*path).to_owned()).collect())
}

fn no_weights(repo: &str, paths: &[&str]) -> Error {
    let others = [".bin", ".pt", ".pth", ".onnx", ".h5", ".msgpack", ".nemo", ".safetensors"];
    let found = paths.iter().find(|path| others.iter().any(|end| path.ends_with(end)));
    let found = found.map_or(String::new(), |path| format!(" (it has {path})"));
    let text = format!(
        "{repo} has no weights that can be run: expected *.safetensors at its root or a *.gguf{found}. Look for another \
         copy with `influence search WORDS --format safetensors`, or name files with --include"
    );
    Error::new(Kind::NotFound, text)
}

/// Whether a name, joined to a folder on any system, may end up outside of it.
fn leaves_folder(path: &str) -> bool {
    let drive = path.as_bytes().get(1) == Some(&b':');
    let parts_bad = path.split(['/', '\\']).any(|part| part == ".." || part == "." || part.is_empty());
    path.contains('\\') || path.contains('\0') || drive || parts_bad
}

/// What is wrong with a name that some system cannot write, or would write as something else.
fn unportable(path: &str) -> Option<String> {
    const RESERVED: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    path.split('/').find_map(|part| {
        let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_uppercase();
        let digit = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
        let port = digit.is_some_and(|d| d.chars().count() == 1 && "0123456789¹²³".contains(d));
        let why = if RESERVED.contains(&stem.as_str()) || port {
            "is a device's name on Windows"
        } else if part.chars().any(|c| c.is_control() || "<>:\"|?*".contains(c)) {
            "holds a character that not every system can write"
        } else if part.ends_with(['.', ' ']) || part.len() > 255 {
            "is not a name that every system can write"
        } else {
            return None;
        };
        Some(format!("the file name {part:?} {why}"))
    })
}

/// Whether `glob` (`*` any run of characters, also `/`; `?` one character) matches all of `path`.
/// A glob that ends in `/` stands for everything below. Backtracks to the last star only, so the time
/// is bounded by the product of the lengths.
pub(crate) fn matches(glob: &str, path: &str) -> bool {
    let mut glob: Vec<char> = glob.chars().collect();
    if glob.last() == Some(&'/') {
        glob.push('*');
    }
    let path: Vec<char> = path.chars().collect();
    let (mut g, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while p < path.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, p));
                g += 1;
            }
            Some(c) if *c == '?' || *c == path[p] => (g, p) = (g + 1, p + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (g, p) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Sum;

    fn pick(paths: &[&str], quant: Option<&str>, include: &[&str], exclude: &[&str]) -> Result<Vec<String>> {
        let entries = paths.iter().map(|p| Entry { path: (*p).into(), size: 1, sum: Sum::Unknown }).collect();
        let own = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
        let (include, exclude) = (own(include), own(exclude));
        let chosen = choose("a/b", entries, &Wish { quant, include: &include, exclude: &exclude })?;
        Ok(chosen.into_iter().map(|entry| entry.path).collect())
    }

    #[test]
    fn only_what_a_run_needs() {
        let repo = [
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "consolidated.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "original/params.json",
            "original/x.safetensors",
            "tokenizer.json",
            "model.gguf",
            "tf_model.h5",
        ];
        let want = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(pick(&repo, None, &[], &[]).unwrap(), want);
        assert_eq!(pick(&repo, None, &[], &["*00002*"]).unwrap().len(), 3);
        assert_eq!(
            pick(&repo, None, &["original/", "*.bin"], &["*.json"]).unwrap(),
            ["pytorch_model.bin", "original/x.safetensors"]
        );
        assert_eq!(pick(&["consolidated.safetensors", "params.json"], None, &[], &[]).unwrap().len(), 2);
    }

    #[test]
    fn a_repository_without_weights_says_what_it_has() {
        let error = pick(&["pytorch_model.bin", "config.json"], None, &[], &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
        assert_eq!(pick(&["config.json"], None, &["*.gguf"], &[]).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn hostile_names_refuse_the_repository() {
        for bad in [
            "../config.json",
            "a/../../x",
            "/etc/passwd",
            "C:/x",
            "C:x",
            "a\\b",
            "a//b",
            "x\0y",
            "./x",
            "..",
            "",
        ] {
            let error = pick(&["config.json", "model.safetensors", bad], None, &[], &[]).unwrap_err();
            assert_eq!(error.kind(), Kind::Hostile, "{bad:?}");
        }
    }

    #[test]
    fn names_that_some_system_cannot_write_are_refused_when_chosen() {
        for bad in ["aux.json", "COM1", "con", "ab:c", "x\ny", "trailing.", "nul.tar.gz", "d/LPT9.txt", "q?"]
        {
            let error = pick(&["model.safetensors", bad], None, &["*"], &[]).unwrap_err();
            assert_eq!(error.kind(), Kind::Hostile, "{bad:?}");
            assert_eq!(pick(&["model.safetensors", bad], None, &[], &[]).unwrap(), ["model.safetensors"]);
        }
        assert!(pick(&["company.json", "console.txt", ".gitattributes", "a.b/c"], None, &["*"], &[]).is_ok());
    }

    #[test]
    fn globs() {
        assert!(
            matches("*.json", "a/b.json")
                && matches("a?c", "abc")
                && matches("*", "")
                && matches("a/", "a/b/c")
        );
        assert!(
            matches("*00001*of*", "m-00001-of-00002.x")
                && !matches("*.json", "x.jsonl")
                && !matches("a", "ab")
        );
        assert!(!matches(&"*a".repeat(40), &"b".repeat(4000)));
    }
}
