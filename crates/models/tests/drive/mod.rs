//! Runs one sequence through a model, by hand: what the engine does, in as few lines as possible.

use models::{Batch, CacheShape, Model, Span};

pub const BLOCK: usize = 32;
/// Two sequences of up to 96 tokens.
const BLOCKS: usize = 6;

/// A sequence with its own blocks, which are neither neighbours nor in order.
pub struct Sequence {
    pub tokens: Vec<u32>,
    pub computed: usize,
    blocks: Vec<u32>,
    state: u32,
}

impl Sequence {
    /// The `lane`-th of at most two sequences.
    pub fn new(tokens: &[u32], lane: u32) -> Sequence {
        let blocks = (0..BLOCKS as u32 / 2).rev().map(|b| 2 * b + lane).collect();
        Sequence { tokens: tokens.to_vec(), computed: 0, blocks, state: lane }
    }

    /// Adds the next `count` tokens to `batch`, with logits for each.
    pub fn enter(&mut self, count: usize, batch: &mut Batch) {
        let start = batch.tokens.len();
        let blocks = self.blocks.clone();
        let span = Span { start, len: count, blocks, length: self.tokens.len(), state: self.state };
        for position in self.computed..self.computed + count {
            batch.outputs.push(batch.tokens.len() as u32);
            batch.tokens.push(self.tokens[position]);
            batch.positions.push(position as u32);
            batch.slots.push(span.slot(position, BLOCK));
        }
        batch.spans.push(span);
        self.computed += count;
    }
}

/// Room for two sequences.
pub fn allocate(model: &mut dyn Model) {
    model.allocate(CacheShape { blocks: BLOCKS, block_size: BLOCK, states: 2 }).unwrap();
}

/// Logits of every position of `tokens`, given in chunks of `chunk`.
pub fn logits(model: &mut dyn Model, tokens: &[u32], chunk: usize) -> Vec<f32> {
    allocate(model);
    let mut sequence = Sequence::new(tokens, 0);
    let mut all = vec![];
    while sequence.computed < tokens.len() {
        let mut batch = Batch::default();
        sequence.enter(chunk.min(tokens.len() - sequence.computed), &mut batch);
        all.extend(model.forward(&batch).unwrap());
    }
    all
}
