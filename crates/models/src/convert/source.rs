//! Where the numbers of a tensor of the new file come from, row by row.

use std::borrow::Cow;
use std::sync::Arc;

use kernels::pool::Pool;
use weights::quantize::quantize_rows;
use weights::{DType, Planned, Tensor};

use super::Halting;
use crate::{Error, Result};

/// Where a tensor's numbers come from.
pub(super) enum Source {
    Stored(Stored),
    Made(Vec<f32>),
}

impl Source {
    /// Its rows (numbers of a vector).
    pub fn count(&self) -> usize {
        match self {
            Source::Stored(stored) => stored.shape.first().copied().unwrap_or(0),
            Source::Made(list) => list.len(),
        }
    }
}

/// Tensors of the model's file, and how GGUF has them otherwise. Cloning copies no numbers.
#[derive(Clone)]
pub(super) struct Stored {
    /// As the file has them; the rows of several follow on, as many of each.
    pub parts: Vec<Tensor>,
    /// What is made of them first, as a whole.
    pub make: Option<Make>,
    /// As the new file has it, outermost first.
    pub shape: Vec<usize>,
    /// The row that is row `i` of the new file. (Of a vector, numbers are rows.)
    pub rows: Option<RowMap>,
    pub change: Change,
}

/// Another tensor out of what the file has.
pub(super) type Make = Arc<dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync>;
pub(super) type RowMap = Arc<dyn Fn(usize) -> usize + Send + Sync>;

/// What is done to each number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    None,
    Add(f32),
    /// By one factor, or by one for each row.
    Times(Vec<f32>),
    /// Logarithms of rates become the negative rates.
    Decay,
}

impl Stored {
    pub fn of(tensor: &Tensor) -> Stored {
        let (parts, shape) = (vec![tensor.clone()], tensor.shape.clone());
        Stored { parts, make: None, shape, rows: None, change: Change::None }
    }

    pub fn shaped(self, shape: Vec<usize>) -> Stored {
        Stored { shape, ..self }
    }

    pub fn changed(self, change: Change) -> Stored {
        Stored { change, ..self }
    }

    /// With `map` between its rows and those of the new file.
    pub fn mapped(self, map: impl Fn(usize) -> usize + Send + Sync + 'static) -> Stored {
        let rows: RowMap = match self.rows {
            None => Arc::new(map),
            Some(before) => Arc::new(move |row| before(map(row))),
        };
        Stored { rows: Some(rows), ..self }
    }

    /// With the whole made into something else, `shape` in the end.
    pub fn then(
        self,
        shape: Vec<usize>,
        step: impl Fn(&Tensor) -> Option<Tensor> + Send + Sync + 'static,
    ) -> Stored {
        let before = self.make;
        let make: Make = Arc::new(move |parts| {
            let first = match &before {
                Some(make) => Cow::Owned(make(parts)?),
                None => Cow::Borrowed(&parts[0]),
            };
            step(&first).ok_or_else(|| misfit(&first, "a tensor of plain numbers that can be taken apart"))
        });
        Stored { make: Some(make), shape, ..self }
    }

    /// The type of its numbers where they lie in the file, if they have one.
    pub fn dtype(&self) -> Option<DType> {
        let first = self.parts.first().filter(|_| self.make.is_none())?.dtype;
        self.parts.iter().all(|p| p.dtype == first).then_some(first)
    }

    fn taken(&self) -> Result<Cow<'_, [Tensor]>> {
        match &self.make {
            Some(make) => Ok(Cow::Owned(vec![make(&self.parts)?])),
            None => Ok(Cow::Borrowed(&self.parts)),
        }
    }

    /// Row `row` as GGUF has it, out of what [`Stored::taken`] gave.
    fn row(&self, parts: &[Tensor], row: usize, out: &mut [f32]) -> Result<()> {
        let vector = self.shape.len() < 2;
        let from = self.rows.as_ref().filter(|_| !vector).map_or(row, |map| map(row));
        let each = parts[0].elements() / out.len().max(1);
        let part = parts.get(from / each.max(1)).unwrap_or(&parts[0]);
        let (at, dtype) = (from % each.max(1), part.dtype);
        let bytes = dtype.bytes(out.len()).and_then(|n| part.bytes().get(at * n..(at + 1) * n));
        let bytes = bytes.ok_or_else(|| misfit(part, "rows of whole blocks"))?;
        dtype.unpack_row(bytes, out);
        if let Some(map) = self.rows.as_ref().filter(|_| vector) {
            let all = out.to_vec();
            out.iter_mut().enumerate().for_each(|(i, x)| *x = all[map(i).min(all.len() - 1)]);
        }
        match &self.change {
            Change::None => {}
            Change::Add(n) => out.iter_mut().for_each(|x| *x += n),
            Change::Times(factors) => {
                let factor = factors.get(row).or(factors.first()).copied().unwrap_or(1.0);
                out.iter_mut().for_each(|x| *x *= factor);
            }
            Change::Decay => out.iter_mut().for_each(|x| *x = -x.exp()),
        }
        Ok(())
    }
}

pub(super) fn misfit(tensor: &Tensor, expected: &str) -> Error {
    Error::Tensor {
        file: tensor.file().display().to_string(),
        tensor: tensor.name.clone(),
        found: format!("shape {:?} as {}", tensor.shape, tensor.dtype.format().name),
        expected: expected.into(),
    }
}

impl Source {
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Source::Stored(s) => s.shape.clone(),
            Source::Made(list) => vec![list.len()],
        }
    }

    /// Hands the bytes of `planned` to `write`, with how many numbers they are; whether some are not finite.
    pub fn write(
        &self,
        planned: &Planned,
        pool: &Pool,
        mut write: impl FnMut(&[u8], u64) -> Halting<()>,
    ) -> Halting<bool> {
        let dtype = planned.dtype;
        let columns = planned.shape.last().copied().unwrap_or(1);
        let rows: usize = planned.shape.iter().rev().skip(1).product();
        let row_bytes = dtype.bytes(columns).unwrap_or(0).max(1);
        let mut write = |bytes: &[u8]| write(bytes, (bytes.len() / row_bytes * columns) as u64);
        let stored = match self {
            Source::Stored(stored) => stored,
            Source::Made(list) => {
                let row = |_, out: &mut [f32]| {
                    out.copy_from_slice(list);
                    Ok(())
                };
                return quantize_rows(pool, dtype, (rows, columns), row, write);
            }
        };
        let parts = stored.taken()?;
        let numbers: usize = parts.iter().map(Tensor::elements).sum();
        let even = parts.iter().all(|p| p.elements() == parts[0].elements());
        // Of some tensors only a part of the rows goes to the new one.
        if !even || (stored.rows.is_none() && numbers != rows * columns) {
            return Err(misfit(&parts[0], &format!("the numbers of a tensor {:?}", planned.shape)).into());
        }
        let same = stored.rows.is_none() && stored.change == Change::None;
        if same && parts.iter().all(|p| p.dtype == dtype) {
            parts.iter().try_for_each(|p| copy(p.bytes(), row_bytes, &mut write))?;
            return Ok(false);
        }
        quantize_rows(pool, dtype, (rows, columns), |row, out| Ok(stored.row(&parts, row, out)?), write)
    }
}

/// Bytes that stay as they are, some rows at a time.
fn copy(bytes: &[u8], row_bytes: usize, write: &mut impl FnMut(&[u8]) -> Halting<()>) -> Halting<()> {
    let rows = ((1 << 22) / row_bytes).max(1);
    bytes.chunks(rows * row_bytes).try_for_each(write)
}
