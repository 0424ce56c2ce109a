//! Tables that change in the middle of their backfill, several workers on one, and sessions that want it whole.

use std::thread;

use postgres::{Config, NoTls};
use replwarden_tests::{Cluster, DEFAULT_DEADLINE, wait_for_value, wait_until};

use crate::backfill_state::{Backfills, LARGE_ITEM};
use crate::database::{Database, lines};

const SET: &str = "select repl_set_expression('item', 'b', 'a * 2')";
const LATER: &str = "select repl_set_expression('item', 'b', 'a * 2', backfill => false)";

/// A cluster of a test's own, where a backfill stops for a minute after each small batch until [`go_on`].
fn slow_cluster(name: &str) -> Cluster {
    Cluster::builder(name)
        .setting("max_worker_processes", "64")
        .setting("replwarden.max_backfill_workers", "4")
        .setting("replwarden.backfill_batch_time", "1")
        .setting("replwarden.backfill_delay", "60000")
        .start()
}

fn go_on(cluster: &Cluster) {
    cluster.set("replwarden.backfill_delay", "0");
}

#[test]
fn several_workers_share_a_table() {
    let cluster = slow_cluster("several");
    cluster.execute("postgres", "create extension replwarden");
    cluster.execute("postgres", LARGE_ITEM);
    cluster.execute("postgres", LATER);
    let backfills = Backfills::of(&cluster, "postgres");
    let id = backfills.queue("select repl_backfill('item', workers => 3)");
    let pids = wait_for_value(
        "three workers share the table",
        DEFAULT_DEADLINE,
        || backfills.worker_pids(),
        |pids| pids.len() == 3,
    );
    backfills.wait_in_the_middle(id);
    assert_eq!(pids.len(), 3);
    go_on(&cluster);
    assert_eq!(backfills.wait_done_with(id).rows_changed, 7000);
    assert_eq!(
        lines(
            &mut cluster.connect("postgres"),
            "select * from repl_verify('item')"
        ),
        ["b|7000|0|NULL"]
    );
    backfills.wait_no_worker();
}

#[test]
fn no_more_workers_than_the_setting_allows() {
    let database = Database::slow();
    database.run(LARGE_ITEM);
    database.run(LATER);
    let id = database
        .backfills()
        .queue("select repl_backfill('item', workers => 50)");
    let pids = wait_for_value(
        "two workers share the table",
        DEFAULT_DEADLINE,
        || database.backfills().worker_pids(),
        |pids| pids.len() >= 2,
    );
    assert_eq!(pids.len(), 2);
    database.backfills().wait_in_the_middle(id);
    assert_eq!(database.backfills().worker_pids().len(), 2);
}

/// What is done to a table in the middle of its backfill, and how many rows it has then.
const CHANGES: [(&str, &[&str], i32); 9] = [
    ("vacuum_full", &["vacuum full item"], 7000),
    ("cluster", &["cluster item using item_pkey"], 7000),
    (
        "vacuum",
        &[
            "delete from item where id % 2 = 0",
            "vacuum item",
            "insert into item select -n, n, 0 from generate_series(1, 1000) n",
        ],
        4500,
    ),
    (
        "truncated_tail",
        &["delete from item where id > 3000", "vacuum item"],
        3000,
    ),
    (
        "truncate",
        &[
            "truncate item",
            "insert into item select n, n, 0 from generate_series(1, 10) n",
        ],
        10,
    ),
    (
        "growth",
        &["insert into item select n, n, 0, repeat('y', 1000) from generate_series(7001, 14000) n"],
        14_000,
    ),
    (
        "add_column",
        &["alter table item add extra int default 5, add other text"],
        7000,
    ),
    (
        "rewrite",
        &["alter table item alter pad type varchar using pad || '!'"],
        7000,
    ),
    (
        "drop_column",
        &["alter table item drop pad", "create index on item (b)"],
        7000,
    ),
];

#[test]
fn table_that_changes_in_the_middle() {
    let cluster = slow_cluster("changes");
    let begun: Vec<(&str, &[&str], i32, i64)> = CHANGES
        .into_iter()
        .map(|(name, changes, rows)| {
            cluster.execute("postgres", &format!("create database {name}"));
            cluster.execute(name, "create extension replwarden");
            cluster.execute(name, LARGE_ITEM);
            let id = Backfills::of(&cluster, name).queue(SET);
            (name, changes, rows, id)
        })
        .collect();
    for (name, changes, _, id) in &begun {
        Backfills::of(&cluster, name).wait_in_the_middle(*id);
        for change in *changes {
            cluster.execute(name, change);
        }
    }
    go_on(&cluster);
    for (name, _, rows, id) in begun {
        let done = Backfills::of(&cluster, name).wait_ended(id);
        assert_eq!(done.state, "done", "{name}: {done:?}");
        assert_eq!(
            lines(
                &mut cluster.connect(name),
                "select * from repl_verify('item')"
            ),
            [format!("b|{rows}|0|NULL")],
            "{name}"
        );
    }
}

/// Partitions come and go in the middle of a backfill of their table.
#[test]
fn partitions_that_change_in_the_middle() {
    let cluster = slow_cluster("partitions");
    cluster.execute("postgres", "create extension replwarden");
    cluster.execute(
        "postgres",
        "create table item (id int primary key, a int, b int, pad text) partition by range (id);
         alter table item alter pad set storage plain;
         create table item_1 partition of item for values from (0) to (3000);
         create table item_2 partition of item for values from (3000) to (6000);
         create table item_3 partition of item for values from (6000) to (9000);
         insert into item select n, n, 0, repeat('x', 1000) from generate_series(0, 8999) n",
    );
    let backfills = Backfills::of(&cluster, "postgres");
    let id = backfills.queue(SET);
    backfills.wait_in_the_middle(id);
    cluster.execute(
        "postgres",
        "alter table item detach partition item_3;
         drop table item_2;
         create table item_4 partition of item for values from (9000) to (12000);
         insert into item select n, n, 0 from generate_series(9000, 9999) n",
    );
    go_on(&cluster);
    backfills.wait_done_with(id);
    assert_eq!(
        lines(
            &mut cluster.connect("postgres"),
            "select * from repl_verify('item')"
        ),
        ["b|4000|0|NULL"]
    );
}

#[test]
fn changed_rule_begins_anew() {
    let cluster = slow_cluster("changed-rule");
    cluster.execute("postgres", "create extension replwarden");
    cluster.execute("postgres", LARGE_ITEM);
    let backfills = Backfills::of(&cluster, "postgres");
    let first = backfills.queue(SET);
    backfills.wait_in_the_middle(first);
    let second = backfills.queue("select repl_set_expression('item', 'b', 'a * 3')");
    assert_eq!(backfills.wait_ended(first).state, "cancelled");
    go_on(&cluster);
    assert_eq!(backfills.wait_done_with(second).rows_changed, 7000);
    assert_eq!(
        lines(
            &mut cluster.connect("postgres"),
            "select count(*) from item where b = a * 3"
        ),
        ["7000"]
    );
}

/// Settings that would spoil the worker's own transactions.
#[test]
fn settings_of_the_database_do_no_harm() {
    let database = Database::with_small_batches();
    let name = database.name();
    let (mut later, mut own) = (String::new(), String::new());
    if database.cluster().server().major() >= 17 {
        later = format!("alter database {name} set transaction_timeout = 1;");
        own.push_str(" -c transaction_timeout=0");
    }
    database.run(&format!(
        "create table item (id int primary key, a int, b int);
         insert into item select n, n, 0 from generate_series(1, 20000) n;
         {SET};
         {later}
         alter database {name} set default_transaction_read_only = on;
         alter database {name} set default_transaction_isolation = serializable;
         alter database {name} set default_transaction_deferrable = on;
         alter database {name} set lock_timeout = 1;
         alter database {name} set statement_timeout = 1;
         alter database {name} set idle_in_transaction_session_timeout = 1;
         alter database {name} set search_path = pg_temp;
         alter database {name} set row_security = off;
         alter database {name} set session_replication_role = local"
    ));
    // What a client asks for when it connects prevails.
    let mut observer = Config::new()
        .host("127.0.0.1")
        .port(database.cluster().port())
        .user("postgres")
        .dbname(name)
        .options(&format!(
            "-c statement_timeout=0 -c search_path=public -c default_transaction_deferrable=off \
             -c default_transaction_isolation=read\\ committed{own}"
        ))
        .connect(NoTls)
        .expect("the cluster accepts connections");
    wait_until("all rows are brought up", DEFAULT_DEADLINE, || {
        lines(
            &mut observer,
            "select state, rows_changed, error from repl_backfills",
        ) == ["done|20000|NULL"]
    });
    assert_eq!(
        lines(&mut observer, "select count(*) from item where b = a * 2"),
        ["20000"]
    );
}

/// DDL gets its lock between two batches, and not only after the backfill.
#[test]
fn session_that_wants_the_whole_table_is_not_starved() {
    let cluster = Cluster::builder("starved")
        .setting("replwarden.backfill_batch_time", "1")
        .setting("replwarden.backfill_delay", "20")
        .start();
    cluster.execute("postgres", "create extension replwarden");
    cluster.execute("postgres", LARGE_ITEM);
    cluster.execute(
        "postgres",
        "insert into item select n, n, 0, repeat('x', 1000) from generate_series(7001, 70000) n",
    );
    let backfills = Backfills::of(&cluster, "postgres");
    let mut reader = cluster.connect("postgres");
    let id = backfills.queue(SET);
    backfills.wait_in_the_middle(id);
    lines(&mut reader, "begin; select from item limit 1");
    let mut owner = cluster.connect("postgres");
    let pid = lines(&mut owner, "select pg_backend_pid()").remove(0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            lines(
                &mut owner,
                "begin; lock table item in access exclusive mode",
            );
        });
        wait_until("the table is waited for", DEFAULT_DEADLINE, || {
            lines(
                &mut cluster.connect("postgres"),
                &format!("select count(*) > 0 from pg_locks where pid = {pid} and not granted"),
            ) == ["t"]
        });
        lines(&mut reader, "commit");
        waiter.join().expect("the thread does not panic");
    });
    assert_eq!(
        lines(
            &mut owner,
            "select state, blocks_done < blocks_total from repl_backfills"
        ),
        ["running|t"]
    );
    lines(&mut owner, "alter table item add extra int; commit");
    go_on(&cluster);
    assert_eq!(backfills.wait_done_with(id).rows_changed, 70_000);
}
