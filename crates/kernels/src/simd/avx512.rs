//! Registers of AVX-512 (F, BW, DQ, VL, VNNI; perhaps BF16): sixteen lanes.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof of AVX-512 F, BW, DQ, VL and VNNI, and of BF16 too if so said.
#[derive(Clone, Copy)]
pub struct Avx512<const BF16: bool>(());

/// Entry that enables the features.
///
/// # Safety
/// The machine has AVX-512 F, BW, DQ, VL, VNNI, AVX2, FMA and F16C.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub unsafe fn run<K: Kernel>(k: K) -> K::Output {
    k.run(Avx512::<false>(()))
}

/// As [`run`], with dot products of bf16.
///
/// # Safety
/// The machine has AVX-512 BF16 and what [`run`] asks for.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
pub unsafe fn run_bf16<K: Kernel>(k: K) -> K::Output {
    k.run(Avx512::<true>(()))
}

macro_rules! reg {
    ($e:expr) => {
        // SAFETY: an `Avx512` exists only behind `run` and `run_bf16`, whose caller proved the features.
        unsafe { $e }
    };
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    const LANES: usize = 16;
    const TILE: usize = 6;
    const ONE_DOT: bool = true;
    type F = __m512;
    type I = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        reg!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        reg!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        reg!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        reg!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        reg!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        reg!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        reg!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        reg!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn zero_below(self, x: __m512, limit: __m512, v: __m512) -> __m512 {
        reg!(_mm512_maskz_mov_ps(!_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, limit), v))
    }
    #[inline(always)]
    fn bits(self, a: __m512) -> __m512i {
        reg!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn as_float(self, a: __m512i) -> __m512 {
        reg!(_mm512_castsi512_ps(a))
    }
    #[inline(always)]
    fn to_f(self, a: __m512i) -> __m512 {
        reg!(_mm512_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn isplat(self, x: i32) -> __m512i {
        reg!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn iadd(self, a: __m512i, b: __m512i) -> __m512i {
        reg!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn imax(self, a: __m512i, b: __m512i) -> __m512i {
        reg!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        reg!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        reg!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn shl(self, a: __m512i, n: u32) -> __m512i {
        reg!(_mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn shr(self, a: __m512i, n: u32) -> __m512i {
        reg!(_mm512_srl_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn dot<const WIDE: bool>(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
        reg!(_mm512_dpbusd_epi32(acc, w, a))
    }
    #[inline(always)]
    fn dot_bf16(self, acc: __m512, w: __m512i, a: __m512i) -> __m512 {
        if BF16 {
            // SAFETY: `Avx512<true>` exists only behind `run_bf16`; a `__m512bh` is the same 64 bytes.
            return unsafe {
                let (w, a) = (
                    std::mem::transmute::<__m512i, __m512bh>(w),
                    std::mem::transmute::<__m512i, __m512bh>(a),
                );
                _mm512_dpbf16_ps(acc, w, a)
            };
        }
        super::dot_bf16_by_fma(self, acc, w, a)
    }
    #[inline(always)]
    fn lut(self, table: &[u8; 16], index: __m512i) -> __m512i {
        reg!({
            let t = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(t, index)
        })
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        reg!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(p, a) }
    }
    #[inline(always)]
    unsafe fn load1(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_ps(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, a: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a)) }
    }
    #[inline(always)]
    unsafe fn iload(self, p: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn istore(self, p: *mut u8, a: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(p.cast(), a) }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u8, stride: usize) -> [__m512i; 4] {
        // SAFETY: the caller's promise.
        unsafe { super::columns::avx512(p, stride) }
    }
    #[inline(always)]
    unsafe fn iload4(self, p: *const i8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: __m512) {
        // SAFETY: the caller's promise.
        unsafe {
            // Out of range becomes i32::MIN in the conversion, so what is too great is held first.
            let held = _mm512_min_ps(_mm512_set1_ps(127.0), a);
            let i = _mm512_cvtps_epi32(held);
            _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(i));
        }
    }
}
