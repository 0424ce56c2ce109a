//! How remedies are written.

use super::super::line::{Line, Node};
use super::facts::There;

/// When a setting counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Reload,
    Restart,
}

/// `value`: as SQL has to have it.
pub(super) fn set(name: &str, value: &str, from: From) -> String {
    match from {
        From::Reload => {
            format!("ALTER SYSTEM SET {name} = {value};\nSELECT pg_reload_conf();")
        }
        From::Restart => format!("ALTER SYSTEM SET {name} = {value};\n-- and restart the server"),
    }
}

impl Line {
    /// A setting of this server.
    pub(super) fn set_here(self, name: &str, value: &str, from: From) -> Self {
        self.remedy(Node::Subscriber, &set(name, value, from))
    }

    /// A setting of the publisher, which some providers keep to themselves.
    pub(super) fn set_there(self, there: &There, name: &str, value: &str, from: From) -> Self {
        let sql = match console(there) {
            None => set(name, value, from),
            Some((place, own)) => {
                let (name, value) = own.filter(|_| name == "wal_level").unwrap_or((name, value));
                let restart = match from {
                    From::Reload => "",
                    From::Restart => ", and restart it",
                };
                format!("-- {place}: set {name} = {value}{restart}")
            }
        };
        self.remedy(Node::Publisher, &sql)
    }
}

/// A control character would become something else in a comment or on a terminal.
const RENAME: &str = "-- its name holds control characters: rename it before anything else";

impl Line {
    /// A remedy in which these names stand.
    pub(super) fn naming(self, node: Node, names: &[&str], sql: &str) -> Self {
        let is_plain = names.iter().all(|name| is_plain(name));
        self.remedy(node, if is_plain { sql } else { RENAME })
    }
}

/// Where a managed server is set up, and what makes its WAL logical.
fn console(there: &There) -> Option<(&'static str, Option<(&'static str, &'static str)>)> {
    let has = |name: &str| there.settings.text(name).is_some();
    if has("rds.logical_replication") {
        let own = ("rds.logical_replication", "1");
        Some(("in its parameter group (Amazon RDS)", Some(own)))
    } else if has("cloudsql.logical_decoding") {
        let own = ("cloudsql.logical_decoding", "on");
        Some(("among its database flags (Cloud SQL)", Some(own)))
    } else if has("azure.extensions") {
        Some(("among its server parameters (Azure)", None))
    } else {
        None
    }
}

/// For a sentence or a comment.
pub(super) fn shown(name: &str) -> String {
    name.chars()
        .map(|one| if one.is_control() { '?' } else { one })
        .collect()
}

pub(super) fn is_plain(name: &str) -> bool {
    !name.contains(char::is_control)
}

/// In quotes, for a sentence.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("\"{}\"", shown(name)))
        .collect();
    names.join(", ")
}

/// "1 slot", "3 slots"
pub(super) fn counted(number: i64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}
