//! What the machine could do and what the matrix kernels reach, for shapes of a model of 1B parameters.
//!
//! `cargo run --release -p kernels --example peak -- [threads,...] [format,...] [tokens]`

use kernels::matmul::acts::{Acts, Takes};
use kernels::matmul::{Input, Linear, linear};
use kernels::pack::PackedLinear;
use kernels::peak::{self, Reader};
use kernels::pool::Pool;
use kernels::quant::DType;
use std::time::Instant;

const SHAPES: [(usize, usize); 4] = [(2048, 2048), (8192, 2048), (2048, 8192), (128256, 2048)];

fn matrix(pool: &Pool, dtype: DType, rows: usize, cols: usize) -> Option<PackedLinear> {
    let mut bytes = vec![0u8; dtype.bytes(rows * cols)?];
    for (i, b) in bytes.iter_mut().enumerate() {
        // Codes and scales near one in every format: denormals and infinities would take time of their own.
        *b = 0x38 | ((i.wrapping_mul(2654435761) >> 13) as u8 & 3);
    }
    PackedLinear::pack(pool, dtype, rows, cols, &bytes).ok()
}

/// Seconds of the quickest and of the middle one of `repeats` runs.
fn time(repeats: usize, mut f: impl FnMut()) -> (f64, f64) {
    f();
    let mut all: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    (all[0], all[all.len() / 2])
}

fn multiply(pool: &Pool, w: &PackedLinear, x: &[f32], acts: &Acts, out: &mut [f32]) {
    let input = Input::of(w, acts, x, 0..x.len() / w.cols());
    linear(pool, &mut [Linear::new(w, input, out)]);
}

fn bench(pool: &Pool, reader: &Reader, dtype: DType, (rows, cols): (usize, usize), tokens: usize) {
    let start = Instant::now();
    let Some(w) = matrix(pool, dtype, rows, cols) else { return };
    let packed = w.bytes() as f64 / 1e9 / start.elapsed().as_secs_f64();
    let copies: Vec<PackedLinear> = match (300 << 20) / w.bytes() {
        0 => vec![],
        n => (0..n).filter_map(|_| matrix(pool, dtype, rows, cols)).collect(),
    };
    let all: Vec<&PackedLinear> = std::iter::once(&w).chain(&copies).collect();
    let peak = match w.takes() {
        Takes::Int8 => peak::int8_gops(pool),
        Takes::Bf16 => peak::bf16_gflops(pool),
        Takes::Float => peak::f32_gflops(pool),
    };
    let x: Vec<f32> = (0..tokens * cols).map(|i| (i % 97) as f32 / 97.0 - 0.4).collect();
    let mut out = vec![0f32; tokens * rows];
    let mut acts = Acts::new();
    for n in [tokens, 8] {
        let (x, out) = (&x[..n * cols], &mut out[..n * rows]);
        acts.fill(pool, x, cols, std::iter::once(w.takes()));
        // From memory, as in a model: so many matrices that no cache holds them.
        let some = &all[..all.len().min((64 << 20) / w.bytes() + 1)];
        let (best, mid) = time(5, || some.iter().for_each(|w| multiply(pool, w, x, &acts, out)));
        let gops = 2e-9 * (n * rows * cols * some.len()) as f64;
        print!("{:>8.0} {:>8.0} {:>5.1} %", gops / best, gops / mid, 100.0 * gops / best / peak);
    }
    let (x, out) = (&x[..cols], &mut out[..rows]);
    acts.fill(pool, x, cols, std::iter::once(w.takes()));
    let read = reader.gbs(pool, 3);
    let gb: f64 = all.iter().map(|w| w.bytes() as f64 / 1e9).sum();
    let (best, mid) = time(7, || all.iter().for_each(|w| multiply(pool, w, x, &acts, out)));
    let read = read.max(reader.gbs(pool, 3));
    println!(
        "{:>7.1} {:>7.1} of {read:>5.1} {:>5.1} %  {}x{cols} {} pack {packed:.1}",
        gb / best,
        gb / mid,
        100.0 * gb / best / read,
        rows,
        dtype.format().name
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let list = |i: usize, default: &str| -> Vec<String> {
        args.get(i).map_or(default, String::as_str).split(',').map(str::to_owned).collect()
    };
    let tokens: usize = args.get(2).and_then(|t| t.parse().ok()).unwrap_or(512);
    let reader = Reader::new();
    println!(
        "{}, {} threads by default",
        kernels::isa::Isa::current().name(),
        kernels::threads::default_threads()
    );
    for threads in list(0, "1,2").iter().filter_map(|t| t.parse().ok()) {
        let pool = Pool::new(threads);
        let p = peak::measure(&pool);
        println!(
            "\n{threads} threads: int8 {:.0} GOP/s, f32 {:.0} GFLOP/s, read {:.1} GB/s",
            p.int8_gops, p.f32_gflops, p.read_gbs
        );
        println!(
            "{tokens} tokens: best, median GOP/s, of peak | 8 tokens | 1 token: best, median GB/s of read rate"
        );
        for name in list(1, "Q8_0,Q4_0,Q4_K,Q6_K,BF16,F32") {
            let Some(dtype) = DType::from_name(&name) else { continue };
            for shape in SHAPES.into_iter().take(if threads == 1 { 3 } else { 4 }) {
                bench(&pool, &reader, dtype, shape, tokens);
            }
        }
    }
}
