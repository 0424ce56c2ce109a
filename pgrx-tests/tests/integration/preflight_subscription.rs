//! `repl_preflight()` of a subscription that there is: its slot, and who may ask.

use std::fs;

use replwarden_tests::{DEFAULT_DEADLINE, Pair, wait_until};

use crate::diagnose::builder;
use crate::preflight_check::{Preflight, paste, quoted, row_of};
use crate::status;

#[track_caller]
fn with_item() -> Pair {
    status::with_item(builder().start())
}

#[test]
fn slot_of_a_subscription() {
    let pair = status::streaming(builder().start());
    let preflight = Preflight::of_subscription(&pair);
    wait_until("all is in order", DEFAULT_DEADLINE, || {
        preflight.trouble().is_empty()
    });
    let active = || {
        pair.publisher().query_one_value::<bool>(
            pair.database(),
            "select active from pg_replication_slots where slot_name = 'sub'",
        )
    };
    pair.disable();
    wait_until("nobody reads the slot", DEFAULT_DEADLINE, || !active());
    preflight.assert_in_order();
    let row = row_of(&preflight.rows(), "slot");
    assert!(row.text("finding").contains("nobody reads it"), "{row:#?}");
    // Another subscriber with a slot of the same name.
    pair.publisher()
        .execute("postgres", "create database other");
    pair.publisher()
        .execute("other", "create table item (id int primary key, note text)");
    let conninfo = pair.publisher().conninfo(pair.database());
    pair.publisher().execute(
        "other",
        &format!(
            "create subscription thief connection '{conninfo}' publication pub
             with (slot_name = sub, create_slot = false, copy_data = false)"
        ),
    );
    wait_until("another reads the slot", DEFAULT_DEADLINE, active);
    let row = row_of(&preflight.trouble(), "slot");
    assert!(row.is("severity", "warning"), "{row:#?}");
    pair.publisher()
        .execute("other", "alter subscription thief disable");
    paste(&pair, &row);
    wait_until("all is in order again", DEFAULT_DEADLINE, || {
        preflight.trouble().is_empty()
    });
    pair.publisher()
        .execute("other", "alter subscription thief set (slot_name = none)");
    pair.on_publisher("select pg_drop_replication_slot('sub')");
    let row = row_of(&preflight.trouble(), "slot");
    assert!(row.is("severity", "error"), "{row:#?}");
    paste(&pair, &row);
    pair.on_subscriber("truncate item");
    pair.subscribe();
    pair.wait_copied();
    wait_until("all is in order", DEFAULT_DEADLINE, || {
        preflight.trouble().is_empty()
    });
}

const ROLE: &str = "carrier";
const PASSWORD: &str = "right-8842";

/// A role on the publisher that has to bring a password.
pub(crate) fn with_password(pair: &Pair, rights: &str) -> String {
    pair.publisher().execute(
        "postgres",
        &format!("set password_encryption = 'scram-sha-256'; create role {ROLE} login {rights} password '{PASSWORD}'"),
    );
    let path = pair.publisher().data_directory().join("pg_hba.conf");
    let old = fs::read_to_string(&path).expect("pg_hba.conf can be read");
    let line = format!("host all {ROLE} 127.0.0.1/32 scram-sha-256\n{old}");
    fs::write(&path, line).expect("pg_hba.conf can be written");
    pair.publisher().reload();
    format!(
        "host=127.0.0.1 port={} user={ROLE} password={PASSWORD} dbname={}",
        pair.publisher().port(),
        pair.database()
    )
}

#[test]
fn what_a_role_is_not_shown_is_not_called_fine() {
    let pair = with_item();
    let conninfo = with_password(&pair, "replication");
    pair.on_publisher(&format!("grant select on item to {ROLE}"));
    let preflight = Preflight::through(&pair, &conninfo);
    preflight.assert_in_order();
    let row = row_of(&preflight.rows(), "publisher_role");
    assert!(row.is("severity", "info"), "{row:#?}");
    let mut writer = pair.publisher().connect(pair.database());
    writer
        .batch_execute("begin; insert into item values (9)")
        .expect("it can be inserted");
    let row = row_of(&preflight.rows(), "old_transactions");
    assert!(row.is("severity", "info"), "{row:#?}");
    assert!(row.text("finding").starts_with("Not checked:"), "{row:#?}");
    assert!(
        row.text("finding").contains("pg_read_all_stats"),
        "{row:#?}"
    );
    paste(&pair, &row_of(&preflight.rows(), "publisher_role"));
    let row = row_of(&preflight.rows(), "old_transactions");
    assert!(row.is("severity", "ok"), "{row:#?}");
    let row = row_of(&preflight.rows(), "publisher_role");
    assert!(row.is("severity", "ok"), "{row:#?}");
    let shown = format!("{:?}", preflight.rows());
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[test]
fn who_may_call_it() {
    let pair = status::streaming(builder().start());
    let subscriber = pair.subscriber();
    subscriber.execute(
        "shop",
        "create role owner login; create role stranger login; create role monitor login in role pg_monitor;
         alter role owner superuser; alter subscription sub owner to owner; alter role owner nosuperuser",
    );
    let conninfo = pair.publisher().conninfo(pair.database());
    for role in ["stranger", "monitor"] {
        for call in [
            "repl_preflight('sub')".to_owned(),
            format!("repl_preflight('{conninfo}', '{{pub}}')"),
        ] {
            let sql = format!("set role {role}; select * from {call}");
            let error = subscriber.expect_error("shop", &sql);
            assert_eq!(error.code().code(), "42501", "{error:?}");
            assert!(
                error.detail().is_some() && error.hint().is_some(),
                "{error:?}"
            );
        }
    }
    // Whoever is no superuser has to bring a password.
    let preflight = Preflight::of_subscription(&pair);
    let rows = preflight.rows_as("owner");
    let row = row_of(&rows, "connection");
    assert!(row.is("severity", "error"), "{row:#?}");
    assert!(row.text("finding").contains("password"), "{row:#?}");
    assert!(
        row_of(&rows, "publisher")
            .text("finding")
            .starts_with("Not checked:")
    );
    let with_password = with_password(&pair, "superuser");
    pair.on_subscriber(&format!(
        "alter subscription sub connection {}",
        quoted(&with_password)
    ));
    let rows = preflight.rows_as("owner");
    let row = row_of(&rows, "connection");
    assert!(row.is("severity", "ok"), "{row:#?}");
    assert!(!format!("{rows:?}").contains(PASSWORD));
}

#[test]
fn calls_that_make_no_sense() {
    let pair = with_item();
    let error = |call: &str| {
        let sql = format!("select * from {call}");
        pair.subscriber().expect_error(pair.database(), &sql)
    };
    for (call, code) in [
        ("repl_preflight(null)", "22004"),
        ("repl_preflight('missing')", "42704"),
        ("repl_preflight(null, '{pub}')", "22004"),
        ("repl_preflight('dbname=shop', null)", "22004"),
        ("repl_preflight('dbname=shop', '{pub,null}')", "22004"),
        ("repl_preflight('dbname=shop', '{pub}', null)", "22004"),
        ("repl_preflight('dbname=shop', '{pub}', 'bucardo')", "22023"),
    ] {
        let error = error(call);
        assert_eq!(error.code().code(), code, "{call}: {error:?}");
        assert!(error.hint().is_some(), "{call}: {error:?}");
    }
}
