//! Errors quote connection strings; `repl_errors` shows no password of them.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, SUBSCRIPTION, ShutdownMode, wait_until};

use crate::captured_errors::{errors, wait_error};
use crate::database::lines;
use crate::loan::on_both_providers;
use crate::status::{self, Status, builder, with_item};
use crate::status_connection::subscribe_offline;

on_both_providers!(
    publisher_that_is_down,
    strings_that_lead_nowhere,
    string_that_was_mended,
    subscription_that_was_dropped,
);

/// In each password, and nowhere else. Without its first letter it is also found where that is percent-encoded.
const SECRET: &str = "topsecret7731";
const MARK: &str = "opsecret7731";

fn pair(provider: Provider) -> Pair {
    let pair = builder(provider)
        .subscriber_setting("max_worker_processes", "50")
        .subscriber_setting("log_min_error_statement", "panic")
        .start();
    pair.on_subscriber("create extension replwarden");
    if provider == Provider::Native {
        pair.on_publisher("create publication pub");
    }
    pair
}

/// Strings with a password that lead nowhere, each with the name of the subscription that has it.
fn strings(pair: &Pair) -> Vec<(&'static str, String)> {
    let database = pair.database();
    let place = format!("host=127.0.0.1 port=1 user=postgres dbname={database}");
    let server = pair.publisher().port();
    vec![
        ("plain", format!("{place} password={SECRET}")),
        ("quoted", format!("password='{SECRET}' {place}")),
        (
            "uri",
            format!(
                "postgresql://postgres:%74{}@127.0.0.1:1/{database}",
                &SECRET[1..]
            ),
        ),
        (
            "no_database",
            format!("host=127.0.0.1 port={server} user=postgres dbname=no password={SECRET}"),
        ),
        (
            "no_socket",
            format!("host=/nonexistent port=1 user=postgres password={SECRET}"),
        ),
        // libpq quotes a part of each of these in its message.
        ("unquoted", format!("{place} password=two {SECRET}")),
        ("unended", format!("{place} password='{SECRET}")),
        ("option", format!("{place} {SECRET}=password")),
        (
            "token",
            format!("postgresql://postgres:%zz{SECRET}@127.0.0.1:1/{database}"),
        ),
        (
            "bracket",
            format!("postgresql://postgres:{SECRET}@[127.0.0.1:1/{database}"),
        ),
        (
            "slash",
            format!("postgresql://postgres:{SECRET}/@127.0.0.1:1/{database}"),
        ),
        (
            "at_sign",
            format!("postgresql://postgres:@{SECRET}@127.0.0.1:1/{database}"),
        ),
        (
            "parameter",
            format!("postgresql://127.0.0.1:1/{database}?{SECRET}=password"),
        ),
        (
            "scheme",
            format!("mysql://postgres:{SECRET}@127.0.0.1:1/{database}"),
        ),
    ]
}

/// For a literal in SQL.
fn doubled(text: &str) -> String {
    text.replace('\'', "''")
}

/// An enabled subscription with a string that need not work, nor be one.
#[track_caller]
fn subscribe(pair: &Pair, name: &str, conninfo: &str) {
    let good = pair.publisher().conninfo(pair.database());
    match pair.provider() {
        Provider::Native => {
            subscribe_offline(pair, name, &good);
            // ALTER SUBSCRIPTION would refuse what libpq cannot read.
            pair.on_subscriber(&format!(
                "update pg_subscription set subconninfo = '{}' where subname = '{name}'",
                doubled(conninfo)
            ));
            pair.on_subscriber(&format!("alter subscription {name} enable"));
        }
        Provider::Pglogical => {
            // No two subscriptions to a provider may share a replication set.
            pair.on_publisher(&format!(
                "select pglogical.create_replication_set('{name}')"
            ));
            pair.on_subscriber(&format!(
                "select pglogical.create_subscription('{name}', provider_dsn := '{good}',
                    replication_sets := '{{{name}}}', synchronize_data := false)"
            ));
            // Each in a transaction of its own: some of them refuse company.
            for sql in [
                format!("select pglogical.alter_subscription_disable('{name}', immediate := true)"),
                format!(
                    "select pglogical.alter_node_add_interface('provider', '{name}', '{}')",
                    doubled(conninfo)
                ),
                format!("select pglogical.alter_subscription_interface('{name}', '{name}')"),
                format!("select pglogical.alter_subscription_enable('{name}', immediate := true)"),
            ] {
                pair.on_subscriber(&sql);
            }
        }
    }
}

/// All that there is of errors in a database, for whoever can see the most.
#[track_caller]
fn assert_secret(pair: &Pair) {
    let mut client = pair.subscriber().connect(pair.database());
    for sql in [
        "select to_jsonb(e)::text from repl_errors e",
        "select to_jsonb(e)::text from _repl_errors e",
        "select _repl_errors_in_memory()::text",
    ] {
        for line in lines(&mut client, sql) {
            assert!(!line.contains(MARK), "{sql}: {line}");
        }
    }
}

/// An error of connecting, not one of a worker that is told to end.
#[track_caller]
fn wait_failed(pair: &Pair, name: &str) {
    wait_error(
        Status::of(pair),
        &format!("an error of {name} in connecting"),
        |row| row.is("subscription", name) && !row.is("sqlstate", "57P01"),
    );
}

/// The worker of the database begins anew, and reads the same memory.
#[track_caller]
fn restart_worker(pair: &Pair) {
    pair.on_subscriber(
        "select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and backend_type like 'replwarden%'",
    );
    Status::of(pair).wait_looked();
}

#[track_caller]
fn wait_written(pair: &Pair, name: &str) {
    wait_until(
        "the worker has written the error down",
        DEFAULT_DEADLINE,
        || {
            pair.subscriber().query_one_value::<i64>(
                pair.database(),
                &format!(
                    "select count(*) from _repl_errors where error ->> 'subscription' = '{name}'"
                ),
            ) > 0
        },
    );
}

fn publisher_that_is_down(provider: Provider) {
    let pair = with_item(builder(provider).start());
    let conninfo = pair.publisher().conninfo(pair.database());
    let sql = pair
        .subscribe_sql(true)
        .replace(&conninfo, &format!("{conninfo} password={SECRET}"));
    pair.on_subscriber(&sql);
    pair.wait_copied();
    pair.publisher().stop(ShutdownMode::Fast);
    // This spares us the pause of pglogical.
    pair.disable();
    pair.enable();
    let row = wait_error(Status::of(&pair), "that nobody listens", |row| {
        row.is("subscription", SUBSCRIPTION) && row.text("message").contains("Connection refused")
    });
    assert!(row.is("worker_kind", "apply"), "{row:#?}");
    assert!(
        row.text("message").contains("could not connect to the"),
        "{row:#?}"
    );
    assert!(
        row.is_null("relation_name") && row.is_null("finish_lsn"),
        "{row:#?}"
    );
    if provider == Provider::Pglogical {
        let detail = row.text("detail");
        assert!(detail.starts_with("dsn was: host=127.0.0.1"), "{row:#?}");
        assert!(
            detail.contains("dbname=shop") && !detail.contains("password"),
            "{row:#?}"
        );
        // pglogical told all of it.
        assert!(pair.subscriber().log().contains(MARK));
    }
    assert_secret(&pair);
}

fn strings_that_lead_nowhere(provider: Provider) {
    let pair = pair(provider);
    let strings = strings(&pair);
    for (name, conninfo) in &strings {
        subscribe(&pair, name, conninfo);
    }
    for (name, _) in &strings {
        wait_failed(&pair, name);
    }
    let status = Status::of(&pair);
    status.wait_looked();
    assert_secret(&pair);
    assert!(pair.subscriber().log().contains(MARK));
    restart_worker(&pair);
    assert_secret(&pair);
    pair.subscriber().restart();
    assert_secret(&pair);
    status.wait_looked();
    assert_secret(&pair);
}

/// With the string goes what told a password from other words; the error stays.
fn string_that_was_mended(provider: Provider) {
    let pair = pair(provider);
    let status = Status::of(&pair);
    let names = ["unquoted", "plain"];
    for (name, conninfo) in strings(&pair) {
        if names.contains(&name) {
            subscribe(&pair, name, &conninfo);
        }
    }
    for name in names {
        wait_failed(&pair, name);
        wait_written(&pair, name);
    }
    let good = pair.publisher().conninfo(pair.database());
    for name in names {
        pair.on_subscriber(&match provider {
            Provider::Native => format!("alter subscription {name} connection '{good}'"),
            Provider::Pglogical => {
                format!("select pglogical.alter_subscription_interface('{name}', 'provider')")
            }
        });
    }
    assert_secret(&pair);
    status.wait_looked();
    assert_secret(&pair);
    restart_worker(&pair);
    assert_secret(&pair);
}

fn subscription_that_was_dropped(provider: Provider) {
    let pair = pair(provider);
    let status = Status::of(&pair);
    let strings = strings(&pair);
    let (name, conninfo) = strings
        .iter()
        .find(|(name, _)| *name == "unquoted")
        .expect("it is one of them");
    subscribe(&pair, name, conninfo);
    wait_failed(&pair, name);
    wait_written(&pair, name);
    pair.on_subscriber(&match provider {
        Provider::Native => format!(
            "alter subscription {name} disable; alter subscription {name} set (slot_name = none);
             drop subscription {name}"
        ),
        Provider::Pglogical => format!("select pglogical.drop_subscription('{name}')"),
    });
    assert_secret(&pair);
    status.wait_looked();
    assert!(!errors(status).is_empty());
    assert_secret(&pair);
    pair.on_subscriber("drop extension replwarden; create extension replwarden");
    status.wait_looked();
    assert_secret(&pair);
}

/// pglogical runs pg_dump and pg_restore with the whole string, and says so when they fail.
#[test]
fn structure_that_cannot_be_restored() {
    let pair = with_item(status::builder(Provider::Pglogical).start());
    let (port, database) = (pair.publisher().port(), pair.database());
    pair.on_subscriber(&format!(
        "select pglogical.create_subscription('{SUBSCRIPTION}', synchronize_structure := true,
            provider_dsn := 'postgresql://postgres:%74{}@127.0.0.1:{port}/{database}')",
        &SECRET[1..]
    ));
    let row = wait_error(Status::of(&pair), "that it cannot be restored", |row| {
        row.is("subscription", SUBSCRIPTION) && row.text("message").contains("pg_restore")
    });
    assert!(row.is("worker_kind", "apply"), "{row:#?}");
    assert_secret(&pair);
}
