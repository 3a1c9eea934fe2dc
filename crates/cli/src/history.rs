//! `influence history`: the conversations that `influence chat` has kept.

use std::io::Write;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::chat::store::{Entry, Store};
use crate::terminal::{self, name};

/// The conversations that `influence chat` has kept
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Words that stand in the conversation, or their beginnings
    #[arg(value_name = "SEARCH")]
    search: Vec<String>,
    /// Print a conversation
    #[arg(long, value_name = "ID", conflicts_with_all = ["search", "delete", "keep"])]
    show: Option<String>,
    /// Delete conversations
    #[arg(long, value_name = "ID", num_args = 1.., conflicts_with_all = ["search", "keep"])]
    delete: Vec<i64>,
    /// Whether `influence chat` keeps conversations from now on
    #[arg(long, value_enum, value_name = "ON|OFF", conflicts_with = "search")]
    keep: Option<Switch>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// They are kept
    On,
    /// They are not
    Off,
}

/// Runs the verb.
///
/// # Errors
/// The history cannot be read, or has no such conversation.
pub fn run(args: &HistoryArgs) -> Result<()> {
    let mut store = Store::open()?;
    let mut out = terminal::stdout();
    if let Some(switch) = args.keep {
        store.keep(switch == Switch::On)?;
    } else if let Some(name) = &args.show {
        let talk = store.find(Some(name))?;
        let text = if args.json { format!("{:#}\n", talk.json()) } else { talk.markdown() };
        out.write_all(text.as_bytes())?;
    } else if !args.delete.is_empty() {
        delete(&mut store, &args.delete)?;
    } else {
        let entries = store.list(&args.search.join(" "))?;
        if args.json {
            let rows: Vec<_> = entries.iter().map(row).collect();
            writeln!(out, "{}", json!(rows))?;
        } else {
            out.write_all(table(&entries).as_bytes())?;
        }
    }
    Ok(out.flush()?)
}

fn delete(store: &mut Store, ids: &[i64]) -> Result<()> {
    for &id in ids {
        if !store.delete(id)? {
            let message = format!("there is no conversation {id}; `influence history` lists them");
            return Err(hub::Error::new(hub::Kind::NotFound, message).into());
        }
    }
    eprintln!("deleted {}", ids.len());
    Ok(())
}

fn row(entry: &Entry) -> serde_json::Value {
    let Entry { id, name, model, updated, messages } = entry;
    json!({ "id": id, "name": name, "model": model, "updated": updated, "messages": messages })
}

/// The list as a person reads it.
pub fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no conversation is kept here that says this\n".to_owned();
    }
    let line = |e: &Entry| {
        let model = e.model.rsplit(['/', '\\']).next().unwrap_or_default();
        format!(
            "{:>5}  {}  {:>3} messages  {:<24} {}\n",
            e.id,
            e.updated,
            e.messages,
            name(model),
            name(&e.name)
        )
    };
    entries.iter().map(line).collect()
}
