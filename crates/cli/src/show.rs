//! `influence show`: what was understood of a model, without running it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use models::{Attn, Checkpoint, Ffn, Mixer, NormKind, Rope, Scaling, Spec};
use serde_json::{Value, json};

use crate::load::resolve;
use crate::terminal::spelled;

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
        writeln!(out, "{key:<16} {}", spelled(&text))?;
    }
    Ok(())
}

fn describe(path: &PathBuf, checkpoint: &Checkpoint, spec: &Spec) -> Value {
    let bytes: u64 = checkpoint.tensors().map(|t| t.bytes().len() as u64).sum();
    let stored: usize = checkpoint.tensors().map(|t| t.elements()).sum();
    let whole = bytes.saturating_add((2 * spec.cache_numbers() as u64).saturating_mul(spec.context as u64));
    let state: usize = spec.mixers().map(Mixer::state).sum();
    let whole = whole.saturating_add(4 * state as u64);
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
        "mixers": counted(spec.mixers().map(mixer)),
        "feed-forward": counted(spec.layers.iter().filter_map(|l| ffn(&l.ffn))),
        "active": format!("{} parameters for a token", spec.active_parameters()),
        "norms": norms(spec),
        "positions": spec.positions.map_or("none learned".to_string(), |p| format!("{} learned", p.rows)),
        "rope": spec.ropes.iter().map(rope).collect::<Vec<_>>().join("; "),
        "embeddings": if spec.tied == Some(false) { "separate output matrix" } else { "tied, or as the file has it" },
        "vectors": vectors(spec),
        "license": license(checkpoint),
        "kv cache": format!("{} numbers a token", spec.cache_numbers()),
        "state": format!("{state} numbers a sequence"),
        "memory": format!("{} MiB with the whole context, its cache in f16", whole >> 20),
    })
}

/// What kind of norm, and how the branches of a layer stand to each other.
fn norms(spec: &Spec) -> String {
    let kind = match (spec.norm.kind, spec.norm.affine) {
        (NormKind::Rms, _) => "RMS",
        (NormKind::Layer, true) => "LayerNorm",
        (NormKind::Layer, false) => "LayerNorm without weights",
    };
    let parallel = spec.layers.iter().filter(|l| l.parallel).count();
    if parallel == 0 { kind.into() } else { format!("{kind}, {parallel} layers with parallel branches") }
}

/// Tensor types and how many there are of each.
fn types(checkpoint: &Checkpoint) -> String {
    let mut counts = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        *counts.entry(tensor.dtype.format().name).or_insert(0) += 1;
    }
    counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

/// What layers have, and how many of them.
fn counted(parts: impl Iterator<Item = String>) -> String {
    let mut counts: Vec<(String, usize)> = vec![];
    for part in parts {
        match counts.iter_mut().find(|(known, _)| *known == part) {
            Some((_, n)) => *n += 1,
            None => counts.push((part, 1)),
        }
    }
    counts.iter().map(|(part, n)| format!("{n} x {part}")).collect::<Vec<_>>().join("; ")
}

fn mixer(mixer: &Mixer) -> String {
    match mixer {
        Mixer::Attn(attn) => attention(attn),
        Mixer::Mla(m) => format!(
            "latent attention of {} heads of {} (values of {}), latent of {}",
            m.attn.n_heads,
            m.nope_dim + m.rope_dim,
            m.value_dim,
            m.kv_rank
        ),
        Mixer::Mamba(m) => format!("Mamba of {} channels, state of {}", m.inner, m.state_dim),
        Mixer::DeltaNet(d) => {
            let (keys, values) = (d.key_heads, d.value_heads);
            format!(
                "gated delta net of {keys} key heads of {}, {values} value heads of {}",
                d.key_dim, d.value_dim
            )
        }
        Mixer::ShortConv(c) => format!("gated convolution over {} positions", c.kernel),
        Mixer::RgLru(r) => format!("RG-LRU of {} channels", r.inner),
        Mixer::TimeMix4(t) => format!("RWKV-4 time mix of {} channels", t.inner),
        Mixer::TimeMix7(t) => format!("RWKV-7 time mix of {} heads of {}", t.heads, t.head_dim),
        Mixer::ChannelMix(c) => format!("channel mix of {}", c.inner),
        Mixer::Mamba2(m) => {
            format!("Mamba-2 of {} heads of {}, state of {}", m.n_heads, m.head_dim, m.state_dim)
        }
    }
}

fn attention(attn: &Attn) -> String {
    let mut text =
        format!("{} heads, {} key-value heads of {}", attn.n_heads, attn.n_kv_heads, attn.head_dim);
    let mut add = |part: Option<String>| text += &part.map_or(String::new(), |p| format!(", {p}"));
    add(attn.window.map(|n| format!("window of {n}")));
    add(attn.chunk.map(|n| format!("chunks of {n}")));
    add(attn
        .rope
        .is_none()
        .then(|| if attn.alibi.is_some() { "ALiBi".into() } else { "no rotation".into() }));
    add(attn.qk_norm.map(|_| "normalised queries and keys".into()));
    add(attn.clip.map(|bound| format!("clipped to {bound}")));
    add(attn.softcap.map(|cap| format!("softcap {cap}")));
    add(attn.sinks.then(|| "sinks".into()));
    add(attn.gate.then(|| "gated".into()));
    add(attn.shares.map(|layer| format!("keys and values of layer {layer}")));
    text
}

fn ffn(ffn: &Ffn) -> Option<String> {
    match ffn {
        // Listed among the mixers.
        Ffn::None | Ffn::Mixer(_) => None,
        Ffn::Glu { dim, act } => Some(format!("gated {act:?} of {dim}")),
        Ffn::Mlp { dim, act } => Some(format!("{act:?} of {dim}")),
        Ffn::Moe(moe) => {
            let shared = moe.shared.map_or(String::new(), |s| format!(" and a shared one of {}", s.dim));
            Some(format!("{} of {} experts of {}{shared}, {:?}", moe.top_k, moe.n_experts, moe.dim, moe.act))
        }
    }
}

fn rope(rope: &Rope) -> String {
    let scaling = match &rope.scaling {
        Scaling::None => String::new(),
        Scaling::Linear { factor } => format!(", linear scaling by {factor}"),
        Scaling::Dynamic { factor, .. } => format!(", dynamic scaling by {factor}"),
        Scaling::Llama3 { factor, original, .. } => format!(", llama3 scaling by {factor} from {original}"),
        Scaling::Yarn(yarn) => format!(", yarn scaling by {} from {}", yarn.factor, yarn.original),
        Scaling::LongRope { original, .. } => format!(", longrope from {original}"),
        Scaling::Proportional { pairs, factor } => {
            format!(", scaling by {factor}, of which {pairs} pairs turn")
        }
        Scaling::Factors(_) => ", divisors from the file".to_string(),
    };
    format!("theta {} over {} numbers of a head{scaling}", rope.theta, rope.dim)
}

/// What it makes of whole texts.
fn vectors(spec: &Spec) -> String {
    match (spec.classifier, spec.embedding) {
        (Some(c), _) => format!("scores by a classifier of {:?} position(s)", c.pool),
        (None, Some(e)) => {
            format!("{:?} position(s) pooled{}", e.pool, if e.unit { ", of length 1" } else { "" })
        }
        (None, None) => "none".to_string(),
    }
}

fn license(checkpoint: &Checkpoint) -> String {
    let named = checkpoint.gguf().and_then(|g| g.metadata.string("general.license").ok().flatten());
    named.unwrap_or("not in the model's files").to_string()
}
