use super::*;

fn error(sqlstate: &str, message_id: &str, message: &str) -> CapturedError {
    CapturedError {
        sqlstate: sqlstate.to_owned(),
        message_id: message_id.to_owned(),
        message: message.to_owned(),
        occurrences: 1,
        ..CapturedError::default()
    }
}

#[track_caller]
fn assert_cause(error: &CapturedError, cause: Cause) -> Failure {
    let failure = classify(error);
    assert_eq!(failure.cause, cause, "{error:?}");
    failure
}

/// In the language of the server that logged it, by the text of the source code.
#[test]
fn errors_of_native_workers_are_known_by_their_text() {
    for (sqlstate, message_id, cause) in [
        (
            "55000",
            "logical replication target relation \"%s.%s\" does not exist",
            Cause::TableMissing,
        ),
        (
            "42809",
            "cannot use relation \"%s.%s\" as logical replication target",
            Cause::TableMissing,
        ),
        (
            "55000",
            "logical replication target relation \"%s.%s\" is missing replicated column: %s",
            Cause::ColumnMissing,
        ),
        (
            "55000",
            "logical replication target relation \"%s.%s\" has incompatible generated column: %s",
            Cause::GeneratedColumnIncompatible,
        ),
        (
            "55000",
            "publisher did not send replica identity column expected by the logical replication target relation \"%s.%s\"",
            Cause::ReplicaIdentity,
        ),
        (
            "55000",
            "logical replication target relation \"%s.%s\" has neither REPLICA IDENTITY index nor PRIMARY KEY and published relation does not have REPLICA IDENTITY FULL",
            Cause::ReplicaIdentity,
        ),
        (
            "55000",
            "cannot update table \"%s\" because it does not have a replica identity and publishes updates",
            Cause::ReplicaIdentity,
        ),
        (
            "0A000",
            "user \"%s\" cannot replicate into relation with row-level security enabled: \"%s\"",
            Cause::RowSecurity,
        ),
        (
            "42501",
            "new row violates row-level security policy for table \"%s\"",
            Cause::RowSecurity,
        ),
        (
            "0A000",
            "cannot truncate a table referenced in a foreign key constraint",
            Cause::ForeignKeyViolation,
        ),
        (
            "08006",
            "terminating logical replication worker due to timeout",
            Cause::WalReceiverTimeout,
        ),
        (
            "53400",
            "out of logical replication worker slots",
            Cause::WorkerPoolExhausted,
        ),
        (
            "53400",
            "out of background worker slots",
            Cause::WorkerPoolExhausted,
        ),
        (
            "53400",
            "could not find free replication state slot for replication origin with ID %d",
            Cause::OriginsExhausted,
        ),
        (
            "23505",
            "conflict detected on relation \"%s.%s\": conflict=%s",
            Cause::DuplicateKey,
        ),
        ("2F003", "password is required", Cause::AuthenticationFailed),
    ] {
        let found = assert_cause(&error(sqlstate, message_id, "übersetzt"), cause);
        assert!(!found.is_remote, "{message_id}");
    }
}

#[test]
fn errors_of_pglogical_are_known_by_their_text() {
    for (sqlstate, message_id, cause) in [
        ("XX000", "unknown column name %s", Cause::ColumnMissing),
        (
            "42P01",
            "relation \"%s.%s\" does not exist",
            Cause::TableMissing,
        ),
        ("3F000", "schema \"%s\" does not exist", Cause::TableMissing),
        (
            "42P10",
            "column \"%s\" is a generated column",
            Cause::GeneratedColumnIncompatible,
        ),
        ("23000", "cannot apply conflicting row", Cause::DuplicateKey),
        (
            "XX000",
            "could not find REPLICA IDENTITY index for table %s with oid %u",
            Cause::ReplicaIdentity,
        ),
        (
            "XX000",
            "worker registration failed, you might want to increase max_worker_processes setting",
            Cause::WorkerPoolExhausted,
        ),
        (
            "XX000",
            "subscriber %s initialization failed during nonrecoverable step (%c), please try the setup again",
            Cause::InitializationFailed,
        ),
    ] {
        assert_cause(&error(sqlstate, message_id, "übersetzt"), cause);
    }
    assert_eq!(
        distance(&error("XX000", "destination connection reported: %s", "")),
        1
    );
    let mut copy = error("XX000", "table copy failed", "table copy failed");
    copy.detail = Some(
        "Query 'COPY \"public\".\"g\" (\"id\",\"d\") TO stdout': ERROR:  column \"d\" is a generated column".to_owned(),
    );
    assert_cause(&copy, Cause::GeneratedColumnIncompatible);
}

#[test]
fn data_that_do_not_fit_are_known_by_their_sqlstate() {
    for (sqlstate, cause, nature) in [
        ("23505", Cause::DuplicateKey, Nature::Deterministic),
        ("23P01", Cause::DuplicateKey, Nature::Deterministic),
        ("23502", Cause::NotNullViolation, Nature::Deterministic),
        ("23514", Cause::CheckViolation, Nature::Deterministic),
        ("23503", Cause::ForeignKeyViolation, Nature::Deterministic),
        ("22P02", Cause::InvalidData, Nature::Deterministic),
        ("22P03", Cause::InvalidData, Nature::Deterministic),
        ("P0001", Cause::TriggerError, Nature::Deterministic),
        ("42501", Cause::PermissionDenied, Nature::Deterministic),
        ("25006", Cause::ReadOnly, Nature::Deterministic),
        ("40P01", Cause::Deadlock, Nature::Transient),
        ("40001", Cause::Unknown, Nature::Transient),
        ("55P03", Cause::LockWait, Nature::Transient),
        ("57014", Cause::StatementCancelled, Nature::Transient),
        ("53100", Cause::DiskFull, Nature::Transient),
        ("53200", Cause::OutOfMemory, Nature::Transient),
        ("58030", Cause::DiskIo, Nature::Transient),
        ("XX000", Cause::Unknown, Nature::Deterministic),
    ] {
        let found = assert_cause(&error(sqlstate, "%s", "übersetzt"), cause);
        assert_eq!(found.nature, nature, "{sqlstate}");
    }
}

#[test]
fn error_inside_a_function_is_that_of_a_trigger() {
    let mut found = error(
        "23505",
        "duplicate key value violates unique constraint \"%s\"",
        "",
    );
    found.context = Some(
        "Anweisung »insert into audit values (1)«\nPL/pgSQL-Funktion f() Zeile 3 bei SQL-Anweisung\nprocessing remote data".to_owned(),
    );
    assert_cause(&found, Cause::TriggerError);
    found.context = Some("processing remote data for replication origin \"pg_1\"".to_owned());
    assert_cause(&found, Cause::DuplicateKey);
    // A lock or a full disk is none of its faults.
    found.context = Some("PL/pgSQL function f() line 3 at SQL statement".to_owned());
    found.sqlstate = "53100".to_owned();
    assert_cause(&found, Cause::DiskFull);
}

#[test]
fn what_a_publisher_says_is_relayed() {
    const START: &str = "could not start WAL streaming: %s";
    const RECEIVE: &str = "could not receive data from WAL stream: %s";
    const SLOT: &str = "could not create replication slot \"%s\": %s";
    for (message_id, said, cause) in [
        (
            START,
            "ERROR:  replication slot \"sub\" does not exist",
            Cause::SlotMissing,
        ),
        (
            START,
            "ERROR:  replication slot \"sub\" is active for PID 5",
            Cause::SlotInUse,
        ),
        (
            START,
            "ERROR:  can no longer get changes from replication slot \"sub\"\nDETAIL:  This slot has been invalidated because it exceeded the maximum reserved size.",
            Cause::SlotInvalidated,
        ),
        (
            START,
            "ERROR:  can no longer access replication slot \"sub\"",
            Cause::SlotInvalidated,
        ),
        (
            RECEIVE,
            "ERROR:  requested WAL segment 000000010000000000000001 has already been removed",
            Cause::SlotInvalidated,
        ),
        (
            SLOT,
            "ERROR:  library \"pglogical_output\" may not be used as an output plugin",
            Cause::OutputPluginRefused,
        ),
        (
            "could not send replication command \"%s\": %s",
            "ERROR:  library \"pglogical_output\" may not be used as an output plugin",
            Cause::OutputPluginRefused,
        ),
        (
            RECEIVE,
            "ERROR:  publication \"pub\" does not exist",
            Cause::PublicationMissing,
        ),
        (
            "could not read COPY data: %s",
            "ERROR:  replication set default not found",
            Cause::PublicationMissing,
        ),
        (
            RECEIVE,
            "FATAL:  terminating connection due to administrator command",
            Cause::PublisherUnreachable,
        ),
        (
            "could not start initial contents copy for table \"%s.%s\": %s",
            "ERROR:  permission denied for table item",
            Cause::PermissionDenied,
        ),
        (
            RECEIVE,
            "FEHLER:  Publikation »pub« existiert nicht",
            Cause::Unknown,
        ),
    ] {
        let found = assert_cause(&error("08P01", message_id, said), cause);
        assert!(found.is_remote && found.is_connection, "{said}");
    }
}

/// pglogical puts all of the command before what the publisher said, and a SQLSTATE behind it.
#[test]
fn command_of_pglogical_is_not_its_reason() {
    let message = |said: &str| {
        format!(
            "could not send replication command \"START_REPLICATION SLOT \"slot\" LOGICAL 0/1 (\"pglogical.replication_set_names\" 'replication set not found')\": {said}"
        )
    };
    let cause = |said: &str| {
        let message_id = "could not send replication command \"%s\": %s, sqlstate: %s";
        classify(&error("XX000", message_id, &message(said))).cause
    };
    assert_eq!(
        cause("FEHLER:  Replikations-Slot »slot« existiert nicht\n\t\n, sqlstate: 42704"),
        Cause::SlotMissing
    );
    assert_eq!(cause("FEHLER\n, sqlstate: 55006"), Cause::SlotInUse);
    assert_eq!(cause("FEHLER\n, sqlstate: XX000"), Cause::Unknown);
    assert_eq!(
        cause("FEHLER\nTIPP:  output_plugin_libraries\n, sqlstate: 42501"),
        Cause::OutputPluginRefused
    );
}

#[test]
fn publisher_that_turns_away_is_told_from_one_that_is_not_there() {
    for message_id in [
        "could not connect to the publisher: %s",
        "apply worker for subscription \"%s\" could not connect to the publisher: %s",
        "table synchronization worker for subscription \"%s\" could not connect to the publisher: %s",
        "could not connect to the postgresql server%s: %s",
    ] {
        for (said, cause) in [
            ("Connection refused", Cause::PublisherUnreachable),
            ("timeout expired", Cause::PublisherUnreachable),
            (
                "FATAL:  password authentication failed for user \"r\"",
                Cause::AuthenticationFailed,
            ),
            (
                "FATAL:  no pg_hba.conf entry for host \"::1\", user \"r\", database \"shop\"",
                Cause::AuthenticationFailed,
            ),
            (
                "FATAL:  role \"r\" does not exist",
                Cause::AuthenticationFailed,
            ),
            ("certificate verify failed", Cause::AuthenticationFailed),
        ] {
            assert_cause(&error("08006", message_id, said), cause);
        }
    }
}

#[test]
fn connection_that_is_lost_again_and_again_is_cut_by_a_timeout() {
    let mut lost = error(
        "08006",
        "could not receive data from WAL stream: %s",
        "server closed the connection unexpectedly",
    );
    assert_cause(&lost, Cause::PublisherUnreachable);
    (lost.occurrences, lost.last_at) = (4, 180.0);
    assert_cause(&lost, Cause::WalSenderTimeout);
    // Thrice a year.
    lost.last_at = 1e7;
    assert_cause(&lost, Cause::PublisherUnreachable);
    let mut died = error("XX000", "connection to other side has died", "");
    (died.occurrences, died.last_at) = (2, 60.0);
    assert_cause(&died, Cause::WalSenderTimeout);
}
