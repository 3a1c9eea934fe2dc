//! A transformer block that several layers share and that leads their mixers: it reads the stream beside the embedding,
//! and what it says is added to what the mixers read, not to the stream (Zamba 2, arXiv:2411.15242). What each use has
//! of its own are narrow matrices beside the shared ones, and one after them.
//!
//! `decoder.rs` runs it before a layer's mixers.

use crate::backend::Backend;
use crate::load::LayerLoader;
use crate::mixers::attn::{self, lost};
use crate::mixers::{Attn, Memory, Mixer, Reading};
use crate::spec::Act;
use crate::{Error, Result};

/// One use of such a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Lead {
    /// Its attention ([`Mixer::Attn`]), over rows twice as wide as the stream.
    pub attn: Mixer,
    /// Width within its feed-forward.
    pub dim: usize,
    /// The gate's activation.
    pub act: Act,
    /// The layer under whose number the shared tensors lie: the first that uses them.
    pub home: usize,
    /// Which use of any such block this is, counted over the layers.
    pub turn: usize,
    /// Rank of this use's matrices beside those of queries, keys and values.
    pub attn_rank: Option<usize>,
    /// Rank of those beside gate and up.
    pub rank: usize,
}

/// What the uses of a block share.
pub(crate) struct Block<B: Backend> {
    norm: B::Norm,
    attn: attn::Weights<B>,
    ffn_norm: B::Norm,
    gate: B::Linear,
    up: B::Linear,
    down: B::Linear,
}

/// What one use has alone.
pub(crate) struct Turn<B: Backend> {
    /// Of queries, keys and values.
    attn: Vec<Beside<B>>,
    low: B::Linear,
    gate: B::Linear,
    up: B::Linear,
    out: B::Linear,
}

/// Two narrow matrices beside a wide one (Hu et al. 2021, arXiv:2106.09685).
pub(crate) struct Beside<B: Backend> {
    low: B::Linear,
    high: B::Linear,
}

impl<B: Backend> Beside<B> {
    /// Adds what they make of the normalised `x` to `rows`.
    pub fn add_to(&self, backend: &B, rows: &mut B::Rows, x: &B::Rows, norm: Option<&B::Norm>) -> Result<()> {
        let low = backend.project(x, norm, &[&self.low])?.pop().ok_or_else(lost)?;
        backend.add(rows, &low, Some(&self.high), None, 1.0)
    }
}

impl Lead {
    fn attention(&self) -> Result<&Attn> {
        match &self.attn {
            Mixer::Attn(attn) => Ok(attn),
            _ => Err(lost()),
        }
    }

    /// Numbers of its matrices and norms: the shared ones are their first user's.
    pub(crate) fn parameters(&self, dim: usize, layer: usize) -> u64 {
        let Ok(a) = self.attention() else { return 0 };
        let width = 2 * dim;
        let heads = a.q_dim() + a.k_dim() + a.v_dim();
        let shared = width * heads + a.out_dim() * dim + 3 * dim * self.dim + width + dim;
        let own =
            self.attn_rank.unwrap_or(0) * (3 * width + heads) + self.rank * (dim + 2 * self.dim) + dim * dim;
        (own + if self.home == layer { shared } else { 0 }) as u64
    }

    /// The shared weights, from the loader of [`Lead::home`].
    pub(crate) fn load_block<B: Backend>(&self, from: &LayerLoader<'_, B>) -> Result<Block<B>> {
        let [gate, up] = from.split("lead_up", [self.dim, self.dim], from.dim)?;
        Ok(Block {
            norm: from.norm("lead_norm", 2 * from.dim)?,
            attn: self.attention()?.load_wide(from, 2 * from.dim, "lead_")?,
            ffn_norm: from.norm("lead_ffn_norm", from.dim)?,
            gate,
            up,
            down: from.linear("lead_down", from.dim, self.dim)?,
        })
    }

    /// This use's weights: some lie with the shared ones, some in its own layer.
    pub(crate) fn load<B: Backend>(
        &self,
        home: &LayerLoader<'_, B>,
        own: &LayerLoader<'_, B>,
    ) -> Result<Turn<B>> {
        let (a, turn, width) = (self.attention()?, self.turn, 2 * own.dim);
        let mut attn = vec![];
        if let Some(rank) = self.attn_rank {
            for (part, out) in [("q", a.q_dim()), ("k", a.k_dim()), ("v", a.v_dim())] {
                let low = home.linear(&format!("lead_{part}_beside.{turn}.0"), rank, width)?;
                let high = home.linear(&format!("lead_{part}_beside.{turn}.1"), out, rank)?;
                attn.push(Beside { low, high });
            }
        }
        let low = home.linear(&format!("lead_up_beside.{turn}.0"), self.rank, own.dim)?;
        let [gate, up] = home.split(&format!("lead_up_beside.{turn}.1"), [self.dim, self.dim], self.rank)?;
        if own.prefix != home.prefix {
            // Some files repeat what is shared.
            own.pass_over_beginning("lead_");
        }
        Ok(Turn { attn, low, gate, up, out: own.linear("lead_out", own.dim, own.dim)? })
    }

    /// What the layer's mixers are to read: the stream and what the block says of it. `start` is the embedding.
    pub(crate) fn run<B: Backend>(
        &self,
        (block, turn): (&Block<B>, &Turn<B>),
        from: &Reading<'_, B>,
        start: &B::Rows,
        memory: &mut Memory<B>,
        dim: usize,
    ) -> Result<B::Rows> {
        let backend = from.backend;
        let both = backend.host(&[from.x, start], 2 * dim, &mut |_, rows, out| {
            let pairs = rows[0].chunks_exact(dim).zip(rows[1].chunks_exact(dim));
            for (out, (x, start)) in out.chunks_exact_mut(2 * dim).zip(pairs) {
                let (left, right) = out.split_at_mut(dim);
                left.copy_from_slice(x);
                right.copy_from_slice(start);
            }
        })?;
        let reading = Reading { x: &both, norm: Some(&block.norm), ..*from };
        let heard = self.attention()?.run_beside(&block.attn, &turn.attn, &reading, memory)?;
        let out = heard.out.ok_or_else(lost)?;
        let heard = backend.project(&heard.rows, None, &[out])?.pop().ok_or_else(lost)?;
        let rows = self.feed(backend, block, turn, &heard)?;
        let said = backend.project(&rows, None, &[&block.down])?.pop().ok_or_else(lost)?;
        let mut led = backend.project(&said, None, &[&turn.out])?.pop().ok_or_else(lost)?;
        backend.add(&mut led, from.x, None, None, 1.0)?;
        Ok(led)
    }

    /// `act(gate) * up`, each with its narrow matrices beside it.
    fn feed<B: Backend>(
        &self,
        backend: &B,
        block: &Block<B>,
        turn: &Turn<B>,
        x: &B::Rows,
    ) -> Result<B::Rows> {
        let parts = backend.project(x, Some(&block.ffn_norm), &[&block.gate, &block.up, &turn.low])?;
        let Ok([mut gate, mut up, low]) = <[B::Rows; 3]>::try_from(parts) else { return Err(lost()) };
        backend.add(&mut gate, &low, Some(&turn.gate), None, 1.0)?;
        backend.add(&mut up, &low, Some(&turn.up), None, 1.0)?;
        backend.host(&[&gate, &up], self.dim, &mut |_, rows, out| {
            for ((out, gate), up) in out.iter_mut().zip(rows[0]).zip(rows[1]) {
                *out = self.act.glu(*gate, *up);
            }
        })
    }
}

/// Blocks are as many as there are homes; this says so if they ever are not.
pub(crate) fn homeless() -> Error {
    Error::Backend { backend: "loader", message: "a layer shares a block that no layer before it has".into() }
}
