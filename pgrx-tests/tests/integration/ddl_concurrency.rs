//! Sessions that change and use the rules of one table at the same time.

use std::thread;

use postgres::Client;
use postgres::error::{DbError, SqlState};
use replwarden_tests::{DEFAULT_DEADLINE, wait_until};

use crate::database::{Database, lines};

const RULES: &str = "select column_name, expression, state from repl_generated_columns order by 1";

/// The table `item (id, a, b, c)` without rules.
fn database() -> Database {
    let database = Database::new();
    database.run("create table item (id int primary key, a int, b int, c int)");
    database
}

/// Runs `first` in a transaction of one session and starts `second` in another one, which has to wait for a lock until
/// the first has committed. Returns how `second` ended.
#[track_caller]
fn one_behind_the_other(
    database: &Database,
    first: &str,
    second: &str,
) -> Result<(), Box<DbError>> {
    let mut holder = database.connect();
    lines(&mut holder, &format!("begin; {first}"));
    let mut waiter = database.connect();
    let pid = lines(&mut waiter, "select pg_backend_pid()").remove(0);
    thread::scope(|scope| {
        let outcome = scope.spawn(move || waiter.batch_execute(second));
        wait_until("the second session waits", DEFAULT_DEADLINE, || {
            outcome.is_finished()
                || database.lines(&format!(
                    "select count(*) > 0 from pg_locks where pid = {pid} and not granted"
                )) == ["t"]
        });
        assert!(!outcome.is_finished(), "it did not wait: {second}");
        lines(&mut holder, "commit");
        outcome
            .join()
            .expect("the thread does not panic")
            .map_err(|error| Box::new(error.as_db_error().expect("the server's answer").clone()))
    })
}

const B_FROM_A: &str = "select repl_set_expression('item', 'b', 'a * 2')";
const C_FROM_A: &str = "select repl_set_expression('item', 'c', 'a * 3')";
const C_FROM_B: &str = "select repl_set_expression('item', 'c', 'b * 3')";

#[test]
fn rules_set_at_the_same_time_are_both_kept() {
    let database = database();
    one_behind_the_other(&database, B_FROM_A, C_FROM_A).expect("both are good");
    assert_eq!(database.lines(RULES), ["b|a * 2|live", "c|a * 3|live"]);
    database.run("insert into item values (1, 10)");
    assert_eq!(database.lines("select b, c from item"), ["20|30"]);
}

#[test]
fn rules_of_one_column_set_at_the_same_time_leave_the_later() {
    let database = database();
    database.run("insert into item values (1, 10)");
    one_behind_the_other(
        &database,
        B_FROM_A,
        "select repl_set_expression('item', 'b', 'a + 7')",
    )
    .expect("both are good");
    database.backfilled();
    assert_eq!(database.lines(RULES), ["b|a + 7|live"]);
    assert_eq!(database.lines("select b from item"), ["17"]);
}

#[test]
fn source_that_has_just_become_derived_is_refused() {
    let database = database();
    let error = one_behind_the_other(&database, B_FROM_A, C_FROM_B)
        .expect_err("a rule must not read a derived column");
    assert_eq!(error.code(), &SqlState::INVALID_COLUMN_REFERENCE);
    assert!(error.message().contains("\"c\""), "{error:?}");
    assert_eq!(database.lines(RULES), ["b|a * 2|live"]);
}

#[test]
fn column_that_has_just_become_a_source_is_refused() {
    let database = database();
    let error = one_behind_the_other(&database, C_FROM_B, B_FROM_A)
        .expect_err("a derived column must not be read by a rule");
    assert_eq!(error.code(), &SqlState::INVALID_OBJECT_DEFINITION);
    assert!(error.message().contains("\"b\""), "{error:?}");
    assert_eq!(database.lines(RULES), ["c|b * 3|live"]);
}

#[test]
fn rule_that_is_dropped_twice_is_gone_for_the_second() {
    let database = database();
    database.run(B_FROM_A);
    let drop = "select repl_drop_expression('item', 'b')";
    let error = one_behind_the_other(&database, drop, drop).expect_err("it is gone");
    assert_eq!(error.code(), &SqlState::UNDEFINED_OBJECT);
}

#[test]
fn column_that_is_adopted_twice_is_no_generated_one_for_the_second() {
    let database = database();
    database.run("alter table item add g int generated always as (a) stored");
    let adopt = "select repl_adopt_generated('item', 'g')";
    let error = one_behind_the_other(&database, adopt, adopt).expect_err("it is a plain column");
    assert_eq!(error.code(), &SqlState::INVALID_OBJECT_DEFINITION);
    assert_eq!(database.lines(RULES), ["g|a|live"]);
}

/// The partitioned table `item (id, a, b, c)` with the partition `item_1`.
fn partitioned() -> Database {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int, c int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10)",
    );
    database
}

#[test]
fn partition_that_has_just_got_a_rule_is_seen() {
    for own_rule in [
        "select repl_set_expression('item_1', 'b', 'a * 3')",
        "select repl_set_expression('item_1', 'c', 'a * 3')",
    ] {
        let database = partitioned();
        let error = one_behind_the_other(&database, own_rule, B_FROM_A)
            .expect_err("the partition has a rule of its own");
        assert_eq!(
            error.code(),
            &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "{error:?}"
        );
        assert!(error.message().contains("item_1"), "{error:?}");
    }
}

#[test]
fn partitioned_table_that_has_just_got_a_rule_is_seen() {
    let database = partitioned();
    let error = one_behind_the_other(
        &database,
        B_FROM_A,
        "select repl_set_expression('item_1', 'c', 'a * 3')",
    )
    .expect_err("the rules of a partition are those of its table");
    assert_eq!(
        error.code(),
        &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "{error:?}"
    );
}

#[test]
fn partition_that_has_just_been_attached_gets_the_rule() {
    let database = partitioned();
    one_behind_the_other(
        &database,
        "create table item_2 (b int, a int, c int, id int primary key);
         insert into item_2 values (-1, 20, null, 11);
         alter table item attach partition item_2 for values from (10) to (20)",
        B_FROM_A,
    )
    .expect("a good rule");
    database.backfilled();
    assert_eq!(database.lines("select b from item"), ["40"]);
    assert_eq!(database.lines(RULES), ["b|a * 2|live"]);
}

#[test]
fn partition_that_loses_its_key_during_the_wait_is_refused() {
    let database = Database::new();
    database.run(
        "create table item (id int not null, a int, b int) partition by range (id);
         create table item_1 (id int primary key, a int, b int);
         alter table item attach partition item_1 for values from (0) to (10)",
    );
    let error = one_behind_the_other(
        &database,
        "alter table item_1 drop constraint item_1_pkey",
        B_FROM_A,
    )
    .expect_err("the partition has no key any more");
    assert_eq!(
        error.code(),
        &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "{error:?}"
    );
}

#[test]
fn table_that_changed_during_the_wait_is_looked_at_again() {
    for (change, code) in [
        ("alter table item drop b", SqlState::UNDEFINED_COLUMN),
        (
            "alter table item drop constraint item_pkey",
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        ),
        (
            "alter table item drop constraint item_pkey, add primary key (id, b)",
            SqlState::INVALID_OBJECT_DEFINITION,
        ),
    ] {
        let database = database();
        let error = one_behind_the_other(&database, change, B_FROM_A)
            .expect_err("nothing is left to set a rule on");
        assert_eq!(error.code(), &code, "{change}: {error:?}");
        assert!(database.lines(RULES).is_empty());
    }
}

#[test]
fn table_that_was_dropped_during_the_wait_is_unknown() {
    for call in [
        B_FROM_A,
        "select repl_drop_expression('item', 'b')",
        "select repl_adopt_generated('item')",
    ] {
        let database = database();
        let error = one_behind_the_other(&database, "drop table item", call)
            .expect_err("the table is gone");
        assert_eq!(
            error.code(),
            &SqlState::UNDEFINED_TABLE,
            "{call}: {error:?}"
        );
    }
}

#[test]
fn column_renamed_during_the_wait_is_unknown() {
    let database = database();
    let error = one_behind_the_other(&database, "alter table item rename a to source", B_FROM_A)
        .expect_err("there is no column a any more");
    assert_eq!(error.code(), &SqlState::UNDEFINED_COLUMN);
}

#[test]
fn rule_that_is_set_waits_for_writers() {
    let database = database();
    one_behind_the_other(&database, "insert into item values (1, 10)", B_FROM_A)
        .expect("a good rule");
    database.backfilled();
    assert_eq!(
        database.lines("select b from item"),
        ["20"],
        "the row of the transaction that was under way is brought up"
    );
}

#[test]
fn writer_waits_for_the_rule_and_follows_it() {
    let database = database();
    one_behind_the_other(&database, B_FROM_A, "insert into item values (1, 10)")
        .expect("a good row");
    assert_eq!(database.lines("select b from item"), ["20"]);
}

#[test]
fn writer_waits_for_the_end_of_a_rule() {
    let database = database();
    database.run(B_FROM_A);
    one_behind_the_other(
        &database,
        "select repl_drop_expression('item', 'b')",
        "insert into item values (1, 10, -1)",
    )
    .expect("a good row");
    assert_eq!(database.lines("select b from item"), ["-1"]);
}

/// A session that has computed `a * 2`, by inserting the row 1.
#[track_caller]
fn session_that_has_computed(database: &Database) -> Client {
    database.run(B_FROM_A);
    let mut client = database.connect();
    lines(&mut client, "insert into item values (1, 10)");
    client
}

#[test]
fn changed_rule_takes_effect_in_a_running_session() {
    let database = database();
    let mut running = session_that_has_computed(&database);
    database.run("select repl_set_expression('item', 'b', 'a * 200', backfill => false)");
    lines(&mut running, "insert into item values (2, 10)");
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|20", "2|2000"]
    );
}

#[test]
fn changed_rule_takes_effect_inside_a_running_transaction() {
    let database = database();
    let mut running = session_that_has_computed(&database);
    lines(&mut running, "begin; select 1");
    database.run("select repl_set_expression('item', 'b', 'a * 200', backfill => false)");
    lines(&mut running, "insert into item values (2, 10); commit");
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|20", "2|2000"]
    );
}

#[test]
fn second_rule_takes_effect_in_a_running_session() {
    let database = database();
    let mut running = session_that_has_computed(&database);
    database.run(C_FROM_A);
    lines(&mut running, "insert into item values (2, 20)");
    database.backfilled();
    assert_eq!(
        database.lines("select id, b, c from item order by id"),
        ["1|20|30", "2|40|60"]
    );
}

#[test]
fn changed_on_error_takes_effect_in_a_running_session() {
    let database = database();
    let mut running = session_that_has_computed(&database);
    database.run("select repl_set_expression('item', 'b', '100 / a', 'null')");
    lines(&mut running, "insert into item values (2, 0)");
    database.run("select repl_set_expression('item', 'b', '100 / a', 'fail', backfill => false)");
    let error = running
        .batch_execute("insert into item values (3, 0)")
        .expect_err("nothing can be divided by zero");
    assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
}

#[test]
fn rolled_back_change_of_a_rule_has_no_effect() {
    let database = database();
    let mut running = session_that_has_computed(&database);
    lines(
        &mut running,
        "begin;
         select repl_set_expression('item', 'b', 'a * 200');
         insert into item values (2, 10);
         rollback;
         insert into item values (3, 10);
         begin;
         savepoint changed;
         select repl_set_expression('item', 'b', 'a * 300');
         insert into item values (4, 10);
         rollback to changed;
         insert into item values (5, 10);
         commit;
         insert into item values (6, 10)",
    );
    assert_eq!(
        database.lines("select id, b from item order by id"),
        ["1|20", "3|20", "5|20", "6|20"]
    );
    assert!(database.backfills().all().is_empty());
}

#[test]
fn prepared_statement_follows_a_changed_rule() {
    let database = database();
    let mut running = session_that_has_computed(&database);
    let insert = running
        .prepare("insert into item values ($1, 10) returning b")
        .expect("a good statement");
    let mut run = |id: i32| -> i32 {
        running
            .query_one(&insert, &[&id])
            .expect("a good row")
            .get(0)
    };
    assert_eq!(run(2), 20);
    database.run("select repl_set_expression('item', 'b', 'a * 200', backfill => false)");
    assert_eq!(run(3), 2000);
    database.run("select repl_drop_expression('item', 'b')");
    database.run("alter table item alter b set default -1");
    database.run(B_FROM_A);
    assert_eq!(run(4), 20);
}
