//! What the worker of the database has found out and lays out for sessions: what no catalog of the subscriber says. Times
//! are seconds since 1970, LSNs bytes since 0/0.

use super::hazard::Hazard;
use super::progress::Progress;
use super::publisher::Slot;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Known {
    /// When the worker last looked.
    pub(crate) sampled_at: f64,
    pub(crate) subscriptions: Vec<KnownSubscription>,
    /// What will go wrong later.
    pub(crate) hazards: Vec<Hazard>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KnownSubscription {
    pub(crate) provider: String,
    pub(crate) id: u32,
    /// In which state it was, and since when, where the worker saw it begin.
    pub(crate) state: String,
    pub(crate) since: Option<f64>,
    /// While the publisher answers.
    pub(crate) publisher: Option<KnownPublisher>,
    /// The publisher does not answer.
    pub(crate) is_unreachable: bool,
    /// Errors that were counted when it was first seen enabled with `disable_on_error`.
    pub(crate) errors_when_enabled: Option<i64>,
    /// What is applied is beyond the publisher's WAL: it is another server, or an older state of it.
    pub(crate) is_ahead: bool,
    /// Since when the worker sees no apply worker that hears from the publisher.
    pub(crate) apart_since: Option<f64>,
    /// What last went wrong in asking it.
    pub(crate) error: Option<String>,
    pub(crate) error_at: Option<f64>,
    /// Tables that the publisher publishes.
    pub(crate) tables_published: Option<i32>,
    /// Of these, those that the subscription does not know.
    pub(crate) tables_absent: i32,
    /// Publications or replication sets that the publisher does not have.
    pub(crate) publications_missing: Vec<String>,
    pub(crate) copy: Option<KnownCopy>,
    /// What has moved, up to the last look.
    pub(crate) progress: Option<Progress>,
    /// Tables that a worker which stands still changes, and in which it finds a row only by reading all of them. With
    /// schema, quoted.
    pub(crate) tables_without_identity: Vec<String>,
    /// pglogical: tables with a generated column. With schema, quoted.
    pub(crate) generated_tables: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KnownPublisher {
    pub(crate) asked_at: f64,
    /// How far its clock is ahead of this server's, in seconds.
    pub(crate) clock_ahead: f64,
    pub(crate) lsn: i64,
    pub(crate) max_wal_size: Option<i64>,
    pub(crate) max_slot_wal_keep_size: Option<i64>,
    /// The output plugins that it allows, where it has such a setting.
    pub(crate) output_plugin_libraries: Option<String>,
    /// When its oldest transaction that has changed something began, by this server's clock.
    pub(crate) oldest_transaction_at: Option<f64>,
    /// `None`: it has no slot of that name.
    pub(crate) slot: Option<Slot>,
    /// Since when the slot is used by the process that uses it.
    pub(crate) slot_used_since: Option<f64>,
    /// The last time at which everything that the publisher had was applied by now.
    pub(crate) level_at: Option<f64>,
}

/// How far the copy of all tables of a subscription is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct KnownCopy {
    pub(crate) percent: f64,
    pub(crate) bytes_per_second: Option<f64>,
    pub(crate) seconds_left: Option<f64>,
}

impl Known {
    pub(crate) fn subscription(&self, provider: &str, id: u32) -> Option<&KnownSubscription> {
        let mut subscriptions = self.subscriptions.iter();
        subscriptions.find(|one| one.id == id && one.provider == provider)
    }
}

/// What is known of tables, for `repl_tables` (`sql/tables.sql`).
#[derive(Debug, Default, Serialize)]
pub(crate) struct KnownTables {
    /// Bytes and rows of tables that are not ready, by [`size_key`].
    pub(crate) sizes: HashMap<String, (Option<i64>, Option<f64>)>,
    /// Published, and unknown to the subscription.
    pub(crate) absent: Vec<AbsentTable>,
    /// Bytes a second that a process receives, by its id.
    pub(crate) rates: HashMap<i32, f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct AbsentTable {
    pub(crate) provider: String,
    pub(crate) id: u32,
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
}

/// As `repl_tables` makes it. `relation` is the table here.
pub(crate) fn size_key(provider: &str, id: u32, relation: u32) -> String {
    format!("{provider} {id} {relation}")
}
