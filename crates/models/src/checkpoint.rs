//! A model on disk: opens the path, finds out which architecture it is, and reads its [`Spec`].
//!
//! The first room of this crate that a path enters; `load.rs` goes on from here with the weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weights::{Array, Gguf, Safetensors, read_json};

use crate::arch::{self, Arch};
use crate::hparams::Hparams;
use crate::packed::{self, Packing};
use crate::spec::Spec;
use crate::tensors::Tensors;
use crate::{Error, Result, pooling};

/// See [`Checkpoint::is_small`].
const EXACT_NUMBERS: usize = 4 << 20;

/// The largest config.json have a few megabytes (names of classes); parsed, a file may take fifty times its size.
const MAX_CONFIG: u64 = 16 << 20;
/// No hyperparameter is a longer list.
const MAX_LIST: usize = 1 << 18;

/// A model on disk, opened and named, its weights not yet touched.
pub struct Checkpoint {
    /// The folder or the GGUF file.
    pub path: PathBuf,
    arch: &'static Arch,
    files: Files,
}

enum Files {
    Gguf(Box<Gguf>),
    Folder { config: Value, packing: Option<Packing>, weights: Option<Box<Safetensors>> },
}

impl Checkpoint {
    /// Opens a folder as the Hub has it (config.json and safetensors, or one GGUF), or a `.gguf` file.
    ///
    /// # Errors
    /// Whatever keeps the path from being a supported model, by name.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let path = &find_model(path)?;
        if !path.is_dir() {
            return Checkpoint::open_gguf(path);
        }
        let mut checkpoint = Checkpoint::open_config(&path.join("config.json"))?;
        if let Files::Folder { weights, .. } = &mut checkpoint.files {
            *weights = Some(Box::new(Safetensors::open_folder(path)?));
        }
        Ok(Checkpoint { path: path.clone(), ..checkpoint })
    }

    fn open_gguf(path: &Path) -> Result<Checkpoint> {
        let gguf = Gguf::open(path)?;
        let arch = arch::find(&path.display().to_string(), gguf.architecture()?)?;
        Ok(Checkpoint { path: path.to_path_buf(), arch, files: Files::Gguf(Box::new(gguf)) })
    }

    /// Opens a config.json alone: enough for [`Checkpoint::spec`], not for loading.
    pub fn open_config(file: &Path) -> Result<Checkpoint> {
        let config = read_json(file, MAX_CONFIG)?;
        let name = architecture(file, &config)?;
        let arch = arch::find(&file.display().to_string(), &name)?;
        let packing = Packing::read(file, &name, &config)?;
        let files = Files::Folder { config, packing, weights: None };
        Ok(Checkpoint { path: file.to_path_buf(), arch, files })
    }

    /// What people call models of its architecture.
    pub fn title(&self) -> &'static str {
        self.arch.title
    }

    /// The GGUF, if it is one: its metadata holds the tokenizer and the template.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.files {
            Files::Gguf(gguf) => Some(gguf),
            Files::Folder { .. } => None,
        }
    }

    /// The parsed config.json, if it is a folder.
    pub fn config(&self) -> Option<&Value> {
        match &self.files {
            Files::Gguf(_) => None,
            Files::Folder { config, .. } => Some(config),
        }
    }

    /// The files that hold the weights.
    pub fn weight_files(&self) -> &[PathBuf] {
        match &self.files {
            Files::Gguf(gguf) => &gguf.files,
            Files::Folder { weights: Some(weights), .. } => &weights.files,
            Files::Folder { weights: None, .. } => &[],
        }
    }

    /// Every stored tensor, by the name that its file gives it.
    pub fn tensors(&self) -> impl Iterator<Item = &weights::Tensor> {
        let (map, packed) = match &self.files {
            Files::Gguf(gguf) => (Some(&gguf.tensors), None),
            Files::Folder { weights, .. } => {
                (weights.as_ref().map(|w| &w.tensors), weights.as_ref().map(|w| &w.packed))
            }
        };
        map.into_iter().chain(packed).flat_map(|m| m.values())
    }

    /// What the model is.
    ///
    /// # Errors
    /// A hyperparameter that is missing, impossible, or that nothing here reads.
    pub fn spec(&self) -> Result<Spec> {
        let hparams = self.hparams();
        let mut spec = (self.arch.build)(&hparams)?;
        if hparams.is_gguf() && self.arch.gguf_interleaved {
            arch::interleave(&mut spec.ropes);
        }
        match &self.files {
            Files::Gguf(_) => {
                let said = pooling::of_gguf(&hparams, spec.classifier.is_some())?;
                spec.embedding = said.or(spec.embedding);
            }
            Files::Folder { .. } if self.path.is_dir() => {
                spec.embedding = pooling::of_folder(&self.path)?.or(spec.embedding);
                spec.context = pooling::longest(&self.path)?.map_or(spec.context, |n| n.min(spec.context));
            }
            Files::Folder { .. } => {}
        }
        hparams.finish()?;
        Ok(spec)
    }

    /// The row of its architecture.
    pub(crate) fn arch(&self) -> &'static Arch {
        self.arch
    }

    pub(crate) fn hparams(&self) -> Hparams {
        match &self.files {
            Files::Gguf(gguf) => gguf_hparams(gguf, self.arch),
            Files::Folder { config, .. } => {
                let file = if self.path.is_dir() { self.path.join("config.json") } else { self.path.clone() };
                let class = architecture(&file, config).unwrap_or_default();
                Hparams::from_config(&file, &class, &text_settings(config, self.arch))
            }
        }
    }

    /// Whether norm weights lie in the file less one.
    pub(crate) fn norm_less_one(&self) -> bool {
        self.arch.norm_less_one && self.gguf().is_none()
    }

    /// The tensors under GGUF's names. A name that no row translates stays as it is, and is refused as
    /// unread later unless it is known to be harmless.
    pub(crate) fn named_tensors(&self, spec: &Spec) -> Tensors {
        let (map, unreadable) = match &self.files {
            Files::Gguf(gguf) => {
                let ours = |name: &str| Some(arch::own_name(name, self.arch.gguf_names));
                (renamed(&gguf.tensors, ours), renamed(&gguf.unreadable, ours))
            }
            Files::Folder { weights: None, .. } => Default::default(),
            Files::Folder { weights: Some(weights), .. } => {
                let ours = |hub: &str| self.own_name(hub);
                (renamed(&weights.tensors, ours), renamed(&weights.unreadable, ours))
            }
        };
        let file = self.path.display().to_string();
        let edit = self.arch.edit.filter(|_| self.gguf().is_none()).map(|edit| {
            let spec = spec.clone();
            Box::new(move |name: &str, tensor| edit(&spec, name, tensor)) as Box<crate::tensors::Edit>
        });
        let (packing, exact) = (self.packing().cloned(), self.is_small());
        Tensors::new(file, self.arch.gguf, map, unreadable, edit).with_packed(self.packed(), packing, exact)
    }

    pub(crate) fn packing(&self) -> Option<&Packing> {
        match &self.files {
            Files::Folder { packing, .. } => packing.as_ref(),
            Files::Gguf(_) => None,
        }
    }

    /// Models of so few numbers stay in a core's cache even as f32: they are computed exactly, since it costs next to nothing.
    pub(crate) fn is_small(&self) -> bool {
        self.tensors().map(weights::Tensor::elements).sum::<usize>() <= EXACT_NUMBERS
    }

    /// Bytes of packed numbers, by the names used here.
    fn packed(&self) -> BTreeMap<String, weights::Tensor> {
        match &self.files {
            Files::Folder { weights: Some(weights), .. } => {
                renamed(&weights.packed, |hub| self.own_name(hub))
            }
            _ => BTreeMap::new(),
        }
    }

    /// What a tensor of the Hub is called here; nothing for what is no part of the text model.
    fn own_name(&self, hub: &str) -> Option<String> {
        let inside = hub.strip_prefix("model.").unwrap_or(hub);
        let packing = self.packing();
        let aside = self.arch.aside.iter().any(|start| inside.starts_with(start));
        if aside || packing.is_some_and(|p| p.aside(hub)) {
            return None;
        }
        let own = |hub: &str| weights::gguf_name(hub, self.arch.names);
        let beside = packing.and_then(|_| packed::beside(hub, own));
        Some(beside.or_else(|| own(hub)).unwrap_or_else(|| hub.to_string()))
    }
}

fn renamed<T: Clone>(
    map: &BTreeMap<String, T>,
    ours: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, T> {
    map.iter().filter_map(|(name, tensor)| Some((ours(name)?, tensor.clone()))).collect()
}

/// Settings of the parts of a model that are not its text model, beside `text_config`.
const OTHER_SENSES: &[&str] = &[
    "audio_config",
    "audio_soft_tokens_per_image",
    "audio_token_id",
    "boa_token_id",
    "boa_token_index",
    "boi_token_id",
    "boi_token_index",
    "eoa_token_id",
    "eoa_token_index",
    "eoi_token_id",
    "eoi_token_index",
    "image_token_id",
    "image_token_index",
    "mm_tokens_per_image",
    "multimodal_projector_bias",
    "projector_hidden_act",
    "spatial_merge_size",
    "video_token_id",
    "vision_config",
    "vision_feature_layer",
    "vision_soft_tokens_per_image",
];

/// The settings of the text model, with what the class itself knows. In a model that takes images too they lie inside,
/// and what stands beside them counts where they are silent.
fn text_settings(config: &Value, arch: &Arch) -> Value {
    let mut fields = config.as_object().cloned().unwrap_or_default();
    if let Some(Value::Object(text)) = fields.remove("text_config") {
        fields.retain(|key, _| !OTHER_SENSES.contains(&key.as_str()));
        fields.extend(text);
    }
    for &(key, value) in arch.defaults {
        fields.entry(key).or_insert(value.into());
    }
    Value::Object(fields)
}

/// A folder without config.json that holds one GGUF stands for that file.
fn find_model(path: &Path) -> Result<PathBuf> {
    let folder = |found: String, expected: &str| Error::Folder {
        path: path.display().to_string(),
        found,
        expected: expected.to_string(),
    };
    if !path.exists() {
        return Err(folder(
            "nothing".into(),
            "a model folder or a .gguf file; `influence list` shows those here",
        ));
    }
    if !path.is_dir() || path.join("config.json").exists() {
        return Ok(path.to_path_buf());
    }
    let mut ggufs = first_ggufs(path);
    match ggufs.len() {
        1 => Ok(ggufs.remove(0)),
        0 => Err(folder("neither config.json nor a .gguf file".into(), "a model folder as the Hub has it")),
        n => {
            let names: Vec<_> = ggufs.iter().filter_map(|p| p.file_name()?.to_str()).collect();
            Err(folder(format!("{n} models: {}", names.join(", ")), "one; name the file that is wanted"))
        }
    }
}

/// The GGUF files of a folder, of split ones the first.
fn first_ggufs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let later_part = |name: &str| name.contains("-of-") && !name.contains("-00001-of-");
    let model = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.ends_with(".gguf") && !later_part(name) && !name.starts_with("mmproj")
    };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).filter(model).collect();
    paths.sort();
    paths
}

/// The class that config.json names.
fn architecture(file: &Path, config: &Value) -> Result<String> {
    let class = config.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
    let kind = config.get("model_type").and_then(Value::as_str);
    class.or(kind).map(str::to_string).ok_or_else(|| Error::Hparam {
        file: file.display().to_string(),
        arch: "unnamed architecture".into(),
        key: "architectures".into(),
        found: config.get("architectures").map_or("nothing".into(), Value::to_string),
        expected: "a list with the model's class name, such as [\"LlamaForCausalLM\"]".into(),
    })
}

/// GGUF metadata under the architecture's prefix, as plain values.
fn gguf_hparams(gguf: &Gguf, arch: &Arch) -> Hparams {
    let prefix = format!("{}.", arch.gguf);
    let own = |(key, value): (&str, &weights::Value)| {
        // Apertus's activation stands beside the architecture's own keys.
        let inside = key.strip_prefix(&prefix).or(Some(key).filter(|k| k.starts_with("xielu.")))?;
        Some((inside.to_string(), plain(value)))
    };
    let mut fields: BTreeMap<String, Value> = gguf.metadata.iter().filter_map(own).collect();
    // Older files leave the vocabulary's size to the embedding's shape.
    let table = gguf.tensors.get("token_embd.weight").and_then(|table| table.shape.first());
    if let Some(&rows) = table.filter(|_| !fields.contains_key("vocab_size")) {
        fields.insert("vocab_size".into(), rows.into());
    }
    let rows = gguf.tensors.iter().map(|(name, t)| (name.clone(), t.shape.first().copied().unwrap_or(0)));
    Hparams::from_gguf(&gguf.path, arch.gguf, fields).beside(rows)
}

fn plain(value: &weights::Value) -> Value {
    match value {
        weights::Value::Bool(b) => (*b).into(),
        weights::Value::Unsigned(n) => (*n).into(),
        weights::Value::Signed(n) => (*n).into(),
        weights::Value::Float(f) => (*f).into(),
        weights::Value::String(s) => s.as_str().into(),
        weights::Value::Array(array) => list(array),
    }
}

/// A list, if it can be one of hyperparameters: a value takes 32 bytes here, in the file perhaps one.
fn list(array: &Array) -> Value {
    if array.len() > MAX_LIST {
        return format!("{array:?}").into();
    }
    (0..array.len()).filter_map(|i| array.get(i)).map(|v| plain(&v)).collect()
}
