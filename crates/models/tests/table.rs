//! The tables of README.md and docs/models.md that say which architectures run: they are made from the loader's table
//! and from the fixtures, so that they cannot claim what is not tested. `INFLUENCE_WRITE_TABLES=1` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::{Checkpoint, supported};

/// Of each title, the names of its fixtures, and whether a GGUF of the same weights is proved too.
fn proved() -> BTreeMap<&'static str, Vec<(String, bool)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("reference.json").exists());
    dirs.sort();
    let mut proved: BTreeMap<&str, Vec<(String, bool)>> = BTreeMap::new();
    for dir in dirs {
        let name = dir.file_name().unwrap().to_str().unwrap().to_string();
        let title = Checkpoint::open(&dir).unwrap().title();
        proved.entry(title).or_default().push((name, dir.join("model.gguf").exists()));
    }
    proved
}

/// Title, class names, GGUF name, fixtures.
fn long_table() -> String {
    let proved = proved();
    let mut rows: Vec<_> = supported().collect();
    rows.sort_by_key(|(title, ..)| title.to_lowercase());
    let mut table =
        "| models | class in config.json | name in GGUF | checkpoints compared |\n|---|---|---|---|\n"
            .to_string();
    for (title, gguf, classes) in rows {
        let of =
            |(name, gguf): &(String, bool)| if *gguf { format!("{name} (+ GGUF)") } else { name.clone() };
        let checked =
            proved.get(title).map_or(String::new(), |p| p.iter().map(of).collect::<Vec<_>>().join(", "));
        let classes = classes.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
        table += &format!("| {title} | {classes} | `{gguf}` | {checked} |\n");
    }
    table
}

/// Titles, in alphabetical order.
fn short_list() -> String {
    let mut titles: Vec<_> = supported().map(|(title, ..)| title).collect();
    titles.sort_by_key(|t| t.to_lowercase());
    titles.dedup();
    let count: usize = proved().values().map(Vec::len).sum();
    format!(
        "{}.\n\n{count} tiny checkpoints with random weights are compared with Hugging Face transformers.\n",
        titles.join(", ")
    )
}

/// What stands between two markers of `file` is `text`.
fn check(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let page = std::fs::read_to_string(&path).unwrap();
    let (open, close) = ("<!-- architectures: written by crates/models/tests/table.rs -->\n", "<!-- end -->");
    let start = page.find(open).unwrap_or_else(|| panic!("{file}: no line {open}")) + open.len();
    let end = start + page[start..].find(close).unwrap();
    if std::env::var_os("INFLUENCE_WRITE_TABLES").is_some() {
        std::fs::write(&path, format!("{}{text}{}", &page[..start], &page[end..])).unwrap();
    } else {
        let hint = "INFLUENCE_WRITE_TABLES=1 cargo test -p models --test table";
        assert!(&page[start..end] == text, "{file} is behind the tables; write it anew: {hint}");
    }
}

#[test]
fn the_pages_say_what_is_supported_and_proved() {
    check("docs/models.md", &long_table());
    check("README.md", &short_list());
}

/// Every row has a checkpoint that was compared.
#[test]
fn nothing_is_supported_that_is_not_proved() {
    let proved = proved();
    let bare: Vec<_> = supported().map(|(title, ..)| title).filter(|t| !proved.contains_key(t)).collect();
    assert!(bare.is_empty(), "without a fixture: {bare:?}");
}
