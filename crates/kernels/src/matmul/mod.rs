//! Linear layers: packed weights x rows of activations, in one region for as many layers as share it.
//!
//! The work is cut into chunks of (panels of 32 rows, block of tokens) that any thread may take. What an
//! output is does not depend on the cut: see `int8.rs` and `float.rs` for the order of its sums.

pub mod acts;
mod float;
mod int8;
mod stretch;
mod sums;

use crate::alloc::Buffer;
use crate::isa::Isa;
use crate::pack::layout::PANEL;
use crate::pack::{Layout, PackedLinear, with_format};
use crate::pool::Pool;
use crate::simd::{dispatch, dispatch_bf16};
use acts::{Acts, Takes};
use std::cell::RefCell;
use std::marker::PhantomData;
use sums::Target;

/// Activations of the quantized rows that a block of tokens may take of the second-level cache.
const ACT_BYTES: usize = 1 << 20;
/// Weight bytes of a chunk when few tokens make it a question of memory.
const CHUNK_BYTES: usize = 256 << 10;

/// What a layer multiplies.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// Rows of f32, `[n, cols]`: for plain and raw weights.
    Float(&'a [f32]),
    /// Rounded rows: int8 for integer weights ([`Layout::is_integer`]), bf16 for BF16.
    Quant(&'a Acts),
    /// Of rounded rows some: the first, and how many.
    Part(&'a Acts, usize, usize),
}

impl<'a> Input<'a> {
    /// What `weight` takes of some rows of `x`, which [`Acts::fill`] made `acts` from.
    pub fn of(
        weight: &PackedLinear,
        acts: &'a Acts,
        x: &'a [f32],
        rows: std::ops::Range<usize>,
    ) -> Input<'a> {
        match weight.takes() {
            Takes::Float => Input::Float(&x[rows.start * weight.cols()..rows.end * weight.cols()]),
            Takes::Int8 | Takes::Bf16 => Input::Part(acts, rows.start, rows.len()),
        }
    }
}

/// One layer to compute: `out = weight[rows] x + bias`, or `out += ...`.
pub struct Linear<'a> {
    /// The weights.
    pub weight: &'a PackedLinear,
    /// Which of its rows (the first a multiple of 32): all, or one expert's.
    pub rows: std::ops::Range<usize>,
    /// The activations.
    pub input: Input<'a>,
    /// Added to each row of the result.
    pub bias: Option<&'a [f32]>,
    /// Add to `out` what else would replace it.
    pub add: bool,
    /// `[n, rows.len()]`.
    pub out: &'a mut [f32],
}

impl<'a> Linear<'a> {
    /// All rows of `weight`, no bias, `out` replaced.
    pub fn new(weight: &'a PackedLinear, input: Input<'a>, out: &'a mut [f32]) -> Self {
        Linear { weight, rows: 0..weight.rows(), input, bias: None, add: false, out }
    }

    fn tokens(&self) -> usize {
        match self.input {
            Input::Float(x) => x.len() / self.weight.cols(),
            Input::Quant(a) => a.rows(),
            Input::Part(_, _, n) => n,
        }
    }

    fn check(&self) {
        let (w, n) = (self.weight, self.tokens());
        match self.input {
            Input::Float(x) => {
                assert!(!w.layout().is_integer(), "{:?} weights take quantized activations", w.layout());
                assert_eq!(x.len(), n * w.cols(), "activations of {} columns", w.cols());
            }
            Input::Quant(a) | Input::Part(a, ..) => {
                let rounded = w.layout().is_integer() || w.layout() == Layout::BF16;
                assert!(rounded, "{:?} weights take f32 activations", w.layout());
                assert_eq!(a.cols(), w.cols(), "columns of activations and weights");
                if let Input::Part(_, first, n) = self.input {
                    assert!(first + n <= a.rows(), "rows {first}.. of {} quantized", a.rows());
                }
            }
        }
        assert!(
            self.rows.start.is_multiple_of(PANEL)
                && self.rows.end <= w.rows()
                && self.rows.start <= self.rows.end
        );
        assert_eq!(self.out.len(), n * self.rows.len(), "outputs of {n} tokens x {} rows", self.rows.len());
        assert!(self.bias.is_none_or(|b| b.len() == self.rows.len()), "a bias for each row");
    }
}

/// Computes all `jobs` in one region of `pool`.
pub fn linear(pool: &Pool, jobs: &mut [Linear<'_>]) {
    linear_on(Isa::current(), pool, jobs);
}

/// As [`linear`], with the kernels of `isa`.
pub fn linear_on(isa: Isa, pool: &Pool, jobs: &mut [Linear<'_>]) {
    let panels: usize = jobs.iter().map(|j| j.rows.len().div_ceil(PANEL)).sum();
    let tasks: Vec<Task<'_>> = jobs.iter_mut().map(|j| Task::new(j, panels, pool.threads())).collect();
    let chunks = tasks.iter().map(|t| t.chunks).sum();
    pool.each(chunks, |mut c| {
        for t in &tasks {
            if c < t.chunks {
                return t.chunk(isa, c);
            }
            c -= t.chunks;
        }
    });
}

/// A job and how it is cut.
struct Task<'a> {
    weight: &'a PackedLinear,
    input: Input<'a>,
    bias: Option<&'a [f32]>,
    add: bool,
    out: *mut f32,
    tokens: usize,
    rows: usize,
    first_panel: usize,
    /// Panels and tokens of a chunk.
    panels: usize,
    block: usize,
    chunks: usize,
}

// SAFETY: `out` is the job's exclusively borrowed slice, of which each chunk writes a part of its own.
unsafe impl Sync for Task<'_> {}

impl<'a> Task<'a> {
    fn new(j: &'a mut Linear<'_>, all_panels: usize, threads: usize) -> Task<'a> {
        j.check();
        let tokens = j.tokens();
        let panels = j.rows.len().div_ceil(PANEL);
        // Enough chunks that a thread which comes late leaves work to the others.
        let fair = all_panels.div_ceil(threads * 8).max(1);
        let by_bytes = (CHUNK_BYTES / j.weight.panel_bytes().max(1)).max(1);
        let per_chunk = if tokens > 16 { 1 } else { fair.min(by_bytes) };
        let (act_bytes, tile) = match (j.input, j.weight.layout().is_integer()) {
            (Input::Float(_), _) => (4, float::WIDE),
            (_, true) => (2, 6),
            (_, false) => (2, float::WIDE),
        };
        let most = (ACT_BYTES / (j.weight.cols() * act_bytes).max(1)).clamp(96, 504);
        // Blocks of about one size, of whole tiles.
        let block = tokens.div_ceil(tokens.div_ceil(most).max(1)).next_multiple_of(tile).max(tile);
        let chunks = panels.div_ceil(per_chunk) * tokens.div_ceil(block);
        Task {
            weight: j.weight,
            input: j.input,
            bias: j.bias,
            add: j.add,
            out: j.out.as_mut_ptr(),
            tokens,
            rows: j.rows.len(),
            first_panel: j.rows.start / PANEL,
            panels: per_chunk,
            block,
            chunks,
        }
    }

    fn chunk(&self, isa: Isa, c: usize) {
        let across = self.rows.div_ceil(PANEL).div_ceil(self.panels);
        let from = c / across * self.block;
        let n = self.block.min(self.tokens - from);
        let first = c % across * self.panels;
        let last = (first + self.panels).min(self.rows.div_ceil(PANEL));
        // Small panels of few tokens are done before a call for each would be worth it.
        let several = self.weight.layout().is_integer() && int8::takes_several(isa, n);
        SCRATCH.with_borrow_mut(|s| {
            let mut p = first;
            while p < last {
                // The last panel of a matrix may be a part of one.
                let count = if several { last.min(self.rows / PANEL).max(p + 1) - p } else { 1 };
                match self.input {
                    Input::Quant(a) => self.rounded(isa, s, a, 0, (p, count), from, n),
                    Input::Part(a, first, _) => self.rounded(isa, s, a, first, (p, count), from, n),
                    Input::Float(x) => self.float(isa, s, x, p, from, n),
                }
                if self.target(p, from).is_none() {
                    self.store(&s.out, p, from, n);
                }
                p += count;
            }
        });
    }

    /// `count` panels from `p` on for the tokens `from..from + n`, whose activations begin at row `first + from` of `a`.
    #[allow(clippy::too_many_arguments)] // where a tile begins and ends
    fn rounded(
        &self,
        isa: Isa,
        s: &mut Scratch,
        a: &Acts,
        first: usize,
        (p, count): (usize, usize),
        from: usize,
        n: usize,
    ) {
        s.room(n);
        if !self.weight.layout().is_integer() {
            let (x, stride) = a.pairs_from(first + from);
            let panel = self.plain::<float::Dots>(
                s,
                self.weight.panel(self.first_panel + p),
                (x, stride),
                p,
                from,
                n,
            );
            return dispatch_bf16(isa, panel);
        }
        let stride = if n > 1 { a.stride() } else { 0 };
        with_format!(self.weight.layout(), F => {
            let job = int8::Panel::<F, true> {
                units: self.weight.panels(self.first_panel + p, count),
                offset: self.weight.layout().offset(),
                acts: a.rows_from(first + from).as_ptr(),
                stride,
                tokens: n,
                blocks: self.weight.cols() / 32,
                panels: count,
                out: &mut s.out,
                first: true,
                to: self.target(p, from),
                next: (std::ptr::null(), 0),
                format: PhantomData,
            };
            int8::panel(isa, job, &mut s.bytes);
        }, ());
    }

    /// Where the kernels write panel `p`'s results of the tokens from `from` on themselves: a whole panel.
    fn target(&self, p: usize, from: usize) -> Option<Target> {
        static NOTHING: [f32; PANEL] = [0.0; PANEL];
        let row = p * PANEL;
        if row + PANEL > self.rows {
            return None;
        }
        let bias = self.bias.map_or(&NOTHING[..], |b| &b[row..]).as_ptr();
        // SAFETY: the token's rows lie in `out`.
        let at = unsafe { self.out.add(from * self.rows + row) };
        let bias_step = if self.bias.is_some() { PANEL } else { 0 };
        Some(Target { at, stride: self.rows, bias, bias_step, add: self.add })
    }

    fn float(&self, isa: Isa, s: &mut Scratch, x: &[f32], p: usize, from: usize, n: usize) {
        s.room(n);
        let (panel, cols) = (self.first_panel + p, self.weight.cols());
        let x = (x[from * cols..(from + n) * cols].as_ptr(), cols);
        let weights = |p| self.weight.panel(p);
        match self.weight.layout() {
            Layout::F32 => dispatch(isa, self.plain::<float::F32>(s, weights(panel), x, p, from, n)),
            Layout::F16 => dispatch(isa, self.plain::<float::F16>(s, weights(panel), x, p, from, n)),
            Layout::BF16 => dispatch(isa, self.plain::<float::BF16>(s, weights(panel), x, p, from, n)),
            _ => {
                let mut raw = std::mem::take(&mut s.raw);
                unpack_panel(self.weight, panel, &mut raw);
                let bytes = bytes_of(&raw[..cols * PANEL]);
                dispatch(isa, self.plain::<float::F32>(s, bytes, x, p, from, n));
                s.raw = raw;
            }
        }
    }

    /// Panel `p`, whose bytes are `weights`, for `n` tokens from `from` on, whose activations are `x` and so far apart.
    fn plain<'s, P: float::Plain>(
        &self,
        s: &'s mut Scratch,
        weights: &'s [u8],
        (x, stride): (*const f32, usize),
        p: usize,
        from: usize,
        n: usize,
    ) -> float::Panel<'s, P> {
        float::Panel {
            weights,
            x,
            stride,
            tokens: n,
            cols: self.weight.cols(),
            scratch: &mut s.floats,
            out: &mut s.out,
            to: self.target(p, from),
            format: PhantomData,
        }
    }

    /// Panel `p`'s results of tokens `from..from + n` to where they belong.
    fn store(&self, results: &[f32], p: usize, from: usize, n: usize) {
        let row = p * PANEL;
        let width = PANEL.min(self.rows - row);
        for (t, r) in results.chunks_exact(PANEL).take(n).enumerate() {
            // SAFETY: token and rows lie in `out`, and no other chunk writes them.
            let out = unsafe {
                let at = self.out.add((from + t) * self.rows + row);
                std::slice::from_raw_parts_mut(at, width)
            };
            for (i, o) in out.iter_mut().enumerate() {
                let v = r[i] + self.bias.map_or(0.0, |b| b[row + i]);
                *o = if self.add { *o + v } else { v };
            }
        }
    }
}

/// A raw panel as `[cols][32]` f32.
fn unpack_panel(w: &PackedLinear, panel: usize, to: &mut Vec<f32>) {
    let cols = w.cols();
    to.resize(cols * (PANEL + 1), 0.0);
    let (to, row) = to.split_at_mut(cols * PANEL);
    to.fill(0.0);
    for r in 0..PANEL {
        if let Some(bytes) = w.raw_row(panel * PANEL + r) {
            w.dtype().unpack_row(bytes, row);
            for (k, &x) in row.iter().enumerate() {
                to[k * PANEL + r] = x;
            }
        }
    }
}

fn bytes_of(x: &[f32]) -> &[u8] {
    // SAFETY: f32 are plain bytes.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), size_of_val(x)) }
}

/// What a thread keeps for its tiles.
struct Scratch {
    bytes: Buffer<u8>,
    floats: Buffer<f32>,
    out: Buffer<f32>,
    raw: Vec<f32>,
}

impl Scratch {
    fn room(&mut self, tokens: usize) {
        if self.out.len() < tokens * PANEL {
            self.out = Buffer::zeroed(tokens.next_power_of_two() * PANEL);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        bytes: Buffer::zeroed(stretch::SCRATCH),
        floats: Buffer::zeroed(float::SCRATCH),
        out: Buffer::zeroed(8 * PANEL),
        raw: Vec::new(),
    });
}

#[cfg(test)]
mod tests;
