//! Vectors instead of tokens: what a text's positions say, pooled into one vector, and what a classifier makes of it.
//!
//! `arch/encoders.rs` and `pooling.rs` make the data, `load.rs` fetches the weights, `Decoder::encode` runs it.

use crate::Result;
use crate::backend::Backend;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;
use crate::spec::Act;

/// Which positions stand for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Each for itself.
    Each,
    /// The first.
    First,
    /// All, by their mean.
    Mean,
    /// The last.
    Last,
}

/// How a text becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// Of which positions.
    pub pool: Pool,
    /// The vector is brought to length 1.
    pub unit: bool,
}

/// How a text becomes a number for each label: `out(norm(act(dense(pooled))))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classifier {
    /// Of which positions.
    pub pool: Pool,
    /// What follows the first matrix, where the file has one (`cls`).
    pub act: Act,
    /// A norm follows (`cls.norm`).
    pub norm: bool,
}

pub(crate) struct ClassifierWeights<B: Backend> {
    dense: Option<B::Linear>,
    norm: Option<B::Norm>,
    out: B::Linear,
    labels: usize,
}

impl Pool {
    /// One vector of the rows of a text, `[positions, dim]`; for [`Pool::Each`] all of them.
    pub fn of(self, rows: &[f32], dim: usize) -> Vec<f32> {
        let positions = rows.len() / dim;
        match self {
            Pool::Each => rows.to_vec(),
            Pool::First => rows[..dim].to_vec(),
            Pool::Last => rows[rows.len() - dim..].to_vec(),
            Pool::Mean => {
                let mut sum = vec![0.0; dim];
                for row in rows.chunks_exact(dim) {
                    sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
                }
                sum.iter_mut().for_each(|s| *s /= positions as f32);
                sum
            }
        }
    }
}

impl Embedding {
    /// The vector of a text, of its rows `[positions, dim]`.
    pub fn of(self, rows: &[f32], dim: usize) -> Vec<f32> {
        let mut vectors = self.pool.of(rows, dim);
        if self.unit {
            for vector in vectors.chunks_exact_mut(dim) {
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
                vector.iter_mut().for_each(|x| *x /= length);
            }
        }
        vectors
    }
}

impl Classifier {
    pub(crate) fn load<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<ClassifierWeights<B>> {
        let labels = from.rows_of("cls.output.weight").unwrap_or(1);
        Ok(ClassifierWeights {
            dense: from.has("cls.weight").then(|| from.linear("cls", from.dim, from.dim)).transpose()?,
            norm: from.opt_norm(self.norm, "cls.norm")?,
            out: from.linear("cls.output", labels, from.dim)?,
            labels,
        })
    }

    /// A number for each label of each span of `x`, `[rows, dim]`; `spans` are where each begins and how long it is.
    pub(crate) fn run<B: Backend>(
        &self,
        w: &ClassifierWeights<B>,
        backend: &B,
        x: &B::Rows,
        dim: usize,
        spans: &[(usize, usize)],
    ) -> Result<Vec<Vec<f32>>> {
        // The pooled vector takes the place of the span's first row; what the others become is not looked at.
        let mut x = backend.host(&[x], dim, &mut |_, rows, out| {
            for &(start, len) in spans {
                let pooled = self.pool.of(&rows[0][start * dim..(start + len) * dim], dim);
                out[start * dim..(start + 1) * dim].copy_from_slice(&pooled[..dim]);
            }
        })?;
        if let Some(dense) = &w.dense {
            x = backend.mlp(&x, None, dense, self.act)?;
        }
        let scores = backend.project(&x, w.norm.as_ref(), &[&w.out])?.pop().ok_or_else(lost)?;
        let scores = backend.fetch(&scores)?;
        Ok(spans
            .iter()
            .map(|&(start, _)| scores[start * w.labels..(start + 1) * w.labels].to_vec())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_pooled_and_brought_to_length_one() {
        let rows = [3.0, 4.0, 1.0, 0.0];
        assert_eq!(Pool::First.of(&rows, 2), [3.0, 4.0]);
        assert_eq!(Pool::Last.of(&rows, 2), [1.0, 0.0]);
        assert_eq!(Pool::Mean.of(&rows, 2), [2.0, 2.0]);
        assert_eq!(Embedding { pool: Pool::First, unit: true }.of(&rows, 2), [0.6, 0.8]);
        assert_eq!(Embedding { pool: Pool::Each, unit: true }.of(&rows, 2), [0.6, 0.8, 1.0, 0.0]);
    }
}
