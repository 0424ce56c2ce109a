//! `repl_adopt_generated`: GENERATED columns of the subscriber become plain columns with a rule.

use super::rule::{self, OnError};
use super::table::OwnedTable;
use crate::error::Error;
use crate::pg::name::Name;
use crate::pg::relation::Lock;
use crate::pg::{session, spi};
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use std::ffi::CStr;

struct GeneratedColumn {
    name: String,
    /// `s` stored, `v` virtual, empty: a plain column.
    kind: String,
    expression: String,
    /// A partition whose expression differs, as PostgreSQL 16 and later allow.
    differs_in: Option<String>,
}

const COLUMNS: &str = "
select a.attname::text, a.attgenerated::text, coalesce(pg_get_expr(d.adbin, d.adrelid), ''),
       (select p.relid::text
          from pg_partition_tree($1) p
          join pg_attribute pa on pa.attrelid = p.relid and pa.attname = a.attname
          left join pg_attrdef pd on pd.adrelid = pa.attrelid and pd.adnum = pa.attnum
         where pg_get_expr(pd.adbin, pd.adrelid) is distinct from pg_get_expr(d.adbin, d.adrelid)
         limit 1)
  from pg_attribute a
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
   and case when $2::name is null then a.attgenerated = 's' else a.attname = $2::name end
 order by a.attnum";

/// What a table shares its columns with: the partitioned table that it is a partition of, a parent, or a child.
const RELATIVES: &str = "
select i.inhparent::regclass::text, c.relispartition, true
  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhrelid = $1
union all
select i.inhrelid::regclass::text, false, false
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = $1 and not c.relispartition
 limit 1";

/// `repl_adopt_generated(relation, column_name)`
#[pg_extern(sql = false)]
fn repl_adopt_generated(
    relation: Option<pg_sys::Oid>,
    column_name: Option<&CStr>,
) -> Result<SetOfIterator<'static, Name>, ErrorReport> {
    let table = OwnedTable::lock(relation, Lock::Alter)?;
    let wanted = column_name.map(|name| name.to_string_lossy().into_owned());
    let adopted = session::with_safe_search_path(|| adopt(&table, wanted.as_deref()))?;
    Ok(SetOfIterator::new(adopted.into_iter().map(Name)))
}

fn adopt(table: &OwnedTable, wanted: Option<&str>) -> Result<Vec<String>, Error> {
    let relatives = spi::query(RELATIVES, &[table.oid.into()], |row| {
        Ok((
            spi::required::<String>(row, 1)?,
            spi::required::<bool>(row, 2)?,
            spi::required::<bool>(row, 3)?,
        ))
    })?;
    if let Some((relative, is_partition, is_parent)) = relatives.into_iter().next() {
        let table = table.name.clone();
        return Err(match (is_partition, is_parent) {
            (true, _) => Error::PartitionColumns {
                table,
                parent: relative,
            },
            (false, true) => Error::InheritedColumns {
                child: table,
                parent: relative,
            },
            (false, false) => Error::InheritedColumns {
                child: relative,
                parent: table,
            },
        });
    }
    let columns = spi::query(COLUMNS, &[table.oid.into(), wanted.into()], |row| {
        Ok(GeneratedColumn {
            name: spi::required(row, 1)?,
            kind: spi::required(row, 2)?,
            expression: spi::required(row, 3)?,
            differs_in: row.get(4)?,
        })
    })?;
    if let (Some(column), true) = (wanted, columns.is_empty()) {
        return Err(Error::UnknownColumn {
            table: table.name.clone(),
            column: column.to_owned(),
        });
    }
    for column in &columns {
        check(table, column)?;
        spi::run(&format!(
            "alter table {} alter column {} drop expression",
            table.name,
            quote_identifier(&column.name)
        ))?;
    }
    // The second round, for one expression must not meet another column that is still GENERATED.
    for column in &columns {
        rule::set(table, &column.name, &column.expression, OnError::Fail)?;
    }
    Ok(columns.into_iter().map(|column| column.name).collect())
}

fn check(table: &OwnedTable, column: &GeneratedColumn) -> Result<(), Error> {
    let (table, name) = (table.name.clone(), column.name.clone());
    if let Some(partition) = &column.differs_in {
        return Err(Error::PartitionExpressionDiffers {
            table,
            column: name,
            partition: partition.clone(),
        });
    }
    match column.kind.as_str() {
        "s" => Ok(()),
        "v" => Err(Error::VirtualColumn {
            table,
            column: name,
        }),
        _ => Err(Error::NotGenerated {
            table,
            column: name,
        }),
    }
}
