//! From a path to everything that a request needs: model, tokenizer, template, sampling defaults and
//! the tokens that end an answer. Every client of the engine begins here.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use models::{CandleBackend, Checkpoint, CpuBackend, KvType, Model};
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
    /// A file beside the model that is there and cannot be read.
    #[error("{}: cannot read it: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
}

/// Where a model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor, by our own kernels.
    #[default]
    Cpu,
    /// The processor, by candle: slow, and what the kernels are checked against.
    Candle,
    /// The first NVIDIA GPU, in builds that have CUDA.
    Cuda,
    /// The first Apple GPU, in builds that have Metal.
    Metal,
}

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// What computes.
    pub device: Device,
    /// Threads that compute; `None`: as many as serve well. Only [`Device::Cpu`] looks at it.
    pub threads: Option<usize>,
    /// What keys and values are stored as; `None`: as fits the weights. Only [`Device::Cpu`] looks at it.
    pub kv: Option<KvType>,
    /// A GGUF of the same model whose weights serve instead: another format. All else stays the model's own.
    pub weights: Option<PathBuf>,
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
    /// Where its weights lie, if not there.
    pub weights: Option<PathBuf>,
    /// What is odd about the model and does not keep it from running, for the reader.
    pub warnings: Vec<String>,
    /// How long all this took.
    pub load_time: Duration,
}

/// The most that is read of a generation_config.json; real ones have a few hundred bytes.
const MAX_CONFIG: u64 = 1 << 20;

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

/// The part of a model that is about text.
pub struct TextParts {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// How a conversation is written down, where the model has a template.
    pub template: Option<ChatTemplate>,
}

/// Loads the tokenizer and the template of the folder or `.gguf` at `path`, and no weights.
///
/// # Errors
/// The file, key or template that stands in the way.
pub fn load_text(path: &Path) -> Result<TextParts, LoadError> {
    let checkpoint = Checkpoint::open(path)?;
    let (tokenizer, template) = text_of(&checkpoint, path)?;
    Ok(TextParts { tokenizer, template })
}

fn text_of(checkpoint: &Checkpoint, path: &Path) -> Result<(Tokenizer, Option<ChatTemplate>), LoadError> {
    match checkpoint.gguf() {
        Some(gguf) => gguf_text(gguf),
        None => Ok((Tokenizer::from_folder(path)?, ChatTemplate::from_folder(path)?)),
    }
}

/// Loads the folder or `.gguf` at `path`.
///
/// # Errors
/// The file, key, tensor or template that stands in the way.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(path)?;
    let vocab = checkpoint.spec()?.vocab;
    let generation = match checkpoint.gguf() {
        Some(_) => GenerationConfig::default(),
        None => generation(path)?,
    };
    // A vocabulary of 128,000 tokens takes a thread a fifth of the time that the weights of a small model take.
    let (text, model) = std::thread::scope(|scope| {
        let text = scope.spawn(|| text_of(&checkpoint, path));
        let model = match &options.weights {
            Some(weights) => {
                Checkpoint::open(weights).map_err(LoadError::from).and_then(|c| computed(&c, options))
            }
            None => computed(&checkpoint, options),
        };
        (text.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), model)
    });
    let ((tokenizer, template), model) = (text?, model?);
    let named = stop_ids(&checkpoint, &tokenizer, template.as_ref(), &generation);
    let (inside, outside): (Vec<u64>, Vec<u64>) = named.into_iter().partition(|&id| id < vocab as u64);
    let stop_ids = inside.into_iter().filter_map(|id| u32::try_from(id).ok()).collect();
    let warnings = warnings(path, &tokenizer, outside, vocab);
    let (tokenizer, path) = (Arc::new(tokenizer), path.to_path_buf());
    let (weights, load_time) = (options.weights.clone(), start.elapsed());
    Ok(Loaded { model, tokenizer, template, generation, stop_ids, path, weights, warnings, load_time })
}

/// The weights, on their device.
fn computed(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Box<dyn Model>, LoadError> {
    Ok(match options.device {
        Device::Cpu => {
            let backend = CpuBackend::suited(checkpoint, options.threads).storing(options.kv);
            Box::new(checkpoint.load(backend)?)
        }
        Device::Candle => Box::new(checkpoint.load(CandleBackend::cpu())?),
        Device::Cuda => Box::new(checkpoint.load(CandleBackend::cuda()?)?),
        Device::Metal => Box::new(checkpoint.load(CandleBackend::metal()?)?),
    })
}

/// What does not fit together between tokenizer and model. Published models have such ids in passing
/// (tokens for images in a model of text), and a prompt that needs one is refused when it comes.
fn warnings(path: &Path, tokenizer: &Tokenizer, outside: Vec<u64>, vocab: usize) -> Vec<String> {
    let path = path.display();
    let ends = (!outside.is_empty()).then(|| {
        format!(
            "{path}: ids {outside:?} should end an answer, but the model has ids below {vocab} only; \
             the answer may not end by itself (check eos_token_id)"
        )
    });
    let largest = largest_id(tokenizer).filter(|&id| id >= vocab);
    let ids = largest.map(|largest| {
        format!(
            "{path}: the tokenizer has ids up to {largest}, the model ids below {vocab} only; \
             if the answer makes no sense, they do not belong together"
        )
    });
    ends.into_iter().chain(ids).collect()
}

/// The largest id that stands for some text. Vocabularies may have gaps and reserved ids at their end.
fn largest_id(tokenizer: &Tokenizer) -> Option<usize> {
    (0..tokenizer.vocab_size()).rev().find(|&id| tokenizer.token(id as u32).is_some())
}

/// What generation_config.json says; a folder need not have one.
fn generation(dir: &Path) -> Result<GenerationConfig, LoadError> {
    let path = dir.join("generation_config.json");
    let mut text = String::new();
    // Opening a pipe would wait for who writes into it.
    let regular = std::fs::metadata(&path).and_then(|meta| match meta.is_file() {
        true => File::open(&path),
        false => Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
    });
    match regular.and_then(|file| file.take(MAX_CONFIG).read_to_string(&mut text)) {
        Ok(_) => {
            Ok(GenerationConfig::parse(text.trim_start_matches('\u{feff}'), &path.display().to_string())?)
        }
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(GenerationConfig::default()),
        Err(cause) => Err(LoadError::Unreadable { path, cause }),
    }
}

/// The ends that config.json, generation_config.json, the GGUF and the template name, sorted.
fn stop_ids(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    generation: &GenerationConfig,
) -> Vec<u64> {
    let mut ids: Vec<u64> = generation.eos_token_ids.iter().map(|&id| id.into()).collect();
    ids.extend(tokenizer.eos().map(u64::from));
    ids.extend(checkpoint.config().into_iter().flat_map(|c| listed(&c["eos_token_id"])));
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ids.extend(checkpoint.gguf().and_then(|g| number(&g.metadata, key)).map(u64::from));
    }
    let source = template.map_or("", ChatTemplate::source);
    let written = TURN_ENDS.iter().filter(|end| source.contains(**end));
    ids.extend(written.filter_map(|end| tokenizer.id(end)).map(u64::from));
    // In harmony's templates this ends a message, of which an answer may have several.
    if source.contains("<|channel|>") && source.contains("<|return|>") {
        let message_end = tokenizer.id("<|end|>").map(u64::from);
        ids.retain(|&id| Some(id) != message_end);
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// An id or a list of them.
fn listed(value: &Value) -> Vec<u64> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
        other => other.as_u64().into_iter().collect(),
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
    let integers =
        |name: &str| -> Result<Vec<i64>, weights::Error> { Ok(m.integers(&key(name))?.unwrap_or_default()) };
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
        lowercase: m.bool(&key("normalizer.lowercase"))?,
        strip_accents: m.bool(&key("normalizer.strip_accents"))?,
        precompiled_charsmap: integers("precompiled_charsmap")?.into_iter().map(|n| n as u8).collect(),
    })
}
