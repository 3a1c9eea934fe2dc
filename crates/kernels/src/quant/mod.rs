//! The table of number formats that a weight can be stored in.
//!
//! A format is a block of `block_len` numbers in `block_bytes` bytes; plain types are blocks of one.
//! Names and ids are those of ggml (`ggml.h`, `enum ggml_type`), so a GGUF's tensor type is a row here.
//!
//! Each format has a file: its layout, its scalar `unpack`, which is its definition and what every fast path is
//! tested against, and a `quantize` where influence writes it.

mod bits;
mod grids;
pub mod iq1_m;
pub mod iq1_s;
pub mod iq2_s;
pub mod iq2_xs;
pub mod iq2_xxs;
pub mod iq3_s;
pub mod iq3_xxs;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod mxfp4;
pub mod nvfp4;
pub mod plain;
pub mod q1_0;
pub mod q2_0;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
pub mod q8_1;
pub mod q8_k;
mod search;
mod signs;
pub mod tq1_0;
pub mod tq2_0;

/// How a tensor's numbers are stored.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ3_XXS,
    IQ3_S,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    Q2_0,
}

/// One row of [`FORMATS`].
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The type itself.
    pub dtype: DType,
    /// Its name in ggml's spelling, as `--quant` and error messages print it.
    pub name: &'static str,
    /// Its number in a GGUF file (`enum ggml_type`).
    pub ggml: u32,
    /// Numbers per block.
    pub block_len: usize,
    /// Bytes per block.
    pub block_bytes: usize,
    /// One block -> its numbers (any number of blocks for blocks of one).
    pub unpack: Unpack,
    /// The numbers of one block -> its bytes (any number of blocks for blocks of one), where it can be written.
    pub quantize: Option<Quantize>,
}

/// Bytes of a block -> its numbers.
pub type Unpack = fn(&[u8], &mut [f32]);
/// Numbers -> bytes of a block.
pub type Quantize = fn(&[f32], &mut [u8]);

const fn row(
    (dtype, name, ggml): (DType, &'static str, u32),
    block_len: usize,
    block_bytes: usize,
    unpack: Unpack,
    quantize: Option<Quantize>,
) -> Format {
    Format { dtype, name, ggml, block_len, block_bytes, unpack, quantize }
}

/// Every format, in the order of [`DType`].
#[rustfmt::skip]
pub static FORMATS: &[Format] = &[
    row((DType::F32, "F32", 0), 1, 4, plain::unpack_f32, Some(plain::quantize_f32)),
    row((DType::F16, "F16", 1), 1, 2, plain::unpack_f16, Some(plain::quantize_f16)),
    row((DType::BF16, "BF16", 30), 1, 2, plain::unpack_bf16, Some(plain::quantize_bf16)),
    row((DType::F64, "F64", 28), 1, 8, plain::unpack_f64, None),
    row((DType::I8, "I8", 24), 1, 1, plain::unpack_i8, None),
    row((DType::I16, "I16", 25), 1, 2, plain::unpack_i16, None),
    row((DType::I32, "I32", 26), 1, 4, plain::unpack_i32, None),
    row((DType::I64, "I64", 27), 1, 8, plain::unpack_i64, None),
    row((DType::Q4_0, "Q4_0", 2), 32, 18, q4_0::unpack, Some(q4_0::quantize)),
    row((DType::Q4_1, "Q4_1", 3), 32, 20, q4_1::unpack, Some(q4_1::quantize)),
    row((DType::Q5_0, "Q5_0", 6), 32, 22, q5_0::unpack, Some(q5_0::quantize)),
    row((DType::Q5_1, "Q5_1", 7), 32, 24, q5_1::unpack, Some(q5_1::quantize)),
    row((DType::Q8_0, "Q8_0", 8), 32, 34, q8_0::unpack, Some(q8_0::quantize)),
    row((DType::Q8_1, "Q8_1", 9), 32, 36, q8_1::unpack, Some(q8_1::quantize)),
    row((DType::Q2_K, "Q2_K", 10), 256, 84, q2_k::unpack, Some(q2_k::quantize)),
    row((DType::Q3_K, "Q3_K", 11), 256, 110, q3_k::unpack, Some(q3_k::quantize)),
    row((DType::Q4_K, "Q4_K", 12), 256, 144, q4_k::unpack, Some(q4_k::quantize)),
    row((DType::Q5_K, "Q5_K", 13), 256, 176, q5_k::unpack, Some(q5_k::quantize)),
    row((DType::Q6_K, "Q6_K", 14), 256, 210, q6_k::unpack, Some(q6_k::quantize)),
    row((DType::Q8_K, "Q8_K", 15), 256, 292, q8_k::unpack, Some(q8_k::quantize)),
    row((DType::IQ1_S, "IQ1_S", 19), 256, 50, iq1_s::unpack, None),
    row((DType::IQ1_M, "IQ1_M", 29), 256, 56, iq1_m::unpack, None),
    row((DType::IQ2_XXS, "IQ2_XXS", 16), 256, 66, iq2_xxs::unpack, None),
    row((DType::IQ2_XS, "IQ2_XS", 17), 256, 74, iq2_xs::unpack, None),
    row((DType::IQ2_S, "IQ2_S", 22), 256, 82, iq2_s::unpack, None),
    row((DType::IQ3_XXS, "IQ3_XXS", 18), 256, 98, iq3_xxs::unpack, None),
    row((DType::IQ3_S, "IQ3_S", 21), 256, 110, iq3_s::unpack, None),
    row((DType::IQ4_NL, "IQ4_NL", 20), 32, 18, iq4_nl::unpack, Some(iq4_nl::quantize)),
    row((DType::IQ4_XS, "IQ4_XS", 23), 256, 136, iq4_xs::unpack, None),
    row((DType::TQ1_0, "TQ1_0", 34), 256, 54, tq1_0::unpack, None),
    row((DType::TQ2_0, "TQ2_0", 35), 256, 66, tq2_0::unpack, None),
    row((DType::MXFP4, "MXFP4", 39), 32, 17, mxfp4::unpack, Some(mxfp4::quantize)),
    row((DType::NVFP4, "NVFP4", 40), 64, 36, nvfp4::unpack, None),
    row((DType::Q1_0, "Q1_0", 41), 128, 18, q1_0::unpack, None),
    row((DType::Q2_0, "Q2_0", 42), 64, 18, q2_0::unpack, None),
];

impl DType {
    /// This type's row of the table.
    pub fn format(self) -> &'static Format {
        &FORMATS[self as usize]
    }

    /// The type with this number in a GGUF file, if ggml defines one.
    pub fn from_ggml(id: u32) -> Option<DType> {
        FORMATS.iter().find(|f| f.ggml == id).map(|f| f.dtype)
    }

    /// The type of this name, in any case (`q4_k`, `Q4_K`).
    pub fn from_name(name: &str) -> Option<DType> {
        FORMATS.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.dtype)
    }

    /// Bytes of `n` numbers; `None` when `n` is not a whole number of blocks or the product overflows.
    pub fn bytes(self, n: usize) -> Option<usize> {
        let f = self.format();
        if n.is_multiple_of(f.block_len) { (n / f.block_len).checked_mul(f.block_bytes) } else { None }
    }

    /// Dequantizes: `bytes`, whole blocks, become as many numbers as they hold, by the format's definition.
    ///
    /// # Panics
    /// `out` is not as long as the blocks' numbers.
    pub fn unpack_row(self, bytes: &[u8], out: &mut [f32]) {
        let f = self.format();
        assert_eq!(self.bytes(out.len()), Some(bytes.len()), "{} bytes for {} numbers", f.name, out.len());
        if f.block_len == 1 {
            return (f.unpack)(bytes, out);
        }
        for (block, out) in bytes.chunks_exact(f.block_bytes).zip(out.chunks_exact_mut(f.block_len)) {
            (f.unpack)(block, out);
        }
    }

    /// Quantizes whole blocks of numbers into `bytes`.
    ///
    /// # Errors
    /// The format is one that influence does not write.
    /// # Panics
    /// `bytes` is not as long as the numbers' blocks.
    pub fn quantize_row(self, values: &[f32], bytes: &mut [u8]) -> Result<(), NotWritten> {
        let f = self.format();
        let quantize = f.quantize.ok_or(NotWritten(self))?;
        assert_eq!(
            self.bytes(values.len()),
            Some(bytes.len()),
            "{} bytes for {} numbers",
            f.name,
            values.len()
        );
        if f.block_len == 1 {
            quantize(values, bytes);
            return Ok(());
        }
        for (values, block) in values.chunks_exact(f.block_len).zip(bytes.chunks_exact_mut(f.block_bytes)) {
            quantize(values, block);
        }
        Ok(())
    }
}

/// A format that can be read but has no quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten(pub DType);

impl std::fmt::Display for NotWritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let written: Vec<_> =
            FORMATS.iter().filter(|row| row.quantize.is_some()).map(|row| row.name).collect();
        write!(f, "{} is read but not written; written are {}", self.0.format().name, written.join(", "))
    }
}

impl std::error::Error for NotWritten {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_stands_at_its_own_index() {
        for (i, f) in FORMATS.iter().enumerate() {
            assert_eq!(f.dtype as usize, i, "{}", f.name);
            assert_eq!(DType::from_ggml(f.ggml), Some(f.dtype), "{}", f.name);
        }
    }
}
