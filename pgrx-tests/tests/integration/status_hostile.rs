//! The status among people who mean harm, and things that are not as they should be.

use replwarden_tests::{DEFAULT_DEADLINE, Provider, wait_until};

use crate::backfill_standby::standby_of;
use crate::database::Database;
use crate::status::{self, Lock, Status};

const EVERYTHING: [&str; 6] = [
    "select * from repl_subscriptions",
    "select * from repl_tables",
    "select * from repl_workers",
    "select repl_status()",
    "select repl_snapshot()",
    "select * from repl_generated_columns",
];

/// A subscription with a table, which is never enabled.
fn subscribe(database: &Database, name: &str) {
    database.run(&format!(
        "create subscription {name} connection 'host=/nonexistent' publication pub
         with (connect = false, slot_name = none)"
    ));
    database.run(
        "set allow_system_table_mods = on;
         insert into pg_subscription_rel (srsubid, srrelid, srsubstate)
         select s.oid, 'item'::regclass, 'i' from pg_subscription s
          where s.subdbid = (select oid from pg_database where datname = current_database())",
    );
}

/// Of the types for which the views would need a cast, were they careless.
const PLANTED: &str = "
    create function evil(text, bigint) returns text language plpgsql as $$ begin raise exception 'planted'; end $$;
    create function evil(text, oid) returns text language plpgsql as $$ begin raise exception 'planted'; end $$;
    create function evil(text, name) returns text language plpgsql as $$ begin raise exception 'planted'; end $$;
    create function evil(pg_lsn, bigint) returns pg_lsn language plpgsql as $$ begin raise exception 'planted'; end $$;
    create function evil(bigint, numeric) returns numeric language plpgsql as $$ begin raise exception 'planted'; end $$;
    create function evil(bigint, float8) returns float8 language plpgsql as $$ begin raise exception 'planted'; end $$;
    create function evil(int, float8) returns float8 language plpgsql as $$ begin raise exception 'planted'; end $$;
    create function evil(int, numeric) returns numeric language plpgsql as $$ begin raise exception 'planted'; end $$;
    create operator public.|| (leftarg = text, rightarg = bigint, function = evil);
    create operator public.|| (leftarg = text, rightarg = oid, function = evil);
    create operator public.|| (leftarg = text, rightarg = name, function = evil);
    create operator public.+ (leftarg = pg_lsn, rightarg = bigint, function = evil);
    create operator public./ (leftarg = bigint, rightarg = numeric, function = evil);
    create operator public.* (leftarg = bigint, rightarg = float8, function = evil);
    create operator public./ (leftarg = bigint, rightarg = float8, function = evil);
    create operator public.* (leftarg = int, rightarg = float8, function = evil);
    create operator public.* (leftarg = int, rightarg = numeric, function = evil);";

#[test]
fn operators_planted_before_the_extension_came_do_not_run() {
    let database = Database::without_extension();
    database.run("grant all on schema public to public");
    database.run_as("stranger", PLANTED);
    database.run(
        "create extension replwarden schema public;
         create table item (id int primary key, a int, b int);
         insert into item values (1, 1, 0);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database.backfilled();
    // The owner may see errors, so all of the views' columns are computed.
    subscribe(&database, "planted");
    for query in EVERYTHING {
        database.run(query);
    }
    database.run("select * from repl_backfills");
    database.run("drop subscription planted");
}

#[test]
fn name_that_ends_a_comment_brings_no_sql_into_a_remedy() {
    let database = Database::new();
    database.run("create table item (id int primary key, a int, b int)");
    let name = "\"odd\ndrop table item; --\"";
    subscribe(&database, name);
    for query in EVERYTHING {
        for line in database.lines(query) {
            // Where the name itself is shown, it is one value among others.
            let starts = line
                .split('\n')
                .any(|part| part.trim_start().starts_with("drop table"));
            let is_remedy = query.contains("repl_status");
            assert!(!(starts && is_remedy), "{query}: {line}");
        }
    }
    let remedy = database
        .lines("select remedy from repl_subscriptions")
        .remove(0);
    assert!(!remedy.contains("drop table"), "{remedy}");
    database.run(&format!("drop subscription {name}"));
}

#[test]
fn subscription_without_replication_sets_is_shown() {
    let pair = status::streaming(status::builder(Provider::Pglogical).start());
    for set in ["default", "default_insert_only", "ddl_sql"] {
        pair.on_subscriber(&format!(
            "select pglogical.alter_subscription_remove_replication_set('sub', s)
               from unnest(array['{set}']) s
              where exists (select from pglogical.subscription where s = any(sub_replication_sets))"
        ));
    }
    let status = Status::of(&pair);
    let row = status.wait_subscription("has no set left", |row| row.is("publications", "{}"));
    assert!(row.is("enabled", "t"), "{row:?}");
    status.wait_looked();
    assert!(!status.report().is_empty());
}

#[test]
fn locked_catalog_holds_up_no_change_of_another_database() {
    let pair = status::streaming(status::builder(Provider::Native).start());
    let subscriber = pair.subscriber();
    subscriber.execute("postgres", "create database other");
    subscriber.execute("other", "create extension replwarden");
    Status::on(subscriber, "other").wait_looked();
    let lock = Lock::take(
        subscriber,
        pair.database(),
        "pg_subscription",
        "access exclusive",
    );
    wait_until(
        "the worker of the other database waits",
        DEFAULT_DEADLINE,
        || {
            subscriber.query_one_value::<bool>(
            "postgres",
            "select exists (select from pg_stat_activity
                             where datname = 'other' and backend_type = 'replwarden worker' and wait_event_type = 'Lock')",
        )
        },
    );
    // It waits 5 s for the sessions of the database to go, and then gives up.
    subscriber.execute("postgres", "alter database other rename to another");
    drop(lock);
    Status::of(&pair).wait_looked();
    assert!(!subscriber.log().contains("timed out"));
}

#[test]
fn publisher_that_is_behind_the_subscriber_is_not_caught_up_with() {
    let pair = status::streaming(status::builder(Provider::Native).start());
    let status = Status::of(&pair);
    pair.disable();
    status.wait_state("disabled");
    wait_until("the origin is free", DEFAULT_DEADLINE, || {
        pair.subscriber().query_one_value::<bool>(
            pair.database(),
            "select count(*) = 0 from pg_stat_subscription where subname = 'sub' and pid is not null",
        )
    });
    pair.on_subscriber(
        "select pg_replication_origin_advance('pg_' || oid, 'FF/0') from pg_subscription where subname = 'sub'",
    );
    let row = status.wait_subscription("is said to be ahead", |row| {
        row.get("warning")
            .is_some_and(|text| text.contains("beyond the end"))
    });
    assert!(row.is_null("lag") && row.is_null("lag_bytes"), "{row:?}");
}

#[test]
fn what_the_publisher_publishes_is_not_told_when_it_is_not_asked() {
    let pair = status::streaming(status::builder(Provider::Native).start());
    let status = Status::of(&pair);
    pair.on_publisher("create table later (id int primary key)");
    pair.on_publisher("alter publication pub add table later");
    status.wait_table_state("public.later", "missing");
    status.wait_subscription("warns", |row| !row.is_null("warning"));
    pair.subscriber().set("replwarden.probe_publisher", "off");
    status.wait_subscription("does not warn", |row| row.is_null("warning"));
    assert!(
        !status.tables().iter().any(|row| row.is("state", "missing")),
        "{:?}",
        status.tables()
    );
}

#[test]
fn standby_is_not_said_to_lack_its_workers() {
    let pair = status::streaming(status::builder(Provider::Native).start());
    let standby = standby_of(pair.subscriber());
    let there = Status::on(&standby, pair.database());
    let row = there.wait_state("down");
    assert!(
        row.is("cause", "standby") && row.is_null("remedy"),
        "{row:?}"
    );
    let report = there.report().join("\n");
    assert!(
        report.contains("standby") && !report.contains("max_worker_processes"),
        "{report}"
    );
}
