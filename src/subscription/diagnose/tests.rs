use super::*;
use crate::subscription::captured::WorkerKind;
use crate::subscription::provider::BegunTable;
use crate::subscription::publisher::{Slot, SlotRow, Walsender};

mod attached;
mod failing;
mod unheard;

const NOW: f64 = 10_000.0;
const IDLE: &str = "Activity/LogicalApplyMain";

/// A subscription in its surroundings, all of which is well.
struct Story {
    one: Subscription,
    known: Option<KnownSubscription>,
    errors: Vec<CapturedError>,
    crashes: Vec<Crash>,
    broken_at: Option<f64>,
    lag: Lag,
}

fn well() -> Story {
    let mut story = Story {
        one: Subscription {
            provider: "native".to_owned(),
            id: 7,
            subscription: "sub".to_owned(),
            enabled: true,
            slot_name: Some("sub".to_owned()),
            worker: Some(Worker {
                pid: 1,
                started_at: Some(NOW - 5000.0),
                wait_event: Some(IDLE.to_owned()),
                ..Worker::default()
            }),
            has_heard: Some(true),
            applied_lsn: Some(100),
            received_lsn: Some(100),
            last_message_at: Some(NOW - 5.0),
            tables_total: 2,
            tables_ready: 2,
            pools: (4, 8),
            sync_workers_limit: Some(2),
            ..Subscription::default()
        },
        known: None,
        errors: Vec::new(),
        crashes: Vec::new(),
        broken_at: None,
        lag: Lag::default(),
    };
    story.answering(100);
    story
}

fn pglogical() -> Story {
    let mut story = well();
    story.one.provider = "pglogical".to_owned();
    (story.one.received_lsn, story.one.last_message_at) = (None, None);
    story.one.has_heard = None;
    story.wait("Extension/Extension");
    story
}

impl Story {
    fn diagnosis(&self) -> Diagnosis {
        let around = Surroundings {
            known: self.known.as_ref(),
            errors: &self.errors,
            crashes: &self.crashes,
            broken_at: self.broken_at,
            progress: self
                .known
                .as_ref()
                .and_then(|known| known.progress.as_ref()),
            lag: self.lag,
            now: NOW,
            stall_timeout: 60.0,
            watch_interval: 5.0,
            crash_loop_threshold: 3,
        };
        diagnose(&self.one, &around)
    }

    /// State and cause, with severity; everything that is said reads as a sentence.
    #[track_caller]
    fn assert(&self, state: State, cause: Cause, severity: Severity) -> Finding {
        let diagnosis = self.diagnosis();
        let found = diagnosis.cause().cloned();
        let seen = found.as_ref().map(|one| (one.cause, one.severity));
        assert_eq!(
            (diagnosis.state, seen),
            (state, Some((cause, severity))),
            "{diagnosis:#?}"
        );
        for finding in &diagnosis.findings {
            let text = &finding.finding;
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
            assert!(finding.evidence.is_object(), "{finding:?}");
        }
        found.unwrap_or_else(|| Finding::new(severity, cause, ""))
    }

    #[track_caller]
    fn assert_plain(&self, state: State) {
        let diagnosis = self.diagnosis();
        assert_eq!((diagnosis.state, diagnosis.cause()), (state, None));
    }

    /// Among what is said besides.
    #[track_caller]
    fn assert_side(&self, cause: Cause, severity: Severity) -> Finding {
        let diagnosis = self.diagnosis();
        let mut findings = diagnosis.findings.iter();
        let found = findings.find(|one| one.cause == cause);
        let seen = found.map(|one| one.severity);
        assert_eq!(seen, Some(severity), "{diagnosis:#?}");
        found
            .cloned()
            .unwrap_or_else(|| Finding::new(severity, cause, ""))
    }

    fn known(&mut self) -> &mut KnownSubscription {
        self.known.get_or_insert_default()
    }

    fn publisher(&mut self) -> &mut KnownPublisher {
        self.known().publisher.get_or_insert_default()
    }

    fn slot(&mut self) -> &mut Slot {
        self.publisher().slot.get_or_insert_default()
    }

    fn answering(&mut self, lsn: i64) {
        let publisher = self.publisher();
        (publisher.asked_at, publisher.lsn) = (NOW - 2.0, lsn);
        self.slot().row.active = true;
    }

    /// Nobody hears from the publisher.
    fn apart(&mut self) {
        (self.one.worker, self.one.received_lsn) = (None, None);
        (self.one.has_heard, self.one.last_message_at) = (None, None);
        self.known().apart_since = Some(NOW - 30.0);
        self.slot().row.active = false;
    }

    fn unreachable(&mut self, message: &str) {
        let known = self.known();
        (known.publisher, known.is_unreachable) = (None, true);
        (known.error, known.error_at) = (Some(message.to_owned()), Some(NOW - 3.0));
    }

    fn worker(&mut self) -> &mut Worker {
        self.one.worker.get_or_insert_default()
    }

    fn wait(&mut self, event: &str) {
        self.worker().wait_event = (!event.is_empty()).then(|| event.to_owned());
    }

    /// Nothing was applied for so long, and the publisher is ahead.
    fn stand(&mut self, seconds: f64) -> &mut Progress {
        self.publisher().lsn = 900;
        self.lag = Lag {
            bytes: Some(800),
            seconds: Some(seconds),
        };
        let since = NOW - seconds;
        let is_idle = self.one.is_idle();
        let is_busy = self.one.is_busy();
        let progress = Progress {
            since: NOW - 5000.0,
            at: NOW - 1.0,
            applied_lsn: Some(100),
            applied_at: since,
            received_lsn: self.one.received_lsn,
            received_at: since,
            publisher_lsn: Some(900),
            publisher_at: since,
            worker_pid: Some(1),
            worker_since: NOW - 5000.0,
            idle_since: is_idle.then_some(since),
            busy_since: is_busy.then_some(since),
            behind_since: Some(since),
            ..Progress::default()
        };
        self.known().progress.insert(progress)
    }

    fn fail(&mut self, sqlstate: &str, message_id: &str, message: &str) -> &mut CapturedError {
        let error = CapturedError {
            provider: self.one.provider.clone(),
            id: Some(7),
            pid: 5,
            first_at: NOW - 40.0,
            last_at: NOW - 4.0,
            occurrences: 7,
            sqlstate: sqlstate.to_owned(),
            message_id: message_id.to_owned(),
            message: message.to_owned(),
            ..CapturedError::default()
        };
        self.errors.insert(0, error);
        &mut self.errors[0]
    }
}

#[test]
fn all_is_well() {
    well().assert_plain(State::Streaming);
    pglogical().assert_plain(State::Streaming);
    assert!(well().diagnosis().findings.is_empty());
}

#[test]
fn disabled_by_operator() {
    let mut story = well();
    story.one.enabled = false;
    let found = story.assert(State::Disabled, Cause::Disabled, Severity::Info);
    assert_eq!(
        found.remedy.as_deref(),
        Some("ALTER SUBSCRIPTION \"sub\" ENABLE;")
    );
    // Counters were there before.
    story.one.disable_on_error = true;
    story.one.apply_errors = Some(2);
    story.known().errors_when_enabled = Some(2);
    story.assert(State::Disabled, Cause::Disabled, Severity::Info);
}

#[test]
fn disabled_on_error() {
    let mut story = well();
    story.one.enabled = false;
    story.one.disable_on_error = true;
    story.one.apply_errors = Some(2);
    story.known().errors_when_enabled = Some(1);
    let found = story.assert(State::Disabled, Cause::DisabledOnError, Severity::Critical);
    assert!(found.finding.contains("server log"));
    story.fail("57P01", "terminating ...", "terminating ...");
    let error = story.fail("23505", "duplicate key", "duplicate key");
    error.relation = Some(("public".to_owned(), "item".to_owned()));
    let found = story.assert(State::Disabled, Cause::DisabledOnError, Severity::Critical);
    assert!(
        found.finding.contains("duplicate key (23505), public.item"),
        "{found:?}"
    );
    let remedy = found.remedy.unwrap_or_default();
    assert!(
        remedy.contains("in the way") && remedy.ends_with("ENABLE;"),
        "{remedy}"
    );
}

#[test]
fn disabled_by_the_breaker() {
    let mut story = pglogical();
    story.one.enabled = false;
    story.broken_at = Some(NOW - 100.0);
    story.known().generated_tables = vec!["public.item".to_owned()];
    let found = story.assert(State::Disabled, Cause::CrashLoop, Severity::Critical);
    assert_eq!(
        found.remedy.as_deref(),
        Some("SELECT repl_adopt_generated('public.item');\nSELECT repl_enable('sub');")
    );
    assert!(found.finding.contains("public.item"), "{found:?}");
}

#[test]
fn crash_loop() {
    let mut story = pglogical();
    let crash = |ago: f64| Crash {
        uptime: NOW - ago,
        at: NOW - ago,
        pid: 9,
        signal: 11,
    };
    story.crashes = vec![crash(1.0)];
    story.assert_plain(State::Streaming);
    story.crashes = vec![crash(1.0), crash(5.0)];
    let found = story.assert(State::CrashLoop, Cause::CrashLoop, Severity::Critical);
    assert_eq!(found.evidence["signal"], 11);
    assert_eq!(found.nature, Some(Nature::Deterministic));
    // Before its worker is looked for.
    story.one.worker = None;
    story.assert(State::CrashLoop, Cause::CrashLoop, Severity::Critical);
}

#[test]
fn tables_not_subscribed() {
    let mut story = well();
    story.known().tables_absent = 3;
    let found = story.assert_side(Cause::TablesNotSubscribed, Severity::Warning);
    assert_eq!(
        found.remedy.as_deref(),
        Some("ALTER SUBSCRIPTION \"sub\" REFRESH PUBLICATION;")
    );
    // What is said besides does not explain the state.
    story.assert_plain(State::Streaming);
}

#[test]
fn intentional_delay() {
    let mut story = pglogical();
    story.one.apply_delay = 3600.0;
    story.assert_side(Cause::ApplyDelay, Severity::Info);
    story.stand(3000.0);
    let found = story.assert(State::CatchingUp, Cause::ApplyDelay, Severity::Info);
    assert_eq!(found.remedy, None);
}

#[test]
fn two_phase_pending() {
    let mut story = well();
    story.one.two_phase_pending = true;
    story.assert_side(Cause::TwoPhasePending, Severity::Info);
    story.assert_plain(State::Streaming);
}

#[test]
fn publisher_that_is_another_server_loses_changes_silently() {
    let mut story = well();
    story.known().is_ahead = true;
    story.assert_side(Cause::SilentLoss, Severity::Critical);
}

#[test]
fn slot_that_holds_back_much_wal_is_told_of_and_the_worst_first() {
    let mut story = well();
    story.publisher().lsn = 100 << 30;
    story.publisher().max_wal_size = Some(1 << 30);
    story.slot().restart_lsn = Some(1);
    story.one.two_phase_pending = true;
    story.known().is_ahead = true;
    story.assert_side(Cause::WalRetention, Severity::Warning);
    let severities: Vec<Severity> = story
        .diagnosis()
        .findings
        .iter()
        .map(|one| one.severity)
        .collect();
    assert_eq!(
        severities,
        [Severity::Critical, Severity::Warning, Severity::Info]
    );
}
