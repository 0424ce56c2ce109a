//! What `repl_sync_sequences` refuses, and what it may not read.

use postgres::error::DbError;
use replwarden_tests::{Pair, Provider, ShutdownMode};

use crate::database::{OWNER, STRANGER, create_roles};
use crate::sequences::{lines, next, subscribed, sync};

/// Asserts that the call fails, says why and what to do, and sets nothing.
#[track_caller]
fn assert_refused(pair: &Pair, sql: &str, code: &str, message: &str) -> DbError {
    const STATE: &str = "select c.oid::regclass::text, s.last_value::text
                           from pg_class c join pg_sequences s on s.sequencename = c.relname
                          where s.schemaname = 'public' order by 1";
    let before = pair.subscriber().rows_text(pair.database(), STATE);
    let error = pair.subscriber().expect_error(pair.database(), sql);
    assert_eq!(error.code().code(), code, "{error:?}");
    assert!(error.message().contains(message), "{error:?}");
    assert_eq!(pair.subscriber().rows_text(pair.database(), STATE), before);
    error
}

#[track_caller]
fn assert_explained(error: &DbError) {
    assert!(
        error.detail().is_some_and(|text| !text.is_empty()),
        "{error:?}"
    );
    assert!(
        error.hint().is_some_and(|text| !text.is_empty()),
        "{error:?}"
    );
}

#[test]
fn bad_input_sets_nothing() {
    let pair = subscribed(
        Provider::Native,
        "create table item (id serial primary key)",
        &["item"],
    );
    pair.on_publisher("select setval('item_id_seq', 10)");
    for (call, code, message) in [
        (
            "repl_sync_sequences('nosuch')",
            "42704",
            "subscription \"nosuch\" does not exist",
        ),
        (
            "repl_sync_sequences(null)",
            "22004",
            "\"subscription\" must not be null",
        ),
        (
            "repl_sync_sequences('sub', null)",
            "22004",
            "\"headroom\" must not be null",
        ),
        (
            "repl_sync_sequences('sub', -1)",
            "22023",
            "invalid value for parameter \"headroom\": -1",
        ),
    ] {
        let error = assert_refused(&pair, &format!("select {call}"), code, message);
        assert_explained(&error);
    }
    assert_refused(
        &pair,
        "begin read only; select repl_sync_sequences('sub')",
        "25006",
        "repl_sync_sequences()",
    );
    pair.publisher().stop(ShutdownMode::Immediate);
    let error = assert_refused(
        &pair,
        "select repl_sync_sequences('sub')",
        "08001",
        "does not answer",
    );
    assert_explained(&error);
    pair.publisher().start();
}

#[test]
fn rights_are_looked_at_before_anything_is_set() {
    let pair = subscribed(
        Provider::Native,
        "create table item (id serial primary key); create sequence \"Alone\"; create sequence third",
        &["item"],
    );
    create_roles(pair.subscriber());
    pair.on_publisher(
        "select setval('item_id_seq', 10), setval('\"Alone\"', 20), setval('third', 30)",
    );
    let call =
        |role: &str| format!("set session authorization {role}; select repl_sync_sequences('sub')");
    let error = assert_refused(&pair, &call(STRANGER), "42501", "subscription \"sub\"");
    assert_explained(&error);
    // The owner of a subscription has to bring a password.
    pair.on_subscriber(&format!(
        "alter role {OWNER} superuser; alter subscription sub owner to {OWNER}; alter role {OWNER} nosuperuser"
    ));
    let error = assert_refused(&pair, &call(OWNER), "08001", "password is required");
    assert_explained(&error);
}

/// Of a role that may ask, and not set: a superuser's session in the shoes of somebody else has to be one without rights.
#[test]
fn whoever_may_ask_needs_update_on_each_that_is_behind() {
    let pair = subscribed(
        Provider::Native,
        "create table item (id serial primary key); create sequence \"Alone\"; create sequence third",
        &["item"],
    );
    create_roles(pair.subscriber());
    pair.on_publisher(
        "create role reader login superuser password 'secret';
         select setval('item_id_seq', 10), setval('\"Alone\"', 20), setval('third', 30)",
    );
    require_password(&pair);
    let port = pair.publisher().port();
    pair.on_subscriber(&format!(
        "alter subscription sub connection 'host=127.0.0.1 port={port} user=reader password=secret dbname={}'",
        pair.database()
    ));
    pair.on_subscriber(&format!(
        "alter role {OWNER} superuser; alter subscription sub owner to {OWNER}; alter role {OWNER} nosuperuser;
         grant update on item_id_seq to {OWNER}"
    ));
    let call = format!("set session authorization {OWNER}; select repl_sync_sequences('sub')");
    let error = assert_refused(
        &pair,
        &call,
        "42501",
        "permission denied for sequence public.\"Alone\"",
    );
    assert_explained(&error);
    assert!(
        error.detail().is_some_and(|text| text.contains("one more")),
        "{error:?}"
    );
    pair.on_subscriber(error.hint().expect("has a hint"));
    pair.on_subscriber(&call);
    pair.on_subscriber(&format!(
        "set session authorization {OWNER}; select * from repl_cutover_check('sub')"
    ));
    assert_eq!(
        lines(&sync(&pair, 0)),
        [
            "\"Alone\" 20 20 20",
            "item_id_seq 10 10 10",
            "third 30 30 30"
        ]
    );
    assert_eq!(next(&pair, "third"), 31);
}

/// What the role of the connection string may not read is named, and the others are set.
#[test]
fn sequence_that_cannot_be_read_there() {
    let pair = subscribed(
        Provider::Native,
        "create table item (id serial primary key); create sequence secret; create sequence fresh; create sequence usable;",
        &["item"],
    );
    pair.on_publisher(
        "create role reader login replication;
         grant select on item, item_id_seq to reader;
         grant usage on usable to reader;
         select setval('item_id_seq', 10), setval('secret', 20), setval('usable', 30)",
    );
    let port = pair.publisher().port();
    pair.on_subscriber(&format!(
        "alter subscription sub connection 'host=127.0.0.1 port={port} user=reader dbname={}'",
        pair.database()
    ));
    assert_eq!(
        lines(&sync(&pair, 0)),
        [
            "fresh NULL 1 1",
            "item_id_seq 10 1 10",
            "secret NULL 1 1",
            "usable 30 1 30",
        ]
    );
    let log = pair.subscriber().log();
    assert!(
        log.contains(
            "WARNING:  sequences of the publisher cannot be read: public.fresh, public.secret"
        ),
        "{log}"
    );
}

/// Whoever connects to the publisher through the network has to give a password.
#[track_caller]
fn require_password(pair: &Pair) {
    let file = pair.publisher().data_directory().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&file).expect("can be read");
    std::fs::write(
        &file,
        format!("host all reader 127.0.0.1/32 scram-sha-256\n{rules}"),
    )
    .expect("can be written");
    pair.publisher().reload();
}
