//! What keeps a table right while pglogical copies it again: two triggers, on it as long as the copy takes.
//!
//! pglogical 2.4 has gaps there. An apply worker applies what belongs to the copy until it has read which tables are being
//! copied: a running one to the end of its transaction, a new one in its first (`process_syncing_tables` of
//! `pglogical_apply.c`). And a copy that is begun again, because the server went down before it was written down as done, comes
//! on top of what the one before it has left (`pglogical_sync_table` of `pglogical_sync.c`), whose duplicate keys
//! `copy_table_data` does not notice. So the one trigger leaves out such changes, by the rule that pglogical itself goes by
//! (`should_apply_changes_for_rel`), and the other empties the table before a copy. No trigger can leave out a TRUNCATE: one that
//! the publisher has made before the copy, and that is the first that a new apply worker applies after it, empties the table.

mod trigger;

use crate::error::Error;
use crate::generated::table::OwnedTable;
use crate::pg::relation::{Lock, Relation, Unavailable};
use crate::pg::replication_process;
use crate::pg::session::{self, SAFE_SEARCH_PATH};
use crate::pg::spi;
use crate::subscription::captured::WorkerKind;
use crate::subscription::captured::worker_name::WorkerName;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

const FUNCTION: &str = "_repl_guard_copy";
/// Triggers fire in the order of their names.
const ROW_TRIGGER: &str = "aaa_replwarden";
const COPY_TRIGGER: &str = "aaa_replwarden_copy";

/// Puts the triggers on a table, which the caller has locked.
pub(super) fn install(table: &OwnedTable) -> Result<(), Error> {
    let (schema, _) = spi::extension()?;
    let schema = quote_identifier(schema);
    let name = &table.name;
    // Those of a copy that is just done may still be here.
    for guard in find()?.iter().filter(|guard| guard.table == table.oid) {
        guard.drop_trigger()?;
    }
    let triggers = [
        (ROW_TRIGGER, "before insert or update or delete", "row"),
        (COPY_TRIGGER, "before insert", "statement"),
    ];
    for (trigger, events, level) in triggers {
        spi::run(&format!(
            "create trigger {trigger} {events} on {name} for each {level} execute function {schema}.{FUNCTION}()"
        ))?;
        spi::run(&format!(
            "alter table {name} enable always trigger {trigger}"
        ))?;
        spi::run(&format!(
            "comment on trigger {trigger} on {name} is 'replwarden: here until pglogical has copied the table again'"
        ))?;
    }
    Ok(())
}

/// The triggers, by what depends on their function: `pg_trigger` has no index for that. `$1`: the schema of the extension, `$2`:
/// the function.
const GUARDS: &str = "
    select d.objid
      from pg_catalog.pg_namespace n
      join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = $2
      join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.refobjid = p.oid
                                 and d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
     where n.nspname = $1";

/// Whether there is a guard on some table.
pub(super) fn is_anywhere() -> Result<bool, Error> {
    let (schema, _) = spi::extension()?;
    let sql = format!("select exists ({GUARDS})");
    let found = session::with_safe_search_path(|| {
        spi::read_kept(&sql, &[schema.into(), FUNCTION.into()], |row| {
            spi::required::<bool>(row, 1)
        })
    })?;
    Ok(found == [true])
}

/// A trigger on a table, and whether pglogical has done with the table, or does not know it any more.
pub(super) struct Guard {
    /// Quoted.
    trigger: String,
    table: pg_sys::Oid,
    /// With its schema, quoted.
    table_name: String,
    owner: pg_sys::Oid,
    pub(super) is_finished: bool,
}

/// All of this database.
pub(super) fn find() -> Result<Vec<Guard>, Error> {
    let (schema, extension_owner) = spi::extension()?;
    let sql = format!(
        "select quote_ident(t.tgname), t.tgrelid, t.tgrelid::regclass::text, c.relowner,
                not exists (select from {}._repl_pglogical_tables() s
                             where s.relation = t.tgrelid and s.is_subscribed and s.code not in ('r', ''))
           from pg_trigger t join pg_class c on c.oid = t.tgrelid
          where t.tgparentid = 0 and t.oid in ({GUARDS})
          order by 3, 1",
        quote_identifier(schema.as_str())
    );
    // The caller need not be allowed to see what pglogical does.
    let arguments = [schema.into(), FUNCTION.into()];
    let read = || {
        spi::read(&sql, &arguments, |row| {
            Ok(Guard {
                trigger: spi::required(row, 1)?,
                table: spi::required(row, 2)?,
                table_name: spi::required(row, 3)?,
                owner: spi::required(row, 4)?,
                is_finished: spi::required(row, 5)?,
            })
        })
    };
    session::with_safe_search_path(|| session::as_role(extension_owner, read))
}

impl Guard {
    /// False: somebody uses the table now. Who waited for it would keep others waiting.
    pub(super) fn remove(&self) -> Result<bool, Error> {
        match Relation::try_open(self.table, Lock::Alter) {
            Ok(_locked) => {}
            Err(Unavailable::Busy) => return Ok(false),
            Err(Unavailable::Gone) => return Ok(true),
        }
        self.drop_trigger()?;
        Ok(true)
    }

    /// Needs `AccessExclusiveLock`.
    fn drop_trigger(&self) -> Result<(), Error> {
        let drop = format!(
            "drop trigger if exists {} on {}",
            self.trigger, self.table_name
        );
        session::as_role(self.owner, || spi::run(&drop))
    }
}

/// Whether the row that a trigger is fired for may be written, or the statement go on. `$1` of its queries: the table.
fn lets_pass(table: pg_sys::Oid, is_row: bool) -> Result<bool, Error> {
    let Some(process) = replication_process::this() else {
        return Ok(true);
    };
    let Some(worker) = WorkerName::parse(&String::from_utf8_lossy(process.name())) else {
        return Ok(true);
    };
    session::with_settings(&[SAFE_SEARCH_PATH], || match (worker.kind, is_row) {
        (WorkerKind::Apply, true) if worker.provider == "pglogical" => {
            Ok(!is_left_to_copy(table, worker.id.unwrap_or_default())?)
        }
        (WorkerKind::Copy, false) => {
            empty_before_copy(table, &worker)?;
            Ok(true)
        }
        _ => Ok(true),
    })
}

/// The states of the table; `y`: what the copy and its catch-up have done ends at that LSN. `$2`: the subscription, `$3`: where
/// the change is from.
const LEFT_TO_COPY: &str = "
select exists (
    select from pglogical.local_sync_status s
      join pg_class c on c.relname = s.sync_relname
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = s.sync_nspname
     where c.oid = $1 and s.sync_subid = $2
       and s.sync_status <> 'r' and not (s.sync_status = 'y' and s.sync_statuslsn <= $3::pg_lsn))";

/// Whether the copy of a table brings the change that this apply worker is about to apply.
fn is_left_to_copy(table: pg_sys::Oid, subscription: u32) -> Result<bool, Error> {
    let arguments = [
        table.into(),
        pg_sys::Oid::from(subscription).into(),
        replication_process::origin_lsn().into(),
    ];
    let found = spi::query_kept(LEFT_TO_COPY, &arguments, |row| {
        spi::required::<bool>(row, 1)
    })?;
    Ok(found == [true])
}

/// The subscriptions that copy the table at this moment.
const COPYING: &str = "
select b.sub_name::text
  from pglogical.local_sync_status s
  join pglogical.subscription b on b.sub_id = s.sync_subid
  join pg_class c on c.relname = s.sync_relname
  join pg_namespace n on n.oid = c.relnamespace and n.nspname = s.sync_nspname
 where c.oid = $1 and s.sync_status = 'd'";

/// Removes what an earlier attempt has copied.
fn empty_before_copy(table: pg_sys::Oid, session: &WorkerName) -> Result<(), Error> {
    let copying: Vec<String> = spi::query(COPYING, &[table.into()], |row| spi::required(row, 1))?;
    if !copying.iter().any(|name| session.is_copy_of(name)) {
        return Ok(());
    }
    // With the rights of the session, a superuser's, from whom row security hides nothing.
    let table = OwnedTable::find_any(table)?;
    let delete = format!(
        "with deleted as (delete from {} returning 1) select count(*) from deleted",
        table.with_partitions()
    );
    let deleted = spi::query(&delete, &[], |row| spi::required::<i64>(row, 1))?;
    if let Some(rows @ 1..) = deleted.first() {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!(
                "replwarden: deleted {rows} rows of {} before pglogical copies it again, which an attempt before had copied",
                table.name
            ),
            "replwarden",
        )
        .report(PgLogLevel::LOG);
    }
    Ok(())
}
