//! The report for people and the snapshot for programs.

use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, PairBuilder, Provider, SUBSCRIPTION, wait_for_value,
};

use crate::backfill_state::{Backfills, LARGE_ITEM};
use crate::database::{Database, lines};
use crate::loan::{self, insert, on_both_providers};
use crate::status::{self, Lock, Status};
use crate::status_connection::subscribe_offline;
use crate::status_publisher::{streaming_from, wait_asked_anew, wait_where};

on_both_providers!(
    report_is_short_when_all_is_well,
    report_of_a_disabled_subscription_has_the_remedy,
    report_says_when_nobody_watches,
    report_shows_derived_columns_that_fail,
    snapshot_says_what_the_views_say,
);

fn streaming(provider: Provider) -> Pair {
    streaming_from(status::builder(provider).start())
}

const WIDTH: usize = 100;

#[track_caller]
fn assert_fits(report: &[String]) {
    assert!(!report.is_empty());
    for line in report {
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert_eq!(line.trim_end(), line, "ends with a blank");
        assert!(!line.contains(['\n', '\t', '\r']), "{line:?}");
    }
}

#[track_caller]
fn assert_ascii(report: &[String]) {
    for line in report {
        assert!(line.is_ascii(), "{line}");
    }
}

/// The report about one subscription.
#[track_caller]
fn report_about(pair: &Pair, subscription: &str) -> Vec<String> {
    lines(
        &mut pair.subscriber().connect(pair.database()),
        &format!("select repl_status('{subscription}')"),
    )
}

/// Waits until the report has a line with all these parts.
#[track_caller]
fn wait_line(status: Status<'_>, parts: &[&str]) -> Vec<String> {
    wait_for_value(
        &format!("a line of the report has {parts:?}"),
        DEFAULT_DEADLINE,
        || status.report(),
        |report| {
            report
                .iter()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        },
    )
}

fn report_is_short_when_all_is_well(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_where(
        status,
        SUBSCRIPTION,
        "state = 'streaming' and lag_bytes = 0 and warning is null",
    );
    let report = wait_line(status, &[SUBSCRIPTION, "streaming"]);
    assert!(report.len() <= 6, "{report:#?}");
    let text = report.join("\n");
    assert!(!text.contains("Next"), "{text}");
    assert!(!text.contains("shared_preload_libraries"), "{text}");
    assert!(!text.contains("NULL"), "{text}");
    assert_fits(&report);
    assert_ascii(&report);
}

fn report_of_a_disabled_subscription_has_the_remedy(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    pair.disable();
    let row = status.wait_cause("disabled", Some("disabled"));
    let report = status.report();
    let text = report.join("\n");
    assert!(text.contains("Next"), "{text}");
    assert!(text.contains("disabled"), "{text}");
    // The report may break lines; each word of the remedy's first line is there.
    let remedy = row.text("remedy");
    for word in remedy.lines().next().expect("a line").split_whitespace() {
        assert!(text.contains(word), "{word} of {remedy}\n{text}");
    }
    pair.on_subscriber(remedy);
    status.wait_cause("streaming", None);
    assert_fits(&report);
    assert_ascii(&report);
}

/// The remedy can be pasted.
#[test]
fn remedy_of_a_disabled_subscription_with_an_odd_name() {
    let pair = streaming(Provider::Native);
    let status = Status::of(&pair);
    let name = "it's \"Odd\" \\ größer";
    pair.on_subscriber(&format!(
        "alter subscription sub rename to \"{}\"",
        name.replace('"', "\"\"")
    ));
    pair.on_subscriber(&format!(
        "alter subscription \"{}\" disable",
        name.replace('"', "\"\"")
    ));
    let row = wait_for_value(
        "the subscription is disabled",
        DEFAULT_DEADLINE,
        || status.subscriptions(),
        |rows| rows.len() == 1 && rows[0].is("state", "disabled"),
    )
    .remove(0);
    assert_eq!(row.text("subscription"), name);
    assert_fits(&status.report());
    assert!(status.report().join("\n").contains(name));
    assert_fits(&report_about(&pair, &name.replace('\'', "''")));
    pair.on_subscriber(row.text("remedy"));
    wait_for_value(
        "the subscription streams again",
        DEFAULT_DEADLINE,
        || status.subscriptions(),
        |rows| rows[0].is("state", "streaming"),
    );
}

fn report_says_when_nobody_watches(provider: Provider) {
    let pair = streaming_from(Pair::start(provider));
    let status = Status::of(&pair);
    let report = status.report();
    let text = report.join("\n");
    assert!(text.contains("shared_preload_libraries"), "{text}");
    assert!(
        text.contains(SUBSCRIPTION) && text.contains("streaming"),
        "{text}"
    );
    assert_fits(&report);
    assert_ascii(&report);
    let row = status.subscription();
    for column in ["publisher_lsn", "lag_bytes", "slot_active", "asked_at"] {
        assert!(row.is_null(column), "{column}: {row:?}");
    }
    assert_eq!(
        status.rows("select repl_snapshot() #>> '{installation,preloaded}' as preloaded")[0]
            .text("preloaded"),
        "false"
    );
}

#[test]
fn report_without_subscriptions() {
    let database = Database::new();
    let report = database.lines("select repl_status()");
    let text = report.join("\n").to_lowercase();
    assert!(text.contains("no subscription"), "{text}");
    assert!(report.len() <= 6, "{report:#?}");
    assert_fits(&report);
    assert_eq!(
        database.lines("select repl_snapshot() -> 'subscriptions', repl_snapshot() -> 'backfills'"),
        ["[]|[]"]
    );
}

#[test]
fn report_about_an_unknown_subscription_is_an_error() {
    let pair = streaming(Provider::Native);
    for name in ["nobody", "SUB", "", "it''s"] {
        let error = pair
            .subscriber()
            .expect_error(pair.database(), &format!("select repl_status('{name}')"));
        assert_eq!(error.code().code(), "42704", "{error:?}");
        assert!(
            error.message().contains(&name.replace("''", "'")),
            "{error:?}"
        );
        assert!(
            error.detail().is_some_and(|detail| !detail.is_empty()),
            "{error:?}"
        );
        assert!(
            error.hint().is_some_and(|hint| !hint.is_empty()),
            "{error:?}"
        );
    }
    assert!(!report_about(&pair, SUBSCRIPTION).is_empty());
}

#[test]
fn report_about_one_subscription_tells_of_no_other() {
    let pair = streaming(Provider::Native);
    let status = Status::of(&pair);
    subscribe_offline(&pair, "elsewhere", "host=127.0.0.1 port=1 user=postgres");
    wait_where(status, "elsewhere", "last_error is not null");
    let all = status.report().join("\n");
    assert!(
        all.contains("elsewhere") && all.contains("streaming"),
        "{all}"
    );
    let one = report_about(&pair, SUBSCRIPTION).join("\n");
    assert!(
        one.contains("streaming") && !one.contains("elsewhere"),
        "{one}"
    );
    let other = report_about(&pair, "elsewhere").join("\n");
    assert!(
        other.contains("elsewhere") && !other.contains("streaming"),
        "{other}"
    );
}

/// The error is as old as the last attempt.
#[test]
fn report_has_the_last_error_with_its_age() {
    let pair = streaming(Provider::Native);
    let status = Status::of(&pair);
    pair.on_subscriber("alter subscription sub connection 'host=127.0.0.1 port=1 user=postgres'");
    wait_where(status, SUBSCRIPTION, "last_error like '%refused%'");
    let report = status.report();
    let text = report.join("\n");
    assert!(text.contains("refused") && text.contains(" ago"), "{text}");
    assert!(text.contains("Next"), "{text}");
    assert_fits(&report);
}

fn report_shows_derived_columns_that_fail(provider: Provider) {
    let pair = loan::pair_with(status::builder(provider).start(), "text");
    loan::set_rule(&pair, "(100 / userid)::text", "null");
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("insert into loan_app (userid) values (10)");
    pair.wait_caught_up();
    let status = Status::of(&pair);
    let well = status.report().join("\n");
    assert!(!well.contains("division"), "{well}");
    pair.on_publisher("insert into loan_app (userid) values (0)");
    pair.wait_caught_up();
    let report = wait_line(status, &["failing"]);
    let text = report.join("\n");
    for word in ["loan_app", "loan_id", "division by zero"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_fits(&report);
    pair.on_subscriber("alter table loan_app disable trigger zzz_replwarden");
    let report = wait_line(status, &["broken"]);
    let text = report.join("\n");
    assert!(
        text.contains("loan_app") && text.contains("loan_id"),
        "{text}"
    );
    assert_fits(&report);
}

/// Settings with which a backfill takes minutes: it pauses after each few rows.
fn slow_backfill(pair: PairBuilder) -> PairBuilder {
    pair.subscriber_setting("replwarden.backfill_batch_time", "1")
        .subscriber_setting("replwarden.backfill_delay", "5000")
}

#[track_caller]
fn start_backfill(subscriber: &Cluster, database: &str) -> i64 {
    subscriber.execute(database, LARGE_ITEM);
    let backfills = Backfills::of(subscriber, database);
    let id = backfills.queue("select repl_set_expression('item', 'b', 'a * 2')");
    backfills.wait_in_the_middle(id);
    id
}

#[test]
fn report_shows_running_backfills() {
    let pair = streaming_from(slow_backfill(status::builder(Provider::Native)).start());
    let status = Status::of(&pair);
    let id = start_backfill(pair.subscriber(), pair.database());
    let report = wait_line(status, &["item", "[", "]", "%"]);
    assert_fits(&report);
    assert_ascii(&report);
    pair.on_subscriber(&format!("select repl_cancel_backfill({id})"));
    Backfills::of(pair.subscriber(), pair.database()).wait_ended(id);
    let text = status.report().join("\n");
    assert!(!text.contains('['), "{text}");
}

/// A name as long as names can be.
fn long(start: &str) -> String {
    format!("{start:_<63}")
}

#[test]
fn busy_report_fits_into_the_terminal() {
    let pair = slow_backfill(status::builder(Provider::Native)).start();
    let pair = loan::pair_with(pair, "text");
    loan::set_rule(&pair, "(100 / userid)::text", "null");
    insert(&pair, 1, 100);
    let table = format!("\"{}\".\"{}\"", long("Some Schema"), long("Some Table"));
    pair.on_both(&format!(
        "create schema \"{}\"; create table {table} (id int primary key)",
        long("Some Schema")
    ));
    pair.on_publisher(&format!("alter publication pub add table {table}"));
    pair.on_publisher(&format!("insert into {table} values (1)"));
    // A copy that never succeeds.
    pair.on_subscriber(&format!("insert into {table} values (1)"));
    pair.subscribe();
    for number in 0..3 {
        let directory = format!("/nonexistent/{}", "d".repeat(80));
        subscribe_offline(
            &pair,
            &long(&format!("far_{number}")),
            &format!("host={directory} user={} dbname={}", long("u"), long("d")),
        );
    }
    pair.on_subscriber(&format!("alter subscription {} enable", long("far_0")));
    let status = Status::of(&pair);
    start_backfill(pair.subscriber(), pair.database());
    pair.on_publisher("insert into loan_app (userid) values (0)");
    for number in 0..3 {
        wait_where(
            status,
            &long(&format!("far_{number}")),
            "last_error is not null",
        );
    }
    wait_where(status, &long("far_0"), "state = 'retrying'");
    let report = wait_line(status, &["failing"]);
    assert_fits(&report);
    assert_ascii(&report);
    for name in [SUBSCRIPTION, &long("far_0")] {
        let report = report_about(&pair, name);
        assert_fits(&report);
        assert_ascii(&report);
    }
    // Lines are not cut where that would hide which subscription it is.
    let text = report.join("\n");
    for number in 0..3 {
        assert!(text.contains(&format!("far_{number}")), "{text}");
    }
}

/// Keys of the snapshot, and of which type they are.
const KEYS: [&str; 13] = [
    "backfills|array",
    "generated_columns|array",
    "installation|object",
    "installation.database|string",
    "installation.preloaded|boolean",
    "installation.probe_publisher|boolean",
    "installation.sampled_at|string",
    "installation.server_version|string",
    "installation.version|string",
    "subscriptions|array",
    "tables|array",
    "taken_at|string",
    "workers|array",
];

fn snapshot_says_what_the_views_say(provider: Provider) {
    let pair = slow_backfill(status::builder(provider)).start();
    let pair = loan::pair_with(pair, "text");
    loan::set_rule(&pair, loan::EXPRESSION, "fail");
    insert(&pair, 1, 100);
    // A table that is not ready for the time being.
    let _lock = Lock::on_subscriber(&pair, "loan_app");
    pair.subscribe();
    let status = Status::of(&pair);
    wait_where(status, SUBSCRIPTION, "publisher_lsn is not null");
    start_backfill(pair.subscriber(), pair.database());
    let mut client = pair.subscriber().connect(pair.database());
    assert_eq!(
        lines(
            &mut client,
            "with snapshot as materialized (select repl_snapshot() as s)
             select key collate \"C\", jsonb_typeof(value) from snapshot, jsonb_each(s)
             union all
             select 'installation.' || key, jsonb_typeof(value) from snapshot, jsonb_each(s -> 'installation')
             order by 1"
        ),
        KEYS
    );
    assert_eq!(
        lines(
            &mut client,
            "with snapshot as materialized (select repl_snapshot() as s)
             select (s ->> 'taken_at')::timestamptz <= clock_timestamp(),
                    s #>> '{installation,database}' = current_database(),
                    s #>> '{installation,version}' = (select extversion from pg_extension where extname = 'replwarden'),
                    s #>> '{installation,server_version}' = split_part(current_setting('server_version'), ' ', 1),
                    s #>> '{installation,preloaded}', s #>> '{installation,probe_publisher}',
                    (s #>> '{installation,sampled_at}')::timestamptz <= clock_timestamp()
               from snapshot"
        ),
        ["t|t|t|t|true|true|t"]
    );
    // Something changes all the time; that both are the same once is enough.
    for (key, rows) in [
        ("subscriptions", "repl_subscriptions v"),
        ("tables", "repl_tables v where state <> 'ready'"),
        ("workers", "repl_workers v"),
        ("generated_columns", "repl_generated_columns v"),
        (
            "backfills",
            "repl_backfills v where state in ('queued', 'running')",
        ),
    ] {
        let sql = format!(
            "select (select jsonb_pretty(jsonb_agg(e order by e)) from jsonb_array_elements(repl_snapshot() -> '{key}') e)
                        as snapshot,
                    (select jsonb_pretty(jsonb_agg(to_jsonb(v) order by to_jsonb(v))) from {rows}) as view"
        );
        wait_for_value(
            &format!("{key} of the snapshot are the rows of {rows}"),
            DEFAULT_DEADLINE,
            || status.rows(&sql).remove(0),
            |row| !row.is_null("view") && row.get("snapshot") == row.get("view"),
        );
    }
}

#[test]
fn snapshot_has_no_tables_that_are_ready() {
    let pair = streaming(Provider::Native);
    let status = Status::of(&pair);
    wait_asked_anew(status, SUBSCRIPTION);
    assert_eq!(status.tables().len(), 1);
    assert_eq!(
        status.rows("select repl_snapshot() -> 'tables' as tables")[0].text("tables"),
        "[]"
    );
}
