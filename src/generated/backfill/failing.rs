//! What is said of a backfill that does not get on, in `repl_backfills` and in the server log.

use super::claim::Claim;
use super::settle::Ended;
use super::state::State;
use crate::error::Error;
use crate::generated::row_key;
use crate::pg::tid::Tid;
use crate::pg::transaction::{self, Failure};
use crate::pg::{session, spi};
use pgrx::PgLogLevel;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

/// `pg_cancel_backend()` on a worker: somebody wants the backfill to stop.
pub(super) const QUERY_CANCELED: &str = "57014";

/// Ends the claimed backfill with this failure, of this row if one is known.
pub(super) fn end(claim: &Claim, state_word: &str, failure: &Failure, row: Option<Tid>) {
    let recorded = transaction::run(|| {
        let state = State::find()?;
        let mut about = Vec::new();
        if let Some(column) = &failure.column {
            about.push(format!("column \"{column}\""));
        }
        if let Some(row) = row {
            about.push(format!("row {}", key_of(&state, claim, row)?));
        }
        let about = if about.is_empty() {
            String::new()
        } else {
            format!(" ({})", about.join(", "))
        };
        let error = format!("{}: {}{about}", failure.sqlstate, failure.message);
        let relation = state.query(
            "update {schema}._repl_backfills
                set state = $2, error = $3, finished_at = clock_timestamp()
              where id = $1 and state in ('queued', 'running')
              returning relation::text",
            &[
                claim.backfill.into(),
                state_word.into(),
                error.as_str().into(),
            ],
            |row| spi::required::<String>(row, 1),
        )?;
        Ok(relation.first().map(|relation| {
            format!(
                "backfill {} of {relation} {state_word}: {error}",
                claim.backfill
            )
        }))
    });
    match recorded {
        Ok(Some(text)) => warn(&text, failure.detail.as_deref()),
        Ok(None) => {}
        Err(second) => {
            log("a backfill", failure);
            log("recording that", &second);
        }
    }
}

/// The row's key as JSON; its place if it is no longer to be seen.
fn key_of(state: &State, claim: &Claim, row: Tid) -> Result<String, Error> {
    let found = state.query(
        "select c.oid, c.relowner, c.oid::regclass::text
           from {schema}._repl_backfill_ranges r join pg_class c on c.oid = r.relation
          where r.id = $1",
        &[claim.range.into()],
        |row| {
            Ok((
                spi::required::<pg_sys::Oid>(row, 1)?,
                spi::required::<pg_sys::Oid>(row, 2)?,
                spi::required::<String>(row, 3)?,
            ))
        },
    )?;
    let Some((table, owner, name)) = found.into_iter().next() else {
        return Ok(row.to_string());
    };
    let key = format!(
        "select ({})::text from only {name} r where r.ctid = '{row}'",
        row_key::expression(table)?
    );
    let settings = [session::ALL_ROWS];
    let keys = session::with_settings(&settings, || {
        spi::read_as(owner, &key, |row| spi::required::<String>(row, 1))
    })?;
    Ok(keys.into_iter().next().unwrap_or_else(|| row.to_string()))
}

/// Shows why a backfill that goes on trying does not get on.
pub(super) fn note(claim: &mut Claim, failure: &Failure) {
    log(
        &format!("backfill {}, which is tried again", claim.backfill),
        failure,
    );
    let error = format!(
        "trying again after {}: {}",
        failure.sqlstate, failure.message
    );
    claim.is_noted = set_error(claim, Some(&error));
}

/// It gets on again.
pub(super) fn forget(claim: &mut Claim) {
    if claim.is_noted {
        claim.is_noted = !set_error(claim, None);
    }
}

fn set_error(claim: &Claim, error: Option<&str>) -> bool {
    transaction::run(|| {
        State::find()?.run(
            "update {schema}._repl_backfills set error = $2 where id = $1 and state in ('queued', 'running')",
            &[claim.backfill.into(), error.into()],
        )
    })
    .is_ok()
}

/// A backfill has ended.
pub(super) fn report_end(ended: &Ended) {
    let reason = if ended.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", ended.reason)
    };
    say(&format!(
        "backfill {} of {} is {}{reason}; {} rows changed in {:.1} s",
        ended.id, ended.relation, ended.state, ended.rows_changed, ended.seconds
    ));
}

/// A line of the server log.
fn say(text: &str) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("replwarden: {text}"),
        "replwarden",
    )
    .report(PgLogLevel::LOG);
}

/// A failure of something, in the server log.
pub(super) fn log(what: &str, failure: &Failure) {
    warn(
        &format!("{what}: {}: {}", failure.sqlstate, failure.message),
        failure.detail.as_deref(),
    );
}

fn warn(text: &str, detail: Option<&str>) {
    let report = ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("replwarden: {text}"),
        "replwarden",
    );
    let report = match detail {
        Some(detail) => report.set_detail(detail.to_owned()),
        None => report,
    };
    report
        .set_hint("See repl_backfills.")
        .report(PgLogLevel::WARNING);
}
