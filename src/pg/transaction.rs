//! The one way in which a background worker runs anything.

use super::error_note;
use crate::error::Error;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// Why a transaction was rolled back.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Five characters.
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    /// The derived column whose expression raised the error.
    pub(crate) column: Option<String>,
    not_installed: bool,
}

/// Runs `work` in a transaction of its own with a snapshot. An error, whether returned or raised, rolls it back. What
/// `work` leaves in the server's memory is freed: the current memory context is a child of the caller's for so long.
/// (`BackgroundWorker::transaction` of pgrx commits when `work` returns an error.)
pub(crate) fn run<R>(work: impl FnOnce() -> Result<R, Error>) -> Result<R, Failure> {
    // SAFETY: outside of a transaction. Commit and abort leave TopMemoryContext as the current one, so the caller's is put
    // back; everything was allocated in the transaction's own contexts.
    let caller = unsafe {
        let caller = pg_sys::CurrentMemoryContext;
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        caller
    };
    error_note::start();
    let outcome = PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work().map_err(|error| Failure::from_error(&error))?;
        // SAFETY: the snapshot and the transaction begun above. The commit may raise: deferred constraints.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(result)
    }))
    .catch_others(|error| Err(Failure::from_caught(&error)))
    .catch_rust_panic(|error| Err(Failure::from_caught(&error)))
    .execute();
    // SAFETY: the abort of what is still open, after which nothing of the transaction is in use; statistics are sent
    // outside of transactions only.
    unsafe {
        if outcome.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::CurrentMemoryContext = caller;
        pg_sys::pgstat_report_stat(false);
    }
    outcome
}

impl Failure {
    /// The extension is gone.
    pub(crate) fn is_not_installed(&self) -> bool {
        self.not_installed
    }

    fn from_caught(error: &CaughtError) -> Self {
        match error {
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic {
                ereport: report, ..
            } => Self::from_level(report),
        }
    }

    fn from_level(report: &ErrorReportWithLevel) -> Self {
        let own = sqlstate(report.sql_error_code() as i32);
        // The note may be that of an earlier error, which a rule with on_error => 'null' has survived.
        let noted = error_note::take().filter(|(noted, _)| *noted == own || own == INTERNAL_ERROR);
        let (sqlstate, column) = match noted {
            Some((sqlstate, column)) => (sqlstate, Some(column)),
            None => (own, None),
        };
        Self {
            sqlstate,
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            column,
            not_installed: false,
        }
    }

    fn from_error(error: &Error) -> Self {
        Self {
            sqlstate: sqlstate(error.code() as i32),
            message: error.to_string(),
            detail: Some(error.detail_and_hint().0),
            column: None,
            not_installed: matches!(error, Error::NotInstalled),
        }
    }
}

/// What pgrx makes of a SQLSTATE that is not in the server's own list.
const INTERNAL_ERROR: &str = "XX000";

/// The five characters of a packed SQLSTATE (`unpack_sql_state` of `utils/error/elog.c`).
pub(crate) fn sqlstate(packed: i32) -> String {
    (0..5)
        .map(|place| char::from((((packed >> (6 * place)) & 0x3f) as u8) + b'0'))
        .collect()
}
