//! An open relation.

use pgrx::{PgRelation, pg_sys};

pub(crate) struct Relation(PgRelation);

/// What a caller is about to do with a relation, and so the lock it takes.
#[derive(Clone, Copy)]
pub(crate) enum Lock {
    /// `AccessShareLock`, as a SELECT.
    Read,
    /// `RowExclusiveLock`, as an UPDATE.
    Update,
    /// `ShareRowExclusiveLock`, as CREATE TRIGGER: writers wait, readers do not.
    CreateTrigger,
    /// `AccessExclusiveLock`, as DROP TRIGGER and most of ALTER TABLE.
    Alter,
}

impl Lock {
    fn mode(self) -> pg_sys::LOCKMODE {
        let mode = match self {
            Self::Read => pg_sys::AccessShareLock,
            Self::Update => pg_sys::RowExclusiveLock,
            Self::CreateTrigger => pg_sys::ShareRowExclusiveLock,
            Self::Alter => pg_sys::AccessExclusiveLock,
        };
        mode as pg_sys::LOCKMODE
    }
}

/// Why a relation could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unavailable {
    Busy,
    Gone,
}

/// What `pg_attribute` says of a column.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_oid: pg_sys::Oid,
    pub(crate) modifier: i32,
    /// In bytes; negative where it varies.
    pub(crate) length: i16,
    pub(crate) by_value: bool,
}

impl Relation {
    /// Opens and locks a relation; the lock stays until the end of the transaction, as for the server's own
    /// commands. Raises the server's error if there is no such relation.
    pub(crate) fn open(oid: pg_sys::Oid, lock: Lock) -> Self {
        // SAFETY: relation_open checks the OID. from_pg_owned closes on drop with NoLock, which keeps the lock.
        Self(unsafe { PgRelation::from_pg_owned(pg_sys::relation_open(oid, lock.mode())) })
    }

    /// As `open`, but `Busy` where the lock is not to be had at once (somebody has one that conflicts, or waits for one),
    /// and `Gone` where there is no such relation.
    pub(crate) fn try_open(oid: pg_sys::Oid, lock: Lock) -> Result<Self, Unavailable> {
        // SAFETY: try_relation_open gives NULL for what does not exist; the lock is held already then.
        unsafe {
            if !pg_sys::ConditionalLockRelationOid(oid, lock.mode()) {
                return Err(Unavailable::Busy);
            }
            let relation = pg_sys::try_relation_open(oid, pg_sys::NoLock as pg_sys::LOCKMODE);
            if relation.is_null() {
                return Err(Unavailable::Gone);
            }
            Ok(Self(PgRelation::from_pg_owned(relation)))
        }
    }

    /// Locks a relation without keeping it open, which ALTER TABLE would take for a use of it
    /// (`CheckTableNotInUse`). False if it is gone by the time the lock is had.
    pub(crate) fn lock(oid: pg_sys::Oid, lock: Lock) -> bool {
        // SAFETY: try_relation_open gives NULL for what does not exist; closing with NoLock keeps the lock.
        unsafe {
            let relation = pg_sys::try_relation_open(oid, lock.mode());
            if !relation.is_null() {
                pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
            !relation.is_null()
        }
    }

    /// Does `work` while nobody else can have a lock that conflicts, and gives the lock back after it: for what takes effect at
    /// once, whether the transaction commits or not. `None` if there is no such relation.
    pub(crate) fn while_locked<R>(
        oid: pg_sys::Oid,
        lock: Lock,
        work: impl FnOnce() -> R,
    ) -> Option<R> {
        // SAFETY: try_relation_open gives NULL for what does not exist.
        let relation = unsafe { pg_sys::try_relation_open(oid, lock.mode()) };
        if relation.is_null() {
            return None;
        }
        let result = work();
        // SAFETY: opened above, with this lock; after an error the abort of the transaction does it.
        unsafe { pg_sys::relation_close(relation, lock.mode()) };
        Some(result)
    }

    pub(crate) fn oid(&self) -> pg_sys::Oid {
        self.0.oid()
    }

    /// Schema and name, quoted where need be.
    pub(crate) fn qualified_name(&self) -> String {
        pgrx::spi::quote_qualified_identifier(self.0.namespace(), self.0.name())
    }

    pub(crate) fn as_ptr(&self) -> pg_sys::Relation {
        self.0.as_ptr()
    }

    /// A column by its number.
    pub(crate) fn column(&self, attnum: i16) -> Option<Column> {
        let index = usize::try_from(attnum).ok()?.checked_sub(1)?;
        let descriptor = self.0.tuple_desc();
        let attribute = descriptor.get(index)?;
        Some(Column {
            name: attribute.name().to_owned(),
            type_oid: attribute.atttypid,
            modifier: attribute.atttypmod,
            length: attribute.attlen,
            by_value: attribute.attbyval,
        })
    }
}
