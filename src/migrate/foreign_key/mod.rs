//! Foreign keys that stand in the way of a copy: taken away with their definitions kept, and brought back.
//!
//! `key` finds them in the catalogs, `book` keeps those that are detached, `detach` and `restore` move them to and fro, `add`
//! makes the constraints, `rename` follows other names, `orphan` finds the rows that break one, `worker` validates. A key comes
//! back NOT VALID, which is quick, and is validated in a transaction of its own: the lock for the one keeps others from writing,
//! that for the other does not, and no lock is given back before its transaction ends.

mod add;
mod book;
mod detach;
mod drop_event;
mod key;
mod orphan;
mod rename;
mod report;
mod restore;
pub(crate) mod worker;

pub(super) use detach::detach_inbound;
pub(crate) use report::{Forgotten, forgotten};

use crate::pg::session;
use pgrx::iter::SetOfIterator;
use pgrx::prelude::*;

/// `repl_detach_foreign_keys(relation)`
#[pg_extern(sql = false)]
fn repl_detach_foreign_keys(relation: Option<pg_sys::Oid>) -> SetOfIterator<'static, String> {
    session::refuse_read_only(c"repl_detach_foreign_keys()");
    match session::with_safe_search_path(|| detach::detach(relation)) {
        Ok(lines) => SetOfIterator::new(lines),
        Err(error) => error.raise(),
    }
}

/// `repl_restore_foreign_keys(relation, validate)`
#[pg_extern(sql = false)]
fn repl_restore_foreign_keys(
    relation: Option<pg_sys::Oid>,
    validate: Option<bool>,
) -> SetOfIterator<'static, String> {
    session::refuse_read_only(c"repl_restore_foreign_keys()");
    let lines = validate
        .ok_or(crate::error::Error::NullArgument("validate"))
        .and_then(|validate| {
            session::with_safe_search_path(|| restore::restore(relation, validate))
        });
    match lines {
        Ok(lines) => SetOfIterator::new(lines),
        Err(error) => error.raise(),
    }
}
