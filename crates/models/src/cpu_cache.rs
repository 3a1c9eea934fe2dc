//! Keys and values of one layer on the CPU, in the layout of the attention kernel.

use kernels::attention::{self, AttnParams, KvLayer, KvType, POSITIONS};
use kernels::pool::Pool;

use crate::batch::{Batch, CacheShape, Span};
use crate::mixers::Attn;
use crate::{Error, Result};

/// Keys and values of one layer.
pub struct Cache(KvLayer);

impl Cache {
    /// Room for `shape.blocks` blocks of numbers of `kind`.
    pub fn new(attn: &Attn, shape: CacheShape, kind: KvType) -> Result<Cache> {
        if shape.block_size != POSITIONS {
            let message = format!("blocks of {} tokens, the kernels have {POSITIONS}", shape.block_size);
            return Err(Error::Backend { backend: "cpu", message });
        }
        Ok(Cache(KvLayer::new(kind, shape.blocks, attn.n_kv_heads, attn.head_dim, attn.value_dim)))
    }

    /// Bytes that a token takes.
    pub fn bytes_per_token(attn: &Attn, kind: KvType) -> usize {
        KvLayer::new(kind, 1, attn.n_kv_heads, attn.head_dim, attn.value_dim).bytes() / POSITIONS
    }

    /// Puts row `i` of `k` and `v` into slot `slots[i]`.
    pub fn store(&mut self, pool: &Pool, slots: &[u32], k: &[f32], v: &[f32]) {
        self.0.write(pool, slots, k, v);
    }

    /// `out[row, head]` is what each head of `q`'s rows sees.
    pub fn attend(
        &self,
        pool: &Pool,
        attn: &Attn,
        sinks: Option<&[f32]>,
        batch: &Batch,
        q: &[f32],
        out: &mut [f32],
    ) {
        let slopes = attn.slopes();
        let params = AttnParams {
            softcap: attn.softcap.unwrap_or(0.0),
            window: attn.window,
            chunk: attn.chunk,
            both_ways: attn.both_ways,
            slopes: slopes.as_deref(),
            sinks,
            ..AttnParams::new(attn.n_heads, attn.scale)
        };
        let spans: Vec<_> = batch.spans.iter().filter(|s| s.len > 0).map(|s| view(batch, s)).collect();
        attention::attend(pool, &self.0, &params, &spans, q, out);
    }
}

fn view<'a>(batch: &Batch, span: &'a Span) -> attention::Span<'a> {
    let position = batch.positions[span.start] as usize;
    attention::Span { row: span.start, tokens: span.len, position, blocks: &span.blocks }
}
