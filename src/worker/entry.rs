//! Where the postmaster enters this library: the exported functions of the workers.
#![allow(unsafe_code)]

use super::{database, launcher};
use crate::generated::backfill;
use crate::migrate::foreign_key;
use crate::pg::background::{self, Argument};
use crate::pg::shared;
use crate::watch::breaker;
use pgrx::{pg_guard, pg_sys};

/// Keeps a worker in each database that has the extension. Before that, right after a crash, it breaks a crash loop: in the
/// database of the subscription, which it cannot leave again but by ending.
#[pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn replwarden_launcher(_argument: pg_sys::Datum) {
    if let Some(guilty) = breaker::due() {
        let database = pg_sys::Oid::from(guilty.victim.database);
        background::begin(Some(database), "replwarden breaker");
        super::breaker::run(&guilty);
        background::end_and_be_restarted();
    }
    // Whatever the settings become: after this crash nobody is held back any more.
    shared::settle_crash();
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

/// Brings foreign keys of one database back and validates them.
#[pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn replwarden_foreign_key_worker(argument: pg_sys::Datum) {
    let argument = Argument::received(argument);
    if argument.database_exists() {
        background::begin(Some(argument.database), "replwarden foreign keys");
        foreign_key::worker::run();
    }
}
