//! Help, completions, the manual, and the tables.

use crate::home::{Home, stderr};

const VERBS: [&str; 21] = [
    "chat",
    "history",
    "tokenize",
    "detokenize",
    "template",
    "search",
    "download",
    "generate",
    "score",
    "perplexity",
    "quantize",
    "list",
    "show",
    "rm",
    "cache",
    "bench",
    "embed",
    "rerank",
    "models",
    "completions",
    "man",
];

#[test]
fn every_verb_is_in_help_completions_and_manual() {
    let home = Home::new();
    let (help, man) = (home.text(&["--help"]), home.text(&["man"]));
    let scripts =
        ["bash", "zsh", "fish", "elvish", "powershell"].map(|shell| home.text(&["completions", shell]));
    for verb in VERBS {
        for text in scripts.iter().chain([&help, &man]) {
            assert!(text.contains(verb), "{verb}");
        }
        assert!(home.text(&[verb, "--help"]).contains("Usage: influence"), "{verb}");
    }
    for flag in ["--temperature", "--prompt-tokens", "--max-tokens", "--model-path"] {
        assert!(scripts.iter().take(1).all(|script| script.contains(flag)), "{flag}");
        assert!(man.replace('\\', "").contains(flag), "{flag}");
    }
}

#[test]
fn the_exit_codes_are_in_the_help() {
    let help = Home::new().text(&["--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for code in
        ["0 ok", "1 failure", "2 usage", "3 not found or offline", "4 access denied", "5 does not fit", "130"]
    {
        assert!(help.contains(code), "{code}: {help}");
    }
}

#[test]
fn wrong_use_is_two_and_names_the_nearest() {
    let home = Home::new();
    let (code, text) = home.fails(&["generat", "x"]);
    assert!(code == 2 && text.contains("generate"), "{text}");
    let none: [&str; 0] = [];
    assert_eq!(home.influence(&none).output().unwrap().status.code(), Some(2));
}

#[test]
fn the_table_of_architectures_is_that_of_the_readme() {
    let home = Home::new();
    let (readme, page) = (include_str!("../../../../README.md"), include_str!("../../../../docs/models.md"));
    let rows = home.json(&["models", "--json"]);
    let rows = rows.as_array().unwrap();
    assert!(rows.len() >= 7);
    let table = home.text(&["models"]);
    for row in rows {
        let classes = row["classes"].as_array().unwrap().iter().map(|c| c.as_str().unwrap());
        let title = row["models"].as_str().unwrap();
        assert!(readme.contains(title), "README.md lacks {title}");
        for name in classes.chain([title, row["gguf"].as_str().unwrap()]) {
            assert!(table.contains(name), "{name} in {table}");
            assert!(page.contains(name), "docs/models.md lacks {name}");
        }
    }
}

#[test]
fn the_flags_of_the_readme_exist() {
    let home = Home::new();
    let help: String = VERBS.iter().map(|verb| home.text(&[verb, "--help"])).collect();
    let readme = include_str!("../../../../README.md");
    let (_, ours) = readme.split_once("## Find, download, generate").unwrap();
    let (ours, _) = ours.split_once("## Not there yet").unwrap();
    let end = |c: char| !(c.is_ascii_lowercase() || c == '-');
    let flags = ours.split("--").skip(1).filter_map(|rest| rest.split(end).next()).filter(|f| f.len() > 2);
    for flag in flags {
        assert!(help.contains(&format!("--{flag}")), "README.md speaks of --{flag}");
    }
}

#[test]
fn nothing_is_coloured_where_nobody_sees_it_or_wants_it() {
    let home = Home::new();
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("LANG", "C")] {
        for arguments in [&["--help"][..], &["generate", "--nope"], &["show"], &["models"]] {
            let run = home.influence(arguments).env(variable, value).output().unwrap();
            assert!(!run.stdout.contains(&0x1b), "{arguments:?}");
            assert!(!run.stderr.contains(&0x1b), "{arguments:?}: {}", stderr(&run));
        }
    }
    let forced = home.influence(&["--help"]).env("NO_COLOR", "1").env("TERM", "xterm").output().unwrap();
    assert!(!forced.stdout.contains(&0x1b));
}
