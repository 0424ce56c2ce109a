//! What the views know from the publisher: its position, the slot, how far behind the subscriber is, and whether the
//! publisher will keep the WAL that is still needed.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, SUBSCRIPTION, wait_for_value};

use crate::loan::{self, insert, on_both_providers};
use crate::status::{self, Lock, Row, Status};

on_both_providers!(
    publisher_is_asked_again_and_again,
    slot_is_seen,
    lag_comes_and_goes_with_a_lock,
    lag_of_a_disabled_subscription_grows,
    positions_reach_the_publishers,
    lost_slot_is_told_by_the_subscription,
);

/// A pair that streams the table of `loan`, watched.
fn streaming(provider: Provider) -> Pair {
    streaming_from(status::builder(provider).start())
}

/// As `streaming`, for a pair that has nothing in it yet.
pub(crate) fn streaming_from(pair: Pair) -> Pair {
    let pair = loan::pair_with(pair, "text");
    insert(&pair, 1, 100);
    pair.subscribe();
    pair.wait_copied();
    pair.wait_caught_up();
    pair
}

/// Waits until the row of a subscription meets a condition in SQL, and returns it.
#[track_caller]
pub(crate) fn wait_where(status: Status<'_>, subscription: &str, condition: &str) -> Row {
    let sql = format!(
        "select *, ({condition}) as met from repl_subscriptions where subscription = '{subscription}'"
    );
    wait_for_value(
        &format!("of subscription {subscription} {condition}"),
        DEFAULT_DEADLINE,
        || status.rows(&sql),
        |rows| rows.len() == 1 && rows[0].is("met", "t"),
    )
    .remove(0)
}

/// The publisher has answered once more since now, and its facts are there.
#[track_caller]
pub(crate) fn wait_asked_anew(status: Status<'_>, subscription: &str) -> Row {
    let now = status.rows("select clock_timestamp() as now").remove(0);
    wait_where(
        status,
        subscription,
        &format!(
            "asked_at > '{}' and publisher_lsn is not null and lag_bytes is not null",
            now.text("now")
        ),
    )
}

/// Columns that only the publisher can tell.
const PUBLISHERS: [&str; 9] = [
    "publisher_lsn",
    "lag_bytes",
    "lag",
    "slot_active",
    "restart_lsn",
    "retained_bytes",
    "wal_status",
    "safe_wal_size",
    "warning",
];

/// Waits until nothing is said that only the publisher can tell: NULL, not 0.
#[track_caller]
pub(crate) fn wait_no_facts(status: Status<'_>, subscription: &str) -> Row {
    let condition = format!("num_nonnulls({}) = 0", PUBLISHERS.join(", "));
    wait_where(status, subscription, &condition)
}

/// A new table on the publisher, which nobody publishes: WAL without anything to apply.
fn write_wal(pair: &Pair) {
    pair.on_publisher(
        "create table if not exists unpublished (t text);
         insert into unpublished select repeat('x', 1000) from generate_series(1, 1000)",
    );
}

fn publisher_is_asked_again_and_again(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    let mut seen = wait_asked_anew(status, SUBSCRIPTION);
    for _ in 0..3 {
        write_wal(&pair);
        let (at, lsn) = (seen.text("asked_at"), seen.text("publisher_lsn"));
        let condition = format!("asked_at > '{at}' and publisher_lsn > '{lsn}'");
        seen = wait_where(status, SUBSCRIPTION, &condition);
    }
    let now: String = pair
        .publisher()
        .query_one_value(pair.database(), "select pg_current_wal_lsn()::text");
    assert!(
        wait_where(
            status,
            SUBSCRIPTION,
            &format!("publisher_lsn >= '{now}' and asked_at <= clock_timestamp()")
        )
        .is_null("warning")
    );
}

fn slot_is_seen(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    let slot = pair.slot_name();
    let seen = wait_where(
        status,
        SUBSCRIPTION,
        "slot_active and wal_status = 'reserved' and retained_bytes = publisher_lsn - restart_lsn",
    );
    assert_eq!(seen.text("slot_name"), slot);
    assert!(seen.is_null("safe_wal_size"), "no limit is set: {seen:?}");
    pair.disable();
    wait_where(status, SUBSCRIPTION, "not slot_active");
    let on_publisher: String = pair.publisher().query_one_value(
        pair.database(),
        &format!("select restart_lsn::text from pg_replication_slots where slot_name = '{slot}'"),
    );
    // It stays where it is while nobody reads from the slot, and what is retained for it grows.
    let before = wait_where(
        status,
        SUBSCRIPTION,
        &format!("restart_lsn = '{on_publisher}'"),
    );
    write_wal(&pair);
    wait_where(
        status,
        SUBSCRIPTION,
        &format!(
            "restart_lsn = '{on_publisher}' and retained_bytes > {} + 1000000",
            before.text("retained_bytes")
        ),
    );
}

const NO_LAG: &str = "lag_bytes = 0 and lag = '0'";

fn lag_comes_and_goes_with_a_lock(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    wait_where(status, SUBSCRIPTION, NO_LAG);
    let lock = Lock::on_subscriber(&pair, "loan_app");
    insert(&pair, 101, 200);
    let blocked = wait_where(status, SUBSCRIPTION, "lag_bytes > 0 and lag > '0'");
    insert(&pair, 201, 300);
    wait_where(
        status,
        SUBSCRIPTION,
        &format!(
            "lag_bytes > {} and lag > '{}'",
            blocked.text("lag_bytes"),
            blocked.text("lag")
        ),
    );
    drop(lock);
    pair.wait_caught_up();
    // The publisher writes no more, or only what is not published: its own house-keeping.
    wait_where(status, SUBSCRIPTION, NO_LAG);
    write_wal(&pair);
    wait_where(status, SUBSCRIPTION, NO_LAG);
}

fn lag_of_a_disabled_subscription_grows(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    pair.disable();
    status.wait_cause("disabled", Some("disabled"));
    for _ in 0..3 {
        let before = wait_asked_anew(status, SUBSCRIPTION);
        insert(&pair, 1, 100);
        write_wal(&pair);
        wait_where(
            status,
            SUBSCRIPTION,
            &format!("lag_bytes > {} + 1000000", before.text("lag_bytes")),
        );
    }
    pair.enable();
    pair.wait_caught_up();
    wait_where(status, SUBSCRIPTION, NO_LAG);
}

fn positions_reach_the_publishers(provider: Provider) {
    let pair = streaming(provider);
    let status = Status::of(&pair);
    for round in 1..4 {
        insert(&pair, round, round + 1000);
        let committed: String = pair
            .publisher()
            .query_one_value(pair.database(), "select pg_current_wal_lsn()::text");
        pair.wait_caught_up();
        // pglogical does not tell what it has received.
        let received = match provider {
            Provider::Native => format!("received_lsn >= '{committed}'"),
            Provider::Pglogical => "received_lsn is null".to_owned(),
        };
        wait_where(
            status,
            SUBSCRIPTION,
            &format!(
                "applied_lsn >= '{committed}' and publisher_lsn >= '{committed}' and {received}"
            ),
        );
    }
    // What has only been received is not applied.
    let lock = Lock::on_subscriber(&pair, "loan_app");
    insert(&pair, 1, 100);
    let committed: String = pair
        .publisher()
        .query_one_value(pair.database(), "select pg_current_wal_lsn()::text");
    wait_where(
        status,
        SUBSCRIPTION,
        &format!("publisher_lsn >= '{committed}' and applied_lsn < '{committed}'"),
    );
    drop(lock);
    wait_where(
        status,
        SUBSCRIPTION,
        &format!("applied_lsn >= '{committed}'"),
    );
}

/// Goes to the next file of WAL.
fn switch_wal(pair: &Pair) {
    write_wal(pair);
    pair.on_publisher("select pg_switch_wal()");
}

/// A disabled subscription whose publisher keeps no more than this for it.
fn limited(provider: Provider, keep: &str) -> Pair {
    let pair = status::builder(provider)
        .publisher_setting("max_slot_wal_keep_size", keep)
        .start();
    let pair = streaming_from(pair);
    pair.disable();
    wait_where(
        Status::of(&pair),
        SUBSCRIPTION,
        "not slot_active and safe_wal_size is not null",
    );
    pair
}

fn lost_slot_is_told_by_the_subscription(provider: Provider) {
    let pair = limited(provider, "32MB");
    let status = Status::of(&pair);
    for _ in 0..4 {
        switch_wal(&pair);
    }
    // A checkpoint may come by itself; then the WAL is gone already.
    let endangered = wait_where(
        status,
        SUBSCRIPTION,
        "wal_status in ('unreserved', 'lost') and warning is not null",
    );
    assert!(endangered.is("state", "disabled"), "{endangered:?}");
    pair.on_publisher("checkpoint");
    wait_where(
        status,
        SUBSCRIPTION,
        "wal_status = 'lost' and warning is not null",
    );
    pair.enable();
    let lost = status.wait_cause("retrying", Some("slot_invalidated"));
    assert!(!lost.text("remedy").is_empty());
}

#[test]
fn warning_before_the_publisher_gives_up_the_wal() {
    let pair = limited(Provider::Native, "64MB");
    let status = Status::of(&pair);
    let slot = format!(
        "select safe_wal_size from pg_replication_slots where slot_name = '{}'",
        pair.slot_name()
    );
    let left = || -> i64 { pair.publisher().query_one_value(pair.database(), &slot) };
    const QUARTER: i64 = 16 << 20;
    let room = wait_asked_anew(status, SUBSCRIPTION);
    assert!(left() > QUARTER && room.is_null("warning"), "{room:?}");
    while left() > QUARTER {
        switch_wal(&pair);
    }
    write_wal(&pair);
    assert!(left() > 0, "it is still there: {}", left());
    let warned = wait_where(status, SUBSCRIPTION, "warning is not null");
    assert!(
        ["reserved", "extended"].contains(&warned.text("wal_status")),
        "{warned:?}"
    );
    pair.enable();
    pair.wait_caught_up();
    wait_freed(&pair);
}

#[test]
fn warning_before_the_wal_fills_the_publishers_disk() {
    let pair = status::builder(Provider::Native)
        .publisher_setting("min_wal_size", "32MB")
        .publisher_setting("max_wal_size", "32MB")
        .start();
    let pair = streaming_from(pair);
    let status = Status::of(&pair);
    assert!(wait_asked_anew(status, SUBSCRIPTION).is_null("warning"));
    pair.disable();
    for _ in 0..6 {
        switch_wal(&pair);
    }
    let warned = wait_where(status, SUBSCRIPTION, "warning is not null");
    assert!(
        warned.number("retained_bytes") > 64e6 && warned.is_null("safe_wal_size"),
        "{warned:?}"
    );
    assert!(
        status.report().join("\n").contains("WAL"),
        "{:#?}",
        status.report()
    );
    pair.enable();
    pair.wait_caught_up();
    wait_freed(&pair);
}

/// Waits until the slot has let the old WAL go and the warning is gone. The publisher lets it go when the subscriber
/// has confirmed a list of running transactions, which a checkpoint writes.
#[track_caller]
fn wait_freed(pair: &Pair) {
    pair.subscriber().set("wal_receiver_status_interval", "1s");
    wait_for_value(
        "the slot needs the old WAL no longer, and nobody warns",
        DEFAULT_DEADLINE,
        || {
            insert(pair, 1, 1);
            pair.on_publisher("checkpoint");
            Status::of(pair).subscription()
        },
        |row| row.is_null("warning") && row.number("retained_bytes") < 16e6,
    );
}

#[test]
fn tables_that_are_published_and_not_subscribed_are_a_warning() {
    let pair = streaming(Provider::Native);
    let status = Status::of(&pair);
    assert!(wait_asked_anew(status, SUBSCRIPTION).is_null("warning"));
    pair.on_both("create table late (id int primary key)");
    pair.on_publisher("alter publication pub add table late");
    // The list of tables is asked for when the publisher is first asked, and then each minute.
    pair.subscriber().restart();
    wait_where(status, SUBSCRIPTION, "warning is not null");
    pair.on_subscriber("alter subscription sub refresh publication");
    wait_where(status, SUBSCRIPTION, "warning is null and tables_total = 2");
}
