//! SQL from inside the server.

use super::{encoding, session};
use crate::error::Error;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData, SpiResult};
use pgrx::{PgOid, Spi, pg_sys};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// Reads rows under the snapshot of the running query, without taking a transaction id.
pub(crate) fn read<T>(
    sql: &str,
    arguments: &[DatumWithOid],
    row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>, Error> {
    Ok(Spi::connect(|client| {
        client
            .select(sql, None, arguments)?
            .map(|found| row(&found))
            .collect::<SpiResult<_>>()
    })?)
}

/// As `read`, for a query of ours that is run again and again: its plan is kept, as that of `query_kept`.
pub(crate) fn read_kept<T>(
    sql: &str,
    arguments: &[DatumWithOid],
    row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>, Error> {
    Ok(Spi::connect(|client| {
        let plan = kept(sql, || Ok(client.prepare(sql, &types(arguments))?.keep()))?;
        client
            .select(plan, None, arguments)?
            .map(|found| row(&found))
            .collect::<SpiResult<_>>()
    })?)
}

/// Runs a statement that writes, or one that must see what this transaction has just written and what others
/// have committed meanwhile (after waiting for a lock), and gives the rows it returns.
pub(crate) fn query<T>(
    sql: &str,
    arguments: &[DatumWithOid],
    row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>, Error> {
    Ok(Spi::connect_mut(|client| {
        client
            .update(sql, None, arguments)?
            .map(|found| row(&found))
            .collect::<SpiResult<_>>()
    })?)
}

thread_local! {
    /// Never freed: there are as many as there are statements in the code.
    static KEPT: RefCell<HashMap<String, &'static OwnedPreparedStatement>> = RefCell::new(HashMap::new());
}

/// As `query`, for a statement of ours that is run again and again: its plan is kept as long as the session, which saves
/// most of its time. The server makes it anew when something that it depends on has changed.
pub(crate) fn query_kept<T>(
    sql: &str,
    arguments: &[DatumWithOid],
    row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>, Error> {
    Ok(Spi::connect_mut(|client| {
        let plan = kept(sql, || {
            Ok(client.prepare_mut(sql, &types(arguments))?.keep())
        })?;
        client
            .update(plan, None, arguments)?
            .map(|found| row(&found))
            .collect::<SpiResult<_>>()
    })?)
}

fn types(arguments: &[DatumWithOid]) -> Vec<PgOid> {
    arguments.iter().map(|one| PgOid::from(one.oid())).collect()
}

fn kept(
    sql: &str,
    prepare: impl FnOnce() -> SpiResult<OwnedPreparedStatement>,
) -> SpiResult<&'static OwnedPreparedStatement> {
    if let Some(plan) = KEPT.with_borrow(|kept| kept.get(sql).copied()) {
        return Ok(plan);
    }
    let plan: &'static _ = Box::leak(Box::new(prepare()?));
    KEPT.with_borrow_mut(|kept| kept.insert(sql.to_owned(), plan));
    Ok(plan)
}

/// Runs statements that return nothing.
pub(crate) fn run(sql: &str) -> Result<(), Error> {
    Ok(Spi::connect_mut(|client| {
        client.update(sql, None, &[]).map(|_| ())
    })?)
}

/// As `query`, with the rights of a role, in a security-restricted operation. It is parsed with the caller's, so that the
/// role need not be allowed to use the schemas that it names.
pub(crate) fn query_as<T>(
    role: pg_sys::Oid,
    sql: &str,
    row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>, Error> {
    Ok(Spi::connect_mut(|client| {
        let plan = client.prepare_mut(sql, &[])?;
        session::as_role(role, || {
            client
                .update(&plan, None, &[])?
                .map(|found| row(&found))
                .collect::<SpiResult<_>>()
        })
    })?)
}

/// As `query_as`, for a query that writes nothing.
pub(crate) fn read_as<T>(
    role: pg_sys::Oid,
    sql: &str,
    row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>, Error> {
    Ok(Spi::connect(|client| {
        let plan = client.prepare(sql, &[])?;
        session::as_role(role, || {
            client
                .select(&plan, None, &[])?
                .map(|found| row(&found))
                .collect::<SpiResult<_>>()
        })
    })?)
}

/// The rows of queries that go together, each with the rights of the role before it, which owns what is read. Planning a query
/// opens the indexes of its tables and evaluates what is constant in their expressions, with functions of whoever made them; and
/// a name may mean something else by then.
pub(crate) fn read_as_owners<T>(
    parts: impl IntoIterator<Item = (u32, String)>,
    row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
) -> Result<Vec<T>, Error> {
    let mut by_owner: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (owner, query) in parts {
        by_owner.entry(owner).or_default().push(query);
    }
    let mut found = Vec::new();
    for (owner, queries) in by_owner {
        found.extend(read_as(owner.into(), &queries.join("\nunion all\n"), &row)?);
    }
    Ok(found)
}

/// The one JSON document, as text, that a query of ours gives, which writes nothing. Its plan is kept as that of
/// `query_kept` is: such queries are long, and planning them takes most of their time.
pub(crate) fn document<T: serde::de::DeserializeOwned>(
    sql: &str,
    arguments: &[DatumWithOid],
) -> Result<T, Error> {
    if !encoding::is_utf8() {
        // A string of Rust is in UTF-8 always.
        let sql = format!("select pg_catalog.convert_to(({sql}), 'UTF8')");
        let bytes: Option<Vec<u8>> = first(&sql, arguments)?;
        return parsed(&bytes.unwrap_or_else(|| b"null".to_vec()));
    }
    let text: Option<String> = first(sql, arguments)?;
    parsed(text.as_deref().unwrap_or("null").as_bytes())
}

/// The first column of the first row.
fn first<T: pgrx::FromDatum + pgrx::IntoDatum>(
    sql: &str,
    arguments: &[DatumWithOid],
) -> Result<Option<T>, Error> {
    Ok(Spi::connect(|client| {
        let plan = kept(sql, || Ok(client.prepare(sql, &types(arguments))?.keep()))?;
        client.select(plan, None, arguments)?.first().get::<T>(1)
    })?)
}

fn parsed<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| Error::UnreadableDocument(error.to_string()))
}

/// A column of a row that the query never leaves NULL.
pub(crate) fn required<T: pgrx::FromDatum + pgrx::IntoDatum>(
    row: &SpiHeapTupleData,
    column: usize,
) -> SpiResult<T> {
    row.get(column)?.ok_or(pgrx::spi::SpiError::InvalidPosition)
}

/// Schema and owner of this extension.
pub(crate) fn extension() -> Result<(String, pg_sys::Oid), Error> {
    const FIND: &str = "select n.nspname::pg_catalog.text, e.extowner
           from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
          where e.extname = 'replwarden'";
    session::with_safe_search_path(|| {
        read_kept(FIND, &[], |row| Ok((required(row, 1)?, required(row, 2)?)))
    })?
    .pop()
    .ok_or(Error::NotInstalled)
}
