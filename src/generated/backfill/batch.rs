//! One transaction of a backfill: from a range's position on, as far as the time allows.

use super::claim::Claim;
use super::pass::{Leaf, LeftBehind, Manner, Pass};
use super::state::{State, lock_number};
use crate::error::Error;
use crate::generated::compile;
use crate::pg::relation::{Lock, Relation, Unavailable};
use crate::pg::row_pass::Tally;
use crate::pg::session::{self, ALL_ROWS, SAFE_SEARCH_PATH};
use crate::pg::spi;
use crate::pg::tid::Tid;
use pgrx::pg_sys;
use std::time::{Duration, Instant};

#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// The position has moved; the range is not finished.
    Advanced { to: Tid },
    /// Nothing is left of the range.
    Finished,
    /// What is left of the range is locked by others.
    Locked,
    /// Somebody has a lock on the table, or waits for one.
    TableBusy,
    /// The range is no longer there to be worked on: its backfill has ended, or the table was rewritten and is begun anew.
    Gone,
}

/// The range as it is now.
struct Range {
    relation: pg_sys::Oid,
    filenode: pg_sys::Oid,
    from: Tid,
    end_block: u32,
    /// It was left behind because of locked rows.
    locked: bool,
    /// The transaction that asked for the backfill.
    first: pg_sys::TransactionId,
}

const RANGE: &str = "
select r.relation, r.filenode, r.next_block, r.next_offset, r.end_block, r.locked,
       (b.first_transaction::text::numeric % 4294967296)::int8
  from {schema}._repl_backfill_ranges r
  join {schema}._repl_backfills b on b.id = r.backfill
 where r.id = $1 and r.next_block < r.end_block and b.state in ('queued', 'running')";

/// Does one batch of the claimed range inside a transaction. `tally` tells at any moment, also after an error, which
/// row it is at.
pub(super) fn run(
    claim: &mut Claim,
    time: Duration,
    manner: Manner,
    tally: &mut Tally,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    let state = State::find()?;
    let Some(range) = find_range(&state, claim.range)? else {
        return Ok(Outcome::Gone);
    };
    let relation = match Relation::try_open(range.relation, Lock::Update) {
        Ok(relation) => relation,
        Err(Unavailable::Busy) => return Ok(Outcome::TableBusy),
        Err(Unavailable::Gone) => return finish_unworked(&state, claim),
    };
    // Once more, for the table may have been rewritten, and the backfill replaced, before the lock was had.
    let Some(leaf) = Leaf::find(range.relation)? else {
        return finish_unworked(&state, claim);
    };
    if let Some(method) = leaf.other_method {
        return Err(Error::OtherAccessMethod {
            table: leaf.name,
            method,
        });
    }
    if leaf.filenode != range.filenode {
        return plan_again(&state, claim, &range);
    }
    let Some(to) = last_place(&range, manner) else {
        return Ok(Outcome::Advanced { to: range.from });
    };
    claim.describe(&leaf.name, range.from.block, range.end_block);
    let mut left = LeftBehind::default();
    let settings = [
        SAFE_SEARCH_PATH,
        ALL_ROWS,
        (c"session_replication_role", c"replica"),
    ];
    let reached = session::with_settings(&settings, || {
        // Under a snapshot that is newer than the lock.
        session::with_snapshot(|| {
            let pass = Pass {
                rules: session::as_role(leaf.owner, || {
                    compile::compile(&relation, leaf.rule_function)
                })?,
                leaf: &leaf,
                manner,
                until: Instant::now() + time,
            };
            pass.work(&relation, range.from, to, range.first, &mut left, tally)
        })
    })?;
    save(&state, claim, &range, reached, &left.runs(), tally, begun)
}

/// The range is still there to be worked on.
pub(super) fn is_wanted(state: &State, range: i64) -> Result<bool, Error> {
    Ok(find_range(state, range)?.is_some())
}

fn find_range(state: &State, id: i64) -> Result<Option<Range>, Error> {
    let found = state.query(RANGE, &[id.into()], |row| {
        Ok(Range {
            relation: spi::required(row, 1)?,
            filenode: spi::required(row, 2)?,
            from: Tid {
                block: spi::required::<i64>(row, 3)? as u32,
                offset: spi::required::<i32>(row, 4)? as u16,
            },
            end_block: spi::required::<i64>(row, 5)? as u32,
            locked: spi::required(row, 6)?,
            first: pg_sys::TransactionId::from(spi::required::<i64>(row, 7)? as u32),
        })
    })?;
    Ok(found.into_iter().next())
}

/// The last place that the batch may come to; `None` if that is before the first.
fn last_place(range: &Range, manner: Manner) -> Option<Tid> {
    let end = Tid::last_of(range.end_block - 1);
    let to = match manner.before {
        Some(failing) => failing.previous()?.min(end),
        None => end,
    };
    (to >= range.from).then_some(to)
}

const SAVE: &str = "
update {schema}._repl_backfill_ranges
   set next_block = $2, next_offset = $3, end_block = $4,
       rows_scanned = rows_scanned + $5, rows_changed = rows_changed + $6,
       rows_per_second = $7, blocks_per_second = $8, worked_at = clock_timestamp()
 where id = $1";

const LEAVE_BEHIND: &str = "
insert into {schema}._repl_backfill_ranges
    (backfill, relation, filenode, first_block, next_block, end_block, locked, worked_at)
values ($1, $2, $3, $4, $4, $5, true, clock_timestamp())";

/// Moves the range's position, and leaves behind ranges of what others have locked.
fn save(
    state: &State,
    claim: &mut Claim,
    range: &Range,
    reached: Option<Tid>,
    runs: &[(u32, u32)],
    tally: &Tally,
    begun: Instant,
) -> Result<Outcome, Error> {
    let end = Tid::first_of(range.end_block);
    let (mut next, mut end_block) = (reached.unwrap_or(end), range.end_block);
    let mut outcome = match reached {
        Some(to) => Outcome::Advanced { to },
        None => Outcome::Finished,
    };
    match (runs.first(), runs.last()) {
        // A range that was left behind before stays the one that it is.
        (Some((first, _)), Some((_, last))) if reached.is_none() && range.locked => {
            (next, end_block) = (Tid::first_of(*first), *last);
            outcome = Outcome::Locked;
        }
        _ => {
            for (first, behind) in runs {
                state.run(
                    LEAVE_BEHIND,
                    &[
                        claim.backfill.into(),
                        range.relation.into(),
                        range.filenode.into(),
                        i64::from(*first).into(),
                        i64::from(*behind).into(),
                    ],
                )?;
            }
        }
    }
    let blocks = next.min(end).block - range.from.block.min(next.block);
    claim.rate.add(begun, Instant::now(), tally.scanned, blocks);
    state.run(
        SAVE,
        &[
            claim.range.into(),
            i64::from(next.block).into(),
            i32::from(next.offset).into(),
            i64::from(end_block).into(),
            tally.scanned.into(),
            tally.changed.into(),
            claim.rate.rows.into(),
            claim.rate.blocks.into(),
        ],
    )?;
    Ok(outcome)
}

/// The table or partition is gone, or has no rule any more: no row of it is wrong.
fn finish_unworked(state: &State, claim: &Claim) -> Result<Outcome, Error> {
    state.run(
        "update {schema}._repl_backfill_ranges set next_block = end_block, next_offset = 1 where id = $1",
        &[claim.range.into()],
    )?;
    Ok(Outcome::Finished)
}

/// The table was rewritten (VACUUM FULL, CLUSTER, TRUNCATE, ALTER TABLE): its rows are elsewhere now, and it is begun
/// again. Workers that share it come here one by one.
fn plan_again(state: &State, claim: &Claim, range: &Range) -> Result<Outcome, Error> {
    state.lock_planning(lock_number(claim.backfill));
    if find_range(state, claim.range)?.is_none() {
        return Ok(Outcome::Gone);
    }
    state.run(
        "with counted as (
             delete from {schema}._repl_backfill_ranges
              where backfill = $1 and relation = $2 returning rows_scanned, rows_changed
         )
         update {schema}._repl_backfills
            set rows_scanned = rows_scanned + (select sum(rows_scanned)::bigint from counted),
                rows_changed = rows_changed + (select sum(rows_changed)::bigint from counted)
          where id = $1",
        &[claim.backfill.into(), range.relation.into()],
    )?;
    state.plan(claim.backfill, range.relation, claim.workers)?;
    Ok(Outcome::Gone)
}
