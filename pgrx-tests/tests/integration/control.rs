//! Switching subscriptions on and off and restarting their workers: what comes of it, and what is told.

use std::time::Duration;

use postgres::Client;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, RELAUNCH_DEADLINE, SUBSCRIPTION, ShutdownMode,
    wait_for_value, wait_until,
};

use crate::database::{create_roles, lines};
use crate::loan::on_both_providers;
use crate::status::{self, Status};

on_both_providers!(
    subscription_is_switched_off_and_on,
    each_act_is_told_once,
    act_is_told_on_the_channel_and_in_the_log,
    act_is_an_event_in_a_session_like_replication,
    act_that_is_rolled_back_has_not_happened,
    restart_gives_a_new_worker_and_streaming_goes_on,
    restart_of_a_subscription_that_is_off_is_refused,
    unknown_name_is_refused_with_the_names_there_are,
    nothing_is_done_in_a_read_only_transaction,
);

pub(crate) const ACTS: [&str; 3] = ["repl_enable", "repl_disable", "repl_restart_worker"];

pub(crate) fn start(provider: Provider) -> Pair {
    let pair = status::streaming(status::builder(provider).start());
    create_roles(pair.subscriber());
    pair
}

/// The function with the name of the subscription.
pub(crate) fn call(function: &str, name: &str) -> String {
    format!("select {function}('{}')", name.replace('\'', "''"))
}

#[track_caller]
fn act(pair: &Pair, function: &str) -> Option<String> {
    let sql = call(function, SUBSCRIPTION);
    let rows = pair.subscriber().rows_text(pair.database(), &sql);
    rows[0][0].clone()
}

/// What somebody did, and who.
#[track_caller]
pub(crate) fn acts(pair: &Pair) -> Vec<String> {
    let sql = "select event || ' ' || subscription || ' by ' || (detail ->> 'by') as act
                 from repl_events where detail ? 'by' order by id";
    let rows = Status::of(pair).rows(sql);
    rows.iter().map(|row| row.text("act").to_owned()).collect()
}

#[track_caller]
pub(crate) fn is_enabled(pair: &Pair) -> bool {
    let rows = Status::of(pair).subscriptions();
    rows[0].is("enabled", "t")
}

/// A row that was inserted on the publisher arrives.
#[track_caller]
pub(crate) fn assert_streams(pair: &Pair, id: u32) {
    pair.on_publisher(&format!("insert into item values ({id})"));
    pair.wait_caught_up();
    pair.compare(
        "select id from item order by id",
        "select id from item order by id",
    );
}

fn subscription_is_switched_off_and_on(provider: Provider) {
    let pair = start(provider);
    let status = Status::of(&pair);
    act(&pair, "repl_disable");
    let row = status.wait_state("disabled");
    assert!(row.is("enabled", "f"), "{row:?}");
    status.wait_subscription("has no worker", |row| row.is_null("worker_pid"));
    pair.on_publisher("insert into item values (3)");
    act(&pair, "repl_enable");
    status.wait_state("streaming");
    assert_streams(&pair, 4);
}

/// The session that acts tells it, and the worker of the database, which sees it too, does not tell it again.
fn each_act_is_told_once(provider: Provider) {
    let pair = start(provider);
    let status = Status::of(&pair);
    status.wait_state("streaming");
    for function in ["repl_disable", "repl_disable", "repl_enable", "repl_enable"] {
        act(&pair, function);
        status.wait_looked();
        status.wait_looked();
    }
    let row = wait_for_value(
        "the worker tells that it is no longer disabled",
        DEFAULT_DEADLINE,
        || status.rows("select *, detail ->> 'seconds' as seconds from repl_events where event = 'disabled_ended'"),
        |rows| !rows.is_empty(),
    )
    .remove(0);
    assert!(row.number("seconds") > 0.0, "{row:?}");
    assert!(row.is("severity", "info"), "{row:?}");
    let sql =
        "select event, severity, cause, detail ->> 'by' as by, detail ->> 'provider' as provider
                 from repl_events where event in ('disabled', 'enabled') order by id";
    let rows = status.rows(sql);
    let [off, on] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert!(
        off.is("event", "disabled") && off.is("cause", "disabled"),
        "{off:?}"
    );
    assert!(on.is("event", "enabled") && on.is_null("cause"), "{on:?}");
    let provider = match provider {
        Provider::Native => "native",
        Provider::Pglogical => "pglogical",
    };
    for row in [off, on] {
        assert!(
            row.is("severity", "info") && row.is("by", "postgres") && row.is("provider", provider),
            "{row:?}"
        );
    }
}

/// Payloads of notifications, as long as more come within a moment.
fn payloads(client: &mut Client) -> Vec<String> {
    let mut notifications = client.notifications();
    let mut found = Vec::new();
    let mut iterator = notifications.timeout_iter(Duration::from_secs(1));
    while let Some(one) = iterator.next().expect("the connection lasts") {
        assert_eq!(one.channel(), "replwarden");
        found.push(one.payload().to_owned());
    }
    found
}

fn act_is_told_on_the_channel_and_in_the_log(provider: Provider) {
    let pair = start(provider);
    let mut listener = pair.subscriber().connect(pair.database());
    lines(&mut listener, "listen replwarden");
    act(&pair, "repl_restart_worker");
    let mut told = Vec::new();
    wait_until("the listener has heard of it", DEFAULT_DEADLINE, || {
        told.extend(payloads(&mut listener));
        told.iter().any(|one| one.contains("worker_restarted"))
    });
    let payload = told
        .iter()
        .find(|one| one.contains("worker_restarted"))
        .expect("found above");
    // It is the row of the view.
    let sql = format!(
        "select count(*) as number from repl_events e
          where to_jsonb(e) = '{}'::jsonb",
        payload.replace('\'', "''")
    );
    let rows = Status::of(&pair).rows(&sql);
    assert!(rows[0].is("number", "1"), "{payload}");
    let line = "replwarden: subscription \"sub\": worker_restarted: postgres has restarted its apply worker";
    wait_until("the log tells it", DEFAULT_DEADLINE, || {
        pair.subscriber().log().contains(line)
    });
}

fn act_is_an_event_in_a_session_like_replication(provider: Provider) {
    let pair = start(provider);
    pair.on_subscriber(&format!(
        "set session_replication_role = replica; {}",
        call("repl_disable", SUBSCRIPTION)
    ));
    assert_eq!(acts(&pair), ["disabled sub by postgres"]);
}

fn act_that_is_rolled_back_has_not_happened(provider: Provider) {
    let pair = start(provider);
    pair.on_subscriber(&format!(
        "begin; {}; rollback",
        call("repl_disable", SUBSCRIPTION)
    ));
    assert!(is_enabled(&pair));
    assert!(acts(&pair).is_empty(), "{:?}", acts(&pair));
    let log = pair.subscriber().log();
    assert!(!log.contains("repl_disable()."), "{log}");
    assert_streams(&pair, 3);
}

/// A worker of another process than before.
#[track_caller]
pub(crate) fn wait_new_worker(pair: &Pair, before: i32) {
    wait_for_value(
        "there is another apply worker",
        DEFAULT_DEADLINE,
        || pair.apply_worker_pid(),
        |pid| *pid != before,
    );
}

fn restart_gives_a_new_worker_and_streaming_goes_on(provider: Provider) {
    let pair = start(provider);
    for id in 3..6 {
        let before = pair.apply_worker_pid();
        assert_eq!(act(&pair, "repl_restart_worker").as_deref(), Some("t"));
        wait_new_worker(&pair, before);
        assert_streams(&pair, id);
    }
    assert_eq!(acts(&pair), ["worker_restarted sub by postgres"; 3]);
    assert!(is_enabled(&pair));
}

fn restart_of_a_subscription_that_is_off_is_refused(provider: Provider) {
    let pair = start(provider);
    act(&pair, "repl_disable");
    let sql = call("repl_restart_worker", SUBSCRIPTION);
    let error = pair.subscriber().expect_error(pair.database(), &sql);
    assert_eq!(
        error.code(),
        &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "{error:?}"
    );
    assert_eq!(error.message(), "subscription \"sub\" is disabled");
    // The hint is what to do.
    pair.on_subscriber(error.hint().expect("has a hint"));
    assert_streams(&pair, 3);
}

fn unknown_name_is_refused_with_the_names_there_are(provider: Provider) {
    let pair = start(provider);
    for function in ACTS {
        // Nothing is made lower case.
        for name in ["nosuch", "SUB", "", "sub'; select 1; --"] {
            let error = pair
                .subscriber()
                .expect_error(pair.database(), &call(function, name));
            assert_eq!(error.code(), &SqlState::UNDEFINED_OBJECT, "{error:?}");
            assert_eq!(
                error.message(),
                format!("subscription \"{name}\" does not exist")
            );
            assert_eq!(
                error.detail(),
                Some("The subscriptions of this database: sub.")
            );
        }
        let error = pair
            .subscriber()
            .expect_error(pair.database(), &format!("select {function}(null)"));
        assert_eq!(error.code(), &SqlState::NULL_VALUE_NOT_ALLOWED, "{error:?}");
    }
    assert!(acts(&pair).is_empty(), "{:?}", acts(&pair));
}

fn nothing_is_done_in_a_read_only_transaction(provider: Provider) {
    let pair = start(provider);
    for function in ACTS {
        let sql = format!("begin read only; {}", call(function, SUBSCRIPTION));
        let error = pair.subscriber().expect_error(pair.database(), &sql);
        assert_eq!(
            error.code(),
            &SqlState::READ_ONLY_SQL_TRANSACTION,
            "{error:?}"
        );
        assert!(error.message().contains(function), "{error:?}");
    }
}

/// The server starts one again every few seconds; nothing would be won.
#[test]
fn restart_of_a_native_worker_that_is_not_there_is_none() {
    let pair = start(Provider::Native);
    pair.publisher().stop(ShutdownMode::Immediate);
    wait_until("there is no worker to restart", DEFAULT_DEADLINE, || {
        act(&pair, "repl_restart_worker").as_deref() == Some("f")
    });
    let acts = acts(&pair);
    assert_eq!(
        act(&pair, "repl_restart_worker").as_deref() == Some("t"),
        self::acts(&pair).len() > acts.len(),
        "an act is an event, none is none"
    );
    pair.publisher().start();
    assert_streams(&pair, 3);
}

/// pglogical would wait for minutes before it starts another one.
#[test]
fn restart_ends_the_pause_of_pglogical() {
    let pair = start(Provider::Pglogical);
    pair.on_subscriber("alter table item add constraint small check (id < 10)");
    pair.on_publisher("insert into item values (10)");
    let failures = || {
        let log = pair.subscriber().log();
        let lines = log.lines().filter(|line| line.contains("ERROR:"));
        lines
            .filter(|line| line.contains("violates check constraint \"small\""))
            .count()
    };
    // The second time it comes after 5 s, and then not for a long time.
    wait_until("the worker has failed twice", RELAUNCH_DEADLINE, || {
        failures() >= 2
    });
    pair.on_subscriber("alter table item drop constraint small");
    assert_eq!(act(&pair, "repl_restart_worker").as_deref(), Some("t"));
    wait_until("the row has come at once", Duration::from_secs(60), || {
        let sql = "select count(*) from item where id = 10";
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), sql)
            == 1
    });
}
