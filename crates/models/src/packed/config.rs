//! Which packing `quantization_config` names. What it says that is not understood is refused by name.

use std::path::Path;

use serde_json::{Map, Value};

use super::Packing;
use crate::{Error, Result};

/// What says what was left plain (the tensors show it), and how activations are to be rounded.
const IGNORED: &[&str] = &["quant_method", "activation_scheme", "modules_to_not_convert", "scale_fmt"];

/// A config.json's `quantization_config`, in reading.
struct Reading<'a> {
    file: &'a Path,
    arch: &'a str,
    fields: &'a Map<String, Value>,
}

impl Packing {
    /// The packing of a config.json, if it names one.
    ///
    /// # Errors
    /// One that is not read here, or that is said in words that are not known.
    pub fn read(file: &Path, arch: &str, config: &Value) -> Result<Option<Packing>> {
        let inner = config.get("text_config").and_then(|t| t.get("quantization_config"));
        let found = config.get("quantization_config").or(inner);
        let Some(found) = found.filter(|q| !q.is_null()) else { return Ok(None) };
        let empty = Map::new();
        let fields = found.as_object().unwrap_or(&empty);
        let reading = Reading { file, arch, fields };
        match (reading.word("quant_method"), reading.word("quant_algo")) {
            // Blocks with exponents beside them.
            (Some("mxfp4"), _) => Ok(Some(Packing::Mxfp4)),
            (Some("fp8"), None) => reading.fp8().map(Some),
            (_, algo) => {
                let key = if algo.is_some() { "quant_algo" } else { "quant_method" };
                let found = fields.get(key).map_or_else(|| found.to_string(), Value::to_string);
                let expected =
                    "fp8, mxfp4, or none: take the model's unquantized safetensors or a GGUF of it";
                Err(reading.bad(key, &found, expected))
            }
        }
    }
}

impl Reading<'_> {
    fn word(&self, key: &str) -> Option<&str> {
        self.fields.get(key).and_then(Value::as_str)
    }

    fn bad(&self, key: &str, found: &str, expected: &str) -> Error {
        Error::Hparam {
            file: self.file.display().to_string(),
            arch: self.arch.to_string(),
            key: format!("quantization_config.{key}"),
            found: found.chars().take(200).collect(),
            expected: expected.to_string(),
        }
    }

    /// An error unless `key` is one of these words, or absent.
    fn one_of(&self, key: &str, words: &[&str]) -> Result<()> {
        match self.fields.get(key) {
            Some(found) if !found.is_null() && !found.as_str().is_some_and(|w| words.contains(&w)) => {
                Err(self.bad(key, &found.to_string(), &words.join(" or ")))
            }
            _ => Ok(()),
        }
    }

    /// An error if there is a key that neither `known` nor [`IGNORED`] names.
    fn nothing_but(&self, known: &[&str]) -> Result<()> {
        let odd = |key: &&String| !known.contains(&key.as_str()) && !IGNORED.contains(&key.as_str());
        match self.fields.keys().find(odd) {
            Some(key) => {
                let found = self.fields.get(key).map_or_else(String::new, Value::to_string);
                Err(self.bad(key, &found, "nothing: this key is not understood"))
            }
            None => Ok(()),
        }
    }

    /// Two sizes over 0, if any are said.
    fn block(&self, key: &str, value: Option<&Value>) -> Result<Option<[usize; 2]>> {
        let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(None) };
        let size =
            |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..1 << 24).contains(n));
        match value.as_array().map(Vec::as_slice) {
            Some([rows, columns]) if size(rows).is_some() && size(columns).is_some() => {
                Ok(size(rows).zip(size(columns)).map(|(r, c)| [r, c]))
            }
            _ => Err(self.bad(key, &value.to_string(), "two numbers of rows and columns")),
        }
    }

    /// As DeepSeek V3, Qwen and MiniMax publish it.
    fn fp8(&self) -> Result<Packing> {
        self.nothing_but(&["fmt", "weight_block_size"])?;
        self.one_of("fmt", &["e4m3", "float8_e4m3fn"])?;
        let block = self.block("weight_block_size", self.fields.get("weight_block_size"))?;
        Ok(Packing::Fp8 { block })
    }
}
