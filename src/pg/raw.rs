//! Server functions called without pgrx's guard, for the row trigger and the backfill.
//!
//! pgrx wraps every function that it binds in a `sigsetjmp` and turns an error into a Rust panic. That costs
//! time on every call, and the error that is raised again has lost its CONTEXT and any SQLSTATE that is not in
//! the server's own list. Called through here, an error travels by the server's own `longjmp` to the server's
//! own handler. The price: no Rust frame between the call and that handler may own anything with a destructor.

use pgrx::pg_sys;
use std::ffi::{c_char, c_int};

unsafe extern "C-unwind" {
    /// `access/common/heaptuple.c`
    pub(crate) fn heap_form_tuple(
        descriptor: pg_sys::TupleDesc,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
    ) -> pg_sys::HeapTuple;

    /// `executor/execTuples.c`; use through [`slot_getsomeattrs`].
    fn slot_getsomeattrs_int(slot: *mut pg_sys::TupleTableSlot, natts: c_int);

    /// `utils/adt/datum.c`: the same bytes once detoasted, which is stricter than the type's `=`.
    pub(crate) fn datum_image_eq(
        left: pg_sys::Datum,
        right: pg_sys::Datum,
        by_value: bool,
        length: c_int,
    ) -> bool;

    /// `utils/adt/datum.c`
    pub(crate) fn datumCopy(value: pg_sys::Datum, by_value: bool, length: c_int) -> pg_sys::Datum;

    /// `utils/mmgr/mcxt.c`
    pub(crate) fn MemoryContextReset(context: pg_sys::MemoryContext);

    /// `executor/execTuples.c`
    pub(crate) fn ExecStoreVirtualTuple(
        slot: *mut pg_sys::TupleTableSlot,
    ) -> *mut pg_sys::TupleTableSlot;

    /// `executor/execMain.c`: NOT NULL and CHECK.
    pub(crate) fn ExecConstraints(
        result: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
        state: *mut pg_sys::EState,
    );

    /// `tcop/postgres.c`; what `CHECK_FOR_INTERRUPTS` calls.
    pub(crate) fn ProcessInterrupts();

    /// `tcop/postgres.c`; the handler of SIGTERM: the process ends where it next looks at its interrupts.
    pub(crate) fn die(signal: c_int);

    /// `postmaster/interrupt.c`; the handler of SIGHUP.
    pub(crate) fn SignalHandlerForConfigReload(signal: c_int);

    /// `executor/tstoreReceiver.c`
    pub(crate) fn CreateTuplestoreDestReceiver() -> *mut pg_sys::DestReceiver;

    /// `executor/tstoreReceiver.c`
    pub(crate) fn SetTuplestoreDestReceiverParams(
        receiver: *mut pg_sys::DestReceiver,
        store: *mut pg_sys::Tuplestorestate,
        context: pg_sys::MemoryContext,
        detoast: bool,
        target: pg_sys::TupleDesc,
        map_failure_message: *const c_char,
    );

    /// `utils/init/miscinit.c`
    pub(crate) fn GetUserId() -> pg_sys::Oid;

    /// `utils/init/miscinit.c`; use through [`become_restricted`].
    fn GetUserIdAndSecContext(role: *mut pg_sys::Oid, context: *mut c_int);
    /// `utils/init/miscinit.c`; use through [`become_restricted`].
    fn SetUserIdAndSecContext(role: pg_sys::Oid, context: c_int);

    /// `utils/misc/guc.c`; use through [`become_restricted`].
    fn NewGUCNestLevel() -> c_int;
    /// `utils/misc/guc.c`; use through [`become_restricted`].
    fn AtEOXact_GUC(is_commit: bool, level: c_int);

    /// `access/transam/xact.c`
    pub(crate) fn GetCurrentTransactionNestLevel() -> c_int;

    /// `access/transam/xact.c`
    pub(crate) fn GetCurrentCommandId(used: bool) -> pg_sys::CommandId;

    /// `utils/error/elog.c`; sets the SQLSTATE of the error that is being raised.
    pub(crate) fn errcode(sqlstate: c_int) -> c_int;
    /// `utils/error/elog.c`; only inside an error context callback.
    pub(crate) fn set_errcontext_domain(domain: *const c_char) -> c_int;
    /// `utils/error/elog.c`; only inside an error context callback.
    pub(crate) fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

/// `slot_getsomeattrs` of `executor/tuptable.h`, which is inline there.
///
/// # Safety
/// `slot` holds a row of at least so many attributes, and no caller up to the server's handler owns anything with a
/// destructor.
#[inline]
pub(crate) unsafe fn slot_getsomeattrs(slot: *mut pg_sys::TupleTableSlot, attributes: c_int) {
    // SAFETY: slot_getsomeattrs_int is what the inline original calls.
    unsafe {
        if c_int::from((*slot).tts_nvalid) < attributes {
            slot_getsomeattrs_int(slot, attributes);
        }
    }
}

/// `slot_getallattrs` of `executor/tuptable.h`, which is inline there.
///
/// # Safety
/// As for `slot_getsomeattrs`.
#[inline]
pub(crate) unsafe fn slot_getallattrs(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: a slot that holds a row has a descriptor.
    unsafe { slot_getsomeattrs(slot, (*(*slot).tts_tupleDescriptor).natts) }
}

/// Who called, and the settings of his session.
pub(crate) struct Caller {
    role: pg_sys::Oid,
    context: c_int,
    settings: c_int,
}

/// Another role, in a security-restricted operation, as the server runs the functions of an index for the table's owner
/// (`DefineIndex` of `commands/indexcmds.c`): its code can neither become the caller nor leave anything behind in the session.
///
/// # Safety
/// [`become_again`] follows, or an error that ends the (sub)transaction, whose abort puts all of it back.
#[inline]
pub(crate) unsafe fn become_restricted(role: pg_sys::Oid) -> Caller {
    let restricted =
        (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as c_int;
    let mut caller = Caller {
        role: pg_sys::InvalidOid,
        context: 0,
        settings: 0,
    };
    // SAFETY: they read and write variables of this backend.
    unsafe {
        GetUserIdAndSecContext(&raw mut caller.role, &raw mut caller.context);
        SetUserIdAndSecContext(role, caller.context | restricted);
        caller.settings = NewGUCNestLevel();
    }
    caller
}

/// Settings that have been changed meanwhile are as before.
///
/// # Safety
/// Ends the last [`become_restricted`] that has not ended.
#[inline]
pub(crate) unsafe fn become_again(caller: Caller) {
    // SAFETY: the level that was opened then. A setting that is put back was good before.
    unsafe {
        AtEOXact_GUC(false, caller.settings);
        SetUserIdAndSecContext(caller.role, caller.context);
    }
}
