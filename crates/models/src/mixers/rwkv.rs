//! RWKV: what a position reads is blended with the position before; then a scan over all of them. Version 4 (Peng et
//! al. 2023, arXiv:2305.13048) and version 7 (Peng et al. 2025, arXiv:2503.14456).

use kernels::wkv7::{Wkv7, Wkv7Rows};

use crate::Result;
use crate::backend::Backend;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;
use crate::mixers::state::State;
use crate::mixers::{Branch, Memory, Reading};

/// Version 4's time mix: an average of values under weights that decay by channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeMix4 {
    /// Width of the stream.
    pub dim: usize,
    /// Channels of the average.
    pub inner: usize,
}

/// A feed-forward that looks back one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelMix {
    /// Width of the stream.
    pub dim: usize,
    /// Width between.
    pub inner: usize,
    /// What it says is gated by a projection of its own (version 4).
    pub gated: bool,
}

/// Version 7's time mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeMix7 {
    /// Heads; `heads * head_dim` is the stream's width.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Widths between of what makes decays, rates, the way back to the first layer's values, and gates.
    pub ranks: [usize; 4],
    /// Of the norm of each head's result.
    pub eps: f32,
    /// The first layer's values are those that later ones go back to.
    pub first: bool,
}

pub(crate) struct Weights4<B: Backend> {
    /// How much of the position before: of keys, values and receptances.
    shares: [Vec<f32>; 3],
    key: B::Linear,
    value: B::Linear,
    receptance: B::Linear,
    out: B::Linear,
    decay: Vec<f32>,
    first: Vec<f32>,
}

pub(crate) struct ChannelWeights<B: Backend> {
    key_share: Vec<f32>,
    key: B::Linear,
    value: B::Linear,
    receptance: Option<(Vec<f32>, B::Linear)>,
}

pub(crate) struct Weights7<B: Backend> {
    /// How much of the position before: of r, w, k, v, a, g.
    shares: [Vec<f32>; 6],
    r: B::Linear,
    k: B::Linear,
    v: B::Linear,
    out: B::Linear,
    decay: (B::Linear, B::Linear),
    rate: (B::Linear, B::Linear),
    back: Option<(B::Linear, B::Linear)>,
    gate: (B::Linear, B::Linear),
    k_k: Vec<f32>,
    k_a: Vec<f32>,
    r_k: Vec<f32>,
    norm: Vec<f32>,
    norm_bias: Vec<f32>,
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Rows blended with the rows before them: `x + (before - x) * share`. The last blend keeps the last row.
fn blend<B: Backend>(
    from: &Reading<'_, B>,
    x: &B::Rows,
    share: &[f32],
    state: &mut State,
    last: bool,
) -> Result<B::Rows> {
    let width = share.len();
    from.backend.host(&[x], width, &mut |_, rows, out| {
        state.each_part(from.batch, 0..width, |span, line| {
            let rows = &rows[0][span.start * width..span.end * width];
            let out = &mut out[span.start * width..span.end * width];
            for (t, (out, row)) in out.chunks_exact_mut(width).zip(rows.chunks_exact(width)).enumerate() {
                let before = if t == 0 { &*line } else { &rows[(t - 1) * width..t * width] };
                for (((o, x), b), s) in out.iter_mut().zip(row).zip(before).zip(share) {
                    *o = x + (b - x) * s;
                }
            }
            if last {
                line.copy_from_slice(&rows[rows.len() - width..]);
            }
        });
    })
}

/// One matrix.
fn through<B: Backend>(backend: &B, x: &B::Rows, matrix: &B::Linear) -> Result<B::Rows> {
    backend.project(x, None, &[matrix])?.pop().ok_or_else(lost)
}

/// A function of each number.
fn each<B: Backend>(backend: &B, x: &B::Rows, width: usize, f: impl Fn(f32) -> f32) -> Result<B::Rows> {
    backend.host(&[x], width, &mut |_, rows, out| {
        out.iter_mut().zip(rows[0]).for_each(|(o, x)| *o = f(*x));
    })
}

/// What the mixer reads, normalised.
fn normed<B: Backend>(from: &Reading<'_, B>, width: usize) -> Result<B::Rows> {
    match from.norm {
        Some(norm) => from.backend.normed(from.x, norm),
        None => each(from.backend, from.x, width, |x| x),
    }
}

impl TimeMix4 {
    /// Numbers that it keeps for each sequence: the last row; sums above and below, and the weight they are under.
    pub fn state(&self) -> usize {
        self.dim + 3 * self.inner
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        4 * dim * self.inner + 3 * dim + 2 * self.inner
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights4<B>> {
        let (dim, inner) = (self.dim, self.inner);
        let share = |name: &str| kept(from, &format!("time_mix_{name}_share"), dim);
        Ok(Weights4 {
            shares: [share("key")?, share("value")?, share("receptance")?],
            key: from.linear("time_mix_key", inner, dim)?,
            value: from.linear("time_mix_value", inner, dim)?,
            receptance: from.linear("time_mix_receptance", inner, dim)?,
            out: from.linear("time_mix_output", dim, inner)?,
            decay: from.numbers("time_mix_decay", &[inner])?.into_iter().map(|x| -x.exp()).collect(),
            first: from.numbers("time_mix_first", &[inner])?,
        })
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights4<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let x = normed(from, self.dim)?;
        let key = through(from.backend, &blend(from, &x, &w.shares[0], state, false)?, &w.key)?;
        let value = through(from.backend, &blend(from, &x, &w.shares[1], state, false)?, &w.value)?;
        let gate = through(from.backend, &blend(from, &x, &w.shares[2], state, true)?, &w.receptance)?;
        let inner = self.inner;
        let rows = from.backend.host(&[&key, &value, &gate], inner, &mut |_, rows, out| {
            state.each_part(from.batch, self.dim..self.state(), |span, line| {
                for t in span {
                    let part = t * inner..(t + 1) * inner;
                    w.step(&rows[0][part.clone()], &rows[1][part.clone()], line, &mut out[part]);
                }
            });
            out.iter_mut().zip(rows[2]).for_each(|(o, r)| *o *= sigmoid(*r));
        })?;
        Ok(Branch { rows, out: Some(&w.out) })
    }
}

/// How much of itself a position keeps in the file; here, how much it takes of the one before.
fn kept<B: Backend>(from: &LayerLoader<'_, B>, name: &str, dim: usize) -> Result<Vec<f32>> {
    Ok(from.numbers(name, &[dim])?.into_iter().map(|x| 1.0 - x).collect())
}

impl<B: Backend> Weights4<B> {
    /// One position: the average with itself under a weight of its own, then into the sums. These are kept under the
    /// greatest weight so far, so that no exponential overflows.
    fn step(&self, key: &[f32], value: &[f32], line: &mut [f32], out: &mut [f32]) {
        let inner = key.len();
        let (above, rest) = line.split_at_mut(inner);
        let (below, most) = rest.split_at_mut(inner);
        for i in 0..inner {
            // Nothing was before.
            let held = if below[i] == 0.0 { -1e38 } else { most[i] };
            let (k, v) = (key[i], value[i]);
            let top = held.max(k + self.first[i]);
            let (e1, e2) = ((held - top).exp(), (k + self.first[i] - top).exp());
            out[i] = (e1 * above[i] + e2 * v) / (e1 * below[i] + e2);
            let top = (held + self.decay[i]).max(k);
            let (e1, e2) = ((held + self.decay[i] - top).exp(), (k - top).exp());
            (above[i], below[i], most[i]) = (e1 * above[i] + e2 * v, e1 * below[i] + e2, top);
        }
    }
}

impl ChannelMix {
    /// Numbers that it keeps for each sequence: the last row.
    pub fn state(&self) -> usize {
        self.dim
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        2 * dim * self.inner + dim + if self.gated { dim * dim + dim } else { 0 }
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<ChannelWeights<B>> {
        let (dim, inner) = (self.dim, self.inner);
        let receptance = self.gated.then(|| {
            let share = kept(from, "channel_mix_receptance_share", dim)?;
            Ok::<_, crate::Error>((share, from.linear("channel_mix_receptance", dim, dim)?))
        });
        let key_share = match self.gated {
            true => kept(from, "channel_mix_key_share", dim)?,
            false => from.numbers("channel_mix_lerp_k.weight", &[dim])?,
        };
        Ok(ChannelWeights {
            key_share,
            key: from.linear("channel_mix_key", inner, dim)?,
            value: from.linear("channel_mix_value", dim, inner)?,
            receptance: receptance.transpose()?,
        })
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w ChannelWeights<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let (backend, x) = (from.backend, normed(from, self.dim)?);
        let gate = match &w.receptance {
            None => None,
            Some((share, matrix)) => Some(through(backend, &blend(from, &x, share, state, false)?, matrix)?),
        };
        let key = through(backend, &blend(from, &x, &w.key_share, state, true)?, &w.key)?;
        let key = each(backend, &key, self.inner, |x| x.max(0.0) * x.max(0.0))?;
        let Some(gate) = gate else { return Ok(Branch { rows: key, out: Some(&w.value) }) };
        let value = through(backend, &key, &w.value)?;
        let rows = backend.host(&[&value, &gate], self.dim, &mut |_, rows, out| {
            out.iter_mut().zip(rows[0]).zip(rows[1]).for_each(|((o, v), r)| *o = v * sigmoid(*r));
        })?;
        Ok(Branch { rows, out: None })
    }
}

impl TimeMix7 {
    fn dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers that it keeps for each sequence.
    pub fn state(&self) -> usize {
        self.dim() + self.dim() * self.head_dim
    }

    pub(crate) fn parameters(&self, dim: usize) -> usize {
        let [decay, rate, back, gate] = self.ranks;
        let ranks = decay + rate + gate + if self.first { 0 } else { back };
        4 * dim * dim + 2 * dim * ranks + (13 + if self.first { 0 } else { 1 }) * dim
    }

    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Weights7<B>> {
        let dim = self.dim();
        let [decay, rate, back, gate] = self.ranks;
        let pair = |name: &str, rank: usize| {
            let narrow = from.linear(&format!("time_mix_{name}1"), rank, dim)?;
            let bias = if name == "g" { None } else { Some(format!("time_mix_{name}0.weight")) };
            Ok::<_, crate::Error>((
                narrow,
                from.linear_with(&format!("time_mix_{name}2"), bias.as_deref(), dim, rank)?,
            ))
        };
        if self.first {
            // Files have the first layer's way back to itself, or a copy of something else in its place.
            ["v0", "v1", "v2"].iter().for_each(|v| from.pass_over(&format!("time_mix_{v}.weight")));
        }
        Ok(Weights7 {
            shares: self.shares(from)?,
            r: from.linear("time_mix_receptance", dim, dim)?,
            k: from.linear("time_mix_key", dim, dim)?,
            v: from.linear("time_mix_value", dim, dim)?,
            out: from.linear("time_mix_output", dim, dim)?,
            decay: pair("w", decay)?,
            rate: pair("a", rate)?,
            back: if self.first { None } else { Some(pair("v", back)?) },
            gate: pair("g", gate)?,
            k_k: from.numbers("time_mix_k_k.weight", &[dim])?,
            k_a: from.numbers("time_mix_k_a.weight", &[dim])?,
            r_k: match from.has_shape("time_mix_r_k.weight", &[dim]) {
                true => from.numbers("time_mix_r_k.weight", &[dim])?,
                false => from.numbers("time_mix_r_k.weight", &[self.heads, self.head_dim])?,
            },
            norm: from.vector("time_mix_ln.weight", dim)?,
            norm_bias: from.vector("time_mix_ln.bias", dim)?,
        })
    }

    /// A GGUF has the six in one tensor.
    fn shares<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<[Vec<f32>; 6]> {
        let dim = self.dim();
        if from.has("time_mix_lerp_fused.weight") {
            let all = from.numbers("time_mix_lerp_fused.weight", &[6, dim])?;
            return Ok(std::array::from_fn(|i| all[i * dim..(i + 1) * dim].to_vec()));
        }
        let one = |name: &str| from.numbers(&format!("time_mix_lerp_{name}.weight"), &[dim]);
        Ok([one("r")?, one("w")?, one("k")?, one("v")?, one("a")?, one("g")?])
    }

    pub(crate) fn run<'w, B: Backend>(
        &self,
        w: &'w Weights7<B>,
        from: &Reading<'_, B>,
        memory: &mut Memory<B>,
    ) -> Result<Branch<'w, B>> {
        let Memory::State(state) = memory else { return Err(lost()) };
        let (backend, dim) = (from.backend, self.dim());
        let x = normed(from, dim)?;
        let mut read = |i: usize| blend(from, &x, &w.shares[i], state, i == 5);
        let (xr, xw, xk, xv, xa, xg) = (read(0)?, read(1)?, read(2)?, read(3)?, read(4)?, read(5)?);
        let (r, k, v) =
            (through(backend, &xr, &w.r)?, through(backend, &xk, &w.k)?, through(backend, &xv, &w.v)?);
        let twice = |x: &B::Rows, pair: &(B::Linear, B::Linear), rank: usize, f: fn(f32) -> f32| {
            let between = through(backend, x, &pair.0)?;
            through(backend, &each(backend, &between, rank, f)?, &pair.1)
        };
        let [decay, rate, back, gate] = self.ranks;
        let decays = twice(&xw, &w.decay, decay, f32::tanh)?;
        let rates = twice(&xa, &w.rate, rate, |x| x)?;
        let gates = twice(&xg, &w.gate, gate, sigmoid)?;
        let v = match &w.back {
            None => {
                *from.first.borrow_mut() = backend.fetch(&v)?;
                v
            }
            Some(pair) => {
                let back = twice(&xv, pair, back, |x| x)?;
                let first = from.first.borrow();
                backend.host(&[&v, &back], dim, &mut |_, rows, out| {
                    let pairs = out.iter_mut().zip(rows[0]).zip(rows[1]).zip(first.iter());
                    pairs.for_each(|(((o, v), b), first)| *o = v + (first - v) * sigmoid(*b));
                })?
            }
        };
        let inputs = [&r, &k, &v, &decays, &rates, &gates];
        let rows = backend.host(&inputs, dim, &mut |pool, rows, out| {
            let &[r, k, v, decays, rates, gates] = rows else { return };
            // As published: e^(-e^(-1/2) sigmoid(x)).
            let decays: Vec<f32> = decays.iter().map(|x| (-0.606_531 * sigmoid(*x)).exp()).collect();
            let rates: Vec<f32> = rates.iter().map(|x| sigmoid(*x)).collect();
            let (keys, out_of, into) = self.keys(w, k, &rates);
            state.each_part(from.batch, dim..self.state(), |span, state| {
                let part = span.start * dim..span.end * dim;
                let rows = Wkv7Rows {
                    r: &r[part.clone()],
                    w: &decays[part.clone()],
                    k: &keys[part.clone()],
                    v: &v[part.clone()],
                    a: &out_of[part.clone()],
                    b: &into[part.clone()],
                };
                Wkv7 { heads: self.heads, head_dim: self.head_dim }.run(pool, &rows, state, &mut out[part]);
            });
            self.finish(w, out, [r, &keys, v, gates]);
        })?;
        Ok(Branch { rows, out: Some(&w.out) })
    }

    /// Keys to write under, the key to take out under (negative), and the one to put back under.
    fn keys<B: Backend>(&self, w: &Weights7<B>, k: &[f32], rates: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let dim = self.dim();
        let (mut keys, mut out_of, mut into) = (k.to_vec(), k.to_vec(), vec![0.0; k.len()]);
        for (i, (key, rate)) in keys.iter_mut().zip(rates).enumerate() {
            *key *= 1.0 + (rate - 1.0) * w.k_a[i % dim];
        }
        for (i, x) in out_of.iter_mut().enumerate() {
            *x *= w.k_k[i % dim];
        }
        for head in out_of.chunks_exact_mut(self.head_dim) {
            let length = head.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            head.iter_mut().for_each(|x| *x /= -length);
        }
        for ((into, out_of), rate) in into.iter_mut().zip(&out_of).zip(rates) {
            *into = -out_of * rate;
        }
        (keys, out_of, into)
    }

    /// Each head normalised; what it says at once of the position itself added; gated.
    fn finish<B: Backend>(&self, w: &Weights7<B>, out: &mut [f32], [r, k, v, gates]: [&[f32]; 4]) {
        let size = self.head_dim;
        for (i, head) in out.chunks_exact_mut(size).enumerate() {
            let (at, own) = (i * size, i % self.heads * size);
            let mean = head.iter().sum::<f32>() / size as f32;
            let variance = head.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / size as f32;
            let factor = 1.0 / (variance + self.eps).sqrt();
            let own_part = own..own + size;
            let pairs = r[at..at + size].iter().zip(&k[at..at + size]).zip(&w.r_k[own_part]);
            let bonus: f32 = pairs.map(|((r, k), r_k)| r * k * r_k).sum();
            for (j, y) in head.iter_mut().enumerate() {
                let normed = (*y - mean) * factor * w.norm[own + j] + w.norm_bias[own + j];
                *y = (normed + bonus * v[at + j]) * gates[at + j];
            }
        }
    }
}
