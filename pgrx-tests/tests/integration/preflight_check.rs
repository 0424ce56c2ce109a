//! A call of `repl_preflight()`, what it finds, and doing what it says.

use std::collections::BTreeSet;

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, Pair, Provider, SUBSCRIPTION, wait_for_value};

use crate::status::{Row, read};

/// As a literal of SQL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A call of `repl_preflight()` on the subscriber of a pair.
#[derive(Clone)]
pub(crate) struct Preflight<'a> {
    pair: &'a Pair,
    call: String,
}

impl<'a> Preflight<'a> {
    /// Before there is a subscription.
    pub(crate) fn before(pair: &'a Pair) -> Self {
        Self::through(pair, &pair.publisher().conninfo(pair.database()))
    }

    /// Likewise, with another connection string.
    pub(crate) fn through(pair: &'a Pair, conninfo: &str) -> Self {
        let (publications, provider) = match pair.provider() {
            Provider::Native => ("{pub}", "native"),
            Provider::Pglogical => ("{default}", "pglogical"),
        };
        Self::of(pair, conninfo, publications, provider)
    }

    pub(crate) fn of(pair: &'a Pair, conninfo: &str, publications: &str, provider: &str) -> Self {
        let call = format!(
            "repl_preflight({}, {}, '{provider}')",
            quoted(conninfo),
            quoted(publications)
        );
        Self { pair, call }
    }

    pub(crate) fn of_subscription(pair: &'a Pair) -> Self {
        let call = format!("repl_preflight('{SUBSCRIPTION}')");
        Self { pair, call }
    }

    #[track_caller]
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows_as("postgres")
    }

    #[track_caller]
    pub(crate) fn rows_as(&self, role: &str) -> Vec<Row> {
        let mut client = self.pair.subscriber().connect(self.pair.database());
        read(&mut client, &format!("set role {role}"));
        let rows = read(&mut client, &format!("select * from {}", self.call));
        assert_sane(&rows);
        rows
    }

    /// What is not fine, without what only gives advice.
    #[track_caller]
    pub(crate) fn trouble(&self) -> Vec<Row> {
        let mut rows = self.rows();
        rows.retain(|row| row.is("severity", "error") || row.is("severity", "warning"));
        rows
    }

    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let trouble = self.trouble();
        assert!(trouble.is_empty(), "{trouble:#?}");
    }

    /// Waits until there is nothing but that, which is `(severity, check_name)`.
    #[track_caller]
    pub(crate) fn wait_new(&self, before: &BTreeSet<Key>, expected: &[(&str, &str)]) -> Vec<Row> {
        let expected: BTreeSet<(String, String)> = expected
            .iter()
            .map(|(severity, check)| ((*severity).to_owned(), (*check).to_owned()))
            .collect();
        wait_for_value(
            &format!("these are new: {expected:?}"),
            DEFAULT_DEADLINE,
            || {
                let mut rows = self.rows();
                rows.retain(|row| !row.is("severity", "ok") && !before.contains(&key(row)));
                rows
            },
            |rows| {
                let found: BTreeSet<(String, String)> = rows
                    .iter()
                    .map(|row| {
                        (
                            row.text("severity").to_owned(),
                            row.text("check_name").to_owned(),
                        )
                    })
                    .collect();
                found == expected
            },
        )
    }

    #[track_caller]
    pub(crate) fn not_fine(&self) -> BTreeSet<Key> {
        let rows = self.rows();
        let rows = rows.iter().filter(|row| !row.is("severity", "ok"));
        rows.map(key).collect()
    }

    #[track_caller]
    pub(crate) fn wait_as_before(&self, before: &BTreeSet<Key>) {
        wait_for_value(
            "what was found is gone",
            DEFAULT_DEADLINE,
            || self.not_fine(),
            |found| found == before,
        );
    }

    /// Breaks something, expects exactly that to be found, pastes the remedies, and expects it gone.
    #[track_caller]
    pub(crate) fn breaks(&self, how: impl FnOnce(), expected: &[(&str, &str)]) -> Vec<Row> {
        let before = self.not_fine();
        how();
        let rows = self.wait_new(&before, expected);
        for row in &rows {
            paste(self.pair, row);
        }
        self.wait_as_before(&before);
        rows
    }
}

/// Severity, name and object.
pub(crate) type Key = (String, String, Option<String>);

fn key(row: &Row) -> Key {
    (
        row.text("severity").to_owned(),
        row.text("check_name").to_owned(),
        row.get("object").map(str::to_owned),
    )
}

/// What has to hold of whatever is found.
#[track_caller]
pub(crate) fn assert_sane(rows: &[Row]) {
    const SEVERITIES: [&str; 4] = ["error", "warning", "info", "ok"];
    let rank = |row: &Row| {
        let severity = row.text("severity");
        let rank = SEVERITIES.iter().position(|one| *one == severity);
        rank.unwrap_or_else(|| panic!("{row:#?}"))
    };
    assert!(!rows.is_empty());
    assert!(rows.is_sorted_by_key(rank), "{rows:#?}");
    for row in rows {
        let finding = row.text("finding");
        assert!(!finding.contains(char::is_control), "{row:#?}");
        assert!(finding.ends_with('.') || finding.ends_with(')'), "{row:#?}");
        match row.get("remedy") {
            Some(remedy) => {
                assert!(
                    remedy.starts_with("-- on the publisher:\n")
                        || remedy.starts_with("-- on the subscriber:\n"),
                    "{row:#?}"
                );
                assert!(!row.is("severity", "ok"), "{row:#?}");
            }
            None => assert!(!row.is("severity", "error"), "{row:#?}"),
        }
    }
}

/// Does what a remedy says, as it stands, on the node that it names.
#[track_caller]
pub(crate) fn paste(pair: &Pair, row: &Row) {
    let Some(remedy) = row.get("remedy") else {
        panic!("no remedy: {row:#?}");
    };
    let node: &Cluster = match remedy.starts_with("-- on the publisher:") {
        true => pair.publisher(),
        false => pair.subscriber(),
    };
    let mut client = node.connect(pair.database());
    for line in remedy.lines() {
        read(&mut client, line);
    }
    drop(client);
    if remedy.contains("restart the server") {
        node.restart();
    }
}

/// The first row of a check.
#[track_caller]
pub(crate) fn row_of(rows: &[Row], check: &str) -> Row {
    rows.iter()
        .find(|row| row.is("check_name", check))
        .unwrap_or_else(|| panic!("no {check} in {rows:#?}"))
        .clone()
}

/// Each check shows that it was made.
const OF_SERVERS: &[&str] = &[
    "connection",
    "replication_connection",
    "encryption",
    "connection_options",
    "publisher_version",
    "publisher_recovery",
    "wal_level",
    "output_plugin_libraries",
    "replication_slots",
    "wal_senders",
    "publisher_role",
    "other_slots",
    "old_transactions",
    "prepared_transactions",
    "max_slot_wal_keep_size",
    "wal_sender_timeout",
    "idle_replication_slot_timeout",
    "logical_decoding_work_mem",
    "disk_space",
    "encoding",
    "collation",
    "extensions",
    "subscriber_recovery",
    "replwarden_preload",
    "worker_processes",
    "replication_origins",
    "wal_receiver_timeout",
    "owner_settings",
    "synchronous_commit",
    "track_commit_timestamp",
];

#[track_caller]
pub(crate) fn assert_shows(rows: &[Row], more: &[&str]) {
    for check in OF_SERVERS.iter().chain(more) {
        let row = row_of(rows, check);
        // Where the server has a use for it.
        let is_advice = *check == "track_commit_timestamp";
        assert!(row.is("severity", "ok") || is_advice, "{row:#?}");
    }
}
