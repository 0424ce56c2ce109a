//! The process that brings keys back when the table that they await is copied, validates those that are back, and removes the
//! guard of a table that pglogical has copied again. It exists because each step has to be a transaction of its own, and because
//! reading a large table takes long. It ends when there is nothing to do.

use super::book::{Book, Entry, Presence};
use super::{add, orphan};
use crate::error::Error;
use crate::migrate::copy_guard::{self, Guard};
use crate::pg::lock::{self, SessionLock};
use crate::pg::transaction::{self, Failure};
use crate::pg::{background, databases, session, shared, spi};
use crate::subscription::publisher::epoch;
use crate::watch::event::{self, Event, Part};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, pg_sys};
use serde_json::json;
use std::ffi::CStr;
use std::time::Duration;

/// While nothing can be done, and after something has failed that may pass: at first, and after more and more attempts.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// To add a constraint, both tables are locked against writers, and who waits for that stands in their way already: those who
/// apply changes, too.
const LOCK_TIMEOUT: (&CStr, &CStr) = (c"lock_timeout", c"300ms");

/// Has a worker started when the transaction commits.
pub(crate) fn start_at_commit() {
    crate::worker::start_foreign_key_worker_at_commit();
}

/// Whether there is something that could be done now, and nobody is at it. In a transaction of the database's worker.
pub(crate) fn is_missing() -> Result<bool, Error> {
    let (schema, _) = spi::extension()?;
    let schema = pgrx::spi::quote_identifier(schema);
    // Most looks end with this.
    let has_tasks: bool = spi::document(
        &format!(
            "select pg_catalog.to_json(exists (
                 select from {schema}._repl_foreign_keys f where f.task is not null))::text"
        ),
        &[],
    )?;
    let has_guards = copy_guard::is_anywhere()?;
    if !has_tasks && !has_guards {
        return Ok(false);
    }
    let book = Book::find()?;
    let has_work = has_tasks && book.has_work()?
        || has_guards && copy_guard::find()?.iter().any(|guard| guard.is_finished);
    // Whoever has it is at work.
    Ok(has_work && SessionLock::try_acquire(book.table, 0, 0).is_some())
}

struct Work {
    id: i64,
    is_ready: bool,
}

fn work(book: &Book) -> Result<Vec<Work>, Error> {
    let entries = book.entries(None)?;
    let unfinished = entries.iter().filter(|one| one.task.is_some());
    Ok(unfinished
        .map(|one| Work {
            id: one.id,
            is_ready: one.is_ready,
        })
        .collect())
}

/// Works until there is nothing left to do, or the database is about to go.
pub(crate) fn run() {
    let Some(_place) = take_place() else {
        return;
    };
    let mut pause = PAUSE;
    loop {
        background::heed_signals();
        if !lock::database_is_open(databases::current()) {
            return;
        }
        let found = transaction::run(|| work(&Book::find()?));
        let guards = transaction::run(copy_guard::find);
        let (found, guards) = match (found, guards) {
            (Ok(found), Ok(guards)) if found.is_empty() && guards.is_empty() => return,
            (Ok(found), Ok(guards)) => (found, guards),
            (Err(failure), _) | (_, Err(failure)) if failure.is_not_installed() => return,
            _ => (Vec::new(), Vec::new()),
        };
        let mut has_moved = false;
        for guard in guards.iter().filter(|guard| guard.is_finished) {
            has_moved |= remove(guard);
        }
        for one in found.iter().filter(|one| one.is_ready) {
            has_moved |= finish(one.id);
        }
        if has_moved {
            pause = PAUSE;
            continue;
        }
        // The worker of the database looks when it is time, and this one is not to take a place that a copy needs.
        let is_ready =
            found.iter().any(|one| one.is_ready) || guards.iter().any(|guard| guard.is_finished);
        if shared::is_preloaded() && !is_ready {
            return;
        }
        background::report_activity(false, "waiting for tables to be copied or for locks");
        background::wait_out(|| pause);
        // One that is waited for is soon there, and has kept nobody waiting.
        pause = if is_ready {
            LONGEST_PAUSE.min(pause * 2)
        } else {
            PAUSE
        };
    }
}

/// Only one is at work in a database. One that is about to end may have overlooked what is new.
fn take_place() -> Option<SessionLock> {
    for _ in 0..2 {
        let place = transaction::run(|| Ok(SessionLock::try_acquire(Book::find()?.table, 0, 0)));
        match place {
            Ok(Some(place)) => return Some(place),
            Ok(None) => background::wait_out(|| PAUSE),
            Err(_) => return None,
        }
    }
    None
}

/// False: not now, as while somebody is at work on the table.
fn remove(guard: &Guard) -> bool {
    transaction::run(|| guard.remove()).unwrap_or(false)
}

enum Step {
    /// There may be another one.
    Taken,
    Later,
    Done,
}

/// Takes one key as far as it goes. False: not a step further.
fn finish(id: i64) -> bool {
    let mut has_moved = false;
    loop {
        background::heed_signals();
        background::report_activity(true, "validating foreign keys");
        match transaction::run(|| step(id)) {
            Ok(Step::Taken) => has_moved = true,
            Ok(Step::Done) => return true,
            Ok(Step::Later) => return has_moved,
            Err(failure) if failure.is_not_installed() => return false,
            // A session was quicker.
            Err(failure) if failure.sqlstate == "42710" && is_there(id) => has_moved = true,
            Err(failure)
                if add::is_of_the_moment(&failure.sqlstate) && failure.sqlstate != "57014" =>
            {
                return has_moved;
            }
            Err(failure) => {
                let noted = transaction::run(|| note(id, &failure));
                return has_moved || noted.is_ok();
            }
        }
        if !lock::database_is_open(databases::current()) {
            return has_moved;
        }
    }
}

/// A constraint of its name.
fn is_there(id: i64) -> bool {
    let entry = transaction::run(|| Book::find()?.entry(id));
    entry.is_ok_and(|entry| entry.is_none_or(|one| one.presence != Presence::Absent))
}

/// What comes next for a key, in a transaction.
fn step(id: i64) -> Result<Step, Error> {
    let book = Book::find()?;
    let Some(entry) = book.entry(id)? else {
        return Ok(Step::Done);
    };
    let (Some(task), Some(owner)) = (entry.task.as_deref(), entry.owner) else {
        if entry.task.is_some() {
            let problem = entry.hindrance().unwrap_or_default();
            tell(&book, &entry, &problem, None)?;
        }
        return Ok(Step::Done);
    };
    if !entry.is_ready {
        return Ok(Step::Later);
    }
    if let Some(problem) = entry.hindrance() {
        tell(&book, &entry, &problem, None)?;
        return Ok(Step::Done);
    }
    match entry.presence {
        Presence::Valid => done(&book, &entry),
        Presence::NotValid if !entry.validated => done(&book, &entry),
        Presence::NotValid => {
            add::validate(&entry.relation_name, &entry.name, owner)?;
            done(&book, &entry)
        }
        _ if task == "restore" => {
            session::with_settings(&[LOCK_TIMEOUT], || add::not_valid(&entry))?;
            if !entry.validated {
                return done(&book, &entry);
            }
            book.set_task(&entry, Some("validate"))?;
            Ok(Step::Taken)
        }
        _ if entry.is_partitioned => partition(&book, &entry, owner),
        _ => {
            let problem = "it came back, and somebody has dropped it since";
            tell(&book, &entry, problem, None)?;
            Ok(Step::Done)
        }
    }
}

/// One partition after another, and the key of all of them at last.
fn partition(book: &Book, entry: &Entry, owner: pg_sys::Oid) -> Result<Step, Error> {
    let leaves = add::leaves(entry)?;
    if leaves.iter().any(|leaf| leaf.is_valid.is_none()) {
        session::with_settings(&[LOCK_TIMEOUT], || add::not_valid(entry))?;
        return Ok(Step::Taken);
    }
    if let Some(leaf) = leaves.iter().find(|leaf| leaf.is_valid == Some(false)) {
        add::validate(&leaf.name, &entry.name, owner)?;
        return Ok(Step::Taken);
    }
    session::with_settings(&[LOCK_TIMEOUT], || add::whole(entry))?;
    done(book, entry)
}

fn done(book: &Book, entry: &Entry) -> Result<Step, Error> {
    book.forget(entry)?;
    let finding = format!(
        "Foreign key {} of {} is back{}.",
        entry.name,
        entry.relation_name,
        if entry.validated {
            " and valid"
        } else {
            ", NOT VALID as it was"
        }
    );
    record(entry, "info", "foreign_key_restored", &finding)?;
    Ok(Step::Done)
}

/// A step has failed. Says why, and which rows are to blame.
fn note(id: i64, failure: &Failure) -> Result<(), Error> {
    let book = Book::find()?;
    let Some(entry) = book.entry(id)? else {
        return Ok(());
    };
    let orphans = if failure.sqlstate == "23503" {
        orphan::find(&book, &entry)?.filter(|one| one.number > 0)
    } else {
        None
    };
    let problem = match (&orphans, &failure.detail) {
        (Some(orphans), _) => orphans.sentence(&entry.referenced_name),
        (None, Some(detail)) if !detail.is_empty() => format!("{}. {detail}", failure.message),
        _ => failure.message.clone(),
    };
    tell(&book, &entry, &problem, orphans.as_ref())
}

fn tell(
    book: &Book,
    entry: &Entry,
    problem: &str,
    orphans: Option<&orphan::Orphans>,
) -> Result<(), Error> {
    book.note(entry, problem, orphans)?;
    let how = match entry.presence {
        Presence::NotValid => "is back, but not valid",
        _ => "is not back",
    };
    let finding = format!(
        "Foreign key {} of {} {how}: {problem}",
        entry.name, entry.relation_name
    );
    record(entry, "warning", "foreign_key_not_restored", &finding)
}

fn record(entry: &Entry, severity: &str, event: &str, finding: &str) -> Result<(), Error> {
    event::record(Event {
        occurred_at: epoch(),
        // Of whatever provider.
        provider: "native".to_owned(),
        id: None,
        subscription: None,
        severity: severity.to_owned(),
        event: event.to_owned(),
        cause: None,
        detail: json!({
            "finding": finding,
            "object": entry.relation_name,
            "constraint": entry.name,
        }),
        since: None,
        part: Part::Whole,
    })
}

/// No worker could be started.
pub(crate) fn warn_of_no_slot() {
    let later = if shared::is_preloaded() {
        "The database's worker will try again."
    } else {
        "Nobody will try again by itself."
    };
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "no background worker could be started for the foreign keys",
        "replwarden",
    )
    .set_detail(format!("All slots of max_worker_processes are taken. {later}"))
    .set_hint(
        "Raise max_worker_processes, which needs a restart; SELECT repl_restore_foreign_keys() asks again.",
    )
    .report(PgLogLevel::WARNING);
}
