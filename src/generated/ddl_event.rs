//! What has to follow a user's own DDL: a rule that arrives by a restore, a rule that falls with a column.

use super::{GENERATE_FUNCTION, RULE_FUNCTION, backfill, dependency, failure};
use crate::error::Error;
use crate::pg::{session, spi};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

/// Rules among the triggers that the command has created, with their copies in partitions.
const CREATED_RULES: &str = "
with recursive rule as (
    select t.oid
      from pg_event_trigger_ddl_commands() c
      join pg_trigger t on t.oid = c.objid
      join pg_proc p on p.oid = t.tgfoid
     where c.classid = 'pg_trigger'::regclass and p.proname = $1
    union all
    select t.oid from pg_trigger t join rule r on t.tgparentid = r.oid
)
select oid from rule";

/// Tables that have lost a trigger just now, still have one that computes, and have no rule any more. Of several
/// that compute (somebody has renamed one), dropping the first comes back here for the next.
const IDLE_TABLES: &str = "
select distinct on (t.tgrelid) t.tgrelid::regclass::text, c.relowner, t.tgname::text
  from pg_event_trigger_dropped_objects() d
  join pg_trigger t on t.tgrelid = to_regclass(format('%I.%I', d.address_names[1], d.address_names[2]))
  join pg_proc p on p.oid = t.tgfoid
  join pg_class c on c.oid = t.tgrelid
 where d.object_type = 'trigger' and t.tgparentid = 0 and p.proname = $1
   and not exists (select from pg_trigger r join pg_proc rp on rp.oid = r.tgfoid
                    where r.tgrelid = t.tgrelid and rp.proname = $2)";

/// `_repl_on_create_trigger()`, an event trigger function for `ddl_command_end`.
#[pg_extern(sql = false)]
fn repl_on_create_trigger() -> Result<(), ErrorReport> {
    let created = session::with_safe_search_path(|| {
        spi::query(CREATED_RULES, &[RULE_FUNCTION.into()], |row| {
            spi::required(row, 1)
        })
    })?;
    for rule in created {
        dependency::record(rule)?;
    }
    Ok(())
}

/// `_repl_on_drop()`, an event trigger function for `sql_drop`.
#[pg_extern(sql = false)]
fn repl_on_drop() -> Result<(), ErrorReport> {
    session::with_safe_search_path(remove_what_serves_no_rule)?;
    Ok(())
}

/// Works as the table's owner: who drops a function with CASCADE need not be the owner of the table that used it.
fn remove_what_serves_no_rule() -> Result<(), Error> {
    let arguments = [GENERATE_FUNCTION.into(), RULE_FUNCTION.into()];
    let tables = spi::query(IDLE_TABLES, &arguments, |row| {
        Ok((
            spi::required::<String>(row, 1)?,
            spi::required(row, 2)?,
            spi::required::<String>(row, 3)?,
        ))
    })?;
    for (table, owner, name) in tables {
        session::as_role(owner, || {
            spi::run(&format!(
                "drop trigger {} on {table}",
                quote_identifier(name)
            ))
        })?;
    }
    failure::forget_dropped_rules()?;
    backfill::after_drop()
}
