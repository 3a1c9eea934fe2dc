//! What a decoder is, as plain data. Everything that tells one architecture from another is a value
//! here; the decoder reads it and never asks for a name.
//!
//! `arch.rs` builds it from hyperparameters, `load.rs` fetches the tensors it calls for, `decoder.rs`
//! runs it.

use crate::altup::AltUp;
use crate::encoder::{Classifier, Embedding};
use crate::lead::Lead;
use crate::mixers::Mixer;
use crate::moe::Moe;
use crate::per_layer::LayerInputs;
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
    /// A learned vector for each position is added to the embedding.
    pub positions: Option<Positions>,
    /// The embedding is normalised before the first layer (`token_embd_norm`).
    pub embed_norm: bool,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// Several streams run through the layers, of which they compute one.
    pub altup: Option<AltUp>,
    /// Layers get vectors of their own beside the stream.
    pub inputs: Option<LayerInputs>,
    /// The stream is normalised after the last layer (`output_norm`).
    pub final_norm: bool,
    /// A vector for each kind of token is added to the embedding (`token_types`).
    pub token_types: bool,
    /// How a text becomes a vector, where the files say it.
    pub embedding: Option<Embedding>,
    /// How a text becomes a number for each label.
    pub classifier: Option<Classifier>,
    /// Layers that the file may have after those and that do not enter the logits (for guessing ahead).
    pub unused_layers: usize,
}

/// A table of learned position embeddings (`position_embd`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Its rows.
    pub rows: usize,
    /// The row of position 0.
    pub offset: usize,
}

/// A normalisation without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Root mean square, or mean and variance.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
    /// Whether it has weights (and may have a bias).
    pub affine: bool,
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
    /// What is added to what the mixers read.
    pub lead: Option<Box<Lead>>,
    /// What mixes positions: one mixer as a rule, none in a layer that is only a feed-forward, several that
    /// read the same input side by side (Falcon-H1).
    pub mixers: Vec<Mixer>,
    /// A narrow branch of this rank beside the mixers.
    pub laurel: Option<usize>,
    /// What each position does alone.
    pub ffn: Ffn,
    /// Which norms stand where.
    pub norms: Norms,
    /// Both branches read the same stream (GPT-J style) rather than one after the other. Without a norm of
    /// its own (`before_ffn`) the feed-forward reads what the mixer reads.
    pub parallel: bool,
    /// Factor on what each branch adds to the stream.
    pub residual_scale: f32,
    /// What else a gated feed-forward does.
    pub ffn_scales: FfnScales,
}

/// What is done within a gated feed-forward (factors: Falcon-H1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FfnScales {
    /// On what the gate's activation is given.
    pub gate: f32,
    /// On what the feed-forward says.
    pub down: f32,
    /// Of a row's gates only what is over their mean by so many standard deviations counts, and only by so much as it is over
    /// (Gemma 3n).
    pub cutoff: Option<f32>,
}

impl FfnScales {
    /// None.
    pub const ONE: FfnScales = FfnScales { gate: 1.0, down: 1.0, cutoff: None };

    /// Whether gates are not taken as they are.
    pub(crate) fn bend(&self) -> bool {
        self.gate != 1.0 || self.cutoff.is_some()
    }

    /// Makes of a row of gates what the activation is given.
    pub(crate) fn bend_gates(&self, gates: &mut [f32]) {
        gates.iter_mut().for_each(|g| *g *= self.gate);
        let Some(cutoff) = self.cutoff else { return };
        let n = gates.len() as f32;
        let mean = gates.iter().sum::<f32>() / n;
        let spread = (gates.iter().map(|g| (g - mean).powi(2)).sum::<f32>() / n).sqrt();
        gates.iter_mut().for_each(|g| *g = (*g - mean - cutoff * spread).max(0.0));
    }
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
    /// The stream itself, after each of the two sums (`attn_output_norm`, `layer_output_norm`).
    pub after_sums: bool,
}

impl Norms {
    /// The usual two: each branch reads a normalised stream.
    pub const PRE: Norms = Norms {
        before_mixer: true,
        after_mixer: false,
        before_ffn: true,
        after_ffn: false,
        after_sums: false,
    };
    /// All four (Gemma 2).
    pub const BOTH: Norms =
        Norms { before_mixer: true, after_mixer: true, before_ffn: true, after_ffn: true, after_sums: false };
    /// What was usual first: the stream after each sum (BERT).
    pub const AFTER_SUMS: Norms = Norms {
        before_mixer: false,
        after_mixer: false,
        before_ffn: false,
        after_ffn: false,
        after_sums: true,
    };
}

/// What each position does alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Ffn {
    /// Nothing.
    None,
    /// `down(act(gate(x)) * up(x))` (Shazeer 2020, arXiv:2002.05202).
    Glu {
        /// Width between.
        dim: usize,
        /// The gate's activation.
        act: Act,
    },
    /// `down(act(up(x)))`.
    Mlp {
        /// Width between.
        dim: usize,
        /// The activation.
        act: Act,
    },
    /// A mixture of experts.
    Moe(Box<Moe>),
    /// What looks back to positions before (RWKV's channel mix).
    Mixer(Box<Mixer>),
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2` (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    GeluTanh,
    /// `x * (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// The hyperbolic tangent (of classifiers).
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2` (So et al. 2021, arXiv:2109.08668).
    Relu2,
    /// gpt-oss: the gate is held below `limit` and the other half within it;
    /// `gate * sigmoid(1.702 gate) * (up + 1)`.
    SwigluOai {
        /// The bound.
        limit: f32,
    },
    /// Apertus: `p x^2 + beta x` above 0, `n (e^min(x, eps) - 1 - x) + beta x` below (arXiv:2411.13010). Files of the
    /// Hub hold the numbers of each layer as tensors, which the loader puts in.
    Xielu {
        /// Of what is above 0.
        p: f32,
        /// Of what is below.
        n: f32,
        /// Slope at 0.
        beta: f32,
        /// What a number below 0 is held under in the power.
        eps: f32,
    },
}

impl Ffn {
    /// The same with another activation.
    pub fn with_act(&self, new: Act) -> Ffn {
        let mut ffn = self.clone();
        match &mut ffn {
            Ffn::None | Ffn::Mixer(_) => {}
            Ffn::Glu { act, .. } | Ffn::Mlp { act, .. } => *act = new,
            Ffn::Moe(moe) => moe.act = new,
        }
        ffn
    }
}

impl Act {
    /// xIELU of the numbers that files hold.
    pub(crate) fn xielu(alpha_p: f32, alpha_n: f32, beta: f32, eps: f32) -> Act {
        let softplus = |x: f32| if x > 20.0 { x } else { x.exp().ln_1p() };
        Act::Xielu { p: softplus(alpha_p), n: beta + softplus(alpha_n), beta, eps }
    }

    /// `act(gate) * up` of one pair, for activations that no kernel has.
    pub(crate) fn glu(self, gate: f32, up: f32) -> f32 {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        match self {
            Act::Silu => gate * sigmoid(gate) * up,
            Act::Tanh => gate.tanh() * up,
            Act::Relu => gate.max(0.0) * up,
            Act::Relu2 => gate.max(0.0) * gate.max(0.0) * up,
            Act::SwigluOai { limit } => {
                let (gate, up) = (gate.min(limit), up.clamp(-limit, limit));
                gate * sigmoid(1.702 * gate) * (up + 1.0)
            }
            Act::Xielu { p, beta, .. } if gate > 0.0 => (p * gate * gate + beta * gate) * up,
            Act::Xielu { n, beta, eps, .. } => ((gate.min(eps).exp_m1() - gate) * n + beta * gate) * up,
            Act::GeluTanh => {
                0.5 * gate * (1.0 + (0.797_884_6 * (gate + 0.044715 * gate.powi(3))).tanh()) * up
            }
            Act::Gelu => {
                let mut x = [gate];
                kernels::activation::activate(kernels::activation::Act::Gelu, &mut x);
                x[0] * up
            }
        }
    }
}

impl Spec {
    /// Which rotation a sequence of `length` tokens is under. Two lengths of the same regime can share
    /// what the cache holds; a sequence that passes from one regime to another is computed again.
    pub fn rope_regime(&self, length: usize) -> u64 {
        self.ropes.iter().fold(0, |regime, rope| regime.max(rope.regime(length)))
    }

    /// Whether some layer keeps a state instead of keys and values: what a prompt left there cannot be cut
    /// at a block's end and used again.
    pub fn recurrent(&self) -> bool {
        self.mixers().any(|m| m.state() > 0)
    }

    /// Whether positions see what follows them: an encoder, which makes vectors of texts and cannot go on with one.
    pub fn both_ways(&self) -> bool {
        self.mixers().any(|m| matches!(m, Mixer::Attn(a) if a.both_ways))
    }

    /// Every mixer of every layer.
    pub fn mixers(&self) -> impl Iterator<Item = &Mixer> {
        self.layers.iter().flat_map(Layer::all_mixers)
    }

    /// Numbers that the keys and values of one token are, over all layers.
    pub fn cache_numbers(&self) -> usize {
        self.mixers().filter_map(Mixer::cached).map(|a| a.n_kv_heads * (a.head_dim + a.value_dim)).sum()
    }

    /// Number of parameters that the spec calls for, biases not counted. A spec that no file has tensors for may
    /// call for more than can be counted: then the greatest number.
    pub fn parameters(&self) -> u64 {
        let head = if self.tied == Some(false) { 2 } else { 1 };
        let layers = self.layers.iter().enumerate().map(|(i, l)| l.parameters(self.dim, i));
        let positions = self.positions.map_or(0, |p| p.rows.saturating_mul(self.dim));
        let norms = usize::from(self.final_norm) + usize::from(self.embed_norm);
        let streams = self.altup.map_or(0, |a| a.parameters(self.dim, self.layers.len()));
        let inputs = self.inputs.map_or(0, |i| i.parameters(self.dim, self.layers.len()));
        let around = [positions, streams, inputs].into_iter().fold(norms * self.dim, usize::saturating_add);
        let around = (head * self.vocab * self.dim).saturating_add(around) as u64;
        layers.fold(around, u64::saturating_add)
    }

    /// Of [`Spec::parameters`], those that one token is multiplied by: of the experts, the chosen.
    pub fn active_parameters(&self) -> u64 {
        let idle = |l: &Layer| match &l.ffn {
            Ffn::Moe(moe) => {
                (moe.n_experts - moe.top_k).saturating_mul(moe.expert_parameters(self.dim)) as u64
            }
            _ => 0,
        };
        self.layers.iter().map(idle).fold(self.parameters(), u64::saturating_sub)
    }
}

impl Layer {
    /// Its mixers, the one that stands for a feed-forward, and the one that leads them.
    pub fn all_mixers(&self) -> impl Iterator<Item = &Mixer> {
        self.own_mixers().chain(self.lead.as_ref().map(|l| &l.attn))
    }

    fn own_mixers(&self) -> impl Iterator<Item = &Mixer> {
        let last = match &self.ffn {
            Ffn::Mixer(mixer) => Some(&**mixer),
            _ => None,
        };
        self.mixers.iter().chain(last)
    }

    /// Of layer number `index`.
    fn parameters(&self, dim: usize, index: usize) -> u64 {
        let mixers = self.own_mixers().map(|m| m.parameters(dim));
        let lead = self.lead.as_ref().map_or(0, |l| l.parameters(dim, index));
        let ffn = match &self.ffn {
            // Counted among the mixers.
            Ffn::None | Ffn::Mixer(_) => 0,
            Ffn::Glu { dim: inner, .. } => 3 * dim * inner,
            Ffn::Mlp { dim: inner, .. } => 2 * dim * inner,
            Ffn::Moe(moe) => moe.parameters(dim),
        };
        let n = &self.norms;
        let norms = [n.before_mixer, n.after_mixer, n.before_ffn, n.after_ffn, n.after_sums, n.after_sums];
        let norms = norms.iter().filter(|&&x| x).count();
        let laurel = self.laurel.map_or(0, |rank| (2 * rank + 1) * dim);
        let around = ffn.saturating_add(laurel).saturating_add(norms * dim) as u64;
        mixers.fold(lead, u64::saturating_add).saturating_add(around)
    }
}
