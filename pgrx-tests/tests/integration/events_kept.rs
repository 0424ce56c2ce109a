//! What goes on is told once over ends of the worker and of the server, and nothing that happens meanwhile is lost.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, ShutdownMode, wait_until};

use crate::database::lines;
use crate::events::{
    assert_whole, assert_words, events, impatient, troubles, wait_event, wait_events, words,
};
use crate::loan::on_both_providers;
use crate::status::{self, Lock, Status};
use crate::workers::wait_for_workers;

on_both_providers!(
    disabled_over_a_restart_of_the_server,
    disabled_over_a_kill_of_the_server,
    disabled_over_the_death_of_the_worker,
    trouble_that_ends_while_the_server_is_down,
    nothing_is_lost_while_events_cannot_be_written,
);

fn streaming(provider: Provider) -> Pair {
    let pair = status::streaming(status::builder(provider).start());
    Status::of(&pair).wait_state("streaming");
    pair
}

/// Another worker looks after the database.
#[track_caller]
pub(crate) fn replace_worker(pair: &Pair) {
    let database = pair.database();
    let before = wait_for_workers(pair.subscriber(), &[database]);
    pair.on_subscriber(&format!("select pg_terminate_backend({})", before[0]));
    wait_until("there is another worker", DEFAULT_DEADLINE, || {
        wait_for_workers(pair.subscriber(), &[database]) != before
    });
}

fn goes_on_over(provider: Provider, interruption: impl Fn(&Pair)) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    pair.disable();
    let begin = wait_event(status, "disabled");
    interruption(&pair);
    assert_words(status, &["disabled"]);
    interruption(&pair);
    pair.enable();
    let end = wait_event(status, "disabled_ended");
    assert_whole(&begin, &end);
    assert_words(status, &["disabled", "disabled_ended"]);
    assert_eq!(open(&pair), 0);
}

/// Episodes that go on.
fn open(pair: &Pair) -> i64 {
    let sql = "select count(*) from _repl_events where is_open";
    pair.subscriber().query_one_value(pair.database(), sql)
}

fn disabled_over_a_restart_of_the_server(provider: Provider) {
    goes_on_over(provider, |pair| pair.subscriber().restart());
}

fn disabled_over_a_kill_of_the_server(provider: Provider) {
    goes_on_over(provider, |pair| {
        // Replication commits asynchronously; a commit that does not flushes what came before it.
        pair.on_subscriber("create table flushed (); drop table flushed");
        pair.subscriber().kill();
        pair.subscriber().start();
    });
}

fn disabled_over_the_death_of_the_worker(provider: Provider) {
    goes_on_over(provider, replace_worker);
}

fn trouble_that_ends_while_the_server_is_down(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    pair.publisher().stop(ShutdownMode::Immediate);
    let begin = wait_event(status, "retrying");
    pair.subscriber().stop(ShutdownMode::Fast);
    pair.publisher().start();
    pair.subscriber().start();
    status.wait_state("streaming");
    let end = wait_event(status, "retrying_ended");
    let length = end.number("at") - begin.number("began");
    assert!((length - end.number("seconds")).abs() < 0.11, "{end:#?}");
    assert_words(status, &["retrying", "retrying_ended"]);
    assert_eq!(open(&pair), 0);
}

fn nothing_is_lost_while_events_cannot_be_written(provider: Provider) {
    let pair = impatient(provider);
    let status = Status::of(&pair);
    status.wait_state("streaming");
    let mut holder = pair.subscriber().connect(pair.database());
    lines(
        &mut holder,
        "begin; lock table _repl_events in access exclusive mode",
    );
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (10)");
    status.wait_cause("stalled", Some("lock_wait"));
    status.wait_looked();
    drop(lock);
    status.wait_state("streaming");
    // An end is certain after ten seconds, and the lock lasts longer.
    wait_until("the end is certain", DEFAULT_DEADLINE, || {
        let sql = "select since < now() - interval '15 s' from repl_subscriptions";
        pair.subscriber()
            .query_one_value::<bool>(pair.database(), sql)
    });
    status.wait_looked();
    lines(&mut holder, "rollback");
    let begin = wait_event(status, "stalled");
    let end = wait_event(status, "stalled_ended");
    assert_whole(&begin, &end);
    assert!(begin.is("cause", "lock_wait"), "{begin:#?}");
    assert_words(status, &["stalled", "stalled_ended"]);
    let log = pair.subscriber().log();
    let line = "replwarden: subscription \"sub\" is stalled";
    assert_eq!(log.matches(line).count(), 1);
    // What it cannot do is said, and not at each look.
    let failures = log.matches("could not write down what was seen").count();
    assert!(failures <= 2, "{failures}");
}

/// A look that finds a subscription disabled reads the events, too, and must not be kept from it for ever.
#[test]
fn disabled_while_events_cannot_be_read() {
    let pair = streaming(Provider::Native);
    let status = Status::of(&pair);
    let mut holder = pair.subscriber().connect(pair.database());
    lines(
        &mut holder,
        "begin; lock table _repl_events in access exclusive mode",
    );
    pair.disable();
    let waiting = "select count(*) from pg_stat_activity
                    where backend_type = 'replwarden worker' and wait_event_type = 'Lock'";
    wait_until("the worker waits for the table", DEFAULT_DEADLINE, || {
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), waiting)
            == 1
    });
    lines(&mut holder, "rollback");
    wait_event(status, "disabled");
    assert_words(status, &["disabled"]);
}

#[test]
fn old_events_are_deleted_and_what_goes_on_stays() {
    let pair = status::streaming(
        status::builder(Provider::Native)
            .subscriber_setting("replwarden.event_retention", "1min")
            .start(),
    );
    let status = Status::of(&pair);
    status.wait_state("streaming");
    pair.disable();
    wait_event(status, "disabled");
    pair.enable();
    wait_event(status, "disabled_ended");
    pair.disable();
    let rows = wait_events(status, "disabled", 2);
    // The last one is as old as the others.
    pair.on_subscriber("update _repl_events set occurred_at = occurred_at - interval '2 minutes'");
    replace_worker(&pair);
    wait_until("old events are gone", DEFAULT_DEADLINE, || {
        !words(status).contains(&"disabled_ended".to_owned())
    });
    let left = troubles(status);
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0].text("id"), rows[1].text("id"));
    assert_words(status, &["disabled"]);
    // When it began is known all the same.
    pair.enable();
    let end = wait_event(status, "disabled_ended");
    assert_whole(&rows[1], &end);
    assert_words(status, &["disabled", "disabled_ended"]);
    // Younger ones are not touched.
    replace_worker(&pair);
    status.wait_looked();
    assert!(
        words(status).contains(&"disabled_ended".to_owned()),
        "{:#?}",
        events(status)
    );
}
