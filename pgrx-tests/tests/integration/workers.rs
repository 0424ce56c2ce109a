//! The launcher, and its worker in each database that has the extension, where the library is preloaded.

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, ShutdownMode, wait_for_value, wait_until};

use crate::backfill_state::{Backfills, LARGE_ITEM};
use crate::database::lines;

const SET: &str = "select repl_set_expression('item', 'b', 'a * 2')";

fn cluster(name: &str, settings: &[(&str, &str)]) -> Cluster {
    let mut builder = Cluster::builder(name)
        .setting("shared_preload_libraries", "pg_stat_statements, replwarden");
    for (setting, value) in settings {
        builder = builder.setting(setting, value);
    }
    builder.start()
}

#[track_caller]
fn create_database(cluster: &Cluster, name: &str) {
    cluster.execute("postgres", &format!("create database {name}"));
    cluster.execute(name, "create extension replwarden");
}

/// The databases that have a worker, with its process id.
#[track_caller]
fn workers(cluster: &Cluster) -> Vec<(String, i32)> {
    cluster
        .connect("postgres")
        .query(
            "select datname, pid from pg_stat_activity where backend_type = 'replwarden worker' order by 1",
            &[],
        )
        .expect("pg_stat_activity can be read")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

/// Waits until these databases have a worker each, and no other has one. Returns their process ids.
#[track_caller]
pub(crate) fn wait_for_workers(cluster: &Cluster, databases: &[&str]) -> Vec<i32> {
    wait_for_value(
        &format!("{databases:?} have workers and no other database has one"),
        DEFAULT_DEADLINE,
        || workers(cluster),
        |found| found.iter().map(|(name, _)| name).eq(databases),
    )
    .into_iter()
    .map(|(_, pid)| pid)
    .collect()
}

#[track_caller]
fn launcher(cluster: &Cluster) -> i32 {
    wait_for_value(
        "there is one launcher",
        DEFAULT_DEADLINE,
        || {
            lines(
                &mut cluster.connect("postgres"),
                "select pid from pg_stat_activity where backend_type = 'replwarden launcher'",
            )
        },
        |pids| pids.len() == 1,
    )[0]
    .parse()
    .expect("a process id")
}

#[track_caller]
fn terminate(cluster: &Cluster, pid: i32) {
    cluster.execute("postgres", &format!("select pg_terminate_backend({pid})"));
}

#[test]
fn workers_come_and_go_with_the_extension() {
    let cluster = cluster("extension", &[]);
    launcher(&cluster);
    wait_for_workers(&cluster, &[]);
    create_database(&cluster, "first");
    let pid = wait_for_workers(&cluster, &["first"]);
    create_database(&cluster, "second");
    assert_eq!(wait_for_workers(&cluster, &["first", "second"])[0], pid[0]);
    cluster.execute("first", "drop extension replwarden");
    wait_for_workers(&cluster, &["second"]);
    cluster.execute("first", "create extension replwarden");
    wait_for_workers(&cluster, &["first", "second"]);
    cluster.restart();
    launcher(&cluster);
    wait_for_workers(&cluster, &["first", "second"]);
}

#[test]
fn extension_that_is_not_there_after_all_has_no_worker() {
    let cluster = cluster("rolled-back", &[]);
    create_database(&cluster, "other");
    lines(
        &mut cluster.connect("postgres"),
        "begin; create extension replwarden; rollback",
    );
    wait_for_workers(&cluster, &["other"]);
    cluster.execute("postgres", "create extension replwarden");
    let before = wait_for_workers(&cluster, &["other", "postgres"]);
    lines(
        &mut cluster.connect("postgres"),
        "begin; drop extension replwarden; rollback",
    );
    lines(
        &mut cluster.connect("postgres"),
        "begin; drop extension replwarden; create extension replwarden; commit",
    );
    cluster.execute("postgres", &format!("{LARGE_ITEM} {SET}"));
    Backfills::of(&cluster, "postgres").wait_done();
    let after = wait_for_workers(&cluster, &["other", "postgres"]);
    assert_eq!(after[0], before[0]);
}

#[test]
fn worker_and_launcher_come_back() {
    let cluster = cluster("come-back", &[]);
    create_database(&cluster, "shop");
    let first = wait_for_workers(&cluster, &["shop"])[0];
    terminate(&cluster, first);
    let another = |old: i32| {
        wait_for_value(
            "the database has another worker",
            DEFAULT_DEADLINE,
            || workers(&cluster),
            |found| matches!(found.as_slice(), [(_, pid)] if *pid != old),
        )[0]
        .1
    };
    let second = another(first);
    let old_launcher = launcher(&cluster);
    terminate(&cluster, old_launcher);
    wait_until("there is another launcher", DEFAULT_DEADLINE, || {
        launcher(&cluster) != old_launcher
    });
    // The new one knows the workers that there are.
    create_database(&cluster, "later");
    wait_for_workers(&cluster, &["later", "shop"]);
    cluster.execute("postgres", "drop database later");
    terminate(&cluster, wait_for_workers(&cluster, &["shop"])[0]);
    another(second);
    cluster.execute("shop", &format!("{LARGE_ITEM} {SET}"));
    Backfills::of(&cluster, "shop").wait_done();
}

#[test]
fn database_with_a_worker_is_dropped() {
    let cluster = cluster("drop-database", &[]);
    create_database(&cluster, "shop");
    wait_for_workers(&cluster, &["shop"]);
    cluster.execute("postgres", "drop database shop");
    wait_for_workers(&cluster, &[]);
    create_database(&cluster, "shop");
    wait_for_workers(&cluster, &["shop"]);
    cluster.execute("postgres", "drop database shop with (force)");
    wait_for_workers(&cluster, &[]);
}

#[test]
fn database_with_a_backfill_is_dropped() {
    let cluster = cluster(
        "drop-backfill",
        &[
            ("replwarden.backfill_batch_time", "1"),
            ("replwarden.backfill_delay", "60000"),
        ],
    );
    create_database(&cluster, "shop");
    cluster.execute("shop", LARGE_ITEM);
    let id = Backfills::of(&cluster, "shop").queue(SET);
    Backfills::of(&cluster, "shop").wait_in_the_middle(id);
    cluster.execute("postgres", "drop database shop");
    wait_for_workers(&cluster, &[]);
    let left: i64 = cluster.query_one_value(
        "postgres",
        "select count(*) from pg_stat_activity where backend_type = 'replwarden backfill'",
    );
    assert_eq!(left, 0);
}

#[test]
fn database_with_a_worker_is_renamed() {
    let cluster = cluster("rename", &[]);
    create_database(&cluster, "shop");
    for (old, new) in [("shop", "store"), ("store", "shop"), ("shop", "market")] {
        wait_for_workers(&cluster, &[old]);
        cluster.execute("postgres", &format!("alter database {old} rename to {new}"));
    }
    wait_for_workers(&cluster, &["market"]);
    cluster.execute("market", &format!("{LARGE_ITEM} {SET}"));
    Backfills::of(&cluster, "market").wait_done();
}

#[test]
fn database_with_a_worker_is_a_template() {
    let cluster = cluster("template", &[]);
    create_database(&cluster, "shop");
    cluster.execute("shop", LARGE_ITEM);
    for copy in ["copy_1", "copy_2"] {
        wait_until("the template has a worker", DEFAULT_DEADLINE, || {
            workers(&cluster).iter().any(|(name, _)| name == "shop")
        });
        cluster.execute("postgres", &format!("create database {copy} template shop"));
    }
    wait_for_workers(&cluster, &["copy_1", "copy_2", "shop"]);
    cluster.execute("copy_1", SET);
    Backfills::of(&cluster, "copy_1").wait_done();
    assert!(Backfills::of(&cluster, "shop").all().is_empty());
    cluster.execute("postgres", "drop database copy_1");
    wait_for_workers(&cluster, &["copy_2", "shop"]);
}

/// Each new database has the extension then; the templates themselves are left alone where nobody may connect.
#[test]
fn extension_in_the_template_of_new_databases() {
    let cluster = cluster("template1", &[]);
    cluster.execute("template1", "create extension replwarden");
    for name in ["first", "second"] {
        cluster.execute("postgres", &format!("create database {name}"));
    }
    wait_for_value(
        "the new databases have workers",
        DEFAULT_DEADLINE,
        || workers(&cluster),
        |found| {
            ["first", "second"]
                .iter()
                .all(|name| found.iter().any(|(database, _)| database == name))
        },
    );
}

#[test]
fn database_that_takes_no_connections() {
    let cluster = cluster("no-connections", &[]);
    create_database(&cluster, "closed");
    wait_for_workers(&cluster, &["closed"]);
    cluster.execute("postgres", "alter database closed allow_connections false");
    cluster.restart();
    create_database(&cluster, "open");
    wait_until("the open database has a worker", DEFAULT_DEADLINE, || {
        workers(&cluster).iter().any(|(name, _)| name == "open")
    });
    assert!(!cluster.log().contains("PANIC"));
    cluster.execute("postgres", "alter database closed allow_connections true");
    wait_for_workers(&cluster, &["closed", "open"]);
}

#[test]
fn server_stops_with_all_its_workers() {
    for mode in [
        ShutdownMode::Fast,
        ShutdownMode::Smart,
        ShutdownMode::Immediate,
    ] {
        let cluster = cluster(
            "stop",
            &[
                ("replwarden.backfill_batch_time", "1"),
                ("replwarden.backfill_delay", "60000"),
            ],
        );
        for name in ["first", "second"] {
            create_database(&cluster, name);
            cluster.execute(name, LARGE_ITEM);
            let id = Backfills::of(&cluster, name).queue(SET);
            Backfills::of(&cluster, name).wait_in_the_middle(id);
        }
        wait_for_workers(&cluster, &["first", "second"]);
        cluster.stop(mode);
        cluster.start();
        wait_for_workers(&cluster, &["first", "second"]);
    }
}

#[test]
fn crash_of_the_server_brings_all_back() {
    let cluster = cluster("crash", &[]);
    create_database(&cluster, "shop");
    for victim in ["replwarden worker", "replwarden launcher"] {
        wait_for_workers(&cluster, &["shop"]);
        launcher(&cluster);
        let pid: i32 = cluster.query_one_value(
            "postgres",
            &format!("select pid from pg_stat_activity where backend_type = '{victim}'"),
        );
        let restarts = cluster.log().matches("reinitializing").count();
        let killed = cluster
            .server()
            .command("pg_ctl")
            .args(["kill", "KILL", &pid.to_string()])
            .status()
            .expect("pg_ctl runs");
        assert!(killed.success());
        wait_until("the server has restarted itself", DEFAULT_DEADLINE, || {
            cluster.log().matches("reinitializing").count() > restarts
                && cluster.try_connect("postgres").is_ok()
        });
    }
    launcher(&cluster);
    wait_for_workers(&cluster, &["shop"]);
    cluster.execute("shop", &format!("{LARGE_ITEM} {SET}"));
    Backfills::of(&cluster, "shop").wait_done();
}

#[test]
fn everything_is_visible() {
    let cluster = cluster(
        "visible",
        &[
            ("replwarden.backfill_batch_time", "1"),
            ("replwarden.backfill_delay", "60000"),
        ],
    );
    create_database(&cluster, "shop");
    cluster.execute("shop", LARGE_ITEM);
    wait_for_workers(&cluster, &["shop"]);
    let id = Backfills::of(&cluster, "shop").queue(SET);
    Backfills::of(&cluster, "shop").wait_in_the_middle(id);
    let mut client = cluster.connect("postgres");
    assert_eq!(
        lines(
            &mut client,
            "select backend_type, datname, application_name <> '' or query <> '' from pg_stat_activity
              where backend_type like 'replwarden%' order by 1"
        ),
        [
            "replwarden backfill|shop|t",
            "replwarden launcher|NULL|t",
            "replwarden worker|shop|t"
        ]
    );
    let activity = lines(
        &mut client,
        "select query from pg_stat_activity where backend_type = 'replwarden backfill'",
    );
    for word in [&format!("backfill {id}"), "public.item"] {
        assert!(activity[0].contains(word), "{activity:?}");
    }
    // A worker that waits holds nothing that vacuum would have to respect.
    assert_eq!(
        lines(
            &mut client,
            "select count(*) from pg_stat_activity
              where backend_type like 'replwarden%' and (backend_xid is not null or backend_xmin is not null)"
        ),
        ["0"]
    );
}
