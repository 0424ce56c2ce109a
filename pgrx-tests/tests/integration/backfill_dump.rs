//! A backfill that has not ended is dumped, and begins again from the first block where it is restored.

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, wait_until};

use crate::backfill_state::Backfills;
use crate::database::lines;
use crate::dump_restore::run_on;

const ITEM: &str = "
    create extension replwarden;
    create schema \"The Shop\";
    create table \"The Shop\".item (id int primary key, a int, b int, pad text);
    alter table \"The Shop\".item alter pad set storage plain;
    insert into \"The Shop\".item select n, n, 0, repeat('x', 1000) from generate_series(1, 7000) n;";
const SET: &str = "select repl_set_expression('\"The Shop\".item', 'b', 'a * 2')";

/// A cluster with a backfill in the middle, and the dump of its database. Its settings then let a backfill run through.
#[track_caller]
fn dumped(preloaded: bool) -> (Cluster, Vec<u8>) {
    let mut builder = Cluster::builder("dump")
        .setting("replwarden.backfill_batch_time", "1")
        .setting("replwarden.backfill_delay", "60000");
    if preloaded {
        builder = builder.setting("shared_preload_libraries", "replwarden");
    }
    let cluster = builder.start();
    cluster.execute("postgres", "create database original");
    cluster.execute("postgres", "create database restored");
    cluster.execute("original", ITEM);
    let id = Backfills::of(&cluster, "original").queue(SET);
    Backfills::of(&cluster, "original").wait_in_the_middle(id);
    let dump = run_on(&cluster, "original", "pg_dump", &["-Fc"], b"");
    cluster.execute("original", &format!("select repl_cancel_backfill({id})"));
    cluster.set("replwarden.backfill_delay", "0");
    (cluster, dump)
}

#[track_caller]
fn assert_all_right(cluster: &Cluster) {
    assert_eq!(
        lines(
            &mut cluster.connect("restored"),
            "select * from repl_verify('\"The Shop\".item')"
        ),
        ["b|7000|0|NULL"]
    );
}

const RESTORE: &[&str] = &["--exit-on-error"];

#[test]
fn restored_one_begins_again() {
    let (cluster, dump) = dumped(true);
    cluster.set("replwarden.max_backfill_workers", "0");
    run_on(&cluster, "restored", "pg_restore", RESTORE, &dump);
    let backfills = Backfills::of(&cluster, "restored");
    let all = backfills.all();
    assert_eq!(all.len(), 1, "{all:?}");
    let restored = &all[0];
    assert!(!restored.has_ended(), "{restored:?}");
    assert_eq!(restored.blocks_done, 0, "{restored:?}");
    assert_eq!(
        lines(
            &mut cluster.connect("restored"),
            "select relation, state from repl_generated_columns"
        ),
        ["\"The Shop\".item|backfilling"]
    );
    cluster.set("replwarden.max_backfill_workers", "2");
    backfills.wait_done();
    assert_all_right(&cluster);
    // The next one has an id of its own.
    let next = backfills.queue("select repl_backfill('\"The Shop\".item')");
    assert!(next > restored.id, "{next}");
}

/// The worker looks at the database while it is being restored.
#[test]
fn worker_that_is_there_during_the_restore_misses_no_row() {
    for arguments in [RESTORE, &["--exit-on-error", "--single-transaction"]] {
        let (cluster, dump) = dumped(true);
        run_on(&cluster, "restored", "pg_restore", arguments, &dump);
        wait_until("all rows are brought up", DEFAULT_DEADLINE, || {
            lines(
                &mut cluster.connect("restored"),
                "select count(*) from \"The Shop\".item where b = a * 2",
            ) == ["7000"]
        });
        Backfills::of(&cluster, "restored").wait_done();
        assert_all_right(&cluster);
    }
}

#[test]
fn without_the_library_somebody_has_to_ask_again() {
    let (cluster, dump) = dumped(false);
    run_on(&cluster, "restored", "pg_restore", RESTORE, &dump);
    let backfills = Backfills::of(&cluster, "restored");
    let all = backfills.all();
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(!all[0].has_ended(), "{all:?}");
    backfills.queue("select repl_backfill('\"The Shop\".item')");
    backfills.wait_done();
    assert_all_right(&cluster);
}

/// Such a restore leaves all triggers plainly enabled, those of the extension's own tables as well.
#[test]
fn backfills_can_be_queued_after_a_restore_with_disabled_triggers() {
    let (cluster, dump) = dumped(false);
    run_on(
        &cluster,
        "restored",
        "pg_restore",
        &["--exit-on-error", "-s"],
        &dump,
    );
    run_on(
        &cluster,
        "restored",
        "pg_restore",
        &["--exit-on-error", "-a", "--disable-triggers"],
        &dump,
    );
    cluster.execute(
        "restored",
        "alter table \"The Shop\".item enable always trigger zzz_replwarden, disable trigger replwarden_b",
    );
    let backfills = Backfills::of(&cluster, "restored");
    let id = backfills.queue("select repl_backfill('\"The Shop\".item')");
    backfills.wait_done_with(id);
    assert_all_right(&cluster);
}

#[test]
fn ended_ones_are_not_dumped() {
    let (cluster, _) = dumped(false);
    let backfills = Backfills::of(&cluster, "original");
    backfills.queue("select repl_backfill('\"The Shop\".item')");
    backfills.wait_done();
    let dump = run_on(&cluster, "original", "pg_dump", &["-Fc"], b"");
    run_on(&cluster, "restored", "pg_restore", RESTORE, &dump);
    assert!(Backfills::of(&cluster, "restored").all().is_empty());
    assert_all_right(&cluster);
}

#[test]
fn dump_of_the_schema_alone_has_none() {
    let (cluster, _) = dumped(false);
    Backfills::of(&cluster, "original").queue("select repl_backfill('\"The Shop\".item')");
    let dump = run_on(&cluster, "original", "pg_dump", &["-Fc", "-s"], b"");
    run_on(&cluster, "restored", "pg_restore", RESTORE, &dump);
    assert!(Backfills::of(&cluster, "restored").all().is_empty());
}
