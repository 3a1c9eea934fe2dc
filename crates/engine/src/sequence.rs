//! One request on its way: its tokens, how many of them the cache holds, and what happens to logits.
//!
//! Stands between `scheduler.rs`, which moves `computed` towards the number of tokens, and the
//! client, who gets the events. A token that is appended is one more token to be computed; that is
//! all that "decode" means here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use text::{Detokenizer, Tokenizer};

use crate::blocks::BlockTable;
use crate::sampler::{check, log_sum_exp};
use crate::{Event, FinishReason, Finished, Request, RequestKind, Sampler, Sink, Timings, Usage};

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
}

struct Generation {
    sampler: Sampler,
    text: Option<Detokenizer>,
    stop_ids: Vec<u32>,
    max_tokens: usize,
    context: usize,
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
        tokenizer: Option<&Arc<Tokenizer>>,
        context: usize,
        sink: Sink,
    ) -> Self {
        let seed = request.seed.unwrap_or_else(crate::Rng::fresh_seed);
        let work = match request.kind {
            RequestKind::Score { logits } => Work::Score(Scoring { logits, done: 0, next: None }),
            RequestKind::Generate => Work::Generate(Box::new(Generation {
                sampler: Sampler::new(request.params, seed, request.logprobs),
                text: tokenizer.map(|t| detokenizer(t, request.stop, request.continuing).showing(request.shown)),
                stop_ids: if request.ignore_eos { Vec::new() } else { request.stop_ids },
                max_tokens: request.max_tokens.unwrap_or(usize::MAX),
                context,
            })),
        };
        Self {
            id,
            computed: 0,
            table: BlockTable::default(),
            state: 0,
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
        }
    }

    /// How many rows it wants in a step that has room for `budget`.
    pub fn rows(&self, budget: usize) -> usize {
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
        };
        let deaf = (!self.listening).then_some(FinishReason::Cancelled);
        reason.or(deaf)
    }

    fn append(&mut self, logits: &[f32]) -> Option<FinishReason> {
        let Work::Generate(generation) = &mut self.work else { return None };
        let choice = match generation.sampler.sample(logits, &self.tokens) {
            Ok(choice) => choice,
            Err(error) => return Some(FinishReason::Error(error)),
        };
        self.tokens.push(choice.id);
        self.usage.completion_tokens += 1;
        self.clock.first.get_or_insert_with(Instant::now);
        let (text, reason) = generation.next(choice.id, self.tokens.len(), self.usage.completion_tokens);
        self.emit(Event::Token { id: choice.id, text, logprob: choice.logprob });
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
        self.emit(Event::Finished(Finished { reason, usage, timings, seed }));
    }
}

fn detokenizer(tokenizer: &Arc<Tokenizer>, stop: Vec<String>, continuing: bool) -> Detokenizer {
    let detokenizer = Detokenizer::new(tokenizer.clone(), stop);
    if continuing { detokenizer.continuing() } else { detokenizer }
}

impl Generation {
    /// The text that is complete with token `id`, and whether it was the last. `length` counts all
    /// tokens, `answered` those of the answer.
    fn next(&mut self, id: u32, length: usize, answered: usize) -> (String, Option<FinishReason>) {
        let mut text = String::new();
        let mut reason = None;
        if self.stop_ids.contains(&id) {
            reason = Some(FinishReason::Eos(id));
        } else if let Some(detokenizer) = &mut self.text {
            let step = detokenizer.push(id);
            text = step.text;
            reason = step.stopped.map(FinishReason::Stop);
        }
        if reason.is_none() && answered >= self.max_tokens {
            reason = Some(FinishReason::Length);
        }
        if reason.is_none() && length >= self.context {
            reason = Some(FinishReason::Context);
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
