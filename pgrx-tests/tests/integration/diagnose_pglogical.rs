//! What is found to be wrong with subscriptions of pglogical, and doing what the remedy says.

use std::fs;

use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, Publication, RELAUNCH_DEADLINE, ShutdownMode, wait_for_value,
    wait_until,
};

use crate::captured_errors::wait_error;
use crate::database::lines;
use crate::diagnose::{
    assert_found, assert_goes_on, commented, found, paste, wait_besides, wait_found,
};
use crate::events::{events, troubles, wait_event};
use crate::status::{self, Row, Status, builder, with_item};

fn streaming() -> Pair {
    let pair = status::streaming(builder(Provider::Pglogical).start());
    Status::of(&pair).wait_state("streaming");
    pair
}

/// Spares a test the pause that pglogical makes after failures.
#[track_caller]
fn restart_worker(pair: &Pair) {
    pair.on_subscriber("select repl_restart_worker('sub')");
}

#[test]
fn subscription_that_is_disabled() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.disable();
    let row = wait_found(status, "disabled", "disabled");
    assert_found(&row, "info", "", &["Somebody has disabled it"]);
    paste(&pair, &row);
    assert_goes_on(&pair);
}

#[test]
fn publisher_that_is_down() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.publisher().stop(ShutdownMode::Fast);
    let row = wait_found(status, "retrying", "publisher_unreachable");
    assert_found(&row, "warning", "transient", &["does not answer"]);
    assert!(row.text("remedy").starts_with("--"), "{row:#?}");
    pair.publisher().start();
    restart_worker(&pair);
    assert_goes_on(&pair);
}

/// Servers without that list do not refuse any.
#[test]
fn output_plugin_that_the_publisher_refuses() {
    let pair = streaming();
    let status = Status::of(&pair);
    let list = "select count(*) from pg_settings where name = 'output_plugin_libraries'";
    if pair.publisher().query_one_value::<i64>("postgres", list) == 0 {
        return;
    }
    pair.publisher()
        .set("output_plugin_libraries", "pgoutput, test_decoding");
    restart_worker(&pair);
    let row = wait_found(status, "retrying", "output_plugin_refused");
    assert_found(&row, "critical", "deterministic", &["pglogical_output"]);
    paste(&pair, &row);
    let sql = "show output_plugin_libraries";
    wait_until("the publisher allows it", DEFAULT_DEADLINE, || {
        let allowed = pair.publisher().query_one_value::<String>("postgres", sql);
        allowed.contains("pglogical_output") && allowed.contains("test_decoding")
    });
    restart_worker(&pair);
    assert_goes_on(&pair);
    let begin = wait_event(status, "retrying");
    wait_event(status, "retrying_ended");
    let told = events(status);
    let is_told = |row: &Row| row.is("cause", "output_plugin_refused");
    assert!(told.iter().any(is_told), "{begin:#?} {told:#?}");
}

#[test]
fn start_that_cannot_be_taken_up_again() {
    let pair = builder(Provider::Pglogical).start();
    pair.on_publisher("create table item (id int primary key, note text)");
    pair.on_publisher("insert into item values (1), (2)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    let status = Status::of(&pair);
    let row = wait_found(status, "down", "initialization_failed");
    assert_found(&row, "critical", "deterministic", &["created anew"]);
    let begin = wait_event(status, "down");
    assert!(begin.is("cause", "initialization_failed"), "{begin:#?}");
    assert!(begin.is("severity", "critical"), "{begin:#?}");
    paste(&pair, &row);
    wait_until("the subscription is gone", DEFAULT_DEADLINE, || {
        status.subscriptions().is_empty()
    });
    let end = wait_event(status, "down_ended");
    assert!(end.text("detail").contains("dropped"), "{end:#?}");
    pair.on_subscriber("create table item (id int primary key, note text)");
    pair.subscribe();
    pair.wait_copied();
    assert_goes_on(&pair);
}

#[test]
fn pause_after_failures() {
    let pair = streaming();
    let status = Status::of(&pair);
    let failures = || {
        let log = pair.subscriber().log();
        let lines = log.lines().filter(|line| line.contains("pglogical apply"));
        lines
            .filter(|line| line.contains("exited with exit code 1"))
            .count()
    };
    // How long it pauses depends on for how long nothing had happened.
    let pauses = || {
        let before = failures();
        pair.publisher().stop(ShutdownMode::Fast);
        wait_until("its worker has failed", RELAUNCH_DEADLINE, || {
            failures() > before
        });
        pair.publisher().start();
        let seen = wait_for_value(
            "it pauses or goes on",
            RELAUNCH_DEADLINE,
            || status.subscription(),
            |row| row.is("cause", "relaunch_backoff") || row.is("state", "streaming"),
        );
        seen.is("state", "retrying")
    };
    assert!((0..10).any(|_| pauses()), "it does not pause");
    let row = wait_found(status, "retrying", "relaunch_backoff");
    assert_found(&row, "warning", "transient", &["has started no worker for"]);
    assert_eq!(row.text("remedy"), "SELECT repl_restart_worker('sub');");
    paste(&pair, &row);
    assert_goes_on(&pair);
}

#[test]
fn apply_delay_is_no_stall() {
    let pair = with_item(
        builder(Provider::Pglogical)
            .subscriber_setting("replwarden.stall_timeout", "300ms")
            .start(),
    );
    pair.on_publisher("insert into item values (1), (2)");
    let sql = pair.subscribe_sql(true);
    let sql = sql.replace(
        "synchronize_data := true",
        "synchronize_data := true, apply_delay := '20 seconds'",
    );
    pair.on_subscriber(&sql);
    pair.wait_copied();
    let status = Status::of(&pair);
    let row = wait_besides(status, "apply_delay");
    assert_found(&row, "info", "", &["20 s late"]);
    assert!(row.is_null("remedy"), "{row:#?}");
    pair.on_publisher("insert into item values (3)");
    wait_found(status, "catching_up", "apply_delay");
    pair.wait_caught_up();
    status.wait_state("streaming");
    assert!(troubles(status).is_empty(), "{:#?}", events(status));
}

#[test]
fn table_that_is_missing_here() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_subscriber("drop table item");
    pair.on_publisher("insert into item values (3)");
    let row = wait_found(status, "retrying", "table_missing");
    assert_found(&row, "critical", "deterministic", &["item"]);
    assert!(row.text("remedy").contains("pg_dump"), "{row:#?}");
    pair.on_subscriber(
        "create table item (id int primary key, note text); insert into item values (1), (2)",
    );
    restart_worker(&pair);
    assert_goes_on(&pair);
}

#[test]
fn null_that_is_not_let_in() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_subscriber("delete from item; alter table item alter note set not null");
    pair.on_publisher("delete from item; insert into item values (3)");
    let row = wait_found(status, "retrying", "not_null_violation");
    assert_found(&row, "critical", "deterministic", &["note", "public.item"]);
    pair.on_subscriber(&commented(&row, "ALTER TABLE \"public\".\"item\""));
    restart_worker(&pair);
    assert_goes_on(&pair);
}

/// pglogical lets the row of the publisher win.
#[test]
fn duplicate_key_is_no_error() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_subscriber("insert into item values (3, 'here')");
    pair.on_publisher("insert into item values (3, 'there')");
    assert_goes_on(&pair);
    status.wait_looked();
    assert!(troubles(status).is_empty(), "{:#?}", events(status));
    let errors = status.rows("select * from repl_errors where worker_kind = 'apply'");
    assert!(errors.is_empty(), "{errors:#?}");
}

/// pglogical takes the table for copied, and the server says nothing more of it.
#[test]
fn copy_that_failed_in_silence() {
    let pair = with_item(builder(Provider::Pglogical).start());
    let status = Status::of(&pair);
    pair.on_publisher("insert into item values (1, 'right'), (2, 'wrong'), (3, 'right')");
    pair.on_subscriber("alter table item add constraint is_right check (note <> 'wrong')");
    pair.subscribe();
    wait_error(status, "an error of the session that copies", |row| {
        row.is("worker_kind", "copy")
    });
    let row = wait_besides(status, "copy_failed_silently");
    assert_found(&row, "warning", "", &["public.item", "is_right"]);
    assert!(row.is("sqlstate", "23514"), "{row:#?}");
    let told = wait_event(status, "hazard");
    assert!(told.is("cause", "copy_failed_silently"), "{told:#?}");
    assert!(told.is("severity", "warning"), "{told:#?}");
    assert_eq!(
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), "select count(*) from item"),
        0
    );
    pair.on_subscriber("alter table item drop constraint is_right");
    paste(&pair, &row);
    wait_for_value(
        "all rows are there",
        DEFAULT_DEADLINE,
        || {
            pair.subscriber()
                .rows_text(pair.database(), "table item order by id")
        },
        |rows| rows.len() == 3,
    );
    pair.on_publisher("insert into item values (4, 'later')");
    pair.wait_caught_up();
    pair.compare("table item order by id", "table item order by id");
}

const SECRET: &str = "topsecret7731";

/// The publisher asks for a password, and `dsn` has another one.
fn ask_for_password(pair: &Pair) {
    pair.publisher().execute(
        "postgres",
        "set password_encryption = 'scram-sha-256';
         create role carrier superuser login password 'of the publisher'",
    );
    let path = pair.publisher().data_directory().join("pg_hba.conf");
    let old = fs::read_to_string(&path).expect("it can be read");
    let new = format!("host all carrier 127.0.0.1/32 scram-sha-256\n{old}");
    fs::write(&path, new).expect("it can be written");
    pair.publisher().reload();
}

#[test]
fn wrong_password_is_found_and_not_shown() {
    let pair = streaming();
    let status = Status::of(&pair);
    ask_for_password(&pair);
    let mut listener = pair.subscriber().connect(pair.database());
    lines(&mut listener, "listen replwarden");
    let dsn = format!(
        "host=127.0.0.1 port={} user=carrier dbname={} password={SECRET}",
        pair.publisher().port(),
        pair.database()
    );
    for sql in [
        format!("select pglogical.alter_node_add_interface('provider', 'other', '{dsn}')"),
        "select pglogical.alter_subscription_interface('sub', 'other')".to_owned(),
    ] {
        pair.on_subscriber(&sql);
    }
    restart_worker(&pair);
    let row = wait_found(status, "retrying", "authentication_failed");
    assert_found(&row, "critical", "deterministic", &[]);
    wait_event(status, "retrying");
    wait_error(status, "that the password is wrong", |row| {
        row.is("worker_kind", "apply")
    });
    status.wait_looked();
    let mut client = pair.subscriber().connect(pair.database());
    for sql in [
        "select to_jsonb(e)::text from repl_events e",
        "select to_jsonb(e)::text from _repl_events e",
        "select to_jsonb(e)::text from repl_errors e",
        "select to_jsonb(e)::text from repl_diagnose() e",
        "select to_jsonb(e)::text from repl_subscriptions e",
        "select repl_status()::text",
        "select repl_snapshot()::text",
    ] {
        let shown = lines(&mut client, sql);
        assert!(!shown.is_empty(), "{sql}");
        for line in shown {
            assert!(!line.contains(SECRET), "{sql}: {line}");
        }
    }
    let log = pair.subscriber().log();
    let ours = log.lines().filter(|line| line.contains("replwarden: "));
    for line in ours {
        assert!(!line.contains(SECRET), "{line}");
    }
    // With the password that it asks for it goes on.
    pair.publisher().execute(
        "postgres",
        &format!(
            "set password_encryption = 'scram-sha-256'; alter role carrier password '{SECRET}'"
        ),
    );
    restart_worker(&pair);
    assert_goes_on(&pair);
    for row in found(status, "sub") {
        assert!(row.is_null("cause"), "{row:#?}");
    }
}
