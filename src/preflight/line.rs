//! What a check says.

use serde::Serialize;

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It will not start, will stop, or will lose something.
    Error,
    /// It may, or somebody has to decide.
    Warning,
    /// Worth knowing; or a check that could not run, and why.
    Info,
    Ok,
}

/// The server that a remedy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Publisher,
    Subscriber,
}

/// A row of `repl_preflight()`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) severity: Severity,
    pub(super) check_name: &'static str,
    /// What it is about: a table, a column, a setting, a role; `None`: the whole pair.
    pub(super) object: Option<String>,
    /// One or two sentences, with the figures.
    pub(super) finding: String,
    /// SQL that can be pasted into psql on one of the servers; the first line is a comment that names it.
    pub(super) remedy: Option<String>,
}

impl Line {
    pub(super) fn new(severity: Severity, check_name: &'static str, finding: String) -> Self {
        Self {
            severity,
            check_name,
            object: None,
            finding,
            remedy: None,
        }
    }

    /// A check that has found nothing to object to.
    pub(super) fn ok(check_name: &'static str, finding: String) -> Self {
        Self::new(Severity::Ok, check_name, finding)
    }

    /// A check that could not run, and why.
    pub(super) fn not_checked(check_name: &'static str, why: &str) -> Self {
        Self::new(Severity::Info, check_name, format!("Not checked: {why}"))
    }

    pub(super) fn on(self, object: &str) -> Self {
        Self {
            object: Some(object.to_owned()),
            ..self
        }
    }

    /// `sql`: statements, or a comment where a person has to decide.
    pub(super) fn remedy(self, node: Node, sql: &str) -> Self {
        let node = match node {
            Node::Publisher => "publisher",
            Node::Subscriber => "subscriber",
        };
        Self {
            remedy: Some(format!("-- on the {node}:\n{sql}")),
            ..self
        }
    }
}
