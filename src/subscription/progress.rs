//! What has moved, and when, over the samples of a subscription: one sample cannot tell a standstill from work.

use super::known::KnownPublisher;
use super::provider::Subscription;
use super::status::applied_lsn;
use serde::{Deserialize, Serialize};

/// Times are seconds since 1970, LSNs bytes since 0/0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// Of the first sample.
    pub(crate) since: f64,
    /// Of the last one.
    pub(crate) at: f64,
    /// The furthest.
    pub(crate) applied_lsn: Option<i64>,
    /// When it was first seen there; `since` if it has not moved.
    pub(crate) applied_at: f64,
    pub(crate) received_lsn: Option<i64>,
    pub(crate) received_at: f64,
    /// The publisher's position at the last sample, and when it was first seen there.
    pub(crate) publisher_lsn: Option<i64>,
    pub(crate) publisher_at: f64,
    pub(crate) worker_pid: Option<i32>,
    /// Since when that worker, or none, is seen.
    pub(crate) worker_since: f64,
    /// Workers that came after another while nothing was applied.
    pub(crate) restarts: u32,
    /// Since when the apply worker waits for data from the publisher at each sample (`LogicalApplyMain`), if it does.
    pub(crate) idle_since: Option<f64>,
    /// Since when it is at work, waiting for nothing, at each sample, if it is.
    pub(crate) busy_since: Option<f64>,
    /// Since when the publisher's walsender is active and waits for nothing at each sample, if it is.
    pub(crate) sender_busy_since: Option<f64>,
    /// Since when the publisher is ahead of what is applied at each sample, if it is.
    pub(crate) behind_since: Option<f64>,
    /// What was received when something was applied last, or the worker was new.
    pub(crate) received_from: Option<i64>,
}

impl Progress {
    /// With one more sample.
    pub(crate) fn fold(
        previous: Option<&Self>,
        subscription: &Subscription,
        publisher: Option<&KnownPublisher>,
        now: f64,
    ) -> Self {
        let seen_lsn = applied_lsn(subscription, publisher);
        // A worker that begins anew, or a publisher that gives no answer, knows less than was known before.
        let applied_lsn = seen_lsn.max(previous.and_then(|last| last.applied_lsn));
        let received_lsn = subscription.received_lsn;
        let worker_pid = subscription.worker.as_ref().map(|worker| worker.pid);
        let publisher_lsn = publisher.map(|publisher| publisher.lsn);
        let is_behind = publisher_lsn
            .zip(applied_lsn)
            .is_some_and(|(publisher, applied)| publisher > applied);
        let sender = publisher
            .and_then(|publisher| publisher.slot.as_ref())
            .and_then(|slot| slot.walsender.as_ref());
        let since = |holds: bool, before: Option<f64>| holds.then(|| before.unwrap_or(now));
        let last = previous.cloned().unwrap_or(Self {
            since: now,
            applied_lsn,
            applied_at: now,
            received_lsn,
            received_at: now,
            publisher_lsn,
            publisher_at: now,
            worker_pid,
            worker_since: now,
            received_from: received_lsn,
            ..Self::default()
        });
        // A publisher that gives no answer for once has not moved.
        let publisher_lsn = publisher_lsn.or(last.publisher_lsn);
        let moved = |has_moved: bool, at: f64| if has_moved { now } else { at };
        let has_applied = last.applied_lsn != applied_lsn;
        let has_new_worker = worker_pid.is_some() && worker_pid != last.worker_pid;
        Self {
            since: last.since,
            at: now,
            applied_lsn,
            applied_at: moved(has_applied, last.applied_at),
            received_lsn,
            received_at: moved(last.received_lsn != received_lsn, last.received_at),
            publisher_lsn,
            publisher_at: moved(last.publisher_lsn != publisher_lsn, last.publisher_at),
            worker_pid,
            worker_since: moved(last.worker_pid != worker_pid, last.worker_since),
            restarts: match (has_applied, has_new_worker) {
                (true, _) => 0,
                (false, true) => last.restarts.saturating_add(1),
                (false, false) => last.restarts,
            },
            idle_since: since(subscription.is_idle(), last.idle_since),
            busy_since: since(subscription.is_busy(), last.busy_since),
            sender_busy_since: since(
                sender.is_some_and(super::publisher::Walsender::is_busy),
                last.sender_busy_since,
            ),
            behind_since: since(is_behind, last.behind_since),
            received_from: if has_applied || has_new_worker || last.received_from.is_none() {
                received_lsn
            } else {
                last.received_from
            },
        }
    }

    /// Nothing beyond what the last sample saw is applied.
    pub(crate) fn stands_at(&self, applied_lsn: Option<i64>) -> bool {
        applied_lsn <= self.applied_lsn
    }

    /// Bytes of WAL a second that arrive while nothing is applied.
    pub(crate) fn received_rate(&self) -> Option<f64> {
        let bytes = self.received_lsn?.checked_sub(self.received_from?)?;
        let seconds = self.at - self.still_since();
        (seconds > 0.0).then(|| bytes.max(0) as f64 / seconds)
    }

    /// Since when the present worker has applied nothing, as far as it was watched.
    pub(crate) fn still_since(&self) -> f64 {
        self.applied_at.max(self.worker_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::provider::Worker;
    use crate::subscription::publisher::{Slot, Walsender};

    fn sample(applied: i64, pid: Option<i32>, wait_event: Option<&str>) -> Subscription {
        Subscription {
            applied_lsn: Some(applied),
            received_lsn: Some(applied + 1),
            has_heard: pid.map(|_| true),
            worker: pid.map(|pid| Worker {
                pid,
                wait_event: wait_event.map(str::to_owned),
                ..Worker::default()
            }),
            ..Subscription::default()
        }
    }

    fn publisher(lsn: i64, wait_event: Option<&str>) -> KnownPublisher {
        KnownPublisher {
            lsn,
            slot: Some(Slot {
                walsender: Some(Walsender {
                    wait_event: wait_event.map(str::to_owned),
                    ..Walsender::default()
                }),
                ..Slot::default()
            }),
            ..KnownPublisher::default()
        }
    }

    /// Samples 10 seconds apart.
    fn folded(samples: &[(Subscription, Option<KnownPublisher>)]) -> Progress {
        let mut progress = None;
        for (place, (subscription, publisher)) in samples.iter().enumerate() {
            let now = 10.0 * place as f64;
            let folded = Progress::fold(progress.as_ref(), subscription, publisher.as_ref(), now);
            progress = Some(folded);
        }
        progress.unwrap_or_default()
    }

    #[test]
    fn what_stands_still_keeps_its_time_and_what_moves_has_a_new_one() {
        let progress = folded(&[
            (sample(5, Some(1), None), Some(publisher(5, None))),
            (sample(5, Some(1), None), Some(publisher(9, None))),
            (sample(7, Some(1), None), Some(publisher(9, None))),
            (sample(7, Some(1), None), None),
        ]);
        assert_eq!((progress.since, progress.at), (0.0, 30.0));
        assert_eq!((progress.applied_at, progress.received_at), (20.0, 20.0));
        assert_eq!(
            (progress.publisher_lsn, progress.publisher_at),
            (Some(9), 10.0)
        );
        assert_eq!(progress.worker_since, 0.0);
        // Nobody knows it at the last sample.
        assert_eq!(progress.behind_since, None);
    }

    #[test]
    fn publisher_is_ahead_since_it_was_seen_ahead() {
        let behind = |lsns: &[i64]| {
            let samples: Vec<_> = lsns
                .iter()
                .map(|lsn| (sample(5, Some(1), None), Some(publisher(*lsn, None))))
                .collect();
            folded(&samples).behind_since
        };
        assert_eq!(behind(&[5, 6, 7]), Some(10.0));
        assert_eq!(behind(&[6, 5]), None);
    }

    #[test]
    fn workers_that_apply_nothing_are_counted() {
        let progress = folded(&[
            (sample(5, Some(1), None), None),
            (sample(5, None, None), None),
            (sample(5, Some(2), None), None),
            (sample(5, Some(3), None), None),
        ]);
        assert_eq!((progress.restarts, progress.worker_since), (2, 30.0));
        assert_eq!(progress.still_since(), 30.0);
        let progress = folded(&[
            (sample(5, Some(1), None), None),
            (sample(5, Some(2), None), None),
            (sample(6, Some(2), None), None),
        ]);
        assert_eq!((progress.restarts, progress.worker_since), (0, 10.0));
    }

    #[test]
    fn worker_that_begins_anew_has_not_gone_back() {
        let mut samples = vec![(sample(5, Some(1), None), None); 3];
        samples[0].0.handled_lsn = Some(9);
        let progress = folded(&samples);
        assert_eq!((progress.applied_lsn, progress.applied_at), (Some(9), 0.0));
        assert!(progress.stands_at(Some(5)) && !progress.stands_at(Some(10)));
    }

    #[test]
    fn what_arrives_while_nothing_is_applied_has_a_rate() {
        let mut samples = vec![(sample(5, Some(1), None), None); 3];
        samples[1].0.received_lsn = Some(1006);
        samples[2].0.received_lsn = Some(2006);
        assert_eq!(folded(&samples).received_rate(), Some(100.0));
        samples[2].0.applied_lsn = Some(9);
        assert_eq!(folded(&samples).received_rate(), None);
    }

    #[test]
    fn idle_and_busy_are_told_from_other_waits() {
        let idle = "Activity/LogicalApplyMain";
        let since = |events: &[Option<&str>]| {
            let samples: Vec<_> = events
                .iter()
                .map(|event| (sample(5, Some(1), *event), None))
                .collect();
            let progress = folded(&samples);
            (progress.idle_since, progress.busy_since)
        };
        assert_eq!(since(&[Some(idle), Some(idle)]), (Some(0.0), None));
        assert_eq!(since(&[Some("Extension/Extension")]), (Some(0.0), None));
        assert_eq!(since(&[Some(idle), None, None]), (None, Some(10.0)));
        assert_eq!(since(&[None, Some("IO/DataFileRead")]), (None, None));
    }

    #[test]
    fn walsender_is_busy_unless_it_waits_for_wal_or_for_the_network() {
        let since = |events: &[Option<&str>]| {
            let samples: Vec<_> = events
                .iter()
                .map(|event| (sample(5, Some(1), None), Some(publisher(9, *event))))
                .collect();
            folded(&samples).sender_busy_since
        };
        assert_eq!(since(&[None, Some("IO/ReorderBufferWrite")]), Some(0.0));
        assert_eq!(since(&[None, Some("Client/WalSenderWriteData")]), None);
        assert_eq!(since(&[Some("Activity/WalSenderMain"), None]), Some(10.0));
    }
}
