//! Heads that each have a matrix of their own, on the CPU: one region of the thread pool for all of them.

use kernels::matmul::acts::Acts;
use kernels::matmul::{Linear as Job, linear};

use crate::cpu::{CpuBackend, Linear, Rows};

impl CpuBackend {
    /// See [`crate::Backend::by_head`].
    pub(crate) fn heads(&self, x: &Rows, to: &[Linear]) -> Rows {
        let (heads, count) = (to.len().max(1), x.count());
        let (inner, width) = (x.width() / heads, to.first().map_or(0, Linear::outputs));
        // Head by head, so that each matrix finds its rows together.
        let mut apart = self.rows(heads * count, inner);
        self.each_row(&mut apart, |i, row| {
            row.copy_from_slice(&x.row(i % count)[i / count * inner..][..inner]);
        });
        let mut acts = Acts::new();
        acts.fill(self.pool(), apart.data(), inner, to.iter().map(Linear::takes));
        let mut said = self.rows(heads * count, width);
        let outs = said.data_mut().chunks_exact_mut((count * width).max(1));
        let mut jobs: Vec<Job<'_>> = to
            .iter()
            .zip(outs)
            .enumerate()
            .map(|(head, (matrix, out))| matrix.job_of(&acts, &apart, head * count..(head + 1) * count, out))
            .collect();
        linear(self.pool(), &mut jobs);
        let mut out = self.rows(count, heads * width);
        self.each_row(&mut out, |i, row| {
            for (head, part) in row.chunks_exact_mut(width).enumerate() {
                part.copy_from_slice(said.row(head * count + i));
            }
        });
        out
    }
}
