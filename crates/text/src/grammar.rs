//! What an answer has to look like: a JSON schema, a regular expression, a grammar.
//!
//! Stands between the logits and the sampler: before each token [`Grammar::mask`] says which may come,
//! after it [`Grammar::consume`] is told which came, and [`Grammar::forced`] gives the tokens that can
//! only follow, which need no sampling. The work is done by the llguidance crate (derivatives of regular
//! expressions under an Earley parser, walked over a trie of the vocabulary).

mod gbnf;
mod references;
mod rewrite;
mod schema;
mod vocabulary;

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use crate::guard::caught;
use crate::{Error, Result, Tokenizer};

/// What is asked of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// A JSON object, whatever is in it.
    Json,
    /// JSON that a schema (draft 4 to 2020-12) allows, its properties in the schema's order.
    JsonSchema(Value),
    /// A text that a regular expression (Rust's syntax, no look-around) matches as a whole.
    Regex(String),
    /// A text of a grammar, in llguidance's variant of Lark or in llama.cpp's GBNF: the one that defines
    /// its rules with `::=`.
    Grammar(String),
}

/// The vocabulary of a tokenizer, made ready for grammars once and shared by all.
pub struct GrammarFactory {
    factory: ParserFactory,
    vocab: usize,
}

/// The most text that a schema or grammar may have.
const MAX_SOURCE: usize = 4 << 20;
/// The most rules that a grammar may have.
const MAX_RULES: usize = 10_000;
/// Bytes of stack to compile on; memory is taken as far as it is used.
const STACK: usize = 512 << 20;

impl GrammarFactory {
    /// Builds the trie of the vocabulary: some hundred milliseconds for a large one.
    ///
    /// # Errors
    /// If the tokenizer's tokens have no fixed text (WordPiece), or the trie cannot hold them.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self> {
        let vocab = tokenizer.vocab_size();
        let env = vocabulary::environment(tokenizer)?;
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let made = caught(|| ParserFactory::new(&env, capabilities, &slices));
        let mut factory = flat(made).map_err(|what| Error::Grammar(format!("the vocabulary: {what}")))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory, vocab })
    }

    /// The state of an answer that has not begun.
    ///
    /// # Errors
    /// What is wrong with the schema or grammar: for a schema the keyword that cannot be enforced.
    pub fn compile(&self, constraint: &Constraint) -> Result<Grammar> {
        let made = |apart| {
            let top = top_level(constraint, apart)?;
            flat(caught(|| self.factory.create_parser(top)))
        };
        let parser = deep(|| {
            let parser =
                made(false).or_else(|what| if schema::is_one_of(&what) { made(true) } else { Err(what) });
            parser.map_err(|what| schema::explain(&what))
        });
        let parser = parser.map_err(Error::Grammar)?;
        let mut grammar =
            Grammar { matcher: Matcher::new(Ok(parser)), mask: Vec::new(), vocab: self.vocab, done: false };
        // What no text satisfies shows here and not in the middle of an answer.
        if !grammar.is_complete() && !grammar.is_accepting() {
            grammar.mask()?;
        }
        Ok(grammar)
    }
}

/// Runs `work` where there is stack for what [`MAX_RULES`] and [`schema::MAX_PARTS`] allow: the library follows rules and
/// references by recursion.
fn deep<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|e| format!("no memory to compile it: {e}"))?;
        thread.join().unwrap_or_else(|_| Err("the grammar library failed without a message".to_owned()))
    })
}

/// A rule of Lark begins a line with its name.
fn count_rules(lark: &str) -> usize {
    let begins = |line: &&str| {
        let line = line.trim_start().trim_start_matches(['?', '!']);
        line.starts_with(|c: char| c.is_alphabetic() || c == '_') && line.contains(':')
    };
    lark.lines().filter(begins).count()
}

fn top_level(constraint: &Constraint, apart: bool) -> Result<TopLevelGrammar, String> {
    let source = match constraint {
        Constraint::Json => return Ok(TopLevelGrammar::from_json_schema(schema::object())),
        Constraint::JsonSchema(value) => {
            return schema::prepare(value.clone(), apart).map(TopLevelGrammar::from_json_schema);
        }
        Constraint::Regex(source) | Constraint::Grammar(source) => source,
    };
    if source.len() > MAX_SOURCE {
        return Err(format!("found {} bytes, expected at most {MAX_SOURCE}", source.len()));
    }
    match constraint {
        Constraint::Regex(regex) => Ok(TopLevelGrammar::from_regex(regex)),
        _ if source.contains("::=") => Ok(TopLevelGrammar::from_lark(gbnf::to_lark(source)?)),
        _ if count_rules(source) > MAX_RULES => {
            Err(format!("found {} rules, expected at most {MAX_RULES}", count_rules(source)))
        }
        _ => Ok(TopLevelGrammar::from_lark(source.clone())),
    }
}

/// One answer's way through its grammar. A clone goes its own way from there.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
    mask: Vec<u32>,
    vocab: usize,
    /// Nothing can follow, and the answer is whole.
    done: bool,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").field("vocab", &self.vocab).finish_non_exhaustive()
    }
}

impl Grammar {
    /// The tokens that may come next, bit `id % 32` of word `id / 32`; none is an end-of-text token.
    /// Empty when [`Grammar::is_complete`].
    ///
    /// # Errors
    /// If the grammar outgrows its limits, or nothing that it allows can be written in this vocabulary.
    pub fn mask(&mut self) -> Result<&[u32]> {
        self.mask.clear();
        if self.is_complete() {
            return Ok(&self.mask);
        }
        // An answer that may end here may also have nothing that follows.
        let accepting = self.is_accepting();
        match flat(caught(|| self.matcher.compute_mask())) {
            Ok(mask) => self.mask.extend_from_slice(mask.as_slice()),
            Err(_) if accepting => self.done = true,
            Err(what) => return Err(Error::Grammar(what)),
        }
        Ok(&self.mask)
    }

    /// Goes on by a token that the mask allowed.
    ///
    /// # Errors
    /// For any other token.
    pub fn consume(&mut self, token: u32) -> Result<()> {
        flat(caught(|| self.matcher.consume_token(token))).map_err(Error::Grammar)
    }

    /// The tokens that alone can follow, already consumed; often none.
    pub fn forced(&mut self) -> Vec<u32> {
        if self.is_complete() {
            return Vec::new();
        }
        caught(|| self.matcher.consume_ff_tokens()).unwrap_or_default()
    }

    /// Whether the answer may end here.
    pub fn is_accepting(&mut self) -> bool {
        self.is_complete() || matches!(caught(|| self.matcher.is_accepting()), Ok(Ok(true)))
    }

    /// Whether the answer is whole and nothing can follow.
    pub fn is_complete(&self) -> bool {
        use llguidance::api::StopReason;
        self.done || matches!(self.matcher.stop_reason(), StopReason::NoExtension | StopReason::EndOfSentence)
    }
}

/// The text of whatever went wrong inside the library.
fn flat<T, E: std::fmt::Display>(
    outcome: std::result::Result<std::result::Result<T, E>, String>,
) -> Result<T, String> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(panic),
    }
}
