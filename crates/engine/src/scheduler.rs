//! Who runs in the next step, and where their keys and values go.
//!
//! Stands between the queue of requests and the model. There is no prefill phase and no decode phase
//! (the rule of vLLM v1): each sequence has tokens and a number of them that are computed, and a step
//! takes rows from sequences until its budget is full, those that run before those that wait. A long
//! prompt is cut where the budget ends and goes on in the next step; an answer is a prompt that grew
//! by one token.

use std::collections::VecDeque;

use models::{Batch, Span};

use crate::blocks::BlockManager;
use crate::sequence::Sequence;
use crate::{EngineError, FinishReason};

/// How much a step may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a batch.
    pub budget: usize,
    /// Sequences that run at once; never more than `budget`, so that each gets its row.
    pub max_running: usize,
    /// Whether what was read before may be used again: not where layers keep a state, which cannot be cut.
    pub reuse: bool,
}

/// What [`models::Spec::rope_regime`] says of a length.
pub type Regime = Box<dyn Fn(usize) -> u64 + Send>;

/// One step: the batch and whose rows are in it.
#[derive(Debug, Default)]
pub struct Step {
    /// What the model runs.
    pub batch: Batch,
    /// It holds whole texts, to be encoded; else there are logits to be had.
    pub encodes: bool,
    scheduled: Vec<Scheduled>,
}

#[derive(Debug)]
struct Scheduled {
    /// Index into the running sequences.
    index: usize,
    rows: usize,
    outputs: usize,
}

/// The sequences and the blocks that they share.
pub struct Scheduler {
    waiting: VecDeque<Sequence>,
    /// In order of admission.
    running: Vec<Sequence>,
    blocks: BlockManager,
    limits: Limits,
    regime: Regime,
}

impl Step {
    /// Whether `sequence` may enter, where `left` rows are free: texts to be encoded enter whole and are by themselves, one
    /// that is longer than a step alone.
    fn takes(&self, sequence: &Sequence, left: usize) -> bool {
        let empty = self.batch.tokens.is_empty();
        empty
            || (self.encodes == sequence.encodes() && (!sequence.encodes() || sequence.tokens.len() <= left))
    }
}

impl Scheduler {
    /// No sequences yet.
    pub fn new(blocks: BlockManager, limits: Limits, regime: Regime) -> Self {
        let max_running = limits.max_running.clamp(1, limits.budget.max(1));
        let limits = Limits { budget: limits.budget.max(1), max_running, ..limits };
        Self { waiting: VecDeque::new(), running: Vec::new(), blocks, limits, regime }
    }

    /// Puts a sequence at the end of the queue.
    pub fn add(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Ends a sequence that is not wanted any more; nothing if it is over already.
    pub fn cancel(&mut self, id: u64) {
        if let Some(place) = self.waiting.iter().position(|s| s.id == id) {
            if let Some(sequence) = self.waiting.remove(place) {
                sequence.finish(FinishReason::Cancelled);
            }
        } else if let Some(place) = self.running.iter().position(|s| s.id == id) {
            self.end(place, FinishReason::Cancelled);
        }
    }

    /// Ends them all.
    pub fn cancel_all(&mut self) {
        for sequence in self.waiting.drain(..).chain(self.running.drain(..)) {
            sequence.finish(FinishReason::Cancelled);
        }
    }

    /// The next step. Its batch is empty only when nothing is left to do.
    pub fn schedule(&mut self) -> Step {
        let mut step = Step::default();
        let running = self.running.len();
        let mut index = 0;
        while index < self.running.len() && step.batch.tokens.len() < self.limits.budget {
            self.follow_regime(index);
            let rows = self.running[index].rows(self.limits.budget - step.batch.tokens.len());
            if self.make_room(index, rows) {
                self.take_rows(&mut step, index, rows);
                index += 1;
            }
        }
        // Who had to leave is first in the queue: admitting anyone now would only throw them out again.
        if self.running.len() == running {
            self.admit(&mut step);
        }
        step
    }

    /// Finds blocks for `rows` more rows, from the sequences admitted last if need be. `false`: the
    /// sequence itself had to leave.
    fn make_room(&mut self, index: usize, rows: usize) -> bool {
        loop {
            let sequence = &mut self.running[index];
            let tokens = sequence.computed + rows;
            if self.blocks.grow(&mut sequence.table, tokens) {
                return true;
            }
            if let Some(victim) = self.running.pop() {
                self.preempt(victim);
            }
            if self.running.len() == index {
                return false;
            }
        }
    }

    /// Sends a sequence back to the queue. Its tokens are kept and computed again later, as far as
    /// their blocks are not found again.
    fn preempt(&mut self, mut sequence: Sequence) {
        self.blocks.release(&mut sequence.table);
        sequence.computed = 0;
        self.waiting.push_front(sequence);
    }

    fn admit(&mut self, step: &mut Step) {
        while self.running.len() < self.limits.max_running && step.batch.tokens.len() < self.limits.budget {
            let Some(mut sequence) = self.waiting.pop_front() else { return };
            let left = self.limits.budget - step.batch.tokens.len();
            if !step.takes(&sequence, left) {
                self.waiting.push_front(sequence);
                return;
            }
            self.look_up(&mut sequence);
            let rows = sequence.rows(left);
            if !self.blocks.grow(&mut sequence.table, sequence.computed + rows) {
                self.preempt(sequence);
                return;
            }
            sequence.start();
            if sequence.wants_nothing() {
                self.blocks.release(&mut sequence.table);
                sequence.finish(FinishReason::Length);
                continue;
            }
            sequence.state = self.free_state();
            self.running.push(sequence);
            self.take_rows(step, self.running.len() - 1, rows);
        }
    }

    /// Takes what the cache already holds of a sequence.
    fn look_up(&mut self, sequence: &mut Sequence) {
        let regime = (self.regime)(sequence.tokens.len());
        let limit = if self.limits.reuse { sequence.outputs_from() } else { 0 };
        sequence.table = self.blocks.find(&sequence.tokens, limit, regime);
        sequence.computed = sequence.table.blocks.len() * self.blocks.block_size();
    }

    /// A sequence that grew into another regime of rotations has to be computed again.
    fn follow_regime(&mut self, index: usize) {
        let sequence = &mut self.running[index];
        if (self.regime)(sequence.tokens.len()) != sequence.table.regime() {
            self.blocks.release(&mut sequence.table);
            let mut sequence = self.running.remove(index);
            self.look_up(&mut sequence);
            self.running.insert(index, sequence);
        }
    }

    fn free_state(&self) -> u32 {
        let taken = |line: &u32| self.running.iter().any(|s| s.state == *line);
        (0..).find(|line| !taken(line)).unwrap_or(0)
    }

    fn take_rows(&self, step: &mut Step, index: usize, rows: usize) {
        let sequence = &self.running[index];
        step.encodes = sequence.encodes();
        let block_size = self.blocks.block_size();
        let Batch { tokens, positions, slots, spans, types, outputs } = &mut step.batch;
        let start = tokens.len();
        let places = sequence.computed..sequence.computed + rows;
        let span = Span {
            start,
            len: rows,
            blocks: sequence.table.blocks.clone(),
            length: sequence.tokens.len(),
            state: sequence.state,
        };
        tokens.extend_from_slice(&sequence.tokens[places.clone()]);
        positions.extend(places.clone().map(|p| p as u32));
        types.extend(places.clone().map(|p| sequence.types.get(p).copied().unwrap_or(0)));
        slots.extend(places.clone().map(|p| span.slot(p, block_size)));
        let before = outputs.len();
        let wanted = places.clone().filter(|&p| p >= sequence.outputs_from());
        outputs.extend(wanted.map(|p| (start + p - places.start) as u32));
        step.scheduled.push(Scheduled { index, rows, outputs: outputs.len() - before });
        spans.push(span);
    }

    /// Hands the logits of a step, `[outputs, vocab]`, to its sequences and ends those that are done.
    pub fn advance(&mut self, step: &Step, logits: &[f32], vocab: usize) {
        let mut ended = Vec::new();
        let mut rest = logits;
        for scheduled in &step.scheduled {
            let sequence = &mut self.running[scheduled.index];
            sequence.computed += scheduled.rows;
            self.blocks.remember(&mut sequence.table, &sequence.tokens[..sequence.computed]);
            let (own, others) = rest.split_at(scheduled.outputs * vocab);
            rest = others;
            if let Some(reason) = sequence.accept(own, vocab) {
                ended.push((scheduled.index, reason));
            }
        }
        for (index, reason) in ended.into_iter().rev() {
            self.end(index, reason);
        }
    }

    /// Hands what the model said of the whole texts of a step to them; that is their end.
    pub fn encoded(&mut self, step: &Step, said: Vec<Vec<f32>>) {
        if said.len() != step.scheduled.len() {
            let message = format!("the model said {} things of {} texts", said.len(), step.scheduled.len());
            return self.fail(step, &message);
        }
        for (scheduled, said) in step.scheduled.iter().zip(said).rev() {
            let reason = self.running[scheduled.index].encoded(said);
            self.end(scheduled.index, reason);
        }
    }

    /// Ends the sequences of a step that the model could not run.
    pub fn fail(&mut self, step: &Step, message: &str) {
        for scheduled in step.scheduled.iter().rev() {
            self.end(scheduled.index, FinishReason::Error(EngineError::Model(message.to_owned())));
        }
    }

    fn end(&mut self, index: usize, reason: FinishReason) {
        let mut sequence = self.running.remove(index);
        self.blocks.release(&mut sequence.table);
        sequence.finish(reason);
    }
}
