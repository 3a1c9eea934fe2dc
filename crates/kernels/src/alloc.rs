//! Memory for weights, cache and activations: aligned, zeroed, on big pages where the system gives them.
//!
//! A weight is read once per token in one long stream; with 4 KB pages a fifth of the read rate is lost to
//! address translation. Buffers of 2 MB and more are therefore mapped on 2 MB boundaries and offered to
//! `madvise(MADV_HUGEPAGE)`. Pages are zero and cost nothing until they are touched.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Cache line and widest register.
const ALIGN: usize = 64;
/// Size from which a buffer is mapped by itself.
const HUGE: usize = 2 << 20;

/// Types whose every bit pattern, zero first, is a value.
///
/// # Safety
/// All-zero bytes are a valid value and the type has no drop glue.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
macro_rules! plain {
    ($($t:ty),*) => {$(
        // SAFETY: an integer or float: zero is a value, nothing is dropped.
        unsafe impl Plain for $t {}
    )*};
}
plain!(u8, i8, u16, i16, u32, i32, u64, i64, f32, usize);

/// A zeroed slice of fixed length, aligned to 64 bytes, on big pages if large.
pub struct Buffer<T: Plain> {
    ptr: NonNull<T>,
    len: usize,
    /// Length of the mapping when it was mapped, else 0.
    mapped: usize,
}

// SAFETY: a Buffer owns its memory as a Vec does, and T is Send + Sync.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// `len` zeros. Aborts, as `Vec` does, when the system has no memory left.
    pub fn zeroed(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&b| b <= isize::MAX as usize - 2 * HUGE);
        let Some(bytes) = bytes else { handle_alloc_error(Layout::new::<T>()) };
        if bytes == 0 {
            return Buffer { ptr: NonNull::dangling(), len: 0, mapped: 0 };
        }
        if bytes >= HUGE
            && let Some((ptr, mapped)) = map_huge(bytes)
        {
            return Buffer { ptr: ptr.cast(), len, mapped };
        }
        let layout = layout(bytes);
        // SAFETY: the layout's size is not zero.
        let Some(ptr) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Buffer { ptr: ptr.cast(), len, mapped: 0 }
    }

    /// As [`Buffer::zeroed`], with the big pages there and cleared, each by one thread of `pool`. Threads that
    /// write into the same fresh page at the same time each clear one, and all but one of them in vain.
    pub fn present(pool: &crate::pool::Pool, len: usize) -> Self {
        let mut buffer = Self::zeroed(len);
        if buffer.mapped > 0 {
            touch(pool, &mut buffer);
        }
        buffer
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

/// Has the system bring the big pages of fresh zeros, which begin with one.
fn touch<T: Plain>(pool: &crate::pool::Pool, fresh: &mut [T]) {
    pool.each_piece(fresh, HUGE / size_of::<T>(), |_, page| {
        // SAFETY: a piece has at least one element, and zero is a value, the one that it has. To read it first
        // would bring a shared page of zeros, which some systems then replace by small pages.
        unsafe { page.as_mut_ptr().write_volatile(std::mem::zeroed()) }
    });
}

fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, ALIGN) {
        Ok(l) => l,
        Err(_) => handle_alloc_error(Layout::new::<u64>()),
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        if self.mapped > 0 {
            unmap(self.ptr.cast(), self.mapped);
            return;
        }
        // SAFETY: allocated by `zeroed` with this very layout.
        unsafe { dealloc(self.ptr.as_ptr().cast(), layout(self.len * size_of::<T>())) }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised elements that this buffer owns.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: `len` initialised elements that this buffer owns, borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Plain> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} x {} bytes)", self.len, size_of::<T>())
    }
}

impl<T: Plain> From<&[T]> for Buffer<T> {
    fn from(s: &[T]) -> Self {
        let mut b = Buffer::zeroed(s.len());
        b.copy_from_slice(s);
        b
    }
}

/// Maps zero pages on a 2 MB boundary and asks for big pages; the length is that of the mapping.
// Miri has no part of a mapping unmapped, and a sanitizer sees no ends of mappings: they take the way of the other
// systems.
#[cfg(all(target_os = "linux", not(any(miri, sanitized))))]
fn map_huge(bytes: usize) -> Option<(NonNull<u8>, usize)> {
    let len = bytes.next_multiple_of(HUGE);
    let whole = len + HUGE;
    // SAFETY: an anonymous private mapping at an address of the system's choice.
    let p = unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), whole, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if p == libc::MAP_FAILED {
        return None;
    }
    let skip = (p as usize).next_multiple_of(HUGE) - p as usize;
    // SAFETY: `skip < HUGE`, so start..start + len lies in the mapping; what is given back lies outside it.
    unsafe {
        let start = p.cast::<u8>().add(skip);
        if skip > 0 {
            libc::munmap(p, skip);
        }
        if HUGE > skip {
            libc::munmap(start.add(len).cast(), HUGE - skip);
        }
        // Refusal is no failure: the pages are then small.
        libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE);
        NonNull::new(start).map(|s| (s, len))
    }
}

#[cfg(not(all(target_os = "linux", not(any(miri, sanitized)))))]
fn map_huge(_bytes: usize) -> Option<(NonNull<u8>, usize)> {
    None
}

#[cfg(all(target_os = "linux", not(any(miri, sanitized))))]
fn unmap(p: NonNull<u8>, len: usize) {
    // SAFETY: made by `map_huge` with this length, and its only owner is being dropped.
    unsafe {
        libc::munmap(p.as_ptr().cast(), len);
    }
}

#[cfg(not(all(target_os = "linux", not(any(miri, sanitized)))))]
fn unmap(_p: NonNull<u8>, _len: usize) {}

/// Size of the regions that pieces are cut from, and from which a piece is large enough for a mapping of its own.
const REGION: usize = 64 * HUGE;
const LARGE: usize = 16 * HUGE;

/// Zeroed bytes of fixed length, aligned to 64: a mapping of their own if large, else cut from a region of big pages
/// where the pieces lie in the order in which they were made. No page is half empty, and a token, which reads the matrices in
/// that order too, has one long stream. A region goes when its last piece does.
#[derive(Debug)]
pub struct Piece {
    #[allow(dead_code)] // what `ptr` points into lives as long as this
    region: Arc<Buffer<u8>>,
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a piece is the only owner of its part of the region.
unsafe impl Send for Piece {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Piece {}

/// The region that is being cut up, and how much of it is gone.
static CUT: Mutex<(Weak<Buffer<u8>>, usize)> = Mutex::new((Weak::new(), 0));

impl Piece {
    /// `len` zeros, their pages present (see [`Buffer::present`]).
    pub fn new(pool: &crate::pool::Pool, len: usize) -> Piece {
        if len >= LARGE {
            return Piece::cut(Arc::new(Buffer::present(pool, len)), 0, len);
        }
        let mut piece = Piece::next(len);
        // A page belongs to the piece that it begins in.
        let begins = piece.as_ptr() as usize;
        let skip = begins.next_multiple_of(HUGE) - begins;
        if piece.region.mapped > 0 && skip < len {
            touch(pool, &mut piece[skip..]);
        }
        piece
    }

    /// `len` bytes of the region, or of a new one.
    fn next(len: usize) -> Piece {
        let mut cut = CUT.lock().unwrap_or_else(PoisonError::into_inner);
        let from = cut.1.next_multiple_of(ALIGN);
        if let Some(region) = cut.0.upgrade().filter(|r| from + len <= r.len) {
            cut.1 = from + len;
            return Piece::cut(region, from, len);
        }
        let region = Arc::new(Buffer::zeroed(REGION));
        *cut = (Arc::downgrade(&region), len);
        Piece::cut(region, 0, len)
    }

    /// The part of `region` from `from` on, which nobody else has.
    fn cut(region: Arc<Buffer<u8>>, from: usize, len: usize) -> Piece {
        // (The field: to look at the region as a slice would be to borrow what other pieces write.)
        assert!(from + len <= region.len);
        // SAFETY: within the region, as was just asserted.
        let ptr = unsafe { region.ptr.add(from) };
        Piece { region, ptr, len }
    }
}

impl Deref for Piece {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes of the region that this piece alone has.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed alone. The region itself is never looked into.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zero_aligned_and_writable_to_the_end() {
        let sizes = [0usize, 1, 63, 4096, HUGE / 4, HUGE / 4 + 1, 3 * HUGE];
        for len in sizes.into_iter().take(if cfg!(miri) { 4 } else { 7 }) {
            let mut b = Buffer::<f32>::zeroed(len);
            assert_eq!(b.len(), len);
            assert!(b.iter().all(|&x| x == 0.0));
            if len > 0 {
                assert_eq!(b.as_ptr() as usize % ALIGN, 0);
                b[len - 1] = 1.0;
                assert_eq!(b[len - 1], 1.0);
            }
        }
    }

    #[test]
    fn small_pieces_follow_one_another_and_none_overlap() {
        let pool = crate::pool::Pool::new(2);
        let lens = [1usize, 64, 65, HUGE - 1, 3 * HUGE, 3, 0, LARGE];
        let mut pieces: Vec<Piece> =
            (0..16).map(|i| Piece::new(&pool, lens[i % if cfg!(miri) { 3 } else { 8 }])).collect();
        for (i, piece) in pieces.iter_mut().enumerate() {
            assert!(
                piece.iter().all(|&b| b == 0)
                    && (piece.is_empty() || (piece.as_ptr() as usize).is_multiple_of(ALIGN))
            );
            piece.fill(i as u8 + 1);
        }
        drop(pieces.drain(..7));
        for (i, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|&b| b == i as u8 + 8));
        }
        let others = Piece::new(&pool, 100);
        assert!(others.iter().all(|&b| b == 0), "what was given back is not cut again");
    }
}
