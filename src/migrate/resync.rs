//! `repl_resync_table()`: empties a table and has it copied again, in one transaction.
//!
//! From the moment on at which the table is locked nobody applies changes to it. What an apply worker knows of it by then it
//! must not use any more: a native one keeps in mind that the table is ready (`logicalrep_rel_open` of
//! `replication/logical/relation.c` reads the state again only while it is not), so it is ended, and waited for, before the
//! state changes. Its successor has to lock the table before it reads the state. One of pglogical goes on, and what it does not
//! know yet is seen to by `copy_guard`.

use super::{copy_guard, foreign_key};
use crate::error::Error;
use crate::generated::table::OwnedTable;
use crate::pg::relation::Lock;
use crate::pg::{session, shared, spi, version};
use crate::subscription::provider;
use crate::subscription::publisher::epoch;
use crate::watch::event::{self, Event, Part};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::json;
use std::ffi::CStr;

/// How long an apply worker is given to end, in milliseconds.
const PATIENCE: i32 = 10_000;
/// Triggers fire as they do for what replication does.
const TRIGGERS_OF_REPLICATION: (&CStr, &CStr) = (c"session_replication_role", c"replica");

/// `repl_resync_table(relation)`
#[pg_extern(sql = false)]
fn repl_resync_table(relation: Option<pg_sys::Oid>) {
    session::refuse_read_only(c"repl_resync_table()");
    if let Err(error) = session::with_safe_search_path(|| resync(relation)) {
        error.raise();
    }
}

/// The subscription that a table belongs to, and its state there.
struct Membership {
    provider: String,
    id: pg_sys::Oid,
    subscription: String,
    enabled: bool,
    /// `pg_subscription.subtwophasestate` is `e`.
    two_phase: bool,
    /// The caller may act on the subscription; pglogical says so itself.
    is_owned: bool,
    /// `None`: ready. Otherwise how far it is.
    unready: Option<String>,
}

const NATIVE: &str = "
select s.oid, s.subname::text, s.subenabled, coalesce(to_jsonb(s) ->> 'subtwophasestate' = 'e', false),
       pg_has_role($2, s.subowner, 'USAGE'),
       case when r.srsubstate <> 'r' then (select w.state from {schema}._repl_sync_states() w
                                            where w.provider = 'native' and w.code = r.srsubstate::text) end
  from pg_subscription_rel r join pg_subscription s on s.oid = r.srsubid
 where r.srrelid = $1 and s.subdbid = (select oid from pg_database where datname = current_database())";

const PGLOGICAL: &str = "
select t.id::oid, t.subscription, true, false, true,
       case when t.state is not null then t.state
            when t.code not in ('r', 'y', '') then (select w.state from {schema}._repl_sync_states() w
                                                     where w.provider = 'pglogical' and w.code = t.code) end
  from {schema}._repl_pglogical_tables() t
 where t.relation = $1 and $2::oid is not null";

fn resync(relation: Option<pg_sys::Oid>) -> Result<(), Error> {
    let table = OwnedTable::find(relation)?;
    membership(&table)?;
    let table = OwnedTable::lock(relation, Lock::Alter)?;
    // It may have become another one while the lock was waited for.
    let membership = membership(&table)?;
    let is_native = membership.provider == "native";
    if is_native {
        end_apply_workers(&membership)?;
    }
    let has_keys = foreign_key::detach_inbound(table.oid)?;
    empty(&table)?;
    if is_native {
        version::set_table_to_be_copied(membership.id, table.oid);
    } else {
        copy_guard::install(&table)?;
        copy_by_pglogical(&membership, &table)?;
    }
    record(&membership, &table)?;
    // Where it is preloaded, the worker of the database sees to what is left when it is time.
    if !shared::is_preloaded() && (has_keys || !is_native) {
        foreign_key::worker::start_at_commit();
        notice_of_rest(has_keys);
    }
    Ok(())
}

/// Error where the table cannot be copied again, or not by this caller.
fn membership(table: &OwnedTable) -> Result<Membership, Error> {
    let mut found = memberships(table)?;
    let (Some(one), None) = (found.pop(), found.pop()) else {
        return Err(wrong_number(table)?);
    };
    if !one.is_owned {
        return Err(Error::MayNotResync {
            table: table.name.clone(),
            name: one.subscription,
        });
    }
    if !one.enabled {
        return Err(Error::SubscriptionDisabled {
            name: one.subscription,
        });
    }
    if let Some(state) = one.unready {
        return Err(Error::BeingCopied {
            table: table.name.clone(),
            state,
        });
    }
    if one.two_phase {
        return Err(Error::TwoPhase {
            table: table.name.clone(),
            name: one.subscription,
        });
    }
    Ok(one)
}

fn memberships(table: &OwnedTable) -> Result<Vec<Membership>, Error> {
    let (schema, owner) = spi::extension()?;
    let schema = pgrx::spi::quote_identifier(schema);
    let role = session::current_role();
    // What the catalogs say is not for every eye.
    session::as_role(owner, || {
        let mut found = Vec::new();
        for provider in provider::present()? {
            let sql = match provider.name() {
                "native" => NATIVE,
                _ => PGLOGICAL,
            };
            let switches = provider::switches(provider)?;
            let arguments = [table.oid.into(), role.into()];
            let members = spi::query(&sql.replace("{schema}", &schema), &arguments, |row| {
                Ok(Membership {
                    provider: provider.name().to_owned(),
                    id: spi::required(row, 1)?,
                    subscription: spi::required(row, 2)?,
                    enabled: spi::required(row, 3)?,
                    two_phase: spi::required(row, 4)?,
                    is_owned: spi::required(row, 5)?,
                    unready: row.get(6)?,
                })
            })?;
            found.extend(members.into_iter().map(|one| {
                Membership {
                    enabled: switches
                        .iter()
                        .any(|switch| switch.id == one.id.to_u32() && switch.is_on),
                    ..one
                }
            }));
        }
        Ok(found)
    })
}

/// It is in no subscription, or in several.
fn wrong_number(table: &OwnedTable) -> Result<Error, Error> {
    const MEMBERS_OF_FAMILY: &str = "
        select distinct f.relid::regclass::text
          from (select relid from pg_partition_tree($1) union select relid from pg_partition_ancestors($1)) f
          join pg_subscription_rel r on r.srrelid = f.relid
         order by 1";
    let found = memberships(table)?;
    if !found.is_empty() {
        return Ok(Error::InSeveralSubscriptions {
            table: table.name.clone(),
            names: found.into_iter().map(|one| one.subscription).collect(),
        });
    }
    Ok(Error::NotSubscribed {
        table: table.name.clone(),
        family: spi::query(MEMBERS_OF_FAMILY, &[table.oid.into()], |row| {
            spi::required(row, 1)
        })?,
    })
}

/// Ends the apply worker of a native subscription and those that help it, and waits until they are gone. What they have not
/// committed is applied again by the next one.
fn end_apply_workers(membership: &Membership) -> Result<(), Error> {
    // The leader first: it ends those that help it.
    const WORKERS: &str = "
        select w.pid from pg_stat_get_subscription($1) w
         where w.pid is not null and w.relid is null
         order by to_jsonb(w) ->> 'leader_pid' is not null";
    let (_, owner) = spi::extension()?;
    session::as_role(owner, || {
        let workers = || {
            spi::query(WORKERS, &[membership.id.into()], |row| {
                spi::required::<i32>(row, 1)
            })
        };
        let before = workers()?;
        for pid in &before {
            let arguments = [(*pid).into(), i64::from(PATIENCE).into()];
            let end = "select pg_terminate_backend($1, $2) where exists (select from pg_stat_get_activity($1))";
            spi::query(end, &arguments, |_| Ok(()))?;
        }
        let left = workers()?;
        match left.into_iter().find(|pid| before.contains(pid)) {
            Some(pid) => Err(Error::WorkerStays {
                name: membership.subscription.clone(),
                pid,
            }),
            None => Ok(()),
        }
    })
}

/// Sequences stay as they are: the rows come with their values.
fn empty(table: &OwnedTable) -> Result<(), Error> {
    let truncate = format!("truncate {}", table.with_partitions());
    session::with_settings(&[TRIGGERS_OF_REPLICATION], || {
        session::as_role(table.owner, || spi::run(&truncate))
    })
}

/// With the rights of the caller.
fn copy_by_pglogical(membership: &Membership, table: &OwnedTable) -> Result<(), Error> {
    let arguments = [membership.subscription.as_str().into(), table.oid.into()];
    spi::query(
        "select pglogical.alter_subscription_resynchronize_table($1::name, $2::oid::regclass, false)",
        &arguments,
        |_| Ok(()),
    )
    .map(|_| ())
}

fn record(membership: &Membership, table: &OwnedTable) -> Result<(), Error> {
    let by = spi::read("select current_user::text", &[], |row| {
        spi::required::<String>(row, 1)
    })?;
    let by = by.into_iter().next().unwrap_or_default();
    let finding = format!(
        "{by} has emptied {} and has it copied again with repl_resync_table().",
        table.name
    );
    event::record(Event {
        occurred_at: epoch(),
        provider: membership.provider.clone(),
        id: Some(membership.id.to_u32()),
        subscription: Some(membership.subscription.clone()),
        severity: "info".to_owned(),
        event: "table_resync".to_owned(),
        cause: None,
        detail: json!({"finding": finding, "object": table.name, "by": by}),
        since: None,
        part: Part::Whole,
    })
}

fn notice_of_rest(has_keys: bool) {
    let (message, how) = if has_keys {
        (
            "foreign keys that refer to the table are detached, and come back when it is copied",
            "SELECT * FROM repl_detached_foreign_keys shows them; after a restart, SELECT repl_restore_foreign_keys().",
        )
    } else {
        (
            "two triggers are on the table until it is copied",
            "After a restart, SELECT repl_restore_foreign_keys() has them removed, too.",
        )
    };
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        message,
        "replwarden",
    )
    .set_detail("replwarden is not preloaded, so that nobody goes on with that after a restart of the server.")
    .set_hint(how)
    .report(PgLogLevel::NOTICE);
}
