//! A connection to one publisher, and what was last heard through it. Nothing in here waits: whoever drives it waits for
//! its socket, and it gives up by itself when its time is over.

use super::approach::{Approach, NO_ANSWER, Progress, timed_out};
use super::history::History;
use super::{Catalog, FACTS_QUESTION, Facts, PREPARATION, Plausible};
use crate::guc;
use crate::pg::libpq::{Connection, Interest};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is published and how large it is changes seldom: it is asked for each so many rounds, but at least each minute.
const CATALOG_ROUNDS: u32 = 12;
const CATALOG_INTERVAL: Duration = Duration::from_secs(60);
/// Between attempts that fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What there is to ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interests {
    pub(crate) slots: Vec<String>,
    /// Or replication sets.
    pub(crate) publications: Vec<String>,
    /// Tables are being copied.
    pub(crate) sizes: bool,
    /// Schemas and names of tables whose columns are to be told.
    pub(crate) described: Vec<(String, String)>,
}

enum Phase {
    Apart,
    Approaching,
    Asking(Connection, Interest, Question),
    Idle(Connection),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Preparation,
    Facts,
    Catalog,
}

/// What was answered, and when.
pub(crate) struct Heard<T> {
    /// When the question was sent, in seconds since 1970.
    pub(crate) asked_at: f64,
    /// How far the publisher's clock is ahead of this server's, in seconds.
    pub(crate) clock_ahead: f64,
    pub(crate) answer: T,
}

pub(crate) struct Conversation {
    approach: Approach,
    catalog_question: &'static CStr,
    interests: Interests,
    phase: Phase,
    /// The time limit that this connection was prepared for.
    prepared_for: Duration,
    /// This connection has given an answer.
    is_proven: bool,
    asked_at: f64,
    deadline: Instant,
    last_round: Option<Instant>,
    /// After failures.
    pause: Option<Duration>,
    next_catalog: Instant,
    failures: u32,
    history: History,
    facts: Option<Heard<Facts>>,
    /// By which process each slot is used, and when that was said first.
    users: HashMap<String, (i32, f64)>,
    catalog: Option<Catalog>,
    /// What the question that is under way asks for, what `facts` answer, and what `catalog` does: of what was not asked for,
    /// nothing is known.
    asked: Interests,
    slots_asked: Vec<String>,
    publications_asked: Vec<String>,
    /// The last that went wrong, and when, in seconds since 1970.
    error: Option<(String, f64)>,
    news: News,
}

/// What is new since it was asked last.
#[derive(Clone, Copy, Default)]
pub(crate) struct News {
    /// Something was heard, or went wrong.
    pub(crate) any: bool,
    /// What the publisher publishes.
    pub(crate) catalog: bool,
}

impl Conversation {
    pub(crate) fn new(
        conninfo: &str,
        must_use_password: bool,
        catalog_question: &'static CStr,
        now: Instant,
    ) -> Self {
        Self {
            approach: Approach::new(conninfo, must_use_password),
            catalog_question,
            interests: Interests::default(),
            phase: Phase::Apart,
            prepared_for: Duration::ZERO,
            is_proven: false,
            asked_at: 0.0,
            deadline: now,
            last_round: None,
            pause: None,
            next_catalog: now,
            failures: 0,
            history: History::default(),
            facts: None,
            users: HashMap::new(),
            catalog: None,
            asked: Interests::default(),
            slots_asked: Vec::new(),
            publications_asked: Vec::new(),
            error: None,
            news: News::default(),
        }
    }

    /// Its facts answer a question for this slot.
    pub(crate) fn was_asked_for_slot(&self, slot: &str) -> bool {
        self.slots_asked.iter().any(|one| one == slot)
    }

    /// Its catalog answers a question for this publication.
    pub(crate) fn was_asked_for_publication(&self, publication: &str) -> bool {
        self.publications_asked.iter().any(|one| one == publication)
    }

    /// Has it say anew what it publishes.
    pub(crate) fn ask_catalog(&mut self, now: Instant) {
        self.next_catalog = now;
    }

    pub(crate) fn set_interests(&mut self, interests: Interests, now: Instant) {
        let has_more_to_ask = self.interests.publications != interests.publications
            || interests.sizes && !self.interests.sizes
            || (interests.described.iter()).any(|one| !self.interests.described.contains(one));
        if has_more_to_ask {
            self.next_catalog = now;
        }
        self.interests = interests;
    }

    /// What it waits for, if it waits.
    pub(crate) fn socket(&self) -> Option<(i32, Interest)> {
        match &self.phase {
            Phase::Approaching => self.approach.socket(),
            Phase::Asking(connection, interest, _) => Some((connection.socket(), *interest)),
            Phase::Apart | Phase::Idle(_) => None,
        }
    }

    /// It was asked for its facts, on a connection on which it has answered before.
    pub(crate) fn is_about_to_tell(&self) -> bool {
        self.is_proven && matches!(self.phase, Phase::Asking(_, _, Question::Facts))
    }

    /// When something is to be done at the latest.
    pub(crate) fn next_time(&self) -> Instant {
        match self.phase {
            Phase::Approaching | Phase::Asking(..) => self.deadline,
            Phase::Apart | Phase::Idle(_) => self.next_round(),
        }
    }

    fn next_round(&self) -> Instant {
        let interval = self.pause.unwrap_or_else(guc::watch_interval);
        self.last_round
            .map_or(self.deadline, |last| last + interval)
    }

    /// What was heard last, while the publisher answers.
    pub(crate) fn facts(&self) -> Option<&Heard<Facts>> {
        self.facts.as_ref().filter(|_| self.failures == 0)
    }

    /// Likewise.
    pub(crate) fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref().filter(|_| self.failures == 0)
    }

    pub(crate) fn error(&self) -> Option<&(String, f64)> {
        self.error.as_ref()
    }

    /// It does not answer at present.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Since when a slot is used by the process that uses it.
    pub(crate) fn slot_used_since(&self, slot: &str) -> Option<f64> {
        self.users.get(slot).map(|(_, since)| *since)
    }

    /// As [`History::last_at_or_before`].
    pub(crate) fn last_at_or_before(&self, lsn: i64) -> Option<f64> {
        self.history.last_at_or_before(lsn)
    }

    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Does what can be done without waiting. `is_ready`: the socket is what was waited for.
    pub(crate) fn advance(&mut self, is_ready: bool, now: Instant) {
        let is_waiting = self.socket().is_some();
        if is_ready {
            self.go_on(now);
        }
        // Its socket may be ready again and again.
        if self.socket().is_some() && now >= self.deadline {
            let what = match std::mem::replace(&mut self.phase, Phase::Apart) {
                Phase::Approaching => self.approach.give_up().1,
                _ => NO_ANSWER,
            };
            self.fail(timed_out(what), now);
        } else if !is_waiting && now >= self.next_round() {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Instant) {
        (self.last_round, self.pause) = (Some(now), None);
        match std::mem::replace(&mut self.phase, Phase::Apart) {
            Phase::Idle(connection) if self.prepared_for == guc::probe_timeout() => {
                self.ask(connection, Question::Facts, now);
            }
            Phase::Idle(connection) => self.ask(connection, Question::Preparation, now),
            _ => self.connect(now),
        }
    }

    fn connect(&mut self, now: Instant) {
        self.is_proven = false;
        self.deadline = now + guc::probe_timeout();
        let progress = self.approach.begin();
        self.approached(progress, now);
    }

    fn approached(&mut self, progress: Progress, now: Instant) {
        match progress {
            Progress::Waiting => self.phase = Phase::Approaching,
            Progress::There(connection) => self.ask(connection, Question::Preparation, now),
            Progress::Failed(_, message) => self.fail(message, now),
        }
    }

    fn go_on(&mut self, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Apart) {
            Phase::Approaching => {
                let progress = self.approach.go_on();
                self.approached(progress, now);
            }
            Phase::Asking(mut connection, _, question) => match connection.receive() {
                Ok(Err(interest)) => self.phase = Phase::Asking(connection, interest, question),
                Ok(Ok(answer)) => self.heard(connection, question, answer, now),
                Err(message) => self.not_answered(connection, question, message, now),
            },
            phase => self.phase = phase,
        }
    }

    fn ask(&mut self, mut connection: Connection, question: Question, now: Instant) {
        let (sql, parameters) = match question {
            // It gives up before we do.
            Question::Preparation => {
                self.prepared_for = guc::probe_timeout();
                let milliseconds = self.prepared_for.as_millis() * 4 / 5;
                (PREPARATION, vec![milliseconds.to_string()])
            }
            Question::Facts => (FACTS_QUESTION, vec![array(&self.interests.slots)]),
            Question::Catalog => (
                self.catalog_question,
                vec![
                    array(&self.interests.publications),
                    self.interests.sizes.to_string(),
                    serde_json::to_string(&self.interests.described).unwrap_or_default(),
                ],
            ),
        };
        let parameters: Vec<CString> = parameters
            .into_iter()
            .map(|one| CString::new(one).unwrap_or_default())
            .collect();
        self.asked.clone_from(&self.interests);
        self.asked_at = epoch();
        self.deadline = now + guc::probe_timeout();
        match connection.send(sql, &parameters) {
            Ok(interest) => self.phase = Phase::Asking(connection, interest, question),
            Err(message) => self.not_answered(connection, question, message, now),
        }
    }

    fn heard(
        &mut self,
        connection: Connection,
        question: Question,
        answer: Option<String>,
        now: Instant,
    ) {
        match question {
            Question::Preparation => self.ask(connection, Question::Facts, now),
            Question::Facts => match read_plausible::<Facts>(answer) {
                Ok(facts) => {
                    self.slots_asked.clone_from(&self.asked.slots);
                    self.history.add(self.asked_at, facts.lsn);
                    self.note_users(&facts);
                    self.facts = Some(Heard {
                        asked_at: self.asked_at,
                        clock_ahead: facts.now - (self.asked_at + epoch()) / 2.0,
                        answer: facts,
                    });
                    (self.failures, self.is_proven, self.news.any) = (0, true, true);
                    if now >= self.next_catalog {
                        let rounds = guc::watch_interval() * CATALOG_ROUNDS;
                        self.next_catalog = now + rounds.min(CATALOG_INTERVAL);
                        self.ask(connection, Question::Catalog, now);
                    } else {
                        self.rest(connection);
                    }
                }
                Err(message) => self.fail(message, now),
            },
            Question::Catalog => {
                match read_plausible::<Catalog>(answer) {
                    // What is the same as before is no news to anybody.
                    Ok(catalog)
                        if self.catalog.as_ref() == Some(&catalog)
                            && self.publications_asked == self.asked.publications => {}
                    Ok(catalog) => {
                        self.publications_asked.clone_from(&self.asked.publications);
                        self.catalog = Some(catalog);
                        (self.news.any, self.news.catalog) = (true, true);
                    }
                    Err(message) => self.note(&message),
                }
                self.rest(connection);
            }
        }
    }

    fn rest(&mut self, connection: Connection) {
        if connection.is_worth_keeping() {
            self.phase = Phase::Idle(connection);
        }
    }

    fn note_users(&mut self, facts: &Facts) {
        let mut users = HashMap::new();
        for slot in &facts.slots {
            let Some(pid) = slot.row.active_pid else {
                continue;
            };
            let known = self.users.get(&slot.name);
            let since = known.filter(|(known, _)| *known == pid);
            users.insert(
                slot.name.clone(),
                (pid, since.map_or(self.asked_at, |(_, since)| *since)),
            );
        }
        self.users = users;
    }

    fn not_answered(
        &mut self,
        connection: Connection,
        question: Question,
        message: String,
        now: Instant,
    ) {
        if question == Question::Catalog && connection.is_alive() {
            // It does not tell everything: what it told stays true.
            self.note(&message);
            self.catalog = None;
            self.phase = Phase::Idle(connection);
        } else if self.is_proven && !connection.is_alive() {
            // It was restarted, perhaps: worth a look at once.
            drop(connection);
            self.connect(now);
        } else {
            drop(connection);
            self.fail(message, now);
        }
    }

    fn fail(&mut self, message: String, now: Instant) {
        self.phase = Phase::Apart;
        self.failures = self.failures.saturating_add(1);
        let interval = guc::watch_interval();
        let pause = interval.saturating_mul(1 << self.failures.min(16));
        self.last_round = Some(now);
        self.pause = Some(pause.min(LONGEST_PAUSE.max(interval)));
        self.next_catalog = now;
        self.note(&message);
    }

    fn note(&mut self, message: &str) {
        self.error = Some((self.approach.conninfo().redact(message), epoch()));
        self.news.any = true;
    }
}

/// The JSON document that a publisher has given.
pub(super) fn read<T: DeserializeOwned>(answer: Option<String>) -> Result<T, String> {
    // What no name has, and jsonb refuses.
    if answer.as_ref().is_some_and(|text| text.contains("\\u0000")) {
        return Err("the publisher's answer cannot be read: it holds a null character".to_owned());
    }
    serde_json::from_str(&answer.unwrap_or_default())
        .map_err(|error| format!("the publisher's answer cannot be read: {error}"))
}

fn read_plausible<T: DeserializeOwned + Plausible>(answer: Option<String>) -> Result<T, String> {
    let answer: T = read(answer)?;
    if answer.is_plausible() {
        Ok(answer)
    } else {
        Err(
            "the publisher's answer cannot be true: it holds a number that is none of a server"
                .to_owned(),
        )
    }
}

/// A text[] as the server reads it.
pub(crate) fn array(elements: &[String]) -> String {
    let quoted: Vec<String> = elements
        .iter()
        .map(|one| format!("\"{}\"", one.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}

/// Seconds since 1970.
pub(crate) fn epoch() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_no_server_are_refused() {
        let facts = |lsn: &str, now: &str| {
            let text = format!(r#"{{"now": {now}, "lsn": {lsn}, "slots": []}}"#);
            read_plausible::<Facts>(Some(text)).is_ok()
        };
        assert!(facts("0", "1700000000.5") && facts("9223372036854775807", "0"));
        assert!(!facts("-1", "0") && !facts("0", "-1") && !facts("0", "1e308"));
        let catalog = |bytes: &str, rows: &str| {
            let text = format!(
                r#"{{"publications": [], "tables": [{{"schema_name": "", "table_name": "", "bytes": {bytes}, "rows": {rows}, "publications": []}}]}}"#
            );
            read_plausible::<Catalog>(Some(text)).is_ok()
        };
        assert!(catalog("null", "null") && catalog("35184372088832", "-1"));
        assert!(
            !catalog("-1", "0") && !catalog("9223372036854775807", "0") && !catalog("0", "1e300")
        );
    }

    #[test]
    fn names_with_quotes_are_elements_of_an_array() {
        let names = ["plain".to_owned(), r#"a "b\" c"#.to_owned()];
        assert_eq!(array(&names), r#"{"plain","a \"b\\\" c"}"#);
        assert_eq!(array(&[]), "{}");
    }
}
