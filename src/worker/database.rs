//! The worker of one database. It exists so that backfills go on after a restart of the server, or when their own workers
//! could not be started, without anybody asking; and so that somebody watches the subscriptions, and asks their publishers,
//! when nobody looks.

use super::start_backfill_workers;
use crate::generated::backfill::{self, State};
use crate::guc;
use crate::pg::lock::{self, SessionLock};
use crate::pg::shared::{self, Message};
use crate::pg::transaction::{self, Failure};
use crate::pg::{background, databases, session};
use crate::watch::Watcher;
use pgrx::PgLogLevel;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// After ticks that fail, at most.
const LONGEST_TICK: Duration = Duration::from_secs(60);
/// Backfill workers are given this time to show themselves before others are started.
const PATIENCE: Duration = Duration::from_secs(5);

const LOCK_TIMEOUT: (&CStr, &CStr) = (c"lock_timeout", c"500ms");

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
    watcher: Watcher,
    /// Why the last looks failed, if they did, and how many.
    failure: Option<(String, u32)>,
}

impl Watch {
    /// Does what there is to do and waits, not beyond `end` nor for longer than the database may be wanted by somebody else.
    /// True if this process's latch was set.
    fn go_on(&mut self, end: Instant) -> bool {
        if self.watcher.is_due(Instant::now()) {
            // A catalog that somebody has locked is looked at another time: this worker has more to do, and must notice
            // that somebody wants the database for himself.
            let look = || session::with_settings(&[LOCK_TIMEOUT], || self.watcher.look());
            match transaction::run(look) {
                Ok(()) => self.failure = None,
                Err(failure) => self.failed(&failure),
            }
        }
        // What has come meanwhile, before anything is said to have come too late.
        let come = background::wait_for_sockets(Duration::ZERO, &self.watcher.sockets());
        self.watcher.advance(&come.sockets);
        self.watcher.publish();
        let now = Instant::now();
        let until = end.min(self.watcher.next_time(now));
        let pause = until.saturating_duration_since(now);
        let woken = background::wait_for_sockets(
            pause.min(background::DATABASE_POLL),
            &self.watcher.sockets(),
        );
        self.watcher.advance(&woken.sockets);
        self.watcher.publish();
        come.by_latch || woken.by_latch
    }

    /// Says it once, and only when it fails again: pglogical may be dropped while it is looked at.
    fn failed(&mut self, failure: &Failure) {
        let before = match &self.failure {
            Some((message, times)) if *message == failure.message => *times,
            _ => 0,
        };
        if before == 1 {
            log("look at the subscriptions", failure);
        }
        self.failure = Some((failure.message.clone(), before.saturating_add(1)));
    }
}

struct Tick {
    pause: Duration,
    failures: u32,
    /// When backfill workers were last started.
    started: Option<Instant>,
}

impl Default for Tick {
    fn default() -> Self {
        Self {
            pause: TICK,
            failures: 0,
            started: None,
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

fn log(doing: &str, failure: &Failure) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "replwarden: could not {doing}: {}: {}",
            failure.sqlstate, failure.message
        ),
        "replwarden",
    )
    .report(PgLogLevel::WARNING);
}
