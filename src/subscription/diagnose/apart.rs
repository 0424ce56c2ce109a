//! Why no apply worker hears from the publisher. What the publisher shows of itself comes before what was read out of an
//! error, which is in its language; what was captured comes before guesses, and there is none of those.

use super::standing::{self, Standing};
use super::{Scene, Verdict, said};
use crate::subscription::captured::WorkerKind;
use crate::subscription::cause::{Cause, Severity};
use crate::subscription::condition::State;
use crate::subscription::failure::{self, classify};
use crate::subscription::finding::{Finding, plain};
use crate::subscription::known::{KnownPublisher, KnownSubscription};
use crate::subscription::unit::{bytes, duration};
use serde_json::json;

/// Who has had data so many seconds ago reaches the publisher, whatever our own connection says.
const REACHED: f64 = 30.0;
/// pglogical does not start a worker that failed before so many seconds are over, at most.
const LONGEST_BACKOFF: f64 = 180.0;

pub(super) fn verdict(scene: &Scene) -> Verdict {
    if scene.subscription.worker.is_none()
        && let Some(word) = scene.subscription.hindrance.as_deref()
    {
        return Verdict::new(State::Down, hindered(scene, word));
    }
    if let Some(finding) = of_slot(scene) {
        return Verdict::new(State::Retrying, finding);
    }
    let data = standing::of_data(scene);
    if let Some(standing) = data.filter(|standing| scene.age(standing.error) < REACHED) {
        return Verdict::new(State::Retrying, scene.failing(&standing));
    }
    let finding = unreachable(scene)
        .or_else(|| of_connection(scene))
        .or_else(|| data.map(|standing| scene.failing(&standing)));
    if let Some(finding) = finding {
        return Verdict::new(State::Retrying, finding);
    }
    if let Some(standing) = without_room(scene) {
        let finding = scene.of_error(
            Severity::Critical,
            Cause::WorkerPoolExhausted,
            format!(
                "There is no room for its apply worker: {}.",
                said(standing.error)
            ),
            &standing,
        );
        return Verdict::new(State::Down, finding);
    }
    let finding = of_publications(scene)
        .or_else(|| backoff(scene))
        .unwrap_or_else(|| unknown(scene));
    Verdict::new(State::Retrying, finding)
}

fn hindered(scene: &Scene, word: &str) -> Finding {
    let (severity, cause, text) = match word {
        "worker_pool_exhausted" => (
            Severity::Critical,
            Cause::WorkerPoolExhausted,
            format!(
                "All {} places for logical replication workers are taken (max_logical_replication_workers): it gets no apply worker.",
                scene.subscription.pools.0
            ),
        ),
        "launcher_missing" => (
            Severity::Critical,
            Cause::LauncherMissing,
            "The process that starts its apply worker does not run.".to_owned(),
        ),
        "standby" => (
            Severity::Info,
            Cause::Standby,
            "This server is a standby: subscriptions rest here until it is promoted.".to_owned(),
        ),
        "initialization_failed" => (
            Severity::Critical,
            Cause::InitializationFailed,
            "Its initial synchronization failed in a step that pglogical cannot take up again: it has to be created anew."
                .to_owned(),
        ),
        other => (
            Severity::Critical,
            Cause::Unknown,
            format!("The server starts no apply worker: {}.", plain(other)),
        ),
    };
    let finding = scene.finding(severity, cause, text);
    let of_copy = standing::last_of_data(scene).filter(|_| cause == Cause::InitializationFailed);
    match of_copy {
        Some(standing) => Finding {
            finding: format!("{} The error: {}.", finding.finding, said(standing.error)),
            ..finding.with(super::error_facts(standing.error))
        },
        None => finding,
    }
}

/// As the publisher says.
fn of_slot(scene: &Scene) -> Option<Finding> {
    let known = scene.around.known?;
    let publisher = known.publisher.as_ref()?;
    let name = plain(scene.subscription.slot_name.as_deref().unwrap_or_default());
    let Some(slot) = &publisher.slot else {
        // pglogical makes it in its first step.
        if scene.subscription.initial_code.as_deref() == Some("i") {
            return None;
        }
        return Some(scene.finding(
            Severity::Critical,
            Cause::SlotMissing,
            format!("The publisher has no replication slot \"{name}\": what was changed since is lost to this subscription, and its tables have to be copied anew."),
        ));
    };
    let row = &slot.row;
    let evidence = json!({"slot": {
        "active_pid": row.active_pid, "wal_status": row.wal_status, "conflicting": row.conflicting,
        "invalidation_reason": row.invalidation_reason,
    }});
    if row.is_invalidated() {
        let reason = row.invalidation_reason.as_deref().map(plain);
        let reason = reason.map(|reason| format!(" ({reason})"));
        return Some(
            scene
                .finding(
                    Severity::Critical,
                    Cause::SlotInvalidated,
                    format!(
                        "The publisher has invalidated the replication slot \"{name}\"{}: the WAL that it needs is gone, and its tables have to be copied anew.",
                        reason.unwrap_or_default()
                    ),
                )
                .with(evidence),
        );
    }
    // A worker that has not heard yet may be the user.
    let is_in_use =
        row.active && scene.subscription.worker.is_none() && is_used_by_others(publisher, known);
    is_in_use.then(|| {
        let pid = row.active_pid.map(|pid| format!(" (process {pid} there)"));
        scene
            .finding(
                Severity::Warning,
                Cause::SlotInUse,
                format!(
                    "Somebody else uses the replication slot \"{name}\" on the publisher{}, while no worker runs here: another subscriber, or a session of an earlier worker that the publisher has not given up.",
                    pid.unwrap_or_default()
                ),
            )
            .with(evidence)
    })
}

/// The publisher has said it after the worker here was gone, and twice of the same process: a worker that fails again and
/// again uses the slot for a moment each time.
fn is_used_by_others(publisher: &KnownPublisher, known: &KnownSubscription) -> bool {
    let is_later = |since: Option<f64>| since.is_some_and(|since| publisher.asked_at > since);
    is_later(known.apart_since) && is_later(publisher.slot_used_since)
}

/// It does not answer us.
fn unreachable(scene: &Scene) -> Option<Finding> {
    let known = scene.around.known.filter(|known| known.is_unreachable)?;
    let captured = standing::of_connection(scene);
    let is_turned_away = captured
        .is_some_and(|standing| standing.failure.cause == Cause::AuthenticationFailed)
        || known.error.as_deref().is_some_and(failure::is_turned_away);
    let reason = known.error.as_deref().map(plain);
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    let (severity, cause, text) = if is_turned_away {
        (
            Severity::Critical,
            Cause::AuthenticationFailed,
            format!("The publisher does not let this server in{reason}."),
        )
    } else {
        (
            Severity::Warning,
            Cause::PublisherUnreachable,
            format!("The publisher does not answer{reason}."),
        )
    };
    let mut finding = scene.finding(severity, cause, text);
    if let Some(standing) = captured {
        finding = finding.with(super::error_facts(standing.error));
    }
    Some(finding.with(
        json!({"asked_error": known.error.as_deref().map(plain), "asked_error_at": known.error_at}),
    ))
}

/// What the apply worker said of the connection, or relayed.
fn of_connection(scene: &Scene) -> Option<Finding> {
    let mut standing = standing::of_connection(scene)?;
    let publisher = scene.publisher();
    // A fact, where the words were not understood.
    if standing.failure.cause == Cause::Unknown {
        if publisher.is_some_and(|publisher| refuses_plugin(scene, publisher)) {
            standing.failure.cause = Cause::OutputPluginRefused;
        } else if has_missing_publication(scene) {
            standing.failure.cause = Cause::PublicationMissing;
        }
    }
    // It answers us, and has done so since.
    let answers = publisher.is_some_and(|publisher| publisher.asked_at > standing.error.last_at);
    if answers && scene.age(standing.error) >= 10.0 {
        match standing.failure.cause {
            Cause::PublisherUnreachable => return backoff(scene),
            // It may have been a restart, or may come again.
            Cause::Unknown => {
                if let Some(finding) = backoff(scene) {
                    let text = format!(
                        "{} The last one ended with: {}; if that comes again, the publisher's server log has the reason.",
                        finding.finding,
                        said(standing.error)
                    );
                    let finding = finding.with(super::error_facts(standing.error));
                    return Some(Finding {
                        finding: text,
                        ..finding
                    });
                }
            }
            _ => {}
        }
    }
    let nature = standing.failure.cause.nature();
    standing.failure.nature = nature.unwrap_or(standing.failure.nature);
    let severity = match standing.failure.nature {
        crate::subscription::cause::Nature::Deterministic => Severity::Critical,
        crate::subscription::cause::Nature::Transient => Severity::Warning,
    };
    Some(scene.of_error(
        severity,
        standing.failure.cause,
        format!(
            "The apply worker cannot replicate from the publisher: {}.",
            said(standing.error)
        ),
        &standing,
    ))
}

/// It has a list of output plugins that it allows, and ours is not on it.
fn refuses_plugin(scene: &Scene, publisher: &KnownPublisher) -> bool {
    let plugin = match scene.subscription.provider.as_str() {
        "pglogical" => "pglogical_output",
        _ => "pgoutput",
    };
    let allowed = publisher.output_plugin_libraries.as_deref();
    allowed.is_some_and(|allowed| {
        let mut allowed = allowed.split(',');
        allowed.all(|one| one.trim().trim_matches('"') != plugin)
    })
}

fn has_missing_publication(scene: &Scene) -> bool {
    let known = scene.around.known;
    known.is_some_and(|known| !known.publications_missing.is_empty())
}

fn of_publications(scene: &Scene) -> Option<Finding> {
    has_missing_publication(scene).then(|| super::side::publication_missing(scene))
}

/// Errors of the processes that start workers have no subscription.
fn without_room<'a>(scene: &'a Scene) -> Option<Standing<'a>> {
    let mut errors = scene.around.errors.iter();
    let is_starter = |kind| {
        matches!(
            kind,
            WorkerKind::Launcher | WorkerKind::Manager | WorkerKind::Supervisor | WorkerKind::Apply
        )
    };
    errors.find_map(|error| {
        let failure = classify(error);
        let is_full = failure.cause == Cause::WorkerPoolExhausted;
        let is_ours = error.id.is_none() && error.provider == scene.subscription.provider;
        (is_full && is_ours && is_starter(error.kind) && scene.age(error) < 60.0)
            .then_some(Standing { error, failure })
    })
}

/// pglogical waits before it starts a worker that failed, longer each time, and says so nowhere.
fn backoff(scene: &Scene) -> Option<Finding> {
    let known = scene.around.known?;
    let since = known.apart_since?;
    let apart_for = scene.around.now - since;
    let slot = known.publisher.as_ref()?.slot.as_ref()?;
    let is_waiting = scene.subscription.provider == "pglogical"
        && scene.subscription.worker.is_none()
        && apart_for > 10.0
        && !slot.row.active;
    is_waiting.then(|| {
        scene
            .finding(
                Severity::Warning,
                Cause::RelaunchBackoff,
                format!(
                    "The publisher answers and its slot is free, but pglogical has started no worker for {}: after failures it waits up to {} before it tries again.",
                    duration(apart_for),
                    duration(LONGEST_BACKOFF)
                ),
            )
            .with(json!({"apart_since": since}))
    })
}

fn unknown(scene: &Scene) -> Finding {
    let one = scene.subscription;
    let has_answer = scene.publisher().is_some();
    let text = if has_answer {
        let retained = scene.around.lag.bytes.filter(|bytes| *bytes > 0);
        let behind = retained.map(|lag| format!(", {} behind", bytes(lag)));
        format!(
            "No apply worker hears from the publisher{}, no error was captured, and the publisher answers us: the server logs of both sides say more.",
            behind.unwrap_or_default()
        )
    } else {
        "No apply worker hears from the publisher, and no error was captured: it is the publisher or the network. Ask the publisher (pg_stat_replication, pg_replication_slots, its server log)."
            .to_owned()
    };
    let since = scene.around.known.and_then(|known| known.apart_since);
    scene
        .finding(Severity::Warning, Cause::Unknown, text)
        .with(json!({"apart_since": since, "apply_errors": one.apply_errors}))
}
