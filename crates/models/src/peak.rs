//! What the machine could do at most, for who measures a model: the kernels' own probes on a pool of their
//! own. Stands beside the forward step, not in it.

use kernels::isa::Isa;
use kernels::peak::{self, Reader};
use kernels::pool::Pool;

/// Threads and half a gigabyte to probe the machine with.
pub struct Probe {
    pool: Pool,
    reader: Reader,
}

impl Probe {
    /// On `threads` threads; `None` is as many as [`crate::CpuBackend`] would take.
    pub fn new(threads: Option<usize>) -> Probe {
        let threads = threads.unwrap_or_else(kernels::threads::default_threads);
        Probe { pool: Pool::new(threads), reader: Reader::new() }
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// 10^9 int8 multiplications and additions per second at best.
    pub fn int8_gops(&self) -> f64 {
        peak::int8_gops(&self.pool)
    }

    /// 10^9 f32 multiplications and additions per second at best.
    pub fn f32_gflops(&self) -> f64 {
        peak::f32_gflops(&self.pool)
    }

    /// 10^9 bytes read from memory per second, at this moment.
    pub fn read_gbs(&self) -> f64 {
        self.reader.gbs(&self.pool, 3)
    }

    /// The instruction set that the kernels use.
    pub fn isa() -> &'static str {
        Isa::current().name()
    }
}
