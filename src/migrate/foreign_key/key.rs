//! Foreign keys as the catalogs have them.

use crate::error::Error;
use crate::pg::spi;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

/// A foreign key that a user has made: what the server has made for partitions goes and comes with it.
pub(super) struct ForeignKey {
    pub(super) oid: pg_sys::Oid,
    pub(super) relation: pg_sys::Oid,
    /// With their schemas, quoted.
    pub(super) relation_name: String,
    pub(super) referenced: pg_sys::Oid,
    pub(super) referenced_name: String,
    /// Quoted.
    pub(super) name: String,
    /// The caller has the rights of the owner of the table that has the key.
    pub(super) is_owned: bool,
    pub(super) owner_name: String,
}

/// Keys without a parent that are on a table of `tables` or refer to one, but not those between tables of the session.
const KEYS: &str = "
select c.oid, c.conrelid, c.conrelid::regclass::text, c.confrelid, c.confrelid::regclass::text, quote_ident(c.conname),
       pg_has_role(t.relowner, 'USAGE'), pg_get_userbyid(t.relowner)::text
  from pg_constraint c join pg_class t on t.oid = c.conrelid
 where c.contype = 'f' and c.conparentid = 0 and t.relpersistence <> 't'
   and ({condition})
 order by 3, 6";

/// A partition's keys may be those of the partitioned table, and the other way round.
const FAMILY: &str = "
    select $1::oid
    union select relid::oid from pg_partition_tree($1)
    union select relid::oid from pg_partition_ancestors($1)";

const REPLICATED: &str = "
    select relation::oid from {schema}.repl_tables where relation is not null";

const RELATIVES: &str = "
select distinct f.oid
  from unnest($1::oid[]) o
 cross join lateral (select o as oid
                     union select relid::oid from pg_partition_tree(o)
                     union select relid::oid from pg_partition_ancestors(o)) f";

fn key(row: &SpiHeapTupleData) -> pgrx::spi::SpiResult<ForeignKey> {
    Ok(ForeignKey {
        oid: spi::required(row, 1)?,
        relation: spi::required(row, 2)?,
        relation_name: spi::required(row, 3)?,
        referenced: spi::required(row, 4)?,
        referenced_name: spi::required(row, 5)?,
        name: spi::required(row, 6)?,
        is_owned: spi::required(row, 7)?,
        owner_name: spi::required(row, 8)?,
    })
}

/// Those of a table and of its partitions, and those that refer to it. Under a new snapshot.
pub(super) fn of_table(relation: pg_sys::Oid) -> Result<Vec<ForeignKey>, Error> {
    let condition = format!("c.conrelid in ({FAMILY}) or c.confrelid in ({FAMILY})");
    spi::query(
        &KEYS.replace("{condition}", &condition),
        &[relation.into()],
        key,
    )
}

/// Those of other tables that refer to it: with them it cannot be emptied.
pub(super) fn inbound(relation: pg_sys::Oid) -> Result<Vec<ForeignKey>, Error> {
    let condition = format!(
        "c.confrelid in ({FAMILY}) and c.conrelid <> $1
         and c.conrelid not in (select relid::oid from pg_partition_tree($1))"
    );
    spi::query(
        &KEYS.replace("{condition}", &condition),
        &[relation.into()],
        key,
    )
}

/// Those of the tables that are given, and those that refer to them.
pub(super) fn of_tables(tables: &[pg_sys::Oid]) -> Result<Vec<ForeignKey>, Error> {
    spi::query(
        &KEYS.replace(
            "{condition}",
            "c.conrelid = any ($1) or c.confrelid = any ($1)",
        ),
        &[tables.to_vec().into()],
        key,
    )
}

/// The tables that the subscriptions of this database replicate, with their partitions and what they are partitions of. As
/// the role that may see them.
pub(super) fn replicated_tables(
    schema: &str,
    as_role: impl FnOnce(&str) -> Result<Vec<pg_sys::Oid>, Error>,
) -> Result<Vec<pg_sys::Oid>, Error> {
    let tables = as_role(&REPLICATED.replace("{schema}", schema))?;
    spi::query(RELATIVES, &[tables.into()], |row| spi::required(row, 1))
}
