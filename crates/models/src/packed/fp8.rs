//! Numbers of 8 bits: sign, exponent of 4 bits, 3 bits (Micikevicius et al. 2022, arXiv:2209.05433), times a factor.

use weights::Tensor;

use crate::Result;
use crate::tensors::Tensors;

/// A number by its byte: E4M3 without infinities.
fn number(byte: u8) -> f32 {
    let (exponent, rest) = ((byte >> 3) & 15, (byte & 7) as f32);
    let size = match (exponent, byte & 127) {
        (_, 127) => f32::NAN,
        (0, _) => rest / 8.0 * 2f32.powi(-6),
        _ => (1.0 + rest / 8.0) * 2f32.powi(exponent as i32 - 7),
    };
    if byte & 128 == 0 { size } else { -size }
}

/// The tensor `name` as plain numbers, if it is of 8 bits: `weight_scale_inv` beside it is multiplied by, whatever
/// its name says.
pub(super) fn unpack(tensors: &Tensors, name: &str, block: Option<[usize; 2]>) -> Result<Option<Tensor>> {
    let Some(bytes) = tensors.bytes(name, "F8_E4M3") else { return Ok(None) };
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let scale = &format!("{stem}.weight_scale_inv");
    let &[rows, columns] = bytes.shape.as_slice() else {
        return Err(tensors.bad(&bytes.name, format!("shape {:?}", bytes.shape), "a matrix".into()));
    };
    let (shape, factors) = tensors.plain(scale)?;
    let (high, wide) = match (shape.as_slice(), block) {
        ([] | [1] | [1, 1], _) => (rows, columns),
        (&[r, c], Some([high, wide])) if r == rows.div_ceil(high) && c == columns.div_ceil(wide) => {
            (high, wide)
        }
        _ => {
            let blocks = block.map_or_else(String::new, |b| format!(", or one for each block of {b:?}"));
            let expected = format!("one factor for {rows} rows of {columns}{blocks}");
            return Err(tensors.bad(scale, format!("shape {shape:?}"), expected));
        }
    };
    let across = columns.div_ceil(wide.max(1)).max(1);
    let table: Vec<f32> = (0..=255).map(number).collect();
    let mut numbers = vec![0.0; bytes.elements()];
    let each = numbers.chunks_exact_mut(columns.max(1)).zip(bytes.bytes().chunks_exact(columns.max(1)));
    for (row, (out, bytes)) in each.enumerate() {
        let factors = &factors[row / high * across..];
        for ((out, bytes), factor) in out.chunks_mut(wide).zip(bytes.chunks(wide)).zip(factors) {
            out.iter_mut().zip(bytes).for_each(|(o, &b)| *o = table[b as usize] * factor);
        }
    }
    tensors.made(bytes, bytes.shape.clone(), numbers).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the paper's table: the largest, the smallest normal, the smallest.
    #[test]
    fn numbers_are_those_of_the_paper() {
        assert_eq!(number(0b0111_1110), 448.0);
        assert_eq!(number(0b0000_1000), 2f32.powi(-6));
        assert_eq!(number(0b0000_0001), 2f32.powi(-9));
        assert_eq!((number(0b1011_1000), number(0)), (-1.0, 0.0));
        assert!(number(0b1111_1111).is_nan() && number(0b0111_1111).is_nan());
    }
}
