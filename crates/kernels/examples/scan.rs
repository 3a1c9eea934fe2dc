//! How fast the scans of recurrent mixers go: positions per second of one layer, for shapes of published models.
//!
//! `cargo run --release -p kernels --example scan -- [threads]`

use kernels::delta::{DeltaRows, DeltaRule};
use kernels::pool::Pool;
use kernels::selective::{Selective, SelectiveRows};
use kernels::ssm::{Conv, Scan};
use std::time::Instant;

const POSITIONS: usize = 256;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 / 100.0).collect()
}

/// Prints positions per second, the best of some runs.
fn time(name: &str, mut f: impl FnMut()) {
    let run = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        POSITIONS as f64 / start.elapsed().as_secs_f64()
    };
    let best = (0..9).map(|_| run(&mut f)).fold(0.0, f64::max);
    println!("{name:<42} {best:>9.0} positions/s");
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|t| t.parse().ok()).unwrap_or(1);
    let pool = Pool::new(threads);
    println!("{}, {threads} threads", kernels::isa::Isa::current().name());

    let (heads, head_dim, state_dim) = (48, 64, 128);
    let (inner, width) = (heads * head_dim, heads * head_dim + 2 * state_dim);
    let (a, d, mixed, dt) =
        (vec![-0.5; heads], numbers(heads), numbers(POSITIONS * width), numbers(POSITIONS * heads));
    let (mut state, mut out) = (vec![0.0; inner * state_dim], vec![0.0; POSITIONS * inner]);
    let scan = Scan { heads, head_dim, state_dim, groups: 1, a: &a, d: &d };
    time("Mamba-2, 48 heads x 64, state 128", || scan.run(&pool, &mixed, &dt, &mut state, &mut out));

    let weight = numbers(4 * width);
    let conv = Conv { channels: width, kernel: 4, weight: &weight, bias: None, silu: true };
    let mut before = vec![0.0; 3 * width];
    time("convolution of 3,328 channels", || {
        conv.run(&pool, &mixed, width, 0, &mut before);
    });

    let (channels, size) = (8192, 16);
    let (a, d) = (vec![-0.5; channels * size], numbers(channels));
    let (x, dt, b, c) = (
        numbers(POSITIONS * channels),
        numbers(POSITIONS * channels),
        numbers(POSITIONS * size),
        numbers(POSITIONS * size),
    );
    let (mut state, mut out) = (vec![0.0; channels * size], vec![0.0; POSITIONS * channels]);
    let rows = SelectiveRows { x: &x, dt: &dt, b: &b, c: &c };
    let scan = Selective { channels, state_dim: size, a: &a, d: &d };
    time("Mamba, 8,192 channels, state 16", || scan.run(&pool, &rows, &mut state, &mut out));

    let rule = DeltaRule { key_heads: 16, value_heads: 32, key_dim: 128, value_dim: 128, tiled: false };
    let (q, k, v) = (numbers(POSITIONS * 2048), numbers(POSITIONS * 2048), numbers(POSITIONS * 4096));
    let (decay, beta) = (vec![0.9; POSITIONS * 32], vec![0.01; POSITIONS * 32]);
    let (mut state, mut out) = (vec![0.0; 32 * 128 * 128], vec![0.0; POSITIONS * 4096]);
    let rows = DeltaRows { q: &q, k: &k, v: &v, decay: &decay, beta: &beta };
    time("gated delta rule, 32 heads of 128 x 128", || rule.run(&pool, &rows, &mut state, &mut out));
}
