//! A model on disk becomes a GGUF file: what `influence quantize` does.
//!
//! The opposite of `load.rs`: the conventions that a load takes away are put back as llama.cpp's converter
//! has them. Everything is planned first ([`Checkpoint::convert`]), then written tensor by tensor
//! ([`Conversion::write`]), so that memory holds some rows at a time.

mod hollow;
mod keys;
mod official;
mod place;
mod readback;
mod rules;
mod source;
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;

use kernels::pool::Pool;
use serde_json::Value;
use weights::quantize::{Shape, tensor_type};
pub use weights::quantize::{TARGETS, Target};
use weights::{DType, Field, GgufWriter, Planned};

use crate::arch;
use crate::checkpoint::Checkpoint;
use crate::mixers::{Attn, Mixer};
use crate::packed::Packing;
use crate::rope::Scaling;
use crate::spec::{Act, Ffn, Spec};
use crate::{Error, Result};
use readback::Reader;
pub(crate) use rules::{Form, Rule};
use source::{Source, Stored};

/// Keys of a GGUF that the new one says itself, or that are no longer so.
const REPLACED: &[&str] =
    &["general.file_type", "general.quantization_version", "general.alignment", "split.no", "split.count"];

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
        let (mut metadata, sources) = match self.gguf() {
            Some(gguf) => (kept(gguf), self.copied(gguf, &mut notes)?),
            None => self.described(&spec, &mut notes)?,
        };
        let quantized = target.dtype.format().block_len > 1;
        metadata.push(("general.file_type".into(), Field::U32(target.file_type)));
        if quantized {
            metadata.push(("general.quantization_version".into(), Field::U32(2)));
        }
        let attn = first_attn(&spec);
        let model = Shape {
            layers: spec.layers.len(),
            heads_per_kv: attn.map_or(1, |a| a.n_heads / a.n_kv_heads.max(1)),
            experts: experts(&spec),
            tied: !sources.iter().any(|(name, _)| name == "output.weight"),
            pure,
        };
        let item = |(name, source): (String, Source)| item(target, &model, name, source);
        let items: Vec<Item> = sources.into_iter().map(item).collect();
        notes.extend(fallbacks(target, &items));
        Ok(Conversion { metadata, items, file: self.path.display().to_string(), notes })
    }

    /// A folder's metadata and tensors as a GGUF has them.
    fn described(&self, spec: &Spec, notes: &mut Vec<String>) -> Result<Described> {
        if matches!(self.packing(), Some(Packing::Fp8 { .. })) {
            return Err(Error::Folder {
                path: self.path.display().to_string(),
                found: "weights that are packed already (quantization_config)".into(),
                expected: "plain ones, to be written as GGUF; this model can be run as it is".into(),
            });
        }
        if self.arch().unwritten {
            return Err(Error::Folder {
                path: self.path.display().to_string(),
                found: format!(
                    "a model of the architecture {}, of which no GGUF can be written yet",
                    spec.arch
                ),
                expected: "another architecture; this model can be run as it is".into(),
            });
        }
        // Whatever is missing, misshapen or unknown keeps it from being loaded too.
        self.load_spec(spec.clone(), hollow::Hollow)?;
        let file = self.path.display().to_string();
        let arch = self.arch();
        let name = arch.gguf_as.map_or(arch.gguf, |name| name(spec));
        let reader = arch::find(&file, name)?;
        if arch.ours || reader.gguf == "mistral" {
            notes.push(format!(
                "GGUF has no architecture for this model: it is written as `{name}`, which influence reads and llama.cpp refuses"
            ));
        }
        let mut sources = place::tensors(self, arch, spec)?;
        sources.extend(
            keys::rope_tensors(spec).into_iter().map(|(name, list)| (name.into(), Source::Made(list))),
        );
        let sources = in_order(sources);
        let tensors = sources.iter().map(|(name, source)| (name.clone(), source.count())).collect();
        let reader = Reader { path: &self.path, arch: reader, tensors };
        let mut said = keys::candidates(spec, name, self.hparams().said());
        said.extend(self.activations(spec)?);
        let said = reader.say(spec, said)?;
        notes.extend(said.own.iter().map(|key| {
            format!("GGUF has no key for {key}: influence reads {name}.{key}, other programs will compute without it")
        }));
        notes.extend(spec.ropes.iter().find_map(|rope| match rope.scaling {
            Scaling::Dynamic { original, .. } => Some(format!(
                "GGUF has no dynamic rope scaling: the file is right for texts of up to {original} tokens"
            )),
            _ => None,
        }));
        let null = Value::Null;
        let config = self.config().unwrap_or(&null);
        let text = |key: &str, value: &str| (format!("general.{key}"), Field::String(value.to_string()));
        let mut fields = vec![
            text("architecture", name),
            text("type", "model"),
            text("name", &model_name(&self.path, config)),
        ];
        let prefixed =
            |key: &str| if key.starts_with("xielu.") { key.to_string() } else { format!("{name}.{key}") };
        fields.extend(said.keys.iter().map(|(key, value)| (prefixed(key), keys::field(key, value))));
        fields.extend(tokens::fields(&self.path, spec, config, notes)?);
        Ok((fields, sources))
    }

    /// The numbers of an activation that each layer has its own of, which a GGUF has in its metadata.
    fn activations(&self, spec: &Spec) -> Result<keys::Keys> {
        let mut out = keys::Keys::new();
        if !spec.layers.iter().any(|l| matches!(l.ffn, Ffn::Mlp { act: Act::Xielu { .. }, .. })) {
            return Ok(out);
        }
        let tensors = self.named_tensors(spec);
        for (part, usual) in [("alpha_p", 0.0), ("alpha_n", 0.0), ("beta", 0.5), ("eps", -1e-6)] {
            let number = |i: usize| {
                let found = tensors.opt_list(&format!("blk.{i}.xielu_{part}"))?;
                Ok(found.and_then(|list| list.first().copied()).unwrap_or(usual))
            };
            let list: Vec<f32> = (0..spec.layers.len()).map(number).collect::<Result<_>>()?;
            out.insert(format!("xielu.{part}"), list.into());
        }
        Ok(out)
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
        Ok(gguf.tensors.values().map(|t| (t.name.clone(), Source::Stored(Stored::of(t)))).collect())
    }
}

/// Metadata and tensors.
type Described = (Vec<(String, Field)>, Vec<(String, Source)>);

/// What the model is called.
fn model_name(path: &Path, config: &Value) -> String {
    let named = config.get("_name_or_path").and_then(Value::as_str).unwrap_or_default();
    let last = named.rsplit('/').next().unwrap_or_default();
    let folder = path.file_name().unwrap_or_default().to_string_lossy();
    if last.is_empty() { folder.into_owned() } else { last.to_string() }
}

/// Experts of a layer.
fn experts(spec: &Spec) -> usize {
    let count = |ffn: &Ffn| if let Ffn::Moe(moe) = ffn { moe.n_experts } else { 0 };
    spec.layers.iter().map(|l| count(&l.ffn)).max().unwrap_or(0)
}

fn first_attn(spec: &Spec) -> Option<&Attn> {
    spec.mixers().find_map(Mixer::cached)
}

/// What a GGUF says of itself, less what is no longer so.
fn kept(gguf: &weights::Gguf) -> Vec<(String, Field)> {
    let own = |key: &str| !REPLACED.contains(&key) && key != "split.tensors.count";
    let fields = gguf.metadata.iter().filter(|(key, _)| own(key));
    fields.map(|(key, value)| (key.to_string(), Field::from(value))).collect()
}

/// As files usually have them: the embedding, the layers by number, the rest.
fn in_order(sources: Vec<(String, Source)>) -> Vec<(String, Source)> {
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
    let mut list = sources;
    list.sort_by_key(|(name, _)| place(name));
    list
}

fn item(target: &Target, model: &Shape, name: String, source: Source) -> Item {
    let shape = source.shape();
    let stored = match &source {
        Source::Stored(stored) => stored.dtype(),
        Source::Made(_) => None,
    };
    let dtype = match stored {
        Some(dtype) if is_integer(dtype) => dtype,
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
            let strange = item.source.write(&item.planned, pool, |bytes, numbers| {
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
