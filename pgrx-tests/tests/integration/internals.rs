//! What the extension has for itself alone: whoever calls it with whatever, nothing breaks and nobody gets more rights.

use std::fmt::Write as _;

use postgres::{Client, Config, NoTls};
use replwarden_tests::{Cluster, Provider};

use crate::database::{Database, OWNER, STRANGER, lines};
use crate::status;

/// Values of a type, hardly any of which makes sense.
fn values(kind: &str) -> &'static [&'static str] {
    match kind {
        "bigint" => &[
            "null",
            "0",
            "1",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
        ],
        "oid" => &[
            "null",
            "0",
            "1",
            "1259",
            "4294967295",
            "(select max(oid) from pg_trigger)",
        ],
        "name" => &["null", "''", "'sub'", "repeat('ä', 31)", "e'a\\n\\'\";--'"],
        "text" => &[
            "null",
            "''",
            "'native'",
            "'pglogical'",
            "repeat('x', 100000)",
        ],
        "bytea" => &[
            "null",
            "''",
            "'\\xff00fe'",
            "convert_to('host=127.0.0.1 port=1', 'UTF8')",
            "'[]'",
            "'[1, null, {}]'",
            "convert_to('[\"pub\"]', 'UTF8')",
            "convert_to(repeat('[', 100000), 'UTF8')",
        ],
        "record" => &[
            "null",
            "row()",
            "row(1, null, 'x')",
            "null::item",
            "(select i from item i limit 1)",
            "(select c from pg_class c limit 1)",
            "(select h from \"half gone\" h limit 1)",
            "(select v from a_view v limit 1)",
            "row(1, 2)::pair",
            "(select p from part p limit 1)",
        ],
        other => panic!("no values of type {other} are known: write some down"),
    }
}

/// Each combination of values for the types of a function's parameters.
fn arguments(kinds: &[String]) -> Vec<String> {
    kinds.iter().fold(vec![String::new()], |calls, kind| {
        let mut longer = Vec::new();
        for call in &calls {
            for value in values(kind) {
                let comma = if call.is_empty() { "" } else { ", " };
                longer.push(format!("{call}{comma}{value}"));
            }
        }
        longer
    })
}

/// As a role that logs in: a session that was set to a role has more.
#[track_caller]
pub(crate) fn log_in(cluster: &Cluster, database: &str, role: &str) -> Client {
    Config::new()
        .host("127.0.0.1")
        .port(cluster.port())
        .user(role)
        .dbname(database)
        .connect(NoTls)
        .unwrap_or_else(|error| panic!("{role} cannot log in: {error}"))
}

/// Runs a statement and takes it back. An error has to be one that was thought of, and the session has to outlive it.
#[track_caller]
fn try_it(client: &mut Client, sql: &str) {
    client
        .batch_execute("begin; set local statement_timeout = '60s'")
        .expect("a transaction can begin");
    if let Err(error) = client.simple_query(sql) {
        let Some(answer) = error.as_db_error() else {
            panic!("{error}: {sql:.200}");
        };
        // That is what nobody calls them with.
        let is_no_json = answer.message().contains("cannot be read: ");
        assert!(
            is_no_json || !answer.code().code().starts_with("XX"),
            "{answer:?}: {sql:.200}"
        );
    }
    client
        .batch_execute("rollback")
        .unwrap_or_else(|error| panic!("{error} after {sql:.200}"));
}

const FUNCTIONS: &str = "
    select p.oid::regproc, (select string_agg(format_type(t, null), ',' order by place)
                              from unnest(p.proargtypes::oid[]) with ordinality a (t, place))
      from pg_proc p join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid
     where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
       and d.refobjid = (select oid from pg_extension where extname = 'replwarden') and p.proname like '\\_%'
     order by 1, 2";

#[test]
fn internal_functions_outlive_any_arguments() {
    // Preloaded, so that all of them have something to say.
    let pair = status::streaming(status::builder(Provider::Native).start());
    let (cluster, database) = (pair.subscriber(), pair.database());
    crate::database::create_roles(cluster);
    cluster.execute(
        database,
        &format!("grant all on schema public to {STRANGER}"),
    );
    cluster.execute(
        database,
        &format!(
            "set role {STRANGER};
             create table \"half gone\" (a int, gone int, b int primary key, c int);
             alter table \"half gone\" drop gone;
             insert into \"half gone\" values (1, 2, 3);
             create table part (id int primary key) partition by range (id);
             create table part_1 partition of part for values from (0) to (9);
             insert into part values (1);
             create view a_view as select 1 as a;
             create type pair as (a int, b int)"
        ),
    );
    cluster.execute(
        database,
        "grant select on item to public;
         select repl_set_expression('\"half gone\"', 'c', 'a * 2', backfill => false)",
    );
    let started: String =
        cluster.query_one_value(database, "select pg_postmaster_start_time()::text");
    let functions = cluster.rows_text(database, FUNCTIONS);
    assert!(functions.len() > 15, "{functions:?}");
    for role in [STRANGER, "postgres"] {
        let mut client = log_in(cluster, database, role);
        for row in &functions {
            let name = row[0].as_deref().expect("it has a name");
            let kinds: Vec<String> = row[1]
                .iter()
                .flat_map(|kinds| kinds.split(','))
                .map(str::to_owned)
                .collect();
            for arguments in arguments(&kinds) {
                try_it(&mut client, &format!("select {name}({arguments})"));
                try_it(&mut client, &format!("select * from {name}({arguments}) f"));
            }
        }
        assert_eq!(
            lines(
                &mut client,
                "select rolsuper, rolcreaterole from pg_roles where rolname = 'stranger'"
            ),
            ["f|f"]
        );
    }
    assert_sound(cluster);
    assert_eq!(
        cluster.query_one_value::<String>(database, "select pg_postmaster_start_time()::text"),
        started
    );
}

/// No process has crashed.
#[track_caller]
fn assert_sound(cluster: &Cluster) {
    let log = cluster.log();
    for words in ["terminated by signal", "PANIC", "TRAP:", "panicked at"] {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(words)).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Anybody may execute them, and so put them on a table of his.
#[test]
fn internal_trigger_functions_do_no_harm_in_any_trigger() {
    let database = Database::new();
    database.run_as(
        STRANGER,
        "create table item (id int primary key, a int, b int); insert into item values (1, 1, 1);
         create view seen as select * from item;
         create table part (id int, a int) partition by range (id);
         create table part_1 partition of part for values from (0) to (9)",
    );
    let functions = database.lines(
        "select p.oid::regproc from pg_proc p join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid
          where d.refobjid = (select oid from pg_extension where extname = 'replwarden') and d.deptype = 'e'
            and p.prorettype = 'trigger'::regtype order by 1",
    );
    assert!(functions.len() >= 4, "{functions:?}");
    let mut client = log_in(database.cluster(), database.name(), STRANGER);
    let mut triggers = Vec::new();
    for timing in ["before", "after"] {
        for level in ["row", "statement"] {
            for table in ["item", "part"] {
                triggers.push((timing, "insert or update or delete", level, table, ""));
            }
        }
        triggers.push((timing, "truncate", "statement", "item", ""));
        triggers.push((timing, "update of b", "row", "item", "when (new.a is null)"));
    }
    triggers.push((
        "instead of",
        "insert or update or delete",
        "row",
        "seen",
        "",
    ));
    for function in &functions {
        for arguments in ["", "'fail'", "'x', 'null', '1', ''"] {
            for (timing, events, level, table, condition) in &triggers {
                for name in [
                    "a",
                    "replwarden_b",
                    "zzz_replwarden",
                    "zzzz",
                    "aaa_replwarden",
                ] {
                    let trigger = format!(
                        "create trigger {name} {timing} {events} on {table} for each {level} {condition} execute function {function}({arguments})"
                    );
                    let mut acts = String::new();
                    for act in [
                        format!("insert into {table} values (2, 2)"),
                        format!("update {table} set a = 3"),
                        format!("update {table} set a = null"),
                        format!("delete from {table}"),
                        "truncate item".to_owned(),
                    ] {
                        // Each on its own: an error of one hides none of another.
                        let _ = write!(
                            acts,
                            "do $do$ begin {act}; exception when others then
                                 if sqlstate like 'XX%' then raise; end if; end $do$;"
                        );
                    }
                    try_it(&mut client, &format!("{trigger}; {acts}"));
                }
            }
            let constraint = format!(
                "create constraint trigger late after insert or update or delete on item deferrable initially deferred
                     for each row execute function {function}({arguments});
                 insert into item values (5, 5); update item set a = 6; delete from item; set constraints all immediate"
            );
            try_it(&mut client, &constraint);
        }
    }
    assert_sound(database.cluster());
}

/// Nothing of the tables behind the views can be written, or is there for the taking.
#[test]
fn internal_tables_are_closed() {
    let database = Database::new();
    database.run("create role watcher in role pg_monitor");
    let open = database.lines(&format!(
        "select c.oid::regclass, r.role, p.privilege
           from pg_class c
           join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
          cross join (values ('{STRANGER}'), ('{OWNER}'), ('watcher')) r (role)
          cross join unnest(string_to_array('insert,update,delete,truncate,references,trigger', ',')) p (privilege)
          where d.refobjid = (select oid from pg_extension where extname = 'replwarden')
            and case when c.relkind = 'S'
                     then has_sequence_privilege(r.role, c.oid, 'usage, select, update')
                     else has_table_privilege(r.role, c.oid, p.privilege) end
         union all
         select c.oid::regclass, r.role, 'select'
           from pg_class c
           join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
          cross join (values ('{STRANGER}'), ('watcher')) r (role)
          where d.refobjid = (select oid from pg_extension where extname = 'replwarden')
            and c.relkind = 'r' and has_any_column_privilege(r.role, c.oid, 'select')"
    ));
    database.run("drop role watcher");
    assert!(open.is_empty(), "{open:?}");
}
