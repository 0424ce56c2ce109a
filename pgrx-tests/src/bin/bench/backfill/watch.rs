//! A backfill as a client sees it: asked for, watched, done.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use super::stand::TABLE;
use crate::stand::reason;

/// Often enough for transactions of some 200 ms, and seldom enough for a machine of two cores on which two workers are
/// measured. A transaction may have been longer by as much as this than the longest that was seen.
pub(super) const INTERVAL: Duration = Duration::from_millis(10);

const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// How many workers there are, and how long the oldest of their transactions is; `xact_start` is NULL between two.
const LOOK_AT_WORKERS: &str = "
select count(*), extract(epoch from max(clock_timestamp() - xact_start))::float8
  from pg_stat_activity where backend_type = 'replwarden backfill'";

const LOOK_AT_BACKFILL: &str = "
select state::text, error::text, rows_changed::bigint,
       extract(epoch from finished_at - started_at)::float8
  from repl_backfills where id = $1";

/// While there are workers, the backfill is looked at more seldom than they are: that costs more.
const LOOKS_AT_WORKERS: u32 = 50;

pub(super) struct Watched {
    /// Until the client saw the end of it.
    pub(super) seconds: f64,
    pub(super) server_seconds: f64,
    pub(super) rows_changed: i64,
    /// None if no look met one.
    longest_transaction: Option<f64>,
}

impl Watched {
    /// Of the workers' transactions that were seen, in seconds.
    pub(super) fn longest_transaction(&self) -> Result<f64, String> {
        self.longest_transaction.ok_or_else(|| {
            "pg_stat_activity never showed a transaction of a replwarden backfill".to_owned()
        })
    }
}

/// Has the table backfilled, and returns when that is done.
pub(super) fn backfill(session: &mut Client, workers: u32) -> Result<Watched, String> {
    let look_at_workers = session.prepare(LOOK_AT_WORKERS).map_err(reason)?;
    let look_at_backfill = session.prepare(LOOK_AT_BACKFILL).map_err(reason)?;
    let started = Instant::now();
    let id: Option<i64> = session
        .query_one(&format!("select repl_backfill('{TABLE}', {workers})"), &[])
        .and_then(|row| row.try_get(0))
        .map_err(reason)?;
    let id = id.ok_or("repl_backfill() found the table empty")?;
    let mut longest_transaction: Option<f64> = None;
    let mut looks = 0;
    loop {
        let row = session.query_one(&look_at_workers, &[]).map_err(reason)?;
        let at_work: i64 = row.get(0);
        if let Some(age) = row.get::<_, Option<f64>>(1) {
            longest_transaction = Some(longest_transaction.map_or(age, |longest| longest.max(age)));
        }
        looks += 1;
        if at_work > 0 && looks % LOOKS_AT_WORKERS != 0 {
            thread::sleep(INTERVAL);
            continue;
        }
        let row = session
            .query_one(&look_at_backfill, &[&id])
            .map_err(reason)?;
        let seconds = started.elapsed();
        let state: String = row.get(0);
        let error = || row.get::<_, Option<String>>(1).unwrap_or_default();
        match state.as_str() {
            "done" => {
                return Ok(Watched {
                    seconds: seconds.as_secs_f64(),
                    server_seconds: row.try_get(3).map_err(reason)?,
                    rows_changed: row.try_get(2).map_err(reason)?,
                    longest_transaction,
                });
            }
            "queued" | "running" if seconds < DEADLINE => thread::sleep(INTERVAL),
            "queued" | "running" => {
                return Err(format!(
                    "backfill {id} is {state} after {DEADLINE:?}: {}",
                    error()
                ));
            }
            _ => return Err(format!("backfill {id} is {state}: {}", error())),
        }
    }
}
