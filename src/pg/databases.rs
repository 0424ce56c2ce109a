//! The databases of the server, read by a worker that is connected to none.

use pgrx::pg_sys;
use std::ffi::CStr;

pub(crate) struct Database {
    pub(crate) oid: pg_sys::Oid,
    pub(crate) name: String,
    pub(crate) tablespace: pg_sys::Oid,
}

/// Those that one can connect to, but for templates. Inside a transaction. As `get_database_list` of
/// `postmaster/autovacuum.c`.
pub(crate) fn list() -> Vec<Database> {
    let mut found = Vec::new();
    // SAFETY: pg_database is a shared catalog, readable without a database; its rows begin with the fixed part that
    // FormData_pg_database describes; opened and closed in pairs.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let database = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if database.datallowconn && !database.datistemplate {
                found.push(Database {
                    oid: database.oid,
                    name: CStr::from_ptr(database.datname.data.as_ptr())
                        .to_string_lossy()
                        .into_owned(),
                    tablespace: database.dattablespace,
                });
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
    found
}

/// Tablespace of the database that this process is connected to.
pub(crate) fn tablespace_of_current() -> pg_sys::Oid {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::MyDatabaseTableSpace }
}

/// The database that this process is connected to.
pub(crate) fn current() -> pg_sys::Oid {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::MyDatabaseId }
}

/// Its name. Inside a transaction.
pub(crate) fn current_name() -> String {
    // SAFETY: a palloc'ed string, or NULL if the database has just been dropped.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() {
            return String::new();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}
