//! In which state a subscription is, and why, as far as the facts at hand say it: a pure decision.

use super::known::{KnownPublisher, KnownSubscription};
use super::provider::{Subscription, Worker};

/// Behind by so much, a subscription is catching up.
const BEHIND_SECONDS: f64 = 10.0;
/// Likewise where only the distance is known: a segment of WAL.
const BEHIND_BYTES: i64 = 16 << 20;

/// The words of `repl_subscriptions.state`; what they mean is said there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Streaming,
    CatchingUp,
    Copying,
    Stalled,
    Retrying,
    Down,
    Disabled,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::CatchingUp => "catching_up",
            Self::Copying => "copying",
            Self::Stalled => "stalled",
            Self::Retrying => "retrying",
            Self::Down => "down",
            Self::Disabled => "disabled",
        }
    }
}

/// The words of `repl_subscriptions.cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Disabled,
    DisabledOnError,
    PublisherUnreachable,
    SlotMissing,
    SlotInvalidated,
    SlotInUse,
    WorkerPoolExhausted,
    LauncherMissing,
    Standby,
    InitializationFailed,
    LockWait,
    SyncQueued,
    Unknown,
}

impl Cause {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::DisabledOnError => "disabled_on_error",
            Self::PublisherUnreachable => "publisher_unreachable",
            Self::SlotMissing => "slot_missing",
            Self::SlotInvalidated => "slot_invalidated",
            Self::SlotInUse => "slot_in_use",
            Self::WorkerPoolExhausted => "worker_pool_exhausted",
            Self::LauncherMissing => "launcher_missing",
            Self::Standby => "standby",
            Self::InitializationFailed => "initialization_failed",
            Self::LockWait => "lock_wait",
            Self::SyncQueued => "sync_queued",
            Self::Unknown => "unknown",
        }
    }
}

/// How far a subscription is behind its publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Lag {
    pub(crate) bytes: Option<i64>,
    pub(crate) seconds: Option<f64>,
}

/// What is decided from, besides the subscription itself. Times are seconds since 1970.
pub(crate) struct Surroundings<'a> {
    pub(crate) known: Option<&'a KnownSubscription>,
    pub(crate) lag: Lag,
    pub(crate) now: f64,
    /// `replwarden.stall_timeout` in seconds.
    pub(crate) stall_timeout: f64,
}

/// State and cause.
pub(crate) fn condition(
    subscription: &Subscription,
    around: &Surroundings,
) -> (State, Option<Cause>) {
    if !subscription.enabled {
        // Counters never go back: only an error since then can have disabled it.
        let before = around.known.and_then(|known| known.errors_when_enabled);
        let is_after_error = before.is_some_and(|before| subscription.errors() > before);
        let cause = if subscription.disable_on_error && is_after_error {
            Cause::DisabledOnError
        } else {
            Cause::Disabled
        };
        return (State::Disabled, Some(cause));
    }
    let Some(worker) = &subscription.worker else {
        return match subscription.hindrance.as_deref() {
            None => (State::Retrying, Some(why_apart(subscription, around))),
            Some(word) => (State::Down, Some(hindrance(word))),
        };
    };
    if subscription.has_heard == Some(false) {
        return (State::Retrying, Some(why_apart(subscription, around)));
    }
    if subscription.is_copying() {
        return copying(subscription, worker, around);
    }
    if has_waited(worker, around) {
        return (State::Stalled, Some(Cause::LockWait));
    }
    let is_behind = match (around.lag.seconds, around.lag.bytes) {
        (Some(seconds), _) => seconds >= BEHIND_SECONDS,
        (None, Some(bytes)) => bytes >= BEHIND_BYTES,
        (None, None) => false,
    };
    if worker.blocked_by.is_some() {
        (State::CatchingUp, Some(Cause::LockWait))
    } else if is_behind {
        (State::CatchingUp, None)
    } else {
        (State::Streaming, None)
    }
}

fn copying(
    subscription: &Subscription,
    worker: &Worker,
    around: &Surroundings,
) -> (State, Option<Cause>) {
    let copiers = &subscription.sync_workers;
    let all_wait = !copiers.is_empty() && copiers.iter().all(|one| has_waited(one, around));
    if all_wait || has_waited(worker, around) {
        return (State::Stalled, Some(Cause::LockWait));
    }
    let some_waits = copiers.iter().any(|one| one.blocked_by.is_some());
    let running = i32::try_from(copiers.len()).unwrap_or(i32::MAX);
    let is_full = subscription
        .sync_workers_limit
        .is_some_and(|limit| running >= limit);
    let cause = if some_waits || worker.blocked_by.is_some() {
        Some(Cause::LockWait)
    } else if subscription.tables_interrupted > 0 {
        Some(Cause::Unknown)
    } else if is_full && subscription.tables_waiting > 0 {
        Some(Cause::SyncQueued)
    } else {
        None
    };
    (State::Copying, cause)
}

/// It has waited for a lock for too long.
fn has_waited(worker: &Worker, around: &Surroundings) -> bool {
    worker
        .blocked_since
        .is_some_and(|since| around.now - since >= around.stall_timeout)
}

/// Why there is no worker that hears from the publisher.
fn why_apart(subscription: &Subscription, around: &Surroundings) -> Cause {
    let Some(known) = around.known else {
        return Cause::Unknown;
    };
    match &known.publisher {
        None if known.is_unreachable => Cause::PublisherUnreachable,
        None => Cause::Unknown,
        Some(KnownPublisher { slot: None, .. }) => Cause::SlotMissing,
        Some(
            publisher @ KnownPublisher {
                slot: Some(slot), ..
            },
        ) => {
            if slot.row.is_invalidated() {
                Cause::SlotInvalidated
            } else if slot.row.active
                // A worker that has not heard yet may be the user.
                && subscription.worker.is_none()
                && is_used_by_others(publisher, known)
            {
                Cause::SlotInUse
            } else {
                Cause::Unknown
            }
        }
    }
}

/// The publisher has said it after the worker here was gone, and twice of the same process: a worker that fails again and
/// again uses the slot for a moment each time.
fn is_used_by_others(publisher: &KnownPublisher, known: &KnownSubscription) -> bool {
    let is_later = |since: Option<f64>| since.is_some_and(|since| publisher.asked_at > since);
    is_later(known.apart_since) && is_later(publisher.slot_used_since)
}

fn hindrance(word: &str) -> Cause {
    match word {
        "worker_pool_exhausted" => Cause::WorkerPoolExhausted,
        "launcher_missing" => Cause::LauncherMissing,
        "standby" => Cause::Standby,
        "initialization_failed" => Cause::InitializationFailed,
        _ => Cause::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::publisher::{Slot, SlotRow};

    const NOW: f64 = 1000.0;

    fn running() -> Subscription {
        Subscription {
            subscription: "sub".to_owned(),
            enabled: true,
            worker: Some(Worker::default()),
            has_heard: Some(true),
            tables_total: 2,
            tables_ready: 2,
            ..Subscription::default()
        }
    }

    fn decide(
        subscription: &Subscription,
        known: Option<&KnownSubscription>,
        lag: Lag,
    ) -> (State, Option<Cause>) {
        let around = Surroundings {
            known,
            lag,
            now: NOW,
            stall_timeout: 60.0,
        };
        condition(subscription, &around)
    }

    fn blocked(seconds: f64) -> Worker {
        Worker {
            pid: 1,
            blocked_by: Some(vec![7, 5, 7]),
            blocked_since: Some(NOW - seconds),
        }
    }

    fn lag(seconds: Option<f64>, bytes: Option<i64>) -> Lag {
        Lag { bytes, seconds }
    }

    #[test]
    fn running_subscription_streams_unless_it_is_behind() {
        let streaming = (State::Streaming, None);
        assert_eq!(decide(&running(), None, Lag::default()), streaming);
        assert_eq!(
            decide(&running(), None, lag(Some(9.0), Some(1 << 40))),
            streaming
        );
        let behind = (State::CatchingUp, None);
        assert_eq!(decide(&running(), None, lag(Some(10.0), Some(1))), behind);
        assert_eq!(decide(&running(), None, lag(None, Some(1 << 30))), behind);
    }

    #[test]
    fn disabled_by_an_error_is_told_from_disabled_by_somebody() {
        let mut subscription = running();
        subscription.enabled = false;
        let by_hand = (State::Disabled, Some(Cause::Disabled));
        assert_eq!(decide(&subscription, None, Lag::default()), by_hand);
        subscription.disable_on_error = true;
        assert_eq!(decide(&subscription, None, Lag::default()), by_hand);
        subscription.apply_errors = Some(2);
        let known = |errors| KnownSubscription {
            errors_when_enabled: Some(errors),
            ..KnownSubscription::default()
        };
        assert_eq!(decide(&subscription, None, Lag::default()), by_hand);
        assert_eq!(
            decide(&subscription, Some(&known(2)), Lag::default()),
            by_hand
        );
        assert_eq!(
            decide(&subscription, Some(&known(1)), Lag::default()),
            (State::Disabled, Some(Cause::DisabledOnError))
        );
    }

    #[test]
    fn without_worker_it_retries_unless_nothing_starts_one() {
        let mut subscription = running();
        subscription.worker = None;
        assert_eq!(
            decide(&subscription, None, Lag::default()),
            (State::Retrying, Some(Cause::Unknown))
        );
        subscription.hindrance = Some("worker_pool_exhausted".to_owned());
        assert_eq!(
            decide(&subscription, None, Lag::default()),
            (State::Down, Some(Cause::WorkerPoolExhausted))
        );
    }

    #[test]
    fn publisher_knows_why_there_is_no_worker() {
        let mut subscription = running();
        subscription.has_heard = Some(false);
        let cause =
            |known: &KnownSubscription| decide(&subscription, Some(known), Lag::default()).1;
        let mut known = KnownSubscription {
            is_unreachable: true,
            ..KnownSubscription::default()
        };
        assert_eq!(cause(&known), Some(Cause::PublisherUnreachable));
        known.is_unreachable = false;
        known.publisher = Some(KnownPublisher::default());
        assert_eq!(cause(&known), Some(Cause::SlotMissing));
        let mut with_slot = |row: SlotRow| {
            known.publisher = Some(KnownPublisher {
                slot: Some(Slot {
                    row,
                    ..Slot::default()
                }),
                ..KnownPublisher::default()
            });
            cause(&known)
        };
        assert_eq!(with_slot(SlotRow::default()), Some(Cause::Unknown));
        let active = SlotRow {
            active: true,
            ..SlotRow::default()
        };
        assert_eq!(with_slot(active), Some(Cause::Unknown));
        let lost = SlotRow {
            wal_status: Some("lost".to_owned()),
            ..SlotRow::default()
        };
        assert_eq!(with_slot(lost), Some(Cause::SlotInvalidated));
    }

    #[test]
    fn slot_is_in_use_when_the_publisher_says_it_again() {
        let mut subscription = running();
        subscription.worker = None;
        let cause = |asked_at, apart_since, slot_used_since| {
            let row = SlotRow {
                active: true,
                ..SlotRow::default()
            };
            let publisher = KnownPublisher {
                asked_at,
                slot: Some(Slot {
                    row,
                    ..Slot::default()
                }),
                slot_used_since,
                ..KnownPublisher::default()
            };
            let known = KnownSubscription {
                publisher: Some(publisher),
                apart_since,
                ..KnownSubscription::default()
            };
            decide(&subscription, Some(&known), Lag::default()).1
        };
        // Asked while there still was a worker, and while another used the slot.
        assert_eq!(cause(5.0, Some(6.0), Some(1.0)), Some(Cause::Unknown));
        assert_eq!(cause(5.0, None, Some(1.0)), Some(Cause::Unknown));
        assert_eq!(cause(5.0, Some(4.0), Some(5.0)), Some(Cause::Unknown));
        assert_eq!(cause(5.0, Some(4.0), Some(1.0)), Some(Cause::SlotInUse));
    }

    #[test]
    fn lock_wait_is_a_stall_after_a_while_only() {
        let mut subscription = running();
        subscription.worker = Some(blocked(59.0));
        let behind = lag(Some(59.0), Some(1));
        let waiting = (State::CatchingUp, Some(Cause::LockWait));
        assert_eq!(decide(&subscription, None, behind), waiting);
        assert_eq!(decide(&subscription, None, Lag::default()), waiting);
        subscription.worker = Some(blocked(60.0));
        assert_eq!(
            decide(&subscription, None, behind),
            (State::Stalled, Some(Cause::LockWait))
        );
    }

    #[test]
    fn copy_waits_in_a_queue_or_for_a_lock_or_not_at_all() {
        let mut subscription = running();
        subscription.tables_ready = 1;
        let copying = |cause| (State::Copying, cause);
        assert_eq!(decide(&subscription, None, Lag::default()), copying(None));
        subscription.sync_workers = vec![Worker::default()];
        subscription.sync_workers_limit = Some(1);
        subscription.tables_waiting = 1;
        assert_eq!(
            decide(&subscription, None, Lag::default()),
            copying(Some(Cause::SyncQueued))
        );
        subscription.tables_interrupted = 1;
        assert_eq!(
            decide(&subscription, None, Lag::default()),
            copying(Some(Cause::Unknown))
        );
        subscription.sync_workers = vec![blocked(100.0), Worker::default()];
        assert_eq!(
            decide(&subscription, None, Lag::default()),
            copying(Some(Cause::LockWait))
        );
        subscription.sync_workers = vec![blocked(100.0)];
        assert_eq!(
            decide(&subscription, None, Lag::default()),
            (State::Stalled, Some(Cause::LockWait))
        );
    }
}
