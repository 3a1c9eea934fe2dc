//! What a scan remembers: for each sequence that runs, one line of numbers.

use std::ops::Range;

use crate::batch::Batch;

/// Lines of one layer.
pub(crate) struct State {
    size: usize,
    lines: Vec<f32>,
}

impl State {
    /// `lines` lines of `size` numbers.
    pub fn new(size: usize, lines: usize) -> State {
        State { size, lines: vec![0.0; size * lines] }
    }

    /// Runs `f` on each span's rows and the line of its sequence, which is zero at the sequence's beginning.
    pub fn each_span(&mut self, batch: &Batch, f: impl FnMut(Range<usize>, &mut [f32])) {
        self.each_part(batch, 0..self.size, f);
    }

    /// As [`State::each_span`], with a part of the line, for mixers that come back to it.
    pub fn each_part(
        &mut self,
        batch: &Batch,
        part: Range<usize>,
        mut f: impl FnMut(Range<usize>, &mut [f32]),
    ) {
        for span in batch.spans.iter().filter(|s| s.len > 0) {
            let line = &mut self.lines[span.state as usize * self.size..][part.clone()];
            if batch.positions[span.start] == 0 {
                line.fill(0.0);
            }
            f(span.start..span.start + span.len, line);
        }
    }
}
