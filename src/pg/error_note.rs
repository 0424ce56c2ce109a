//! What pgrx loses of an error that an expression has raised.
//!
//! pgrx turns a server's error into a panic and raises it anew: without its CONTEXT, and with XX000 for a SQLSTATE
//! that is not in the server's own list. The row trigger goes round that (`pg::raw`). Where an expression is
//! evaluated under a guard, both are noted here when the error is first raised, and put back when it is raised
//! anew.

use super::{raw, transaction};
use pgrx::{PgTryBuilder, pg_sys};
use std::cell::RefCell;
use std::ffi::{CString, c_int, c_void};
use std::panic::AssertUnwindSafe;

struct Note {
    sqlstate: c_int,
    column: String,
    context: CString,
}

thread_local! {
    static NOTED: RefCell<Option<Note>> = const { RefCell::new(None) };
    static TO_RESTORE: RefCell<Option<Note>> = const { RefCell::new(None) };
}

static mut RESTORE: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: std::ptr::null_mut(),
    callback: Some(restore),
    arg: std::ptr::null_mut(),
};

/// Notes the error that is being raised.
///
/// # Safety
/// Called by an error context callback.
pub(super) unsafe fn note(column: &str, context: CString) {
    // SAFETY: inside a callback there is an error to ask.
    let sqlstate = unsafe { pg_sys::geterrcode() };
    let column = column.to_owned();
    NOTED.replace(Some(Note {
        sqlstate,
        column,
        context,
    }));
}

/// Forgets what was noted before.
pub(crate) fn start() {
    NOTED.take();
}

/// SQLSTATE and derived column of the error that was noted last, which is forgotten.
pub(super) fn take() -> Option<(String, String)> {
    let note = NOTED.take()?;
    Some((transaction::sqlstate(note.sqlstate), note.column))
}

/// Gives the error that is raised next the SQLSTATE and the CONTEXT of the one that was noted, if there is one.
pub(crate) fn restore_on_next_error() {
    let Some(note) = NOTED.take() else {
        return;
    };
    TO_RESTORE.replace(Some(note));
    // SAFETY: the callback is static; whoever catches the error puts the stack back, and it is not pushed twice.
    unsafe {
        let restore = &raw mut RESTORE;
        if pg_sys::error_context_stack != restore {
            (*restore).previous = pg_sys::error_context_stack;
            pg_sys::error_context_stack = restore;
        }
    }
}

/// Runs `work`; an error of an expression leaves it with its own SQLSTATE and CONTEXT.
pub(crate) fn keep<R>(work: impl FnOnce() -> R) -> R {
    start();
    PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_others(|error| {
            restore_on_next_error();
            error.rethrow()
        })
        .execute()
}

unsafe extern "C-unwind" fn restore(_argument: *mut c_void) {
    if let Some(note) = TO_RESTORE.take() {
        // SAFETY: called by errfinish for the error that is being raised; errcontext_msg copies the text.
        unsafe {
            raw::errcode(note.sqlstate);
            raw::set_errcontext_domain(std::ptr::null());
            raw::errcontext_msg(c"%s".as_ptr(), note.context.as_ptr());
        }
    }
}
