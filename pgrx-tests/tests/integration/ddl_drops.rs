//! What a rule needs cannot be dropped from under it, and what is dropped takes its rules along.

use postgres::error::SqlState;

use crate::database::{Database, OWNER, lines};

const RULES: &str = "select relation, column_name, expression from repl_generated_columns";

/// Whatever of ours is left beside the extension itself.
const OURS: &str = "
    select 'trigger', tgname::text from pg_trigger
     where tgname like 'replwarden%' or tgname = 'zzz_replwarden'
    union all
    select 'dependency', d::text from pg_depend d
     where classid = 'pg_trigger'::regclass
       and not exists (select from pg_trigger t where t.oid = d.objid)
    union all
    select 'count', f::text from _repl_failures f";

/// The table `item (id, a, a2, b, c)`, whose column b is `double(a)` and whose column c is 100 / a2, or NULL; one row of
/// each rule has failed or works, and there is a session that has computed both.
fn database() -> (Database, postgres::Client) {
    let database = Database::new();
    database.run(
        "create function double(int) returns int language sql immutable as 'select $1 * 2';
         create table item (id int primary key, a int, a2 int, b int, c int);
         select repl_set_expression('item', 'b', 'double(a)');
         select repl_set_expression('item', 'c', '100 / a2', 'null')",
    );
    let mut running = database.connect();
    lines(
        &mut running,
        "insert into item values (1, 10, 0), (2, 20, 10)",
    );
    (database, running)
}

const BOTH: [&str; 2] = ["item|b|double(a)", "item|c|100 / a2"];

#[track_caller]
fn assert_refused(database: &Database, change: &str, trigger: &str) {
    let error = database.error(change);
    assert_eq!(error.code(), &SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains(trigger), "{change}: {error:?}");
}

#[test]
fn source_column_cannot_be_dropped() {
    let (database, _) = database();
    assert_refused(&database, "alter table item drop a", "trigger replwarden_b");
    assert_refused(
        &database,
        "alter table item drop a2",
        "trigger replwarden_c",
    );
    assert_eq!(database.lines(RULES), BOTH);
}

#[test]
fn function_cannot_be_dropped() {
    let (database, _) = database();
    assert_refused(&database, "drop function double", "trigger replwarden_b");
    assert_eq!(database.lines(RULES), BOTH);
}

#[test]
fn type_of_a_cast_cannot_be_dropped() {
    let database = Database::new();
    database.run(
        "create type mood as enum ('sad', 'happy');
         create table item (id int primary key, a text, b text);
         select repl_set_expression('item', 'b', $$case a::mood when 'sad' then '-' else '+' end$$)",
    );
    assert_refused(&database, "drop type mood", "trigger replwarden_b");
}

/// The cast that assigns the value to the column is as much a part of the rule as what the user wrote.
#[test]
fn cast_that_assigns_the_value_cannot_be_dropped() {
    let database = Database::new();
    database.run(
        "create type price as (cents int);
         create function cents(price) returns int language sql immutable as 'select ($1).cents';
         create cast (price as int) with function cents(price) as assignment;
         create table item (id int primary key, a price, b int);
         select repl_set_expression('item', 'b', 'a');
         insert into item values (1, row(5))",
    );
    assert_eq!(database.lines("select b from item"), ["5"]);
    assert_refused(
        &database,
        "drop cast (price as int); drop function cents",
        "trigger replwarden_b",
    );
}

#[test]
fn cascade_from_a_source_column_removes_that_rule_only() {
    let (database, mut running) = database();
    database.run("alter table item drop a cascade");
    assert_eq!(database.lines(RULES), ["item|c|100 / a2"]);
    lines(
        &mut running,
        "insert into item values (3, 20, 5, 5), (4, 50, 4, 4)",
    );
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|0|20|NULL", "2|10|40|10", "3|20|5|5", "4|50|4|2"]
    );
}

#[test]
fn cascade_from_a_function_removes_that_rule_only() {
    let (database, mut running) = database();
    database.run("drop function double cascade");
    assert_eq!(database.lines(RULES), ["item|c|100 / a2"]);
    lines(&mut running, "insert into item values (3, 30, 5, -1, -1)");
    assert_eq!(
        database.lines("select b, c from item where id = 3"),
        ["-1|20"]
    );
    assert_eq!(
        database.lines("select rows_failed from repl_generated_columns"),
        ["1"]
    );
}

#[test]
fn target_column_takes_its_rule_along() {
    let (database, mut running) = database();
    database.run("alter table item drop c");
    assert_eq!(database.lines(RULES), ["item|b|double(a)"]);
    assert_eq!(database.lines("select count(*) from _repl_failures"), ["0"]);
    lines(&mut running, "insert into item values (3, 30, 0, -1)");
    assert_eq!(database.lines("select b from item where id = 3"), ["60"]);
    database.run("alter table item drop b");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
    lines(&mut running, "insert into item values (4, 40, 0)");
    database.run("alter table item drop a, drop a2; drop function double");
}

#[test]
fn target_column_that_was_renamed_takes_its_rule_along() {
    let (database, _) = database();
    database.run("alter table item rename c to quotient; alter table item drop quotient, drop b");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn last_rule_takes_all_along() {
    let (database, mut running) = database();
    database.run("select repl_drop_expression('item', 'c')");
    assert_eq!(database.lines(RULES), ["item|b|double(a)"]);
    database.run("select repl_drop_expression('item', 'b')");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
    lines(&mut running, "insert into item values (3, 30, 0, -1, -1)");
    assert_eq!(
        database.lines("select b, c from item where id = 3"),
        ["-1|-1"]
    );
}

#[test]
fn rule_that_is_dropped_as_a_trigger_takes_all_along() {
    let (database, _) = database();
    database.run("drop trigger replwarden_b on item; drop trigger replwarden_c on item");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn table_takes_its_rules_along() {
    let (database, _) = database();
    database.run("drop table item");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn schema_takes_its_rules_along() {
    let (database, _) = database();
    database.run("create schema shop; alter table item set schema shop; drop schema shop cascade");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn owner_takes_its_rules_along() {
    let (database, _) = database();
    database.run(&format!(
        "alter table item owner to {OWNER}; drop owned by {OWNER}"
    ));
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn rolled_back_drop_leaves_the_rule() {
    let (database, mut running) = database();
    lines(
        &mut running,
        "begin; alter table item drop b; insert into item values (3, 30, 5); rollback;
         insert into item values (4, 40, 5)",
    );
    assert_eq!(database.lines(RULES), BOTH);
    assert_eq!(
        database.lines("select id, b, c from item where id > 2"),
        ["4|80|20"]
    );
}

/// The partitioned table `item (id, a, b, c)`, whose columns b and c have rules, with a partition of another shape.
fn partitioned() -> Database {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int, c int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 (c int, b int, a int, id int primary key);
         alter table item attach partition item_2 for values from (10) to (20);
         select repl_set_expression('item', 'b', '100 / a', 'null');
         select repl_set_expression('item', 'c', 'a + 1');
         insert into item values (1, 0), (11, 10)",
    );
    database
}

#[test]
fn target_column_of_a_partitioned_table_takes_its_rule_along() {
    let database = partitioned();
    database.run("alter table item drop b; insert into item values (2, 20, -1), (12, 20, -1)");
    assert_eq!(
        database.lines("select id, c from item order by id"),
        ["1|1", "2|21", "11|11", "12|21"]
    );
    assert_eq!(database.lines(RULES), ["item|c|a + 1"]);
    database.run("alter table item drop c");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn partitions_that_came_after_the_rule_do_not_keep_the_column() {
    let database = partitioned();
    database.run(
        "create table item_3 partition of item for values from (20) to (30);
         create table item_4 (c int, id int not null, b int, a int) partition by range (id);
         create table item_4_low partition of item_4 for values from (30) to (35);
         alter table item attach partition item_4 for values from (30) to (40);
         create table item_4_high partition of item_4 for values from (35) to (40);
         insert into item select n, n from generate_series(12, 39) n;
         alter table item drop b;
         alter table item drop c",
    );
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn detached_partition_can_drop_its_column() {
    let database = partitioned();
    database.run(
        "alter table item detach partition item_1;
         alter table item_1 drop b;
         alter table item_1 drop a",
    );
    assert_eq!(
        database.lines("select distinct tgrelid::regclass::text from pg_trigger where not tgisinternal and tgname <> 'ignore_replicated' order by 1"),
        ["item", "item_2"]
    );
}

#[test]
fn source_column_of_a_partitioned_table_cannot_be_dropped() {
    let database = partitioned();
    assert_refused(&database, "alter table item drop a", "trigger replwarden_b");
    database.run("alter table item drop a cascade");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn partition_can_be_dropped() {
    let database = partitioned();
    database.run("drop table item_1; insert into item values (12, 20, -1, -1)");
    assert_eq!(
        database.lines("select id, b, c from item order by id"),
        ["11|10|11", "12|5|21"]
    );
    database.run("drop table item");
    assert!(
        database.lines(OURS).is_empty(),
        "{:?}",
        database.lines(OURS)
    );
}

#[test]
fn type_of_a_column_in_a_rule_cannot_be_changed() {
    for database in [Database::with_item(), partitioned()] {
        for column in ["a", "b"] {
            let error = database.error(&format!("alter table item alter {column} type bigint"));
            assert_eq!(error.code(), &SqlState::FEATURE_NOT_SUPPORTED);
            let detail = error.detail().unwrap_or_default();
            assert!(detail.contains("trigger replwarden_b"), "{error:?}");
        }
    }
}

#[test]
fn type_can_be_changed_between_two_rules() {
    let database = Database::with_item();
    let mut running = database.connect();
    lines(&mut running, "insert into item values (1, 10)");
    database.run(
        "select repl_drop_expression('item', 'b');
         alter table item alter a type text using a::text;
         alter table item alter b type text using b::text;
         select repl_set_expression('item', 'b', $$a || '!'$$)",
    );
    database.backfilled();
    lines(&mut running, "insert into item values (2, 'two', '')");
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|10|10!", "2|two|two!"]
    );
}
