//! The weight formats against the `gguf` package: what blocks unpack to, bit for bit, and what numbers quantize to.
//!
//! The fixtures are written by tools/format_vectors.py.

use kernels::quant::{DType, FORMATS, NotWritten};
use std::collections::BTreeMap;
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn unpack(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let f = dtype.format();
    let mut out = vec![0.0; bytes.len() / f.block_bytes * f.block_len];
    dtype.unpack_row(bytes, &mut out);
    out
}

fn quantize(dtype: DType, values: &[f32]) -> Vec<u8> {
    // Filled with ones: quantizers must not count on zeros.
    let mut bytes = vec![0xff; dtype.bytes(values.len()).unwrap()];
    dtype.quantize_row(values, &mut bytes).unwrap();
    bytes
}

/// The bits of a number; all NaN are one NaN.
fn bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }
}

/// splitmix64, as the script has it.
fn random_bytes(seed: u64, n: usize) -> Vec<u8> {
    let word = |i: u64| {
        let mut z = i.wrapping_add(seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    (0..n.div_ceil(8) as u64).flat_map(word).take(n).collect()
}

#[test]
fn chosen_blocks_unpack_bit_for_bit() {
    // No file stores the Q8 ones; the others are newer than the package's tables, and are tested where they stand.
    let absent = [DType::Q8_1, DType::Q8_K, DType::Q1_0, DType::Q2_0];
    let mut seen = 0;
    for f in FORMATS.iter().filter(|f| f.block_len > 1 && !absent.contains(&f.dtype)) {
        let file = fixture(&format!("{}.bin", f.name));
        let count = file.len() / (f.block_bytes + 4 * f.block_len);
        let (blocks, expected) = file.split_at(count * f.block_bytes);
        for (i, (x, y)) in unpack(f.dtype, blocks).into_iter().zip(floats(expected)).enumerate() {
            assert_eq!(bits(x), bits(y), "{}: number {i}: {x} instead of {y}", f.name);
        }
        seen += 1;
    }
    assert_eq!(seen, 23);
}

#[test]
fn thousands_of_random_blocks_unpack_bit_for_bit() {
    let text = String::from_utf8(fixture("hashes.txt")).unwrap();
    assert_eq!(text.lines().count(), 25);
    for line in text.lines() {
        let [name, count, hash] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let dtype = DType::from_name(name).unwrap();
        let n = count.parse::<usize>().unwrap();
        let numbers = unpack(dtype, &random_bytes(2, n * dtype.format().block_bytes));
        assert_eq!(numbers.len(), n * dtype.format().block_len);
        let fnv = |h: u64, x: &f32| (h ^ u64::from(bits(*x))).wrapping_mul(0x100_0000_01b3);
        let found = numbers.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
        assert_eq!(format!("{found:016x}"), hash, "{name}");
    }
}

#[test]
fn simple_formats_quantize_to_the_same_bytes() {
    let values = floats(&fixture("values.bin"));
    for dtype in [
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::MXFP4,
    ] {
        let f = dtype.format();
        let (ours, theirs) = (quantize(dtype, &values), fixture(&format!("{}.quantized", f.name)));
        for (i, (a, b)) in ours.chunks(f.block_bytes).zip(theirs.chunks(f.block_bytes)).enumerate() {
            assert_eq!(a, b, "{}: block {i} of {:?}", f.name, &values[i * f.block_len..][..f.block_len]);
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

fn rms_error(dtype: DType, values: &[f32]) -> f64 {
    let back = unpack(dtype, &quantize(dtype, values));
    let sum: f64 = values.iter().zip(back).map(|(x, y)| (f64::from(*x) - f64::from(y)).powi(2)).sum();
    (sum / values.len() as f64).sqrt()
}

/// The searches weigh large numbers more, as ggml's do, so a plain error may be a little above ggml's on one
/// distribution; in the mean over all it must not be.
#[test]
fn searching_quantizers_are_as_good_as_those_of_ggml() {
    let values = floats(&fixture("values.bin"));
    let text = String::from_utf8(fixture("quality.txt")).unwrap();
    let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        let [name, start, end, theirs] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let part = &values[start.parse().unwrap()..end.parse().unwrap()];
        let ours = rms_error(DType::from_name(name).unwrap(), part);
        let theirs: f64 = theirs.parse().unwrap();
        assert!(ours <= theirs * 1.03, "{line}: {ours}");
        ratios.entry(name).or_default().push(if theirs == 0.0 { 1.0 } else { ours / theirs });
    }
    assert_eq!(ratios.len(), 6);
    for (name, ratios) in ratios {
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        println!("{name}: {mean:.3} of ggml's error in the mean of {} distributions", ratios.len());
        assert!(ratios.len() == 8 && mean <= 1.0, "{name}: {mean} {ratios:?}");
    }
}

#[test]
fn quantizers_survive_any_numbers() {
    let odd =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -0.0, 1.0];
    for f in FORMATS.iter().filter(|f| f.quantize.is_some()) {
        for rotation in 0..odd.len() {
            let mut values = odd.repeat(30);
            values.rotate_left(rotation);
            values.truncate(256);
            unpack(f.dtype, &quantize(f.dtype, &values));
        }
        for x in odd {
            unpack(f.dtype, &quantize(f.dtype, &[x; 256]));
        }
        assert!(unpack(f.dtype, &quantize(f.dtype, &[0.0; 256])).iter().all(|&x| x == 0.0), "{}", f.name);
    }
}

#[test]
fn activation_formats_carry_their_sums() {
    let values: Vec<f32> = (0..256).map(|i| ((i * 37) % 101) as f32 * 0.02 - 1.0).collect();
    for dtype in [DType::Q8_1, DType::Q8_K] {
        assert!(rms_error(dtype, &values) < 0.003, "{dtype:?}");
    }
    let block = quantize(DType::Q8_K, &values);
    let sums: Vec<i16> = block[260..].as_chunks().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
    let expected: Vec<i16> =
        block[4..260].chunks(16).map(|q| q.iter().map(|&q| i16::from(q as i8)).sum()).collect();
    assert_eq!(sums, expected);
    let block = quantize(DType::Q8_1, &values[..32]);
    let sum = half::f16::from_le_bytes([block[2], block[3]]).to_f32();
    assert!((sum - unpack(DType::Q8_1, &block).iter().sum::<f32>()).abs() < 0.01);
}

#[test]
fn plain_integers_and_doubles_unpack() {
    assert_eq!(unpack(DType::I8, &[1, 255]), [1.0, -1.0]);
    assert_eq!(unpack(DType::I16, &[0, 1, 255, 255]), [256.0, -1.0]);
    assert_eq!(unpack(DType::I32, &(-70_000i32).to_le_bytes()), [-70_000.0]);
    assert_eq!(unpack(DType::I64, &(1i64 << 40).to_le_bytes()), [(1u64 << 40) as f32]);
    assert_eq!(unpack(DType::F64, &0.1f64.to_le_bytes()), [0.1]);
    assert_eq!(unpack(DType::F32, &quantize(DType::F32, &[1.5, -2.0])), [1.5, -2.0]);
}

#[test]
fn a_format_that_is_not_written_says_so() {
    let error = DType::IQ2_S.quantize_row(&[0.0; 256], &mut [0; 82]).unwrap_err();
    assert_eq!(error, NotWritten(DType::IQ2_S));
    assert!(
        error.to_string().contains("IQ2_S is read but not written") && error.to_string().contains("Q4_K")
    );
}
