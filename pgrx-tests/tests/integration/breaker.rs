//! The crash loop that made this project: pglogical, and a generated column on the subscriber. It is broken, and mended.

use std::path::Path;

use postgres::SimpleQueryMessage;
use replwarden_tests::{Cluster, DEFAULT_DEADLINE, Pair, Provider, wait_for_value, wait_until};

use crate::loan::{self, ALL_ROWS, EXPRESSION};
use crate::status::{self, Row, Status};

/// Crashes that are a loop, as the setting has it.
pub(crate) const THRESHOLD: usize = 3;

/// How often a process of the server has been ended by a signal.
pub(crate) fn crashes(cluster: &Cluster) -> usize {
    cluster.log().matches("was terminated by signal").count()
}

/// The first value of an answer, as text; none while the server is down, or if the answer has no row.
fn ask(cluster: &Cluster, database: &str, sql: &str) -> Option<String> {
    let answer = cluster.try_connect(database).ok()?.simple_query(sql).ok()?;
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

fn is_enabled_sql(pair: &Pair) -> &'static str {
    match pair.provider() {
        Provider::Native => {
            "select subenabled from pg_subscription
              where subdbid = (select oid from pg_database where datname = current_database())"
        }
        Provider::Pglogical => "select sub_enabled from pglogical.subscription",
    }
}

/// For a server that is up.
#[track_caller]
pub(crate) fn is_enabled(pair: &Pair) -> bool {
    pair.subscriber()
        .query_one_value(pair.database(), is_enabled_sql(pair))
}

/// While the server may be down.
#[track_caller]
pub(crate) fn wait_disabled(pair: &Pair) {
    wait_until("the subscription is disabled", DEFAULT_DEADLINE, || {
        ask(pair.subscriber(), pair.database(), is_enabled_sql(pair))
            .is_some_and(|enabled| enabled == "f")
    });
}

/// Sends a signal that ends a process at once.
#[track_caller]
pub(crate) fn send(cluster: &Cluster, signal: &str, pid: i32) {
    let mut command = cluster.server().user().command(Path::new("/bin/sh"));
    let status = command
        .args(["-c", &format!("kill -s {signal} {pid}")])
        .status()
        .expect("the shell runs");
    assert!(status.success(), "kill -s {signal} {pid}: {status}");
}

/// Ends a process with SIGSEGV, and returns when the server has restarted itself for that.
#[track_caller]
pub(crate) fn crash(cluster: &Cluster, pid: i32) {
    const READY: &str = "database system is ready to accept connections";
    let starts = |cluster: &Cluster| cluster.log().matches(READY).count();
    let before = starts(cluster);
    send(cluster, "SEGV", pid);
    wait_until("the server has restarted itself", DEFAULT_DEADLINE, || {
        starts(cluster) > before && cluster.try_connect("postgres").is_ok()
    });
}

/// Waits until replwarden is at work again after a crash, and has decided whether there is a loop to be broken.
#[track_caller]
pub(crate) fn wait_at_work(pair: &Pair) {
    wait_until("the launcher runs", DEFAULT_DEADLINE, || {
        let sql = "select pid from pg_stat_activity where backend_type = 'replwarden launcher' and application_name <> 'replwarden breaker'";
        ask(pair.subscriber(), "postgres", sql).is_some()
    });
}

/// As [`wait_at_work`], until the worker of the database has looked, too.
#[track_caller]
pub(crate) fn wait_watched(pair: &Pair) {
    wait_at_work(pair);
    Status::of(pair).wait_looked();
}

/// The events with a word, in their order.
#[track_caller]
pub(crate) fn events(pair: &Pair, word: &str) -> Vec<Row> {
    Status::of(pair).rows(&format!(
        "select subscription, severity, cause, detail ->> 'remedy' as remedy, detail ->> 'finding' as finding,
                detail ->> 'provider' as provider, detail #>> '{{evidence,signal}}' as signal,
                detail #>> '{{evidence,crashes}}' as crashes, detail #>> '{{evidence,pid}}' as pid
           from repl_events where event = '{word}' order by id"
    ))
}

/// Waits for so many events with a word.
#[track_caller]
pub(crate) fn wait_events(pair: &Pair, word: &str, number: usize) -> Vec<Row> {
    wait_for_value(
        &format!("there are {number} events {word}"),
        DEFAULT_DEADLINE,
        || events(pair, word),
        |rows| rows.len() >= number,
    )
}

/// The server goes on while the worker of the database looks twenty times.
#[track_caller]
pub(crate) fn assert_stays_up(pair: &Pair, expected: usize) {
    let up_since = "select backend_start from pg_stat_activity where backend_type = 'checkpointer'";
    wait_at_work(pair);
    let before = ask(pair.subscriber(), pair.database(), up_since);
    assert!(before.is_some(), "the server is down");
    for _ in 0..10 {
        // Twice each time.
        Status::of(pair).wait_looked();
    }
    assert_eq!(ask(pair.subscriber(), pair.database(), up_since), before);
    assert_eq!(crashes(pair.subscriber()), expected);
}

/// With a generated column on both sides and rows that are copied: pglogical crashes at the first row that it streams.
pub(crate) fn looping(pair: Pair) -> Pair {
    let kind = format!("text generated always as ({EXPRESSION}) stored");
    let pair = loan::pair_with(pair, &kind);
    loan::insert(&pair, 1, 100);
    pair.subscribe();
    pair.wait_copied();
    // pglogical commits asynchronously: without that, the crash would undo the copy.
    pair.on_subscriber("checkpoint");
    pair
}

/// All rows have arrived, each with its loan_id.
#[track_caller]
pub(crate) fn assert_rows(pair: &Pair, rows: i64) {
    loan::assert_all_right(pair);
    let wrong = format!("loan_id is distinct from {EXPRESSION}");
    let counts = Status::of(pair).rows(&format!(
        "select count(*) as rows, count(*) filter (where {wrong}) as wrong from loan_app"
    ));
    let counts = &counts[0];
    assert!(
        counts.is("rows", &rows.to_string()) && counts.is("wrong", "0"),
        "{counts:?}"
    );
}

/// From the first row that crashes to the last one that arrives.
fn broken_and_mended(libraries: &str) {
    let pair = looping(
        status::builder(Provider::Pglogical)
            .subscriber_setting("shared_preload_libraries", libraries)
            .start(),
    );
    let status = Status::of(&pair);
    loan::insert(&pair, 101, 200);
    wait_disabled(&pair);
    assert_stays_up(&pair, THRESHOLD);

    let broken = wait_events(&pair, "crash_loop_broken", 1);
    let [event] = broken.as_slice() else {
        panic!("{broken:?}");
    };
    assert!(
        event.is("subscription", "sub")
            && event.is("provider", "pglogical")
            && event.is("severity", "critical")
            && event.is("cause", "crash_loop")
            && event.is("signal", "11")
            && event.is("crashes", &THRESHOLD.to_string()),
        "{event:?}"
    );
    let remedy = event.text("remedy");
    assert!(
        remedy.contains("repl_adopt_generated(") && remedy.contains("repl_enable("),
        "{remedy}"
    );
    let crashed = wait_events(&pair, "worker_crashed", THRESHOLD);
    assert_eq!(crashed.len(), THRESHOLD, "{crashed:?}");
    for row in &crashed {
        assert!(
            row.is("subscription", "sub")
                && row.is("signal", "11")
                && row.is("severity", "warning"),
            "{row:?}"
        );
    }
    let log = pair.subscriber().log();
    for word in ["crash_loop_broken", "worker_crashed"] {
        let line = log
            .lines()
            .find(|line| line.contains("LOG:  replwarden: ") && line.contains(word));
        assert!(line.is_some(), "the server log does not tell of {word}");
    }

    let row = status.wait_cause("disabled", Some("crash_loop"));
    assert!(row.is("enabled", "f"), "{row:?}");
    assert!(
        row.text("remedy").contains("repl_adopt_generated("),
        "{row:?}"
    );
    let report = status.report().join("\n");
    for part in [
        "disabled",
        "sub",
        "repl_adopt_generated(",
        "repl_enable('sub')",
    ] {
        assert!(report.contains(part), "no {part} in\n{report}");
    }
    let found = status.rows("select * from repl_diagnose('sub')");
    assert!(
        found[0].is("severity", "critical") && found[0].is("cause", "crash_loop"),
        "{found:?}"
    );

    pair.on_subscriber(remedy);
    assert_rows(&pair, 200);
    pair.compare(ALL_ROWS, ALL_ROWS);
    assert_stays_up(&pair, THRESHOLD);
}

#[test]
fn loop_is_broken_with_pglogical_before_replwarden() {
    broken_and_mended("pglogical, replwarden");
}

#[test]
fn loop_is_broken_with_replwarden_before_pglogical() {
    broken_and_mended("replwarden, pglogical");
}

/// The remedy that the view shows does the same as that of the event.
#[test]
fn remedy_of_the_view_mends_it_too() {
    let pair = looping(status::builder(Provider::Pglogical).start());
    loan::insert(&pair, 101, 200);
    wait_disabled(&pair);
    wait_watched(&pair);
    let row = Status::of(&pair).wait_subscription("shows what mends it", |row| {
        row.is("state", "disabled")
            && row
                .get("remedy")
                .is_some_and(|remedy| remedy.contains("repl_adopt_generated("))
    });
    pair.on_subscriber(row.text("remedy"));
    assert_rows(&pair, 200);
    assert_eq!(crashes(pair.subscriber()), THRESHOLD);
}

#[test]
fn enabled_again_unmended_it_is_broken_at_the_first_crash() {
    let pair = looping(
        status::builder(Provider::Pglogical)
            // However slow the machine is.
            .subscriber_setting("replwarden.crash_loop_window", "1h")
            .start(),
    );
    loan::insert(&pair, 101, 200);
    wait_disabled(&pair);
    wait_watched(&pair);
    pair.on_subscriber("select repl_enable('sub')");
    wait_until("it has crashed again", DEFAULT_DEADLINE, || {
        crashes(pair.subscriber()) > THRESHOLD
    });
    wait_disabled(&pair);
    assert_stays_up(&pair, THRESHOLD + 1);
    let broken = wait_events(&pair, "crash_loop_broken", 2);
    assert!(
        broken[1].is("crashes", &(THRESHOLD + 1).to_string()),
        "{broken:?}"
    );
    pair.on_subscriber(broken[1].text("remedy"));
    assert_rows(&pair, 200);
    assert_eq!(crashes(pair.subscriber()), THRESHOLD + 1);
}

/// pglogical gives the same number to subscriptions of one name in two databases.
#[test]
fn subscription_of_another_database_goes_on() {
    let guilty = looping(status::builder(Provider::Pglogical).start());
    let innocent = loan::pair_with(guilty.beside(Provider::Pglogical, "other"), "text");
    loan::set_rule(&innocent, EXPRESSION, "fail");
    innocent.subscribe();
    innocent.wait_copied();
    guilty.on_subscriber("checkpoint");
    loan::insert(&innocent, 1, 100);
    loan::insert(&guilty, 101, 200);
    loan::insert(&innocent, 101, 200);
    wait_disabled(&guilty);
    assert_stays_up(&guilty, THRESHOLD);
    assert!(is_enabled(&innocent));
    loan::insert(&innocent, 201, 300);
    assert_rows(&innocent, 300);
    assert_eq!(events(&guilty, "crash_loop_broken").len(), 1);
    for word in ["crash_loop_broken", "worker_crashed"] {
        let told = events(&innocent, word);
        assert!(told.is_empty(), "{told:?}");
    }
    Status::of(&innocent).wait_state("streaming");
}
