//! Word from the server that something cached may no longer hold, and that a transaction has ended.

use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// What a cache or a counter that lives as long as the backend has to hear of. No handler may raise, but
/// `before_commit`.
pub(crate) trait SessionObserver {
    /// The definition of a relation may have changed; `None`: of any.
    fn relation_changed(&self, relation: Option<pg_sys::Oid>);
    /// A constraint or a type has changed, perhaps of a domain: the server does not tell of which.
    fn domain_changed(&self);
    /// A function was created, replaced, altered or dropped.
    fn function_changed(&self);
    /// The transaction is about to commit or to be prepared; statements can still run.
    fn before_commit(&self);
    /// The transaction is over, whichever way.
    fn transaction_ended(&self);
    /// A subtransaction became part of its parent.
    fn subtransaction_committed(
        &self,
        id: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    );
    /// A subtransaction was rolled back, whose nesting level was `level`.
    fn subtransaction_aborted(&self, id: pg_sys::SubTransactionId, level: i32);
}

thread_local! {
    static OBSERVER: Cell<Option<&'static dyn SessionObserver>> = const { Cell::new(None) };
}

/// Registers the one observer of this backend; later calls do nothing.
pub(crate) fn observe(observer: &'static dyn SessionObserver) {
    if OBSERVER.replace(Some(observer)).is_some() {
        return;
    }
    // SAFETY: the callbacks are functions of this library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relcache_changed), pg_sys::Datum::null());
        for cache in [
            pg_sys::SysCacheIdentifier::CONSTROID,
            pg_sys::SysCacheIdentifier::TYPEOID,
        ] {
            let cache = cache as i32;
            pg_sys::CacheRegisterSyscacheCallback(
                cache,
                Some(domain_changed),
                pg_sys::Datum::null(),
            );
        }
        let functions = pg_sys::SysCacheIdentifier::PROCOID as i32;
        pg_sys::CacheRegisterSyscacheCallback(
            functions,
            Some(function_changed),
            pg_sys::Datum::null(),
        );
        pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
    }
}

/// The number that tells this subtransaction from the others of its transaction.
pub(crate) fn current_subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: called inside a transaction.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Has `act` done once when the transaction that is under way commits, and not at all when it is rolled back. `act` must
/// not raise: the transaction is committed by then.
pub(crate) fn at_commit(act: impl FnOnce() + UnwindSafe + RefUnwindSafe + 'static) {
    pgrx::register_xact_callback(pgrx::PgXactCallbackEvent::Commit, act);
}

/// Likewise when it is rolled back.
pub(crate) fn at_abort(act: impl FnOnce() + UnwindSafe + RefUnwindSafe + 'static) {
    pgrx::register_xact_callback(pgrx::PgXactCallbackEvent::Abort, act);
}

fn tell(news: impl FnOnce(&dyn SessionObserver)) {
    if let Some(observer) = OBSERVER.get() {
        news(observer);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relcache_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    tell(|observer| {
        observer.relation_changed((relation != pg_sys::InvalidOid).then_some(relation));
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn domain_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    tell(|observer| observer.domain_changed());
}

#[pg_guard]
unsafe extern "C-unwind" fn function_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    tell(|observer| observer.function_changed());
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
        XACT_EVENT_PREPARE,
    };
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => tell(|observer| observer.before_commit()),
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => {
            tell(|observer| observer.transaction_ended());
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB};
    match event {
        SUBXACT_EVENT_COMMIT_SUB => {
            tell(|observer| observer.subtransaction_committed(id, parent));
        }
        SUBXACT_EVENT_ABORT_SUB => {
            // SAFETY: the subtransaction that ends is still the current one (AbortSubTransaction of xact.c).
            let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
            tell(|observer| observer.subtransaction_aborted(id, level));
        }
        _ => {}
    }
}
