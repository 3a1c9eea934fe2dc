//! What masks cost: how long an answer's constraint takes for each token, over a real vocabulary.
//!
//! `cargo run --release -p text --example masks -- TOKENIZER_FOLDER CASES...`, where a case is a file
//! `{"schema": ..., "tests": [{"data": ..., "valid": true}, ...]}` or a folder of such (as MaskBench has them). Each valid
//! instance is written token by token, the longest token that is allowed each time.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use text::{Constraint, Grammar, GrammarFactory, Tokenizer};

/// The tokens by their first byte, the longest first.
struct Words(Vec<Vec<(u32, Vec<u8>)>>);

impl Words {
    fn of(tokenizer: &Tokenizer) -> Self {
        let mut by_byte = vec![Vec::new(); 256];
        for id in 0..tokenizer.vocab_size() as u32 {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            if let Some(first) = bytes.first().filter(|_| !tokenizer.is_special(id)) {
                by_byte[usize::from(*first)].push((id, bytes));
            }
        }
        by_byte.iter_mut().for_each(|words| words.sort_by_key(|(_, bytes)| Reverse(bytes.len())));
        Self(by_byte)
    }

    fn longest(&self, rest: &[u8], mask: &[u32]) -> Option<(u32, usize)> {
        let allowed = |id: u32| mask.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1);
        let words = self.0[usize::from(*rest.first()?)].iter();
        let mut fitting = words.filter(|(id, bytes)| rest.starts_with(bytes) && allowed(*id));
        fitting.next().map(|(id, bytes)| (*id, bytes.len()))
    }
}

/// Writes a text; the time of each token: its mask, and going on by it with what it forces. `None` if it cannot be
/// written.
fn write(grammar: &mut Grammar, words: &Words, tokenizer: &Tokenizer, text: &str) -> Option<Vec<Duration>> {
    let (mut rest, mut times) = (text.as_bytes(), Vec::new());
    while !rest.is_empty() && !grammar.is_complete() {
        let start = Instant::now();
        let mask = grammar.mask().ok()?;
        let masked = start.elapsed();
        let (token, length) = words.longest(rest, mask)?;
        let start = Instant::now();
        grammar.consume(token).ok()?;
        let forced = grammar.forced();
        times.push(masked + start.elapsed());
        rest = &rest[length..];
        for id in forced {
            rest = rest.strip_prefix(&tokenizer.token_bytes(id)?[..])?;
        }
    }
    Some(times)
}

fn cases(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
    let mut files: Vec<PathBuf> = entries.collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|e| e == "json"));
    files.sort();
    Ok(files)
}

#[derive(Default)]
struct Measured {
    tokens: Vec<Duration>,
    schemas: Vec<Duration>,
    texts: usize,
    slowest: (Duration, String),
}

impl Measured {
    fn print(&mut self) {
        let Measured { tokens, schemas, texts, slowest } = self;
        let mean = tokens.iter().sum::<Duration>() / tokens.len() as u32;
        tokens.sort_unstable();
        schemas.sort_unstable();
        let of = |sorted: &[Duration], q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
        println!("{} schemas, {texts} texts, {} tokens", schemas.len(), tokens.len());
        println!(
            "a token: mean {mean:.1?}, median {:.1?}, 99 % {:.1?}, 99.9 % {:.1?}, most {:.1?}",
            of(tokens, 0.5),
            of(tokens, 0.99),
            of(tokens, 0.999),
            of(tokens, 1.0)
        );
        println!("the slowest text: mean {:.1?} a token ({})", slowest.0, slowest.1);
        println!(
            "a schema: median {:.1?}, 99 % {:.1?}, most {:.1?}",
            of(schemas, 0.5),
            of(schemas, 0.99),
            of(schemas, 1.0)
        );
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(folder) = arguments.next() else {
        eprintln!("expected TOKENIZER_FOLDER CASES...");
        return Ok(ExitCode::from(2));
    };
    let tokenizer = Arc::new(Tokenizer::from_folder(&folder)?);
    let start = Instant::now();
    let factory = GrammarFactory::new(Arc::clone(&tokenizer))?;
    println!("{} tokens, vocabulary ready in {:.0?}", tokenizer.vocab_size(), start.elapsed());
    let words = Words::of(&tokenizer);
    let mut measured = Measured::default();
    for file in arguments.map(|path| cases(&path)).collect::<std::io::Result<Vec<_>>>()?.concat() {
        let case: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        let start = Instant::now();
        let Ok(grammar) = factory.compile(&Constraint::JsonSchema(case["schema"].clone())) else { continue };
        measured.schemas.push(start.elapsed());
        for test in case["tests"].as_array().into_iter().flatten().filter(|test| test["valid"] == true) {
            let text = test["data"].to_string();
            let Some(times) = write(&mut grammar.clone(), &words, &tokenizer, &text) else { continue };
            let mean = times.iter().sum::<Duration>() / times.len().max(1) as u32;
            if mean > measured.slowest.0 {
                measured.slowest = (mean, file.display().to_string());
            }
            measured.tokens.extend(times);
            measured.texts += 1;
        }
    }
    if measured.tokens.is_empty() {
        eprintln!("no case could be written");
        return Ok(ExitCode::FAILURE);
    }
    measured.print();
    Ok(ExitCode::SUCCESS)
}
