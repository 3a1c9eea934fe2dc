//! Alternating updates (Baykal et al. 2023, arXiv:2301.13310; Gemma 3n): several streams, of which each layer computes one.
//! The others are predicted from all of them before the layer, and corrected by what it changed after.
//!
//! `decoder.rs` calls it around each layer. All streams of a row lie together: `[rows, streams * dim]`.

use crate::Result;
use crate::backend::Backend;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;

/// A stream shorter than the root of this is not stretched further.
const LEAST: f32 = 1e-5;

/// How many streams there are and which of them the layers compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltUp {
    /// All streams.
    pub streams: usize,
    /// The one that layers compute.
    pub active: usize,
    /// What the layers' own inputs read of it is scaled by a vector (`altup_correct_scale`).
    pub scaled: bool,
}

/// What is around one layer.
pub(crate) struct Around<B: Backend> {
    norm: B::Norm,
    router: B::Linear,
    /// `[to][from][modality]`.
    predict: Vec<f32>,
    /// `[to][modality]`.
    correct: Vec<f32>,
    scale: Option<Vec<f32>>,
}

/// What makes streams of the embedding, and one of the streams at the end.
pub(crate) struct Ends<B: Backend> {
    apart: Vec<B::Linear>,
    together: Vec<B::Linear>,
}

impl AltUp {
    /// Numbers of its matrices and vectors, around `layers` layers.
    pub(crate) fn parameters(&self, dim: usize, layers: usize) -> usize {
        let n = self.streams;
        2 * (n - 1) * dim * dim + layers * (n * n * n + n * n + n * dim + 2 * dim)
    }

    /// What is around one layer.
    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Around<B>> {
        let n = self.streams;
        let scale = self.scaled.then(|| from.vector("altup_correct_scale.weight", from.dim)).transpose()?;
        from.pass_over("altup_correct_scale.weight");
        Ok(Around {
            norm: from.norm("altup_router_norm", from.dim)?,
            router: from.linear("altup_router", n, from.dim)?,
            predict: from.numbers("altup_predict_coef.weight", &[n * n, n])?,
            correct: from.numbers("altup_correct_coef.weight", &[n, n])?,
            scale,
        })
    }

    /// The ends: matrices stacked in one tensor, or each by itself.
    pub(crate) fn load_ends<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Ends<B>> {
        let (n, dim) = (self.streams - 1, from.dim);
        let matrices = |name: &str| match from.has(&format!("{name}.weight")) {
            true => from.stack(name, n, dim, dim),
            false => (0..n).map(|i| from.linear(&format!("{name}.{i}"), dim, dim)).collect(),
        };
        Ok(Ends { apart: matrices("altup_proj")?, together: matrices("altup_unembd_proj")? })
    }

    /// The streams: the embedding, and each matrix's image of it made as long.
    pub(crate) fn begin<B: Backend>(
        &self,
        ends: &Ends<B>,
        backend: &B,
        x: &B::Rows,
        dim: usize,
    ) -> Result<B::Rows> {
        let images = backend.project(x, None, &ends.apart.iter().collect::<Vec<_>>())?;
        let parts: Vec<&B::Rows> = std::iter::once(x).chain(&images).collect();
        backend.host(&parts, self.streams * dim, &mut |_, parts, out| {
            for (row, out) in out.chunks_exact_mut(self.streams * dim).enumerate() {
                for (out, part) in out.chunks_exact_mut(dim).zip(parts) {
                    out.copy_from_slice(&part[row * dim..(row + 1) * dim]);
                }
                even(out, dim);
            }
        })
    }

    /// One stream again: the mean of the first and of each matrix's image of its stream, made as long.
    pub(crate) fn end<B: Backend>(
        &self,
        ends: &Ends<B>,
        backend: &B,
        streams: &B::Rows,
        dim: usize,
    ) -> Result<B::Rows> {
        let mut parts = vec![self.one(backend, streams, 0, dim)?];
        for (i, matrix) in ends.together.iter().enumerate() {
            let stream = self.one(backend, streams, i + 1, dim)?;
            parts.push(backend.project(&stream, None, &[matrix])?.pop().ok_or_else(lost)?);
        }
        backend.host(&parts.iter().collect::<Vec<_>>(), dim, &mut |_, parts, out| {
            let mut all = vec![0.0; self.streams * dim];
            for (row, out) in out.chunks_exact_mut(dim).enumerate() {
                for (all, part) in all.chunks_exact_mut(dim).zip(parts) {
                    all.copy_from_slice(&part[row * dim..(row + 1) * dim]);
                }
                even(&mut all, dim);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = all.iter().skip(i).step_by(dim).sum::<f32>() / self.streams as f32;
                }
            }
        })
    }

    /// The stream that layers compute.
    pub(crate) fn active<B: Backend>(&self, backend: &B, streams: &B::Rows, dim: usize) -> Result<B::Rows> {
        self.one(backend, streams, self.active, dim)
    }

    fn one<B: Backend>(&self, backend: &B, streams: &B::Rows, which: usize, dim: usize) -> Result<B::Rows> {
        // The first input says how many rows there are: as many as streams have.
        backend.host(&[streams], dim, &mut |_, streams, out| {
            let rows = streams[0].chunks_exact(self.streams * dim);
            for (out, row) in out.chunks_exact_mut(dim).zip(rows) {
                out.copy_from_slice(&row[which * dim..(which + 1) * dim]);
            }
        })
    }

    /// Every stream with a mixture of all added that the active one chooses.
    pub(crate) fn predict<B: Backend>(
        &self,
        around: &Around<B>,
        backend: &B,
        streams: &B::Rows,
        dim: usize,
    ) -> Result<B::Rows> {
        let n = self.streams;
        let active = self.active(backend, streams, dim)?;
        let (routed, predict) = (around.routed(backend, &active)?, &around.predict);
        backend.host(&[streams, &routed], n * dim, &mut |pool, rows, out| {
            pool.each_piece(out, n * dim, |row, out| {
                let streams = &rows[0][row * n * dim..(row + 1) * n * dim];
                let modalities = modalities(&rows[1][row * n..(row + 1) * n], dim);
                out.copy_from_slice(streams);
                for (to, out) in out.chunks_exact_mut(dim).enumerate() {
                    for (from, stream) in streams.chunks_exact(dim).enumerate() {
                        let at = (to * n + from) * n;
                        let factor = dot(&predict[at..at + n], &modalities);
                        out.iter_mut().zip(stream).for_each(|(o, x)| *o += factor * x);
                    }
                }
            });
        })
    }

    /// The predictions with what the layer made of the active one: each stream takes as much of the difference as that says.
    pub(crate) fn correct<B: Backend>(
        &self,
        around: &Around<B>,
        backend: &B,
        predictions: &B::Rows,
        made: &B::Rows,
        dim: usize,
    ) -> Result<B::Rows> {
        let n = self.streams;
        let (routed, correct) = (around.routed(backend, made)?, &around.correct);
        backend.host(&[predictions, made, &routed], n * dim, &mut |pool, rows, out| {
            pool.each_piece(out, n * dim, |row, out| {
                let predictions = &rows[0][row * n * dim..(row + 1) * n * dim];
                let made = &rows[1][row * dim..(row + 1) * dim];
                let active = &predictions[self.active * dim..(self.active + 1) * dim];
                let modalities = modalities(&rows[2][row * n..(row + 1) * n], dim);
                out.copy_from_slice(predictions);
                for (to, out) in out.chunks_exact_mut(dim).enumerate() {
                    let factor = 1.0 + dot(&correct[to * n..(to + 1) * n], &modalities);
                    for ((o, made), active) in out.iter_mut().zip(made).zip(active) {
                        *o += factor * (made - active);
                    }
                }
            });
        })
    }

    /// What the layer's own input reads.
    pub(crate) fn read<B: Backend>(
        &self,
        around: &Around<B>,
        backend: &B,
        streams: &B::Rows,
        dim: usize,
    ) -> Result<B::Rows> {
        let active = self.active(backend, streams, dim)?;
        let Some(scale) = &around.scale else { return Ok(active) };
        backend.host(&[&active], dim, &mut |_, rows, out| {
            for (out, x) in out.chunks_exact_mut(dim).zip(rows[0].chunks_exact(dim)) {
                out.iter_mut().zip(x).zip(scale).for_each(|((o, x), s)| *o = x * s);
            }
        })
    }

    /// Adds `said` to all streams but the first.
    pub(crate) fn hear<B: Backend>(
        &self,
        backend: &B,
        streams: &B::Rows,
        said: &B::Rows,
        dim: usize,
    ) -> Result<B::Rows> {
        backend.host(&[streams, said], self.streams * dim, &mut |_, rows, out| {
            out.copy_from_slice(rows[0]);
            let rows = out.chunks_exact_mut(self.streams * dim).zip(rows[1].chunks_exact(dim));
            for (out, said) in rows {
                for out in out.chunks_exact_mut(dim).skip(1) {
                    out.iter_mut().zip(said).for_each(|(o, x)| *o += x);
                }
            }
        })
    }
}

impl<B: Backend> Around<B> {
    fn routed(&self, backend: &B, x: &B::Rows) -> Result<B::Rows> {
        backend.project(x, Some(&self.norm), &[&self.router])?.pop().ok_or_else(lost)
    }
}

/// The router reads its stream divided by the width.
fn modalities(routed: &[f32], dim: usize) -> Vec<f32> {
    routed.iter().map(|x| (x / dim as f32).tanh()).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes every stream of a row as long as the first.
fn even(streams: &mut [f32], dim: usize) {
    let square = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>() / dim as f32;
    let (first, others) = streams.split_at_mut(dim);
    let length = square(first).sqrt();
    for stream in others.chunks_exact_mut(dim) {
        let own = square(stream).max(LEAST).sqrt();
        stream.iter_mut().for_each(|x| *x = *x * length / own);
    }
}
