//! Errors outlive the shared memory that they are first written to, and are all there when many come.

use std::collections::BTreeSet;

use postgres::Client;
use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, SUBSCRIPTION, wait_for_value, wait_until,
};

use crate::captured_errors::{errors, wait_error};
use crate::captured_errors_storm::copier;
use crate::status::{Status, builder, streaming};

/// Places in memory; no fewer are allowed.
const SLOTS: &str = "16";
/// Errors, no two of them the same.
const MANY: usize = 60;

#[track_caller]
fn wait_no_worker(pair: &Pair) {
    wait_until("no worker is left", DEFAULT_DEADLINE, || {
        pair.subscriber().query_one_value::<i64>(
            "postgres",
            "select count(*) from pg_stat_activity where backend_type = 'logical replication worker'",
        ) == 0
    });
}

/// The messages of the errors that the server log has.
fn logged(pair: &Pair) -> BTreeSet<String> {
    let log = pair.subscriber().log();
    log.lines()
        .filter_map(|line| line.split_once("ERROR:  refused at "))
        .map(|(_, rest)| format!("refused at {rest}"))
        .collect()
}

/// Those of `repl_errors`.
#[track_caller]
fn shown(pair: &Pair) -> BTreeSet<String> {
    let rows = errors(Status::of(pair));
    let refused: Vec<_> = rows
        .iter()
        .filter(|row| row.text("message").starts_with("refused at "))
        .collect();
    assert!(
        refused
            .iter()
            .all(|row| row.is("occurrences", "1") && row.is("subscription", SUBSCRIPTION)),
        "{refused:#?}"
    );
    let messages: BTreeSet<String> = refused
        .iter()
        .map(|row| row.text("message").to_owned())
        .collect();
    assert_eq!(messages.len(), refused.len());
    messages
}

#[test]
fn more_errors_than_places() {
    // Slowly enough for a worker that looks ten times a second to see them all.
    let pair = streaming(
        builder(Provider::Native)
            .subscriber_setting("replwarden.error_slots", SLOTS)
            .subscriber_setting("replwarden.watch_interval", "100ms")
            .subscriber_setting("wal_retrieve_retry_interval", "100ms")
            .start(),
    );
    pair.on_subscriber(
        "create function refuse() returns trigger language plpgsql as
           $$ begin raise exception 'refused at %', clock_timestamp(); end $$;
         create trigger refuse before insert on item for each row execute function refuse();
         alter table item enable always trigger refuse",
    );
    pair.on_publisher("insert into item values (3)");
    wait_for_value(
        "there were many errors",
        DEFAULT_DEADLINE,
        || logged(&pair).len(),
        |number| *number >= MANY,
    );
    pair.disable();
    wait_no_worker(&pair);
    let logged = logged(&pair);
    wait_for_value(
        "all of them are written down",
        DEFAULT_DEADLINE,
        || {
            pair.subscriber().query_one_value::<i64>(
                pair.database(),
                "select count(*) from _repl_errors where error ->> 'message' like 'refused at %'",
            )
        },
        |number| *number == logged.len() as i64,
    );
    assert_eq!(shown(&pair), logged);
    pair.subscriber().kill();
    pair.subscriber().start();
    assert_eq!(shown(&pair), logged);
    Status::of(&pair).wait_looked();
    assert_eq!(shown(&pair), logged);
    pair.subscriber().restart();
    assert_eq!(shown(&pair), logged);
    Status::of(&pair).wait_looked();
    assert_eq!(shown(&pair), logged);
}

#[test]
fn number_of_repeats_outlives_the_server() {
    let pair = streaming(
        builder(Provider::Native)
            .subscriber_setting("wal_retrieve_retry_interval", "20ms")
            .start(),
    );
    let status = Status::of(&pair);
    pair.on_subscriber("insert into item values (3)");
    pair.on_publisher("insert into item values (3)");
    wait_error(status, "a duplicate key, again and again", |row| {
        row.is("sqlstate", "23505") && row.number("occurrences") >= 30.0
    });
    pair.on_subscriber("delete from item where id = 3");
    pair.wait_caught_up();
    let the_error = || {
        let mut rows = errors(status);
        rows.retain(|row| row.is("sqlstate", "23505"));
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows.remove(0)
    };
    let before = the_error();
    wait_for_value(
        "the last number is written down",
        DEFAULT_DEADLINE,
        || {
            pair.subscriber().query_one_value::<String>(
                pair.database(),
                "select error ->> 'occurrences' from _repl_errors where error ->> 'sqlstate' = '23505'",
            )
        },
        |number| before.is("occurrences", number),
    );
    pair.subscriber().restart();
    let after = the_error();
    for column in ["occurrences", "occurred_at", "first_occurred_at", "pid"] {
        assert_eq!(after.get(column), before.get(column), "{column}");
    }
}

/// Errors with these texts, of a session that the hook takes for one of pglogical.
fn raise(copier: &mut Client, texts: impl IntoIterator<Item = String>) {
    for text in texts {
        let sql = format!(
            "do $$ begin raise exception using errcode = 'RW003', message = '{text}'; end $$"
        );
        let error = copier.batch_execute(&sql).expect_err("it raises");
        assert_eq!(error.code().expect("of the server").code(), "RW003");
    }
}

/// So many errors that are different from all others, which are then written down.
#[track_caller]
fn raise_others(pair: &Pair, copier: &mut Client, numbers: std::ops::Range<i64>) {
    let number = numbers.end;
    raise(copier, numbers.map(|number| format!("other {number}")));
    wait_for_value(
        "the other errors are written down",
        DEFAULT_DEADLINE,
        || {
            pair.subscriber().query_one_value::<i64>(
                pair.database(),
                "select count(*) from _repl_errors where error ->> 'message' like 'other %'",
            )
        },
        |written| *written >= number,
    );
}

/// How often an error has come, as far as it is written down.
fn written(pair: &Pair, message: &str) -> i64 {
    pair.subscriber().query_one_value(
        pair.database(),
        &format!("select coalesce(sum((error ->> 'occurrences')::bigint), 0)::bigint from _repl_errors where error ->> 'message' = '{message}'"),
    )
}

fn losses(pair: &Pair) -> i64 {
    pair.subscriber().query_one_value(
        pair.database(),
        "select count(*) from repl_events where event = 'errors_overwritten'",
    )
}

#[test]
fn error_that_goes_on_while_others_take_its_place() {
    let pair = streaming(
        builder(Provider::Pglogical)
            .subscriber_setting("replwarden.error_slots", SLOTS)
            .start(),
    );
    let mut copier = copier(pair.subscriber(), pair.database());
    let again = |times| std::iter::repeat_n("again".to_owned(), times);
    raise(&mut copier, again(1));
    wait_until("it is written down", DEFAULT_DEADLINE, || {
        written(&pair, "again") == 1
    });
    // Most of its occurrences are seen before its place is taken.
    raise(&mut copier, again(5));
    raise_others(&pair, &mut copier, 0..12);
    raise_others(&pair, &mut copier, 12..24);
    // None of these is, unless the machine is slow.
    raise(&mut copier, again(1));
    raise_others(&pair, &mut copier, 24..36);
    raise(&mut copier, again(20));
    raise_others(&pair, &mut copier, 36..48);
    wait_for_value(
        "all of its occurrences are written down",
        DEFAULT_DEADLINE,
        || written(&pair, "again"),
        |number| *number == 27,
    );
    let rows = errors(Status::of(&pair));
    let again = rows.iter().filter(|row| row.is("message", "again"));
    let occurrences: Vec<_> = again.map(|row| row.text("occurrences")).collect();
    assert_eq!(occurrences, ["6", "21"]);
    assert_eq!(losses(&pair), 0);
    // What cannot be seen is told.
    let mut number = 48;
    wait_until("it is told that errors were lost", DEFAULT_DEADLINE, || {
        raise(
            &mut copier,
            (number..number + 100).map(|number| format!("other {number}")),
        );
        number += 100;
        losses(&pair) == 1
    });
}
