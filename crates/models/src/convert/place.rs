//! A folder's tensors under GGUF's names and conventions.

use std::collections::BTreeMap;
use std::sync::Arc;

use weights::Tensor;

use super::Heads;
use super::rules::Asked;
use super::source::{Change, Source, Stored, misfit};
use crate::arch::{Arch, Edit};
use crate::checkpoint::Checkpoint;
use crate::load::{HEADS, UNUSED};
use crate::mixers::Mixer;
use crate::spec::{Ffn, Spec};
use crate::tensors::{IGNORED, joined};
use crate::{Error, Result};

/// Everything that a folder's tensors become.
pub(super) fn tensors(checkpoint: &Checkpoint, arch: &Arch, spec: &Spec) -> Result<Vec<(String, Source)>> {
    let number = |key: &str| number(checkpoint, key);
    let place = Place { spec, arch, number: &number };
    let mut out = BTreeMap::new();
    for (name, tensor) in stacked(checkpoint, named(checkpoint, spec)?)? {
        for (name, stored) in place.outputs(&name, tensor)? {
            out.insert(name, Source::Stored(stored));
        }
    }
    Ok(out.into_iter().collect())
}

/// A number of config.json by its dotted path; 1 where there is none.
fn number(checkpoint: &Checkpoint, key: &str) -> f32 {
    let config = checkpoint.config();
    let found = config.and_then(|config| {
        key.split('.').try_fold(config, |at, part| match part.parse::<usize>() {
            Ok(index) => at.get(index),
            Err(_) => at.get(part),
        })
    });
    found.and_then(serde_json::Value::as_f64).map_or(1.0, |f| f as f32)
}

/// What is written, by our names; what no forward pass reads is left out, and what nothing knows refused.
fn named(checkpoint: &Checkpoint, spec: &Spec) -> Result<BTreeMap<String, Stored>> {
    let tensors = checkpoint.named_tensors(spec);
    let aside: &[&str] = match (spec.both_ways(), spec.classifier) {
        (false, _) => &[],
        (true, None) => HEADS,
        (true, Some(_)) => UNUSED,
    };
    let used = 0..spec.layers.len();
    let foreseen = |l: usize| !used.contains(&l) && l < used.end + spec.unused_layers;
    let mut out = BTreeMap::new();
    for (name, tensor) in tensors.stored() {
        let layer = layer_of(name).map(|(layer, _)| layer).or(hub_layer(&tensor.name));
        let passed = layer.is_some_and(foreseen)
            || aside.iter().any(|start| name.starts_with(start))
            || IGNORED.iter().any(|end| name.ends_with(end))
            || (spec.tied == Some(true) && name == "output.weight");
        if passed {
            continue;
        }
        if *name == tensor.name {
            return Err(Error::Unread {
                file: checkpoint.path.display().to_string(),
                arch: spec.arch.to_string(),
                keys: format!("the tensor {}", tensor.name),
            });
        }
        out.insert(name.clone(), Stored::of(tensor));
    }
    for (name, blocks, scales) in tensors.pairs() {
        let first = joined(blocks, scales).ok_or_else(|| misfit(blocks, "16 bytes for each exponent"))?;
        let (shape, parts) = (first.shape, vec![blocks.clone(), scales.clone()]);
        let make = |parts: &[Tensor]| {
            joined(&parts[0], &parts[1]).ok_or_else(|| misfit(&parts[0], "16 bytes for each exponent"))
        };
        let stored = Stored { parts, shape, make: Some(Arc::new(make)), rows: None, change: Change::None };
        out.insert(name, stored);
    }
    Ok(out)
}

/// The number of the layer that the Hub's name speaks of.
fn hub_layer(name: &str) -> Option<usize> {
    name.split_once("layers.")?.1.split('.').next()?.parse().ok()
}

/// Number and rest of a name within a layer.
fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

/// What lies in several tensors that are one in a GGUF, and its number among them: experts, norms of heads, RWKV 7's
/// blends.
fn member(name: &str) -> Option<(String, usize)> {
    let blend = name.strip_suffix(".weight").and_then(|n| n.rsplit_once("time_mix_lerp_"));
    if let Some((before, which)) = blend.filter(|(_, which)| which.len() == 1) {
        return Some((format!("{before}time_mix_lerp_fused.weight"), "rwkvag".find(which)?));
    }
    let (before, end) = name.rsplit_once('.')?;
    let (module, number) = before.rsplit_once('.')?;
    let number = number
        .parse()
        .ok()
        .filter(|_| layer_of(name).is_some_and(|(_, part)| part.matches('.').count() == 2))?;
    let experts = if module.ends_with("norm") { "" } else { "_exps" };
    Some((format!("{module}{experts}.{end}"), number))
}

fn stacked(checkpoint: &Checkpoint, named: BTreeMap<String, Stored>) -> Result<BTreeMap<String, Stored>> {
    let mut out = BTreeMap::new();
    let mut stacks: BTreeMap<String, BTreeMap<usize, Stored>> = BTreeMap::new();
    for (name, tensor) in named {
        match member(&name) {
            Some((stack, number)) => drop(stacks.entry(stack).or_default().insert(number, tensor)),
            None => drop(out.insert(name, tensor)),
        }
    }
    for (name, members) in stacks {
        let n = members.len();
        let first = members.values().next().map(|t| t.shape.clone()).unwrap_or_default();
        let whole = members.keys().copied().eq(0..n) && members.values().all(|t| t.shape == first);
        if !whole {
            return Err(Error::Tensor {
                file: checkpoint.path.display().to_string(),
                tensor: name,
                found: format!("{n} tensors, not all alike and numbered from 0"),
                expected: "one for each expert or head".into(),
            });
        }
        let shape = if name.contains("lerp_fused") {
            vec![n, 1, 1, first.iter().product()]
        } else {
            [vec![n], first].concat()
        };
        let parts = members.into_values().flat_map(|t| t.parts).collect();
        out.insert(name, Stored { parts, shape, make: None, rows: None, change: Change::None });
    }
    Ok(out)
}

struct Place<'a> {
    spec: &'a Spec,
    arch: &'a Arch,
    number: &'a dyn Fn(&str) -> f32,
}

impl Place<'_> {
    /// What a tensor under our name becomes.
    fn outputs(&self, name: &str, stored: Stored) -> Result<Vec<(String, Stored)>> {
        let (layer, part) = layer_of(name).map_or((None, name), |(layer, part)| (Some(layer), part));
        let asked = Asked { spec: self.spec, layer, own: self.arch.to_gguf, number: self.number };
        let base = || self.turned(name, part, stored.clone());
        let Some(outputs) = asked.outputs(part) else {
            let to = self.spelled(layer, part);
            return Ok(vec![(to, base()?)]);
        };
        let mut out = vec![];
        for (to, forms) in outputs {
            let formed = asked.formed(base()?, forms);
            out.extend(formed.map(|formed| (self.spelled(layer, to), formed)));
        }
        Ok(out)
    }

    /// What the family does to its tensors by their names.
    fn turned(&self, name: &str, part: &str, stored: Stored) -> Result<Stored> {
        let mut stored = match self.arch.edit {
            Some(edit) => self.edited(edit, name, stored)?,
            None => stored,
        };
        if let Some(heads) = self.heads(part) {
            stored = stored.mapped(move |row| heads.source(row));
        }
        // A delta net's own norm is as it is.
        if self.arch.norm_less_one && part.ends_with("norm.weight") && part != "ssm_norm.weight" {
            stored = stored.changed(Change::Add(1.0));
        }
        Ok(stored)
    }

    fn edited(&self, edit: Edit, name: &str, stored: Stored) -> Result<Stored> {
        let whole = match &stored.make {
            Some(make) => make(&stored.parts)?,
            None => stored.parts[0].clone(),
        };
        let before = (whole.bytes().as_ptr(), whole.shape.clone());
        let after = edit(self.spec, name, whole)?;
        if (after.bytes().as_ptr(), &after.shape) == (before.0, &before.1) {
            return Ok(stored);
        }
        let (spec, name) = (self.spec.clone(), name.to_string());
        // What could be done once can be done again.
        Ok(stored.then(after.shape, move |t| edit(&spec, &name, t.clone()).ok()))
    }

    /// The reordering of a tensor's rows, if GGUF has it.
    fn heads(&self, part: &str) -> Option<Heads> {
        let module = part.rsplit_once('.')?.0;
        if !self.arch.gguf_interleaved || !["attn_q", "attn_k"].contains(&module) {
            return None;
        }
        let dim = self.spec.mixers().find_map(Mixer::cached)?.head_dim;
        Some(Heads { dim, turned: self.spec.ropes.first()?.dim })
    }

    /// GGUF's name for ours within a layer.
    fn spelled(&self, layer: Option<usize>, part: &str) -> String {
        let Some(layer) = layer.filter(|_| !part.starts_with('/')) else {
            return part.trim_start_matches('/').to_string();
        };
        let (module, end) = part.rsplit_once('.').unwrap_or((part, ""));
        let theirs =
            self.arch.gguf_names.iter().find(|(_, ours)| *ours == module).map_or(module, |row| row.0);
        // Without experts, what all tokens share is the feed-forward.
        let dense = !matches!(self.spec.layers.get(layer).map(|l| &l.ffn), Some(Ffn::Moe(_)));
        let theirs = if dense { theirs.trim_end_matches("_shexp") } else { theirs };
        if end.is_empty() { format!("blk.{layer}.{theirs}") } else { format!("blk.{layer}.{theirs}.{end}") }
    }
}
