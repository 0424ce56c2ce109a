//! The states of a subscription that both providers know, and what is said in each of them.

use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, ShutdownMode, wait_for_value, wait_until,
};

use crate::loan::on_both_providers;
use crate::status::{self, Lock, Row, Status};

on_both_providers!(
    streaming_subscription,
    disabled_subscription_and_its_remedy,
    stopped_publisher,
    slot_that_was_dropped,
    lock_makes_a_stall,
    remedy_of_a_stall_ends_it,
    lock_leaves_it_behind_before_it_is_a_stall,
    since_moves_with_the_state_alone,
    facts_come_back_after_a_restart_of_the_subscriber,
    facts_come_back_after_a_crash_of_the_subscriber,
    views_answer_where_the_library_is_not_preloaded,
    cause_is_unknown_where_nobody_asks_the_publisher,
);

fn streaming(provider: Provider) -> Pair {
    status::streaming(status::builder(provider).start())
}

/// A pair on which a lock is a stall at once, or never.
fn streaming_with_stall_timeout(provider: Provider, timeout: &str) -> Pair {
    status::streaming(
        status::builder(provider)
            .subscriber_setting("replwarden.stall_timeout", timeout)
            .start(),
    )
}

/// Streams, with nothing more to come.
#[track_caller]
fn wait_all_well(status: Status<'_>) -> Row {
    status.wait_subscription("streams and is not behind", |row| {
        row.is("state", "streaming")
            && row.is("lag_bytes", "0")
            && row.is("lag", "00:00:00")
            && row.is("slot_active", "t")
    })
}

/// What only the publisher can tell.
#[track_caller]
fn knows_the_publisher(row: &Row) -> bool {
    ["publisher_lsn", "lag_bytes", "lag", "slot_active"]
        .iter()
        .any(|column| !row.is_null(column))
}

fn streaming_subscription(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    let row = wait_all_well(status);
    assert!(row.is("enabled", "t"), "{row:?}");
    for column in ["cause", "remedy", "warning", "last_error", "last_error_at"] {
        assert!(row.is_null(column), "{column}: {row:?}");
    }
    for column in ["applied_lsn", "publisher_lsn", "asked_at"] {
        assert!(!row.is_null(column), "{column}: {row:?}");
    }
    for column in ["copy_percent", "copy_bytes_per_second", "copy_eta"] {
        assert!(row.is_null(column), "{column}: {row:?}");
    }
    assert_eq!(
        (row.text("tables_total"), row.text("tables_ready")),
        ("1", "1")
    );
    assert_eq!(row.text("worker_pid"), pair.apply_worker_pid().to_string());
    assert_eq!(row.text("slot_name"), pair.slot_name());
    assert_eq!(row.text("publisher"), pair.publisher().conninfo("shop"));
    let (name, publications) = match provider {
        Provider::Native => ("native", "{pub}"),
        Provider::Pglogical => ("pglogical", "{default}"),
    };
    assert_eq!(row.text("provider"), name);
    assert_eq!(row.text("publications"), publications);

    let tables = status.tables();
    let [table] = tables.as_slice() else {
        panic!("{tables:?}");
    };
    for (column, value) in [
        ("provider", name),
        ("subscription", "sub"),
        ("relation", "item"),
        ("relation_name", "public.item"),
        ("state_code", "r"),
        ("state", "ready"),
    ] {
        assert_eq!(table.text(column), value, "{column}: {table:?}");
    }
    for column in ["worker_pid", "rows_copied", "percent", "eta"] {
        assert!(table.is_null(column), "{column}: {table:?}");
    }
    assert_described(status, table);

    let apply = status.wait_worker("apply", "that waits for changes", |row| {
        row.is("activity", "waiting for changes")
    });
    assert_eq!(
        apply.text("pid"),
        row.text("worker_pid"),
        "{apply:?}, {row:?}"
    );
    assert!(apply.is("subscription", "sub"), "{apply:?}");
    assert!(apply.is_null("blocked_by"), "{apply:?}");
    assert!(!apply.is_null("started_at"), "{apply:?}");
    let kinds: Vec<String> = status
        .workers()
        .iter()
        .filter(|row| row.is_null("subscription"))
        .map(|row| format!("{} {}", row.text("provider"), row.text("kind")))
        .collect();
    let wanted: &[&str] = match provider {
        Provider::Native => &["native launcher"],
        Provider::Pglogical => &["pglogical manager", "pglogical supervisor"],
    };
    for one in wanted {
        assert!(kinds.iter().any(|kind| kind == one), "{one}: {kinds:?}");
    }
}

/// The words of a table's state are those of `repl_sync_states`.
#[track_caller]
fn assert_described(status: Status<'_>, table: &Row) {
    let words = status.rows(&format!(
        "select state, description from repl_sync_states where provider = '{}' and code = '{}'",
        table.text("provider"),
        table.text("state_code")
    ));
    assert_eq!(words.len(), 1, "{words:?}");
    for column in ["state", "description"] {
        assert_eq!(table.get(column), words[0].get(column), "{table:?}");
    }
}

fn disabled_subscription_and_its_remedy(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_all_well(status);
    pair.disable();
    // A worker may take its time to end.
    let row = status.wait_subscription("is disabled, with no worker", |row| {
        row.is("state", "disabled") && row.is_null("worker_pid")
    });
    assert!(row.is("cause", "disabled"), "{row:?}");
    assert!(row.is("enabled", "f"), "{row:?}");
    assert!(row.is("tables_ready", "1"), "{row:?}");
    status.wait_table_state("public.item", "ready");
    assert!(
        !status.workers().iter().any(|row| row.is("kind", "apply")),
        "{:?}",
        status.workers()
    );
    pair.on_publisher("insert into item values (10)");
    pair.on_subscriber(row.text("remedy"));
    wait_all_well(status);
    pair.compare("table item order by id", "table item order by id");
}

fn stopped_publisher(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_all_well(status);
    pair.publisher().stop(ShutdownMode::Fast);
    let row = status.wait_subscription("finds no publisher", |row| {
        row.is("state", "retrying")
            && row.is("cause", "publisher_unreachable")
            && !row.is_null("last_error")
            // The worker's own error is there sooner than that nobody answers.
            && !knows_the_publisher(row)
    });
    assert!(!row.is_null("last_error_at"), "{row:?}");
    assert!(!row.is_null("remedy"), "{row:?}");
    assert!(row.is("enabled", "t"), "{row:?}");
    let since = row.text("since").to_owned();
    // As often as it is tried, it is the same trouble.
    let again = status.wait_subscription("has failed once more", |later| {
        later.text("last_error_at") > row.text("last_error_at")
    });
    assert!(again.is("state", "retrying"), "{again:?}");
    assert_eq!(again.text("since"), since, "{again:?}");

    pair.publisher().start();
    // Spares the test pglogical's growing pauses.
    if provider == Provider::Pglogical {
        pair.disable();
        pair.enable();
    }
    let row = wait_all_well(status);
    assert!(row.is_null("cause") && row.is_null("remedy"), "{row:?}");
    assert!(row.text("since") > since.as_str(), "{row:?}");
}

/// Drops the slot on the publisher while the subscription is disabled.
fn drop_slot(pair: &Pair) {
    let slot = pair.slot_name();
    pair.disable();
    let publisher = pair.publisher();
    wait_until("nobody uses the slot", DEFAULT_DEADLINE, || {
        !publisher.query_one_value::<bool>(
            pair.database(),
            &format!("select active from pg_replication_slots where slot_name = '{slot}'"),
        )
    });
    pair.on_publisher(&format!("select pg_drop_replication_slot('{slot}')"));
    pair.enable();
}

fn slot_that_was_dropped(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_all_well(status);
    drop_slot(&pair);
    status.wait_cause("retrying", Some("slot_missing"));
    // The worker's error tells it, too, and sooner. The publisher answers, but not about the slot.
    let row = status.wait_subscription("has no slot, as the publisher says", |row| {
        row.is_null("slot_active") && !row.is_null("publisher_lsn")
    });
    assert!(!row.is_null("publisher_lsn"), "{row:?}");
    for column in ["restart_lsn", "retained_bytes", "wal_status"] {
        assert!(row.is_null(column), "{column}: {row:?}");
    }
    assert!(!row.is("slot_active", "t"), "{row:?}");
    // To start over is all that helps; the remedy is not to fail on the slot that is not there.
    pair.on_subscriber(row.text("remedy"));
    assert!(status.subscriptions().is_empty());
}

#[track_caller]
fn wait_stalled_by(status: Status<'_>, lock: &Lock) -> Row {
    let row = status.wait_cause("stalled", Some("lock_wait"));
    assert!(row.text("remedy").contains(&lock.pid), "{row:?}");
    row
}

fn lock_makes_a_stall(provider: Provider) {
    let pair = streaming_with_stall_timeout(provider, "300ms");
    let status = Status::of(&pair);
    wait_all_well(status);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (10)");
    let row = wait_stalled_by(status, &lock);
    assert!(!row.is_null("since"), "{row:?}");
    assert!(!row.is_null("worker_pid"), "{row:?}");
    let worker = status.wait_worker("apply", "that waits for the lock", |row| {
        row.is("activity", "waiting for a lock")
    });
    assert_eq!(worker.text("blocked_by"), format!("{{{}}}", lock.pid));
    assert_eq!(worker.text("wait_event"), "Lock/relation");

    drop(lock);
    let row = wait_all_well(status);
    assert!(row.is_null("cause") && row.is_null("remedy"), "{row:?}");
    let worker = status.wait_worker("apply", "that waits for changes", |row| {
        row.is("activity", "waiting for changes")
    });
    assert!(worker.is_null("blocked_by"), "{worker:?}");
    pair.compare("table item order by id", "table item order by id");
}

fn remedy_of_a_stall_ends_it(provider: Provider) {
    let pair = streaming_with_stall_timeout(provider, "300ms");
    let status = Status::of(&pair);
    wait_all_well(status);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (10)");
    let row = wait_stalled_by(status, &lock);
    pair.on_subscriber(row.text("remedy"));
    wait_all_well(status);
    drop(lock);
}

fn lock_leaves_it_behind_before_it_is_a_stall(provider: Provider) {
    let pair = streaming_with_stall_timeout(provider, "1h");
    let status = Status::of(&pair);
    wait_all_well(status);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (10)");
    let row = status.wait_cause("catching_up", Some("lock_wait"));
    assert!(row.text("remedy").contains(&lock.pid), "{row:?}");
    wait_for_value(
        "it is 10 seconds behind, and still no more than that",
        DEFAULT_DEADLINE,
        || {
            status.rows(
                "select *, lag >= '10 s' and lag_bytes > 0 and publisher_lsn > applied_lsn as behind
                   from repl_subscriptions",
            )
        },
        |rows| {
            assert!(rows[0].is("state", "catching_up"), "{rows:?}");
            assert!(rows[0].is("tables_ready", "1"), "{rows:?}");
            rows[0].is("behind", "t")
        },
    );
    drop(lock);
    wait_all_well(status);
}

fn since_moves_with_the_state_alone(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_all_well(status);
    // It is known of a state that was seen to begin.
    pair.disable();
    let disabled = wait_since(status, "disabled", "");
    pair.enable();
    let first = wait_since(status, "streaming", &disabled);
    let mut seen = wait_all_well(status);
    for id in 10..13 {
        pair.on_publisher(&format!("insert into item values ({id})"));
        pair.wait_caught_up();
        let asked_at = seen.text("asked_at").to_owned();
        seen = status.wait_subscription("has been looked at again", |row| {
            assert!(row.is("state", "streaming"), "{row:?}");
            assert_eq!(row.text("since"), first, "{row:?}");
            row.text("asked_at") > asked_at.as_str()
        });
    }
    pair.disable();
    let disabled = wait_since(status, "disabled", &first);
    pair.enable();
    wait_since(status, "streaming", &disabled);
}

/// Waits until a state is there that has begun after that time, and returns when. It does not end before the worker has
/// seen it, too.
#[track_caller]
fn wait_since(status: Status<'_>, state: &str, after: &str) -> String {
    let row = status.wait_subscription(&format!("is {state} since after {after}"), |row| {
        row.is("state", state) && row.get("since").is_some_and(|since| since > after)
    });
    status.wait_looked();
    let later = status.wait_state(state);
    assert_eq!(later.get("since"), row.get("since"), "{row:?}");
    row.text("since").to_owned()
}

fn facts_come_back_after_a_restart_of_the_subscriber(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    let before = wait_all_well(status);
    pair.subscriber().restart();
    let after = wait_all_well(status);
    assert!(
        after.text("asked_at") > before.text("asked_at"),
        "{after:?} after {before:?}"
    );
}

fn facts_come_back_after_a_crash_of_the_subscriber(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    let before = wait_all_well(status);
    // Replication commits asynchronously; a commit that does not flushes what came before it.
    pair.on_subscriber("create table flushed ()");
    pair.subscriber().kill();
    pair.subscriber().start();
    let after = wait_all_well(status);
    assert!(
        after.text("asked_at") > before.text("asked_at"),
        "{after:?} after {before:?}"
    );
}

fn views_answer_where_the_library_is_not_preloaded(provider: Provider) {
    let pair = status::streaming(Pair::start(provider));
    let status = Status::of(&pair);
    let row = status.wait_cause("streaming", None);
    assert!(row.is("tables_ready", "1"), "{row:?}");
    assert_eq!(row.text("slot_name"), pair.slot_name());
    assert_eq!(row.text("worker_pid"), pair.apply_worker_pid().to_string());
    assert!(row.is_null("asked_at"), "{row:?}");
    assert!(!knows_the_publisher(&row), "{row:?}");
    status.wait_table_state("public.item", "ready");
    status.wait_worker("apply", "that waits for changes", |row| {
        row.is("activity", "waiting for changes")
    });
    let report = status.report().join("\n");
    assert!(report.contains("preload"), "{report}");
    let snapshot = status.rows(
        "select s -> 'installation' ->> 'preloaded' as preloaded, s #>> '{subscriptions,0,state}' as state
           from repl_snapshot() s",
    );
    assert!(snapshot[0].is("preloaded", "false"), "{snapshot:?}");
    assert!(snapshot[0].is("state", "streaming"), "{snapshot:?}");

    pair.disable();
    let row = status.wait_cause("disabled", Some("disabled"));
    pair.on_subscriber(row.text("remedy"));
    status.wait_cause("streaming", None);
}

/// It could be the network, the publisher or a password: without its answer that would be a guess.
fn cause_is_unknown_where_nobody_asks_the_publisher(provider: Provider) {
    let pair = status::streaming(Pair::start(provider));
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    pair.publisher().stop(ShutdownMode::Fast);
    let row = status.wait_cause("retrying", Some("unknown"));
    assert!(row.is("enabled", "t"), "{row:?}");
    assert!(!status.report().is_empty());
}
