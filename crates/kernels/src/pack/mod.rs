//! Weights of linear layers, laid out for the kernels instead of as the file has them.
//!
//! Made once at load from the mapped bytes, panel by panel in parallel; the mapped pages can then go.
//! Bits per number in the file and here: Q2_K 2.63/2.63, Q3_K 3.44/3.56, IQ4_XS 4.25/4.31, all others the
//! same. Rows are padded to a multiple of 32 with zeros. TQ1_0 (1.69) becomes TQ2_0's 2.06.
//! Formats without a packed form of their own keep the file's bytes and are unpacked to f32 tile by tile.

pub mod layout;
mod read;
mod transpose;

use crate::alloc::Piece;
use crate::isa::Isa;
use crate::matmul::acts::Takes;
use crate::pool::Pool;
use crate::quant::DType;
use layout::*;

/// How a packed matrix lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named as the formats
pub enum Layout {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
    Tq2,
    /// The file's own bytes, unpacked by a function.
    Raw,
}

/// Calls `$body` with `$F` standing for the packed integer format of `$layout`, else `$other`.
macro_rules! with_format {
    ($layout:expr, $F:ident => $body:expr, $other:expr) => {{
        use $crate::pack::layout as l;
        macro_rules! go {
            ($t:ty) => {{
                type $F = $t;
                $body
            }};
        }
        match $layout {
            $crate::pack::Layout::Q4_0 => go!((l::C4, l::F16)),
            $crate::pack::Layout::Q4_1 => go!((l::C4, l::F16Min)),
            $crate::pack::Layout::Q5_0 => go!((l::C5, l::F16)),
            $crate::pack::Layout::Q5_1 => go!((l::C5, l::F16Min)),
            $crate::pack::Layout::Q8_0 => go!((l::C8, l::F16)),
            $crate::pack::Layout::Q2K => go!((l::C2, l::K4)),
            $crate::pack::Layout::Q3K => go!((l::C3, l::I8Half)),
            $crate::pack::Layout::Q4K => go!((l::C4, l::K6)),
            $crate::pack::Layout::Q5K => go!((l::C5, l::K6)),
            $crate::pack::Layout::Q6K => go!((l::C6, l::I8Half)),
            $crate::pack::Layout::Iq4Nl => go!((l::CIq4, l::F16)),
            $crate::pack::Layout::Iq4Xs => go!((l::CIq4, l::I8Block)),
            $crate::pack::Layout::Mxfp4 => go!((l::CFp4, l::E8)),
            $crate::pack::Layout::Tq2 => go!((l::C2, l::F16Super)),
            _ => $other,
        }
    }};
}
pub(crate) use with_format;

impl Layout {
    /// What is subtracted from a code.
    pub fn offset(self) -> i32 {
        match self {
            Layout::Q4_0 => 8,
            Layout::Q5_0 => 16,
            Layout::Q8_0 | Layout::Iq4Nl | Layout::Iq4Xs => 128,
            Layout::Q3K => 4,
            Layout::Q6K => 32,
            Layout::Mxfp4 => 12,
            Layout::Tq2 => 1,
            _ => 0,
        }
    }

    /// What this process multiplies it with.
    fn takes(self) -> Takes {
        match self {
            Layout::BF16 if Isa::current() == Isa::Avx512Bf16 => Takes::Bf16,
            layout if layout.is_integer() => Takes::Int8,
            _ => Takes::Float,
        }
    }

    /// Whether the kernels want activations quantized to int8 (else as f32).
    pub fn is_integer(self) -> bool {
        !matches!(self, Layout::F32 | Layout::F16 | Layout::BF16 | Layout::Raw)
    }
}

/// What this process multiplies a matrix of `dtype` with.
pub fn takes(dtype: DType) -> Takes {
    match dtype {
        DType::BF16 => Layout::BF16.takes(),
        _ => integer_layout(dtype).map_or(Takes::Float, |(layout, _)| layout.takes()),
    }
}

/// Reads a block of the file's bytes into codes and scales.
type Read = fn(&[u8], &mut RowUnit);

/// The layout and the block reader of a format that has an integer layout.
fn integer_layout(dtype: DType) -> Option<(Layout, Read)> {
    Some(match dtype {
        DType::Q4_0 => (Layout::Q4_0, read::q4_0),
        DType::Q4_1 => (Layout::Q4_1, read::q4_1),
        DType::Q5_0 => (Layout::Q5_0, read::q5_0),
        DType::Q5_1 => (Layout::Q5_1, read::q5_1),
        DType::Q8_0 => (Layout::Q8_0, read::q8_0),
        DType::Q2_K => (Layout::Q2K, read::q2_k),
        DType::Q3_K => (Layout::Q3K, read::q3_k),
        DType::Q4_K => (Layout::Q4K, read::q4_k),
        DType::Q5_K => (Layout::Q5K, read::q5_k),
        DType::Q6_K => (Layout::Q6K, read::q6_k),
        DType::IQ4_NL => (Layout::Iq4Nl, read::q4_0),
        DType::IQ4_XS => (Layout::Iq4Xs, read::iq4_xs),
        DType::MXFP4 => (Layout::Mxfp4, read::mxfp4),
        DType::TQ2_0 => (Layout::Tq2, read::tq2_0),
        _ => return None,
    })
}

/// Why a matrix could not be packed.
#[allow(missing_docs)] // the fields are what the message prints
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackError {
    /// The columns are not whole blocks, or the size overflows.
    Shape { dtype: &'static str, rows: usize, cols: usize, block: usize },
    /// The bytes given are not those of the shape.
    Bytes { found: usize, expected: usize },
}

impl std::fmt::Display for PackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PackError::Shape { dtype, rows, cols, block } => write!(
                f,
                "a {dtype} matrix of {rows} x {cols}: columns must be a multiple of {block} and the size within memory; the file is damaged or not of this type"
            ),
            PackError::Bytes { found, expected } => {
                write!(
                    f,
                    "matrix has {found} bytes, its shape asks for {expected}; the file is cut or damaged"
                )
            }
        }
    }
}

impl std::error::Error for PackError {}

/// A matrix `[rows, cols]` ready for [`crate::matmul::linear`].
#[derive(Debug)]
pub struct PackedLinear {
    dtype: DType,
    layout: Layout,
    rows: usize,
    cols: usize,
    /// Bytes of a panel of 32 rows (of a row when raw).
    stride: usize,
    data: Piece,
}

impl PackedLinear {
    /// Packs `bytes`, the file's `[rows, cols]` of `dtype`, in parallel on `pool`.
    pub fn pack(
        pool: &Pool,
        dtype: DType,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<PackedLinear, PackError> {
        let name = dtype.format().name;
        let block = dtype.format().block_len;
        let shape = PackError::Shape { dtype: name, rows, cols, block };
        let row_bytes = dtype.bytes(cols).filter(|_| cols > 0 && rows > 0).ok_or(shape.clone())?;
        let expected = row_bytes.checked_mul(rows).ok_or(shape.clone())?;
        if bytes.len() != expected {
            return Err(PackError::Bytes { found: bytes.len(), expected });
        }
        let (layout, stride) = plan(dtype, cols, row_bytes).ok_or(shape.clone())?;
        let count = if layout == Layout::Raw { rows } else { rows.div_ceil(PANEL) };
        let total = stride.checked_mul(count).ok_or(shape)?;
        let mut packed = PackedLinear { dtype, layout, rows, cols, stride, data: Piece::new(pool, total) };
        packed.fill(pool, bytes, row_bytes);
        Ok(packed)
    }

    fn fill(&mut self, pool: &Pool, bytes: &[u8], row_bytes: usize) {
        if self.layout == Layout::Raw {
            return self.data.copy_from_slice(bytes);
        }
        let (dtype, layout, cols, isa) = (self.dtype, self.layout, self.cols, Isa::current());
        pool.each_piece(&mut self.data, self.stride, |p, panel| {
            let from = p * PANEL * row_bytes;
            let rows = &bytes[from..bytes.len().min(from + PANEL * row_bytes)];
            if !transpose::pack_panel(isa, dtype, panel, rows, row_bytes) {
                pack_bytes(dtype, layout, panel, rows, row_bytes, cols);
            }
        });
    }

    /// The format that the file has.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The layout in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Rows: outputs of the layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs of the layer.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory, which are the bytes that a token reads.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// What this process multiplies it with.
    pub fn takes(&self) -> Takes {
        self.layout.takes()
    }

    /// Bytes of one panel of 32 rows.
    pub(crate) fn panel_bytes(&self) -> usize {
        if self.layout == Layout::Raw { self.stride * PANEL } else { self.stride }
    }

    pub(crate) fn panel(&self, p: usize) -> &[u8] {
        self.panels(p, 1)
    }

    pub(crate) fn panels(&self, p: usize, count: usize) -> &[u8] {
        &self.data[p * self.stride..(p + count) * self.stride]
    }

    /// The file's bytes of row `r`, for the raw layout; none beyond the last row.
    pub(crate) fn raw_row(&self, r: usize) -> Option<&[u8]> {
        self.data.get(r * self.stride..(r + 1) * self.stride)
    }

    /// Row `r` as numbers (an embedding, for instance). `out` has `cols` elements.
    pub fn row(&self, r: usize, out: &mut [f32]) {
        assert!(r < self.rows && out.len() == self.cols, "row {r} of {}, {} numbers", self.rows, out.len());
        if self.layout == Layout::Raw {
            let bytes = &self.data[r * self.stride..(r + 1) * self.stride];
            return self.dtype.unpack_row(bytes, out);
        }
        let (panel, row) = (self.panel(r / PANEL), r % PANEL);
        let word = |at: usize| u16::from_ne_bytes([panel[2 * at], panel[2 * at + 1]]);
        with_format!(self.layout, F => unpack_row::<F>(panel, row, self.layout.offset(), out), {
            for (k, x) in out.iter_mut().enumerate() {
                *x = match self.layout {
                    Layout::F16 => half::f16::from_bits(word(k * PANEL + row)).to_f32(),
                    Layout::BF16 => half::bf16::from_bits(word((k / 2 * PANEL + row) * 2 + k % 2)).to_f32(),
                    _ => {
                        let at = (k * PANEL + row) * 4;
                        f32::from_ne_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]])
                    }
                };
            }
        });
    }
}

/// Layout and bytes of a panel (of a row when raw).
fn plan(dtype: DType, cols: usize, row_bytes: usize) -> Option<(Layout, usize)> {
    let plain = |layout, bytes: usize| Some((layout, cols.checked_mul(PANEL * bytes)?));
    match dtype {
        DType::F32 => plain(Layout::F32, 4),
        DType::F16 => plain(Layout::F16, 2),
        DType::BF16 => Some((Layout::BF16, cols.next_multiple_of(2).checked_mul(PANEL * 2)?)),
        _ => match integer_layout(dtype) {
            Some((layout, _)) => Some((layout, panel_bytes(layout, cols)?)),
            None => Some((Layout::Raw, row_bytes)),
        },
    }
}

fn panel_bytes(layout: Layout, cols: usize) -> Option<usize> {
    fn of<F: Format>(cols: usize) -> Option<usize> {
        (cols / (BLOCK * F::S::SUPER)).checked_mul(F::UNIT)
    }
    with_format!(layout, F => of::<F>(cols), None)
}

/// Packs up to 32 rows byte by byte, into zeros: the definition.
fn pack_bytes(dtype: DType, layout: Layout, panel: &mut [u8], rows: &[u8], row_bytes: usize, cols: usize) {
    match layout {
        Layout::F32 => pack_plain::<4>(panel, rows, row_bytes),
        Layout::F16 => pack_plain::<2>(panel, rows, row_bytes),
        Layout::BF16 => pack_pairs(panel, rows, row_bytes),
        _ => pack_integer(dtype, panel, rows, row_bytes, cols),
    }
}

/// `[cols][32 rows]` of `W` bytes.
fn pack_plain<const W: usize>(panel: &mut [u8], rows: &[u8], row_bytes: usize) {
    for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (k, x) in row.chunks_exact(W).enumerate() {
            let at = (k * PANEL + r) * W;
            panel[at..at + W].copy_from_slice(x);
            if cfg!(target_endian = "big") {
                panel[at..at + W].reverse();
            }
        }
    }
}

/// `[cols / 2][32 rows][2]` of two bytes: an i32 lane holds two successive columns.
fn pack_pairs(panel: &mut [u8], rows: &[u8], row_bytes: usize) {
    for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (k, x) in row.chunks_exact(2).enumerate() {
            let at = ((k / 2 * PANEL + r) * 2 + k % 2) * 2;
            panel[at..at + 2].copy_from_slice(&u16::from_le_bytes([x[0], x[1]]).to_ne_bytes());
        }
    }
}

fn pack_integer(dtype: DType, panel: &mut [u8], rows: &[u8], row_bytes: usize, cols: usize) {
    let Some((layout, read)) = integer_layout(dtype) else { return };
    let block = dtype.format();
    with_format!(layout, F => {
        let unit_cols = BLOCK * <F as Format>::S::SUPER;
        debug_assert_eq!(block.block_len, unit_cols);
        let mut u = RowUnit::default();
        for i in 0..cols / unit_cols {
            let unit = &mut panel[i * <F as Format>::UNIT..(i + 1) * <F as Format>::UNIT];
            for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
                read(&row[i * block.block_bytes..(i + 1) * block.block_bytes], &mut u);
                put_unit::<F>(unit, r, &u);
            }
        }
    }, ());
}

fn put_unit<F: Format>(unit: &mut [u8], r: usize, u: &RowUnit) {
    let (head, codes) = unit.split_at_mut(F::S::HEAD);
    F::S::put(head, r, u);
    for (block, c) in codes.chunks_exact_mut(F::C::BYTES).zip(u.codes.chunks_exact(BLOCK)) {
        F::C::put(block, r, c);
    }
}

/// One row out of a panel, by the scalar registers.
fn unpack_row<F: Format>(panel: &[u8], row: usize, offset: i32, out: &mut [f32]) {
    use crate::simd::{Scalar, Simd};
    let (first, lane) = (row / Scalar::LANES * Scalar::LANES, row % Scalar::LANES);
    for (b, x) in out.chunks_exact_mut(BLOCK).enumerate() {
        let unit = &panel[b / F::S::SUPER * F::UNIT..][..F::UNIT];
        let sub = b % F::S::SUPER;
        let codes = codes_of::<F>(unit, sub, first, lane);
        for (k, x) in x.iter_mut().enumerate() {
            let half = if F::S::HALF { k / 16 } else { 0 };
            // SAFETY: `unit` is one unit of F, and first + LANES <= 32.
            let (s, m) = unsafe {
                let head = unit.as_ptr();
                let s = F::S::scale(Scalar, head, sub, half, first)[lane];
                (s, F::S::min(Scalar, head, sub, half, first)[lane])
            };
            *x = (i32::from(codes[k]) - offset) as f32 * s + m;
        }
    }
}

fn codes_of<F: Format>(unit: &[u8], sub: usize, first: usize, lane: usize) -> [u8; BLOCK] {
    use crate::simd::Scalar;
    let block = &unit[F::S::HEAD + sub * F::C::BYTES..][..F::C::BYTES];
    let mut codes = [0; BLOCK];
    macro_rules! group {
        ($($g:literal)*) => {$(
            // SAFETY: `block` has all lines of these codes.
            let v = unsafe { F::C::get::<Scalar, $g>(Scalar, block.as_ptr(), first) };
            codes[4 * $g..4 * $g + 4].copy_from_slice(&v[lane].to_le_bytes());
        )*};
    }
    group!(0 1 2 3 4 5 6 7);
    codes
}

#[cfg(test)]
mod tests;
