//! The table of number formats that a weight can be stored in.
//!
//! A format is a block of `block_len` numbers in `block_bytes` bytes; plain types are blocks of one.
//! Names and ids are those of ggml (`ggml.h`, `enum ggml_type`), so a GGUF's tensor type is a row here.

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
}

const fn row(dtype: DType, name: &'static str, ggml: u32, block_len: usize, block_bytes: usize) -> Format {
    Format { dtype, name, ggml, block_len, block_bytes }
}

/// Every format, in the order of [`DType`].
pub const FORMATS: &[Format] = &[
    row(DType::F32, "F32", 0, 1, 4),
    row(DType::F16, "F16", 1, 1, 2),
    row(DType::BF16, "BF16", 30, 1, 2),
    row(DType::F64, "F64", 28, 1, 8),
    row(DType::I8, "I8", 24, 1, 1),
    row(DType::I16, "I16", 25, 1, 2),
    row(DType::I32, "I32", 26, 1, 4),
    row(DType::I64, "I64", 27, 1, 8),
    row(DType::Q4_0, "Q4_0", 2, 32, 18),
    row(DType::Q4_1, "Q4_1", 3, 32, 20),
    row(DType::Q5_0, "Q5_0", 6, 32, 22),
    row(DType::Q5_1, "Q5_1", 7, 32, 24),
    row(DType::Q8_0, "Q8_0", 8, 32, 34),
    row(DType::Q8_1, "Q8_1", 9, 32, 36),
    row(DType::Q2_K, "Q2_K", 10, 256, 84),
    row(DType::Q3_K, "Q3_K", 11, 256, 110),
    row(DType::Q4_K, "Q4_K", 12, 256, 144),
    row(DType::Q5_K, "Q5_K", 13, 256, 176),
    row(DType::Q6_K, "Q6_K", 14, 256, 210),
    row(DType::Q8_K, "Q8_K", 15, 256, 292),
    row(DType::IQ1_S, "IQ1_S", 19, 256, 50),
    row(DType::IQ1_M, "IQ1_M", 29, 256, 56),
    row(DType::IQ2_XXS, "IQ2_XXS", 16, 256, 66),
    row(DType::IQ2_XS, "IQ2_XS", 17, 256, 74),
    row(DType::IQ2_S, "IQ2_S", 22, 256, 82),
    row(DType::IQ3_XXS, "IQ3_XXS", 18, 256, 98),
    row(DType::IQ3_S, "IQ3_S", 21, 256, 110),
    row(DType::IQ4_NL, "IQ4_NL", 20, 32, 18),
    row(DType::IQ4_XS, "IQ4_XS", 23, 256, 136),
    row(DType::TQ1_0, "TQ1_0", 34, 256, 54),
    row(DType::TQ2_0, "TQ2_0", 35, 256, 66),
    row(DType::MXFP4, "MXFP4", 39, 32, 17),
    row(DType::NVFP4, "NVFP4", 40, 64, 36),
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
        if n % f.block_len != 0 { None } else { (n / f.block_len).checked_mul(f.block_bytes) }
    }
}

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
