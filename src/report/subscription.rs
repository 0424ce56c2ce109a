//! The table of subscriptions, and what there is to say about one of them.

use super::facts::{Report, Subscription, Table};
use super::format::{bytes, bytes_per_second, duration, name, percent, shorten};
use super::grid::{Column, align};
use super::{SHOWN, WIDTH, table, wrap};

/// In seconds. A younger error of a subscription that streams keeps the report from saying that all is well.
pub(crate) const RECENT: f64 = 600.0;

/// In seconds. After a younger error it is not certain yet that it goes on.
const JUST_NOW: f64 = 60.0;

/// In seconds. An older error of a subscription that streams is not shown.
const WORTH_A_LINE: f64 = 86_400.0;

/// In bytes. So much may well wait to be fetched.
const MUCH_WAL: i64 = 1 << 30;

const UNKNOWN: &str = "-";

/// Left of the facts below a subscription's heading.
const KEY_WIDTH: usize = 11;

/// How much somebody is needed, most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    Act,
    Wait,
    Nothing,
}

impl Subscription {
    /// What the state and all else about the subscription come to.
    pub(crate) fn need(&self, now: f64) -> Need {
        let state = match self.state.as_str() {
            "streaming" => Need::Nothing,
            "copying" | "catching_up" => Need::Wait,
            _ => Need::Act,
        };
        match self.error_age(now).flatten() {
            _ if self.warning.is_some() || self.remedy.is_some() => Need::Act,
            Some(age) if age < JUST_NOW => Need::Act,
            // It goes on, and the error is worth a look still.
            Some(age) if age < RECENT => state.min(Need::Wait),
            _ => state,
        }
    }

    /// Of the last error, if there is one; the age is unknown where its time is.
    fn error_age(&self, now: f64) -> Option<Option<f64>> {
        self.last_error.as_ref()?;
        Some(self.last_error_at.map(|at| now - at))
    }

    fn is_streaming(&self) -> bool {
        self.state == "streaming"
    }
}

/// The subscription's name, with its provider where both have one of that name.
pub(crate) fn label(report: &Report, provider: &str, subscription: &str) -> String {
    let is_ambiguous = report
        .subscriptions
        .iter()
        .any(|one| one.subscription == subscription && one.provider != provider);
    let label = shorten(&name(subscription), 40);
    if is_ambiguous {
        format!("{label} ({provider})")
    } else {
        label
    }
}

/// One line for each subscription below a heading.
pub(crate) fn overview(report: &Report) -> Vec<String> {
    const AGE: &str = "for";
    const COLUMNS: [(&str, Column); 7] = [
        ("subscription", Column::Elastic),
        ("provider", Column::Left),
        ("state", Column::Left),
        (AGE, Column::Left),
        ("lag", Column::Left),
        ("tables", Column::Right),
        ("worker", Column::Right),
    ];
    // Nobody knows it where nobody watches.
    let has_ages = report.subscriptions.iter().any(|one| one.since.is_some());
    let age = |text: String| if has_ages { text } else { String::new() };
    let title = |(title, _): (&str, Column)| match title {
        AGE => age(title.to_owned()),
        _ => title.to_owned(),
    };
    let mut rows = vec![COLUMNS.map(title).to_vec()];
    rows.extend(report.subscriptions.iter().map(|one| {
        vec![
            name(&one.subscription),
            name(&one.provider),
            name(&one.state),
            age(one
                .since
                .map_or(UNKNOWN.to_owned(), |since| duration(report.now - since))),
            lag(one),
            format!("{}/{}", one.tables_ready, one.tables_total),
            one.worker_pid
                .map_or(UNKNOWN.to_owned(), |pid| pid.to_string()),
        ]
    }));
    align(0, &COLUMNS.map(|(_, column)| column), &rows)
}

fn lag(one: &Subscription) -> String {
    match (one.lag_bytes.map(bytes), one.lag.map(duration)) {
        (Some(bytes), Some(time)) => format!("{bytes}, {time}"),
        (Some(part), None) | (None, Some(part)) => part,
        (None, None) => UNKNOWN.to_owned(),
    }
}

/// What there is to say about single subscriptions beyond their line in the table, and how many running copies are shown
/// with them.
pub(crate) fn details(report: &Report) -> (Vec<Vec<String>>, usize) {
    let mut ordered: Vec<&Subscription> = report.subscriptions.iter().collect();
    ordered.sort_by_key(|one| one.need(report.now));
    let mut copies_left = SHOWN;
    let mut sections: Vec<Vec<String>> = Vec::new();
    let mut left_out = 0;
    for one in ordered {
        let copies: Vec<&Table> = report
            .tables
            .iter()
            .filter(|table| {
                table.is_being_copied()
                    && (&table.provider, &table.subscription) == (&one.provider, &one.subscription)
            })
            .take(copies_left)
            .collect();
        let facts = facts(report, one);
        if facts.is_empty() && copies.is_empty() && !has_heading(one) {
            continue;
        }
        if sections.len() == SHOWN {
            left_out += 1;
            continue;
        }
        copies_left -= copies.len();
        if let ([(key, value)], true, false) =
            (facts.as_slice(), copies.is_empty(), has_heading(one))
        {
            let label = label(report, &one.provider, &one.subscription);
            sections.push(wrap::text("", 2, &format!("{label}: {key} {value}")));
            continue;
        }
        let mut section = heading(report, one);
        section.extend(table::bars(&copies));
        for (key, value) in facts {
            let head = format!("  {key:<KEY_WIDTH$} ");
            section.extend(wrap::text(&head, head.len(), &value));
        }
        sections.push(section);
    }
    if left_out > 0 {
        sections.push(more(
            0,
            left_out,
            "SELECT subscription, state, cause, warning, last_error FROM repl_subscriptions;",
        ));
    }
    (sections, SHOWN - copies_left)
}

/// Whether the heading alone says more than the line in the table.
fn has_heading(one: &Subscription) -> bool {
    one.state == "copying" || cause_beyond_state(one).is_some()
}

/// The cause of `disabled` may be `disabled`.
fn cause_beyond_state(one: &Subscription) -> Option<&str> {
    one.cause.as_deref().filter(|cause| *cause != one.state)
}

/// "sub: copying, table 4 of 42, 61 %, 12 MB/s, 14 min left", or the state and its cause.
fn heading(report: &Report, one: &Subscription) -> Vec<String> {
    let mut parts = vec![one.state.clone()];
    if one.state == "copying" {
        if one.tables_total > 0 {
            let current = (one.tables_ready + 1).min(one.tables_total);
            parts.push(format!("table {current} of {}", one.tables_total));
        }
        parts.extend(one.copy_percent.map(percent));
        parts.extend(one.copy_bytes_per_second.map(bytes_per_second));
        parts.extend(one.copy_eta.map(|eta| format!("{} left", duration(eta))));
    }
    let mut text = format!(
        "{}: {}",
        label(report, &one.provider, &one.subscription),
        parts.join(", ")
    );
    if let Some(cause) = cause_beyond_state(one) {
        let separator = if one.state == "copying" { "; " } else { ", " };
        text.push_str(separator);
        text.push_str(cause);
        if let Some(explanation) = explanation(cause) {
            text.push_str(": ");
            text.push_str(explanation);
        }
    }
    wrap::text("", 2, &text)
}

/// Each with its key.
fn facts(report: &Report, one: &Subscription) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(warning) = &one.warning {
        facts.push(("warning", warning.clone()));
    }
    if let (Some(error), Some(age)) = (&one.last_error, one.error_age(report.now))
        && (!one.is_streaming() || age.is_none_or(|age| age < WORTH_A_LINE))
    {
        facts.push((
            "last error",
            match age {
                Some(age) => format!("{} ago: {error}", duration(age)),
                None => error.clone(),
            },
        ));
    }
    facts.extend(slot(one).map(|slot| ("slot", slot)));
    // Where no worker is connected, it matters where to.
    if one.worker_pid.is_none()
        && one.state != "disabled"
        && let Some(publisher) = &one.publisher
    {
        facts.push(("publisher", publisher.clone()));
    }
    facts
}

/// What the slot costs the publisher, where that is more than it should be.
fn slot(one: &Subscription) -> Option<String> {
    let status = one
        .wal_status
        .as_deref()
        .filter(|status| *status != "reserved");
    let retained = one.retained_bytes.unwrap_or(0);
    let is_worth_a_line = one.warning.is_some()
        || (!one.is_streaming()
            && (status.is_some() || one.slot_active == Some(false) || retained >= MUCH_WAL));
    if !is_worth_a_line {
        return None;
    }
    let mut parts = Vec::new();
    if one.retained_bytes.is_some() {
        parts.push(format!("keeps {} of WAL on the publisher", bytes(retained)));
    }
    if let Some(safe) = one.safe_wal_size {
        parts.push(format!("{} more before it is lost", bytes(safe.max(0))));
    }
    if let Some(active) = one.slot_active {
        parts.push(if active { "in use" } else { "not in use" }.to_owned());
    }
    if let Some(status) = status {
        parts.push(format!("wal_status {status}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// In a few words, for somebody who does not know the word yet. Others stand for themselves.
fn explanation(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "disabled_on_error" => "the server switched it off after an error",
        "crash_loop" => "its worker has crashed the whole server again and again",
        "worker_pool_exhausted" => "there is no room for another worker",
        "launcher_missing" => "the server's launcher of replication workers does not run",
        "initialization_failed" => "it stopped in a step that cannot be taken up again",
        "relaunch_backoff" => "pglogical waits before it tries again",
        "publisher_unreachable" => "the publisher cannot be reached",
        "authentication_failed" => "the publisher does not let this server in",
        "publisher_silent" => "the connection to the publisher is dead",
        "publisher_overloaded" => "the publisher cannot decode its WAL fast enough",
        "publisher_transaction" => "a long transaction on the publisher is not committed yet",
        "slot_missing" => "its replication slot is not on the publisher",
        "slot_invalidated" => "the publisher no longer has the WAL that its slot needs",
        "slot_in_use" => "something else uses its replication slot",
        "slot_creation_wait" => "a new slot waits for old transactions on the publisher",
        "output_plugin_refused" => "the publisher does not allow the output plugin",
        "origins_exhausted" => "there is no room for another replication origin",
        "publication_missing" => "the publisher does not have what it subscribes to",
        "tables_not_subscribed" => "published tables are not subscribed",
        "table_missing" => "a table is not there",
        "column_missing" => "a table lacks a column that the publisher sends",
        "generated_column_incompatible" => "the publisher sends a column that is generated here",
        "duplicate_key" => "a row with this key is already there",
        "not_null_violation" => "a column does not take NULL",
        "check_violation" => "a check or partition does not take a row",
        "foreign_key_violation" => "a row refers to one that is not there",
        "invalid_data" => "a value does not fit its column",
        "trigger_error" => "a trigger or function fails",
        "replica_identity" => "the publisher does not say which row is meant",
        "permission_denied" => "a right is missing",
        "row_security" => "row-level security is in the way",
        "read_only" => "transactions are read-only here",
        "sync_queued" => "tables wait for their turn, which is no fault",
        "lock_wait" => "a worker waits for a lock",
        "deadlock" => "it was the victim of a deadlock",
        "identity_full_without_index" => "it reads a whole table for each row",
        "large_transaction" => "a large transaction is being applied",
        "wal_receiver_timeout" => "the publisher says nothing for too long, again and again",
        "wal_sender_timeout" => "the connection is cut again and again",
        "synchronous_commit" => "it waits for a synchronous standby",
        "disk_full" => "a disk is full",
        "disk_io" => "a disk is slow, or fails",
        "out_of_memory" => "memory has run out",
        "statement_cancelled" => "a statement took longer than it may",
        "apply_delay" => "it is meant to be late",
        "catchup_hang" => "pglogical waits for the next transaction on the publisher",
        "two_phase_pending" => "two_phase takes effect when all tables are ready",
        "unknown" => "look into the server log, here and on the publisher",
        _ => return None,
    })
}

/// "... and 35 more", and the query that shows them all.
pub(crate) fn more(indent: usize, left_out: usize, query: &str) -> Vec<String> {
    let blank = " ".repeat(indent);
    let line = format!("{blank}... and {left_out} more: {query}");
    if line.chars().count() <= WIDTH {
        return vec![line];
    }
    let mut lines = vec![format!("{blank}... and {left_out} more:")];
    lines.extend(wrap::sql(indent + 2, query));
    lines
}
