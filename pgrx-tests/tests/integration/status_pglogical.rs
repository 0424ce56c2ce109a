//! What only pglogical has: its codes in `local_sync_status`, one copy of a whole subscription, tables that it copies
//! again, and steps that it cannot go on from.

use replwarden_tests::{Pair, Provider, Publication, SUBSCRIPTION};

use crate::database::lines;
use crate::status::{self, Lock, Row, Status};

/// A pair on which no wait for a lock is a stall.
fn patient() -> Pair {
    status::builder(Provider::Pglogical)
        .subscriber_setting("replwarden.stall_timeout", "1h")
        .start()
}

fn streaming() -> Pair {
    status::streaming(status::builder(Provider::Pglogical).start())
}

fn word(status: Status<'_>, code: &str) -> String {
    status
        .rows(&format!(
            "select state from repl_sync_states where provider = 'pglogical' and code = '{code}'"
        ))
        .first()
        .unwrap_or_else(|| panic!("no word for {code}"))
        .text("state")
        .to_owned()
}

fn set_code(pair: &Pair, code: &str) {
    pair.on_subscriber(&format!(
        "update pglogical.local_sync_status set sync_status = '{code}' where sync_relname = 'item'"
    ));
}

#[track_caller]
fn the_table(status: Status<'_>) -> Row {
    let mut tables = status.tables();
    assert_eq!(tables.len(), 1, "{tables:?}");
    tables.remove(0)
}

#[test]
fn initial_copy_that_waits_for_a_lock() {
    let pair = status::with_item(patient());
    pair.on_both("create table other (id int primary key)");
    pair.publish(&Publication::of("other"));
    pair.on_publisher("insert into item values (1), (2)");
    let status = Status::of(&pair);
    let item = Lock::on_subscriber(&pair, "item");
    let other = Lock::on_subscriber(&pair, "other");
    pair.subscribe();
    let row = status.wait_cause("copying", Some("lock_wait"));
    assert!(!row.is_null("worker_pid"), "{row:?}");
    assert!(!row.is("tables_ready", "2"), "{row:?}");
    let copier = status.wait_worker("copy", "that waits for a lock", |row| {
        row.is("activity", "waiting for a lock")
    });
    let blocked_by = copier.text("blocked_by");
    assert!(
        [&item, &other]
            .iter()
            .any(|lock| blocked_by == format!("{{{}}}", lock.pid)),
        "{copier:?}"
    );
    assert!(copier.is("subscription", SUBSCRIPTION), "{copier:?}");
    assert!(copier.is("wait_event", "Lock/relation"), "{copier:?}");
    status.wait_worker("apply", "of the subscription", |worker| {
        worker.get("pid") == row.get("worker_pid")
    });
    for name in ["public.item", "public.other"] {
        let table = status.wait_table_state(name, "in initial copy");
        assert!(table.is_null("state_code"), "{table:?}");
        assert!(!table.is_null("description"), "{table:?}");
    }
    assert!(!status.report().is_empty());
    drop((item, other));
    status.wait_table_state("public.item", "ready");
    status.wait_table_state("public.other", "ready");
    let row = status.wait_cause("streaming", None);
    assert_eq!(
        (row.text("tables_total"), row.text("tables_ready")),
        ("2", "2")
    );
    assert!(
        !status.workers().iter().any(|row| row.is("kind", "copy")),
        "{:?}",
        status.workers()
    );
}

#[test]
fn initial_copy_that_waits_for_a_lock_too_long_is_a_stall() {
    let pair = status::with_item(
        status::builder(Provider::Pglogical)
            .subscriber_setting("replwarden.stall_timeout", "300ms")
            .start(),
    );
    let status = Status::of(&pair);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.subscribe();
    let row = status.wait_cause("stalled", Some("lock_wait"));
    assert!(row.text("remedy").contains(&lock.pid), "{row:?}");
    drop(lock);
    status.wait_cause("streaming", None);
}

/// Nothing goes on from there, whatever the server tries.
#[test]
fn initial_copy_that_failed() {
    let pair = status::builder(Provider::Pglogical).start();
    pair.on_publisher("create table item (id int primary key, note text)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    let status = Status::of(&pair);
    let row = status.wait_cause("down", Some("initialization_failed"));
    assert!(row.is("enabled", "t"), "{row:?}");
    let table = status.wait_table_state("public.item", "missing");
    assert!(table.is_null("relation"), "{table:?}");
    // To start over is all that helps.
    pair.on_subscriber(row.text("remedy"));
    pair.on_subscriber("create table item (id int primary key, note text)");
    pair.subscribe();
    status.wait_cause("streaming", None);
    status.wait_table_state("public.item", "ready");
}

#[test]
fn code_of_a_table_is_shown_as_it_is() {
    let pair = streaming();
    pair.disable();
    let status = Status::of(&pair);
    status.wait_state("disabled");
    for code in ["i", "s", "d", "c", "w", "u", "y", "r"] {
        set_code(&pair, code);
        let table = the_table(status);
        assert_eq!(table.text("state_code"), code, "{table:?}");
        let state = match code {
            "d" => "copy interrupted".to_owned(),
            _ => word(status, code),
        };
        assert_eq!(table.text("state"), state, "{table:?}");
        assert!(!table.is_null("description"), "{table:?}");
        assert_eq!(
            status.subscription().text("tables_ready"),
            if matches!(code, "y" | "r") { "1" } else { "0" },
            "{code}"
        );
    }
}

/// What a future pglogical may have.
#[test]
fn unknown_code_of_a_table_is_shown_as_itself() {
    let pair = streaming();
    pair.disable();
    let status = Status::of(&pair);
    status.wait_state("disabled");
    set_code(&pair, "q");
    let table = the_table(status);
    assert!(table.is("state_code", "q"), "{table:?}");
    assert!(table.is("state", "q"), "{table:?}");
    assert!(!status.report().is_empty());
    let snapshot = status.rows("select repl_snapshot() #>> '{tables,0,state}' as state");
    assert!(snapshot[0].is("state", "q"), "{snapshot:?}");
}

/// The subscription's own row, which has no table.
#[test]
fn no_code_of_the_subscription_itself_is_an_error() {
    let pair = streaming();
    pair.disable();
    let status = Status::of(&pair);
    status.wait_state("disabled");
    for code in ["i", "s", "d", "c", "w", "u", "y", "q", "r"] {
        pair.on_subscriber(&format!(
            "update pglogical.local_sync_status set sync_status = '{code}' where sync_relname is null"
        ));
        let row = status.subscription();
        assert!(row.is("state", "disabled"), "{code}: {row:?}");
        let table = the_table(status);
        assert!(table.is("relation_name", "public.item"), "{table:?}");
        assert!(!status.report().is_empty());
    }
}

#[test]
fn table_that_is_copied_again() {
    let pair = status::streaming(patient());
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    pair.disable();
    status.wait_state("disabled");
    pair.on_subscriber("truncate item");
    pair.on_subscriber(
        "select pglogical.alter_subscription_resynchronize_table('sub', 'item', truncate := false)",
    );
    let table = the_table(status);
    assert!(table.is("state_code", "i"), "{table:?}");
    assert_eq!(table.text("state"), word(status, "i"));
    assert_eq!(status.subscription().text("tables_ready"), "0");

    let lock = Lock::on_subscriber(&pair, "item");
    pair.enable();
    let row = status.wait_cause("copying", Some("lock_wait"));
    assert_eq!(
        (row.text("tables_total"), row.text("tables_ready")),
        ("1", "0")
    );
    let table = status.wait_table_state("public.item", "copying data");
    assert!(table.is("state_code", "d"), "{table:?}");
    let sync = status.wait_worker("sync", "of the table", |_| true);
    assert!(sync.is("subscription", SUBSCRIPTION), "{sync:?}");
    let copier = status.wait_worker("copy", "that waits for the lock", |row| {
        row.is("blocked_by", &format!("{{{}}}", lock.pid))
    });
    assert!(copier.is("subscription", SUBSCRIPTION), "{copier:?}");

    drop(lock);
    status.wait_table("public.item", "as copied", |row| {
        row.is("state", "ready") || row.is("state", "synchronized")
    });
    status.wait_cause("streaming", None);
    pair.compare("table item order by id", "table item order by id");
}

#[test]
fn table_that_was_dropped_is_missing() {
    let pair = streaming();
    let status = Status::of(&pair);
    status.wait_subscription("knows the publisher", |row| !row.is_null("publisher_lsn"));
    pair.on_subscriber("drop table item");
    let table = status.wait_table_state("public.item", "missing");
    assert!(table.is_null("relation"), "{table:?}");
    assert!(!table.is_null("description"), "{table:?}");
    assert!(!status.report().is_empty());
}

/// pglogical keeps tables by name.
#[test]
fn table_that_was_renamed_is_missing() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_subscriber("alter table item rename to thing");
    let table = status.wait_table_state("public.item", "missing");
    assert!(table.is_null("relation"), "{table:?}");
    pair.on_subscriber("alter table thing rename to item");
    let table = status.wait_table_state("public.item", "ready");
    assert!(table.is("relation", "item"), "{table:?}");
}

/// Such tables have no code, and their changes arrive nevertheless.
#[test]
fn tables_that_were_never_copied_are_nothing_to_warn_of() {
    let pair = status::with_item(status::builder(Provider::Pglogical).start());
    pair.subscribe_without_copy();
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    pair.on_publisher("insert into item values (1)");
    pair.wait_caught_up();
    pair.compare("table item", "table item");
    let table = status.wait_table("public.item", "with a word", |row| !row.is_null("state"));
    assert!(
        !["missing", "not subscribed", "in initial copy"].contains(&table.text("state")),
        "{table:?}"
    );
    let row = status.wait_subscription("streams, and the publisher has answered", |row| {
        row.is("state", "streaming") && row.is("lag_bytes", "0")
    });
    assert!(row.is_null("warning"), "{row:?}");
}

/// The catalogs are there, and nobody reads them.
#[test]
fn library_that_is_no_longer_preloaded() {
    let pair = streaming();
    pair.subscriber()
        .set("shared_preload_libraries", "replwarden");
    pair.subscriber().restart();
    let status = Status::of(&pair);
    let row = status.wait_cause("down", Some("launcher_missing"));
    assert!(row.is_null("worker_pid"), "{row:?}");
    assert!(!row.is_null("remedy"), "{row:?}");
    assert!(
        the_table(status).is("state", "ready"),
        "{:?}",
        status.tables()
    );
    assert!(status.workers().is_empty() || status.workers()[0].is("provider", "native"));
    assert!(!status.report().is_empty());
}

/// The name that the copy's session takes is shared with others of the same database.
#[test]
fn session_of_a_person_is_no_copy() {
    let pair = streaming();
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    let mut session = pair.subscriber().connect(pair.database());
    lines(&mut session, "set application_name = 'another_copy'");
    assert!(
        !status.workers().iter().any(|row| row.is("kind", "copy")),
        "{:?}",
        status.workers()
    );
}
