//! What an error of a worker means: SQLSTATE and the untranslated text of the source code where they say it, and the words of
//! the publisher where it only relays them. Those come in the publisher's language; what is known of the publisher itself is
//! better evidence ([`diagnose`](super::diagnose)).

use super::captured::{CapturedError, WorkerKind};
use super::cause::{Cause, Nature};

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) nature: Nature,
    /// It is the publisher that refuses.
    pub(super) is_remote: bool,
    /// The connection failed or was lost, or the publisher sent an error through it: it says nothing of the data.
    pub(super) is_connection: bool,
}

/// Lost connections that come again within so many seconds have one cause.
const RECURRING: f64 = 900.0;

/// Parts of the texts of libpqwalreceiver.c, worker.c, tablesync.c, and of pglogical, behind which stands what libpq or the
/// publisher said.
const RELAYED: &[&str] = &[
    "could not connect to the publisher",
    "could not connect to the postgresql server",
    "could not start WAL streaming",
    "could not receive data from WAL stream",
    "could not send data to WAL stream",
    "could not send end-of-streaming message",
    "error reading result of streaming command",
    "error while shutting down streaming COPY",
    "could not create replication slot",
    "could not drop replication slot",
    "could not alter replication slot",
    "could not clear search path",
    "could not start initial contents copy",
    "could not fetch table",
    "could not fetch column list info",
    "could not fetch remote",
    "could not receive list of",
    "could not receive database system identifier",
    "table copy could not",
    "could not read COPY data",
    "could not send replication command",
    "could not send feedback packet",
    "could not get table list",
    "could not identify system",
    "connection to other side has died",
    "data stream ended",
    "on origin node failed",
    "source connection returned",
    "reading from origin table failed",
    "pg_replication_slots failed with",
    "pg_drop_replication_slot() failed with",
    "getting remote slot info failed",
    TABLE_COPY,
];

/// Of these, those in which the connection breaks. (pglogical's "data stream ended" is what it says of any error of the
/// publisher, too.)
const BROKEN: &[&str] = &[
    "could not receive data from WAL stream",
    "could not send data to WAL stream",
    "could not send feedback packet",
    "connection to other side has died",
];

/// Of these, those that end the attempt to connect.
const CONNECTING: &[&str] = &[
    "could not connect to the publisher",
    "could not connect to the postgresql server",
];

/// English words of a publisher, all of which have to stand in what it said.
const SAID: &[(&[&str], Cause)] = &[
    (
        &["may not be used as an output plugin"],
        Cause::OutputPluginRefused,
    ),
    // In the hint, in any language.
    (&["output_plugin_libraries"], Cause::OutputPluginRefused),
    (
        &["replication slot \"", "does not exist"],
        Cause::SlotMissing,
    ),
    (&["is active for PID"], Cause::SlotInUse),
    (
        &["can no longer get changes from replication slot"],
        Cause::SlotInvalidated,
    ),
    (
        &["can no longer access replication slot"],
        Cause::SlotInvalidated,
    ),
    (
        &["cannot read from logical replication slot"],
        Cause::SlotInvalidated,
    ),
    (&["slot", "has been invalidated"], Cause::SlotInvalidated),
    (
        &["requested WAL segment", "has already been removed"],
        Cause::SlotInvalidated,
    ),
    (
        &["publication \"", "does not exist"],
        Cause::PublicationMissing,
    ),
    (&["replication set", "not found"], Cause::PublicationMissing),
    (
        &["replication set", "was deleted"],
        Cause::PublicationMissing,
    ),
    (&["canceling statement due to"], Cause::StatementCancelled),
    (&["No space left on device"], Cause::DiskFull),
    (
        &["is a generated column"],
        Cause::GeneratedColumnIncompatible,
    ),
];

/// Likewise, while a connection is made. ([`CONNECTING`])
const TURNED_AWAY: &[&str] = &[
    "authentication failed",
    "pg_hba.conf",
    "no password supplied",
    "password is required",
    "is not permitted to log in",
    "permission denied",
    "must be superuser or replication role",
    "certificate",
    "SSL was required",
    "role \"",
];

/// Parts of texts of this server and of pglogical.
const WRITTEN: &[(&str, Cause)] = &[
    (
        "has incompatible generated column",
        Cause::GeneratedColumnIncompatible,
    ),
    ("is a generated column", Cause::GeneratedColumnIncompatible),
    ("is missing replicated column", Cause::ColumnMissing),
    ("unknown column name", Cause::ColumnMissing),
    (
        "did not send replica identity column",
        Cause::ReplicaIdentity,
    ),
    ("neither REPLICA IDENTITY index", Cause::ReplicaIdentity),
    (
        "uses system columns in REPLICA IDENTITY index",
        Cause::ReplicaIdentity,
    ),
    (
        "does not have a replica identity and publishes",
        Cause::ReplicaIdentity,
    ),
    (
        "could not find REPLICA IDENTITY index",
        Cause::ReplicaIdentity,
    ),
    (
        "REPLICA IDENTITY columns must be replicated",
        Cause::ReplicaIdentity,
    ),
    (
        "logical replication target relation \"%s.%s\" does not exist",
        Cause::TableMissing,
    ),
    ("as logical replication target", Cause::TableMissing),
    ("not found on publisher", Cause::TableMissing),
    ("row-level security", Cause::RowSecurity),
    (
        "terminating logical replication worker due to timeout",
        Cause::WalReceiverTimeout,
    ),
    (
        "out of logical replication worker slots",
        Cause::WorkerPoolExhausted,
    ),
    ("out of background worker slots", Cause::WorkerPoolExhausted),
    ("worker registration failed", Cause::WorkerPoolExhausted),
    (
        "all background worker slots are already used",
        Cause::WorkerPoolExhausted,
    ),
    (
        "could not find free replication state slot",
        Cause::OriginsExhausted,
    ),
    (
        "could not find free replication origin",
        Cause::OriginsExhausted,
    ),
    (
        "cannot truncate a table referenced in a foreign key constraint",
        Cause::ForeignKeyViolation,
    ),
    (NOT_RECOVERABLE, Cause::InitializationFailed),
    ("could not execute pg_restore", Cause::InitializationFailed),
    ("could not execute pg_dump", Cause::InitializationFailed),
    ("conflict detected on relation", Cause::DuplicateKey),
    ("cannot apply conflicting row", Cause::DuplicateKey),
    ("password is required", Cause::AuthenticationFailed),
];

/// Texts of a process that passes on what befell another, which has its own error.
const ECHOES: &[&str] = &[
    "parallel apply worker",
    "logical replication parallel worker",
    "destination connection reported",
    "on target node failed",
    "writing to target table failed",
    "sending copy-completion to destination connection failed",
    TABLE_COPY,
];

/// pglogical: the detail has what either side said.
const TABLE_COPY: &str = "table copy failed";

/// pglogical: what it says at each further attempt to synchronize a subscription.
const NOT_RECOVERABLE: &str = "initialization failed during nonrecoverable step";

/// What libpq or the publisher said at an attempt to connect means that it was turned away.
pub(crate) fn is_turned_away(message: &str) -> bool {
    contains_any(message, TURNED_AWAY)
}

/// How far from the reason it is: 0 has it, others only say that another process or an earlier attempt failed.
pub(super) fn distance(error: &CapturedError) -> u8 {
    if error.message_id.contains(NOT_RECOVERABLE) {
        2
    } else {
        u8::from(contains_any(&error.message_id, ECHOES))
    }
}

/// Of a process that receives a copy, not of one that applies changes.
pub(super) fn is_of_copy(error: &CapturedError) -> bool {
    matches!(
        error.kind,
        WorkerKind::TableSynchronization | WorkerKind::Sync | WorkerKind::Copy
    ) || contains_any(&error.message_id, &[TABLE_COPY, NOT_RECOVERABLE])
}

/// Where the reason stands: not in the whole command that pglogical puts before it, nor in the words before a detail.
pub(super) fn reason(error: &CapturedError) -> &str {
    let message = error.message.as_str();
    if error.message_id.contains(TABLE_COPY) {
        return error.detail.as_deref().unwrap_or(message);
    }
    if error
        .message_id
        .contains("could not send replication command")
    {
        return message
            .rsplit_once("\": ")
            .map_or(message, |(_, rest)| rest);
    }
    message
}

pub(super) fn classify(error: &CapturedError) -> Failure {
    let is_relayed = contains_any(&error.message_id, RELAYED);
    let cause = if is_relayed {
        relayed(error)
    } else {
        let written = WRITTEN.iter();
        let mut written = written.filter(|(text, _)| error.message_id.contains(text));
        match written.next() {
            Some((_, cause)) => *cause,
            None => by_sqlstate(error),
        }
    };
    let is_of_publisher = error.message_id.contains("not found on publisher");
    Failure {
        cause,
        nature: match cause.nature() {
            Some(nature) => nature,
            None if is_relayed => Nature::Transient,
            None => nature(&error.sqlstate),
        },
        is_remote: is_relayed || is_of_publisher,
        is_connection: is_relayed || cause == Cause::WalReceiverTimeout,
    }
}

fn relayed(error: &CapturedError) -> Cause {
    let text = reason(error);
    let said = |words: &[&str]| words.iter().all(|word| text.contains(word));
    let is_connecting = contains_any(&error.message_id, CONNECTING);
    if is_connecting {
        return if is_turned_away(text) {
            Cause::AuthenticationFailed
        } else {
            Cause::PublisherUnreachable
        };
    }
    if let Some((_, cause)) = SAID.iter().find(|(words, _)| said(words)) {
        return *cause;
    }
    // What pglogical writes behind, in any language.
    match text
        .rsplit_once(", sqlstate: ")
        .map(|(_, state)| state.trim())
    {
        Some("42704") => return Cause::SlotMissing,
        Some("55006") => return Cause::SlotInUse,
        Some("55000") => return Cause::SlotInvalidated,
        _ => {}
    }
    // It has a reason of its own to end a session: a restart.
    if said(&["terminating connection"]) || said(&["the database system is"]) {
        return Cause::PublisherUnreachable;
    }
    if said(&["permission denied"]) {
        return Cause::PermissionDenied;
    }
    // libpq's own: the connection was lost (08006, as libpqwalreceiver.c has it), or a server's error came (08P01).
    let is_lost = contains_any(&error.message_id, BROKEN) && error.sqlstate != "08P01"
        || said(&["server closed the connection unexpectedly"]);
    if is_lost {
        let between = interval_between(error);
        return if between.is_some_and(|seconds| seconds < RECURRING) {
            Cause::WalSenderTimeout
        } else {
            Cause::PublisherUnreachable
        };
    }
    Cause::Unknown
}

/// Seconds from one time to the next, on average, if it came more than once.
pub(super) fn interval_between(error: &CapturedError) -> Option<f64> {
    let times = error.occurrences - 1;
    (times > 0).then(|| (error.last_at - error.first_at) / times as f64)
}

fn by_sqlstate(error: &CapturedError) -> Cause {
    let state = error.sqlstate.as_str();
    match state {
        "40P01" => return Cause::Deadlock,
        "55P03" => return Cause::LockWait,
        "57014" | "25P03" | "25P04" => return Cause::StatementCancelled,
        "53100" => return Cause::DiskFull,
        "53200" => return Cause::OutOfMemory,
        "25006" => return Cause::ReadOnly,
        "58030" | "58P01" | "XX001" | "XX002" => return Cause::DiskIo,
        _ => {}
    }
    let is_in_function = error
        .context
        .as_deref()
        .is_some_and(|context| contains_any(context, &["PL/", "SQL function", "SQL statement"]));
    let class = state.get(..2).unwrap_or_default();
    let is_of_data = matches!(
        class,
        "0A" | "21" | "22" | "23" | "2F" | "38" | "39" | "42" | "P0"
    );
    if is_in_function && is_of_data || matches!(class, "P0" | "38" | "39") {
        return Cause::TriggerError;
    }
    match state {
        "23505" | "23P01" | "23000" => Cause::DuplicateKey,
        "23502" => Cause::NotNullViolation,
        "23514" => Cause::CheckViolation,
        "23503" => Cause::ForeignKeyViolation,
        "42501" => Cause::PermissionDenied,
        "42P01" | "3F000" => Cause::TableMissing,
        "42703" => Cause::ColumnMissing,
        // What the publisher says is relayed: this server does not let its own worker in.
        "28000" | "28P01" | "2F003" => Cause::PermissionDenied,
        "42804" | "42846" => Cause::InvalidData,
        _ if class == "22" => Cause::InvalidData,
        _ if class == "08" => Cause::PublisherUnreachable,
        _ => Cause::Unknown,
    }
}

/// Connections, resources, serialization, operators, other systems; locks that are not free.
fn nature(sqlstate: &str) -> Nature {
    let class = sqlstate.get(..2).unwrap_or_default();
    if matches!(class, "08" | "40" | "53" | "57" | "58") || matches!(sqlstate, "55P03" | "55006") {
        Nature::Transient
    } else {
        Nature::Deterministic
    }
}

fn contains_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests;
