//! What a piece of work runs under: settings and role, put back when it ends.

use pgrx::{PgTryBuilder, pg_sys};
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

/// A search_path in which nobody but a superuser can plant anything.
pub(crate) const SAFE_SEARCH_PATH: (&CStr, &CStr) = (c"search_path", c"pg_catalog, pg_temp");
/// Row security that would hide rows is an error.
pub(crate) const ALL_ROWS: (&CStr, &CStr) = (c"row_security", c"off");

/// Triggers fire as they do in a user's session; an apply worker's, or one that a user made like it, has `replica`.
pub(crate) const ORDINARY_TRIGGERS: (&CStr, &CStr) = (c"session_replication_role", c"origin");

pub(crate) fn with_safe_search_path<R>(work: impl FnOnce() -> R) -> R {
    with_settings(&[SAFE_SEARCH_PATH], work)
}

/// Runs `work` with these settings, as a function with SET clauses would. The server puts them back, after an
/// error too (`AtEOXact_GUC` at the abort of the (sub)transaction).
pub(crate) fn with_settings<R>(settings: &[(&CStr, &CStr)], work: impl FnOnce() -> R) -> R {
    // SAFETY: a nest level is opened and closed in pairs; on an error the abort closes it. The context
    // PGC_SUSET lets this extension set what only a superuser may, for the time of `work`.
    let level = unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        level
    };
    let result = work();
    // SAFETY: the level opened above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    result
}

/// Runs `work` as another role, in a security-restricted operation, as the server runs the functions of an
/// index for the table's owner (`SetUserIdAndSecContext` in `commands/indexcmds.c`): code of the role can
/// neither become the caller nor leave anything behind in the session, be it a setting.
pub(crate) fn as_role<R>(role: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    let mut caller = pg_sys::InvalidOid;
    let mut context = 0;
    let restricted =
        (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    // SAFETY: role and context are put back below whether `work` returns or raises; the level of settings is closed
    // below, or by the abort that follows an error.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | restricted);
        pg_sys::NewGUCNestLevel()
    };
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work();
        // SAFETY: the level opened above. What was set in it is undone.
        unsafe { pg_sys::AtEOXact_GUC(false, level) };
        result
    }))
    // SAFETY: the values that were in force before.
    .finally(|| unsafe { pg_sys::SetUserIdAndSecContext(caller, context) })
    .execute()
}

/// Triggers fire as they do for replicated rows.
#[inline]
pub(crate) fn fires_as_replica() -> bool {
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 }
}

/// Runs `work` with a snapshot, which a callback at the end of a transaction does not have.
pub(crate) fn with_snapshot<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: pushed and popped in pairs; after an error the abort of the subtransaction pops it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let result = work();
    // SAFETY: the snapshot pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// Somebody reads this session's messages: it is no background worker.
pub(crate) fn has_client() -> bool {
    // SAFETY: set for a backend that serves a connection, and only there.
    unsafe { !pg_sys::MyProcPort.is_null() }
}

/// The role whose rights count (`current_user`).
pub(crate) fn current_role() -> pg_sys::Oid {
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::GetUserId() }
}

/// Raises the server's error where the transaction cannot write: on a standby, or because it is READ ONLY.
pub(crate) fn refuse_read_only(what: &CStr) {
    // SAFETY: the name of a command, for the message.
    unsafe { pg_sys::PreventCommandIfReadOnly(what.as_ptr()) };
}

/// A standby: nothing can be written, and tables without WAL cannot be read.
pub(crate) fn is_in_recovery() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// The transaction sees what others commit while it runs, and meets no serialization failures.
pub(crate) fn is_read_committed() -> bool {
    // SAFETY: reads a setting of this backend.
    unsafe { pg_sys::XactIsoLevel <= pg_sys::XACT_READ_COMMITTED as i32 }
}

/// Whoever has called, outside of any function that runs with other rights, is a superuser.
pub(crate) fn is_called_by_superuser() -> bool {
    // SAFETY: reads a variable of this backend, and looks the role up.
    unsafe { pg_sys::superuser_arg(pg_sys::GetOuterUserId()) }
}
