//! Tables that are not copied, or not yet.

use postgres::Client;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Publication, wait_until};

use crate::database::lines;
use crate::diagnose::{
    assert_found, assert_goes_on, builder, commented, evidence, paste, streaming, wait_besides,
    wait_found,
};
use crate::since::origin_limit;
use crate::status::{self, Lock, Status, read};

/// A transaction on the publisher for whose end all new slots wait.
fn hold_up_new_slots(pair: &Pair) -> Client {
    let mut session = pair.publisher().connect(pair.database());
    lines(&mut session, "begin; select pg_current_xact_id()");
    session
}

/// The tables `item` and `more`, published, and a subscription that is disabled.
fn subscribed(pair: Pair) -> Pair {
    pair.on_both("create table item (id int primary key, note text); create table more (id int)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item").table("more"));
    pair.on_publisher("insert into item values (1), (2); insert into more values (1)");
    pair.on_subscriber(&format!(
        "{} with (enabled = false)",
        pair.subscribe_sql(true)
    ));
    pair
}

#[test]
fn tables_that_wait_for_their_turn() {
    let pair = builder()
        .subscriber_setting("max_sync_workers_per_subscription", "1")
        .start();
    let pair = subscribed(pair);
    let held_up = hold_up_new_slots(&pair);
    pair.enable();
    let row = wait_found(Status::of(&pair), "copying", "sync_queued");
    assert_found(&row, "info", "", &["max_sync_workers_per_subscription"]);
    drop(held_up);
    assert_goes_on(&pair);
}

#[test]
fn tables_that_wait_for_a_place() {
    let pair = builder()
        .subscriber_setting("max_logical_replication_workers", "2")
        .start();
    let pair = subscribed(pair);
    let held_up = hold_up_new_slots(&pair);
    pair.enable();
    let row = wait_found(Status::of(&pair), "copying", "worker_pool_exhausted");
    assert_found(&row, "warning", "", &["max_logical_replication_workers"]);
    drop(held_up);
    paste(&pair, &row);
    assert_goes_on(&pair);
}

#[test]
fn slot_that_waits_for_an_old_transaction() {
    let pair = subscribed(builder().start());
    let status = Status::of(&pair);
    let mut held_up = hold_up_new_slots(&pair);
    let pid = lines(&mut held_up, "select pg_backend_pid()").remove(0);
    pair.enable();
    let row = wait_found(status, "copying", "slot_creation_wait");
    assert_found(&row, "warning", "", &["slot"]);
    // It shows who is in the way.
    let shown = read(
        &mut pair.publisher().connect(pair.database()),
        row.text("remedy"),
    );
    assert!(shown.iter().any(|row| row.is("pid", &pid)), "{shown:#?}");
    drop(held_up);
    assert_goes_on(&pair);
}

/// A prepared transaction is in the way, too, and in no list of sessions.
#[test]
fn slot_that_waits_for_a_prepared_transaction() {
    let pair = builder()
        .publisher_setting("max_prepared_transactions", "5")
        .start();
    let pair = subscribed(pair);
    pair.on_publisher("create table other (id int)");
    let mut session = pair.publisher().connect(pair.database());
    lines(
        &mut session,
        "begin; insert into other values (1); prepare transaction 'forgotten'",
    );
    pair.enable();
    let row = wait_found(Status::of(&pair), "copying", "slot_creation_wait");
    assert!(row.text("remedy").contains("pg_prepared_xacts"), "{row:#?}");
    lines(&mut session, "rollback prepared 'forgotten'");
    assert_goes_on(&pair);
}

#[test]
fn no_room_for_an_origin() {
    let pair = builder().subscriber_setting(origin_limit(), "1").start();
    let pair = subscribed(pair);
    pair.enable();
    let row = wait_found(Status::of(&pair), "copying", "origins_exhausted");
    assert_found(&row, "critical", "deterministic", &["replication state"]);
    paste(&pair, &row);
    assert_goes_on(&pair);
}

#[test]
fn column_that_is_missing() {
    let pair = builder().start();
    pair.on_publisher("create table item (id int primary key, note text)");
    pair.on_publisher("insert into item values (1, 'a')");
    pair.on_subscriber("create table item (id int primary key)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    let status = Status::of(&pair);
    let row = wait_found(status, "copying", "column_missing");
    assert_found(&row, "critical", "deterministic", &["note", "item"]);
    assert_eq!(
        evidence(status, &row, "error,worker_kind").as_deref(),
        Some("table synchronization")
    );
    pair.on_subscriber(&commented(&row, "ALTER TABLE").replace("<type>", "text"));
    assert_goes_on(&pair);
}

#[test]
fn rows_that_are_there_already() {
    let pair = status::with_item(builder().start());
    pair.on_both("insert into item values (1), (2)");
    pair.subscribe();
    let row = wait_found(Status::of(&pair), "copying", "duplicate_key");
    assert_found(&row, "critical", "deterministic", &["23505", "item"]);
    pair.on_subscriber(&commented(&row, "TRUNCATE"));
    assert_goes_on(&pair);
}

#[test]
fn row_that_a_check_refuses() {
    let pair = status::with_item(builder().start());
    pair.on_publisher("insert into item values (1), (20)");
    pair.on_subscriber("alter table item add constraint small check (id < 7)");
    pair.subscribe();
    let row = wait_found(Status::of(&pair), "copying", "check_violation");
    assert_found(&row, "critical", "deterministic", &["23514", "item"]);
    pair.on_subscriber(&commented(&row, "ALTER TABLE"));
    assert_goes_on(&pair);
}

#[test]
fn generated_column_in_place_of_a_plain_one() {
    let pair = builder().start();
    pair.on_publisher("create table item (id int primary key, note text)");
    pair.on_publisher("insert into item values (1, '1')");
    pair.on_subscriber(
        "create table item (id int primary key, note text generated always as (id::text) stored)",
    );
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    let row = wait_found(
        Status::of(&pair),
        "copying",
        "generated_column_incompatible",
    );
    assert_found(&row, "critical", "deterministic", &["note"]);
    assert!(
        row.text("remedy").contains("SELECT repl_adopt_generated"),
        "{row:#?}"
    );
}

#[test]
fn publishers_user_without_rights() {
    let pair = status::with_item(builder().start());
    pair.on_publisher("insert into item values (1), (2)");
    pair.publisher()
        .execute("postgres", "create role carrier login replication");
    let conninfo = pair.publisher().conninfo(pair.database());
    pair.on_subscriber(&pair.subscribe_sql(true).replace(
        &conninfo,
        &conninfo.replace("user=postgres", "user=carrier"),
    ));
    let row = wait_found(Status::of(&pair), "copying", "permission_denied");
    assert_found(&row, "critical", "deterministic", &["item"]);
    let grant = commented(&row, "GRANT SELECT").replace("<user>", "carrier");
    pair.on_publisher(&grant.replace("<table>", "item"));
    assert_goes_on(&pair);
}

/// The publisher ends the copy: its user may not take so long.
#[test]
fn statement_timeout_of_the_publishers_user() {
    let pair = builder().start();
    if pair.publisher().server().major() < 15 {
        return;
    }
    pair.on_both("create table item (id int primary key, note text)");
    pair.on_subscriber("create extension replwarden");
    pair.on_publisher("insert into item select n, 'x' from generate_series(1, 50) n");
    // It has to compute for each row.
    pair.on_publisher(
        "create publication pub for table item where (md5(repeat(note, 10000000)) <> '')",
    );
    pair.publisher().execute(
        "postgres",
        "alter role postgres set statement_timeout = '100ms'",
    );
    pair.subscribe();
    let row = wait_found(Status::of(&pair), "copying", "statement_cancelled");
    assert_found(&row, "warning", "transient", &["statement timeout"]);
    assert!(row.text("remedy").contains("on the publisher"), "{row:#?}");
    pair.publisher()
        .execute("postgres", "alter role postgres reset statement_timeout");
    assert_goes_on(&pair);
}

#[test]
fn lock_on_a_table_that_is_copied() {
    let pair = builder()
        .subscriber_setting("replwarden.stall_timeout", "300ms")
        .start();
    let pair = status::with_item(pair);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.subscribe();
    let row = wait_found(Status::of(&pair), "stalled", "lock_wait");
    assert_found(&row, "critical", "transient", &[&lock.pid]);
    paste(&pair, &row);
    pair.on_publisher("insert into item values (1)");
    assert_goes_on(&pair);
}

#[test]
fn table_that_is_not_subscribed() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_both("create table late (id int)");
    pair.on_publisher("insert into late values (1)");
    pair.on_publisher("alter publication pub add table late");
    let row = wait_besides(status, "tables_not_subscribed");
    assert_found(&row, "warning", "", &["1 published table"]);
    assert!(row.is("state", "streaming"), "{row:#?}");
    paste(&pair, &row);
    wait_until("it is subscribed", DEFAULT_DEADLINE, || {
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), "select count(*) from late")
            == 1
    });
    assert_goes_on(&pair);
}
