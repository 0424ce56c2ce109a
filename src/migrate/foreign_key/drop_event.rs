//! The extension that knows the detached keys is about to be dropped.

use super::add;
use super::book::{Book, Entry, Presence};
use crate::error::Error;
use crate::pg::{drop_command, session, spi, subtransaction};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// `_repl_before_drop()`, an event trigger function for `ddl_command_start`.
#[pg_extern(sql = false)]
fn repl_before_drop(info: pg_sys::FunctionCallInfo) {
    let dropped = drop_command::objects(info);
    if let Err(error) = session::with_safe_search_path(|| bring_back(dropped)) {
        error.raise();
    }
}

/// Whether the command drops the extension, or its schema with it, and the caller may; the server says so who may not. `$1`:
/// extensions, `$2`: schemas, `$3`: owners.
const IS_DROPPED: &str = "
select (e.extname::text = any ($1) or e.extowner = any ($3)) and pg_has_role(e.extowner, 'USAGE')
       or (n.nspname::text = any ($2) or n.nspowner = any ($3)) and pg_has_role(n.nspowner, 'USAGE')
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace
 where e.extname = 'replwarden'";

fn bring_back(dropped: drop_command::Dropped) -> Result<(), Error> {
    let arguments = [
        dropped.extensions.into(),
        dropped.schemas.into(),
        dropped.owners.into(),
    ];
    let is_dropped = spi::query(IS_DROPPED, &arguments, |row| spi::required::<bool>(row, 1))?;
    if is_dropped != [true] {
        return Ok(());
    }
    let book = Book::find()?;
    let entries = book.entries(None)?;
    // What has lost one of its tables has nowhere to come back to.
    let lost = entries.iter().filter(|one| {
        one.presence == Presence::Absent && one.relation.is_some() && one.referenced.is_some()
    });
    for entry in lost {
        restore(&book, entry)?;
    }
    Ok(())
}

fn restore(book: &Book, entry: &Entry) -> Result<(), Error> {
    let outcome = subtransaction::run(add::is_of_the_key, || {
        // Nobody would put the parts of a partitioned table's key together later.
        if entry.is_partitioned {
            add::whole(entry)
        } else {
            add::not_valid(entry)
        }
    });
    match outcome {
        Ok(added) => added?,
        Err(report) => {
            return Err(Error::KeyWouldBeLost {
                table: entry.relation_name.clone(),
                name: entry.name.clone(),
                reason: report.message().to_owned(),
                book: format!("{}._repl_foreign_keys", book.schema()),
            });
        }
    }
    let how = if entry.is_partitioned || !entry.validated {
        "is back"
    } else {
        "is back, NOT VALID"
    };
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("{}: foreign key {} {how}", entry.relation_name, entry.name),
        "replwarden",
    )
    .report(PgLogLevel::NOTICE);
    Ok(())
}
