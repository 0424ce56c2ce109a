//! Who may switch a subscription on and off and restart its worker, and under which names it is found.

use postgres::error::SqlState;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, SUBSCRIPTION, wait_until};

use crate::control::{ACTS, acts, assert_streams, call, is_enabled, start, wait_new_worker};
use crate::database::{OWNER, STRANGER};
use crate::loan::on_both_providers;
use crate::status::{self, Status};

on_both_providers!(others_may_do_nothing);

/// In a session that the role has from the start: `set role` keeps the rights of the session's user.
fn as_role(role: &str, sql: &str) -> String {
    format!("set session authorization {role}; {sql}")
}

fn others_may_do_nothing(provider: Provider) {
    let pair = start(provider);
    let worker = pair.apply_worker_pid();
    for role in [STRANGER, OWNER] {
        for function in ACTS {
            let sql = as_role(role, &call(function, SUBSCRIPTION));
            let error = pair.subscriber().expect_error(pair.database(), &sql);
            assert_eq!(
                error.code(),
                &SqlState::INSUFFICIENT_PRIVILEGE,
                "{function} by {role}: {error:?}"
            );
        }
        for sql in [
            "select * from repl_events",
            "select * from _repl_events",
            "delete from _repl_events",
            "insert into _repl_events (occurred_at, provider, severity, event, detail)
             values (now(), 'native', 'info', 'planted', '{}')",
        ] {
            let error = pair
                .subscriber()
                .expect_error(pair.database(), &as_role(role, sql));
            assert_eq!(
                error.code(),
                &SqlState::INSUFFICIENT_PRIVILEGE,
                "{sql} by {role}: {error:?}"
            );
        }
    }
    assert!(is_enabled(&pair));
    assert_eq!(pair.apply_worker_pid(), worker);
    assert!(acts(&pair).is_empty(), "{:?}", acts(&pair));
    // Who monitors, reads.
    pair.on_subscriber("create role monitor login in role pg_monitor");
    pair.on_subscriber(&as_role("monitor", "select * from repl_events"));
}

#[test]
fn owner_of_a_native_subscription_may() {
    let pair = start(Provider::Native);
    // Owners had to be superusers up to 15; the server looks when the owner changes, and not later.
    pair.on_subscriber(&format!(
        "alter role {OWNER} superuser;
         alter subscription sub owner to {OWNER};
         alter table item owner to {OWNER};
         alter role {OWNER} nosuperuser"
    ));
    pair.on_subscriber(&as_role(OWNER, &call("repl_disable", SUBSCRIPTION)));
    // One that was started for the owner before is not to be taken for the next one.
    let status = Status::of(&pair);
    status.wait_subscription("has no worker", |row| row.is_null("worker_pid"));
    pair.on_subscriber(&as_role(OWNER, &call("repl_enable", SUBSCRIPTION)));
    assert_eq!(
        acts(&pair),
        [
            format!("disabled sub by {OWNER}"),
            format!("enabled sub by {OWNER}")
        ]
    );
    assert!(is_enabled(&pair));
    // From 16 on its worker would need a password to connect.
    if pair.subscriber().server().major() <= 15 {
        let before = pair.apply_worker_pid();
        pair.on_subscriber(&as_role(OWNER, &call("repl_restart_worker", SUBSCRIPTION)));
        wait_new_worker(&pair, before);
        assert_streams(&pair, 3);
        assert_eq!(acts(&pair).len(), 3, "{:?}", acts(&pair));
    }
}

#[test]
fn who_may_use_pglogical_may() {
    let pair = start(Provider::Pglogical);
    pair.on_subscriber(&format!("grant usage on schema pglogical to {OWNER}"));
    let sql = as_role(OWNER, &call("repl_disable", SUBSCRIPTION));
    let error = pair.subscriber().expect_error(pair.database(), &sql);
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
    assert_eq!(
        error.message(),
        "permission denied for table pglogical.subscription"
    );
    pair.on_subscriber(&format!(
        "grant select on pglogical.subscription to {OWNER}"
    ));
    let before = pair.apply_worker_pid();
    for function in ["repl_disable", "repl_enable", "repl_restart_worker"] {
        pair.on_subscriber(&as_role(OWNER, &call(function, SUBSCRIPTION)));
    }
    wait_new_worker(&pair, before);
    assert_streams(&pair, 3);
    assert_eq!(
        acts(&pair),
        [
            format!("disabled sub by {OWNER}"),
            format!("enabled sub by {OWNER}"),
            format!("worker_restarted sub by {OWNER}")
        ]
    );
}

/// A native subscription beside that of pglogical.
#[track_caller]
fn create_native(pair: &Pair, name: &str, slot: &str) {
    pair.on_both("create table if not exists thing (id int primary key)");
    pair.on_publisher(
        "do $$ begin
             if not exists (select from pg_publication where pubname = 'beside') then
                 create publication beside for table thing;
             end if;
         end $$",
    );
    pair.on_subscriber(&format!(
        "create subscription \"{}\" connection '{}' publication beside with (slot_name = '{slot}')",
        name.replace('"', "\"\""),
        pair.publisher().conninfo(pair.database())
    ));
}

#[test]
fn name_of_two_subscriptions_is_refused() {
    let pair = start(Provider::Pglogical);
    create_native(&pair, SUBSCRIPTION, "beside");
    for function in ACTS {
        let error = pair
            .subscriber()
            .expect_error(pair.database(), &call(function, SUBSCRIPTION));
        assert_eq!(error.code(), &SqlState::AMBIGUOUS_ALIAS, "{error:?}");
        assert_eq!(error.message(), "there are two subscriptions named \"sub\"");
        // Each of the statements in the hint does it to one of the two.
        let hint = error.hint().expect("has a hint");
        let (_, statements) = hint.split_once(": ").expect("statements follow");
        for statement in statements.split(" or ") {
            pair.on_subscriber(statement);
        }
    }
    assert!(acts(&pair).is_empty(), "{:?}", acts(&pair));
    assert_streams(&pair, 3);
}

/// Whoever has no right to pglogical is master of his own subscription all the same.
#[test]
fn owner_of_a_native_subscription_needs_no_right_to_pglogical() {
    let pair = start(Provider::Pglogical);
    create_native(&pair, "own", "beside");
    pair.on_subscriber(&format!(
        "alter role {OWNER} superuser; alter subscription own owner to {OWNER}; alter role {OWNER} nosuperuser"
    ));
    pair.on_subscriber(&as_role(OWNER, &call("repl_disable", "own")));
    assert_eq!(acts(&pair), [format!("disabled own by {OWNER}")]);
    let sql = as_role(OWNER, &call("repl_disable", SUBSCRIPTION));
    let error = pair.subscriber().expect_error(pair.database(), &sql);
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
}

#[test]
fn odd_names_do_no_harm() {
    let pair = status::builder(Provider::Native).start();
    pair.on_both("create table item (id int primary key, note text)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    let names = [
        "It's \"odd\" \\ näme",
        "a\nLOG:  planted: \u{1b}[2J",
        "x\"; drop table item; --",
        "x', false); drop table item; --",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let slot = format!("odd_{number}");
        create_native(&pair, name, &slot);
        for function in ["repl_disable", "repl_enable"] {
            pair.on_subscriber(&call(function, name));
        }
        wait_until("there is a worker to restart", DEFAULT_DEADLINE, || {
            let rows = pair
                .subscriber()
                .rows_text(pair.database(), &call("repl_restart_worker", name));
            rows[0][0].as_deref() == Some("t")
        });
    }
    let told: Vec<String> = Status::of(&pair)
        .rows("select event, subscription from repl_events where detail ? 'by' order by id")
        .iter()
        .map(|row| format!("{} {}", row.text("event"), row.text("subscription")))
        .collect();
    let expected: Vec<String> = names
        .into_iter()
        .flat_map(|name| {
            ["disabled", "enabled", "worker_restarted"].map(|act| format!("{act} {name}"))
        })
        .collect();
    assert_eq!(told, expected);
    pair.on_subscriber("table item");
    let log = pair.subscriber().log();
    assert!(log.contains("subscription \"a LOG:  planted:  [2J\": enabled"));
    for line in log.lines().filter(|line| line.contains("replwarden:")) {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    for name in names {
        pair.on_subscriber(&format!(
            "drop subscription \"{}\"",
            name.replace('"', "\"\"")
        ));
    }
}
