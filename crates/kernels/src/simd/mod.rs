//! The vector operations that the kernels are written in, once for all instruction sets.
//!
//! A kernel is a struct with a [`Kernel::run`] generic over [`Simd`]; [`dispatch`] instantiates it per ISA.
//! Every operation is exact IEEE arithmetic per lane (or exact integers), so a kernel whose order of
//! operations does not depend on [`Simd::LANES`] gives the same bits on every ISA. Sums over a row
//! therefore use [`LANES`] virtual lanes everywhere and are folded by [`fold_sum`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod columns;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod scalar;

pub use scalar::Scalar;

use crate::isa::Isa;

/// Virtual lanes of every reduction: lane `i` holds what stands at `i` modulo this.
pub const LANES: usize = 32;

/// Registers of one instruction set. A value is the proof that the machine has it.
///
/// `F` is a vector of `LANES` f32, `I` one of as many i32 (or four times as many bytes).
/// Safe methods only touch registers; the pointer methods say what they read.
#[allow(clippy::missing_safety_doc)] // each pointer method's contract is its one line
pub trait Simd: Copy {
    /// Lanes of one register: 8 or 16.
    const LANES: usize;
    /// Tokens of the widest matmul tile that the registers hold.
    const TILE: usize;
    /// [`Simd::dot`] is one instruction.
    const ONE_DOT: bool = false;
    /// f32 register.
    type F: Copy;
    /// i32 or byte register.
    type I: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// a + b
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a - b
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a * b
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// a * b + c, rounded once
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// a > b ? a : b (so a NaN in `b` passes)
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// a < b ? a : b (so a NaN in `b` passes)
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// v, but zero where x < limit
    fn zero_below(self, x: Self::F, limit: Self::F, v: Self::F) -> Self::F;
    /// The bits.
    fn bits(self, a: Self::F) -> Self::I;
    /// The f32 of these bits.
    fn as_float(self, a: Self::I) -> Self::F;
    /// Converts i32 to f32.
    fn to_f(self, a: Self::I) -> Self::F;

    /// All lanes `x`.
    fn isplat(self, x: i32) -> Self::I;
    /// a + b
    fn iadd(self, a: Self::I, b: Self::I) -> Self::I;
    /// Signed maximum of i32.
    fn imax(self, a: Self::I, b: Self::I) -> Self::I;
    /// a & b
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// a | b
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// i32 lanes shifted left.
    fn shl(self, a: Self::I, n: u32) -> Self::I;
    /// i32 lanes shifted right, zeros coming in.
    fn shr(self, a: Self::I, n: u32) -> Self::I;
    /// acc + sum of four products u8 (w) x i8 (a). Unless `WIDE`, w <= 127 / 2 is promised.
    fn dot<const WIDE: bool>(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I;
    /// acc + the products of a lane's two bf16, that of the higher half first: each added by an fma. Machines with an
    /// instruction for it take denormals as zero.
    #[inline(always)]
    fn dot_bf16(self, acc: Self::F, w: Self::I, a: Self::I) -> Self::F {
        dot_bf16_by_fma(self, acc, w, a)
    }
    /// Byte look-up: table[index], index < 16.
    fn lut(self, table: &[u8; 16], index: Self::I) -> Self::I;

    /// Asks for the cache line at `p`, which need not exist.
    fn prefetch(self, p: *const u8);
    /// Reads `LANES` f32.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Writes `LANES` f32.
    unsafe fn store(self, p: *mut f32, a: Self::F);
    /// Reads one f32 into all lanes.
    unsafe fn load1(self, p: *const f32) -> Self::F;
    /// Reads `LANES` f16.
    unsafe fn load_f16(self, p: *const u16) -> Self::F;
    /// Writes `LANES` f16, to nearest even.
    unsafe fn store_f16(self, p: *mut u16, a: Self::F);
    /// Reads 4 x `LANES` bytes.
    unsafe fn iload(self, p: *const u8) -> Self::I;
    /// Writes 4 x `LANES` bytes.
    unsafe fn istore(self, p: *mut u8, a: Self::I);
    /// Reads 16 bytes of each of `LANES` rows, `stride` apart: register c has word c of every row.
    #[inline(always)]
    unsafe fn columns(self, p: *const u8, stride: usize) -> [Self::I; 4] {
        // SAFETY: the caller's promise.
        unsafe { columns::portable(self, p, stride) }
    }
    /// Reads four bytes into all lanes.
    unsafe fn iload4(self, p: *const i8) -> Self::I;
    /// Reads `LANES` u8 as i32.
    unsafe fn load_u8(self, p: *const u8) -> Self::I;
    /// Reads `LANES` i8 as i32.
    unsafe fn load_i8(self, p: *const i8) -> Self::I;
    /// Writes `LANES` i8, each rounded to nearest even and held within -128..=127.
    unsafe fn store_i8(self, p: *mut i8, a: Self::F);
}

/// What [`Simd::dot_bf16`] is, by two fma.
#[inline(always)]
fn dot_bf16_by_fma<S: Simd>(s: S, acc: S::F, w: S::I, a: S::I) -> S::F {
    let high = s.isplat(0xffff_0000u32 as i32);
    let odd = s.fma(s.as_float(s.and(w, high)), s.as_float(s.and(a, high)), acc);
    s.fma(s.as_float(s.shl(w, 16)), s.as_float(s.shl(a, 16)), odd)
}

/// A computation to be compiled for each ISA. `run` must be `#[inline(always)]`.
pub trait Kernel {
    /// What it yields.
    type Output;
    /// Runs on the registers of `S`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs `k` with the registers of `isa`, or of the best set below it that the machine has.
pub fn dispatch<K: Kernel>(isa: Isa, k: K) -> K::Output {
    match isa.or_lesser() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa::or_lesser` found every feature that this entry enables.
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512::run(k) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 | Isa::Avx2Vnni => unsafe { avx2::run(k) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        // SAFETY: `Isa::or_lesser` found every feature that this entry enables.
        Isa::NeonI8mm => unsafe { neon::run_i8mm(k) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        // SAFETY: as above.
        Isa::NeonDotprod => unsafe { neon::run_dotprod(k) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Isa::Neon => neon::run(k),
        _ => k.run(scalar::Scalar),
    }
}

/// As [`dispatch`], for kernels that use [`Simd::dot`] much: others would only be compiled twice.
pub fn dispatch_int8<K: Kernel>(isa: Isa, k: K) -> K::Output {
    match isa.or_lesser() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa::or_lesser` found every feature that this entry enables.
        Isa::Avx2Vnni => unsafe { avx2::run_vnni(k) },
        isa => dispatch(isa, k),
    }
}

/// As [`dispatch`], for kernels that use [`Simd::dot_bf16`].
pub fn dispatch_bf16<K: Kernel>(isa: Isa, k: K) -> K::Output {
    match isa.or_lesser() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa::or_lesser` found every feature that this entry enables.
        Isa::Avx512Bf16 => unsafe { avx512::run_bf16(k) },
        isa => dispatch(isa, k),
    }
}

/// The sum of the virtual lanes, halves added until one is left.
pub fn fold_sum(mut lanes: [f32; LANES]) -> f32 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests;
