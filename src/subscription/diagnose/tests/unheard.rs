//! No apply worker hears from the publisher.

use super::*;

const RETRYING: State = State::Retrying;

fn lost() -> Story {
    let mut story = well();
    story.apart();
    story
}

#[test]
fn publisher_unreachable() {
    let mut story = lost();
    story.unreachable("connection refused");
    let found = story.assert(RETRYING, Cause::PublisherUnreachable, Severity::Warning);
    assert_eq!(found.nature, Some(Nature::Transient));
    assert!(found.finding.contains("connection refused"), "{found:?}");
    // By the worker's word alone.
    let mut story = lost();
    story.known = None;
    story.fail(
        "08006",
        "could not connect to the publisher: %s",
        "could not connect to the publisher: Connection refused",
    );
    story.assert(RETRYING, Cause::PublisherUnreachable, Severity::Warning);
}

#[test]
fn authentication() {
    let mut story = lost();
    story.unreachable("FATAL: password authentication failed for user \"r\"");
    story.assert(RETRYING, Cause::AuthenticationFailed, Severity::Critical);
    let mut story = lost();
    story.fail(
        "08006",
        "apply worker for subscription \"%s\" could not connect to the publisher: %s",
        "...: FATAL:  no pg_hba.conf entry for host",
    );
    let found = story.assert(RETRYING, Cause::AuthenticationFailed, Severity::Critical);
    assert_eq!(found.evidence["error"]["sqlstate"], "08006");
}

#[test]
fn nothing_is_guessed_where_nobody_asked_and_nothing_was_captured() {
    let mut story = lost();
    story.known = None;
    let found = story.assert(RETRYING, Cause::Unknown, Severity::Warning);
    assert!(found.finding.contains("Ask the publisher"), "{found:?}");
    // A worker that has not heard yet.
    let mut story = well();
    story.one.has_heard = Some(false);
    story.assert(RETRYING, Cause::Unknown, Severity::Warning);
}

#[test]
fn slot_missing() {
    let mut story = lost();
    story.publisher().slot = None;
    let found = story.assert(RETRYING, Cause::SlotMissing, Severity::Critical);
    assert!(
        found
            .remedy
            .is_some_and(|text| text.contains("DROP SUBSCRIPTION"))
    );
    // In the publisher's words, where nobody asks it.
    let mut story = lost();
    story.known = None;
    story.fail(
        "08P01",
        "could not start WAL streaming: %s",
        "could not start WAL streaming: ERROR:  replication slot \"sub\" does not exist",
    );
    story.assert(RETRYING, Cause::SlotMissing, Severity::Critical);
}

#[test]
fn slot_in_use() {
    let mut story = lost();
    story.slot().row = SlotRow {
        active: true,
        active_pid: Some(99),
        ..SlotRow::default()
    };
    let cause = |story: &Story| {
        let cause = story.diagnosis().cause().map(|one| one.cause);
        cause.unwrap_or(Cause::Standby)
    };
    // Asked while there still was a worker, and while another used the slot.
    story.publisher().slot_used_since = Some(NOW - 100.0);
    story.known().apart_since = Some(NOW - 1.0);
    assert_eq!(cause(&story), Cause::Unknown);
    story.known().apart_since = None;
    assert_eq!(cause(&story), Cause::Unknown);
    story.known().apart_since = Some(NOW - 30.0);
    story.publisher().slot_used_since = Some(NOW - 2.0);
    assert_eq!(cause(&story), Cause::Unknown);
    story.publisher().slot_used_since = Some(NOW - 100.0);
    let found = story.assert(RETRYING, Cause::SlotInUse, Severity::Warning);
    assert!(found.finding.contains("process 99"), "{found:?}");
    // In its words.
    let mut story = lost();
    story.known = None;
    story.fail(
        "08P01",
        "could not start WAL streaming: %s",
        "ERROR:  replication slot \"sub\" is active for PID 99",
    );
    story.assert(RETRYING, Cause::SlotInUse, Severity::Warning);
}

#[test]
fn slot_invalidated() {
    for row in [
        SlotRow {
            wal_status: Some("lost".to_owned()),
            ..SlotRow::default()
        },
        SlotRow {
            conflicting: Some(true),
            ..SlotRow::default()
        },
        SlotRow {
            invalidation_reason: Some("idle_timeout".to_owned()),
            ..SlotRow::default()
        },
    ] {
        let mut story = lost();
        story.slot().row = row;
        story.assert(RETRYING, Cause::SlotInvalidated, Severity::Critical);
    }
}

#[test]
fn output_plugin_refused() {
    let mut story = pglogical();
    story.apart();
    // In another language: the list of the publisher says it.
    story.fail(
        "XX000",
        "could not send replication command \"%s\": %s",
        "FEHLER:  Bibliothek »pglogical_output«",
    );
    story.publisher().output_plugin_libraries = Some("pgoutput, test_decoding".to_owned());
    let found = story.assert(RETRYING, Cause::OutputPluginRefused, Severity::Critical);
    assert!(found.remedy.is_some_and(|text| {
        text.starts_with(
            "ALTER SYSTEM SET output_plugin_libraries = pglogical_output, pgoutput, test_decoding;",
        )
    }));
    story.publisher().output_plugin_libraries = Some("pglogical_output".to_owned());
    story.assert(RETRYING, Cause::Unknown, Severity::Warning);
    story.errors.clear();
    story.fail(
        "XX000",
        "could not create replication slot on provider: %s",
        "ERROR:  library \"pglogical_output\" may not be used as an output plugin",
    );
    story.assert(RETRYING, Cause::OutputPluginRefused, Severity::Critical);
    // That is why there is no slot.
    story.one.initial_code = Some("i".to_owned());
    story.publisher().slot = None;
    story.assert(RETRYING, Cause::OutputPluginRefused, Severity::Critical);
}

#[test]
fn publication_missing() {
    let mut story = lost();
    story.known().publications_missing = vec!["pub".to_owned()];
    let found = story.assert(RETRYING, Cause::PublicationMissing, Severity::Critical);
    assert!(found.finding.contains("pub"), "{found:?}");
    // In another language, with the fact.
    story.fail(
        "08P01",
        "could not receive data from WAL stream: %s",
        "FEHLER:  Publikation »pub« existiert nicht",
    );
    story.assert(RETRYING, Cause::PublicationMissing, Severity::Critical);
    let mut story = well();
    story.known().publications_missing = vec!["pub".to_owned()];
    story.assert_side(Cause::PublicationMissing, Severity::Warning);
    story.assert_plain(State::Streaming);
}

#[test]
fn worker_pool_exhausted() {
    let mut story = lost();
    story.one.hindrance = Some("worker_pool_exhausted".to_owned());
    story.assert(State::Down, Cause::WorkerPoolExhausted, Severity::Critical);
    // max_worker_processes: only the launcher knows.
    let mut story = lost();
    let error = story.fail(
        "53400",
        "out of background worker slots",
        "out of background worker slots",
    );
    (error.id, error.kind) = (None, WorkerKind::Launcher);
    story.assert(State::Down, Cause::WorkerPoolExhausted, Severity::Critical);
}

#[test]
fn nothing_starts_a_worker() {
    for (word, cause, severity) in [
        (
            "launcher_missing",
            Cause::LauncherMissing,
            Severity::Critical,
        ),
        ("standby", Cause::Standby, Severity::Info),
    ] {
        let mut story = lost();
        story.one.hindrance = Some(word.to_owned());
        story.assert(State::Down, cause, severity);
    }
}

#[test]
fn pglogical_nonrecoverable_initialization() {
    let mut story = pglogical();
    story.apart();
    story.one.hindrance = Some("initialization_failed".to_owned());
    let error = story.fail(
        "42P10",
        "column \"%s\" is a generated column",
        "column \"g\" is a generated column",
    );
    error.kind = WorkerKind::Copy;
    let found = story.assert(State::Down, Cause::InitializationFailed, Severity::Critical);
    assert!(found.finding.contains("column \"g\""), "{found:?}");
    // As it comes in fact: the reason is in the detail of the first error, and the last is said again and again.
    story.errors.clear();
    let error = story.fail("XX000", "table copy failed", "table copy failed");
    error.detail = Some("Query 'COPY ...': ERROR:  column \"d\" is a generated column".to_owned());
    story.fail(
        "XX000",
        "subscriber %s initialization failed during nonrecoverable step (%c), please try the setup again",
        "subscriber sub initialization failed",
    );
    let found = story.assert(State::Down, Cause::InitializationFailed, Severity::Critical);
    assert!(
        found.finding.contains("column \"d\" is a generated"),
        "{found:?}"
    );
}

#[test]
fn origins_exhausted() {
    let mut story = lost();
    story.fail(
        "53400",
        "could not find free replication state slot for replication origin with ID %d",
        "could not find free ...",
    );
    story.one.origin_limit = Some(("max_replication_slots".to_owned(), 10));
    let found = story.assert(RETRYING, Cause::OriginsExhausted, Severity::Critical);
    assert!(
        found
            .remedy
            .is_some_and(|text| text.contains("max_replication_slots\" = 20"))
    );
}

#[test]
fn wal_receiver_timeout() {
    let mut story = lost();
    story.fail(
        "08006",
        "terminating logical replication worker due to timeout",
        "terminating ...",
    );
    let found = story.assert(RETRYING, Cause::WalReceiverTimeout, Severity::Warning);
    assert!(
        found
            .remedy
            .is_some_and(|text| text.contains("wal_receiver_timeout"))
    );
}

#[test]
fn wal_sender_timeout() {
    let mut story = lost();
    let error = story.fail(
        "08006",
        "could not receive data from WAL stream: %s",
        "...: server closed the connection unexpectedly",
    );
    error.first_at = NOW - 300.0;
    story.assert(RETRYING, Cause::WalSenderTimeout, Severity::Warning);
    // Once, it may have been anything.
    story.errors[0].occurrences = 1;
    story.assert(RETRYING, Cause::PublisherUnreachable, Severity::Warning);
}

#[test]
fn relaunch_backoff() {
    let mut story = pglogical();
    story.apart();
    // The publisher was away, and is back since.
    let error = story.fail(
        "XX000",
        "could not connect to the postgresql server%s: %s",
        "Connection refused",
    );
    error.last_at = NOW - 25.0;
    let found = story.assert(RETRYING, Cause::RelaunchBackoff, Severity::Warning);
    assert_eq!(
        found.remedy.as_deref(),
        Some("SELECT repl_restart_worker('sub');")
    );
    // The server will start one by itself.
    assert!(!found.cause.restart_helps());
    story.known().apart_since = Some(NOW - 5.0);
    story.assert(RETRYING, Cause::Unknown, Severity::Warning);
    // It does not answer us either.
    story.unreachable("refused");
    story.assert(RETRYING, Cause::PublisherUnreachable, Severity::Warning);
    // Native tries again each 5 s.
    lost().assert(RETRYING, Cause::Unknown, Severity::Warning);
}

/// pglogical says no more, whatever the publisher's reason was.
#[test]
fn relaunch_backoff_after_the_stream_has_ended() {
    let mut story = pglogical();
    story.apart();
    let error = story.fail("XX000", "data stream ended", "data stream ended");
    error.last_at = NOW - 25.0;
    let found = story.assert(RETRYING, Cause::RelaunchBackoff, Severity::Warning);
    assert!(found.finding.contains("data stream ended"), "{found:?}");
    story.errors[0].last_at = NOW - 5.0;
    story.assert(RETRYING, Cause::Unknown, Severity::Warning);
}

#[test]
fn who_was_ended_by_an_administrator_has_not_failed() {
    let mut story = lost();
    story.fail("57P01", "terminating ...", "terminating ...");
    story.assert(RETRYING, Cause::Unknown, Severity::Warning);
}
