//! Rows that a backfill cannot bring up.

use crate::backfill_state::Backfill;
use crate::database::Database;

const ROWS: &str = "select id, a, b from item order by id";
const RULE: &str = "select state, rows_failed from repl_generated_columns";

/// The table `item (id, a, b)` with rows of which the third is as the rule `a * 2` would have it.
fn database() -> Database {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int);
         insert into item values (1, 10, 99), (2, 20, null), (3, 30, 60), (4, null, 1)",
    );
    database
}

/// Sets a rule and waits until its backfill has failed.
#[track_caller]
fn failed(database: &Database, expression: &str) -> Backfill {
    let id = database.backfills().queue(&format!(
        "select repl_set_expression('item', 'b', $rule${expression}$rule$)"
    ));
    database.backfills().wait_failed(id)
}

#[test]
fn row_that_fails_is_named_and_those_before_it_are_kept() {
    let database = database();
    let failed = failed(&database, "100 / (a - 30)");
    assert_eq!(
        failed.error(),
        "22012: division by zero (column \"b\", row {\"id\": 3})"
    );
    assert_eq!(failed.rows_changed, 2);
    assert_eq!(
        database.lines("select * from item where id <= 3 order by id"),
        ["1|10|-5", "2|20|-10", "3|30|60"]
    );
    assert_eq!(
        database.lines("select state, columns, finished_at >= started_at, eta from repl_backfills"),
        ["failed|{b}|t|NULL"]
    );
    // The rule holds all the same.
    database.run("insert into item values (5, 40)");
    assert_eq!(database.lines("select b from item where id = 5"), ["10"]);
    let error = database.error("insert into item values (6, 30)");
    assert_eq!(error.code().code(), "22012");
}

#[test]
fn first_row_that_fails_leaves_nothing_before_it() {
    let database = database();
    let failed = failed(&database, "100 / (a - 10)");
    assert!(failed.error().contains("{\"id\": 1}"), "{failed:?}");
    assert_eq!(failed.rows_changed, 0);
    assert_eq!(database.lines("select b from item where id = 1"), ["99"]);
}

#[test]
fn row_far_behind_the_first_batch() {
    let database = Database::with_small_batches();
    database.run(
        "create table item (id int primary key, a int, b int);
         insert into item select n, case when n <> 90000 then n end, 0 from generate_series(1, 100000) n",
    );
    let failed = failed(&database, "100000000 / coalesce(a, 0)");
    assert_eq!(
        failed.error(),
        "22012: division by zero (column \"b\", row {\"id\": 90000})"
    );
    assert_eq!(failed.rows_changed, 89_999);
    assert_eq!(
        database.lines(
            "select count(*) from item where id < 90000 and b is distinct from 100000000 / a"
        ),
        ["0"]
    );
    assert_eq!(
        database.lines("select blocks_done > 0 and blocks_done < blocks_total from repl_backfills"),
        ["t"]
    );
}

#[test]
fn state_and_last_error_of_the_rule_say_that_it_failed() {
    let database = database();
    let id = failed(&database, "100 / (a - 30)").id;
    let rule = database.lines("select state, rows_failed, last_error from repl_generated_columns");
    assert!(rule[0].starts_with("failing|0|"), "{rule:?}");
    assert!(rule[0].contains("division by zero"), "{rule:?}");
    assert!(rule[0].contains("{\"id\": 3}"), "{rule:?}");
    database.run("update item set a = 31 where id = 3");
    let again = database.backfills().queue("select repl_backfill('item')");
    assert!(again > id);
    database.backfills().wait_done_with(again);
    assert_eq!(
        database.lines("select state, last_error from repl_generated_columns"),
        ["live|NULL"]
    );
    assert_eq!(
        database.lines(ROWS),
        ["1|10|-5", "2|20|-10", "3|31|100", "4|NULL|NULL"]
    );
}

#[test]
fn key_of_several_columns() {
    let database = Database::new();
    database.run(
        "create table item (\"The Id\" text, a int, day date, b int, primary key (day, \"The Id\"));
         insert into item values ('x\"y', 0, '2024-02-29')",
    );
    let failed = failed(&database, "100 / a");
    assert!(
        failed.error().contains(r#""day": "2024-02-29""#)
            && failed.error().contains(r#""The Id": "x\"y""#),
        "{failed:?}"
    );
}

#[test]
fn key_of_a_replica_identity() {
    let database = Database::new();
    database.run(
        "create table item (code int not null unique, a int, b int);
         alter table item replica identity using index item_code_key;
         insert into item values (7, 0)",
    );
    let failed = failed(&database, "100 / a");
    assert!(failed.error().contains("{\"code\": 7}"), "{failed:?}");
}

#[test]
fn row_of_a_partition_is_named() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 (b int, a int, id int primary key);
         alter table item attach partition item_2 for values from (10) to (20);
         insert into item values (1, 10), (11, 0)",
    );
    let failed = failed(&database, "100 / a");
    assert!(failed.error().contains("{\"id\": 11}"), "{failed:?}");
    assert_eq!(database.lines("select b from item where id = 1"), ["10"]);
    assert_eq!(database.lines(RULE), ["failing|0"]);
}

#[test]
fn error_keeps_the_sqlstate_of_a_users_function() {
    let database = database();
    database.run(
        "create function boom(a int) returns int language plpgsql immutable set search_path = pg_catalog as $$
         begin raise exception 'boom %', a using errcode = 'XY001'; end $$",
    );
    let failed = failed(&database, "boom(a)");
    assert!(failed.error().starts_with("XY001: boom 10"), "{failed:?}");
    assert!(failed.error().contains("{\"id\": 1}"), "{failed:?}");
}

#[test]
fn error_names_the_column_that_failed() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int, c int);
         insert into item values (1, 0);
         select repl_set_expression('item', 'c', '100 / a', backfill => false)",
    );
    let failed = failed(&database, "a + 1");
    assert!(failed.error().contains("column \"c\""), "{failed:?}");
}

#[test]
fn row_that_breaks_a_constraint_is_named() {
    for (constraint, code) in [
        ("alter table item add check (b < 100)", "23514"),
        ("alter table item add check (b < 100) not valid", "23514"),
        (
            "update item set b = 0 where b is null; alter table item alter b set not null",
            "23502",
        ),
        ("create unique index on item (b)", "23505"),
    ] {
        let database = database();
        database.run(constraint);
        let failed = failed(
            &database,
            "case when id = 2 then 100 when id = 3 then null else 1 end",
        );
        assert!(failed.error().starts_with(code), "{constraint}: {failed:?}");
        assert!(
            failed.error().contains("{\"id\": "),
            "{constraint}: {failed:?}"
        );
    }
}

#[test]
fn constraint_that_is_not_valid_lets_rows_pass_that_are_right() {
    let database = database();
    database.run("alter table item add check (b < 50) not valid");
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', 'case when id = 3 then 60 else 1 end')");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 2);
}

#[test]
fn each_row_that_becomes_null_counts_once() {
    let database = database();
    let place = "select ctid, xmin, xmax from item where id = 2";
    let before = database.lines(place);
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', '100 / (a % 20 - a % 20)', 'null')");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 3);
    assert_eq!(
        database.lines(ROWS),
        ["1|10|NULL", "2|20|NULL", "3|30|NULL", "4|NULL|NULL"]
    );
    assert_eq!(database.lines(place), before, "it was NULL already");
    assert_eq!(database.lines(RULE), ["failing|3"]);
    // A second one counts the same rows, and not on top of the first.
    for _ in 0..2 {
        let again = database.backfills().queue("select repl_backfill('item')");
        assert_eq!(database.backfills().wait_done_with(again).rows_changed, 0);
        assert_eq!(database.lines(RULE), ["failing|3"]);
    }
    database.run("update item set a = null where id = 1");
    database.run("select repl_backfill('item')");
    database.backfilled();
    assert_eq!(database.lines(RULE), ["failing|2"]);
}

#[test]
fn rows_of_many_batches_that_become_null_are_counted() {
    let database = Database::with_small_batches();
    database.run(
        "create table item (id int primary key, a int, b int);
         insert into item select n, n % 10, 0 from generate_series(1, 50000) n;
         select repl_set_expression('item', 'b', '100 / a', 'null')",
    );
    database.backfilled();
    assert_eq!(database.lines(RULE), ["failing|5000"]);
    assert_eq!(
        database.lines("select count(*) from item where b is distinct from 100 / nullif(a, 0)"),
        ["0"]
    );
}

#[test]
fn null_where_the_column_must_not_be_is_named() {
    let database = database();
    database.run(
        "select repl_set_expression('item', 'b', '100 / (a - 30)', 'null', false);
         alter table item disable trigger zzz_replwarden;
         update item set b = 0;
         alter table item enable always trigger zzz_replwarden, alter b set not null",
    );
    let id = database.backfills().queue("select repl_backfill('item')");
    let failed = database.backfills().wait_failed(id);
    assert!(failed.error().starts_with("23502"), "{failed:?}");
    assert!(failed.error().contains("{\"id\": 3}"), "{failed:?}");
}

/// An error that would not come again is none: whoever has it tries again.
#[test]
fn error_that_passes_is_tried_again() {
    let database = database();
    database.run(
        "create sequence attempts;
         create function moody(a int) returns int language plpgsql immutable set search_path = public as $$
         begin
             if nextval('attempts') <= 2 then
                 raise exception 'not now' using errcode = 'deadlock_detected';
             end if;
             return a * 2;
         end $$",
    );
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', 'moody(a)')");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 3);
    assert_eq!(
        database.lines(ROWS),
        ["1|10|20", "2|20|40", "3|30|60", "4|NULL|NULL"]
    );
    assert_eq!(database.lines("select error from repl_backfills"), ["NULL"]);
}
