//! Taking foreign keys away.

use super::book::Book;
use super::key::{self, ForeignKey};
use super::rename;
use crate::error::Error;
use crate::generated::table::OwnedTable;
use crate::pg::relation::{Lock, Relation};
use crate::pg::spi;
use pgrx::pg_sys;
use std::collections::BTreeSet;

const KEEP: &str = "
insert into {schema}._repl_foreign_keys as f
       (relation, relation_name, constraint_name, referenced, referenced_name, definition, comment, validated,
        columns, referenced_columns, column_numbers, referenced_column_numbers, operators, match_full, origin, task, awaits)
select c.conrelid, c.conrelid::regclass::text, c.conname, c.confrelid, c.confrelid::regclass::text,
       pg_get_constraintdef(c.oid), obj_description(c.oid, 'pg_constraint'), c.convalidated,
       array(select a.attname from unnest(c.conkey) with ordinality k (attnum, place)
               join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum order by k.place),
       array(select a.attname from unnest(c.confkey) with ordinality k (attnum, place)
               join pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.attnum order by k.place),
       c.conkey, c.confkey,
       -- A key over periods is broken in other ways.
       case when coalesce(to_jsonb(c) ->> 'conperiod', 'false') = 'false' then
           array(select format('operator(%I.%s)', n.nspname, o.oprname)
                   from unnest(c.conpfeqop) with ordinality k (operator, place)
                   join pg_operator o on o.oid = k.operator join pg_namespace n on n.oid = o.oprnamespace order by k.place) end,
       c.confmatchtype = 'f', $2, case when $3::oid is not null then 'restore' end, $3::oid::regclass
  from pg_constraint c where c.oid = $1
    on conflict (relation, constraint_name) do update
   set (relation_name, referenced, referenced_name, definition, comment, validated, columns, referenced_columns,
        column_numbers, referenced_column_numbers, operators, match_full, origin, task, awaits, detached_at, problem, rows_wrong, sample_keys)
     = (excluded.relation_name, excluded.referenced, excluded.referenced_name, excluded.definition, excluded.comment,
        -- One that has come back NOT VALID was to become valid, and is to.
        excluded.validated or f.validated,
        excluded.columns, excluded.referenced_columns, excluded.column_numbers, excluded.referenced_column_numbers,
        excluded.operators, excluded.match_full, excluded.origin,
        excluded.task, excluded.awaits, clock_timestamp(), null, null, null)";

/// A partition's part of a key that was about to come back.
const KEEP_PART: &str = "
update {schema}._repl_foreign_keys f
   set origin = $2, task = case when $3::oid is not null then 'restore' end, awaits = $3::oid::regclass,
       problem = null, rows_wrong = null, sample_keys = null
  from pg_constraint c
 where c.oid = $1 and f.constraint_name = c.conname and f.relation <> c.conrelid
   and f.relation in (select relid::oid from pg_partition_ancestors(c.conrelid))
returning 1";

/// Takes away the keys of a table and those that refer to it, or those of all tables that are replicated. Says what it did.
pub(super) fn detach(relation: Option<pg_sys::Oid>) -> Result<Vec<String>, Error> {
    let book = Book::find()?;
    let Some(relation) = relation else {
        let tables = key::replicated_tables(book.schema(), |sql| {
            book.query(sql, &[], |row| spi::required(row, 1))
        })?;
        let find = || key::of_tables(&tables);
        let (owned, others): (Vec<_>, Vec<_>) = find()?.into_iter().partition(|one| one.is_owned);
        let mut lines = drop_keys(&book, &owned, find, None)?;
        lines.extend(
            others
                .iter()
                .map(|one| left_alone(&one.relation_name, &one.name, &one.owner_name)),
        );
        return Ok(lines);
    };
    let table = OwnedTable::find_any(relation)?;
    let find = || key::of_table(relation);
    let found = find()?;
    refuse_others(&found)?;
    if found.is_empty() {
        table.check_owner()?;
    }
    drop_keys(&book, &found, find, None)
}

/// Takes away the keys of other tables that refer to this one. They come back by themselves when it is copied.
pub(crate) fn detach_inbound(relation: pg_sys::Oid) -> Result<bool, Error> {
    let book = Book::find()?;
    let find = || key::inbound(relation);
    let found = find()?;
    refuse_others(&found)?;
    drop_keys(&book, &found, find, Some(relation))?;
    // Those that were detached for an earlier copy of it wait for this one.
    Ok(!found.is_empty())
}

fn refuse_others(keys: &[ForeignKey]) -> Result<(), Error> {
    match keys.iter().find(|one| !one.is_owned) {
        Some(key) => Err(Error::NotTableOwner {
            table: key.relation_name.clone(),
        }),
        None => Ok(()),
    }
}

pub(super) fn left_alone(relation: &str, name: &str, owner: &str) -> String {
    format!(
        "{relation}: foreign key {name} is left alone: only the owner of {relation}, {owner}, may change it"
    )
}

/// `find` finds them again when their tables are locked: what is kept is what is dropped.
fn drop_keys(
    book: &Book,
    keys: &[ForeignKey],
    find: impl Fn() -> Result<Vec<ForeignKey>, Error>,
    awaits: Option<pg_sys::Oid>,
) -> Result<Vec<String>, Error> {
    // In the same order whoever does it.
    let tables: BTreeSet<u32> = keys
        .iter()
        .flat_map(|one| [one.relation.to_u32(), one.referenced.to_u32()])
        .collect();
    for table in &tables {
        Relation::lock(pg_sys::Oid::from(*table), Lock::Alter);
    }
    let mut lines = Vec::new();
    if keys.is_empty() {
        return Ok(lines);
    }
    rename::catch_up(book)?;
    let known: BTreeSet<u32> = keys.iter().map(|one| one.oid.to_u32()).collect();
    for key in find()? {
        // One that was made while the locks were waited for is not locked.
        if !known.contains(&key.oid.to_u32()) || !key.is_owned {
            continue;
        }
        let arguments = [key.oid.into(), book.origin().into(), awaits.into()];
        if book.run(KEEP_PART, &arguments)? == 0 {
            book.run(KEEP, &arguments)?;
        }
        spi::run(&format!(
            "alter table {} drop constraint {}",
            key.relation_name, key.name
        ))?;
        lines.push(format!(
            "{}: foreign key {} to {} is detached",
            key.relation_name, key.name, key.referenced_name
        ));
    }
    Ok(lines)
}
