//! A backfill works with the rights of the table's owner, and fires the triggers that replication fires.

use crate::database::{Database, OWNER, STRANGER};

const SET: &str = "select repl_set_expression('item', 'b', 'a * 2')";

/// The table `item (id, a, b)` of the role OWNER, with one row, and the table `seen (what)`, which it may write to.
fn database() -> Database {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, a int, b text);
         insert into item values (1, 10, 'old');
         create table seen (what text)",
    );
    database
}

const SEEN: &str = "select what from seen order by what";

#[test]
fn functions_run_with_the_rights_of_the_tables_owner() {
    let database = database();
    database.run_as(
        OWNER,
        "create function whoami() returns text language plpgsql stable set search_path = pg_catalog as
             'begin return current_user; end'",
    );
    database.run("select repl_set_expression('item', 'b', 'whoami()')");
    database.backfilled();
    assert_eq!(database.lines("select b from item"), [OWNER]);
}

/// The worker itself is a superuser.
#[test]
fn functions_cannot_become_another_role() {
    for (setting, role) in [
        ("role", "none"),
        ("role", "postgres"),
        ("session_authorization", "postgres"),
    ] {
        let database = database();
        database.run_as(
            OWNER,
            &format!(
                "create function become(a int) returns text language plpgsql stable set search_path = pg_catalog as
                     $$ begin perform set_config('{setting}', '{role}', false); return current_user; end $$"
            ),
        );
        let id = database
            .backfills()
            .queue("select repl_set_expression('item', 'b', 'become(a)')");
        let ended = database.backfills().wait_ended(id);
        let value = database.lines("select b from item").remove(0);
        assert!(
            ended.error().contains("42501") || value == OWNER,
            "{setting} {role}: {value}, {ended:?}"
        );
        assert_ne!(value, "postgres", "{setting} {role}");
    }
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
    database.backfilled();
    assert_eq!(database.lines("select b from item"), ["20"]);
}

#[test]
fn owner_needs_no_right_on_the_tables_schema() {
    let database = Database::new();
    database.run(&format!(
        "create schema closed;
         create table closed.item (id int primary key, a int, b int); insert into closed.item values (1, 10);
         alter table closed.item owner to {OWNER};
         select repl_set_expression('closed.item', 'b', 'a * 2')"
    ));
    database.backfilled();
    assert_eq!(database.lines("select b from closed.item"), ["20"]);
}

#[test]
fn plain_triggers_do_not_fire() {
    let database = database();
    database.run(
        "create function refuse() returns trigger language plpgsql as 'begin raise ''fired''; end';
         create trigger refuse before update on item for each row execute function refuse();
         create trigger refuse_after after update on item for each row execute function refuse();
         create trigger refuse_statement before update on item execute function refuse();
         create trigger refuse_statement_after after update on item execute function refuse();
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database.backfilled();
    assert_eq!(database.lines("select b from item"), ["20"]);
    assert_eq!(database.error("update item set a = 1").message(), "fired");
}

#[test]
fn foreign_keys_are_not_checked_as_in_replication() {
    let database = Database::new();
    database.run(
        "create table target (id int primary key); insert into target values (99);
         create table item (id int primary key, a int, b int references target);
         insert into item values (1, 10, 99)",
    );
    database.run(SET);
    database.backfilled();
    assert_eq!(database.lines("select b from item"), ["20"]);
}

#[test]
fn triggers_that_fire_for_replicated_rows_fire() {
    let database = database();
    database.run_as(
        OWNER,
        "create function note() returns trigger language plpgsql set search_path = public as $$
         begin
             insert into seen values (concat_ws(' ', tg_name, current_user, old.b, new.b));
             return new;
         end $$;
         create trigger always_before before update on item for each row execute function note();
         create trigger always_after after update on item for each row execute function note();
         create trigger replica_after after update on item for each row execute function note();
         create trigger plain_after after update on item for each row execute function note();
         create trigger disabled_after after update on item for each row execute function note();
         alter table item enable always trigger always_before, enable always trigger always_after,
                          enable replica trigger replica_after, disable trigger disabled_after",
    );
    database.run(SET);
    database.backfilled();
    let seen = database.lines(SEEN);
    let [after, before, replica] = seen.as_slice() else {
        panic!("{seen:?}");
    };
    assert_eq!(after, &format!("always_after {OWNER} old 20"));
    // What a BEFORE trigger finds in a derived column is its own affair: the rule comes last.
    assert!(
        before.starts_with(&format!("always_before {OWNER} old")),
        "{seen:?}"
    );
    assert_eq!(replica, &format!("replica_after {OWNER} old 20"));
}

#[test]
fn before_triggers_come_first() {
    let database = database();
    database.run(
        "create function raise_a() returns trigger language plpgsql as
             'begin new.a := new.a + 1; new.b := ''theirs''; return new; end';
         create trigger raise_a before update on item for each row execute function raise_a();
         alter table item enable always trigger raise_a",
    );
    database.run(SET);
    database.backfilled();
    assert_eq!(database.lines("select a, b from item"), ["11|22"]);
}

/// A row that a trigger protects stays as it is, and nobody tries for ever.
#[test]
fn row_that_a_trigger_protects_stays() {
    let database = database();
    database.run(
        "insert into item values (2, 20, 'old');
         create function protect() returns trigger language plpgsql as
             'begin if new.id = 1 then return null; end if; return new; end';
         create trigger protect before update on item for each row execute function protect();
         alter table item enable always trigger protect",
    );
    let id = database.backfills().queue(SET);
    database.backfills().wait_ended(id);
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|old", "2|40"]
    );
}

/// Deferred triggers fire at the end of the transaction, when the worker could be itself again.
#[test]
fn deferred_triggers_fire_with_the_rights_of_the_tables_owner() {
    let database = database();
    database.run_as(
        OWNER,
        "create function note() returns trigger language plpgsql set search_path = public as
             'begin insert into seen values (current_user); return null; end';
         create constraint trigger late after update on item deferrable initially deferred
             for each row execute function note();
         alter table item enable always trigger late",
    );
    let id = database.backfills().queue(SET);
    let ended = database.backfills().wait_ended(id);
    assert_eq!(ended.state, "done", "{ended:?}");
    assert_eq!(database.lines("select b from item"), ["20"]);
    assert_eq!(database.lines(SEEN), [OWNER]);
}

#[test]
fn functions_of_indexes_and_checks_run_with_the_rights_of_the_tables_owner() {
    let database = database();
    database.run_as(
        OWNER,
        "create function note() returns void language plpgsql set search_path = public as
             'begin insert into seen values (current_user); end';
         create function whoami(text) returns text language plpgsql immutable set search_path = public as
             'begin perform note(); return $1; end';
         create index on item (whoami(b));
         alter table item add check (whoami(b) <> '');
         truncate seen",
    );
    database.run(SET);
    database.backfilled();
    assert_eq!(database.lines("select distinct what from seen"), [OWNER]);
}

/// The owner is subject to the policies of such a table. That rows which it does not see stay as they are would be a
/// lie; to fail and to bring all rows up are both right.
#[test]
fn row_security_hides_no_row() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, a int, b int);
         insert into item values (1, 10), (2, 20);
         alter table item enable row level security, force row level security;
         create policy half on item using (id = 1)",
    );
    let id = database.backfills().queue(SET);
    let ended = database.backfills().wait_ended(id);
    let rows = database.lines("select b from item order by id");
    match ended.state.as_str() {
        "done" => assert_eq!(rows, ["20", "40"]),
        "failed" => assert!(ended.error().contains("42501"), "{ended:?}"),
        _ => panic!("{ended:?}"),
    }
}

#[test]
fn row_security_that_the_owner_is_exempt_from_does_no_harm() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, a int, b int);
         insert into item values (1, 10), (2, 20);
         alter table item enable row level security",
    );
    database.run(SET);
    database.backfilled();
    assert_eq!(
        database.lines("select b from item order by id"),
        ["20", "40"]
    );
}

#[test]
fn error_text_is_for_the_owner_and_for_monitors() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, c text, b int);
         insert into item values (1, 'secret')",
    );
    let id = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', 'c::int')");
    let failed = database.backfills().wait_failed(id);
    assert!(failed.error().contains("secret"), "{failed:?}");
    let seen_by = |role: &str| {
        database
            .lines(&format!(
                "set role {role};
                 select relation, state, blocks_total, error from repl_backfills"
            ))
            .remove(0)
    };
    assert!(seen_by(OWNER).contains("secret"));
    assert!(seen_by("pg_monitor").contains("secret"));
    let theirs = seen_by(STRANGER);
    assert!(theirs.starts_with("item|failed|1|"), "{theirs}");
    assert!(!theirs.contains("secret"), "{theirs}");
    let of_the_rule = database
        .lines(&format!(
            "set role {STRANGER}; select last_error from repl_generated_columns"
        ))
        .remove(0);
    assert!(!of_the_rule.contains("secret"), "{of_the_rule}");
    // Nor may they look at what the view reads.
    let readable = database.lines(&format!(
        "select c.oid::regclass from pg_class c join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid
          where d.refobjid = (select oid from pg_extension where extname = 'replwarden') and d.deptype = 'e'
            and c.relkind = 'r' and has_any_column_privilege('{STRANGER}', c.oid, 'select')"
    ));
    assert!(readable.is_empty(), "{readable:?}");
}
