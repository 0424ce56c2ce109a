//! Whoever else takes the server down, no subscription is disabled for it.

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, Pair, Provider, wait_for_value};

use crate::breaker::{
    THRESHOLD, crash, crashes, events, is_enabled, wait_at_work, wait_disabled, wait_events,
    wait_watched,
};
use crate::breaker_native::{builder, crash_apply_worker};
use crate::control::assert_streams;
use crate::status;

/// A process of the server, told by `backend_type`, as soon as there is one.
#[track_caller]
fn pid_of(cluster: &Cluster, database: &str, kind: &str) -> i32 {
    let sql = format!(
        "select (select pid from pg_stat_activity
                  where backend_type = '{kind}' and coalesce(datname, '{database}') = '{database}'
                    and pid <> pg_backend_pid() limit 1)"
    );
    let found = wait_for_value(
        &format!("there is a process {kind}"),
        DEFAULT_DEADLINE,
        || cluster.query_one_value::<Option<i32>>(database, &sql),
        Option::is_some,
    );
    found.expect("accepted as some")
}

#[track_caller]
fn crash_kinds(pair: &Pair, kinds: &[&str]) {
    let cluster = pair.subscriber();
    for (number, kind) in kinds.iter().enumerate() {
        for _ in 0..THRESHOLD {
            // Before, a worker of the database may be one that only sees whether the extension is there, and ends.
            wait_watched(pair);
            crash(cluster, pid_of(cluster, pair.database(), kind));
        }
        wait_watched(pair);
        assert!(is_enabled(pair), "disabled by crashes of {kind}");
        assert_eq!(crashes(cluster), (number + 1) * THRESHOLD);
    }
    assert_streams(pair, 100);
    for word in ["crash_loop_broken", "worker_crashed"] {
        let told = events(pair, word);
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn processes_that_do_not_replicate_are_not_blamed() {
    let pair = status::streaming(builder().start());
    crash_kinds(
        &pair,
        &[
            "walwriter",
            "checkpointer",
            "autovacuum launcher",
            "replwarden worker",
            "replwarden launcher",
            "logical replication launcher",
        ],
    );
}

#[test]
fn supervisor_and_manager_of_pglogical_are_not_blamed() {
    let pair = status::streaming(
        status::builder(Provider::Pglogical)
            .subscriber_setting("replwarden.crash_loop_window", "1h")
            .start(),
    );
    // pglogical commits asynchronously: without that, the crash would undo the copy.
    pair.on_subscriber("checkpoint");
    let manager: String = pair.subscriber().query_one_value(
        pair.database(),
        "select 'pglogical manager ' || oid from pg_database where datname = current_database()",
    );
    crash_kinds(&pair, &["pglogical supervisor", &manager]);
}

/// Begins to run a statement in a session, and returns the process of it.
fn run_apart(pair: &Pair, sql: &'static str) -> i32 {
    let mut session = pair.subscriber().connect(pair.database());
    let pid = session
        .query_one("select pg_backend_pid()", &[])
        .expect("a session knows its process")
        .get(0);
    // It ends with the connection, when the server crashes.
    std::thread::spawn(move || session.batch_execute(sql));
    pid
}

#[test]
fn sessions_and_their_parallel_workers_are_not_blamed() {
    let pair = status::streaming(builder().start());
    let force = if pair.subscriber().server().major() < 16 {
        "set force_parallel_mode = on; select pg_sleep(3600)"
    } else {
        "set debug_parallel_query = on; select pg_sleep(3600)"
    };
    for _ in 0..THRESHOLD {
        wait_at_work(&pair);
        run_apart(&pair, force);
        let worker = pid_of(pair.subscriber(), pair.database(), "parallel worker");
        crash(pair.subscriber(), worker);
    }
    for _ in 0..THRESHOLD {
        wait_at_work(&pair);
        let backend = run_apart(&pair, "select pg_sleep(3600)");
        crash(pair.subscriber(), backend);
    }
    // As those of pglogical are, which receive its copies.
    for _ in 0..THRESHOLD {
        wait_at_work(&pair);
        let backend = run_apart(
            &pair,
            "set application_name = 'sub_copy'; set session_replication_role = replica; select pg_sleep(3600)",
        );
        crash(pair.subscriber(), backend);
    }
    wait_watched(&pair);
    assert!(is_enabled(&pair));
    assert_streams(&pair, 100);
    assert_eq!(crashes(pair.subscriber()), 3 * THRESHOLD);
    assert!(events(&pair, "crash_loop_broken").is_empty());
}

/// An autovacuum worker that takes long, for the lock that it waits for keeps it there.
#[test]
fn autovacuum_workers_are_not_blamed() {
    let pair = status::streaming(
        builder()
            .subscriber_setting("autovacuum_naptime", "1s")
            .subscriber_setting("autovacuum_vacuum_cost_delay", "100ms")
            .subscriber_setting("autovacuum_vacuum_cost_limit", "1")
            .start(),
    );
    pair.on_subscriber(
        "create table worn (id int, note text) with (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
         insert into worn select n, repeat('x', 1000) from generate_series(1, 20000) n",
    );
    for _ in 0..THRESHOLD {
        wait_at_work(&pair);
        // A crash resets the statistics that autovacuum goes by.
        pair.on_subscriber("update worn set note = note || 'y' where id % 10 = 0");
        let worker = pid_of(pair.subscriber(), pair.database(), "autovacuum worker");
        crash(pair.subscriber(), worker);
    }
    wait_watched(&pair);
    assert!(is_enabled(&pair));
    assert_streams(&pair, 100);
    assert_eq!(crashes(pair.subscriber()), THRESHOLD);
    assert!(events(&pair, "crash_loop_broken").is_empty());
}

/// Others may die in between: its own crashes count, and only with one of them is it disabled.
#[test]
fn crash_of_another_is_no_occasion() {
    let pair = status::streaming(builder().start());
    let walwriter = |pair: &Pair| {
        wait_at_work(pair);
        crash(
            pair.subscriber(),
            pid_of(pair.subscriber(), pair.database(), "walwriter"),
        );
    };
    crash_apply_worker(&pair, 11);
    walwriter(&pair);
    crash_apply_worker(&pair, 12);
    walwriter(&pair);
    wait_watched(&pair);
    assert!(is_enabled(&pair));
    crash_apply_worker(&pair, 13);
    wait_disabled(&pair);
    wait_watched(&pair);
    let broken = wait_events(&pair, "crash_loop_broken", 1);
    assert!(
        broken.len() == 1 && broken[0].is("crashes", "3"),
        "{broken:?}"
    );
    // Enabled again, it is not to blame for what others do.
    pair.on_subscriber("select repl_enable('sub')");
    assert_streams(&pair, 14);
    walwriter(&pair);
    wait_watched(&pair);
    assert!(is_enabled(&pair));
    assert_streams(&pair, 15);
    assert_eq!(events(&pair, "crash_loop_broken").len(), 1);
}
