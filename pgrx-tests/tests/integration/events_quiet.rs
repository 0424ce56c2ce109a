//! What is no event: a healthy pair, a worker that is restarted in passing, the hundredth repetition of an error. And what a
//! look at a healthy pair costs.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_for_value, wait_until};

use crate::control::wait_new_worker;
use crate::database::lines;
use crate::events::{assert_whole, events, troubles, wait_event, words};
use crate::loan::on_both_providers;
use crate::status::{self, Status};

on_both_providers!(healthy_pair_is_no_event, quiet_look_writes_nothing,);

/// A pair whose worker looks ten times a second, and on which nothing else happens.
fn quiet(provider: Provider) -> Pair {
    status::streaming(
        status::builder(provider)
            .subscriber_setting("replwarden.watch_interval", "100ms")
            .subscriber_setting("autovacuum", "off")
            .subscriber_setting("checkpoint_timeout", "1d")
            .start(),
    )
}

/// Waits until the worker of the database has looked so often.
#[track_caller]
pub(crate) fn wait_looks(pair: &Pair, number: usize) {
    let mut client = pair.subscriber().connect(pair.database());
    let (mut last, mut seen) = (Vec::new(), 0);
    wait_until(
        &format!("the worker has looked {number} times"),
        DEFAULT_DEADLINE,
        || {
            let now = lines(
                &mut client,
                "select repl_snapshot() #>> '{installation,sampled_at}'",
            );
            if now != last {
                seen += 1;
                last = now;
            }
            seen > number
        },
    );
}

fn healthy_pair_is_no_event(provider: Provider) {
    let pair = quiet(provider);
    let status = Status::of(&pair);
    status.wait_state("streaming");
    // Rows now and then are no reason either.
    for id in 10..15 {
        wait_looks(&pair, 60);
        pair.on_publisher(&format!("insert into item values ({id})"));
        pair.wait_caught_up();
        assert!(troubles(status).is_empty(), "{:#?}", events(status));
    }
}

/// Position in the WAL and next transaction id.
fn position(pair: &Pair) -> Vec<Option<String>> {
    let sql = "select pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())";
    pair.subscriber().rows_text(pair.database(), sql).concat()
}

fn quiet_look_writes_nothing(provider: Provider) {
    let pair = quiet(provider);
    let status = Status::of(&pair);
    status.wait_state("streaming");
    pair.on_subscriber("checkpoint");
    // The server itself writes a little after a checkpoint, once.
    wait_for_value(
        "nothing is written over many looks",
        DEFAULT_DEADLINE,
        || {
            let before = position(&pair);
            wait_looks(&pair, 60);
            (before, position(&pair))
        },
        |(before, after)| before == after,
    );
    assert!(troubles(status).is_empty(), "{:#?}", events(status));
}

/// A worker that ends because its subscription was altered comes again within two looks.
#[test]
fn altered_subscription_is_no_event() {
    let pair = status::streaming(
        status::builder(Provider::Native)
            .subscriber_setting("replwarden.watch_interval", "1s")
            .start(),
    );
    let status = Status::of(&pair);
    status.wait_state("streaming");
    for binary in [true, false, true, false, true] {
        let before = pair.apply_worker_pid();
        pair.on_subscriber(&format!("alter subscription sub set (binary = {binary})"));
        wait_new_worker(&pair, before);
        status.wait_looked();
    }
    pair.on_publisher("insert into item values (10)");
    pair.wait_caught_up();
    status.wait_looked();
    status.wait_looked();
    assert!(troubles(status).is_empty(), "{:#?}", events(status));
}

#[test]
fn error_that_comes_again_and_again_is_one_event() {
    let pair = status::streaming(
        status::builder(Provider::Native)
            .subscriber_setting("replwarden.watch_interval", "100ms")
            .start(),
    );
    let status = Status::of(&pair);
    status.wait_state("streaming");
    pair.on_subscriber("insert into item values (10)");
    pair.on_publisher("insert into item values (10)");
    let begin = wait_event(status, "retrying");
    wait_until("it has come a hundred times", DEFAULT_DEADLINE, || {
        let sql =
            "select coalesce(max(occurrences), 0)::int8 from repl_errors where sqlstate = '23505'";
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), sql)
            >= 100
    });
    wait_looks(&pair, 50);
    assert_eq!(words(status), ["retrying"], "{:#?}", events(status));
    let row = status.wait_cause("retrying", Some("duplicate_key"));
    assert!(row.text("remedy").contains("DELETE FROM"), "{row:#?}");
    pair.on_subscriber("delete from item where id = 10");
    pair.wait_caught_up();
    let end = wait_event(status, "retrying_ended");
    assert!(end.is("cause", "duplicate_key"), "{end:#?}");
    if begin.is("cause", "duplicate_key") {
        assert_whole(&begin, &end);
        assert!(begin.is("severity", "critical"), "{begin:#?}");
    }
    wait_looks(&pair, 50);
    assert_eq!(
        words(status),
        ["retrying", "retrying_ended"],
        "{:#?}",
        events(status)
    );
    // What it was put down to may have been found out a moment after it began.
    assert!(events(status).len() <= 6, "{:#?}", events(status));
}
