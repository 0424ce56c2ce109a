//! What an installation lives through, with everything in place: dumps, a standby and its promotion, removal and return.

use std::fs;

use replwarden_tests::{DEFAULT_DEADLINE, ShutdownMode, wait_for_value, wait_until};

use crate::backfill_standby::standby_of;
use crate::backfill_state::Backfills;
use crate::database::{Database, lines};
use crate::dump_restore::run_on;
use crate::extension::LEFT;
use crate::roles::{MATRIX, conninfo, pair};
use crate::status::Status;

/// Rules, a backfill in the middle, a detached key, events, a subscription.
fn original() -> Database {
    let database = Database::slow();
    database.run(
        "create table item (id int primary key, a int, b int, pad text);
         alter table item alter pad set storage plain;
         insert into item select n, n, 0, repeat('x', 1000) from generate_series(1, 3000) n;
         create table part (id int primary key, a int, b int) partition by range (id);
         create table part_1 partition of part for values from (0) to (1000);
         insert into part values (1, 10, 0);
         create table detail (id int primary key, item int constraint \"it's\" references item);
         insert into detail values (1, 1);
         select repl_set_expression('part', 'b', '100 / a', 'null', false);
         insert into part values (2, 0, 7);
         select repl_detach_foreign_keys('item')",
    );
    database.run(&format!(
        "create subscription {} connection 'host=/nowhere' publication p with (connect = false, slot_name = none)",
        database.name()
    ));
    let backfills = database.backfills();
    let id = backfills.queue("select repl_set_expression('item', 'b', 'a * 2')");
    backfills.wait_in_the_middle(id);
    database
}

const STATE: [&str; 4] = [
    "select relation, column_name, expression, on_error from repl_generated_columns order by 1, 2",
    "select relation, columns from repl_backfills where state in ('queued', 'running')",
    "select relation, constraint_name, definition, referenced, state from repl_detached_foreign_keys",
    "select subname is not null, subenabled from pg_subscription where subdbid = (select oid from pg_database where datname = current_database())",
];

#[derive(Clone, Copy)]
enum Form {
    Plain,
    Custom,
    Directory,
    Tar,
    SchemaThenData,
}

#[test]
fn every_form_of_dump_takes_everything_along() {
    let database = original();
    let (cluster, name) = (database.cluster(), database.name());
    for form in [
        Form::Plain,
        Form::Custom,
        Form::Directory,
        Form::Tar,
        Form::SchemaThenData,
    ] {
        let restored = Database::without_extension();
        let to = restored.cluster();
        let put = |program: &str, arguments: &[&str], input: &[u8]| {
            run_on(to, restored.name(), program, arguments, input);
        };
        // Names of subscriptions are those of the cluster's databases; the other cluster has none of this one.
        match form {
            Form::Plain => {
                let dump = run_on(cluster, name, "pg_dump", &[], b"");
                put("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1"], &dump);
            }
            Form::Custom => {
                let dump = run_on(cluster, name, "pg_dump", &["-Fc"], b"");
                put("pg_restore", &["--exit-on-error"], &dump);
            }
            Form::Tar => {
                let dump = run_on(cluster, name, "pg_dump", &["-Ft"], b"");
                put("pg_restore", &["--exit-on-error", "-1"], &dump);
            }
            Form::Directory => {
                let directory = cluster
                    .data_directory()
                    .join(format!("dump-{}", restored.name()));
                let path = directory.to_str().expect("it is in UTF-8").to_owned();
                run_on(cluster, name, "pg_dump", &["-Fd", "-j2", "-f", &path], b"");
                put("pg_restore", &["--exit-on-error", "-j2", &path], b"");
                fs::remove_dir_all(&directory).expect("it can be removed");
            }
            Form::SchemaThenData => {
                let dump = run_on(cluster, name, "pg_dump", &["-Fc"], b"");
                put("pg_restore", &["--exit-on-error", "-s"], &dump);
                put(
                    "pg_restore",
                    &["--exit-on-error", "-a", "--disable-triggers"],
                    &dump,
                );
                // As it says itself.
                loop {
                    let remedies = restored.lines(
                        "select substring(last_error from 'ALTER TABLE.*') from repl_generated_columns where state = 'broken'",
                    );
                    match remedies.first() {
                        Some(remedy) => restored.run(remedy),
                        None => break,
                    }
                }
            }
        }
        for query in STATE {
            assert_eq!(restored.lines(query), database.lines(query), "{query}");
        }
        // What happened elsewhere has not happened here.
        assert_eq!(restored.lines("select count(*) from repl_events"), ["0"]);
        restored.run("select repl_backfill('item'); select repl_backfill('part')");
        restored.backfilled();
        for (table, wrong) in [("item", "b|3000|0|NULL"), ("part", "b|2|0|NULL")] {
            assert_eq!(
                restored.lines(&format!("select * from repl_verify('{table}')")),
                [wrong]
            );
        }
        restored.run("select repl_restore_foreign_keys()");
        wait_until("the key is valid", DEFAULT_DEADLINE, || {
            restored.lines("select convalidated from pg_constraint where conname = 'it''s'")
                == ["t"]
        });
        restored.run(&format!("drop subscription {name}"));
    }
    database.run(&format!("drop subscription {name}"));
}

#[test]
fn standby_answers_and_the_promoted_server_goes_on() {
    let pair = pair();
    let standby = standby_of(pair.subscriber());
    let mut client = standby.connect(pair.database());
    for (name, sql, _) in MATRIX {
        let sql = sql.replace("CONNINFO", &conninfo(&pair));
        let reads = name.starts_with("repl_verify")
            || name.starts_with("repl_preflight")
            || name.starts_with("repl_status")
            || name.starts_with("repl_snapshot")
            || name.starts_with("repl_diagnose")
            || name.starts_with("repl_cutover_check")
            || !name.contains('(');
        match (client.simple_query(&sql), reads) {
            (Ok(_), true) => {}
            (Ok(answer), false) => panic!("{sql}: {answer:?}"),
            (Err(error), reads) => {
                let answer = error
                    .as_db_error()
                    .unwrap_or_else(|| panic!("{sql}: {error}"));
                let code = answer.code().code();
                assert!(
                    !reads && ["25006", "55000"].contains(&code),
                    "{sql}: {answer:?}"
                );
            }
        }
    }
    let row = Status::on(&standby, pair.database()).subscription();
    assert!(row.is("cause", "standby"), "{row:?}");
    assert_eq!(
        standby.query_one_value::<i64>(
            "postgres",
            "select count(*) from pg_stat_activity where backend_type like 'replwarden%'"
        ),
        0
    );
    drop(client);

    pair.subscriber().stop(ShutdownMode::Fast);
    standby.execute("postgres", "select pg_promote()");
    let status = Status::on(&standby, pair.database());
    status.wait_subscription("streams from the promoted server", |row| {
        row.is("state", "streaming") && !row.is_null("lag_bytes")
    });
    // The rule refuses what it refused; the row that made it fail is gone.
    pair.on_publisher("delete from item where a = 0; insert into item (a) values (20)");
    wait_for_value(
        "rows are derived there",
        DEFAULT_DEADLINE,
        || {
            lines(
                &mut standby.connect(pair.database()),
                "select a, quotient from item where a = 20",
            )
        },
        |rows| rows == &["20|5".to_owned()],
    );
    let backfills = Backfills::of(&standby, pair.database());
    let id = backfills.queue("select repl_backfill('item')");
    backfills.wait_done_with(id);
    standby.execute(
        pair.database(),
        "delete from loose; select repl_restore_foreign_keys('loose')",
    );
    wait_until("the key is valid", DEFAULT_DEADLINE, || {
        standby.query_one_value(
            pair.database(),
            "select convalidated from pg_constraint where conname = 'loose_item'",
        )
    });
}

#[test]
fn dropped_with_everything_in_place_and_created_again() {
    let pair = pair();
    let mut client = pair.subscriber().connect(pair.database());
    lines(
        &mut client,
        "select * from repl_detach_foreign_keys('detail')",
    );
    lines(&mut client, "drop extension replwarden cascade");
    let left = lines(&mut client, LEFT);
    assert!(left.is_empty(), "{left:?}");
    // The key that was taken away is back for new rows, as the one that rows break is.
    assert_eq!(
        lines(
            &mut client,
            "select conrelid::regclass, convalidated from pg_constraint where contype = 'f' order by 1"
        ),
        ["detail|f", "loose|f"]
    );
    pair.on_publisher("insert into item (a) values (0), (30)");
    pair.wait_caught_up();
    assert_eq!(
        lines(
            &mut client,
            "select a, quotient from item where id > 2 order by id"
        ),
        ["0|NULL", "30|NULL"]
    );
    lines(&mut client, "create extension replwarden");
    for query in [
        "table repl_generated_columns",
        "table repl_backfills",
        "table repl_detached_foreign_keys",
    ] {
        assert!(lines(&mut client, query).is_empty(), "{query}");
    }
    lines(
        &mut client,
        "select repl_set_expression('item', 'quotient', '100 / a', 'null')",
    );
    Backfills::of(pair.subscriber(), pair.database()).wait_done();
    assert_eq!(
        lines(&mut client, "select a, quotient from item order by id"),
        ["10|10", "0|NULL", "0|NULL", "30|3"]
    );
    Status::of(&pair).wait_subscription("is watched again", |row| {
        row.is("state", "streaming") && !row.is_null("asked_at")
    });
    pair.on_publisher("insert into item (a) values (50)");
    pair.wait_caught_up();
    assert_eq!(
        lines(&mut client, "select quotient from item where a = 50"),
        ["2"]
    );
}

/// Its objects name each other by their schema; the schema itself may be renamed.
#[test]
fn other_schema_and_same_version() {
    let database = Database::with_item();
    database.run("create schema elsewhere");
    let error = database.error("alter extension replwarden set schema elsewhere");
    assert_eq!(error.code().code(), "0A000", "{error:?}");
    assert!(
        error.message().contains("does not support SET SCHEMA"),
        "{error:?}"
    );
    database.run("alter extension replwarden update");
    let error = database.error("alter extension replwarden update to '99.9'");
    assert_eq!(error.code().code(), "22023", "{error:?}");
    database.run("insert into item values (1, 10)");
    assert_eq!(database.lines("select b from item"), ["20"]);
}
