//! What the report is made of. Points in time are seconds since the epoch, durations are seconds, sizes are bytes.

use serde::Deserialize;

/// All that a report is about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) now: f64,
    pub(crate) database: String,
    /// Of the extension.
    pub(crate) version: String,
    pub(crate) server_version: String,
    pub(crate) preloaded: bool,
    /// The server is in recovery.
    pub(crate) standby: bool,
    /// When the worker of this database last looked.
    pub(crate) sampled_at: Option<f64>,
    pub(crate) watch_interval: f64,
    /// Whether publishers are asked at all.
    pub(crate) probing: bool,
    /// The one subscription that was asked for.
    pub(crate) only: Option<String>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Some of those that are not ready, those with a running copy first.
    pub(crate) tables: Vec<Table>,
    /// How many are not ready in all.
    pub(crate) tables_not_ready: i64,
    pub(crate) columns: Vec<DerivedColumn>,
    /// Those that are not finished.
    pub(crate) backfills: Vec<Backfill>,
    pub(crate) detached_keys: Vec<DetachedKey>,
}

/// A row of `repl_subscriptions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subscription {
    pub(crate) provider: String,
    pub(crate) subscription: String,
    pub(crate) state: String,
    pub(crate) cause: Option<String>,
    pub(crate) since: Option<f64>,
    pub(crate) publisher: Option<String>,
    pub(crate) tables_total: i64,
    pub(crate) tables_ready: i64,
    pub(crate) worker_pid: Option<i32>,
    pub(crate) lag_bytes: Option<i64>,
    pub(crate) lag: Option<f64>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at: Option<f64>,
    pub(crate) remedy: Option<String>,
    pub(crate) warning: Option<String>,
    /// SQL that takes the reason for the warning away.
    pub(crate) precautions: Vec<String>,
    pub(crate) copy_percent: Option<f64>,
    pub(crate) copy_bytes_per_second: Option<f64>,
    pub(crate) copy_eta: Option<f64>,
    pub(crate) slot_active: Option<bool>,
    pub(crate) retained_bytes: Option<i64>,
    pub(crate) wal_status: Option<String>,
    pub(crate) safe_wal_size: Option<i64>,
    /// When the publisher last answered replwarden.
    pub(crate) asked_at: Option<f64>,
}

/// A row of `repl_tables`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Table {
    pub(crate) provider: String,
    pub(crate) subscription: String,
    /// `relation_name`: with its schema, quoted as needed.
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) worker_pid: Option<i32>,
    pub(crate) rows_copied: Option<i64>,
    pub(crate) bytes_copied: Option<i64>,
    pub(crate) bytes_total: Option<i64>,
    pub(crate) percent: Option<f64>,
    pub(crate) bytes_per_second: Option<f64>,
    pub(crate) eta: Option<f64>,
    pub(crate) last_error: Option<String>,
}

/// A row of `repl_generated_columns`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DerivedColumn {
    /// As `regclass` prints it.
    pub(crate) relation: String,
    pub(crate) column: String,
    pub(crate) state: String,
    pub(crate) rows_failed: i64,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at: Option<f64>,
}

/// A row of `repl_backfills`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Backfill {
    pub(crate) id: i64,
    /// As `regclass` prints it.
    pub(crate) relation: String,
    pub(crate) state: String,
    pub(crate) percent: Option<f64>,
    pub(crate) rows_per_second: Option<f64>,
    pub(crate) eta: Option<f64>,
    pub(crate) error: Option<String>,
}

/// A row of `repl_detached_foreign_keys`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DetachedKey {
    /// As `regclass` prints it.
    pub(crate) relation: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) awaits: Option<String>,
    pub(crate) problem: Option<String>,
}
