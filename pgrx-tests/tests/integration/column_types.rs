//! Columns of all kinds of types: derived as GENERATED ALWAYS … STORED would derive them.

use postgres::error::SqlState;

use crate::database::Database;
use replwarden_tests::{DEFAULT_DEADLINE, wait_until};

/// Two tables with the columns `id` and `columns`, whose column `result` of type `result_type` has this expression:
/// GENERATED in `twin`, derived in `item`.
fn twins(database: &Database, columns: &str, result_type: &str, expression: &str) {
    database.run(&format!(
        "create table twin (id int primary key, {columns}, result {result_type} generated always as ({expression}) stored);
         create table item (id int primary key, {columns}, result {result_type});
         select repl_set_expression('item', 'result', $rule${expression}$rule$)"
    ));
}

/// Inserts the same rows into both tables, updates them to themselves, and compares.
#[track_caller]
fn assert_twins_agree(database: &Database, rows: &str) {
    for table in ["item", "twin"] {
        database.run(&format!(
            "insert into {table} values {rows}; update {table} set id = id + 1000 where id % 2 = 0"
        ));
    }
    assert_eq!(
        database.lines("select * from item order by id"),
        database.lines("select * from twin order by id")
    );
    assert_ne!(
        database.lines("select count(result) from item"),
        ["0"],
        "there has to be something to compare"
    );
}

#[track_caller]
fn derives_as_generated(columns: &str, result_type: &str, expression: &str, rows: &str) {
    let database = Database::new();
    twins(&database, columns, result_type, expression);
    assert_twins_agree(&database, rows);
}

#[test]
fn jsonb() {
    derives_as_generated(
        "doc jsonb",
        "jsonb",
        "(doc -> 'a') || jsonb_set('{}', '{n}', doc -> 'n')",
        r#"(1, '{"a": {"x": 1}, "n": "ö"}'), (2, '{"a": {}}'), (3, null)"#,
    );
}

#[test]
fn json_which_has_no_equality() {
    derives_as_generated(
        "doc json",
        "json",
        "doc -> 'a'",
        r#"(1, '{"a": {"x":   1, "x": 2}}'), (2, '{}'), (3, null)"#,
    );
}

#[test]
fn arrays() {
    derives_as_generated(
        "list int[], word text",
        "text[]",
        "array[word, list[2]::text] || list::text[]",
        "(1, '{1,2,3}', 'a'), (2, '[5:6]={7,8}', null), (3, null, 'b'), (4, '{}', '')",
    );
}

/// A PL/pgSQL function returns an array in a form that only exists in memory.
#[test]
fn expanded_arrays() {
    let database = Database::new();
    database.run(
        "create function doubled(list int[]) returns int[] language plpgsql immutable set search_path = pg_catalog as $$
         begin
             for n in 1 .. array_length(list, 1) loop list[n] := list[n] * 2; end loop;
             return list;
         end $$",
    );
    twins(&database, "list int[]", "int[]", "doubled(list)");
    assert_twins_agree(
        &database,
        "(1, '{1,2,3}'), (2, (select array_agg(n) from generate_series(1, 5000) n))",
    );
}

#[test]
fn enums() {
    let database = Database::new();
    database.run("create type mood as enum ('sad', 'ok', 'glad')");
    twins(
        &database,
        "today mood, tired bool",
        "mood",
        "case when tired then 'sad' when today = 'ok' then 'glad' else today end",
    );
    assert_twins_agree(
        &database,
        "(1, 'ok', false), (2, 'ok', true), (3, 'sad', null), (4, null, null)",
    );
}

#[test]
fn field_of_a_composite() {
    let database = Database::new();
    database.run("create type pair as (x int, y text)");
    twins(&database, "xy pair", "text", "(xy).y || (xy).x");
    assert_twins_agree(
        &database,
        "(1, row(1, 'a')), (2, row(null, 'b')), (3, null)",
    );
    database
        .run("alter type pair add attribute z int; insert into item values (5, row(2, 'c', 3))");
    assert_eq!(
        database.lines("select result from item where id = 5"),
        ["c2"]
    );
}

#[test]
fn composite_result() {
    let database = Database::new();
    database.run("create type pair as (x int, y text)");
    twins(
        &database,
        "a int, c text",
        "pair",
        "case when a > 0 then row(a, c)::pair end",
    );
    assert_twins_agree(
        &database,
        "(1, 1, repeat('x', 5000)), (2, 0, 'b'), (3, 3, null)",
    );
}

#[test]
fn domain_whose_check_holds() {
    let database = Database::new();
    database.run("create domain short as text check (length(value) < 5)");
    twins(&database, "a int", "short", "a::text");
    assert_twins_agree(&database, "(1, 1), (2, null), (3, 9999)");
}

#[test]
fn domain_whose_check_fails_is_the_statements_error() {
    let database = Database::new();
    database.run("create domain short as text check (length(value) < 5)");
    twins(&database, "a int", "short", "a::text");
    for table in ["twin", "item"] {
        let error = database.error(&format!("insert into {table} values (1, 10000)"));
        assert_eq!(error.code(), &SqlState::CHECK_VIOLATION);
        assert_eq!(
            error.message(),
            "value for domain short violates check constraint \"short_check\""
        );
    }
}

#[test]
fn domain_that_is_not_null() {
    let database = Database::new();
    database.run("create domain needed as int not null");
    // The server checks the type of what an INSERT sends, or leaves out, before any trigger.
    database.run(
        "create table item (id int primary key, a int, result needed);
         select repl_set_expression('item', 'result', 'a * 2');
         insert into item values (1, 10, 99)",
    );
    let error = database.error("insert into item values (2, null, 99)");
    assert_eq!(error.code(), &SqlState::NOT_NULL_VIOLATION);
    assert_eq!(database.lines("select result from item"), ["20"]);
}

#[test]
fn varchar_that_is_too_long_is_an_error() {
    let database = Database::new();
    twins(&database, "c text", "varchar(3)", "c || 'x'");
    assert_twins_agree(&database, "(1, 'ab'), (2, null)");
    for table in ["twin", "item"] {
        let error = database.error(&format!("insert into {table} values (5, 'abc')"));
        assert_eq!(error.code().code(), "22001");
        assert_eq!(
            error.message(),
            "value too long for type character varying(3)"
        );
    }
}

#[test]
fn blanks_beyond_the_length_are_cut_as_an_insert_does() {
    derives_as_generated(
        "c text",
        "varchar(3)",
        "c || '   '",
        "(1, 'ab'), (2, ''), (3, null)",
    );
    derives_as_generated(
        "c text",
        "char(5)",
        "c",
        "(1, 'ab'), (2, ''), (3, 'abcde  ')",
    );
}

#[test]
fn numeric_is_rounded_as_an_insert_does() {
    let database = Database::new();
    twins(&database, "a numeric", "numeric(6, 2)", "a / 3");
    assert_twins_agree(&database, "(1, 10), (2, 0.0149999), (3, -2.0), (4, 'NaN')");
    for table in ["twin", "item"] {
        let error = database.error(&format!("insert into {table} values (5, 100000)"));
        assert_eq!(error.code(), &SqlState::NUMERIC_VALUE_OUT_OF_RANGE);
    }
}

#[test]
fn assignment_casts() {
    derives_as_generated("a numeric", "int", "a", "(1, 1.5), (2, 2.5), (3, null)");
    derives_as_generated(
        "a float8",
        "smallint",
        "a * 2",
        "(1, 1.25), (2, -3), (3, null)",
    );
    derives_as_generated("a int", "text", "a", "(1, 5), (2, null)");
}

#[test]
fn untyped_literals() {
    derives_as_generated("a int", "int", "'12'", "(1, 5)");
    derives_as_generated("a int", "date", "'2024-02-29'", "(1, 5)");
}

#[test]
fn fixed_length_types() {
    derives_as_generated(
        "a uuid, c text",
        "uuid",
        "coalesce(a, md5(c)::uuid)",
        "(1, null, 'x'), (2, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'y'), (3, null, null)",
    );
    derives_as_generated("c text", "name", "c", "(1, 'x'), (2, repeat('long ', 20))");
    derives_as_generated(
        "c text",
        "\"char\"",
        "c::\"char\"",
        "(1, 'x'), (2, 'é'), (3, '')",
    );
    derives_as_generated("a int", "bool", "a > 5", "(1, 5), (2, 6), (3, null)");
    derives_as_generated(
        "a float8",
        "float8",
        "-a",
        "(1, 0), (2, 'nan'), (3, 'infinity'), (4, 1e-300)",
    );
    derives_as_generated(
        "a interval",
        "interval",
        "a * 1.5",
        "(1, '1 mon 1 day'), (2, null)",
    );
}

#[test]
fn times_and_ranges() {
    derives_as_generated(
        "a timestamptz, z timestamp",
        "tstzrange",
        "tstzrange(a, z at time zone 'Europe/Berlin')",
        "(1, '2024-01-01 00:00+00', '2024-01-02'), (2, null, '2024-01-02')",
    );
    derives_as_generated(
        "a int4range",
        "int4multirange",
        "int4multirange(a)",
        "(1, '[1,5)'), (2, 'empty'), (3, null)",
    );
}

#[test]
fn collations() {
    derives_as_generated(
        r#"c text collate "und-x-icu", d text collate "C""#,
        r#"text collate "C""#,
        r#"case when c < 'Z' then upper(c) else lower(c collate "C") end || d"#,
        "(1, 'ä', 'x'), (2, 'zÄ', 'Y'), (3, null, 'z')",
    );
}

/// Operators are looked up when the rule is set; another meaning of the same words later would give other values.
/// `IS DISTINCT FROM`, `NULLIF` and the short CASE are the ones that SQL text cannot qualify with a schema.
#[test]
fn operators_of_an_extension_type_keep_their_meaning() {
    let database = Database::new();
    database.run("create extension citext");
    let mut wrong = Vec::new();
    for (number, expression) in [
        "(code = 'ABC')::text",
        "(code in ('ABC', 'X'))::text",
        "(code between 'ABB' and 'ABD')::text",
        "(code ~ 'ABC')::text",
        "greatest(code, 'ABC')::text",
        "(row(code, 1) = row('ABC'::citext, 1))::text",
        "(row(code, 1) < row('abd'::citext, 1))::text",
        "(code is distinct from 'ABC')::text",
        "(code is not distinct from 'ABC')::text",
        "(row(code, 1) is distinct from row('ABC'::citext, 1))::text",
        "nullif(code, 'ABC')::text",
        "case code when 'ABC' then 'hit' else 'miss' end",
        "(code like 'AB%')::text",
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("item_{number}");
        database.run(&format!(
            "create table {table} (id int primary key, code citext, result text)"
        ));
        let set =
            format!("select repl_set_expression('{table}', 'result', $rule${expression}$rule$)");
        // To refuse it, and say so, is right as well.
        if database.connect().batch_execute(&set).is_err() {
            let error = database.error(&set);
            if !error.message().contains("\"result\"") || error.hint().is_none() {
                wrong.push(format!("{expression}: {error}"));
            }
            continue;
        }
        database.run(&format!(
            "insert into {table} values (1, 'abc'), (2, 'ABC'), (3, 'abcd'), (4, null)"
        ));
        let derived = database.lines(&format!("select id, result from {table} order by id"));
        let meant = database.lines(&format!("select id, {expression} from {table} order by id"));
        if derived != meant {
            wrong.push(format!("{expression}: {derived:?} instead of {meant:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// 20 kB that do not compress, so that they are stored outside of the row.
const LARGE: &str = "(select string_agg(md5(random()::text), '') from generate_series(1, 640))";

#[test]
fn large_source_that_an_update_leaves_alone_is_read() {
    let database = Database::new();
    database.run(&format!(
        "create table item (id int primary key, a int, c text, b text);
         select repl_set_expression('item', 'b', 'md5(c) || a');
         insert into item values (1, 1, {LARGE}), (2, 2, 'small');
         update item set a = a + 10"
    ));
    assert_eq!(
        database.lines("select id, b = md5(c) || a, length(c) from item order by id"),
        ["1|t|20480", "2|t|5"]
    );
}

#[test]
fn large_derived_values_are_stored_outside_of_the_row() {
    let database = Database::new();
    database.run(&format!(
        "create table item (id int primary key, a int, c text, b text, copy text);
         select repl_set_expression('item', 'b', 'reverse(c)');
         select repl_set_expression('item', 'copy', 'c');
         insert into item values (1, 1, {LARGE}, 'x', 'x')"
    ));
    const GOOD: &str =
        "select b = reverse(c), copy = c, length(copy), pg_column_size(b) > 20000 from item";
    assert_eq!(database.lines(GOOD), ["t|t|20480|t"]);
    database.run("update item set a = 2");
    assert_eq!(database.lines(GOOD), ["t|t|20480|t"]);
    database.run(&format!("update item set c = {LARGE}"));
    assert_eq!(database.lines(GOOD), ["t|t|20480|t"]);
    database.run("update item set c = 'small'");
    assert_eq!(database.lines("select b, copy from item"), ["llams|small"]);
    // Old versions stay while any transaction, of autovacuum for one, might still see them.
    wait_until("no value is left behind", DEFAULT_DEADLINE, || {
        database.run("vacuum full item");
        database.lines(
            "select pg_relation_size(reltoastrelid) from pg_class where oid = 'item'::regclass",
        ) == ["0"]
    });
}

#[test]
fn large_values_travel_between_tables_and_partitions() {
    let database = Database::new();
    database.run(&format!(
        "create table item (id int primary key, c text, b text) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         create table item_2 partition of item for values from (10) to (20);
         select repl_set_expression('item', 'b', 'c');
         create table plain (id int primary key, c text);
         insert into plain values (1, {LARGE});
         insert into item select * from plain;
         update item set id = 11; drop table item_1, plain"
    ));
    assert_eq!(
        database.lines("select tableoid::regclass, b = c, length(b) from item"),
        ["item_2|t|20480"]
    );
}
