//! The engine: takes requests in, runs steps on a thread of its own, gives events out.
//!
//! Stands between every client (CLI, chat, server) and the model. The only generation loop of the
//! program is [`Worker::run`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use models::{CacheShape, Model};
use text::{GrammarFactory, Tokenizer};

use crate::blocks::BlockManager;
use crate::breakers::breakers;
use crate::constrained::Constrained;
use crate::scheduler::{Limits, Scheduler};
use crate::sequence::{Prepared, Sequence};
use crate::{
    EngineError, Event, FinishReason, Finished, Request, RequestKind, Score, Sink, Timings, Usage,
    available_memory,
};

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Tokens that a sequence may grow to; `None`: as many as the model was made for, or as fit.
    pub context: Option<usize>,
    /// Tokens that the cache holds, over all sequences; `None`: one full context.
    pub cache_tokens: Option<usize>,
    /// Bytes that the cache may take; `None`: half of what the platform says is free.
    pub cache_bytes: Option<u64>,
    /// Tokens per block of the cache.
    pub block_size: usize,
    /// Rows of a batch.
    pub budget: usize,
    /// Sequences that run at once.
    pub max_running: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            context: None,
            cache_tokens: None,
            cache_bytes: None,
            block_size: 32,
            budget: 512,
            max_running: 64,
        }
    }
}

/// What an engine came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Tokens that a sequence may grow to.
    pub context: usize,
    /// Tokens that the model was made for.
    pub model_context: usize,
    /// Token ids of the model.
    pub vocab: usize,
    /// Tokens that the cache holds.
    pub cache_tokens: usize,
    /// Bytes that the cache takes.
    pub cache_bytes: u64,
}

/// A model at work. Dropping it ends what is under way.
pub struct Engine {
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    next_id: AtomicU64,
    abilities: Abilities,
    tokenizer: Option<Arc<Tokenizer>>,
    /// The vocabulary made ready for grammars, once one is asked for.
    grammars: OnceLock<Result<GrammarFactory, String>>,
    info: EngineInfo,
}

/// What can be asked of the model.
#[derive(Clone, Copy, Debug)]
struct Abilities {
    /// Go on with a text.
    goes_on: bool,
    /// Make a vector of it, or a number for each label.
    encodes: bool,
}

enum Command {
    Submit(Box<(u64, Request, Prepared, Sink)>),
    Cancel(u64),
    Stop,
}

impl Engine {
    /// Allocates the cache and starts the thread. Without a tokenizer answers are token ids only.
    ///
    /// # Errors
    /// [`EngineError::ContextTooLarge`], [`EngineError::CacheTooLarge`] when the context that was
    /// asked for cannot be; [`EngineError::Model`] when the model cannot allocate.
    pub fn start(
        mut model: Box<dyn Model>,
        tokenizer: Option<Arc<Tokenizer>>,
        config: &EngineConfig,
    ) -> Result<Self, EngineError> {
        let (info, shape) = plan(&*model, config)?;
        model.allocate(shape).map_err(|e| EngineError::Model(e.to_string()))?;
        let spec = model.spec().clone();
        let encodes = spec.embedding.is_some() || spec.classifier.is_some();
        let abilities = Abilities { goes_on: !spec.both_ways(), encodes };
        let scheduler = Scheduler::new(
            BlockManager::new(shape.blocks, shape.block_size),
            Limits { budget: config.budget, max_running: config.max_running, reuse: !spec.recurrent() },
            Box::new(move |length| spec.rope_regime(length)),
        );
        let (commands, inbox) = mpsc::channel();
        let worker = Worker { model, tokenizer: tokenizer.clone(), scheduler, inbox, info };
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || worker.run())
            .map_err(|e| EngineError::Model(format!("cannot start the engine's thread: {e}")))?;
        Ok(Self {
            commands,
            thread: Some(thread),
            next_id: AtomicU64::new(0),
            abilities,
            tokenizer,
            grammars: OnceLock::new(),
            info,
        })
    }

    /// Its context and cache.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Queues a request. Its events come through the handle; dropping the handle cancels it.
    ///
    /// # Errors
    /// Every [`EngineError`] that can be seen from the request itself.
    pub fn submit(&self, request: Request) -> Result<Handle, EngineError> {
        let (sender, events) = mpsc::channel();
        let cancel = self.submit_to(request, Box::new(move |event| sender.send(event).is_ok()))?;
        Ok(Handle { events, cancel, finished: false })
    }

    /// Queues a request whose events go to `sink`, for clients that do not wait on a thread.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_to(&self, request: Request, sink: Sink) -> Result<Canceller, EngineError> {
        self.check(&request)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let prepared = self.prepare(&request)?;
        let submit = Command::Submit(Box::new((id, request, prepared, sink)));
        self.commands.send(submit).map_err(|_| EngineError::Gone)?;
        Ok(Canceller { id, commands: self.commands.clone() })
    }

    /// Runs one request to its end and gives its tokens and text.
    ///
    /// # Errors
    /// As [`Self::submit`], and the error that the answer ended with.
    pub fn run_one(&self, request: Request) -> Result<Answer, EngineError> {
        let mut answer = Answer::default();
        for event in self.submit(request)? {
            match event {
                Event::Token { id, text, .. } => {
                    answer.tokens.push(id);
                    answer.text += &text;
                }
                Event::Finished(Finished { reason: FinishReason::Error(error), .. }) => return Err(error),
                Event::Finished(finished) => answer.finished = Some(finished),
                Event::Started { .. } | Event::Scored { .. } | Event::Encoded(_) => {}
            }
        }
        Ok(answer)
    }

    /// How likely each token is after those before it, and on request all logits.
    ///
    /// # Errors
    /// As [`Self::run_one`].
    pub fn score(&self, tokens: Vec<u32>, logits: bool) -> Result<Score, EngineError> {
        let mut score = Score::default();
        for event in self.submit(Request::score(tokens, logits))? {
            match event {
                Event::Scored { logprob, logits, .. } => {
                    score.logprobs.push(logprob);
                    score.logits.extend(logits);
                }
                Event::Finished(Finished { reason: FinishReason::Error(error), .. }) => return Err(error),
                _ => {}
            }
        }
        Ok(score)
    }

    /// What the model says of each of several texts, each its tokens and their types: its vector, or a number for each
    /// label.
    ///
    /// # Errors
    /// As [`Self::run_one`].
    pub fn encode(&self, texts: Vec<(Vec<u32>, Vec<u32>)>) -> Result<Vec<Vec<f32>>, EngineError> {
        let submit = |(tokens, types)| self.submit(Request::encode(tokens, types));
        let handles = texts.into_iter().map(submit).collect::<Result<Vec<_>, _>>()?;
        let mut all = Vec::new();
        for handle in handles {
            for event in handle {
                match event {
                    Event::Encoded(said) => all.push(said),
                    Event::Finished(Finished { reason: FinishReason::Error(error), .. }) => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
        }
        Ok(all)
    }

    /// What takes long and needs no model, done here so that no other sequence waits for it.
    fn prepare(&self, request: &Request) -> Result<Prepared, EngineError> {
        let breakers = breakers(&request.params, self.tokenizer.as_deref())?;
        let Some(constraint) = &request.constraint else {
            return Ok(Prepared { breakers, constraint: None });
        };
        let tokenizer = self.tokenizer.as_ref().ok_or(EngineError::NoTokenizer)?;
        let made = self
            .grammars
            .get_or_init(|| GrammarFactory::new(tokenizer.clone()).map_err(|error| error.to_string()));
        let factory = made.as_ref().map_err(|error| EngineError::Constraint(error.clone()))?;
        let grammar = factory.compile(constraint).map_err(|e| EngineError::Constraint(e.to_string()))?;
        let after = request.constraint_after.clone().map(|text| (text, tokenizer.clone()));
        Ok(Prepared { breakers, constraint: Some(Constrained::new(grammar, after)) })
    }

    fn check(&self, request: &Request) -> Result<(), EngineError> {
        let EngineInfo { context, vocab, .. } = self.info;
        let tokens = request.tokens.len();
        // A text that is only read may fill the context.
        let scoring = !matches!(request.kind, RequestKind::Generate);
        match (request.kind, self.abilities) {
            (RequestKind::Encode, Abilities { encodes: false, .. }) => return Err(EngineError::NoPooling),
            (RequestKind::Generate | RequestKind::Score { .. }, Abilities { goes_on: false, .. }) => {
                return Err(EngineError::Encoder);
            }
            _ => {}
        }
        request.params.validate()?;
        if tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        if scoring && tokens > context {
            return Err(EngineError::TextTooLong { tokens, context });
        }
        if !scoring && tokens >= context {
            return Err(EngineError::PromptTooLong { prompt: tokens, context });
        }
        if let Some(index) = request.tokens.iter().position(|&id| id as usize >= vocab) {
            return Err(EngineError::UnknownToken { index, id: request.tokens[index], vocab });
        }
        if let Some(&(id, _)) = request.params.logit_bias.iter().find(|(id, _)| *id as usize >= vocab) {
            return Err(EngineError::UnknownBias { id, vocab });
        }
        if !request.stop.is_empty() && self.tokenizer.is_none() {
            return Err(EngineError::NoTokenizer);
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A failed send means that the thread is gone already.
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Decides on the context and the size of the cache.
fn plan(model: &dyn Model, config: &EngineConfig) -> Result<(EngineInfo, CacheShape), EngineError> {
    let (model_context, vocab) = (model.spec().context, model.spec().vocab);
    let wanted = config.context.unwrap_or(model_context);
    if wanted == 0 || wanted > model_context {
        return Err(EngineError::ContextTooLarge { asked: wanted, model: model_context });
    }
    let block_size = config.block_size.max(1);
    let per_token = model.cache_bytes_per_token().max(1) as u64;
    let allowed = config.cache_bytes.or(available_memory().map(|free| free / 2)).unwrap_or(4 << 30);
    let fit = usize::try_from(allowed / per_token).unwrap_or(usize::MAX) / block_size;
    let blocks = config.cache_tokens.unwrap_or(wanted).max(1).div_ceil(block_size).min(fit);
    let cache_tokens = blocks * block_size;
    if blocks == 0 || (config.context.is_some() && cache_tokens < wanted) {
        let tokens = if blocks == 0 { block_size } else { wanted };
        let needed = (tokens as u64).saturating_mul(per_token).div_ceil(1 << 20);
        return Err(EngineError::CacheTooLarge { tokens, needed, available: allowed >> 20 });
    }
    let info = EngineInfo {
        context: wanted.min(cache_tokens),
        model_context,
        vocab,
        cache_tokens,
        cache_bytes: cache_tokens as u64 * per_token,
    };
    Ok((info, CacheShape { blocks, block_size, states: config.max_running.clamp(1, config.budget.max(1)) }))
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its token ids, a closing stop token included.
    pub tokens: Vec<u32>,
    /// Its text.
    pub text: String,
    /// Why and how it ended.
    pub finished: Option<Finished>,
}

/// Cancels a request, from any thread.
#[derive(Clone, Debug)]
pub struct Canceller {
    id: u64,
    commands: Sender<Command>,
}

impl Canceller {
    /// Ends the request with `Cancelled` before its next token; nothing if it is over.
    pub fn cancel(&self) {
        let _ = self.commands.send(Command::Cancel(self.id));
    }
}

/// The events of a request, in order; the last is always `Finished`. Dropping it cancels the request.
pub struct Handle {
    events: Receiver<Event>,
    cancel: Canceller,
    finished: bool,
}

impl Handle {
    /// A way to cancel that outlives a borrow of the handle.
    pub fn canceller(&self) -> Canceller {
        self.cancel.clone()
    }
}

impl Iterator for Handle {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.finished {
            return None;
        }
        let event = self.events.recv().unwrap_or_else(|_| {
            Event::Finished(Finished {
                reason: FinishReason::Error(EngineError::Gone),
                usage: Usage::default(),
                timings: Timings::default(),
                seed: 0,
                satisfied: None,
            })
        });
        self.finished = matches!(event, Event::Finished(_));
        Some(event)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.finished {
            self.cancel.cancel();
        }
    }
}

struct Worker {
    model: Box<dyn Model>,
    tokenizer: Option<Arc<Tokenizer>>,
    scheduler: Scheduler,
    inbox: Receiver<Command>,
    info: EngineInfo,
}

impl Worker {
    /// Runs steps while there are sequences, and waits for commands while there are none.
    fn run(mut self) {
        while self.obey() {
            self.step();
        }
        self.scheduler.cancel_all();
    }

    /// Takes the commands that have come; `false` is the end.
    fn obey(&mut self) -> bool {
        loop {
            let command = if self.scheduler.is_idle() {
                self.inbox.recv().unwrap_or(Command::Stop)
            } else {
                match self.inbox.try_recv() {
                    Ok(command) => command,
                    Err(mpsc::TryRecvError::Empty) => return true,
                    Err(mpsc::TryRecvError::Disconnected) => return false,
                }
            };
            match command {
                Command::Submit(boxed) => {
                    let (id, request, prepared, sink) = *boxed;
                    let (tokenizer, context) = (self.tokenizer.as_ref(), self.info.context);
                    self.scheduler.add(Sequence::new(id, request, prepared, tokenizer, context, sink));
                }
                Command::Cancel(id) => self.scheduler.cancel(id),
                Command::Stop => return false,
            }
        }
    }

    fn step(&mut self) {
        let step = self.scheduler.schedule();
        if step.batch.tokens.is_empty() {
            return;
        }
        let vocab = self.info.vocab;
        if step.encodes {
            match self.model.encode(&step.batch) {
                Ok(said) => self.scheduler.encoded(&step, said),
                Err(error) => self.scheduler.fail(&step, &error.to_string()),
            }
            return;
        }
        match self.model.forward(&step.batch) {
            Ok(logits) if logits.len() == step.batch.outputs.len() * vocab => {
                self.scheduler.advance(&step, &logits, vocab);
            }
            Ok(logits) => {
                let (found, rows) = (logits.len(), step.batch.outputs.len());
                self.scheduler
                    .fail(&step, &format!("the model gave {found} logits, expected {rows} rows of {vocab}"));
            }
            Err(error) => self.scheduler.fail(&step, &error.to_string()),
        }
    }
}
