//! Asking for a backfill, and taking that back.

use super::state::State;
use crate::error::Error;
use crate::generated::RULE_FUNCTION;
use crate::generated::table::OwnedTable;
use crate::pg::{session, spi};

/// The names of the table's derived columns.
const COLUMNS: &str = "
select array_agg(a.attname::text order by a.attnum)
  from pg_trigger t
  join pg_proc p on p.oid = t.tgfoid
  join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = t.tgattr[0]
 where t.tgrelid = $1 and p.proname = $2
having count(*) > 0";

const IS_EMPTY: &str = "
select not exists (
    select from (select relid::oid as oid from pg_partition_tree($1) union select $1) tree
     where pg_relation_size(tree.oid) > 0)";

const INSERT: &str = "
insert into {schema}._repl_backfills (relation, columns, workers, origin)
values ($1::regclass, $2::name[], $3, $4)
returning id";

/// What the ranges of ended backfills counted becomes part of their row; the last ten of a table are remembered.
const TIDY: &str = "
with ended as (
    select b.id, row_number() over (partition by b.relation order by b.id desc) > 10
                 or not exists (select from pg_class c where c.oid = b.relation) as is_old
      from {schema}._repl_backfills b
     where b.id <> $1 and b.state in ('done', 'cancelled', 'failed')
), counted as (
    delete from {schema}._repl_backfill_ranges r using ended
     where r.backfill = ended.id and not exists (
           select from {schema}._repl_backfills b
            where b.id = r.backfill and b.finished_at > clock_timestamp() - interval '1 minute')
    returning r.backfill, r.rows_scanned, r.rows_changed
), forgotten as (
    delete from {schema}._repl_backfills b using ended where b.id = ended.id and ended.is_old
)
update {schema}._repl_backfills b
   set rows_scanned = b.rows_scanned + c.rows_scanned, rows_changed = b.rows_changed + c.rows_changed
  from (select backfill, sum(rows_scanned)::bigint as rows_scanned, sum(rows_changed)::bigint as rows_changed
          from counted group by backfill) c
 where b.id = c.backfill";

pub(super) fn enqueue(table: &OwnedTable, workers: i32) -> Result<Option<i64>, Error> {
    let state = State::find()?;
    // Two who ask for the same table at once: the later one replaces the earlier.
    state.lock_planning(table.oid.to_u32());
    let columns = state
        .query(COLUMNS, &[table.oid.into(), RULE_FUNCTION.into()], |row| {
            spi::required::<Vec<String>>(row, 1)
        })?
        .pop()
        .ok_or_else(|| Error::NoRules {
            table: table.name.clone(),
        })?;
    let is_empty = state.query(IS_EMPTY, &[table.oid.into()], |row| {
        spi::required::<bool>(row, 1)
    })?;
    if is_empty == [true] {
        return Ok(None);
    }
    if table.is_temporary {
        return Err(Error::TemporaryTable {
            table: table.name.clone(),
        });
    }
    let arguments = [
        table.oid.into(),
        columns.into(),
        workers.into(),
        state.origin().into(),
    ];
    let id = state
        .query(INSERT, &arguments, |row| spi::required::<i64>(row, 1))?
        .pop()
        .ok_or(Error::NotInstalled)?;
    state.plan(id, table.oid, workers)?;
    state.run(
        "update {schema}._repl_backfills
            set state = 'cancelled', finished_at = clock_timestamp(), error = format('replaced by backfill %s', $2)
          where relation = $1::regclass and id <> $2 and state in ('queued', 'running')",
        &[table.oid.into(), id.into()],
    )?;
    // Failing rows are counted anew: the backfill meets them all.
    state.run(
        "delete from {schema}._repl_failures f using pg_trigger t
          where t.oid = f.trigger and t.tgrelid = $1",
        &[table.oid.into()],
    )?;
    state.run(TIDY, &[id.into()])?;
    Ok(Some(id))
}

/// False if it had ended already.
pub(super) fn cancel(id: i64) -> Result<bool, Error> {
    let state = State::find()?;
    // Whose table it is; of one that has been dropped, the extension's.
    let (table, owned) = state
        .query(
            "select b.relation::text, pg_has_role($2, coalesce(c.relowner, e.extowner), 'usage')
               from {schema}._repl_backfills b
               join pg_extension e on e.extname = 'replwarden'
               left join pg_class c on c.oid = b.relation
              where b.id = $1",
            &[id.into(), session::current_role().into()],
            |row| {
                Ok((
                    spi::required::<String>(row, 1)?,
                    spi::required::<bool>(row, 2)?,
                ))
            },
        )?
        .pop()
        .ok_or(Error::UnknownBackfill { id })?;
    if !owned {
        return Err(Error::NotTableOwner { table });
    }
    let cancelled = state.run(
        "update {schema}._repl_backfills
            set state = 'cancelled', finished_at = clock_timestamp(), error = 'by repl_cancel_backfill()'
          where id = $1 and state in ('queued', 'running')
          returning id",
        &[id.into()],
    )?;
    Ok(cancelled > 0)
}
