//! Triggers of a table that a rule could not stand beside.

use crate::database::Database;
use crate::refusals::{SET, assert_refused, with_table};

#[test]
fn trigger_that_would_fire_later() {
    let database = with_table("id int primary key, a int, b int");
    database.run(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger zzzz after insert or update on item for each row execute function nothing();
         create trigger zzzzz before insert or update on item execute function nothing();
         create trigger zzzzzz before delete on item for each row execute function nothing();
         create trigger \"zzz_Replwarden\" before insert on item for each row execute function nothing();",
    );
    database.run(&format!(
        "select {SET}; select repl_drop_expression('item', 'b')"
    ));
    database.backfilled();
    for event in ["insert", "update", "delete or update of a"] {
        database.run(&format!(
            "create trigger zzz_replwarden_late before {event} on item for each row execute function nothing()"
        ));
        assert_refused(&database, SET, "55000", "zzz_replwarden_late");
        database.run("drop trigger zzz_replwarden_late on item");
    }
}

#[test]
fn trigger_of_a_partition_that_would_fire_later() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger zzzz before insert on item_1 for each row execute function nothing()",
    );
    let error = assert_refused(&database, SET, "55000", "zzzz");
    assert!(error.message().contains("item_1"), "{error:?}");
}

#[test]
fn trigger_that_has_our_name() {
    let database = with_table("id int primary key, a int, b int");
    database.run(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger zzz_replwarden before insert on item for each row execute function nothing()",
    );
    assert_refused(&database, SET, "42710", "zzz_replwarden");
}

#[test]
fn trigger_that_has_the_name_of_a_rule_is_not_replaced() {
    let database = with_table("id int primary key, a int, b int");
    database.run(
        "create function raise_a() returns trigger language plpgsql as
             'begin new.a := new.a + 1; return new; end';
         create trigger replwarden_b before insert on item for each row execute function raise_a()",
    );
    const THEIRS: &str = "select count(*) from pg_trigger where tgname = 'replwarden_b' and tgfoid = 'raise_a'::regproc";
    // To refuse it is as good as to take another name.
    let _ = database.connect().batch_execute(&format!("select {SET}"));
    assert_eq!(database.lines(THEIRS), ["1"]);
}
