//! `repl_preflight()` where much is odd: standbys, other encodings and languages, names that nobody would choose.

use std::net::TcpListener;

use replwarden_tests::{DEFAULT_DEADLINE, Pair, wait_until};

use crate::backfill_standby::standby_of;
use crate::diagnose::builder;
use crate::preflight_check::{Preflight, assert_sane, quoted, row_of};
use crate::status::{self, read};

#[track_caller]
fn with_item() -> Pair {
    status::with_item(builder().start())
}

#[test]
fn standby_is_no_publisher_before_16() {
    let pair = with_item();
    let standby = standby_of(pair.publisher());
    let preflight = Preflight::through(&pair, &standby.conninfo(pair.database()));
    let rows = preflight.rows();
    let row = row_of(&rows, "publisher_recovery");
    if standby.server().major() < 16 {
        assert!(row.is("severity", "error"), "{row:#?}");
        assert!(row.text("remedy").contains("primary"), "{row:#?}");
        let trouble = preflight.trouble();
        assert_eq!(trouble.len(), 1, "{trouble:#?}");
    } else {
        assert!(row.is("severity", "info"), "{row:#?}");
    }
}

#[test]
fn standby_is_no_subscriber() {
    let pair = with_item();
    let standby = standby_of(pair.subscriber());
    let mut client = standby.connect(pair.database());
    let rows = read(
        &mut client,
        &format!(
            "select * from repl_preflight({}, '{{pub}}')",
            quoted(&pair.publisher().conninfo(pair.database()))
        ),
    );
    assert_sane(&rows);
    let row = row_of(&rows, "subscriber_recovery");
    assert!(row.is("severity", "error"), "{row:#?}");
}

#[test]
fn databases_of_different_encodings() {
    let pair = with_item();
    let conninfo = pair.publisher().conninfo(pair.database());
    for (encoding, severity) in [("LATIN1", "warning"), ("SQL_ASCII", "warning")] {
        let name = encoding.to_lowercase();
        let subscriber = pair.subscriber();
        subscriber.execute(
            "postgres",
            &format!("create database {name} encoding '{encoding}' locale 'C' template template0"),
        );
        subscriber.execute(
            &name,
            "create extension replwarden; create table item (id int primary key, note text)",
        );
        let mut client = subscriber.connect(&name);
        let rows = read(
            &mut client,
            &format!(
                "select * from repl_preflight({}, '{{pub,gröger}}')",
                quoted(&conninfo)
            ),
        );
        assert_sane(&rows);
        let row = row_of(&rows, "encoding");
        assert!(row.is("severity", severity), "{row:#?}");
        assert!(row.text("finding").contains(encoding), "{row:#?}");
        let row = row_of(&rows, "collation");
        assert!(row.is("severity", "info"), "{row:#?}");
        let row = row_of(&rows, "publications");
        assert!(row.is("severity", "error"), "{row:#?}");
        if encoding == "LATIN1" {
            assert_eq!(row.get("object"), Some("gröger"));
        }
    }
}

/// Nothing of a name gets out of a comment or a string.
#[test]
fn names_that_hold_anything() {
    let pair = with_item();
    let role = "o'b\\ri\"en\ndrop table item;--";
    let identifier = format!("\"{}\"", role.replace('"', "\"\""));
    let name = "it's\n\\q \"odd\"";
    pair.publisher().execute(
        pair.database(),
        &format!(
            "create role {identifier} login replication; grant select on item to {identifier}"
        ),
    );
    let conninfo = format!(
        "host=127.0.0.1 port={} dbname={} user='{}'",
        pair.publisher().port(),
        pair.database(),
        role.replace('\\', "\\\\").replace('\'', "\\'")
    );
    let array = format!(
        "{{pub,\"{}\"}}",
        name.replace('\\', "\\\\").replace('"', "\\\"")
    );
    let rows = Preflight::of(&pair, &conninfo, &array, "native").rows();
    assert!(
        row_of(&rows, "connection").is("severity", "ok"),
        "{rows:#?}"
    );
    for check in ["publications", "publisher_role"] {
        let row = row_of(&rows, check);
        assert_eq!(
            row.text("remedy"),
            "-- on the publisher:\n-- its name holds control characters: rename it before anything else"
        );
    }
    let nobody = conninfo.replace("o\\'b", "no");
    let rows = Preflight::of(&pair, &nobody, &array, "native").rows();
    assert!(
        rows[0].text("finding").contains("has no role"),
        "{:#?}",
        rows[0]
    );
    for row in &rows {
        let remedy = row.get("remedy").unwrap_or_default();
        assert!(!remedy.contains("drop table"), "{row:#?}");
    }
}

/// Somebody who does not want to wait.
#[test]
fn waiting_for_a_publisher_can_be_cancelled() {
    let pair = builder()
        .subscriber_setting("replwarden.probe_timeout", "10min")
        .start();
    let pair = status::with_item(pair);
    let mute = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = mute.local_addr().expect("it is bound").port();
    let mut client = pair.subscriber().connect(pair.database());
    let token = client.cancel_token();
    let asking = std::thread::spawn(move || {
        client.batch_execute(&format!(
            "select * from repl_preflight('host=127.0.0.1 port={port}', '{{pub}}')"
        ))
    });
    let waits = "select exists (select from pg_stat_activity where query like '%repl_preflight%'
                                   and pid <> pg_backend_pid() and wait_event_type = 'Extension')";
    wait_until("it waits", DEFAULT_DEADLINE, || {
        pair.subscriber().query_one_value(pair.database(), waits)
    });
    token
        .cancel_query(postgres::NoTls)
        .expect("it is cancelled");
    let error = asking
        .join()
        .expect("it ends")
        .expect_err("it is cancelled");
    assert_eq!(
        error.code().map(|code| code.code()),
        Some("57014"),
        "{error:?}"
    );
}
