//! The one decoder: runs any [`Spec`] on any [`Backend`].
//!
//! `load.rs` fills it; the engine calls [`Model::forward`] once a step.

use crate::Result;
use crate::backend::{Backend, LogitShape};
use crate::batch::{Batch, CacheShape, Model};
use crate::spec::{Ffn, Layer, Mixer, Spec};

/// A spec with its weights on a backend.
pub struct Decoder<B: Backend> {
    pub(crate) spec: Spec,
    pub(crate) backend: B,
    pub(crate) embed: B::Linear,
    pub(crate) layers: Vec<LayerWeights<B>>,
    pub(crate) norm: B::Norm,
    /// `None` where the embedding serves as output matrix.
    pub(crate) head: Option<B::Linear>,
    pub(crate) caches: Vec<B::Cache>,
}

/// The weights of one layer.
pub(crate) struct LayerWeights<B: Backend> {
    pub attn: AttnWeights<B>,
    pub ffn: FfnWeights<B>,
    pub before_mixer: Option<B::Norm>,
    pub after_mixer: Option<B::Norm>,
    pub before_ffn: Option<B::Norm>,
    pub after_ffn: Option<B::Norm>,
}

pub(crate) struct AttnWeights<B: Backend> {
    pub q: B::Linear,
    pub k: B::Linear,
    pub v: B::Linear,
    pub o: B::Linear,
    pub qk_norms: Option<(B::Norm, B::Norm)>,
}

pub(crate) struct FfnWeights<B: Backend> {
    pub gate: B::Linear,
    pub up: B::Linear,
    pub down: B::Linear,
}

impl<B: Backend> Decoder<B> {
    fn layer(&mut self, index: usize, x: &mut B::Rows, step: &B::Step) -> Result<()> {
        let (backend, weights) = (&self.backend, &self.layers[index]);
        let Layer { mixer, ffn, parallel, residual_scale, .. } = &self.spec.layers[index];
        let mixed = mix(backend, weights, mixer, x, &mut self.caches[index], step)?;
        // In a parallel layer both branches read the stream before either adds to it.
        let early = if *parallel { Some(feed(backend, weights, ffn, x)?) } else { None };
        backend.add(x, &mixed, &weights.attn.o, weights.after_mixer.as_ref(), *residual_scale)?;
        let fed = match early {
            Some(rows) => rows,
            None => feed(backend, weights, ffn, x)?,
        };
        backend.add(x, &fed, &weights.ffn.down, weights.after_ffn.as_ref(), *residual_scale)
    }
}

fn mix<B: Backend>(
    backend: &B,
    weights: &LayerWeights<B>,
    mixer: &Mixer,
    x: &B::Rows,
    cache: &mut B::Cache,
    step: &B::Step,
) -> Result<B::Rows> {
    let (Mixer::Attn(attn), w) = (mixer, &weights.attn);
    let rows = backend.project(x, weights.before_mixer.as_ref(), &[&w.q, &w.k, &w.v])?;
    let mut rows = rows.into_iter();
    let qkv = [(); 3].map(|()| rows.next().expect("project gives one result for each matrix"));
    backend.attend(qkv, attn, w.qk_norms.as_ref(), cache, step)
}

fn feed<B: Backend>(backend: &B, weights: &LayerWeights<B>, ffn: &Ffn, x: &B::Rows) -> Result<B::Rows> {
    let (Ffn::Glu { act, .. }, w) = (ffn, &weights.ffn);
    backend.glu(x, weights.before_ffn.as_ref(), &w.gate, &w.up, *act)
}

impl<B: Backend> Model for Decoder<B> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache_bytes_per_token(&self) -> usize {
        let bytes = |l: &Layer| {
            let Mixer::Attn(attn) = &l.mixer;
            self.backend.cache_bytes(attn)
        };
        self.spec.layers.iter().map(bytes).sum()
    }

    fn allocate(&mut self, shape: CacheShape) -> Result<()> {
        self.caches.clear();
        for layer in &self.spec.layers {
            let Mixer::Attn(attn) = &layer.mixer;
            self.caches.push(self.backend.cache(attn, shape)?);
        }
        Ok(())
    }

    fn forward(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let rotations = self.spec.ropes.iter().map(|r| r.rotation(batch)).collect();
        let step = self.backend.step(batch, rotations)?;
        let mut x = self.backend.embed(&self.embed, &batch.tokens, self.spec.embed_scale)?;
        for index in 0..self.layers.len() {
            self.layer(index, &mut x, &step)?;
        }
        let head = self.head.as_ref().unwrap_or(&self.embed);
        let shape = LogitShape { scale: self.spec.logit_scale, softcap: self.spec.logit_softcap };
        self.backend.logits(&x, &batch.outputs, &self.norm, head, shape)
    }
}
