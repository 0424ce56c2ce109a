//! Background workers: one launcher, one worker in each database that has the extension, and backfill workers.
//!
//! With the library preloaded, the launcher starts with the server and keeps the databases' workers running; those see to
//! it that unfinished backfills have workers. Not preloaded, there is nothing but the backfill workers that a session
//! starts when it asks for a backfill.

mod breaker;
mod database;
mod entry;
mod launcher;
mod roster;

use crate::guc;
use crate::migrate::foreign_key;
use crate::pg::background::{Argument, Description};
use crate::pg::shared::{self, Message};
use crate::pg::transaction::Failure;
use crate::pg::{databases, replication_process, session_events};
use crate::watch;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, pg_extern};
use std::cell::Cell;
use std::time::Duration;

/// After how long the postmaster starts a worker again that has died.
const RESTART: Duration = Duration::from_secs(5);

/// Asks for the launcher and its shared memory; while the library is being preloaded.
pub(crate) fn init() {
    if !shared::is_preloading() {
        return;
    }
    shared::init();
    replication_process::before_first_commit(watch::breaker::hold_back);
    Description {
        name: "replwarden launcher".to_owned(),
        kind: "replwarden launcher",
        function: c"replwarden_launcher",
        argument: Argument {
            database: pg_sys::InvalidOid,
            tablespace: pg_sys::InvalidOid,
            flag: false,
        },
        restart: Some(RESTART),
    }
    .register_static();
}

/// The worker that stays in a database, or, as a probe, one that only looks whether the extension is there.
fn database_worker(database: &databases::Database, probe: bool) -> Description {
    Description {
        name: format!("replwarden worker in {}", database.name),
        kind: "replwarden worker",
        function: c"replwarden_database_worker",
        argument: Argument {
            database: database.oid,
            tablespace: database.tablespace,
            flag: probe,
        },
        // The launcher starts it again.
        restart: None,
    }
}

/// The postmaster starts it again when it dies and after a crash of the server, also where no launcher runs.
fn backfill_worker() -> Description {
    Description {
        name: "replwarden backfill".to_owned(),
        kind: "replwarden backfill",
        function: c"replwarden_backfill_worker",
        argument: Argument {
            database: databases::current(),
            tablespace: databases::tablespace_of_current(),
            flag: false,
        },
        restart: Some(RESTART),
    }
}

/// It ends when all keys are back; after a crash of the server the postmaster starts it again.
fn foreign_key_worker() -> Description {
    Description {
        name: "replwarden foreign keys".to_owned(),
        kind: "replwarden foreign keys",
        function: c"replwarden_foreign_key_worker",
        argument: Argument {
            database: databases::current(),
            tablespace: databases::tablespace_of_current(),
            flag: false,
        },
        restart: Some(RESTART),
    }
}

/// Starts backfill workers in this database; says how many could be.
fn start_backfill_workers(number: u16) -> u16 {
    (0..number)
        .take_while(|_| backfill_worker().start().is_some())
        .count() as u16
}

thread_local! {
    /// How many backfill workers are to be started when the transaction commits.
    static WANTED: Cell<u16> = const { Cell::new(0) };
}

/// Has workers started for a backfill that this transaction asks for.
pub(crate) fn start_backfill_workers_at_commit(workers: i32) {
    let workers = u16::try_from(workers).unwrap_or(u16::MAX);
    let before = WANTED.replace(WANTED.get().saturating_add(workers));
    if before == 0 {
        session_events::at_commit(|| {
            let wanted = WANTED.take().min(guc::max_backfill_workers());
            if wanted > 0 && start_backfill_workers(wanted) == 0 {
                warn_of_no_slot();
            }
        });
        session_events::at_abort(|| WANTED.set(0));
    }
}

thread_local! {
    /// A worker for foreign keys is to be started when the transaction commits.
    static WANTS_KEYS: Cell<bool> = const { Cell::new(false) };
}

/// Has a worker started for foreign keys that this transaction leaves to it.
pub(crate) fn start_foreign_key_worker_at_commit() {
    if !WANTS_KEYS.replace(true) {
        session_events::at_commit(|| {
            if WANTS_KEYS.take() && foreign_key_worker().start().is_none() {
                foreign_key::worker::warn_of_no_slot();
            }
        });
        session_events::at_abort(|| WANTS_KEYS.set(false));
    }
}

fn warn_of_no_slot() {
    let later = if shared::is_preloaded() {
        "The database's worker will try again."
    } else {
        "The rule holds for new rows; existing rows stay as they are for now."
    };
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "no background worker could be started for the backfill",
        "replwarden",
    )
    .set_detail(format!(
        "All slots of max_worker_processes are taken. {later}"
    ))
    .set_hint(
        "Raise max_worker_processes, which needs a restart; SELECT repl_backfill(…) asks again.",
    )
    .report(PgLogLevel::WARNING);
}

/// `_repl_ask_for_worker()`: called by CREATE EXTENSION.
#[pg_extern(sql = false)]
fn repl_ask_for_worker() {
    let database = databases::current();
    session_events::at_commit(move || shared::post(Message::Created(database)));
}

/// Says what a worker could not do.
fn log(doing: &str, failure: &Failure) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "replwarden: could not {doing}: {}: {}",
            failure.sqlstate, failure.message
        ),
        "replwarden",
    )
    .report(PgLogLevel::WARNING);
}
