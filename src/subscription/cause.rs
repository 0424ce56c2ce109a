//! Why a subscription is in its state, in one word, and how bad that is.

use serde::{Deserialize, Serialize};

/// How much somebody is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Whether it can pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// The next attempt may succeed.
    Transient,
    /// The next attempt fails likewise, until somebody mends something.
    Deterministic,
}

impl Nature {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Deterministic => "deterministic",
        }
    }
}

/// The words of `repl_subscriptions.cause` and of `repl_diagnose()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    Disabled,
    DisabledOnError,
    CrashLoop,
    PublisherUnreachable,
    AuthenticationFailed,
    SlotMissing,
    SlotInUse,
    SlotInvalidated,
    OutputPluginRefused,
    TableMissing,
    ColumnMissing,
    GeneratedColumnIncompatible,
    DuplicateKey,
    NotNullViolation,
    CheckViolation,
    ForeignKeyViolation,
    InvalidData,
    TriggerError,
    ReplicaIdentity,
    PermissionDenied,
    RowSecurity,
    LockWait,
    Deadlock,
    IdentityFullWithoutIndex,
    LargeTransaction,
    PublisherTransaction,
    SlotCreationWait,
    WalReceiverTimeout,
    WalSenderTimeout,
    PublisherSilent,
    WorkerPoolExhausted,
    LauncherMissing,
    Standby,
    SyncQueued,
    OriginsExhausted,
    TablesNotSubscribed,
    PublicationMissing,
    PublisherOverloaded,
    ApplyDelay,
    SynchronousCommit,
    DiskFull,
    DiskIo,
    ReadOnly,
    InitializationFailed,
    CatchupHang,
    RelaunchBackoff,
    TwoPhasePending,
    StatementCancelled,
    OutOfMemory,
    /// UPDATE and DELETE find no row and are skipped without a word, or changes are.
    SilentLoss,
    WalRetention,
    /// pglogical will crash on the first row of a table that has a generated column here only.
    GeneratedColumnCrash,
    /// Likewise on one that is partitioned here.
    PartitionedTableCrash,
    SequenceBehind,
    /// pglogical takes a table for copied whose copy has failed.
    CopyFailedSilently,
    /// A foreign key that was detached for a copy, and that nobody has brought back.
    ForeignKeyDetached,
    Unknown,
}

impl Cause {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::DisabledOnError => "disabled_on_error",
            Self::CrashLoop => "crash_loop",
            Self::PublisherUnreachable => "publisher_unreachable",
            Self::AuthenticationFailed => "authentication_failed",
            Self::SlotMissing => "slot_missing",
            Self::SlotInUse => "slot_in_use",
            Self::SlotInvalidated => "slot_invalidated",
            Self::OutputPluginRefused => "output_plugin_refused",
            Self::TableMissing => "table_missing",
            Self::ColumnMissing => "column_missing",
            Self::GeneratedColumnIncompatible => "generated_column_incompatible",
            Self::DuplicateKey => "duplicate_key",
            Self::NotNullViolation => "not_null_violation",
            Self::CheckViolation => "check_violation",
            Self::ForeignKeyViolation => "foreign_key_violation",
            Self::InvalidData => "invalid_data",
            Self::TriggerError => "trigger_error",
            Self::ReplicaIdentity => "replica_identity",
            Self::PermissionDenied => "permission_denied",
            Self::RowSecurity => "row_security",
            Self::LockWait => "lock_wait",
            Self::Deadlock => "deadlock",
            Self::IdentityFullWithoutIndex => "identity_full_without_index",
            Self::LargeTransaction => "large_transaction",
            Self::PublisherTransaction => "publisher_transaction",
            Self::SlotCreationWait => "slot_creation_wait",
            Self::WalReceiverTimeout => "wal_receiver_timeout",
            Self::WalSenderTimeout => "wal_sender_timeout",
            Self::PublisherSilent => "publisher_silent",
            Self::WorkerPoolExhausted => "worker_pool_exhausted",
            Self::LauncherMissing => "launcher_missing",
            Self::Standby => "standby",
            Self::SyncQueued => "sync_queued",
            Self::OriginsExhausted => "origins_exhausted",
            Self::TablesNotSubscribed => "tables_not_subscribed",
            Self::PublicationMissing => "publication_missing",
            Self::PublisherOverloaded => "publisher_overloaded",
            Self::ApplyDelay => "apply_delay",
            Self::SynchronousCommit => "synchronous_commit",
            Self::DiskFull => "disk_full",
            Self::DiskIo => "disk_io",
            Self::ReadOnly => "read_only",
            Self::InitializationFailed => "initialization_failed",
            Self::CatchupHang => "catchup_hang",
            Self::RelaunchBackoff => "relaunch_backoff",
            Self::TwoPhasePending => "two_phase_pending",
            Self::StatementCancelled => "statement_cancelled",
            Self::OutOfMemory => "out_of_memory",
            Self::SilentLoss => "silent_loss",
            Self::WalRetention => "wal_retention",
            Self::GeneratedColumnCrash => "generated_column_crash",
            Self::PartitionedTableCrash => "partitioned_table_crash",
            Self::SequenceBehind => "sequence_behind",
            Self::CopyFailedSilently => "copy_failed_silently",
            Self::ForeignKeyDetached => "foreign_key_detached",
            Self::Unknown => "unknown",
        }
    }

    /// Whether what it causes passes by itself, where the word alone says so.
    pub(crate) fn nature(self) -> Option<Nature> {
        Some(match self {
            Self::CrashLoop
            | Self::AuthenticationFailed
            | Self::SlotMissing
            | Self::SlotInvalidated
            | Self::OutputPluginRefused
            | Self::TableMissing
            | Self::ColumnMissing
            | Self::GeneratedColumnIncompatible
            | Self::DuplicateKey
            | Self::NotNullViolation
            | Self::CheckViolation
            | Self::ForeignKeyViolation
            | Self::InvalidData
            | Self::TriggerError
            | Self::ReplicaIdentity
            | Self::PermissionDenied
            | Self::RowSecurity
            | Self::OriginsExhausted
            | Self::PublicationMissing
            | Self::ReadOnly
            | Self::InitializationFailed => Nature::Deterministic,
            Self::PublisherUnreachable
            | Self::SlotInUse
            | Self::LockWait
            | Self::Deadlock
            | Self::WalReceiverTimeout
            | Self::WalSenderTimeout
            | Self::PublisherSilent
            | Self::StatementCancelled
            | Self::OutOfMemory
            | Self::DiskFull
            | Self::DiskIo
            | Self::RelaunchBackoff => Nature::Transient,
            _ => return None,
        })
    }

    /// A new apply worker would go on where this one stands.
    pub(crate) fn restart_helps(self) -> bool {
        matches!(self, Self::PublisherSilent | Self::CatchupHang)
    }

    /// A hazard that may strike at any row. (Sequences are behind until somebody cuts over.)
    pub(crate) fn is_pressing(self) -> bool {
        self.crashes_workers() || self == Self::SilentLoss
    }

    /// The apply worker is ended by a signal.
    pub(crate) fn crashes_workers(self) -> bool {
        matches!(
            self,
            Self::GeneratedColumnCrash | Self::PartitionedTableCrash
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_the_same_for_people_and_for_programs() {
        for cause in [
            Cause::DiskIo,
            Cause::CatchupHang,
            Cause::IdentityFullWithoutIndex,
            Cause::CopyFailedSilently,
            Cause::ForeignKeyDetached,
        ] {
            assert_eq!(serde_json::json!(cause), cause.word());
        }
    }
}
