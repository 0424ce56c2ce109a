//! What differs between the server's major versions.

use pgrx::pg_sys;
use std::ffi::{CStr, c_char, c_int};

/// `SignalHandler` of `libpq/pqsignal.h`
pub(crate) type SignalHandler = unsafe extern "C-unwind" fn(c_int);

/// Installs a signal handler of this process.
pub(crate) fn handle_signal(signal: c_int, handler: SignalHandler) {
    // SAFETY: the handler is a function of the server, which is written to be one.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal, Some(handler));
    }
}

/// What `table_tuple_update` says of the indexes that need an entry for the new version of a row: a boolean up to 15,
/// an enum since.
#[cfg(any(feature = "pg14", feature = "pg15"))]
pub(crate) type IndexesToUpdate = bool;
#[cfg(not(any(feature = "pg14", feature = "pg15")))]
pub(crate) type IndexesToUpdate = pg_sys::TU_UpdateIndexes::Type;

unsafe extern "C-unwind" {
    /// `executor/execIndexing.c`
    fn ExecInsertIndexTuples(
        result: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
        state: *mut pg_sys::EState,
        update: bool,
        no_duplicate_error: bool,
        speculative_conflict: *mut bool,
        arbiters: *mut pg_sys::List,
        #[cfg(not(any(feature = "pg14", feature = "pg15")))] only_summarizing: bool,
    ) -> *mut pg_sys::List;
}

/// Makes the index entries for the new version of a row that `table_tuple_update` has written.
///
/// # Safety
/// The indexes of `result` are open, and no caller up to the server's handler owns anything with a destructor.
pub(crate) unsafe fn insert_index_entries(
    result: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
    which: IndexesToUpdate,
) {
    let (none, nowhere) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the caller's promise; without arbiters the flag of a speculative insertion is not looked at.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        if which {
            ExecInsertIndexTuples(result, slot, state, true, false, nowhere, none);
        }
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        if which != pg_sys::TU_UpdateIndexes::TU_None {
            let summarizing = which == pg_sys::TU_UpdateIndexes::TU_Summarizing;
            ExecInsertIndexTuples(result, slot, state, true, false, nowhere, none, summarizing);
        }
    }
}

/// What came to the catalogs of subscriptions later, by the name that a query has for it, and what it is before: expressions
/// over `s`, a row of pg_subscription, and `w`, one of pg_stat_get_subscription.
pub(crate) const SUBSCRIPTION_COLUMNS: [(&str, &str); 5] = [
    (
        "{disable_on_error}",
        since(15, "s.subdisableonerr", "false"),
    ),
    ("{two_phase_state}", since(15, "s.subtwophasestate", "'d'")),
    (
        "{errors}",
        since(
            15,
            "pg_catalog.pg_stat_get_subscription_stats(s.oid)",
            "(select null::bigint as apply_error_count, null::bigint as sync_error_count)",
        ),
    ),
    (
        "{password_required}",
        since(16, "s.subpasswordrequired", "false"),
    ),
    ("{leader_pid}", since(16, "w.leader_pid", "null")),
];

const fn since(major: u32, expression: &'static str, before: &'static str) -> &'static str {
    if pg_sys::PG_VERSION_NUM / 10_000 >= major {
        expression
    } else {
        before
    }
}

/// Makes a set of things to wait for, which belongs to nobody but the caller: in a memory context up to 16, with a
/// resource owner since.
pub(crate) fn create_wait_event_set(room: c_int) -> *mut pg_sys::WaitEventSet {
    // SAFETY: the caller frees it.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
        return pg_sys::CreateWaitEventSet(pg_sys::CurrentMemoryContext, room);
        #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
        pg_sys::CreateWaitEventSet(std::ptr::null_mut(), room)
    }
}

/// Refuses settings of this prefix that do not exist; 14 cannot.
pub(crate) fn reserve_setting_prefix(prefix: &CStr) {
    #[cfg(feature = "pg14")]
    let _ = prefix;
    // SAFETY: a string constant.
    #[cfg(not(feature = "pg14"))]
    unsafe {
        pg_sys::MarkGUCPrefixReserved(prefix.as_ptr());
    }
}

/// Of the server that this was built for and that runs, as it says it itself: "15.20".
pub(crate) fn server_version() -> String {
    // SAFETY: a setting that every server has; the text is copied.
    unsafe {
        let text = pg_sys::GetConfigOption(c"server_version".as_ptr(), false, false);
        let text = CStr::from_ptr(text).to_string_lossy();
        text.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

/// The text of a string in a parse tree: a node of its own since 15.
///
/// # Safety
/// A node of the server's.
pub(crate) unsafe fn string_of(node: *mut pg_sys::Node) -> Option<String> {
    // SAFETY: looked at for what it says it is.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_String {
            return None;
        }
        #[cfg(feature = "pg14")]
        let text = (*node.cast::<pg_sys::Value>()).val.str_;
        #[cfg(not(feature = "pg14"))]
        let text = (*node.cast::<pg_sys::String>()).sval;
        Some(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

unsafe extern "C-unwind" {
    /// `catalog/pg_subscription.c`
    fn UpdateSubscriptionRelState(
        subscription: pg_sys::Oid,
        relation: pg_sys::Oid,
        state: c_char,
        lsn: pg_sys::XLogRecPtr,
        #[cfg(feature = "pg18")] already_locked: bool,
    );
}

/// Settings that came after 14 and must not reach a worker, either; an older server refuses them.
#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
pub(crate) const LATER_SETTINGS: &[(&CStr, &CStr)] = &[];
#[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
pub(crate) const LATER_SETTINGS: &[(&CStr, &CStr)] = &[(c"transaction_timeout", c"0")];

/// Has the table of a subscription copied as one that is new to it. Raises the server's error where the subscription does not
/// have it.
pub(crate) fn set_table_to_be_copied(subscription: pg_sys::Oid, relation: pg_sys::Oid) {
    const INITIALIZE: c_char = b'i' as c_char;
    // SAFETY: a function of the server that locks what it changes; behind the guard, an error of it is one of Rust's.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            UpdateSubscriptionRelState(
                subscription,
                relation,
                INITIALIZE,
                0,
                #[cfg(feature = "pg18")]
                false,
            );
        });
    }
}
