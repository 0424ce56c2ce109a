//! Bringing existing rows up, in the caller's own transaction.

use super::table::OwnedTable;
use crate::error::Error;
use crate::pg::error_note;
use crate::pg::expression::refusable;
use crate::pg::session::{self, ALL_ROWS, SAFE_SEARCH_PATH};
use crate::pg::spi;
use pgrx::spi::quote_identifier;

/// Updates the rows in which some derived column is not as its rule says; the others stay untouched. Works as
/// the table's owner, as replication does: triggers that are plainly enabled do not fire, and row security
/// that would hide rows is an error.
pub(super) fn run(table: &OwnedTable, column: &str) -> Result<(), Error> {
    let (schema, _) = spi::extension()?;
    let column_name = quote_identifier(column);
    let update = format!(
        "update {} as r set {column_name} = r.{column_name}
          where {}._repl_wrong_columns(r.*, true) is not null",
        table.with_partitions(),
        quote_identifier(schema),
    );
    let settings = [
        SAFE_SEARCH_PATH,
        ALL_ROWS,
        (c"session_replication_role", c"replica"),
    ];
    error_note::start();
    refusable(|| session::with_settings(&settings, || spi::run_as(table.owner, &update))).map_err(
        |refusal| {
            let column = error_note::column().unwrap_or_else(|| column.to_owned());
            error_note::restore_on_next_error();
            Error::ExistingRow {
                table: table.name.clone(),
                column,
                refusal,
            }
        },
    )?
}
