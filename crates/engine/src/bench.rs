//! A model driven at full speed, for `influence bench`: no scheduler, no sampler, only
//! [`models::Model::forward`] on batches such as the engine makes, and the clock beside it.

use std::path::Path;
use std::time::Instant;

use models::{CacheShape, Checkpoint, CpuBackend, Ffn, KvType, Model, Span, Spec};
use weights::Tensor;

use crate::{EngineConfig, EngineError, LoadError, available_memory};

pub use models::{Batch, Probe, Product};

/// Rows of one forward step while a prompt is read.
const CHUNK: usize = 512;

/// What one token costs, by the matrices of the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Bytes of the matrices that one decoded token passes through, as they lie in the file.
    pub decode_bytes: u64,
    /// Numbers in the matrices of the layers. A token of a prompt takes two operations for each; the output
    /// matrix is only used for the last one.
    pub layer_parameters: u64,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// What most numbers in these matrices are multiplied as.
    pub product: Product,
}

/// A model and room for the sequences that it is measured with.
pub struct Bench {
    model: Box<dyn Model>,
    /// What its tokens cost.
    pub work: Work,
    block_size: usize,
    /// Blocks of one sequence.
    blocks: usize,
}

impl Bench {
    /// Loads `path` for `threads` threads (`None`: as many as serve well), with keys and values as `kv` (`None`: f16).
    ///
    /// # Errors
    /// The file, key or tensor that stands in the way.
    pub fn load(path: &Path, threads: Option<usize>, kv: Option<KvType>) -> Result<Bench, LoadError> {
        let checkpoint = Checkpoint::open(path)?;
        let work = work(&checkpoint, &checkpoint.spec()?);
        let model = Box::new(checkpoint.load(CpuBackend::new(threads).storing(kv))?);
        Ok(Bench { model, work, block_size: EngineConfig::default().block_size, blocks: 0 })
    }

    /// Makes room for `sequences` sequences of `tokens` tokens each, forgetting all others.
    ///
    /// # Errors
    /// More tokens than the model was made for, or than memory has room for.
    pub fn allocate(&mut self, sequences: usize, tokens: usize) -> Result<(), EngineError> {
        let context = self.model.spec().context;
        if tokens > context {
            return Err(EngineError::TextTooLong { tokens, context });
        }
        self.blocks = tokens.div_ceil(self.block_size).max(1);
        let blocks = self.blocks.saturating_mul(sequences);
        let tokens = blocks.saturating_mul(self.block_size);
        let needed = (tokens as u64).saturating_mul(self.model.cache_bytes_per_token() as u64) >> 20;
        let available = available_memory().unwrap_or(u64::MAX) >> 20;
        if needed > available {
            return Err(EngineError::CacheTooLarge { tokens, needed, available });
        }
        self.model
            .allocate(CacheShape { blocks, block_size: self.block_size, states: sequences })
            .map_err(failed)
    }

    /// Reads tokens `from..to` of sequence `sequence`, at most 512 a step; the logits of the last one are
    /// computed. Returns the seconds.
    ///
    /// # Errors
    /// Whatever the model reports.
    pub fn prefill(&mut self, sequence: usize, from: usize, to: usize) -> Result<f64, EngineError> {
        let start = Instant::now();
        for first in (from..to).step_by(CHUNK) {
            let len = CHUNK.min(to - first);
            let mut batch = Batch::default();
            self.span(&mut batch, sequence, first, len);
            if first + len == to {
                batch.outputs = vec![len as u32 - 1];
            }
            self.model.forward(&batch).map_err(failed)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Writes `count` tokens of each of `sequences` sequences, one after the other from position `from` on, the
    /// sequences together. Returns the seconds.
    ///
    /// # Errors
    /// Whatever the model reports.
    pub fn decode(&mut self, sequences: usize, from: usize, count: usize) -> Result<f64, EngineError> {
        let start = Instant::now();
        for position in from..from + count {
            let mut batch = Batch::default();
            (0..sequences).for_each(|s| self.span(&mut batch, s, position, 1));
            batch.outputs = (0..sequences as u32).collect();
            self.model.forward(&batch).map_err(failed)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Adds `len` rows of a sequence from position `first` on. Which tokens they are is without effect on the
    /// speed; they only should not all be the same row of the embedding.
    fn span(&self, batch: &mut Batch, sequence: usize, first: usize, len: usize) {
        let vocab = self.model.spec().vocab as u64;
        let blocks = (sequence * self.blocks..(sequence + 1) * self.blocks).map(|b| b as u32).collect();
        let span =
            Span { start: batch.tokens.len(), len, blocks, length: first + len, state: sequence as u32 };
        for position in first..first + len {
            let scattered = (position as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            batch.tokens.push((scattered % vocab) as u32);
            batch.positions.push(position as u32);
            batch.slots.push(span.slot(position, self.block_size));
        }
        batch.spans.push(span);
    }
}

/// Adds up the matrices. `tied`: the output matrix is the embedding even where the file has one.
fn work(checkpoint: &Checkpoint, spec: &Spec) -> Work {
    let named = |name: &str, ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let is_head = |name: &str| named(name, &["lm_head.weight"]) || name == "output.weight";
    let is_embed = |name: &str| named(name, &["token_embd.weight", "embed_tokens.weight", "wte.weight"]);
    let has_head = spec.tied != Some(true) && checkpoint.tensors().any(|t| is_head(&t.name));
    let (mut work, mut by_product) =
        (Work::default(), [Product::Int8, Product::F32, Product::Bf16].map(|p| (0, p)));
    for tensor in checkpoint.tensors() {
        let (numbers, bytes) = (tensor.elements() as u64, tensor.bytes().len() as u64);
        (work.parameters, work.bytes) = (work.parameters + numbers, work.bytes + bytes);
        if tensor.shape.len() < 2 {
            continue;
        }
        let (numbers, bytes) = used(tensor, spec, numbers, bytes);
        let (head, embed) = (is_head(&tensor.name), is_embed(&tensor.name));
        if !embed && !head {
            work.layer_parameters += numbers;
            let product = Product::of(tensor.dtype);
            by_product.iter_mut().filter(|(_, p)| *p == product).for_each(|(n, _)| *n += numbers);
        }
        let unread = if has_head { embed } else { head };
        work.decode_bytes += if unread { 0 } else { bytes };
    }
    work.product = by_product.iter().max_by_key(|(n, _)| *n).map_or(Product::Int8, |(_, p)| *p);
    work
}

/// Of a tensor of experts, what one token uses.
fn used(tensor: &Tensor, spec: &Spec, numbers: u64, bytes: u64) -> (u64, u64) {
    let mixture = spec.layers.iter().find_map(|l| match &l.ffn {
        Ffn::Moe(moe) => Some((moe.n_experts as u64, moe.top_k as u64)),
        _ => None,
    });
    let stacked = |n: u64| tensor.shape.len() == 3 && tensor.shape[0] as u64 == n;
    match mixture.filter(|(n, _)| stacked(*n) || tensor.name.contains(".experts.")) {
        Some((n, k)) => (numbers * k / n, bytes * k / n),
        None => (numbers, bytes),
    }
}

fn failed(error: models::Error) -> EngineError {
    EngineError::Model(error.to_string())
}
