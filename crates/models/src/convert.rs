//! A model on disk becomes a GGUF file: what `influence quantize` does.
//!
//! The opposite of `load.rs`: the conventions that a load takes away are put back as llama.cpp's converter
//! has them. Everything is planned first ([`Checkpoint::convert`]), then written tensor by tensor
//! ([`Conversion::write`]), so that memory holds some rows at a time.

mod hyper;
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;

use kernels::pool::Pool;
use weights::quantize::{Shape, quantize_rows, tensor_type};
pub use weights::quantize::{TARGETS, Target};
use weights::{DType, Field, GgufWriter, Planned, Tensor};

use crate::arch::{self, Arch};
use crate::checkpoint::Checkpoint;
use crate::mixers::{Attn, Mixer};
use crate::spec::{Ffn, Spec};
use crate::{Error, Result};

/// The architectures whose folders can be converted: those that GGUF has names for and fixtures prove.
const CONVERTIBLE: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "phi3", "granite", "gemma2"];
/// Keys of a GGUF that the new one says itself, or that are no longer so.
const REPLACED: &[&str] =
    &["general.file_type", "general.quantization_version", "general.alignment", "split.no", "split.count"];
/// Tensors that folders carry along and no forward pass reads.
const IGNORED: &[&str] = &["rotary_emb.inv_freq", "masked_bias", "attn.bias"];

/// Everything that a GGUF file will say, and where its numbers come from.
pub struct Conversion {
    metadata: Vec<(String, Field)>,
    items: Vec<Item>,
    file: String,
    /// What the reader should know: losses, guesses, what other programs will not understand.
    pub notes: Vec<String>,
}

struct Item {
    planned: Planned,
    source: Source,
}

/// Where a tensor's numbers come from.
enum Source {
    Stored(Stored),
    Made(Vec<f32>),
}

/// A tensor of the model's file, and how GGUF has it otherwise.
struct Stored {
    tensor: Tensor,
    /// Rows of q and k are reordered within each head.
    heads: Option<Heads>,
    /// Gemma's norm weights lie less one in folders.
    add: f32,
}

/// The rows of `dim` of a head, of which the first `turned` are of the rotary embedding.
#[derive(Clone, Copy)]
struct Heads {
    dim: usize,
    turned: usize,
}

impl Heads {
    /// The row of the folder's matrix that is row `row` of the GGUF's: pairs become neighbours.
    fn source(self, row: usize) -> usize {
        let (head, j) = (row / self.dim, row % self.dim);
        let from = if j < self.turned { j / 2 + (j % 2) * (self.turned / 2) } else { j };
        head * self.dim + from
    }
}

impl Checkpoint {
    /// Plans a GGUF file of this model with the types of `target`. `pure`: without its mix.
    ///
    /// # Errors
    /// A model that cannot be understood, whose tensors are not all there, or that GGUF cannot express.
    pub fn convert(&self, target: &Target, pure: bool) -> Result<Conversion> {
        let spec = self.spec()?;
        let mut notes = vec![];
        let mut metadata = match self.gguf() {
            Some(gguf) => kept(gguf),
            None => self.described(&spec, &mut notes)?,
        };
        let quantized = target.dtype.format().block_len > 1;
        metadata.push(("general.file_type".into(), Field::U32(target.file_type)));
        if quantized {
            metadata.push(("general.quantization_version".into(), Field::U32(2)));
        }
        let sources = match self.gguf() {
            Some(gguf) => self.copied(gguf, &mut notes)?,
            None => self.renamed(&spec)?,
        };
        let attn = first_attn(&spec);
        let model = Shape {
            layers: spec.layers.len(),
            heads_per_kv: attn.map_or(1, |a| a.n_heads / a.n_kv_heads.max(1)),
            experts: 0,
            tied: !sources.iter().any(|(name, _)| name == "output.weight"),
            pure,
        };
        let item = |(name, source): (String, Source)| item(target, &model, name, source);
        let items: Vec<Item> = sources.into_iter().map(item).collect();
        notes.extend(fallbacks(target, &items));
        Ok(Conversion { metadata, items, file: self.path.display().to_string(), notes })
    }

    /// A folder's metadata.
    fn described(&self, spec: &Spec, notes: &mut Vec<String>) -> Result<Vec<(String, Field)>> {
        if self.packing().is_some() {
            return Err(Error::Folder {
                path: self.path.display().to_string(),
                found: "weights that are packed already (quantization_config)".into(),
                expected: "plain ones, to be written as GGUF; this model can be run as it is".into(),
            });
        }
        if !CONVERTIBLE.contains(&spec.arch) || spec.ropes.len() != 1 {
            return Err(Error::Folder {
                path: self.path.display().to_string(),
                found: format!("a model of the architecture {}", spec.arch),
                expected: format!("one that can be written as GGUF: {}", CONVERTIBLE.join(", ")),
            });
        }
        let null = serde_json::Value::Null;
        let config = self.config().unwrap_or(&null);
        let mut fields = hyper::fields(&self.path, spec, config, notes);
        fields.extend(tokens::fields(&self.path, spec.vocab, config, notes)?);
        Ok(fields)
    }

    /// A GGUF's tensors as they are.
    fn copied(&self, gguf: &weights::Gguf, notes: &mut Vec<String>) -> Result<Vec<(String, Source)>> {
        if let Some(name) = gguf.unreadable.keys().next() {
            gguf.tensor(name)?;
        }
        let rough = gguf.tensors.values().find(|t| t.dtype.format().block_len > 1);
        notes.extend(rough.map(|t| {
            let kind = t.dtype.format().name;
            format!(
                "{}: already quantized ({kind}); quantizing it again loses more than starting from F16 would",
                self.path.display()
            )
        }));
        let source = |t: &Tensor| Source::Stored(Stored { tensor: t.clone(), heads: None, add: 0.0 });
        Ok(gguf.tensors.values().map(|t| (t.name.clone(), source(t))).collect())
    }

    /// A folder's tensors under GGUF's names and conventions, and those that stand for rope scaling.
    fn renamed(&self, spec: &Spec) -> Result<Vec<(String, Source)>> {
        self.check(spec)?;
        let arch = arch::find(&self.path.display().to_string(), spec.arch)?;
        let mut sources = BTreeMap::new();
        for tensor in self.tensors().filter(|t| !IGNORED.iter().any(|end| t.name.ends_with(end))) {
            let name = weights::gguf_name(&tensor.name, arch.names).ok_or_else(|| Error::Unread {
                file: self.path.display().to_string(),
                arch: spec.arch.to_string(),
                keys: format!("the tensor {}", tensor.name),
            })?;
            if spec.tied == Some(true) && name == "output.weight" {
                continue;
            }
            let stored = Stored {
                heads: heads(arch, spec, &name),
                add: if arch.norm_less_one && name.ends_with("norm.weight") { 1.0 } else { 0.0 },
                tensor: tensor.clone(),
            };
            sources.insert(name, Source::Stored(stored));
        }
        let made = hyper::rope_tensors(spec).into_iter();
        sources.extend(made.map(|(name, list)| (name.to_string(), Source::Made(list))));
        Ok(in_order(sources))
    }

    /// What keeps a model of this architecture from being written.
    fn unwritten(&self, spec: &Spec) -> Error {
        Error::Architecture {
            file: self.path.display().to_string(),
            name: spec.arch.to_string(),
            why: Some("it runs, but writing a GGUF of it is not built; take a GGUF of the model".into()),
            supported: WRITTEN.join(", "),
        }
    }

    /// The matrices that every decoder has are there, readable and of the right shape.
    fn check(&self, spec: &Spec) -> Result<()> {
        if !WRITTEN.contains(&spec.arch) {
            return Err(self.unwritten(spec));
        }
        let tensors = self.named_tensors(spec);
        tensors.get("token_embd.weight", &[spec.vocab, spec.dim])?;
        tensors.get("output_norm.weight", &[spec.dim])?;
        if spec.tied == Some(false) {
            tensors.get("output.weight", &[spec.vocab, spec.dim])?;
        }
        for (i, layer) in spec.layers.iter().enumerate() {
            let ([Mixer::Attn(attn)], Ffn::Glu { dim: inner, .. }) = (layer.mixers.as_slice(), &layer.ffn)
            else {
                return Err(self.unwritten(spec));
            };
            let (q_dim, inner) = (attn.n_heads * attn.head_dim, *inner);
            tensors.get(&format!("blk.{i}.attn_output.weight"), &[spec.dim, q_dim])?;
            if !tensors.has(&format!("blk.{i}.attn_qkv.weight")) {
                let kv_dim = attn.n_kv_heads * attn.head_dim;
                tensors.get(&format!("blk.{i}.attn_q.weight"), &[q_dim, spec.dim])?;
                tensors.get(&format!("blk.{i}.attn_k.weight"), &[kv_dim, spec.dim])?;
                tensors.get(&format!("blk.{i}.attn_v.weight"), &[kv_dim, spec.dim])?;
            }
            tensors.get(&format!("blk.{i}.ffn_down.weight"), &[spec.dim, inner])?;
            let fused = !tensors.has(&format!("blk.{i}.ffn_gate.weight"));
            let rows = if fused { 2 * inner } else { inner };
            tensors.get(&format!("blk.{i}.ffn_up.weight"), &[rows, spec.dim])?;
        }
        Ok(())
    }
}

/// The architectures whose keys `hyper.rs` knows how to write.
const WRITTEN: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "phi3", "granite", "gemma2"];

fn first_attn(spec: &Spec) -> Option<&Attn> {
    spec.mixers().find_map(Mixer::cached)
}

/// The reordering of a tensor's rows, if GGUF has it.
fn heads(arch: &Arch, spec: &Spec, name: &str) -> Option<Heads> {
    let part = name.rsplit('.').nth(1)?;
    if !arch.gguf_interleaved || !["attn_q", "attn_k"].contains(&part) {
        return None;
    }
    let dim = first_attn(spec)?.head_dim;
    Some(Heads { dim, turned: spec.ropes.first()?.dim })
}

/// What a GGUF says of itself, less what is no longer so.
fn kept(gguf: &weights::Gguf) -> Vec<(String, Field)> {
    let own = |key: &str| !REPLACED.contains(&key) && key != "split.tensors.count";
    let fields = gguf.metadata.iter().filter(|(key, _)| own(key));
    fields.map(|(key, value)| (key.to_string(), Field::from(value))).collect()
}

/// As files usually have them: the embedding, the layers by number, the rest.
fn in_order(sources: BTreeMap<String, Source>) -> Vec<(String, Source)> {
    let place = |name: &str| {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        let group = if name == "token_embd.weight" {
            0
        } else if layer.is_some() {
            1
        } else {
            2
        };
        (group, layer)
    };
    let mut list: Vec<_> = sources.into_iter().collect();
    list.sort_by_key(|(name, _)| place(name));
    list
}

fn item(target: &Target, model: &Shape, name: String, source: Source) -> Item {
    let shape = match &source {
        Source::Stored(s) => s.tensor.shape.clone(),
        Source::Made(list) => vec![list.len()],
    };
    let whole = matches!(&source, Source::Stored(s) if is_integer(s.tensor.dtype));
    let dtype = match &source {
        Source::Stored(s) if whole => s.tensor.dtype,
        _ => tensor_type(target, model, &name, &shape),
    };
    Item { planned: Planned { name, dtype, shape }, source }
}

/// Tables of indices and the like: never rounded.
fn is_integer(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64)
}

/// One note on the tensors whose rows do not fit the type that was asked for.
fn fallbacks(target: &Target, items: &[Item]) -> Option<String> {
    let block = target.dtype.format().block_len;
    let odd = |i: &&Item| {
        let columns = i.planned.shape.last().copied().unwrap_or(1);
        i.planned.dtype != DType::F32 && !columns.is_multiple_of(block)
    };
    let first = items.iter().find(odd)?;
    let (count, planned) = (items.iter().filter(odd).count(), &first.planned);
    Some(format!(
        "{count} tensors have rows that are no multiple of {block} and take another type ({}: rows of {}, {})",
        planned.name,
        planned.shape.last().copied().unwrap_or(1),
        planned.dtype.format().name
    ))
}

impl Conversion {
    /// Numbers in all tensors: what [`Conversion::write`] counts up to.
    pub fn numbers(&self) -> u64 {
        self.items.iter().map(|i| i.planned.shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes that the tensors will take.
    pub fn bytes(&self) -> u64 {
        self.items.iter().filter_map(|i| i.planned.bytes()).sum()
    }

    /// Types and how many tensors have each.
    pub fn types(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for item in &self.items {
            *counts.entry(item.planned.dtype.format().name).or_insert(0) += 1;
        }
        counts
    }

    /// The metadata's keys and values, in the file's order.
    pub fn metadata(&self) -> &[(String, Field)] {
        &self.metadata
    }

    /// Writes the file `to` by `threads` threads; it appears when it is whole. `watch` is told the numbers that
    /// are done and says whether to go on; if not, nothing is left behind and the result is `None`. Otherwise
    /// it is what was found odd meanwhile.
    ///
    /// # Errors
    /// The disk is full or gone; a tensor that cannot be read.
    pub fn write(
        &self,
        to: &Path,
        threads: usize,
        watch: impl FnMut(u64) -> bool,
    ) -> Result<Option<Vec<String>>> {
        match self.run(to, &Pool::new(threads), watch) {
            Ok(notes) => Ok(Some(notes)),
            Err(Halt::Stopped) => Ok(None),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    fn run(&self, to: &Path, pool: &Pool, mut watch: impl FnMut(u64) -> bool) -> Halting<Vec<String>> {
        let planned: Vec<Planned> = self.items.iter().map(|i| i.planned.clone()).collect();
        let mut writer = GgufWriter::create(to, &self.metadata, &planned)?;
        let (mut done, mut notes) = (0, vec![]);
        for item in &self.items {
            let strange = item.write(pool, |bytes, numbers| {
                writer.write(bytes)?;
                done += numbers;
                if watch(done) { Ok(()) } else { Err(Halt::Stopped) }
            })?;
            if strange {
                let name = &item.planned.name;
                notes.push(format!("{}: tensor {name} has numbers that are not finite", self.file));
            }
        }
        writer.finish()?;
        Ok(notes)
    }
}

/// Why the writing ended early.
enum Halt {
    Stopped,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Halt {
        Halt::Failed(error.into())
    }
}

type Halting<T> = std::result::Result<T, Halt>;

impl Item {
    /// Hands the tensor's bytes to `write`, with how many numbers they are; whether some are not finite.
    fn write(&self, pool: &Pool, mut write: impl FnMut(&[u8], u64) -> Halting<()>) -> Halting<bool> {
        let dtype = self.planned.dtype;
        let columns = self.planned.shape.last().copied().unwrap_or(1);
        let rows = self.planned.shape.iter().rev().skip(1).product();
        let row_bytes = dtype.bytes(columns).unwrap_or(0).max(1);
        let write = |bytes: &[u8]| write(bytes, (bytes.len() / row_bytes * columns) as u64);
        match &self.source {
            Source::Made(list) => quantize_rows(
                pool,
                dtype,
                (rows, columns),
                |_, out| {
                    out.copy_from_slice(list);
                    Ok(())
                },
                write,
            ),
            Source::Stored(s) if s.tensor.dtype == dtype && s.heads.is_none() && s.add == 0.0 => {
                copy(s.tensor.bytes(), row_bytes, write)
            }
            Source::Stored(s) => {
                quantize_rows(pool, dtype, (rows, columns), |row, out| Ok(s.row(row, out)?), write)
            }
        }
    }
}

/// Bytes that stay as they are, some rows at a time.
fn copy(bytes: &[u8], row_bytes: usize, mut write: impl FnMut(&[u8]) -> Halting<()>) -> Halting<bool> {
    let rows = ((1 << 22) / row_bytes).max(1);
    bytes.chunks(rows * row_bytes).try_for_each(&mut write)?;
    Ok(false)
}

impl Stored {
    /// Row `row` as GGUF has it. (Of a vector, the numbers are what would be rows of a matrix.)
    fn row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let vector = self.tensor.shape.len() < 2;
        let at = self.heads.filter(|_| !vector).map_or(row, |heads| heads.source(row));
        let dtype = self.tensor.dtype;
        let bytes = dtype.bytes(out.len()).and_then(|n| self.tensor.bytes().get(at * n..(at + 1) * n));
        let bytes = bytes.ok_or_else(|| Error::Tensor {
            file: self.tensor.file().display().to_string(),
            tensor: self.tensor.name.clone(),
            found: format!("shape {:?} as {}", self.tensor.shape, dtype.format().name),
            expected: "rows of whole blocks".into(),
        })?;
        dtype.unpack_row(bytes, out);
        if let Some(heads) = self.heads.filter(|_| vector) {
            let from = out.to_vec();
            out.iter_mut().enumerate().for_each(|(i, x)| *x = from[heads.source(i).min(from.len() - 1)]);
        }
        out.iter_mut().for_each(|x| *x += self.add);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_neighbours_within_each_head() {
        let heads = Heads { dim: 6, turned: 6 };
        let sources: Vec<usize> = (0..12).map(|row| heads.source(row)).collect();
        assert_eq!(sources, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        let partial = Heads { dim: 6, turned: 4 };
        assert_eq!((0..6).map(|row| partial.source(row)).collect::<Vec<_>>(), [0, 2, 1, 3, 4, 5]);
    }
}
