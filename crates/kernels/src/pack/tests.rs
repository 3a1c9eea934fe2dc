//! What was packed is what the file said.

use super::*;
use crate::quant::FORMATS;

#[test]
fn a_row_read_back_is_the_formats_own() {
    let pool = Pool::new(2);
    let mut seed = 5u64;
    for f in FORMATS.iter().filter(|f| !f.name.starts_with('I') || f.name.starts_with("IQ")) {
        let blocks = if cfg!(miri) { 1 } else { 2 };
        let (rows, cols) = (37, if f.block_len == 1 { 19 } else { blocks * f.block_len });
        let n = f.dtype.bytes(rows * cols).unwrap();
        let bytes: Vec<u8> = (0..n)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 40) as u8
            })
            .collect();
        let w = PackedLinear::pack(&pool, f.dtype, rows, cols, &bytes).unwrap();
        let (mut want, mut got) = (vec![0f32; cols], vec![0f32; cols]);
        for (r, b) in bytes.chunks_exact(n / rows).enumerate().step_by(if cfg!(miri) { 12 } else { 1 }) {
            f.dtype.unpack_row(b, &mut want);
            w.row(r, &mut got);
            for (k, (&e, &g)) in want.iter().zip(&got).enumerate() {
                let scale = e.abs().max(1e-30) * 1e-5;
                let same = e == g || (e - g).abs() <= scale || !e.is_finite();
                // TQ2_0's fourth code means nothing; an MXFP4 exponent of 0 or 255 is beyond f32.
                assert!(
                    same || e.abs() < 1e-37 || e.abs() > 1e37,
                    "{} row {r} column {k}: {g} for {e}",
                    f.name
                );
            }
        }
    }
}

/// Whole panels go another way than the definition, to the same bytes; every byte is written.
#[test]
fn panels_packed_fast_are_those_packed_byte_by_byte() {
    let mut seed = 11u64;
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as u8
    };
    let mut fast = 0;
    for f in FORMATS {
        // An interpreter takes two blocks of columns at most.
        let sizes = &[1, 2, 3, 8, 19, 40][..if cfg!(miri) && f.block_len > 1 { 2 } else { 6 }];
        for cols in sizes.iter().map(|n| n * f.block_len) {
            let Some((row_bytes, (layout, stride))) =
                f.dtype.bytes(cols).and_then(|n| Some((n, plan(f.dtype, cols, n)?)))
            else {
                continue;
            };
            if layout == Layout::Raw {
                continue;
            }
            let rows: Vec<u8> = (0..PANEL * row_bytes).map(|_| next()).collect();
            let mut expected = vec![0; stride];
            pack_bytes(f.dtype, layout, &mut expected, &rows, row_bytes, cols);
            for isa in Isa::available() {
                let mut panel = vec![0xaa; stride];
                if transpose::pack_panel(isa, f.dtype, &mut panel, &rows, row_bytes) {
                    fast += 1;
                    assert!(panel == expected, "{} with {cols} columns by {}", f.name, isa.name());
                } else {
                    let plain = matches!(layout, Layout::F32 | Layout::F16 | Layout::BF16);
                    let ends = plain && !row_bytes.is_multiple_of(16);
                    assert!(ends || cfg!(target_endian = "big"), "{} is packed byte by byte", f.name);
                }
            }
            let some = &rows[..row_bytes * (PANEL - 1)];
            assert!(!transpose::pack_panel(Isa::best(), f.dtype, &mut expected, some, row_bytes));
        }
    }
    assert!(fast > 0 || cfg!(target_endian = "big"));
}

#[test]
fn wrong_sizes_are_refused() {
    let pool = Pool::new(1);
    let pack = |rows, cols, n| PackedLinear::pack(&pool, DType::Q4_K, rows, cols, &vec![0; n]).map(|_| ());
    assert!(matches!(pack(2, 100, 10), Err(PackError::Shape { block: 256, .. })));
    assert!(matches!(pack(2, 256, 287), Err(PackError::Bytes { expected: 288, found: 287 })));
    assert!(matches!(pack(usize::MAX / 2, 256, 0), Err(PackError::Shape { .. })));
    assert!(matches!(pack(0, 256, 0), Err(PackError::Shape { .. })));
    assert!(pack(2, 256, 288).is_ok());
}
