//! What was received cannot be applied, or tables cannot be copied.

use super::*;

/// The worker has just ended, at the same transaction as before.
fn failing(sqlstate: &str, message_id: &str) -> Story {
    let mut story = well();
    story.apart();
    let error = story.fail(sqlstate, message_id, message_id);
    error.finish_lsn = Some(200);
    error.relation = Some(("public".to_owned(), "item".to_owned()));
    story
}

#[track_caller]
fn assert_failing(sqlstate: &str, message_id: &str, cause: Cause, severity: Severity) -> Finding {
    let mut story = failing(sqlstate, message_id);
    let found = story.assert(State::Retrying, cause, severity);
    assert!(found.finding.contains("0/C8"), "{found:?}");
    assert_eq!(found.evidence["error"]["finish_lsn"], "0/C8");
    // Likewise where nobody asks the publisher.
    story.known = None;
    story.assert(State::Retrying, cause, severity);
    found
}

#[test]
fn rows_that_cannot_be_applied() {
    for (sqlstate, message_id, cause) in [
        ("23505", "", Cause::DuplicateKey),
        ("23502", "", Cause::NotNullViolation),
        ("23514", "", Cause::CheckViolation),
        ("23503", "", Cause::ForeignKeyViolation),
        ("22P02", "", Cause::InvalidData),
        ("P0001", "", Cause::TriggerError),
        ("42501", "", Cause::PermissionDenied),
        (
            "42501",
            "new row violates row-level security policy",
            Cause::RowSecurity,
        ),
        ("25006", "", Cause::ReadOnly),
        (
            "55000",
            "logical replication target relation \"%s.%s\" does not exist",
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
            "publisher did not send replica identity column expected by ...",
            Cause::ReplicaIdentity,
        ),
    ] {
        let found = assert_failing(sqlstate, message_id, cause, Severity::Critical);
        assert!(found.remedy.is_some(), "{found:?}");
        assert_eq!(found.nature, Some(Nature::Deterministic));
    }
}

#[test]
fn troubles_that_may_pass() {
    for (sqlstate, cause) in [
        ("40P01", Cause::Deadlock),
        ("53100", Cause::DiskFull),
        ("58030", Cause::DiskIo),
        ("53200", Cause::OutOfMemory),
        ("57014", Cause::StatementCancelled),
        ("55P03", Cause::LockWait),
        ("40001", Cause::Unknown),
    ] {
        let found = assert_failing(sqlstate, "", cause, Severity::Warning);
        assert_eq!(found.nature, Some(Nature::Transient));
    }
}

#[test]
fn replica_identity_of_the_publisher_is_its_to_mend() {
    let found = assert_failing(
        "55000",
        "logical replication target relation \"%s.%s\" has neither REPLICA IDENTITY index nor PRIMARY KEY",
        Cause::ReplicaIdentity,
        Severity::Critical,
    );
    let remedy = found.remedy.unwrap_or_default();
    assert!(
        remedy.starts_with(
            "ALTER TABLE \"public\".\"item\" REPLICA IDENTITY FULL; -- on the publisher"
        ),
        "{remedy}"
    );
}

#[test]
fn up_to_17_a_generated_column_counts_as_missing() {
    let mut story = failing(
        "55000",
        "logical replication target relation \"%s.%s\" is missing replicated column: %s",
    );
    story.known().generated_tables = vec!["public.item".to_owned()];
    story.assert(
        State::Retrying,
        Cause::GeneratedColumnIncompatible,
        Severity::Critical,
    );
}

/// A worker runs for a moment each 5 s: the state does not change with it.
#[test]
fn standing_error_does_not_flap() {
    let mut story = failing("23505", "");
    let mut young = well();
    std::mem::swap(&mut young.one, &mut story.one);
    let mut at_work = well();
    at_work.errors = story.errors.clone();
    at_work.worker().started_at = Some(NOW - 0.5);
    at_work.wait("");
    at_work.assert(State::Retrying, Cause::DuplicateKey, Severity::Critical);
    // It goes on for long: it may have been mended, and is told of besides.
    at_work.worker().started_at = Some(NOW - 61.0);
    at_work.assert_plain(State::Streaming);
    at_work.assert_side(Cause::DuplicateKey, Severity::Critical);
    // It is applied.
    at_work.worker().started_at = Some(NOW - 0.5);
    at_work.one.applied_lsn = Some(201);
    at_work.assert_plain(State::Streaming);
    assert!(at_work.diagnosis().findings.is_empty());
}

#[test]
fn old_error_stands_as_long_as_nothing_was_applied_since() {
    let mut story = failing("23505", "");
    story.errors[0].last_at = NOW - 400.0;
    story.assert(State::Retrying, Cause::Unknown, Severity::Warning);
    story.known().progress = Some(Progress {
        applied_lsn: Some(100),
        applied_at: NOW - 500.0,
        ..Progress::default()
    });
    story.assert(State::Retrying, Cause::DuplicateKey, Severity::Critical);
}

/// 14 does not say where the transaction ends.
#[test]
fn error_without_position_stands_while_it_is_the_last() {
    let mut story = failing("23505", "");
    story.errors[0].finish_lsn = None;
    story.assert(State::Retrying, Cause::DuplicateKey, Severity::Critical);
    // At its next attempt.
    let mut next = well();
    next.errors = story.errors.clone();
    next.worker().started_at = Some(NOW - 0.5);
    next.assert_plain(State::Streaming);
    let progress = next.stand(100.0);
    progress.worker_since = NOW - 0.5;
    next.assert(State::Retrying, Cause::DuplicateKey, Severity::Critical);
    // The publisher is gone since.
    story.fail("08006", "could not connect to the publisher: %s", "refused");
    story.errors[0].last_at = NOW - 1.0;
    story.assert(
        State::Retrying,
        Cause::PublisherUnreachable,
        Severity::Warning,
    );
}

#[test]
fn unreachable_publisher_comes_before_an_error_of_some_time_ago() {
    let mut story = failing("23505", "");
    story.unreachable("refused");
    // Who fails on data has reached it.
    story.assert(State::Retrying, Cause::DuplicateKey, Severity::Critical);
    story.errors[0].last_at = NOW - 60.0;
    story.assert(
        State::Retrying,
        Cause::PublisherUnreachable,
        Severity::Warning,
    );
    story.assert_side(Cause::DuplicateKey, Severity::Critical);
}

#[test]
fn leader_passes_on_what_a_parallel_worker_failed_with() {
    let mut story = failing("23505", "");
    story.errors[0].kind = WorkerKind::ParallelApply;
    story.errors[0].last_at = NOW - 4.1;
    let echo = story.fail(
        "55000",
        "logical replication parallel apply worker exited due to error",
        "exited",
    );
    echo.finish_lsn = Some(200);
    story.assert(State::Retrying, Cause::DuplicateKey, Severity::Critical);
    // What befell a parallel worker itself does not say where the transaction ends.
    for error in &mut story.errors {
        if error.kind == WorkerKind::ParallelApply {
            error.finish_lsn = None;
        }
    }
    story.assert(State::Retrying, Cause::DuplicateKey, Severity::Critical);
}

#[test]
fn errors_of_others_say_nothing() {
    let mut story = failing("23505", "");
    story.errors[0].id = Some(8);
    story.assert(State::Retrying, Cause::Unknown, Severity::Warning);
}

/// Recurs at the same position, and streams in between.
#[test]
fn timeouts_between_which_nothing_is_applied() {
    let mut story = well();
    story.stand(200.0);
    story.worker().started_at = Some(NOW - 3.0);
    let error = story.fail(
        "08006",
        "terminating logical replication worker due to timeout",
        "terminating ...",
    );
    (error.first_at, error.occurrences) = (NOW - 190.0, 3);
    story.assert(
        State::Retrying,
        Cause::WalReceiverTimeout,
        Severity::Warning,
    );
    story.known().progress.get_or_insert_default().behind_since = None;
    story.lag = Lag::default();
    story.assert_plain(State::Streaming);
}

fn copying() -> Story {
    let mut story = well();
    story.one.tables_ready = 1;
    story.one.tables_interrupted = 1;
    story.one.tables_begun = vec![BegunTable {
        relation: Some(55),
        schema_name: "public".to_owned(),
        table_name: "item".to_owned(),
    }];
    let error = story.fail(
        "55000",
        "logical replication target relation \"%s.%s\" is missing replicated column: %s",
        "... is missing replicated column: \"a\"",
    );
    error.kind = WorkerKind::TableSynchronization;
    error.relation = Some(("public".to_owned(), "item".to_owned()));
    story
}

#[test]
fn column_missing_in_a_copy() {
    let mut story = copying();
    let found = story.assert(State::Copying, Cause::ColumnMissing, Severity::Critical);
    assert!(
        found
            .remedy
            .is_some_and(|text| text.contains("ADD COLUMN \"a\""))
    );
    // At its next attempt.
    story.one.tables_interrupted = 0;
    story.one.sync_workers = vec![Worker {
        pid: 9,
        relation: Some(55),
        started_at: Some(NOW - 1.0),
        ..Worker::default()
    }];
    story.assert(State::Copying, Cause::ColumnMissing, Severity::Critical);
    // Mended: it goes on for long.
    story.errors[0].last_at = NOW - 70.0;
    story.one.sync_workers[0].started_at = Some(NOW - 65.0);
    story.assert_plain(State::Copying);
    // That table is ready, another is not.
    let mut story = copying();
    story.one.tables_interrupted = 0;
    story.one.tables_begun[0].table_name = "other".to_owned();
    story.assert_plain(State::Copying);
}

#[test]
fn copy_that_the_publisher_does_not_allow() {
    let mut story = copying();
    story.errors.clear();
    let error = story.fail(
        "08006",
        "could not start initial contents copy for table \"%s.%s\": %s",
        "...: ERROR:  permission denied for table item",
    );
    error.kind = WorkerKind::TableSynchronization;
    error.relation = Some(("public".to_owned(), "item".to_owned()));
    let found = story.assert(State::Copying, Cause::PermissionDenied, Severity::Critical);
    assert!(
        found
            .remedy
            .is_some_and(|text| text.contains("on the publisher"))
    );
}

#[test]
fn initial_copy_of_pglogical_fails() {
    let mut story = pglogical();
    story.one.initial_code = Some("d".to_owned());
    let error = story.fail(
        "22001",
        "value too long for type character varying(%d)",
        "too long",
    );
    (error.kind, error.finish_lsn) = (WorkerKind::Copy, None);
    let echo = story.fail(
        "XX000",
        "destination connection reported: %s",
        "destination connection reported: ERROR: too long",
    );
    echo.kind = WorkerKind::Apply;
    story.assert(State::Copying, Cause::InvalidData, Severity::Critical);
}
