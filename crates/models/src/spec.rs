//! What a decoder is, as plain data. Everything that tells one architecture from another is a value
//! here; the decoder reads it and never asks for a name.
//!
//! `arch.rs` builds it from hyperparameters, `load.rs` fetches the tensors it calls for, `decoder.rs`
//! runs it.

use crate::rope::Rope;

/// A whole decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Name of the row of the architecture table, for people to read.
    pub arch: &'static str,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of token ids.
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Factor on the embeddings.
    pub embed_scale: f32,
    /// Factor on the logits.
    pub logit_scale: f32,
    /// `cap * tanh(logits / cap)`, after the factor.
    pub logit_softcap: Option<f32>,
    /// The norm that all norms of the residual stream are.
    pub norm: Norm,
    /// Whether the file has to bring an output matrix (`Some(false)`), has to do without
    /// (`Some(true)`), or shows it by bringing one (`None`).
    pub tied: Option<bool>,
    /// The distinct rotary embeddings; layers name theirs by index.
    pub ropes: Vec<Rope>,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
}

/// A normalisation without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Root mean square, or mean and variance.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
}

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight` (Zhang & Sennrich 2019, arXiv:1910.07467).
    Rms,
    /// `(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al. 2016, arXiv:1607.06450).
    Layer,
}

/// One layer: a mixer over positions and a feed-forward, each inside the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What mixes positions.
    pub mixer: Mixer,
    /// What each position does alone.
    pub ffn: Ffn,
    /// Which norms stand where.
    pub norms: Norms,
    /// Both branches read the same input (GPT-J style) rather than one after the other.
    pub parallel: bool,
    /// Factor on what each branch adds to the stream.
    pub residual_scale: f32,
}

/// Which of the four norms a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norms {
    /// Before the mixer (`attn_norm`).
    pub before_mixer: bool,
    /// After the mixer, before the sum (`post_attention_norm`).
    pub after_mixer: bool,
    /// Before the feed-forward (`ffn_norm`).
    pub before_ffn: bool,
    /// After the feed-forward, before the sum (`post_ffw_norm`).
    pub after_ffn: bool,
}

impl Norms {
    /// The usual two: each branch reads a normalised stream.
    pub const PRE: Norms =
        Norms { before_mixer: true, after_mixer: false, before_ffn: true, after_ffn: false };
    /// All four (Gemma 2).
    pub const BOTH: Norms =
        Norms { before_mixer: true, after_mixer: true, before_ffn: true, after_ffn: true };
}

/// What mixes positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Softmax attention.
    Attn(Attn),
}

/// Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245).
#[derive(Clone, Debug, PartialEq)]
pub struct Attn {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// A position sees itself and the `window - 1` before it.
    pub window: Option<usize>,
    /// `cap * tanh(scores / cap)` before the softmax.
    pub softcap: Option<f32>,
    /// Index into [`Spec::ropes`]; `None` is no rotation.
    pub rope: Option<usize>,
    /// Whether queries and keys are normalised per head before they are rotated.
    pub qk_norm: bool,
}

/// What each position does alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Ffn {
    /// `down(act(gate(x)) * up(x))` (Shazeer 2020, arXiv:2002.05202).
    Glu {
        /// Width between.
        dim: usize,
        /// The gate's activation.
        act: Act,
    },
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2` (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    GeluTanh,
    /// `x * (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

impl Spec {
    /// Which rotation a sequence of `length` tokens is under. Two lengths of the same regime can share
    /// what the cache holds; a sequence that passes from one regime to another is computed again.
    pub fn rope_regime(&self, length: usize) -> u64 {
        self.ropes.iter().fold(0, |regime, rope| regime.max(rope.regime(length)))
    }

    /// Numbers that the keys and values of one token are, over all layers.
    pub fn cache_numbers(&self) -> usize {
        let numbers = |l: &Layer| {
            let Mixer::Attn(attn) = &l.mixer;
            2 * attn.n_kv_heads * attn.head_dim
        };
        self.layers.iter().map(numbers).sum()
    }

    /// Number of parameters that the spec calls for, biases not counted.
    pub fn parameters(&self) -> u64 {
        let head = if self.tied == Some(false) { 2 } else { 1 };
        let layers: u64 = self.layers.iter().map(|l| l.parameters(self.dim)).sum();
        (head * self.vocab * self.dim + self.dim) as u64 + layers
    }
}

impl Layer {
    fn parameters(&self, dim: usize) -> u64 {
        let Mixer::Attn(a) = &self.mixer;
        let mixer = dim * a.head_dim * (2 * a.n_heads + 2 * a.n_kv_heads)
            + if a.qk_norm { 2 * a.head_dim } else { 0 };
        let Ffn::Glu { dim: inner, .. } = &self.ffn;
        let n = &self.norms;
        let norms = [n.before_mixer, n.after_mixer, n.before_ffn, n.after_ffn].iter().filter(|&&x| x).count();
        (mixer + 3 * dim * inner + norms * dim) as u64
    }
}
