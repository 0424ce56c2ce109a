//! Locks of the server's lock manager, beyond those on tables that are opened.

use pgrx::pg_sys;

/// An exclusive lock on an object of ours that no transaction ends: whoever holds it is alive, for the server releases
/// it with the process. Like an advisory lock of a session in that (`USER_LOCKMETHOD`): a session's lock of the other
/// kind goes with the next transaction that fails, and stays behind when its process is ended outside of one.
pub(crate) struct SessionLock(pg_sys::LOCKTAG);

impl SessionLock {
    /// `None` while another session has it. `class` is the OID of a catalog or of a table of ours, `object` and `part`
    /// number what is in it.
    pub(crate) fn try_acquire(class: pg_sys::Oid, object: u32, part: u16) -> Option<Self> {
        let tag = object_tag(pg_sys::USER_LOCKMETHOD, database(), class, object, part);
        // SAFETY: a complete tag; without waiting.
        let outcome = unsafe { pg_sys::LockAcquire(&raw const tag, EXCLUSIVE, true, true) };
        match outcome {
            pg_sys::LockAcquireResult::LOCKACQUIRE_OK => Some(Self(tag)),
            pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => None,
            // This session has it already: not a second time.
            _ => {
                // SAFETY: takes back what was just acquired once more.
                unsafe { pg_sys::LockRelease(&raw const tag, EXCLUSIVE, true) };
                None
            }
        }
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // SAFETY: acquired in try_acquire, and released once.
        unsafe { pg_sys::LockRelease(&raw const self.0, EXCLUSIVE, true) };
    }
}

/// Waits for an exclusive lock on an object of ours and holds it until the transaction ends.
pub(crate) fn hold_until_transaction_ends(class: pg_sys::Oid, object: u32, part: u16) {
    let tag = object_tag(pg_sys::DEFAULT_LOCKMETHOD, database(), class, object, part);
    // SAFETY: a complete tag, inside a transaction.
    unsafe { pg_sys::LockAcquire(&raw const tag, EXCLUSIVE, false, false) };
}

/// Nobody drops, renames or copies the database at this moment. Those commands lock the database and then wait for its
/// sessions to go (`CountOtherDBBackends` of `storage/ipc/procarray.c`), so what may go has to ask.
pub(crate) fn database_is_open(database: pg_sys::Oid) -> bool {
    let tag = object_tag(
        pg_sys::DEFAULT_LOCKMETHOD,
        pg_sys::InvalidOid,
        pg_sys::DatabaseRelationId,
        database.to_u32(),
        0,
    );
    // SAFETY: the lock that every session takes while it connects (InitPostgres), without waiting; given back at once.
    unsafe {
        let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let outcome = pg_sys::LockAcquire(&raw const tag, mode, true, true);
        if outcome == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return false;
        }
        pg_sys::LockRelease(&raw const tag, mode, true);
        true
    }
}

/// Some session waits for this transaction to end, because of a row that it has changed.
pub(crate) fn is_waited_for() -> bool {
    // SAFETY: a transaction that has an id holds an exclusive lock on it, which is what LockHasWaiters asks for.
    unsafe {
        let transaction = pg_sys::GetTopTransactionIdIfAny();
        if transaction == pg_sys::InvalidTransactionId {
            return false;
        }
        // SET_LOCKTAG_TRANSACTION of storage/lock.h
        let tag = pg_sys::LOCKTAG {
            locktag_field1: transaction.into_inner(),
            locktag_field2: 0,
            locktag_field3: 0,
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_TRANSACTION as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        pg_sys::LockHasWaiters(&raw const tag, EXCLUSIVE, false)
    }
}

const EXCLUSIVE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

/// SET_LOCKTAG_OBJECT of `storage/lock.h`
fn object_tag(
    method: u32,
    database: pg_sys::Oid,
    class: pg_sys::Oid,
    object: u32,
    part: u16,
) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: database.to_u32(),
        locktag_field2: class.to_u32(),
        locktag_field3: object,
        locktag_field4: part,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: method as u8,
    }
}

fn database() -> pg_sys::Oid {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::MyDatabaseId }
}
