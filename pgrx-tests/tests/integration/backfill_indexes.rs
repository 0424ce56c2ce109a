//! Indexes and generated columns are right after a backfill.

use crate::database::Database;

const ROWS: i32 = 5000;

/// `item (id, a, b, tag)` with rows of which most are wrong, on pages with this fill factor, and the extension amcheck.
fn database(fillfactor: u32) -> Database {
    let database = Database::with_small_batches();
    database.run(&format!(
        "create extension amcheck;
         create table item (id int primary key, a int, b int, tag text)
             with (fillfactor = {fillfactor}, autovacuum_enabled = off);
         insert into item select n, n, case when n % 5 = 0 then n * 2 else -n end, 'tag ' || n
             from generate_series(1, {ROWS}) n"
    ));
    database
}

#[track_caller]
fn bring_up(database: &Database) {
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', 'a * 2')");
    assert_eq!(
        database.backfills().wait_done_with(id).rows_changed,
        i64::from(ROWS) * 4 / 5
    );
    assert_eq!(
        database.lines("select rows_checked, rows_wrong from repl_verify('item')"),
        [format!("{ROWS}|0")]
    );
}

/// Each B-tree of the table holds each row once, where it belongs.
#[track_caller]
fn assert_indexes_are_right(database: &Database) {
    database.run(
        "select bt_index_parent_check(indexrelid, true) from pg_index i join pg_class c on c.oid = i.indexrelid
          where indrelid = 'item'::regclass and relam = (select oid from pg_am where amname = 'btree')",
    );
}

/// A query through an index and through the table itself.
#[track_caller]
fn assert_found(database: &Database, condition: &str, count: i32) {
    for (index, table) in [("on", "off"), ("off", "on")] {
        assert_eq!(
            database.lines(&format!(
                "set enable_seqscan = {table}; set enable_indexscan = {index}; set enable_bitmapscan = {index};
                 set enable_indexonlyscan = {index};
                 select count(*) from item where {condition}"
            )),
            [count.to_string()],
            "{condition}"
        );
    }
}

#[test]
fn indexes_of_the_derived_column() {
    for fillfactor in [100, 40] {
        let database = database(fillfactor);
        database.run(
            "create index on item (b);
             create index on item (b) where b > 9000;
             create index on item ((b % 10));
             create index on item (a) include (b);
             create index on item (tag) where b < 0;
             create index on item using hash (b);
             create index on item using brin (b)",
        );
        bring_up(&database);
        assert_indexes_are_right(&database);
        assert_found(&database, "b = 4000", 1);
        assert_found(&database, "b = -4001", 0);
        assert_found(&database, "b > 9000", 500);
        assert_found(&database, "b % 10 = 4", ROWS / 5);
        assert_found(&database, "tag = 'tag 7' and b < 0", 0);
        assert_found(&database, "b between 100 and 199", 50);
    }
}

#[test]
fn unique_index_of_the_derived_column() {
    let database = database(100);
    database.run("create unique index on item (b)");
    bring_up(&database);
    assert_indexes_are_right(&database);
    assert_eq!(
        database
            .error("insert into item values (0, 5)")
            .code()
            .code(),
        "23505"
    );
}

#[test]
fn index_of_many_keys() {
    let database = Database::with_small_batches();
    database.run(
        "create table item (id int primary key, a text, words tsvector);
         insert into item select n, 'word' || n || ' common', 'old' from generate_series(1, 2000) n;
         create index on item using gin (words);
         create index on item using gist (words);
         select repl_set_expression('item', 'words', $$to_tsvector('simple', a)$$)",
    );
    database.backfilled();
    for (query, count) in [("word77", "1"), ("common", "2000"), ("old", "0")] {
        assert_eq!(
            database.lines(&format!(
                "set enable_seqscan = off; select count(*) from item where words @@ '{query}'"
            )),
            [count]
        );
    }
}

/// Without an index of the column a new version that fits on its page needs no index entry.
#[test]
fn new_versions_stay_on_their_page_where_they_can() {
    let database = database(40);
    let size = "select pg_relation_size('item_pkey'), pg_relation_size('item')";
    let before = database.lines(size);
    bring_up(&database);
    assert_eq!(database.lines(size), before);
    assert_indexes_are_right(&database);
    assert_found(&database, "id = 4321", 1);
}

#[test]
fn generated_columns_that_read_the_derived_one_are_computed_again() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int,
                            g int generated always as (b + 1) stored,
                            h int generated always as (a + 1) stored);
         create index on item (g);
         insert into item (id, a, b) values (1, 10, 99), (2, 20, 40);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database.backfilled();
    assert_eq!(
        database.lines("select id, b, g, h from item order by id"),
        ["1|20|21|11", "2|40|41|21"]
    );
    assert_eq!(
        database.lines("set enable_seqscan = off; select id from item where g = 21"),
        ["1"]
    );
}

#[test]
fn generated_columns_of_a_partition_with_another_order_are_computed_again() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int, g int generated always as (b + 1) stored)
             partition by range (id);
         create table item_1 (g int generated always as (b + 1) stored, gone int, b int, a int, id int primary key);
         alter table item_1 drop gone;
         alter table item attach partition item_1 for values from (0) to (10);
         insert into item (id, a, b) values (1, 10, 99);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database.backfilled();
    assert_eq!(
        database.lines("select id, a, b, g from item"),
        ["1|10|20|21"]
    );
}

#[test]
fn exclusion_constraints_see_the_new_values() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int4range, exclude using gist (b with &&));
         insert into item values (1, 10, '[0,5)'), (2, 12, '[5,9)')",
    );
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', 'int4range(a, a + 3)')");
    let failed = database.backfills().wait_failed(id);
    assert!(failed.error().starts_with("23P01"), "{failed:?}");
    database.run("select repl_set_expression('item', 'b', 'int4range(a + 100, a + 102)')");
    database.backfilled();
    assert_eq!(database.lines("select id from item where b @> 111"), ["1"]);
}
