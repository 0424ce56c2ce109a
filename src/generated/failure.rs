//! Rows whose derived column became NULL because the expression failed (`on_error => 'null'`).
//!
//! They are counted in memory and written once, just before their transaction commits: a rolled-back row does
//! not count, and no row of the counting table is ever locked while a transaction is still at work.

use crate::error::Error;
use crate::pg::transaction::sqlstate;
use crate::pg::{session, session_events, spi, subtransaction};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportWithLevel};
use pgrx::{PgLogLevel, pg_sys};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

struct Pending {
    trigger: pg_sys::Oid,
    subtransaction: pg_sys::SubTransactionId,
    rows: i64,
    last_error: String,
}

thread_local! {
    static PENDING: RefCell<Vec<Pending>> = const { RefCell::new(Vec::new()) };
    static LAST_WARNING: RefCell<HashMap<pg_sys::Oid, Instant>> = RefCell::new(HashMap::new());
}

/// A worker of replication, which may commit hundreds of transactions a second, warns of a rule no more often.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The row brought the error about, so that NULL is an answer. Not so for what would hit any row or would pass
/// if tried again: a cancelled statement, a server that shuts down, no memory, a deadlock, a damaged table.
pub(super) fn is_the_rows_fault(error: &ErrorReportWithLevel) -> bool {
    !concerns_more_than_the_row(error.sql_error_code())
}

fn concerns_more_than_the_row(code: PgSqlErrorCode) -> bool {
    let state = sqlstate(code as i32);
    may_pass_if_tried_again(&state)
        || matches!(&state[..2], "25" | "F0")
        || matches!(&state[..], "XX001" | "XX002" | "P0004" | "42501")
}

/// What the moment brought about, not the data: a connection, a conflict with others, resources, a lock, an operator, the
/// system.
pub(super) fn may_pass_if_tried_again(sqlstate: &str) -> bool {
    matches!(&sqlstate[..2], "08" | "40" | "53" | "55" | "57" | "58")
}

/// Counts a row for the rule that this trigger stores.
pub(super) fn record(trigger: pg_sys::Oid, error: &ErrorReportWithLevel) {
    let subtransaction = session_events::current_subtransaction();
    PENDING.with_borrow_mut(|pending| {
        let last_error = error.message().to_owned();
        match pending
            .iter_mut()
            .find(|one| one.trigger == trigger && one.subtransaction == subtransaction)
        {
            Some(one) => {
                one.rows += 1;
                one.last_error = last_error;
            }
            None => pending.push(Pending {
                trigger,
                subtransaction,
                rows: 1,
                last_error,
            }),
        }
    });
}

pub(super) fn discard_pending() {
    PENDING.with_borrow_mut(Vec::clear);
}

pub(super) fn subtransaction_committed(
    id: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
) {
    PENDING.with_borrow_mut(|pending| {
        pending
            .iter_mut()
            .filter(|one| one.subtransaction == id)
            .for_each(|one| one.subtransaction = parent);
    });
}

pub(super) fn subtransaction_aborted(id: pg_sys::SubTransactionId) {
    PENDING.with_borrow_mut(|pending| pending.retain(|one| one.subtransaction != id));
}

/// Writes what was counted. A failure to write must not cost the transaction its commit: it is a warning.
pub(super) fn write_pending() {
    for pending in PENDING.take() {
        let written = subtransaction::run(
            |error| !matches!(&sqlstate(error.sql_error_code() as i32)[..2], "57" | "58"),
            || session::with_snapshot(|| session::with_safe_search_path(|| write(&pending))),
        );
        let problem = match written {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.message().to_owned(),
        };
        warn(
            format!(
                "could not count {} rows whose derived column became NULL",
                pending.rows
            ),
            format!(
                "{problem}. The error of the last such row: {}",
                pending.last_error
            ),
        );
    }
}

/// Adds to the count of the rule that stands at the top of the trigger's partition tree. Where the isolation
/// level allows, what others have committed is folded into the new row, without waiting for anybody.
const COUNT: &str = "
with recursive ancestor as (
    select t.oid, t.tgparentid, t.tgrelid, t.tgattr
      from pg_trigger t where t.oid = $1
    union all
    select t.oid, t.tgparentid, t.tgrelid, t.tgattr
      from pg_trigger t join ancestor a on t.oid = a.tgparentid
), rule as (
    select oid, tgrelid, tgattr from ancestor where tgparentid = 0
), folded as (
    delete from {schema}._repl_failures f
     where f.ctid = any (array(
           select g.ctid from {schema}._repl_failures g
            where $4 and g.trigger = (select oid from rule)
              for update skip locked))
    returning f.rows
), counted as (
    insert into {schema}._repl_failures (trigger, rows, last_error, last_error_at)
    select rule.oid, $2 + coalesce((select sum(rows) from folded), 0), $3, clock_timestamp()
      from rule
)
select rule.tgrelid::regclass::text, a.attname::text
  from rule join pg_attribute a on a.attrelid = rule.tgrelid and a.attnum = rule.tgattr[0]";

fn write(pending: &Pending) -> Result<(), Error> {
    let (schema, owner) = spi::extension()?;
    let count = COUNT.replace("{schema}", &pgrx::spi::quote_identifier(schema));
    let found = session::as_role(owner, || {
        spi::query(
            &count,
            &[
                pending.trigger.into(),
                pending.rows.into(),
                pending.last_error.as_str().into(),
                session::is_read_committed().into(),
            ],
            |row| {
                Ok((
                    spi::required::<String>(row, 1)?,
                    spi::required::<String>(row, 2)?,
                ))
            },
        )
    })?;
    for (relation, column) in found
        .into_iter()
        .filter(|_| warning_is_due(pending.trigger))
    {
        warn(
            format!(
                "column \"{column}\" of table \"{relation}\" became NULL in {} rows because its expression failed",
                pending.rows
            ),
            format!("The last error: {}", pending.last_error),
        );
    }
    Ok(())
}

fn warning_is_due(trigger: pg_sys::Oid) -> bool {
    let now = Instant::now();
    LAST_WARNING.with_borrow_mut(|last| {
        let recent = last
            .get(&trigger)
            .is_some_and(|then| now - *then < WARNING_INTERVAL);
        let due = session::has_client() || !recent;
        if due {
            last.insert(trigger, now);
        }
        due
    })
}

/// Counts anew for a rule that has just been set; the search_path is safe.
pub(super) fn forget(trigger: pg_sys::Oid) -> Result<(), Error> {
    delete(&format!("trigger = {}", trigger.to_u32()))
}

/// Forgets the rules that are gone; the search_path is safe.
pub(super) fn forget_dropped_rules() -> Result<(), Error> {
    delete("not exists (select from pg_trigger t where t.oid = trigger)")
}

fn delete(condition: &str) -> Result<(), Error> {
    let (schema, owner) = spi::extension()?;
    let schema = pgrx::spi::quote_identifier(schema);
    session::as_role(owner, || {
        spi::run(&format!(
            "delete from {schema}._repl_failures where {condition}"
        ))
    })
}

fn warn(message: String, detail: String) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "replwarden")
        .set_detail(detail)
        .set_hint("See repl_generated_columns; repl_set_expression() changes the expression and counts anew.")
        .report(PgLogLevel::WARNING);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_data_become_null() {
        for code in [
            PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO,
            PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
            PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
            PgSqlErrorCode::ERRCODE_RAISE_EXCEPTION,
        ] {
            assert!(
                !concerns_more_than_the_row(code),
                "{}",
                sqlstate(code as i32)
            );
        }
    }

    #[test]
    fn errors_of_the_server_do_not() {
        for code in [
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
            PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
            PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED,
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        ] {
            assert!(
                concerns_more_than_the_row(code),
                "{}",
                sqlstate(code as i32)
            );
        }
    }
}
