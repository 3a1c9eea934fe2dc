//! Heads that each have a matrix of their own, on the CPU: one region of the thread pool for all of them.

use kernels::matmul::acts::Acts;
use kernels::matmul::{Input, Linear as Job, linear};

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
        if to.iter().any(Linear::is_integer) {
            acts.quantize(self.pool(), apart.data(), inner);
        }
        let mut said = self.rows(heads * count, width);
        let outs = said.data_mut().chunks_exact_mut((count * width).max(1));
        let mut jobs: Vec<Job<'_>> = to
            .iter()
            .zip(outs)
            .enumerate()
            .map(|(head, (matrix, out))| {
                let first = head * count;
                let input = if matrix.is_integer() {
                    Input::Part(&acts, first, count)
                } else {
                    Input::Float(&apart.data()[first * inner..(first + count) * inner])
                };
                matrix.job_of(input, out)
            })
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
