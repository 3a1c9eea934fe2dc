//! What a model is and how it runs: `Spec`, `Decoder`, `Backend`.

mod batch;

pub use batch::{Batch, CacheShape, Model, Span};
