//! The way to a connection with a publisher: its host is looked up, it is connected to, and it has to have asked for the
//! password where the server insists on one. Nothing in here waits.

use crate::pg::libpq::{Connection, Interest, Refusal, Route};
use crate::pg::resolver::Lookup;
use crate::subscription::conninfo::Conninfo;
use std::ffi::{CStr, CString};

/// How far it was when it came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    LookingUp,
    Connecting,
    /// Connected, and waiting for an answer.
    Asking,
}

pub(crate) struct Approach {
    text: CString,
    conninfo: Conninfo,
    must_use_password: bool,
    /// Set over the connection string.
    keywords: &'static [(&'static CStr, &'static CStr)],
    step: Step,
    route: Option<Route>,
    refusal: Option<Refusal>,
    /// Was given up, and has still not come to its end.
    pending_lookup: Option<Lookup>,
}

enum Step {
    Away,
    LookingUp(Lookup),
    Connecting(Connection, Interest),
}

/// What a step has led to.
pub(crate) enum Progress {
    /// There is a socket to wait for.
    Waiting,
    There(Connection),
    /// In the words of libpq, of the resolver or of ours; they may hold the password.
    Failed(Stage, String),
}

impl Approach {
    pub(crate) fn new(conninfo: &str, must_use_password: bool) -> Self {
        Self {
            text: CString::new(conninfo).unwrap_or_default(),
            conninfo: Conninfo::parse(conninfo),
            must_use_password,
            keywords: &[],
            step: Step::Away,
            route: None,
            refusal: None,
            pending_lookup: None,
        }
    }

    /// With something that counts instead of what the connection string says.
    pub(crate) fn with_keywords(self, keywords: &'static [(&'static CStr, &'static CStr)]) -> Self {
        Self { keywords, ..self }
    }

    pub(crate) fn conninfo(&self) -> &Conninfo {
        &self.conninfo
    }

    /// Between which addresses the last attempt was made, as far as it came.
    pub(crate) fn route(&self) -> Option<Route> {
        self.route
    }

    /// What the publisher has said besides its words, if it was the one that said no.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// What it waits for.
    pub(crate) fn socket(&self) -> Option<(i32, Interest)> {
        match &self.step {
            Step::Away => None,
            Step::LookingUp(lookup) => Some((lookup.socket(), Interest::Readable)),
            Step::Connecting(connection, interest) => Some((connection.socket(), *interest)),
        }
    }

    pub(crate) fn begin(&mut self) -> Progress {
        (self.route, self.refusal) = (None, None);
        if self.must_use_password && !self.conninfo.has_password() {
            return Progress::Failed(
                Stage::Connecting,
                "password is required: the owner of the subscription is no superuser, and its connection string has none"
                    .to_owned(),
            );
        }
        let hosts = self.conninfo.hosts_to_look_up();
        if hosts.is_empty() {
            return self.connect();
        }
        // One at a time, however long it takes.
        match self.pending_lookup.take().or_else(|| Lookup::start(hosts)) {
            Some(lookup) => {
                self.step = Step::LookingUp(lookup);
                Progress::Waiting
            }
            None => self.connect(),
        }
    }

    fn connect(&mut self) -> Progress {
        match Connection::start(&self.text, self.keywords) {
            Ok(connection) => {
                self.step = Step::Connecting(connection, Interest::Writable);
                Progress::Waiting
            }
            Err(message) => Progress::Failed(Stage::Connecting, message),
        }
    }

    /// Its socket is ready.
    pub(crate) fn go_on(&mut self) -> Progress {
        match std::mem::replace(&mut self.step, Step::Away) {
            Step::Away => Progress::Waiting,
            Step::LookingUp(lookup) => match lookup.result() {
                None => {
                    self.step = Step::LookingUp(lookup);
                    Progress::Waiting
                }
                Some(Ok(())) => self.connect(),
                Some(Err(message)) => Progress::Failed(Stage::LookingUp, message),
            },
            Step::Connecting(connection, _) => self.go_on_connecting(connection),
        }
    }

    fn go_on_connecting(&mut self, mut connection: Connection) -> Progress {
        // There is no socket any more when it has failed.
        self.route = connection.route().or(self.route);
        match connection.go_on_connecting() {
                Ok(Some(interest)) => {
                    self.step = Step::Connecting(connection, interest);
                    Progress::Waiting
                }
                // As a walreceiver has it (libpqrcv_connect of libpqwalreceiver.c): a superuser's password file or the
                // like must not serve somebody else.
                Ok(None) if self.must_use_password && !connection.used_password() => {
                    Progress::Failed(
                        Stage::Connecting,
                        "password is required: the publisher let in the owner of the subscription, who is no superuser, without one"
                            .to_owned(),
                    )
                }
                Ok(None) => Progress::There(connection),
                Err(message) => {
                    self.refusal = connection.refusal();
                    Progress::Failed(Stage::Connecting, message)
                }
        }
    }

    /// Its time is over. Says how far it was, and so in words.
    pub(crate) fn give_up(&mut self) -> (Stage, &'static str) {
        match std::mem::replace(&mut self.step, Step::Away) {
            Step::LookingUp(lookup) => {
                self.pending_lookup = Some(lookup);
                (
                    Stage::LookingUp,
                    "the address of the publisher was not found",
                )
            }
            Step::Away => (Stage::Connecting, NOT_ACCEPTED),
            Step::Connecting(connection, _) => {
                self.route = connection.route().or(self.route);
                (Stage::Connecting, NOT_ACCEPTED)
            }
        }
    }
}

/// What is said of a time that is over.
pub(super) fn timed_out(what: &str) -> String {
    let timeout = crate::guc::probe_timeout().as_secs_f64();
    format!("timed out: {what} within {timeout} s (replwarden.probe_timeout)")
}

const NOT_ACCEPTED: &str = "the publisher did not accept a connection";

/// What is said when no answer came.
pub(super) const NO_ANSWER: &str = "the publisher did not answer";
