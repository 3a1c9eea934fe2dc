//! States that are matrices whose columns know nothing of each other: a few registers of columns at a time, so that what the
//! state holds of them stays in the first-level cache between its uses. The walk under `delta.rs` and `wkv7.rs`.

use crate::simd::Simd;

/// Registers of columns done at a time.
const STRIP: usize = 4;

/// One position of a scan.
pub trait Position {
    /// `R` registers of columns from `from` on: changes `state`, writes `y`.
    ///
    /// # Safety
    /// `y` and each row of `state` have these columns, and `state` has all rows that the position speaks of.
    unsafe fn strip<S: Simd, const R: usize>(&self, s: S, state: &mut [f32], from: usize, y: &mut [f32]);

    /// The same for one column.
    fn column(&self, state: &mut [f32], column: usize, y: &mut [f32]);
}

/// All columns of `y`; `state` is `[rows, y.len()]`. To the bit the same as column by column.
///
/// # Safety
/// `state` has all rows that the position speaks of.
#[inline(always)]
pub unsafe fn run<S: Simd, P: Position>(s: S, position: &P, state: &mut [f32], y: &mut [f32]) {
    let mut from = 0;
    while from + STRIP * S::LANES <= y.len() {
        // SAFETY: so many columns are there; the rows are the caller's promise.
        unsafe { position.strip::<S, STRIP>(s, state, from, y) };
        from += STRIP * S::LANES;
    }
    while from + S::LANES <= y.len() {
        // SAFETY: as above.
        unsafe { position.strip::<S, 1>(s, state, from, y) };
        from += S::LANES;
    }
    (from..y.len()).for_each(|column| position.column(state, column, y));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::simd::{Kernel, dispatch};

    struct All<'a, P>(&'a P, &'a mut [f32], &'a mut [f32]);
    impl<P: Position> Kernel for All<'_, P> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            // SAFETY: `same_as_columns` gives a state of enough rows.
            unsafe { run(s, self.0, self.1, self.2) }
        }
    }

    /// Whatever strips do, columns one by one do, on every ISA. `state` has all rows of `values` columns.
    pub fn same_as_columns(position: &impl Position, before: &[f32], values: usize) {
        let (mut state, mut said) = (before.to_vec(), vec![0.0; values]);
        (0..values).for_each(|column| position.column(&mut state, column, &mut said));
        assert!(state != before && said.iter().any(|&y| y != 0.0));
        for isa in Isa::available() {
            let (mut again, mut out) = (before.to_vec(), vec![0.0; values]);
            dispatch(isa, All(position, &mut again, &mut out));
            assert_eq!((&again, &out), (&state, &said), "{}", isa.name());
        }
    }
}
