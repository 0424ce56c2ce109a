//! A rule that no longer does its work everywhere shows as broken, and says how to mend it.

use postgres::error::SqlState;

use crate::database::Database;

const STATE: &str = "select state, last_error is null from repl_generated_columns";

/// What follows the colon of `last_error`; the rule shows as broken.
#[track_caller]
fn remedy(database: &Database) -> String {
    let rows = database.lines("select state, last_error from repl_generated_columns");
    let (state, problem) = rows[0].split_once('|').expect("two columns");
    assert_eq!(state, "broken", "{rows:?}");
    let (_, remedy) = problem.split_once(": ").expect("a remedy after a colon");
    remedy.to_owned()
}

/// Breaks the table's rule, pastes the remedy and asserts that all is well again.
#[track_caller]
fn assert_mended(database: &Database, change: &str) {
    database.run(change);
    database.run(&remedy(database));
    assert_eq!(database.lines(STATE), ["live|t"], "{change}");
    database.run("truncate item; set session_replication_role = replica; insert into item values (1, 10, -1)");
    assert_eq!(database.lines("select b from item"), ["20"], "{change}");
}

#[test]
fn trigger_that_does_not_fire_for_replicated_rows() {
    let database = Database::with_item();
    for change in [
        "disable trigger zzz_replwarden",
        "disable trigger user",
        "disable trigger all",
        "enable trigger zzz_replwarden",
        "enable trigger user",
        "enable trigger all",
    ] {
        assert_mended(&database, &format!("alter table item {change}"));
    }
}

#[test]
fn trigger_that_fires_for_replicated_rows_only() {
    let database = Database::with_item();
    assert_mended(
        &database,
        "alter table item enable replica trigger zzz_replwarden",
    );
}

#[test]
fn trigger_of_a_partition_that_does_not_fire() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 partition of item for values from (10) to (20);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    for change in [
        "alter table item_1 disable trigger zzz_replwarden",
        "alter table item_1 enable trigger all",
        "alter table item enable trigger all",
    ] {
        assert_mended(&database, change);
    }
}

#[test]
fn trigger_that_is_missing() {
    let database = Database::with_item();
    database.run("drop trigger zzz_replwarden on item");
    assert!(remedy(&database).contains("set the rule again"));
    database.run(
        "insert into item values (1, 10, -1);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database.backfilled();
    assert_eq!(database.lines(STATE), ["live|t"]);
    assert_eq!(database.lines("select b from item"), ["20"]);
}

#[test]
fn renamed_trigger_that_computes() {
    let database = Database::with_item();
    database.run("alter trigger zzz_replwarden on item rename to early");
    assert!(remedy(&database).contains("set the rule again"));
    database.run("select repl_set_expression('item', 'b', 'a * 2')");
    assert_eq!(database.lines(STATE), ["live|t"]);
    database.run("select repl_drop_expression('item', 'b')");
    let left = database.lines(
        "select tgname from pg_trigger where not tgisinternal and tgname <> 'ignore_replicated'",
    );
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn renamed_trigger_that_stores_the_rule_does_no_harm() {
    let database = Database::with_item();
    database.run(
        "alter trigger replwarden_b on item rename to \"The Rule\";
         insert into item values (1, 10)",
    );
    assert_eq!(database.lines(STATE), ["live|t"]);
    assert_eq!(database.lines("select b from item"), ["20"]);
    assert_mended(&database, "alter table item enable trigger all");
    database.run("alter table item drop b");
    let left = database.lines(
        "select tgname from pg_trigger where not tgisinternal and tgname <> 'ignore_replicated'",
    );
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn dropped_primary_key() {
    let database = Database::with_item();
    database.run("alter table item drop constraint item_pkey");
    let remedy = remedy(&database);
    assert!(
        remedy.starts_with("ALTER TABLE item ADD PRIMARY KEY"),
        "{remedy}"
    );
    // Which columns identify a row, only a person knows.
    database.run(&format!("{} (id)", remedy.trim_end_matches(" (...)")));
    assert_eq!(database.lines(STATE), ["live|t"]);
}

#[test]
fn dropped_replica_identity_index() {
    let database = Database::new();
    database.run(
        "create table item (id int not null unique, a int, b int);
         alter table item replica identity using index item_id_key;
         select repl_set_expression('item', 'b', 'a * 2');
         alter table item drop constraint item_id_key",
    );
    assert!(remedy(&database).contains("ADD PRIMARY KEY"));
    database.run("alter table item add primary key (id)");
    assert_eq!(database.lines(STATE), ["live|t"]);
}

#[test]
fn replica_identity_that_is_not_the_index_any_more() {
    let database = Database::new();
    database.run(
        "create table item (id int not null unique, a int, b int);
         alter table item replica identity using index item_id_key;
         select repl_set_expression('item', 'b', 'a * 2');
         alter table item replica identity full",
    );
    assert!(remedy(&database).contains("item"));
    database.run("alter table item replica identity using index item_id_key");
    assert_eq!(database.lines(STATE), ["live|t"]);
}

#[test]
fn primary_key_that_becomes_deferrable() {
    let database = Database::with_item();
    database.run("alter table item drop constraint item_pkey, add primary key (id) deferrable");
    assert!(remedy(&database).contains("ADD PRIMARY KEY"));
}

/// The table `item` with a trigger function `nothing()`.
fn with_trigger_function() -> Database {
    let database = Database::with_item();
    database.run(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end'",
    );
    database
}

#[test]
fn trigger_that_fires_later() {
    let database = with_trigger_function();
    for event in ["insert", "update", "update of a or delete"] {
        database.run(&format!(
            "create trigger \"zzz_s's\" before {event} on item for each row execute function nothing()"
        ));
        let remedy = remedy(&database);
        assert!(
            remedy.starts_with("ALTER TRIGGER \"zzz_s's\" ON item RENAME TO "),
            "{remedy}"
        );
        database.run("alter trigger \"zzz_s's\" on item rename to early");
        assert_eq!(database.lines(STATE), ["live|t"]);
        database.run("drop trigger early on item");
    }
}

#[test]
fn triggers_that_fire_at_other_times_do_no_harm() {
    let database = with_trigger_function();
    database.run(
        "create trigger zzzz after insert or update on item for each row execute function nothing();
         create trigger zzzzz before insert or update on item execute function nothing();
         create trigger zzzzzz before delete on item for each row execute function nothing();
         create trigger \"ZZZZ\" before insert or update on item for each row execute function nothing()",
    );
    assert_eq!(database.lines(STATE), ["live|t"]);
}

#[test]
fn trigger_of_a_partition_that_fires_later() {
    let database = with_trigger_function();
    database.run(
        "drop table item;
         create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         select repl_set_expression('item', 'b', 'a * 2');
         create trigger zzzz before insert on item_1 for each row execute function nothing()",
    );
    let remedy = remedy(&database);
    assert!(
        remedy.starts_with("ALTER TRIGGER zzzz ON item_1"),
        "{remedy}"
    );
    database.run("drop trigger zzzz on item_1");
    assert_eq!(database.lines(STATE), ["live|t"]);
}

#[test]
fn partition_of_a_partition_without_a_key() {
    let database = Database::new();
    database.run(
        "create table item (id int not null, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         alter table item_1 add primary key (id);
         select repl_set_expression('item', 'b', 'a * 2');
         create table item_2 (id int not null, a int, b int) partition by range (id);
         create table \"Item 3\" partition of item_2 for values from (10) to (15);
         alter table item attach partition item_2 for values from (10) to (20)",
    );
    let remedy = remedy(&database);
    assert!(
        remedy.starts_with("ALTER TABLE \"Item 3\" ADD PRIMARY KEY"),
        "{remedy}"
    );
    database.run("alter table \"Item 3\" add primary key (id)");
    assert_eq!(database.lines(STATE), ["live|t"]);
}

#[test]
fn broken_rule_of_another_table_is_not_ours() {
    let database = Database::with_item();
    database.run(
        "create table other (id int primary key, a int, b int);
         select repl_set_expression('other', 'b', 'a * 2');
         alter table other disable trigger all",
    );
    assert_eq!(
        database.lines("select relation, state from repl_generated_columns order by 1"),
        ["item|live", "other|broken"]
    );
}

#[test]
fn right_to_execute_that_is_taken_away() {
    let database = Database::new();
    database.run(
        "create function twice(int) returns int language sql immutable return $1 * 2;
         revoke execute on function twice from public;
         grant execute on function twice to table_owner;
         create table item (id int primary key, a int, b int);
         alter table item owner to table_owner;
         select repl_set_expression('item', 'b', 'twice(a)');
         revoke execute on function twice from table_owner",
    );
    let error = database.error("set role table_owner; insert into item values (1, 1)");
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert!(error.message().contains("column \"b\""), "{error:?}");
    assert!(error.message().contains("twice"), "{error:?}");
    let problem = database.lines("select state, last_error from repl_generated_columns");
    assert!(problem[0].starts_with("broken|"), "{problem:?}");
    let remedy = problem[0].split_once(": ").expect("a remedy").1;
    database.run(remedy);
    database.run("set role table_owner; insert into item values (1, 1)");
    assert_eq!(
        database.lines("select b from item"),
        ["2"],
        "the remedy mends it"
    );
}
