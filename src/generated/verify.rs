//! `repl_verify`: the proof that every row is right.

use super::table::OwnedTable;
use super::{RULE_FUNCTION, row_key};
use crate::error::Error;
use crate::pg::error_note;
use crate::pg::name::Name;
use crate::pg::session::{self, ALL_ROWS, SAFE_SEARCH_PATH};
use crate::pg::spi;
use pgrx::JsonB;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

struct DerivedColumn {
    attnum: i16,
    name: String,
}

struct Verified {
    column: DerivedColumn,
    rows_checked: i64,
    rows_wrong: i64,
    sample_keys: Option<JsonB>,
}

const DERIVED: &str = "
select a.attnum, a.attname::text
  from pg_trigger t
  join pg_proc p on p.oid = t.tgfoid
  join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = t.tgattr[0]
 where t.tgrelid = $1 and p.proname = $2
 order by a.attnum";

/// `repl_verify(relation, sample)`
#[pg_extern(sql = false)]
fn repl_verify(
    relation: Option<pg_sys::Oid>,
    sample: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(column_name, Name),
            name!(rows_checked, i64),
            name!(rows_wrong, i64),
            name!(sample_keys, Option<JsonB>),
        ),
    >,
    ErrorReport,
> {
    let table = OwnedTable::find(relation)?;
    let sample = sample.ok_or(Error::NullArgument("sample"))?;
    if sample < 0 {
        return Err(Error::InvalidSample { value: sample }.into());
    }
    let verified = error_note::keep(|| {
        session::with_settings(&[SAFE_SEARCH_PATH, ALL_ROWS], || verify(&table, sample))
    })?;
    Ok(TableIterator::new(verified.into_iter().map(|one| {
        (
            Name(one.column.name),
            one.rows_checked,
            one.rows_wrong,
            one.sample_keys,
        )
    })))
}

fn verify(table: &OwnedTable, sample: i32) -> Result<Vec<Verified>, Error> {
    let columns = spi::read(DERIVED, &[table.oid.into(), RULE_FUNCTION.into()], |row| {
        Ok(DerivedColumn {
            attnum: spi::required(row, 1)?,
            name: spi::required(row, 2)?,
        })
    })?;
    if columns.is_empty() {
        return Err(Error::NoRules {
            table: table.name.clone(),
        });
    }
    let (schema, _) = spi::extension()?;
    let wrong = format!("{}._repl_wrong_columns(r.*)", quote_identifier(schema));
    let counts: String = columns
        .iter()
        .map(|column| format!(", count(*) filter (where {} = any (wrong))", column.attnum))
        .collect();
    // OFFSET 0 keeps the planner from computing the columns once for each count.
    let count = format!(
        "select array[count(*){counts}] from (select {wrong} as wrong from {} r offset 0) row",
        table.with_partitions()
    );
    let counted: Vec<i64> = spi::read_as(table.owner, &count, |row| spi::required(row, 1))?
        .pop()
        .unwrap_or_default();
    let rows_checked = counted.first().copied().unwrap_or(0);
    columns
        .into_iter()
        .zip(counted.into_iter().skip(1))
        .map(|(column, rows_wrong)| {
            let sample_keys = if rows_wrong > 0 && sample > 0 {
                sample_keys(table, &wrong, column.attnum, sample)?
            } else {
                None
            };
            Ok(Verified {
                column,
                rows_checked,
                rows_wrong,
                sample_keys,
            })
        })
        .collect()
}

fn sample_keys(
    table: &OwnedTable,
    wrong: &str,
    attnum: i16,
    sample: i32,
) -> Result<Option<JsonB>, Error> {
    let key = row_key::expression(table.oid)?;
    let query = format!(
        "select jsonb_agg(key) from (select {key} as key from {} r
          where {attnum} = any ({wrong}) limit {sample}) sample",
        table.with_partitions()
    );
    Ok(spi::read_as(table.owner, &query, |row| row.get(1))?
        .pop()
        .flatten())
}
