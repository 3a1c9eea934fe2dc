//! Sixteen bytes of each of `LANES` rows, turned so that a register has one word of every row.
//!
//! What packing weights is made of. Rows i, i + 4, i + 8 and i + 12 go into the 128-bit quarters of register i
//! as they are read, so that turning 4 x 4 words within the quarters leaves the rows in order.

use super::Simd;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// By way of memory: the definition, and the way of every set that has no better one.
///
/// # Safety
/// Sixteen bytes can be read at `p + i * stride` for each `i < S::LANES`.
#[inline(always)]
pub(super) unsafe fn portable<S: Simd>(s: S, p: *const u8, stride: usize) -> [S::I; 4] {
    // The widest register has 16 lanes.
    let mut words = [[[0u8; 4]; 16]; 4];
    for i in 0..S::LANES {
        // SAFETY: the caller's promise.
        let row = unsafe { p.add(i * stride).cast::<[[u8; 4]; 4]>().read_unaligned() };
        for (column, word) in words.iter_mut().zip(row) {
            column[i] = word;
        }
    }
    // SAFETY: each column has room for the lanes of the widest register.
    words.map(|column| unsafe { s.iload(column.as_ptr().cast()) })
}

/// [`portable`], by AVX-512.
///
/// # Safety
/// As there, for 16 lanes; the machine has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn avx512(p: *const u8, stride: usize) -> [__m512i; 4] {
    // SAFETY: the caller's promises.
    unsafe {
        // Not closures: they would be functions of their own, without the instruction set.
        macro_rules! row {
            ($i:expr) => {
                _mm_loadu_si128(p.add($i * stride).cast())
            };
        }
        macro_rules! four {
            ($i:expr) => {{
                let v = _mm512_castsi128_si512(row!($i));
                let v = _mm512_inserti32x4::<1>(v, row!($i + 4));
                let v = _mm512_inserti32x4::<2>(v, row!($i + 8));
                _mm512_inserti32x4::<3>(v, row!($i + 12))
            }};
        }
        let (a, b, c, d) = (four!(0), four!(1), four!(2), four!(3));
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// [`portable`], by AVX2.
///
/// # Safety
/// As there, for 8 lanes; the machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn avx2(p: *const u8, stride: usize) -> [__m256i; 4] {
    // SAFETY: the caller's promises.
    unsafe {
        macro_rules! row {
            ($i:expr) => {
                _mm_loadu_si128(p.add($i * stride).cast())
            };
        }
        macro_rules! two {
            ($i:expr) => {
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row!($i)), row!($i + 4))
            };
        }
        let (a, b, c, d) = (two!(0), two!(1), two!(2), two!(3));
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::isa::Isa;
    use crate::simd::{Kernel, Simd, dispatch};

    struct Turn<'a>(&'a [u8], usize);

    impl Kernel for Turn<'_> {
        type Output = Vec<u8>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<u8> {
            let mut out = vec![0; 64 * 4];
            for first in (0..16).step_by(S::LANES) {
                // SAFETY: the slice has 16 rows of at least 16 bytes; `out` four columns of 16 words.
                unsafe {
                    for (c, v) in
                        s.columns(self.0.as_ptr().add(first * self.1), self.1).into_iter().enumerate()
                    {
                        s.istore(out.as_mut_ptr().add(64 * c + 4 * first), v);
                    }
                }
            }
            out
        }
    }

    #[test]
    fn a_column_has_its_word_of_every_row() {
        for stride in [16, 17, 50] {
            let bytes: Vec<u8> = (0..16 * stride).map(|i| (i * 31 + i / 256) as u8).collect();
            let mut expected = vec![0; 256];
            for (row, column, byte) in (0..256).map(|i| (i / 16, i / 4 % 4, i % 4)) {
                expected[64 * column + 4 * row + byte] = bytes[row * stride + 4 * column + byte];
            }
            for isa in Isa::available() {
                assert_eq!(dispatch(isa, Turn(&bytes, stride)), expected, "{}, stride {stride}", isa.name());
            }
        }
    }
}
