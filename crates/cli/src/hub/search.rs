//! `influence search`: models of the Hub by words.

use ::hub::search::{Format, Found, MOST, Query, Sort, search};
use clap::builder::PossibleValuesParser;
use indicatif::HumanCount;

use super::table::{Column, render};
use super::{clean, print};

/// Search the Hugging Face Hub for models
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Words of the model's name
    #[arg(value_name = "QUERY", num_args = 0..)]
    pub query: Vec<String>,
    /// How many models to show at most
    #[arg(long, short = 'n', default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST as i64))]
    pub limit: u16,
    /// Only models of this user or organisation
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// Order, the highest first
    #[arg(long, default_value = "downloads", value_parser = PossibleValuesParser::new(Sort::TABLE.map(|row| row.1)))]
    pub sort: String,
    /// Only models in this format
    #[arg(long, value_parser = ["safetensors", "gguf"])]
    pub format: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const COLUMNS: [Column; 7] = [
    Column { title: "MODEL", right: false, rank: 0 },
    Column { title: "DOWNLOADS", right: true, rank: 1 },
    Column { title: "LIKES", right: true, rank: 4 },
    Column { title: "CHANGED", right: false, rank: 3 },
    Column { title: "FORMAT", right: false, rank: 2 },
    Column { title: "ACCESS", right: false, rank: 5 },
    Column { title: "TASK", right: false, rank: 6 },
];

/// Searches and prints what was found.
pub fn run(args: Args) -> anyhow::Result<()> {
    let query = Query {
        text: args.query.join(" "),
        author: args.author,
        sort: Sort::TABLE.iter().find(|row| row.1 == args.sort).map(|row| row.0),
        limit: usize::from(args.limit),
        format: [Format::Safetensors, Format::Gguf]
            .into_iter()
            .find(|f| args.format.as_deref() == Some(f.name())),
    };
    let found = search(&::hub::Config::from_env()?, &query)?;
    if args.json {
        return print(&serde_json::to_string_pretty(&found)?);
    }
    if found.is_empty() {
        eprintln!("no model matches; try fewer or other words");
        return Ok(());
    }
    print(&render(&COLUMNS, &found.iter().map(row).collect::<Vec<_>>()))
}

fn row(model: &Found) -> Vec<String> {
    let formats: Vec<&str> = model.formats().into_iter().map(Format::name).collect();
    let access = match (model.gated, model.private) {
        (true, _) => "gated",
        (_, true) => "private",
        _ => "",
    };
    vec![
        clean(&model.id),
        HumanCount(model.downloads).to_string(),
        HumanCount(model.likes).to_string(),
        clean(model.last_modified.get(..10).unwrap_or_default()),
        formats.join(","),
        access.to_owned(),
        clean(model.pipeline_tag.as_deref().unwrap_or_default()),
    ]
}
