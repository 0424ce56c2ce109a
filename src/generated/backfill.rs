//! Bringing existing rows up, in the caller's own transaction.

use super::table::OwnedTable;
use crate::error::Error;
use crate::pg::{session, spi};
use pgrx::PgTryBuilder;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::spi::quote_identifier;
use std::panic::AssertUnwindSafe;

/// Updates the rows in which some derived column is not as its rule says; the others stay untouched. Works as
/// the table's owner, as replication does: triggers that are plainly enabled do not fire, and row security
/// that would hide rows is an error.
pub(super) fn run(table: &OwnedTable, column: &str) -> Result<(), Error> {
    let (schema, _) = spi::extension()?;
    let column_name = quote_identifier(column);
    let update = format!(
        "update {} as r set {column_name} = r.{column_name} where {}._repl_row_differs(r.*)",
        table.name,
        quote_identifier(schema),
    );
    let settings = [
        (c"search_path", c"pg_catalog, pg_temp"),
        (c"session_replication_role", c"replica"),
        (c"row_security", c"off"),
    ];
    PgTryBuilder::new(AssertUnwindSafe(|| {
        session::with_settings(&settings, || {
            session::as_role(table.owner, || spi::run(&update))
        })
    }))
    .catch_others(|error| match error {
        CaughtError::PostgresError(report) => Err(Error::ExistingRow {
            table: table.name.clone(),
            column: column.to_owned(),
            code: report.sql_error_code(),
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
        }),
        other => other.rethrow(),
    })
    .execute()
}
