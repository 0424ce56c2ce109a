//! Work whose failure does not end the transaction.

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// Runs `work` in a subtransaction of its own. An error rolls it back and is returned, unless `survivable` says
/// no: then it goes on to the caller as if there were no subtransaction. As PL/pgSQL's exception block does
/// (`exec_stmt_block` of `plpgsql/src/pl_exec.c`).
pub(crate) fn run<R>(
    survivable: impl Fn(&ErrorReportWithLevel) -> bool,
    work: impl FnOnce() -> R,
) -> Result<R, ErrorReportWithLevel> {
    // SAFETY: memory context and resource owner are those of before on every way out, which is what
    // ReleaseCurrentSubTransaction and RollbackAndReleaseCurrentSubTransaction leave to their callers.
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = before.0;
        before
    };
    let outcome = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(Err)
        .catch_rust_panic(Err)
        .execute();
    // SAFETY: the subtransaction begun above is the current one, for work leaves none of its own open.
    unsafe {
        match &outcome {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
    }
    match outcome {
        Ok(result) => Ok(result),
        Err(CaughtError::PostgresError(report) | CaughtError::ErrorReport(report))
            if survivable(&report) =>
        {
            Err(report)
        }
        Err(other) => other.rethrow(),
    }
}
