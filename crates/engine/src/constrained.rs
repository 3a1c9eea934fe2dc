//! An answer's constraint on its way through the engine: which tokens may come, which alone can, and
//! whether what came is whole.
//!
//! Between `sequence.rs`, which appends tokens, and `text::Grammar`, which knows what is allowed. The
//! constraint of a model that reasons first begins after the words that end the reasoning.

use std::collections::VecDeque;
use std::sync::Arc;

use text::{Grammar, Tokenizer};

use crate::EngineError;

/// A grammar, and where in it the answer is.
pub struct Constrained {
    grammar: Grammar,
    /// What has to be said before it begins.
    after: Option<After>,
    /// Tokens that the grammar has gone by already and that are still to be appended.
    forced: VecDeque<u32>,
    mask: Vec<u32>,
}

struct After {
    marker: Vec<u8>,
    said: Vec<u8>,
    tokenizer: Arc<Tokenizer>,
}

impl After {
    /// Whether the marker is complete with this token.
    fn push(&mut self, token: u32) -> bool {
        self.said.extend(self.tokenizer.token_bytes(token).unwrap_or_default());
        let found = self.said.windows(self.marker.len().max(1)).any(|part| part == self.marker);
        let kept = self.said.len().saturating_sub(self.marker.len());
        self.said.drain(..kept);
        found
    }
}

impl Constrained {
    /// A constraint that begins at once, or after a text.
    pub fn new(grammar: Grammar, after: Option<(String, Arc<Tokenizer>)>) -> Self {
        let after =
            after.map(|(text, tokenizer)| After { marker: text.into_bytes(), said: Vec::new(), tokenizer });
        Self { grammar, after, forced: VecDeque::new(), mask: Vec::new() }
    }

    /// The tokens that may come next, with `stop_ids` where the answer may end; `None`: all.
    pub fn mask(&mut self, stop_ids: &[u32]) -> Result<Option<&[u32]>, EngineError> {
        if self.after.is_some() {
            return Ok(None);
        }
        self.mask.clear();
        self.mask.extend_from_slice(self.grammar.mask().map_err(|e| EngineError::Constraint(e.to_string()))?);
        let accepting = self.grammar.is_accepting();
        for &id in stop_ids {
            let (word, bit) = (id as usize / 32, 1 << (id % 32));
            if self.mask.len() <= word {
                self.mask.resize(word + 1, 0);
            }
            self.mask[word] = if accepting { self.mask[word] | bit } else { self.mask[word] & !bit };
        }
        Ok(Some(&self.mask))
    }

    /// Goes on by a token that was drawn, and finds those that it forces.
    pub fn consume(&mut self, token: u32) -> Result<(), EngineError> {
        if let Some(after) = &mut self.after {
            if after.push(token) {
                self.after = None;
            }
            return Ok(());
        }
        self.grammar.consume(token).map_err(|e| EngineError::Constraint(e.to_string()))?;
        self.forced = self.grammar.forced().into();
        Ok(())
    }

    /// The next token that needs no drawing.
    pub fn next_forced(&mut self) -> Option<u32> {
        self.forced.pop_front()
    }

    /// Whether nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.after.is_none() && self.forced.is_empty() && self.grammar.is_complete()
    }

    /// Whether what was appended is what the constraint describes.
    pub fn is_satisfied(&mut self) -> bool {
        self.after.is_none() && self.forced.is_empty() && self.grammar.is_accepting()
    }
}
