//! Settings of the workers, and the limits of the server that they live in.

use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, Provider, Publication, wait_for_value, wait_until,
};

use crate::backfill_state::{Backfills, DEFAULTS, LARGE_ITEM};
use crate::database::{Database, lines};
use crate::workers::wait_for_workers;

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
    cluster.execute("postgres", "create extension replwarden");
    cluster.execute("postgres", LARGE_ITEM);
    cluster
}

/// A backfill that is queued where the settings allow no worker, and then two.
fn allowed_later(preloaded: bool) -> (Cluster, i64) {
    let cluster = cluster(
        "resume",
        preloaded,
        &[("replwarden.max_backfill_workers", "0")],
    );
    let backfills = Backfills::of(&cluster, "postgres");
    let id = backfills.queue(SET);
    let queued = backfills.get(id);
    assert_eq!(queued.state, "queued");
    assert!(
        queued.error().contains("max_backfill_workers"),
        "{queued:?}"
    );
    cluster.set("replwarden.max_backfill_workers", "2");
    (cluster, id)
}

#[test]
fn queued_backfill_begins_when_workers_are_allowed() {
    let (cluster, id) = allowed_later(true);
    let done = Backfills::of(&cluster, "postgres").wait_done_with(id);
    assert_eq!(done.rows_changed, 7000);
}

#[test]
fn queued_backfill_has_to_be_asked_for_again_without_the_library() {
    let (cluster, first) = allowed_later(false);
    let backfills = Backfills::of(&cluster, "postgres");
    backfills.wait_for(first, "says that nobody is at it", |backfill| {
        backfill.error().contains("repl_backfill(")
    });
    let second = backfills.queue("select repl_backfill('item')");
    assert_eq!(backfills.wait_done_with(second).rows_changed, 7000);
    assert_eq!(backfills.get(first).state, "cancelled");
}

fn fewer_workers_are_allowed(preloaded: bool) {
    let cluster = cluster(
        "pause",
        preloaded,
        &[
            ("replwarden.backfill_batch_time", "1"),
            ("replwarden.backfill_delay", "60000"),
        ],
    );
    let backfills = Backfills::of(&cluster, "postgres");
    let id = backfills.queue(SET);
    backfills.wait_in_the_middle(id);
    cluster.set("replwarden.max_backfill_workers", "0");
    cluster.set("replwarden.backfill_delay", "1");
    let paused = backfills.get(id);
    cluster.set("work_mem", "5MB");
    assert!(!paused.has_ended(), "{paused:?}");
    cluster.set("replwarden.max_backfill_workers", "1");
    assert_eq!(backfills.wait_done_with(id).rows_changed, 7000);
}

#[test]
fn running_backfill_pauses_and_goes_on() {
    fewer_workers_are_allowed(true);
}

#[test]
fn running_backfill_pauses_and_goes_on_without_the_library() {
    fewer_workers_are_allowed(false);
}

#[test]
fn batches_follow_the_settings() {
    let cluster = cluster(
        "reload",
        true,
        &[
            ("replwarden.backfill_batch_time", "1"),
            ("replwarden.backfill_delay", "60000"),
        ],
    );
    let backfills = Backfills::of(&cluster, "postgres");
    let id = backfills.queue(SET);
    backfills.wait_in_the_middle(id);
    cluster.set("replwarden.backfill_batch_time", "1000");
    cluster.set("replwarden.backfill_delay", "0");
    backfills.wait_done_with(id);
}

#[test]
fn settings_have_their_defaults_and_units() {
    let database = Database::new();
    // A session knows them when it has loaded the library.
    let mut client = database.connect();
    lines(&mut client, "select from repl_backfills");
    lines(&mut client, "load 'replwarden'");
    assert_eq!(
        lines(
            &mut client,
            "select name, setting, unit, min_val, max_val, context from pg_settings
              where name in ('replwarden.backfill_batch_time', 'replwarden.backfill_delay',
                             'replwarden.max_backfill_workers') order by name"
        ),
        [
            "replwarden.backfill_batch_time|200|ms|1|1000|sighup",
            "replwarden.backfill_delay|0|ms|0|60000|sighup",
            "replwarden.max_backfill_workers|2|NULL|0|64|sighup"
        ]
    );
}

#[test]
fn values_out_of_range_are_refused() {
    let cluster = cluster("range", true, &[]);
    for (setting, refused, accepted) in [
        (
            "backfill_batch_time",
            vec!["0", "1001", "-1", "often"],
            vec!["1", "1000", "1s"],
        ),
        (
            "backfill_delay",
            vec!["-1", "60001", "2min"],
            vec!["0", "60000", "1min"],
        ),
        (
            "max_backfill_workers",
            vec!["-1", "65", "1.5e9"],
            vec!["0", "64"],
        ),
    ] {
        for value in refused {
            let error = cluster.expect_error(
                "postgres",
                &format!("alter system set replwarden.{setting} = '{value}'"),
            );
            assert_eq!(error.code().code(), "22023", "{setting} {value}: {error:?}");
        }
        for value in accepted {
            cluster.set(&format!("replwarden.{setting}"), value);
        }
        let error = cluster.expect_error("postgres", &format!("set replwarden.{setting} = 1"));
        assert_eq!(error.code().code(), "55P02", "{setting}: {error:?}");
    }
    let error = cluster.expect_error("postgres", "alter system set replwarden.nothing = 1");
    assert!(
        ["42704", "42602"].contains(&error.code().code()),
        "the prefix is reserved: {error:?}"
    );
}

/// How many background workers the server has, by the name of their type.
#[track_caller]
fn count(cluster: &Cluster, backend_type: &str) -> i64 {
    cluster.query_one_value(
        "postgres",
        &format!("select count(*) from pg_stat_activity where backend_type = '{backend_type}'"),
    )
}

/// Eight processes for all: half of them, less the launcher, are three for databases at most. The others find theirs
/// free.
#[test]
fn many_databases_leave_room_for_others() {
    let pair = Pair::builder(Provider::Native)
        .subscriber_setting("shared_preload_libraries", "replwarden")
        .subscriber_setting("max_worker_processes", "8")
        .start();
    let subscriber = pair.subscriber();
    let names = ["d1", "d2", "d3", "d4", "d5"];
    for name in names {
        subscriber.execute("postgres", &format!("create database {name}"));
        subscriber.execute(name, "create extension replwarden");
    }
    wait_until("the log says what is short", DEFAULT_DEADLINE, || {
        subscriber.log().contains("max_worker_processes")
    });

    pair.on_both("create table item (id int primary key, name text)");
    pair.publish(&Publication::of("item"));
    pair.on_publisher("insert into item select n, 'x' from generate_series(1, 100) n");
    pair.subscribe();
    pair.wait_copied();
    pair.apply_worker_pid();
    pair.on_publisher("insert into item values (101, 'y')");
    pair.wait_caught_up();
    let most = count(subscriber, "replwarden worker");
    assert!((1..=3).contains(&most), "{most}");

    // Who waits is served when there is room.
    let most = usize::try_from(most).expect("it is small");
    let served = || -> Vec<String> {
        lines(
            &mut subscriber.connect("postgres"),
            "select datname from pg_stat_activity where backend_type = 'replwarden worker' order by 1",
        )
    };
    let first = served();
    subscriber.execute("postgres", &format!("drop database {}", first[0]));
    wait_for_value(
        "a database that waited has a worker",
        DEFAULT_DEADLINE,
        served,
        |now| now.len() == most && now.iter().any(|name| !first.contains(name)),
    );
    let second = served();
    subscriber.execute(&second[0], "drop extension replwarden");
    wait_for_value(
        "another database has its worker",
        DEFAULT_DEADLINE,
        served,
        |now| now.len() == most && !now.contains(&second[0]),
    );
}

/// A backfill that finds no process free is not lost.
#[test]
fn backfill_waits_for_a_free_process() {
    let cluster = cluster("no-process", false, &[("max_worker_processes", "1")]);
    // The launcher of logical replication has the only one.
    let backfills = Backfills::of(&cluster, "postgres");
    let id = backfills.queue(SET);
    let queued = backfills.get(id);
    assert!(!queued.has_ended(), "{queued:?}");
    assert_eq!(
        lines(
            &mut cluster.connect("postgres"),
            "insert into item values (0, 5); select b from item where id = 0"
        ),
        ["10"]
    );
    cluster.set("max_worker_processes", "8");
    cluster.restart();
    let again = backfills.queue("select repl_backfill('item')");
    backfills.wait_done_with(again);
}

/// With workers, but without the library in the server: nothing of ours runs until somebody asks for it.
#[test]
fn without_the_library_nothing_runs_that_nobody_asked_for() {
    let cluster = cluster("on-demand", false, &[]);
    let ours = "select count(*) from pg_stat_activity where backend_type like 'replwarden%'";
    assert_eq!(cluster.query_one_value::<i64>("postgres", ours), 0);
    let backfills = Backfills::of(&cluster, "postgres");
    let id = backfills.queue(SET);
    backfills.wait_done_with(id);
    wait_until("the worker has gone", DEFAULT_DEADLINE, || {
        cluster.query_one_value::<i64>("postgres", ours) == 0
    });
}

#[test]
fn database_keeps_its_worker_when_another_is_short_of_one() {
    let cluster = cluster("short", true, &[("max_worker_processes", "8")]);
    let pid = wait_for_workers(&cluster, &["postgres"]);
    cluster.execute("postgres", "create database other");
    cluster.execute("other", "create extension replwarden");
    assert_eq!(
        wait_for_workers(&cluster, &["other", "postgres"])[1],
        pid[0]
    );
}
