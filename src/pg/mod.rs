//! The wall around `unsafe`: safe types over the parts of the server that the rest of the code uses.
#![allow(unsafe_code)]

pub(crate) mod applied;
pub(crate) mod background;
pub(crate) mod board;
pub(crate) mod catalog_change;
pub(crate) mod clock;
pub(crate) mod compiled;
mod compiled_column;
pub(crate) mod crash_log;
pub(crate) mod databases;
pub(crate) mod disk;
pub(crate) mod drop_command;
pub(crate) mod encoding;
pub(crate) mod error_note;
pub(crate) mod error_ring;
pub(crate) mod expression;
pub(crate) mod libpq;
pub(crate) mod lock;
mod log_hook;
pub(crate) mod name;
pub(crate) mod own_tables;
pub(crate) mod raw;
pub(crate) mod relation;
pub(crate) mod replication_process;
pub(crate) mod resolver;
pub(crate) mod result_set;
pub(crate) mod row_pass;
pub(crate) mod session;
pub(crate) mod session_events;
pub(crate) mod shared;
mod shared_area;
pub(crate) mod spi;
pub(crate) mod subtransaction;
pub(crate) mod tid;
pub(crate) mod transaction;
pub(crate) mod trigger;
pub(crate) mod version;

/// What PostgreSQL looks for beside a function written in C: that it follows the version-1 call convention.
macro_rules! version_1 {
    ($($name:ident),*) => {$(
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        #[doc(hidden)]
        extern "C" fn $name() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }
    )*};
}
pub(crate) use version_1;
