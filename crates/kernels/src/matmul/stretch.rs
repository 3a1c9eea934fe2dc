//! A stretch of packed weights unpacked into the first-level cache, for more tokens than registers hold: what
//! `int8.rs` then multiplies has eight-bit codes and f32 scales, whatever the format was.

use crate::pack::layout::{BLOCK, Codes, Format, PANEL, Scales};
use crate::simd::{Kernel, Simd};
use std::marker::PhantomData;

/// Columns unpacked at a time: 32 rows of them and their scales stay in the first-level cache.
pub const STRETCH: usize = 512;
/// Bytes of an unpacked stretch, with two scales (each twice) and two minima per block.
pub const SCRATCH: usize = STRETCH / BLOCK * (32 * 32 + 6 * PANEL * 4);

/// What is subtracted from the codes of an unpacked stretch. Formats with minima have no offset; 64 leaves the
/// codes of all narrow formats within 127, where AVX2's products do not saturate.
const fn flat_offset<F: Format>() -> i32 {
    match (F::C::WIDE, F::S::MIN) {
        (true, _) => 128,
        (_, true) => 0,
        _ => 64,
    }
}

/// Unpacks a stretch of packed weights.
pub struct Unpack<'a, F> {
    /// The units.
    pub units: &'a [u8],
    /// What is subtracted from their codes.
    pub offset: i32,
    /// Blocks of a row, [`STRETCH`] columns at most.
    pub blocks: usize,
    /// [`SCRATCH`] bytes.
    pub to: &'a mut [u8],
    /// What the units are.
    pub format: PhantomData<F>,
}

impl<F: Format> Kernel for Unpack<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(self.blocks * BLOCK <= STRETCH && self.to.len() >= SCRATCH);
        assert!(
            self.blocks.is_multiple_of(F::S::SUPER)
                && self.units.len() >= self.blocks / F::S::SUPER * F::UNIT
        );
        // SAFETY: the asserts.
        unsafe { unpack::<S, F>(s, self.units.as_ptr(), self.offset, self.blocks, self.to.as_mut_ptr()) }
    }
}

/// Eight-bit codes and f32 scales of `blocks` blocks.
///
/// # Safety
/// `units` has the blocks, `to` has room for them.
#[inline(always)]
unsafe fn unpack<S: Simd, F: Format>(s: S, units: *const u8, offset: i32, blocks: usize, to: *mut u8) {
    let groups = if F::S::HALF { 2 } else { 1 };
    let head_bytes = groups * PANEL * 4 * if F::S::MIN { 3 } else { 2 };
    let shift = s.isplat(0x0101_0101 * (flat_offset::<F>() - offset));
    for b in 0..blocks {
        // SAFETY: block b of the units, and its place in `to`.
        unsafe {
            let unit = units.add(b / F::S::SUPER * F::UNIT);
            let sub = b % F::S::SUPER;
            let codes = unit.add(F::S::HEAD + sub * F::C::BYTES);
            let head = to.add(b * (head_bytes + 1024));
            let scales = head.cast::<f32>();
            let mut row = 0;
            while row < PANEL {
                for half in 0..groups {
                    let scale = F::S::scale(s, unit, sub, half, row);
                    s.store(scales.add(half * PANEL + row), scale);
                    let less = F::S::less(s, unit, scale, half, row);
                    s.store(scales.add((groups + half) * PANEL + row), less);
                    if F::S::MIN {
                        let min = F::S::min(s, unit, sub, half, row);
                        s.store(scales.add((2 * groups + half) * PANEL + row), min);
                    }
                }
                let line = head.add(head_bytes + 4 * row);
                macro_rules! group {
                    ($($g:literal)*) => {$(
                        s.istore(line.add($g * 128), s.iadd(F::C::get::<S, $g>(s, codes, row), shift));
                    )*};
                }
                group!(0 1 2 3 4 5 6 7);
                row += S::LANES;
            }
        }
    }
}
