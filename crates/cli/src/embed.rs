//! `influence embed` and `influence rerank`: what a model says of whole texts.
//!
//! Clients of the engine: texts -> tokens -> `Engine::encode` -> vectors, or a score for each document.

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use engine::{Engine, EngineConfig};
use serde_json::json;

use crate::generate::{name, or_closed_pipe};
use crate::load::{self, Loaded, ModelArgs};
use crate::terminal;

/// The most that is read as texts from standard input.
const MAX_TEXTS: u64 = 64 << 20;

/// Make vectors of texts.
#[derive(Args, Debug)]
pub struct EmbedArgs {
    /// The texts; without any, each line of standard input is one
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// Print how alike the texts are, each with each (the cosine of their vectors), instead of the vectors
    #[arg(long)]
    pub similarity: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Order documents by how well they answer a query.
#[derive(Args, Debug)]
pub struct RerankArgs {
    /// The query
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// The documents; without any, each line of standard input is one
    #[arg(value_name = "DOC")]
    pub documents: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Runs `influence embed`.
///
/// # Errors
/// Whatever stands in the way of the vectors.
pub fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    or_closed_pipe(vectors(args))
}

/// Runs `influence rerank`.
///
/// # Errors
/// Whatever stands in the way of the scores.
pub fn rerank(args: &RerankArgs) -> Result<ExitCode> {
    or_closed_pipe(ranked(args))
}

fn vectors(args: &EmbedArgs) -> Result<ExitCode> {
    let texts = texts(&args.texts)?;
    let loaded = load::load(&args.model)?;
    let name = name(&loaded.path);
    if loaded.model.spec().classifier.is_some() {
        bail!("{name}: the model gives scores, not vectors: use `influence rerank`");
    }
    let tokenizer = loaded.tokenizer.clone();
    let tokens = texts.iter().map(|text| Ok((tokenizer.encode(text, true, false)?, vec![])));
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    let vectors = start(loaded, &args.model)?.encode(tokens)?;
    let (key, rows) = if args.similarity { ("similarity", alike(&vectors)) } else { ("embeddings", vectors) };
    let mut out = BufWriter::new(terminal::stdout());
    if args.json {
        writeln!(out, "{}", json!({"model": name, key: rows}))?;
    } else {
        for row in rows {
            let numbers: Vec<String> = row.iter().map(|x| format!("{x:.6}")).collect();
            writeln!(out, "{}", numbers.join(" "))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn ranked(args: &RerankArgs) -> Result<ExitCode> {
    let documents = texts(&args.documents)?;
    let loaded = load::load(&args.model)?;
    let name = name(&loaded.path);
    if loaded.model.spec().classifier.is_none() {
        bail!(
            "{name}: the model has no classifier that could score a pair of texts: take a reranker (cross-encoder)"
        );
    }
    let tokenizer = loaded.tokenizer.clone();
    let pairs = documents.iter().map(|document| Ok(tokenizer.encode_pair(&args.query, document)?));
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    let scores = start(loaded, &args.model)?.encode(pairs)?;
    let mut order = vec![];
    for (index, labels) in scores.iter().enumerate() {
        let [logit] = labels.as_slice() else {
            bail!("{name}: found {} labels, expected one: it is a classifier, but no reranker", labels.len());
        };
        order.push((index, 1.0 / (1.0 + (-logit).exp())));
    }
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut out = BufWriter::new(terminal::stdout());
    if args.json {
        let result = |&(i, score): &(usize, f32)| json!({"index": i, "score": score, "text": documents[i]});
        let results: Vec<_> = order.iter().map(result).collect();
        writeln!(out, "{}", json!({"model": name, "results": results}))?;
    } else {
        for (i, score) in order {
            writeln!(out, "{score:.4}\t{i}\t{}", documents[i])?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn start(loaded: Loaded, args: &ModelArgs) -> Result<Engine> {
    let config = EngineConfig { context: args.ctx_size, ..EngineConfig::default() };
    Ok(Engine::start(loaded.model, Some(loaded.tokenizer), &config)?)
}

/// The texts that were given, or the lines of standard input.
fn texts(given: &[String]) -> Result<Vec<String>> {
    let texts = match given {
        [] => io::stdin().lock().take(MAX_TEXTS).lines().collect::<io::Result<Vec<_>>>()?,
        given => given.to_vec(),
    };
    if texts.is_empty() {
        bail!("no texts: give some as arguments, or one a line on standard input");
    }
    Ok(texts)
}

/// The cosine of each vector with each.
fn alike(vectors: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let length = |v: &[f32]| dot(v, v).sqrt().max(1e-12);
    let row = |a: &Vec<f32>| vectors.iter().map(|b| dot(a, b) / (length(a) * length(b))).collect();
    vectors.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn likeness_is_the_cosine() {
        let found = super::alike(&[vec![2.0, 0.0], vec![3.0, 3.0]]);
        assert!((found[0][0] - 1.0).abs() < 1e-6 && (found[0][1] - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(found[0][1], found[1][0]);
    }
}
