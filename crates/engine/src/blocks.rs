//! Where keys and values lie: blocks of cache slots, counted, shared and found again.
//!
//! Stands beside `scheduler.rs`, which asks for room before it puts rows into a batch. A full block
//! is remembered by what was read into it *and everything before it*; a sequence that starts with the
//! same tokens takes the block over instead of computing it again. Blocks that nobody holds stay
//! findable until their room is needed, the longest unused first.

use std::collections::{BTreeSet, HashMap};

/// Identity of a remembered prefix. Chained: a block's key holds the identity of the prefix before
/// it, so equal keys mean equal token histories. (An identity rather than a hash of the history: a
/// collision would answer one user with another's context.)
pub type PrefixId = u64;

/// The prefix of no tokens in a regime (see [`BlockManager::find`]). Counted from above, where the
/// identities that are handed out never come.
fn root(regime: u64) -> PrefixId {
    PrefixId::MAX - regime
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    before: PrefixId,
    tokens: Box<[u32]>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    block: u32,
    id: PrefixId,
}

#[derive(Debug, Default)]
struct Block {
    /// Sequences that hold it.
    holders: u32,
    /// What it is remembered for.
    key: Option<Key>,
    /// When it was last let go.
    released: u64,
}

/// The blocks of one sequence, in order of position.
#[derive(Debug, Default)]
pub struct BlockTable {
    /// Block numbers: position `p` lies in `blocks[p / block_size]`.
    pub blocks: Vec<u32>,
    /// Identities of the leading full blocks that are remembered.
    prefixes: Vec<PrefixId>,
    regime: u64,
}

impl BlockTable {
    /// A table of no blocks.
    pub fn new(regime: u64) -> Self {
        Self { regime, ..Self::default() }
    }

    /// The regime that its keys were computed in.
    pub fn regime(&self) -> u64 {
        self.regime
    }

    fn before(&self) -> PrefixId {
        self.prefixes.last().copied().unwrap_or(root(self.regime))
    }
}

/// Hands out blocks, counts who holds them, and finds them again by their content.
#[derive(Debug)]
pub struct BlockManager {
    block_size: usize,
    blocks: Vec<Block>,
    /// Blocks that nobody holds, next to be used first: the forgotten before the remembered, then by
    /// time of release.
    free: BTreeSet<(bool, u64, u32)>,
    prefixes: HashMap<Key, Remembered>,
    clock: u64,
    next_id: PrefixId,
}

impl BlockManager {
    /// `count` blocks of `block_size` tokens, all free.
    pub fn new(count: usize, block_size: usize) -> Self {
        Self {
            block_size,
            blocks: (0..count).map(|_| Block::default()).collect(),
            free: (0..count as u32).map(|b| (false, 0, b)).collect(),
            prefixes: HashMap::new(),
            clock: 0,
            next_id: 0,
        }
    }

    /// Number of blocks that nobody holds.
    #[cfg(test)]
    pub fn free_blocks(&self) -> usize {
        self.free.len()
    }

    /// Tokens per block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Takes hold of the remembered blocks with which `tokens` begins, of at most `limit` tokens.
    /// Blocks of one `regime` are no use in another: a model whose rotations depend on the length in
    /// use wrote other keys there (`Spec::rope_regime`).
    pub fn find(&mut self, tokens: &[u32], limit: usize, regime: u64) -> BlockTable {
        let mut table = BlockTable::new(regime);
        let limit = limit.min(tokens.len());
        for chunk in tokens[..limit].chunks_exact(self.block_size) {
            let before = table.before();
            let key = Key { before, tokens: chunk.into() };
            let Some(&found) = self.prefixes.get(&key) else { break };
            self.hold(found.block);
            table.blocks.push(found.block);
            table.prefixes.push(found.id);
        }
        table
    }

    /// Extends `table` to hold `tokens` tokens. All or nothing: `false` leaves it as it was.
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize) -> bool {
        let missing = tokens.div_ceil(self.block_size).saturating_sub(table.blocks.len());
        if missing > self.free.len() {
            return false;
        }
        for _ in 0..missing {
            let Some(&(_, _, block)) = self.free.first() else { return false };
            self.hold(block);
            self.forget(block);
            table.blocks.push(block);
        }
        true
    }

    /// Remembers the full blocks among the `computed` leading tokens of a sequence, whose keys and
    /// values now lie in the cache.
    pub fn remember(&mut self, table: &mut BlockTable, computed: &[u32]) {
        for i in table.prefixes.len()..computed.len() / self.block_size {
            let before = table.before();
            let key = Key { before, tokens: computed[i * self.block_size..][..self.block_size].into() };
            let id = match self.prefixes.get(&key) {
                // Another sequence read the same at the same time: one copy is findable, ours is not.
                Some(known) => known.id,
                None => self.insert(key, table.blocks[i]),
            };
            table.prefixes.push(id);
        }
    }

    fn insert(&mut self, key: Key, block: u32) -> PrefixId {
        let id = self.next_id;
        self.next_id += 1;
        self.blocks[block as usize].key = Some(key.clone());
        self.prefixes.insert(key, Remembered { block, id });
        id
    }

    /// Lets go of all blocks of `table`. The last go first, so that of a long prefix the end is lost
    /// before the beginning, without which the end could not be found.
    pub fn release(&mut self, table: &mut BlockTable) {
        for block in table.blocks.drain(..).rev() {
            let state = &mut self.blocks[block as usize];
            state.holders -= 1;
            if state.holders == 0 {
                self.clock += 1;
                state.released = self.clock;
                self.free.insert((state.key.is_some(), self.clock, block));
            }
        }
        table.prefixes.clear();
    }

    fn hold(&mut self, block: u32) {
        let state = &mut self.blocks[block as usize];
        if state.holders == 0 {
            self.free.remove(&(state.key.is_some(), state.released, block));
        }
        state.holders += 1;
    }

    fn forget(&mut self, block: u32) {
        if let Some(key) = self.blocks[block as usize].key.take() {
            self.prefixes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(manager: &mut BlockManager, tokens: &[u32]) -> (BlockTable, usize) {
        let mut table = manager.find(tokens, tokens.len() - 1, 0);
        let cached = table.blocks.len() * manager.block_size();
        assert!(manager.grow(&mut table, tokens.len()));
        manager.remember(&mut table, tokens);
        (table, cached)
    }

    #[test]
    fn a_prompt_read_before_is_found_again_up_to_its_last_token() {
        let mut manager = BlockManager::new(8, 4);
        let tokens: Vec<u32> = (0..12).collect();
        let (mut first, cached) = read(&mut manager, &tokens);
        assert_eq!(cached, 0);
        manager.release(&mut first);
        assert_eq!(manager.free_blocks(), 8);
        // The third block is full too, but its last token has to be run for its logits.
        let (second, cached) = read(&mut manager, &tokens);
        assert_eq!(cached, 8);
        let (third, cached) = read(&mut manager, &[0, 1, 2, 3, 9, 9, 9, 9, 9]);
        assert_eq!(cached, 4);
        assert_eq!(second.blocks[0], third.blocks[0]);
        assert_ne!(second.blocks[1], third.blocks[1]);
    }

    #[test]
    fn the_same_block_after_another_beginning_is_not_the_same() {
        let mut manager = BlockManager::new(8, 2);
        let (mut table, _) = read(&mut manager, &[1, 2, 5, 6, 7]);
        manager.release(&mut table);
        assert_eq!(manager.find(&[5, 6, 7, 8], 4, 0).blocks.len(), 0);
        assert_eq!(manager.find(&[1, 2, 5, 6, 7], 5, 0).blocks.len(), 2);
    }

    #[test]
    fn blocks_of_another_regime_are_not_found() {
        let mut manager = BlockManager::new(8, 2);
        let (mut table, _) = read(&mut manager, &[1, 2, 3]);
        manager.release(&mut table);
        assert_eq!(manager.find(&[1, 2, 3], 2, 1).blocks.len(), 0);
        assert_eq!(manager.find(&[1, 2, 3], 2, 0).blocks.len(), 1);
    }

    #[test]
    fn held_blocks_are_never_handed_out_and_growth_is_all_or_nothing() {
        let mut manager = BlockManager::new(3, 2);
        let mut a = BlockTable::default();
        assert!(manager.grow(&mut a, 3));
        let mut b = BlockTable::default();
        assert!(!manager.grow(&mut b, 3));
        assert!(b.blocks.is_empty());
        assert!(manager.grow(&mut b, 2));
        assert!(!a.blocks.contains(&b.blocks[0]));
        manager.release(&mut a);
        assert!(manager.grow(&mut b, 6));
    }

    #[test]
    fn the_longest_unused_is_lost_first_and_the_end_before_the_beginning() {
        let mut manager = BlockManager::new(4, 2);
        let (mut old, _) = read(&mut manager, &[1, 1, 2, 2]);
        let (mut new, _) = read(&mut manager, &[3, 3, 4, 4]);
        manager.release(&mut old);
        manager.release(&mut new);
        let mut fresh = BlockTable::default();
        assert!(manager.grow(&mut fresh, 2));
        let mut found = manager.find(&[1, 1, 2, 2], 4, 0);
        assert_eq!(found.blocks.len(), 1, "the end of the older prefix went");
        manager.release(&mut found);
        assert_eq!(manager.find(&[3, 3, 4, 4], 4, 0).blocks.len(), 2);
    }

    #[test]
    fn two_sequences_that_read_the_same_at_once_keep_their_own_blocks() {
        let mut manager = BlockManager::new(4, 2);
        let tokens = [7, 7, 8, 8];
        let (mut a, mut b) = (BlockTable::default(), BlockTable::default());
        assert!(manager.grow(&mut a, 4) && manager.grow(&mut b, 4));
        manager.remember(&mut a, &tokens);
        manager.remember(&mut b, &tokens);
        manager.release(&mut b);
        assert_eq!(manager.find(&tokens, 4, 0).blocks, a.blocks);
        assert_eq!(manager.free_blocks(), 2);
    }
}
