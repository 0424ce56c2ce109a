//! A subscription some of whose tables are not ready.

use super::standing;
use super::{Scene, Verdict, said};
use crate::subscription::cause::{Cause, Nature, Severity};
use crate::subscription::condition::State;
use crate::subscription::finding::Finding;
use crate::subscription::provider::Worker;
use crate::subscription::unit::duration;
use serde_json::json;

/// A slot is made in a moment, where no transaction is in the way.
const SLOT_CREATION: f64 = 10.0;

pub(super) fn verdict(scene: &Scene) -> Verdict {
    let one = scene.subscription;
    let copiers = &one.sync_workers;
    let stalled = |since: f64| scene.around.now - since >= scene.around.stall_timeout;
    let blocked: Vec<f64> = copiers
        .iter()
        .filter_map(|copier| scene.blocked_since(copier))
        .collect();
    let applies_since = scene.apply_blocked_since();
    let do_all_wait = !copiers.is_empty()
        && blocked.len() == copiers.len()
        && blocked.iter().all(|since| stalled(*since));
    let earliest = blocked
        .iter()
        .copied()
        .chain(applies_since)
        .reduce(f64::min);
    if do_all_wait || applies_since.is_some_and(stalled) {
        let since = earliest.unwrap_or(scene.around.now);
        return Verdict::new(State::Stalled, scene.lock_wait(Severity::Critical, since));
    }
    if catchup_hangs(scene) {
        return Verdict::new(
            State::Stalled,
            scene.finding(
                Severity::Critical,
                Cause::CatchupHang,
                "pglogical has copied everything and waits to catch up with the publisher, which has nothing to send: the next transaction there lets it go on.",
            ),
        );
    }
    let cause = of_error(scene)
        .or_else(|| earliest.map(|since| scene.lock_wait(Severity::Warning, since)))
        .or_else(|| slot_creation(scene))
        .or_else(|| interrupted(scene))
        .or_else(|| queue(scene));
    Verdict::new(State::Copying, cause)
}

fn of_error(scene: &Scene) -> Option<Finding> {
    let standing = standing::of_copy(scene)?;
    let (severity, then) = match standing.failure.nature {
        Nature::Deterministic => (
            Severity::Critical,
            "It begins again and again, and fails until that is mended",
        ),
        Nature::Transient => (Severity::Warning, "It is tried again, and may succeed"),
    };
    let times = match standing.error.occurrences {
        ..2 => "The copy of a table failed".to_owned(),
        times => format!("The copy of a table has failed {times} times"),
    };
    Some(scene.of_error(
        severity,
        standing.failure.cause,
        format!("{times}: {}. {then}.", said(standing.error)),
        &standing,
    ))
}

/// Everything is copied, and the apply worker waits for something to come.
fn catchup_hangs(scene: &Scene) -> bool {
    let one = scene.subscription;
    let timeout = scene.stall_timeout();
    one.initial_code.as_deref() == Some("u")
        && scene.progress().is_some_and(|progress| {
            let stands = scene.around.now - progress.still_since() >= timeout;
            stands
                && progress
                    .idle_since
                    .is_some_and(|since| scene.around.now - since >= timeout)
        })
}

/// Rows do not come before the publisher has made a slot, which waits for all transactions that run there.
fn slot_creation(scene: &Scene) -> Option<Finding> {
    let oldest = scene.publisher()?.oldest_transaction_at?;
    let one = scene.subscription;
    let waits = |worker: &Worker| {
        let started = worker.started_at.filter(|started| oldest < *started)?;
        (scene.around.now - started >= SLOT_CREATION && !worker.copies).then_some(started)
    };
    let is_receiving = |worker: &&Worker| {
        let event = worker.wait_event.as_deref();
        // LibPQWalReceiverReceive, and LibpqwalreceiverReceive since 17.
        event.is_some_and(|event| event.to_ascii_lowercase().contains("libpqwalreceiver"))
    };
    let native = one.sync_workers.iter().filter(is_receiving).find_map(waits);
    // pglogical's apply worker makes the slot before anybody copies.
    let apply = one
        .worker
        .as_ref()
        .filter(|_| one.initial_code.as_deref() == Some("i") && one.sync_workers.is_empty());
    let since = native.or_else(|| apply.and_then(waits))?;
    Some(
        scene
            .finding(
                Severity::Warning,
                Cause::SlotCreationWait,
                format!(
                    "The copy cannot begin: for {} the publisher has been making a replication slot, for which transactions have to end that began before; the oldest is {} old.",
                    duration(scene.around.now - since),
                    duration(scene.around.now - oldest)
                ),
            )
            .with(json!({"oldest_transaction_at": oldest, "waiting_since": since})),
    )
}

fn interrupted(scene: &Scene) -> Option<Finding> {
    let number = scene.subscription.tables_interrupted;
    (number > 0).then(|| {
        scene
            .finding(
                Severity::Warning,
                Cause::Unknown,
                format!("The copy of {number} tables has begun, and nobody is at it: it failed or was ended, and begins again by itself."),
            )
            .with(json!({"tables_interrupted": number}))
    })
}

/// Tables that wait for their turn.
fn queue(scene: &Scene) -> Option<Finding> {
    let one = scene.subscription;
    if one.tables_waiting == 0 {
        return None;
    }
    let running = i32::try_from(one.sync_workers.len()).unwrap_or(i32::MAX);
    let limit = one.sync_workers_limit?;
    let evidence = json!({
        "tables_waiting": one.tables_waiting, "sync_workers": running, "sync_workers_limit": limit,
        "workers_running": one.workers_running, "workers_limit": one.pools.0,
    });
    let waiting = one.tables_waiting;
    if running >= limit {
        return Some(
            scene
                .finding(
                    Severity::Info,
                    Cause::SyncQueued,
                    format!("{waiting} tables wait for their turn: {running} are copied at once (max_sync_workers_per_subscription)."),
                )
                .with(evidence),
        );
    }
    let is_full = one
        .workers_running
        .is_some_and(|workers| workers >= one.pools.0);
    is_full.then(|| {
        scene
            .finding(
                Severity::Warning,
                Cause::WorkerPoolExhausted,
                format!(
                    "{waiting} tables wait for a worker: all {} places for logical replication workers are taken (max_logical_replication_workers).",
                    one.pools.0
                ),
            )
            .with(evidence)
    })
}
