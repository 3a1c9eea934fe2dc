//! Every format on every ISA: against plain arithmetic, and bit for bit against every other way to do it.

use super::*;
use crate::quant::{DType, FORMATS};

/// A small generator; its state is the seed.
pub struct Rng(pub u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

fn supported() -> impl Iterator<Item = DType> {
    FORMATS.iter().map(|f| f.dtype).filter(|d| {
        !matches!(
            d,
            DType::F64 | DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::Q8_1 | DType::Q8_K
        )
    })
}

/// Random bytes that are a matrix of the type: any codes, but finite scales.
fn weights(dtype: DType, rows: usize, cols: usize, rng: &mut Rng) -> Vec<u8> {
    let n = dtype.bytes(rows * cols).unwrap();
    let f = dtype.format();
    let mut bytes: Vec<u8> = (0..n).map(|_| rng.next() as u8).collect();
    if let DType::F32 = dtype {
        bytes = (0..rows * cols).flat_map(|_| rng.float().to_le_bytes()).collect();
    }
    for block in bytes.chunks_exact_mut(f.block_bytes) {
        tame(dtype, block, rng);
        let mut x = vec![0f32; f.block_len];
        for _ in 0..100 {
            dtype.unpack_row(block, &mut x);
            if x.iter().all(|x| x.is_finite() && x.abs() < 1e4) {
                break;
            }
            block.iter_mut().for_each(|b| *b = rng.next() as u8);
            tame(dtype, block, rng);
        }
    }
    bytes
}

/// Makes the scales of a block small where they stand.
fn tame(dtype: DType, b: &mut [u8], rng: &mut Rng) {
    let mut put = |b: &mut [u8], at: usize| {
        let x = half::f16::from_f32(rng.float() * 0.1);
        b[at..at + 2].copy_from_slice(&x.to_le_bytes());
    };
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => put(b, 0),
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => {
            put(b, 0);
            put(b, 2);
        }
        DType::Q2_K => {
            put(b, 80);
            put(b, 82);
        }
        DType::Q3_K => put(b, 108),
        DType::Q6_K => put(b, 208),
        DType::TQ2_0 => {
            put(b, 64);
            b[..64].iter_mut().for_each(|b| *b = 0x12 ^ ((*b & 0x11) * 2));
            b[..64].iter_mut().for_each(|b| *b &= if *b & (*b >> 1) & 0x55 != 0 { 0x55 } else { 0xff });
        }
        DType::MXFP4 => b[0] = 118 + b[0] % 10,
        DType::F16 | DType::BF16 => {
            let x = rng.float();
            let bytes = match dtype {
                DType::F16 => half::f16::from_f32(x).to_le_bytes(),
                _ => half::bf16::from_f32(x).to_le_bytes(),
            };
            b.copy_from_slice(&bytes);
        }
        _ => {}
    }
}

/// All linear outputs for rows of `x`, plain weights multiplied as f32.
fn run(isa: Isa, pool: &Pool, w: &PackedLinear, x: &[f32]) -> Vec<f32> {
    run_as(if w.layout().is_integer() { Takes::Int8 } else { Takes::Float }, isa, pool, w, x)
}

/// All linear outputs for rows of `x`, rounded as said.
fn run_as(takes: Takes, isa: Isa, pool: &Pool, w: &PackedLinear, x: &[f32]) -> Vec<f32> {
    let n = x.len() / w.cols();
    let mut out = vec![f32::NAN; n * w.rows()];
    let mut acts = Acts::new();
    let input = match takes {
        Takes::Int8 => {
            acts.resize(n, w.cols());
            for i in 0..n {
                acts::quantize(isa, &x[i * w.cols()..(i + 1) * w.cols()], acts.row_mut(i));
            }
            Input::Quant(&acts)
        }
        Takes::Bf16 => {
            acts.round(pool, x, w.cols());
            Input::Quant(&acts)
        }
        Takes::Float => Input::Float(x),
    };
    linear_on(isa, pool, &mut [Linear::new(w, input, &mut out)]);
    out
}

/// Plain arithmetic in f64, on the activations as the kernels see them.
fn expected(
    dtype: DType,
    bytes: &[u8],
    rows: usize,
    cols: usize,
    x: &[f32],
    quantized: bool,
) -> Vec<(f64, f64)> {
    let mut w = vec![0f32; rows * cols];
    for (row, b) in w.chunks_exact_mut(cols).zip(bytes.chunks_exact(dtype.bytes(cols).unwrap())) {
        dtype.unpack_row(b, row);
    }
    let mut out = Vec::new();
    for x in x.chunks_exact(cols) {
        let seen: Vec<f64> = x
            .chunks(32)
            .flat_map(|c| {
                let amax = c.iter().fold(0f32, |a, x| a.max(x.abs()));
                let (d, inv) = (amax / 127.0, if amax < 1e-36 { 0.0 } else { 127.0 / amax });
                c.iter().map(move |&x| match quantized {
                    true => f64::from((x * inv).round_ties_even()) * f64::from(d),
                    false => f64::from(x),
                })
            })
            .collect();
        for row in w.chunks_exact(cols) {
            let terms = row.iter().zip(&seen).map(|(&w, &x)| f64::from(w) * x);
            let (sum, size) = terms.fold((0.0, 0.0), |(s, a), t| (s + t, a + t.abs()));
            out.push((sum, size));
        }
    }
    out
}

#[test]
fn every_format_on_every_isa_is_near_plain_arithmetic() {
    let pool = Pool::new(2);
    let mut rng = Rng(1);
    for dtype in supported() {
        let f = dtype.format();
        let sizes = [(1, 1, 5), (33, 1, 2), (33, 1, 5), (1, 1, 1), (33, 3, 2), (70, 2, 7)];
        // An interpreter takes the smallest, and more than a panel of some.
        let some = if matches!(dtype, DType::Q4_K | DType::BF16 | DType::IQ2_XXS) { 2 } else { 1 };
        for &(rows, blocks, n) in &sizes[..if cfg!(miri) { some } else { sizes.len() }] {
            let cols = if f.block_len == 1 { 33 * blocks + 2 } else { f.block_len * blocks };
            let bytes = weights(dtype, rows, cols, &mut rng);
            let x: Vec<f32> = (0..n * cols).map(|_| rng.float()).collect();
            let w = PackedLinear::pack(&pool, dtype, rows, cols, &bytes).unwrap();
            let want = expected(dtype, &bytes, rows, cols, &x, w.layout().is_integer());
            for isa in Isa::available() {
                let got = run(isa, &pool, &w, &x);
                for (i, (g, (e, size))) in got.iter().zip(&want).enumerate() {
                    // Codes with an offset sum up what the minima then take away: allow for its size.
                    let near = 3e-5 * size + 1e-6;
                    let near = near.max(if w.layout().is_integer() { 2e-4 * size } else { 0.0 });
                    let off = (f64::from(*g) - e).abs();
                    assert!(
                        off <= near,
                        "{} {} output {i}: {g}, plainly {e} (of {size})",
                        f.name,
                        isa.name()
                    );
                }
            }
        }
    }
}

// Miri has one ISA, and the test above walks the same code.
#[cfg(not(miri))]
#[test]
fn a_row_is_the_same_bits_whatever_tokens_threads_and_isa() {
    let mut rng = Rng(2);
    let pools: Vec<Pool> = (1..=3).map(Pool::new).collect();
    for dtype in supported() {
        let f = dtype.format();
        let (rows, cols) = (75, if f.block_len == 1 { 531 } else { 1280 });
        let bytes = weights(dtype, rows, cols, &mut rng);
        let x: Vec<f32> = (0..40 * cols).map(|_| rng.float()).collect();
        let w = PackedLinear::pack(&pools[1], dtype, rows, cols, &bytes).unwrap();
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let all = bits(run(Isa::Scalar, &pools[0], &w, &x));
        for isa in Isa::available() {
            let sizes = if isa == Isa::Scalar { 1..=2 } else { 1..=40 };
            for n in sizes.filter(|n| *n < 14 || n % 13 == 1) {
                let from = (n * 7) % (41 - n);
                let got = bits(run(isa, &pools[n % 3], &w, &x[from * cols..(from + n) * cols]));
                assert!(got == all[from * rows..(from + n) * rows], "{} {} {n} tokens", f.name, isa.name());
            }
        }
    }
}

#[test]
fn products_of_bf16_are_near_plain_arithmetic_and_the_same_bits_everywhere() {
    let pools: Vec<Pool> = (1..=3).map(Pool::new).collect();
    let mut rng = Rng(5);
    let shapes = [(75, 531), (33, 1), (40, 34), (64, 1024)];
    for &(rows, cols) in &shapes[..if cfg!(miri) { 2 } else { shapes.len() }] {
        let bytes = weights(DType::BF16, rows, cols, &mut rng);
        let x: Vec<f32> = (0..30 * cols).map(|_| rng.float()).collect();
        let w = PackedLinear::pack(&pools[1], DType::BF16, rows, cols, &bytes).unwrap();
        let seen: Vec<f32> = x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
        let want = expected(DType::BF16, &bytes, rows, cols, &seen, false);
        let all = run_as(Takes::Bf16, Isa::Scalar, &pools[0], &w, &x);
        for (i, (g, (e, size))) in all.iter().zip(&want).enumerate() {
            assert!(
                (f64::from(*g) - e).abs() <= 3e-5 * size + 1e-6,
                "output {i}: {g}, plainly {e} (of {size})"
            );
        }
        for isa in Isa::available() {
            for n in (1..=30).filter(|n| *n < 14 || n % 5 == 0) {
                let from = (n * 7) % (31 - n);
                let got = run_as(Takes::Bf16, isa, &pools[n % 3], &w, &x[from * cols..(from + n) * cols]);
                let same = got.iter().zip(&all[from * rows..]).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{} {rows} x {cols}, {n} tokens", isa.name());
            }
        }
    }
}

#[test]
fn extreme_activations_as_bf16_stay_what_they_are() {
    let pool = Pool::new(1);
    let one: Vec<u8> = [0x80u8, 0x3f].repeat(32);
    let w = PackedLinear::pack(&pool, DType::BF16, 1, 32, &one).unwrap();
    for isa in Isa::available() {
        let sum = |x: f32| {
            let mut row = [0.0; 32];
            row[7] = x;
            run_as(Takes::Bf16, isa, &pool, &w, &row)[0]
        };
        assert_eq!(sum(3.0), 3.0);
        // Halfway between two bf16: to the even one. The greatest f32 has no bf16 but infinity.
        assert_eq!((sum(257.0), sum(259.0), sum(f32::MAX)), (256.0, 260.0, f32::INFINITY));
        assert!(sum(f32::NAN).is_nan() && sum(f32::from_bits(0x7f80_0001)).is_nan(), "{}", isa.name());
    }
}

#[test]
fn extreme_activations_are_exact_or_show() {
    let pool = Pool::new(1);
    let mut rng = Rng(3);
    for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4_K, DType::Q6_K, DType::IQ4_NL] {
        let cols = 256;
        let bytes = weights(dtype, 32, cols, &mut rng);
        let w = PackedLinear::pack(&pool, dtype, 32, cols, &bytes).unwrap();
        for isa in Isa::available() {
            assert!(run(isa, &pool, &w, &[0.0; 256]).iter().all(|&y| y == 0.0));
            assert!(run(isa, &pool, &w, &[1e-41; 256]).iter().all(|&y| y == 0.0));
            let huge = run(isa, &pool, &w, &[1e30; 256]);
            assert!(huge.iter().all(|y| y.is_finite()) && huge.iter().any(|y| y.abs() > 1e28));
            let mut x = vec![1.0; 256];
            x[77] = f32::NAN;
            assert!(run(isa, &pool, &w, &x).iter().all(|y| y.is_nan()), "{}", isa.name());
        }
    }
    // The greatest codes and activations: no partial sum saturates.
    let mut block = [0x80u8; 34];
    block[..2].copy_from_slice(&half::f16::ONE.to_le_bytes());
    let w = PackedLinear::pack(&pool, DType::Q8_0, 1, 32, &block).unwrap();
    for isa in Isa::available() {
        assert_eq!(run(isa, &pool, &w, &[127.0; 32]), [-128.0 * 127.0 * 32.0]);
    }
}

#[test]
fn several_layers_bias_addition_and_part_of_the_rows() {
    let pool = Pool::new(2);
    let mut rng = Rng(4);
    let (rows, cols, n) = (96, 64, 5);
    let bytes = weights(DType::Q8_0, rows, cols, &mut rng);
    let w = PackedLinear::pack(&pool, DType::Q8_0, rows, cols, &bytes).unwrap();
    let x: Vec<f32> = (0..n * cols).map(|_| rng.float()).collect();
    let all = run(Isa::current(), &pool, &w, &x);
    let mut acts = Acts::new();
    acts.quantize(&pool, &x, cols);
    let (mut a, mut b) = (vec![1.0; n * 33], vec![0.0; n * rows]);
    let bias: Vec<f32> = (0..33).map(|i| i as f32).collect();
    let part =
        Linear { rows: 32..65, bias: Some(&bias), add: true, ..Linear::new(&w, Input::Quant(&acts), &mut a) };
    linear(&pool, &mut [part, Linear::new(&w, Input::Quant(&acts), &mut b)]);
    assert_eq!(b, all);
    for t in 0..n {
        for r in 0..33 {
            assert_eq!(a[t * 33 + r], 1.0 + (all[t * rows + 32 + r] + bias[r]));
        }
    }
}
