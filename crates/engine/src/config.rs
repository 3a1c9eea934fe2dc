//! What a model's makers say about how to sample from it: generation_config.json.

use serde_json::{Map, Value};

use crate::{EngineError, SamplingParams};

/// The values of generation_config.json that bear on sampling and stopping. What the file does not
/// say is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// `do_sample`: false is greedy.
    pub do_sample: Option<bool>,
    /// `temperature`.
    pub temperature: Option<f32>,
    /// `top_k`.
    pub top_k: Option<usize>,
    /// `top_p`.
    pub top_p: Option<f32>,
    /// `min_p`.
    pub min_p: Option<f32>,
    /// `repetition_penalty`.
    pub repetition_penalty: Option<f32>,
    /// `eos_token_id`: one or several, empty if not given.
    pub eos_token_ids: Vec<u32>,
}

impl GenerationConfig {
    /// Reads the text of a generation_config.json. `file` is its name in errors. Keys that do not bear
    /// on sampling are left alone: they configure features of transformers.
    ///
    /// # Errors
    /// [`EngineError::Config`] for text that is no JSON object and for a value of the wrong type or
    /// outside its range.
    pub fn parse(text: &str, file: &str) -> Result<Self, EngineError> {
        let keys = match serde_json::from_str(text) {
            Ok(Value::Object(keys)) => keys,
            Ok(other) => return Err(wrong(file, "(the file)", &other, "a JSON object")),
            Err(e) => return Err(wrong(file, "(the file)", &e, "JSON")),
        };
        let reader = Reader { keys, file };
        let config = Self {
            do_sample: reader.get("do_sample", "true or false", Value::as_bool)?,
            temperature: reader.number("temperature")?,
            top_k: reader.get("top_k", "a count", |v| usize::try_from(v.as_u64()?).ok())?,
            top_p: reader.number("top_p")?,
            min_p: reader.number("min_p")?,
            repetition_penalty: reader.number("repetition_penalty")?,
            eos_token_ids: reader
                .get("eos_token_id", "a token id or a list of them", ids)?
                .unwrap_or_default(),
        };
        config.params().validate().map_err(|e| in_file(e, file))?;
        Ok(config)
    }

    /// The parameters that the model's makers meant. Where they say nothing of sampling: the defaults
    /// of this program. Where they do, what they leave open is as in transformers (temperature 1,
    /// top_k 50, the rest off).
    pub fn params(&self) -> SamplingParams {
        let mut params = SamplingParams::default();
        let speaks = self.do_sample == Some(true)
            || self.temperature.is_some()
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some();
        if self.do_sample == Some(false) {
            params.temperature = 0.0;
        } else if speaks {
            params.temperature = self.temperature.unwrap_or(1.0);
            params.top_k = self.top_k.unwrap_or(50);
            params.top_p = self.top_p.unwrap_or(1.0);
            params.min_p = self.min_p.unwrap_or(0.0);
        }
        if let Some(penalty) = self.repetition_penalty {
            params.repeat_penalty = penalty;
            // There it looks at all tokens.
            params.repeat_last_n = -1;
        }
        params
    }
}

struct Reader<'a> {
    keys: Map<String, Value>,
    file: &'a str,
}

impl Reader<'_> {
    fn get<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| wrong(self.file, key, value, expected)),
        }
    }

    fn number(&self, key: &'static str) -> Result<Option<f32>, EngineError> {
        self.get(key, "a number", |v| v.as_f64().map(|n| n as f32))
    }
}

fn ids(value: &Value) -> Option<Vec<u32>> {
    let id = |v: &Value| u32::try_from(v.as_u64()?).ok();
    match value {
        Value::Array(list) => list.iter().map(id).collect(),
        single => Some(vec![id(single)?]),
    }
}

fn wrong(file: &str, key: &'static str, found: &impl ToString, expected: &'static str) -> EngineError {
    let found: String = found.to_string().chars().take(80).collect();
    EngineError::Config { file: file.to_owned(), key, found, expected }
}

/// A parameter outside its range is a key of the file here.
fn in_file(error: EngineError, file: &str) -> EngineError {
    match error {
        EngineError::Parameter { name, found, expected } => {
            let key = if name == "repeat_penalty" { "repetition_penalty" } else { name };
            EngineError::Config { file: file.to_owned(), key, found, expected }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> SamplingParams {
        GenerationConfig::parse(text, "generation_config.json").unwrap().params()
    }

    #[test]
    fn a_file_that_says_nothing_of_sampling_leaves_the_defaults() {
        assert_eq!(params(r#"{"eos_token_id": [1, 2], "temperature": null}"#), SamplingParams::default());
        assert_eq!(GenerationConfig::parse(r#"{"eos_token_id": 7}"#, "f").unwrap().eos_token_ids, [7]);
    }

    #[test]
    fn a_file_that_speaks_of_sampling_is_taken_at_its_word() {
        let p = params(r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9}"#);
        assert_eq!((p.temperature, p.top_k, p.top_p, p.min_p), (0.6, 50, 0.9, 0.0));
        let p = params(r#"{"do_sample": false, "temperature": 0.6}"#);
        assert_eq!(p.temperature, 0.0);
        let p = params(r#"{"repetition_penalty": 1.1}"#);
        assert_eq!((p.repeat_penalty, p.repeat_last_n, p.temperature), (1.1, -1, 0.8));
    }

    #[test]
    fn a_broken_file_is_refused_with_its_key() {
        for (text, key) in [
            ("[1]", "(the file)"),
            ("{", "(the file)"),
            (r#"{"temperature": "hot"}"#, "temperature"),
            (r#"{"temperature": -1}"#, "temperature"),
            (r#"{"top_p": 2}"#, "top_p"),
            (r#"{"top_k": -5}"#, "top_k"),
            (r#"{"eos_token_id": [1, -1]}"#, "eos_token_id"),
            (r#"{"eos_token_id": 4294967296}"#, "eos_token_id"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
        ] {
            let message = GenerationConfig::parse(text, "g.json").unwrap_err().to_string();
            assert!(message.contains("g.json") && message.contains(key), "{text}: {message}");
        }
    }
}
