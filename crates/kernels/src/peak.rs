//! What this machine could do at most: the yardstick that `influence bench` puts beside each speed.

#![allow(clippy::needless_range_loop)] // as in matmul/int8.rs

use crate::alloc::Buffer;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd, dispatch, dispatch_bf16, dispatch_int8};
use std::hint::black_box;
use std::time::Instant;

/// Rates of one machine with one number of threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peaks {
    /// 10^9 multiplications and additions of int8 per second.
    pub int8_gops: f64,
    /// 10^9 multiplications and additions of f32 per second.
    pub f32_gflops: f64,
    /// 10^9 bytes read from memory per second.
    pub read_gbs: f64,
}

/// Measures all three on `pool`, each the best of some repeats; takes about a quarter of a second.
pub fn measure(pool: &Pool) -> Peaks {
    Peaks { int8_gops: int8_gops(pool), f32_gflops: f32_gflops(pool), read_gbs: Reader::new().gbs(pool, 5) }
}

const ITERATIONS: usize = 200_000;

/// The rate at which the kernels' integer dot products go at best.
pub fn int8_gops(pool: &Pool) -> f64 {
    let ops = best(pool, 8, || dispatch_int8(Isa::current(), Integers));
    ops / 1e9
}

/// The rate at which f32 multiply-adds go at best.
pub fn f32_gflops(pool: &Pool) -> f64 {
    let ops = best(pool, 8, || dispatch(Isa::current(), Floats));
    ops / 1e9
}

/// The rate at which the kernels' dot products of bf16 go at best.
pub fn bf16_gflops(pool: &Pool) -> f64 {
    let ops = best(pool, 8, || dispatch_bf16(Isa::current(), Bf16));
    ops / 1e9
}

/// Sum over threads of what `work` returns, per second, the best of `repeats`.
fn best(pool: &Pool, repeats: usize, work: impl Fn() -> usize + Sync) -> f64 {
    let mut rate = 0f64;
    for _ in 0..repeats {
        let start = Instant::now();
        // Twice as many chunks as threads: a thread that comes late does less.
        let chunks = pool.threads() * 2;
        let done = std::sync::atomic::AtomicUsize::new(0);
        pool.each(chunks, |_| {
            done.fetch_add(work(), std::sync::atomic::Ordering::Relaxed);
        });
        rate = rate.max(done.into_inner() as f64 / start.elapsed().as_secs_f64());
    }
    rate
}

/// 12 independent accumulators of dot products; returns the operations done.
struct Integers;

impl Kernel for Integers {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let n = if S::TILE == 1 { ITERATIONS / 50 } else { ITERATIONS };
        let mut acc = [s.isplat(0); 12];
        let (w, a) = (s.isplat(black_box(0x0102_0304)), s.isplat(black_box(0x0506_0708)));
        for _ in 0..n {
            for i in 0..12 {
                // The sum itself is a factor, lest a product be taken out of the loop where it can be.
                acc[i] = if S::ONE_DOT { s.dot::<false>(acc[i], w, a) } else { s.dot::<false>(w, w, acc[i]) };
            }
        }
        for i in 0..12 {
            black_box(first(s, s.to_f(acc[i])));
        }
        n * 12 * S::LANES * 8
    }
}

/// 12 independent accumulators of multiply-adds; returns the operations done.
struct Floats;

impl Kernel for Floats {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let n = if S::TILE == 1 { ITERATIONS / 50 } else { ITERATIONS };
        let mut acc = [s.splat(1.0); 12];
        let (w, a) = (s.splat(black_box(0.5)), s.splat(black_box(0.25)));
        for _ in 0..n {
            for i in 0..12 {
                acc[i] = s.fma(acc[i], w, a);
            }
        }
        for i in 0..12 {
            black_box(first(s, acc[i]));
        }
        n * 12 * S::LANES * 2
    }
}

/// 12 independent accumulators of dot products of bf16; returns the operations done.
struct Bf16;

impl Kernel for Bf16 {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let n = if S::TILE == 1 { ITERATIONS / 50 } else { ITERATIONS };
        let mut acc = [s.splat(1.0); 12];
        let (w, a) = (s.isplat(black_box(0x3f00_3f00)), s.isplat(black_box(0x3e80_3e80)));
        for _ in 0..n {
            for i in 0..12 {
                acc[i] = s.dot_bf16(acc[i], w, a);
            }
        }
        for i in 0..12 {
            black_box(first(s, acc[i]));
        }
        n * 12 * S::LANES * 4
    }
}

#[inline(always)]
fn first<S: Simd>(s: S, a: S::F) -> f32 {
    let mut lanes = [0f32; 16];
    // SAFETY: LANES <= 16.
    unsafe { s.store(lanes.as_mut_ptr(), a) };
    lanes[0]
}

/// A stretch of memory that no cache holds, to read again and again.
pub struct Reader(Buffer<u8>);

impl Default for Reader {
    fn default() -> Self {
        Reader::new()
    }
}

impl Reader {
    /// 512 MB on big pages.
    pub fn new() -> Reader {
        let mut b = Buffer::<u8>::zeroed(512 << 20);
        // A page that was never written is not memory but one page of zeros.
        b.iter_mut().step_by(4096).for_each(|x| *x = 1);
        Reader(b)
    }

    /// GB/s of reading it all, each thread long sequential pieces; the best of `repeats`.
    pub fn gbs(&self, pool: &Pool, repeats: usize) -> f64 {
        let mut rate = 0f64;
        const PIECE: usize = 1 << 20;
        for _ in 0..repeats {
            let start = Instant::now();
            pool.each(self.0.len() / PIECE, |i| {
                black_box(dispatch(Isa::current(), Read(&self.0[i * PIECE..(i + 1) * PIECE])));
            });
            rate = rate.max(self.0.len() as f64 / start.elapsed().as_secs_f64());
        }
        rate / 1e9
    }
}

struct Read<'a>(&'a [u8]);

impl Kernel for Read<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut acc = [s.isplat(0); 4];
        let mut at = 0;
        while at + 16 * S::LANES <= self.0.len() {
            for i in 0..4 {
                // SAFETY: four registers of 4 x LANES bytes from `at` on, see above.
                acc[i] = s.or(acc[i], unsafe { s.iload(self.0.as_ptr().add(at + i * 4 * S::LANES)) });
            }
            at += 16 * S::LANES;
        }
        let all = s.or(s.or(acc[0], acc[1]), s.or(acc[2], acc[3]));
        first(s, s.to_f(all))
    }
}
