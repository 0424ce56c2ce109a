//! What is looked at before a cut-over, of both sides.

use serde::Deserialize;

/// `sql/cutover_local.sql`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Local {
    pub(super) tables: usize,
    /// Names and codes.
    pub(super) unready: Vec<(String, String)>,
    /// Published, and not known to the subscription.
    pub(super) absent: Vec<String>,
    /// The other way round.
    pub(super) unpublished: Vec<String>,
    pub(super) rules: Vec<Rule>,
    /// The last of each table, if it is not done.
    pub(super) backfills: Vec<Backfill>,
    /// Those that are not valid.
    pub(super) indexes: Vec<Index>,
    pub(super) keys: Vec<Key>,
    /// Tables, constraints, and how far they are on their way back.
    pub(super) detached: Vec<(String, String, String)>,
    /// Schemas and names of the replicated tables, with their partitions.
    pub(super) here: Vec<(String, String)>,
    /// Those that do not fire for an application.
    pub(super) triggers: Vec<Trigger>,
    /// Tables with rows and without statistics.
    pub(super) unanalyzed: Vec<String>,
    pub(super) is_standby: bool,
    pub(super) database: String,
    /// `default_transaction_read_only`, for the caller.
    pub(super) is_read_only: bool,
    /// Where that is set: database and role, `None`: all.
    pub(super) read_only_settings: Vec<(Option<String>, Option<String>)>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Rule {
    pub(super) relation: String,
    pub(super) column: String,
    pub(super) state: String,
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Backfill {
    pub(super) id: i64,
    pub(super) relation: String,
    pub(super) state: String,
    pub(super) percent: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) is_partitioned: bool,
}

/// A foreign key.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Key {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) definition: String,
    pub(super) is_valid: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Trigger {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) name: String,
    /// As `pg_trigger.tgenabled`
    pub(super) enabled: String,
}

/// `sql/cutover_publisher.sql`. LSNs are bytes since 0/0.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Publisher {
    pub(super) lsn: i64,
    pub(super) database: String,
    pub(super) slot: Option<Slot>,
    /// Schemas and names.
    pub(super) tables: Vec<(String, String)>,
    pub(super) keys: Vec<Key>,
    /// Schema, table and name of those that fire for an application.
    pub(super) triggers: Vec<(String, String, String)>,
    /// `default_transaction_read_only`
    pub(super) is_read_only: bool,
    /// Transactions that are prepared.
    pub(super) prepared: i64,
    /// Of others than us and those that replicate; and processes without a client that write.
    pub(super) sessions: Vec<Sessions>,
    /// Our role there sees what others do.
    pub(super) sees_all: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Slot {
    pub(super) confirmed_lsn: Option<i64>,
    pub(super) replay_lsn: Option<i64>,
}

/// Of one application and user.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Sessions {
    pub(super) application: Option<String>,
    pub(super) user: String,
    pub(super) number: i64,
    /// In a transaction that has written something.
    pub(super) writing: i64,
}
