//! Workers that have done their work thousands of times hold no more memory than before.

use std::fs;

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, wait_for_value};

use crate::backfill_state::Backfills;
use crate::database::lines;
use crate::workers::wait_for_workers;

const DATABASE: &str = "postgres";
/// The allocator takes memory from the kernel in pieces; a leak of ten bytes a tick would be less than this, one of a
/// hundred more than ten times as much as is left of it after warming up.
const ALLOWED_KB: i64 = 1024;

/// Anonymous memory of a process that is resident, in kB: what it has allocated, without shared buffers and code.
#[track_caller]
fn memory_kb(pid: i32) -> i64 {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("{path} has no RssAnon:\n{status}"))
}

#[track_caller]
fn commits(cluster: &Cluster, database: &str) -> i64 {
    cluster.query_one_value(
        DATABASE,
        &format!("select xact_commit from pg_stat_database where datname = '{database}'"),
    )
}

/// Wakes a worker of `database` until it has committed this many transactions more.
#[track_caller]
fn tick(cluster: &Cluster, database: &str, pid: i32, ticks: i64) {
    let goal = commits(cluster, database) + ticks;
    let wake = format!("for n in $(seq 200); do kill -USR1 {pid} || exit 1; done");
    wait_for_value(
        &format!("process {pid} has worked {ticks} times more"),
        DEFAULT_DEADLINE * 5,
        || {
            let woken = cluster
                .server()
                .user()
                .command("/bin/sh".as_ref())
                .args(["-c", &wake])
                .status()
                .expect("the shell runs");
            assert!(woken.success(), "process {pid} is gone");
            commits(cluster, database)
        },
        |&commits| commits >= goal,
    );
}

#[test]
fn worker_that_has_ticked_thousands_of_times() {
    let cluster = Cluster::builder("soak-ticks")
        .setting("shared_preload_libraries", "replwarden")
        .setting("autovacuum", "off")
        .setting("replwarden.max_backfill_workers", "0")
        .start();
    cluster.execute(DATABASE, "create database shop");
    // Nobody else connects to it, so that its transactions are those of the worker. There is something to look at in
    // each tick: a backfill that is queued, and one that cannot be done.
    cluster.execute(
        "shop",
        "create extension replwarden;
         create table item (id int primary key, a int, b int);
         insert into item values (1, 0);
         select repl_set_expression('item', 'b', '100 / a')",
    );
    let pid = wait_for_workers(&cluster, &["shop"])[0];
    tick(&cluster, "shop", pid, 500);
    let before = memory_kb(pid);
    tick(&cluster, "shop", pid, 5000);
    let after = memory_kb(pid);
    println!("the worker of a database: {before} kB after 500 transactions, {after} kB after 5500");
    assert!(after - before <= ALLOWED_KB, "{before} kB, then {after} kB");
}

/// Three hundred tables, each with a row of which the rule `100 / a` fails.
const FAILING: &str = "
    do $$ begin
        for n in 1 .. 300 loop
            execute format('create table failing_%s (id int primary key, a int, b int)', n);
            execute format('insert into failing_%s values (1, 5, 0), (2, 0, 0)', n);
            perform repl_set_expression(format('failing_%s', n)::regclass, 'b', '100 / a', backfill => false);
        end loop;
    end $$";

/// Queues a backfill of each of them, one of `large` with this rule, and one of this table.
#[track_caller]
fn queue(cluster: &Cluster, rule: &str, last: &str) {
    cluster.execute(
        DATABASE,
        &format!(
            "do $$ begin
                 for n in 1 .. 300 loop
                     perform repl_backfill(format('failing_%s', n)::regclass);
                 end loop;
             end $$;
             select repl_set_expression('large', 'b', '{rule}');
             select repl_set_expression('{last}', 'b', 'a * 2')"
        ),
    );
}

/// Waits until the last backfill of the queue alone has not ended, and returns the process id of the worker that is at
/// it.
#[track_caller]
fn wait_for_the_last(backfills: Backfills<'_>, count: usize) -> i32 {
    wait_for_value(
        &format!("all but the last of {count} backfills have ended"),
        DEFAULT_DEADLINE * 5,
        || backfills.all(),
        |all| all.len() == count && all.iter().filter(|one| !one.has_ended()).count() == 1,
    );
    let pids = backfills.worker_pids();
    assert_eq!(pids.len(), 1);
    pids[0]
}

/// The same process does hundreds of backfills that fail and thousands of batches, all of it twice: a process keeps what
/// it knows of a table that it has seen, so the first time is for warming up.
#[test]
fn backfill_worker_that_has_failed_hundreds_of_times() {
    let cluster = Cluster::builder("soak-backfill")
        .setting("max_locks_per_transaction", "512")
        .setting("autovacuum", "off")
        .setting("replwarden.max_backfill_workers", "1")
        .setting("replwarden.backfill_batch_time", "1")
        .start();
    // A row a page, and a millisecond a row: a batch for each.
    cluster.execute(
        DATABASE,
        "create extension replwarden;
         create function slow(a int) returns int language plpgsql immutable set search_path = pg_catalog as
             'begin perform pg_sleep(0.001); return a * 2; end';
         create table large (id int primary key, a int, b int, pad text);
         alter table large alter pad set storage plain;
         insert into large select n, n, 0, repeat('x', 5000) from generate_series(1, 2000) n;
         create table first (id int primary key, a int, b int);
         create table second (id int primary key, a int, b int);
         insert into first values (1, 10);
         insert into second values (1, 10)",
    );
    cluster.execute(DATABASE, FAILING);
    // Each queue ends with a backfill that does not end, and so keeps the process that is to be measured.
    let mut of_first = cluster.connect(DATABASE);
    let mut of_second = cluster.connect(DATABASE);
    lines(&mut of_first, "begin; select from first for update");
    lines(&mut of_second, "begin; select from second for update");
    let backfills = Backfills::of(&cluster, DATABASE);
    queue(&cluster, "slow(a)", "first");
    let pid = wait_for_the_last(backfills, 302);
    let before = memory_kb(pid);
    queue(&cluster, "slow(a) + 1", "second");
    lines(&mut of_first, "commit");
    let same = wait_for_the_last(backfills, 604);
    let after = memory_kb(pid);
    println!(
        "the backfill worker: {before} kB after 301 backfills, {after} kB after 603 and {} transactions in all",
        commits(&cluster, DATABASE)
    );
    assert_eq!(same, pid, "the same process has done all of it");
    let failed = backfills
        .all()
        .iter()
        .filter(|one| one.state == "failed")
        .count();
    assert_eq!(failed, 600);
    assert!(after - before <= ALLOWED_KB, "{before} kB, then {after} kB");
    lines(&mut of_second, "commit");
    backfills.wait_for(604, "is done", |last| last.state == "done");
}
