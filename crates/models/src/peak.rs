//! What the machine could do at most, for who measures a model: the kernels' own probes on a pool of their
//! own. Stands beside the forward step, not in it.

use kernels::isa::Isa;
use kernels::matmul::acts::Takes;
use kernels::pack::takes;
use kernels::peak::{self, Reader};
use kernels::pool::Pool;
use weights::DType;

/// What the CPU backend multiplies matrices as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Product {
    /// Codes and activations of eight bits.
    #[default]
    Int8,
    /// f32.
    F32,
    /// Pairs of bf16.
    Bf16,
}

impl Product {
    /// That of a matrix of `dtype`.
    pub fn of(dtype: DType) -> Product {
        match takes(dtype) {
            Takes::Int8 => Product::Int8,
            Takes::Float => Product::F32,
            Takes::Bf16 => Product::Bf16,
        }
    }

    /// What 10^9 of its operations per second are called.
    pub fn unit(self) -> &'static str {
        if self == Product::Int8 { "GOP/s" } else { "GFLOP/s" }
    }
}

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

    /// 10^9 multiplications and additions of such a product per second at best.
    pub fn peak(&self, product: Product) -> f64 {
        match product {
            Product::Int8 => peak::int8_gops(&self.pool),
            Product::F32 => peak::f32_gflops(&self.pool),
            Product::Bf16 => peak::bf16_gflops(&self.pool),
        }
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
