//! A standby of a server that preloads the library: it is left alone until it is promoted.

use std::fs;
use std::io::Write as _;

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, ShutdownMode, wait_until};

use crate::backfill_state::Backfills;
use crate::database::lines;

const DATABASE: &str = "postgres";
const OURS: &str = "select count(*) from pg_stat_activity where backend_type like 'replwarden%'";

/// A hot standby of this cluster, which has caught up. It has a cluster's directory, port and life, and the primary's
/// data.
#[track_caller]
pub(crate) fn standby_of(primary: &Cluster) -> Cluster {
    let standby = Cluster::builder("standby").start();
    standby.stop(ShutdownMode::Fast);
    let data = standby.data_directory();
    fs::remove_dir_all(data).expect("the cluster is down");
    let taken = standby
        .server()
        .command("pg_basebackup")
        .arg("-D")
        .arg(data)
        .arg("-d")
        .arg(primary.conninfo(DATABASE))
        .args(["-R", "-X", "stream", "-c", "fast"])
        .output()
        .expect("pg_basebackup runs");
    assert!(taken.status.success(), "{taken:?}");
    let directory = data.parent().expect("the cluster's directory");
    // The last line of a name counts; the primary's came with its data.
    fs::OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .and_then(|mut file| {
            writeln!(
                file,
                "port = {}\nunix_socket_directories = '{}'",
                standby.port(),
                directory.display()
            )
        })
        .expect("the settings can be written");
    standby.start();
    wait_until("the standby has caught up", DEFAULT_DEADLINE, || {
        let lsn: String =
            primary.query_one_value(DATABASE, "select pg_current_wal_flush_lsn()::text");
        standby.query_one_value(
            DATABASE,
            &format!("select coalesce(pg_last_wal_replay_lsn() >= '{lsn}', false)"),
        )
    });
    standby
}

#[test]
fn standby_is_left_alone_and_goes_on_when_it_is_promoted() {
    let primary = Cluster::builder("primary")
        .setting("shared_preload_libraries", "replwarden")
        .setting("replwarden.max_backfill_workers", "0")
        .start();
    primary.execute(
        DATABASE,
        "create extension replwarden;
         create table item (id int primary key, a int, b int);
         insert into item select n, n, 0 from generate_series(1, 5000) n",
    );
    let id =
        Backfills::of(&primary, DATABASE).queue("select repl_set_expression('item', 'b', 'a * 2')");
    wait_until("the primary has its workers", DEFAULT_DEADLINE, || {
        primary.query_one_value::<i64>(DATABASE, OURS) == 2
    });

    let standby = standby_of(&primary);
    let backfills = Backfills::of(&standby, DATABASE);
    let queued = backfills.get(id);
    assert_eq!(queued.state, "queued", "{queued:?}");
    let mut client = standby.connect(DATABASE);
    assert_eq!(
        lines(
            &mut client,
            "select column_name, state from repl_generated_columns"
        ),
        ["b|backfilling"]
    );
    assert_eq!(
        lines(
            &mut client,
            "select rows_checked, rows_wrong from repl_verify('item')"
        ),
        ["5000|5000"]
    );
    for call in [
        "repl_backfill('item')".to_owned(),
        format!("repl_cancel_backfill({id})"),
    ] {
        let error = standby.expect_error(DATABASE, &format!("select {call}"));
        // The first is read_only_sql_transaction; the second comes from a lock that recovery does not allow.
        assert!(
            ["25006", "55000"].contains(&error.code().code()),
            "{call}: {error:?}"
        );
    }
    standby.reload();
    assert_eq!(standby.query_one_value::<i64>(DATABASE, OURS), 0);
    drop(client);

    primary.stop(ShutdownMode::Fast);
    standby.execute(DATABASE, "select pg_promote()");
    wait_until(
        "the promoted server has a launcher and a worker",
        DEFAULT_DEADLINE,
        || {
            let types = standby.rows_text(
                DATABASE,
                "select backend_type, datname from pg_stat_activity
                  where backend_type in ('replwarden launcher', 'replwarden worker') order by 1",
            );
            let row = |kind: &str, database: Option<&str>| {
                vec![Some(kind.to_owned()), database.map(str::to_owned)]
            };
            types
                == [
                    row("replwarden launcher", None),
                    row("replwarden worker", Some(DATABASE)),
                ]
        },
    );
    standby.set("replwarden.max_backfill_workers", "2");
    assert_eq!(backfills.wait_done_with(id).rows_changed, 5000);
    assert_eq!(
        lines(
            &mut standby.connect(DATABASE),
            "select * from repl_verify('item')"
        ),
        ["b|5000|0|NULL"]
    );
}
