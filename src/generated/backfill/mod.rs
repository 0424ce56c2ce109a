//! Bringing existing rows up, by background workers.
//!
//! A backfill is a row of `_repl_backfills`; what is left of it are ranges of blocks in `_repl_backfill_ranges`, each with
//! its position. A worker claims a range and works through it in short transactions, each of which moves the position in
//! the same commit. Whatever ends a worker, the next one goes on from there.
//!
//! `queue` asks for backfills, `state` is what is kept of them, `claim` what a worker has taken on, `batch` one transaction,
//! `pass` its rows, `worker` the process, `staffing` whether there are enough of them, `settle` how a backfill ends, `failing`
//! what is said when it does not get on.

mod batch;
mod claim;
mod failing;
mod pass;
mod queue;
mod settle;
mod staffing;
mod state;
pub(crate) mod worker;

pub(crate) use staffing::{Staffing, staffing};
pub(crate) use state::State;

use super::table::OwnedTable;
use crate::error::Error;
use crate::pg::session;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// `repl_backfill(relation, workers)`
#[pg_extern(sql = false)]
fn repl_backfill(
    relation: Option<pg_sys::Oid>,
    workers: Option<i32>,
) -> Result<Option<i64>, ErrorReport> {
    let workers = workers.ok_or(Error::NullArgument("workers"))?;
    if workers < 1 {
        return Err(Error::InvalidWorkers { value: workers }.into());
    }
    session::refuse_read_only(c"repl_backfill()");
    let table = OwnedTable::find(relation)?;
    Ok(enqueue(&table, workers)?)
}

/// `repl_cancel_backfill(id)`
#[pg_extern(sql = false)]
fn repl_cancel_backfill(id: Option<i64>) -> Result<bool, ErrorReport> {
    let id = id.ok_or(Error::NullArgument("id"))?;
    session::refuse_read_only(c"repl_cancel_backfill()");
    Ok(session::with_safe_search_path(|| queue::cancel(id))?)
}

/// Asks for a backfill of the table in the place of any that it has, and has workers started when the transaction
/// commits. `None`: the table is empty.
pub(super) fn enqueue(table: &OwnedTable, workers: i32) -> Result<Option<i64>, Error> {
    let id = session::with_safe_search_path(|| queue::enqueue(table, workers))?;
    if id.is_some() {
        crate::worker::start_backfill_workers_at_commit(workers);
    }
    Ok(id)
}

/// Something was dropped: ends backfills that have lost their object, also where no worker would.
pub(super) fn after_drop() -> Result<(), Error> {
    let state = State::find()?;
    let unfinished =
        "select from {schema}._repl_backfills where state in ('queued', 'running') limit 1";
    if state.run(unfinished, &[])? > 0 {
        settle::settle(&state)?.iter().for_each(failing::report_end);
    }
    Ok(())
}
