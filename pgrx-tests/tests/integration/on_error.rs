//! What becomes of a row whose expression fails.

use postgres::error::SqlState;

use crate::database::{Database, OWNER, STRANGER, lines};

const ROWS: &str = "select id, a, b from item order by id";
const RULE: &str =
    "select state, rows_failed, last_error, last_error_at is null from repl_generated_columns";
const COUNT: &str = "select rows_failed from repl_generated_columns";

/// The table `item (id, a, b)`, whose column b is 100 / a.
fn database(on_error: &str) -> Database {
    let database = Database::new();
    database.run(&format!(
        "create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', '100 / a', '{on_error}')"
    ));
    database
}

#[test]
fn fail_is_the_statements_error() {
    let database = database("fail");
    let error = database.error("insert into item values (1, 10), (2, 0)");
    assert_eq!(error.code(), &SqlState::DIVISION_BY_ZERO);
    assert_eq!(error.message(), "division by zero");
    let context = error.where_().unwrap_or_default();
    assert!(
        context.contains("\"b\"") && context.contains("item"),
        "{context}"
    );
    assert!(database.lines(ROWS).is_empty());
    assert_eq!(database.lines(RULE), ["live|0|NULL|t"]);
}

#[test]
fn fail_keeps_all_that_a_users_function_says() {
    let database = Database::new();
    database.run(
        "create function boom(a int) returns int language plpgsql immutable set search_path = pg_catalog as $$
         begin
             raise exception 'boom %', a using errcode = 'XY001', detail = 'why', hint = 'what', column = 'col';
         end $$;
         create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'boom(a)')",
    );
    let error = database.error("insert into item values (1, 10)");
    assert_eq!(error.code().code(), "XY001");
    assert_eq!(error.message(), "boom 10");
    assert_eq!(error.detail(), Some("why"));
    assert_eq!(error.hint(), Some("what"));
    assert_eq!(error.column(), Some("col"));
    let context = error.where_().unwrap_or_default();
    assert!(context.contains("function public.boom"), "{context}");
    assert!(context.contains("column \"b\""), "{context}");
}

#[test]
fn null_makes_the_column_null_and_counts() {
    let database = database("null");
    database.run("insert into item values (1, 0, 99), (2, 10, 99), (3, 0, 99)");
    assert_eq!(database.lines(ROWS), ["1|0|NULL", "2|10|10", "3|0|NULL"]);
    assert_eq!(database.lines(RULE), ["failing|2|division by zero|f"]);
    database.run("update item set a = 0, b = 99 where id = 2");
    assert_eq!(database.lines(ROWS), ["1|0|NULL", "2|0|NULL", "3|0|NULL"]);
    assert_eq!(database.lines(COUNT), ["3"]);
}

#[test]
fn commit_warns_of_rows_that_became_null() {
    let database = database("null");
    let warnings = database.warnings("insert into item values (1, 0), (2, 0)");
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(warning.message().contains("\"b\""), "{warning:?}");
    assert!(warning.message().contains("2 rows"), "{warning:?}");
    let detail = warning.detail().unwrap_or_default();
    assert!(detail.contains("division by zero"), "{warning:?}");
}

#[test]
fn errors_of_any_kind_become_null() {
    let database = Database::new();
    database.run(
        "create domain small as int check (value < 10);
         create function boom(a int) returns int language plpgsql immutable set search_path = pg_catalog as $$
         begin raise exception 'boom' using errcode = 'XY001'; end $$;
         create table item (id int primary key, a int, c text, d1 int, d2 varchar(3), d3 small, d4 int, d5 numeric(2));
         select repl_set_expression('item', 'd1', 'c::int', 'null');
         select repl_set_expression('item', 'd2', 'c', 'null');
         select repl_set_expression('item', 'd3', 'a', 'null');
         select repl_set_expression('item', 'd4', 'boom(a)', 'null');
         select repl_set_expression('item', 'd5', 'a', 'null');
         insert into item values (1, 100, 'text'), (2, 5, '77')",
    );
    assert_eq!(
        database.lines("select d1, d2, d3, d4, d5 from item order by id"),
        ["NULL|NULL|NULL|NULL|NULL", "77|77|5|NULL|5"]
    );
    assert_eq!(
        database.lines("select column_name, rows_failed from repl_generated_columns order by 1"),
        ["d1|1", "d2|1", "d3|1", "d4|2", "d5|1"]
    );
}

#[test]
fn rolled_back_transaction_does_not_count() {
    let database = database("null");
    let mut client = database.connect();
    client
        .batch_execute("begin; insert into item values (1, 0); rollback")
        .expect("all of it works");
    client
        .batch_execute("begin; insert into item values (2, 10); commit")
        .expect("all of it works");
    assert_eq!(database.lines(RULE), ["live|0|NULL|t"]);
}

#[test]
fn failed_statement_does_not_count() {
    let database = database("null");
    let mut client = database.connect();
    let error = client
        .batch_execute("insert into item values (1, 0), (1, 0)")
        .expect_err("the key is there already");
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    client
        .batch_execute("insert into item values (2, 10)")
        .expect("a good row");
    assert_eq!(database.lines(COUNT), ["0"]);
}

#[test]
fn rolled_back_savepoint_does_not_count() {
    let database = database("null");
    let mut client = database.connect();
    client
        .batch_execute(
            "begin;
             insert into item values (1, 0);
             savepoint kept; insert into item values (2, 0); release kept;
             savepoint lost; insert into item values (3, 0);
             savepoint inner_one; insert into item values (4, 0); release inner_one;
             rollback to lost;
             savepoint outer_one; savepoint inner_two; insert into item values (5, 0);
             rollback to inner_two; insert into item values (6, 0); release outer_one;
             commit",
        )
        .expect("all of it works");
    assert_eq!(
        database.lines("select id from item order by id"),
        ["1", "2", "6"]
    );
    assert_eq!(database.lines(COUNT), ["3"]);
}

#[test]
fn row_undone_by_an_exception_block_does_not_count() {
    let database = database("null");
    database.run(
        "do $$ begin
             insert into item values (1, 0);
             begin insert into item values (2, 0); raise 'undo'; exception when others then end;
         end $$",
    );
    assert_eq!(database.lines("select id from item"), ["1"]);
    assert_eq!(database.lines(COUNT), ["1"]);
}

#[test]
fn transactions_add_up() {
    let database = database("null");
    let mut client = database.connect();
    for id in 0..4 {
        let level = ["read committed", "repeatable read", "serializable"][id % 3];
        client
            .batch_execute(&format!(
                "begin isolation level {level}; insert into item values ({id}, 0), (1{id}, 0); commit"
            ))
            .expect("all of it works");
    }
    assert_eq!(database.lines(COUNT), ["8"]);
}

#[test]
fn transactions_that_a_procedure_commits_add_up() {
    let database = database("null");
    database.run(
        "do $$ begin
             insert into item values (1, 0); commit;
             insert into item values (2, 0); rollback;
             insert into item values (3, 0); commit;
         end $$",
    );
    assert_eq!(database.lines(COUNT), ["2"]);
}

#[test]
fn sessions_that_count_do_not_wait_for_each_other() {
    let database = database("null");
    let mut first = database.connect();
    let mut second = database.connect();
    first
        .batch_execute("insert into item values (1, 0); begin; insert into item values (2, 0)")
        .expect("nobody is in the way");
    second
        .batch_execute("set lock_timeout = '1ms'; begin; insert into item values (3, 0); commit; insert into item values (4, 0)")
        .expect("nobody is in the way");
    first.batch_execute("commit").expect("nobody is in the way");
    assert_eq!(database.lines(COUNT), ["4"]);
}

#[test]
fn last_error_is_the_last_one() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, c text, b int);
         select repl_set_expression('item', 'b', 'c::int', 'null')",
    );
    for (id, text) in [(1, "first"), (2, "second")] {
        database.run(&format!("insert into item values ({id}, '{text}')"));
        let errors = database.lines("select last_error from repl_generated_columns");
        assert!(errors[0].contains(text), "{errors:?}");
    }
    assert_eq!(
        database.lines("select rows_failed, last_error_at > now() - interval '1 hour' from repl_generated_columns"),
        ["2|t"]
    );
}

#[test]
fn error_text_is_for_the_owner_and_for_monitors() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table item (id int primary key, c text, b int);
         select repl_set_expression('item', 'b', 'c::int', 'null');
         insert into item values (1, 'secret')",
    );
    let seen_by = |role: &str| {
        let mut client = database.connect();
        lines(
            &mut client,
            &format!("set role {role}; select rows_failed, last_error from repl_generated_columns"),
        )
    };
    assert!(seen_by(OWNER)[0].contains("secret"));
    assert!(seen_by("pg_monitor")[0].contains("secret"));
    assert_eq!(seen_by(STRANGER), ["1|<insufficient privilege>"]);
}

#[test]
fn setting_the_rule_again_counts_anew() {
    let database = database("null");
    database.run("insert into item values (1, 0)");
    assert_eq!(database.lines(COUNT), ["1"]);
    database.run("select repl_set_expression('item', 'b', '200 / a', 'null', backfill => false)");
    assert_eq!(database.lines(RULE), ["live|0|NULL|t"]);
    database.run("insert into item values (2, 0)");
    assert_eq!(database.lines(COUNT), ["1"]);
}

#[test]
fn rows_of_partitions_count_for_the_partitioned_table() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int) partition by range (id);
         create table item_low partition of item for values from (0) to (10);
         create table item_high partition of item for values from (10) to (20);
         select repl_set_expression('item', 'b', '100 / a', 'null')",
    );
    database.run("insert into item values (1, 0), (11, 0); insert into item_low values (2, 0)");
    assert_eq!(
        database.lines("select relation, rows_failed from repl_generated_columns"),
        ["item|3"]
    );
}

#[test]
fn row_after_one_that_became_null_is_derived() {
    let database = database("null");
    database.run("insert into item select n, n % 2 from generate_series(1, 1000) n");
    assert_eq!(
        database.lines("select a, b, count(*) from item group by 1, 2 order by 1"),
        ["0|NULL|500", "1|100|500"]
    );
    assert_eq!(database.lines(COUNT), ["500"]);
}

#[test]
fn one_failing_rule_leaves_the_others_alone() {
    let database = database("null");
    database.run(
        "alter table item add c int, add d text;
         select repl_set_expression('item', 'c', 'a + 1');
         select repl_set_expression('item', 'd', '(10 / (a - 5))::text', 'null');
         insert into item values (1, 0), (2, 5), (3, 10)",
    );
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|0|NULL|1|-2", "2|5|20|6|NULL", "3|10|10|11|2"]
    );
}

#[test]
fn null_does_not_swallow_a_timeout() {
    let database = Database::new();
    database.run(
        "create function slow(a int) returns int language plpgsql immutable set search_path = pg_catalog as
             'begin perform pg_sleep(a); return a; end';
         create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', 'slow(a)', 'null')",
    );
    let mut client = database.connect();
    client
        .batch_execute("set statement_timeout = 50")
        .expect("a setting");
    let error = client
        .batch_execute("insert into item values (1, 600)")
        .expect_err("it takes too long");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    client
        .batch_execute("set statement_timeout = 0; insert into item values (2, 0)")
        .expect("a good row");
    assert_eq!(database.lines(ROWS), ["2|0|0"]);
    assert_eq!(database.lines(COUNT), ["0"]);
}

#[test]
fn null_on_a_column_that_became_not_null_is_the_constraints_error() {
    let database = database("null");
    database.run("alter table item alter b set not null");
    let error = database.error("insert into item values (1, 0)");
    assert_eq!(error.code(), &SqlState::NOT_NULL_VIOLATION);
    assert_eq!(database.lines(COUNT), ["0"]);
}

#[test]
fn dropped_rule_is_not_counted_any_more() {
    let database = database("null");
    database.run("insert into item values (1, 0)");
    database.run("select repl_drop_expression('item', 'b')");
    assert_eq!(database.lines("select count(*) from _repl_failures"), ["0"]);
    let mut client = database.connect();
    client
        .batch_execute(
            "select repl_set_expression('item', 'b', '100 / a', 'null', false);
             begin; insert into item values (2, 0); select repl_drop_expression('item', 'b'); commit",
        )
        .expect("a rule may be dropped where rows have just failed");
    assert_eq!(database.lines("select count(*) from _repl_failures"), ["0"]);
}
