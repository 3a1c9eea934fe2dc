//! From a path to everything that a request needs: model, tokenizer, template, sampling defaults and
//! the tokens that end an answer. Every client of the engine begins here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use models::{CandleBackend, Checkpoint, Model};
use serde_json::{Map, Value};
use text::{ChatTemplate, GgufVocab, Tokenizer};
use weights::{Gguf, Metadata};

use crate::GenerationConfig;

/// What can keep a path from being ready to run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The model.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// A file.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// The tokenizer or the template.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// The sampling defaults.
    #[error(transparent)]
    Config(#[from] crate::EngineError),
    /// The vocabulary and the model do not belong together.
    #[error(
        "{}: the tokenizer has ids up to {largest}, the model's vocabulary {vocab}; they do not belong together",
        path.display()
    )]
    Vocabulary {
        /// The model.
        path: PathBuf,
        /// The tokenizer's largest id.
        largest: usize,
        /// The model's ids.
        vocab: usize,
    },
}

/// Where a model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA GPU, in builds that have CUDA.
    Cuda,
    /// The first Apple GPU, in builds that have Metal.
    Metal,
}

/// A model, ready for requests.
pub struct Loaded {
    /// The decoder with its weights.
    pub model: Box<dyn Model>,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// How a conversation is written down, where the model has a template.
    pub template: Option<ChatTemplate>,
    /// What its makers say of sampling.
    pub generation: GenerationConfig,
    /// Every token that ends an answer.
    pub stop_ids: Vec<u32>,
    /// Where it lies.
    pub path: PathBuf,
    /// How long all this took.
    pub load_time: Duration,
}

/// Tokens that end a turn in the templates of published models. A template that writes one of them
/// makes it an end.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<turn|>",
    "<|return|>",
    "<|call|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|eot|>",
    "[|endofturn|]",
    "<eos>",
    "</s>",
];

/// Loads the folder or `.gguf` at `path`.
///
/// # Errors
/// The file, key, tensor or template that stands in the way.
pub fn load(path: &Path, device: Device) -> Result<Loaded, LoadError> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(path)?;
    let (tokenizer, template) = match checkpoint.gguf() {
        Some(gguf) => gguf_text(gguf)?,
        None => (Tokenizer::from_folder(path)?, ChatTemplate::from_folder(path)?),
    };
    let spec = checkpoint.spec()?;
    if let Some(largest) = largest_id(&tokenizer).filter(|&id| id >= spec.vocab) {
        return Err(LoadError::Vocabulary { path: path.to_path_buf(), largest, vocab: spec.vocab });
    }
    let generation = match checkpoint.gguf() {
        Some(_) => GenerationConfig::default(),
        None => generation(path)?,
    };
    let stop_ids = stop_ids(&checkpoint, &tokenizer, template.as_ref(), &generation, spec.vocab);
    let model: Box<dyn Model> = match device {
        Device::Cpu => Box::new(checkpoint.load(CandleBackend::cpu())?),
        Device::Cuda => Box::new(checkpoint.load(CandleBackend::cuda()?)?),
        Device::Metal => Box::new(checkpoint.load(CandleBackend::metal()?)?),
    };
    let (tokenizer, path) = (Arc::new(tokenizer), path.to_path_buf());
    Ok(Loaded { model, tokenizer, template, generation, stop_ids, path, load_time: start.elapsed() })
}

/// The largest id that stands for some text. Vocabularies may have gaps and reserved ids at their end.
fn largest_id(tokenizer: &Tokenizer) -> Option<usize> {
    (0..tokenizer.vocab_size()).rev().find(|&id| tokenizer.token(id as u32).is_some())
}

fn generation(dir: &Path) -> Result<GenerationConfig, LoadError> {
    let file = dir.join("generation_config.json");
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(GenerationConfig::parse(text.trim_start_matches('\u{feff}'), &file.display().to_string())?),
        Err(_) => Ok(GenerationConfig::default()),
    }
}

/// The ends that config.json, generation_config.json, the GGUF and the template name.
fn stop_ids(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    generation: &GenerationConfig,
    vocab: usize,
) -> Vec<u32> {
    let mut ids = generation.eos_token_ids.clone();
    ids.extend(tokenizer.eos());
    ids.extend(checkpoint.config().into_iter().flat_map(|c| listed(&c["eos_token_id"])));
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ids.extend(checkpoint.gguf().and_then(|g| number(&g.metadata, key)));
    }
    let source = template.map_or("", ChatTemplate::source);
    let written = TURN_ENDS.iter().filter(|end| source.contains(**end));
    ids.extend(written.filter_map(|end| tokenizer.id(end)));
    ids.retain(|&id| (id as usize) < vocab);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// An id or a list of them.
fn listed(value: &Value) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

fn number(metadata: &Metadata, key: &str) -> Option<u32> {
    metadata.unsigned(key).ok().flatten().and_then(|n| u32::try_from(n).ok())
}

/// The tokenizer and the template that lie in a GGUF's metadata.
fn gguf_text(gguf: &Gguf) -> Result<(Tokenizer, Option<ChatTemplate>), LoadError> {
    let tokenizer = Tokenizer::from_gguf(vocabulary(gguf)?)?;
    let Some(source) = gguf.metadata.string("tokenizer.chat_template")? else { return Ok((tokenizer, None)) };
    let name = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
    let (bos, eos) = (name(tokenizer.bos()), name(tokenizer.eos()));
    let template = ChatTemplate::new(source, bos.as_deref(), eos.as_deref(), Map::new())?;
    Ok((tokenizer, Some(template)))
}

fn vocabulary(gguf: &Gguf) -> Result<GgufVocab, LoadError> {
    let m = &gguf.metadata;
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let id = |name: &str| number(m, &key(name));
    let strings = |name: &str| -> Result<Vec<String>, weights::Error> {
        let list = m.strings(&key(name))?.unwrap_or_default();
        Ok(list.into_iter().map(str::to_string).collect())
    };
    let integers = |name: &str| -> Result<Vec<i64>, weights::Error> {
        Ok(m.integers(&key(name))?.unwrap_or_default())
    };
    Ok(GgufVocab {
        origin: gguf.path.display().to_string(),
        model: m.string(&key("model"))?.unwrap_or_default().to_string(),
        pre: m.string(&key("pre"))?.map(str::to_string),
        tokens: strings("tokens")?,
        scores: m.floats(&key("scores"))?.unwrap_or_default(),
        token_types: integers("token_type")?.into_iter().map(|n| n as i32).collect(),
        merges: strings("merges")?,
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        cls: id("cls_token_id"),
        sep: id("seperator_token_id"),
        eot: id("eot_token_id"),
        add_bos: m.bool(&key("add_bos_token"))?,
        add_eos: m.bool(&key("add_eos_token"))?,
        add_space_prefix: m.bool(&key("add_space_prefix"))?,
        remove_extra_whitespaces: m.bool(&key("remove_extra_whitespaces"))?,
        precompiled_charsmap: integers("precompiled_charsmap")?.into_iter().map(|n| n as u8).collect(),
    })
}
