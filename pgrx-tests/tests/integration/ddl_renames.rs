//! Renaming what a rule reads or writes keeps it right, in sessions that have computed with it before too.

use crate::database::{Database, lines};

const RULES: &str =
    "select relation, column_name, expression, state from repl_generated_columns order by 2";

/// What the table of `item (id, a, b)` and its columns are called after a change.
struct Names {
    table: &'static str,
    source: &'static str,
    target: &'static str,
}

const UNCHANGED: Names = Names {
    table: "item",
    source: "a",
    target: "b",
};

/// Runs `change` in a session that has computed with the rule, while a second one has, too. Asserts that both go on
/// computing, the first one inside the changing transaction already.
#[track_caller]
fn assert_followed(database: &Database, change: &str, names: &Names) {
    let Names {
        table,
        source,
        target,
    } = names;
    let mut changing = database.connect();
    let mut second = database.connect();
    lines(&mut changing, "insert into item (id, a) values (1, 10)");
    lines(&mut second, "insert into item (id, a) values (2, 20)");
    let insert = |id: i32| {
        format!(
            "insert into {table} (id, {source}, {target}) values ({id}, {}, -1)",
            id * 10
        )
    };
    lines(
        &mut changing,
        &format!("begin; {change}; {}; commit", insert(3)),
    );
    lines(&mut second, &insert(4));
    lines(
        &mut second,
        &format!("update {table} set {source} = 11, {target} = -1 where id = 1"),
    );
    lines(&mut changing, &insert(5));
    assert_eq!(
        database.lines(&format!(
            "select id, {source}, {target} from {table} order by id"
        )),
        ["1|11|22", "2|20|40", "3|30|60", "4|40|80", "5|50|100"]
    );
}

#[test]
fn renamed_source_column() {
    let database = Database::with_item();
    assert_followed(
        &database,
        "alter table item rename a to \"The A\"",
        &Names {
            source: "\"The A\"",
            ..UNCHANGED
        },
    );
    assert_eq!(database.lines(RULES), ["item|b|\"The A\" * 2|live"]);
}

#[test]
fn renamed_target_column() {
    let database = Database::with_item();
    assert_followed(
        &database,
        "alter table item rename b to \"The B\"",
        &Names {
            target: "\"The B\"",
            ..UNCHANGED
        },
    );
    assert_eq!(database.lines(RULES), ["item|The B|a * 2|live"]);
    database.run("select repl_set_expression('item', 'The B', 'a * 3')");
    database.backfilled();
    assert_eq!(database.lines(RULES), ["item|The B|a * 3|live"]);
    database.run("select repl_drop_expression('item', 'The B')");
    assert!(database.lines(RULES).is_empty());
}

#[test]
fn renamed_table() {
    let database = Database::with_item();
    assert_followed(
        &database,
        "alter table item rename to \"The Item\"",
        &Names {
            table: "\"The Item\"",
            ..UNCHANGED
        },
    );
    assert_eq!(database.lines(RULES), ["\"The Item\"|b|a * 2|live"]);
}

#[test]
fn table_moved_to_another_schema() {
    let database = Database::with_item();
    database.run("create schema elsewhere");
    assert_followed(
        &database,
        "alter table item set schema elsewhere",
        &Names {
            table: "elsewhere.item",
            ..UNCHANGED
        },
    );
    assert_eq!(database.lines(RULES), ["elsewhere.item|b|a * 2|live"]);
}

#[test]
fn renamed_schema() {
    let database = Database::new();
    database.run(
        "create schema shop;
         create table shop.item (id int primary key, a int, b int);
         select repl_set_expression('shop.item', 'b', 'a * 2')",
    );
    let mut second = database.connect();
    lines(&mut second, "insert into shop.item values (1, 10)");
    let mut changing = database.connect();
    lines(
        &mut changing,
        "insert into shop.item values (2, 20);
         alter schema shop rename to store;
         insert into store.item values (3, 30)",
    );
    lines(&mut second, "insert into store.item values (4, 40)");
    assert_eq!(
        database.lines("select id, b from store.item order by id"),
        ["1|20", "2|40", "3|60", "4|80"]
    );
    assert_eq!(database.lines(RULES), ["store.item|b|a * 2|live"]);
}

#[test]
fn renamed_primary_key() {
    let database = Database::with_item();
    assert_followed(
        &database,
        "alter table item rename constraint item_pkey to \"The Key\"",
        &UNCHANGED,
    );
}

#[test]
fn new_column_with_the_old_name_of_the_source_is_not_the_source() {
    let database = Database::with_item();
    let mut second = database.connect();
    lines(&mut second, "insert into item values (1, 10)");
    database.run("alter table item rename a to old_a; alter table item add a int");
    lines(
        &mut second,
        "insert into item (id, old_a, a) values (2, 20, -5)",
    );
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|20", "2|40"]
    );
}

#[test]
fn columns_that_swap_their_names_keep_their_roles() {
    let database = Database::with_item();
    let mut second = database.connect();
    lines(&mut second, "insert into item values (1, 10)");
    database.run(
        "alter table item rename a to c; alter table item rename b to a; alter table item rename c to b",
    );
    lines(
        &mut second,
        "insert into item (id, b, a) values (2, 20, -1)",
    );
    assert_eq!(
        database.lines("select id, a, b from item order by id"),
        ["1|20|10", "2|40|20"]
    );
    assert_eq!(database.lines(RULES), ["item|a|b * 2|live"]);
}

#[test]
fn new_column_with_the_old_name_of_a_derived_one_can_have_a_rule() {
    let database = Database::with_item();
    database.run(
        "alter table item rename b to old_b;
         alter table item add b int;
         select repl_set_expression('item', 'b', 'a + 1');
         insert into item (id, a) values (1, 10)",
    );
    assert_eq!(database.lines("select old_b, b from item"), ["20|11"]);
    assert_eq!(
        database.lines(RULES),
        ["item|b|a + 1|live", "item|old_b|a * 2|live"]
    );
    database.run(
        "select repl_drop_expression('item', 'b');
         update item set a = 20, b = -1",
    );
    assert_eq!(database.lines("select old_b, b from item"), ["40|-1"]);
    assert_eq!(database.lines(RULES), ["item|old_b|a * 2|live"]);
}

#[test]
fn long_names_that_differ_at_their_ends_have_rules_of_their_own() {
    let database = Database::new();
    let stem = "x".repeat(62);
    database.run(&format!(
        "create table item (id int primary key, a int, {stem}1 int, {stem}2 int);
         select repl_set_expression('item', '{stem}1', 'a + 1');
         select repl_set_expression('item', '{stem}2', 'a + 2');
         insert into item values (1, 10)"
    ));
    assert_eq!(database.lines("select * from item"), ["1|10|11|12"]);
    database.run(&format!("alter table item drop {stem}1"));
    database.run("update item set a = 20");
    assert_eq!(database.lines("select * from item"), ["1|20|22"]);
}

#[test]
fn partitions_follow_the_names_of_their_table() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 (b int, a int, id int primary key);
         alter table item attach partition item_1 for values from (0) to (10);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    let mut second = database.connect();
    lines(&mut second, "insert into item (id, a) values (1, 10)");
    database.run(
        "alter table item rename a to source;
         alter table item rename b to target;
         alter table item rename to thing;
         alter table item_1 rename to thing_1",
    );
    lines(
        &mut second,
        "insert into thing (id, source, target) values (2, 20, -1);
         insert into thing_1 (id, source, target) values (3, 30, -1)",
    );
    assert_eq!(
        database.lines("select id, target from thing order by id"),
        ["1|20", "2|40", "3|60"]
    );
    assert_eq!(database.lines(RULES), ["thing|target|source * 2|live"]);
}

#[test]
fn error_names_the_column_as_it_is_called_now() {
    let database = Database::new();
    database.run(
        "create schema shop;
         create table shop.item (id int primary key, a int, b int);
         select repl_set_expression('shop.item', 'b', '100 / a')",
    );
    let mut second = database.connect();
    lines(&mut second, "insert into shop.item values (1, 10)");
    for (change, table) in [
        ("alter table shop.item rename b to quotient", "shop.item"),
        ("alter table shop.item rename to goods", "shop.goods"),
        ("alter schema shop rename to store", "store.goods"),
    ] {
        database.run(change);
        let error = second
            .batch_execute(&format!("insert into {table} (id, a) values (2, 0)"))
            .expect_err("nothing can be divided by zero");
        let context = error
            .as_db_error()
            .and_then(|error| error.where_())
            .unwrap_or_default();
        assert!(
            context.contains("\"quotient\"") && context.contains(table),
            "after {change}: {context}"
        );
    }
}
