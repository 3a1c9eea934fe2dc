//! The candle backend: every operation written out plainly in candle tensors.
//!
//! On a GPU it is the fast path; on a CPU it is the slow, obviously right one that the others are
//! checked against. Activations are f32. Plain weights are widened to f32; quantized ones stay as they
//! are and are multiplied by candle's own quantized kernels, or are widened too where an exact answer
//! is wanted ([`CandleBackend::exact`]).

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, ggml_file::qtensor_from_ggml};
use candle_core::{D, DType as CandleType, Device, Module, Tensor as Array};
use kernels::pool::Pool;
use weights::{DType, Tensor};

use crate::backend::{Backend, Expert, HostCode, LogitShape};
use crate::batch::{Batch, CacheShape, Span};
use crate::mixers::Attn;
use crate::moe::Choice;
use crate::rope::Rotation;
use crate::spec::{Act, Norm, NormKind};
use crate::{Error, Result};

/// Candle tensors on one device.
pub struct CandleBackend {
    device: Device,
    exact: bool,
    /// For what is scanned in host memory.
    pool: Arc<Pool>,
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
    group: usize,
}

/// Keys and values of a layer, each `[slots, n_kv_heads, width of a head]`.
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
        CandleBackend::on(Device::Cpu, false)
    }

    /// On the CPU with quantized weights widened to f32, so that activations are never rounded.
    pub fn exact() -> CandleBackend {
        CandleBackend::on(Device::Cpu, true)
    }

    /// On the first CUDA device; an error where this build or machine has none.
    pub fn cuda() -> Result<CandleBackend> {
        Ok(CandleBackend::on(Device::new_cuda(0)?, false))
    }

    /// On the first Metal device; an error where this build or machine has none.
    pub fn metal() -> Result<CandleBackend> {
        Ok(CandleBackend::on(Device::new_metal(0)?, false))
    }

    fn on(device: Device, exact: bool) -> CandleBackend {
        CandleBackend { device, exact, pool: Arc::new(Pool::new(1)) }
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

    fn attend_span(
        &self,
        q: &Array,
        span: &Span,
        attn: &Attn,
        sinks: Option<&[f32]>,
        cache: &Cache,
        step: &Step,
    ) -> Result<Array> {
        let first = step.batch.positions[span.start] as usize;
        let (len, end) = (span.len, first + span.len);
        // Keys before the first query's window are seen by none of the rows.
        let start = seen(attn, first, end).start;
        let slots: Vec<u32> = (start..end).map(|p| span.slot(p, cache.block_size)).collect();
        let slots = Array::new(slots, &self.device)?;
        let heads_first = |a: &Array| a.index_select(&slots, 0)?.transpose(0, 1)?.contiguous();
        let (keys, values) = (heads_first(&cache.keys)?, heads_first(&cache.values)?);
        let (kv, group) = (attn.n_kv_heads, attn.n_heads / attn.n_kv_heads);
        let q = q.narrow(0, span.start, len)?.reshape((len, kv, group, attn.head_dim))?;
        let q = q.permute((1, 2, 0, 3))?.reshape((kv, group * len, attn.head_dim))?;
        let scores = (q.matmul(&keys.t()?)? * attn.scale as f64)?;
        let scores = capped(&scores, attn.softcap)?.reshape((kv, group, len, end - start))?;
        let scores = scores.broadcast_add(&self.mask(first, len, start, attn)?)?;
        let scores = self.lean(scores, first, start, attn)?;
        let weights = softmax(&scores, self.sinks(sinks, kv, group)?)?;
        let weights = weights.reshape((kv, group * len, end - start))?;
        let out = weights.matmul(&values)?.reshape((kv, group, len, attn.value_dim))?;
        Ok(out.permute((2, 0, 1, 3))?.reshape((len, attn.out_dim()))?)
    }

    /// `[len, keys]`: 0 where the row may look, minus infinity where not. Keys begin at `start`.
    fn mask(&self, first: usize, len: usize, start: usize, attn: &Attn) -> Result<Array> {
        let keys = first + len - start;
        let mut mask = vec![f32::NEG_INFINITY; len * keys];
        for row in 0..len {
            let seen = seen(attn, first + row, first + len);
            mask[row * keys + seen.start.max(start) - start..row * keys + seen.end - start].fill(0.0);
        }
        Ok(Array::from_vec(mask, (len, keys), &self.device)?)
    }

    /// ALiBi: each head's slope times how far the key lies after the query.
    fn lean(&self, scores: Array, first: usize, start: usize, attn: &Attn) -> Result<Array> {
        let Some(slopes) = attn.slopes() else { return Ok(scores) };
        let (kv, group, len, keys) = scores.dims4()?;
        let far = |row: usize| (0..keys).map(move |k| (start + k) as f32 - (first + row) as f32);
        let far: Vec<f32> = (0..len).flat_map(far).collect();
        let far = Array::from_vec(far, (1, 1, len, keys), &self.device)?;
        let slopes = Array::from_vec(slopes, (kv, group, 1, 1), &self.device)?;
        Ok((scores + slopes.broadcast_mul(&far)?)?)
    }

    /// A score for each head that takes weight and gives no value, `[n_kv_heads, group, 1, 1]`.
    fn sinks(&self, sinks: Option<&[f32]>, kv: usize, group: usize) -> Result<Option<Array>> {
        let array = |s: &[f32]| Array::from_vec(s.to_vec(), (kv, group, 1, 1), &self.device);
        Ok(sinks.map(array).transpose()?)
    }

    /// `act(gate) * up`.
    fn gated(&self, gate: &Array, up: &Array, act: Act) -> Result<Array> {
        let Act::SwigluOai { limit } = act else { return Ok((activate(gate, act)? * up)?) };
        let (gate, limit) = (gate.minimum(limit)?, limit as f64);
        let sigmoid = (((&gate * -1.702)?.exp()? + 1.0)?).recip()?;
        Ok(((gate * sigmoid)? * (up.clamp(-limit, limit)? + 1.0)?)?)
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

    fn norm(
        &self,
        norm: Norm,
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
        group: usize,
    ) -> Result<NormWeights> {
        let bias = bias.map(|b| self.vector(b)).transpose()?;
        Ok(NormWeights { norm, weight: self.vector(weight)?, bias, group })
    }

    fn cache(&self, attn: &Attn, shape: CacheShape) -> Result<Cache> {
        let room = |width: usize| {
            let dims = (shape.blocks * shape.block_size, attn.n_kv_heads, width);
            Array::zeros(dims, CandleType::F32, &self.device)
        };
        let (keys, values) = (room(attn.head_dim)?, room(attn.value_dim)?);
        Ok(Cache { keys, values, block_size: shape.block_size })
    }

    fn cache_bytes(&self, attn: &Attn) -> usize {
        attn.n_kv_heads * (attn.head_dim + attn.value_dim) * size_of::<f32>()
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

    fn by_head(&self, x: &Array, heads: &[Linear]) -> Result<Array> {
        let width = x.dim(1)? / heads.len().max(1);
        let head = |(i, w): (usize, &Linear)| w.apply(&x.narrow(1, i * width, width)?.contiguous()?);
        Ok(Array::cat(&heads.iter().enumerate().map(head).collect::<Result<Vec<_>>>()?, 1)?)
    }

    fn normed(&self, x: &Array, norm: &NormWeights) -> Result<Array> {
        norm.apply(x)
    }

    fn rotate(&self, x: &mut Array, head_dim: usize, rope: usize, step: &Step) -> Result<()> {
        let (rows, width) = x.dims2()?;
        let heads = x.reshape((rows, width / head_dim, head_dim))?;
        *x = step.rotations[rope].apply(&heads)?.reshape((rows, width))?;
        Ok(())
    }

    fn attend(
        &self,
        q: Array,
        kv: Option<(Array, Array)>,
        attn: &Attn,
        sinks: Option<&[f32]>,
        cache: &mut Cache,
        step: &Step,
    ) -> Result<Array> {
        let rows = step.batch.tokens.len();
        if let Some((k, v)) = kv {
            let k = k.reshape((rows, attn.n_kv_heads, attn.head_dim))?;
            let v = v.reshape((rows, attn.n_kv_heads, attn.value_dim))?;
            self.store(cache, &k, &v, &step.batch.slots)?;
        }
        let spans = step.batch.spans.iter();
        let spans = spans.map(|span| self.attend_span(&q, span, attn, sinks, cache, step));
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
        self.gated(&gate.apply(&x)?, &up.apply(&x)?, act)
    }

    fn mlp(&self, x: &Array, norm: Option<&NormWeights>, up: &Linear, act: Act) -> Result<Array> {
        activate(&up.apply(&normed(x, norm)?)?, act)
    }

    fn experts(&self, x: &Array, choice: &Choice, experts: &[Expert<Linear>], act: Act) -> Result<Array> {
        let mut out = x.zeros_like()?;
        for (number, expert) in experts.iter().enumerate() {
            let chosen = choice.experts.iter().zip(&choice.weights).enumerate();
            let chosen = chosen.filter(|(_, (e, _))| **e as usize == number);
            let (rows, weights): (Vec<u32>, Vec<f32>) =
                chosen.map(|(i, (_, w))| ((i / choice.top_k) as u32, *w)).unzip();
            if rows.is_empty() {
                continue;
            }
            let weights = Array::from_vec(weights, (rows.len(), 1), &self.device)?;
            let rows = Array::new(rows, &self.device)?;
            let mut read = x.index_select(&rows, 0)?;
            if choice.weigh_input {
                read = read.broadcast_mul(&weights)?;
            }
            let up = expert.up.apply(&read)?;
            let between = match &expert.gate {
                Some(gate) => self.gated(&gate.apply(&read)?, &up, act)?,
                None => activate(&up, act)?,
            };
            let mut said = expert.down.apply(&between)?;
            if !choice.weigh_input {
                said = said.broadcast_mul(&weights)?;
            }
            out = out.index_add(&rows, &said, 0)?;
        }
        Ok(out)
    }

    fn add(
        &self,
        x: &mut Array,
        y: &Array,
        out: Option<&Linear>,
        norm: Option<&NormWeights>,
        scale: f32,
    ) -> Result<()> {
        let branch = normed(&out.map_or_else(|| Ok(y.clone()), |out| out.apply(y))?, norm)?;
        *x = (&*x + (branch * scale as f64)?)?;
        Ok(())
    }

    fn scale(&self, x: &mut Array, factor: f32) -> Result<()> {
        *x = (&*x * factor as f64)?;
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

    fn host(&self, inputs: &[&Array], width: usize, code: &mut HostCode<'_>) -> Result<Array> {
        let rows = inputs.first().map_or(Ok(0), |x| x.dim(0))?;
        let read = inputs.iter().map(|x| self.fetch(x)).collect::<Result<Vec<_>>>()?;
        let mut out = vec![0.0; rows * width];
        code(&self.pool, &read.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
        Ok(Array::from_vec(out, (rows, width), &self.device)?)
    }

    fn fetch(&self, x: &Array) -> Result<Vec<f32>> {
        Ok(x.flatten_all()?.to_vec1()?)
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
    /// Over groups of the last dimension.
    fn apply(&self, x: &Array) -> Result<Array> {
        let dims = x.dims().to_vec();
        let period = self.weight.dim(0)?;
        let x = x.reshape(((), period / self.group, self.group))?;
        let x = match self.norm.kind {
            NormKind::Rms => x,
            NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
        };
        let spread = (x.sqr()?.mean_keepdim(D::Minus1)? + self.norm.eps as f64)?.sqrt()?;
        let x = x.broadcast_div(&spread)?.reshape(((), period))?;
        let y = x.broadcast_mul(&self.weight)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        Ok(y.reshape(dims)?)
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
        Act::Tanh => x.tanh()?,
        Act::Relu => x.relu()?,
        Act::Relu2 => x.relu()?.sqr()?,
        Act::Xielu { p, n, beta, eps } => {
            let above = (x.relu()?.sqr()? * p as f64)?;
            let below = ((x.minimum(eps)?.exp()? - 1.0)? - x)?;
            let below = (below * x.le(0f32)?.to_dtype(x.dtype())?)?;
            ((above + (below * n as f64)?)? + (x * beta as f64)?)?
        }
        Act::SwigluOai { .. } => {
            let message = "this activation needs a gate".to_string();
            return Err(Error::Backend { backend: "candle", message });
        }
    })
}

/// Positions that the one at `at` sees, of a span that ends before `end`.
fn seen(attn: &Attn, at: usize, end: usize) -> std::ops::Range<usize> {
    let window = attn.window.unwrap_or(usize::MAX);
    let start = (at + 1).saturating_sub(window);
    let last = if attn.both_ways { at.saturating_add(window).min(end) } else { at + 1 };
    attn.chunk.map_or(start, |c| start.max(at / c * c))..last
}

fn capped(x: &Array, cap: Option<f32>) -> Result<Array> {
    Ok(match cap {
        Some(cap) => ((x / cap as f64)?.tanh()? * cap as f64)?,
        None => x.clone(),
    })
}

/// Over the last dimension; a sink takes its share and is left out.
fn softmax(x: &Array, sinks: Option<Array>) -> Result<Array> {
    let max = x.max_keepdim(D::Minus1)?;
    let max = match &sinks {
        Some(s) => max.broadcast_maximum(s)?,
        None => max,
    };
    let exp = x.broadcast_sub(&max)?.exp()?;
    let mut sum = exp.sum_keepdim(D::Minus1)?;
    if let Some(s) = sinks {
        sum = (sum + s.broadcast_sub(&max)?.exp()?)?;
    }
    Ok(exp.broadcast_div(&sum)?)
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
