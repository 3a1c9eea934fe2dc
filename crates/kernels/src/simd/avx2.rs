//! Registers of AVX2 with FMA and F16C, perhaps AVX-VNNI: eight lanes.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof of AVX2, FMA and F16C, and of AVX-VNNI if so said.
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>(());

/// Entry that enables the features.
///
/// # Safety
/// The machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn run<K: Kernel>(k: K) -> K::Output {
    k.run(Avx2::<false>(()))
}

/// As [`run`], with dot products of bytes.
///
/// # Safety
/// The machine has AVX-VNNI and what [`run`] asks for.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub unsafe fn run_vnni<K: Kernel>(k: K) -> K::Output {
    k.run(Avx2::<true>(()))
}

macro_rules! reg {
    ($e:expr) => {
        // SAFETY: an `Avx2` exists only behind `run` and `run_vnni`, whose caller proved the features.
        unsafe { $e }
    };
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const LANES: usize = 8;
    const TILE: usize = 4;
    const ONE_DOT: bool = VNNI;
    type F = __m256;
    type I = __m256i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        reg!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        reg!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        reg!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        reg!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        reg!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        reg!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        reg!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        reg!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn zero_below(self, x: __m256, limit: __m256, v: __m256) -> __m256 {
        reg!(_mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, limit), v))
    }
    #[inline(always)]
    fn bits(self, a: __m256) -> __m256i {
        reg!(_mm256_castps_si256(a))
    }
    #[inline(always)]
    fn as_float(self, a: __m256i) -> __m256 {
        reg!(_mm256_castsi256_ps(a))
    }
    #[inline(always)]
    fn to_f(self, a: __m256i) -> __m256 {
        reg!(_mm256_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn isplat(self, x: i32) -> __m256i {
        reg!(_mm256_set1_epi32(x))
    }
    #[inline(always)]
    fn iadd(self, a: __m256i, b: __m256i) -> __m256i {
        reg!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn imax(self, a: __m256i, b: __m256i) -> __m256i {
        reg!(_mm256_max_epi32(a, b))
    }
    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        reg!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        reg!(_mm256_or_si256(a, b))
    }
    #[inline(always)]
    fn shl(self, a: __m256i, n: u32) -> __m256i {
        reg!(_mm256_sll_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn shr(self, a: __m256i, n: u32) -> __m256i {
        reg!(_mm256_srl_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn dot<const WIDE: bool>(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        if VNNI {
            // `Avx2<true>` exists only behind `run_vnni`.
            return reg!(_mm256_dpbusd_avx_epi32(acc, w, a));
        }
        if WIDE {
            // maddubs would saturate: even and odd bytes as i16, whose pair sums are exact in i32.
            reg!({
                let we = _mm256_and_si256(w, _mm256_set1_epi16(0xff));
                let wo = _mm256_srli_epi16::<8>(w);
                let ae = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a));
                let ao = _mm256_srai_epi16::<8>(a);
                let sum = _mm256_add_epi32(_mm256_madd_epi16(we, ae), _mm256_madd_epi16(wo, ao));
                _mm256_add_epi32(acc, sum)
            })
        } else {
            reg!({
                let pairs = _mm256_maddubs_epi16(w, a);
                _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            })
        }
    }
    #[inline(always)]
    fn lut(self, table: &[u8; 16], index: __m256i) -> __m256i {
        reg!({
            let t = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(t, index)
        })
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        reg!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: __m256) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(p, a) }
    }
    #[inline(always)]
    unsafe fn load1(self, p: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_ps(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, a: __m256) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a)) }
    }
    #[inline(always)]
    unsafe fn iload(self, p: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn istore(self, p: *mut u8, a: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), a) }
    }
    #[inline(always)]
    unsafe fn columns(self, p: *const u8, stride: usize) -> [__m256i; 4] {
        // SAFETY: the caller's promise.
        unsafe { super::columns::avx2(p, stride) }
    }
    #[inline(always)]
    unsafe fn iload4(self, p: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: __m256) {
        // SAFETY: the caller's promise.
        unsafe {
            // Out of range becomes i32::MIN in the conversion, so what is too great is held first.
            let held = _mm256_min_ps(_mm256_set1_ps(127.0), a);
            let i = _mm256_cvtps_epi32(held);
            let w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256::<1>(i));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(w, w));
        }
    }
}
