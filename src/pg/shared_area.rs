//! Memory that all processes of the server share, of a size that is known only when the server starts, and for contents
//! that no lock protects: for what runs where no lock can be taken.

use pgrx::{PgSharedMemoryInitialization, pg_sys};
use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A part of shared memory. It is zeroed when the server starts, and again after a crash.
pub(super) struct SharedArea {
    name: &'static CStr,
    size: fn() -> usize,
    start: AtomicPtr<u8>,
}

impl SharedArea {
    pub(super) const fn new(name: &'static CStr, size: fn() -> usize) -> Self {
        Self {
            name,
            size,
            start: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// As the server gives it, which aligns it to a cache line; null unless the library is preloaded.
    pub(super) fn start(&self) -> *mut u8 {
        self.start.load(Ordering::Relaxed)
    }
}

impl PgSharedMemoryInitialization for SharedArea {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: called when shared memory is being asked for.
        unsafe { pg_sys::RequestAddinShmemSpace((self.size)()) };
    }

    unsafe fn on_shmem_startup(&'static self, (): ()) {
        let size = (self.size)();
        let mut found = false;
        // SAFETY: called when shared memory is being handed out, by the postmaster before it has any child: nobody else is
        // there to lock out. (Where children start anew instead of being forked, the library is not supported.)
        unsafe {
            let start = pg_sys::ShmemInitStruct(self.name.as_ptr(), size, &raw mut found);
            std::ptr::write_bytes(start.cast::<u8>(), 0, size);
            self.start.store(start.cast(), Ordering::Relaxed);
        }
    }
}

/// The text of a C string, without its end.
///
/// # Safety
/// `text` is null or points to a string that ends with a zero byte and stays for `'a`.
pub(super) unsafe fn bytes<'a>(text: *const std::ffi::c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// An array of the server's that holds a string: up to its end.
pub(super) fn until_end(array: &[std::ffi::c_char]) -> &[u8] {
    // SAFETY: i8 and u8 are alike in size and alignment.
    let array = unsafe { std::slice::from_raw_parts(array.as_ptr().cast::<u8>(), array.len()) };
    let end = array.iter().position(|byte| *byte == 0);
    &array[..end.unwrap_or(array.len())]
}
