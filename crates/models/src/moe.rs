//! Mixtures of experts: what they are, and which experts a token goes to.
//!
//! `decoder.rs` asks a backend for the router's logits, [`Moe::choose`] reads them, and the backend runs the
//! chosen experts (`Backend::experts`).

use crate::Result;
use crate::hparams::Hparams;
use crate::spec::Act;

/// No model has more in a layer; a file that says so is broken.
const MAX_EXPERTS: usize = 65_536;

/// A feed-forward of which each token uses a few parts (Shazeer et al. 2017, arXiv:1701.06538).
#[derive(Clone, Debug, PartialEq)]
pub struct Moe {
    /// How many there are.
    pub n_experts: usize,
    /// How many a token uses.
    pub top_k: usize,
    /// Width between, of one expert.
    pub dim: usize,
    /// The activation.
    pub act: Act,
    /// Experts have gates; otherwise they are `down(act(up(x)))`.
    pub gated: bool,
    /// How logits become weights.
    pub routing: Routing,
    /// An expert for all tokens, beside the chosen.
    pub shared: Option<Shared>,
    /// Router, experts and the shared one each read the stream through a norm of their own, and what the experts say and what
    /// the shared one says are normalised before they are added (Gemma 4).
    pub apart: bool,
}

/// How the router's logits become a choice and weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Logits to scores.
    pub score: Score,
    /// Weights are divided by their sum.
    pub normalise: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// A bias for each expert (`exp_probs_b`) is added to the score for the choice, not for the weight.
    pub bias: bool,
    /// Experts come in groups of which only the best are looked at.
    pub groups: Option<Groups>,
    /// The weight multiplies what the expert reads, not what it says (Llama 4).
    pub weigh_input: bool,
    /// Each expert has a factor on its weights (Gemma 4).
    pub factors: bool,
}

/// Router logits to scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Softmax over the chosen.
    SoftmaxOfChosen,
    /// Each its own sigmoid.
    Sigmoid,
    /// One after the other: each weight is the softmax over those of the rest that are within `2 * jitter` of the
    /// best (Phi-3.5 MoE; Liu et al. 2024, arXiv:2409.12136).
    SparseMixer {
        /// Half the distance, as a part of the larger logit.
        jitter: f32,
    },
}

/// Grouped routing (DeepSeek-V2, arXiv:2405.04434; V3, arXiv:2412.19437).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many groups the experts are in.
    pub count: usize,
    /// How many of them are looked at.
    pub top: usize,
    /// A group is as good as its two best together; otherwise as its best.
    pub by_two: bool,
}

/// The expert that every token uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its width.
    pub dim: usize,
    /// What it says is multiplied by the sigmoid of a number of its own (`ffn_gate_inp_shexp`).
    pub gate: bool,
}

/// Which experts each row goes to, and with what weight: `[rows][top_k]`, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Experts per row.
    pub top_k: usize,
    /// The experts.
    pub experts: Vec<u32>,
    /// Their weights.
    pub weights: Vec<f32>,
    /// See [`Routing::weigh_input`].
    pub weigh_input: bool,
}

impl Routing {
    /// Softmax over all, and nothing else.
    pub(crate) const SOFTMAX: Routing = Routing {
        score: Score::Softmax,
        normalise: false,
        scale: 1.0,
        bias: false,
        groups: None,
        weigh_input: false,
        factors: false,
    };
}

impl Moe {
    /// Gated experts `dim` wide under plain softmax routing, as many as the file says.
    pub(crate) fn of(h: &Hparams, dim: usize, act: Act) -> Result<Moe> {
        let (n_experts, top_k) = (h.same_dim("expert_count")?, h.same_dim("expert_used_count")?);
        if top_k > n_experts || n_experts > MAX_EXPERTS {
            return Err(h.bad(
                "expert_used_count",
                format!("{top_k} of {n_experts} experts"),
                "some of at most 65536",
            ));
        }
        Ok(Moe {
            n_experts,
            top_k,
            dim,
            act,
            gated: true,
            routing: Routing::SOFTMAX,
            shared: None,
            apart: false,
        })
    }

    /// Numbers of one expert's matrices.
    pub fn expert_parameters(&self, dim: usize) -> usize {
        (if self.gated { 3 } else { 2 }) * dim * self.dim
    }

    /// Numbers of all matrices.
    pub fn parameters(&self, dim: usize) -> usize {
        let matrices = if self.gated { 3 } else { 2 };
        let shared = self.shared.map_or(0, |s| matrices * dim * s.dim + if s.gate { dim } else { 0 });
        let norms = if self.apart { 4 * dim } else { 0 };
        let factors = if self.routing.factors { self.n_experts } else { 0 };
        let each = self.expert_parameters(dim).saturating_add(dim);
        each.saturating_mul(self.n_experts).saturating_add(shared).saturating_add(norms + factors)
    }

    /// The experts of each row of `logits`, `[rows, n_experts]`. `bias` is the one of [`Routing::bias`].
    pub fn choose(&self, logits: &[f32], bias: Option<&[f32]>) -> Choice {
        let rows = logits.len() / self.n_experts;
        let mut choice = Choice {
            top_k: self.top_k,
            experts: Vec::with_capacity(rows * self.top_k),
            weights: Vec::with_capacity(rows * self.top_k),
            weigh_input: self.routing.weigh_input,
        };
        for row in logits.chunks_exact(self.n_experts) {
            self.choose_row(row, bias, &mut choice);
        }
        choice
    }

    fn choose_row(&self, logits: &[f32], bias: Option<&[f32]>, choice: &mut Choice) {
        let routing = &self.routing;
        if let Score::SparseMixer { jitter } = routing.score {
            return sparse_mixer(logits, jitter, choice);
        }
        let scores = match routing.score {
            Score::Softmax => softmax(logits),
            Score::SoftmaxOfChosen | Score::SparseMixer { .. } => logits.to_vec(),
            Score::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        };
        let mut merit = scores.clone();
        if let Some(bias) = bias {
            merit.iter_mut().zip(bias).for_each(|(m, b)| *m += b);
        }
        if let Some(groups) = routing.groups {
            groups.leave_out(&mut merit);
        }
        let chosen = best(&merit, self.top_k);
        let mut weights: Vec<f32> = chosen.iter().map(|&e| scores[e as usize]).collect();
        if routing.score == Score::SoftmaxOfChosen {
            weights = softmax(&weights);
        }
        if routing.normalise {
            let sum = weights.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        choice.weights.extend(weights.iter().map(|w| w * routing.scale));
        choice.experts.extend(chosen);
    }
}

impl Groups {
    /// Makes the experts of all groups but the best impossible.
    fn leave_out(&self, merit: &mut [f32]) {
        let size = merit.len() / self.count;
        let worth: Vec<f32> = merit
            .chunks_exact(size)
            .map(|group| {
                let two = if self.by_two { 2 } else { 1 };
                best(group, two).iter().map(|&e| group[e as usize]).sum()
            })
            .collect();
        let kept = best(&worth, self.top);
        for (g, group) in merit.chunks_exact_mut(size).enumerate() {
            if !kept.contains(&(g as u32)) {
                group.fill(f32::NEG_INFINITY);
            }
        }
    }
}

/// See [`Score::SparseMixer`].
fn sparse_mixer(logits: &[f32], jitter: f32, choice: &mut Choice) {
    let mut left = logits.to_vec();
    for _ in 0..choice.top_k {
        let Some(&chosen) = best(&left, 1).first() else { return };
        let most = left[chosen as usize];
        let near = |s: f32| (most - s) / s.abs().max(most) <= 2.0 * jitter || s == most;
        let sum: f32 = left.iter().filter(|&&s| near(s)).map(|s| (s - most).exp()).sum();
        choice.experts.push(chosen);
        choice.weights.push(1.0 / sum);
        left[chosen as usize] = f32::NEG_INFINITY;
    }
}

/// The `n` greatest, greatest first; of equals the first.
fn best(values: &[f32], n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    let by = |a: &u32, b: &u32| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b));
    let n = n.min(order.len());
    if n < order.len() {
        order.select_nth_unstable_by(n, by);
        order.truncate(n);
    }
    order.sort_unstable_by(by);
    order
}

fn softmax(x: &[f32]) -> Vec<f32> {
    let max = x.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let e: Vec<f32> = x.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = e.iter().sum();
    e.iter().map(|v| v / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moe(routing: Routing) -> Moe {
        Moe {
            n_experts: 4,
            top_k: 2,
            dim: 8,
            act: Act::Silu,
            gated: true,
            routing,
            shared: None,
            apart: false,
        }
    }

    const PLAIN: Routing = Routing::SOFTMAX;

    #[test]
    fn the_best_are_chosen_and_weighted_as_the_routing_says() {
        // Logits whose exponentials are 1, 4, 2, 3.
        let logits = [1f32, 4.0, 2.0, 3.0].map(f32::ln);
        let near = |c: Choice, experts: [u32; 2], weights: [f32; 2]| {
            assert_eq!(c.experts, experts);
            assert!(c.weights.iter().zip(weights).all(|(a, b)| (a - b).abs() < 1e-6), "{c:?}");
        };
        near(moe(PLAIN).choose(&logits, None), [1, 3], [0.4, 0.3]);
        let normal = Routing { normalise: true, scale: 7.0, ..PLAIN };
        near(moe(normal).choose(&logits, None), [1, 3], [4.0, 3.0]);
        let chosen = Routing { score: Score::SoftmaxOfChosen, ..PLAIN };
        near(moe(chosen).choose(&logits, None), [1, 3], [4.0 / 7.0, 3.0 / 7.0]);
        let sigmoid = Routing { score: Score::Sigmoid, ..PLAIN };
        near(moe(sigmoid).choose(&logits, None), [1, 3], [0.8, 0.75]);
        // 3 is within 30 % of 4 by its logarithm, 2 is not; of the rest, 2 is within it of 3 just not.
        let mixer = Routing { score: Score::SparseMixer { jitter: 0.15 }, ..PLAIN };
        near(moe(mixer).choose(&logits, None), [1, 3], [4.0 / 7.0, 1.0]);
        // The bias moves the choice to expert 0, whose weight stays its own.
        near(moe(PLAIN).choose(&logits, Some(&[1.0, 0.0, 0.0, 0.0])), [0, 1], [0.1, 0.4]);
        // Of two groups, 0.1 + 0.4 against 0.2 + 0.3: equal sums take the first, best ones too.
        let groups = Some(Groups { count: 2, top: 1, by_two: false });
        near(moe(Routing { groups, ..PLAIN }).choose(&logits, None), [1, 0], [0.4, 0.1]);
    }
}
