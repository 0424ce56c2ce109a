//! Asking a publisher in the middle of a statement of a session, which waits for the answers and may be cancelled meanwhile.

use super::PREPARATION;
use super::approach::{Approach, NO_ANSWER, Progress, Stage, timed_out};
use super::conversation::read;
use crate::guc;
use crate::pg::background;
use crate::pg::libpq::{Connection, Interest, Refusal, Route};
use serde::de::DeserializeOwned;
use std::ffi::{CStr, CString};
use std::time::Instant;

/// A connection to a publisher that takes questions: read-only, with `pg_catalog` as its search_path, and for each step no more
/// than `replwarden.probe_timeout`.
pub(crate) struct Inquiry {
    approach: Approach,
    connection: Connection,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unheard {
    pub(crate) stage: Stage,
    /// Nothing came within `replwarden.probe_timeout`.
    pub(crate) is_timeout: bool,
    /// In one line, without any secret.
    pub(crate) message: String,
    /// Between which addresses, where it came so far.
    pub(crate) route: Option<Route>,
    /// `None`: it was not the publisher that said no.
    pub(crate) refusal: Option<Refusal>,
}

impl Inquiry {
    /// Whoever calls it has made sure that the user has the right to make the server connect there
    /// ([`access`](crate::subscription::access)).
    pub(crate) fn open(conninfo: &str, must_use_password: bool) -> Result<Self, Unheard> {
        let approach = Approach::new(conninfo, must_use_password);
        let mut inquiry = Self::connect(approach)?;
        let milliseconds = guc::probe_timeout().as_millis() * 4 / 5;
        inquiry.answer(PREPARATION, &[milliseconds.to_string()])?;
        Ok(inquiry)
    }

    /// Connects, and asks nothing yet.
    pub(crate) fn connect(mut approach: Approach) -> Result<Self, Unheard> {
        let deadline = Instant::now() + guc::probe_timeout();
        let mut progress = approach.begin();
        loop {
            match progress {
                Progress::There(connection) => {
                    return Ok(Self {
                        approach,
                        connection,
                    });
                }
                Progress::Failed(stage, message) => {
                    return Err(unheard(&approach, stage, false, &message));
                }
                Progress::Waiting => {}
            }
            let is_ready = approach
                .socket()
                .is_some_and(|socket| wait(socket, deadline));
            if !is_ready {
                let (stage, what) = approach.give_up();
                return Err(unheard(&approach, stage, true, &timed_out(what)));
            }
            progress = approach.go_on();
        }
    }

    /// `None`: through no network.
    pub(crate) fn route(&self) -> Option<Route> {
        self.connection.route()
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.connection.is_encrypted()
    }

    /// The one JSON document that a statement with text parameters gives.
    pub(crate) fn ask<T: DeserializeOwned>(
        &mut self,
        sql: &CStr,
        parameters: &[String],
    ) -> Result<T, Unheard> {
        let answer = self.answer(sql, parameters)?;
        read(answer).map_err(|message| unheard(&self.approach, Stage::Asking, false, &message))
    }

    /// The first column of the first row.
    pub(crate) fn answer(
        &mut self,
        sql: &CStr,
        parameters: &[String],
    ) -> Result<Option<String>, Unheard> {
        let deadline = Instant::now() + guc::probe_timeout();
        let parameters: Vec<CString> = parameters
            .iter()
            .map(|one| CString::new(one.as_str()).unwrap_or_default())
            .collect();
        let failed =
            |approach: &Approach, message: &str| unheard(approach, Stage::Asking, false, message);
        let mut interest = self
            .connection
            .send(sql, &parameters)
            .map_err(|message| failed(&self.approach, &message))?;
        loop {
            if !wait((self.connection.socket(), interest), deadline) {
                let message = timed_out(NO_ANSWER);
                return Err(unheard(&self.approach, Stage::Asking, true, &message));
            }
            match self.connection.receive() {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(next)) => interest = next,
                Err(message) => return Err(failed(&self.approach, &message)),
            }
        }
    }
}

fn unheard(approach: &Approach, stage: Stage, is_timeout: bool, message: &str) -> Unheard {
    Unheard {
        stage,
        is_timeout,
        message: approach.conninfo().redact(message),
        route: approach.route(),
        refusal: approach.refusal().cloned(),
    }
}

/// False when the time is over.
fn wait(socket: (i32, Interest), deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let woken = background::wait_for_sockets_in_session(left, &[socket]);
        if !woken.sockets.is_empty() {
            return true;
        }
    }
}
