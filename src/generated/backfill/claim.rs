//! What a worker has taken on: a place among the workers of a backfill, and one of its ranges.

use super::state::{State, lock_number};
use crate::error::Error;
use crate::pg::background;
use crate::pg::lock::SessionLock;
use crate::pg::spi;
use std::time::Instant;

pub(super) struct Claim {
    pub(super) backfill: i64,
    /// How many may work on it.
    pub(super) workers: i32,
    pub(super) range: i64,
    /// A failure stands in the backfill's `error`.
    pub(super) is_noted: bool,
    pub(super) rate: Rate,
    _member: SessionLock,
    _range: SessionLock,
}

const CANDIDATES: &str = "
select r.id, r.backfill, b.workers
  from {schema}._repl_backfill_ranges r
  join {schema}._repl_backfills b on b.id = r.backfill
 where b.state in ('queued', 'running') and b.origin = $1 and r.next_block < r.end_block
 order by r.locked, case when r.locked then r.worked_at end, r.backfill, r.id
 limit 1000";

/// The oldest backfill first, in the order of the table; what was left behind last. The locks show to others that somebody
/// is at it, and go with the process.
pub(super) fn next(state: &State) -> Result<Option<Claim>, Error> {
    let candidates = state.query(CANDIDATES, &[state.origin().into()], |row| {
        Ok((
            spi::required::<i64>(row, 1)?,
            spi::required::<i64>(row, 2)?,
            spi::required::<i32>(row, 3)?,
        ))
    })?;
    let mut full = None;
    for (range, backfill, workers) in candidates {
        if full == Some(backfill) {
            continue;
        }
        let most = u16::try_from(workers).unwrap_or(u16::MAX - 1);
        let Some((_, member)) = take_place(state.backfills, lock_number(backfill), most) else {
            full = Some(backfill);
            continue;
        };
        let Some(lock) = SessionLock::try_acquire(state.ranges, lock_number(range), 0) else {
            continue;
        };
        state.run(
            "update {schema}._repl_backfills
                set state = 'running', started_at = coalesce(started_at, clock_timestamp())
              where id = $1 and state = 'queued'",
            &[backfill.into()],
        )?;
        return Ok(Some(Claim {
            backfill,
            workers,
            range,
            is_noted: false,
            rate: Rate::default(),
            _member: member,
            _range: lock,
        }));
    }
    Ok(None)
}

/// One of the places 1 to `most`; `None` while others have them all.
pub(super) fn take_place(
    class: pgrx::pg_sys::Oid,
    object: u32,
    most: u16,
) -> Option<(u16, SessionLock)> {
    (1..=most).find_map(|place| Some((place, SessionLock::try_acquire(class, object, place)?)))
}

impl Claim {
    /// Shows in `pg_stat_activity` what is being done.
    pub(super) fn describe(&self, table: &str, block: u32, end_block: u32) {
        background::report_activity(
            true,
            &format!(
                "backfill {} of {table}: block {block} of {end_block}",
                self.backfill
            ),
        );
    }
}

/// How fast a range gets on, pauses included, smoothed over some batches.
#[derive(Default)]
pub(super) struct Rate {
    since: Option<Instant>,
    /// Each second.
    pub(super) rows: Option<f64>,
    pub(super) blocks: Option<f64>,
}

impl Rate {
    /// What a batch that began at `begun` has done.
    pub(super) fn add(&mut self, begun: Instant, now: Instant, rows: i64, blocks: u32) {
        let seconds = (now - self.since.replace(now).unwrap_or(begun)).as_secs_f64();
        self.rows = Some(smoothed(self.rows, rows as f64, seconds));
        self.blocks = Some(smoothed(self.blocks, f64::from(blocks), seconds));
    }
}

fn smoothed(before: Option<f64>, amount: f64, seconds: f64) -> f64 {
    const WEIGHT: f64 = 0.2;
    let now = amount / seconds.max(0.001);
    before.map_or(now, |before| before + WEIGHT * (now - before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rate_counts_pauses_and_settles() {
        let mut rate = Rate::default();
        let begun = Instant::now();
        rate.add(begun, begun + Duration::from_millis(200), 1000, 20);
        assert_eq!(rate.rows, Some(5000.0));
        // The next batch comes after a pause: 200 ms of 1 s.
        let mut now = begun + Duration::from_millis(200);
        for _ in 0..100 {
            now += Duration::from_secs(1);
            rate.add(now - Duration::from_millis(200), now, 1000, 20);
        }
        let rows = rate.rows.unwrap_or(0.0);
        assert!((rows - 1000.0).abs() < 1.0, "{rows}");
        let blocks = rate.blocks.unwrap_or(0.0);
        assert!((blocks - 20.0).abs() < 0.1, "{blocks}");
    }
}
