//! Whether the functions of an expression will do in an apply worker what they do in a session.
//!
//! An apply worker runs with an empty search_path (`InitializeLogRepWorker` of `replication/logical/worker.c`)
//! and, from PostgreSQL 16 on, as the owner of the table. The names in the expression itself were resolved when
//! the rule was set; those in the body of a function are resolved when it runs.

use super::RULE_FUNCTION;
use super::table::OwnedTable;
use crate::error::Error;
use crate::pg::{spi, subtransaction};
use pgrx::pg_sys;

struct UsedFunction {
    oid: pg_sys::Oid,
    signature: String,
    executable_by_owner: bool,
    language: String,
    /// Its body is bound to objects (`BEGIN ATOMIC`), or it has a search_path of its own.
    independent_of_search_path: bool,
}

const FUNCTIONS: &str = "
with used as (
    select d.refobjid as oid from pg_depend d
     where d.classid = 'pg_trigger'::regclass and d.objid = $1
       and d.refclassid = 'pg_proc'::regclass
    union
    select o.oprcode from pg_depend d join pg_operator o on o.oid = d.refobjid
     where d.classid = 'pg_trigger'::regclass and d.objid = $1
       and d.refclassid = 'pg_operator'::regclass
)
select p.oid, p.oid::regprocedure::text, has_function_privilege($2::oid, p.oid, 'execute'),
       l.lanname::text,
       p.prosqlbody is not null
           or exists (select from unnest(p.proconfig) s where s like 'search_path=%')
  from used join pg_proc p on p.oid = used.oid join pg_language l on l.oid = p.prolang
 where p.proname <> $3";

/// Checks the functions that the trigger of a rule depends on; the search_path is safe.
pub(super) fn check(table: &OwnedTable, rule: pg_sys::Oid) -> Result<(), Error> {
    let arguments = [rule.into(), table.owner.into(), RULE_FUNCTION.into()];
    let functions = spi::query(FUNCTIONS, &arguments, |row| {
        Ok(UsedFunction {
            oid: spi::required(row, 1)?,
            signature: spi::required(row, 2)?,
            executable_by_owner: spi::required(row, 3)?,
            language: spi::required(row, 4)?,
            independent_of_search_path: spi::required(row, 5)?,
        })
    })?;
    for function in functions {
        if !function.executable_by_owner {
            return Err(Error::FunctionNotExecutable {
                table: table.name.clone(),
                function: function.signature,
            });
        }
        if function.independent_of_search_path {
            continue;
        }
        match function.language.as_str() {
            "c" | "internal" => {}
            "sql" => check_sql_body(&function)?,
            _ => Error::FunctionWithoutSearchPath {
                function: function.signature,
            }
            .warn(),
        }
    }
    Ok(())
}

/// Has the server analyse the body of an SQL function as it will in an apply worker.
fn check_sql_body(function: &UsedFunction) -> Result<(), Error> {
    let analysed = subtransaction::run(
        |_| true,
        || {
            spi::query(
                "select fmgr_sql_validator($1) is null",
                &[function.oid.into()],
                |_| Ok(()),
            )
        },
    );
    match analysed {
        Ok(result) => result.map(|_| ()),
        Err(error) => Err(Error::FunctionNeedsSearchPath {
            function: function.signature.clone(),
            reason: error.message().to_owned(),
        }),
    }
}
