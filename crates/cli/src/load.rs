//! Which model, and where it is computed: the flags that every verb shares that runs one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use engine::LoadOptions;
use models::Target;

use crate::quantize::target;
use crate::terminal::spelled;
use crate::{quantized, shipped};

/// Which model, and how it is run
#[derive(Args, Debug)]
pub struct ModelArgs {
    /// The model's folder or .gguf file [default: the small model that ships with influence]
    #[arg(long, value_name = "PATH", conflicts_with = "model")]
    pub model_path: Option<PathBuf>,
    /// ORG/MODEL[:QUANT][@REVISION] that was downloaded, a name from `influence list`, or a path
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What computes
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// Threads that compute [default: physical cores, within affinity and cgroup quota]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// How the weights are kept
    #[command(flatten)]
    pub numbers: NumberArgs,
    /// Tokens of context [default: the model's own, or what fits into memory]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    pub ctx_size: Option<usize>,
}

/// In which numbers a model is kept in memory
#[derive(Args, Clone, Debug)]
pub struct NumberArgs {
    /// Quantize the weights to TYPE (q4_k_m, q6_k, q8_0, q4_0, ...); the result is kept for the next start
    #[arg(long, value_name = "TYPE", value_parser = target)]
    pub quant: Option<&'static Target>,
    /// What keys and values are stored as [default: f16, or f32 where the weights are]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub kv_type: Option<Kv>,
}

/// What keys and values are stored as.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kv {
    /// Four bytes a number, exact
    F32,
    /// Two bytes
    F16,
    /// One byte, and a scale for each 32 numbers
    #[value(name = "q8_0")]
    Q8,
}

impl From<Kv> for engine::KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F32 => Self::F32,
            Kv::F16 => Self::F16,
            Kv::Q8 => Self::Q8,
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The processor
    Cpu,
    /// The processor, by the slow reference that the fast kernels are checked against
    Candle,
    /// The first NVIDIA GPU (builds with the feature cuda)
    Cuda,
    /// The first Apple GPU (builds with the feature metal)
    Metal,
}

impl From<Device> for engine::Device {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Candle => Self::Candle,
            Device::Cuda => Self::Cuda,
            Device::Metal => Self::Metal,
        }
    }
}

impl NumberArgs {
    /// The file with the weights in the type that --quant asks for, if it does.
    ///
    /// # Errors
    /// As [`quantized::weights`].
    pub fn weights(&self, path: &Path, threads: Option<u16>) -> Result<Option<PathBuf>> {
        self.quant.map(|target| quantized::weights(path, target, threads)).transpose()
    }
}

/// A model ready for requests, and what to call it.
pub type Loaded = engine::Loaded;

/// The path that the flags name.
///
/// # Errors
/// A model that is not here, with what to do about it.
pub fn resolve(model_path: Option<&Path>, model: Option<&str>) -> Result<PathBuf> {
    match (model_path, model) {
        (Some(path), _) if path.exists() => Ok(path.to_path_buf()),
        (Some(path), _) => {
            let message = format!(
                "{}: there is no such folder or file; `influence list` shows the models here, `influence download` fetches one",
                path.display()
            );
            Err(hub::Error::new(hub::Kind::NotFound, message).into())
        }
        (None, Some(shipped::NAME)) | (None, None) => shipped::path(),
        (None, Some(name)) => Ok(hub::Store::new(&hub::Config::from_env()?).resolve(name)?),
    }
}

/// Loads the model that the flags name; what is odd about it is said on stderr.
///
/// # Errors
/// Whatever stands in the way, by file and key.
pub fn load(args: &ModelArgs) -> Result<Loaded> {
    if args.numbers.kv_type.is_some() && args.device != Device::Cpu {
        let message = "--kv-type: only --device cpu has a choice\n";
        return Err(clap::Error::raw(ErrorKind::ArgumentConflict, message).into());
    }
    let path = resolve(args.model_path.as_deref(), args.model.as_deref())?;
    let options = LoadOptions {
        device: args.device.into(),
        threads: args.threads.map(usize::from),
        kv: args.numbers.kv_type.map(engine::KvType::from),
        weights: args.numbers.weights(&path, args.threads)?,
    };
    let loaded = engine::load(&path, &options)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {}", spelled(warning));
    }
    Ok(loaded)
}
