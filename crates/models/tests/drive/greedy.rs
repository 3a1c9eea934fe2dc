//! Greedy answers, by hand.

use models::{Batch, Model};

use crate::drive::{Sequence, allocate};

/// `count` greedy tokens after `prompt`; what the cache holds is computed again where the rotation changes.
pub fn greedy(model: &mut dyn Model, prompt: &[u32], count: usize) -> Vec<u32> {
    allocate(model);
    let mut sequence = Sequence::new(prompt, 0);
    let mut regime = model.spec().rope_regime(prompt.len());
    for _ in 0..count {
        let now = model.spec().rope_regime(sequence.tokens.len());
        if now != regime {
            (regime, sequence.computed) = (now, 0);
        }
        let mut batch = Batch::default();
        sequence.enter(sequence.tokens.len() - sequence.computed, &mut batch);
        let logits = model.forward(&batch).unwrap();
        let vocab = model.spec().vocab;
        sequence.tokens.push(argmax(&logits[logits.len() - vocab..]));
    }
    sequence.tokens[prompt.len()..].to_vec()
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap() as u32
}
