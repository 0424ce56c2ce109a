//! What `repl_preflight()` says of two servers: nothing where all is in order; and where one thing is broken, that one, until
//! its remedy is pasted.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, wait_until};

use crate::diagnose::builder;
use crate::preflight_check::{Preflight, assert_shows, paste, row_of};
use crate::since::origin_limit;
use crate::status;

#[track_caller]
fn with_item() -> Pair {
    status::with_item(builder().start())
}

#[test]
fn pair_in_order_is_found_in_order() {
    let pair = with_item();
    let native = [
        "publications",
        "replication_workers",
        "sync_workers",
        "publisher_timeouts",
        "owner_password",
    ];
    let before = Preflight::before(&pair);
    before.assert_in_order();
    assert_shows(&before.rows(), &native);
    pair.on_publisher("insert into item values (1), (2)");
    pair.subscribe();
    pair.wait_copied();
    let after = Preflight::of_subscription(&pair);
    wait_until("the worker has its slot", DEFAULT_DEADLINE, || {
        after.trouble().is_empty()
    });
    assert_shows(&after.rows(), &native);
    assert_shows(&after.rows(), &["slot"]);
}

/// Without a restart of either server.
#[test]
fn settings_that_reload() {
    let pair = builder()
        .publisher_setting("max_prepared_transactions", "5")
        .start();
    let pair = status::with_item(pair);
    let preflight = Preflight::before(&pair);
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    preflight.breaks(
        || publisher.set("wal_sender_timeout", "10s"),
        &[("warning", "wal_sender_timeout")],
    );
    preflight.breaks(
        || subscriber.set("wal_receiver_timeout", "500ms"),
        &[("warning", "wal_receiver_timeout")],
    );
    preflight.breaks(
        || publisher.set("logical_decoding_work_mem", "64kB"),
        &[("info", "logical_decoding_work_mem")],
    );
    preflight.breaks(
        || subscriber.set("max_sync_workers_per_subscription", "0"),
        &[("error", "sync_workers")],
    );
    preflight.breaks(
        || pair.on_publisher("alter role postgres set statement_timeout = '10min'"),
        &[("warning", "publisher_timeouts")],
    );
    preflight.breaks(
        || {
            pair.on_subscriber("alter database shop set default_transaction_read_only = on");
        },
        &[("error", "owner_settings")],
    );
    preflight.breaks(
        || subscriber.set("lock_timeout", "1min"),
        &[("info", "owner_settings")],
    );
    if publisher.query_one_value::<bool>(
        "postgres",
        "select exists (select from pg_settings where name = 'output_plugin_libraries')",
    ) {
        preflight.breaks(
            || publisher.set("output_plugin_libraries", "test_decoding, pglogical_output"),
            &[("error", "output_plugin_libraries")],
        );
        let list: String = publisher.query_one_value("postgres", "show output_plugin_libraries");
        assert!(list.contains("test_decoding, pglogical_output"), "{list}");
    }
    pair.on_publisher(
        "insert into item select i, repeat('x', 1000) from generate_series(1, 2000) i",
    );
    preflight.breaks(
        || publisher.set("max_slot_wal_keep_size", "1MB"),
        &[("warning", "max_slot_wal_keep_size")],
    );
    preflight.breaks(
        || {
            pair.on_publisher("begin; create table held (); prepare transaction 'it''s \"odd\"'");
        },
        &[("warning", "prepared_transactions")],
    );
    preflight.breaks(
        || pair.on_publisher("create extension citext"),
        &[("info", "extensions")],
    );
    pair.on_subscriber("drop extension citext");
    pair.on_publisher("drop extension citext");
    preflight.breaks(
        || {
            pair.on_publisher(
                "create extension citext; create schema aside; create table aside.typed (a citext)",
            )
        },
        &[("warning", "extensions")],
    );
}

#[test]
fn settings_that_need_a_restart() {
    let pair = with_item();
    let preflight = Preflight::before(&pair);
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    let background_workers: i64 = subscriber.query_one_value(
        "postgres",
        "select count(*) from pg_stat_activity where backend_type ~ 'replwarden|launcher' and backend_type !~ 'autovacuum'",
    );
    let rows = preflight.breaks(
        || {
            publisher.set("wal_level", "replica");
            publisher.set("max_replication_slots", "2");
            publisher.set("max_wal_senders", "2");
            publisher.restart();
            subscriber.set("max_logical_replication_workers", "0");
            subscriber.set(
                "max_worker_processes",
                &(background_workers + 1).to_string(),
            );
            subscriber.set(origin_limit(), "1");
            subscriber.restart();
        },
        &[
            ("error", "wal_level"),
            ("warning", "replication_slots"),
            ("warning", "wal_senders"),
            ("error", "replication_workers"),
            ("warning", "worker_processes"),
            ("warning", "replication_origins"),
        ],
    );
    let slots = row_of(&rows, "replication_slots");
    assert!(
        slots.text("finding").contains("is 2: 2 free, 3 needed"),
        "{slots:#?}"
    );
}

#[test]
fn publications_that_are_missing() {
    let pair = with_item();
    let conninfo = pair.publisher().conninfo(pair.database());
    let preflight = Preflight::of(&pair, &conninfo, "{pub,\"it's \\\"odd\\\"\"}", "native");
    let row = row_of(&preflight.trouble(), "publications");
    assert!(row.is("severity", "error"), "{row:#?}");
    assert_eq!(row.get("object"), Some("it's \"odd\""));
    let remedy = row
        .text("remedy")
        .replace("-- CREATE", "CREATE")
        .replace('…', "item");
    pair.on_publisher(&remedy);
    preflight.assert_in_order();
    let none = Preflight::of(&pair, &conninfo, "{}", "native");
    let row = row_of(&none.rows(), "publications");
    assert!(row.is("severity", "error"), "{row:#?}");
}

/// Of somebody else.
#[test]
fn slots_that_nobody_reads() {
    let pair = builder()
        .publisher_setting("max_wal_size", "32MB")
        .publisher_setting("min_wal_size", "32MB")
        .start();
    let pair = status::with_item(pair);
    let preflight = Preflight::before(&pair);
    let before = preflight.not_fine();
    pair.on_publisher("select pg_create_physical_replication_slot('idle', true)");
    let rows = preflight.wait_new(&before, &[("info", "other_slots")]);
    assert!(
        row_of(&rows, "other_slots")
            .text("finding")
            .contains("\"idle\"")
    );
    pair.on_publisher("create schema aside; create table aside.unpublished (t text)");
    let fill = || {
        pair.on_publisher(
            "insert into aside.unpublished select repeat('x', 1000) from generate_series(1, 20000)",
        );
    };
    wait_until("the slot holds back much", DEFAULT_DEADLINE, || {
        fill();
        preflight
            .trouble()
            .iter()
            .any(|row| row.is("object", "idle"))
    });
    let row = row_of(&preflight.trouble(), "other_slots");
    assert!(row.text("finding").contains("holds back"), "{row:#?}");
    // Whether it may be dropped is for a person to decide.
    assert!(
        row.text("remedy")
            .contains("-- SELECT pg_drop_replication_slot('idle');"),
        "{row:#?}"
    );
    pair.publisher().set("max_slot_wal_keep_size", "16MB");
    let is_lost = "select wal_status = 'lost' from pg_replication_slots";
    wait_until("the slot is lost", DEFAULT_DEADLINE, || {
        fill();
        pair.on_publisher("select pg_switch_wal()");
        pair.on_publisher("checkpoint");
        pair.publisher().query_one_value(pair.database(), is_lost)
    });
    let row = row_of(&preflight.trouble(), "other_slots");
    paste(&pair, &row);
    preflight.wait_as_before(&before);
}

/// The publisher is the server itself.
#[test]
fn subscription_that_would_wait_for_itself() {
    let pair = with_item();
    pair.subscriber()
        .execute("postgres", "create database other");
    pair.subscriber().execute(
        "other",
        "create table item (id int primary key, note text); create publication pub for table item",
    );
    let preflight = Preflight::through(&pair, &pair.subscriber().conninfo("other"));
    let trouble = preflight.trouble();
    assert_eq!(trouble.len(), 1, "{trouble:#?}");
    assert!(trouble[0].is("check_name", "same_server"), "{trouble:#?}");
}

#[test]
fn publisher_is_asked_as_often_for_many_as_for_one() {
    let pair = builder().publisher_setting("log_statement", "all").start();
    let pair = status::with_item(pair);
    let conninfo = pair.publisher().conninfo(pair.database());
    let asked = |publications: &str| {
        let count = || {
            let log = pair.publisher().log();
            log.matches("replwarden: LOG:  execute").count()
        };
        let before = count();
        Preflight::of(&pair, &conninfo, publications, "native").rows();
        count() - before
    };
    let once = asked("{pub}");
    assert!(once > 2, "{once}");
    for number in 1..=20 {
        pair.on_both(&format!(
            "create table item_{number} (id int primary key, note text)"
        ));
        pair.on_publisher(&format!(
            "create publication pub_{number} for table item_{number}"
        ));
    }
    let many: Vec<String> = (1..=20).map(|number| format!("pub_{number}")).collect();
    assert_eq!(asked(&format!("{{{}}}", many.join(","))), once);
}
