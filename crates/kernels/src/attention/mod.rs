//! Attention over a cache of blocks: scores, softmax and weighted sum in one pass (flash attention).
//!
//! For each query row, in this order whatever the batch, threads or chunks: positions are cut at multiples
//! of [`SPLIT`] (absolute); within a split, blocks of 32 positions follow one another with a running maximum
//! (Milakov and Gimelshein 2018, Dao et al. 2022); the splits' results are folded one after another. With
//! many rows a thread takes all splits of some rows, with few the splits are shared out: the same sums.
//!
//! All query heads of a kv head are rows of one tile, so a key is read once for them.

mod cache;
mod source;
mod tile;

pub use cache::{KvLayer, KvType, POSITIONS};

use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::dispatch;
use cache::{GROUP, Store};
use source::{Plain, Quant, Source};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use tile::{Block, State};

/// Positions whose softmax is taken together; fixed, so that results do not depend on the number of threads.
pub const SPLIT: usize = 512;
/// Rows (tokens x query heads of a kv head) that a tile aims at in prefill.
const TILE_ROWS: usize = 48;

/// What all rows of a layer share.
#[derive(Clone, Copy, Debug)]
pub struct AttnParams<'a> {
    /// Query heads, a multiple of the kv heads.
    pub heads: usize,
    /// What scores are multiplied by, 1 / sqrt(head_dim) as a rule.
    pub scale: f32,
    /// Scores become cap x tanh(score / cap); 0 for none.
    pub softcap: f32,
    /// A token sees this many positions, itself included.
    pub window: Option<usize>,
    /// A token sees only positions of its own chunk of this many (Llama 4).
    pub chunk: Option<usize>,
    /// A token also sees those of its span that follow it (within the window to either side): an encoder.
    pub both_ways: bool,
    /// What each query head adds to a score per position that the key lies after the query: ALiBi
    /// (Press et al. 2021, arXiv:2108.12409).
    pub slopes: Option<&'a [f32]>,
    /// A score per query head that takes weight and gives no value.
    pub sinks: Option<&'a [f32]>,
}

impl AttnParams<'_> {
    /// Plain causal attention.
    pub fn new(heads: usize, scale: f32) -> Self {
        AttnParams {
            heads,
            scale,
            softcap: 0.0,
            window: None,
            chunk: None,
            both_ways: false,
            slopes: None,
            sinks: None,
        }
    }
}

/// Successive tokens of one sequence within a batch; their keys and values are already written.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The first token's row in the batch.
    pub row: usize,
    /// Tokens.
    pub tokens: usize,
    /// The first token's position.
    pub position: usize,
    /// Where the sequence's blocks of 32 positions lie, from position 0 to the last token's.
    pub blocks: &'a [u32],
}

/// `out[n, heads, v_dim]` = attention of `q[n, heads, k_dim]` over what the spans' tables name.
pub fn attend(pool: &Pool, kv: &KvLayer, p: &AttnParams<'_>, spans: &[Span<'_>], q: &[f32], out: &mut [f32]) {
    attend_on(Isa::current(), pool, kv, p, spans, q, out);
}

/// As [`attend`], with the registers of `isa`.
pub fn attend_on(
    isa: Isa,
    pool: &Pool,
    kv: &KvLayer,
    p: &AttnParams<'_>,
    spans: &[Span<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    check(kv, p, spans, q, out);
    let work = Work { isa, kv, p, q, group: p.heads / kv.kv_heads, out: Out(out.as_mut_ptr()) };
    let tokens = (TILE_ROWS / work.group).max(1);
    let tiles: Vec<Tile<'_>> = spans.iter().flat_map(|span| work.tiles(span, tokens)).collect();
    let splits: usize = tiles.iter().map(|t| t.splits().len()).sum();
    if tiles.len() >= 4 * pool.threads() || splits == tiles.len() || pool.threads() == 1 {
        // The last tiles of a prompt see most: they go first.
        return pool.each(tiles.len(), |i| work.whole(&tiles[tiles.len() - 1 - i]));
    }
    let parts: Vec<(usize, usize)> =
        tiles.iter().enumerate().flat_map(|(i, t)| t.splits().map(move |s| (i, s))).collect();
    let mut done = PARTS.take();
    if done.len() < parts.len() {
        done.resize_with(parts.len(), State::default);
    }
    pool.each_piece(&mut done[..parts.len()], 1, |i, state| {
        let (t, split) = parts[i];
        work.split(&tiles[t], split, &mut state[0]);
    });
    pool.each(tiles.len(), |i| {
        let (mut total, state) = SUMS.take();
        total.clear(&work, &tiles[i]);
        let first = parts.partition_point(|&(t, _)| t < i);
        let mine = parts[first..].iter().take_while(|&&(t, _)| t == i).count();
        done[first..first + mine].iter().for_each(|state| total.add(state));
        work.finish(&tiles[i], &total);
        SUMS.set((total, state));
    });
    PARTS.set(done);
}

fn check(kv: &KvLayer, p: &AttnParams<'_>, spans: &[Span<'_>], q: &[f32], out: &[f32]) {
    assert!(
        p.heads > 0 && p.heads.is_multiple_of(kv.kv_heads),
        "{} heads for {} kv heads",
        p.heads,
        kv.kv_heads
    );
    let n = q.len() / (p.heads * kv.k_dim);
    assert_eq!(q.len(), n * p.heads * kv.k_dim, "queries");
    assert_eq!(out.len(), n * p.heads * kv.v_dim, "outputs");
    assert!(p.sinks.is_none_or(|s| s.len() == p.heads), "a sink for each head");
    assert!(p.slopes.is_none_or(|s| s.len() == p.heads), "a slope for each head");
    assert!(p.window != Some(0) && p.chunk != Some(0), "a window and a chunk hold the token itself");
    let mut taken = vec![false; n];
    for s in spans {
        assert!(s.row + s.tokens <= n, "a span of rows {}.. in a batch of {n}", s.row);
        assert!(s.blocks.len() * POSITIONS >= s.position + s.tokens, "a block table that ends too early");
        assert!(s.blocks.iter().all(|&b| (b as usize) < kv.blocks()), "a block that the cache does not have");
        for t in &mut taken[s.row..s.row + s.tokens] {
            assert!(!std::mem::replace(t, true), "spans overlap");
        }
    }
}

struct Out(*mut f32);
// SAFETY: each tile writes the rows and heads that are its own.
unsafe impl Sync for Out {}

struct Work<'a> {
    isa: Isa,
    kv: &'a KvLayer,
    p: &'a AttnParams<'a>,
    q: &'a [f32],
    /// Query heads of a kv head.
    group: usize,
    out: Out,
}

/// Some tokens of a span, one kv head.
#[derive(Clone, Copy)]
struct Tile<'a> {
    span: &'a Span<'a>,
    kv_head: usize,
    /// The first token within the span, and how many.
    token: usize,
    tokens: usize,
    window: usize,
    chunk: Option<usize>,
    both_ways: bool,
}

impl Tile<'_> {
    fn position(&self) -> usize {
        self.span.position + self.token
    }

    /// Splits that any of its tokens sees.
    fn splits(&self) -> Range<usize> {
        self.seen(0).start / SPLIT..(self.end() - 1) / SPLIT + 1
    }

    /// The position after the last that any of its tokens sees.
    fn end(&self) -> usize {
        self.seen(self.tokens - 1).end
    }

    /// Positions that its token `t` sees.
    fn seen(&self, t: usize) -> Range<usize> {
        let at = self.position() + t;
        let start = (at + 1).saturating_sub(self.window);
        let end = if self.both_ways {
            at.saturating_add(self.window).min(self.span.position + self.span.tokens)
        } else {
            at + 1
        };
        self.chunk.map_or(start, |c| start.max(at / c * c))..end
    }
}

impl<'a> Work<'a> {
    fn tiles<'b>(&self, span: &'b Span<'b>, tokens: usize) -> impl Iterator<Item = Tile<'b>> + use<'b> {
        let (heads, window) = (self.kv.kv_heads, self.p.window.unwrap_or(usize::MAX));
        let (chunk, both_ways) = (self.p.chunk, self.p.both_ways);
        (0..span.tokens).step_by(tokens).flat_map(move |token| {
            let tokens = tokens.min(span.tokens - token);
            (0..heads).map(move |kv_head| Tile { span, kv_head, token, tokens, window, chunk, both_ways })
        })
    }

    /// All splits of a tile.
    fn whole(&self, tile: &Tile<'_>) {
        let (mut total, mut state) = SUMS.take();
        total.clear(self, tile);
        for split in tile.splits() {
            self.split(tile, split, &mut state);
            total.add(&state);
        }
        self.finish(tile, &total);
        SUMS.set((total, state));
    }

    /// One split of a tile.
    fn split(&self, tile: &Tile<'_>, split: usize, state: &mut State) {
        state.clear(tile.tokens * self.group, self.kv.v_stride());
        SCRATCH.with_borrow_mut(|s| {
            self.queries(tile, &mut s.q);
            let (keys, values) = (self.kv.k_dim * POSITIONS, self.kv.v_stride() * POSITIONS);
            let width = self.kv.v_stride();
            match (&self.kv.k, &self.kv.v) {
                (Store::F16(k), Store::F16(v)) => self.blocks(tile, split, s, state, |at, next| {
                    (plain(k, POSITIONS, keys, at, next), plain(v, width, values, at, next))
                }),
                (Store::F32(k), Store::F32(v)) => self.blocks(tile, split, s, state, |at, next| {
                    (plain(k, POSITIONS, keys, at, next), plain(v, width, values, at, next))
                }),
                (Store::Q8(k, ks), Store::Q8(v, vs)) => self.blocks(tile, split, s, state, |at, next| {
                    let k = quant::<true>(k, ks, (POSITIONS, self.kv.k_dim), at, next);
                    (k, quant::<false>(v, vs, (width, width), at, next))
                }),
                _ => {}
            }
        });
    }

    /// Scaled queries of the tile's rows: tokens, then heads of the group.
    fn queries(&self, tile: &Tile<'_>, to: &mut Vec<f32>) {
        let width = self.group * self.kv.k_dim;
        to.clear();
        for t in 0..tile.tokens {
            let row = tile.span.row + tile.token + t;
            let q = &self.q[(row * self.kv.kv_heads + tile.kv_head) * width..][..width];
            to.extend(q.iter().map(|x| x * self.p.scale));
        }
    }

    /// Goes through the split's blocks; `read` gives keys and values of the block at a place and looks ahead to
    /// the next.
    fn blocks<K: Source, V: Source>(
        &self,
        tile: &Tile<'_>,
        split: usize,
        s: &mut Scratch,
        state: &mut State,
        read: impl Fn(usize, usize) -> (K, V),
    ) {
        let (kd, stride) = (self.kv.k_dim, self.kv.v_stride());
        s.unpacked.resize((kd + stride) * POSITIONS, 0.0);
        s.scores.resize(tile.tokens * self.group * POSITIONS, 0.0);
        let end = tile.end();
        for from in (split * SPLIT..((split + 1) * SPLIT).min(end)).step_by(POSITIONS) {
            let rows = self.rows(tile, from, &mut s.seen);
            if rows.is_empty() {
                continue;
            }
            self.slopes(tile, from, &rows, &mut s.slopes);
            let place = |block: u32| block as usize * self.kv.kv_heads + tile.kv_head;
            let here = tile.span.blocks[from / POSITIONS];
            let next = tile.span.blocks.get(from / POSITIONS + 1).copied().unwrap_or(here);
            let (k, v) = read(place(here), place(next));
            let block = Block {
                k,
                v,
                q: &s.q,
                k_dim: kd,
                stride,
                rows,
                seen: &s.seen,
                written: POSITIONS.min(end - from),
                softcap: self.p.softcap,
                slopes: &s.slopes,
                scores: &mut s.scores,
                unpacked: &mut s.unpacked,
                state,
            };
            dispatch(self.isa, block);
        }
    }

    /// Which rows see anything of the block at `from`, and what of it. They lie one after another, as both
    /// ends of what a token sees grow with its position.
    fn rows(&self, tile: &Tile<'_>, from: usize, seen: &mut Vec<(usize, usize)>) -> Range<usize> {
        seen.clear();
        let mut first = None;
        for t in 0..tile.tokens {
            let r = tile.seen(t);
            let (a, b) = (r.start.max(from), r.end.min(from + POSITIONS));
            if a < b {
                first.get_or_insert(t);
                seen.extend(std::iter::repeat_n((a - from, b - from), self.group));
            }
        }
        let first = first.unwrap_or(0) * self.group;
        first..first + seen.len()
    }

    /// Of each row, its head's slope and what that makes of the block's first position.
    fn slopes(&self, tile: &Tile<'_>, from: usize, rows: &Range<usize>, to: &mut Vec<(f32, f32)>) {
        to.clear();
        let Some(slopes) = self.p.slopes else { return };
        to.extend(rows.clone().map(|r| {
            let slope = slopes[tile.kv_head * self.group + r % self.group];
            (slope, slope * (from as f32 - (tile.position() + r / self.group) as f32))
        }));
    }

    /// The tile's rows to where they belong.
    fn finish(&self, tile: &Tile<'_>, total: &Total) {
        let (dim, stride) = (self.kv.v_dim, self.kv.v_stride());
        for r in 0..tile.tokens * self.group {
            let head = tile.kv_head * self.group + r % self.group;
            let row = tile.span.row + tile.token + r / self.group;
            let (mut weight, mut scale) = (total.weight[r], 1.0);
            if let Some(sinks) = self.p.sinks {
                let max = total.max[r].max(sinks[head]);
                scale = (total.max[r] - max).exp();
                weight = weight * scale + (sinks[head] - max).exp();
            }
            scale /= weight;
            // SAFETY: row and head lie in `out` (`check`), and spans do not overlap.
            let out = unsafe {
                std::slice::from_raw_parts_mut(self.out.0.add((row * self.p.heads + head) * dim), dim)
            };
            for (o, x) in out.iter_mut().zip(&total.sum[r * stride..]) {
                *o = x * scale;
            }
        }
    }
}

/// The block of `len` numbers at `at`, and the one at `next`.
fn plain<N>(store: &[N], width: usize, len: usize, at: usize, next: usize) -> Plain<'_, N> {
    Plain { block: &store[at * len..][..len], next: &store[next * len..][..len], width }
}

/// As [`plain`]; 32 positions of `dims` numbers.
fn quant<'a, const KEYS: bool>(
    codes: &'a [i8],
    scales: &'a [f32],
    (width, dims): (usize, usize),
    at: usize,
    next: usize,
) -> Quant<'a, KEYS> {
    let (len, groups) = (dims * POSITIONS, dims.div_ceil(GROUP) * POSITIONS);
    Quant {
        codes: &codes[at * len..][..len],
        scales: &scales[at * groups..][..groups],
        next: &codes[next * len..][..len],
        width,
    }
}

/// The splits of a tile so far.
#[derive(Default)]
struct Total {
    max: Vec<f32>,
    weight: Vec<f32>,
    sum: Vec<f32>,
    stride: usize,
}

impl Total {
    fn clear(&mut self, work: &Work<'_>, tile: &Tile<'_>) {
        let rows = tile.tokens * work.group;
        self.stride = work.kv.v_stride();
        self.max.clear();
        self.max.resize(rows, f32::NEG_INFINITY);
        self.weight.clear();
        self.weight.resize(rows, 0.0);
        self.sum.clear();
        self.sum.resize(rows * self.stride, 0.0);
    }

    /// Folds in the next split. A row that saw nothing of it stays as it is.
    fn add(&mut self, state: &State) {
        for r in 0..self.max.len() {
            if state.max[r] == f32::NEG_INFINITY {
                continue;
            }
            let max = if state.max[r] > self.max[r] { state.max[r] } else { self.max[r] };
            let (a, b) = ((self.max[r] - max).exp(), (state.max[r] - max).exp());
            self.weight[r] = self.weight[r] * a + state.weight(r) * b;
            let mine = &mut self.sum[r * self.stride..][..self.stride];
            for (x, y) in mine.iter_mut().zip(&state.sum[r * self.stride..]) {
                *x = *x * a + y * b;
            }
            self.max[r] = max;
        }
    }
}

#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    scores: Vec<f32>,
    unpacked: Vec<f32>,
    seen: Vec<(usize, usize)>,
    slopes: Vec<(f32, f32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Of a tile that one thread does alone.
    static SUMS: Cell<(Total, State)> = Cell::default();
    /// The splits of a call that are shared out.
    static PARTS: Cell<Vec<State>> = Cell::default();
}

#[cfg(test)]
mod tests;
