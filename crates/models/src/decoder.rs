//! The one decoder: runs any [`Spec`] on any [`Backend`].
//!
//! `load.rs` fills it; the engine calls [`Model::forward`] once a step.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::altup;
use crate::backend::{Backend, Expert, LogitShape};
use crate::batch::{Batch, CacheShape, Model, Span};
use crate::cpu::glu_row;
use crate::encoder::ClassifierWeights;
use crate::laurel::Laurel;
use crate::lead;
use crate::mixers::{Branch, Memory, Mixer, MixerWeights, Reading, attn};
use crate::moe::Moe;
use crate::per_layer;
use crate::spec::{Act, Ffn, Layer, Spec};
use crate::{Error, Result};

/// A spec with its weights on a backend.
pub struct Decoder<B: Backend> {
    pub(crate) spec: Spec,
    pub(crate) backend: B,
    pub(crate) embed: B::Linear,
    pub(crate) positions: Option<B::Linear>,
    /// A vector for each kind of token, and how many kinds there are.
    pub(crate) types: Option<(B::Linear, usize)>,
    pub(crate) embed_norm: Option<B::Norm>,
    /// What makes several streams of one, and one of several.
    pub(crate) ends: Option<altup::Ends<B>>,
    pub(crate) inputs: Option<per_layer::Weights<B>>,
    pub(crate) layers: Vec<LayerWeights<B>>,
    /// What leads several layers, by the number of the first of them.
    pub(crate) blocks: BTreeMap<usize, lead::Block<B>>,
    pub(crate) norm: Option<B::Norm>,
    /// `None` where the embedding serves as output matrix.
    pub(crate) head: Option<B::Linear>,
    pub(crate) classifier: Option<ClassifierWeights<B>>,
    /// For each layer, what each of its mixers remembers.
    pub(crate) memories: Vec<Vec<Memory<B>>>,
}

/// The weights of one layer.
pub(crate) struct LayerWeights<B: Backend> {
    /// Put in once the blocks that layers share are loaded.
    pub lead: Option<lead::Turn<B>>,
    pub around: Option<altup::Around<B>>,
    pub laurel: Option<Laurel<B>>,
    pub mixers: Vec<MixerWeights<B>>,
    pub ffn: FfnWeights<B>,
    pub before_mixer: Option<B::Norm>,
    pub after_mixer: Option<B::Norm>,
    pub before_ffn: Option<B::Norm>,
    pub after_ffn: Option<B::Norm>,
    /// Of the stream, after each sum.
    pub after_first: Option<B::Norm>,
    pub after_second: Option<B::Norm>,
    /// What is done with the vectors that the layer gets beside the stream.
    pub input: Option<per_layer::Gate<B>>,
    /// Factor on the stream after the layer (the file shows it).
    pub scale: Option<f32>,
}

pub(crate) enum FfnWeights<B: Backend> {
    None,
    Glu { gate: B::Linear, up: B::Linear, down: B::Linear, between: Option<B::Norm> },
    Mlp { up: B::Linear, down: B::Linear },
    Moe(Box<MoeWeights<B>>),
    Mixer(MixerWeights<B>),
}

pub(crate) struct MoeWeights<B: Backend> {
    pub router: B::Linear,
    /// See [`crate::moe::Routing::bias`].
    pub bias: Option<Vec<f32>>,
    pub experts: Vec<Expert<B::Linear>>,
    pub shared: Option<SharedWeights<B>>,
    /// See [`Moe::apart`].
    pub norms: Option<MoeNorms<B>>,
    /// See [`crate::moe::Routing::factors`].
    pub factors: Option<Vec<f32>>,
}

/// Before the router, before the experts, after them, and after the shared one.
pub(crate) struct MoeNorms<B: Backend> {
    pub router: B::Norm,
    pub before: B::Norm,
    pub after: B::Norm,
    pub after_shared: B::Norm,
}

pub(crate) struct SharedWeights<B: Backend> {
    pub expert: Expert<B::Linear>,
    pub gate: Option<B::Linear>,
}

/// What a batch brings to all layers.
struct Pass<'a, B: Backend> {
    batch: &'a Batch,
    step: B::Step,
    /// The embedding, where blocks that lead layers read it.
    start: Option<B::Rows>,
    /// See [`Reading::first`].
    first: RefCell<Vec<f32>>,
    /// The vectors that layers get beside the stream.
    inputs: Option<B::Rows>,
}

impl<B: Backend> Pass<'_, B> {
    fn reading<'a>(&'a self, backend: &'a B, x: &'a B::Rows, norm: Option<&'a B::Norm>) -> Reading<'a, B> {
        Reading { backend, x, norm, batch: self.batch, step: &self.step, first: &self.first }
    }
}

impl<B: Backend> Decoder<B> {
    fn layer(&mut self, index: usize, x: &mut B::Rows, pass: &Pass<'_, B>) -> Result<()> {
        let led = self.led(index, x, pass)?;
        let (backend, weights) = (&self.backend, &self.layers[index]);
        let layer = &self.spec.layers[index];
        let read = |x: &B::Rows, memories: &mut [Vec<Memory<B>>]| {
            let from = pass.reading(backend, x, weights.before_mixer.as_ref());
            let mixers = layer.mixers.iter().zip(&weights.mixers).enumerate();
            let mix = mixers.map(|(i, (mixer, w))| mix(mixer, w, &from, memories, (index, i)));
            mix.collect::<Result<Vec<_>>>()
        };
        let mixed = read(led.as_ref().unwrap_or(x), &mut self.memories)?;
        let beside = match (&weights.laurel, &weights.before_mixer) {
            (Some(laurel), Some(norm)) => Some((laurel, laurel.read(backend, x, norm)?)),
            _ => None,
        };
        // In a parallel layer both branches read the stream before either adds to it.
        let early = if layer.parallel {
            let norm = weights.before_ffn.as_ref().or(weights.before_mixer.as_ref());
            Some(feed(backend, weights, layer, norm, x)?)
        } else {
            None
        };
        for (mixer, branch) in layer.mixers.iter().zip(mixed) {
            let scale = layer.residual_scale * mixer.out_scale();
            backend.add(x, &branch.rows, branch.out, weights.after_mixer.as_ref(), scale)?;
        }
        if let Some((laurel, said)) = beside {
            laurel.add(backend, x, &said)?;
        }
        if let Some(norm) = &weights.after_first {
            *x = backend.normed(x, norm)?;
        }
        let fed = match (early, &layer.ffn, &weights.ffn) {
            (Some(branch), ..) => branch,
            (None, Ffn::Mixer(mixer), FfnWeights::Mixer(w)) => {
                let from = pass.reading(backend, x, weights.before_ffn.as_ref());
                Some(mix(mixer, w, &from, &mut self.memories, (index, layer.mixers.len()))?)
            }
            _ => feed(backend, weights, layer, weights.before_ffn.as_ref(), x)?,
        };
        if let Some(fed) = fed {
            let scale = layer.residual_scale * layer.ffn_scales.down;
            backend.add(x, &fed.rows, fed.out, weights.after_ffn.as_ref(), scale)?;
        }
        if let Some(norm) = &weights.after_second {
            *x = backend.normed(x, norm)?;
        }
        if let (None, Some((branch, norm))) = (&weights.around, self.of_input(index, x, pass)?) {
            backend.add(x, &branch.rows, branch.out, Some(norm), 1.0)?;
        }
        match weights.scale {
            Some(factor) => backend.scale(x, factor),
            None => Ok(()),
        }
    }

    /// What layer number `index` says of its own vectors, gated by `x`, and the norm of that.
    fn of_input(
        &self,
        index: usize,
        x: &B::Rows,
        pass: &Pass<'_, B>,
    ) -> Result<Option<(Branch<'_, B>, &B::Norm)>> {
        let gate = self.layers[index].input.as_ref();
        let (Some(spec), Some(gate), Some(inputs)) = (self.spec.inputs, gate, &pass.inputs) else {
            return Ok(None);
        };
        spec.said(gate, &self.backend, x, (inputs, index, self.layers.len())).map(Some)
    }

    /// All layers over several streams.
    fn streams(&mut self, x: B::Rows, pass: &Pass<'_, B>) -> Result<B::Rows> {
        let (Some(altup), dim) = (self.spec.altup, self.spec.dim) else { return Err(attn::lost()) };
        let ends = self.ends.as_ref().ok_or_else(attn::lost)?;
        let mut streams = altup.begin(ends, &self.backend, &x, dim)?;
        for index in 0..self.layers.len() {
            let around = self.layers[index].around.as_ref().ok_or_else(attn::lost)?;
            streams = altup.predict(around, &self.backend, &streams, dim)?;
            let mut x = altup.active(&self.backend, &streams, dim)?;
            self.layer(index, &mut x, pass)?;
            let (backend, weights) = (&self.backend, &self.layers[index]);
            let around = weights.around.as_ref().ok_or_else(attn::lost)?;
            streams = altup.correct(around, backend, &streams, &x, dim)?;
            let read = altup.read(around, backend, &streams, dim)?;
            if let Some((branch, norm)) = self.of_input(index, &read, pass)? {
                let out = branch.out.ok_or_else(attn::lost)?;
                let said = backend.project(&branch.rows, None, &[out])?.pop().ok_or_else(attn::lost)?;
                streams = altup.hear(backend, &streams, &backend.normed(&said, norm)?, dim)?;
            }
        }
        let ends = self.ends.as_ref().ok_or_else(attn::lost)?;
        altup.end(ends, &self.backend, &streams, dim)
    }

    /// What the mixers of a layer read instead of the stream, if something leads them.
    fn led(&mut self, index: usize, x: &B::Rows, pass: &Pass<'_, B>) -> Result<Option<B::Rows>> {
        let (Some(lead), Some(turn)) = (&self.spec.layers[index].lead, &self.layers[index].lead) else {
            return Ok(None);
        };
        let block = self.blocks.get(&lead.home).ok_or_else(lead::homeless)?;
        let memory = self.memories[index].last_mut().ok_or_else(attn::lost)?;
        let from = pass.reading(&self.backend, x, None);
        let start = pass.start.as_ref().ok_or_else(attn::lost)?;
        lead.run((block, turn), &from, start, memory, self.spec.dim).map(Some)
    }

    /// The stream after the last layer.
    fn stream(&mut self, batch: &Batch) -> Result<B::Rows> {
        let rotations = self.spec.ropes.iter().map(|r| r.rotation(batch)).collect();
        let step = self.backend.step(batch, rotations)?;
        let mut x = self.embedded(batch)?;
        let start = match self.spec.layers.iter().any(|l| l.lead.is_some()) {
            true => Some(
                self.backend.host(&[&x], self.spec.dim, &mut |_, rows, out| out.copy_from_slice(rows[0]))?,
            ),
            false => None,
        };
        let inputs = match (self.spec.inputs, &self.inputs) {
            (Some(spec), Some(w)) => Some(spec.of(w, &self.backend, &batch.tokens, &x, self.spec.dim)?),
            _ => None,
        };
        let pass = Pass { batch, step, start, first: RefCell::default(), inputs };
        if self.ends.is_some() {
            return self.streams(x, &pass);
        }
        for index in 0..self.layers.len() {
            self.layer(index, &mut x, &pass)?;
        }
        Ok(x)
    }

    fn embedded(&self, batch: &Batch) -> Result<B::Rows> {
        let mut x = self.backend.embed(&self.embed, &batch.tokens, self.spec.embed_scale)?;
        if let (Some(table), Some(at)) = (&self.positions, self.spec.positions) {
            let last = at.rows.saturating_sub(1) as u32;
            let rows: Vec<u32> = batch.positions.iter().map(|p| (p + at.offset as u32).min(last)).collect();
            let learned = self.backend.embed(table, &rows, 1.0)?;
            self.backend.add(&mut x, &learned, None, None, 1.0)?;
        }
        if let Some((table, kinds)) = &self.types {
            let last = kinds.saturating_sub(1) as u32;
            let kind = |row: usize| batch.types.get(row).copied().unwrap_or(0).min(last);
            let kinds: Vec<u32> = (0..batch.tokens.len()).map(kind).collect();
            self.backend.add(&mut x, &self.backend.embed(table, &kinds, 1.0)?, None, None, 1.0)?;
        }
        match &self.embed_norm {
            Some(norm) => self.backend.normed(&x, norm),
            None => Ok(x),
        }
    }
}

/// Runs mixer number `at.1` of layer `at.0`.
fn mix<'w, B: Backend>(
    mixer: &Mixer,
    weights: &'w MixerWeights<B>,
    from: &Reading<'_, B>,
    memories: &mut [Vec<Memory<B>>],
    at: (usize, usize),
) -> Result<Branch<'w, B>> {
    match (mixer, weights) {
        (Mixer::Attn(a), MixerWeights::Attn(w)) => {
            let layer = a.shares.unwrap_or(at.0);
            a.run(w, from, &mut memories[layer][at.1])
        }
        (Mixer::Mamba(m), MixerWeights::Mamba(w)) => m.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::Mamba2(m), MixerWeights::Mamba2(w)) => m.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::DeltaNet(d), MixerWeights::DeltaNet(w)) => d.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::ShortConv(c), MixerWeights::ShortConv(w)) => c.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::RgLru(r), MixerWeights::RgLru(w)) => r.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::TimeMix4(t), MixerWeights::TimeMix4(w)) => t.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::TimeMix7(t), MixerWeights::TimeMix7(w)) => t.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::ChannelMix(c), MixerWeights::ChannelMix(w)) => c.run(w, from, &mut memories[at.0][at.1]),
        (Mixer::Mla(m), MixerWeights::Mla(w)) => m.run(w, from, &mut memories[at.0][at.1]),
        _ => Err(attn::lost()),
    }
}

/// What the feed-forward of a layer says, if it has one.
fn feed<'w, B: Backend>(
    backend: &B,
    weights: &'w LayerWeights<B>,
    layer: &Layer,
    norm: Option<&B::Norm>,
    x: &B::Rows,
) -> Result<Option<Branch<'w, B>>> {
    Ok(Some(match (&layer.ffn, &weights.ffn) {
        (Ffn::Glu { dim, act }, FfnWeights::Glu { gate, up, down, .. }) if layer.ffn_scales.bend() => {
            let both = backend.project(x, norm, &[gate, up])?;
            let [gate, up] = &both[..] else { return Err(attn::lost()) };
            let rows = backend.host(&[gate, up], *dim, &mut |pool, rows, out| {
                pool.each_piece(out, *dim, |i, out| {
                    let at = i * dim..(i + 1) * dim;
                    out.copy_from_slice(&rows[0][at.clone()]);
                    layer.ffn_scales.bend_gates(out);
                    glu_row(*act, out, &rows[1][at]);
                });
            })?;
            Branch { rows, out: Some(down) }
        }
        (Ffn::Glu { act, .. }, FfnWeights::Glu { gate, up, down, between }) => {
            let rows = backend.glu(x, norm, gate, up, *act)?;
            let normed = between.as_ref().map(|n| backend.normed(&rows, n)).transpose()?;
            Branch { rows: normed.unwrap_or(rows), out: Some(down) }
        }
        (Ffn::Mlp { act, .. }, FfnWeights::Mlp { up, down }) => {
            Branch { rows: backend.mlp(x, norm, up, *act)?, out: Some(down) }
        }
        (Ffn::Moe(moe), FfnWeights::Moe(w)) => {
            let normed = norm.map(|n| backend.normed(x, n)).transpose()?;
            Branch { rows: mixture(backend, moe, w, x, normed.as_ref().unwrap_or(x))?, out: None }
        }
        _ => return Ok(None),
    }))
}

/// The experts' part and the shared one's, of the normalised `x`; or of the `stream`, through norms of their own.
fn mixture<B: Backend>(
    backend: &B,
    moe: &Moe,
    w: &MoeWeights<B>,
    stream: &B::Rows,
    x: &B::Rows,
) -> Result<B::Rows> {
    let norms = w.norms.as_ref();
    let routed = if norms.is_some() { stream } else { x };
    let logits = backend.project(routed, norms.map(|n| &n.router), &[&w.router])?;
    let logits = backend.fetch(logits.first().ok_or_else(attn::lost)?)?;
    let mut choice = moe.choose(&logits, w.bias.as_deref());
    if let Some(factors) = &w.factors {
        choice.weights.iter_mut().zip(&choice.experts).for_each(|(w, &e)| *w *= factors[e as usize]);
    }
    let read = norms.map(|n| backend.normed(stream, &n.before)).transpose()?;
    let mut out = backend.experts(read.as_ref().unwrap_or(x), &choice, &w.experts, moe.act)?;
    if let Some(norms) = norms {
        out = backend.normed(&out, &norms.after)?;
    }
    if let Some(shared) = &w.shared {
        let rows = one_expert(backend, &shared.expert, moe.act, x)?;
        let rows = match &shared.gate {
            Some(gate) => gated(backend, rows, moe.shared.map_or(0, |s| s.dim), gate, x)?,
            None => rows,
        };
        let norm = norms.map(|n| &n.after_shared);
        backend.add(&mut out, &rows, Some(&shared.expert.down), norm, 1.0)?;
    }
    Ok(out)
}

fn one_expert<B: Backend>(backend: &B, e: &Expert<B::Linear>, act: Act, x: &B::Rows) -> Result<B::Rows> {
    match &e.gate {
        Some(gate) => backend.glu(x, None, gate, &e.up, act),
        None => backend.mlp(x, None, &e.up, act),
    }
}

/// `rows`, `[n, width]`, times the sigmoid of the one number that `gate` makes of each of `x`.
fn gated<B: Backend>(
    backend: &B,
    rows: B::Rows,
    width: usize,
    gate: &B::Linear,
    x: &B::Rows,
) -> Result<B::Rows> {
    let gates = backend.project(x, None, &[gate])?.pop().ok_or_else(attn::lost)?;
    backend.host(&[&rows, &gates], width, &mut |_, rows, out| {
        for ((out, row), g) in out.chunks_exact_mut(width).zip(rows[0].chunks_exact(width)).zip(rows[1]) {
            out.iter_mut().zip(row).for_each(|(o, x)| *o = x / (1.0 + (-g).exp()));
        }
    })
}

fn unfit(message: &str) -> Error {
    Error::Backend { backend: "decoder", message: message.into() }
}

impl<B: Backend> Model for Decoder<B> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache_bytes_per_token(&self) -> usize {
        self.spec.mixers().filter_map(Mixer::cached).map(|a| self.backend.cache_bytes(a)).sum()
    }

    fn allocate(&mut self, shape: CacheShape) -> Result<()> {
        self.memories.clear();
        for layer in &self.spec.layers {
            let memories = layer.all_mixers().map(|m| m.memory(&self.backend, shape));
            self.memories.push(memories.collect::<Result<_>>()?);
        }
        Ok(())
    }

    fn forward(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let x = self.stream(batch)?;
        let Some(norm) = self.norm.as_ref().filter(|_| !self.spec.both_ways()) else {
            return Err(unfit("an encoder makes vectors of texts and cannot go on with one"));
        };
        let head = self.head.as_ref().unwrap_or(&self.embed);
        let shape = LogitShape { scale: self.spec.logit_scale, softcap: self.spec.logit_softcap };
        self.backend.logits(&x, &batch.outputs, norm, head, shape)
    }

    fn encode(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let whole = |s: &Span| s.len > 0 && s.len == s.length && batch.positions.get(s.start) == Some(&0);
        if !batch.spans.iter().all(whole) {
            return Err(unfit("a text has to be encoded as a whole"));
        }
        let mut x = self.stream(batch)?;
        if let Some(norm) = &self.norm {
            x = self.backend.normed(&x, norm)?;
        }
        let (dim, spans) = (self.spec.dim, batch.spans.iter().map(|s| (s.start, s.len)));
        if let (Some(c), Some(w)) = (&self.spec.classifier, &self.classifier) {
            return c.run(w, &self.backend, &x, dim, &spans.collect::<Vec<_>>());
        }
        let Some(embedding) = self.spec.embedding else {
            return Err(unfit("the model's files do not say how a text becomes a vector"));
        };
        let rows = self.backend.fetch(&x)?;
        Ok(spans.map(|(start, len)| embedding.of(&rows[start * dim..(start + len) * dim], dim)).collect())
    }
}
