//! `repl_adopt_generated`: GENERATED columns become plain columns with rules.

use postgres::error::SqlState;

use crate::database::{Database, STRANGER, lines};
use crate::refusals::assert_refused;

const RULES: &str = "select relation, column_name, expression, on_error, state from repl_generated_columns order by 2";
const KINDS: &str = "select attname, attgenerated from pg_attribute
                      where attrelid = 'item'::regclass and attnum > 0 and not attisdropped order by attnum";
/// Shows any row that was written anew.
const VERSIONS: &str = "select tableoid::regclass, ctid, xmin, * from item order by id";

/// The table `item (id, a, z, b)`, whose columns z and b are generated, with two rows.
fn database() -> Database {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, z int generated always as (a + 1) stored,
                            b text generated always as (a::text || '!') stored);
         insert into item values (1, 10), (2, 20)",
    );
    database
}

#[test]
fn all_columns_are_adopted_in_their_order() {
    let database = database();
    let before = database.lines(VERSIONS);
    assert_eq!(
        database.lines("select * from repl_adopt_generated('item')"),
        ["z", "b"]
    );
    assert_eq!(database.lines(VERSIONS), before);
    assert_eq!(database.lines(KINDS), ["id|", "a|", "z|", "b|"]);
    assert_eq!(
        database.lines(RULES),
        [
            "item|b|a::text || '!'::text|fail|live",
            "item|z|a + 1|fail|live"
        ]
    );
    database.run("insert into item values (3, 30, -1, '-1'); update item set a = 11 where id = 1");
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|11|12|11!", "2|20|21|20!", "3|30|31|30!"]
    );
}

#[test]
fn one_column_is_adopted_alone() {
    let database = database();
    let before = database.lines(VERSIONS);
    assert_eq!(
        database.lines("select repl_adopt_generated('item', 'b')"),
        ["b"]
    );
    assert_eq!(database.lines(VERSIONS), before);
    assert_eq!(database.lines(KINDS), ["id|", "a|", "z|s", "b|"]);
    database
        .run("insert into item values (3, 30, default, '-1'); update item set a = 11 where id = 1");
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|11|12|11!", "2|20|21|20!", "3|30|31|30!"]
    );
    assert_eq!(database.lines("select repl_adopt_generated('item')"), ["z"]);
    assert_eq!(database.lines(KINDS), ["id|", "a|", "z|", "b|"]);
}

#[test]
fn running_session_follows_an_adoption() {
    let database = database();
    let mut running = database.connect();
    lines(&mut running, "insert into item values (3, 30)");
    database.run("select repl_adopt_generated('item')");
    lines(&mut running, "insert into item values (4, 40, -1, '-1')");
    assert_eq!(
        database.lines("select z, b from item where id > 2 order by id"),
        ["31|30!", "41|40!"]
    );
}

#[test]
fn file_of_the_table_stays() {
    let database = database();
    let file = "select pg_relation_filenode('item')";
    let before = database.lines(file);
    database.run("select repl_adopt_generated('item')");
    assert_eq!(database.lines(file), before);
}

#[test]
fn not_null_check_and_index_stay() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int,
                            b int not null generated always as (a * 2) stored check (b < 100));
         create unique index on item (b);
         select repl_adopt_generated('item');
         insert into item values (1, 10)",
    );
    for (row, code) in [
        ("(2, null)", SqlState::NOT_NULL_VIOLATION),
        ("(2, 50)", SqlState::CHECK_VIOLATION),
        ("(2, 10)", SqlState::UNIQUE_VIOLATION),
    ] {
        let error = database.error(&format!("insert into item values {row}"));
        assert_eq!(error.code(), &code, "{row}");
    }
}

#[test]
fn table_with_a_rule_keeps_it() {
    let database = database();
    database.run(
        "alter table item add c int;
         select repl_set_expression('item', 'c', '100 / a', 'null');
         select repl_adopt_generated('item');
         insert into item (id, a) values (3, 0)",
    );
    assert_eq!(
        database.lines("select z, b, c from item where id = 3"),
        ["1|0!|NULL"]
    );
    assert_eq!(
        database.lines("select column_name, on_error from repl_generated_columns order by 1"),
        ["b|fail", "c|null", "z|fail"]
    );
}

#[test]
fn names_of_the_expression_are_not_looked_up_again() {
    let database = Database::new();
    database.run(
        "create schema \"My Functions\";
         create function \"My Functions\".\"Double\"(int) returns int language sql immutable as 'select $1 * 2';
         set search_path = \"My Functions\", public;
         create table public.item (id int primary key, \"The A\" int,
                            \"The B\" int generated always as (\"Double\"(\"The A\")) stored);
         reset search_path;
         select repl_adopt_generated('item');
         insert into item values (1, 10, -1)",
    );
    assert_eq!(database.lines("select * from item"), ["1|10|20"]);
    assert_eq!(
        database.lines("select expression from repl_generated_columns"),
        ["\"My Functions\".\"Double\"(\"The A\")"]
    );
}

#[test]
fn partitioned_table_is_adopted_with_its_partitions() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int generated always as (a * 2) stored)
             partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 (b int generated always as (a * 2) stored, a int, id int primary key);
         alter table item attach partition item_2 for values from (10) to (20);
         insert into item values (1, 10), (11, 20)",
    );
    let before = database.lines(VERSIONS);
    assert_eq!(database.lines("select repl_adopt_generated('item')"), ["b"]);
    assert_eq!(database.lines(VERSIONS), before);
    assert_eq!(
        database.lines("select count(*) from pg_attribute where attgenerated <> ''"),
        ["0"]
    );
    database.run(
        "insert into item values (2, 30, -1), (12, 40, -1);
         insert into item_2 (id, a, b) values (13, 50, -1)",
    );
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|20", "2|60", "11|40", "12|80", "13|100"]
    );
    assert_eq!(database.lines(RULES), ["item|b|a * 2|fail|live"]);
}

#[test]
fn column_of_a_child_goes_on_being_computed() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int generated always as (a * 2) stored);
         create table child (primary key (id)) inherits (item)",
    );
    // To refuse it is as good as to give the child the rule, too.
    let _ = database
        .connect()
        .batch_execute("select repl_adopt_generated('item')");
    database
        .run("insert into item (id, a) values (1, 10); insert into child (id, a) values (2, 20)");
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|20", "2|40"]
    );
}

#[test]
fn table_without_generated_columns() {
    let database = Database::new();
    database.run("create table item (id int primary key, a int, b int)");
    assert!(
        database
            .lines("select repl_adopt_generated('item')")
            .is_empty()
    );
    assert!(database.lines(RULES).is_empty());
}

#[test]
fn column_that_is_no_generated_one_is_refused() {
    let database = database();
    let error = assert_refused(
        &database,
        "repl_adopt_generated('item', 'a')",
        "42P17",
        "\"a\"",
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("repl_set_expression")),
        "{error:?}"
    );
    assert_refused(
        &database,
        "repl_adopt_generated('item', 'nothing')",
        "42703",
        "\"nothing\"",
    );
    database.run("select repl_adopt_generated('item', 'b')");
    assert_refused(
        &database,
        "repl_adopt_generated('item', 'b')",
        "42P17",
        "\"b\"",
    );
}

#[test]
fn partition_is_refused() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int generated always as (a * 2) stored)
             partition by range (id);
         create table item_1 partition of item for values from (0) to (10)",
    );
    for call in [
        "repl_adopt_generated('item_1')",
        "repl_adopt_generated('item_1', 'b')",
    ] {
        let error = assert_refused(&database, call, "42P16", "item_1");
        assert!(
            error.hint().is_some_and(|hint| hint.contains("item')")),
            "{error:?}"
        );
    }
}

#[test]
fn child_is_refused() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int generated always as (a * 2) stored);
         create table child (primary key (id)) inherits (item)",
    );
    assert_refused(&database, "repl_adopt_generated('child')", "42P16", "child");
}

#[test]
fn column_of_the_primary_key_is_refused() {
    let database = Database::new();
    database.run(
        "create table item (id int, a int, z int generated always as (a) stored,
                            b int generated always as (a * 2) stored, primary key (id, b));
         insert into item values (1, 10)",
    );
    assert_refused(
        &database,
        "repl_adopt_generated('item', 'b')",
        "42P17",
        "\"b\"",
    );
    assert_refused(&database, "repl_adopt_generated('item')", "42P17", "\"b\"");
    assert_eq!(database.lines(KINDS), ["id|", "a|", "z|s", "b|s"]);
}

#[test]
fn table_without_a_primary_key_is_refused() {
    let database = Database::new();
    database.run(
        "create table item (id int, a int, b int generated always as (a * 2) stored);
         insert into item values (1, 10)",
    );
    assert_refused(&database, "repl_adopt_generated('item')", "55000", "item");
}

#[test]
fn other_role_than_the_owner_is_refused() {
    let database = database();
    database.run(&format!("grant all on item to {STRANGER}"));
    let error = database.error(&format!(
        "set role {STRANGER}; select repl_adopt_generated('item')"
    ));
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(database.lines(KINDS), ["id|", "a|", "z|s", "b|s"]);
}

#[test]
fn rolled_back_adoption_leaves_generated_columns() {
    let database = database();
    let mut client = database.connect();
    lines(
        &mut client,
        "begin; select repl_adopt_generated('item'); insert into item (id, a) values (3, 30); rollback;
         insert into item (id, a) values (4, 40)",
    );
    assert_eq!(database.lines(KINDS), ["id|", "a|", "z|s", "b|s"]);
    assert_eq!(
        database.lines("select id, z, b from item where id > 2"),
        ["4|41|40!"]
    );
}
