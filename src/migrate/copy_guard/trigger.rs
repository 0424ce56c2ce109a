//! What the server calls for a guarded table.
#![allow(unsafe_code)]

use crate::error::Error;
use crate::pg::trigger::Fired;
use pgrx::{pg_guard, pg_sys};

/// `_repl_guard_copy()`: skips the row where it is not to be written.
#[unsafe(no_mangle)]
#[pg_guard]
unsafe extern "C-unwind" fn repl_guard_copy(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called by the server's trigger manager, or, where it is not, refused.
    let Some(fired) = (unsafe { Fired::from_call(call) }) else {
        Error::NotFiredAsBeforeTrigger.raise();
    };
    match super::lets_pass(fired.table, fired.is_row) {
        Ok(true) => pg_sys::Datum::from(fired.tuple),
        Ok(false) => pg_sys::Datum::null(),
        Err(error) => error.raise(),
    }
}

crate::pg::version_1!(pg_finfo_repl_guard_copy);
