//! What `repl_diagnose()` and `repl_subscriptions` say of the same trouble, and doing what they say.

use std::path::Path;

use postgres::Client;
use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, PairBuilder, Provider, SUBSCRIPTION, wait_for_value,
};

use crate::status::{self, Row, Status, read};

/// A native pair whose subscriber watches it.
pub(crate) fn builder() -> PairBuilder {
    status::builder(Provider::Native)
}

/// A pair that streams the table `item`.
pub(crate) fn streaming() -> Pair {
    status::streaming(builder().start())
}

/// As [`streaming`], where what stands still so long, `timeout`, is a stall.
pub(crate) fn streaming_with_stall_timeout(timeout: &str) -> Pair {
    let builder = builder().subscriber_setting("replwarden.stall_timeout", timeout);
    status::streaming(builder.start())
}

/// Columns of `repl_diagnose()` and parts of its evidence, beside state, cause and remedy of `repl_subscriptions`.
const BOTH: &str = "
    select s.state, s.cause as shown_cause, s.remedy as shown_remedy, f.subscription, f.severity, f.cause, f.finding,
           f.evidence, f.remedy, f.evidence ->> 'nature' as nature, f.evidence #>> '{error,sqlstate}' as sqlstate
      from repl_subscriptions s left join lateral repl_diagnose(s.subscription) f on true";

/// What both say of a subscription.
#[track_caller]
pub(crate) fn found(status: Status<'_>, subscription: &str) -> Vec<Row> {
    let rows = status.rows(&format!(
        "{BOTH} where s.subscription = '{}'",
        subscription.replace('\'', "''")
    ));
    for row in &rows {
        assert_sane(row);
    }
    rows
}

/// What has to hold of whatever is found.
#[track_caller]
fn assert_sane(row: &Row) {
    let finding = row.text("finding");
    assert!(
        finding.ends_with('.') && !finding.contains(char::is_control),
        "{row:#?}"
    );
    assert!(
        ["info", "warning", "critical"].contains(&row.text("severity")),
        "{row:#?}"
    );
    assert!(row.text("evidence").starts_with('{'), "{row:#?}");
    for line in row.get("remedy").unwrap_or_default().lines() {
        let is_sql = [
            "--",
            "ALTER ",
            "SELECT ",
            "DROP SUBSCRIPTION ",
            "GRANT ",
            "SET synchronous_commit ",
            "BEGIN READ WRITE; ALTER ",
        ];
        assert!(
            is_sql.iter().any(|start| line.starts_with(start)),
            "{line}: {row:#?}"
        );
    }
}

/// Waits until the subscription that [`Pair::subscribe`] makes is in that state for that cause, in both.
#[track_caller]
pub(crate) fn wait_found(status: Status<'_>, state: &str, cause: &str) -> Row {
    wait_found_of(status, SUBSCRIPTION, state, cause)
}

#[track_caller]
pub(crate) fn wait_found_of(
    status: Status<'_>,
    subscription: &str,
    state: &str,
    cause: &str,
) -> Row {
    // What has to be done is the same; one of them may have looked a moment later.
    let kind = |remedy: Option<&str>| remedy.map(|text| text.split(' ').next().map(str::to_owned));
    let is_it = |row: &Row| {
        row.is("state", state)
            && row.is("shown_cause", cause)
            && row.is("cause", cause)
            && kind(row.get("remedy")) == kind(row.get("shown_remedy"))
    };
    wait_for_value(
        &format!("subscription {subscription} is found to be {state} for {cause}"),
        DEFAULT_DEADLINE,
        || found(status, subscription),
        |rows| rows.iter().any(is_it),
    )
    .into_iter()
    .find(is_it)
    .expect("accepted")
}

/// Waits until something is found besides what explains the state.
#[track_caller]
pub(crate) fn wait_besides(status: Status<'_>, cause: &str) -> Row {
    wait_for_value(
        &format!("{cause} is found"),
        DEFAULT_DEADLINE,
        || found(status, SUBSCRIPTION),
        |rows| rows.iter().any(|row| row.is("cause", cause)),
    )
    .into_iter()
    .find(|row| row.is("cause", cause))
    .expect("accepted")
}

/// `nature` is empty where nobody can tell.
#[track_caller]
pub(crate) fn assert_found(row: &Row, severity: &str, nature: &str, said: &[&str]) {
    assert!(row.is("severity", severity), "{row:#?}");
    assert_eq!(row.get("nature").unwrap_or_default(), nature, "{row:#?}");
    for part in said {
        assert!(row.text("finding").contains(part), "{part}: {row:#?}");
    }
}

/// A part of the evidence, as text.
#[track_caller]
pub(crate) fn evidence(status: Status<'_>, row: &Row, path: &str) -> Option<String> {
    let sql = format!(
        "select $evidence${}$evidence$::jsonb #>> '{{{path}}}' as part",
        row.text("evidence")
    );
    status.rows(&sql)[0].get("part").map(str::to_owned)
}

/// Nothing is found but that all is well.
#[track_caller]
pub(crate) fn wait_well(status: Status<'_>) -> Row {
    wait_for_value(
        "nothing is found to be wrong",
        DEFAULT_DEADLINE,
        || found(status, SUBSCRIPTION),
        |rows| {
            rows.len() == 1
                && rows[0].is("state", "streaming")
                && rows[0].is("severity", "info")
                && rows[0].is_null("cause")
        },
    )
    .remove(0)
}

/// Does what a remedy says, as it stands: line by line, on the node that it names.
#[track_caller]
pub(crate) fn paste(pair: &Pair, row: &Row) {
    let remedy = row.text("remedy");
    let mut publisher = pair.publisher().connect(pair.database());
    let mut subscriber = pair.subscriber().connect(pair.database());
    for line in remedy.lines() {
        let client: &mut Client = match line.find("-- on the publisher") {
            Some(_) => &mut publisher,
            None => &mut subscriber,
        };
        read(client, line);
    }
    drop((publisher, subscriber));
    if remedy.contains("restart the server") {
        pair.subscriber().restart();
    }
}

/// The statement in a comment of the remedy that begins so.
#[track_caller]
pub(crate) fn commented(row: &Row, beginning: &str) -> String {
    let remedy = row.text("remedy");
    let start = remedy
        .find(beginning)
        .unwrap_or_else(|| panic!("no {beginning} in {row:#?}"));
    // What is in quotes does not end it.
    let mut quote = None;
    let end = remedy[start..].find(|letter: char| {
        match quote {
            Some(one) if one == letter => quote = None,
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            _ => {}
        }
        letter == ';' && quote.is_none()
    });
    let end = end.unwrap_or_else(|| panic!("{beginning} does not end: {row:#?}"));
    remedy[start..start + end].to_owned()
}

/// Everything arrives, also what comes now, and nothing is found any more.
#[track_caller]
pub(crate) fn assert_goes_on(pair: &Pair) {
    pair.on_publisher("insert into item select max(id) + 1, 'later' from item");
    pair.wait_copied();
    pair.wait_caught_up();
    pair.compare(
        "select id, note from item order by id",
        "select id, note from item order by id",
    );
    wait_well(Status::of(pair));
}

/// A process of the cluster that stands still until this is dropped.
pub(crate) struct Stopped<'a> {
    cluster: &'a Cluster,
    pid: i32,
}

impl<'a> Stopped<'a> {
    #[track_caller]
    pub(crate) fn process(cluster: &'a Cluster, pid: i32) -> Self {
        let stopped = Self { cluster, pid };
        assert!(stopped.signal("STOP"), "process {pid} is not there");
        stopped
    }

    fn signal(&self, name: &str) -> bool {
        let mut command = self.cluster.server().user().command(Path::new("sh"));
        let sent = command
            .args(["-c", &format!("kill -{name} {}", self.pid)])
            .status();
        sent.is_ok_and(|status| status.success())
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

#[test]
fn healthy_subscription_gives_one_line() {
    let pair = streaming();
    let status = Status::of(&pair);
    let row = wait_well(status);
    assert!(row.is_null("remedy"), "{row:#?}");
    assert_eq!(row.text("subscription"), SUBSCRIPTION);
    let rows = status.rows("select * from repl_diagnose()");
    assert_eq!(rows.len(), 1, "{rows:#?}");
}

#[test]
fn database_without_a_subscription_gives_none() {
    let pair = status::pair(Provider::Native);
    let rows = Status::of(&pair).rows("select * from repl_diagnose()");
    assert!(rows.is_empty(), "{rows:#?}");
}

#[test]
fn what_is_worst_comes_first() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_subscriber(&format!(
        "create subscription another connection '{}' publication pub with (copy_data = false)",
        pair.publisher().conninfo(pair.database())
    ));
    pair.on_subscriber("alter table item add check (id <> 9)");
    pair.on_subscriber("alter subscription another disable");
    pair.on_publisher("insert into item values (9)");
    wait_found(status, "retrying", "check_violation");
    let rows = status.rows("select * from repl_diagnose()");
    let order: Vec<&str> = rows.iter().map(|row| row.text("severity")).collect();
    assert_eq!(order, ["critical", "info"], "{rows:#?}");
    let rows = status.rows("select * from repl_diagnose('another')");
    assert!(
        rows.len() == 1 && rows[0].is("cause", "disabled"),
        "{rows:#?}"
    );
}
