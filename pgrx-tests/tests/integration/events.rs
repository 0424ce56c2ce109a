//! Events of the worker of a database: what begins, and that it has ended, once each; as a row, as a notification, as a line
//! of the log.

use std::time::Duration;

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, SUBSCRIPTION, ShutdownMode, wait_for_value, wait_until,
};

use crate::database::lines;
use crate::loan::on_both_providers;
use crate::status::{self, Lock, Row, Status};

on_both_providers!(
    stall_begins_and_ends,
    publisher_that_is_stopped_and_started,
    subscription_that_is_disabled_by_hand,
    event_is_told_on_the_channel_and_in_the_log,
);

/// A streaming pair on which a lock is a stall soon.
pub(crate) fn impatient(provider: Provider) -> Pair {
    status::streaming(
        status::builder(provider)
            .subscriber_setting("replwarden.stall_timeout", "2s")
            .start(),
    )
}

/// All events in their order. `at` and `began` are in seconds.
#[track_caller]
pub(crate) fn events(status: Status<'_>) -> Vec<Row> {
    status.rows(
        "select *, detail ->> 'seconds' as seconds, detail ->> 'previous_cause' as previous_cause,
                detail ->> 'provider' as provider, detail ->> 'finding' as finding, detail ->> 'remedy' as remedy,
                extract(epoch from occurred_at) as at, extract(epoch from (detail ->> 'since')::timestamptz) as began
           from repl_events order by id",
    )
}

/// Those that begin or end something besides a copy or a lag, which may come with every start.
#[track_caller]
pub(crate) fn troubles(status: Status<'_>) -> Vec<Row> {
    let mut rows = events(status);
    rows.retain(|row| {
        let word = row.text("event");
        !word.starts_with("copying")
            && !word.starts_with("catching_up")
            && row.is_null("previous_cause")
    });
    rows
}

#[track_caller]
pub(crate) fn words(status: Status<'_>) -> Vec<String> {
    let rows = troubles(status).into_iter();
    rows.map(|row| row.text("event").to_owned()).collect()
}

/// Waits until there is such an event, and returns the last.
#[track_caller]
pub(crate) fn wait_event(status: Status<'_>, word: &str) -> Row {
    wait_events(status, word, 1).pop().expect("there is one")
}

/// Waits until there are so many.
#[track_caller]
pub(crate) fn wait_events(status: Status<'_>, word: &str, number: usize) -> Vec<Row> {
    let mut rows = wait_for_value(
        &format!("there are {number} events {word}"),
        DEFAULT_DEADLINE,
        || troubles(status),
        |rows| rows.iter().filter(|row| row.is("event", word)).count() >= number,
    );
    rows.retain(|row| row.is("event", word));
    rows
}

/// The worker has looked so often that what it would tell again had come.
#[track_caller]
pub(crate) fn assert_words(status: Status<'_>, expected: &[&str]) {
    for _ in 0..3 {
        status.wait_looked();
    }
    assert_eq!(words(status), expected, "{:#?}", events(status));
}

/// An end is of the whole length of what has begun.
#[track_caller]
pub(crate) fn assert_whole(begin: &Row, end: &Row) {
    let (began, ended) = (begin.number("began"), end.number("at"));
    let seconds = end.number("seconds");
    assert!(seconds >= 0.0, "{end:?}");
    assert!(
        (ended - began - seconds).abs() < 0.11,
        "{began} to {ended} is not {seconds} s: {begin:#?} {end:#?}"
    );
    assert!(end.is("severity", "info"), "{end:?}");
    for column in ["subscription", "provider", "cause"] {
        assert_eq!(begin.get(column), end.get(column), "{column}: {end:?}");
    }
}

pub(crate) fn name_of(provider: Provider) -> &'static str {
    match provider {
        Provider::Native => "native",
        Provider::Pglogical => "pglogical",
    }
}

fn stall_begins_and_ends(provider: Provider) {
    let pair = impatient(provider);
    let status = Status::of(&pair);
    status.wait_state("streaming");
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (10)");
    let begin = wait_event(status, "stalled");
    assert!(
        begin.is("cause", "lock_wait")
            && begin.is("severity", "critical")
            && begin.is("subscription", SUBSCRIPTION)
            && begin.is("provider", name_of(provider)),
        "{begin:#?}"
    );
    assert!(begin.text("finding").contains(&lock.pid), "{begin:#?}");
    assert!(begin.text("remedy").contains(&lock.pid), "{begin:#?}");
    let sql = "select detail #>> '{evidence,blocked_by}' as pids from repl_events where event = 'stalled'";
    let rows = status.rows(sql);
    assert!(rows[0].is("pids", &format!("[{}]", lock.pid)), "{begin:#?}");
    assert_words(status, &["stalled"]);
    drop(lock);
    let end = wait_event(status, "stalled_ended");
    assert_whole(&begin, &end);
    assert!(end.number("seconds") > 0.0, "{end:?}");
    assert_words(status, &["stalled", "stalled_ended"]);
    for text in [
        "is stalled (lock_wait): ",
        "is no longer stalled (lock_wait), after ",
    ] {
        let line = format!("LOG:  replwarden: subscription \"sub\" {text}");
        let log = pair.subscriber().log();
        assert_eq!(log.matches(&line).count(), 1, "{line}");
    }
}

fn publisher_that_is_stopped_and_started(provider: Provider) {
    let pair = status::streaming(status::builder(provider).start());
    let status = Status::of(&pair);
    status.wait_state("streaming");
    pair.publisher().stop(ShutdownMode::Fast);
    let begin = wait_event(status, "retrying");
    assert!(begin.is("severity", "warning"), "{begin:#?}");
    assert_words(status, &["retrying"]);
    status.wait_cause("retrying", Some("publisher_unreachable"));
    pair.publisher().start();
    if provider == Provider::Pglogical {
        // Spares the test its growing pauses.
        pair.on_subscriber("select repl_restart_worker('sub')");
    }
    status.wait_state("streaming");
    let end = wait_event(status, "retrying_ended");
    assert!(end.is("cause", "publisher_unreachable"), "{end:#?}");
    let length = end.number("at") - begin.number("began");
    assert!((length - end.number("seconds")).abs() < 0.11, "{end:#?}");
    status.wait_looked();
    let mut words = words(status);
    words.retain(|word| word != "worker_restarted");
    assert_eq!(words, ["retrying", "retrying_ended"]);
    // What it was put down to was known at once or a little later, and never changes to and fro.
    let causes = events(status);
    let changes = causes.iter().filter(|row| !row.is_null("previous_cause"));
    assert!(changes.count() <= 2, "{causes:#?}");
}

fn subscription_that_is_disabled_by_hand(provider: Provider) {
    let pair = status::streaming(status::builder(provider).start());
    let status = Status::of(&pair);
    status.wait_state("streaming");
    pair.disable();
    let begin = wait_event(status, "disabled");
    assert!(
        begin.is("cause", "disabled") && begin.is("severity", "info"),
        "{begin:#?}"
    );
    assert!(!begin.is_null("remedy"), "{begin:#?}");
    assert_words(status, &["disabled"]);
    pair.on_subscriber(begin.text("remedy"));
    let end = wait_event(status, "disabled_ended");
    assert_whole(&begin, &end);
    assert_words(status, &["disabled", "disabled_ended"]);
}

/// Two native subscriptions and a place for one worker: whose worker is gone, and does not come again, is down.
#[test]
fn worker_that_stays_away() {
    let pair = status::with_item(
        status::builder(Provider::Native)
            .subscriber_setting("max_logical_replication_workers", "1")
            .start(),
    );
    pair.subscribe_without_copy();
    pair.apply_worker_pid();
    let status = Status::of(&pair);
    status.wait_state("streaming");
    pair.on_subscriber(&format!(
        "create subscription other connection '{}' publication pub with (slot_name = 'other', copy_data = false)",
        pair.publisher().conninfo(pair.database())
    ));
    let begin = wait_event(status, "down");
    assert!(
        begin.is("subscription", "other")
            && begin.is("cause", "worker_pool_exhausted")
            && begin.is("severity", "critical"),
        "{begin:#?}"
    );
    // The launcher takes subscriptions as they stand in the catalog, and this puts one to the end.
    pair.on_subscriber("alter subscription sub set (synchronous_commit = 'local')");
    let taken = || {
        let sql =
            "select count(*) from pg_stat_subscription where pid is not null and subname = 'other'";
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), sql)
            == 1
    };
    wait_until("the other one has the place", DEFAULT_DEADLINE, || {
        let sql = "select pg_terminate_backend(pid) from pg_stat_subscription
                    where pid is not null and subname = 'sub'";
        pair.subscriber().rows_text(pair.database(), sql);
        taken()
    });
    let rows = wait_events(status, "down", 2);
    assert!(rows[1].is("subscription", SUBSCRIPTION), "{rows:#?}");
    assert!(rows[1].is("cause", "worker_pool_exhausted"), "{rows:#?}");
    let end = wait_event(status, "down_ended");
    assert!(end.is("subscription", "other"), "{end:#?}");
    pair.on_subscriber("alter subscription other disable");
    let ends = wait_events(status, "down_ended", 2);
    assert!(ends[1].is("subscription", SUBSCRIPTION), "{ends:#?}");
    assert_whole(&rows[1], &ends[1]);
    assert_eq!(wait_events(status, "down", 2).len(), 2);
}

/// Waits for the notification of an event with that value, and returns it with the payload as it came.
#[track_caller]
fn wait_payload(
    status: Status<'_>,
    listener: &mut Client,
    key: &str,
    value: &str,
) -> (Row, String) {
    let mut found = None;
    wait_until("the listener has heard of it", DEFAULT_DEADLINE, || {
        let mut notifications = listener.notifications();
        let mut come = notifications.timeout_iter(Duration::from_millis(100));
        while let Some(one) = come.next().expect("the connection lasts") {
            assert_eq!(one.channel(), "replwarden");
            let payload = one.payload().to_owned();
            let row = status.rows(&format!(
                "select p.*, detail ->> 'finding' as finding, detail ->> 'seconds' as seconds,
                        detail -> 'evidence' as evidence
                   from jsonb_to_record('{}') as p (id text, event text, cause text, severity text,
                                                    subscription text, detail jsonb)",
                payload.replace('\'', "''")
            ));
            let row = row.into_iter().next().expect("it is an object");
            if row.is(key, value) {
                found = Some((row, payload));
            }
        }
        found.is_some()
    });
    found.expect("found above")
}

fn event_is_told_on_the_channel_and_in_the_log(provider: Provider) {
    let pair = status::streaming(status::builder(provider).start());
    let status = Status::of(&pair);
    status.wait_state("streaming");
    let mut listener = pair.subscriber().connect(pair.database());
    lines(&mut listener, "listen replwarden");
    pair.disable();
    let (_, payload) = wait_payload(status, &mut listener, "event", "disabled");
    // It is the row of the view.
    let rows = status.rows(&format!(
        "select count(*) as number from repl_events e where to_jsonb(e) = '{}'::jsonb",
        payload.replace('\'', "''")
    ));
    assert!(rows[0].is("number", "1"), "{payload}");
    let line = "LOG:  replwarden: subscription \"sub\" is disabled: Somebody has disabled it";
    wait_until("the log tells it", DEFAULT_DEADLINE, || {
        pair.subscriber().log().contains(line)
    });
    pair.enable();
    let (end, _) = wait_payload(status, &mut listener, "event", "disabled_ended");
    assert!(end.number("seconds") > 0.0, "{end:#?}");
    assert_eq!(pair.subscriber().log().matches(line).count(), 1);
}

/// What does not fit into a notification is left out of it, and is in the table.
#[test]
fn event_that_is_too_long_for_the_channel() {
    let pair = status::streaming(status::builder(Provider::Native).start());
    let status = Status::of(&pair);
    status.wait_state("streaming");
    let mut listener = pair.subscriber().connect(pair.database());
    lines(&mut listener, "listen replwarden");
    // Each letter takes two bytes.
    let names: Vec<String> = (100..300)
        .map(|n| format!("\"{}{n}\"", "ö".repeat(30)))
        .collect();
    pair.on_subscriber(&format!(
        "alter subscription sub set publication pub, {} with (refresh = false)",
        names.join(", ")
    ));
    let (told, payload) = wait_payload(status, &mut listener, "cause", "publication_missing");
    assert!(payload.len() < 8000, "{} bytes", payload.len());
    let rows = events(status);
    let row = rows.iter().find(|row| row.get("id") == told.get("id"));
    let row = row.expect("it is in the table");
    assert!(row.text("detail").len() > 8000, "{row:#?}");
    assert!(told.is_null("evidence"), "{told:#?}");
    for column in ["event", "cause", "severity", "subscription", "finding"] {
        assert_eq!(told.get(column), row.get(column), "{column}");
    }
    pair.on_subscriber("alter subscription sub set publication pub with (refresh = false)");
    let ended = format!("{}_ended", row.text("event"));
    wait_payload(status, &mut listener, "event", &ended);
}
