//! A mixture of experts on the CPU: rows are sorted by expert, so that each expert's weights are read once a batch.
//!
//! Two regions of the thread pool do all experts: gate and up together, then down.

use kernels::matmul::acts::Acts;
use kernels::matmul::{Linear as Job, linear};

use crate::backend::Expert;
use crate::cpu::{CpuBackend, Linear, Rows, act_row, glu_row};
use crate::moe::Choice;
use crate::spec::Act;

/// Who goes where: pairs of a row and an expert, by expert and then by row.
struct Sorted {
    /// The row of each pair, and its weight.
    pairs: Vec<(usize, f32)>,
    /// Each expert that has any: its number and where its pairs end.
    ends: Vec<(usize, usize)>,
    /// The pairs of each row, by expert: `[rows][top_k]`.
    of_row: Vec<usize>,
}

impl Sorted {
    fn new(choice: &Choice) -> Sorted {
        let k = choice.top_k.max(1);
        let mut order: Vec<usize> = (0..choice.experts.len()).collect();
        order.sort_by_key(|&i| (choice.experts[i], i));
        let mut ends: Vec<(usize, usize)> = vec![];
        let mut places: Vec<Vec<usize>> = vec![vec![]; choice.experts.len() / k];
        for (pair, &i) in order.iter().enumerate() {
            let expert = choice.experts[i] as usize;
            match ends.last_mut().filter(|(e, _)| *e == expert) {
                Some((_, end)) => *end = pair + 1,
                None => ends.push((expert, pair + 1)),
            }
            places[i / k].push(pair);
        }
        let pairs = order.iter().map(|&i| (i / k, choice.weights[i])).collect();
        Sorted { pairs, ends, of_row: places.concat() }
    }
}

impl CpuBackend {
    /// See [`crate::Backend::experts`]; `out` has the rows and width of the result.
    pub(crate) fn mixture(
        &self,
        x: &Rows,
        choice: &Choice,
        experts: &[Expert<Linear>],
        act: Act,
        mut out: Rows,
    ) -> Rows {
        let sorted = Sorted::new(choice);
        let mut gathered = self.rows(sorted.pairs.len(), x.width());
        self.each_row(&mut gathered, |i, row| {
            let (from, weight) = sorted.pairs[i];
            row.copy_from_slice(x.row(from));
            if choice.weigh_input {
                row.iter_mut().for_each(|x| *x *= weight);
            }
        });
        let inner = experts.first().map_or(0, |e| e.up.outputs());
        let mut up = self.rows(sorted.pairs.len(), inner);
        let mut gate =
            experts.first().and_then(|e| e.gate.as_ref()).map(|_| self.rows(sorted.pairs.len(), inner));
        {
            let mut parts: Vec<Part<'_>> = vec![(&mut up, |e| Some(&e.up))];
            if let Some(gate) = &mut gate {
                parts.push((gate, |e| e.gate.as_ref()));
            }
            self.through(&gathered, &sorted, experts, parts);
        }
        let between = match gate {
            Some(mut gate) => {
                self.each_row(&mut gate, |i, row| glu_row(act, row, up.row(i)));
                gate
            }
            None => {
                self.each_row(&mut up, |_, row| act_row(act, row));
                up
            }
        };
        let mut down = self.rows(sorted.pairs.len(), out.width());
        self.through(&between, &sorted, experts, vec![(&mut down, |e| Some(&e.down))]);
        self.each_row(&mut out, |i, row| {
            row.fill(0.0);
            for &pair in &sorted.of_row[i * choice.top_k..(i + 1) * choice.top_k] {
                let weight = if choice.weigh_input { 1.0 } else { sorted.pairs[pair].1 };
                row.iter_mut().zip(down.row(pair)).for_each(|(o, x)| *o += weight * x);
            }
        });
        out
    }

    /// Every expert's rows of `x` through its matrices, in one region.
    fn through(&self, x: &Rows, sorted: &Sorted, experts: &[Expert<Linear>], parts: Vec<Part<'_>>) {
        let mut acts = Acts::new();
        let takes = |(_, pick): &Part<'_>| experts.first().and_then(pick).map(Linear::takes);
        acts.fill(self.pool(), x.data(), x.width(), parts.iter().filter_map(takes));
        let mut jobs: Vec<Job<'_>> = vec![];
        for (to, pick) in parts {
            let width = to.width();
            let (mut rest, mut first) = (to.data_mut(), 0);
            for &(expert, end) in &sorted.ends {
                let (out, others) = rest.split_at_mut((end - first) * width);
                if let Some(linear) = pick(&experts[expert]) {
                    jobs.push(linear.job_of(&acts, x, first..end, out));
                }
                (rest, first) = (others, end);
            }
        }
        linear(self.pool(), &mut jobs);
    }
}

/// Where results go, and which matrix of an expert makes them.
type Part<'a> = (&'a mut Rows, for<'e> fn(&'e Expert<Linear>) -> Option<&'e Linear>);
