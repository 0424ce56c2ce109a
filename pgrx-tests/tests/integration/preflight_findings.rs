//! Breaking one thing at a time on a pair, and doing what `repl_preflight()` says about it.

use std::collections::BTreeSet;
use std::path::Path;

use replwarden_tests::{Pair, Provider, SUBSCRIPTION};

use crate::status::{Row, Status};

/// The checks of what is published and of what is here.
const CHECKS: [&str; 30] = [
    "published_tables",
    "schemas",
    "types",
    "tables",
    "columns",
    "column_types",
    "not_null",
    "collations",
    "generated_columns",
    "replica_identity",
    "silent_loss",
    "identity_index",
    "unique_constraints",
    "triggers",
    "foreign_keys",
    "inbound_foreign_keys",
    "table_rights",
    "row_security",
    "copy_rights",
    "target_rows",
    "secondary_indexes",
    "unpublished_tables",
    "not_replicated",
    "large_objects",
    "row_filters",
    "column_lists",
    "partitions",
    "sequences",
    "sequence_limits",
    "sequences_behind",
];

/// A pair, and how `repl_preflight()` is called for it.
pub(crate) struct Preflight<'a> {
    pair: &'a Pair,
    call: String,
}

impl<'a> Preflight<'a> {
    /// Before there is a subscription.
    pub(crate) fn before(pair: &'a Pair) -> Self {
        Self::before_as(pair, &pair.publisher().conninfo(pair.database()))
    }

    pub(crate) fn before_as(pair: &'a Pair, conninfo: &str) -> Self {
        let (publications, provider) = match pair.provider() {
            Provider::Native => ("{pub}", "native"),
            Provider::Pglogical => ("{default}", "pglogical"),
        };
        Self::asked(
            pair,
            &format!("repl_preflight('{conninfo}', '{publications}', '{provider}')"),
        )
    }

    pub(crate) fn of_subscription(pair: &'a Pair) -> Self {
        Self::asked(pair, &format!("repl_preflight('{SUBSCRIPTION}')"))
    }

    pub(crate) fn asked(pair: &'a Pair, call: &str) -> Self {
        Self {
            pair,
            call: call.to_owned(),
        }
    }

    /// Every line of these checks.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Row> {
        let names = CHECKS.join("', '");
        let sql = format!(
            "select * from {} where check_name in ('{names}')",
            self.call
        );
        let rows = Status::of(self.pair).rows(&sql);
        for row in &rows {
            assert_sane(row);
        }
        let seen: BTreeSet<&str> = rows.iter().map(|row| row.text("check_name")).collect();
        let all: BTreeSet<&str> = CHECKS.into_iter().collect();
        assert_eq!(seen, all, "each check says something");
        rows
    }

    /// What is not `ok`.
    #[track_caller]
    pub(crate) fn findings(&self) -> Vec<Row> {
        let mut lines = self.lines();
        lines.retain(|row| !row.is("severity", "ok"));
        lines
    }

    /// Nothing that anybody has to do anything about.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let mut bad = self.findings();
        bad.retain(|row| !row.is("severity", "info"));
        assert!(bad.is_empty(), "{bad:#?}");
    }

    /// Runs SQL on both sides and expects just this many more findings, of this check and severity. Gives them.
    #[track_caller]
    pub(crate) fn broken(
        &self,
        (publisher, subscriber): (&str, &str),
        (severity, check): (&str, &str),
        said: &[&str],
    ) -> Row {
        let mut found = self.all_broken((publisher, subscriber), &[(severity, check)]);
        let row = found.remove(0);
        for part in said {
            assert!(row.text("finding").contains(part), "{part}: {row:#?}");
        }
        row
    }

    /// As [`Preflight::broken`], for several that come of it.
    #[track_caller]
    pub(crate) fn all_broken(
        &self,
        (publisher, subscriber): (&str, &str),
        expected: &[(&str, &str)],
    ) -> Vec<Row> {
        let before = self.findings();
        self.pair.on_publisher(publisher);
        self.pair.on_subscriber(subscriber);
        let mut found = self.findings();
        found.retain(|row| !before.contains(row));
        let kinds: Vec<(&str, &str)> = found
            .iter()
            .map(|row| (row.text("severity"), row.text("check_name")))
            .collect();
        assert_eq!(kinds, expected, "{found:#?}");
        found
    }

    /// Breaks something, does what the one finding says, and expects that it is gone and nothing else has come.
    #[track_caller]
    pub(crate) fn mended(&self, breaking: (&str, &str), kind: (&str, &str), said: &[&str]) {
        let before = self.findings();
        let row = self.broken(breaking, kind, said);
        self.paste(&row);
        assert_eq!(self.findings(), before, "after {row:#?}");
    }

    /// Breaks something that the remedy leaves to a person, who then does this.
    #[track_caller]
    pub(crate) fn decided(
        &self,
        breaking: (&str, &str),
        kind: (&str, &str),
        said: &[&str],
        (publisher, subscriber): (&str, &str),
    ) -> Row {
        let before = self.findings();
        let row = self.broken(breaking, kind, said);
        if let Some(remedy) = row.get("remedy") {
            let mut lines = remedy.lines();
            assert!(lines.all(|line| line.starts_with("-- ")), "{row:#?}");
        }
        self.pair.on_publisher(publisher);
        self.pair.on_subscriber(subscriber);
        assert_eq!(self.findings(), before, "after {row:#?}");
        row
    }

    /// Does what a remedy says where it says it.
    #[track_caller]
    pub(crate) fn paste(&self, row: &Row) {
        let remedy = row.text("remedy");
        let (node, sql) = remedy
            .split_once('\n')
            .expect("a line that names the server");
        match node {
            "-- on the publisher:" => self.pair.on_publisher(sql),
            "-- on the subscriber:" => {
                self.pair.on_subscriber(sql);
                let lines = sql.lines();
                for line in lines.filter_map(|line| line.strip_prefix("-- in a shell: ")) {
                    self.shell(line);
                }
            }
            _ => panic!("{row:#?}"),
        }
    }

    #[track_caller]
    fn shell(&self, line: &str) {
        let server = self.pair.subscriber().server();
        let psql = server.program("psql");
        let programs = psql.parent().expect("a directory").display().to_string();
        let output = server
            .user()
            .command(Path::new("/bin/sh"))
            .env("PATH", format!("{programs}:/usr/bin:/bin"))
            .args(["-c", line])
            .output()
            .expect("sh");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty(),
            "{line}: {errors}"
        );
    }
}

/// What has to hold of every line.
#[track_caller]
fn assert_sane(row: &Row) {
    assert!(
        ["error", "warning", "info", "ok"].contains(&row.text("severity")),
        "{row:#?}"
    );
    let finding = row.text("finding");
    assert!(
        finding.ends_with('.') && !finding.contains(char::is_control),
        "{row:#?}"
    );
    let object = row.get("object").unwrap_or_default();
    assert!(!object.contains(char::is_control), "{row:#?}");
    for line in row.get("remedy").unwrap_or_default().lines() {
        let starts = ["-- ", "ALTER ", "SELECT ", "CREATE ", "GRANT "];
        assert!(
            starts.iter().any(|start| line.starts_with(start)),
            "{row:#?}"
        );
    }
    if row.is("severity", "ok") {
        assert!(row.is_null("remedy"), "{row:#?}");
    }
}
