//! Why a subscription does not do what it should: a pure decision over the facts at hand, in the order that works: enabled?
//! crashes? a worker? errors? has anything moved? what does the worker wait for? the states of tables.

mod apart;
mod copy;
mod side;
mod standing;
mod standstill;

use super::captured::{CapturedError, Crash};
use super::cause::{Cause, Nature, Severity};
use super::condition::{Lag, State};
use super::failure::reason;
use super::finding::{Diagnosis, Finding, error_facts, lsn, plain};
use super::known::{KnownPublisher, KnownSubscription};
use super::progress::Progress;
use super::provider::{Subscription, Worker};
use super::remedy::{Case, remedy};
use super::unit::duration;
use serde_json::{Value, json};
use standing::Standing;

/// What is decided from, besides the subscription itself. Times are seconds since 1970.
pub(crate) struct Surroundings<'a> {
    pub(crate) known: Option<&'a KnownSubscription>,
    /// Of this subscription, and those of its provider that are of none; the last first.
    pub(crate) errors: &'a [CapturedError],
    /// Of its workers, within `crash_loop_window`, the last first.
    pub(crate) crashes: &'a [Crash],
    /// When the breaker switched it off, if it did and nobody has enabled it since.
    pub(crate) broken_at: Option<f64>,
    /// Up to the last look.
    pub(crate) progress: Option<&'a Progress>,
    pub(crate) lag: Lag,
    pub(crate) now: f64,
    /// `replwarden.stall_timeout` and `watch_interval` in seconds.
    pub(crate) stall_timeout: f64,
    pub(crate) watch_interval: f64,
    pub(crate) crash_loop_threshold: usize,
}

pub(crate) fn diagnose(subscription: &Subscription, around: &Surroundings) -> Diagnosis {
    let scene = Scene {
        subscription,
        around,
    };
    let verdict = scene.verdict();
    let mut findings: Vec<Finding> = verdict.cause.into_iter().collect();
    let is_explained = !findings.is_empty();
    for finding in side::findings(&scene) {
        if findings.iter().all(|one| one.cause != finding.cause) {
            findings.push(finding);
        }
    }
    Diagnosis {
        state: verdict.state,
        findings,
        is_explained,
    }
}

/// The state, and what explains it.
struct Verdict {
    state: State,
    cause: Option<Finding>,
}

impl Verdict {
    fn new(state: State, cause: impl Into<Option<Finding>>) -> Self {
        Self {
            state,
            cause: cause.into(),
        }
    }
}

/// The facts, and how they are read.
struct Scene<'a> {
    subscription: &'a Subscription,
    around: &'a Surroundings<'a>,
}

impl<'a> Scene<'a> {
    fn verdict(&self) -> Verdict {
        if !self.subscription.enabled {
            return Verdict::new(State::Disabled, self.disabled());
        }
        let enough = self.around.crash_loop_threshold.clamp(1, 2);
        let last = self.around.crashes.first();
        let is_alive = last.is_some_and(|last| self.has_outlived(last));
        if self.around.crashes.len() >= enough && !is_alive {
            return Verdict::new(State::CrashLoop, self.crash_loop());
        }
        if self.subscription.is_apart() {
            return apart::verdict(self);
        }
        // It fails again and again, and is seen at its next attempt.
        if let Some(standing) = standing::of_data(self)
            && !self.has_run_for(self.around.stall_timeout.max(10.0))
        {
            return Verdict::new(State::Retrying, self.failing(&standing));
        }
        if self.subscription.is_copying() {
            return copy::verdict(self);
        }
        standstill::verdict(self)
    }

    fn disabled(&self) -> Finding {
        if let Some(at) = self.around.broken_at {
            let ago = duration(self.around.now - at);
            let what = self.crash_reason();
            return self
                .finding(
                    Severity::Critical,
                    Cause::CrashLoop,
                    format!(
                        "Its worker crashed again and again and took the server with it each time, so replwarden disabled the subscription {ago} ago.{what}"
                    ),
                )
                .with(json!({"disabled_at": at, "generated_tables": self.generated_tables()}));
        }
        // Counters never go back: only an error since then can have disabled it.
        let before = self
            .around
            .known
            .and_then(|known| known.errors_when_enabled);
        let is_after_error = before.is_some_and(|before| self.subscription.errors() > before);
        if !(self.subscription.disable_on_error && is_after_error) {
            return self.finding(
                Severity::Info,
                Cause::Disabled,
                "Somebody has disabled it: nothing is replicated, and its slot holds back WAL on the publisher.",
            );
        }
        let text = "The server disabled it after an error (disable_on_error)";
        match standing::last_of_data(self) {
            Some(standing) => self.of_error(
                Severity::Critical,
                Cause::DisabledOnError,
                format!("{text}: {}.", said(standing.error)),
                &standing,
            ),
            None => self.finding(
                Severity::Critical,
                Cause::DisabledOnError,
                format!("{text}; the server log says which."),
            ),
        }
    }

    fn crash_loop(&self) -> Finding {
        let crashes = self.around.crashes;
        let since = crashes
            .last()
            .map_or(0.0, |first| self.around.now - first.at);
        let last = crashes.first().cloned().unwrap_or_default();
        let what = self.crash_reason();
        self.finding(
            Severity::Critical,
            Cause::CrashLoop,
            format!(
                "Its worker was ended by signal {} {} times within {}, and the whole server restarts each time.{what}",
                last.signal,
                crashes.len(),
                duration(since)
            ),
        )
        .with(json!({
            "crashes": crashes.len(), "signal": last.signal, "pid": last.pid, "last_at": last.at,
            "generated_tables": self.generated_tables(),
        }))
    }

    fn generated_tables(&self) -> Option<&'a [String]> {
        let tables = self.around.known.map(|known| &known.generated_tables);
        tables
            .map(Vec::as_slice)
            .filter(|tables| !tables.is_empty())
    }

    fn crash_reason(&self) -> String {
        match self.generated_tables() {
            Some(tables) if self.subscription.provider == "pglogical" => format!(
                " pglogical crashes on tables with a generated column: {}.",
                plain(&tables.join(", "))
            ),
            _ => String::new(),
        }
    }

    /// An apply worker that fails on what it receives.
    fn failing(&self, standing: &Standing) -> Finding {
        let error = standing.error;
        let times = match error.occurrences {
            ..2 => "The apply worker failed".to_owned(),
            times => format!(
                "The apply worker has failed {times} times in {}",
                duration(error.last_at - error.first_at)
            ),
        };
        let place = error
            .finish_lsn
            .map(|at| format!(" on the transaction that ends at {}", lsn(at)));
        let text = match standing.failure.nature {
            Nature::Deterministic => "Nothing behind it is applied until that is mended",
            Nature::Transient => "It is tried again, and may succeed",
        };
        let nature = standing.failure.nature;
        let severity = match nature {
            Nature::Deterministic => Severity::Critical,
            Nature::Transient => Severity::Warning,
        };
        self.of_error(
            severity,
            standing.failure.cause,
            format!(
                "{times}{}: {}. {text}.",
                place.unwrap_or_default(),
                said(error)
            ),
            standing,
        )
    }

    /// With the facts that are always of interest, and a remedy.
    fn finding(&self, severity: Severity, cause: Cause, text: impl Into<String>) -> Finding {
        let case = Case::of(self.subscription, self.around.known);
        Finding::new(severity, cause, text)
            .with(self.facts())
            .remedy(remedy(case, cause))
    }

    /// Likewise, from an error.
    fn of_error(
        &self,
        severity: Severity,
        cause: Cause,
        text: impl Into<String>,
        standing: &Standing,
    ) -> Finding {
        let case = Case {
            error: Some(standing.error),
            is_remote: standing.failure.is_remote,
            ..Case::of(self.subscription, self.around.known)
        };
        let mut finding = Finding::new(severity, cause, text)
            .with(self.facts())
            .with(error_facts(standing.error))
            .remedy(remedy(case, cause));
        finding.nature = Some(standing.failure.nature);
        finding
    }

    fn facts(&self) -> Value {
        let worker = self.subscription.worker.as_ref();
        json!({
            "worker_pid": worker.map(|worker| worker.pid),
            "wait_event": worker.and_then(|worker| worker.wait_event.clone()),
            "applied_lsn": self.applied_lsn().map(lsn),
            "received_lsn": self.subscription.received_lsn.map(lsn),
            "publisher_lsn": self.publisher().map(|publisher| lsn(publisher.lsn)),
            "lag_bytes": self.around.lag.bytes,
            "lag_seconds": self.around.lag.seconds,
        })
    }

    fn publisher(&self) -> Option<&'a KnownPublisher> {
        self.around.known.and_then(|known| known.publisher.as_ref())
    }

    fn applied_lsn(&self) -> Option<i64> {
        super::status::applied_lsn(self.subscription, self.publisher())
    }

    /// What has moved, as long as it is of the worker and the position that are seen now.
    fn progress(&self) -> Option<&'a Progress> {
        let pid = self.subscription.worker.as_ref().map(|worker| worker.pid);
        let progress = self.around.progress?;
        let is_still = progress.stands_at(self.applied_lsn());
        (is_still && progress.worker_pid == pid).then_some(progress)
    }

    fn age(&self, error: &CapturedError) -> f64 {
        self.around.now - error.last_at
    }

    /// The apply worker has run for so many seconds.
    fn has_run_for(&self, seconds: f64) -> bool {
        let worker = self.subscription.worker.as_ref();
        worker
            .and_then(|worker| worker.started_at)
            .is_some_and(|started| self.around.now - started >= seconds)
    }

    /// The apply worker has been at work for longer than one that crashes on its first row.
    fn has_outlived(&self, crash: &Crash) -> bool {
        const LONG: f64 = 5.0;
        let worker = self.subscription.worker.as_ref();
        worker
            .and_then(|worker| worker.started_at)
            .is_some_and(|started| started > crash.at && self.has_run_for(LONG))
    }

    /// A look in between may be missing.
    fn stall_timeout(&self) -> f64 {
        self.around
            .stall_timeout
            .max(2.0 * self.around.watch_interval)
    }

    /// Since when a worker waits for somebody who is none of the subscription's workers: the apply worker waits for those
    /// that help it.
    fn blocked_since(&self, worker: &Worker) -> Option<f64> {
        let one = self.subscription;
        let own = |pid: i32| {
            let mut own = one.worker.iter().chain(&one.parallel_workers);
            own.any(|worker| worker.pid == pid)
        };
        let blockers = worker.blocked_by.as_deref().unwrap_or_default();
        let is_blocked = blockers.iter().any(|pid| !own(*pid));
        is_blocked.then(|| worker.blocked_since.unwrap_or(self.around.now))
    }

    /// Of the apply worker and those that help it.
    fn apply_blocked_since(&self) -> Option<f64> {
        let one = self.subscription;
        let workers = one.worker.iter().chain(&one.parallel_workers);
        workers
            .filter_map(|worker| self.blocked_since(worker))
            .reduce(f64::min)
    }

    fn lock_wait(&self, severity: Severity, since: f64) -> Finding {
        let one = self.subscription;
        let workers = one
            .worker
            .iter()
            .chain(&one.parallel_workers)
            .chain(&one.sync_workers);
        let mut pids: Vec<i32> = workers
            .filter(|worker| self.blocked_since(worker).is_some())
            .flat_map(|worker| worker.blocked_by.clone().unwrap_or_default())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        let whom = match pids.as_slice() {
            [0] => "a prepared transaction".to_owned(),
            [pid] => format!("process {pid}"),
            pids => {
                let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
                format!("processes {}", pids.join(", "))
            }
        };
        let waited = duration(self.around.now - since);
        self.finding(
            severity,
            Cause::LockWait,
            format!("A worker has waited for {waited} for a lock that {whom} holds."),
        )
        .with(json!({"blocked_by": pids, "blocked_since": since}))
    }
}

/// What an error says, in one line: "duplicate key ... (23505), public.item".
fn said(error: &CapturedError) -> String {
    let relation = error
        .relation
        .as_ref()
        .map(|(schema, table)| plain(&format!(", {schema}.{table}")));
    format!(
        "{} ({}){}",
        plain(reason(error)).trim_end_matches('.'),
        plain(&error.sqlstate),
        relation.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
