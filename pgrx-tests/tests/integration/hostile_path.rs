//! Where every operator and function of the server has a namesake that comes first, and the extension lies in a schema of an
//! odd name.

use crate::database::{Database, lines};
use crate::roles::{MATRIX, conninfo, pair};

/// Namesakes, for the usual types, of the server's operators and functions: they say that they were called.
const PLANTED: &str = r#"
    create schema evil;
    do $plant$
    declare
        one record;
        types oid[] := array['text', 'int4', 'int8', 'int2', 'oid', 'name', 'bool', 'float8', 'numeric', 'jsonb', 'pg_lsn',
            'timestamptz', '"char"', 'regclass', 'interval', 'bytea', 'text[]', 'name[]', 'oid[]', 'regproc', 'xid8', 'json']::regtype[]::oid[];
    begin
        for one in select o.oid, o.oprname, o.oprleft::regtype as l, o.oprright::regtype as r, o.oprresult::regtype as result
                     from pg_operator o
                    where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprleft = any (types) and o.oprright = any (types)
        loop
            begin
                execute format('create function evil.operator_%s(%s, %s) returns %s language plpgsql immutable as %L',
                               one.oid, one.l, one.r, one.result, 'begin raise exception ''planted''; end');
                execute format('create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.operator_%s)',
                               one.oprname, one.l, one.r, one.oid);
            exception when others then null;
            end;
        end loop;
        for one in select p.oid, p.proname, pg_get_function_identity_arguments(p.oid) as arguments,
                          pg_get_function_result(p.oid) as result
                     from pg_proc p
                    where p.pronamespace = 'pg_catalog'::regnamespace and p.pronargs <= 4 and p.prokind in ('f', 'a')
                      and p.proargtypes::oid[] <@ types
        loop
            begin
                execute format('create function evil.%I(%s) returns %s language plpgsql immutable as %L',
                               one.proname, one.arguments, one.result, 'begin raise exception ''planted''; end');
            exception when others then null;
            end;
        end loop;
        -- Tables, too.
        for one in select c.relname from pg_class c where c.relnamespace = 'pg_catalog'::regnamespace and c.relkind in ('r', 'v')
        loop
            execute format('create table evil.%I (planted int)', one.relname);
        end loop;
    end $plant$;
    create domain evil.text as pg_catalog.text check (false);
    create domain evil.int4 as pg_catalog.int4 check (false);
    create domain evil.jsonb as pg_catalog.jsonb check (false);
    create domain evil.regclass as pg_catalog.regclass check (false);
    create table evil._repl_events (planted int);
    create table evil._repl_errors (planted int);
    create table evil._repl_backfills (planted int);
    create table evil._repl_foreign_keys (planted int);
    create schema replwarden; create schema pglogical;
    create table pglogical.subscription (planted int);
"#;

#[test]
fn namesakes_of_what_the_server_has_are_not_used() {
    let pair = pair();
    pair.on_subscriber(PLANTED);
    let planted: i64 = pair.subscriber().query_one_value(
        pair.database(),
        "select count(*) from pg_proc where pronamespace = 'evil'::regnamespace",
    );
    assert!(planted > 800, "{planted}");
    let mut client = pair.subscriber().connect(pair.database());
    // It would find them.
    client
        .batch_execute("set search_path = evil, public, pg_catalog")
        .expect("it can be set");
    let error = client
        .simple_query("select 'a'::pg_catalog.text || 'b'::pg_catalog.text")
        .expect_err("the namesake is found");
    assert!(format!("{error:?}").contains("planted"), "{error:?}");
    let views = MATRIX.iter().filter(|(name, ..)| !name.contains('('));
    for (view, ..) in views {
        if let Err(error) = client.simple_query(&format!("select * from {view}")) {
            panic!("{view}: {error:?}");
        }
    }
    for (_, sql, _) in MATRIX {
        // What a user writes means what it means to him.
        let sql = sql
            .replace("CONNINFO", &conninfo(&pair))
            .replace("a * 2", "a operator(pg_catalog.*) 2")
            .replace("min(id)", "pg_catalog.min(id)")
            .replace(" like ", " operator(pg_catalog.~~) ")
            .replace(" not operator", " operator")
            .replace("'<%'", "'%'");
        client.batch_execute("begin").expect("it can begin");
        if let Err(error) = client.simple_query(&sql) {
            panic!("{sql}: {error:?}");
        }
        client.batch_execute("rollback").expect("it can end");
    }
    // Nor by the worker, which asks on and on.
    let log = pair.subscriber().log();
    let log: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("replwarden") && line.contains("planted"))
        .collect();
    assert!(log.is_empty(), "{log:?}");
}

#[test]
fn extension_in_a_schema_of_an_odd_name() {
    let database = Database::without_extension();
    let schema = "\"it's; -- \"\" \\ \u{e4}\n$x$\"";
    // The server creates no extension in a schema of such a name.
    database.run(&format!(
        "create schema odd; create extension replwarden schema odd; alter schema odd rename to {schema};
         create table target (id int primary key); insert into target values (1);
         create table item (id int primary key, a int, b int, n int references target,
                            g int generated always as (a + 1) stored);
         insert into item values (1, 10, 0, 1)"
    ));
    let mut client = database.connect();
    let mut call = |sql: &str| {
        lines(
            &mut client,
            &sql.replace("repl_", &format!("{schema}.repl_")),
        )
    };
    let id = call("select repl_set_expression('item', 'b', 'a * 2', 'null')").remove(0);
    assert_eq!(call("select repl_adopt_generated('item')"), ["g"]);
    database.cluster().execute(
        database.name(),
        &format!(
            "do $$ begin
                 while exists (select from {schema}.repl_backfills where state in ('queued', 'running')) loop
                     perform pg_sleep(0.01);
                 end loop; end $$"
        ),
    );
    assert_eq!(
        call(&format!(
            "select state, rows_changed from repl_backfills where id = {id}"
        )),
        ["done|1"]
    );
    assert_eq!(
        call("select column_name, rows_wrong from repl_verify('item')"),
        ["b|0", "g|0"]
    );
    assert_eq!(
        call("select column_name, state from repl_generated_columns order by 1"),
        ["b|live", "g|live"]
    );
    call("select repl_backfill('item')");
    call("select repl_cancel_backfill(1)");
    call("select repl_detach_foreign_keys('item')");
    assert_eq!(
        call("select state from repl_detached_foreign_keys"),
        ["detached"]
    );
    call("select repl_restore_foreign_keys()");
    for sql in [
        "select * from repl_subscriptions",
        "select * from repl_tables",
        "select * from repl_workers",
        "select * from repl_sync_states",
        "select * from repl_errors",
        "select * from repl_events",
        "select * from repl_diagnose()",
        "select repl_status()",
        "select repl_snapshot()",
        "select * from repl_preflight('host=/nowhere', '{p}')",
    ] {
        call(sql);
    }
    for (sql, code) in [
        ("select repl_enable('no')", "42704"),
        ("select repl_disable('no')", "42704"),
        ("select repl_restart_worker('no')", "42704"),
        ("select * from repl_preflight('no')", "42704"),
        ("select * from repl_cutover_check('no')", "42704"),
        ("select * from repl_sync_sequences('no')", "42704"),
        ("select repl_resync_table('item')", "55000"),
    ] {
        let error = database.error(&sql.replace("repl_", &format!("{schema}.repl_")));
        assert_eq!(error.code().code(), code, "{sql}: {error:?}");
    }
    call("select repl_drop_expression('item', 'b')");
    database.run("drop table item; drop extension replwarden");
    database.run(&format!("drop schema {schema}"));
}
