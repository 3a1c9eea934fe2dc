//! Plain numbers: blocks of one, many at a time.
//!
//! Unlike the formats of larger blocks, these functions take slices of any length.

use half::{bf16, f16};

fn unpack<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    for (bytes, x) in bytes.as_chunks().0.iter().zip(out) {
        *x = number(*bytes);
    }
}

/// f32, as it is.
pub fn unpack_f32(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, f32::from_le_bytes);
}

/// Half precision, exactly.
pub fn unpack_f16(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, |b| f16::from_le_bytes(b).to_f32());
}

/// The upper half of an f32, exactly.
pub fn unpack_bf16(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, |b| bf16::from_le_bytes(b).to_f32());
}

/// f64, rounded.
pub fn unpack_f64(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, |b| f64::from_le_bytes(b) as f32);
}

/// i8, exactly.
pub fn unpack_i8(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, |b| f32::from(i8::from_le_bytes(b)));
}

/// i16, exactly.
pub fn unpack_i16(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, |b| f32::from(i16::from_le_bytes(b)));
}

/// i32, rounded.
pub fn unpack_i32(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, |b| i32::from_le_bytes(b) as f32);
}

/// i64, rounded.
pub fn unpack_i64(bytes: &[u8], out: &mut [f32]) {
    unpack(bytes, out, |b| i64::from_le_bytes(b) as f32);
}

fn quantize<const N: usize>(values: &[f32], bytes: &mut [u8], number: impl Fn(f32) -> [u8; N]) {
    for (x, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
        *bytes = number(*x);
    }
}

/// f32, as it is.
pub fn quantize_f32(values: &[f32], bytes: &mut [u8]) {
    quantize(values, bytes, f32::to_le_bytes);
}

/// To nearest, ties to even; beyond 65504 infinite.
pub fn quantize_f16(values: &[f32], bytes: &mut [u8]) {
    quantize(values, bytes, |x| f16::from_f32(x).to_le_bytes());
}

/// To nearest, ties to even.
pub fn quantize_bf16(values: &[f32], bytes: &mut [u8]) {
    quantize(values, bytes, |x| bf16::from_f32(x).to_le_bytes());
}
