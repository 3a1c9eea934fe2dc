//! Rotary position embeddings: which angle each pair of numbers of a head turns by.
//!
//! `arch.rs` reads a [`Rope`] from the hyperparameters; at each step `decoder.rs` asks it for the
//! cosines and sines of the batch's positions. Nothing is tabulated up to the context's length, so a
//! context of any size costs nothing.
//! Rotary embeddings: Su et al. 2021, arXiv:2104.09864.

use crate::batch::Batch;

/// One rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Numbers of a head that turn (even); the rest pass unchanged.
    pub dim: usize,
    /// Base of the frequencies: pair `i` turns by `theta^(-2i/dim)` a position.
    pub theta: f32,
    /// Pairs are neighbours (2i, 2i+1) rather than (i, i + dim/2).
    pub interleaved: bool,
    /// How the frequencies are bent for long contexts.
    pub scaling: Scaling,
}

/// How frequencies are bent for contexts longer than those trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All divided by `factor` (Chen et al. 2023, arXiv:2306.15595).
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Base grown with the length in use (NTK-aware, as in transformers' `dynamic`).
    Dynamic {
        /// Growth.
        factor: f32,
        /// Length up to which nothing changes.
        original: usize,
    },
    /// Low frequencies divided, high ones kept, a smooth band between (Llama 3.1).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f32,
        /// Wavelengths over `original / low` are low frequencies.
        low: f32,
        /// Wavelengths under `original / high` are high frequencies.
        high: f32,
        /// Length of the first training.
        original: usize,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn(Yarn),
    /// A divisor per pair, one set up to `original` tokens and one beyond (LongRoPE, Ding et al. 2024,
    /// arXiv:2402.13753).
    LongRope {
        /// Divisors for lengths up to `original`.
        short: Vec<f32>,
        /// Divisors beyond.
        long: Vec<f32>,
        /// Length of the first training.
        original: usize,
        /// Factor on cosines and sines.
        attention_factor: f32,
    },
    /// A divisor per pair that the file brings as a tensor (`rope_freqs.weight`).
    Factors(Vec<f32>),
    /// Only the first pairs turn, by frequencies of the whole head divided by `factor` (Gemma 4).
    Proportional {
        /// How many.
        pairs: usize,
        /// The divisor.
        factor: f32,
    },
}

/// Parameters of YaRN.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// The divisor of low frequencies.
    pub factor: f32,
    /// Length of the first training.
    pub original: usize,
    /// Pairs that turn more often than this over `original` keep their frequency.
    pub beta_fast: f32,
    /// Pairs that turn less often than this are divided.
    pub beta_slow: f32,
    /// Whether the band's ends are rounded outward to whole pairs.
    pub truncate: bool,
    /// Factor on cosines and sines.
    pub attention_factor: f32,
}

/// Cosines and sines of one batch, each row-major `[rows, pairs]`, scaled by the attention factor.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Half of [`Rope::dim`].
    pub pairs: usize,
    /// See [`Rope::interleaved`].
    pub interleaved: bool,
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

impl Rope {
    /// An unscaled rope of the usual pairing.
    pub fn plain(dim: usize, theta: f32) -> Rope {
        Rope { dim, theta, interleaved: false, scaling: Scaling::None }
    }

    /// See [`crate::Spec::rope_regime`].
    pub fn regime(&self, length: usize) -> u64 {
        match &self.scaling {
            Scaling::Dynamic { original, .. } if length > *original => length as u64,
            Scaling::LongRope { original, .. } if length > *original => 1,
            _ => 0,
        }
    }

    /// Whether divisors are called for that have not been put in yet.
    pub(crate) fn lacks_divisors(&self) -> bool {
        match &self.scaling {
            Scaling::LongRope { short, long, .. } => short.is_empty() || long.is_empty(),
            Scaling::Factors(divisors) => divisors.is_empty(),
            _ => false,
        }
    }

    /// The angle per position of each pair for a sequence of `length` tokens, and the factor on
    /// cosines and sines.
    pub fn frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let plain = self.inverse(self.theta as f64);
        match &self.scaling {
            Scaling::None => (plain, 1.0),
            Scaling::Linear { factor } => (plain.iter().map(|f| f / factor).collect(), 1.0),
            Scaling::Dynamic { factor, original } => (self.dynamic(*factor, *original, length), 1.0),
            Scaling::Llama3 { factor, low, high, original } => {
                (plain.iter().map(|&f| llama3(f, *factor, *low, *high, *original as f32)).collect(), 1.0)
            }
            Scaling::Yarn(yarn) => (self.yarn(&plain, yarn), yarn.attention_factor),
            Scaling::LongRope { short, long, original, attention_factor } => {
                let divisors = if length > *original { long } else { short };
                (divide(&plain, divisors), *attention_factor)
            }
            Scaling::Factors(divisors) => (divide(&plain, divisors), 1.0),
            Scaling::Proportional { pairs, factor } => {
                let turned = plain.iter().enumerate();
                (turned.map(|(i, f)| if i < *pairs { f / factor } else { 0.0 }).collect(), 1.0)
            }
        }
    }

    fn inverse(&self, theta: f64) -> Vec<f32> {
        let dim = self.dim as f64;
        (0..self.dim / 2).map(|i| theta.powf(-2.0 * i as f64 / dim) as f32).collect()
    }

    fn dynamic(&self, factor: f32, original: usize, length: usize) -> Vec<f32> {
        let (dim, factor) = (self.dim as f64, factor as f64);
        let stretch = length.max(original) as f64 / original as f64;
        let grown = factor * stretch - (factor - 1.0);
        self.inverse(self.theta as f64 * grown.powf(dim / (dim - 2.0)))
    }

    fn yarn(&self, plain: &[f32], yarn: &Yarn) -> Vec<f32> {
        let (dim, theta) = (self.dim as f64, self.theta as f64);
        // The pair that turns `turns` times over the original length.
        let pair = |turns: f32| {
            let ratio = yarn.original as f64 / (turns as f64 * 2.0 * std::f64::consts::PI);
            dim * ratio.ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (pair(yarn.beta_fast), pair(yarn.beta_slow));
        if yarn.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(i, &f): (usize, &f32)| {
            let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32;
            f / yarn.factor * ramp + f * (1.0 - ramp)
        };
        plain.iter().enumerate().map(blend).collect()
    }

    /// The rotation of every row of the batch.
    pub fn rotation(&self, batch: &Batch) -> Rotation {
        let pairs = self.dim / 2;
        let mut cos = Vec::with_capacity(batch.tokens.len() * pairs);
        let mut sin = Vec::with_capacity(batch.tokens.len() * pairs);
        for span in &batch.spans {
            let (frequencies, factor) = self.frequencies(span.length);
            for &position in &batch.positions[span.start..span.start + span.len] {
                for f in &frequencies {
                    let angle = position as f32 * f;
                    cos.push(angle.cos() * factor);
                    sin.push(angle.sin() * factor);
                }
            }
        }
        Rotation { pairs, interleaved: self.interleaved, cos, sin }
    }
}

fn divide(plain: &[f32], divisors: &[f32]) -> Vec<f32> {
    plain.iter().zip(divisors).map(|(f, d)| f / d).collect()
}

fn llama3(frequency: f32, factor: f32, low: f32, high: f32, original: f32) -> f32 {
    let wavelength = 2.0 * std::f32::consts::PI / frequency;
    if wavelength > original / low {
        frequency / factor
    } else if wavelength < original / high || high == low {
        frequency
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// YaRN's default factor on cosines and sines, `0.1 m ln(scale) + 1`.
pub fn yarn_mscale(scale: f32, m: f32) -> f32 {
    if scale <= 1.0 { 1.0 } else { 0.1 * m * scale.ln() + 1.0 }
}
