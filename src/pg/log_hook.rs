//! What this library hears of everything that the server logs.

use super::{crash_log, error_ring};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// Set once, in the postmaster.
    static NEXT: Cell<pg_sys::emit_log_hook_type> = const { Cell::new(None) };
}

/// Installs the hook; only while the library is being preloaded: every process inherits it.
pub(super) fn init() {
    // SAFETY: as every library does it that shares the hook with others.
    unsafe {
        NEXT.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(emit_log);
    }
}

/// `EmitErrorReport` of `utils/error/elog.c` calls it for what goes to the server log. Nothing in it may raise, panic,
/// allocate or wait: the server is in the middle of an error, perhaps out of memory, in any process. So it has no guard of
/// pgrx, and calls no function of the server but one that reads the clock.
unsafe extern "C-unwind" fn emit_log(error: *mut pg_sys::ErrorData) {
    // SAFETY: the server's error, which stays during the call; the next hook is called as the server would call it.
    unsafe {
        if let Some(error) = error.as_ref() {
            if pg_sys::IsUnderPostmaster {
                error_ring::capture(error);
            } else {
                crash_log::note(error);
            }
        }
        if let Some(next) = NEXT.get() {
            next(error);
        }
    }
}
