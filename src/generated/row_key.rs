//! How a row is named to a person: by the columns by which replication finds it.

use crate::error::Error;
use crate::pg::spi;
use pgrx::pg_sys;
use pgrx::spi::{quote_identifier, quote_literal};

/// The columns of the replica identity index or else the primary key; none where only the partitions have one.
const KEY: &str = "
select a.attname::text
  from (select i.indkey, i.indnkeyatts from pg_index i
         where i.indrelid = $1 and (i.indisreplident or i.indisprimary) and i.indimmediate
         order by i.indisprimary desc limit 1) key
  join lateral unnest(key.indkey::int2[]) with ordinality k (attnum, place) on true
  join pg_attribute a on a.attrelid = $1 and a.attnum = k.attnum
 where k.place <= key.indnkeyatts
 order by k.place";

/// An SQL expression for the key of the table's row `r`, as jsonb; the search_path is safe.
pub(super) fn expression(table: pg_sys::Oid) -> Result<String, Error> {
    let key = spi::read(KEY, &[table.into()], |row| spi::required::<String>(row, 1))?;
    let parts = if key.is_empty() {
        "'table', r.tableoid::regclass, 'ctid', r.ctid".to_owned()
    } else {
        let parts = key
            .iter()
            .map(|name| format!("{}, r.{}", quote_literal(name), quote_identifier(name)));
        parts.collect::<Vec<_>>().join(", ")
    };
    Ok(format!("jsonb_build_object({parts})"))
}
