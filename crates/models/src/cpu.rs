//! The CPU backend: our own kernels over plain buffers.
//!
//! Weights are packed once for the kernels, in place of the mapped bytes; activations are f32 rows that
//! come from and return to an arena, so that a step allocates nothing. Each operation is one or a few
//! regions of the thread pool. What a row becomes depends on that row alone: neither the batch it came
//! in nor the number of threads moves a bit of it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernels::activation::{self, Act as KernelAct};
use kernels::alloc::Buffer;
use kernels::attention::KvType;
use kernels::matmul::acts::{Acts, Takes};
use kernels::matmul::{Input, Linear as Job, linear};
use kernels::norm::{layer_norm, rms_norm};
use kernels::pack::PackedLinear;
use kernels::pool::Pool;
use kernels::rope::{Pairs, rope};
use weights::{DType, Tensor};

use crate::backend::{Backend, Expert, HostCode, LogitShape};
use crate::batch::{Batch, CacheShape};
use crate::checkpoint::Checkpoint;
use crate::cpu_cache::Cache;
use crate::mixers::Attn;
use crate::moe::Choice;
use crate::rope::Rotation;
use crate::spec::{Act, Norm, NormKind};
use crate::tensors::widen;
use crate::{Error, Result};

/// Numbers that one thread should have to work on before another is called in.
const GRAIN: usize = 16 * 1024;

/// Kernels, threads and spare buffers.
pub struct CpuBackend {
    pool: Arc<Pool>,
    arena: Arc<Arena>,
    /// What keys and values are stored as.
    kv: KvType,
    /// Quantized weights become f32, so that activations are not rounded.
    widen: bool,
    /// BF16 weights do.
    widen_bf16: bool,
    /// Quantized activations of the operation at hand.
    acts: Mutex<Acts>,
}

/// Activations, `[rows, width]`. The buffer goes back to the arena when it is dropped.
pub struct Rows {
    buffer: Buffer<f32>,
    /// How much of the buffer is used.
    len: usize,
    width: usize,
    arena: Arc<Arena>,
}

/// Buffers that are not in use.
#[derive(Default)]
struct Arena(Mutex<Vec<Buffer<f32>>>);

/// A packed matrix and its bias.
pub struct Linear {
    packed: PackedLinear,
    bias: Option<Vec<f32>>,
}

/// A norm with its weights.
pub struct NormWeights {
    norm: Norm,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    group: usize,
}

/// A prepared batch.
pub struct Step {
    pub(crate) batch: Batch,
    rotations: Vec<Rotation>,
}

impl Drop for Rows {
    fn drop(&mut self) {
        lock(&self.arena.0).push(std::mem::replace(&mut self.buffer, Buffer::zeroed(0)));
    }
}

impl Arena {
    /// The smallest spare buffer that has room for `len` numbers, or a new one in place of the largest; what it holds
    /// is of no meaning.
    fn take(&self, len: usize) -> Buffer<f32> {
        let mut spare = lock(&self.0);
        let fits = (0..spare.len()).filter(|&i| spare[i].len() >= len).min_by_key(|&i| spare[i].len());
        if let Some(i) = fits {
            return spare.swap_remove(i);
        }
        if let Some(largest) = (0..spare.len()).max_by_key(|&i| spare[i].len()) {
            spare.swap_remove(largest);
        }
        Buffer::zeroed(len)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CpuBackend {
    /// On `threads` threads; `None` is as many as this process may use well. Keys and values are f16.
    pub fn new(threads: Option<usize>) -> CpuBackend {
        CpuBackend::with_cache(threads, KvType::F16)
    }

    /// With keys and values in f32, and nothing rounded but what quantized weights ask for.
    pub fn exact(threads: Option<usize>) -> CpuBackend {
        CpuBackend { widen_bf16: true, ..CpuBackend::with_cache(threads, KvType::F32) }
    }

    /// As fits the model: keys and values in f32 where all weights are, and everything in f32 where the model
    /// is small; else [`CpuBackend::new`].
    pub fn suited(checkpoint: &Checkpoint, threads: Option<usize>) -> CpuBackend {
        let plain = checkpoint.tensors().filter(|t| t.shape.len() == 2).all(|t| t.dtype == DType::F32);
        let widen = checkpoint.is_small();
        let backend = if plain || widen { CpuBackend::exact(threads) } else { CpuBackend::new(threads) };
        CpuBackend { widen, ..backend }
    }

    /// With keys and values as `kv`, if that says anything.
    pub fn storing(self, kv: Option<KvType>) -> CpuBackend {
        CpuBackend { kv: kv.unwrap_or(self.kv), ..self }
    }

    fn with_cache(threads: Option<usize>, kv: KvType) -> CpuBackend {
        let threads = threads.unwrap_or_else(kernels::threads::default_threads);
        let (pool, acts) = (Arc::new(Pool::new(threads)), Mutex::new(Acts::new()));
        CpuBackend { pool, arena: Arc::default(), kv, widen: false, widen_bf16: false, acts }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn rows(&self, count: usize, width: usize) -> Rows {
        let len = count * width;
        Rows { buffer: self.arena.take(len), len, width, arena: Arc::clone(&self.arena) }
    }

    /// Runs `f(index, row)` on every row.
    pub(crate) fn each_row(&self, rows: &mut Rows, f: impl Fn(usize, &mut [f32]) + Sync) {
        let width = rows.width;
        let group = GRAIN.div_ceil(width);
        self.pool.each_piece(rows.data_mut(), width * group, |g, piece| {
            for (i, row) in piece.chunks_exact_mut(width).enumerate() {
                f(g * group + i, row);
            }
        });
    }

    /// `to` of `x`, into as many new rows.
    fn multiply(&self, x: &Rows, to: &[&Linear]) -> Vec<Rows> {
        let mut outs: Vec<Rows> = to.iter().map(|w| self.rows(x.count(), w.packed.rows())).collect();
        self.multiply_into(x, to, &mut outs.iter_mut().collect::<Vec<_>>(), false);
        outs
    }

    fn multiply_into(&self, x: &Rows, to: &[&Linear], outs: &mut [&mut Rows], add: bool) {
        let mut acts = lock(&self.acts);
        acts.fill(&self.pool, x.data(), x.width, to.iter().map(|w| w.packed.takes()));
        let acts = &*acts;
        let pairs = to.iter().zip(outs.iter_mut());
        let mut jobs: Vec<Job<'_>> =
            pairs.map(|(w, out)| Job { add, ..w.job_of(acts, x, 0..x.count(), out.data_mut()) }).collect();
        linear(&self.pool, &mut jobs);
    }
}

impl Rows {
    pub(crate) fn count(&self) -> usize {
        self.len / self.width
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn data(&self) -> &[f32] {
        &self.buffer[..self.len]
    }

    pub(crate) fn data_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }

    pub(crate) fn row(&self, i: usize) -> &[f32] {
        &self.buffer[i * self.width..(i + 1) * self.width]
    }
}

impl Linear {
    /// Numbers of its results.
    pub(crate) fn outputs(&self) -> usize {
        self.packed.rows()
    }

    /// What it multiplies its weights with.
    pub(crate) fn takes(&self) -> Takes {
        self.packed.takes()
    }

    /// Of some rows of `x`, which `acts` was filled from.
    pub(crate) fn job_of<'a>(
        &'a self,
        acts: &'a Acts,
        x: &'a Rows,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> Job<'a> {
        let input = Input::of(&self.packed, acts, x.data(), rows);
        Job { bias: self.bias.as_deref(), ..Job::new(&self.packed, input, out) }
    }
}

impl NormWeights {
    /// Of a whole row, group by group.
    fn apply(&self, x: &[f32], out: &mut [f32]) {
        let groups = x.chunks_exact(self.group).zip(out.chunks_exact_mut(self.group));
        for (i, (x, out)) in groups.enumerate() {
            let at = i * self.group % self.weight.len();
            let bias = self.bias.as_ref().map(|b| &b[at..at + self.group]);
            self.apply_group(x, &self.weight[at..at + self.group], bias, out);
        }
    }

    fn apply_group(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        match self.norm.kind {
            NormKind::Rms => {
                rms_norm(x, Some(weight), self.norm.eps, out);
                if let Some(bias) = bias {
                    out.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
                }
            }
            NormKind::Layer => layer_norm(x, Some(weight), bias, self.norm.eps, out),
        }
    }
}

impl Backend for CpuBackend {
    type Rows = Rows;
    type Linear = Linear;
    type Norm = NormWeights;
    type Cache = Cache;
    type Step = Step;

    fn linear(&self, weight: &Tensor, bias: Option<Vec<f32>>) -> Result<Linear> {
        let &[rows, cols] = weight.shape.as_slice() else {
            return Err(refused(weight, &format!("{} dimensions, expected two", weight.shape.len())));
        };
        let packed = if self.widen || (self.widen_bf16 && weight.dtype == DType::BF16) {
            let bytes: Vec<u8> = widen(weight)?.iter().flat_map(|x| x.to_le_bytes()).collect();
            PackedLinear::pack(&self.pool, DType::F32, rows, cols, &bytes)
        } else {
            PackedLinear::pack(&self.pool, weight.dtype, rows, cols, weight.bytes())
        };
        let packed = packed.map_err(|e| refused(weight, &e.to_string()))?;
        weight.release();
        Ok(Linear { packed, bias })
    }

    fn norm(
        &self,
        norm: Norm,
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
        group: usize,
    ) -> Result<NormWeights> {
        Ok(NormWeights { norm, weight, bias, group })
    }

    fn cache(&self, attn: &Attn, shape: CacheShape) -> Result<Cache> {
        Cache::new(attn, shape, self.kv)
    }

    fn cache_bytes(&self, attn: &Attn) -> usize {
        Cache::bytes_per_token(attn, self.kv)
    }

    fn step(&self, batch: &Batch, rotations: Vec<Rotation>) -> Result<Step> {
        Ok(Step { batch: batch.clone(), rotations })
    }

    fn embed(&self, table: &Linear, tokens: &[u32], scale: f32) -> Result<Rows> {
        let mut out = self.rows(tokens.len(), table.packed.cols());
        self.each_row(&mut out, |i, row| {
            table.packed.row(tokens[i] as usize, row);
            if scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= scale);
            }
        });
        Ok(out)
    }

    fn project(&self, x: &Rows, norm: Option<&NormWeights>, to: &[&Linear]) -> Result<Vec<Rows>> {
        Ok(match norm {
            Some(norm) => self.multiply(&self.normed(x, norm)?, to),
            None => self.multiply(x, to),
        })
    }

    fn by_head(&self, x: &Rows, heads: &[Linear]) -> Result<Rows> {
        Ok(self.heads(x, heads))
    }

    fn normed(&self, x: &Rows, norm: &NormWeights) -> Result<Rows> {
        let mut out = self.rows(x.count(), x.width);
        self.each_row(&mut out, |i, row| norm.apply(x.row(i), row));
        Ok(out)
    }

    fn rotate(&self, x: &mut Rows, head_dim: usize, rope_index: usize, step: &Step) -> Result<()> {
        let turn = &step.rotations[rope_index];
        let pairs = if turn.interleaved { Pairs::Neighbours } else { Pairs::Halves };
        self.each_row(x, |i, row| {
            let at = i * turn.pairs..(i + 1) * turn.pairs;
            rope(row, head_dim, &turn.cos[at.clone()], &turn.sin[at], pairs);
        });
        Ok(())
    }

    fn attend(
        &self,
        q: Rows,
        kv: Option<(Rows, Rows)>,
        attn: &Attn,
        sinks: Option<&[f32]>,
        cache: &mut Cache,
        step: &Step,
    ) -> Result<Rows> {
        if let Some((k, v)) = kv {
            cache.store(&self.pool, &step.batch.slots, k.data(), v.data());
        }
        let mut out = self.rows(q.count(), attn.out_dim());
        cache.attend(&self.pool, attn, sinks, &step.batch, q.data(), out.data_mut());
        Ok(out)
    }

    fn glu(
        &self,
        x: &Rows,
        norm: Option<&NormWeights>,
        gate: &Linear,
        up: &Linear,
        act: Act,
    ) -> Result<Rows> {
        let mut parts = self.project(x, norm, &[gate, up])?;
        let (Some(up), Some(mut gate)) = (parts.pop(), parts.pop()) else { return Err(lost_parts()) };
        self.each_row(&mut gate, |i, row| glu_row(act, row, up.row(i)));
        Ok(gate)
    }

    fn mlp(&self, x: &Rows, norm: Option<&NormWeights>, up: &Linear, act: Act) -> Result<Rows> {
        let mut up = self.project(x, norm, &[up])?.pop().ok_or_else(lost_parts)?;
        self.each_row(&mut up, |_, row| act_row(act, row));
        Ok(up)
    }

    fn experts(&self, x: &Rows, choice: &Choice, experts: &[Expert<Linear>], act: Act) -> Result<Rows> {
        let rows = self.rows(x.count(), x.width);
        Ok(self.mixture(x, choice, experts, act, rows))
    }

    fn add(
        &self,
        x: &mut Rows,
        y: &Rows,
        out: Option<&Linear>,
        norm: Option<&NormWeights>,
        scale: f32,
    ) -> Result<()> {
        let mut made = None;
        match out {
            Some(out) if norm.is_none() && scale == 1.0 => {
                self.multiply_into(y, &[out], &mut [x], true);
                return Ok(());
            }
            Some(out) => made = Some(self.multiply(y, &[out]).pop().ok_or_else(lost_parts)?),
            None => {}
        }
        if let Some(norm) = norm {
            made = Some(self.normed(made.as_ref().unwrap_or(y), norm)?);
        }
        let branch = made.as_ref().unwrap_or(y);
        self.each_row(x, |i, row| row.iter_mut().zip(branch.row(i)).for_each(|(x, b)| *x += scale * b));
        Ok(())
    }

    fn scale(&self, x: &mut Rows, factor: f32) -> Result<()> {
        self.each_row(x, |_, row| row.iter_mut().for_each(|x| *x *= factor));
        Ok(())
    }

    fn logits(
        &self,
        x: &Rows,
        rows: &[u32],
        norm: &NormWeights,
        head: &Linear,
        shape: LogitShape,
    ) -> Result<Vec<f32>> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let mut last = self.rows(rows.len(), x.width);
        self.each_row(&mut last, |i, row| norm.apply(x.row(rows[i] as usize), row));
        let mut logits = self.multiply(&last, &[head]).pop().ok_or_else(lost_parts)?;
        if shape.scale != 1.0 {
            self.scale(&mut logits, shape.scale)?;
        }
        if let Some(cap) = shape.softcap {
            self.each_row(&mut logits, |_, row| row.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh()));
        }
        Ok(logits.data().to_vec())
    }

    fn host(&self, inputs: &[&Rows], width: usize, code: &mut HostCode<'_>) -> Result<Rows> {
        let mut out = self.rows(inputs.first().map_or(0, |x| x.count()), width);
        out.data_mut().fill(0.0);
        let slices: Vec<&[f32]> = inputs.iter().map(|x| x.data()).collect();
        code(&self.pool, &slices, out.data_mut());
        Ok(out)
    }

    fn fetch(&self, x: &Rows) -> Result<Vec<f32>> {
        Ok(x.data().to_vec())
    }
}

/// `gate = act(gate) * up`.
pub(crate) fn glu_row(act: Act, gate: &mut [f32], up: &[f32]) {
    match kernel_act(act) {
        Some(act) => activation::glu(act, gate, up),
        None => gate.iter_mut().zip(up).for_each(|(g, u)| *g = act.glu(*g, *u)),
    }
}

/// `x = act(x)`.
pub(crate) fn act_row(act: Act, x: &mut [f32]) {
    match kernel_act(act) {
        Some(act) => activation::activate(act, x),
        None => x.iter_mut().for_each(|x| *x = act.glu(*x, 1.0)),
    }
}

/// Those that have a kernel.
fn kernel_act(act: Act) -> Option<KernelAct> {
    match act {
        Act::Silu => Some(KernelAct::Silu),
        Act::GeluTanh => Some(KernelAct::GeluTanh),
        Act::Gelu => Some(KernelAct::Gelu),
        Act::Relu => Some(KernelAct::Relu),
        Act::Tanh | Act::Relu2 | Act::SwigluOai { .. } | Act::Xielu { .. } => None,
    }
}

fn refused(tensor: &Tensor, found: &str) -> Error {
    Error::Tensor {
        file: tensor.file().display().to_string(),
        tensor: tensor.name.clone(),
        found: found.to_string(),
        expected: "a matrix".into(),
    }
}

/// As many results as matrices are asked for; this says so if it ever is not.
fn lost_parts() -> Error {
    Error::Backend { backend: "cpu", message: "a projection gave fewer results than it has matrices".into() }
}
