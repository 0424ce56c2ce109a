//! What the views select from.

use super::{captured, pglogical, provider, status, tables};
use crate::error::Error;
use crate::pg::encoding;
use crate::pg::result_set::result_set;
use pgrx::JsonB;
use pgrx::prelude::*;

/// `_repl_subscriptions()`: the rows of `repl_subscriptions`.
#[pg_extern(sql = false)]
fn repl_subscriptions() -> JsonB {
    match status::overview() {
        Ok(overview) => JsonB(serde_json::json!(overview.statuses)),
        Err(error) => error.raise(),
    }
}

/// `_repl_errors_in_memory()`
#[pg_extern(sql = false)]
fn repl_errors_in_memory() -> String {
    match provider::subscriptions() {
        Ok(subscriptions) => encoding::json(&captured::in_memory(&subscriptions)),
        Err(error) => error.raise(),
    }
}

/// `_repl_known_tables()`
#[pg_extern(sql = false)]
fn repl_known_tables() -> JsonB {
    JsonB(serde_json::from_str(&tables::known()).unwrap_or_default())
}

result_set!(
    /// `_repl_pglogical_tables()`
    repl_pglogical_tables,
    pg_finfo_repl_pglogical_tables,
    pglogical_tables
);

fn pglogical_tables() -> Result<(String, Vec<String>), Error> {
    let present = provider::present()?;
    let sql = if present.iter().any(|one| one.name() == "pglogical") {
        pglogical::TABLES.as_str()
    } else {
        NO_TABLES
    };
    Ok((sql.to_owned(), vec![tables::known()]))
}

/// Of the same columns.
const NO_TABLES: &str = "select null::text, null::text, null::bigint, null::oid, null::text, null::text, null::text, \
     null::text, null::text, null::pg_lsn, null::int, null::boolean where $1 is null";

result_set!(
    /// `_repl_workers()`: the rows of `repl_workers`.
    repl_workers,
    pg_finfo_repl_workers,
    workers
);

fn workers() -> Result<(String, Vec<String>), Error> {
    Ok((tables::workers_query()?, Vec::new()))
}
