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

    /// A query for the subscriptions of this database: one JSON array of [`Subscription`]. `$1`: whether their tables are
    /// counted.
    fn subscriptions(&self) -> &'static str;

    /// The server tells when the states of its tables may have changed
    /// ([`subscribed_tables`](crate::pg::catalog_change::subscribed_tables)).
    fn keeps_tables_in_catalog(&self) -> bool;

    /// The view or function of this extension that lists the tables of these subscriptions: `provider, subscription, id`
    /// (of the subscription), `relation` (OID, NULL if there is no such table), `schema_name, table_name, code, state` (where
    /// the code does not say it), `description` (likewise), `lsn, pid` (of the worker that synchronizes it),
    /// `is_subscribed` (otherwise the publisher has it only).
    fn tables(&self) -> &'static str;

    /// A query for the processes that replicate: `provider, subscription, kind, relation, pid`.
    fn workers(&self) -> &'static str;

    /// Asks the publisher which tables it publishes: one JSON document
    /// ([`Catalog`](super::publisher::Catalog)). `$1`: publications or replication sets, `$2`: whether their sizes
    /// are asked for, too, `$3`: the tables that are to be described, a JSON array of `[schema, name]`.
    fn catalog_question(&self) -> &'static CStr;

    /// The statement that switches a subscription on, when the transaction commits.
    fn enable(&self, subscription: &str) -> String;

    /// The statement that switches it off. It does so when the transaction commits.
    fn disable(&self, subscription: &str) -> String;

    /// A query for OID, name and whether it is switched on, of each subscription of this database. It asks for no more rights
    /// than whoever uses the provider has.
    fn switches(&self) -> &'static str;

    /// When something is written about a subscription, be it the same as before, its apply worker is ended, and if it is
    /// switched on then, another one is started at once.
    fn restarts_when_altered(&self) -> bool;

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
    let has_pglogical = !spi::read_kept(
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

/// Whether a subscription is switched on.
pub(crate) struct Switch {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) is_on: bool,
}

/// The subscriptions of this database, of one provider, with the rights of the caller.
pub(crate) fn switches(provider: &dyn Provider) -> Result<Vec<Switch>, Error> {
    spi::read(provider.switches(), &[], |row| {
        Ok(Switch {
            id: spi::required::<pgrx::pg_sys::Oid>(row, 1)?.to_u32(),
            name: spi::required(row, 2)?,
            is_on: spi::required(row, 3)?,
        })
    })
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
    /// Where `default_transaction_read_only` is set for its workers: database and role, `None`: all.
    pub(crate) read_only_settings: Vec<(Option<String>, Option<String>)>,
    /// Why the server will not start an apply worker, if it will not.
    pub(crate) hindrance: Option<String>,
    /// Those that help the apply worker with a large transaction (16+).
    pub(crate) parallel_workers: Vec<Worker>,
    /// Native: workers of all subscriptions of the server, which share `max_logical_replication_workers`.
    pub(crate) workers_running: Option<i32>,
    /// Tables whose copy has begun and is not finished, or is to be caught up with; not more than 100.
    pub(crate) tables_begun: Vec<BegunTable>,
    /// Prepared transactions will be replicated as such, but not yet (15+).
    pub(crate) two_phase_pending: bool,
    /// pglogical: everything is applied so many seconds late, on purpose.
    pub(crate) apply_delay: f64,
    /// Native: the role whose subscription it is.
    pub(crate) owner: Option<String>,
    /// The setting that limits replication origins (another one since 18), and its value.
    pub(crate) origin_limit: Option<(String, i32)>,
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

    /// The apply worker waits for something to come: native says so (LogicalApplyMain), pglogical is an extension.
    pub(crate) fn is_idle(&self) -> bool {
        let worker = self.worker.as_ref();
        let event = worker.and_then(|worker| worker.wait_event.as_deref());
        event.is_some_and(|event| {
            event == "Activity/LogicalApplyMain" || event.starts_with("Extension/")
        })
    }

    /// The apply worker waits for nothing.
    pub(crate) fn is_busy(&self) -> bool {
        let worker = self.worker.as_ref();
        worker.is_some_and(|worker| worker.wait_event.is_none()) && !self.is_apart()
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
    pub(crate) started_at: Option<f64>,
    /// As `pg_stat_activity` names type and event: "Lock/relation". `None`: it waits for nothing, and is at work.
    /// Since when it is in a transaction that has changed something.
    pub(crate) writing_since: Option<f64>,
    pub(crate) wait_event: Option<String>,
    /// OID of the table that it synchronizes (native).
    pub(crate) relation: Option<u32>,
    /// Rows of a copy arrive.
    pub(crate) copies: bool,
}

/// A table whose copy has begun.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct BegunTable {
    /// Its OID (native).
    pub(crate) relation: Option<u32>,
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
}

/// The subscriptions of this database, of all providers, by name.
pub(crate) fn subscriptions() -> Result<Vec<Subscription>, Error> {
    subscriptions_counting(|_| true)
}

/// Likewise; the tables are counted of those providers of which `counts` says so, and of others there seem to be none.
pub(crate) fn subscriptions_counting(
    mut counts: impl FnMut(&dyn Provider) -> bool,
) -> Result<Vec<Subscription>, Error> {
    let mut found = Vec::new();
    for provider in present()? {
        let arguments = [counts(provider).into()];
        let of_provider: Vec<Subscription> = spi::document(provider.subscriptions(), &arguments)?;
        found.extend(of_provider);
    }
    found.sort_by(|one: &Subscription, other| {
        (&one.subscription, &one.provider).cmp(&(&other.subscription, &other.provider))
    });
    Ok(found)
}
