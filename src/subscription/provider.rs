//! What carries the rows: native logical replication or pglogical. Everything that differs between them is behind one
//! trait; what is asked of the server is SQL, which knows its own catalogs best.

use super::native::Native;
use super::pglogical::Pglogical;
use crate::error::Error;
use crate::pg::spi;
use serde::Deserialize;
use std::ffi::CStr;

/// A way of replication, with its catalogs.
pub(crate) trait Provider: Sync {
    /// As the views name it.
    fn name(&self) -> &'static str;

    /// A query for the subscriptions of this database: one JSON array of [`Subscription`].
    fn subscriptions(&self) -> &'static str;

    /// The view or function of this extension that lists the tables of these subscriptions: `provider, subscription, id`
    /// (of the subscription), `relation` (OID, NULL if there is no such table), `schema_name, table_name, code, state` (where
    /// the code does not say it), `description` (likewise), `lsn, pid` (of the worker that synchronizes it),
    /// `is_subscribed` (otherwise the publisher has it only).
    fn tables(&self) -> &'static str;

    /// A query for the processes that replicate: `provider, subscription, kind, relation, pid`.
    fn workers(&self) -> &'static str;

    /// Asks the publisher which tables it publishes: one JSON document
    /// ([`Catalog`](super::publisher::Catalog)). `$1`: publications or replication sets, `$2`: whether their sizes
    /// are asked for, too.
    fn catalog_question(&self) -> &'static CStr;

    /// The statement that switches a subscription on.
    fn enable(&self, subscription: &str) -> String;

    /// The statement that takes up tables that are published and not subscribed, where there is one for all.
    fn refresh(&self, subscription: &str) -> String;

    /// How to change where a subscription connects to: for a comment, and so without its name.
    fn change_connection(&self) -> &'static str;

    /// What to do where the replication slot is lost, with all that it had to keep.
    fn start_over(&self, subscription: &str) -> String;
}

static NATIVE: Native = Native;
static PGLOGICAL: Pglogical = Pglogical;

/// Those of this database. Native replication is always there.
pub(crate) fn present() -> Result<Vec<&'static dyn Provider>, Error> {
    let has_pglogical = !spi::read(
        "select 1 from pg_catalog.pg_extension where extname = 'pglogical'",
        &[],
        |_| Ok(()),
    )?
    .is_empty();
    let mut providers: Vec<&'static dyn Provider> = vec![&NATIVE];
    if has_pglogical {
        providers.push(&PGLOGICAL);
    }
    Ok(providers)
}

/// The provider that a view names so.
pub(crate) fn named(name: &str) -> &'static dyn Provider {
    if name == PGLOGICAL.name() {
        &PGLOGICAL
    } else {
        &NATIVE
    }
}

/// What the subscriber's own catalogs and views say of a subscription. LSNs are bytes since 0/0, times seconds since 1970.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subscription {
    pub(crate) provider: String,
    /// OID of the subscription.
    pub(crate) id: u32,
    pub(crate) subscription: String,
    pub(crate) enabled: bool,
    /// May hold a password.
    pub(crate) conninfo: String,
    /// Its owner may connect with a password of the connection string only (16+).
    pub(crate) must_use_password: bool,
    pub(crate) disable_on_error: bool,
    /// `max_logical_replication_workers` and `max_worker_processes`
    pub(crate) pools: (i32, i32),
    pub(crate) slot_name: Option<String>,
    /// Publications, or replication sets.
    pub(crate) publications: Vec<String>,
    /// `pg_replication_origin.roident`
    pub(crate) origin: Option<u32>,
    /// The end of the last transaction that was applied.
    pub(crate) applied_lsn: Option<i64>,
    /// Everything before has been handled, whether there was something to apply or not.
    pub(crate) handled_lsn: Option<i64>,
    pub(crate) received_lsn: Option<i64>,
    pub(crate) last_message_at: Option<f64>,
    pub(crate) apply_errors: Option<i64>,
    pub(crate) sync_errors: Option<i64>,
    /// The apply worker.
    pub(crate) worker: Option<Worker>,
    /// It is known that the apply worker has heard from the publisher.
    pub(crate) has_heard: Option<bool>,
    pub(crate) tables_total: i32,
    pub(crate) tables_ready: i32,
    /// Whose copy has not begun.
    pub(crate) tables_waiting: i32,
    /// Whose copy has begun, and nobody is at it (native).
    pub(crate) tables_interrupted: i32,
    /// Workers that synchronize tables.
    pub(crate) sync_workers: Vec<Worker>,
    /// So many are allowed at once.
    pub(crate) sync_workers_limit: Option<i32>,
    /// pglogical: the code of the whole subscription, where its initial synchronization is not finished.
    pub(crate) initial_code: Option<String>,
    /// Why the server will not start an apply worker, if it will not.
    pub(crate) hindrance: Option<String>,
}

impl Subscription {
    /// Some table is not ready, or the whole subscription has just begun (pglogical).
    pub(crate) fn is_copying(&self) -> bool {
        self.tables_ready < self.tables_total || self.initial_code.is_some()
    }

    /// Errors that were counted.
    pub(crate) fn errors(&self) -> i64 {
        self.apply_errors.unwrap_or(0) + self.sync_errors.unwrap_or(0)
    }

    /// No apply worker hears from the publisher.
    pub(crate) fn is_apart(&self) -> bool {
        self.worker.is_none() || self.has_heard == Some(false)
    }
}

/// A process that replicates.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Worker {
    pub(crate) pid: i32,
    /// Those whose locks it waits for.
    pub(crate) blocked_by: Option<Vec<i32>>,
    /// Since when.
    pub(crate) blocked_since: Option<f64>,
}

/// The subscriptions of this database, of all providers, by name.
pub(crate) fn subscriptions() -> Result<Vec<Subscription>, Error> {
    let mut found = Vec::new();
    for provider in present()? {
        found.extend(spi::document::<Vec<Subscription>>(
            provider.subscriptions(),
            &[],
        )?);
    }
    found.sort_by(|one: &Subscription, other| {
        (&one.subscription, &one.provider).cmp(&(&other.subscription, &other.provider))
    });
    Ok(found)
}
