//! What this process keeps of catalogs, and whether they may have changed since it last looked: the server tells each
//! process when it begins a transaction.

use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;

thread_local! {
    static RELATIONS: Cell<Option<u64>> = const { Cell::new(None) };
    static SUBSCRIBED_TABLES: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Grows with each word that the definition of a relation may have changed. The first call begins to count.
pub(crate) fn relations() -> u64 {
    counted(&RELATIONS, || {
        // SAFETY: the callback is a function of this library, which is never unloaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null());
        }
    })
}

/// Likewise for `pg_subscription_rel`.
pub(crate) fn subscribed_tables() -> u64 {
    counted(&SUBSCRIBED_TABLES, || {
        let cache = pg_sys::SysCacheIdentifier::SUBSCRIPTIONRELMAP as i32;
        // SAFETY: as above.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(
                cache,
                Some(subscribed_table_changed),
                pg_sys::Datum::null(),
            );
        }
    })
}

/// Frees what this process keeps of relations and other objects. The server never does, however many have been looked at;
/// what is needed again is read again.
pub(crate) fn forget_definitions() {
    let (relations, tables) = (RELATIONS.get(), SUBSCRIBED_TABLES.get());
    // SAFETY: what the server does itself when it has missed what has changed, at any place where it takes a lock
    // (ReceiveSharedInvalidMessages of storage/ipc/sinval.c); inside a transaction.
    unsafe { pg_sys::InvalidateSystemCaches() };
    // It was no change.
    RELATIONS.set(relations);
    SUBSCRIBED_TABLES.set(tables);
}

fn counted(
    counter: &'static std::thread::LocalKey<Cell<Option<u64>>>,
    register: impl FnOnce(),
) -> u64 {
    counter.get().unwrap_or_else(|| {
        counter.set(Some(0));
        register();
        0
    })
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, _relation: pg_sys::Oid) {
    RELATIONS.set(RELATIONS.get().map(|count| count.wrapping_add(1)));
}

#[pg_guard]
unsafe extern "C-unwind" fn subscribed_table_changed(
    _argument: pg_sys::Datum,
    _cache: i32,
    _hash: u32,
) {
    let count = SUBSCRIBED_TABLES.get();
    SUBSCRIBED_TABLES.set(count.map(|count| count.wrapping_add(1)));
}
