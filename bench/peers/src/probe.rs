//! How fast memory is read at the moment.

use std::hint::black_box;
use std::time::Instant;

/// Bytes read by each thread.
const SIZE: usize = 256 << 20;

/// 10^9 bytes per second of `threads` threads reading a buffer each from end to end, the best of three.
pub fn read_gbs(threads: usize) -> f64 {
    // Written once: a page that never was is not memory but one page of zeros.
    let buffers: Vec<Vec<u64>> = (0..threads).map(|i| vec![i as u64 + 1; SIZE / 8]).collect();
    let once = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for buffer in &buffers {
                scope.spawn(|| black_box(buffer.iter().fold(0, |all, x| all | x)));
            }
        });
        (threads * SIZE) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}
