//! Making the constraint of a key again, and validating it.

use super::book::Entry;
use crate::error::Error;
use crate::pg::{session, spi, transaction};
use crate::subscription::quote::literal;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportWithLevel;

/// Not of the moment (locks, memory, a cancelled statement), so that it is said of the key.
pub(super) fn is_of_the_key(report: &ErrorReportWithLevel) -> bool {
    !is_of_the_moment(&transaction::sqlstate(report.sql_error_code() as i32))
}

/// Tried again, it may pass.
pub(super) fn is_of_the_moment(sqlstate: &str) -> bool {
    sqlstate == "55P03"
        || ["40", "53", "57", "58"]
            .iter()
            .any(|class| sqlstate.starts_with(class))
}

/// Parts of a partitioned table that have rows, and whether each has the key: valid, not valid, or not at all (NULL).
const LEAVES: &str = "
select l.oid::regclass::text,
       (select k.convalidated from pg_constraint k where k.conrelid = l.oid and k.conname = $2::name and k.contype = 'f')
  from pg_partition_tree($1) t join pg_class l on l.oid = t.relid
 where t.isleaf and l.relkind = 'r'
 order by 1";

pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) is_valid: Option<bool>,
}

pub(super) fn leaves(entry: &Entry) -> Result<Vec<Leaf>, Error> {
    let name = unquoted(&entry.name)?;
    let arguments = [entry.relation.into(), name.into()];
    spi::query(LEAVES, &arguments, |row| {
        Ok(Leaf {
            name: spi::required(row, 1)?,
            is_valid: row.get(2)?,
        })
    })
}

fn unquoted(identifier: &str) -> Result<String, Error> {
    let found = spi::read(
        "select (pg_catalog.parse_ident($1))[1]",
        &[identifier.into()],
        |row| spi::required(row, 1),
    )?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// So that it holds for new rows: NOT VALID, which a partitioned table cannot have up to 17; there each partition gets a key
/// of its own, which becomes a part of the one when that is made.
pub(super) fn not_valid(entry: &Entry) -> Result<(), Error> {
    if !entry.validated {
        return whole(entry);
    }
    if !entry.is_partitioned {
        spi::run(&format!(
            "alter table {} add constraint {} {} not valid",
            entry.relation_name, entry.name, entry.definition
        ))?;
        return comment(entry);
    }
    for leaf in leaves(entry)?.iter().filter(|leaf| leaf.is_valid.is_none()) {
        spi::run(&format!(
            "alter table {} add constraint {} {} not valid",
            leaf.name, entry.name, entry.definition
        ))?;
    }
    Ok(())
}

/// As it was, at once. What is valid in each partition is not looked at again; what is not is, with the rights of the owner, as
/// [`validate`] does.
pub(super) fn whole(entry: &Entry) -> Result<(), Error> {
    let add = format!(
        "alter table {} add constraint {} {}",
        entry.relation_name, entry.name, entry.definition
    );
    match entry.owner {
        Some(owner) => session::as_role(owner, || spi::run(&add))?,
        None => spi::run(&add)?,
    }
    comment(entry)
}

fn comment(entry: &Entry) -> Result<(), Error> {
    match &entry.comment {
        None => Ok(()),
        Some(text) => spi::run(&format!(
            "comment on constraint {} on {} is {}",
            entry.name,
            entry.relation_name,
            literal(text)
        )),
    }
}

/// Looks at the rows of a table or partition, as its owner: the types of its columns may bring functions along. Keeps nobody
/// from writing.
pub(super) fn validate(table: &str, name: &str, owner: pg_sys::Oid) -> Result<(), Error> {
    session::as_role(owner, || {
        spi::run(&format!("alter table {table} validate constraint {name}"))
    })
}
