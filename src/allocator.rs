//! The allocator: mimalloc, for Rust and C++ alike, and for what is large the kernel.
//!
//! A vector that grows is moved, and an epoch waits while one of a gigabyte is copied. The kernel moves pages without copying them.
//!
//! mimalloc is built not to ask for huge pages: where memory is fragmented the kernel takes longer to find them than the whole work
//! does, and half of what it finds stays empty.

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::ptr::null_mut;

use libmimalloc_sys as mimalloc;

/// Allocates for Rust, what is large with mappings of its own.
pub struct Allocator;

/// What takes at least so many bytes is large. Less is copied in a few milliseconds.
pub const LARGE: usize = 16 << 20;

/// What every mapping is aligned to, at least.
const PAGE: usize = 4096;

/// What mimalloc aligns everything to that takes so much or more, without being asked.
const NATURAL: usize = 16;

fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= PAGE
}

fn is_natural(bytes: usize, align: usize) -> bool {
    align <= NATURAL && align <= bytes
}

/// Memory of zeros from the kernel; null if there is none.
fn map(bytes: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping touches no other memory.
    let memory = unsafe { libc::mmap(null_mut(), bytes, protection, flags, -1, 0) };
    or_null(memory)
}

/// Memory from mimalloc; null if there is none.
///
/// # Safety
///
/// As for [`GlobalAlloc::alloc`].
unsafe fn small(layout: Layout) -> *mut u8 {
    match is_natural(layout.size(), layout.align()) {
        true => unsafe { mimalloc::mi_malloc(layout.size()).cast() },
        false => unsafe { mimalloc::mi_malloc_aligned(layout.size(), layout.align()).cast() },
    }
}

fn or_null(memory: *mut libc::c_void) -> *mut u8 {
    if memory == libc::MAP_FAILED { null_mut() } else { memory.cast() }
}

// SAFETY: the size and alignment of a layout decide alone who has its memory, both when it is allocated and when it is freed; each of
// the two keeps the promises of an allocator.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_large(layout) {
            true => map(layout.size()),
            false => unsafe { small(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_large(layout) {
            true => map(layout.size()),
            false => unsafe { mimalloc::mi_zalloc_aligned(layout.size(), layout.align()).cast() },
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match is_large(layout) {
            true => {
                // It fails only where a mapping is cut in two that are too many; the memory is kept then.
                let _ = unsafe { libc::munmap(memory.cast(), layout.size()) };
            }
            false => unsafe { mimalloc::mi_free(memory.cast()) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: whoever calls has made sure that the new size is a valid one.
        let new = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (is_large(layout), is_large(new)) {
            (false, false) if is_natural(bytes, layout.align()) => unsafe {
                mimalloc::mi_realloc(memory.cast(), bytes).cast()
            },
            (false, false) => unsafe { mimalloc::mi_realloc_aligned(memory.cast(), bytes, layout.align()).cast() },
            (true, true) => or_null(unsafe { libc::mremap(memory.cast(), layout.size(), bytes, libc::MREMAP_MAYMOVE) }),
            _ => unsafe {
                let to = self.alloc(new);
                if !to.is_null() {
                    std::ptr::copy_nonoverlapping(memory, to, layout.size().min(bytes));
                    self.dealloc(memory, layout);
                }
                to
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_stays_while_it_grows_and_shrinks() {
        let mut size = 100;
        let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
        // SAFETY: what is written and read lies within what is allocated, and is freed with the layout it has.
        unsafe {
            let mut memory = Allocator.alloc(layout(size));
            (0..size).for_each(|at| memory.add(at).write(at as u8));
            for next in [LARGE - 1, LARGE, 5 * LARGE + 3, LARGE + 1, 3 * LARGE, 4096, 2 * LARGE, 100] {
                memory = Allocator.realloc(memory, layout(size), next);
                size = next;
                assert!((0..100).all(|at| memory.add(at).read() == at as u8), "{next}");
                memory.add(size - 1).write((size - 1) as u8);
            }
            Allocator.dealloc(memory, layout(size));
            let zeros = Allocator.alloc_zeroed(layout(LARGE));
            assert!((0..LARGE).step_by(999).all(|at| zeros.add(at).read() == 0));
            Allocator.dealloc(zeros, layout(LARGE));
            for (size, align) in [(8, 8), (16, 16), (24, 16), (40, 8), (8, 64), (1, 1), (100_000, 16)] {
                let some = Layout::from_size_align(size, align).expect("a layout");
                let all = (0..100).map(|_| Allocator.alloc(some)).collect::<Vec<_>>();
                assert!(all.iter().all(|memory| memory.addr() % align == 0), "{size} bytes by {align}");
                all.into_iter().for_each(|memory| Allocator.dealloc(memory, some));
            }
            let aligned = Layout::from_size_align(LARGE, 4 * PAGE).expect("a layout");
            let memory = Allocator.alloc(aligned);
            assert_eq!(memory.addr() % (4 * PAGE), 0);
            Allocator.dealloc(memory, aligned);
        }
    }
}
