//! Every operation of every ISA against the scalar one, bit for bit.

use super::*;

/// Runs each operation over 32 lanes and returns all the bits it made.
struct AllOps<'a> {
    x: &'a [f32; LANES],
    y: &'a [f32; LANES],
    bytes: &'a [u8; 4 * LANES],
    signed: [i8; 4],
}

impl Kernel for AllOps<'_> {
    type Output = Vec<Vec<u32>>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let mut out = vec![Vec::new(); 24];
        for base in (0..LANES).step_by(S::LANES) {
            // SAFETY: `base + S::LANES <= LANES` f32, and four bytes for each.
            let (x, y, w, u, i, a, h) = unsafe {
                let p = self.bytes.as_ptr();
                (
                    s.load(self.x.as_ptr().add(base)),
                    s.load(self.y.as_ptr().add(base)),
                    s.iload(p.add(4 * base)),
                    s.load_u8(p.add(base)),
                    s.load_i8(p.add(base).cast()),
                    s.iload4(self.signed.as_ptr()),
                    s.load_f16(p.add(2 * base).cast()),
                )
            };
            let small = s.and(w, s.isplat(0x3f3f3f3f));
            let nib = s.and(s.shr(w, 4), s.isplat(0x0f0f0f0f));
            let table: [u8; 16] = std::array::from_fn(|i| (i * 37) as u8);
            let results = [
                s.add(x, y),
                s.sub(x, y),
                s.mul(x, y),
                s.div(x, y),
                s.fma(x, y, s.splat(0.3)),
                s.max(x, y),
                s.min(x, y),
                s.zero_below(x, y, s.splat(2.5)),
                s.as_float(s.bits(x)),
                s.to_f(u),
                s.to_f(i),
                s.as_float(s.iadd(w, a)),
                s.as_float(s.imax(w, a)),
                s.as_float(s.or(s.shl(w, 3), s.shr(w, 7))),
                s.as_float(s.dot::<true>(s.isplat(-77), w, a)),
                s.as_float(s.dot::<false>(s.isplat(5), small, a)),
                s.as_float(s.lut(&table, nib)),
                h,
            ];
            for (k, r) in results.into_iter().enumerate() {
                let mut t = [0f32; LANES];
                // SAFETY: S::LANES <= LANES.
                unsafe { s.store(t.as_mut_ptr(), r) };
                out[k]
                    .extend(t[..S::LANES].iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }));
            }
            let (mut q, mut f) = ([0i8; LANES], [0u16; LANES]);
            // SAFETY: as above.
            unsafe {
                s.store_i8(q.as_mut_ptr(), s.mul(x, s.splat(40.0)));
                s.store_f16(f.as_mut_ptr(), x);
            }
            out[20].extend(q[..S::LANES].iter().map(|&v| v as u32));
            out[21].extend(f[..S::LANES].iter().map(|&v| u32::from(v)));
        }
        out
    }
}

#[test]
fn every_operation_is_the_scalar_one() {
    let mut seed = 7u32;
    let mut next = || {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        seed >> 8
    };
    for round in 0..if cfg!(miri) { 5 } else { 50 } {
        let x: [f32; LANES] = std::array::from_fn(|_| next() as f32 / 4e6 - 2.0);
        let mut y: [f32; LANES] = std::array::from_fn(|_| next() as f32 / 4e6 - 2.0);
        y[round % LANES] = [0.0, -0.0, f32::INFINITY, 1e-40, f32::MAX][round % 5];
        let bytes: [u8; 4 * LANES] = std::array::from_fn(|_| next() as u8);
        let signed: [i8; 4] = std::array::from_fn(|_| if round == 0 { -127 } else { (next() % 255) as i8 });
        let run = |isa| dispatch(isa, AllOps { x: &x, y: &y, bytes: &bytes, signed });
        let expected = run(Isa::Scalar);
        for isa in Isa::available() {
            for (k, (e, g)) in expected.iter().zip(run(isa)).enumerate() {
                assert_eq!(*e, g, "operation {k} on {}", isa.name());
            }
        }
    }
}

#[test]
fn fold_adds_everything_once() {
    assert_eq!(fold_sum(std::array::from_fn(|i| i as f32)), 496.0);
}
