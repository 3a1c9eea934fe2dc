//! The tokens over which DRY finds no repetition: those whose text contains one of the breakers.
//!
//! Looked up once a request, when `engine.rs` takes it in, on the thread of who asks.

use std::collections::HashSet;
use std::sync::Arc;

use text::Tokenizer;

use crate::{EngineError, SamplingParams};

/// The tokens that break sequences, by the texts of `params`; none where DRY is off.
///
/// # Errors
/// [`EngineError::NoTokenizer`] without one; [`EngineError::Parameter`] for a text that no token contains
/// and that is none of the usual ones.
pub fn breakers(
    params: &SamplingParams,
    tokenizer: Option<&Tokenizer>,
) -> Result<Arc<HashSet<u32>>, EngineError> {
    let texts = &params.dry_sequence_breaker;
    if params.dry_multiplier == 0.0 || texts.is_empty() {
        return Ok(Arc::default());
    }
    let tokenizer = tokenizer.ok_or(EngineError::NoTokenizer)?;
    let mut found = vec![false; texts.len()];
    let mut breakers = HashSet::new();
    for id in 0..tokenizer.vocab_size() as u32 {
        let Some(bytes) = tokenizer.token_bytes(id) else { continue };
        for (text, found) in texts.iter().zip(&mut found) {
            if bytes.windows(text.len().max(1)).any(|part| part == text.as_bytes()) {
                *found = true;
                breakers.insert(id);
            }
        }
    }
    let usual = SamplingParams::default().dry_sequence_breaker;
    match texts.iter().zip(found).find(|(text, found)| !found && !usual.contains(text)) {
        Some((text, _)) => Err(EngineError::Parameter {
            name: "dry_sequence_breaker",
            found: format!("{text:?}"),
            expected: "a text that some token of this model contains",
        }),
        None => Ok(Arc::new(breakers)),
    }
}
