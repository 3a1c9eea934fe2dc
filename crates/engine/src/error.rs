//! What can go wrong between a request and its tokens.

/// Why a request was refused, an engine not started, or a sequence ended early.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt is {prompt} tokens long and the context holds {context}, with at least one token of the answer: \
         shorten the prompt or raise --ctx-size, if the model allows it"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// A text to be scored or encoded is longer than the context.
    #[error("the text is {tokens} tokens long and the context holds {context}: shorten it")]
    TextTooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// No tokens to begin from.
    #[error("the prompt has no tokens: give at least one")]
    EmptyPrompt,
    /// A bias for a token that the model does not have.
    #[error(
        "logit_bias: found token {id}, expected one below {vocab}, the size of the vocabulary; `influence tokenize` says ids"
    )]
    UnknownBias {
        /// The token.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A token id that the model does not have.
    #[error("token {index} of the prompt: found id {id}, expected one below {vocab}, the model's vocabulary")]
    UnknownToken {
        /// Place in the prompt, from 0.
        index: usize,
        /// The id found.
        id: u32,
        /// Ids that the model has.
        vocab: usize,
    },
    /// A sampling parameter outside its range.
    #[error("{name}: found {found}, expected {expected}")]
    Parameter {
        /// Its field in `SamplingParams`.
        name: &'static str,
        /// The value found.
        found: String,
        /// The values that are allowed, in words.
        expected: &'static str,
    },
    /// A value of generation_config.json that cannot be.
    #[error("{file}: {key}: found {found}, expected {expected}")]
    Config {
        /// The file.
        file: String,
        /// The key in it.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// Texts were given to an engine that has no tokenizer.
    #[error(
        "stop strings, constraints and the breakers of DRY need a tokenizer, and this model was loaded without one"
    )]
    NoTokenizer,
    /// A context larger than the model was made for.
    #[error("--ctx-size: found {asked}, expected 1 to {model}, the context that the model was made for")]
    ContextTooLarge {
        /// The context asked for.
        asked: usize,
        /// The model's own.
        model: usize,
    },
    /// The KV cache does not fit into memory.
    #[error(
        "a context of {tokens} tokens needs {needed} MiB of KV cache and {available} MiB are free for it: \
         ask for fewer with --ctx-size"
    )]
    CacheTooLarge {
        /// Tokens to be held.
        tokens: usize,
        /// MiB that they take.
        needed: u64,
        /// MiB that may be taken.
        available: u64,
    },
    /// The model produced something that is no probability distribution.
    #[error(
        "the model produced {what} at position {position}: its weights are damaged or its number format \
         overflows; check the file's checksum, or try another format"
    )]
    BadLogits {
        /// NaN or infinite.
        what: &'static str,
        /// Position in the sequence, from 0.
        position: usize,
    },
    /// The model makes vectors of texts and cannot go on with one.
    #[error(
        "the model is an encoder, which makes vectors of texts and cannot go on with one: use `influence embed` or `rerank`"
    )]
    Encoder,
    /// The model's files do not say how a text becomes a vector.
    #[error(
        "the model's files do not say how a text becomes a vector (modules.json of sentence-transformers, or pooling_type in \
         a GGUF): it is no embedding model"
    )]
    NoPooling,
    /// Biases and limits forbid every token.
    #[error(
        "no token may follow at position {position}: --logit-bias forbids all that could, or the model gives probability 0 to all that the constraint allows"
    )]
    NothingLeft {
        /// Position in the sequence, from 0.
        position: usize,
    },
    /// A schema or grammar that cannot be enforced, or went past its limits.
    #[error("the constraint: {0}")]
    Constraint(String),
    /// The model failed.
    #[error("{0}")]
    Model(String),
    /// The engine's thread is gone.
    #[error("the engine has stopped before the answer was complete")]
    Gone,
}
