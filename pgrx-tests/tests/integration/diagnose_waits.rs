//! Workers that are there and do not get on, and those that only seem to stand still.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Publication, SUBSCRIPTION, wait_until};

use crate::database::lines;
use crate::diagnose::{
    assert_found, assert_goes_on, builder, evidence, found, paste, streaming,
    streaming_with_stall_timeout, wait_besides, wait_found, wait_found_of, wait_well,
};
use crate::status::{self, Lock, Row, Status};

#[test]
fn lock_that_another_holds() {
    let pair = streaming_with_stall_timeout("300ms");
    let status = Status::of(&pair);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "stalled", "lock_wait");
    assert_found(&row, "critical", "transient", &[&lock.pid]);
    assert_eq!(
        evidence(status, &row, "blocked_by"),
        Some(format!("[{}]", lock.pid))
    );
    assert_eq!(
        evidence(status, &row, "wait_event").as_deref(),
        Some("Lock/relation")
    );
    paste(&pair, &row);
    assert_goes_on(&pair);
    drop(lock);
}

#[test]
fn lock_that_another_has_not_held_for_long() {
    let pair = streaming_with_stall_timeout("1h");
    let status = Status::of(&pair);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "catching_up", "lock_wait");
    assert_found(&row, "warning", "transient", &[&lock.pid]);
    drop(lock);
    assert_goes_on(&pair);
}

/// Makes the subscriber's worker compute in a trigger until there is a row in `gate`, waiting for nothing.
const COMPUTE: &str = "
    create table gate (open bool);
    create function compute() returns trigger language plpgsql as $$
        begin
            while not exists (select from public.gate) loop
                for i in 1..200000 loop end loop;
            end loop;
            return new;
        end $$;
    create trigger computing before insert on item for each row execute function compute();
    alter table item enable always trigger computing";

/// Looks for long enough that each look in between would have been a stall, and sees none.
#[track_caller]
fn assert_never_stalled(status: Status<'_>, cause: &str) {
    for _ in 0..15 {
        status.wait_looked();
        let rows = found(status, SUBSCRIPTION);
        assert!(rows[0].is("state", "catching_up"), "{rows:#?}");
        assert!(rows[0].is("cause", cause), "{rows:#?}");
    }
}

#[test]
fn large_transaction_is_no_stall() {
    let pair = streaming_with_stall_timeout("300ms");
    let status = Status::of(&pair);
    pair.on_subscriber(COMPUTE);
    pair.on_publisher("insert into item select n, 'x' from generate_series(10, 1000) n");
    let row = wait_found(status, "catching_up", "large_transaction");
    assert_found(&row, "info", "", &["transaction"]);
    assert!(row.is_null("remedy"), "{row:#?}");
    assert_never_stalled(status, "large_transaction");
    pair.on_subscriber("insert into gate values (true)");
    assert_goes_on(&pair);
}

/// For each row that was updated, the worker reads the whole table.
#[test]
fn identity_full_without_an_index() {
    let pair = builder()
        .subscriber_setting("replwarden.stall_timeout", "1s")
        .start();
    pair.on_both("create table item (id int, note text)");
    pair.on_publisher("alter table item replica identity full");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    // So many that the fastest machine gets through few of them in a second.
    pair.on_publisher("insert into item select n, 'x' from generate_series(1, 300000) n");
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("update item set note = 'y'");
    let status = Status::of(&pair);
    let row = wait_found(status, "stalled", "identity_full_without_index");
    assert_found(&row, "critical", "", &["item"]);
    let add = crate::diagnose::commented(&row, "ALTER TABLE").replace("(...)", "(id)");
    // The worker holds a lock on the table until it ends.
    pair.disable();
    pair.on_subscriber(
        "select pg_terminate_backend(pid) from pg_stat_subscription where pid is not null",
    );
    pair.on_subscriber(&add);
    pair.enable();
    assert_goes_on(&pair);
}

/// Its changes come when it commits.
#[test]
fn long_transaction_of_the_publisher_is_no_stall() {
    let pair = streaming_with_stall_timeout("300ms");
    let status = Status::of(&pair);
    let mut session = pair.publisher().connect(pair.database());
    lines(&mut session, "begin; insert into item values (7)");
    for _ in 0..15 {
        status.wait_looked();
        let rows = found(status, SUBSCRIPTION);
        assert!(
            rows[0].is("state", "streaming") || rows[0].is("cause", "publisher_transaction"),
            "{rows:#?}"
        );
        assert!(rows[0].is("severity", "info"), "{rows:#?}");
    }
    lines(&mut session, "commit");
    assert_goes_on(&pair);
}

#[test]
fn changes_of_unpublished_tables_are_no_stall() {
    let pair = streaming_with_stall_timeout("300ms");
    let status = Status::of(&pair);
    pair.on_publisher("create table unpublished (t text)");
    for _ in 0..15 {
        pair.on_publisher(
            "insert into unpublished select repeat('x', 1000) from generate_series(1, 1000)",
        );
        status.wait_looked();
        let rows = found(status, SUBSCRIPTION);
        assert!(
            !rows[0].is("state", "stalled") && rows[0].is("severity", "info"),
            "{rows:#?}"
        );
    }
    assert_goes_on(&pair);
}

/// A standby that does not come: the worker waits for it at each commit, where the subscription wants that.
#[test]
fn synchronous_standby_that_is_missing() {
    let pair = streaming_with_stall_timeout("1s");
    let status = Status::of(&pair);
    pair.on_subscriber("alter subscription sub set (synchronous_commit = 'on')");
    status.wait_looked();
    pair.subscriber().set("synchronous_standby_names", "nobody");
    pair.on_publisher("insert into item values (7)");
    pair.on_publisher("insert into item values (8)");
    let row = wait_found(status, "stalled", "synchronous_commit");
    assert_found(&row, "critical", "", &["standby"]);
    assert_eq!(
        evidence(status, &row, "wait_event").as_deref(),
        Some("IPC/SyncRep")
    );
    paste_without_waiting(&pair, &row);
    pair.wait_caught_up();
    wait_well(status);
    pair.subscriber().set("synchronous_standby_names", "");
    assert_goes_on(&pair);
}

/// What is pasted commits, too.
#[track_caller]
fn paste_without_waiting(pair: &Pair, row: &Row) {
    let mut client = pair.subscriber().connect(pair.database());
    lines(&mut client, "set synchronous_commit = local");
    for line in row.text("remedy").lines() {
        lines(&mut client, line);
    }
}

/// What the worker of the database writes does not wait for a standby.
#[test]
fn events_come_while_a_synchronous_standby_is_missing() {
    let pair = streaming();
    let status = Status::of(&pair);
    wait_well(status);
    pair.subscriber().set("synchronous_standby_names", "nobody");
    pair.publisher().stop(replwarden_tests::ShutdownMode::Fast);
    wait_until("the trouble is an event", DEFAULT_DEADLINE, || {
        let rows = status.rows("select * from repl_events where cause = 'publisher_unreachable'");
        !rows.is_empty()
    });
    for _ in 0..5 {
        status.wait_looked();
    }
}

#[test]
fn no_place_for_an_apply_worker() {
    let pair = builder()
        .subscriber_setting("max_logical_replication_workers", "1")
        .start();
    let pair = status::with_item(pair);
    pair.on_subscriber(&pair.subscribe_sql(false));
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    pair.on_subscriber(&format!(
        "create subscription second connection '{}' publication pub with (copy_data = false)",
        pair.publisher().conninfo(pair.database())
    ));
    let row = wait_found_of(status, "second", "down", "worker_pool_exhausted");
    assert_found(&row, "critical", "", &["max_logical_replication_workers"]);
    paste(&pair, &row);
    for name in [SUBSCRIPTION, "second"] {
        status.wait_named(name, "streams", |row| row.is("state", "streaming"));
    }
}

/// max_worker_processes is the smaller of both.
#[test]
fn no_place_for_a_background_worker() {
    let pair = builder()
        .subscriber_setting("max_worker_processes", "4")
        .start();
    let pair = status::with_item(pair);
    let status = Status::of(&pair);
    for number in 1..=4 {
        pair.on_subscriber(&format!(
            "create subscription sub{number} connection '{}' publication pub with (copy_data = false)",
            pair.publisher().conninfo(pair.database())
        ));
    }
    let mut row = None;
    wait_until("one finds no place", DEFAULT_DEADLINE, || {
        let rows = status.rows("select * from repl_diagnose()");
        row = rows
            .into_iter()
            .find(|row| row.is("cause", "worker_pool_exhausted"));
        row.is_some()
    });
    let row = row.expect("found");
    paste(&pair, &row);
    for number in 1..=4 {
        status.wait_named(&format!("sub{number}"), "streams", |row| {
            row.is("state", "streaming")
        });
    }
}

#[test]
fn two_phase_that_is_pending() {
    let pair = builder().start();
    if pair.subscriber().server().major() < 15 {
        return;
    }
    let pair = status::with_item(pair);
    let status = Status::of(&pair);
    pair.on_publisher("insert into item values (1), (2)");
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_subscriber(&format!(
        "{} with (two_phase = true)",
        pair.subscribe_sql(true)
    ));
    let row = wait_besides(status, "two_phase_pending");
    assert_found(&row, "info", "", &["two_phase"]);
    // It may have been found before the worker heard from the publisher.
    status.wait_state("copying");
    drop(lock);
    assert_goes_on(&pair);
}
