//! What the views select from.
#![allow(unsafe_code)]

use super::{pglogical, provider, status, tables};
use crate::error::Error;
use crate::pg::result_set;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use std::ffi::CString;

/// `_repl_subscriptions()`: the rows of `repl_subscriptions`.
#[pg_extern(sql = false)]
fn repl_subscriptions() -> JsonB {
    match status::overview() {
        Ok(overview) => JsonB(serde_json::json!(overview.statuses)),
        Err(error) => error.raise(),
    }
}

/// `_repl_known_tables()`
#[pg_extern(sql = false)]
fn repl_known_tables() -> JsonB {
    JsonB(serde_json::from_str(&tables::known()).unwrap_or_default())
}

/// `_repl_pglogical_tables()`
#[pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn repl_pglogical_tables(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let query = provider::present().map(|present| {
        let is_there = present.iter().any(|one| one.name() == "pglogical");
        if is_there {
            pglogical::TABLES.as_str()
        } else {
            NO_TABLES
        }
        .to_owned()
    });
    // SAFETY: called by the server.
    unsafe { materialize(call, query, &[tables::known()]) }
}

/// Of the same columns.
const NO_TABLES: &str = "select null::text, null::text, null::bigint, null::oid, null::text, null::text, null::text, \
     null::text, null::text, null::pg_lsn, null::int, null::boolean where $1 is null";

/// `_repl_workers()`: the rows of `repl_workers`.
#[pg_guard]
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn repl_workers(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called by the server.
    unsafe { materialize(call, tables::workers_query(), &[]) }
}

/// # Safety
/// `call` comes from the server.
unsafe fn materialize(
    call: pg_sys::FunctionCallInfo,
    query: Result<String, Error>,
    parameters: &[String],
) -> pg_sys::Datum {
    match query {
        // SAFETY: the caller's promise.
        Ok(sql) => unsafe {
            result_set::materialize(call, &CString::new(sql).unwrap_or_default(), parameters)
        },
        Err(error) => error.raise(),
    }
}

crate::pg::version_1!(pg_finfo_repl_pglogical_tables, pg_finfo_repl_workers);
