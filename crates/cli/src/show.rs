//! `influence show`: what was understood of a model, without running it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use models::{Attn, Checkpoint, Ffn, Layer, Mixer, Rope, Scaling, Spec};
use serde_json::{Value, json};

use crate::load::resolve;

/// Say what a model is
#[derive(Args)]
pub struct ShowArgs {
    /// ORG/MODEL that was downloaded, a name from `influence list`, or a path [default: the model that ships]
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was understood.
///
/// # Errors
/// What keeps the model from being understood, by file and key.
pub fn run(args: &ShowArgs) -> Result<()> {
    let path = resolve(None, args.model.as_deref())?;
    let checkpoint = Checkpoint::open(&path)?;
    let spec = checkpoint.spec()?;
    let object = describe(&path, &checkpoint, &spec);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
        return Ok(());
    }
    for (key, value) in object.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        writeln!(out, "{key:<16} {text}")?;
    }
    Ok(())
}

fn describe(path: &PathBuf, checkpoint: &Checkpoint, spec: &Spec) -> Value {
    let bytes: u64 = checkpoint.tensors().map(|t| t.bytes().len() as u64).sum();
    let stored: usize = checkpoint.tensors().map(|t| t.elements()).sum();
    let layer = &spec.layers[0];
    let whole = bytes.saturating_add((2 * spec.cache_numbers() as u64).saturating_mul(spec.context as u64));
    let Mixer::Attn(attn) = &layer.mixer;
    json!({
        "path": path,
        "architecture": spec.arch,
        "parameters": stored,
        "weights": format!("{} in {} file(s)", types(checkpoint), checkpoint.weight_files().len()),
        "bytes": bytes,
        "layers": spec.layers.len(),
        "dim": spec.dim,
        "vocab": spec.vocab,
        "context": spec.context,
        "attention": attention(attn, spec),
        "feed-forward": ffn(layer),
        "rope": spec.ropes.iter().map(rope).collect::<Vec<_>>().join("; "),
        "embeddings": if spec.tied == Some(false) { "separate output matrix" } else { "tied, or as the file has it" },
        "license": license(checkpoint),
        "kv cache": format!("{} numbers a token", spec.cache_numbers()),
        "memory": format!("{} MiB with the whole context, its cache in f16", whole >> 20),
    })
}

/// Tensor types and how many there are of each.
fn types(checkpoint: &Checkpoint) -> String {
    let mut counts = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        *counts.entry(tensor.dtype.format().name).or_insert(0) += 1;
    }
    counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

fn attention(attn: &Attn, spec: &Spec) -> String {
    let mut text =
        format!("{} heads, {} key-value heads of {}", attn.n_heads, attn.n_kv_heads, attn.head_dim);
    let windowed = spec.layers.iter().filter_map(|l| {
        let Mixer::Attn(attn) = &l.mixer;
        attn.window
    });
    let windows: Vec<usize> = windowed.collect();
    if let Some(window) = windows.first() {
        text += &format!(", window of {window} in {} layers", windows.len());
    }
    if attn.qk_norm {
        text += ", normalised queries and keys";
    }
    if let Some(cap) = attn.softcap {
        text += &format!(", softcap {cap}");
    }
    text
}

fn ffn(layer: &Layer) -> String {
    let Ffn::Glu { dim, act } = &layer.ffn;
    format!("gated {act:?} of {dim}")
}

fn rope(rope: &Rope) -> String {
    let scaling = match &rope.scaling {
        Scaling::None => String::new(),
        Scaling::Linear { factor } => format!(", linear scaling by {factor}"),
        Scaling::Dynamic { factor, .. } => format!(", dynamic scaling by {factor}"),
        Scaling::Llama3 { factor, original, .. } => format!(", llama3 scaling by {factor} from {original}"),
        Scaling::Yarn(yarn) => format!(", yarn scaling by {} from {}", yarn.factor, yarn.original),
        Scaling::LongRope { original, .. } => format!(", longrope from {original}"),
        Scaling::Factors(_) => ", divisors from the file".to_string(),
    };
    format!("theta {} over {} numbers of a head{scaling}", rope.theta, rope.dim)
}

fn license(checkpoint: &Checkpoint) -> String {
    let named = checkpoint.gguf().and_then(|g| g.metadata.string("general.license").ok().flatten());
    named.unwrap_or("not in the model's files").to_string()
}
