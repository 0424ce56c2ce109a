use super::super::WIDTH;
use super::super::facts::{Backfill, DerivedColumn, Report, Subscription, Table};
use super::lines;

const NOW: f64 = 1_800_000_000.0;
const MB: i64 = 1 << 20;

fn report(subscriptions: Vec<Subscription>) -> Report {
    Report {
        now: NOW,
        database: "shop".to_owned(),
        version: "0.1.0".to_owned(),
        server_version: "15.20 (Debian 15.20-0+deb12u1)".to_owned(),
        preloaded: true,
        sampled_at: Some(NOW - 2.0),
        watch_interval: 5.0,
        probing: true,
        subscriptions,
        ..Report::default()
    }
}

fn streaming(name: &str) -> Subscription {
    Subscription {
        provider: "native".to_owned(),
        subscription: name.to_owned(),
        state: "streaming".to_owned(),
        since: Some(NOW - 7800.0),
        publisher: Some("host=10.1.2.3 dbname=shop".to_owned()),
        tables_total: 42,
        tables_ready: 42,
        worker_pid: Some(12_345),
        lag_bytes: Some(0),
        lag: Some(0.0),
        slot_active: Some(true),
        retained_bytes: Some(56),
        asked_at: Some(NOW - 2.0),
        ..Subscription::default()
    }
}

fn in_state(name: &str, state: &str, cause: &str) -> Subscription {
    Subscription {
        state: state.to_owned(),
        cause: Some(cause.to_owned()),
        worker_pid: None,
        lag_bytes: None,
        lag: None,
        slot_active: None,
        retained_bytes: None,
        ..streaming(name)
    }
}

fn copying(name: &str) -> Subscription {
    Subscription {
        state: "copying".to_owned(),
        tables_ready: 3,
        copy_percent: Some(61.2),
        copy_bytes_per_second: Some(12.3 * MB as f64),
        copy_eta: Some(860.0),
        ..streaming(name)
    }
}

fn table(subscription: &str, name: &str, state: &str) -> Table {
    Table {
        provider: "native".to_owned(),
        subscription: subscription.to_owned(),
        name: name.to_owned(),
        state: state.to_owned(),
        ..Table::default()
    }
}

fn running(subscription: &str, name: &str) -> Table {
    Table {
        worker_pid: Some(99),
        rows_copied: Some(1_234_567),
        bytes_copied: Some(600 * MB),
        bytes_total: Some(1000 * MB),
        percent: Some(61.0),
        bytes_per_second: Some(12.0 * MB as f64),
        eta: Some(200.0),
        ..table(subscription, name, "copying data")
    }
}

fn column(relation: &str, state: &str) -> DerivedColumn {
    DerivedColumn {
        relation: relation.to_owned(),
        column: "loan_id".to_owned(),
        state: state.to_owned(),
        ..DerivedColumn::default()
    }
}

fn text(report: &Report) -> String {
    let lines = lines(report);
    for line in &lines {
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert!(!line.contains('\n') && line.trim_end() == line, "{line:?}");
    }
    lines.join("\n")
}

fn assert_contains(text: &str, expected: &str) {
    assert!(text.contains(expected), "{expected:?} is not in\n{text}");
}

#[test]
fn well_is_short() {
    let mut report = report(vec![streaming("sub")]);
    report.columns = vec![column("loan_app", "live")];
    assert_eq!(
        text(&report),
        "\
subscription  provider  state      for         lag       tables  worker
sub           native    streaming  2 h 10 min  0 B, 0 s   42/42   12345
derived columns: 1 live
All is well."
    );
}

#[test]
fn ages_that_nobody_knows_take_no_room() {
    let text = text(&report(vec![Subscription {
        since: None,
        ..streaming("sub")
    }]));
    assert_contains(&text, "state      lag       tables");
}

#[test]
fn an_old_error_is_mentioned_and_a_young_one_is_not_well() {
    let failed = |age: f64| {
        text(&report(vec![Subscription {
            last_error: Some("connection lost".to_owned()),
            last_error_at: Some(NOW - age),
            ..streaming("sub")
        }]))
    };
    let hours = failed(3.0 * 3600.0);
    assert_contains(
        &hours,
        "sub: last error 3 h ago: connection lost\nAll is well.",
    );
    assert!(!failed(10.0 * 86_400.0).contains("connection lost"));
    let seconds = failed(14.0);
    assert_contains(&seconds, "sub: last error 14 s ago: connection lost");
    assert_contains(&seconds, "Next: look into the server log");
    let minutes = failed(300.0);
    assert_contains(&minutes, "sub: last error 5 min ago: connection lost");
    assert_contains(&minutes, "Nothing has to be done: this goes on by itself.");
}

#[test]
fn a_copy_has_bars_and_goes_on_by_itself() {
    let mut report = report(vec![copying("orders"), streaming("sub")]);
    report.tables = vec![running("orders", "public.a_table")];
    report
        .tables
        .extend((0..39).map(|n| table("orders", &format!("public.t{n}"), "initialize")));
    report.tables_not_ready = 49;
    let text = text(&report);
    assert_contains(
        &text,
        "orders: copying, table 4 of 42, 61 %, 12 MB/s, 14 min left\n  \
         public.a_table  [############........]  61 %  1.2 M rows  12 MB/s  3 min left\n",
    );
    assert_contains(&text, "49 tables not ready, 1 of them above:");
    assert_contains(&text, "  orders, initialize: public.t0, public.t1,");
    assert_contains(
        &text,
        "  ... and 38 more: SELECT * FROM repl_tables WHERE state <> 'ready';\n",
    );
    assert!(text.ends_with("Nothing has to be done: this goes on by itself."));
}

#[test]
fn a_copy_without_totals_has_no_bar() {
    let mut report = report(vec![Subscription {
        copy_percent: None,
        copy_eta: None,
        ..copying("orders")
    }]);
    report.tables = vec![Table {
        rows_copied: None,
        percent: None,
        eta: None,
        ..running("orders", "public.a_table")
    }];
    report.tables_not_ready = 1;
    let text = text(&report);
    assert_contains(&text, "orders: copying, table 4 of 42, 12 MB/s\n");
    assert_contains(&text, "  public.a_table  600 MB of 1000 MB  12 MB/s\n");
    assert!(!text.contains("not ready"), "{text}");
}

#[test]
fn tables_in_trouble_come_first_with_their_error() {
    let mut report = report(vec![copying("orders")]);
    report.tables = vec![
        table("orders", "public.a", "initialize"),
        Table {
            last_error: Some("no such column".to_owned()),
            ..table("orders", "public.b", "copy interrupted")
        },
        table("orders", "public.c", "not subscribed"),
    ];
    report.tables_not_ready = 3;
    assert_contains(
        &text(&report),
        "3 tables not ready:\n  public.b  copy interrupted\n    no such column\n  \
         public.c  not subscribed\n  initialize: public.a\n",
    );
}

#[test]
fn remedies_come_last_each_once_and_pasteable() {
    let remedy =
        "-- on the publisher:\nSELECT pg_create_logical_replication_slot('a', 'pgoutput');";
    let report = report(vec![
        streaming("fine"),
        Subscription {
            remedy: Some("ALTER SUBSCRIPTION b ENABLE;".to_owned()),
            ..in_state("b", "disabled", "disabled")
        },
        Subscription {
            remedy: Some(remedy.to_owned()),
            last_error: Some("replication slot \"a\" does not exist".to_owned()),
            last_error_at: Some(NOW - 4.0),
            ..in_state("a", "retrying", "slot_missing")
        },
        Subscription {
            remedy: Some("ALTER SUBSCRIPTION b ENABLE;".to_owned()),
            ..in_state("c", "disabled", "disabled")
        },
    ]);
    let text = text(&report);
    assert!(
        text.starts_with(
            "shop, PostgreSQL 15.20, replwarden 0.1.0: 2 disabled, 1 retrying, 1 streaming\n"
        ),
        "{text}"
    );
    assert_contains(
        &text,
        "a: retrying, slot_missing: its replication slot is not on the publisher\n  \
         last error  4 s ago: replication slot \"a\" does not exist\n  \
         publisher   host=10.1.2.3 dbname=shop\n",
    );
    let expected = format!(
        "Next:\n  -- b and c:\n  ALTER SUBSCRIPTION b ENABLE;\n  -- a:\n  {}",
        remedy.replace('\n', "\n  ")
    );
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn a_warning_has_the_slot_with_it() {
    let text = text(&report(vec![Subscription {
        warning: Some("WAL piles up".to_owned()),
        retained_bytes: Some(41 << 30),
        safe_wal_size: Some(9 << 30),
        wal_status: Some("extended".to_owned()),
        ..streaming("sub")
    }]));
    assert_contains(
        &text,
        "sub: streaming\n  warning     WAL piles up\n  slot        keeps 41 GB of WAL on the publisher, 9.0 GB more \
         before it is lost, in use,\n              wal_status extended\n",
    );
    assert!(!text.contains("All is well"));
}

#[test]
fn derived_columns_and_backfills() {
    let mut report = report(vec![streaming("sub")]);
    report.columns = vec![
        column("a", "live"),
        column("b", "backfilling"),
        DerivedColumn {
            rows_failed: 17,
            last_error: Some("division by zero".to_owned()),
            last_error_at: Some(NOW - 1900.0),
            ..column("it's", "failing")
        },
    ];
    report.backfills = vec![
        Backfill {
            id: 9,
            relation: "b".to_owned(),
            state: "running".to_owned(),
            percent: Some(18.4),
            rows_per_second: Some(241_000.0),
            eta: Some(200.0),
            ..Backfill::default()
        },
        Backfill {
            id: 10,
            relation: "b".to_owned(),
            state: "queued".to_owned(),
            ..Backfill::default()
        },
    ];
    let text = text(&report);
    assert_contains(
        &text,
        "derived columns: 1 live, 1 backfilling, 1 failing\n  \
         it's.loan_id: failing, 17 rows NULL; last error 31 min ago: division by zero\n",
    );
    assert_contains(
        &text,
        "   9  b  [###.................]  18 %  241 k rows/s  3 min left\n  10  b  queued\n",
    );
    assert!(
        text.ends_with(
            "  -- it's, when its expression no longer fails:\n  SELECT repl_backfill('it''s');"
        ),
        "{text}"
    );
}

#[test]
fn what_is_not_known_is_said() {
    let unknown = Subscription {
        worker_pid: Some(1),
        cause: None,
        asked_at: None,
        ..in_state("sub", "streaming", "")
    };
    let mut report = report(vec![unknown]);
    let blind = "All is well, as far as the subscriber alone can tell.";
    let says = |report: &Report, expected: &str| {
        let text = text(report);
        // Folded as it may be.
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_contains(&words.join(" "), expected);
        assert!(text.ends_with(blind), "{text}");
        assert_eq!(text.matches("note: ").count(), 1, "{text}");
    };
    says(
        &report,
        "The publisher of sub has not answered replwarden yet,",
    );
    report.subscriptions[0].asked_at = Some(NOW - 200.0);
    says(&report, "sub has not answered replwarden for 3 min,");
    report.probing = false;
    says(&report, "(replwarden.probe_publisher is off)");
    report.probing = true;
    report.sampled_at = Some(NOW - 26.0);
    says(&report, "is not at work: it last looked 26 s ago.");
    report.sampled_at = None;
    says(&report, "has not looked at anything yet.");
    report.preloaded = false;
    says(&report, "set shared_preload_libraries = 'replwarden'");
}

#[test]
fn no_subscription_says_how_to_begin() {
    let text = text(&report(Vec::new()));
    assert!(text.starts_with("There is no subscription in database shop. "));
    assert_contains(&text, "  CREATE SUBSCRIPTION ");
    assert!(!text.contains("well"));
}

#[test]
fn many_subscriptions_have_a_line_each_and_few_details() {
    let many = (0..50)
        .map(|n| Subscription {
            remedy: Some(format!("ALTER SUBSCRIPTION s{n} ENABLE;")),
            ..in_state(&format!("s{n}"), "disabled", "disabled_on_error")
        })
        .collect();
    let text = text(&report(many));
    assert!(text.lines().count() < 110, "{text}");
    assert_contains(&text, "\ns49           native");
    assert_contains(&text, "... and 40 more: SELECT subscription, state, cause,");
    assert_contains(
        &text,
        "  -- ... and 40 more:\n  SELECT subscription, remedy",
    );
}

#[test]
fn one_name_of_two_providers_is_told_apart() {
    let pglogical = Subscription {
        provider: "pglogical".to_owned(),
        ..in_state("sub", "down", "initialization_failed")
    };
    let text = text(&report(vec![streaming("sub"), pglogical]));
    assert_contains(&text, "\nsub (pglogical): down, initialization_failed: ");
}

#[test]
fn whatever_the_names_are_lines_fit() {
    let long = format!("Schön \"Ünique\"\n{}", "x".repeat(80));
    let relation = format!("\"{long}\".\"{long}\"");
    let mut report = report(vec![
        Subscription {
            last_error: Some(long.repeat(20)),
            warning: Some(long.clone()),
            tables_total: 10_000,
            lag_bytes: Some(i64::MAX),
            lag: Some(1e9),
            since: Some(0.0),
            ..in_state(&long, "of_the_future", "which_nobody_knows")
        },
        Subscription {
            provider: "pglogical".to_owned(),
            ..copying(&long)
        },
    ]);
    report.database = long.clone();
    report.only = Some(long.clone());
    report.tables = vec![
        running(&long, &relation),
        table(&long, &relation, "of the future"),
        Table {
            last_error: Some(long.clone()),
            ..table(&long, &relation, "missing")
        },
    ];
    report.tables_not_ready = 12_345;
    report.columns = vec![
        DerivedColumn {
            column: long.clone(),
            last_error: Some(long.clone()),
            ..column(&relation, "failing")
        },
        column(&relation, "of_the_future"),
    ];
    report.backfills = vec![Backfill {
        relation: relation.clone(),
        state: "running".to_owned(),
        percent: Some(f64::NAN),
        error: Some(long.clone()),
        ..Backfill::default()
    }];
    // The assertions are in here.
    assert!(text(&report).lines().count() > 20);
    report.subscriptions.clear();
    assert!(!text(&report).is_empty());
}
