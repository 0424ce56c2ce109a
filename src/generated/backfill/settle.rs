//! Bringing backfills to their end, whichever it is, and to life in a database that they came to by a restore.

use super::state::State;
use crate::error::Error;
use crate::generated::RULE_FUNCTION;
use crate::pg::spi;
use pgrx::pg_sys;

/// Backfills that came from elsewhere, whose table has all the rules again that they are for.
const ARRIVED: &str = "
select b.id, b.relation::oid, b.workers
  from {schema}._repl_backfills b
 where b.state in ('queued', 'running') and b.origin <> $1
   and not exists (
       select from unnest(b.columns) wanted (name)
        where not exists (
              select from pg_trigger t
                join pg_proc p on p.oid = t.tgfoid and p.proname = $2
                join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = t.tgattr[0]
               where t.tgrelid = b.relation and a.attname = wanted.name))
   for update of b skip locked";

/// Backfills whose work is done or without an object.
const SETTLE: &str = "
update {schema}._repl_backfills b
   set state = case when ended.reason is null then 'done' else 'cancelled' end,
       error = ended.reason, finished_at = clock_timestamp(),
       started_at = coalesce(b.started_at, clock_timestamp())
  from (select a.id,
               case when not exists (select from pg_class c where c.oid = a.relation)
                    then 'the table was dropped'
                    when not exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                                      where t.tgrelid = a.relation and p.proname = $2)
                    then 'the table has no derived column any more'
               end as reason,
               not exists (select from {schema}._repl_backfill_ranges r
                            where r.backfill = a.id and r.next_block < r.end_block) as is_done
          from {schema}._repl_backfills a
         where a.state in ('queued', 'running') and a.origin = $1) ended
 where b.id = ended.id and b.state in ('queued', 'running')
   and (ended.is_done or ended.reason is not null)
returning b.id, b.relation::text, b.state, coalesce(b.error, ''),
          extract(epoch from b.finished_at - b.started_at)::float8,
          b.rows_changed + coalesce((select sum(r.rows_changed)::bigint from {schema}._repl_backfill_ranges r
                                      where r.backfill = b.id), 0)";

/// A backfill that has ended just now.
pub(super) struct Ended {
    pub(super) id: i64,
    pub(super) relation: String,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) seconds: f64,
    pub(super) rows_changed: i64,
}

/// Begins what has arrived, ends what has nothing left to do.
pub(super) fn settle(state: &State) -> Result<Vec<Ended>, Error> {
    let arguments = [state.origin().into(), RULE_FUNCTION.into()];
    let arrived = state.query(ARRIVED, &arguments, |row| {
        Ok((
            spi::required::<i64>(row, 1)?,
            spi::required::<pg_sys::Oid>(row, 2)?,
            spi::required::<i32>(row, 3)?,
        ))
    })?;
    for (id, relation, workers) in arrived {
        state.run(
            "delete from {schema}._repl_backfill_ranges where backfill = $1",
            &[id.into()],
        )?;
        state.run(
            "update {schema}._repl_backfills
                set origin = $2, state = 'queued', first_transaction = pg_current_xact_id(), started_at = null, rows_scanned = 0, rows_changed = 0
              where id = $1",
            &[id.into(), state.origin().into()],
        )?;
        state.plan(id, relation, workers)?;
    }
    state.query(SETTLE, &arguments, |row| {
        Ok(Ended {
            id: spi::required(row, 1)?,
            relation: spi::required(row, 2)?,
            state: spi::required(row, 3)?,
            reason: spi::required(row, 4)?,
            seconds: spi::required(row, 5)?,
            rows_changed: spi::required(row, 6)?,
        })
    })
}
