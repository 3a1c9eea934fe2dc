//! Fetches the tensors that a [`Spec`] calls for and hands them to a backend.
//!
//! Here the conventions of files end: fused matrices are taken apart by rows (in place), norm weights
//! that lie less one get it back, rope divisors move into the spec, and a missing output matrix means
//! the embedding. What is in the file and not called for is an error.

mod layer;

pub(crate) use layer::{LayerLoader, by_group};

use std::collections::BTreeMap;

use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Checkpoint;
use crate::decoder::Decoder;
use crate::rope::{Rope, Scaling};
use crate::rope_hparams::put_divisors;
use crate::spec::{Act, Ffn, Spec};
use crate::tensors::Tensors;

impl Checkpoint {
    /// Loads the weights onto `backend`.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, of a type that cannot be used, or not called for.
    pub fn load<B: Backend>(&self, backend: B) -> Result<Decoder<B>> {
        self.load_spec(self.spec()?, backend)
    }

    /// As [`Checkpoint::load`], with a spec that need not be the file's own.
    pub fn load_spec<B: Backend>(&self, mut spec: Spec, backend: B) -> Result<Decoder<B>> {
        let tensors = self.named_tensors(&spec);
        take_divisors(&mut spec, &tensors)?;
        take_activations(&mut spec, &tensors)?;
        let loader = |prefix: String| LayerLoader {
            tensors: &tensors,
            backend: &backend,
            norm: spec.norm,
            norm_less_one: self.norm_less_one(),
            dim: spec.dim,
            prefix,
        };
        let top = loader(String::new());
        let embed = top.linear("token_embd", spec.vocab, spec.dim)?;
        let positions = spec.positions.map(|p| top.linear("position_embd", p.rows, spec.dim)).transpose()?;
        // RWKV's own files have it in the first layer.
        let inside = spec.embed_norm && !top.has("token_embd_norm.weight");
        let around = loader(if inside { "blk.0.".into() } else { String::new() });
        let embed_norm = around.opt_norm(spec.embed_norm, "token_embd_norm")?;
        let layers = spec.layers.iter().enumerate().map(|(i, l)| loader(format!("blk.{i}.")).layer(l, &spec));
        let mut layers = layers.collect::<Result<Vec<_>>>()?;
        let mut blocks = BTreeMap::new();
        for (i, layer) in spec.layers.iter().enumerate() {
            let Some(lead) = &layer.lead else { continue };
            let (home, own) = (loader(format!("blk.{}.", lead.home)), loader(format!("blk.{i}.")));
            if lead.home == i {
                blocks.insert(i, lead.load_block(&home)?);
            }
            layers[i].lead = Some(lead.load(&home, &own)?);
        }
        let types = match top.rows_of("token_types.weight").filter(|_| spec.token_types) {
            Some(kinds) => Some((top.linear("token_types", kinds, spec.dim)?, kinds)),
            None => None,
        };
        // GGUFs of LFM2 call the last norm the embedding's.
        let odd = !spec.embed_norm && !top.has("output_norm.weight") && top.has("token_embd_norm.weight");
        let norm = top.opt_norm(spec.final_norm, if odd { "token_embd_norm" } else { "output_norm" })?;
        let ends = spec.altup.map(|a| a.load_ends(&top)).transpose()?;
        let inputs = spec.inputs.map(|i| i.load(&top, spec.layers.len())).transpose()?;
        let head = top.head(&spec)?;
        let classifier = spec.classifier.map(|c| c.load(&top)).transpose()?;
        if spec.both_ways() {
            tensors.pass_over_beginning(if classifier.is_some() { UNUSED } else { HEADS });
        }
        tensors.pass_over_layers(spec.layers.len(), spec.unused_layers);
        tensors.finish()?;
        let memories = vec![];
        Ok(Decoder {
            backend,
            embed,
            positions,
            types,
            embed_norm,
            ends,
            inputs,
            layers,
            blocks,
            norm,
            head,
            classifier,
            memories,
            spec,
        })
    }
}

/// What encoders have beside the layers for guessing words and for saying what follows what.
pub(crate) const HEADS: &[&str] = &[
    "cls.",
    "pooler.",
    "lm_head.",
    "output.",
    "decoder.",
    "head.",
    "classifier.",
    "embeddings.position_ids",
];
/// Of those, what a classifier does not take either.
pub(crate) const UNUSED: &[&str] =
    &["embeddings.position_ids", "roberta.embeddings.position_ids", "bert.embeddings.position_ids"];

/// Rope divisors that the file brings as tensors belong to the spec.
fn take_divisors(spec: &mut Spec, tensors: &Tensors) -> Result<()> {
    let wanting = spec.ropes.iter().any(Rope::lacks_divisors);
    for name in ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"] {
        if let Some(list) = tensors.opt_list(name)? {
            // They are for those that wait for them, else for all.
            for rope in spec.ropes.iter_mut().filter(|r| !wanting || r.lacks_divisors()) {
                put_divisors(rope, name, list.clone(), tensors.file())?;
            }
        }
    }
    let Some(rope) = spec.ropes.iter().find(|r| r.lacks_divisors()) else { return Ok(()) };
    let (name, scaling) = match rope.scaling {
        Scaling::Factors(_) => ("rope_freqs.weight", "proportional"),
        _ => ("rope_factors_long.weight", "longrope"),
    };
    let expected = format!("{} numbers, since the rope scaling is {scaling}", rope.dim / 2);
    Err(tensors.bad(name, "nothing".into(), expected))
}

/// And so do the numbers of an activation that each layer has its own of.
fn take_activations(spec: &mut Spec, tensors: &Tensors) -> Result<()> {
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        let Ffn::Mlp { act: act @ Act::Xielu { .. }, .. } = &mut layer.ffn else { continue };
        let number = |part: &str| {
            let name = format!("blk.{i}.xielu_{part}");
            let list = tensors.opt_list(&name)?;
            match list.as_deref() {
                Some([one]) => Ok(Some(*one)),
                Some(many) => Err(tensors.bad(&name, format!("{} numbers", many.len()), "one number".into())),
                None => Ok(None),
            }
        };
        let [p, n, beta, eps] = [number("alpha_p")?, number("alpha_n")?, number("beta")?, number("eps")?];
        match (p, n) {
            (Some(p), Some(n)) => *act = Act::xielu(p, n, beta.unwrap_or(0.5), eps.unwrap_or(-1e-6)),
            // A GGUF says it in its metadata.
            _ if *act != Act::Xielu { p: 0.0, n: 0.0, beta: 0.0, eps: 0.0 } => {}
            _ => {
                let name =
                    format!("blk.{i}.xielu_alpha_p (in safetensors: model.layers.{i}.mlp.act_fn.alpha_p)");
                return Err(tensors.bad(&name, "nothing".into(), "a number".into()));
            }
        }
    }
    Ok(())
}
