//! The worker of one database. It exists so that backfills go on after a restart of the server, or when their own workers
//! could not be started, without anybody asking; and so that somebody watches the subscriptions, and asks their publishers,
//! when nobody looks.

use super::{foreign_key_worker, log, start_backfill_workers};
use crate::error::Error;
use crate::generated::backfill::{self, State};
use crate::guc;
use crate::migrate::foreign_key;
use crate::pg::lock::{self, SessionLock};
use crate::pg::shared::{self, Message};
use crate::pg::transaction::{self, Failure};
use crate::pg::{background, databases, session};
use crate::watch::Warden;
use std::collections::HashMap;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// After ticks that fail, at most.
const LONGEST_TICK: Duration = Duration::from_secs(60);
/// Backfill workers are given this time to show themselves before others are started.
const PATIENCE: Duration = Duration::from_secs(5);

const LOCK_TIMEOUT: (&CStr, &CStr) = (c"lock_timeout", c"500ms");

/// What is asked at each look is planned once: planning it takes longer than running it.
const GENERIC_PLANS: (&CStr, &CStr) = (c"plan_cache_mode", c"force_generic_plan");

/// As a probe, only tells the launcher whether the extension is there.
pub(super) fn run(probe: bool) {
    let here = databases::current();
    let state = match transaction::run(State::find) {
        Ok(state) => state,
        Err(failure) if failure.is_not_installed() => return shared::post(Message::Absent(here)),
        Err(failure) => return log("look after backfills", &failure),
    };
    if probe {
        return shared::post(Message::Present(here));
    }
    // One is enough: there may be another whose launcher has died.
    let Some(_only) = SessionLock::try_acquire(state.lock_class(), 0, u16::MAX) else {
        return;
    };
    let mut tick = Tick::default();
    let mut watch = Watch::default();
    loop {
        if !lock::database_is_open(here) {
            return;
        }
        match transaction::run(backfill::staffing) {
            Ok(staffing) => tick.succeeded(&staffing),
            Err(failure) if failure.is_not_installed() => {
                return shared::post(Message::Absent(here));
            }
            Err(failure) => tick.failed(&failure),
        }
        tick.look_after_foreign_keys();
        let next = Instant::now() + tick.pause;
        loop {
            let woken = watch.go_on(next);
            if !lock::database_is_open(here) {
                return;
            }
            // Whatever wakes it before its time is a reason to look; after failures it has to wait.
            if Instant::now() >= next || (woken && tick.failures == 0) {
                break;
            }
        }
    }
}

/// The watch over subscriptions, and what it failed with last.
#[derive(Default)]
struct Watch {
    warden: Warden,
    /// What has failed at the last attempt, why, and how often.
    failures: HashMap<&'static str, (String, u32)>,
}

impl Watch {
    /// Does what there is to do and waits, not beyond `end` nor for longer than the database may be wanted by somebody else.
    /// True if this process's latch was set.
    fn go_on(&mut self, end: Instant) -> bool {
        if self.warden.is_due(Instant::now()) {
            // A catalog that somebody has locked is looked at another time: this worker has more to do, and must notice
            // that somebody wants the database for himself.
            let look = || session::with_settings(&[GENERIC_PLANS], || self.warden.look());
            let outcome = in_transaction(look);
            self.note("look at the subscriptions", outcome);
            // Apart: somebody may have the table locked, and what is seen then is not to be lost.
            let outcome = in_transaction(|| self.warden.read_open_episodes());
            self.note("read events", outcome);
            self.look_for_hazards();
        }
        // What has come meanwhile, before anything is said to have come too late.
        let come = background::wait_for_sockets(Duration::ZERO, &self.warden.sockets());
        self.warden.advance(&come.sockets);
        self.write();
        let now = Instant::now();
        let until = end.min(self.warden.next_time(now));
        let pause = until.saturating_duration_since(now);
        let woken = background::wait_for_sockets(
            pause.min(background::DATABASE_POLL),
            &self.warden.sockets(),
        );
        self.warden.advance(&woken.sockets);
        come.by_latch || woken.by_latch
    }

    /// What can go wrong later is looked for seldom, and apart: it reads the users' tables.
    fn look_for_hazards(&mut self) {
        if self.warden.is_due_for_hazards() {
            let outcome = in_transaction(|| self.warden.look_for_hazards());
            self.note("look for what may go wrong", outcome);
        }
    }

    /// Writes down what has come of a look. A quiet one writes nothing.
    fn write(&mut self) {
        let Some(news) = self.warden.conclude() else {
            return;
        };
        // Each in a transaction of its own: none stands in the way of another.
        for hung in self.warden.take_hung() {
            let outcome = in_transaction(|| hung.restart());
            if let Some(pid) = self.note("end a worker that hangs", outcome) {
                self.warden.note_restarted(&hung, pid);
            }
        }
        if news.has_errors() {
            let outcome = in_transaction(|| news.write_errors());
            if self.note("write down errors", outcome).is_some() {
                self.warden.note_errors_written(&news);
            }
        }
        let outcome = in_transaction(|| self.warden.write_events());
        if let Some(told) = self.note("write down events", outcome) {
            self.warden.note_events_written(&told);
        }
        if news.is_time_to_expire() {
            let outcome = in_transaction(|| news.expire());
            self.note("delete old events", outcome);
            self.warden.note_expired();
        }
    }

    /// Says once that something fails, and only when it fails again: pglogical may be dropped while it is looked at.
    fn note<R>(&mut self, doing: &'static str, outcome: Result<R, Failure>) -> Option<R> {
        let failure = match outcome {
            Ok(result) => {
                self.failures.remove(doing);
                return Some(result);
            }
            Err(failure) => failure,
        };
        let before = match self.failures.get(doing) {
            Some((message, times)) if *message == failure.message => *times,
            _ => 0,
        };
        // At the 2nd time, the 128th, the 8192nd: not never again, and not each time.
        if [1, 127, 8191].contains(&before) {
            log(doing, &failure);
        }
        let times = before.saturating_add(1);
        self.failures.insert(doing, (failure.message, times));
        None
    }
}

/// In a transaction that does not wait long for a lock.
fn in_transaction<R>(work: impl FnOnce() -> Result<R, Error>) -> Result<R, Failure> {
    transaction::run(|| session::with_settings(&[LOCK_TIMEOUT], work))
}

struct Tick {
    pause: Duration,
    failures: u32,
    /// When backfill workers were last started.
    started: Option<Instant>,
    /// When one for foreign keys was.
    keys_started: Option<Instant>,
}

impl Default for Tick {
    fn default() -> Self {
        Self {
            pause: TICK,
            failures: 0,
            started: None,
            keys_started: None,
        }
    }
}

impl Tick {
    fn succeeded(&mut self, staffing: &backfill::Staffing) {
        (self.pause, self.failures) = (TICK, 0);
        let missing = staffing.missing(guc::max_backfill_workers());
        let is_early = self.started.is_some_and(|then| then.elapsed() < PATIENCE);
        if missing > 0 && !is_early {
            self.started = Some(Instant::now());
            start_backfill_workers(missing);
        }
        let activity = match staffing.unfinished {
            0 => "idle: no backfill to look after".to_owned(),
            1 => format!("looking after 1 backfill with {} workers", staffing.at_work),
            number => format!(
                "looking after {number} backfills with {} workers",
                staffing.at_work
            ),
        };
        background::report_activity(false, &activity);
    }

    /// Sees to it that foreign keys come back when it is time.
    fn look_after_foreign_keys(&mut self) {
        let is_early = self
            .keys_started
            .is_some_and(|then| then.elapsed() < PATIENCE);
        if self.failures > 0 || is_early {
            return;
        }
        if let Ok(true) = in_transaction(foreign_key::worker::is_missing) {
            self.keys_started = Some(Instant::now());
            // The next look tries again.
            let _ = foreign_key_worker().start();
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.failures += 1;
        self.pause = (self.pause * 2).min(LONGEST_TICK);
        log("look after backfills", failure);
        background::report_activity(
            false,
            &format!("failed {} times: {}", self.failures, failure.message),
        );
    }
}
