//! Subscriptions that do not reach what they need of the publisher: each cause, and what mends it.

use std::fs;
use std::process::{Child, Stdio};

use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, SUBSCRIPTION, ShutdownMode, wait_for_value, wait_until,
};

use crate::diagnose::{
    Stopped, assert_found, assert_goes_on, builder, evidence, found, paste, streaming,
    streaming_with_stall_timeout, wait_besides, wait_found,
};
use crate::status::{self, Row, Status};

/// The end of a remedy that says to create the subscription again.
#[track_caller]
fn create_again(pair: &Pair) {
    assert!(Status::of(pair).subscriptions().is_empty());
    pair.on_subscriber("truncate item");
    pair.subscribe();
}

fn slot_is_active(pair: &Pair) -> bool {
    pair.publisher().query_one_value(
        pair.database(),
        "select active from pg_replication_slots where slot_name = 'sub'",
    )
}

/// Nobody reads the slot any more.
#[track_caller]
fn disable(pair: &Pair) {
    pair.disable();
    wait_until("nobody reads the slot", DEFAULT_DEADLINE, || {
        !slot_is_active(pair)
    });
}

#[test]
fn publisher_that_is_down() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.publisher().stop(ShutdownMode::Fast);
    let row = wait_found(status, "retrying", "publisher_unreachable");
    assert_found(&row, "warning", "transient", &["publisher"]);
    assert!(row.text("remedy").starts_with("--"), "{row:#?}");
    // It stays so.
    for _ in 0..10 {
        status.wait_looked();
        let rows = found(status, SUBSCRIPTION);
        assert!(
            rows[0].is("cause", "publisher_unreachable") && rows[0].is("state", "retrying"),
            "{rows:#?}"
        );
    }
    pair.publisher().start();
    assert_goes_on(&pair);
}

const ROLE: &str = "carrier";
const PASSWORD: &str = "right-8842";
const WRONG: &str = "Zwr0ng's\"-1177";

/// A pair whose subscription logs in with a password.
fn with_password() -> Pair {
    let pair = streaming();
    pair.publisher().execute(
        "postgres",
        &format!("set password_encryption = 'scram-sha-256'; create role {ROLE} superuser login password '{PASSWORD}'"),
    );
    let path = pair.publisher().data_directory().join("pg_hba.conf");
    let old = fs::read_to_string(&path).expect("pg_hba.conf can be read");
    fs::write(
        &path,
        format!("host all {ROLE} 127.0.0.1/32 scram-sha-256\n{old}"),
    )
    .expect("pg_hba.conf can be written");
    pair.publisher().reload();
    pair
}

/// As a literal of SQL.
fn conninfo(pair: &Pair, password: &str) -> String {
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "host=127.0.0.1 port={} user={ROLE} password='{quoted}' dbname={}",
        pair.publisher().port(),
        pair.database()
    )
    .replace('\'', "''")
}

#[test]
fn wrong_password_is_found_and_not_told() {
    let pair = with_password();
    let status = Status::of(&pair);
    pair.on_subscriber(&format!(
        "alter subscription sub connection '{}'",
        conninfo(&pair, WRONG)
    ));
    let row = wait_found(status, "retrying", "authentication_failed");
    assert_found(&row, "critical", "deterministic", &["password", ROLE]);
    for sql in [
        "select repl_diagnose()",
        "select repl_subscriptions from repl_subscriptions",
        "select repl_events from repl_events",
        "select repl_errors from repl_errors",
        "select repl_snapshot()",
    ] {
        let told = format!("{:?}", pair.subscriber().rows_text(pair.database(), sql));
        for secret in ["wr0ng", "1177", PASSWORD] {
            assert!(!told.contains(secret), "{secret} in {sql}: {told}");
        }
    }
    let proposed = commented_connection(&row);
    pair.on_subscriber(&proposed.replacen("...", "sub", 1).replacen(
        "...",
        &conninfo(&pair, PASSWORD),
        1,
    ));
    assert_goes_on(&pair);
}

#[track_caller]
fn commented_connection(row: &Row) -> String {
    let remedy = row.text("remedy");
    let start = remedy
        .find("ALTER SUBSCRIPTION")
        .unwrap_or_else(|| panic!("{row:#?}"));
    remedy[start..].to_owned()
}

#[test]
fn role_that_may_not_replicate() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.publisher().execute(
        "postgres",
        "create role carrier login; grant pg_monitor to carrier",
    );
    let conninfo = pair.publisher().conninfo(pair.database());
    pair.on_subscriber(&format!(
        "alter subscription sub connection '{}'",
        conninfo.replace("user=postgres", "user=carrier")
    ));
    let row = wait_found(status, "retrying", "authentication_failed");
    // Up to 15 "must be superuser or replication role to start walsender".
    assert_found(&row, "critical", "deterministic", &["to start "]);
    assert!(
        row.text("finding").to_lowercase().contains("replication"),
        "{row:#?}"
    );
    assert!(row.text("remedy").contains("REPLICATION"), "{row:#?}");
    pair.publisher()
        .execute("postgres", "alter role carrier replication");
    assert_goes_on(&pair);
}

#[test]
fn slot_that_was_dropped() {
    let pair = streaming();
    disable(&pair);
    pair.on_publisher("select pg_drop_replication_slot('sub')");
    pair.on_publisher("insert into item values (7)");
    pair.enable();
    let row = wait_found(Status::of(&pair), "retrying", "slot_missing");
    assert_found(&row, "critical", "deterministic", &["slot \"sub\""]);
    paste(&pair, &row);
    create_again(&pair);
    assert_goes_on(&pair);
}

/// Another reader of the slot, until it is dropped.
struct Reader(Child);

impl Reader {
    fn of_slot(pair: &Pair) -> Self {
        let child = pair
            .publisher()
            .server()
            .command("pg_recvlogical")
            .args(["--start", "--no-loop", "--slot", "sub", "--file", "-"])
            .args(["--option", "proto_version=1"])
            .args(["--option", "publication_names=pub"])
            .args(["--dbname", &pair.publisher().conninfo(pair.database())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pg_recvlogical runs");
        wait_until("another reads the slot", DEFAULT_DEADLINE, || {
            slot_is_active(pair)
        });
        Self(child)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn slot_that_another_reads() {
    let pair = streaming();
    let status = Status::of(&pair);
    disable(&pair);
    let reader = Reader::of_slot(&pair);
    pair.enable();
    let row = wait_found(status, "retrying", "slot_in_use");
    assert_found(&row, "warning", "transient", &["slot"]);
    paste(&pair, &row);
    assert_goes_on(&pair);
    drop(reader);
}

#[test]
fn slot_that_was_invalidated() {
    let pair = builder()
        .publisher_setting("max_slot_wal_keep_size", "16MB")
        .start();
    let pair = status::streaming(pair);
    let status = Status::of(&pair);
    disable(&pair);
    pair.on_publisher("create table unpublished (t text); insert into item values (7)");
    let lost = "select wal_status = 'lost' from pg_replication_slots";
    wait_until("the slot is lost", DEFAULT_DEADLINE, || {
        pair.on_publisher(
            "insert into unpublished select repeat('x', 1000) from generate_series(1, 10000)",
        );
        pair.on_publisher("select pg_switch_wal()");
        pair.on_publisher("checkpoint");
        pair.publisher().query_one_value(pair.database(), lost)
    });
    pair.enable();
    let row = wait_found(status, "retrying", "slot_invalidated");
    assert_found(&row, "critical", "deterministic", &["slot \"sub\"", "WAL"]);
    // The worker's error has told it first, perhaps.
    let rows = wait_for_value(
        "the publisher says that the slot is lost",
        DEFAULT_DEADLINE,
        || found(status, SUBSCRIPTION),
        |rows| evidence(status, &rows[0], "slot,wal_status").as_deref() == Some("lost"),
    );
    // What is said of WAL that the publisher keeps says no more than that, and does not say it first.
    assert!(rows[0].is("cause", "slot_invalidated"), "{rows:#?}");
    paste(&pair, &row);
    create_again(&pair);
    assert_goes_on(&pair);
}

#[test]
fn publication_that_is_missing() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_publisher("drop publication pub");
    pair.on_publisher("insert into item values (7)");
    if pair.publisher().server().major() >= 18 {
        return skipped_without_a_word(&pair);
    }
    let row = wait_found(status, "retrying", "publication_missing");
    assert_found(&row, "critical", "deterministic", &["pub"]);
    assert!(
        row.text("remedy").contains("CREATE PUBLICATION"),
        "{row:#?}"
    );
    pair.on_publisher("create publication pub for table item");
    paste(&pair, &row);
    // The publisher cannot decode what was changed meanwhile, however often it is asked.
    if Status::of(&pair).subscriptions().is_empty() {
        create_again(&pair);
    }
    assert_goes_on(&pair);
}

/// From 18 on the publisher leaves out what it would have published, and goes on.
fn skipped_without_a_word(pair: &Pair) {
    pair.wait_caught_up();
    let row = wait_besides(Status::of(pair), "publication_missing");
    assert_found(&row, "warning", "deterministic", &["pub", "never sent"]);
    assert!(row.is("state", "streaming"), "{row:#?}");
    pair.on_publisher("create publication pub for table item");
    paste(pair, &row);
    assert!(
        row.text("remedy").contains("repl_resync_table()"),
        "{row:#?}"
    );
    pair.on_subscriber("select repl_resync_table('item')");
    assert_goes_on(pair);
}

/// It was taken away, and nothing was changed since.
#[test]
fn publication_that_will_be_missed() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_publisher("drop publication pub");
    let row = wait_besides(status, "publication_missing");
    assert_found(&row, "warning", "deterministic", &["pub"]);
    assert!(row.is("state", "streaming"), "{row:#?}");
    pair.on_publisher("create publication pub for table item");
    paste(&pair, &row);
    assert_goes_on(&pair);
}

/// The process that sends to the subscription.
#[track_caller]
fn walsender(pair: &Pair) -> i32 {
    wait_for_value(
        "there is a walsender",
        DEFAULT_DEADLINE,
        || {
            pair.publisher().query_one_value::<Option<i32>>(
                pair.database(),
                "select (select active_pid from pg_replication_slots where slot_name = 'sub')",
            )
        },
        Option::is_some,
    )
    .expect("accepted as some")
}

/// The worker gives up, and the slot is still taken by whom it does not hear.
#[test]
fn walsender_that_went_silent_for_longer_than_the_worker_waits() {
    let pair = builder()
        .subscriber_setting("wal_receiver_timeout", "1s")
        .start();
    let pair = status::streaming(pair);
    let status = Status::of(&pair);
    let stopped = Stopped::process(pair.publisher(), walsender(&pair));
    let row = wait_found(status, "retrying", "slot_in_use");
    assert_found(&row, "warning", "transient", &["slot \"sub\""]);
    // It ends as soon as it can.
    paste(&pair, &row);
    drop(stopped);
    assert_goes_on(&pair);
}

/// Each time it falls silent, the worker gives up, and begins anew when the slot is free.
#[test]
fn wal_receiver_timeout_again_and_again() {
    let pair = builder()
        .subscriber_setting("wal_receiver_timeout", "500ms")
        // A worker that has given up is not there again at once.
        .subscriber_setting("wal_retrieve_retry_interval", "10s")
        .start();
    let pair = status::streaming(pair);
    let status = Status::of(&pair);
    let mut row = None;
    for round in 1..=2 {
        let pid = pair.apply_worker_pid();
        let stopped = Stopped::process(pair.publisher(), walsender(&pair));
        wait_until("the worker has given up", DEFAULT_DEADLINE, || {
            pair.subscriber().query_one_value::<bool>(
                pair.database(),
                &format!("select not exists (select from pg_stat_activity where pid = {pid})"),
            )
        });
        drop(stopped);
        let seen = wait_found(status, "retrying", "wal_receiver_timeout");
        assert_found(&seen, "warning", "transient", &["timeout"]);
        let occurrences = evidence(status, &seen, "error,occurrences");
        assert_eq!(occurrences, Some(round.to_string()), "{seen:#?}");
        row = Some(seen);
    }
    paste(&pair, &row.expect("two rounds"));
    let timeout: String = pair.subscriber().query_one_value(
        pair.database(),
        "select setting from pg_settings where name = 'wal_receiver_timeout'",
    );
    assert_eq!(timeout, "300000");
    assert_goes_on(&pair);
}

/// The publisher is ahead and answers us, and nothing comes.
#[test]
fn walsender_that_went_silent() {
    let pair = streaming_with_stall_timeout("1s");
    let status = Status::of(&pair);
    let stopped = Stopped::process(pair.publisher(), walsender(&pair));
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "stalled", "publisher_silent");
    assert_found(&row, "critical", "transient", &["heard nothing"]);
    assert!(
        row.text("remedy").starts_with("SELECT repl_restart_worker"),
        "{row:#?}"
    );
    drop(stopped);
    assert_goes_on(&pair);
}

/// A connection that died without a word: the walsender is gone, and the worker does not know.
#[test]
fn network_that_delivers_nothing_any_more() {
    let pair = builder()
        .publisher_setting("wal_sender_timeout", "0")
        .subscriber_setting("wal_receiver_timeout", "0")
        .subscriber_setting("replwarden.probe_timeout", "500ms")
        .subscriber_setting("replwarden.stall_timeout", "1s")
        .start();
    let pair = status::with_item(pair);
    let network = replwarden_tests::Proxy::before(pair.publisher());
    pair.on_publisher("insert into item values (1), (2)");
    pair.on_subscriber(&pair.subscribe_sql(true).replace(
        &pair.publisher().conninfo(pair.database()),
        &network.conninfo(pair.database()),
    ));
    pair.wait_copied();
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    network.freeze();
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "stalled", "publisher_unreachable");
    assert_found(&row, "critical", "transient", &["heard nothing"]);
    network.thaw();
    assert_goes_on(&pair);
}

/// Nothing comes, since there is nothing: however small stall_timeout is.
#[test]
fn publisher_with_nothing_to_say_is_no_stall() {
    let pair = streaming_with_stall_timeout("100ms");
    let status = Status::of(&pair);
    crate::diagnose::wait_well(status);
    let began = status.rows("select clock_timestamp() as at").remove(0);
    let sql = format!(
        "select clock_timestamp() - '{}' > '5 s' as is_long",
        began.text("at")
    );
    wait_until("nothing was found for 5 seconds", DEFAULT_DEADLINE, || {
        let rows = found(status, SUBSCRIPTION);
        assert!(
            rows.len() == 1 && rows[0].is("state", "streaming") && rows[0].is_null("cause"),
            "{rows:#?}"
        );
        status.rows(&sql)[0].is("is_long", "t")
    });
    let events = status.rows("select * from repl_events where event not like '%copying%'");
    assert!(events.is_empty(), "{events:#?}");
    assert_goes_on(&pair);
}
