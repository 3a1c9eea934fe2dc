//! `influence models`: the architectures that can be run, from the table that the loader reads.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

/// List the architectures that can be run
#[derive(Args)]
pub struct CatalogArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the table says of one architecture.
struct Row {
    title: &'static str,
    gguf: &'static str,
    classes: Vec<&'static str>,
}

/// Prints the table: fitted to a terminal, complete lines with tabs where there is none.
pub fn run(args: &CatalogArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let rows =
        models::supported().map(|(title, gguf, classes)| Row { title, gguf, classes: classes.to_vec() });
    if args.json {
        let row = |row: Row| json!({ "models": row.title, "gguf": row.gguf, "classes": row.classes });
        let rows: Vec<Value> = rows.map(row).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(());
    }
    let rows: Vec<Row> = rows.collect();
    let text = match out.is_terminal() {
        true => fitted(&rows, terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0))),
        false => {
            rows.iter().map(|r| format!("{}\t{}\t{}\n", r.title, r.gguf, r.classes.join(", "))).collect()
        }
    };
    Ok(out.write_all(text.as_bytes())?)
}

/// The table in lines of at most `width` characters, where no single word is too long for that: titles and classes
/// go on below.
fn fitted(rows: &[Row], width: usize) -> String {
    let widest = |of: fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (titles, names) = (widest(|row| row.title.len()).min(width / 4), widest(|row| row.gguf.len()));
    let rest = width.saturating_sub(titles + names + 4);
    let mut out = format!("{:<titles$}  {:<names$}  CONFIG.JSON\n", "MODELS", "GGUF");
    for row in rows {
        let title = wrapped(row.title.split(' ').map(str::to_owned).collect(), titles);
        let classes = row.classes.iter().enumerate();
        let comma = |i| if i + 1 < row.classes.len() { "," } else { "" };
        let classes = wrapped(classes.map(|(i, class)| format!("{class}{}", comma(i))).collect(), rest);
        for i in 0..title.len().max(classes.len()).max(1) {
            let cell = |cells: &[String]| cells.get(i).cloned().unwrap_or_default();
            let gguf = if i == 0 { row.gguf } else { "" };
            let line = format!("{:<titles$}  {gguf:<names$}  {}", cell(&title), cell(&classes));
            out += line.trim_end();
            out.push('\n');
        }
    }
    out
}

/// Words in lines of at most `width` characters.
fn wrapped(words: Vec<String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_the_terminal_and_loses_nothing() {
        let rows: Vec<Row> = models::supported()
            .map(|(title, gguf, classes)| Row { title, gguf, classes: classes.to_vec() })
            .collect();
        for width in [80, 100, 120, 200] {
            let text = fitted(&rows, width);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line:?}");
            }
            for row in &rows {
                assert!(row.title.split(' ').all(|word| text.contains(word)), "{}", row.title);
                assert!(row.classes.iter().all(|class| text.contains(class)), "{}", row.title);
            }
        }
    }
}
