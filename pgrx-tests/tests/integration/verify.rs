//! `repl_verify`: reads every row and says which are not as their rules say.

use postgres::error::SqlState;

use crate::database::{Database, OWNER, STRANGER};
use crate::refusals::assert_refused;

const VERIFY: &str = "select * from repl_verify('item')";

/// The table `item (id, a, b)`, whose column b is twice a, with 30 rows.
fn database() -> Database {
    let database = Database::with_item();
    database.run("insert into item select n, n from generate_series(1, 30) n");
    database
}

/// Changes rows behind the rules' back.
#[track_caller]
fn spoil(database: &Database, table: &str, update: &str) {
    database.run(&format!(
        "alter table {table} disable trigger zzz_replwarden;
         {update};
         alter table {table} enable always trigger zzz_replwarden"
    ));
}

#[test]
fn all_rows_are_right() {
    let database = database();
    assert_eq!(database.lines(VERIFY), ["b|30|0|NULL"]);
}

#[test]
fn table_without_rows() {
    assert_eq!(Database::with_item().lines(VERIFY), ["b|0|0|NULL"]);
}

#[test]
fn values_that_somebody_changed_are_seen() {
    let database = database();
    spoil(
        &database,
        "item",
        "update item set b = b + 1 where id = 7; update item set b = null where id in (8, 9)",
    );
    assert_eq!(
        database.lines(VERIFY),
        ["b|30|3|[{\"id\": 7}, {\"id\": 8}, {\"id\": 9}]"]
    );
}

#[test]
fn value_where_the_rule_says_null_is_seen() {
    let database = database();
    database.run("update item set a = null where id = 5");
    assert_eq!(database.lines(VERIFY), ["b|30|0|NULL"]);
    spoil(&database, "item", "update item set b = 1 where id = 5");
    assert_eq!(database.lines(VERIFY), ["b|30|1|[{\"id\": 5}]"]);
}

#[test]
fn source_that_somebody_changed_is_seen() {
    let database = database();
    spoil(&database, "item", "update item set a = a + 1 where id > 28");
    assert_eq!(
        database.lines(VERIFY),
        ["b|30|2|[{\"id\": 29}, {\"id\": 30}]"]
    );
}

#[test]
fn verification_changes_nothing() {
    let database = database();
    spoil(&database, "item", "update item set b = 0");
    let versions = "select ctid, xmin, xmax, * from item order by id";
    let before = database.lines(versions);
    database.run(VERIFY);
    assert_eq!(database.lines(versions), before);
    assert_eq!(
        database.lines("begin read only; select rows_wrong from repl_verify('item')"),
        ["30"]
    );
}

#[test]
fn rows_are_right_again_after_the_rule_is_set_again() {
    let database = database();
    spoil(&database, "item", "update item set b = 0");
    database.run("select repl_set_expression('item', 'b', 'a * 2')");
    database.backfilled();
    assert_eq!(database.lines(VERIFY), ["b|30|0|NULL"]);
}

#[test]
fn sample_says_how_many_keys_to_show() {
    let database = database();
    spoil(&database, "item", "update item set b = 0");
    let count = |sample: &str| {
        database.lines(&format!(
            "select rows_wrong, jsonb_array_length(sample_keys) from repl_verify('item'{sample})"
        ))
    };
    assert_eq!(count(""), ["30|10"]);
    assert_eq!(count(", 3"), ["30|3"]);
    assert_eq!(count(", 0"), ["30|NULL"]);
    assert_eq!(count(", 1000"), ["30|30"]);
    assert_eq!(count(", sample => 1"), ["30|1"]);
}

#[test]
fn invalid_samples_are_refused() {
    let database = database();
    assert_refused(&database, "repl_verify('item', -1)", "22023", "-1");
    assert_refused(
        &database,
        "repl_verify('item', null)",
        "22004",
        "\"sample\"",
    );
    assert_refused(&database, "repl_verify(null)", "22004", "\"relation\"");
}

#[test]
fn keys_of_several_columns_and_any_type() {
    let database = Database::new();
    database.run(
        "create table \"The Item\" (\"B's key\" text, a int, \"The B\" int, \"on\" date,
                                    primary key (\"on\", \"B's key\"));
         select repl_set_expression('\"The Item\"', 'The B', 'a * 2');
         insert into \"The Item\" values ('x\"y', 1, null, '2024-02-29'), ('z', 2, null, '2024-03-01')",
    );
    spoil(
        &database,
        "\"The Item\"",
        "update \"The Item\" set \"The B\" = -1 where a = 1",
    );
    assert_eq!(
        database.lines(
            "select column_name, rows_checked, rows_wrong,
                    sample_keys = '[{\"on\": \"2024-02-29\", \"B''s key\": \"x\\\"y\"}]'
               from repl_verify('\"The Item\"')"
        ),
        ["The B|2|1|t"]
    );
}

#[test]
fn several_rules_are_counted_each() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, gone int, a int, c int, b int, d int);
         alter table item drop gone;
         select repl_set_expression('item', 'b', 'a * 2');
         select repl_set_expression('item', 'c', 'a * 3');
         select repl_set_expression('item', 'd', 'a * 4');
         insert into item (id, a) select n, n from generate_series(1, 10) n",
    );
    spoil(
        &database,
        "item",
        "update item set b = 0 where id <= 2; update item set c = 0 where id = 2",
    );
    assert_eq!(
        database.lines(VERIFY),
        [
            "c|10|1|[{\"id\": 2}]",
            "b|10|2|[{\"id\": 1}, {\"id\": 2}]",
            "d|10|0|NULL"
        ]
    );
}

#[test]
fn partitioned_table_is_verified_with_its_partitions() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 (b int, a int, id int primary key);
         alter table item attach partition item_2 for values from (10) to (20);
         select repl_set_expression('item', 'b', 'a * 2');
         insert into item select n, n from generate_series(1, 19) n",
    );
    assert_eq!(database.lines(VERIFY), ["b|19|0|NULL"]);
    spoil(
        &database,
        "item_2",
        "update item_2 set b = 0 where id in (15, 16)",
    );
    assert_eq!(
        database.lines(VERIFY),
        ["b|19|2|[{\"id\": 15}, {\"id\": 16}]"]
    );
    assert_eq!(
        database.lines("select * from repl_verify('item_1')"),
        ["b|9|0|NULL"]
    );
    assert_eq!(
        database.lines("select * from repl_verify('item_2')"),
        ["b|10|2|[{\"id\": 15}, {\"id\": 16}]"]
    );
}

#[test]
fn rows_of_partitions_without_a_common_key_are_named_by_their_place() {
    let database = Database::new();
    database.run(
        "create table item (id int not null, a int, b int) partition by range (id);
         create table item_1 partition of item (primary key (id)) for values from (0) to (10);
         select repl_set_expression('item', 'b', 'a * 2');
         insert into item values (1, 10)",
    );
    spoil(&database, "item_1", "update item_1 set b = 0");
    assert_eq!(
        database.lines(
            "select i.id from repl_verify('item') v
               join item i on i.ctid = (v.sample_keys -> 0 ->> 'ctid')::tid
                and i.tableoid = (v.sample_keys -> 0 ->> 'table')::regclass"
        ),
        ["1"]
    );
}

#[test]
fn rows_of_inheriting_tables_are_not_counted() {
    let database = database();
    database.run(
        "create table child () inherits (item);
         insert into child values (100, 1, 99), (101, 1, 99)",
    );
    assert_eq!(database.lines(VERIFY), ["b|30|0|NULL"]);
    spoil(&database, "item", "update only item set b = 0 where id = 1");
    assert_eq!(database.lines(VERIFY), ["b|30|1|[{\"id\": 1}]"]);
}

#[test]
fn null_of_a_failed_expression_is_right() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', '100 / a', 'null');
         insert into item values (1, 10), (2, 0), (3, 0)",
    );
    let failed = "select rows_failed from repl_generated_columns";
    assert_eq!(database.lines(failed), ["2"]);
    assert_eq!(database.lines(VERIFY), ["b|3|0|NULL"]);
    spoil(&database, "item", "update item set b = 7 where id = 3");
    assert!(database.warnings(VERIFY).is_empty());
    assert_eq!(database.lines(VERIFY), ["b|3|1|[{\"id\": 3}]"]);
    assert_eq!(database.lines(failed), ["2"]);
}

/// The table `item (id, a, b)`, whose column b is computed by a function that raises an error of its own.
fn with_failing_function() -> Database {
    let database = Database::new();
    database.run(
        "create function boom(a int) returns int language plpgsql immutable set search_path = pg_catalog as $$
         begin raise exception 'boom %', a using errcode = 'XY001', detail = 'why', hint = 'what'; end $$;
         create table item (id int primary key, a int, b int);
         insert into item values (1, 10);
         select repl_set_expression('item', 'b', 'boom(a)', backfill => false)",
    );
    database
}

#[test]
fn failing_expression_is_the_error_with_all_that_it_says() {
    let error = with_failing_function().error(VERIFY);
    assert_eq!(error.code().code(), "XY001", "{error:?}");
    assert_eq!(error.message(), "boom 10");
    assert_eq!(error.detail(), Some("why"));
    assert_eq!(error.hint(), Some("what"));
}

#[test]
fn failing_expression_names_its_column() {
    let error = with_failing_function().error(VERIFY);
    let context = error.where_().unwrap_or_default();
    assert!(context.contains("column \"b\""), "{error:?}");
    assert!(context.contains("item"), "{error:?}");
}

#[test]
fn types_without_equality() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, j json, p point, x xml);
         select repl_set_expression('item', 'j', 'json_build_object(''a'', a)');
         select repl_set_expression('item', 'p', 'point(a, a)');
         select repl_set_expression('item', 'x', $$xmlelement(name a, a)$$);
         insert into item (id, a) values (1, 10), (2, 20)",
    );
    assert_eq!(
        database.lines(VERIFY),
        ["j|2|0|NULL", "p|2|0|NULL", "x|2|0|NULL"]
    );
    spoil(
        &database,
        "item",
        "update item set j = '{}', p = point(0, 0) where id = 2",
    );
    assert_eq!(
        database.lines(VERIFY),
        ["j|2|1|[{\"id\": 2}]", "p|2|1|[{\"id\": 2}]", "x|2|0|NULL"]
    );
}

#[test]
fn long_values_are_compared_too() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a text, b text);
         alter table item alter a set storage external;
         select repl_set_expression('item', 'b', 'upper(a)');
         insert into item select n, string_agg(md5(m::text), '') from generate_series(1, 3) n, generate_series(1, 1000) m
          group by n",
    );
    assert_eq!(database.lines(VERIFY), ["b|3|0|NULL"]);
    spoil(
        &database,
        "item",
        "update item set b = b || 'x' where id = 2",
    );
    assert_eq!(database.lines(VERIFY), ["b|3|1|[{\"id\": 2}]"]);
}

#[test]
fn only_the_owner_may_verify() {
    let database = database();
    database.run(&format!(
        "alter table item owner to {OWNER}; grant all on item to {STRANGER}"
    ));
    let error = database.error(&format!("set role {STRANGER}; {VERIFY}"));
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert!(error.message().contains("item"), "{error:?}");
    assert_eq!(
        database.lines(&format!("set role {OWNER}; {VERIFY}")),
        ["b|30|0|NULL"]
    );
}

#[test]
fn functions_run_as_the_tables_owner() {
    let database = Database::new();
    database.run(&format!(
        "create function whoami() returns text language plpgsql stable set search_path = pg_catalog as
             'begin return current_user; end';
         create table item (id int primary key, a int, b text);
         alter table item owner to {OWNER};
         select repl_set_expression('item', 'b', 'whoami()')"
    ));
    database.run_as(OWNER, "insert into item values (1, 10)");
    assert_eq!(database.lines(VERIFY), ["b|1|0|NULL"]);
}

#[test]
fn row_security_hides_no_row() {
    let database = database();
    database.run(&format!(
        "alter table item owner to {OWNER};
         alter table item enable row level security, force row level security;
         create policy half on item using (id <= 15)"
    ));
    let error = database.error(VERIFY);
    assert_eq!(
        error.code(),
        &SqlState::INSUFFICIENT_PRIVILEGE,
        "half of the rows must not pass for all: {error:?}"
    );
    database.run("alter table item no force row level security");
    assert_eq!(database.lines(VERIFY), ["b|30|0|NULL"]);
}

#[test]
fn table_without_rules_is_refused() {
    let database = database();
    database.run("create table plain (id int primary key, a int)");
    assert_refused(&database, "repl_verify('plain')", "42704", "plain");
    assert_refused(&database, "repl_verify(4000000000)", "42P01", "4000000000");
    database.run("create view a_view as select * from item");
    assert_refused(&database, "repl_verify('a_view')", "42809", "a_view");
}

#[test]
fn verification_can_be_cancelled() {
    for on_error in ["fail", "null"] {
        let database = Database::new();
        database.run(&format!(
            "create function slow(int) returns int language plpgsql immutable set search_path = pg_catalog as
                 'begin perform pg_sleep(600); return $1; end';
             create table item (id int primary key, a int, b int);
             insert into item values (1, 10);
             select repl_set_expression('item', 'b', 'slow(a)', '{on_error}', backfill => false)"
        ));
        let error = database.error(&format!("set statement_timeout = '100ms'; {VERIFY}"));
        assert_eq!(error.code(), &SqlState::QUERY_CANCELED, "{on_error}");
    }
}
