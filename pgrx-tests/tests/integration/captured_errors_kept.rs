//! Errors outlive the shared memory that they are first written to, and are all there when many come.

use std::collections::BTreeSet;

use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, SUBSCRIPTION, wait_for_value, wait_until,
};

use crate::captured_errors::{errors, wait_error};
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
