//! One request on its way: its tokens, how many of them the cache holds, and what happens to logits.
//!
//! Stands between `scheduler.rs`, which moves `computed` towards the number of tokens, and the
//! client, who gets the events. A token that is appended is one more token to be computed; that is
//! all that "decode" means here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use text::{Detokenizer, Tokenizer};

use crate::blocks::BlockTable;
use crate::constrained::Constrained;
use crate::repetition::LoopGuard;
use crate::sampler::{Limits, check, log_sum_exp};
use crate::{
    Choice, EngineError, Event, FinishReason, Finished, Logprob, Request, RequestKind, Sampler, Sink,
    Timings, Usage,
};

/// Rows of a scored text in one step: each brings a whole row of logits.
const SCORE_ROWS: usize = 64;

/// A sequence of tokens and what is to be done with it.
pub struct Sequence {
    /// Who it is, for cancelling.
    pub id: u64,
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// How many leading tokens have their keys and values in the cache.
    pub computed: usize,
    /// Where those lie.
    pub table: BlockTable,
    /// Its line in the state of recurrent layers.
    pub state: u32,
    /// Which text of a pair each token is of; empty where all are of one.
    pub types: Vec<u32>,
    work: Work,
    sink: Sink,
    listening: bool,
    usage: Usage,
    seed: u64,
    clock: Clock,
}

enum Work {
    Generate(Box<Generation>),
    Score(Scoring),
    Encode,
}

struct Generation {
    sampler: Sampler,
    text: Option<Detokenizer>,
    stop_ids: Vec<u32>,
    min_tokens: usize,
    max_tokens: usize,
    context: usize,
    guard: Option<LoopGuard>,
    constraint: Option<Constrained>,
}

/// What `engine.rs` made ready for a sequence, on the thread of who asked.
#[derive(Default)]
pub struct Prepared {
    /// The tokens over which DRY finds no repetition.
    pub breakers: Arc<HashSet<u32>>,
    /// What the answer has to look like.
    pub constraint: Option<Constrained>,
}

struct Scoring {
    logits: bool,
    /// Positions whose scores were given.
    done: usize,
    /// Log-probability of the token at position `done`.
    next: Option<f32>,
}

struct Clock {
    submitted: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
}

impl Clock {
    fn timings(&self) -> Timings {
        let now = Instant::now();
        let since = |from: Option<Instant>, to: Instant| from.map_or(Duration::ZERO, |f| to - f);
        Timings {
            queue: self.started.unwrap_or(now) - self.submitted,
            prefill: since(self.started, self.first.unwrap_or(now)),
            decode: since(self.first, now),
        }
    }
}

impl Sequence {
    /// A sequence for a request that was found good. `context` is the most tokens it may grow to.
    pub fn new(
        id: u64,
        request: Request,
        prepared: Prepared,
        tokenizer: Option<&Arc<Tokenizer>>,
        context: usize,
        sink: Sink,
    ) -> Self {
        let seed = request.seed.unwrap_or_else(crate::Rng::fresh_seed);
        let work = match request.kind {
            RequestKind::Score { logits } => Work::Score(Scoring { logits, done: 0, next: None }),
            RequestKind::Encode => Work::Encode,
            RequestKind::Generate => Work::Generate(Box::new(Generation {
                sampler: Sampler::new(request.params, seed, request.logprobs).breakers(prepared.breakers),
                // Under a constraint a space that begins the answer is part of it too.
                text: tokenizer.map(|t| {
                    let continuing = request.continuing || prepared.constraint.is_some();
                    detokenizer(t, request.stop, continuing).showing(request.shown)
                }),
                stop_ids: if request.ignore_eos { Vec::new() } else { request.stop_ids },
                min_tokens: request.min_tokens,
                max_tokens: request.max_tokens.unwrap_or(usize::MAX),
                context,
                guard: request.loop_guard.then(LoopGuard::new),
                constraint: prepared.constraint,
            })),
        };
        Self {
            id,
            computed: 0,
            table: BlockTable::default(),
            state: 0,
            types: request.types,
            work,
            sink,
            listening: true,
            usage: Usage { prompt_tokens: request.tokens.len(), ..Usage::default() },
            tokens: request.tokens,
            seed,
            clock: Clock { submitted: Instant::now(), started: None, first: None },
        }
    }

    /// The first position whose logits are still wanted; before it the cache serves as well.
    pub fn outputs_from(&self) -> usize {
        match &self.work {
            Work::Generate(_) => self.tokens.len().saturating_sub(1),
            Work::Score(scoring) => scoring.done,
            // Every position enters; nothing of it can come from the cache.
            Work::Encode => 0,
        }
    }

    /// Whether its whole text has to be in one step.
    pub fn encodes(&self) -> bool {
        matches!(self.work, Work::Encode)
    }

    /// Gives what the model says of the text. Its end.
    pub fn encoded(&mut self, said: Vec<f32>) -> FinishReason {
        self.clock.first = Some(Instant::now());
        if said.iter().any(|x| !x.is_finite()) {
            return FinishReason::Error(EngineError::BadLogits {
                what: "a number that is not finite",
                position: 0,
            });
        }
        self.emit(Event::Encoded(said));
        FinishReason::Encoded
    }

    /// How many rows it wants in a step that has room for `budget`.
    pub fn rows(&self, budget: usize) -> usize {
        if self.encodes() {
            return self.tokens.len();
        }
        let most = if matches!(self.work, Work::Score(_)) { SCORE_ROWS } else { usize::MAX };
        (self.tokens.len() - self.computed).min(budget).min(most)
    }

    /// Called when it leaves the queue; says so to the client the first time.
    pub fn start(&mut self) {
        if self.clock.started.is_some() {
            return;
        }
        self.clock.started = Some(Instant::now());
        self.usage.cached_tokens = self.computed;
        let Usage { prompt_tokens, cached_tokens, .. } = self.usage;
        self.emit(Event::Started { prompt_tokens, cached_tokens });
    }

    /// Whether the request asks for no token at all.
    pub fn wants_nothing(&self) -> bool {
        matches!(&self.work, Work::Generate(generation) if generation.max_tokens == 0)
    }

    /// Takes the logits of the positions from [`Self::outputs_from`] on, `[n, vocab]`. `Some` is the
    /// end.
    pub fn accept(&mut self, logits: &[f32], vocab: usize) -> Option<FinishReason> {
        let reason = match self.work {
            Work::Generate(_) if logits.is_empty() => None,
            Work::Generate(_) => self.append(logits),
            Work::Score(_) => logits.chunks_exact(vocab).find_map(|row| self.score(row)),
            Work::Encode => None,
        };
        let deaf = (!self.listening).then_some(FinishReason::Cancelled);
        reason.or(deaf)
    }

    fn append(&mut self, logits: &[f32]) -> Option<FinishReason> {
        let Work::Generate(generation) = &mut self.work else { return None };
        let choice = match generation.sample(logits, &self.tokens, self.usage.completion_tokens) {
            Ok(choice) => choice,
            Err(error) => return Some(FinishReason::Error(error)),
        };
        if let Err(error) = generation.consume(choice.id) {
            return Some(FinishReason::Error(error));
        }
        let mut reason = self.push(choice.id, choice.logprob);
        // What can only follow is appended at once, to be computed in one step.
        while reason.is_none()
            && let Some(id) = self.next_forced()
        {
            reason = self.push(id, None);
        }
        reason
    }

    fn next_forced(&mut self) -> Option<u32> {
        let Work::Generate(generation) = &mut self.work else { return None };
        generation.constraint.as_mut()?.next_forced()
    }

    /// Appends a token of the answer and tells the client; `Some` is the end.
    fn push(&mut self, id: u32, logprob: Option<Logprob>) -> Option<FinishReason> {
        let Work::Generate(generation) = &mut self.work else { return None };
        self.tokens.push(id);
        self.usage.completion_tokens += 1;
        self.clock.first.get_or_insert_with(Instant::now);
        let (text, reason) = generation.next(&self.tokens, self.usage.prompt_tokens);
        self.emit(Event::Token { id, text, logprob });
        reason
    }

    fn score(&mut self, row: &[f32]) -> Option<FinishReason> {
        let Work::Score(scoring) = &mut self.work else { return None };
        let position = scoring.done;
        if let Err(error) = check(row, position) {
            return Some(FinishReason::Error(error));
        }
        let logprob = scoring.next;
        let following = self.tokens.get(position + 1);
        scoring.next = following.and_then(|&id| row.get(id as usize)).map(|l| l - log_sum_exp(row));
        scoring.done += 1;
        let (last, logits) = (following.is_none(), scoring.logits.then(|| row.to_vec()));
        if last {
            self.clock.first = Some(Instant::now());
        }
        self.emit(Event::Scored { position, logprob, logits });
        last.then_some(FinishReason::Scored)
    }

    fn emit(&mut self, event: Event) {
        self.listening = self.listening && (self.sink)(event);
    }

    /// Says why it is over.
    pub fn finish(mut self, reason: FinishReason) {
        let (usage, timings, seed) = (self.usage, self.clock.timings(), self.seed);
        let satisfied = match &mut self.work {
            Work::Generate(generation) => generation.satisfied(&reason),
            Work::Score(_) | Work::Encode => None,
        };
        self.emit(Event::Finished(Finished { reason, usage, timings, seed, satisfied }));
    }
}

fn detokenizer(tokenizer: &Arc<Tokenizer>, stop: Vec<String>, continuing: bool) -> Detokenizer {
    let detokenizer = Detokenizer::new(tokenizer.clone(), stop);
    if continuing { detokenizer.continuing() } else { detokenizer }
}

impl Generation {
    /// The next token; `answered` counts those that the answer has.
    fn sample(&mut self, logits: &[f32], tokens: &[u32], answered: usize) -> Result<Choice, EngineError> {
        let banned: &[u32] = if answered < self.min_tokens { &self.stop_ids } else { &[] };
        let mask = match &mut self.constraint {
            Some(constraint) => constraint.mask(&self.stop_ids)?,
            None => None,
        };
        self.sampler.sample(logits, tokens, Limits { mask, banned })
    }

    /// Tells the constraint which token was drawn. One that ends the answer is no part of it.
    fn consume(&mut self, id: u32) -> Result<(), EngineError> {
        match &mut self.constraint {
            Some(constraint) if !self.stop_ids.contains(&id) => constraint.consume(id),
            _ => Ok(()),
        }
    }

    /// Whether an answer that ended so is what its constraint describes.
    fn satisfied(&mut self, reason: &FinishReason) -> Option<bool> {
        // A stop text takes from the answer what the constraint has counted.
        let cut = matches!(reason, FinishReason::Stop(_) | FinishReason::Error(_));
        self.constraint.as_mut().map(|constraint| !cut && constraint.is_satisfied())
    }

    /// The text that is complete with the newest token, and whether that was the last. The first
    /// `prompt` tokens are not of the answer.
    fn next(&mut self, tokens: &[u32], prompt: usize) -> (String, Option<FinishReason>) {
        let (length, answer) = (tokens.len(), &tokens[prompt..]);
        let Some(&id) = answer.last() else { return (String::new(), None) };
        let mut text = String::new();
        let mut reason = None;
        if self.stop_ids.contains(&id) {
            reason = Some(FinishReason::Eos(id));
        } else if let Some(detokenizer) = &mut self.text {
            let step = detokenizer.push(id);
            text = step.text;
            reason = step.stopped.map(FinishReason::Stop);
        }
        if reason.is_none() && self.constraint.as_ref().is_some_and(Constrained::is_complete) {
            reason = Some(FinishReason::Complete);
        }
        let looped = self.guard.as_mut().is_some_and(|guard| guard.push(answer));
        if reason.is_none() && answer.len() >= self.max_tokens {
            reason = Some(FinishReason::Length);
        }
        if reason.is_none() && length >= self.context {
            reason = Some(FinishReason::Context);
        }
        if reason.is_none() && looped {
            reason = Some(FinishReason::Loop);
        }
        // A stop string ends the text before it; anything else lets out what was held back.
        if let (Some(detokenizer), Some(end)) = (&mut self.text, &reason)
            && !matches!(end, FinishReason::Stop(_))
        {
            text += &detokenizer.finish();
        }
        (text, reason)
    }
}
