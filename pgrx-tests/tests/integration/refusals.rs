//! What `repl_set_expression`, `repl_drop_expression` and `repl_adopt_generated` refuse on account of the table or of the
//! column. Each refusal says what and why and what to do, and changes nothing.

use postgres::error::{DbError, SqlState};

use crate::database::{Database, OWNER, STRANGER};

/// All that a refused call could have changed.
const STATE: &str = "
    select pg_get_triggerdef(t.oid), t.tgenabled::text from pg_trigger t where not t.tgisinternal
    union all
    select a.attrelid::regclass::text, concat(a.attname, a.attgenerated) from pg_attribute a
     where a.attrelid >= 16384 and a.attnum > 0
    union all
    select g::text, null from repl_generated_columns g
    union all
    select c.oid::regclass::text, query_to_xml(format('select ctid, xmin, * from only %s', c.oid::regclass), true, true, '')::text
      from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
    union all
    select 'failures', count(*)::text from _repl_failures
     order by 1, 2";

/// Asserts that the call fails with this SQLSTATE, names `object`, says why and what to do, and changes nothing.
#[track_caller]
pub(crate) fn assert_refused(database: &Database, call: &str, code: &str, object: &str) -> DbError {
    let before = database.lines(STATE);
    let error = database.error(&format!("select {call}"));
    assert_eq!(error.code().code(), code, "{error:?}");
    assert!(error.message().contains(object), "{error:?}");
    assert!(
        error.detail().is_some_and(|text| !text.is_empty()),
        "{error:?}"
    );
    assert!(
        error.hint().is_some_and(|text| !text.is_empty()),
        "{error:?}"
    );
    assert_eq!(database.lines(STATE), before);
    error
}

/// A database with this table, in which each row's column b is wrong for the rule `a * 2`.
pub(crate) fn with_table(columns: &str) -> Database {
    let database = Database::new();
    database.run(&format!(
        "create table item ({columns}); insert into item (id, a) values (1, 10), (2, 20)"
    ));
    database
}

pub(crate) const SET: &str = "repl_set_expression('item', 'b', 'a * 2')";

#[test]
fn unknown_relation() {
    let database = with_table("id int primary key, a int, b int");
    let error = database.error("select repl_set_expression('missing', 'b', 'a * 2')");
    assert_eq!(error.code(), &SqlState::UNDEFINED_TABLE);
    assert!(error.message().contains("missing"), "{error:?}");
    for call in [
        "repl_set_expression(4000000000, 'b', 'a * 2')",
        "repl_drop_expression(4000000000, 'b')",
        "repl_adopt_generated(4000000000)",
        "repl_backfill(4000000000)",
    ] {
        assert_refused(&database, call, "42P01", "4000000000");
    }
}

#[test]
fn relations_that_are_no_tables() {
    let database = with_table("id int primary key, a int, b int");
    database.run(
        "create view a_view as select * from item;
         create materialized view a_matview as select * from item;
         create sequence a_sequence;
         create type a_type as (a int, b int);
         create foreign data wrapper nowhere;
         create server nowhere foreign data wrapper nowhere;
         create foreign table a_foreign (id int, a int, b int) server nowhere",
    );
    for (relation, kind) in [
        ("a_view", "a view"),
        ("a_matview", "a materialized view"),
        ("a_sequence", "a sequence"),
        ("a_type", "a composite type"),
        ("a_foreign", "a foreign table"),
        ("item_pkey", "an index"),
    ] {
        for call in [
            format!("repl_set_expression('{relation}', 'b', 'a * 2')"),
            format!("repl_drop_expression('{relation}', 'b')"),
            format!("repl_adopt_generated('{relation}', 'b')"),
            format!("repl_backfill('{relation}')"),
        ] {
            let error = assert_refused(&database, &call, "42809", relation);
            assert!(error.message().contains(kind), "{error:?}");
        }
    }
}

#[test]
fn null_arguments() {
    let database = with_table("id int primary key, a int, b int");
    for (call, argument) in [
        ("repl_set_expression(null, 'b', 'a')", "relation"),
        ("repl_set_expression('item', null, 'a')", "column_name"),
        ("repl_set_expression('item', 'b', null)", "expression"),
        ("repl_set_expression('item', 'b', 'a', null)", "on_error"),
        (
            "repl_set_expression('item', 'b', 'a', backfill => null)",
            "backfill",
        ),
        ("repl_drop_expression(null, 'b')", "relation"),
        ("repl_drop_expression('item', null)", "column_name"),
        ("repl_adopt_generated(null)", "relation"),
        ("repl_backfill(null)", "relation"),
        ("repl_backfill('item', null)", "workers"),
        ("repl_cancel_backfill(null)", "id"),
    ] {
        assert_refused(&database, call, "22004", &format!("\"{argument}\""));
    }
}

#[test]
fn role_that_is_not_the_owner() {
    let database =
        with_table("id int primary key, a int, b int, g int generated always as (a) stored");
    database.run(&format!("grant all on item to {STRANGER}"));
    for call in [
        SET,
        "repl_drop_expression('item', 'b')",
        "repl_adopt_generated('item')",
        "repl_backfill('item')",
    ] {
        let error = database.error(&format!("set role {STRANGER}; select {call}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
        assert!(error.message().contains("item"), "{error:?}");
        assert!(error.detail().is_some() && error.hint().is_some());
    }
    assert_eq!(
        database.lines("select count(*) from repl_generated_columns"),
        ["0"]
    );
}

#[test]
fn owner_may_do_everything() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, a int, b int, g int generated always as (a + 1) stored);
         insert into item values (1, 10, 99);
         select repl_set_expression('item', 'b', 'a * 2', 'null');
         select repl_adopt_generated('item');
         insert into item values (2, 20, 99, 99)",
    );
    database.backfilled();
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|10|20|11", "2|20|40|21"]
    );
    database.run_as(
        OWNER,
        "select repl_drop_expression('item', 'b'); drop table item",
    );
}

#[test]
fn missing_column() {
    let database = with_table("id int primary key, a int, b int, gone int");
    database.run("alter table item drop gone");
    for call in [
        "repl_set_expression('item', 'nothing', 'a')",
        "repl_drop_expression('item', 'nothing')",
        "repl_adopt_generated('item', 'nothing')",
    ] {
        let error = assert_refused(&database, call, "42703", "\"nothing\"");
        assert!(error.message().contains("item"), "{error:?}");
    }
    assert_refused(
        &database,
        "repl_set_expression('item', '........pg.dropped.4........', 'a')",
        "42703",
        "pg.dropped",
    );
}

#[test]
fn system_column() {
    let database = with_table("id int primary key, a int, b int");
    for column in ["ctid", "xmin", "tableoid"] {
        let call = format!("repl_set_expression('item', '{column}', 'a')");
        assert_refused(&database, &call, "42P10", &format!("\"{column}\""));
    }
}

#[test]
fn generated_column() {
    let database = with_table("id int primary key, a int, b int generated always as (a) stored");
    let error = assert_refused(&database, SET, "42P17", "\"b\"");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("repl_adopt_generated"))
    );
}

#[test]
fn identity_column() {
    let database = with_table("id int primary key, a int, b int generated always as identity");
    assert_refused(&database, SET, "42P17", "\"b\"");
}

#[test]
fn column_of_the_primary_key() {
    let database = with_table("id int, a int, b int default 1, primary key (id, b)");
    assert_refused(&database, SET, "42P17", "\"b\"");
}

#[test]
fn column_of_the_replica_identity() {
    let database =
        with_table("id int primary key, a int, b int not null default 1, unique (id, b)");
    database.run("alter table item replica identity using index item_id_b_key");
    assert_refused(&database, SET, "42P17", "\"b\"");
    database.run("alter table item replica identity default");
    database.run(&format!("select {SET}"));
}

#[test]
fn column_that_the_primary_key_only_includes_is_none_of_it() {
    let database = with_table("id int, a int, b int, primary key (id) include (b)");
    database.run(&format!("select {SET}"));
    database.backfilled();
    assert_eq!(
        database.lines("select b from item order by id"),
        ["20", "40"]
    );
}

#[test]
fn column_of_a_partition_key() {
    for key in ["list (b)", "range ((b + 1))"] {
        let database = Database::new();
        database.run(&format!(
            "create table item (id int not null, a int, b int) partition by {key};
             create table item_1 partition of item default;
             alter table item_1 add primary key (id)"
        ));
        assert_refused(&database, SET, "42P17", "\"b\"");
        assert_refused(
            &database,
            "repl_set_expression('item_1', 'b', 'a * 2')",
            "42P17",
            "\"b\"",
        );
    }
}

#[test]
fn column_of_the_partition_key_of_a_partition() {
    let database = Database::new();
    database.run(
        "create table item (id int not null, a int, b int) partition by range (id);
         create table item_1 partition of item default partition by list (b);
         create table item_2 partition of item_1 default;
         alter table item_2 add primary key (id)",
    );
    assert_refused(&database, SET, "42P17", "\"b\"");
}

#[test]
fn table_without_an_index_to_find_rows_by() {
    for columns in [
        "id int, a int, b int",
        "id int not null unique, a int, b int",
        "id int, a int, b int, primary key (id) deferrable",
    ] {
        let database = with_table(columns);
        let error = assert_refused(&database, SET, "55000", "item");
        assert!(
            error
                .detail()
                .is_some_and(|text| text.contains("UPDATE and DELETE"))
        );
        assert!(
            error
                .hint()
                .is_some_and(|text| text.contains("PRIMARY KEY"))
        );
    }
}

#[test]
fn table_with_only_a_partial_unique_index() {
    let database = with_table("id int not null, a int, b int");
    database.run(
        "create unique index on item (id) where id > 0; alter table item replica identity full",
    );
    assert_refused(&database, SET, "55000", "item");
}

#[test]
fn table_with_a_replica_identity_index_is_accepted() {
    let database = with_table("id int not null unique, a int, b int");
    database.run("alter table item replica identity using index item_id_key");
    database.run(&format!("select {SET}"));
    database.run("alter table item replica identity full");
    let database = with_table("id int primary key, a int, b int");
    database.run("alter table item replica identity full");
    database.run(&format!("select {SET}"));
}

#[test]
fn partition_without_an_index_to_find_rows_by() {
    let database = Database::new();
    database.run(
        "create table item (id int not null, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 partition of item for values from (10) to (20);
         alter table item_1 add primary key (id)",
    );
    assert_refused(&database, SET, "55000", "item_2");
    database.run("alter table item_2 add primary key (id)");
    database.run(&format!("select {SET}"));
}

#[test]
fn partition_of_a_table_with_rules() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int, c int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    for call in [
        "repl_set_expression('item_1', 'b', 'a * 3')",
        "repl_set_expression('item_1', 'c', 'a * 3')",
        "repl_drop_expression('item_1', 'b')",
    ] {
        assert_refused(&database, call, "55000", "item_1");
    }
}

#[test]
fn partitioned_table_of_which_a_partition_has_rules() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         select repl_set_expression('item_1', 'b', 'a * 3')",
    );
    assert_refused(&database, SET, "55000", "item_1");
}

#[test]
fn unknown_on_error() {
    let database = with_table("id int primary key, a int, b int");
    for word in ["NULL", "ignore", ""] {
        let call = format!("repl_set_expression('item', 'b', 'a', '{word}')");
        assert_refused(&database, &call, "22023", &format!("\"{word}\""));
    }
}

#[test]
fn null_on_error_for_a_column_that_cannot_be_null() {
    let database = with_table("id int primary key, a int, b int not null default 0");
    let call = "repl_set_expression('item', 'b', 'a', 'null')";
    assert_refused(&database, call, "22023", "\"b\"");
}

#[test]
fn dropping_a_rule_that_is_not_there() {
    let database = with_table("id int primary key, a int, b int");
    assert_refused(
        &database,
        "repl_drop_expression('item', 'b')",
        "42704",
        "\"b\"",
    );
    database.run(&format!("select {SET}"));
    database.backfilled();
    assert_refused(
        &database,
        "repl_drop_expression('item', 'a')",
        "42704",
        "\"a\"",
    );
    assert_refused(
        &database,
        "repl_drop_expression('item', 'ctid')",
        "42704",
        "\"ctid\"",
    );
}

#[test]
fn refused_change_leaves_the_rule_as_it_was() {
    let database = with_table("id int primary key, a int, b int");
    database.run(&format!("select {SET}"));
    database.backfilled();
    for (expression, code) in [("a +", "42601"), ("random()", "42P17")] {
        let call = format!("repl_set_expression('item', 'b', '{expression}')");
        assert_refused(&database, &call, code, "\"b\"");
    }
    database.run("insert into item values (3, 30)");
    assert_eq!(database.lines("select b from item where id = 3"), ["60"]);
}
