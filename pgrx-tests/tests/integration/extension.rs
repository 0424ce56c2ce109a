//! CREATE EXTENSION and DROP EXTENSION.

use postgres::error::SqlState;

use crate::database::{Database, OWNER, lines};

/// Whatever the extension could have left in a database.
pub(crate) const LEFT: &str = "
    select 'trigger', tgname::text from pg_trigger where not tgisinternal
    union all
    select 'event trigger', evtname from pg_event_trigger
    union all
    select 'function', oid::regprocedure::text from pg_proc
     where proname like '%repl\\_%' and pronamespace <> 'pg_catalog'::regnamespace
    union all
    select 'relation', oid::regclass::text from pg_class
     where relname like '%repl\\_%' and relnamespace <> 'pg_catalog'::regnamespace
    union all
    select 'type', oid::regtype::text from pg_type
     where typname like '%repl\\_%' and typnamespace <> 'pg_catalog'::regnamespace
    union all
    select 'dependency', d::text from pg_depend d
     where classid = 'pg_trigger'::regclass
       and not exists (select from pg_trigger t where t.oid = d.objid)";

#[test]
fn extension_with_rules_is_not_dropped() {
    let database = Database::with_item();
    let error = database.error("drop extension replwarden");
    assert_eq!(error.code(), &SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("on table item"), "{error:?}");
    database.run("insert into item values (1, 10)");
    assert_eq!(database.lines("select b from item"), ["20"]);
}

#[test]
fn extension_without_rules_is_dropped_and_leaves_nothing() {
    let database = Database::with_item();
    database.run("select repl_drop_expression('item', 'b'); drop extension replwarden");
    assert!(
        database.lines(LEFT).is_empty(),
        "{:?}",
        database.lines(LEFT)
    );
}

#[test]
fn drop_with_cascade_leaves_tables_and_values_and_nothing_of_ours() {
    let database = Database::with_item();
    database.run(
        "create table part (id int primary key, a int, b int) partition by range (id);
         create table part_1 partition of part for values from (0) to (10);
         select repl_set_expression('part', 'b', '100 / a', 'null');
         insert into item values (1, 10);
         insert into part values (1, 0), (2, 20);
         drop extension replwarden cascade",
    );
    assert!(
        database.lines(LEFT).is_empty(),
        "{:?}",
        database.lines(LEFT)
    );
    database.run("insert into item values (2, 20, -1); insert into part values (3, 30, -1)");
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|10|20", "2|20|-1"]
    );
    assert_eq!(
        database.lines("select * from part order by id"),
        ["1|0|NULL", "2|20|5", "3|30|-1"]
    );
}

#[test]
fn running_session_outlives_the_extension() {
    let database = Database::with_item();
    let mut running = database.connect();
    lines(&mut running, "insert into item values (1, 10)");
    database.run("drop extension replwarden cascade");
    lines(&mut running, "insert into item values (2, 20, -1)");
    database.run("drop table item; create table unrelated (id int primary key)");
    lines(&mut running, "insert into unrelated values (1)");
    database.run(
        "create extension replwarden;
         create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'a * 3')",
    );
    lines(&mut running, "insert into item values (3, 30)");
    assert_eq!(database.lines("select * from item"), ["3|30|90"]);
}

#[test]
fn extension_is_created_again_in_the_same_session() {
    let database = Database::with_item();
    let mut session = database.connect();
    for factor in 3..6 {
        lines(
            &mut session,
            &format!(
                "insert into item values (1, 10);
                 drop extension replwarden cascade;
                 truncate item;
                 create extension replwarden;
                 select repl_set_expression('item', 'b', 'a * {factor}');
                 insert into item values (0, 10)"
            ),
        );
        assert_eq!(
            lines(&mut session, "select b from item where id = 0"),
            [(10 * factor).to_string()]
        );
    }
}

#[test]
fn rolled_back_drop_leaves_the_extension_at_work() {
    let database = Database::with_item();
    let mut session = database.connect();
    lines(&mut session, "insert into item values (1, 10)");
    lines(
        &mut session,
        "begin; drop extension replwarden cascade; insert into item values (2, 20, -1); rollback;
         insert into item values (3, 30, -1)",
    );
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|10|20", "3|30|60"]
    );
}

#[test]
fn extension_in_another_schema() {
    let database = Database::without_extension();
    database.run(
        "create schema \"The Warden\";
         create extension replwarden schema \"The Warden\";
         create table item (id int primary key, a int, b int, g int generated always as (a + 1) stored);
         insert into item values (1, 10);
         select \"The Warden\".repl_set_expression('item', 'b', '100 / a', 'null');
         select \"The Warden\".repl_adopt_generated('item')",
    );
    database.backfilled();
    database.run("insert into item values (2, 0, -1, -1)");
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|10|10|11", "2|0|NULL|1"]
    );
    assert_eq!(
        database.lines(
            "select column_name, state, rows_failed from \"The Warden\".repl_generated_columns order by 1"
        ),
        ["b|failing|1", "g|live|0"]
    );
    assert_eq!(
        database.lines("select column_name, rows_wrong from \"The Warden\".repl_verify('item')"),
        ["b|0", "g|0"]
    );
    database.run(
        "alter table item drop b;
         select \"The Warden\".repl_drop_expression('item', 'g')",
    );
    assert_eq!(
        database.lines("select count(*) from pg_trigger where not tgisinternal and tgname <> 'ignore_replicated'"),
        ["0"]
    );
    database.run("drop extension replwarden; drop schema \"The Warden\"");
}

#[test]
fn schema_of_the_extension_can_be_renamed() {
    let database = Database::without_extension();
    database.run(
        "create schema warden;
         create extension replwarden schema warden;
         create table item (id int primary key, a int, b int);
         select warden.repl_set_expression('item', 'b', '100 / a', 'null')",
    );
    let mut running = database.connect();
    lines(&mut running, "insert into item values (1, 0)");
    database.run("alter schema warden rename to guard");
    lines(&mut running, "insert into item values (2, 0), (3, 10)");
    assert_eq!(
        database.lines("select rows_failed from guard.repl_generated_columns"),
        ["2"]
    );
    assert_eq!(
        database.lines("select rows_wrong from guard.repl_verify('item')"),
        ["0"]
    );
    database.run("alter table item drop b");
    assert_eq!(
        database.lines("select count(*) from pg_trigger where not tgisinternal and tgname <> 'ignore_replicated'"),
        ["0"]
    );
}

#[test]
fn only_a_superuser_creates_it() {
    let database = Database::without_extension();
    database.run(&format!(
        "grant all on database {} to {OWNER}",
        database.name()
    ));
    let error = database.error(&format!("set role {OWNER}; create extension replwarden"));
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
}

#[test]
fn everything_that_users_see_has_a_comment() {
    let database = Database::new();
    let without = database.lines(
        "select pg_describe_object(d.classid, d.objid, 0) from pg_depend d
          where d.refobjid = (select oid from pg_extension where extname = 'replwarden') and d.deptype = 'e'
            and d.classid in ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_event_trigger'::regclass)
            and obj_description(d.objid, d.classid::regclass::name) is null",
    );
    assert!(without.is_empty(), "{without:?}");
}
