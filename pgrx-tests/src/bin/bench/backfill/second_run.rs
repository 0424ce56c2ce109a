//! A backfill that finds every row right, against the query that says so.

use std::time::Instant;

use postgres::Client;

use super::stand::{Stand, TABLE};
use super::{wal_position, watch};
use crate::results::median;
use crate::stand::reason;
use crate::variant::EXPRESSION;

/// How often each of the two is run in a round, in turn.
pub(super) const TIMES: usize = 5;

/// Medians, in seconds as the client sees them.
pub(super) struct SecondRun {
    pub(super) backfill: f64,
    pub(super) scan: f64,
    /// What the backfill writes, although it changes no row.
    pub(super) wal_bytes: f64,
}

/// The table has been backfilled.
pub(super) fn measure(stand: &Stand) -> Result<SecondRun, String> {
    // Else the first to read the table would pay for removing the old versions of its rows.
    stand.tidy();
    let mut session = stand.session()?;
    session
        .batch_execute("set max_parallel_workers_per_gather = 0")
        .map_err(reason)?;
    // Both warm, these are not counted.
    scan(&mut session)?;
    backfill(&mut session)?;

    let (mut backfills, mut scans, mut wal) = (Vec::new(), Vec::new(), Vec::new());
    for time in 0..TIMES {
        if time % 2 == 1 {
            scans.push(scan(&mut session)?);
        }
        let before = wal_position(&mut session)?;
        backfills.push(backfill(&mut session)?);
        wal.push(wal_position(&mut session)? - before);
        if time % 2 == 0 {
            scans.push(scan(&mut session)?);
        }
    }
    Ok(SecondRun {
        backfill: median(backfills),
        scan: median(scans),
        wal_bytes: median(wal),
    })
}

fn backfill(session: &mut Client) -> Result<f64, String> {
    let watched = watch::backfill(session, 1)?;
    match watched.rows_changed {
        0 => Ok(watched.seconds),
        changed => Err(format!(
            "a second backfill has changed {changed} rows where none was wrong"
        )),
    }
}

fn scan(session: &mut Client) -> Result<f64, String> {
    let started = Instant::now();
    let wrong: i64 = session
        .query_one(
            &format!("select count(*) from {TABLE} where loan_id is distinct from {EXPRESSION}"),
            &[],
        )
        .and_then(|row| row.try_get(0))
        .map_err(reason)?;
    match wrong {
        0 => Ok(started.elapsed().as_secs_f64()),
        _ => Err(format!("{wrong} rows are wrong after a backfill")),
    }
}
