//! A named array of numbers in a mapped file.

use crate::DType;
use crate::mmap::Map;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A tensor whose bytes lie in a mapped file. Cloning copies no weights.
#[derive(Clone)]
pub struct Tensor {
    /// Its name as the file has it.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: DType,
    /// Row-major, outermost first: a linear layer is `[out, in]`. (GGUF's own order is reversed.)
    pub shape: Vec<usize>,
    map: Arc<Map>,
    range: Range<usize>,
}

impl Tensor {
    /// The caller has checked that `range` lies in the map and is as long as shape and dtype say.
    pub(crate) fn new(
        name: String,
        dtype: DType,
        shape: Vec<usize>,
        map: Arc<Map>,
        range: Range<usize>,
    ) -> Tensor {
        debug_assert!(range.end <= map.bytes().len());
        Tensor { name, dtype, shape, map, range }
    }

    /// The stored bytes, little-endian, in place. They are aligned as the file has them: perhaps to one byte.
    pub fn bytes(&self) -> &[u8] {
        &self.map.bytes()[self.range.clone()]
    }

    /// Says that its bytes have been taken over elsewhere: the system may use their memory for other things
    /// until somebody looks at them again.
    pub fn release(&self) {
        self.map.release(self.range.clone());
    }

    /// How many numbers it has: the product of `shape`, 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// `count` of its outermost rows from `first` on, in place: how a fused matrix is taken apart.
    /// `None` when it has no such rows, or when a row is not a whole number of blocks.
    pub fn rows(&self, first: usize, count: usize) -> Option<Tensor> {
        let (&rows, inner) = self.shape.split_first()?;
        if first.checked_add(count)? > rows {
            return None;
        }
        let row_bytes = self.dtype.bytes(inner.iter().product())?;
        let start = self.range.start + first * row_bytes;
        let mut part = self.clone();
        part.shape[0] = count;
        part.range = start..start + count * row_bytes;
        Some(part)
    }

    /// A tensor of this name in other bytes: what became of the file's in memory. `None` when they are not as many
    /// as `shape` and `dtype` say.
    pub fn remade(&self, dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Option<Tensor> {
        let (&columns, rows) = shape.split_last()?;
        let expected = dtype.bytes(columns)?.checked_mul(product(rows)?)?;
        if bytes.len() != expected {
            return None;
        }
        let range = 0..bytes.len();
        let map = Arc::new(Map::made(self.file(), bytes));
        Some(Tensor { name: self.name.clone(), dtype, shape, map, range })
    }

    /// Its outermost rows in another order: row `i` of the result is row `order[i]`. `None` when there is no such
    /// row, or a row is not a whole number of blocks.
    pub fn reordered(&self, order: &[usize]) -> Option<Tensor> {
        let (&rows, inner) = self.shape.split_first()?;
        let row_bytes = self.dtype.bytes(inner.iter().product())?;
        let mut bytes = Vec::with_capacity(order.len().checked_mul(row_bytes)?);
        for &row in order {
            (row < rows).then_some(())?;
            bytes.extend_from_slice(&self.bytes()[row * row_bytes..(row + 1) * row_bytes]);
        }
        let mut shape = self.shape.clone();
        shape[0] = order.len();
        self.remade(self.dtype, shape, bytes)
    }

    /// Its two innermost dimensions exchanged. `None` for a vector, or where numbers come in blocks.
    pub fn transposed(&self) -> Option<Tensor> {
        let (rows, columns) = match *self.shape.as_slice() {
            [.., rows, columns] => (rows, columns),
            _ => return None,
        };
        let size = self.dtype.bytes(1).filter(|_| self.dtype.format().block_len == 1)?;
        let mut bytes = Vec::with_capacity(self.bytes().len());
        for matrix in self.bytes().chunks_exact((rows * columns * size).max(1)) {
            for c in 0..columns {
                for r in 0..rows {
                    let at = (r * columns + c) * size;
                    bytes.extend_from_slice(&matrix[at..at + size]);
                }
            }
        }
        let mut shape = self.shape.clone();
        let last = shape.len() - 1;
        shape.swap(last - 1, last);
        self.remade(self.dtype, shape, bytes)
    }

    /// The file it lies in.
    pub fn file(&self) -> &Path {
        self.map.path()
    }

    /// Where its bytes begin in that file.
    pub fn offset(&self) -> usize {
        self.range.start
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} at {}", self.name, self.dtype.format().name, self.shape, self.range.start)
    }
}

/// A tensor that the file lists in a type that is not known here. The file opens; using the tensor fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The type as the file names it: `F8_E4M3`, or `ggml type 99`.
    pub kind: String,
    /// Row-major, outermost first.
    pub shape: Vec<usize>,
}

/// The number of elements of a shape, if it fits this machine.
pub(crate) fn product(shape: &[usize]) -> Option<usize> {
    // A zero anywhere must not hide an overflow before it.
    if shape.contains(&0) {
        shape.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d)).map(|_| 0)
    } else {
        shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }
}
