//! Requests in, tokens out: scheduler, KV blocks, sampler.
//!
//! The way of a request: `engine.rs` takes it in, `scheduler.rs` puts rows of its sequence into a
//! batch, `blocks.rs` says where their keys and values lie, the model (seen only through
//! `models::Model`) turns the batch into logits, `sampler.rs` turns logits into a token and
//! `sequence.rs` appends it, makes text of it and decides whether that was the last.

pub mod bench;
mod blocks;
mod breakers;
mod candidates;
mod chain;
mod config;
mod constrained;
mod engine;
mod error;
mod exponential;
mod load;
mod memory;
mod params;
mod penalties;
mod repetition;
mod request;
mod rng;
mod sampler;
mod scheduler;
mod sequence;
mod temperature;
mod truncation;

pub use candidates::{Candidate, Candidates};
pub use chain::{CHAIN, Link, LinkKind, State};
pub use config::GenerationConfig;
pub use engine::{Answer, Canceller, Engine, EngineConfig, EngineInfo, Handle};
pub use error::EngineError;
pub use load::{Device, LoadError, LoadOptions, Loaded, TextParts, load, load_text};
pub use memory::{available_memory, peak_memory};
pub use models::KvType;
pub use params::{PARAMETERS, Parameter, SamplingParams};
pub use request::{Event, FinishReason, Finished, Request, RequestKind, Score, Sink, Timings, Usage};
pub use rng::Rng;
pub use sampler::{Choice, Limits, Logprob, Sampler};
pub use text::Constraint;
