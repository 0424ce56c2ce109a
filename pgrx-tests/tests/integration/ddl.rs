//! Rules follow the definition of their table, and of what they use.

use postgres::error::SqlState;

use crate::database::{Database, OWNER, STRANGER};

const OURS: &str = "select tgrelid::regclass, tgname, tgenabled from pg_trigger
                     where tgname like 'replwarden%' or tgname = 'zzz_replwarden' order by 1, 2";

#[test]
fn dropping_a_function_of_another_role_than_the_tables_owner_removes_the_rule() {
    let database = Database::new();
    database.run_as(
        STRANGER,
        "create function double(int) returns int language sql immutable as 'select $1 * 2'",
    );
    database.run_as(
        OWNER,
        "create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'double(a)')",
    );
    database.run_as(STRANGER, "drop function double cascade");
    assert!(database.lines(OURS).is_empty());
}

#[test]
fn remedy_for_enabled_triggers_brings_back_all_of_the_rule() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', '100 / a', 'null');
         insert into item values (1, 10);
         alter table item enable trigger all",
    );
    let problem = database.lines("select state, last_error from repl_generated_columns");
    assert!(problem[0].starts_with("broken|"), "{problem:?}");
    while let [problem] = database
        .lines("select last_error from repl_generated_columns where state = 'broken'")
        .as_slice()
    {
        let remedy = problem
            .split_once(": ")
            .expect("the remedy follows a colon")
            .1;
        database.run(remedy);
    }
    assert_eq!(
        database.lines(OURS),
        ["item|replwarden_b|D", "item|zzz_replwarden|A"]
    );
    database.run("update item set a = 0, b = 5");
    assert_eq!(database.lines("select b from item"), ["NULL"]);
}

#[test]
fn domain_constraint_added_later_holds_in_running_sessions() {
    let database = Database::new();
    database.run(
        "create domain small as int check (value < 100);
         create table item (id int primary key, a int, b small);
         select repl_set_expression('item', 'b', 'a')",
    );
    let mut client = database.connect();
    client
        .batch_execute("insert into item values (1, 50)")
        .expect("a good row");
    database.run("alter domain small add check (value < 60)");
    let error = client
        .batch_execute("insert into item values (2, 70)")
        .expect_err("the domain does not allow it");
    assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION));
    database.run("alter domain small set not null");
    let error = client
        .batch_execute("insert into item values (3, null, 1)")
        .expect_err("the domain does not allow it");
    assert_eq!(error.code(), Some(&SqlState::NOT_NULL_VIOLATION));
}
