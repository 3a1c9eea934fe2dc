//! The quantizations that a set of GGUF files holds: `Q4_K_M` and its kin, each one file or a split.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};

/// What is taken when nobody says: first the best trade of size and quality, then the nearest to it.
const PREFERRED: [&str; 12] =
    ["Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "IQ4_XS", "MXFP4", "Q5_K_S", "Q6_K", "Q8_0", "BF16", "F16", "F32"];

/// One quantization of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quant {
    /// `Q4_K_M`; the file's stem where its name holds no such word.
    pub name: String,
    /// Its files, the first shard first.
    pub files: Vec<String>,
    /// How many shards its names promise.
    pub shards: usize,
}

/// All quantizations among some files, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Quants(Vec<Quant>);

impl Quants {
    /// Groups the GGUF files among `paths`; projectors (`mmproj`) and importance matrices are no models.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Quants {
        let mut groups: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
        for path in paths {
            let base = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
            if !base.ends_with(".gguf") || base.contains("mmproj") || base.contains("imatrix") {
                continue;
            }
            let (stem, shards) = split_shard(&path[..path.len() - ".gguf".len()]);
            let group = groups.entry(stem.to_owned()).or_insert((shards, Vec::new()));
            group.1.push(path.to_owned());
        }
        let quant = |(stem, (shards, mut files)): (String, (usize, Vec<String>))| {
            files.sort();
            Quant { name: label(&stem), files, shards }
        };
        Quants(groups.into_iter().map(quant).collect())
    }

    /// Whether there is no GGUF file at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The quantizations.
    pub fn iter(&self) -> impl Iterator<Item = &Quant> {
        self.0.iter()
    }

    /// The one called `wanted` (in any case; a file's name will do too), else the preferred one.
    pub fn pick(&self, model: &str, wanted: Option<&str>) -> Result<&Quant> {
        let found = match wanted {
            Some(wanted) => self.0.iter().find(|quant| quant.is(wanted)),
            None => self.default(),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|quant| quant.name.as_str()).collect();
            let has = if names.is_empty() { "no GGUF file".to_owned() } else { names.join(", ") };
            let wanted = wanted.map_or(String::new(), |wanted| format!(" {wanted}"));
            Error::new(Kind::NotFound, format!("{model} has no quantization{wanted}; it has {has}"))
        })
    }

    fn default(&self) -> Option<&Quant> {
        let named = |name: &&str| self.0.iter().find(|quant| quant.name.eq_ignore_ascii_case(name));
        PREFERRED.iter().find_map(named).or(self.0.first())
    }
}

impl Quant {
    fn is(&self, wanted: &str) -> bool {
        let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        let stem = |path: &str| base(path).trim_end_matches(".gguf").to_owned();
        self.name.eq_ignore_ascii_case(wanted) || self.files.iter().any(|file| stem(file) == stem(wanted))
    }
}

/// Takes `-00001-of-00003` off; with it the number of shards (1 where there is no such end).
fn split_shard(stem: &str) -> (&str, usize) {
    let parse = || {
        let (head, total) = stem.rsplit_once("-of-")?;
        let (head, part) = head.rsplit_once('-')?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        (digits(total) && digits(part)).then(|| Some((head, total.parse().ok()?)))?
    };
    parse().unwrap_or((stem, 1))
}

/// The word at the end of `stem` that says how it is quantized, in upper case; else its last part.
fn label(stem: &str) -> String {
    let base = stem.rsplit('/').next().unwrap_or(stem);
    let upper = base.to_ascii_uppercase();
    let starts = upper.char_indices().filter(|(i, _)| *i == 0 || b"-._".contains(&upper.as_bytes()[*i - 1]));
    let found = starts.map(|(i, _)| &upper[i..]).find(|word| is_quant(word));
    found.map_or_else(|| base.to_owned(), str::to_owned)
}

fn is_quant(word: &str) -> bool {
    if ["F16", "F32", "BF16", "FP16", "FP32", "FP8", "MXFP4", "MXFP4_MOE", "NVFP4"].contains(&word) {
        return true;
    }
    let word = word.strip_prefix("UD-").unwrap_or(word);
    let rest = ["IQ", "TQ", "Q"].iter().find_map(|kind| word.strip_prefix(kind)).unwrap_or("");
    let mut parts = rest.split('_');
    let bits = parts.next().is_some_and(|bits| bits.len() == 1 && bits.bytes().all(|b| b.is_ascii_digit()));
    bits && parts
        .all(|part| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_spelling() {
        for (file, name) in [
            ("tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", "Q4_K_M"),
            ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
            ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
            ("m-IQ2_XXS.gguf", "IQ2_XXS"),
            ("m_q8_0.gguf", "Q8_0"),
            ("m-BF16-00001-of-00002.gguf", "BF16"),
            ("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", "Q4_K_M"),
            ("Q8_0.gguf", "Q8_0"),
            ("ggml-model-f16.gguf", "F16"),
            ("strange.gguf", "strange"),
            ("é-Q4_0.gguf", "Q4_0"),
        ] {
            assert_eq!(Quants::of([file]).0[0].name, name, "{file}");
        }
    }

    #[test]
    fn shards_are_one_quantization_and_others_stay_apart() {
        let files = [
            "m-Q8_0-00002-of-00002.gguf",
            "m-Q8_0-00001-of-00002.gguf",
            "m-Q4_0.gguf",
            "mmproj-m-f16.gguf",
            "x",
        ];
        let quants = Quants::of(files);
        assert_eq!(quants.iter().count(), 2);
        let picked = quants.pick("a/b", Some("q8_0")).unwrap();
        assert_eq!((picked.files[0].as_str(), picked.shards), ("m-Q8_0-00001-of-00002.gguf", 2));
        assert_eq!(quants.pick("a/b", None).unwrap().name, "Q4_0");
        assert_eq!(quants.pick("a/b", Some("m-Q4_0")).unwrap().name, "Q4_0");
        let error = quants.pick("a/b", Some("Q2_K")).unwrap_err().to_string();
        assert!(error.contains("Q2_K") && error.contains("Q4_0, Q8_0"), "{error}");
    }
}
