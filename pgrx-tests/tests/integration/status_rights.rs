//! The status is for pg_monitor and for superusers; to others each part of it says that they have no right to it.

use postgres::error::SqlState;
use replwarden_tests::{Pair, Provider, Publication, SUBSCRIPTION};

use crate::database::{OWNER, STRANGER, create_roles, lines};
use crate::loan::on_both_providers;
use crate::status::{self, Lock, Status, read};

on_both_providers!(
    monitors_see_what_superusers_see,
    monitors_see_what_happens_to_a_copy,
    others_see_nothing,
    functions_are_not_to_be_had_by_the_back_door,
    connection_strings_stay_secret,
    monitor_needs_no_more_than_usage_of_the_schema,
);

/// A member of pg_monitor without any other right.
const MONITOR: &str = "monitor";

const QUERIES: [&str; 6] = [
    "select * from repl_subscriptions order by provider, subscription",
    "select * from repl_tables order by provider, subscription, relation_name",
    "select * from repl_workers order by provider, subscription, kind, pid",
    "select * from repl_status()",
    "select * from repl_status('sub')",
    "select repl_snapshot()",
];

fn start(provider: Provider) -> Pair {
    let pair = status::builder(provider)
        .subscriber_setting("replwarden.stall_timeout", "1h")
        .start();
    create_roles(pair.subscriber());
    pair.subscriber().execute(
        "postgres",
        &format!("create role {MONITOR} login in role pg_monitor"),
    );
    pair
}

fn streaming(provider: Provider) -> Pair {
    let pair = status::streaming(start(provider));
    pair.on_subscriber(&format!("alter table item owner to {OWNER}"));
    pair
}

/// As `role`, in a session that it has from the start: `set role` keeps the rights of the session's user.
#[track_caller]
fn rows_as(pair: &Pair, role: &str, sql: &str) -> Vec<status::Row> {
    let mut client = pair.subscriber().connect(pair.database());
    lines(&mut client, &format!("set session authorization {role}"));
    read(&mut client, sql)
}

fn monitors_see_what_superusers_see(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    status.wait_subscription("knows the publisher", |row| {
        row.is("state", "streaming") && row.is("lag_bytes", "0")
    });
    for sql in QUERIES {
        let rows = rows_as(&pair, MONITOR, sql);
        assert!(!rows.is_empty(), "{sql}");
    }
    // Nothing is left out for want of a right.
    let columns = "provider, subscription, enabled, state, cause, since, publisher, slot_name, publications,
                   tables_total, tables_ready, worker_pid, received_lsn, publisher_lsn is null, lag_bytes is null,
                   last_message_at is null, apply_errors, sync_errors, remedy, slot_active, wal_status";
    for sql in [
        &format!("select {columns} from repl_subscriptions"),
        QUERIES[1],
        "select provider, subscription, kind, relation, pid, started_at from repl_workers order by 1, 2, 3, 5",
    ] {
        assert_eq!(rows_as(&pair, MONITOR, sql), status.rows(sql), "{sql}");
    }
}

fn monitors_see_what_happens_to_a_copy(provider: Provider) {
    let pair = status::with_item(start(provider));
    let lock = Lock::on_subscriber(&pair, "item");
    pair.subscribe();
    let status = Status::of(&pair);
    let row = status.wait_cause("copying", Some("lock_wait"));
    let monitors = rows_as(&pair, MONITOR, QUERIES[0]);
    for column in ["state", "cause", "remedy", "worker_pid"] {
        assert_eq!(monitors[0].get(column), row.get(column), "{monitors:?}");
    }
    let blocked_by = format!("{{{}}}", lock.pid);
    let blocked = rows_as(&pair, MONITOR, QUERIES[2]);
    assert!(
        blocked.iter().any(|row| row.is("blocked_by", &blocked_by)
            && row.is("activity", "waiting for a lock")
            && row.is("wait_event", "Lock/relation")),
        "{blocked:?}"
    );
    drop(lock);
    status.wait_cause("streaming", None);
}

fn others_see_nothing(provider: Provider) {
    let pair = streaming(provider);
    Status::of(&pair).wait_state("streaming");
    for role in [STRANGER, OWNER] {
        for sql in QUERIES {
            let error = pair.subscriber().expect_error(
                pair.database(),
                &format!("set session authorization {role}; {sql}"),
            );
            assert_eq!(
                error.code(),
                &SqlState::INSUFFICIENT_PRIVILEGE,
                "{role}: {sql}: {error:?}"
            );
            assert!(
                error.message().starts_with("permission denied for"),
                "{role}: {sql}: {error:?}"
            );
        }
    }
    // The words are for everybody.
    assert!(!rows_as(&pair, STRANGER, "select * from repl_sync_states").is_empty());
}

/// Of the functions that views call, the caller needs the right to execute them: whoever has it, can call them.
fn functions_are_not_to_be_had_by_the_back_door(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    let of_the_status = "
        select p.oid::regprocedure as function,
               has_function_privilege('stranger', p.oid, 'execute') as stranger,
               has_function_privilege('table_owner', p.oid, 'execute') as owner
          from pg_proc p
         where p.oid in
               (select d.refobjid from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass
                   and d.objid = r.oid and d.refclassid = 'pg_proc'::regclass
                 where r.ev_class in ('repl_subscriptions'::regclass, 'repl_tables'::regclass, 'repl_workers'::regclass))
           and p.pronamespace = 'public'::regnamespace
           and p.oid <> '_repl_sync_states()'::regprocedure";
    // The words of states are no secret.
    let functions = status.rows(of_the_status);
    assert!(!functions.is_empty(), "the views call functions");
    for row in &functions {
        assert!(row.is("stranger", "f") && row.is("owner", "f"), "{row:?}");
    }
    // Whatever else there is for ourselves alone tells a stranger nothing of a subscription, by its name or its publisher.
    let functions = status.rows(
        "select format('select * from %s(%s) t', oid::regproc,
                       (select string_agg(format('null::%s', format_type(t, null)), ', ') from unnest(proargtypes) t))
                   as call
           from pg_proc
          where pronamespace = 'public'::regnamespace and proname like '\\_repl\\_%'
            and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
            and not proargtypes::oid[] && array['record'::regtype::oid]
            and has_function_privilege('stranger', oid, 'execute')",
    );
    let port = pair.publisher().port().to_string();
    let mut client = pair.subscriber().connect(pair.database());
    lines(&mut client, "set session authorization stranger");
    for row in functions {
        let call = row.text("call");
        let Ok(answer) = client.simple_query(call) else {
            continue;
        };
        let told = format!("{answer:?}");
        assert!(!told.contains(&port), "{call}: {told}");
        assert!(
            !told.contains(&format!("\"{SUBSCRIPTION}\"")),
            "{call}: {told}"
        );
    }
    // Nor does a table of ours.
    let readable = status.rows(&format!(
        "select c.oid::regclass as relation
           from pg_class c join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid
          where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and c.relkind in ('r', 'v', 'm', 'S')
            and d.refobjid = (select oid from pg_extension where extname = 'replwarden')
            and c.relname not in ('repl_sync_states', 'repl_generated_columns', 'repl_backfills', 'repl_detached_foreign_keys')
            and has_any_column_privilege('{STRANGER}', c.oid, 'select')"
    ));
    assert!(readable.is_empty(), "{readable:?}");
}

fn connection_strings_stay_secret(provider: Provider) {
    let pair = start(provider);
    pair.on_both("create table item (id int primary key, note text)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    let conninfo = pair.publisher().conninfo(pair.database());
    let secret =
        format!("{conninfo} password=open-sesame options=-cgeqo=off application_name=hush-hush");
    pair.on_subscriber(&pair.subscribe_sql(true).replace(&conninfo, &secret));
    let status = Status::of(&pair);
    status.wait_subscription("knows the publisher", |row| {
        row.is("state", "streaming") && row.is("lag_bytes", "0")
    });
    for sql in QUERIES {
        let told = format!("{:?}", rows_as(&pair, MONITOR, sql));
        for word in ["sesame", "password", "geqo", "hush"] {
            assert!(!told.contains(word), "{word} in {sql}: {told}");
        }
    }
    let row = status.subscription();
    assert_eq!(row.text("publisher"), conninfo);
}

/// The extension may be in a schema of its own, which is in nobody's path.
fn monitor_needs_no_more_than_usage_of_the_schema(provider: Provider) {
    let pair = start(provider);
    pair.on_both("create table item (id int primary key, note text)");
    pair.on_subscriber("create schema private; create extension replwarden schema private");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    pair.wait_copied();
    pair.on_subscriber(&format!("grant usage on schema private to {MONITOR}"));
    for sql in QUERIES {
        let sql = sql.replace("repl_", "private.repl_");
        assert!(!rows_as(&pair, MONITOR, &sql).is_empty(), "{sql}");
    }
    let rows = rows_as(&pair, MONITOR, "select * from private.repl_subscriptions");
    assert_eq!(rows.len(), 1, "{rows:?}");
}
