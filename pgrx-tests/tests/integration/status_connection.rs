//! How replwarden is connected to publishers: one connection for each, which delays nothing else when it hangs and comes
//! back when it can.

use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, Provider, Proxy, SUBSCRIPTION, ShutdownMode, wait_for_value,
    wait_until,
};

use crate::database::lines;
use crate::loan::{self, insert, on_both_providers};
use crate::status::{self, Status};
use crate::status_publisher::{streaming_from, wait_asked_anew, wait_no_facts, wait_where};
use crate::workers::wait_for_workers;

on_both_providers!(
    no_questions_while_probing_is_off,
    facts_come_back_with_the_publisher,
    connection_ends_with_the_extension,
    connection_is_kept,
    unanswered_question_times_out_and_the_facts_come_back,
);

/// What the connections call themselves on the publisher.
const APPLICATION: &str = "replwarden";

fn streaming(provider: Provider) -> Pair {
    streaming_from(status::builder(provider).start())
}

/// The process ids of the publisher's backends that replwarden is connected to.
#[track_caller]
fn connections(publisher: &Cluster) -> Vec<String> {
    lines(
        &mut publisher.connect("postgres"),
        &format!(
            "select pid from pg_stat_activity where application_name = '{APPLICATION}' order by 1"
        ),
    )
}

#[track_caller]
fn wait_connections(publisher: &Cluster, number: usize) -> Vec<String> {
    wait_for_value(
        &format!("the publisher has {number} connections of replwarden"),
        DEFAULT_DEADLINE,
        || connections(publisher),
        |pids| pids.len() == number,
    )
}

/// A native subscription of the pair's subscriber that never copies and needs no publisher to be made. It is disabled.
#[track_caller]
pub(crate) fn subscribe_offline(pair: &Pair, name: &str, conninfo: &str) {
    pair.on_subscriber(&format!(
        "create subscription {name} connection '{}' publication pub
           with (connect = false, slot_name = '{name}')",
        conninfo.replace('\'', "''")
    ));
}

/// Makes the slot that it lacks, and enables it.
#[track_caller]
fn enable_with_slot(pair: &Pair, name: &str) {
    pair.on_publisher(&format!(
        "select pg_create_logical_replication_slot('{name}', 'pgoutput')"
    ));
    pair.on_subscriber(&format!("alter subscription {name} enable"));
}

fn no_questions_while_probing_is_off(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_asked_anew(status, SUBSCRIPTION);
    wait_connections(pair.publisher(), 1);
    pair.subscriber().set("replwarden.probe_publisher", "off");
    wait_connections(pair.publisher(), 0);
    let off = wait_no_facts(status, SUBSCRIPTION);
    assert!(
        off.is("state", "streaming") && off.is_null("cause") && off.is_null("last_error"),
        "{off:?}"
    );
    assert_eq!(connections(pair.publisher()), Vec::<String>::new());
    pair.subscriber().set("replwarden.probe_publisher", "on");
    assert!(wait_asked_anew(status, SUBSCRIPTION).is_null("last_error"));
    wait_connections(pair.publisher(), 1);
}

fn facts_come_back_with_the_publisher(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_asked_anew(status, SUBSCRIPTION);
    pair.publisher().stop(ShutdownMode::Fast);
    wait_no_facts(status, SUBSCRIPTION);
    let down = status.wait_cause("retrying", Some("publisher_unreachable"));
    assert!(!down.text("remedy").is_empty());
    let down = wait_where(status, SUBSCRIPTION, "last_error_at is not null");
    assert!(down.text("last_error").contains("connect"), "{down:?}");
    pair.publisher().start();
    // Before the subscription does, which may wait longer.
    wait_asked_anew(status, SUBSCRIPTION);
    pair.disable();
    pair.enable();
    let up = status.wait_state("streaming");
    assert!(up.is_null("cause"), "{up:?}");
    insert(&pair, 101, 200);
    pair.wait_caught_up();
    wait_where(status, SUBSCRIPTION, "slot_active and lag_bytes = 0");
    wait_connections(pair.publisher(), 1);
}

fn connection_ends_with_the_extension(provider: Provider) {
    let pair = streaming(provider);
    wait_connections(pair.publisher(), 1);
    pair.on_subscriber("drop extension replwarden cascade");
    wait_connections(pair.publisher(), 0);
    pair.on_subscriber("create extension replwarden");
    wait_asked_anew(Status::of(&pair), SUBSCRIPTION);
    wait_connections(pair.publisher(), 1);
    pair.subscriber().stop(ShutdownMode::Fast);
    wait_connections(pair.publisher(), 0);
}

fn connection_is_kept(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_asked_anew(status, SUBSCRIPTION);
    let first = wait_connections(pair.publisher(), 1);
    for _ in 0..3 {
        wait_asked_anew(status, SUBSCRIPTION);
    }
    assert_eq!(connections(pair.publisher()), first);
    // And made anew when the publisher ends it.
    pair.publisher().execute(
        "postgres",
        &format!("select pg_terminate_backend({})", first[0]),
    );
    wait_for_value(
        "replwarden has connected again",
        DEFAULT_DEADLINE,
        || connections(pair.publisher()),
        |pids| pids.len() == 1 && *pids != first,
    );
    wait_asked_anew(status, SUBSCRIPTION);
}

#[test]
fn one_connection_for_all_subscriptions_of_a_publisher() {
    let pair = streaming(Provider::Native);
    let status = Status::of(&pair);
    let same = pair.publisher().conninfo(pair.database());
    for name in ["second", "third"] {
        subscribe_offline(&pair, name, &same);
        enable_with_slot(&pair, name);
    }
    for name in [SUBSCRIPTION, "second", "third"] {
        wait_asked_anew(status, name);
        wait_where(status, name, "slot_active and wal_status = 'reserved'");
    }
    wait_connections(pair.publisher(), 1);
    subscribe_offline(&pair, "elsewhere", &pair.publisher().conninfo("postgres"));
    wait_where(status, "elsewhere", "publisher_lsn is not null");
    wait_connections(pair.publisher(), 2);
    pair.on_subscriber("alter subscription elsewhere set (slot_name = none)");
    pair.on_subscriber("drop subscription elsewhere");
    wait_connections(pair.publisher(), 1);
    // A connection string that changes is another publisher.
    let other = format!("{same} connect_timeout=30");
    pair.on_subscriber(&format!("alter subscription second connection '{other}'"));
    wait_connections(pair.publisher(), 2);
    wait_asked_anew(status, "second");
    wait_asked_anew(status, "third");
}

#[test]
fn each_database_asks_for_itself() {
    let pair = streaming(Provider::Native);
    wait_connections(pair.publisher(), 1);
    pair.subscriber()
        .execute("postgres", "create extension replwarden");
    wait_for_workers(pair.subscriber(), &["postgres", pair.database()]);
    let other = Status::on(pair.subscriber(), "postgres");
    assert!(other.subscriptions().is_empty());
    pair.subscriber().execute(
        "postgres",
        &format!(
            "create subscription other connection '{}' publication pub
               with (connect = false, slot_name = 'other')",
            pair.publisher().conninfo(pair.database())
        ),
    );
    wait_where(other, "other", "publisher_lsn is not null");
    wait_connections(pair.publisher(), 2);
    assert_eq!(Status::of(&pair).subscriptions().len(), 1);
}

/// Replication itself needs REPLICATION, and SELECT only for the initial copy.
#[test]
fn facts_need_no_right_on_tables() {
    let pair = loan::pair_with(status::builder(Provider::Native).start(), "text");
    pair.on_publisher("create role carrier login replication");
    let conninfo = pair
        .publisher()
        .conninfo(pair.database())
        .replace("user=postgres", "user=carrier");
    subscribe_offline(&pair, "sub", &conninfo);
    enable_with_slot(&pair, "sub");
    let status = Status::of(&pair);
    wait_where(
        status,
        SUBSCRIPTION,
        "slot_active and restart_lsn is not null and retained_bytes is not null and wal_status = 'reserved'
           and lag_bytes is not null and last_error is null",
    );
    assert!(wait_asked_anew(status, SUBSCRIPTION).is_null("last_error"));
    let denied = pair.publisher().log();
    assert!(!denied.contains("permission denied"), "{denied}");
}

/// Whatever waits for the publisher that says nothing would wait for a minute.
#[test]
fn publisher_that_says_nothing_holds_up_nothing_else() {
    let pair = status::builder(Provider::Native)
        .subscriber_setting("replwarden.probe_timeout", "1min")
        .subscriber_setting("statement_timeout", "30s")
        .start();
    let pair = streaming_from(pair);
    let status = Status::of(&pair);
    let silent = Proxy::frozen(pair.publisher());
    subscribe_offline(&pair, "hanging", &silent.conninfo(pair.database()));
    pair.on_subscriber("alter subscription hanging enable");
    wait_until(
        "replwarden asks the silent publisher",
        DEFAULT_DEADLINE,
        || silent.held_by(APPLICATION) == 1,
    );
    for _ in 0..3 {
        insert(&pair, 101, 200);
        wait_asked_anew(status, SUBSCRIPTION);
        status.workers();
        status.tables();
        status.report();
        status.rows("select repl_snapshot()");
    }
    let hanging = wait_no_facts(status, "hanging");
    assert!(
        hanging.is_null("asked_at") && hanging.is_null("last_error"),
        "it is still being asked: {hanging:?}"
    );
    assert_eq!(silent.begun_by(APPLICATION), 1);
    assert_eq!(silent.held_by(APPLICATION), 1);
    // The worker of the database ends in good order, without waiting for an answer.
    pair.subscriber()
        .execute(pair.database(), "drop extension replwarden cascade");
    wait_until("replwarden has hung up", DEFAULT_DEADLINE, || {
        silent.held_by(APPLICATION) == 0
    });
}

#[test]
fn publisher_that_says_nothing_is_given_up_and_asked_again() {
    let pair = status::builder(Provider::Native)
        .subscriber_setting("replwarden.probe_timeout", "100ms")
        .start();
    let pair = streaming_from(pair);
    let status = Status::of(&pair);
    let silent = Proxy::frozen(pair.publisher());
    subscribe_offline(&pair, "hanging", &silent.conninfo(pair.database()));
    pair.on_subscriber("alter subscription hanging enable");
    let hanging = status.wait_named("hanging", "has timed out", |row| {
        row.get("last_error")
            .is_some_and(|error| error.contains("timed out"))
    });
    assert!(
        !hanging.is_null("last_error_at") && hanging.is_null("publisher_lsn"),
        "{hanging:?}"
    );
    let hanging = wait_where(
        status,
        "hanging",
        "state = 'retrying' and cause = 'publisher_unreachable'",
    );
    assert!(!hanging.text("remedy").is_empty());
    wait_until(
        "replwarden asks again and hangs up again",
        DEFAULT_DEADLINE,
        || silent.begun_by(APPLICATION) >= 3 && silent.held_by(APPLICATION) == 0,
    );
    assert!(wait_asked_anew(status, SUBSCRIPTION).is_null("last_error"));
    silent.thaw();
    // Now that it answers, more is known.
    wait_where(
        status,
        "hanging",
        "publisher_lsn is not null and cause = 'slot_missing'",
    );
}

fn unanswered_question_times_out_and_the_facts_come_back(provider: Provider) {
    let pair = loan::pair_with(
        status::builder(provider)
            .subscriber_setting("replwarden.probe_timeout", "500ms")
            .start(),
        "text",
    );
    let network = Proxy::before(pair.publisher());
    insert(&pair, 1, 100);
    pair.on_subscriber(&pair.subscribe_sql(true).replace(
        &pair.publisher().conninfo(pair.database()),
        &network.conninfo(pair.database()),
    ));
    pair.wait_copied();
    let status = Status::of(&pair);
    wait_asked_anew(status, SUBSCRIPTION);
    assert_eq!(network.held_by(APPLICATION), 1);
    network.freeze();
    wait_no_facts(status, SUBSCRIPTION);
    let frozen = wait_where(status, SUBSCRIPTION, "last_error_at is not null");
    assert!(
        frozen.text("last_error").contains("timed out"),
        "{frozen:?}"
    );
    insert(&pair, 101, 200);
    network.thaw();
    wait_asked_anew(status, SUBSCRIPTION);
    pair.wait_caught_up();
    status.wait_cause("streaming", None);
    wait_until("one connection is left", DEFAULT_DEADLINE, || {
        network.held_by(APPLICATION) == 1
    });
}

#[test]
fn settings_of_the_probe_have_limits() {
    let pair = status::pair(Provider::Native);
    for (setting, too_short) in [
        ("replwarden.probe_timeout", "99ms"),
        ("replwarden.watch_interval", "9ms"),
    ] {
        let error = pair.subscriber().expect_error(
            "postgres",
            &format!("alter system set {setting} = '{too_short}'"),
        );
        assert_eq!(error.code().code(), "22023", "{error:?}");
    }
    assert_eq!(
        lines(
            &mut pair.subscriber().connect("postgres"),
            "select name, boot_val, unit, context from pg_settings
              where name in ('replwarden.probe_timeout', 'replwarden.probe_publisher',
                             'replwarden.watch_interval', 'replwarden.stall_timeout') order by 1"
        ),
        [
            "replwarden.probe_publisher|on|NULL|sighup",
            "replwarden.probe_timeout|5000|ms|sighup",
            "replwarden.stall_timeout|60000|ms|sighup",
            "replwarden.watch_interval|5000|ms|sighup",
        ]
    );
}
