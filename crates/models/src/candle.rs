//! The candle backend: every operation written out plainly in candle tensors.
//!
//! On a GPU it is the fast path; on a CPU it is the slow, obviously right one that the others are
//! checked against. Activations are f32. Plain weights are widened to f32; quantized ones stay as they
//! are and are multiplied by candle's own quantized kernels, or are widened too where an exact answer
//! is wanted ([`CandleBackend::exact`]).

use candle_core::quantized::{GgmlDType, QMatMul, ggml_file::qtensor_from_ggml};
use candle_core::{D, DType as CandleType, Device, Module, Tensor as Array};
use weights::{DType, Tensor};

use crate::backend::{Backend, LogitShape};
use crate::batch::{Batch, CacheShape, Span};
use crate::rope::Rotation;
use crate::spec::{Act, Attn, Norm, NormKind};
use crate::{Error, Result};

/// Candle tensors on one device.
pub struct CandleBackend {
    device: Device,
    exact: bool,
}

/// A matrix `[out, in]`, and a bias `[out]`.
pub struct Linear {
    weight: Matrix,
    bias: Option<Array>,
}

enum Matrix {
    Plain(Array),
    /// Candle's copy to multiply by, and the file's own to look rows up in.
    Quantized(QMatMul, Tensor),
}

/// A norm with its weights.
pub struct NormWeights {
    norm: Norm,
    weight: Array,
    bias: Option<Array>,
}

/// Keys and values of a layer, each `[slots, n_kv_heads, head_dim]`.
pub struct Cache {
    keys: Array,
    values: Array,
    block_size: usize,
}

/// A prepared batch: its spans and, for each rope, cosines and sines `[rows, 1, pairs]`.
pub struct Step {
    batch: Batch,
    rotations: Vec<Turn>,
}

struct Turn {
    cos: Array,
    sin: Array,
    interleaved: bool,
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Error {
        // What follows the first line is candle's own backtrace.
        let message = error.to_string().lines().next().unwrap_or_default().to_string();
        Error::Backend { backend: "candle", message }
    }
}

impl CandleBackend {
    /// On the CPU.
    pub fn cpu() -> CandleBackend {
        CandleBackend { device: Device::Cpu, exact: false }
    }

    /// On the CPU with quantized weights widened to f32, so that activations are never rounded.
    pub fn exact() -> CandleBackend {
        CandleBackend { device: Device::Cpu, exact: true }
    }

    /// On the first CUDA device; an error where this build or machine has none.
    pub fn cuda() -> Result<CandleBackend> {
        Ok(CandleBackend { device: Device::new_cuda(0)?, exact: false })
    }

    /// On the first Metal device; an error where this build or machine has none.
    pub fn metal() -> Result<CandleBackend> {
        Ok(CandleBackend { device: Device::new_metal(0)?, exact: false })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Array> {
        Ok(Array::new(values, &self.device)?)
    }

    /// Rows of a quantized table, widened one by one.
    fn stored_rows(&self, table: &Tensor, tokens: &[u32]) -> Result<Array> {
        let row = |&token: &u32| {
            let row = table.rows(token as usize, 1).ok_or_else(|| Error::Backend {
                backend: "candle",
                message: format!("token {token} has no row in {table:?}"),
            })?;
            crate::tensors::widen(&row)
        };
        let values = tokens.iter().map(row).collect::<Result<Vec<_>>>()?.concat();
        Ok(Array::from_vec(values, (tokens.len(), table.shape[1]), &self.device)?)
    }

    fn attend_span(&self, q: &Array, span: &Span, attn: &Attn, cache: &Cache, step: &Step) -> Result<Array> {
        let first = step.batch.positions[span.start] as usize;
        let (len, end) = (span.len, first + span.len);
        // Keys before the first query's window are seen by none of the rows.
        let start = attn.window.map_or(0, |w| (first + 1).saturating_sub(w));
        let slots: Vec<u32> = (start..end).map(|p| span.slot(p, cache.block_size)).collect();
        let slots = Array::new(slots, &self.device)?;
        let heads_first = |a: &Array| a.index_select(&slots, 0)?.transpose(0, 1)?.contiguous();
        let (keys, values) = (heads_first(&cache.keys)?, heads_first(&cache.values)?);
        let group = attn.n_heads / attn.n_kv_heads;
        let q = q.narrow(0, span.start, len)?.reshape((len, attn.n_kv_heads, group, attn.head_dim))?;
        let q = q.permute((1, 2, 0, 3))?.reshape((attn.n_kv_heads, group * len, attn.head_dim))?;
        let scores = (q.matmul(&keys.t()?)? * attn.scale as f64)?;
        let scores = capped(&scores, attn.softcap)?.reshape((attn.n_kv_heads, group, len, end - start))?;
        let scores = scores.broadcast_add(&self.mask(first, len, start, attn.window)?)?;
        let weights = softmax(&scores)?.reshape((attn.n_kv_heads, group * len, end - start))?;
        let out = weights.matmul(&values)?.reshape((attn.n_kv_heads, group, len, attn.head_dim))?;
        Ok(out.permute((2, 0, 1, 3))?.reshape((len, attn.n_heads * attn.head_dim))?)
    }

    /// `[len, keys]`: 0 where the row may look, minus infinity where not. Keys begin at `start`.
    fn mask(&self, first: usize, len: usize, start: usize, window: Option<usize>) -> Result<Array> {
        let keys = first + len - start;
        let mut mask = vec![f32::NEG_INFINITY; len * keys];
        for row in 0..len {
            let position = first + row;
            let from = window.map_or(0, |w| (position + 1).saturating_sub(w)).max(start);
            mask[row * keys + from - start..=row * keys + position - start].fill(0.0);
        }
        Ok(Array::from_vec(mask, (len, keys), &self.device)?)
    }

    fn store(&self, cache: &mut Cache, k: &Array, v: &Array, slots: &[u32]) -> Result<()> {
        let mut row = 0;
        while row < slots.len() {
            // Runs of neighbouring slots are copied at once.
            let next = |n: usize| slots.get(row + n) == Some(&(slots[row] + n as u32));
            let run = (1..).take_while(|&n| next(n)).count() + 1;
            let at = slots[row] as usize;
            cache.keys.slice_set(&k.narrow(0, row, run)?.contiguous()?, 0, at)?;
            cache.values.slice_set(&v.narrow(0, row, run)?.contiguous()?, 0, at)?;
            row += run;
        }
        Ok(())
    }
}

impl Backend for CandleBackend {
    type Rows = Array;
    type Linear = Linear;
    type Norm = NormWeights;
    type Cache = Cache;
    type Step = Step;

    fn linear(&self, weight: &Tensor, bias: Option<Vec<f32>>) -> Result<Linear> {
        let weight = match ggml(weight.dtype) {
            Some(dtype) if !self.exact => {
                let stored = qtensor_from_ggml(dtype, weight.bytes(), weight.shape.clone(), &self.device)?;
                Matrix::Quantized(QMatMul::from_qtensor(stored)?, weight.clone())
            }
            _ => Matrix::Plain(
                Array::from_vec(crate::tensors::widen(weight)?, weight.shape.clone(), &Device::Cpu)?
                    .to_device(&self.device)?,
            ),
        };
        Ok(Linear { weight, bias: bias.map(|b| self.vector(b)).transpose()? })
    }

    fn norm(&self, norm: Norm, weight: Vec<f32>, bias: Option<Vec<f32>>) -> Result<NormWeights> {
        let bias = bias.map(|b| self.vector(b)).transpose()?;
        Ok(NormWeights { norm, weight: self.vector(weight)?, bias })
    }

    fn cache(&self, attn: &Attn, shape: CacheShape) -> Result<Cache> {
        let dims = (shape.blocks * shape.block_size, attn.n_kv_heads, attn.head_dim);
        let room = || Array::zeros(dims, CandleType::F32, &self.device);
        Ok(Cache { keys: room()?, values: room()?, block_size: shape.block_size })
    }

    fn cache_bytes(&self, attn: &Attn) -> usize {
        2 * attn.n_kv_heads * attn.head_dim * size_of::<f32>()
    }

    fn step(&self, batch: &Batch, rotations: Vec<Rotation>) -> Result<Step> {
        let turn = |r: Rotation| {
            let dims = (batch.tokens.len(), 1, r.pairs);
            let cos = Array::from_vec(r.cos, dims, &self.device)?;
            let sin = Array::from_vec(r.sin, dims, &self.device)?;
            Ok(Turn { cos, sin, interleaved: r.interleaved })
        };
        let rotations = rotations.into_iter().map(turn).collect::<Result<_>>()?;
        Ok(Step { batch: batch.clone(), rotations })
    }

    fn embed(&self, table: &Linear, tokens: &[u32], scale: f32) -> Result<Array> {
        let rows = match &table.weight {
            Matrix::Plain(weight) => weight.index_select(&Array::new(tokens, &self.device)?, 0)?,
            Matrix::Quantized(_, stored) => self.stored_rows(stored, tokens)?,
        };
        Ok((rows * scale as f64)?)
    }

    fn project(&self, x: &Array, norm: Option<&NormWeights>, to: &[&Linear]) -> Result<Vec<Array>> {
        let x = normed(x, norm)?;
        to.iter().map(|linear| linear.apply(&x)).collect()
    }

    fn attend(
        &self,
        [q, k, v]: [Array; 3],
        attn: &Attn,
        qk_norms: Option<&(NormWeights, NormWeights)>,
        cache: &mut Cache,
        step: &Step,
    ) -> Result<Array> {
        let heads = |a: Array, n: usize| a.reshape((step.batch.tokens.len(), n, attn.head_dim));
        let (mut q, mut k) = (heads(q, attn.n_heads)?, heads(k, attn.n_kv_heads)?);
        if let Some((q_norm, k_norm)) = qk_norms {
            (q, k) = (q_norm.apply(&q)?, k_norm.apply(&k)?);
        }
        if let Some(rope) = attn.rope {
            (q, k) = (step.rotations[rope].apply(&q)?, step.rotations[rope].apply(&k)?);
        }
        self.store(cache, &k, &heads(v, attn.n_kv_heads)?, &step.batch.slots)?;
        let spans = step.batch.spans.iter().map(|span| self.attend_span(&q, span, attn, cache, step));
        Ok(Array::cat(&spans.collect::<Result<Vec<_>>>()?, 0)?)
    }

    fn glu(
        &self,
        x: &Array,
        norm: Option<&NormWeights>,
        gate: &Linear,
        up: &Linear,
        act: Act,
    ) -> Result<Array> {
        let x = normed(x, norm)?;
        Ok((activate(&gate.apply(&x)?, act)? * up.apply(&x)?)?)
    }

    fn add(
        &self,
        x: &mut Array,
        y: &Array,
        out: &Linear,
        norm: Option<&NormWeights>,
        scale: f32,
    ) -> Result<()> {
        let branch = normed(&out.apply(y)?, norm)?;
        *x = (&*x + (branch * scale as f64)?)?;
        Ok(())
    }

    fn logits(
        &self,
        x: &Array,
        rows: &[u32],
        norm: &NormWeights,
        head: &Linear,
        shape: LogitShape,
    ) -> Result<Vec<f32>> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let x = x.index_select(&Array::new(rows, &self.device)?, 0)?;
        let logits = (head.apply(&norm.apply(&x)?)? * shape.scale as f64)?;
        Ok(capped(&logits, shape.softcap)?.flatten_all()?.to_vec1()?)
    }
}

impl Linear {
    fn apply(&self, x: &Array) -> Result<Array> {
        let y = match &self.weight {
            Matrix::Plain(weight) => x.matmul(&weight.t()?)?,
            Matrix::Quantized(weight, _) => weight.forward(x)?,
        };
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }
}

impl NormWeights {
    /// Over the last dimension.
    fn apply(&self, x: &Array) -> Result<Array> {
        let x = match self.norm.kind {
            NormKind::Rms => x.clone(),
            NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
        };
        let spread = (x.sqr()?.mean_keepdim(D::Minus1)? + self.norm.eps as f64)?.sqrt()?;
        let y = x.broadcast_div(&spread)?.broadcast_mul(&self.weight)?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }
}

impl Turn {
    /// Turns the first `2 * pairs` numbers of each head of `x`, `[rows, heads, head_dim]`.
    fn apply(&self, x: &Array) -> Result<Array> {
        let (rows, heads, width) = x.dims3()?;
        let pairs = self.cos.dim(2)?;
        let turned = x.narrow(2, 0, 2 * pairs)?;
        let (a, b) = if self.interleaved {
            let split = turned.reshape((rows, heads, pairs, 2))?;
            (split.narrow(3, 0, 1)?.squeeze(3)?, split.narrow(3, 1, 1)?.squeeze(3)?)
        } else {
            (turned.narrow(2, 0, pairs)?, turned.narrow(2, pairs, pairs)?)
        };
        let real = (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?;
        let imaginary = (b.broadcast_mul(&self.cos)? + a.broadcast_mul(&self.sin)?)?;
        let turned = if self.interleaved {
            Array::stack(&[real, imaginary], 3)?.reshape((rows, heads, 2 * pairs))?
        } else {
            Array::cat(&[real, imaginary], 2)?
        };
        let rest = width - 2 * pairs;
        if rest == 0 { Ok(turned) } else { Ok(Array::cat(&[turned, x.narrow(2, 2 * pairs, rest)?], 2)?) }
    }
}

fn normed(x: &Array, norm: Option<&NormWeights>) -> Result<Array> {
    norm.map_or_else(|| Ok(x.clone()), |n| n.apply(x))
}

fn activate(x: &Array, act: Act) -> Result<Array> {
    Ok(match act {
        Act::Silu => x.silu()?,
        Act::GeluTanh => x.gelu()?,
        Act::Gelu => x.gelu_erf()?,
        Act::Relu => x.relu()?,
    })
}

fn capped(x: &Array, cap: Option<f32>) -> Result<Array> {
    Ok(match cap {
        Some(cap) => ((x / cap as f64)?.tanh()? * cap as f64)?,
        None => x.clone(),
    })
}

fn softmax(x: &Array) -> Result<Array> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?)
}

/// The quantizations that candle multiplies by without widening.
fn ggml(dtype: DType) -> Option<GgmlDType> {
    Some(match dtype {
        DType::Q4_0 => GgmlDType::Q4_0,
        DType::Q4_1 => GgmlDType::Q4_1,
        DType::Q5_0 => GgmlDType::Q5_0,
        DType::Q5_1 => GgmlDType::Q5_1,
        DType::Q8_0 => GgmlDType::Q8_0,
        DType::Q2_K => GgmlDType::Q2K,
        DType::Q3_K => GgmlDType::Q3K,
        DType::Q4_K => GgmlDType::Q4K,
        DType::Q5_K => GgmlDType::Q5K,
        DType::Q6_K => GgmlDType::Q6K,
        _ => return None,
    })
}
