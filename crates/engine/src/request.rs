//! What is asked of the engine, and what it answers.

use std::time::Duration;

use crate::{EngineError, SamplingParams};

/// One sequence to be run. Several answers to one prompt are several requests: the prefix cache reads
/// the prompt once.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt, at least one token.
    pub tokens: Vec<u32>,
    /// What is to be done with it.
    pub kind: RequestKind,
    /// How tokens are chosen.
    pub params: SamplingParams,
    /// Seed of this sequence's random numbers; `None` takes a fresh one.
    pub seed: Option<u64>,
    /// Ends the answer after this many tokens; `None`: when the context is full.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer: end of sequence, end of turn.
    pub stop_ids: Vec<u32>,
    /// Goes on after a token of `stop_ids`.
    pub ignore_eos: bool,
    /// Whether each token comes with its log-probability.
    pub logprobs: bool,
    /// Whether the answer's text goes on where that of the prompt ends: a space that it begins with is
    /// part of it then, and no mark of a tokenizer that begins every text with one.
    pub continuing: bool,
    /// Control tokens that are part of the text, for a reader of tags (`text::Dialect::tokens`).
    pub shown: Vec<u32>,
}

/// What is to be done with the tokens of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Continue them.
    Generate,
    /// Say how likely each of them is.
    Score {
        /// Whether the logits of every position are wanted too.
        logits: bool,
    },
}

impl Request {
    /// Continues `tokens` with the default parameters.
    pub fn generate(tokens: Vec<u32>) -> Self {
        Self {
            tokens,
            kind: RequestKind::Generate,
            params: SamplingParams::default(),
            seed: None,
            max_tokens: None,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            ignore_eos: false,
            logprobs: false,
            continuing: false,
            shown: Vec::new(),
        }
    }

    /// Scores `tokens`.
    pub fn score(tokens: Vec<u32>, logits: bool) -> Self {
        Self { kind: RequestKind::Score { logits }, ..Self::generate(tokens) }
    }
}

/// What happens to a request, in this order: one `Started`, then tokens or scores, one `Finished`. A
/// request that ends before it came to run has only the last.
#[derive(Clone, Debug)]
pub enum Event {
    /// It left the queue.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Those of them that were already in the cache.
        cached_tokens: usize,
    },
    /// A token of the answer.
    Token {
        /// Its id.
        id: u32,
        /// The text that is complete with it: often that of the token, empty in the middle of a
        /// character or of what may become a stop string, and with the last token all that is left.
        text: String,
        /// Natural log-probability under the model before sampling, where it was asked for.
        logprob: Option<f32>,
    },
    /// A position of a text that is scored, in order.
    Scored {
        /// Position in the text, from 0.
        position: usize,
        /// Natural log-probability of the token at this position after those before it; the first
        /// has none.
        logprob: Option<f32>,
        /// The logits that follow this position, `[vocab]`, where they were asked for.
        logits: Option<Vec<f32>>,
    },
    /// It is over; nothing follows.
    Finished(Finished),
}

/// The end of a request.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens that it took.
    pub usage: Usage,
    /// Time that it took.
    pub timings: Timings,
    /// The seed that gives the same answer again.
    pub seed: u64,
}

/// Why a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum FinishReason {
    /// The model ended it, with this token of `Request::stop_ids`.
    Eos(u32),
    /// One of `Request::stop` came, this one.
    Stop(String),
    /// `Request::max_tokens` were given.
    Length,
    /// The context is full.
    Context,
    /// All tokens are scored.
    Scored,
    /// The client did not want it any more.
    Cancelled,
    /// It could not go on.
    Error(EngineError),
}

impl FinishReason {
    /// A word for it, as `--json` prints it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Eos(_) => "eos",
            Self::Stop(_) => "stop",
            Self::Length => "length",
            Self::Context => "context",
            Self::Scored => "scored",
            Self::Cancelled => "cancelled",
            Self::Error(_) => "error",
        }
    }
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Those of the prompt that were in the cache when it started.
    pub cached_tokens: usize,
    /// Of the answer, a closing stop token included.
    pub completion_tokens: usize,
}

/// Where the time of a request went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From submission to the first step that it was part of.
    pub queue: Duration,
    /// From there to the first token or the last score.
    pub prefill: Duration,
    /// From the first token to the end.
    pub decode: Duration,
}

/// The outcome of a score request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Natural log-probability of each token after those before it; the first has none.
    pub logprobs: Vec<Option<f32>>,
    /// The logits that follow each position, `[tokens][vocab]`; empty unless asked for.
    pub logits: Vec<Vec<f32>>,
}

/// Takes the events of a request, on the engine's thread: it must not wait. `false`: nobody listens
/// any more, and the request is cancelled.
pub type Sink = Box<dyn FnMut(Event) -> bool + Send>;
