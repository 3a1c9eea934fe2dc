//! Rows of every format: unpacked by the definition they are what the packed matrix holds, and a product is the same
//! on every instruction set. Bytes: the format, rows, blocks of columns, then the matrix (filled up with itself).
#![no_main]

use std::sync::OnceLock;

use kernels::isa::Isa;
use kernels::matmul::acts::{self, Acts};
use kernels::matmul::{Input, Linear, linear_on};
use kernels::pack::PackedLinear;
use kernels::pool::Pool;
use kernels::quant::FORMATS;
use libfuzzer_sys::fuzz_target;

fn product(isa: Isa, pool: &Pool, w: &PackedLinear, x: &[f32]) -> Vec<f32> {
    let n = x.len() / w.cols();
    let mut out = vec![f32::NAN; n * w.rows()];
    let mut acts = Acts::new();
    let input = if w.layout().is_integer() {
        acts.resize(n, w.cols());
        for i in 0..n {
            acts::quantize(isa, &x[i * w.cols()..(i + 1) * w.cols()], acts.row_mut(i));
        }
        Input::Quant(&acts)
    } else {
        Input::Float(x)
    };
    linear_on(isa, pool, &mut [Linear::new(w, input, &mut out)]);
    out
}

/// Beyond what f32 holds without loss nothing is promised but that it ends.
fn ordinary(x: f32) -> bool {
    x == 0.0 || (1e-30..1e30).contains(&x.abs())
}

fuzz_target!(|data: &[u8]| {
    static POOL: OnceLock<Pool> = OnceLock::new();
    let pool = POOL.get_or_init(|| Pool::new(1));
    let [format, rows, blocks, tokens, seed @ ..] = data else { return };
    if seed.is_empty() {
        return;
    }
    let f = &FORMATS[usize::from(*format) % FORMATS.len()];
    let (rows, cols) = (1 + usize::from(*rows) % 70, (1 + usize::from(*blocks) % 5) * f.block_len);
    let Some(size) = f.dtype.bytes(rows * cols) else { return };
    let mut bytes: Vec<u8> =
        (0..size).map(|i| seed[i % seed.len()].wrapping_add((i / seed.len()) as u8)).collect();
    if f.name == "MXFP4" {
        // Exponents of 2 to the 127 and more, and what stands for none: zero times them is zero by the definition only.
        bytes.chunks_exact_mut(f.block_bytes).for_each(|block| block[0] = 1 + block[0] % 250);
    }
    let packed = PackedLinear::pack(pool, f.dtype, rows, cols, &bytes).expect("bytes of the shape");
    let (mut want, mut got) = (vec![0f32; cols], vec![0f32; cols]);
    let mut tame = true;
    for (r, row) in bytes.chunks_exact(size / rows).enumerate() {
        f.dtype.unpack_row(row, &mut want);
        packed.row(r, &mut got);
        for (k, (&e, &g)) in want.iter().zip(&got).enumerate() {
            let same = e == g || (e - g).abs() <= e.abs() * 1e-5 || !ordinary(e);
            assert!(same, "{} row {r} column {k}: {g} for {e}", f.name);
            tame &= ordinary(e) && e.abs() < 1e6;
        }
    }
    let n = 1 + usize::from(*tokens) % 12;
    let x: Vec<f32> = (0..n * cols).map(|i| f32::from(seed[i * 7 % seed.len()] as i8) / 64.0).collect();
    let first = product(Isa::Scalar, pool, &packed, &x);
    for isa in Isa::available() {
        let other = product(isa, pool, &packed, &x);
        let same = first.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same || !tame, "{} {rows} x {cols}, {n} tokens by {}", f.name, isa.name());
    }
});
