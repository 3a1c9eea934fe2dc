//! What is asked of the engine, and what it answers.

use std::time::Duration;

use text::Constraint;

use crate::{EngineError, Logprob, SamplingParams};

/// One sequence to be run. Several answers to one prompt are several requests: the prefix cache reads
/// the prompt once.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt, at least one token.
    pub tokens: Vec<u32>,
    /// What is to be done with it.
    pub kind: RequestKind,
    /// Which text of a pair each token is of, where the model looks at that; empty where all are of one.
    pub types: Vec<u32>,
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
    /// No token of `stop_ids` comes before there are so many others.
    pub min_tokens: usize,
    /// Ends an answer that repeats itself.
    pub loop_guard: bool,
    /// What the answer has to look like.
    pub constraint: Option<Constraint>,
    /// The constraint begins after this text, which ends a reasoning; else at once.
    pub constraint_after: Option<String>,
    /// Whether each token comes with its log-probability, and with those of so many of the likeliest.
    pub logprobs: Option<usize>,
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
    /// Make a vector of them, or a number for each label: what [`models::Model::encode`] says.
    Encode,
}

impl Request {
    /// Continues `tokens` with the default parameters.
    pub fn generate(tokens: Vec<u32>) -> Self {
        Self {
            tokens,
            kind: RequestKind::Generate,
            types: Vec::new(),
            params: SamplingParams::default(),
            seed: None,
            max_tokens: None,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            ignore_eos: false,
            min_tokens: 0,
            loop_guard: false,
            constraint: None,
            constraint_after: None,
            logprobs: None,
            continuing: false,
            shown: Vec::new(),
        }
    }

    /// Scores `tokens`.
    pub fn score(tokens: Vec<u32>, logits: bool) -> Self {
        Self { kind: RequestKind::Score { logits }, ..Self::generate(tokens) }
    }
}

impl Request {
    /// Encodes `tokens`, of which `types` says what text of a pair they are of.
    pub fn encode(tokens: Vec<u32>, types: Vec<u32>) -> Self {
        Self { kind: RequestKind::Encode, types, ..Self::generate(tokens) }
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
        /// How likely it was under the model before sampling, where that was asked for; a token that
        /// the constraint forced was not drawn and has none.
        logprob: Option<Logprob>,
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
    /// What the model says of the whole text.
    Encoded(Vec<f32>),
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
    /// Whether the answer is what its constraint describes; `false` where something cut it before its
    /// end, `None` where there was no constraint.
    pub satisfied: Option<bool>,
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
    /// It is all that its constraint describes: nothing could follow.
    Complete,
    /// It repeated itself, and `Request::loop_guard` was on.
    Loop,
    /// All tokens are scored.
    Scored,
    /// The text is encoded.
    Encoded,
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
            Self::Complete => "complete",
            Self::Loop => "loop",
            Self::Scored => "scored",
            Self::Encoded => "encoded",
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
