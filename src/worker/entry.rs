//! Where the postmaster enters this library: the exported functions of the workers.
#![allow(unsafe_code)]

use super::{database, launcher};
use crate::generated::backfill;
use crate::pg::background::{self, Argument};
use pgrx::{pg_guard, pg_sys};

/// Keeps a worker in each database that has the extension.
#[pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn replwarden_launcher(_argument: pg_sys::Datum) {
    background::begin(None, "replwarden launcher");
    launcher::run();
}

/// Sees to it that the backfills of one database have workers.
#[pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn replwarden_database_worker(argument: pg_sys::Datum) {
    let argument = Argument::received(argument);
    if argument.database_exists() {
        background::begin(Some(argument.database), "replwarden worker");
        database::run(argument.flag);
    }
}

/// Works on the backfills of one database.
#[pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn replwarden_backfill_worker(argument: pg_sys::Datum) {
    let argument = Argument::received(argument);
    if argument.database_exists() {
        background::begin(Some(argument.database), "replwarden backfill");
        backfill::worker::run();
    }
}
