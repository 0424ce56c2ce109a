//! What was seen to go wrong with the workers of subscriptions: errors that they have logged, and deaths by a signal.

mod memory;
mod reading;
pub(crate) mod worker_name;

use super::conninfo::Conninfo;
use super::provider::Subscription;
use crate::error::{Error, HELD_BACK};
use crate::pg::clock::epoch_of;
use crate::pg::crash_log;
use crate::pg::error_ring::{self, LoggedError, Tally};
use crate::pg::replication_process::ReplicationProcess;
use crate::pg::{shared, spi, transaction};
use pgrx::datum::DatumWithOid;
use serde::{Deserialize, Serialize};
use worker_name::WorkerName;

pub(crate) use memory::Memory;

/// A process that replicates, as the views name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum WorkerKind {
    #[default]
    #[serde(rename = "apply")]
    Apply,
    #[serde(rename = "parallel apply")]
    ParallelApply,
    #[serde(rename = "table synchronization")]
    TableSynchronization,
    /// The server's own launcher of logical replication workers.
    #[serde(rename = "launcher")]
    Launcher,
    /// pglogical: keeps the apply workers of a database running.
    #[serde(rename = "manager")]
    Manager,
    /// pglogical: keeps the managers running.
    #[serde(rename = "supervisor")]
    Supervisor,
    /// pglogical: synchronizes a table.
    #[serde(rename = "sync")]
    Sync,
    /// pglogical: the session that receives an initial copy.
    #[serde(rename = "copy")]
    Copy,
}

/// An error of a worker. Its texts are in the language of `lc_messages`, and hold no password.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CapturedError {
    /// The ring that it was written to (when it was made, in microseconds since 2000), and its number there.
    pub(crate) ring: i64,
    pub(crate) ticket: i64,
    pub(crate) provider: String,
    /// OID of the subscription; `None`: of a process that serves all of them.
    pub(crate) id: Option<u32>,
    /// Its name at the time.
    pub(crate) subscription: Option<String>,
    pub(crate) kind: WorkerKind,
    /// The last one that had it.
    pub(crate) pid: i32,
    /// In seconds since 1970, as all times here.
    pub(crate) first_at: f64,
    pub(crate) last_at: f64,
    pub(crate) occurrences: i64,
    /// WARNING, ERROR, FATAL or PANIC.
    pub(crate) severity: String,
    /// Five characters.
    pub(crate) sqlstate: String,
    /// The text of the source code before translation, with its `%s` (`ErrorData.message_id`).
    pub(crate) message_id: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) context: Option<String>,
    /// Schema and name of the table, as far as the error tells.
    pub(crate) relation: Option<(String, String)>,
    /// Quoted as needed, for people.
    pub(crate) relation_name: Option<String>,
    /// Where the transaction that failed ends on the publisher, in bytes since 0/0.
    pub(crate) finish_lsn: Option<i64>,
    /// The table has a generated column, which up to 17 counts as one that is missing (`logicalrep_rel_open` of
    /// `replication/logical/relation.c`).
    pub(crate) is_of_generated_column: bool,
}

impl CapturedError {
    /// Of this subscription, or of a process that serves all of its provider.
    pub(crate) fn concerns(&self, subscription: &Subscription) -> bool {
        self.provider == subscription.provider && self.id.is_none_or(|id| id == subscription.id)
    }

    /// The number of its ring, and its own there.
    pub(crate) fn key(&self) -> (i64, i64) {
        (self.ring, self.ticket)
    }

    /// How often it has come by now. Says whether that is news.
    pub(crate) fn count(&mut self, tally: &Tally) -> bool {
        let last_at = epoch_of(tally.last_at);
        let is_news =
            (self.occurrences, self.last_at, self.pid) != (tally.occurrences, last_at, tally.pid);
        (self.occurrences, self.last_at, self.pid) = (tally.occurrences, last_at, tally.pid);
        is_news
    }

    /// `conninfos` are those of the subscriptions.
    fn new(
        logged: LoggedError,
        ring: i64,
        subscriptions: &[Subscription],
        conninfos: &[Conninfo],
    ) -> Option<Self> {
        let name = WorkerName::parse(&logged.process)?;
        if logged.message.starts_with(HELD_BACK) {
            // Our own doing, of which an event tells.
            return None;
        }
        let position = subscriptions.iter().position(|one| {
            one.provider == name.provider
                && (Some(one.id) == name.id || name.is_copy_of(&one.subscription))
        });
        let subscription = position.and_then(|position| subscriptions.get(position));
        if name.copy.is_some() && subscription.is_none() {
            // A session of somebody else that calls itself so.
            return None;
        }
        let sqlstate = transaction::sqlstate(logged.sqlstate);
        let conninfos = position
            .and_then(|position| conninfos.get(position..=position))
            .unwrap_or(conninfos);
        let shown = |text: &str| {
            // Messages of pglogical end with a new line.
            reading::redact(text.trim_end(), &logged.message_id, conninfos)
        };
        let optional = |text: &str| (!text.is_empty()).then(|| shown(text));
        let is_apply = matches!(name.kind, WorkerKind::Apply | WorkerKind::ParallelApply);
        let relation = if logged.schema.is_empty() || logged.table.is_empty() {
            reading::relation(&logged.message_id, &logged.message, &logged.context)
        } else {
            Some((logged.schema.clone(), logged.table.clone()))
        };
        let mut error = Self {
            ring,
            ticket: logged.tally.ticket,
            provider: name.provider.to_owned(),
            id: subscription.map(|one| one.id).or(name.id),
            subscription: subscription.map(|one| one.subscription.clone()),
            kind: name.kind,
            pid: logged.tally.pid,
            first_at: epoch_of(logged.first_at),
            last_at: epoch_of(logged.tally.last_at),
            occurrences: logged.tally.occurrences,
            severity: error_ring::level_word(logged.level).to_owned(),
            message_id: logged.message_id.clone(),
            message: reading::redact_message(
                logged.message.trim_end(),
                &logged.message_id,
                conninfos,
            ),
            detail: optional(&logged.detail),
            hint: optional(&logged.hint),
            context: optional(&logged.context),
            finish_lsn: is_apply
                .then(|| reading::finish_lsn(&logged.context))
                .flatten(),
            sqlstate,
            relation: relation.or_else(|| relation_of(name.relation?)),
            relation_name: None,
            is_of_generated_column: false,
        };
        error.relation_name = error
            .relation
            .as_ref()
            .map(|(schema, table)| pgrx::spi::quote_qualified_identifier(schema, table));
        error.look_for_generated_column();
        Some(error)
    }

    /// The table may have been altered since the error came last.
    fn look_for_generated_column(&mut self) {
        if self.message_id.contains("missing replicated column")
            && let Some((schema, table)) = &self.relation
        {
            self.is_of_generated_column = has_generated_column(schema, table);
        }
    }
}

fn has_generated_column(schema: &str, table: &str) -> bool {
    spi::read(
        "select 1
           from pg_catalog.pg_attribute a
           join pg_catalog.pg_class c on c.oid = a.attrelid
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = $1::name and c.relname = $2::name and a.attgenerated <> '' and not a.attisdropped",
        &[DatumWithOid::from(schema), DatumWithOid::from(table)],
        |_| Ok(()),
    )
    .is_ok_and(|rows| !rows.is_empty())
}

/// Schema and name of a table that is still there.
fn relation_of(oid: u32) -> Option<(String, String)> {
    spi::read(
        "select n.nspname::pg_catalog.text, c.relname::pg_catalog.text
           from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where c.oid = $1",
        &[DatumWithOid::from(pgrx::pg_sys::Oid::from(oid))],
        |row| Ok((spi::required(row, 1)?, spi::required(row, 2)?)),
    )
    .ok()?
    .pop()
}

/// The errors that are in shared memory: of processes of this database, and of those that are connected to none. Inside a
/// transaction.
pub(crate) fn in_memory(subscriptions: &[Subscription]) -> Vec<CapturedError> {
    let mut memory = Memory::default();
    memory.look(subscriptions);
    memory.errors().cloned().collect()
}

/// So many of those that were written to the table of errors, the newest, are looked at.
const REMEMBERED: i64 = 200;

/// The newest errors, those of an earlier run of the server included. Without preloading there are none: what was written
/// once says nothing of now. Inside a transaction.
pub(crate) fn newest(subscriptions: &[Subscription]) -> Result<Vec<CapturedError>, Error> {
    if !shared::is_preloaded() {
        return Ok(Vec::new());
    }
    Ok(merge(in_memory(subscriptions), &written()?))
}

/// The newest of those in the table.
pub(crate) fn written() -> Result<Vec<CapturedError>, Error> {
    let (schema, _) = spi::extension()?;
    let schema = pgrx::spi::quote_identifier(schema);
    spi::document(
        &format!(
            "select coalesce(pg_catalog.json_agg(e.error), '[]')::text
               from (select error from {schema}._repl_errors order by last_at desc limit {REMEMBERED}) e"
        ),
        &[],
    )
}

/// Both, each error once, the one that came last first.
pub(crate) fn merge(
    mut in_memory: Vec<CapturedError>,
    written: &[CapturedError],
) -> Vec<CapturedError> {
    for error in written {
        let is_known = in_memory.iter().any(|one| one.key() == error.key());
        if !is_known {
            in_memory.push(error.clone());
        }
    }
    in_memory.sort_by(|one, other| other.last_at.total_cmp(&one.last_at));
    in_memory
}

/// A worker of a subscription was ended by a signal, which restarts the server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Crash {
    pub(crate) at: f64,
    /// For how long the server had been up until then, in all its runs, in seconds.
    pub(crate) uptime: f64,
    pub(crate) pid: i32,
    pub(crate) signal: i32,
}

/// Whose worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) database: u32,
    pub(crate) provider: &'static str,
    pub(crate) id: u32,
}

impl Victim {
    /// Whom a process works for.
    pub(crate) fn of(process: &ReplicationProcess) -> Option<Self> {
        let name = WorkerName::parse(&String::from_utf8_lossy(process.name()))?;
        Some(Self {
            database: process.database,
            provider: name.provider,
            id: name.id?,
        })
    }
}

/// As [`Crash::uptime`], of now.
pub(crate) fn uptime() -> f64 {
    crash_log::uptime() as f64 / 1e6
}

/// The deaths of processes that the postmaster has seen, the oldest first, with the subscription that it worked for.
pub(crate) fn crashes() -> Vec<(Option<Victim>, Crash)> {
    let deaths = crash_log::deaths();
    deaths
        .iter()
        .map(|death| {
            let victim = death.process.as_ref().and_then(Victim::of);
            let crash = Crash {
                at: epoch_of(death.at),
                uptime: death.uptime as f64 / 1e6,
                pid: death.pid,
                signal: death.signal,
            };
            (victim, crash)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(ring: i64, ticket: i64, last_at: f64) -> CapturedError {
        CapturedError {
            ring,
            ticket,
            last_at,
            ..CapturedError::default()
        }
    }

    #[test]
    fn error_that_is_written_and_in_memory_is_one() {
        let written = [error(1, 1, 5.0), error(2, 1, 7.0)];
        let merged = merge(vec![error(2, 1, 9.0), error(2, 2, 8.0)], &written);
        let found: Vec<_> = merged
            .iter()
            .map(|one| (one.ring, one.ticket, one.last_at))
            .collect();
        assert_eq!(found, [(2, 1, 9.0), (2, 2, 8.0), (1, 1, 5.0)]);
    }
}
