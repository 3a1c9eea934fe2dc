//! The table of docs/sampling.md is made from the rows that the program runs, so that it cannot say
//! anything else. `INFLUENCE_WRITE_TABLES=1` writes it anew.

use std::path::Path;

use engine::{CHAIN, PARAMETERS, SamplingParams};

fn table() -> String {
    let mut table = "| sampler | flag | | without it | from |\n|---|---|---|---|---|\n".to_owned();
    let defaults = SamplingParams::default();
    for link in CHAIN {
        for (i, name) in link.parameters.iter().enumerate() {
            let row = PARAMETERS.iter().find(|row| row.name == *name).unwrap();
            let default = match (row.get)(&defaults) {
                text if text.is_empty() => String::new(),
                text => format!("`{text}`"),
            };
            let (sampler, source) =
                if i == 0 { (format!("`{}`", link.name), link.source) } else { Default::default() };
            let flag = name.replace('_', "-");
            table +=
                &format!("| {sampler} | `--{flag} {}` | {} | {default} | {source} |\n", row.value, row.help);
        }
    }
    table
}

#[test]
fn the_samplers_of_the_docs_are_those_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sampling.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (open, close) = ("<!-- samplers: written by crates/engine/tests/table.rs -->\n", "<!-- end -->");
    let start = page.find(open).unwrap() + open.len();
    let end = start + page[start..].find(close).unwrap();
    if std::env::var_os("INFLUENCE_WRITE_TABLES").is_some() {
        std::fs::write(&path, format!("{}{}{}", &page[..start], table(), &page[end..])).unwrap();
        return;
    }
    assert_eq!(
        page[start..end],
        table(),
        "INFLUENCE_WRITE_TABLES=1 cargo test -p engine --test table writes it"
    );
}
