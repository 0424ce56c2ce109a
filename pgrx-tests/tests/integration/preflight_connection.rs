//! Why there is no connection with the publisher: each reason is told apart, with what to do about it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use replwarden_tests::{Cluster, DEFAULT_DEADLINE, Pair, PairBuilder, wait_until};

use crate::diagnose::builder;
use crate::preflight_check::{Preflight, paste, row_of};
use crate::status::{self, Row};

const ROLE: &str = "car\"rier";
const IDENTIFIER: &str = "\"car\"\"rier\"";
const PASSWORD: &str = "right-8842";
const WRONG: &str = "Zwr0ng-1177";

/// A publisher with a role of its own.
#[track_caller]
fn pair() -> Pair {
    start(builder())
}

#[track_caller]
fn start(builder: PairBuilder) -> Pair {
    let pair = builder.start();
    let pair = status::with_item(pair);
    pair.publisher().execute(
        "postgres",
        &format!(
            "set password_encryption = 'scram-sha-256';
             create role {IDENTIFIER} login superuser password '{PASSWORD}'"
        ),
    );
    pair
}

fn hba(cluster: &Cluster) -> String {
    let path = cluster.data_directory().join("pg_hba.conf");
    fs::read_to_string(path).expect("pg_hba.conf can be read")
}

#[track_caller]
fn set_hba(cluster: &Cluster, text: &str) {
    let path = cluster.data_directory().join("pg_hba.conf");
    fs::write(path, text).expect("pg_hba.conf can be written");
    cluster.reload();
}

/// Of the pair's publisher, with some parts in another way.
fn conninfo(pair: &Pair, more: &str) -> String {
    format!(
        "host=127.0.0.1 port={} user='{ROLE}' dbname={} {more}",
        pair.publisher().port(),
        pair.database()
    )
}

/// The error of the check, which is the worst and the first one, with nothing of what it needs passing for fine.
#[track_caller]
fn failed(pair: &Pair, conninfo: &str, said: &[&str], remedy: &str) -> Row {
    let rows = Preflight::through(pair, conninfo).rows();
    let row = rows[0].clone();
    assert!(
        row.is("severity", "error") && row.is("check_name", "connection"),
        "{rows:#?}"
    );
    for part in said {
        assert!(row.text("finding").contains(part), "{part}: {row:#?}");
    }
    assert!(row.text("remedy").contains(remedy), "{remedy}: {row:#?}");
    let unasked = row_of(&rows, "publisher");
    assert!(
        unasked.text("finding").starts_with("Not checked:"),
        "{unasked:#?}"
    );
    assert!(rows.iter().all(|row| !row.is("check_name", "wal_level")));
    // This server's own are checked all the same.
    assert!(row_of(&rows, "worker_processes").is("severity", "ok"));
    let told = format!("{rows:?}");
    assert!(!told.contains(PASSWORD) && !told.contains(WRONG), "{told}");
    row
}

#[test]
fn publisher_that_is_not_reached() {
    let pair = pair();
    failed(
        &pair,
        "host=no-such-host.invalid dbname=shop",
        &["\"no-such-host.invalid\""],
        // Or that of a name server which does not answer.
        "name",
    );
    let closed = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = closed.local_addr().expect("it is bound").port();
    drop(closed);
    failed(
        &pair,
        &format!("host=127.0.0.1 port={port} dbname=shop"),
        &["Nothing listens at 127.0.0.1", &port.to_string()],
        "listen_addresses",
    );
    failed(
        &pair,
        "host=/nowhere dbname=shop",
        &["Nothing listens at /nowhere"],
        "listen_addresses",
    );
    failed(
        &pair,
        &conninfo(&pair, "sslmode=require"),
        &["sslmode=require", "offers none"],
        "ALTER SYSTEM SET ssl = on;",
    );
    failed(
        &pair,
        "host=127.0.0.1 nonsense=1",
        &["cannot read"],
        "host=db.example",
    );
}

#[test]
fn publisher_that_is_silent() {
    let pair = start(builder().subscriber_setting("replwarden.probe_timeout", "1s"));
    // It takes connections, and nobody is behind it.
    let mute = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = mute.local_addr().expect("it is bound").port();
    failed(
        &pair,
        &format!("host=127.0.0.1 port={port} dbname=shop"),
        &[&port.to_string(), "this server's 127.0.0.1", "says nothing"],
        "proxy",
    );
    // As a firewall has it: a connection is not answered, since the queue of those before it is full.
    let full = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = full.local_addr().expect("it is bound");
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        queue.push(stream);
    }
    let port = address.port().to_string();
    failed(
        &pair,
        &format!("host=127.0.0.1 port={port} dbname=shop"),
        &[
            "127.0.0.1",
            &port,
            "this server's 127.0.0.1",
            "a firewall, a security group or an allow-list",
        ],
        &format!("let this server's 127.0.0.1 connect to port {port}"),
    );
}

#[test]
fn publisher_that_turns_away() {
    let pair = pair();
    let publisher = pair.publisher();
    let plain = hba(publisher);
    let well = |more: &str| conninfo(&pair, &format!("password={PASSWORD} {more}"));
    Preflight::through(&pair, &well("")).assert_in_order();

    failed(
        &pair,
        &well("dbname=missing"),
        &["no database \"missing\""],
        "pg_database",
    );

    publisher.execute("postgres", &format!("alter role {IDENTIFIER} nologin"));
    let row = failed(&pair, &well(""), &["may not log in", ROLE], "LOGIN");
    paste(&pair, &row);
    Preflight::through(&pair, &well("")).assert_in_order();

    publisher.execute(
        "postgres",
        &format!("alter role {IDENTIFIER} nosuperuser replication connection limit 0"),
    );
    failed(&pair, &well(""), &["no connection left"], "max_connections");
    publisher.execute(
        "postgres",
        &format!("alter role {IDENTIFIER} connection limit -1"),
    );

    publisher.execute("postgres", "revoke connect on database shop from public");
    let row = failed(
        &pair,
        &well(""),
        &["may not connect"],
        "GRANT CONNECT ON DATABASE \"shop\"",
    );
    paste(&pair, &row);
    let row = row_of(&Preflight::through(&pair, &well("")).rows(), "connection");
    assert!(row.is("severity", "ok"), "{row:#?}");
    publisher.execute("postgres", &format!("alter role {IDENTIFIER} superuser"));

    publisher.execute("postgres", "grant connect on database shop to public");
    let unknown = well("").replace(ROLE, "nobody");
    let row = failed(&pair, &unknown, &["no role \"nobody\""], "CREATE ROLE");
    paste(&pair, &row);
    let row = row_of(
        &Preflight::through(&pair, &unknown).rows(),
        "replication_connection",
    );
    assert!(row.is("severity", "ok"), "{row:#?}");

    set_hba(
        publisher,
        &format!("host all {IDENTIFIER} 127.0.0.1/32 scram-sha-256\n{plain}"),
    );
    let wrong = conninfo(&pair, &format!("password={WRONG}"));
    failed(&pair, &wrong, &["wrong password", ROLE], "PASSWORD");
    failed(&pair, &conninfo(&pair, ""), &["password"], "password");
    Preflight::through(&pair, &well("")).assert_in_order();

    set_hba(publisher, "host all postgres 127.0.0.1/32 trust\n");
    let row = failed(
        &pair,
        &well(""),
        &["pg_hba.conf", "127.0.0.1"],
        "pg_reload_conf",
    );
    let line = row
        .text("remedy")
        .lines()
        .find_map(|line| line.strip_prefix("-- host "));
    let line = line.unwrap_or_else(|| panic!("{row:#?}"));
    set_hba(publisher, &format!("host {line}\n{plain}"));
    Preflight::through(&pair, &well("")).assert_in_order();
    failed(&pair, &wrong, &["wrong password"], "PASSWORD");
}

#[test]
fn publisher_that_lets_nobody_replicate() {
    let pair = pair();
    let publisher = pair.publisher();
    publisher.execute(
        "postgres",
        &format!("alter role {IDENTIFIER} nosuperuser; grant pg_monitor, pg_read_all_data to {IDENTIFIER}"),
    );
    let preflight = Preflight::through(&pair, &conninfo(&pair, ""));
    let row = row_of(&preflight.rows(), "replication_connection");
    assert!(row.is("severity", "error"), "{row:#?}");
    assert!(
        row.text("finding").contains("no right to replicate"),
        "{row:#?}"
    );
    let remedy = row.text("remedy").to_owned();
    assert!(
        remedy.contains(&format!("ALTER ROLE {IDENTIFIER} REPLICATION;")),
        "{row:#?}"
    );
    paste(&pair, &row);
    preflight.assert_in_order();

    publisher.set("max_wal_senders", "0");
    publisher.restart();
    let rows = preflight.rows();
    let row = row_of(&rows, "replication_connection");
    assert!(
        row.text("finding").contains("no walsender left"),
        "{row:#?}"
    );
    assert!(
        row_of(&rows, "wal_senders").is("severity", "error"),
        "{rows:#?}"
    );
    paste(&pair, &row);
    wait_until("all is in order again", DEFAULT_DEADLINE, || {
        row_of(&preflight.rows(), "replication_connection").is("severity", "ok")
    });
    preflight.assert_in_order();
}

#[test]
fn reasons_are_told_apart_in_another_language() {
    const GERMAN: &str = "de_DE.UTF-8";
    let pair = start(
        builder()
            .subscriber_setting("lc_messages", GERMAN)
            .publisher_setting("lc_messages", GERMAN),
    );
    let publisher = pair.publisher();
    let plain = hba(publisher);
    let closed = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = closed.local_addr().expect("it is bound").port();
    drop(closed);
    failed(
        &pair,
        &format!("host=127.0.0.1 port={port} dbname=shop"),
        &["Nothing listens at 127.0.0.1"],
        "listen_addresses",
    );
    failed(
        &pair,
        &conninfo(&pair, "sslmode=require"),
        &["offers none"],
        "ALTER SYSTEM SET ssl = on;",
    );
    // What follows is said by the publisher.
    let row = failed(
        &pair,
        &conninfo(&pair, "dbname=missing"),
        &["no database \"missing\""],
        "pg_database",
    );
    assert!(row.text("finding").contains("existiert nicht"), "{row:#?}");
    failed(
        &pair,
        &conninfo(&pair, "").replace(ROLE, "nobody"),
        &["no role \"nobody\", or it may not log in"],
        "CREATE ROLE",
    );
    set_hba(
        publisher,
        &format!("host all {IDENTIFIER} 127.0.0.1/32 scram-sha-256\n{plain}"),
    );
    failed(
        &pair,
        &conninfo(&pair, &format!("password={WRONG}")),
        &["wrong password"],
        "PASSWORD",
    );
    set_hba(publisher, "host all postgres 127.0.0.1/32 trust\n");
    failed(
        &pair,
        &conninfo(&pair, ""),
        &["does not let", "127.0.0.1"],
        "/32",
    );
}
