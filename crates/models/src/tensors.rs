//! The tensors of a model under GGUF's names, whatever file they came from, and which of them were
//! taken. What nobody took is an error ([`Tensors::finish`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use weights::{DType, Tensor, Unreadable};

use crate::packed::Packing;
use crate::{Error, Result};

/// Tensors that files carry along and no forward pass reads.
pub(crate) const IGNORED: &[&str] = &["rotary_emb.inv_freq", "masked_bias", "attn.bias", "attention.bias"];

/// A model's tensors by GGUF name.
pub(crate) struct Tensors {
    file: String,
    arch: String,
    /// GGUF name to the tensor, which keeps the name that its file gives it.
    map: BTreeMap<String, Tensor>,
    /// Those that the file has in a type that is not known.
    unreadable: BTreeMap<String, Unreadable>,
    /// Of those, the bytes of what is packed in ways that may be known.
    packed: BTreeMap<String, Tensor>,
    /// The way.
    packing: Option<Packing>,
    /// What is unpacked becomes f32 rather than bf16.
    exact: bool,
    taken: RefCell<BTreeSet<String>>,
    /// What turns a tensor as the file has it into what GGUF has under the name.
    edit: Option<Box<Edit>>,
}

/// Name and tensor to tensor.
pub(crate) type Edit = dyn Fn(&str, Tensor) -> Result<Tensor>;

impl Tensors {
    pub fn new(
        file: String,
        arch: &str,
        map: BTreeMap<String, Tensor>,
        unreadable: BTreeMap<String, Unreadable>,
        edit: Option<Box<Edit>>,
    ) -> Tensors {
        let (packed, taken) = (BTreeMap::new(), RefCell::default());
        let (arch, packing, exact) = (arch.to_string(), None, false);
        Tensors { file, arch, map, unreadable, packed, packing, exact, taken, edit }
    }

    /// With bytes of numbers that are packed in this way, and become f32 if `exact`, else bf16.
    pub fn with_packed(
        self,
        packed: BTreeMap<String, Tensor>,
        packing: Option<Packing>,
        exact: bool,
    ) -> Tensors {
        Tensors { packed, packing, exact, ..self }
    }

    /// The bytes of `name`, if the file has it in this type.
    pub fn bytes(&self, name: &str, kind: &str) -> Option<&Tensor> {
        self.unreadable.get(name).filter(|u| u.kind == kind).and(self.packed.get(name))
    }

    /// Shape and numbers of a plain tensor that must be there.
    pub fn plain(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let missing = || self.bad(name, "nothing".into(), "plain numbers".into());
        let tensor = self.map.get(name).ok_or_else(missing)?;
        self.pass_over(name);
        Ok((tensor.shape.clone(), widen(tensor)?))
    }

    /// What became of `packed`: as many numbers.
    pub fn made(&self, packed: &Tensor, shape: Vec<usize>, numbers: Vec<f32>) -> Result<Tensor> {
        let dtype = if self.exact { DType::F32 } else { DType::BF16 };
        let mut bytes = vec![0; dtype.bytes(numbers.len()).unwrap_or(0)];
        if let Some(quantize) = dtype.format().quantize {
            quantize(&numbers, &mut bytes);
        }
        let found = format!("{} numbers", numbers.len());
        let made = packed.remade(dtype, shape.clone(), bytes);
        made.ok_or_else(|| self.bad(&packed.name, found, format!("shape {shape:?}")))
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name) || self.pair(name).is_some() || self.unpacked(name).is_some()
    }

    /// Blocks and exponents of `name` in MXFP4, where it lies as two tensors.
    fn pair(&self, name: &str) -> Option<(&Tensor, &Tensor)> {
        let stem = name.strip_suffix(".weight")?;
        Some((self.packed.get(&format!("{stem}.blocks"))?, self.packed.get(&format!("{stem}.scales"))?))
    }

    /// One tensor out of such a pair.
    fn joined(&self, name: &str) -> Result<Option<Tensor>> {
        let Some((blocks, scales)) = self.pair(name) else { return Ok(None) };
        let stem = name.trim_end_matches(".weight");
        self.taken.borrow_mut().extend([format!("{stem}.blocks"), format!("{stem}.scales")]);
        joined(blocks, scales).map(Some).ok_or_else(|| {
            let found = format!("blocks of shape {:?} and exponents {:?}", blocks.shape, scales.shape);
            self.bad(&blocks.name, found, "16 bytes for each exponent".into())
        })
    }

    /// Every tensor as the file has it, by the name used here.
    pub fn stored(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.map.iter()
    }

    /// What lies as blocks and exponents: the name of the two together, and both.
    pub fn pairs(&self) -> impl Iterator<Item = (String, &Tensor, &Tensor)> {
        let names = self.packed.keys().filter_map(|name| name.strip_suffix(".blocks"));
        names.filter_map(|stem| {
            let name = format!("{stem}.weight");
            self.pair(&name).map(|(blocks, scales)| (name, blocks, scales))
        })
    }

    pub fn has_shape(&self, name: &str, shape: &[usize]) -> bool {
        self.map.get(name).is_some_and(|t| t.shape == shape)
            || self.unpacked(name).is_some_and(|s| s == shape)
    }

    /// The shape of what is packed.
    fn unpacked(&self, name: &str) -> Option<Vec<usize>> {
        self.packing.as_ref()?.shape(self, name)
    }

    /// How many rows the file's tensor has.
    pub fn rows_of(&self, name: &str) -> Option<usize> {
        let plain = self.map.get(name).map(|t| t.shape.clone());
        plain.or_else(|| self.unpacked(name)).and_then(|shape| shape.first().copied())
    }

    /// The tensor `name` as GGUF would have it, if there is one.
    fn fetch(&self, name: &str) -> Result<Option<Tensor>> {
        if let Some(packing) = &self.packing
            && let Some(tensor) = packing.unpack(self, name)?
        {
            return self.edited(name, tensor).map(Some);
        }
        if let Some(unreadable) = self.unreadable.get(name) {
            let expected = "a type that can be computed with; take another quantization of the model";
            return Err(self.bad(name, format!("numbers stored as {}", unreadable.kind), expected.into()));
        }
        let Some(tensor) = self.map.get(name).cloned().map_or_else(|| self.joined(name), |t| Ok(Some(t)))?
        else {
            return Ok(None);
        };
        self.edited(name, tensor).map(Some)
    }

    fn edited(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        self.pass_over(name);
        match &self.edit {
            Some(edit) => edit(name, tensor),
            None => Ok(tensor),
        }
    }

    /// The tensor `name` of exactly this shape, if there is one.
    pub fn opt(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        match self.fetch(name)? {
            Some(t) if t.shape != shape => {
                Err(self.bad(&t.name, format!("shape {:?}", t.shape), format!("shape {shape:?}")))
            }
            found => Ok(found),
        }
    }

    /// The tensor `name` of exactly this shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.opt(name, shape)?.ok_or_else(|| {
            let spelled = hub_spelling(name).map_or(String::new(), |hub| format!(" (in safetensors: {hub})"));
            self.bad(&format!("{name}{spelled}"), "nothing".into(), format!("shape {shape:?}"))
        })
    }

    /// The tensor `name` of this shape but for dimensions of one, which files put where they like.
    pub fn get_squeezed(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let squeezed = |s: &[usize]| s.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        match self.fetch(name)? {
            Some(t) if squeezed(&t.shape) == squeezed(shape) => Ok(t),
            _ => self.get(name, shape),
        }
    }

    /// A vector widened to f32, if there is one.
    pub fn opt_vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        self.opt(name, &[len])?.map(|t| widen(&t)).transpose()
    }

    /// The numbers of a tensor of any shape, if there is one.
    pub fn opt_list(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.fetch(name)?.map(|t| widen(&t)).transpose()
    }

    /// A vector widened to f32.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        widen(&self.get(name, &[len])?)
    }

    /// Says that `name` may stand in the file without being used.
    pub fn pass_over(&self, name: &str) {
        self.taken.borrow_mut().insert(name.to_string());
    }

    /// Says that the `count` layers from number `first` on may stand in the file without being used.
    pub fn pass_over_layers(&self, first: usize, count: usize) {
        let number = |name: &str| {
            let rest = name.strip_prefix("blk.").or_else(|| name.strip_prefix("model.layers."))?;
            rest.split_once('.')?.0.parse::<usize>().ok()
        };
        let unused = |name: &&String| number(name).is_some_and(|n| n >= first && n - first < count);
        self.taken.borrow_mut().extend(self.map.keys().chain(self.unreadable.keys()).filter(unused).cloned());
    }

    /// Says that tensors whose names begin so may stand in the file without being used.
    pub fn pass_over_beginning(&self, with: &[&str]) {
        let unused = |name: &&String| with.iter().any(|start| name.starts_with(start));
        self.taken.borrow_mut().extend(self.map.keys().filter(unused).cloned());
    }

    /// An error if the file has tensors that nobody took.
    pub fn finish(&self) -> Result<()> {
        let taken = self.taken.borrow();
        let left = self.map.iter().filter(|(name, _)| !taken.contains(*name));
        let left = left.filter(|(name, _)| !IGNORED.iter().any(|end| name.ends_with(end)));
        let mut names: Vec<&str> = left.map(|(_, tensor)| tensor.name.as_str()).collect();
        names.extend(self.unreadable.keys().filter(|name| !taken.contains(*name)).map(String::as_str));
        if names.is_empty() {
            return Ok(());
        }
        let more = names.len().saturating_sub(8);
        names.truncate(8);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let keys = format!("the tensors {}{more}", names.join(", "));
        Err(Error::Unread { file: self.file.clone(), arch: self.arch.clone(), keys })
    }

    pub fn bad(&self, tensor: &str, found: String, expected: String) -> Error {
        Error::Tensor { file: self.file.clone(), tensor: tensor.to_string(), found, expected }
    }
}

/// What a missing tensor would be called in a folder of the Hub, for the error message.
fn hub_spelling(name: &str) -> Option<&'static str> {
    match name {
        "output.weight" => Some("lm_head.weight"),
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        _ => None,
    }
}

/// The numbers of a tensor as f32, by the scalar definition of its type.
pub(crate) fn widen(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut values = vec![0.0; tensor.elements()];
    tensor.dtype.unpack_row(tensor.bytes(), &mut values);
    Ok(values)
}

/// One tensor in MXFP4 out of its blocks, `[.., n, 16]`, and its exponents, `[.., n]`.
pub(crate) fn joined(blocks: &Tensor, scales: &Tensor) -> Option<Tensor> {
    let (Some((16, counts)), true) = (blocks.shape.split_last(), scales.elements() * 16 == blocks.elements())
    else {
        return None;
    };
    let mut shape = counts.to_vec();
    let columns = shape.last_mut()?;
    *columns = columns.checked_mul(32)?;
    let pairs = blocks.bytes().chunks_exact(16).filter_map(|p| <&[u8; 16]>::try_from(p).ok());
    let block = pairs.zip(scales.bytes()).flat_map(|(p, &e)| mxfp4_of_neighbours(e, p));
    blocks.remade(DType::MXFP4, shape, block.collect())
}

/// A block of ggml's MXFP4 out of an exponent and 16 bytes that hold neighbours, the first in the lower half: so gpt-oss's
/// files have it.
fn mxfp4_of_neighbours(exponent: u8, pairs: &[u8; 16]) -> [u8; 17] {
    let number = |i: usize| (pairs[i / 2] >> (4 * (i % 2))) & 15;
    let mut block = [exponent; 17];
    block[1..].iter_mut().enumerate().for_each(|(j, byte)| *byte = number(j) | (number(j + 16) << 4));
    block
}
