//! Text to tokens and back: tokenizers, chat templates, streaming detokenizer.
//!
//! A token's way begins and ends here: messages become a prompt ([`ChatTemplate`]), the prompt becomes
//! ids ([`Tokenizer::encode`]), and each id that the model answers with becomes a piece of complete UTF-8
//! ([`Detokenizer`]), of which a [`TagReader`] makes content, reasoning and tool calls; what the answer has to look
//! like is held by a [`Grammar`]. Everything read here (tokenizer files, GGUF vocabularies, templates) is untrusted.

mod detokenizer;
mod error;
mod grammar;
mod guard;
mod tags;
mod template;
mod tokenizer;

pub use detokenizer::{Detokenizer, Step};
pub use error::{Error, Result};
pub use grammar::{Constraint, Grammar, GrammarFactory};
pub use tags::{Dialect, Part, TagReader, ToolCall};
pub use template::{ChatTemplate, Clock, Guarded, RenderOptions};
pub use tokenizer::{GgufVocab, Tokenizer};
