//! `influence`: the command line. One file a verb; the declarations here and there drive parsing, help,
//! completions and the manual.

mod answer;
mod bench;
mod cache;
mod catalog;
mod chat;
mod embed;
mod exit;
mod generate;
mod history;
mod hub;
mod interrupt;
mod load;
mod manual;
mod perplexity;
mod prompt;
mod quantize;
mod quantized;
mod sampling;
mod score;
mod shipped;
mod show;
mod structure;
mod terminal;
mod tokenize;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run open language models on your own machine
///
/// Finds, downloads and runs models of the Hugging Face Hub: no cloud, no Python, no GPU needed.
#[derive(Parser)]
#[command(name = "influence", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Try it:  influence generate \"Once upon a time\"\n\
    Exit codes: 0 ok, 1 failure, 2 usage, 3 not found or offline, 4 access denied, 5 does not fit, 130 interrupted")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find models on the Hugging Face Hub
    Search(hub::search::Args),
    /// Download a model from the Hub to ./models/ORG_MODEL
    Download(hub::download::Args),
    /// Talk to a model
    Chat(Box<chat::ChatArgs>),
    /// List, search, show and delete the conversations that were kept
    History(history::HistoryArgs),
    /// Answer a prompt
    Generate(Box<generate::GenerateArgs>),
    /// Say how likely a text is, token by token
    Score(score::ScoreArgs),
    /// Say how well a model foretells a text
    Perplexity(Box<perplexity::PerplexityArgs>),
    /// Make vectors of texts
    Embed(embed::EmbedArgs),
    /// Order documents by how well they answer a query
    Rerank(embed::RerankArgs),
    /// Print the tokens of a text
    Tokenize(tokenize::TokenizeArgs),
    /// Print the text of tokens
    Detokenize(tokenize::DetokenizeArgs),
    /// Print what a conversation becomes in a model's chat template
    Template(tokenize::TemplateVerbArgs),
    /// Write a model as a GGUF file in another number format
    Quantize(quantize::QuantizeArgs),
    /// List the models on this machine
    List(hub::list::Args),
    /// Say what a model is
    Show(show::ShowArgs),
    /// Remove a model from this machine
    Rm(hub::rm::Args),
    /// Show or clear what --quant keeps for the next start
    Cache(cache::CacheArgs),
    /// Measure how fast a model runs here
    Bench(bench::BenchArgs),
    /// List the architectures that can be run
    Models(catalog::CatalogArgs),
    /// Print a completion script for a shell
    Completions(manual::CompletionsArgs),
    /// Print the manual page
    Man,
}

fn main() -> ExitCode {
    exit::code(run(Cli::parse().verb))
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    match verb {
        Verb::Search(args) => done(hub::search::run(args)),
        Verb::Download(args) => done(hub::download::run(args)),
        Verb::Chat(args) => chat::run(*args),
        Verb::History(args) => done(history::run(&args)),
        Verb::Generate(args) => generate::run(&args),
        Verb::Score(args) => score::run(&args),
        Verb::Perplexity(args) => perplexity::run(&args),
        Verb::Embed(args) => embed::embed(&args),
        Verb::Rerank(args) => embed::rerank(&args),
        Verb::Tokenize(args) => done(tokenize::tokenize(&args)),
        Verb::Detokenize(args) => done(tokenize::detokenize(&args)),
        Verb::Template(args) => done(tokenize::template(&args)),
        Verb::Quantize(args) => quantize::run(&args),
        Verb::List(args) => done(hub::list::run(args)),
        Verb::Show(args) => done(show::run(&args)),
        Verb::Rm(args) => done(hub::rm::run(args)),
        Verb::Cache(args) => done(cache::run(&args)),
        Verb::Bench(args) => done(bench::run(&args)),
        Verb::Models(args) => done(catalog::run(&args)),
        Verb::Completions(args) => done(manual::completions(&args)),
        Verb::Man => done(manual::page()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_declarations_agree_with_themselves() {
        super::Cli::command().debug_assert();
    }
}
