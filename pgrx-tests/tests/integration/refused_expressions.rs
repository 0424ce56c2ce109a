//! Expressions that `repl_set_expression` refuses, or warns of.

use postgres::error::DbError;

use crate::database::{Database, OWNER};
use crate::refusals::assert_refused;

/// `item (id, a, c, b, g, d)`, where g is GENERATED and d has a rule, and another table.
fn database() -> Database {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, c text, b int, g int generated always as (a) stored, d int);
         select repl_set_expression('item', 'd', 'a + 1');
         insert into item (id, a) values (1, 10);
         create table other (x int)",
    );
    database
}

#[track_caller]
fn assert_expression_refused(database: &Database, expression: &str, code: &str) -> DbError {
    let call = format!("repl_set_expression('item', 'b', $rule${expression}$rule$)");
    let error = assert_refused(database, &call, code, "\"b\"");
    assert!(error.message().contains("item"), "{error:?}");
    error
}

#[track_caller]
fn assert_all_refused(expressions: &[&str], code: &str) {
    let database = database();
    for expression in expressions {
        assert_expression_refused(&database, expression, code);
    }
}

#[test]
fn syntax_errors() {
    assert_all_refused(
        &[
            "a +", "(a", "a)", "a b c", "'", "\"", "a $ 2", "select a", "1) + (2",
        ],
        "42601",
    );
}

#[test]
fn what_is_not_one_expression() {
    assert_all_refused(
        &[
            "",
            "  ",
            "-- nothing",
            "a, c",
            "a as x",
            "a x",
            "*",
            "item.*",
            "item.*, a",
            "a from item",
            "a where a > 0",
            "a order by a",
            "a limit 1",
            "a union select 1",
            "a; select 1",
            "distinct a",
            "a into x",
            "a for update",
        ],
        "42601",
    );
}

#[test]
fn text_of_the_expression_is_in_the_detail() {
    let database = database();
    for expression in ["a as something", "a + nothing", "sum(a)"] {
        let call = format!("repl_set_expression('item', 'b', '{expression}')");
        let error = database.error(&format!("select {call}"));
        assert!(
            error.detail().is_some_and(|text| text.contains(expression)),
            "{error:?}"
        );
    }
}

#[test]
fn subqueries() {
    assert_all_refused(
        &[
            "(select 1)",
            "exists (select 1)",
            "a in (select x from other)",
            "array(select 1)",
        ],
        "0A000",
    );
}

#[test]
fn aggregates() {
    assert_all_refused(&["sum(a)", "count(*)", "a + max(id)"], "42803");
}

#[test]
fn window_functions() {
    assert_all_refused(
        &["row_number() over ()", "sum(a) over (order by id)"],
        "42P20",
    );
}

#[test]
fn set_returning_functions() {
    assert_all_refused(&["generate_series(1, a)", "unnest(array[a])"], "0A000");
}

#[test]
fn parameters() {
    assert_all_refused(&["$1", "a + $1"], "42P02");
}

#[test]
fn columns_that_are_not_there() {
    assert_all_refused(&["nothing", "a + item.nothing"], "42703");
}

#[test]
fn columns_of_other_tables() {
    assert_all_refused(&["other.x", "public.other.x", "new.a"], "42P01");
}

#[test]
fn functions_and_types_that_are_not_there() {
    assert_all_refused(&["nothing(a)", "a || a"], "42883");
    assert_all_refused(&["a::nothing"], "42704");
}

#[test]
fn whole_row() {
    assert_all_refused(
        &[
            "length(item::text)",
            "(item is null)::int",
            "length((item.*)::text)",
        ],
        "42P10",
    );
}

#[test]
fn system_columns() {
    assert_all_refused(
        &[
            "xmin::text::int",
            "tableoid::int",
            "(item.ctid is null)::int",
        ],
        "42P10",
    );
}

#[test]
fn generated_columns() {
    assert_all_refused(&["g", "a + g"], "42P10");
}

#[test]
fn column_itself() {
    assert_all_refused(&["b", "coalesce(b, a)"], "42P10");
}

#[test]
fn columns_that_have_a_rule() {
    assert_all_refused(&["d", "a + d"], "42P10");
}

#[test]
fn column_that_a_rule_reads() {
    let database = database();
    let call = "repl_set_expression('item', 'a', 'id + 1')";
    let error = assert_refused(&database, call, "42P17", "\"a\"");
    assert!(error.message().contains("\"d\""), "{error:?}");
}

#[test]
fn volatile_functions() {
    let database = database();
    database.run(
        "create sequence numbers;
         create function volatile_one(int) returns int language plpgsql as 'begin return $1; end';
         create function volatile_inside(int) returns int language sql volatile as 'select $1 + (random() * 10)::int';
         create function has_default(x int, y float = random()) returns int language plpgsql immutable as 'begin return x; end';
         create function volatile_operator(int, int) returns int language plpgsql as 'begin return $1; end';
         create operator @@@@ (function = volatile_operator, leftarg = int, rightarg = int)",
    );
    for expression in [
        "random()::int",
        "a + (random() * 10)::int",
        "nextval('numbers')",
        "extract(epoch from clock_timestamp())::int",
        "volatile_one(a)",
        "volatile_inside(a)",
        "has_default(a)",
        "a @@@@ a",
        "case when a > 100 then random()::int end",
        "length(gen_random_uuid()::text)",
    ] {
        let error = assert_expression_refused(&database, expression, "42P17");
        assert!(error.message().contains("volatile"), "{error:?}");
    }
}

#[test]
fn volatile_function_that_planning_inlines_as_immutable_is_accepted() {
    let database = database();
    database.run(
        "create function harmless(int) returns int language sql volatile as 'select $1 + 1';
         select repl_set_expression('item', 'b', 'harmless(a)')",
    );
    database.backfilled();
    assert_eq!(database.lines("select b from item"), ["11"]);
}

#[test]
fn stable_expressions_are_accepted_with_a_warning() {
    let database = database();
    for expression in [
        "extract(year from now())::int",
        "length('2024-01-01 00:00+00'::timestamptz::text)",
        "length(current_user)",
    ] {
        let set = format!("select repl_set_expression('item', 'b', $rule${expression}$rule$)");
        let warnings = database.warnings(&set);
        let [warning] = warnings.as_slice() else {
            panic!("{expression}: {warnings:?}");
        };
        assert_eq!(warning.code().code(), "01000");
        assert!(warning.message().contains("\"b\""), "{warning:?}");
        assert!(warning.detail().is_some() && warning.hint().is_some());
    }
    assert!(
        database
            .warnings("select repl_set_expression('item', 'b', 'a * 2')")
            .is_empty()
    );
}

#[test]
fn types_that_do_not_fit() {
    assert_all_refused(
        &["c", "a > 1", "'2024-01-01'::date", "array[a]", "row(a, c)"],
        "42804",
    );
    let database = database();
    let error = assert_expression_refused(&database, "c || 'x'", "42804");
    assert!(error.message().contains("integer"), "{error:?}");
    assert!(error.message().contains("text"), "{error:?}");
}

#[test]
fn literal_that_is_no_value_of_the_type() {
    assert_all_refused(&["'abc'"], "22P02");
}

#[test]
fn function_that_the_tables_owner_may_not_execute() {
    let database = Database::new();
    database.run(&format!(
        "create function secret(int) returns int language plpgsql immutable set search_path = pg_catalog as
             'begin return $1 * 2; end';
         revoke execute on function secret from public;
         create table item (id int primary key, a int, b int); insert into item values (1, 10);
         alter table item owner to {OWNER}"
    ));
    let call = "repl_set_expression('item', 'b', 'secret(a)')";
    let error = assert_refused(&database, call, "42501", "secret");
    assert!(error.message().contains("item"), "{error:?}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("GRANT EXECUTE"))
    );
    database.run(&format!(
        "grant execute on function secret to {OWNER}; select {call}"
    ));
    database.backfilled();
    assert_eq!(database.lines("select b from item"), ["20"]);
}

#[test]
fn sql_function_whose_body_needs_the_callers_search_path() {
    let database = database();
    database.run(
        "create function helper(int) returns int language sql immutable as 'select $1';
         create function needy(int) returns int language sql immutable as 'select helper($1) where $1 > 0';
         create function bound(int) returns int language sql immutable begin atomic select helper($1) where $1 > 0; end;
         create function set_up(int) returns int language sql immutable set search_path = public as 'select helper($1)'",
    );
    let call = "repl_set_expression('item', 'b', 'needy(a)')";
    let error = assert_refused(&database, call, "55000", "needy");
    assert!(error.message().contains("helper"), "{error:?}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("ALTER FUNCTION"))
    );
    for function in ["bound", "set_up"] {
        let set = format!("select repl_set_expression('item', 'b', '{function}(a)')");
        assert!(database.warnings(&set).is_empty(), "{function}");
    }
}

#[test]
fn function_in_another_language_without_a_search_path_is_warned_of() {
    let database = database();
    database.run("create function loose(int) returns int language plpgsql immutable as 'begin return $1; end'");
    let warnings = database.warnings("select repl_set_expression('item', 'b', 'loose(a)')");
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(warning.message().contains("loose"), "{warning:?}");
    assert!(
        warning
            .hint()
            .is_some_and(|hint| hint.contains("search_path"))
    );
}
