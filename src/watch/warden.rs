//! What the worker of a database does at each look: it samples, diagnoses, notices what begins and what ends, ends workers
//! that hang, and writes down what is new.

use super::control;
use super::copy::Key;
use super::crash_event::{self, Subject};
use super::episode::{Episodes, HAZARD, Look, Observation, OpenEpisode};
use super::error_book::{self, ErrorBook};
use super::event::{self, Event, Outbox, Part};
use super::restart::Restarts;
use super::watcher::Watcher;
use crate::error::Error;
use crate::guc;
use crate::pg::databases;
use crate::pg::libpq::Interest;
use crate::subscription::captured::{self, CapturedError, Crash};
use crate::subscription::cause::{Cause, Severity};
use crate::subscription::condition::State;
use crate::subscription::finding::{Diagnosis, Finding};
use crate::subscription::hazard::Hazard;
use crate::subscription::provider::Subscription;
use crate::subscription::publisher::epoch;
use crate::subscription::witness::Witness;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often what is too old is deleted.
const EXPIRY: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub(crate) struct Warden {
    watcher: Watcher,
    errors: ErrorBook,
    /// `None`: what went on when the last worker ended is not read yet.
    episodes: Option<Episodes>,
    outbox: Outbox,
    restarts: Restarts,
    /// It has looked, and not yet concluded anything from that.
    has_looked: bool,
    hung: Vec<Hung>,
    /// What goes on, as the table has it.
    open: Vec<OpenEpisode>,
    expired: Option<Instant>,
}

/// A subscription whose worker is to be ended.
pub(crate) struct Hung {
    subscription: Subscription,
    finding: String,
    evidence: Value,
    cause: &'static str,
    restarts: u32,
}

/// What is to be written.
pub(crate) struct News {
    errors: Vec<CapturedError>,
    expires: bool,
}

impl Warden {
    /// When something has to be done at the latest.
    pub(crate) fn next_time(&self, now: Instant) -> Instant {
        self.watcher.next_time(now)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.watcher.is_due(now)
    }

    /// The sockets that conversations with publishers wait for.
    pub(crate) fn sockets(&self) -> Vec<(i32, Interest)> {
        self.watcher.sockets()
    }

    /// Looks at everything. In a transaction.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        self.watcher.look()?;
        let subscriptions = self.watcher.subscriptions();
        let lost = self.errors.look(subscriptions)?;
        let witness = Witness::new(self.errors.newest().to_vec(), subscriptions)?;
        self.watcher.set_witness(witness);
        if lost > 0 {
            self.outbox.add(vec![overwritten(lost)]);
        }
        self.has_looked = true;
        Ok(())
    }

    /// Reads what goes on by what is written. In a transaction.
    pub(crate) fn read_open_episodes(&mut self) -> Result<(), Error> {
        let open = event::open_episodes()?;
        if self.episodes.is_none() {
            let crashes = new_crashes(self.watcher.subscriptions())?;
            self.episodes = Some(Episodes::load(open));
            self.outbox.add(crashes);
        } else {
            self.open = open;
        }
        Ok(())
    }

    /// As [`Watcher::advance`], and lays out what is new. Outside of a transaction.
    pub(crate) fn advance(&mut self, ready: &[usize]) {
        self.watcher.advance(ready);
        self.watcher.publish();
    }

    /// Draws the conclusions from the last look, once; what has come of it is to be written.
    pub(crate) fn conclude(&mut self) -> Option<News> {
        if !self.has_looked || !self.watcher.is_published() {
            return None;
        }
        self.has_looked = false;
        let look = Look {
            now: epoch(),
            interval: guc::watch_interval().as_secs_f64(),
            stall_timeout: guc::stall_timeout().as_secs_f64(),
        };
        let states: Vec<Observation> = self.watcher.diagnoses().map(state).collect();
        let hazards = self.hazards();
        let hazards: Option<Vec<Observation>> = hazards
            .as_ref()
            .map(|found| found.iter().map(hazard).collect());
        if let Some(episodes) = &mut self.episodes {
            // What is still to be written is not in the table.
            if self.outbox.is_empty() {
                let open = std::mem::take(&mut self.open);
                self.outbox.add(episodes.adopt(open, &look));
            }
            let events = episodes.observe(&states, hazards.as_deref(), &look);
            self.outbox.add(events);
        }
        if guc::restart_stalled_workers() {
            self.find_hung(&look);
        }
        let expires = self.expired.is_none_or(|last| last.elapsed() >= EXPIRY);
        let news = News {
            errors: self.errors.unwritten(look.now),
            expires,
        };
        let is_quiet = news.errors.is_empty()
            && self.outbox.is_empty()
            && self.hung.is_empty()
            && !news.expires;
        (!is_quiet).then_some(news)
    }

    pub(crate) fn is_due_for_hazards(&self) -> bool {
        self.watcher.is_due_for_hazards()
    }

    /// Looks for what will go wrong later. In a transaction of its own.
    pub(crate) fn look_for_hazards(&mut self) -> Result<(), Error> {
        self.watcher.look_for_hazards()
    }

    /// Those that were looked for, and what was found besides why a subscription is in its state.
    fn hazards(&self) -> Option<Vec<Hazard>> {
        let mut hazards = self.watcher.hazards()?;
        for (subscription, diagnosis) in self.watcher.diagnoses() {
            let explains = usize::from(diagnosis.is_explained);
            let others = diagnosis.findings.iter().skip(explains);
            hazards.extend(others.filter_map(|one| as_hazard(subscription, one)));
        }
        Some(hazards)
    }

    /// Subscriptions that stand still for a reason that a new worker may not have.
    fn find_hung(&mut self, look: &Look) {
        let hung = self.watcher.diagnoses().filter_map(|(one, diagnosis)| {
            let finding = diagnosis.cause()?;
            let is_hung = diagnosis.state == State::Stalled && finding.cause.restart_helps();
            is_hung.then_some((one, finding))
        });
        let hung: Vec<(Subscription, Finding)> = hung
            .map(|(one, finding)| (one.clone(), finding.clone()))
            .collect();
        for (subscription, finding) in hung {
            let key: Key = (subscription.provider.clone(), subscription.id);
            if self.restarts.is_due(&key, look.now, look.stall_timeout) {
                self.hung.push(Hung {
                    subscription,
                    restarts: self.restarts.number(&key),
                    cause: finding.cause.word(),
                    finding: finding.finding,
                    evidence: finding.evidence,
                });
            }
        }
    }

    /// Workers to be ended, each in a transaction of its own with [`Hung::restart`].
    pub(crate) fn take_hung(&mut self) -> Vec<Hung> {
        std::mem::take(&mut self.hung)
    }

    /// It is committed; with what [`Hung::restart`] has given.
    pub(crate) fn note_restarted(&mut self, hung: &Hung, ended: Option<Option<i32>>) {
        self.outbox
            .add(ended.map(|pid| restarted(hung, pid)).into_iter().collect());
    }

    /// The errors are written and committed.
    pub(crate) fn note_errors_written(&mut self, news: &News) {
        self.errors.note_written(&news.errors);
    }

    /// In a transaction. Gives those that are to be told when it has committed.
    pub(crate) fn write_events(&self) -> Result<Vec<Event>, Error> {
        self.outbox.write()
    }

    pub(crate) fn note_events_written(&mut self, told: &[Event]) {
        self.outbox.written(told);
    }

    /// What is too old is deleted.
    pub(crate) fn note_expired(&mut self) {
        self.expired = Some(Instant::now());
    }
}

impl Hung {
    /// Ends the worker. In a transaction. Gives its process, as far as that is known; `None`: there is nothing to be ended any
    /// more.
    pub(crate) fn restart(&self) -> Result<Option<Option<i32>>, Error> {
        control::restart_worker(&self.subscription)
    }
}

impl News {
    /// In a transaction.
    pub(crate) fn write_errors(&self) -> Result<(), Error> {
        error_book::write(&self.errors)
    }

    /// Deletes what is too old, in a transaction, if it is time for that.
    pub(crate) fn expire(&self) -> Result<(), Error> {
        event::expire()?;
        error_book::expire()
    }

    pub(crate) fn is_time_to_expire(&self) -> bool {
        self.expires
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }
}

/// The state of a subscription as the episodes take it.
fn state<'a>((subscription, diagnosis): (&'a Subscription, &'a Diagnosis)) -> Observation<'a> {
    const NOTHING: &Value = &Value::Null;
    let cause = diagnosis.cause();
    let severity = cause.map_or_else(|| usual_severity(diagnosis.state), |one| one.severity);
    Observation {
        provider: &subscription.provider,
        id: Some(subscription.id),
        subscription: Some(&subscription.subscription),
        state: diagnosis.state.word(),
        cause: cause.map(|one| one.cause.word()),
        object: None,
        severity: severity.word(),
        finding: cause.map_or("", |one| &one.finding),
        evidence: cause.map_or(NOTHING, |one| &one.evidence),
        remedy: cause.and_then(|one| one.remedy.as_deref()),
    }
}

/// A finding that is no fault yet.
fn as_hazard(subscription: &Subscription, finding: &Finding) -> Option<Hazard> {
    let is_hazard = matches!(
        finding.cause,
        Cause::WalRetention
            | Cause::SilentLoss
            | Cause::TablesNotSubscribed
            | Cause::PublicationMissing
            | Cause::CopyFailedSilently
    );
    is_hazard.then(|| Hazard {
        finding: finding.finding.clone(),
        evidence: finding.evidence.clone(),
        remedy: finding.remedy.clone(),
        ..Hazard::new(subscription, finding.cause, None)
    })
}

/// A hazard as the episodes take it.
fn hazard(hazard: &Hazard) -> Observation<'_> {
    Observation {
        provider: &hazard.provider,
        id: Some(hazard.id),
        subscription: Some(&hazard.subscription),
        state: HAZARD,
        cause: Some(hazard.cause.word()),
        object: hazard.object.as_deref(),
        severity: Severity::Warning.word(),
        finding: &hazard.finding,
        evidence: &hazard.evidence,
        remedy: hazard.remedy.as_deref(),
    }
}

/// Of a state that nobody can explain.
fn usual_severity(state: State) -> Severity {
    match state {
        State::Stalled | State::Down | State::CrashLoop => Severity::Critical,
        State::Retrying => Severity::Warning,
        State::Streaming | State::CatchingUp | State::Copying | State::Disabled => Severity::Info,
    }
}

/// The crashes of workers in this database of which no event tells yet: the last worker has ended with them. In a
/// transaction.
fn new_crashes(subscriptions: &[Subscription]) -> Result<Vec<Event>, Error> {
    let here = databases::current().to_u32();
    let crashes = captured::crashes().into_iter();
    let crashes: Vec<_> = crashes
        .filter_map(|(victim, crash)| Some((victim?, crash)))
        .filter(|(victim, _)| victim.database == here)
        .collect();
    if crashes.is_empty() {
        return Ok(Vec::new());
    }
    let told = event::told_crashes()?;
    let oldest = epoch() - guc::event_retention().as_secs_f64();
    let new = crashes
        .iter()
        .filter(|(_, crash)| is_untold(crash, &told, oldest));
    Ok(new
        .map(|(victim, crash)| {
            let mut subscriptions = subscriptions.iter();
            let subscription = subscriptions
                .find(|one| one.provider == victim.provider && one.id == victim.id)
                .map(|one| one.subscription.clone());
            let subject = Subject {
                provider: victim.provider,
                id: victim.id,
                subscription,
            };
            crash_event::crashed(&subject, crash)
        })
        .collect())
}

/// `told`: when, and which process. Events from before `oldest` are deleted, and so do not say what was told.
fn is_untold(crash: &Crash, told: &[(f64, i32)], oldest: f64) -> bool {
    let mut told = told.iter();
    let is_told = told.any(|(at, pid)| *pid == crash.pid && (at - crash.at).abs() < 0.001);
    crash.at >= oldest && !is_told
}

fn restarted(hung: &Hung, pid: Option<i32>) -> Event {
    let times = match hung.restarts {
        ..2 => String::new(),
        times => format!(", for the {times}th time and from now on less often"),
    };
    Event {
        occurred_at: epoch(),
        provider: hung.subscription.provider.clone(),
        id: Some(hung.subscription.id),
        subscription: Some(hung.subscription.subscription.clone()),
        severity: "warning".to_owned(),
        event: "worker_restarted".to_owned(),
        cause: Some(hung.cause.to_owned()),
        detail: json!({
            "finding": format!(
                "replwarden has ended its apply worker so that the server starts another{times}: {}",
                hung.finding
            ),
            "evidence": hung.evidence,
            "pid": pid,
            "restarts": hung.restarts,
            "by": "replwarden.restart_stalled_workers",
        }),
        since: None,
        part: Part::Whole,
    }
}

fn overwritten(number: i64) -> Event {
    Event {
        occurred_at: epoch(),
        // Of whatever provider.
        provider: "native".to_owned(),
        id: None,
        subscription: None,
        severity: "warning".to_owned(),
        event: "errors_overwritten".to_owned(),
        cause: None,
        detail: json!({
            "finding": format!(
                "{number} errors of replicating processes of this server came and went before they could be written to repl_errors; the server log has them."
            ),
            "remedy": format!(
                "ALTER SYSTEM SET replwarden.error_slots = {}; -- and restart the server",
                (guc::error_slots() * 4).min(8192)
            ),
        }),
        since: None,
        part: Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_is_told_once() {
        let crash = Crash {
            at: 1000.0,
            pid: 5,
            ..Crash::default()
        };
        assert!(is_untold(&crash, &[], 400.0));
        assert!(is_untold(&crash, &[(1000.0, 6), (900.0, 5)], 400.0));
        assert!(!is_untold(&crash, &[(1_000.000_4, 5)], 400.0));
        // Its event was deleted.
        assert!(!is_untold(&crash, &[], 1000.5));
    }
}
