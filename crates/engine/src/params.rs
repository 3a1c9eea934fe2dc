//! What a request may say about the choice of tokens: one field per sampler of `chain.rs`.

use crate::EngineError;

/// Parameters of all samplers. The default is what llama.cpp takes where nothing else is said.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Logits are divided by it; 0 is greedy. `>= 0`.
    pub temperature: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest tokens that together reach this probability; 1 keeps all. `0..=1`.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all. `0..=1`.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 is none. `> 0`.
    pub repeat_penalty: f32,
    /// How many recent tokens the three penalties look at; 0 is none, -1 all. `>= -1`.
    pub repeat_last_n: i64,
    /// Taken from the logit of every recent token; 0 is none.
    pub presence_penalty: f32,
    /// Taken from the logit of a recent token once per occurrence; 0 is none.
    pub frequency_penalty: f32,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
        }
    }
}

/// The values that a parameter may have.
struct Range {
    name: &'static str,
    expected: &'static str,
    value: f64,
    allowed: fn(f64) -> bool,
}

impl SamplingParams {
    /// The likeliest token every time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Every sampler off: draws from the model's own distribution.
    pub fn neutral() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Self::default() }
    }

    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] with the first one that lies outside.
    pub fn validate(&self) -> Result<(), EngineError> {
        match self.ranges().into_iter().find(|r| !(r.allowed)(r.value)) {
            None => Ok(()),
            Some(Range { name, expected, value, .. }) => {
                Err(EngineError::Parameter { name, found: value.to_string(), expected })
            }
        }
    }

    fn ranges(&self) -> [Range; 7] {
        let unit = "a number from 0 to 1";
        let finite = "a finite number";
        let row =
            |name, value: f32, expected, allowed| Range { name, expected, value: value.into(), allowed };
        [
            row("temperature", self.temperature, "a number of at least 0", |v| v >= 0.0 && v.is_finite()),
            row("top_p", self.top_p, unit, |v| (0.0..=1.0).contains(&v)),
            row("min_p", self.min_p, unit, |v| (0.0..=1.0).contains(&v)),
            row("repeat_penalty", self.repeat_penalty, "a number above 0", |v| v > 0.0 && v.is_finite()),
            row("presence_penalty", self.presence_penalty, finite, f64::is_finite),
            row("frequency_penalty", self.frequency_penalty, finite, f64::is_finite),
            Range {
                name: "repeat_last_n",
                expected: "-1 (all), 0 (none) or a count",
                value: self.repeat_last_n as f64,
                allowed: |v| v >= -1.0,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_outside_their_range_are_named() {
        let ok = SamplingParams::default();
        assert!(ok.validate().is_ok());
        let cases: [(SamplingParams, &str); 7] = [
            (SamplingParams { temperature: -1.0, ..ok.clone() }, "temperature"),
            (SamplingParams { temperature: f32::NAN, ..ok.clone() }, "temperature"),
            (SamplingParams { top_p: 1.5, ..ok.clone() }, "top_p"),
            (SamplingParams { min_p: -0.1, ..ok.clone() }, "min_p"),
            (SamplingParams { repeat_penalty: 0.0, ..ok.clone() }, "repeat_penalty"),
            (SamplingParams { presence_penalty: f32::INFINITY, ..ok.clone() }, "presence_penalty"),
            (SamplingParams { repeat_last_n: -2, ..ok.clone() }, "repeat_last_n"),
        ];
        for (params, name) in cases {
            let message = params.validate().unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("expected"), "{message}");
        }
    }
}
