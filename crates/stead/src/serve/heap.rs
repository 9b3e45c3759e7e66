//! The C library's heap, kept small: the node works in bursts (a seal of many pages, a restore), and gives back after
//! each what it took.
#![allow(unsafe_code, reason = "mallopt(3)")]

/// Heaps that threads share, at most; by default each thread gets one of its own, and none gives much back.
const HEAPS_MAX: i32 = 2;
/// From so many bytes on, an allocation is a mapping of its own, given back when it is freed.
const MAPPED_FROM_BYTES: i32 = 128 << 10;
/// Free bytes at a heap's end that are kept, at most.
const KEPT_BYTES_MAX: i32 = 256 << 10;

/// Sets the bounds, before other threads start.
pub fn keep_small() {
    // SAFETY: mallopt changes numbers inside the allocator and touches no memory of ours.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
    }
}
