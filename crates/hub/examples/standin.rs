//! The tests' stand-in for the Hub as a program, for trying commands and other tools against it:
//! `cargo run -p hub --example standin -- [ORG/MODEL=FOLDER ...]`. Prints its address; ends with its input.

#[path = "../tests/standin/mod.rs"]
mod standin;

use standin::{Model, Standin};

fn main() {
    let standin = Standin::start();
    standin.add("acme/usual", Model::usual());
    standin.add("acme/usual-gguf", Model::ggufs());
    for argument in std::env::args().skip(1) {
        let (name, folder) = argument.split_once('=').expect("expected ORG/MODEL=FOLDER");
        standin.add(name, Model::new(&read(folder.as_ref())));
    }
    println!("{}", standin.endpoint());
    // Whoever started this closes the input to end it.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

fn read(folder: &std::path::Path) -> Vec<(&'static str, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read").flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let file = |entry: std::fs::DirEntry| {
        let name: &'static str = Box::leak(entry.file_name().to_string_lossy().into_owned().into_boxed_str());
        (name, std::fs::read(entry.path()).expect("the file can be read"))
    };
    files.map(file).collect()
}
