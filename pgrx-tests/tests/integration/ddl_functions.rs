//! Rules follow the functions that they use.

use postgres::Client;
use postgres::error::SqlState;

use crate::database::{Database, OWNER, lines};

const VALUES: &str = "select id, b from item order by id";

/// The table `item (id, a, b)`, whose column b is `double(a)`, a function with this language and body.
fn database(definition: &str) -> Database {
    let database = Database::new();
    database.run(&format!(
        "create function double(x int) returns int immutable {definition};
         create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'double(a)')"
    ));
    database
}

/// One body for each way in which the server runs a function: inlined, as SQL, as a procedural language.
const BODIES: [&str; 3] = [
    "language sql as 'select x * 2'",
    "language sql set search_path = pg_catalog as 'select x * 2'",
    "language plpgsql set search_path = pg_catalog as 'begin return x * 2; end'",
];

/// A session that has computed with the rule, by inserting the row 1.
#[track_caller]
fn session_that_has_computed(database: &Database) -> Client {
    let mut client = database.connect();
    lines(&mut client, "insert into item values (1, 10)");
    client
}

#[test]
fn function_renamed_or_moved() {
    for body in BODIES {
        let database = database(body);
        let mut running = session_that_has_computed(&database);
        database.run("create schema elsewhere; alter function double(int) set schema elsewhere");
        lines(&mut running, "insert into item values (2, 20)");
        database.run("alter function elsewhere.double(int) rename to \"The Double\"");
        lines(&mut running, "insert into item values (3, 30)");
        database.run("alter schema elsewhere rename to far_away; insert into item values (4, 40)");
        lines(&mut running, "insert into item values (5, 50)");
        assert_eq!(
            database.lines(VALUES),
            ["1|20", "2|40", "3|60", "4|80", "5|100"],
            "{body}"
        );
        assert_eq!(
            database.lines("select expression, state from repl_generated_columns"),
            ["far_away.\"The Double\"(a)|live"]
        );
    }
}

#[test]
fn replaced_function_takes_effect_in_a_running_session() {
    for body in BODIES {
        let database = database(body);
        let mut running = session_that_has_computed(&database);
        database.run(&format!(
            "create or replace function double(x int) returns int immutable {}",
            body.replace("x * 2", "x * 200")
        ));
        lines(&mut running, "insert into item values (2, 20)");
        assert_eq!(database.lines(VALUES), ["1|20", "2|4000"], "{body}");
    }
}

#[test]
fn replaced_function_takes_effect_in_the_replacing_transaction() {
    for body in BODIES {
        let database = database(body);
        let mut running = session_that_has_computed(&database);
        lines(
            &mut running,
            &format!(
                "begin;
                 create or replace function double(x int) returns int immutable {};
                 insert into item values (2, 20);
                 rollback;
                 insert into item values (3, 30)",
                body.replace("x * 2", "x * 200")
            ),
        );
        lines(
            &mut running,
            &format!(
                "begin;
                 create or replace function double(x int) returns int immutable {};
                 insert into item values (4, 40);
                 commit",
                body.replace("x * 2", "x * 200")
            ),
        );
        assert_eq!(database.lines(VALUES), ["1|20", "3|60", "4|8000"], "{body}");
    }
}

#[test]
fn replaced_function_behind_an_inlined_one_takes_effect() {
    let database = Database::new();
    database.run(
        "create function inner_one(x int) returns int language sql immutable as 'select x * 2';
         create function outer_one(x int) returns int language sql immutable as 'select public.inner_one(x)';
         create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'outer_one(a)')",
    );
    let mut running = session_that_has_computed(&database);
    database.run(
        "create or replace function inner_one(x int) returns int language sql immutable as 'select x * 200'",
    );
    lines(&mut running, "insert into item values (2, 20)");
    assert_eq!(database.lines(VALUES), ["1|20", "2|4000"]);
}

#[test]
fn replaced_function_of_a_constant_takes_effect() {
    let database = Database::new();
    database.run(
        "create function factor() returns int language plpgsql immutable set search_path = pg_catalog as
             'begin return 2; end';
         create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'a * factor()')",
    );
    let mut running = session_that_has_computed(&database);
    database.run(
        "create or replace function factor() returns int language plpgsql immutable set search_path = pg_catalog as
             'begin return 200; end'",
    );
    lines(&mut running, "insert into item values (2, 20)");
    assert_eq!(database.lines(VALUES), ["1|20", "2|4000"]);
}

#[test]
fn function_that_becomes_strict() {
    let database = database(
        "language plpgsql set search_path = pg_catalog as 'begin return coalesce(x, 1) * 2; end'",
    );
    let mut running = session_that_has_computed(&database);
    lines(&mut running, "insert into item values (2, null)");
    database.run("alter function double(int) strict");
    lines(&mut running, "insert into item values (3, null)");
    assert_eq!(database.lines(VALUES), ["1|20", "2|2", "3|NULL"]);
}

#[test]
fn right_to_execute_is_asked_for_in_running_sessions() {
    let database = Database::new();
    database.run(&format!(
        "create function double(x int) returns int language plpgsql immutable set search_path = pg_catalog as
             'begin return x * 2; end';
         revoke execute on function double(int) from public;
         grant execute on function double(int) to {OWNER};
         create table item (id int primary key, a int, b int);
         alter table item owner to {OWNER};
         select repl_set_expression('item', 'b', 'double(a)')"
    ));
    let mut running = database.connect();
    lines(
        &mut running,
        &format!("set role {OWNER}; insert into item values (1, 10)"),
    );
    database.run(&format!(
        "revoke execute on function double(int) from {OWNER}"
    ));
    let error = running
        .batch_execute("insert into item values (2, 20)")
        .expect_err("the right is gone");
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    database.run(&format!("grant execute on function double(int) to {OWNER}"));
    lines(&mut running, "insert into item values (3, 30)");
    assert_eq!(database.lines(VALUES), ["1|20", "3|60"]);
}

#[test]
fn operators_function_that_is_replaced_takes_effect() {
    let database = Database::new();
    database.run(
        "create function fold(x int, y int) returns int language sql immutable as 'select x * y';
         create operator ## (leftarg = int, rightarg = int, function = fold);
         create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'a ## 2')",
    );
    let mut running = session_that_has_computed(&database);
    database.run(
        "create or replace function fold(x int, y int) returns int language sql immutable as 'select x + y'",
    );
    lines(&mut running, "insert into item values (2, 20)");
    assert_eq!(database.lines(VALUES), ["1|20", "2|22"]);
}
