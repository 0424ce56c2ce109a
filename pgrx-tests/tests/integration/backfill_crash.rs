//! Backfills outlive the end of their worker and of the server: no row is missed, and none is done twice.

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, ShutdownMode, wait_for_value, wait_until};

use crate::backfill_state::{Backfill, Backfills, DEFAULTS, LARGE_ITEM};
use crate::database::lines;

const DATABASE: &str = "postgres";
const ROWS: i64 = 7000;
const SET: &str = "select repl_set_expression('item', 'b', 'a * 2')";

fn cluster(name: &str, preloaded: bool, settings: &[(&str, &str)]) -> Cluster {
    let mut builder = Cluster::builder(name);
    if preloaded {
        builder = builder.setting("shared_preload_libraries", "replwarden");
    }
    for (setting, value) in DEFAULTS.iter().chain(settings) {
        builder = builder.setting(setting, value);
    }
    let cluster = builder.start();
    cluster.execute(DATABASE, "create extension replwarden");
    cluster.execute(DATABASE, LARGE_ITEM);
    cluster
}

/// Each small batch is followed by a pause of a minute.
const SLOW: &[(&str, &str)] = &[
    ("replwarden.backfill_batch_time", "1"),
    ("replwarden.backfill_delay", "60000"),
];

fn backfills(cluster: &Cluster) -> Backfills<'_> {
    Backfills::of(cluster, DATABASE)
}

#[track_caller]
fn signal(cluster: &Cluster, name: &str, pid: i32) {
    let sent = cluster
        .server()
        .command("pg_ctl")
        .args(["kill", name, &pid.to_string()])
        .status()
        .expect("pg_ctl runs");
    assert!(sent.success());
}

/// Waits until there is one backfill worker, and returns its process id.
#[track_caller]
fn worker(cluster: &Cluster) -> i32 {
    wait_for_value(
        "there is a backfill worker",
        DEFAULT_DEADLINE,
        || backfills(cluster).worker_pids(),
        |pids| pids.len() == 1,
    )[0]
}

/// Kills this process of the server, which then ends all others and starts again.
#[track_caller]
fn kill(cluster: &Cluster, pid: i32) {
    let restarts = || cluster.log().matches("reinitializing").count();
    let before = restarts();
    signal(cluster, "KILL", pid);
    wait_until("the server has restarted itself", DEFAULT_DEADLINE, || {
        restarts() > before && cluster.try_connect(DATABASE).is_ok()
    });
}

/// Lets a backfill go on without pauses, and asserts that every row has been changed once.
#[track_caller]
fn assert_finishes(cluster: &Cluster, id: i64) {
    cluster.set("replwarden.backfill_delay", "0");
    cluster.set("replwarden.max_backfill_workers", "2");
    let done = backfills(cluster).wait_done_with(id);
    assert_eq!(done.rows_changed, ROWS, "{done:?}");
    assert_eq!(done.blocks_done, done.blocks_total, "{done:?}");
    assert_all_right(cluster);
}

#[track_caller]
fn assert_all_right(cluster: &Cluster) {
    assert_eq!(
        lines(
            &mut cluster.connect(DATABASE),
            "select * from repl_verify('item')"
        ),
        [format!("b|{ROWS}|0|NULL")]
    );
    backfills(cluster).wait_no_worker();
}

fn killed_between_batches(preloaded: bool) {
    let cluster = cluster("kill-between", preloaded, SLOW);
    let id = backfills(&cluster).queue(SET);
    let mut before = backfills(&cluster).wait_in_the_middle(id);
    for _ in 0..3 {
        backfills(&cluster).flush();
        kill(&cluster, worker(&cluster));
        // One more batch, and another pause.
        before = backfills(&cluster).wait_for(id, "goes on after the crash", |backfill| {
            assert!(backfill.blocks_done >= before.blocks_done, "{backfill:?}");
            backfill.blocks_done > before.blocks_done
        });
        assert!(before.is_in_the_middle(), "{before:?}");
    }
    assert_finishes(&cluster, id);
}

#[test]
fn worker_killed_between_batches() {
    killed_between_batches(false);
}

#[test]
fn worker_killed_between_batches_where_the_library_is_preloaded() {
    killed_between_batches(true);
}

/// The rule takes a millisecond for each row, so that a batch is nearly always under way.
const SLOW_RULE: &str = "
    create function slow(a int) returns int language plpgsql immutable set search_path = pg_catalog as
        'begin perform pg_sleep(0.001); return a * 2; end';";

fn killed_in_a_batch(preloaded: bool) {
    let cluster = cluster("kill-batch", preloaded, &[]);
    cluster.execute(DATABASE, SLOW_RULE);
    let id = backfills(&cluster).queue("select repl_set_expression('item', 'b', 'slow(a)')");
    for kills in 1..=3 {
        let pid = worker(&cluster);
        wait_until("a batch has begun", DEFAULT_DEADLINE, || {
            let batch = format!(
                "select count(*) from pg_stat_activity where pid = {pid} and backend_xid is not null"
            );
            cluster.query_one_value::<i64>(DATABASE, &batch) == 1
                || backfills(&cluster).get(id).has_ended()
        });
        kill(&cluster, pid);
        let seen = backfills(&cluster).wait_for(id, "can be seen again", |_| true);
        assert!(!seen.has_ended(), "after {kills} kills: {seen:?}");
    }
    cluster.execute(
        DATABASE,
        "create or replace function slow(a int) returns int language plpgsql immutable
             set search_path = pg_catalog as 'begin return a * 2; end'",
    );
    assert_finishes(&cluster, id);
}

#[test]
fn worker_killed_in_a_batch() {
    killed_in_a_batch(false);
}

#[test]
fn worker_killed_in_a_batch_where_the_library_is_preloaded() {
    killed_in_a_batch(true);
}

fn terminated(preloaded: bool) {
    let cluster = cluster("terminated", preloaded, SLOW);
    let id = backfills(&cluster).queue(SET);
    let mut before = backfills(&cluster).wait_in_the_middle(id);
    for _ in 0..2 {
        let pid = worker(&cluster);
        cluster.execute(DATABASE, &format!("select pg_terminate_backend({pid})"));
        before = backfills(&cluster).wait_for(
            id,
            "goes on with another worker",
            |backfill: &Backfill| backfill.blocks_done > before.blocks_done,
        );
        assert_ne!(worker(&cluster), pid);
    }
    assert_finishes(&cluster, id);
}

#[test]
fn terminated_worker_comes_back() {
    terminated(false);
}

#[test]
fn terminated_worker_comes_back_where_the_library_is_preloaded() {
    terminated(true);
}

/// As `pg_cancel_backend` does: whoever cancels the worker's statement means its backfill.
#[test]
fn cancelled_statement_cancels_the_backfill() {
    let cluster = cluster("cancelled", false, &[]);
    cluster.execute(DATABASE, SLOW_RULE);
    let id = backfills(&cluster).queue("select repl_set_expression('item', 'b', 'slow(a)')");
    backfills(&cluster).wait_in_the_middle(id);
    signal(&cluster, "INT", worker(&cluster));
    let cancelled = backfills(&cluster).wait_ended(id);
    assert_eq!(cancelled.state, "cancelled", "{cancelled:?}");
    assert!(cancelled.error().contains("57014"), "{cancelled:?}");
    let again = backfills(&cluster).queue("select repl_set_expression('item', 'b', 'a * 2')");
    let done = backfills(&cluster).wait_done_with(again);
    assert_eq!(cancelled.rows_changed + done.rows_changed, ROWS);
    assert_all_right(&cluster);
}

/// Stops and starts a preloaded server in the middle of a backfill on which nobody works then, and asserts that its
/// progress is what it was.
fn stopped(how: impl Fn(&Cluster)) {
    let cluster = cluster("stopped", true, SLOW);
    let id = backfills(&cluster).queue(SET);
    let seen = backfills(&cluster).wait_in_the_middle(id);
    cluster.set("replwarden.max_backfill_workers", "0");
    let before = backfills(&cluster).get(id);
    assert!(before.blocks_done >= seen.blocks_done);
    backfills(&cluster).flush();
    how(&cluster);
    cluster.start();
    let after = backfills(&cluster).get(id);
    assert!(!after.has_ended(), "{after:?}");
    assert_eq!(after.blocks_done, before.blocks_done);
    assert_eq!(after.rows_changed, before.rows_changed);
    assert_finishes(&cluster, id);
}

#[test]
fn fast_restart_where_the_library_is_preloaded() {
    stopped(|cluster| cluster.stop(ShutdownMode::Fast));
}

#[test]
fn immediate_shutdown_where_the_library_is_preloaded() {
    stopped(|cluster| cluster.stop(ShutdownMode::Immediate));
}

#[test]
fn killed_server_where_the_library_is_preloaded() {
    stopped(Cluster::kill);
}

/// The server goes down while a batch is under way.
#[test]
fn shutdown_in_a_batch_where_the_library_is_preloaded() {
    for mode in [ShutdownMode::Fast, ShutdownMode::Immediate] {
        let cluster = cluster("stop-batch", true, &[]);
        cluster.execute(DATABASE, SLOW_RULE);
        let id = backfills(&cluster).queue("select repl_set_expression('item', 'b', 'slow(a)')");
        backfills(&cluster).wait_in_the_middle(id);
        cluster.stop(mode);
        cluster.start();
        assert_finishes(&cluster, id);
    }
}

#[test]
fn after_a_restart_without_the_library_somebody_has_to_ask_again() {
    for how in [
        |cluster: &Cluster| cluster.stop(ShutdownMode::Fast),
        |cluster: &Cluster| cluster.stop(ShutdownMode::Immediate),
    ] {
        let cluster = cluster("not-preloaded", false, SLOW);
        let first = backfills(&cluster).queue(SET);
        backfills(&cluster).wait_in_the_middle(first);
        how(&cluster);
        cluster.start();
        backfills(&cluster).wait_for(first, "says what to do", |waiting| {
            assert!(!waiting.has_ended(), "{waiting:?}");
            waiting.error().contains("repl_backfill(")
        });
        assert!(backfills(&cluster).worker_pids().is_empty());
        cluster.set("replwarden.backfill_delay", "0");
        let second = backfills(&cluster).queue("select repl_backfill('item')");
        backfills(&cluster).wait_done_with(second);
        let all = backfills(&cluster).all();
        assert_eq!(
            all.iter().map(|one| one.rows_changed).sum::<i64>(),
            ROWS,
            "{all:?}"
        );
        assert_all_right(&cluster);
    }
}

/// Several workers on one table, and the server crashes: each has its own place to go on from.
#[test]
fn several_workers_killed() {
    let cluster = cluster(
        "kill-several",
        true,
        &[
            ("replwarden.backfill_batch_time", "1"),
            ("replwarden.backfill_delay", "60000"),
            ("replwarden.max_backfill_workers", "3"),
        ],
    );
    cluster.execute(
        DATABASE,
        "select repl_set_expression('item', 'b', 'a * 2', backfill => false)",
    );
    let id = backfills(&cluster).queue("select repl_backfill('item', 3)");
    for _ in 0..3 {
        let pids = wait_for_value(
            "three workers share the table",
            DEFAULT_DEADLINE,
            || backfills(&cluster).worker_pids(),
            |pids| pids.len() == 3,
        );
        backfills(&cluster).wait_in_the_middle(id);
        kill(&cluster, pids[1]);
    }
    assert_finishes(&cluster, id);
}

/// Rows that failed and became NULL are counted after a crash as before: the count of a backfill is its own.
#[test]
fn rows_that_become_null_are_counted_in_spite_of_a_terminated_worker() {
    let cluster = cluster("null-count", true, SLOW);
    cluster.execute(DATABASE, "update item set a = a % 10");
    let id =
        backfills(&cluster).queue("select repl_set_expression('item', 'b', '100 / a', 'null')");
    backfills(&cluster).wait_in_the_middle(id);
    let pid = worker(&cluster);
    cluster.execute(DATABASE, &format!("select pg_terminate_backend({pid})"));
    assert_finishes(&cluster, id);
    let failed: i64 =
        cluster.query_one_value(DATABASE, "select rows_failed from repl_generated_columns");
    assert_eq!(failed, ROWS / 10);
}
