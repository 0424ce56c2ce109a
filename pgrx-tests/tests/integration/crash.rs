//! Rules outlive crashes of the server, whether the library is preloaded or not.

use postgres::Client;
use replwarden_tests::{Cluster, DEFAULT_DEADLINE, wait_until};

use crate::backfill_state::Backfills;
use crate::database::lines;

const DATABASE: &str = "postgres";
const ROWS: &str = "select id, b, c from item order by id";
const RULES: &str = "select column_name, expression, on_error, state, rows_failed from repl_generated_columns order by 1";

/// A cluster with the table `item (id, a, b, c)`, whose column b is twice a and whose column c is 100 / a, or NULL, and a
/// row of which c has failed.
fn cluster(preloaded: bool) -> Cluster {
    let mut builder = Cluster::builder("crash");
    if preloaded {
        builder = builder.setting("shared_preload_libraries", "replwarden");
    }
    let cluster = builder.start();
    cluster.execute(
        DATABASE,
        "create extension replwarden;
         create table item (id int primary key, a int, b int, c int);
         select repl_set_expression('item', 'b', 'a * 2');
         select repl_set_expression('item', 'c', '100 / a', 'null')",
    );
    cluster.execute(DATABASE, "insert into item values (1, 0)");
    assert_eq!(
        lines(&mut cluster.connect(DATABASE), RULES),
        ["b|a * 2|fail|live|0", "c|100 / a|null|failing|1"]
    );
    cluster
}

/// A session with a transaction that has computed rows and counted failures, and has not committed.
fn unfinished(cluster: &Cluster) -> Client {
    let mut client = cluster.connect(DATABASE);
    lines(
        &mut client,
        "begin; insert into item values (10, 0), (11, 10)",
    );
    client
}

/// After a crash: the rules are there and work, the rows are right, and counts, which are kept in an unlogged table,
/// have started again.
#[track_caller]
fn assert_at_work(cluster: &Cluster) {
    let mut client = cluster.connect(DATABASE);
    assert_eq!(lines(&mut client, ROWS), ["1|0|NULL"]);
    assert_eq!(
        lines(&mut client, RULES),
        ["b|a * 2|fail|live|0", "c|100 / a|null|live|0"]
    );
    lines(
        &mut client,
        "insert into item values (2, 20, -1, -1), (3, 0, -1, -1)",
    );
    assert_eq!(lines(&mut client, ROWS), ["1|0|NULL", "2|40|5", "3|0|NULL"]);
    assert_eq!(
        lines(&mut client, RULES),
        ["b|a * 2|fail|live|0", "c|100 / a|null|failing|1"]
    );
    lines(
        &mut client,
        "select repl_set_expression('item', 'b', 'a * 3');
         alter table item drop c",
    );
    Backfills::of(cluster, DATABASE).wait_done();
    assert_eq!(
        lines(&mut client, "select * from repl_verify('item')"),
        ["b|3|0|NULL"]
    );
}

fn killed_server(preloaded: bool) {
    let cluster = cluster(preloaded);
    let client = unfinished(&cluster);
    cluster.kill();
    drop(client);
    cluster.start();
    assert!(cluster.log().contains("was interrupted"));
    assert_at_work(&cluster);
}

fn killed_backend(preloaded: bool) {
    let cluster = cluster(preloaded);
    let mut client = unfinished(&cluster);
    let pid = lines(&mut client, "select pg_backend_pid()").remove(0);
    let killed = cluster
        .server()
        .command("pg_ctl")
        .args(["kill", "KILL", &pid])
        .status()
        .expect("pg_ctl runs");
    assert!(killed.success());
    wait_until("the server has restarted itself", DEFAULT_DEADLINE, || {
        cluster.log().contains("reinitializing") && cluster.try_connect(DATABASE).is_ok()
    });
    drop(client);
    assert_at_work(&cluster);
}

#[test]
fn rules_outlive_a_killed_server() {
    killed_server(false);
}

#[test]
fn rules_outlive_a_killed_server_that_preloads_the_library() {
    killed_server(true);
}

#[test]
fn rules_outlive_a_killed_backend() {
    killed_backend(false);
}

#[test]
fn rules_outlive_a_killed_backend_of_a_server_that_preloads_the_library() {
    killed_backend(true);
}

#[test]
fn prepared_transaction_outlives_a_killed_server() {
    let cluster = Cluster::builder("crash-prepared")
        .setting("max_prepared_transactions", "2")
        .start();
    cluster.execute(
        DATABASE,
        "create extension replwarden;
         create table item (id int primary key, a int, b int, c int);
         select repl_set_expression('item', 'b', 'a * 2');
         select repl_set_expression('item', 'c', '100 / a', 'null')",
    );
    lines(
        &mut cluster.connect(DATABASE),
        "begin; insert into item values (1, 0), (2, 20); prepare transaction 'kept'",
    );
    cluster.kill();
    cluster.start();
    let mut client = cluster.connect(DATABASE);
    lines(&mut client, "commit prepared 'kept'");
    assert_eq!(lines(&mut client, ROWS), ["1|0|NULL", "2|40|5"]);
    lines(&mut client, "insert into item values (3, 0)");
    assert_eq!(
        lines(&mut client, RULES),
        ["b|a * 2|fail|live|0", "c|100 / a|null|failing|1"]
    );
}

#[test]
fn counts_outlive_a_restart() {
    let cluster = cluster(true);
    cluster.restart();
    assert_eq!(
        lines(&mut cluster.connect(DATABASE), RULES),
        ["b|a * 2|fail|live|0", "c|100 / a|null|failing|1"]
    );
}
