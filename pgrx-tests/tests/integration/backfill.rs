//! `backfill => true`: existing rows are brought up in the caller's transaction.

use postgres::error::SqlState;

use crate::database::{Database, OWNER};

const ROWS: &str = "select id, a, b from item order by id";

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
    assert_eq!(
        database.lines("select repl_set_expression('item', 'b', 'a * 2')"),
        ["NULL"]
    );
    assert_eq!(
        database.lines(ROWS),
        ["1|10|20", "2|20|40", "3|30|60", "4|NULL|NULL"]
    );
}

#[test]
fn rows_that_are_right_are_not_touched() {
    let database = database();
    let place = "select ctid, xmin from item where id = 3";
    let before = database.lines(place);
    database.run("select repl_set_expression('item', 'b', 'a * 2')");
    assert_eq!(database.lines(place), before);
    let all = "select ctid, xmin from item order by id";
    let before = database.lines(all);
    database.run("select repl_set_expression('item', 'b', 'a + a')");
    assert_eq!(database.lines(all), before);
}

#[test]
fn without_backfill_existing_rows_stay() {
    let database = database();
    let all = "select ctid, xmin, * from item order by id";
    let before = database.lines(all);
    assert_eq!(
        database.lines("select repl_set_expression('item', 'b', 'a * 2', backfill => false)"),
        ["NULL"]
    );
    assert_eq!(database.lines(all), before);
    database.run("update item set a = a");
    assert_eq!(
        database.lines(ROWS),
        ["1|10|20", "2|20|40", "3|30|60", "4|NULL|NULL"]
    );
}

#[test]
fn plain_triggers_do_not_fire() {
    let database = database();
    database.run(
        "create function refuse() returns trigger language plpgsql as 'begin raise ''fired''; end';
         create trigger refuse before update on item for each row execute function refuse();
         create trigger refuse_statement before update on item execute function refuse();
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    assert_eq!(database.lines("select b from item where id = 1"), ["20"]);
    assert_eq!(
        database.error("update item set a = 1").message(),
        "fired",
        "the session's own role is back"
    );
}

#[test]
fn failing_row_changes_nothing() {
    let database = database();
    let state = "select ctid, xmin, * from item order by id";
    let before = database.lines(state);
    let error = database.error("select repl_set_expression('item', 'b', '100 / (a - 30)')");
    assert_eq!(error.code(), &SqlState::DIVISION_BY_ZERO);
    assert!(error.message().contains("\"b\""), "{error:?}");
    assert!(error.message().contains("item"), "{error:?}");
    assert!(error.message().contains("division by zero"), "{error:?}");
    assert!(error.detail().is_some_and(|text| !text.is_empty()));
    assert!(error.hint().is_some_and(|text| text.contains("on_error")));
    assert_eq!(database.lines(state), before);
    assert_eq!(
        database.lines("select count(*) from pg_trigger where tgrelid = 'item'::regclass"),
        ["0"]
    );
}

#[test]
fn failing_row_shows_what_a_users_function_says() {
    let database = database();
    database.run(
        "create function boom(a int) returns int language plpgsql immutable set search_path = pg_catalog as $$
         begin raise exception 'boom' using errcode = 'XY001', detail = 'why'; end $$",
    );
    let error = database.error("select repl_set_expression('item', 'b', 'boom(a)')");
    assert!(error.message().contains("boom"), "{error:?}");
    assert_eq!(error.detail(), Some("why"));
}

#[test]
fn row_that_breaks_a_constraint_is_an_error() {
    let database = database();
    database.run("alter table item add check (b < 100)");
    let error = database.error("select repl_set_expression('item', 'b', 'a * 10')");
    assert_eq!(error.code(), &SqlState::CHECK_VIOLATION);
}

#[test]
fn each_row_that_becomes_null_counts_once() {
    let database = database();
    let place = "select ctid from item where id = 2";
    let before = database.lines(place);
    database.run("select repl_set_expression('item', 'b', '100 / (a % 20 - a % 20)', 'null')");
    assert_eq!(
        database.lines(ROWS),
        ["1|10|NULL", "2|20|NULL", "3|30|NULL", "4|NULL|NULL"]
    );
    assert_eq!(database.lines(place), before, "it was NULL already");
    assert_eq!(
        database.lines("select state, rows_failed from repl_generated_columns"),
        ["failing|3"]
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
         insert into item values (1, 1, 10, 99), (2, 2, 20, 99), (3, 2, 30, 60)",
    );
    let place = "select ctid from item where id = 3";
    let before = database.lines(place);
    database.run("select repl_set_expression('item', 'b', 'a * 2')");
    assert_eq!(
        database.lines("select tableoid::regclass, id, a, b from item order by id"),
        ["item_1|1|10|20", "item_2|2|20|40", "item_2|3|30|60"]
    );
    assert_eq!(database.lines(place), before);
}

#[test]
fn rows_of_inheriting_tables_are_not_touched() {
    let database = database();
    database.run("create table child () inherits (item); insert into child values (5, 50, 99)");
    let place = "select ctid, xmin, * from child";
    let before = database.lines(place);
    database.run("select repl_set_expression('item', 'b', 'a * 2')");
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
    let place = "select ctid from item where id = 2";
    let before = database.lines(place);
    database.run("select repl_set_expression('item', 'b', 'a || ''!''')");
    assert_eq!(
        database.lines("select count(*) from item where b = a || '!'"),
        ["3"]
    );
    assert_eq!(database.lines(place), before);
}

#[test]
fn functions_run_with_the_rights_of_the_tables_owner() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, a int, b text); insert into item values (1, 10);
         create function whoami() returns text language plpgsql stable set search_path = pg_catalog as
             'begin return current_user; end'",
    );
    database.run("select repl_set_expression('item', 'b', 'whoami()')");
    assert_eq!(database.lines("select b from item"), [OWNER]);
}

#[test]
fn owner_needs_no_right_on_the_extensions_schema() {
    let database = Database::without_extension();
    database.run(&format!(
        "create schema private; create extension replwarden schema private;
         create table item (id int primary key, a int, b int); insert into item values (1, 10);
         alter table item owner to {OWNER};
         select private.repl_set_expression('item', 'b', 'a * 2')"
    ));
    assert_eq!(database.lines(ROWS), ["1|10|20"]);
}

#[test]
fn error_names_the_column_that_failed() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int, c int);
         insert into item values (1, 0);
         select repl_set_expression('item', 'b', '100 / a', backfill => false)",
    );
    let error = database.error("select repl_set_expression('item', 'c', 'a + 1')");
    assert_eq!(error.code(), &SqlState::DIVISION_BY_ZERO);
    assert!(error.message().contains("\"b\""), "{error:?}");
}

#[test]
fn error_keeps_the_sqlstate_of_a_users_function() {
    let database = database();
    let error = database.error(
        "create function boom(a int) returns int language plpgsql immutable set search_path = pg_catalog as $$
         begin raise exception 'boom' using errcode = 'XY001'; end $$;
         select repl_set_expression('item', 'b', 'boom(a)')",
    );
    assert_eq!(error.code().code(), "XY001", "{error:?}");
}
