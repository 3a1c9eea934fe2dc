//! Registers as arrays of eight: the definition of every operation, on every processor.

use super::Simd;
use half::f16;

const N: usize = 8;

/// Plain Rust.
#[derive(Clone, Copy)]
pub struct Scalar;

#[inline(always)]
fn map2(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn imap2(a: [i32; N], b: [i32; N], f: impl Fn(i32, i32) -> i32) -> [i32; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    const LANES: usize = N;
    const TILE: usize = 1;
    type F = [f32; N];
    type I = [i32; N];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; N]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn zero_below(self, x: Self::F, limit: Self::F, v: Self::F) -> Self::F {
        std::array::from_fn(|i| if x[i] < limit[i] { 0.0 } else { v[i] })
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        a.map(|x| x.to_bits() as i32)
    }
    #[inline(always)]
    fn as_float(self, a: Self::I) -> Self::F {
        a.map(|x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        a.map(|x| x as f32)
    }

    #[inline(always)]
    fn isplat(self, x: i32) -> Self::I {
        [x; N]
    }
    #[inline(always)]
    fn iadd(self, a: Self::I, b: Self::I) -> Self::I {
        imap2(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn imax(self, a: Self::I, b: Self::I) -> Self::I {
        imap2(a, b, i32::max)
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        imap2(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        imap2(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn shl(self, a: Self::I, n: u32) -> Self::I {
        a.map(|x| x << n)
    }
    #[inline(always)]
    fn shr(self, a: Self::I, n: u32) -> Self::I {
        a.map(|x| ((x as u32) >> n) as i32)
    }
    #[inline(always)]
    fn dot<const WIDE: bool>(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        std::array::from_fn(|i| {
            let (w, a) = (w[i].to_le_bytes(), a[i].to_le_bytes());
            let mut sum = acc[i];
            for j in 0..4 {
                sum = sum.wrapping_add(i32::from(w[j]) * i32::from(a[j] as i8));
            }
            sum
        })
    }
    #[inline(always)]
    fn lut(self, table: &[u8; 16], index: Self::I) -> Self::I {
        index.map(|x| i32::from_le_bytes(x.to_le_bytes().map(|b| table[usize::from(b & 15)])))
    }

    #[inline(always)]
    fn prefetch(self, _p: *const u8) {}
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the caller has N f32 there.
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: Self::F) {
        // SAFETY: the caller has room for N f32 there.
        unsafe { p.cast::<[f32; N]>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn load1(self, p: *const f32) -> Self::F {
        // SAFETY: the caller has one f32 there.
        [unsafe { p.read_unaligned() }; N]
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F {
        // SAFETY: the caller has N f16 there.
        unsafe { p.cast::<[u16; N]>().read_unaligned() }.map(|b| f16::from_bits(b).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, a: Self::F) {
        // SAFETY: the caller has room for N f16 there.
        unsafe { p.cast::<[u16; N]>().write_unaligned(a.map(|x| f16::from_f32(x).to_bits())) }
    }
    #[inline(always)]
    unsafe fn iload(self, p: *const u8) -> Self::I {
        // SAFETY: the caller has 4N bytes there.
        unsafe { p.cast::<[[u8; 4]; N]>().read_unaligned() }.map(i32::from_le_bytes)
    }
    #[inline(always)]
    unsafe fn istore(self, p: *mut u8, a: Self::I) {
        // SAFETY: the caller has room for 4N bytes there.
        unsafe { p.cast::<[[u8; 4]; N]>().write_unaligned(a.map(i32::to_le_bytes)) }
    }
    #[inline(always)]
    unsafe fn iload4(self, p: *const i8) -> Self::I {
        // SAFETY: the caller has four bytes there.
        [i32::from_le_bytes(unsafe { p.cast::<[u8; 4]>().read_unaligned() }); N]
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Self::I {
        // SAFETY: the caller has N bytes there.
        unsafe { p.cast::<[u8; N]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::I {
        // SAFETY: the caller has N bytes there.
        unsafe { p.cast::<[i8; N]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: Self::F) {
        // `as` holds the value within the type; NaN, which the hardware makes the least, as well.
        let q = a.map(|x| if x.is_nan() { i8::MIN } else { x.round_ties_even() as i8 });
        // SAFETY: the caller has room for N bytes there.
        unsafe { p.cast::<[i8; N]>().write_unaligned(q) }
    }
}
