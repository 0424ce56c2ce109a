//! What is found out about a subscription, with its evidence.

use super::captured::{CapturedError, WorkerKind};
use super::cause::{Cause, Nature, Severity};
use super::condition::State;
use super::failure::reason;
use serde_json::{Map, Value, json};

/// State and findings of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Diagnosis {
    pub(crate) state: State,
    /// Those that explain the state first, then the others.
    pub(crate) findings: Vec<Finding>,
    /// The first finding explains the state.
    pub(crate) is_explained: bool,
}

impl Diagnosis {
    /// What explains the state: cause and remedy of `repl_subscriptions`.
    pub(crate) fn cause(&self) -> Option<&Finding> {
        self.findings.first().filter(|_| self.is_explained)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) cause: Cause,
    /// `None`: it is no trouble, or nobody can tell.
    pub(crate) nature: Option<Nature>,
    /// One sentence, or two.
    pub(crate) finding: String,
    /// The facts behind it.
    pub(crate) evidence: Value,
    /// SQL that mends it, or a comment that says what does. `None`: nothing has to be done.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(severity: Severity, cause: Cause, finding: impl Into<String>) -> Self {
        Self {
            severity,
            cause,
            nature: cause.nature(),
            finding: finding.into(),
            evidence: Value::Object(Map::new()),
            remedy: None,
        }
    }

    /// With more facts: an object.
    pub(super) fn with(mut self, facts: Value) -> Self {
        if let (Value::Object(evidence), Value::Object(facts)) = (&mut self.evidence, facts) {
            evidence.extend(facts.into_iter().filter(|(_, value)| !value.is_null()));
        }
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<Option<String>>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// The facts of an error. Not its details, which may hold whole rows.
pub(super) fn error_facts(error: &CapturedError) -> Value {
    json!({
        "error": {
            "worker_kind": kind(error.kind),
            "pid": error.pid,
            "sqlstate": error.sqlstate,
            "message": plain(reason(error)),
            "relation": error.relation.as_ref().map(|(schema, table)| plain(&format!("{schema}.{table}"))),
            "finish_lsn": error.finish_lsn.map(lsn),
            "occurrences": error.occurrences,
            "first_at": error.first_at,
            "last_at": error.last_at,
        }
    })
}

/// As the views name it.
pub(super) fn kind(kind: WorkerKind) -> &'static str {
    match kind {
        WorkerKind::Apply => "apply",
        WorkerKind::ParallelApply => "parallel apply",
        WorkerKind::TableSynchronization => "table synchronization",
        WorkerKind::Launcher => "launcher",
        WorkerKind::Manager => "manager",
        WorkerKind::Supervisor => "supervisor",
        WorkerKind::Sync => "sync",
        WorkerKind::Copy => "copy",
    }
}

/// As `pg_lsn` writes it.
pub(crate) fn lsn(bytes: i64) -> String {
    let bytes = bytes.max(0);
    format!("{:X}/{:X}", bytes >> 32, bytes & 0xFFFF_FFFF)
}

/// What is longer is cut.
const LONGEST_TEXT: usize = 300;

/// A text from elsewhere on one line, which neither ends a comment nor turns the letters behind it round.
pub(super) fn plain(text: &str) -> String {
    let is_odd = |one: char| {
        one.is_control()
            || matches!(one, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let text: String = text
        .chars()
        .map(|one| if is_odd(one) { ' ' } else { one })
        .collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_stays_on_its_line() {
        assert_eq!(
            plain("a\nDROP TABLE b; --\r\u{202E}c"),
            "a DROP TABLE b; -- c"
        );
        assert_eq!(plain(&"é".repeat(400)).chars().count(), 303);
        assert_eq!(plain("  whole "), "whole");
    }

    #[test]
    fn positions_read_as_usual() {
        assert_eq!(lsn((5 << 32) + 0xABC), "5/ABC");
        assert_eq!(lsn(-1), "0/0");
    }

    #[test]
    fn evidence_holds_what_is_known() {
        let finding = Finding::new(Severity::Info, Cause::Unknown, "x")
            .with(json!({"pid": 5, "lsn": null}))
            .with(json!({"more": true}));
        assert_eq!(finding.evidence, json!({"pid": 5, "more": true}));
    }
}
