//! A subscription with an apply worker that hears from the publisher: does it get on?

use super::{Scene, Verdict};
use crate::subscription::cause::{Cause, Severity};
use crate::subscription::condition::State;
use crate::subscription::finding::{Finding, plain};
use crate::subscription::progress::Progress;
use crate::subscription::unit::duration;
use serde_json::{Value, json};

/// A publisher that is alive says so more often than that, in seconds: at half of its wal_sender_timeout, or when it is
/// asked at half of our wal_receiver_timeout.
const SILENCE: f64 = 60.0;

pub(super) fn verdict(scene: &Scene) -> Verdict {
    let now = scene.around.now;
    let blocked_since = scene.apply_blocked_since();
    if let Some(since) = blocked_since.filter(|since| now - since >= scene.around.stall_timeout) {
        return Verdict::new(State::Stalled, scene.lock_wait(Severity::Critical, since));
    }
    let is_delayed = scene.subscription.apply_delay > 0.0;
    if blocked_since.is_none() && !is_delayed {
        if let Some(verdict) = Standstill::of(scene).map(|still| still.verdict()) {
            return verdict;
        }
        if let Some(finding) = lost(scene) {
            return Verdict::new(State::Stalled, finding);
        }
    }
    if let Some(since) = blocked_since {
        return Verdict::new(State::CatchingUp, scene.lock_wait(Severity::Warning, since));
    }
    if !scene.around.lag.is_behind() {
        return Verdict::new(State::Streaming, None);
    }
    let cause = if is_delayed {
        super::side::apply_delay(scene)
    } else {
        overloaded(scene)
    };
    Verdict::new(State::CatchingUp, cause)
}

/// The worker mostly waits for data, and the publisher is at work on them.
fn overloaded(scene: &Scene) -> Option<Finding> {
    let progress = scene.around.progress?;
    let timeout = scene.stall_timeout();
    let lasts = |since: Option<f64>| since.is_some_and(|since| scene.around.now - since >= timeout);
    if !lasts(progress.idle_since) || !lasts(progress.sender_busy_since) {
        return None;
    }
    let since = progress.sender_busy_since.unwrap_or(scene.around.now);
    Some(
        scene
            .finding(
                Severity::Warning,
                Cause::PublisherOverloaded,
                format!(
                    "The apply worker waits for data while the publisher's walsender has been at work without a pause for {}: the publisher cannot decode its WAL fast enough.",
                    duration(scene.around.now - since)
                ),
            )
            .with(json!({
                "sender_busy_since": since, "idle_since": progress.idle_since, "walsender": walsender(scene),
            })),
    )
}

fn walsender(scene: &Scene) -> Option<Value> {
    let slot = scene.publisher()?.slot.as_ref()?;
    let sender = slot.walsender.as_ref()?;
    Some(json!({"pid": sender.pid, "state": sender.state, "wait_event": sender.wait_event}))
}

/// Nothing comes, and the publisher does not answer us either.
fn lost(scene: &Scene) -> Option<Finding> {
    let known = scene.around.known.filter(|known| known.is_unreachable)?;
    let last = scene.subscription.last_message_at?;
    let silent = scene.around.now - last;
    let timeout = scene.stall_timeout().max(SILENCE);
    (silent >= timeout).then(|| {
        scene
            .finding(
                Severity::Critical,
                Cause::PublisherUnreachable,
                format!(
                    "The apply worker has heard nothing for {}, and the publisher does not answer us either.",
                    duration(silent)
                ),
            )
            .with(json!({
                "last_message_at": last, "asked_error": known.error.as_deref().map(plain),
                "asked_error_at": known.error_at,
            }))
    })
}

/// So many bytes of WAL a second are few: rows are looked for, not just written.
const SLOW: f64 = 256.0 * 1024.0;

/// For a while nothing has been applied, and the publisher has more.
struct Standstill<'a> {
    scene: &'a Scene<'a>,
    progress: &'a Progress,
    since: f64,
}

impl<'a> Standstill<'a> {
    /// An idle publisher is no stall: it has to be ahead all the time.
    fn of(scene: &'a Scene<'a>) -> Option<Self> {
        let progress = scene.progress()?;
        let since = progress.still_since().max(progress.behind_since?);
        let is_ahead = scene
            .publisher()
            .zip(scene.applied_lsn())
            .is_some_and(|(publisher, applied)| publisher.lsn > applied);
        let stands = is_ahead && scene.around.now - since >= scene.stall_timeout();
        stands.then_some(Self {
            scene,
            progress,
            since,
        })
    }

    fn verdict(&self) -> Verdict {
        let event = self.event().unwrap_or_default();
        if event.ends_with("/SyncRep") {
            let text = format!(
                "It waits for a synchronous standby of this server to confirm its commit, for {} now.",
                self.length()
            );
            return self.stalled(Cause::SynchronousCommit, text);
        }
        if self.scene.subscription.is_idle() && !self.has_received() {
            return self.idle();
        }
        if self.is_busy()
            && let Some(finding) = self.without_identity()
        {
            return Verdict::new(State::Stalled, finding);
        }
        if self.has_received() {
            return self.large_transaction();
        }
        if event.starts_with("IO/") {
            let text = format!(
                "The apply worker waits for the disk ({}), and has applied nothing for {}.",
                plain(event),
                self.length()
            );
            return self.stalled(Cause::DiskIo, text);
        }
        if self.is_busy() || self.is_writing() {
            return self.large_transaction();
        }
        let text = format!(
            "The apply worker has applied nothing for {} and waits for {}.",
            self.length(),
            match event {
                "" => "nothing that is known".to_owned(),
                event => plain(event),
            }
        );
        self.stalled(Cause::Unknown, text)
    }

    /// Nothing comes that it could apply.
    fn idle(&self) -> Verdict {
        if let Some(finding) = overloaded(self.scene) {
            return Verdict::new(State::CatchingUp, finding);
        }
        if let Some(seconds) = self.silent_for() {
            let text = format!(
                "The apply worker has heard nothing from the publisher for {}, though the publisher answers us and is ahead: the connection between them is dead.",
                duration(seconds)
            );
            return self.stalled(Cause::PublisherSilent, text);
        }
        if self.is_writing() {
            // It comes slowly, and a keepalive may have told a position beyond its beginning.
            return self.large_transaction();
        }
        let oldest = self
            .scene
            .publisher()
            .and_then(|one| one.oldest_transaction_at);
        if let Some(oldest) = oldest.filter(|oldest| *oldest <= self.since) {
            let text = format!(
                "The publisher has a transaction that began {} ago: its changes come when it commits, and until then there is nothing to apply.",
                duration(self.scene.around.now - oldest)
            );
            let finding = self
                .finding(Severity::Info, Cause::PublisherTransaction, text)
                .with(json!({"oldest_transaction_at": oldest}));
            return Verdict::new(State::CatchingUp, finding);
        }
        let sender = self
            .scene
            .publisher()
            .and_then(|one| one.slot.as_ref()?.walsender.as_ref());
        let is_sending = sender.is_some_and(|sender| sender.is_sending());
        if self.scene.subscription.provider == "pglogical" && sender.is_some() && !is_sending {
            let text = format!(
                "For {} the apply worker has heard nothing of what the publisher has, whose walsender does not seem to send it: the connection between them is dead.",
                self.length()
            );
            return self.stalled(Cause::PublisherSilent, text);
        }
        let text = format!(
            "The publisher is ahead and has sent nothing that could be applied for {}; the apply worker waits for it.",
            self.length()
        );
        if is_sending || self.hears() {
            let finding = self.finding(Severity::Warning, Cause::Unknown, text);
            return Verdict::new(State::CatchingUp, finding);
        }
        self.stalled(Cause::Unknown, text)
    }

    /// The apply worker is in the middle of a transaction.
    fn is_writing(&self) -> bool {
        let worker = self.scene.subscription.worker.as_ref();
        worker.is_some_and(|worker| worker.writing_since.is_some())
    }

    /// Messages come, be they keepalives.
    fn hears(&self) -> bool {
        let last = self.scene.subscription.last_message_at;
        last.is_some_and(|at| self.scene.around.now - at < self.scene.stall_timeout())
    }

    /// For how long no message has come, where that is too long.
    fn silent_for(&self) -> Option<f64> {
        let scene = self.scene;
        let now = scene.around.now;
        let publisher = scene.publisher()?;
        let silent = match scene.subscription.last_message_at {
            Some(last) => now - last,
            // pglogical does not tell, but the publisher does.
            None => {
                let slot = publisher.slot.as_ref()?;
                let is_left = !slot.row.active && publisher.asked_at > self.progress.worker_since;
                if !is_left {
                    return None;
                }
                now - self.since
            }
        };
        (silent >= scene.stall_timeout()).then_some(silent)
    }

    fn large_transaction(&self) -> Verdict {
        let text = if self.has_received() {
            format!(
                "It receives changes, and has committed none for {}: they belong to one large transaction.",
                self.length()
            )
        } else {
            format!(
                "The apply worker has been at work without a pause for {}, and has committed nothing: one large transaction, or triggers that take long.",
                self.length()
            )
        };
        let finding = self.finding(Severity::Info, Cause::LargeTransaction, text);
        Verdict::new(State::CatchingUp, finding)
    }

    fn without_identity(&self) -> Option<Finding> {
        let tables = &self.scene.around.known?.tables_without_identity;
        let rate = self.progress.received_rate();
        if tables.is_empty() || rate.is_some_and(|rate| rate >= SLOW) {
            return None;
        }
        let text = format!(
            "The apply worker has been at work for {} without getting on: for each row that was updated or deleted it reads the whole of {}, without primary key or index that would find it.",
            self.length(),
            plain(&tables.join(", "))
        );
        Some(
            self.finding(Severity::Critical, Cause::IdentityFullWithoutIndex, text)
                .with(json!({"tables": tables, "received_bytes_per_second": rate})),
        )
    }

    fn stalled(&self, cause: Cause, text: String) -> Verdict {
        Verdict::new(
            State::Stalled,
            self.finding(Severity::Critical, cause, text),
        )
    }

    fn finding(&self, severity: Severity, cause: Cause, text: String) -> Finding {
        let progress = self.progress;
        self.scene.finding(severity, cause, text).with(json!({
            "standing_since": self.since, "idle_since": progress.idle_since, "busy_since": progress.busy_since,
            "received_at": progress.received_at,
            "last_message_at": self.scene.subscription.last_message_at,
            "walsender": walsender(self.scene),
        }))
    }

    fn event(&self) -> Option<&'a str> {
        let worker = self.scene.subscription.worker.as_ref()?;
        worker.wait_event.as_deref()
    }

    /// It is at work at each look, or one that helps it is now.
    fn is_busy(&self) -> bool {
        let one = self.scene.subscription;
        let mut helpers = one.parallel_workers.iter();
        one.is_busy() && self.progress.busy_since.is_some()
            || helpers.any(|worker| worker.wait_event.is_none())
    }

    /// Something came while nothing was applied.
    fn has_received(&self) -> bool {
        let one = self.scene.subscription;
        one.received_lsn != self.progress.received_lsn
            || self.scene.around.now - self.progress.received_at < self.scene.stall_timeout() / 2.0
    }

    fn length(&self) -> String {
        duration(self.scene.around.now - self.since)
    }
}
