//! What only native subscriptions have: each code of `pg_subscription_rel`, and states that pglogical does not know.

use std::process::{Child, Stdio};

use postgres::Client;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, SUBSCRIPTION, wait_until};

use crate::database::lines;
use crate::status::{self, Lock, Row, Status};

/// A pair on which no wait for a lock is a stall.
fn patient() -> Pair {
    status::builder(Provider::Native)
        .subscriber_setting("replwarden.stall_timeout", "1h")
        .start()
}

fn streaming() -> Pair {
    status::streaming(status::builder(Provider::Native).start())
}

/// Creates the subscription and leaves it disabled.
fn subscribe_disabled(pair: &Pair) {
    pair.on_subscriber(&format!(
        "{} with (enabled = false)",
        pair.subscribe_sql(true)
    ));
}

/// A transaction on the publisher for whose end all new slots wait.
fn hold_up_new_slots(pair: &Pair) -> Client {
    let mut session = pair.publisher().connect(pair.database());
    lines(&mut session, "begin; select pg_current_xact_id()");
    session
}

/// The word for a code.
fn word(status: Status<'_>, code: &str) -> String {
    status
        .rows(&format!(
            "select state from repl_sync_states where provider = 'native' and code = '{code}'"
        ))
        .first()
        .unwrap_or_else(|| panic!("no word for {code}"))
        .text("state")
        .to_owned()
}

#[test]
fn table_that_waits_for_its_turn() {
    let pair = status::builder(Provider::Native)
        .subscriber_setting("max_sync_workers_per_subscription", "1")
        .start();
    pair.on_both("create table a (id int); create table b (id int)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("a").table("b"));
    let status = Status::of(&pair);
    subscribe_disabled(&pair);
    let tables = status.tables();
    assert_eq!(tables.len(), 2, "{tables:?}");
    for row in &tables {
        assert!(row.is("state_code", "i"), "{row:?}");
        assert_eq!(row.text("state"), word(status, "i"));
    }
    let held_up = hold_up_new_slots(&pair);
    pair.enable();
    let row = status.wait_cause("copying", Some("sync_queued"));
    assert_eq!(
        (row.text("tables_total"), row.text("tables_ready")),
        ("2", "0")
    );
    let mut tables = status.tables();
    tables.sort_by_key(|row| row.text("state_code").to_owned());
    let [copying, waiting] = tables.as_slice() else {
        panic!("{tables:?}");
    };
    assert!(copying.is("state_code", "d"), "{copying:?}");
    assert!(copying.is("state", "copying data"), "{copying:?}");
    assert!(!copying.is_null("worker_pid"), "{copying:?}");
    assert!(waiting.is("state_code", "i"), "{waiting:?}");
    assert!(waiting.is_null("worker_pid"), "{waiting:?}");
    drop(held_up);
    let row = status.wait_cause("streaming", None);
    assert_eq!(
        (row.text("tables_total"), row.text("tables_ready")),
        ("2", "2")
    );
}

#[test]
fn copy_that_waits_for_a_lock() {
    let pair = status::with_item(patient());
    pair.on_publisher("insert into item values (1), (2)");
    let status = Status::of(&pair);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.subscribe();
    let row = status.wait_cause("copying", Some("lock_wait"));
    assert_eq!(
        (row.text("tables_total"), row.text("tables_ready")),
        ("1", "0")
    );
    assert!(!row.is_null("worker_pid"), "{row:?}");
    let worker = status.wait_worker("table synchronization", "that waits for the lock", |row| {
        row.is("activity", "waiting for a lock")
    });
    assert_eq!(worker.text("blocked_by"), format!("{{{}}}", lock.pid));
    assert_eq!(worker.text("wait_event"), "Lock/relation");
    assert_eq!(worker.text("relation"), "item");
    assert_eq!(worker.text("subscription"), SUBSCRIPTION);
    let table = status.wait_table_state("public.item", "copying data");
    assert!(table.is("state_code", "d"), "{table:?}");
    assert_eq!(table.get("worker_pid"), worker.get("pid"));
    drop(lock);
    status.wait_table_state("public.item", "ready");
    status.wait_cause("streaming", None);
    assert!(
        !status
            .workers()
            .iter()
            .any(|row| row.is("kind", "table synchronization")),
        "{:?}",
        status.workers()
    );
}

#[test]
fn copy_that_waits_for_a_lock_too_long_is_a_stall() {
    let pair = status::with_item(
        status::builder(Provider::Native)
            .subscriber_setting("replwarden.stall_timeout", "300ms")
            .start(),
    );
    let status = Status::of(&pair);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.subscribe();
    let row = status.wait_cause("stalled", Some("lock_wait"));
    assert!(row.text("remedy").contains(&lock.pid), "{row:?}");
    pair.on_subscriber(row.text("remedy"));
    status.wait_cause("streaming", None);
    drop(lock);
}

#[test]
fn copy_that_fails_is_interrupted_until_it_can_be_done() {
    let pair = status::builder(Provider::Native).start();
    pair.on_publisher("create table item (id int primary key, note text)");
    pair.on_publisher("insert into item values (1, 'a')");
    pair.on_subscriber("create table item (id int primary key)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    let status = Status::of(&pair);
    // Between two attempts there is no worker.
    let table = status.wait_table_state("public.item", "copy interrupted");
    assert!(table.is("state_code", "d"), "{table:?}");
    assert!(table.is_null("worker_pid"), "{table:?}");
    assert!(!table.is_null("description"), "{table:?}");
    let row = status.wait_state("copying");
    assert_eq!(row.text("tables_ready"), "0");
    if pair.subscriber().server().major() >= 15 {
        status.wait_subscription("counts the failures", |row| row.number("sync_errors") > 0.0);
    }
    // Nor is there one when nobody tries again.
    pair.disable();
    status.wait_state("disabled");
    status.wait_table_state("public.item", "copy interrupted");

    pair.on_subscriber("alter table item add note text");
    pair.enable();
    status.wait_table_state("public.item", "ready");
    status.wait_cause("streaming", None);
    pair.compare("table item", "table item");
}

#[test]
fn table_goes_through_all_codes_of_the_catalog() {
    let pair = patient();
    pair.on_both(
        "create table first (id int); create table second (id int); create table late (id int)",
    );
    pair.on_publisher("insert into late values (1), (2)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("first").table("second"));
    pair.subscribe();
    pair.wait_copied();
    let status = Status::of(&pair);
    let row = status.wait_cause("streaming", None);
    assert_eq!(row.text("tables_total"), "2");
    let shown = |code: &str, has_worker: bool| -> Row {
        let table = status.wait_table("public.late", &format!("with code {code}"), |row| {
            row.is("state_code", code) && row.is_null("worker_pid") != has_worker
        });
        assert_eq!(table.text("state"), word(status, code), "{table:?}");
        let row = status.wait_state("copying");
        assert_eq!(
            (row.text("tables_total"), row.text("tables_ready")),
            ("3", "2"),
            "{row:?}"
        );
        table
    };

    // The copy has to wait for its slot, apply for the lock of the first transaction.
    let held_up = hold_up_new_slots(&pair);
    let first = Lock::on_subscriber(&pair, "first");
    let second = Lock::on_subscriber(&pair, "second");
    pair.on_publisher("alter publication pub add table late");
    pair.on_subscriber("alter subscription sub refresh publication");
    shown("d", true);
    pair.on_publisher("insert into first values (1)");
    pair.on_publisher("insert into second values (1)");
    status.wait_worker("apply", "blocked by the first lock", |row| {
        row.get("blocked_by") == Some(&format!("{{{}}}", first.pid))
    });
    // It is copied as of after both transactions, and waits for apply's word.
    drop(held_up);
    shown("f", true);
    // Apply gives it, and has to apply the second transaction before it is where the copy is.
    drop(first);
    shown("s", false);
    drop(second);
    status.wait_table_state("public.late", "ready");
    let row = status.wait_cause("streaming", None);
    assert_eq!(row.text("tables_ready"), "3");
}

#[test]
fn code_is_shown_as_it_is() {
    let pair = streaming();
    pair.disable();
    let status = Status::of(&pair);
    status.wait_state("disabled");
    for code in ["i", "d", "w", "c", "f", "s", "r"] {
        set_code(&pair, code);
        let table = the_table(status);
        assert_eq!(table.text("state_code"), code, "{table:?}");
        let state = match code {
            "d" => "copy interrupted".to_owned(),
            _ => word(status, code),
        };
        assert_eq!(table.text("state"), state, "{table:?}");
        assert!(!table.is_null("description"), "{table:?}");
        let row = status.subscription();
        let ready = if code == "r" { "1" } else { "0" };
        assert_eq!(row.text("tables_ready"), ready, "{code}: {row:?}");
    }
}

/// What a future server may have.
#[test]
fn unknown_code_is_shown_as_itself() {
    let pair = streaming();
    pair.disable();
    let status = Status::of(&pair);
    status.wait_state("disabled");
    set_code(&pair, "q");
    let table = the_table(status);
    assert!(table.is("state_code", "q"), "{table:?}");
    assert!(table.is("state", "q"), "{table:?}");
    let row = status.subscription();
    assert_eq!(
        (row.text("tables_total"), row.text("tables_ready")),
        ("1", "0")
    );
    assert!(!status.report().is_empty());
    let snapshot = status.rows("select repl_snapshot() #>> '{tables,0,state}' as state");
    assert!(snapshot[0].is("state", "q"), "{snapshot:?}");
}

fn set_code(pair: &Pair, code: &str) {
    pair.on_subscriber(&format!(
        "set allow_system_table_mods = on; update pg_subscription_rel set srsubstate = '{code}'"
    ));
}

#[track_caller]
fn the_table(status: Status<'_>) -> Row {
    let mut tables = status.tables();
    assert_eq!(tables.len(), 1, "{tables:?}");
    tables.remove(0)
}

#[test]
fn table_that_was_dropped_is_missing() {
    let pair = streaming();
    let status = Status::of(&pair);
    status.wait_subscription("knows the publisher", |row| !row.is_null("publisher_lsn"));
    pair.on_subscriber("drop table item");
    let table = status.wait_table_state("public.item", "missing");
    assert!(table.is_null("relation"), "{table:?}");
    assert!(table.is_null("state_code"), "{table:?}");
    assert!(!table.is_null("description"), "{table:?}");
    assert!(
        !status.subscription().is_null("warning"),
        "{:?}",
        status.subscription()
    );
    // It did not come back as it was: nothing copies its rows before somebody says so.
    pair.on_subscriber("create table item (id int primary key, note text)");
    let table = status.wait_table_state("public.item", "not subscribed");
    assert!(table.is("relation", "item"), "{table:?}");
    assert!(table.is_null("state_code"), "{table:?}");
    pair.on_subscriber("alter subscription sub refresh publication");
    status.wait_table_state("public.item", "ready");
    status.wait_subscription("has nothing to warn of", |row| row.is_null("warning"));
}

#[test]
fn table_that_is_published_later_is_not_subscribed() {
    let pair = status::with_item(status::builder(Provider::Native).start());
    pair.subscribe();
    pair.wait_copied();
    pair.on_both("create table late (id int)");
    pair.on_publisher("create table elsewhere (id int)");
    pair.on_publisher("alter publication pub add table late, elsewhere");
    let status = Status::of(&pair);
    // The publisher is asked for its tables once a minute.
    let table = status.wait_table_state("public.late", "not subscribed");
    assert!(table.is("relation", "late"), "{table:?}");
    assert!(table.is_null("state_code"), "{table:?}");
    let table = status.wait_table_state("public.elsewhere", "missing");
    assert!(table.is_null("relation"), "{table:?}");
    status.wait_table_state("public.item", "ready");
    let row = status.subscription();
    assert!(row.is("state", "streaming"), "{row:?}");
    assert!(!row.is_null("warning"), "{row:?}");
    pair.on_subscriber("create table elsewhere (id int)");
    pair.on_subscriber("alter subscription sub refresh publication");
    status.wait_table_state("public.late", "ready");
    status.wait_table_state("public.elsewhere", "ready");
    status.wait_subscription("has nothing to warn of", |row| row.is_null("warning"));
}

#[test]
fn disabled_by_an_error() {
    let pair = status::builder(Provider::Native).start();
    if pair.subscriber().server().major() < 15 {
        return;
    }
    let pair = status::streaming(pair);
    pair.on_subscriber("alter subscription sub set (disable_on_error = true)");
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    status.wait_looked();
    pair.on_subscriber("insert into item values (7)");
    pair.on_publisher("insert into item values (7)");
    let row = status.wait_cause("disabled", Some("disabled_on_error"));
    assert!(row.is("enabled", "f"), "{row:?}");
    status.wait_subscription("counts the error", |row| row.number("apply_errors") > 0.0);
    pair.on_subscriber("delete from item where id = 7");
    pair.on_subscriber(row.text("remedy"));
    status.wait_cause("streaming", None);
    pair.wait_caught_up();
    pair.compare("table item order by id", "table item order by id");
}

#[test]
fn row_that_cannot_be_applied_is_tried_again_and_again() {
    let pair = streaming();
    let status = Status::of(&pair);
    status.wait_subscription("uses the slot", |row| row.is("slot_active", "t"));
    // From here on, what is known of the publisher is of the time when all was well.
    pair.subscriber().set("replwarden.watch_interval", "10min");
    pair.on_subscriber("insert into item values (7)");
    pair.on_publisher("insert into item values (7)");
    assert_retrying_for_duplicate_key(status);
    pair.subscriber().set("replwarden.watch_interval", "200ms");
    for _ in 0..10 {
        status.wait_looked();
        assert_retrying_for_duplicate_key(status);
    }
    if pair.subscriber().server().major() >= 15 {
        status.wait_subscription("counts the errors", |row| row.number("apply_errors") > 1.0);
    }
    pair.on_subscriber("delete from item where id = 7");
    status.wait_cause("streaming", None);
    pair.wait_caught_up();
    pair.compare("table item order by id", "table item order by id");
}

/// The publisher answers, and has the slot, which nobody has used but the worker that failed.
#[track_caller]
fn assert_retrying_for_duplicate_key(status: Status<'_>) {
    let row = status.wait_state("retrying");
    assert!(row.is("enabled", "t"), "{row:?}");
    assert!(row.is("cause", "duplicate_key"), "{row:?}");
}

/// Another reader of the slot, until it is dropped.
struct Reader(Child);

impl Reader {
    fn of_slot(pair: &Pair) -> Self {
        let child = pair
            .publisher()
            .server()
            .command("pg_recvlogical")
            .args(["--start", "--slot", &pair.slot_name(), "--file", "-"])
            .args(["--option", "proto_version=1"])
            .args(["--option", "publication_names=pub"])
            .args(["--dbname", &pair.publisher().conninfo(pair.database())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pg_recvlogical runs");
        Self(child)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn slot_is_active(pair: &Pair) -> bool {
    pair.publisher().query_one_value(
        pair.database(),
        "select active from pg_replication_slots where slot_name = 'sub'",
    )
}

#[test]
fn slot_that_another_reads() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.disable();
    wait_until("nobody reads the slot", DEFAULT_DEADLINE, || {
        !slot_is_active(&pair)
    });
    let reader = Reader::of_slot(&pair);
    wait_until("another reads the slot", DEFAULT_DEADLINE, || {
        slot_is_active(&pair)
    });
    pair.enable();
    let row = status.wait_cause("retrying", Some("slot_in_use"));
    assert!(!row.is_null("remedy"), "{row:?}");
    assert!(!row.is_null("publisher_lsn"), "{row:?}");
    drop(reader);
    status.wait_cause("streaming", None);
}

#[test]
fn server_that_may_have_no_replication_workers() {
    let pair = status::with_item(
        status::builder(Provider::Native)
            .subscriber_setting("max_logical_replication_workers", "0")
            .start(),
    );
    pair.subscribe();
    let status = Status::of(&pair);
    let row = status.wait_cause("down", Some("worker_pool_exhausted"));
    assert!(row.is("enabled", "t"), "{row:?}");
    assert!(row.is_null("worker_pid"), "{row:?}");
    assert!(
        row.text("remedy")
            .contains("max_logical_replication_workers"),
        "{row:?}"
    );
    let table = the_table(status);
    assert!(table.is("state_code", "i"), "{table:?}");
}

#[test]
fn subscription_that_finds_no_free_worker() {
    let pair = status::with_item(
        status::builder(Provider::Native)
            .subscriber_setting("max_logical_replication_workers", "1")
            .start(),
    );
    pair.on_subscriber(&pair.subscribe_sql(false));
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    pair.on_subscriber(&format!(
        "create subscription second connection '{}' publication pub with (copy_data = false)",
        pair.publisher().conninfo(pair.database())
    ));
    let row = status.wait_named("second", "finds no worker", |row| {
        row.is("state", "down") && row.is("cause", "worker_pool_exhausted")
    });
    assert!(row.is_null("worker_pid"), "{row:?}");
    status.wait_cause("streaming", None);
    pair.disable();
    status.wait_named("second", "has the worker that is free now", |row| {
        row.is("state", "streaming") && row.is_null("cause")
    });
}
