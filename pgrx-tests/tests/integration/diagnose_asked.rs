//! `repl_diagnose()` where no worker watches, and who may ask it what.

use postgres::Client;
use postgres::error::SqlState;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, ShutdownMode, wait_until};

use crate::database::{OWNER, STRANGER, create_roles, lines};
use crate::diagnose::{assert_found, streaming};
use crate::status::{self, Row, read};

const ALL: &str =
    "select *, evidence ->> 'publisher_lsn' as publisher_lsn, evidence ->> 'nature' as nature
       from repl_diagnose()";
const MONITOR: &str = "monitor";

/// A pair whose subscriber does not preload the library.
fn unwatched() -> Pair {
    let pair = status::streaming(Pair::start(Provider::Native));
    create_roles(pair.subscriber());
    pair.on_subscriber(&format!("create role {MONITOR} login in role pg_monitor"));
    pair
}

#[track_caller]
fn session_of(pair: &Pair, role: &str) -> Client {
    let mut client = pair.subscriber().connect(pair.database());
    lines(&mut client, &format!("set session authorization {role}"));
    client
}

/// The only row, as a role sees it.
#[track_caller]
fn only(pair: &Pair, role: &str) -> Row {
    let mut rows = read(&mut session_of(pair, role), ALL);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows.remove(0)
}

#[test]
fn superuser_has_the_publisher_asked() {
    let pair = unwatched();
    pair.disable();
    wait_until("nobody reads the slot", DEFAULT_DEADLINE, || {
        pair.publisher().query_one_value::<bool>(
            pair.database(),
            "select not active from pg_replication_slots where slot_name = 'sub'",
        )
    });
    pair.on_publisher("insert into item values (7)");
    // A disabled one is asked about, too.
    let row = only(&pair, "postgres");
    assert!(row.is("cause", "disabled"), "{row:#?}");
    assert!(!row.is_null("publisher_lsn"), "{row:#?}");
    pair.on_publisher("select pg_drop_replication_slot('sub')");
    pair.enable();
    wait_until("the missing slot is found", DEFAULT_DEADLINE, || {
        only(&pair, "postgres").is("cause", "slot_missing")
    });
    let row = only(&pair, "postgres");
    assert_found(&row, "critical", "deterministic", &["slot \"sub\""]);
    // Who is no superuser has nobody asked, and is told so far as the subscriber knows.
    let row = only(&pair, MONITOR);
    assert!(row.is("cause", "unknown"), "{row:#?}");
    assert!(row.is_null("publisher_lsn"), "{row:#?}");
    assert!(
        row.text("finding").contains("Ask the publisher"),
        "{row:#?}"
    );
}

#[test]
fn publisher_that_is_down_is_asked_and_given_up() {
    let pair = unwatched();
    pair.publisher().stop(ShutdownMode::Fast);
    wait_until("it is found", DEFAULT_DEADLINE, || {
        only(&pair, "postgres").is("cause", "publisher_unreachable")
    });
    assert!(only(&pair, MONITOR).is("cause", "unknown"));
}

#[test]
fn healthy_subscription_gives_one_line() {
    let pair = unwatched();
    pair.wait_caught_up();
    for role in ["postgres", MONITOR] {
        let row = only(&pair, role);
        assert!(
            row.is("severity", "info") && row.is_null("cause") && row.is_null("remedy"),
            "{role}: {row:#?}"
        );
    }
}

#[test]
fn nobody_is_asked_where_the_publisher_is_not_to_be_probed() {
    let pair = Pair::builder(Provider::Native)
        .subscriber_setting("replwarden.probe_publisher", "off")
        .start();
    let pair = status::streaming(pair);
    pair.disable();
    let row = only(&pair, "postgres");
    assert!(
        row.is("cause", "disabled") && row.is_null("publisher_lsn"),
        "{row:#?}"
    );
}

/// What is asked in a transaction that is to write nothing, or in one that has failed before.
#[test]
fn asked_in_a_read_only_transaction() {
    let pair = unwatched();
    let mut client = pair.subscriber().connect(pair.database());
    lines(&mut client, "begin read only");
    assert_eq!(read(&mut client, ALL).len(), 1);
    lines(&mut client, "commit");
    lines(
        &mut client,
        "begin isolation level serializable read only deferrable",
    );
    assert_eq!(read(&mut client, ALL).len(), 1);
}

#[test]
fn unknown_name_is_refused_with_the_names_there_are() {
    let pair = streaming();
    for name in ["nosuch", "SUB", "", "sub'; select 1; --"] {
        let sql = format!("select repl_diagnose('{}')", name.replace('\'', "''"));
        let error = pair.subscriber().expect_error(pair.database(), &sql);
        assert_eq!(error.code(), &SqlState::UNDEFINED_OBJECT, "{error:?}");
        let told = format!("{:?} {:?}", error.detail(), error.hint());
        assert!(told.contains("sub"), "{error:?}");
    }
    let rows = status::Status::of(&pair).rows("select * from repl_diagnose(null)");
    assert_eq!(rows.len(), 1, "{rows:#?}");
}

#[test]
fn only_monitors_and_superusers_may_ask() {
    let pair = streaming();
    create_roles(pair.subscriber());
    pair.on_subscriber(&format!("create role {MONITOR} login in role pg_monitor"));
    assert!(only(&pair, MONITOR).is_null("cause"));
    for role in [STRANGER, OWNER] {
        for sql in ["select repl_diagnose()", "select _repl_findings('sub')"] {
            let error = act_as_error(&pair, role, sql);
            assert_eq!(error, SqlState::INSUFFICIENT_PRIVILEGE, "{role}: {sql}");
        }
    }
}

#[track_caller]
fn act_as_error(pair: &Pair, role: &str, sql: &str) -> SqlState {
    let error = pair.subscriber().expect_error(
        pair.database(),
        &format!("set session authorization {role}; {sql}"),
    );
    error.code().clone()
}

/// The search_path of who asks is of no importance.
#[test]
fn names_in_the_way_are_not_used() {
    let pair = unwatched();
    pair.on_subscriber(
        "create schema evil;
         create function evil.jsonb_to_recordset(jsonb) returns setof record language plpgsql as $$ begin raise exception 'planted'; end $$;
         create function evil.max(timestamptz) returns timestamptz language plpgsql as $$ begin raise exception 'planted'; end $$",
    );
    let mut client = session_of(&pair, MONITOR);
    lines(&mut client, "set search_path = evil, pg_catalog, public");
    assert_eq!(read(&mut client, ALL).len(), 1);
}
