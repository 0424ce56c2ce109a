//! An apply worker hears from the publisher, and it is to be seen whether it gets on.

use super::*;

fn blocked(seconds: f64, by: &[i32]) -> Worker {
    Worker {
        pid: 1,
        blocked_by: Some(by.to_vec()),
        blocked_since: Some(NOW - seconds),
        wait_event: Some("Lock/relation".to_owned()),
        ..Worker::default()
    }
}

#[test]
fn behind_or_not() {
    let lag = |seconds, bytes| {
        let mut story = well();
        story.lag = Lag { bytes, seconds };
        story.diagnosis().state
    };
    assert_eq!(lag(Some(9.0), Some(1 << 40)), State::Streaming);
    assert_eq!(lag(Some(10.0), Some(1)), State::CatchingUp);
    assert_eq!(lag(None, Some(1 << 30)), State::CatchingUp);
}

#[test]
fn lock_wait() {
    let mut story = well();
    story.one.worker = Some(blocked(59.0, &[7, 5, 7]));
    story.assert(State::CatchingUp, Cause::LockWait, Severity::Warning);
    story.one.worker = Some(blocked(60.0, &[7, 5, 7]));
    let found = story.assert(State::Stalled, Cause::LockWait, Severity::Critical);
    assert!(found.remedy.is_some_and(|text| text.contains("{5,7}")));
    assert_eq!(found.evidence["blocked_by"], json!([5, 7]));
    story.one.worker = Some(blocked(60.0, &[0]));
    let found = story.assert(State::Stalled, Cause::LockWait, Severity::Critical);
    assert!(found.finding.contains("prepared transaction"), "{found:?}");
}

/// The leader waits for those that help it, which is no stall unless one of them is held up.
#[test]
fn leader_waits_for_its_parallel_workers() {
    let mut story = well();
    story.stand(100.0);
    story.one.worker = Some(Worker {
        wait_event: Some("Lock/applytransaction".to_owned()),
        ..blocked(100.0, &[3])
    });
    let helper = Worker {
        pid: 3,
        ..Worker::default()
    };
    story.one.parallel_workers = vec![helper];
    story.assert(State::CatchingUp, Cause::LargeTransaction, Severity::Info);
    story.one.parallel_workers = vec![Worker {
        pid: 3,
        ..blocked(90.0, &[8])
    }];
    let found = story.assert(State::Stalled, Cause::LockWait, Severity::Critical);
    assert_eq!(found.evidence["blocked_by"], json!([8]));
}

#[test]
fn standstill_needs_time_and_something_to_apply() {
    let mut story = well();
    story.wait("BufferPin/BufferPin");
    story.stand(59.0);
    assert_eq!(story.diagnosis().state, State::CatchingUp);
    story.stand(60.0);
    let found = story.assert(State::Stalled, Cause::Unknown, Severity::Critical);
    assert!(found.finding.contains("BufferPin"), "{found:?}");
    // Since the last look something was applied.
    story.one.applied_lsn = Some(150);
    assert_eq!(story.diagnosis().state, State::CatchingUp);
    // The worker is new.
    story.stand(60.0);
    story.one.applied_lsn = Some(100);
    story.known().progress.get_or_insert_default().worker_since = NOW - 5.0;
    assert_eq!(story.diagnosis().state, State::CatchingUp);
}

#[test]
fn idle_publisher() {
    let mut story = well();
    story.stand(5000.0);
    (story.publisher().lsn, story.lag) = (100, Lag::default());
    story.known().progress.get_or_insert_default().behind_since = None;
    story.one.last_message_at = Some(NOW - 4000.0);
    story.assert_plain(State::Streaming);
    // It has written something at this moment.
    story.publisher().lsn = 900;
    story.known().progress.get_or_insert_default().behind_since = Some(NOW - 4.0);
    story.assert_plain(State::Streaming);
}

#[test]
fn identity_full_without_index() {
    let mut story = well();
    story.wait("");
    story.stand(100.0);
    story.known().tables_without_identity = vec!["public.item".to_owned()];
    let found = story.assert(
        State::Stalled,
        Cause::IdentityFullWithoutIndex,
        Severity::Critical,
    );
    assert!(found.finding.contains("public.item"), "{found:?}");
    // Rows of a large transaction come, one after the other.
    let progress = story.stand(100.0);
    (progress.received_from, progress.received_lsn) = (Some(100), Some(200));
    (progress.received_at, story.one.received_lsn) = (NOW - 1.0, Some(200));
    story.assert(
        State::Stalled,
        Cause::IdentityFullWithoutIndex,
        Severity::Critical,
    );
    // They come as fast as they can be written.
    let progress = story.known().progress.get_or_insert_default();
    (progress.received_lsn, story.one.received_lsn) = (Some(100 << 20), Some(100 << 20));
    story.assert(State::CatchingUp, Cause::LargeTransaction, Severity::Info);
}

#[test]
fn one_huge_transaction() {
    let mut story = well();
    story.wait("");
    story.stand(100.0).received_at = NOW - 2.0;
    let found = story.assert(State::CatchingUp, Cause::LargeTransaction, Severity::Info);
    assert_eq!((found.remedy, found.nature), (None, None));
    // Received long ago, and applied from a file.
    story.stand(100.0);
    story.assert(State::CatchingUp, Cause::LargeTransaction, Severity::Info);
}

#[test]
fn long_transaction_on_the_publisher() {
    let mut story = well();
    story.stand(100.0);
    story.publisher().oldest_transaction_at = Some(NOW - 200.0);
    story.assert(
        State::CatchingUp,
        Cause::PublisherTransaction,
        Severity::Info,
    );
    // It began later; the publisher is heard from all the time.
    story.publisher().oldest_transaction_at = Some(NOW - 50.0);
    story.assert(State::CatchingUp, Cause::Unknown, Severity::Warning);
}

#[test]
fn transaction_that_comes_slowly() {
    let mut story = well();
    story.stand(100.0);
    if let Some(worker) = &mut story.one.worker {
        worker.writing_since = Some(NOW - 100.0);
    }
    story.assert(State::CatchingUp, Cause::LargeTransaction, Severity::Info);
}

#[test]
fn publisher_silent() {
    let mut story = well();
    story.stand(100.0);
    story.one.last_message_at = Some(NOW - 90.0);
    let found = story.assert(State::Stalled, Cause::PublisherSilent, Severity::Critical);
    assert!(found.cause.restart_helps());
    // pglogical tells of no messages, but the publisher of its slot.
    let mut story = pglogical();
    story.stand(100.0);
    story.assert(State::Stalled, Cause::Unknown, Severity::Critical);
    story.slot().row.active = false;
    story.assert(State::Stalled, Cause::PublisherSilent, Severity::Critical);
    // Or of its walsender, which waits for nothing that is there.
    story.slot().row.active = true;
    story.slot().walsender = Some(Walsender {
        wait_event: Some("Client/WalSenderWaitForWAL".to_owned()),
        ..Walsender::default()
    });
    story.assert(State::Stalled, Cause::PublisherSilent, Severity::Critical);
}

#[test]
fn publisher_that_answers_nobody() {
    let mut story = well();
    story.unreachable("timeout");
    story.assert_plain(State::Streaming);
    story.one.last_message_at = Some(NOW - 90.0);
    story.assert(
        State::Stalled,
        Cause::PublisherUnreachable,
        Severity::Critical,
    );
}

#[test]
fn publisher_short_of_cpu() {
    let mut story = well();
    let progress = story.stand(100.0);
    progress.sender_busy_since = Some(NOW - 90.0);
    story.slot().walsender = Some(Walsender {
        pid: 4,
        ..Walsender::default()
    });
    let found = story.assert(
        State::CatchingUp,
        Cause::PublisherOverloaded,
        Severity::Warning,
    );
    assert_eq!(found.evidence["walsender"]["pid"], 4);
    // It need not stand still for that.
    story.one.applied_lsn = Some(150);
    story.assert(
        State::CatchingUp,
        Cause::PublisherOverloaded,
        Severity::Warning,
    );
}

#[test]
fn synchronous_commit_and_slow_disk() {
    for (event, cause) in [
        ("IPC/SyncRep", Cause::SynchronousCommit),
        ("IO/DataFileRead", Cause::DiskIo),
    ] {
        let mut story = well();
        story.wait(event);
        story.stand(100.0);
        story.assert(State::Stalled, cause, Severity::Critical);
    }
}

#[test]
fn pglogical_catchup_hang() {
    let mut story = pglogical();
    story.one.initial_code = Some("u".to_owned());
    story.assert_plain(State::Copying);
    story.stand(100.0);
    story.assert(State::Stalled, Cause::CatchupHang, Severity::Critical);
}

fn copying() -> Story {
    let mut story = well();
    story.one.tables_ready = 1;
    story
}

#[test]
fn copy_waits_for_a_lock() {
    let mut story = copying();
    story.assert_plain(State::Copying);
    story.one.sync_workers = vec![blocked(100.0, &[8]), Worker::default()];
    story.assert(State::Copying, Cause::LockWait, Severity::Warning);
    story.one.sync_workers = vec![blocked(100.0, &[8])];
    story.assert(State::Stalled, Cause::LockWait, Severity::Critical);
    story.one.sync_workers.clear();
    story.one.worker = Some(blocked(100.0, &[8]));
    story.assert(State::Stalled, Cause::LockWait, Severity::Critical);
}

#[test]
fn sync_queued_and_a_pool_without_room() {
    let mut story = copying();
    story.one.tables_waiting = 3;
    story.one.workers_running = Some(4);
    story.one.sync_workers = vec![Worker::default(), Worker::default()];
    let found = story.assert(State::Copying, Cause::SyncQueued, Severity::Info);
    assert_eq!(found.remedy, None);
    story.one.sync_workers.truncate(1);
    let found = story.assert(
        State::Copying,
        Cause::WorkerPoolExhausted,
        Severity::Warning,
    );
    assert!(found.remedy.is_some());
    story.one.workers_running = Some(3);
    story.assert_plain(State::Copying);
}

#[test]
fn copy_that_nobody_is_at() {
    let mut story = copying();
    story.one.tables_interrupted = 1;
    story.assert(State::Copying, Cause::Unknown, Severity::Warning);
}

#[test]
fn slot_creation_waits_for_an_old_transaction() {
    let mut story = copying();
    story.one.tables_waiting = 1;
    story.one.sync_workers = vec![Worker {
        pid: 9,
        started_at: Some(NOW - 20.0),
        wait_event: Some("Client/LibPQWalReceiverReceive".to_owned()),
        ..Worker::default()
    }];
    story.assert_plain(State::Copying);
    story.publisher().oldest_transaction_at = Some(NOW - 300.0);
    story.assert(State::Copying, Cause::SlotCreationWait, Severity::Warning);
    story.one.sync_workers[0].wait_event = Some("Client/LibpqwalreceiverReceive".to_owned());
    story.assert(State::Copying, Cause::SlotCreationWait, Severity::Warning);
    // Rows come.
    story.one.sync_workers[0].copies = true;
    story.assert_plain(State::Copying);
    // It began later.
    story.one.sync_workers[0].copies = false;
    story.publisher().oldest_transaction_at = Some(NOW - 10.0);
    story.assert_plain(State::Copying);
    let mut story = pglogical();
    story.one.initial_code = Some("i".to_owned());
    story.worker().started_at = Some(NOW - 20.0);
    story.publisher().oldest_transaction_at = Some(NOW - 300.0);
    story.assert(State::Copying, Cause::SlotCreationWait, Severity::Warning);
}
