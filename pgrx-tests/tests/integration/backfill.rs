//! Existing rows are brought up by workers, after the caller's transaction. This cluster does not preload the library.

use crate::backfill_state::LARGE_ITEM;
use crate::database::{Database, OWNER};

const ROWS: &str = "select id, a, b from item order by id";
const SET: &str = "select repl_set_expression('item', 'b', 'a * 2')";
/// Shows any row that was written or locked.
const VERSIONS: &str = "select ctid, xmin, xmax, * from item order by id";

/// The table `item (id, a, b)` with rows of which the third is as the rule `a * 2` would have it.
fn database() -> Database {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int);
         insert into item values (1, 10, 99), (2, 20, null), (3, 30, 60), (4, null, 1)",
    );
    database
}

#[test]
fn existing_rows_are_brought_up() {
    let database = database();
    let id = database.backfills().queue(SET);
    database.backfills().wait_done_with(id);
    assert_eq!(
        database.lines(ROWS),
        ["1|10|20", "2|20|40", "3|30|60", "4|NULL|NULL"]
    );
    assert_eq!(
        database.lines(
            "select relation, columns, state, blocks_total, blocks_done, rows_changed, percent = 100, workers,
                    started_at <= finished_at, finished_at <= clock_timestamp(), error from repl_backfills"
        ),
        ["item|{b}|done|1|1|3|t|1|t|t|NULL"]
    );
    assert_eq!(
        database.lines("select state, rows_failed from repl_generated_columns"),
        ["live|0"]
    );
}

#[test]
fn table_without_rows_needs_none() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int);
         create table part (id int primary key, a int, b int) partition by range (id);
         create table part_1 partition of part for values from (0) to (10)",
    );
    for call in [
        "repl_set_expression('item', 'b', 'a * 2')",
        "repl_backfill('item')",
        "repl_set_expression('part', 'b', 'a * 2')",
        "repl_backfill('part')",
        "repl_backfill('part_1')",
    ] {
        assert_eq!(
            database.lines(&format!("select {call}")),
            ["NULL"],
            "{call}"
        );
    }
    assert!(database.backfills().all().is_empty());
}

#[test]
fn rows_that_are_right_are_not_touched() {
    let database = database();
    let place = "select ctid, xmin, xmax from item where id = 3";
    let before = database.lines(place);
    database.run(SET);
    database.backfilled();
    assert_eq!(database.lines(place), before);
    let before = database.lines(VERSIONS);
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', 'a + a')");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 0);
    let again = database.backfills().queue("select repl_backfill('item')");
    assert_eq!(database.backfills().wait_done_with(again).rows_changed, 0);
    assert_eq!(database.lines(VERSIONS), before);
}

/// Of the table's file there is no record in the WAL while a backfill looks at rows that are right.
#[test]
fn rows_that_are_right_cost_no_wal() {
    let database = Database::new();
    if database.cluster().server().major() < 15 {
        return; // pg_walinspect came with 15
    }
    database.run(
        "create extension pg_walinspect;
         create table item (id int primary key, a int, b int) with (autovacuum_enabled = off);
         insert into item select n, n, 0 from generate_series(1, 20000) n",
    );
    database.run(SET);
    database.backfilled();
    database.run("vacuum item");
    let written = |start: &str| -> i64 {
        database
            .connect()
            .query_one(
                &format!(
                    "select count(*) from pg_get_wal_records_info('{start}', pg_current_wal_flush_lsn())
                      where block_ref like '%rel %/%/' || pg_relation_filenode('item') || ' %'"
                ),
                &[],
            )
            .expect("the WAL can be read")
            .get(0)
    };
    let start = database
        .lines("select pg_current_wal_insert_lsn()")
        .remove(0);
    database.run("select repl_backfill('item')");
    database.backfilled();
    // Whoever commits flushes what was written before.
    database.run("create table flushed ()");
    assert_eq!(written(&start), 0);
    database.run("update item set a = 0 where id = 1");
    assert_ne!(written(&start), 0, "a record would have been seen");
}

#[test]
fn without_backfill_existing_rows_stay() {
    let database = database();
    let before = database.lines(VERSIONS);
    assert_eq!(
        database.lines("select repl_set_expression('item', 'b', 'a * 2', backfill => false)"),
        ["NULL"]
    );
    assert!(database.backfills().all().is_empty());
    assert_eq!(database.lines(VERSIONS), before);
    database.run("update item set a = a");
    assert_eq!(
        database.lines(ROWS),
        ["1|10|20", "2|20|40", "3|30|60", "4|NULL|NULL"]
    );
}

#[test]
fn backfill_that_is_asked_for_later() {
    let database = database();
    database.run("select repl_set_expression('item', 'b', 'a * 2', backfill => false)");
    let id = database
        .backfills()
        .queue("select repl_backfill('item', workers => 2)");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 3);
    assert_eq!(
        database.lines(ROWS),
        ["1|10|20", "2|20|40", "3|30|60", "4|NULL|NULL"]
    );
    assert_eq!(database.lines("select workers from repl_backfills"), ["2"]);
}

#[test]
fn all_rules_of_a_table_are_brought_up_at_once() {
    let database = database();
    database.run(
        "alter table item add c int, add d text;
         select repl_set_expression('item', 'b', 'a * 2', backfill => false);
         select repl_set_expression('item', 'c', 'a * 3', backfill => false);
         select repl_set_expression('item', 'd', 'a + 1', 'null', false)",
    );
    let id = database.backfills().queue("select repl_backfill('item')");
    // Of row 4 column b alone was wrong.
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 4);
    assert_eq!(
        database.lines("select id, b, c, d from item order by id"),
        ["1|20|30|11", "2|40|60|21", "3|60|90|31", "4|NULL|NULL|NULL"]
    );
    assert_eq!(
        database.lines("select columns @> '{b,c,d}' and columns <@ '{b,c,d}' from repl_backfills"),
        ["t"]
    );
}

#[test]
fn every_row_of_a_large_table() {
    let database = Database::with_small_batches();
    database.run(
        "create table item (id int primary key, a int, b int);
         insert into item select n, n, case when n % 3 = 0 then n * 2 end from generate_series(1, 100000) n;
         delete from item where id % 7 = 0;
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database.backfilled();
    let all = database.backfills().all();
    // Neither multiples of 7, which are gone, nor of 3, which were right.
    assert_eq!(all[0].rows_changed, 57_143, "{all:?}");
    assert!(all[0].blocks_total > 100, "{all:?}");
    assert_eq!(all[0].blocks_done, all[0].blocks_total, "{all:?}");
    assert_eq!(
        database.lines("select * from repl_verify('item')"),
        ["b|85715|0|NULL"]
    );
}

#[test]
fn progress_moves_while_it_runs() {
    let database = Database::slow();
    database.run(LARGE_ITEM);
    let pages: i64 = database
        .lines("select pg_relation_size('item') / current_setting('block_size')::int")[0]
        .parse()
        .expect("a number");
    let id = database.backfills().queue(SET);
    let seen = database
        .backfills()
        .wait_for(id, "has done a block", |backfill| backfill.blocks_done > 0);
    assert_eq!(seen.blocks_total, pages);
    assert!(seen.rows_changed > 0, "{seen:?}");
    assert_eq!(
        database.lines(
            "select percent > 0 and percent < 100, rows_per_second > 0, eta > '0', started_at <= clock_timestamp(),
                    finished_at, error from repl_backfills"
        ),
        ["t|t|t|t|NULL|NULL"]
    );
    assert_eq!(
        database.lines("select state from repl_generated_columns"),
        ["backfilling"]
    );
    database.run(&format!("select repl_cancel_backfill({id})"));
    assert_eq!(
        database.lines("select state, eta, finished_at >= started_at from repl_backfills"),
        ["cancelled|NULL|t"]
    );
}

#[test]
fn partitions_are_brought_up() {
    let database = Database::new();
    database.run(
        "create table item (id int, k int, a int, b int, primary key (id, k)) partition by list (k);
         create table item_1 partition of item for values in (1);
         create table item_2 (b int, gone int, a int, k int not null, id int not null);
         alter table item_2 drop gone;
         alter table item attach partition item_2 for values in (2);
         create table item_3 (a int, b int, id int not null, k int not null) partition by range (id);
         create table item_3_low partition of item_3 for values from (0) to (100);
         alter table item attach partition item_3 for values in (3);
         create table item_4 partition of item for values in (4);
         insert into item values (1, 1, 10, 99), (2, 2, 20, 99), (3, 2, 30, 60), (4, 3, 40, 99)",
    );
    let place = "select ctid, xmin, xmax from item where id = 3";
    let before = database.lines(place);
    let id = database.backfills().queue(SET);
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 3);
    assert_eq!(
        database.lines("select tableoid::regclass, id, a, b from item order by id"),
        [
            "item_1|1|10|20",
            "item_2|2|20|40",
            "item_2|3|30|60",
            "item_3_low|4|40|80"
        ]
    );
    assert_eq!(database.lines(place), before);
    assert_eq!(
        database.lines("select relation, columns, blocks_total, blocks_done from repl_backfills"),
        ["item|{b}|3|3"]
    );
}

#[test]
fn partition_is_brought_up_alone() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 (b int, a int, id int primary key);
         alter table item attach partition item_2 for values from (10) to (20);
         insert into item values (1, 10, 99), (11, 20, 99);
         select repl_set_expression('item', 'b', 'a * 2', backfill => false)",
    );
    let id = database.backfills().queue("select repl_backfill('item_2')");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 1);
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|99", "11|40"]
    );
    assert_eq!(
        database.lines("select relation from repl_backfills"),
        ["item_2"]
    );
}

#[test]
fn rows_of_inheriting_tables_are_not_touched() {
    let database = database();
    database.run("create table child () inherits (item); insert into child values (5, 50, 99)");
    let place = "select ctid, xmin, xmax, * from child";
    let before = database.lines(place);
    database.run(SET);
    database.backfilled();
    assert_eq!(
        database.lines("select b from only item where id = 1"),
        ["20"]
    );
    assert_eq!(database.lines(place), before);
}

#[test]
fn large_values_are_compared_and_kept() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a text, b text);
         alter table item alter a set storage external, alter b set storage external;
         insert into item select n, repeat(n::text, 20000), case when n = 2 then repeat('2', 20000) || '!' end
             from generate_series(1, 3) n",
    );
    let place = "select ctid, xmin, xmax from item where id = 2";
    let before = database.lines(place);
    let toast = database
        .lines("select reltoastrelid::regclass from pg_class where oid = 'item'::regclass")
        .remove(0);
    let values = format!("select distinct chunk_id from {toast} order by 1");
    let stored = database.lines(&values);
    assert_eq!(stored.len(), 4);
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', 'a || ''!''')");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 2);
    assert_eq!(
        database.lines("select count(*) from item where b = a || '!'"),
        ["3"]
    );
    assert_eq!(database.lines(place), before);
    let stored_now = database.lines(&values);
    assert_eq!(stored_now.len(), 6, "two values more");
    assert!(
        stored.iter().all(|value| stored_now.contains(value)),
        "values that did not change are stored where they were"
    );
    let again = database.backfills().queue("select repl_backfill('item')");
    assert_eq!(database.backfills().wait_done_with(again).rows_changed, 0);
}

#[test]
fn columns_that_were_added_later_are_read() {
    let database = database();
    database.run("alter table item add d int default 1000, add e int default 7");
    database.run("select repl_set_expression('item', 'b', 'a + d')");
    database.backfilled();
    assert_eq!(
        database.lines("select id, b, d, e from item order by id"),
        [
            "1|1010|1000|7",
            "2|1020|1000|7",
            "3|1030|1000|7",
            "4|NULL|1000|7"
        ]
    );
}

#[test]
fn owner_may_ask_for_one() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, a int, b int);
         insert into item values (1, 10, 99), (2, 20, 99);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database.backfilled();
    assert_eq!(database.lines(ROWS), ["1|10|20", "2|20|40"]);
    database.run_as(OWNER, "select repl_backfill('item')");
    database.backfilled();
}
