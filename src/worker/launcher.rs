//! The launcher. It exists because nothing but a process that is always there can notice that a database needs a worker:
//! after a restart, or when the worker has died.

use super::database_worker;
use super::roster::{Role, Roster};
use crate::pg::background::{self, Handle};
use crate::pg::databases::{self, Database};
use crate::pg::{lock, shared, transaction};
use pgrx::PgLogLevel;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use std::time::{Duration, Instant};

/// How often it looks for databases that have come without a CREATE EXTENSION: as a copy of another.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

pub(super) fn run() {
    shared::receive_messages();
    let mut roster: Roster<Handle> = Roster::new();
    let mut has_complained = false;
    loop {
        background::heed_signals();
        background::report_activity(true, "looking for databases that have the extension");
        let found = match transaction::run(|| Ok(databases::list())) {
            Ok(found) => found,
            Err(failure) => {
                complain(
                    &format!("could not read pg_database: {}", failure.message),
                    None,
                );
                background::wait(SCAN_INTERVAL);
                continue;
            }
        };
        let now = Instant::now();
        let oids: Vec<_> = found.iter().map(|database| database.oid).collect();
        roster.update(&oids, now);
        let (messages, were_lost) = shared::take_messages();
        for message in messages {
            roster.hear(message, now);
        }
        if were_lost {
            roster.doubt();
        }
        roster.bury(Handle::is_alive, now);
        let most = most_residents();
        let has_slots = start(&mut roster, &found, most);
        let waiting = roster.waiting();
        let is_short = waiting > 0 && (!has_slots || roster.residents() >= most);
        if is_short && !has_complained {
            complain(
                &format!("databases that have the extension and wait for a worker: {waiting}"),
                Some(&format!(
                    "At most {most} workers are kept, so that half of max_worker_processes is left to others."
                )),
            );
        }
        has_complained = is_short;
        background::report_activity(
            false,
            &format!(
                "workers in databases: {}, waiting for one: {waiting}",
                roster.residents()
            ),
        );
        let time = roster
            .next_time()
            .map_or(SCAN_INTERVAL, |then| then - Instant::now())
            .clamp(SHORTEST_WAIT, SCAN_INTERVAL);
        background::wait(time);
    }
}

/// Starts whoever is to be started; false if a slot was lacking.
fn start(roster: &mut Roster<Handle>, found: &[Database], most: usize) -> bool {
    let now = Instant::now();
    while let Some((oid, role)) = roster.next(most, now) {
        let Some(database) = found.iter().find(|database| database.oid == oid) else {
            return true;
        };
        if !lock::database_is_open(oid) {
            // Being dropped, renamed or copied.
            roster.not_started(oid, now);
            continue;
        }
        match database_worker(database, role == Role::Probe).start() {
            Some(handle) => roster.started(oid, role, handle, now),
            None => {
                roster.not_started(oid, now);
                return false;
            }
        }
    }
    true
}

/// Half of max_worker_processes is left to replication, parallel queries and others; of the other half, the launcher takes
/// one.
fn most_residents() -> usize {
    usize::from(background::max_worker_processes() / 2)
        .saturating_sub(1)
        .max(1)
}

fn complain(message: &str, detail: Option<&str>) {
    let report = ErrorReport::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        format!("replwarden: {message}"),
        "replwarden",
    );
    let report = match detail {
        Some(detail) => report
            .set_detail(detail.to_owned())
            .set_hint("Raise max_worker_processes, which needs a restart."),
        None => report,
    };
    report.report(PgLogLevel::LOG);
}
