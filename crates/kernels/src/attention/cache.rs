//! Where keys and values lie: blocks of 32 positions, for each kv head apart.
//!
//! Keys are turned so that positions are lanes: `[block][kv head][dim][32]`. Values keep dimensions as lanes:
//! `[block][kv head][32][dim]`, dim filled up to 16. Neither the scores nor the weighted sum then adds
//! across lanes. Blocks of fresh memory are zero.

use crate::alloc::Buffer;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd, dispatch};

/// Positions of a block.
pub const POSITIONS: usize = 32;
/// Numbers of a key or value that share a scale in [`KvType::Q8`].
pub(super) const GROUP: usize = 32;

/// How numbers of the cache are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Two bytes; what is beyond f16 becomes its greatest number.
    F16,
    /// Four bytes, exact.
    F32,
    /// One byte, and an f32 scale for each 32 numbers of a key or value: x becomes round(x / scale), scale being the
    /// greatest magnitude over 127. What is no number becomes 0.
    Q8,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub struct KvLayer {
    pub(super) k: Store,
    pub(super) v: Store,
    pub(super) kv_heads: usize,
    pub(super) k_dim: usize,
    pub(super) v_dim: usize,
    blocks: usize,
}

/// Numbers of either type.
#[derive(Debug)]
pub(super) enum Store {
    F16(Buffer<u16>),
    F32(Buffer<f32>),
    /// Codes and scales.
    Q8(Buffer<i8>, Buffer<f32>),
}

impl Store {
    /// Room for `rows` keys or values of `dim` numbers.
    fn new(kind: KvType, rows: usize, dim: usize) -> Store {
        match kind {
            KvType::F16 => Store::F16(Buffer::zeroed(rows * dim)),
            KvType::F32 => Store::F32(Buffer::zeroed(rows * dim)),
            KvType::Q8 => Store::Q8(Buffer::zeroed(rows * dim), Buffer::zeroed(rows * dim.div_ceil(GROUP))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Store::F16(b) => b.bytes(),
            Store::F32(b) => b.bytes(),
            Store::Q8(codes, scales) => codes.bytes() + scales.bytes(),
        }
    }

    /// Pointers to numbers, for writes of several threads to different places.
    fn raw(&mut self) -> Raw {
        match self {
            Store::F16(b) => Raw::F16(b.as_mut_ptr()),
            Store::F32(b) => Raw::F32(b.as_mut_ptr()),
            Store::Q8(codes, scales) => Raw::Q8(codes.as_mut_ptr(), scales.as_mut_ptr()),
        }
    }
}

#[derive(Clone, Copy)]
enum Raw {
    F16(*mut u16),
    F32(*mut f32),
    Q8(*mut i8, *mut f32),
}
// SAFETY: each thread writes the places of its own kv heads.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl KvLayer {
    /// `blocks` blocks of zeros; keys of `k_dim` and values of `v_dim` numbers for each kv head.
    pub fn new(kind: KvType, blocks: usize, kv_heads: usize, k_dim: usize, v_dim: usize) -> KvLayer {
        let each = blocks * kv_heads * POSITIONS;
        let (k, v) = (Store::new(kind, each, k_dim), Store::new(kind, each, v_dim.next_multiple_of(16)));
        KvLayer { k, v, kv_heads, k_dim, v_dim, blocks }
    }

    /// Blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of memory (touched or not).
    pub fn bytes(&self) -> usize {
        self.k.bytes() + self.v.bytes()
    }

    /// Numbers from one (block, head) of the values to the next position.
    pub(super) fn v_stride(&self) -> usize {
        self.v_dim.next_multiple_of(16)
    }

    /// Stores keys `[n, kv_heads, k_dim]` and values `[n, kv_heads, v_dim]` at `slots`
    /// (block x 32 + position within it).
    pub fn write(&mut self, pool: &Pool, slots: &[u32], k: &[f32], v: &[f32]) {
        let (heads, n) = (self.kv_heads, slots.len());
        assert_eq!(k.len(), n * heads * self.k_dim, "keys of {n} positions");
        assert_eq!(v.len(), n * heads * self.v_dim, "values of {n} positions");
        let limit = self.blocks * POSITIONS;
        assert!(slots.iter().all(|&s| (s as usize) < limit), "a slot beyond {limit}");
        let (kd, vd, vs) = (self.k_dim, self.v_dim, self.v_stride());
        let (kg, vg) = (kd.div_ceil(GROUP), vs.div_ceil(GROUP));
        let (kr, vr) = (self.k.raw(), self.v.raw());
        let head = |h: usize| {
            for (i, &slot) in slots.iter().enumerate() {
                let (block, at) = (slot as usize / POSITIONS, slot as usize % POSITIONS);
                let place = block * heads + h;
                let (k, v) = (&k[(i * heads + h) * kd..][..kd], &v[(i * heads + h) * vd..][..vd]);
                // SAFETY: the slot is within the blocks; no other thread writes this head.
                unsafe {
                    let key = Places {
                        at: place * kd * POSITIONS + at,
                        step: POSITIONS,
                        scale: place * kg * POSITIONS + at,
                    };
                    put(kr, key, k);
                    let row = place * POSITIONS + at;
                    put(vr, Places { at: row * vs, step: 1, scale: row * vg }, v);
                }
            }
        };
        if n < 8 { (0..heads).for_each(head) } else { pool.each(heads, head) }
    }
}

/// Where a key or value lies: from `at` on, its numbers `step` apart, and so its scales from `scale` on.
#[derive(Clone, Copy)]
struct Places {
    at: usize,
    step: usize,
    scale: usize,
}

/// Writes `x` to its places.
///
/// # Safety
/// They exist and nobody else uses them.
unsafe fn put(to: Raw, Places { at, step, scale }: Places, x: &[f32]) {
    match to {
        Raw::Q8(codes, scales) => {
            for (g, x) in x.chunks(GROUP).enumerate() {
                let (unit, bytes) = quantize(x);
                // SAFETY: the caller's promise.
                unsafe { scales.add(scale + g * step).write(unit) };
                for (i, &b) in bytes[..x.len()].iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { codes.add(at + (g * GROUP + i) * step).write(b) };
                }
            }
        }
        Raw::F32(p) => {
            for (i, &x) in x.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { p.add(at + i * step).write(x) };
            }
        }
        Raw::F16(p) => {
            for (c, x) in x.chunks(32).enumerate() {
                let mut half = [0u16; 32];
                dispatch(Isa::current(), ToF16 { x, out: &mut half });
                for (i, &h) in half[..x.len()].iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { p.add(at + (c * 32 + i) * step).write(h) };
                }
            }
        }
    }
}

/// What greater numbers are held at: 127 scales of it stay below f32's greatest.
const LIMIT: f32 = 3.4e38;

/// At most 32 numbers as a scale and multiples of it.
fn quantize(x: &[f32]) -> (f32, [i8; GROUP]) {
    let greatest = x.iter().fold(0f32, |m, x| if x.abs() > m { x.abs() } else { m }).min(LIMIT);
    let scale = greatest / 127.0;
    let mut codes = [0; GROUP];
    if scale > 0.0 {
        // A conversion holds what is beyond its range and makes 0 of what is no number.
        codes
            .iter_mut()
            .zip(x)
            .for_each(|(c, x)| *c = (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8);
    }
    (scale, codes)
}

/// At most 32 numbers to f16, held within its range.
struct ToF16<'a> {
    x: &'a [f32],
    out: &'a mut [u16; 32],
}

impl Kernel for ToF16<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut t = [0f32; 32];
        t[..self.x.len()].copy_from_slice(self.x);
        let mut i = 0;
        while i < 32 {
            // SAFETY: i + LANES <= 32.
            unsafe {
                let x = s.max(s.splat(-65504.0), s.min(s.splat(65504.0), s.load(t.as_ptr().add(i))));
                s.store_f16(self.out.as_mut_ptr().add(i), x);
            }
            i += S::LANES;
        }
    }
}
