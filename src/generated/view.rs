//! What `repl_generated_columns` asks for beyond plain SQL.

use crate::error::Error;
use crate::pg::expression::Expression;
use crate::pg::relation::{Lock, Relation};
use crate::pg::{session, spi};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::ffi::CString;

/// `_repl_rule_expression(trigger)`: the expression of the rule that a trigger stores; NULL if it stores none.
#[pg_extern(sql = false)]
fn repl_rule_expression(trigger: pg_sys::Oid) -> Result<Option<String>, ErrorReport> {
    // Only a tree that the server wrote into pg_trigger may be read: a forged one could do anything.
    const STORED: &str = "
        select t.tgrelid, t.tgqual::pg_catalog.text
          from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
         where t.oid = $1 and t.tgqual is not null and p.proname = '_repl_rule'";
    let stored = session::with_safe_search_path(|| {
        spi::read(STORED, &[trigger.into()], |row| {
            Ok((spi::required(row, 1)?, spi::required::<String>(row, 2)?))
        })
    })?;
    let Some((oid, tree)) = stored.into_iter().next() else {
        return Ok(None);
    };
    let relation = Relation::open(oid, Lock::Read);
    let tree = CString::new(tree).unwrap_or_default();
    Ok(Expression::from_stored(&tree).and_then(|expression| expression.to_text(&relation)))
}

/// Trigger, rows, error and time of the last one.
type Failures = (
    pg_sys::Oid,
    i64,
    Option<String>,
    Option<TimestampWithTimeZone>,
);

/// `_repl_failure_counts()`: the rows of `_repl_failures` added up; the text of an error, which may hold data of
/// the row, only for the table's owner and for pg_monitor. A standby has none: the table is unlogged.
#[pg_extern(sql = false)]
fn repl_failure_counts() -> Result<
    TableIterator<
        'static,
        (
            name!(trigger, pg_sys::Oid),
            name!(rows, i64),
            name!(last_error, Option<String>),
            name!(last_error_at, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let counts = if session::is_in_recovery() {
        Vec::new()
    } else {
        session::with_safe_search_path(read_counts)?
    };
    Ok(TableIterator::new(counts))
}

fn read_counts() -> Result<Vec<Failures>, Error> {
    let (schema, owner) = spi::extension()?;
    let counts = format!(
        "select f.trigger, sum(f.rows)::int8,
                case when pg_has_role($1, c.relowner, 'usage') or pg_has_role($1, 'pg_monitor', 'usage')
                     then (array_agg(f.last_error order by f.last_error_at desc))[1]
                     else '<insufficient privilege>' end,
                max(f.last_error_at)
           from {}._repl_failures f
           join pg_trigger t on t.oid = f.trigger
           join pg_class c on c.oid = t.tgrelid
          group by f.trigger, c.relowner",
        pgrx::spi::quote_identifier(schema)
    );
    let caller = session::current_role();
    session::as_role(owner, || {
        spi::read(&counts, &[caller.into()], |row| {
            Ok((
                spi::required(row, 1)?,
                spi::required(row, 2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })
    })
}
