//! A learned augmented residual (Menghani et al. 2024, arXiv:2411.07501; Gemma 3n): beside the mixers, what they read and its
//! own narrow image of it are added to the stream, which is then divided by the root of 2.

use crate::Result;
use crate::backend::Backend;
use crate::load::LayerLoader;
use crate::mixers::attn::lost;

/// Two narrow matrices and the norm of what they say.
pub(crate) struct Laurel<B: Backend> {
    left: B::Linear,
    right: B::Linear,
    norm: B::Norm,
}

/// What a layer's mixers read, and its narrow image.
pub(crate) struct Said<B: Backend> {
    read: B::Rows,
    low: B::Rows,
}

impl<B: Backend> Laurel<B> {
    pub fn load(from: &LayerLoader<'_, B>, rank: usize) -> Result<Laurel<B>> {
        Ok(Laurel {
            left: from.linear("laurel_l", rank, from.dim)?,
            right: from.linear("laurel_r", from.dim, rank)?,
            norm: from.norm("laurel_post_norm", from.dim)?,
        })
    }

    /// To be asked before the mixers add to the stream.
    pub fn read(&self, backend: &B, x: &B::Rows, norm: &B::Norm) -> Result<Said<B>> {
        let read = backend.normed(x, norm)?;
        let low = backend.project(&read, None, &[&self.left])?.pop().ok_or_else(lost)?;
        Ok(Said { read, low })
    }

    /// To be called after.
    pub fn add(&self, backend: &B, x: &mut B::Rows, said: &Said<B>) -> Result<()> {
        backend.add(x, &said.read, None, None, 1.0)?;
        backend.add(x, &said.low, Some(&self.right), Some(&self.norm), 1.0)?;
        backend.scale(x, std::f32::consts::FRAC_1_SQRT_2)
    }
}
