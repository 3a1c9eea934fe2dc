//! A model of a few lines whose output shows every mistake of the scheduler: the logits of a position
//! are a hash of what lies in the cache at the slots of its whole history.

#![allow(dead_code)] // Each test file uses its part.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use engine::{Engine, EngineConfig};
use models::{Batch, CacheShape, Embedding, Error, Model, Norm, NormKind, Pool, Result, Spec};

pub const VOCAB: usize = 97;

/// What the model saw, for the test to look at.
#[derive(Default)]
pub struct Seen {
    pub rows: Vec<usize>,
    pub spans: Vec<usize>,
    pub outputs: usize,
}

pub struct Fake {
    pub spec: Spec,
    shape: CacheShape,
    /// Per slot a hash of the token and position written there.
    cache: Vec<u64>,
    pub seen: Arc<Mutex<Seen>>,
    /// Fails once so many rows were run.
    pub fail_after: Option<usize>,
    /// Gives NaN after this token.
    pub nan_after: Option<u32>,
    pub delay: std::time::Duration,
    /// What it says, by position, instead of a hash of the history.
    pub script: Vec<u32>,
}

pub fn fake(context: usize) -> Fake {
    let spec = Spec {
        altup: None,
        inputs: None,
        arch: "fake",
        dim: 1,
        vocab: VOCAB,
        context,
        embed_scale: 1.0,
        logit_scale: 1.0,
        logit_softcap: None,
        norm: Norm { kind: NormKind::Rms, eps: 0.0, affine: true },
        tied: None,
        ropes: Vec::new(),
        positions: None,
        embed_norm: false,
        layers: Vec::new(),
        final_norm: true,
        token_types: false,
        embedding: Some(Embedding { pool: Pool::Each, unit: false }),
        classifier: None,
        unused_layers: 0,
    };
    let shape = CacheShape { blocks: 0, block_size: 1, states: 0 };
    let delay = std::time::Duration::ZERO;
    Fake {
        spec,
        shape,
        cache: Vec::new(),
        seen: Arc::default(),
        fail_after: None,
        nan_after: None,
        delay,
        script: Vec::new(),
    }
}

pub fn start(model: Fake, config: EngineConfig) -> Engine {
    Engine::start(Box::new(model), None, &config).unwrap()
}

/// An engine with everything as tight as it goes.
pub fn config(budget: usize, block_size: usize, cache_tokens: usize) -> EngineConfig {
    EngineConfig { cache_tokens: Some(cache_tokens), block_size, budget, ..EngineConfig::default() }
}

fn mix(a: u64, b: u64) -> u64 {
    let z = (a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x1234_5678_9ABC_DEF1);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 27)
}

/// The logits after a history, computed without any cache.
pub fn expected_logits(tokens: &[u32]) -> Vec<f32> {
    expected_in(0, tokens)
}

/// As [`expected_logits`], of a model whose keys depend on this regime of rotations.
pub fn expected_in(regime: u64, tokens: &[u32]) -> Vec<f32> {
    logits(tokens.iter().enumerate().map(|(p, &t)| key(regime, t, p as u64)))
}

fn key(regime: u64, token: u32, position: u64) -> u64 {
    mix(u64::from(token) + 1, position | regime << 32)
}

fn logits(history: impl Iterator<Item = u64>) -> Vec<f32> {
    let hash = history.fold(7, mix);
    (0..VOCAB as u64).map(|id| (mix(hash, id) >> 40) as f32 / (1u64 << 22) as f32).collect()
}

impl Fake {
    /// Everything that `Batch` promises.
    fn check(&self, batch: &Batch) {
        let size = self.shape.block_size;
        let rows = batch.tokens.len();
        assert!(rows > 0 && batch.positions.len() == rows && batch.slots.len() == rows);
        let mut row = 0;
        let (mut written, mut states) = (HashSet::new(), HashSet::new());
        for span in &batch.spans {
            assert_eq!(span.start, row);
            assert!(
                span.len > 0 && states.insert(span.state),
                "each sequence has one span and its own state"
            );
            for i in row..row + span.len {
                let position = batch.positions[i] as usize;
                assert_eq!(position, batch.positions[row] as usize + i - row);
                assert_eq!(batch.slots[i], span.slot(position, size));
                assert!(written.insert(batch.slots[i]), "two rows write one slot");
                assert!(position < span.length && span.length <= self.spec.context);
            }
            assert!(span.blocks.iter().all(|&b| (b as usize) < self.shape.blocks));
            row += span.len;
        }
        assert_eq!(row, rows);
        assert!(batch.outputs.is_sorted_by(|a, b| a < b));
        // Nobody's past is overwritten by another.
        for span in &batch.spans {
            for position in 0..batch.positions[span.start] as usize {
                assert!(!written.contains(&span.slot(position, size)), "a row writes into a past");
            }
        }
    }
}

impl Model for Fake {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn cache_bytes_per_token(&self) -> usize {
        8
    }

    fn allocate(&mut self, shape: CacheShape) -> Result<()> {
        self.shape = shape;
        self.cache = vec![0; shape.blocks * shape.block_size];
        Ok(())
    }

    fn forward(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.check(batch);
        std::thread::sleep(self.delay);
        let mut seen = self.seen.lock().unwrap();
        seen.rows.push(batch.tokens.len());
        seen.spans.push(batch.spans.len());
        seen.outputs += batch.outputs.len();
        if self.fail_after.is_some_and(|most| seen.rows.iter().sum::<usize>() > most) {
            return Err(Error::Backend { backend: "fake", message: "out of patience".into() });
        }
        for span in &batch.spans {
            let regime = self.spec.rope_regime(span.length);
            for i in span.start..span.start + span.len {
                let written = key(regime, batch.tokens[i], batch.positions[i].into());
                self.cache[batch.slots[i] as usize] = written;
            }
        }
        let mut out = Vec::new();
        for &row in &batch.outputs {
            let row = row as usize;
            let span = batch.spans.iter().find(|s| (s.start..s.start + s.len).contains(&row)).unwrap();
            let past = 0..=batch.positions[row] as usize;
            let read = |p| self.cache[span.slot(p, self.shape.block_size) as usize];
            let mut row_logits = logits(past.map(read));
            if self.nan_after == Some(batch.tokens[row]) {
                row_logits[3] = f32::NAN;
            }
            if let Some(&said) = self.script.get(batch.positions[row] as usize) {
                row_logits[said as usize] = 1e6;
            }
            out.extend(row_logits);
        }
        Ok(out)
    }

    fn encode(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        self.check(batch);
        assert_eq!(batch.types.len(), batch.tokens.len());
        self.seen.lock().unwrap().rows.push(batch.tokens.len());
        assert!(batch.spans.iter().all(|s| s.len == s.length), "texts are encoded whole");
        let of = |s: &models::Span| {
            (s.start..s.start + s.len).map(|i| (batch.tokens[i] + batch.types[i]) as f32).collect()
        };
        Ok(batch.spans.iter().map(of).collect())
    }
}
