//! Events are part of a database: who may read them, what becomes of them in a dump and with the extension.

use postgres::error::SqlState;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_until};

use crate::database::{STRANGER, create_roles, lines};
use crate::dump_restore::run_on;
use crate::events::{assert_words, events, wait_event, words};
use crate::loan::on_both_providers;
use crate::status::{self, Lock, Status};
use crate::workers::wait_for_workers;

on_both_providers!(
    extension_that_is_dropped_and_created_while_much_goes_on,
    monitors_read_events_and_nobody_writes_them,
);

const MONITOR: &str = "monitor";

/// A stall and an error that comes again and again, both with an event.
fn troubled(provider: Provider) -> (Pair, Lock) {
    let pair = status::streaming(
        status::builder(provider)
            .subscriber_setting("replwarden.stall_timeout", "300ms")
            .start(),
    );
    let status = Status::of(&pair);
    status.wait_state("streaming");
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (10)");
    wait_event(status, "stalled");
    (pair, lock)
}

fn extension_that_is_dropped_and_created_while_much_goes_on(provider: Provider) {
    let (pair, lock) = troubled(provider);
    let status = Status::of(&pair);
    pair.on_subscriber("drop extension replwarden");
    wait_for_workers(pair.subscriber(), &[]);
    let log = pair.subscriber().log().len();
    pair.on_subscriber("create extension replwarden");
    // It knows nothing of what was before, and tells what it finds.
    let begin = wait_event(status, "stalled");
    assert!(begin.is("cause", "lock_wait"), "{begin:#?}");
    assert_words(status, &["stalled"]);
    drop(lock);
    wait_event(status, "stalled_ended");
    assert_words(status, &["stalled", "stalled_ended"]);
    for _ in 0..3 {
        pair.on_subscriber("drop extension replwarden; create extension replwarden");
    }
    status.wait_state("streaming");
    pair.disable();
    wait_event(status, "disabled");
    let log = pair.subscriber().log().split_off(log);
    let ours = log
        .lines()
        .filter(|line| line.contains("replwarden worker"));
    let errors: Vec<&str> = ours.filter(|line| line.contains("ERROR")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// As `role`, in a session that it has from the start.
fn as_role(role: &str, sql: &str) -> String {
    format!("set session authorization {role}; {sql}")
}

fn monitors_read_events_and_nobody_writes_them(provider: Provider) {
    let pair = status::streaming(status::builder(provider).start());
    let status = Status::of(&pair);
    create_roles(pair.subscriber());
    pair.on_subscriber(&format!("create role {MONITOR} login in role pg_monitor"));
    status.wait_state("streaming");
    pair.disable();
    wait_event(status, "disabled");
    let sql = as_role(
        MONITOR,
        "select event from repl_events where event = 'disabled'",
    );
    let mut client = pair.subscriber().connect(pair.database());
    assert_eq!(lines(&mut client, &sql), ["disabled"]);
    for (role, sql) in [
        (STRANGER, "table repl_events"),
        (STRANGER, "table _repl_events"),
        (MONITOR, "table _repl_events"),
        (STRANGER, "select * from repl_diagnose()"),
        (STRANGER, "select _repl_findings('sub')"),
    ] {
        denied(&pair, role, sql);
    }
    for role in [STRANGER, MONITOR] {
        for sql in [
            "delete from repl_events",
            "update repl_events set severity = 'info'",
            "insert into repl_events (event) values ('none')",
            "delete from _repl_events",
            "truncate _repl_events",
            "insert into _repl_events (occurred_at, provider, severity, event, detail)
                 values (now(), 'native', 'info', 'none', '{}')",
            "select nextval('_repl_events_id_seq')",
        ] {
            denied(&pair, role, sql);
        }
    }
}

#[track_caller]
fn denied(pair: &Pair, role: &str, sql: &str) {
    let error = pair
        .subscriber()
        .expect_error(pair.database(), &as_role(role, sql));
    assert_eq!(
        error.code(),
        &SqlState::INSUFFICIENT_PRIVILEGE,
        "{role}: {sql}: {error:?}"
    );
}

/// They tell of subscriptions of this server, and stay with it.
#[test]
fn dump_and_restore_of_a_database_with_events_and_errors() {
    let pair = status::streaming(status::builder(Provider::Native).start());
    let status = Status::of(&pair);
    status.wait_state("streaming");
    pair.on_subscriber("insert into item values (10)");
    pair.on_publisher("insert into item values (10)");
    wait_event(status, "retrying");
    wait_until("the error is written down", DEFAULT_DEADLINE, || {
        let sql = "select count(*) from _repl_errors";
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), sql)
            > 0
    });
    let subscriber = pair.subscriber();
    let dump = run_on(
        subscriber,
        pair.database(),
        "pg_dump",
        &["--no-subscriptions"],
        b"",
    );
    subscriber.execute("postgres", "create database restored");
    run_on(
        subscriber,
        "restored",
        "psql",
        &["-X", "-q", "-v", "ON_ERROR_STOP=1"],
        &dump,
    );
    let restored = Status::on(subscriber, "restored");
    wait_for_workers(subscriber, &["restored", pair.database()]);
    restored.wait_looked();
    assert!(events(restored).is_empty(), "{:#?}", events(restored));
    let errors = restored.rows("select * from repl_errors");
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(
        subscriber.query_one_value::<i64>("restored", "select count(*) from item"),
        3
    );
    assert_eq!(words(status), ["retrying"]);
}
