//! What has to follow a user's own DDL: a rule that arrives by a restore, a rule that falls with a column.

use super::{GENERATE_FUNCTION, GENERATE_TRIGGER, RULE_FUNCTION, failure};
use crate::error::Error;
use crate::pg::{session, spi, trigger};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Rules among the triggers that the command has created, with their copies in partitions, that do not yet
/// fall with their column. (`CREATE TRIGGER … UPDATE OF column` by itself makes a dependency that refuses to let
/// the column go.)
const CREATED_RULES: &str = "
with recursive rule as (
    select t.oid, t.tgrelid, t.tgattr[0] as attnum
      from pg_event_trigger_ddl_commands() c
      join pg_trigger t on t.oid = c.objid
      join pg_proc p on p.oid = t.tgfoid
     where c.classid = 'pg_trigger'::regclass and p.proname = $1 and t.tgattr[0] is not null
    union all
    select t.oid, t.tgrelid, t.tgattr[0] from pg_trigger t join rule r on t.tgparentid = r.oid
)
select oid, tgrelid, attnum from rule
 where not exists (
       select from pg_depend d
        where d.classid = 'pg_trigger'::regclass and d.objid = rule.oid and d.deptype = 'a'
          and d.refclassid = 'pg_class'::regclass and d.refobjid = rule.tgrelid
          and d.refobjsubid = rule.attnum)";

/// Tables that have lost a trigger just now, still have the one that computes, and have no rule any more.
const IDLE_TABLES: &str = "
select distinct t.tgrelid::regclass::text, c.relowner
  from pg_event_trigger_dropped_objects() d
  join pg_trigger t on t.tgrelid = to_regclass(format('%I.%I', d.address_names[1], d.address_names[2]))
  join pg_proc p on p.oid = t.tgfoid
  join pg_class c on c.oid = t.tgrelid
 where d.object_type = 'trigger' and t.tgname = $1::name and t.tgparentid = 0 and p.proname = $2
   and not exists (select from pg_trigger r join pg_proc rp on rp.oid = r.tgfoid
                    where r.tgrelid = t.tgrelid and rp.proname = $3)";

/// `_repl_on_create_trigger()`, an event trigger function for `ddl_command_end`.
#[pg_extern(sql = false)]
fn repl_on_create_trigger() -> Result<(), ErrorReport> {
    let created = session::with_safe_search_path(|| {
        spi::query(CREATED_RULES, &[RULE_FUNCTION.into()], |row| {
            Ok((
                spi::required(row, 1)?,
                spi::required(row, 2)?,
                spi::required(row, 3)?,
            ))
        })
    })?;
    for (rule, table, attnum) in created {
        trigger::depend_automatically(rule, table, attnum);
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
    let arguments = [
        GENERATE_TRIGGER.into(),
        GENERATE_FUNCTION.into(),
        RULE_FUNCTION.into(),
    ];
    let tables = spi::query(IDLE_TABLES, &arguments, |row| {
        Ok((spi::required::<String>(row, 1)?, spi::required(row, 2)?))
    })?;
    for (table, owner) in tables {
        session::as_role(owner, || {
            spi::run(&format!("drop trigger {GENERATE_TRIGGER} on {table}"))
        })?;
    }
    failure::forget_dropped_rules()
}
