//! Registers of NEON: eight lanes in two registers of four, with the dot products that the machine has.
//!
//! Every aarch64 processor has NEON; `dotprod` (Armv8.2) and `i8mm` (Armv8.6) give four products per lane in
//! one instruction. Their intrinsics, those of f16 and of prefetching are not stable yet (or not in the oldest
//! Rust that builds this), so these instructions are written as assembly; the compiler chooses registers.

use super::{Kernel, Simd};
use std::arch::aarch64::*;
use std::arch::asm;

/// NEON alone.
const PLAIN: u8 = 0;
/// With sdot.
const DOTPROD: u8 = 1;
/// With usdot.
const I8MM: u8 = 2;

/// Proof of NEON, and of the dot products that `DOT` stands for.
#[derive(Clone, Copy)]
pub struct Neon<const DOT: u8>(());

/// Entry for NEON alone, which the target promises.
pub fn run<K: Kernel>(k: K) -> K::Output {
    k.run(Neon::<PLAIN>(()))
}

/// Entry that enables sdot.
///
/// # Safety
/// The machine has dotprod.
#[target_feature(enable = "dotprod")]
pub unsafe fn run_dotprod<K: Kernel>(k: K) -> K::Output {
    k.run(Neon::<DOTPROD>(()))
}

/// Entry that enables usdot.
///
/// # Safety
/// The machine has dotprod and i8mm.
#[target_feature(enable = "dotprod,i8mm")]
pub unsafe fn run_i8mm<K: Kernel>(k: K) -> K::Output {
    k.run(Neon::<I8MM>(()))
}

/// Eight f32.
type F = [float32x4_t; 2];
/// Eight i32, or 32 bytes.
type I = [int32x4_t; 2];

macro_rules! reg {
    ($e:expr) => {
        // SAFETY: every aarch64 target has NEON, and these operations only touch registers.
        unsafe { $e }
    };
}

/// Applies an operation to either half.
macro_rules! both {
    (|$($x:ident),+| $e:expr) => {{
        // Twice, not as a closure: that would not be inlined for certain.
        let one = { let ($($x,)+) = ($($x[0],)+); reg!($e) };
        let two = { let ($($x,)+) = ($($x[1],)+); reg!($e) };
        [one, two]
    }};
}

/// acc + the sums of four products i8 x i8, whose sums of two must fit into i16 unless `WIDE`.
#[inline(always)]
fn dot_plain<const WIDE: bool>(acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    let low = reg!(vmull_s8(vget_low_s8(w), vget_low_s8(a)));
    let high = reg!(vmull_high_s8(w, a));
    if WIDE {
        reg!(vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))))
    } else {
        reg!(vpadalq_s16(acc, vpaddq_s16(low, high)))
    }
}

/// acc + the sums of four products i8 x i8.
#[inline(always)]
fn sdot(acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: only registers are touched; called on behalf of a `Neon` with dotprod only.
    unsafe {
        asm!(".arch_extension dotprod", "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) w, in(vreg) a, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// acc + the sums of four products u8 x i8.
#[inline(always)]
fn usdot(acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: only registers are touched; called on behalf of a `Neon` with i8mm only.
    unsafe {
        asm!(".arch_extension i8mm", "usdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) w, in(vreg) a, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// acc + the sums of four products u8 x i8, with the instructions of `DOT`.
#[inline(always)]
fn dot<const DOT: u8, const WIDE: bool>(acc: int32x4_t, w: int32x4_t, a: int32x4_t) -> int32x4_t {
    let (w, a) = reg!((vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(a)));
    // As i8 a code with its highest bit flipped is the code - 128; what is missing, 128 x the sum of `a`, is one
    // value for all rows, and computed once for them.
    let centred = reg!(veorq_s8(w, vdupq_n_s8(-128)));
    match (DOT, WIDE) {
        (I8MM, _) => usdot(acc, w, a),
        (DOTPROD, false) => sdot(acc, w, a),
        (DOTPROD, true) => {
            let less = reg!(sdot(vdupq_n_s32(0), vdupq_n_s8(-128), a));
            reg!(vsubq_s32(sdot(acc, centred, a), less))
        }
        (_, false) => dot_plain::<false>(acc, w, a),
        (_, true) => {
            let start = reg!(vaddq_s32(acc, vshlq_n_s32::<7>(vpaddlq_s16(vpaddlq_s8(a)))));
            dot_plain::<true>(start, centred, a)
        }
    }
}

/// Shifts by a number that is a constant wherever this is inlined: left if positive.
#[inline(always)]
fn shift(a: int32x4_t, n: i32) -> int32x4_t {
    reg!(vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(n))))
}

impl<const DOT: u8> Simd for Neon<DOT> {
    const LANES: usize = 8;
    const TILE: usize = 4;
    type F = F;
    type I = I;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [reg!(vdupq_n_f32(x)); 2]
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        both!(|a, b| vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        both!(|a, b| vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        both!(|a, b| vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        both!(|a, b| vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        both!(|a, b, c| vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        // Not vmaxq: of a NaN and a number it would make a NaN in either order.
        both!(|a, b| vbslq_f32(vcgtq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        both!(|a, b| vbslq_f32(vcltq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn zero_below(self, x: F, limit: F, v: F) -> F {
        both!(|x, limit, v| {
            let bits = vbicq_u32(vreinterpretq_u32_f32(v), vcltq_f32(x, limit));
            vreinterpretq_f32_u32(bits)
        })
    }
    #[inline(always)]
    fn bits(self, a: F) -> I {
        both!(|a| vreinterpretq_s32_f32(a))
    }
    #[inline(always)]
    fn as_float(self, a: I) -> F {
        both!(|a| vreinterpretq_f32_s32(a))
    }
    #[inline(always)]
    fn to_f(self, a: I) -> F {
        both!(|a| vcvtq_f32_s32(a))
    }

    #[inline(always)]
    fn isplat(self, x: i32) -> I {
        [reg!(vdupq_n_s32(x)); 2]
    }
    #[inline(always)]
    fn iadd(self, a: I, b: I) -> I {
        both!(|a, b| vaddq_s32(a, b))
    }
    #[inline(always)]
    fn imax(self, a: I, b: I) -> I {
        both!(|a, b| vmaxq_s32(a, b))
    }
    #[inline(always)]
    fn and(self, a: I, b: I) -> I {
        both!(|a, b| vandq_s32(a, b))
    }
    #[inline(always)]
    fn or(self, a: I, b: I) -> I {
        both!(|a, b| vorrq_s32(a, b))
    }
    #[inline(always)]
    fn shl(self, a: I, n: u32) -> I {
        [shift(a[0], n as i32), shift(a[1], n as i32)]
    }
    #[inline(always)]
    fn shr(self, a: I, n: u32) -> I {
        [shift(a[0], -(n as i32)), shift(a[1], -(n as i32))]
    }
    #[inline(always)]
    fn dot<const WIDE: bool>(self, acc: I, w: I, a: I) -> I {
        [dot::<DOT, WIDE>(acc[0], w[0], a[0]), dot::<DOT, WIDE>(acc[1], w[1], a[1])]
    }
    #[inline(always)]
    fn lut(self, table: &[u8; 16], index: I) -> I {
        // SAFETY: 16 bytes of the table.
        let t = unsafe { vld1q_u8(table.as_ptr()) };
        both!(|index| vreinterpretq_s32_u8(vqtbl1q_u8(t, vreinterpretq_u8_s32(index))))
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a hint: no address is wrong.
        unsafe {
            asm!("prfm pldl1keep, [{0}]", in(reg) p, options(readonly, nostack, preserves_flags));
        }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> F {
        // SAFETY: the caller's promise.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4))] }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: F) {
        // SAFETY: the caller's promise.
        unsafe {
            vst1q_f32(p, a[0]);
            vst1q_f32(p.add(4), a[1]);
        }
    }
    #[inline(always)]
    unsafe fn load1(self, p: *const f32) -> F {
        // SAFETY: the caller's promise.
        self.splat(unsafe { p.read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> F {
        // SAFETY: the caller's promise; the instructions touch only registers.
        unsafe {
            let half = vld1q_u16(p);
            let (low, high): (float32x4_t, float32x4_t);
            asm!("fcvtl {0:v}.4s, {1:v}.4h", lateout(vreg) low, in(vreg) half,
                options(pure, nomem, nostack, preserves_flags));
            asm!("fcvtl2 {0:v}.4s, {1:v}.8h", lateout(vreg) high, in(vreg) half,
                options(pure, nomem, nostack, preserves_flags));
            [low, high]
        }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, a: F) {
        // SAFETY: the caller's promise; the instructions touch only registers.
        unsafe {
            let half: uint16x8_t;
            asm!("fcvtn {0:v}.4h, {1:v}.4s", "fcvtn2 {0:v}.8h, {2:v}.4s",
                out(vreg) half, in(vreg) a[0], in(vreg) a[1], options(pure, nomem, nostack, preserves_flags));
            vst1q_u16(p, half);
        }
    }
    #[inline(always)]
    unsafe fn iload(self, p: *const u8) -> I {
        // SAFETY: the caller's promise.
        unsafe { [vreinterpretq_s32_u8(vld1q_u8(p)), vreinterpretq_s32_u8(vld1q_u8(p.add(16)))] }
    }
    #[inline(always)]
    unsafe fn istore(self, p: *mut u8, a: I) {
        // SAFETY: the caller's promise.
        unsafe {
            vst1q_u8(p, vreinterpretq_u8_s32(a[0]));
            vst1q_u8(p.add(16), vreinterpretq_u8_s32(a[1]));
        }
    }
    #[inline(always)]
    unsafe fn iload4(self, p: *const i8) -> I {
        // SAFETY: the caller's promise.
        self.isplat(unsafe { p.cast::<i32>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> I {
        // SAFETY: the caller's promise.
        unsafe {
            let wide = vmovl_u8(vld1_u8(p));
            let (low, high) = (vmovl_u16(vget_low_u16(wide)), vmovl_high_u16(wide));
            [vreinterpretq_s32_u32(low), vreinterpretq_s32_u32(high)]
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> I {
        // SAFETY: the caller's promise.
        unsafe {
            let wide = vmovl_s8(vld1_s8(p));
            [vmovl_s16(vget_low_s16(wide)), vmovl_high_s16(wide)]
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: F) {
        // The conversion holds what is out of range; of a NaN it makes 0, where the definition has the least.
        let q = both!(|a| vbslq_s32(vceqq_f32(a, a), vcvtnq_s32_f32(a), vdupq_n_s32(-128)));
        // SAFETY: the caller's promise.
        unsafe {
            let words = vcombine_s16(vqmovn_s32(q[0]), vqmovn_s32(q[1]));
            vst1_s8(p, vqmovn_s16(words));
        }
    }
}
