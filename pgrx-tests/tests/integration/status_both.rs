//! Databases with both providers, with one half of one, and with none.

use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, Provider, Publication, wait_for_value, wait_until,
};

use crate::loan::on_both_providers;
use crate::status::{self, Lock, Row, Status};
use crate::workers::wait_for_workers;

on_both_providers!(database_without_the_extension, extension_that_comes_late);

/// A pair of pglogical whose database has a native subscription of another table besides.
fn both(native_name: &str) -> Pair {
    let pair = status::streaming(
        status::builder(Provider::Pglogical)
            .subscriber_setting("replwarden.stall_timeout", "300ms")
            .start(),
    );
    pair.on_both("create table thing (id int primary key)");
    pair.on_publisher("create publication pub for table thing");
    pair.on_publisher("insert into thing values (1)");
    pair.on_subscriber(&format!(
        "create subscription {native_name} connection '{}' publication pub",
        pair.publisher().conninfo(pair.database())
    ));
    pair
}

#[track_caller]
fn wait_both(status: Status<'_>, what: &str, accept: impl Fn(&Row, &Row) -> bool) -> (Row, Row) {
    let rows = wait_for_value(
        &format!("the native and the pglogical subscription {what}"),
        DEFAULT_DEADLINE,
        || status.subscriptions(),
        |rows| match rows.as_slice() {
            [native, pglogical] => {
                assert!(native.is("provider", "native"), "{rows:?}");
                assert!(pglogical.is("provider", "pglogical"), "{rows:?}");
                accept(native, pglogical)
            }
            _ => false,
        },
    );
    (rows[0].clone(), rows[1].clone())
}

fn is_well(row: &Row) -> bool {
    row.is("state", "streaming") && row.is("lag_bytes", "0") && row.is("tables_ready", "1")
}

#[track_caller]
fn wait_well(status: Status<'_>) {
    wait_both(status, "stream", |native, pglogical| {
        is_well(native) && is_well(pglogical)
    });
}

#[test]
fn both_providers_in_one_database() {
    let pair = both("second");
    let status = Status::of(&pair);
    wait_well(status);
    let tables: Vec<String> = status
        .tables()
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {}",
                row.text("provider"),
                row.text("subscription"),
                row.text("relation_name"),
                row.text("state")
            )
        })
        .collect();
    assert_eq!(
        tables,
        [
            "native second public.thing ready",
            "pglogical sub public.item ready"
        ]
    );
    let appliers: Vec<String> = status
        .workers()
        .iter()
        .filter(|row| row.is("kind", "apply"))
        .map(|row| format!("{} {}", row.text("provider"), row.text("subscription")))
        .collect();
    assert_eq!(appliers, ["native second", "pglogical sub"]);
    let report = status.report().join("\n");
    assert!(
        report.contains("second") && report.contains("sub"),
        "{report}"
    );
    let snapshot = status
        .rows("select jsonb_array_length(repl_snapshot() -> 'subscriptions') as subscriptions");
    assert!(snapshot[0].is("subscriptions", "2"), "{snapshot:?}");

    // What befalls one is not the other's.
    let lock = Lock::on_subscriber(&pair, "thing");
    pair.on_publisher("insert into thing values (10); insert into item values (10)");
    let (native, pglogical) = wait_both(status, "are stalled and well", |native, pglogical| {
        native.is("state", "stalled") && is_well(pglogical)
    });
    assert!(native.text("remedy").contains(&lock.pid), "{native:?}");
    assert!(pglogical.is_null("remedy"), "{pglogical:?}");
    drop(lock);
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into thing values (11); insert into item values (11)");
    let (native, pglogical) = wait_both(status, "are well and stalled", |native, pglogical| {
        is_well(native) && pglogical.is("state", "stalled")
    });
    assert!(
        pglogical.text("remedy").contains(&lock.pid),
        "{pglogical:?}"
    );
    assert!(native.is_null("remedy"), "{native:?}");
    drop(lock);
    wait_well(status);
    pair.disable();
    wait_both(status, "are well and disabled", |native, pglogical| {
        is_well(native) && pglogical.is("state", "disabled")
    });
}

#[test]
fn subscriptions_of_one_name() {
    let pair = both("sub");
    let status = Status::of(&pair);
    wait_well(status);
    let report = status
        .rows("select line from repl_status('sub') line")
        .iter()
        .map(|row| row.get("line").unwrap_or_default().to_owned())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        report.contains("native") && report.contains("pglogical"),
        "{report}"
    );
    pair.on_subscriber("alter subscription sub disable");
    let (native, _) = wait_both(status, "are disabled and well", |native, pglogical| {
        native.is("state", "disabled") && is_well(pglogical)
    });
    pair.on_subscriber(native.text("remedy"));
    wait_well(status);
}

/// Nothing is shown, and nothing is an error.
#[track_caller]
fn assert_nothing_there(status: Status<'_>) {
    assert!(status.subscriptions().is_empty());
    assert!(status.tables().is_empty());
    let workers = status.workers();
    assert!(
        workers.iter().all(|row| row.is_null("subscription")),
        "{workers:?}"
    );
    assert!(!status.report().is_empty());
    let snapshot = status.rows(
        "select s ->> 'subscriptions' as subscriptions, s ->> 'tables' as tables from repl_snapshot() s",
    );
    assert!(snapshot[0].is("subscriptions", "[]"), "{snapshot:?}");
    assert!(snapshot[0].is("tables", "[]"), "{snapshot:?}");
}

/// The log's lines that tell of replwarden's troubles.
fn troubles(cluster: &Cluster) -> Vec<String> {
    cluster
        .log()
        .lines()
        .filter(|line| {
            ["WARNING", "ERROR", "FATAL", "PANIC"]
                .iter()
                .any(|level| line.contains(&format!("{level}:")))
                && line.contains("replwarden")
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn database_with_neither() {
    for preloaded in [true, false] {
        let mut builder = Cluster::builder("neither");
        if preloaded {
            builder = builder
                .setting("shared_preload_libraries", "replwarden")
                .setting("replwarden.watch_interval", "200ms");
        }
        let cluster = builder.start();
        cluster.execute("postgres", "create extension replwarden");
        let status = Status::on(&cluster, "postgres");
        if preloaded {
            status.wait_looked();
        }
        assert_nothing_there(status);
        assert!(troubles(&cluster).is_empty(), "{:?}", troubles(&cluster));
    }
}

#[test]
fn shorter_watch_interval_counts_at_once() {
    let cluster = Cluster::builder("interval")
        .setting("shared_preload_libraries", "replwarden")
        .setting("replwarden.watch_interval", "1h")
        .start();
    cluster.execute("postgres", "create extension replwarden");
    let sql = "select from repl_snapshot() s where s #>> '{installation,sampled_at}' is not null";
    wait_until("the worker has looked once", DEFAULT_DEADLINE, || {
        !cluster.rows_text("postgres", sql).is_empty()
    });
    cluster.set("replwarden.watch_interval", "200ms");
    Status::on(&cluster, "postgres").wait_looked();
}

#[test]
fn pglogical_that_is_not_set_up() {
    let cluster = Cluster::builder("half")
        .setting("shared_preload_libraries", "pglogical, replwarden")
        .setting("replwarden.watch_interval", "200ms")
        .start();
    cluster.execute("postgres", "create extension replwarden");
    let status = Status::on(&cluster, "postgres");
    status.wait_looked();
    assert_nothing_there(status);
    cluster.execute("postgres", "create extension pglogical");
    status.wait_looked();
    assert_nothing_there(status);
    let node = cluster.conninfo("postgres");
    cluster.execute(
        "postgres",
        &format!("select pglogical.create_node('node', '{node}')"),
    );
    status.wait_looked();
    assert_nothing_there(status);
    cluster.execute(
        "postgres",
        "select pglogical.drop_node('node'); drop extension pglogical",
    );
    status.wait_looked();
    assert_nothing_there(status);
    assert!(troubles(&cluster).is_empty(), "{:?}", troubles(&cluster));
}

/// The library is preloaded, the extension is in another database, and the subscription is none of its business.
fn database_without_the_extension(provider: Provider) {
    let pair = status::builder(provider).start();
    pair.on_both("create table item (id int primary key, note text)");
    pair.publish(&Publication::of("item"));
    pair.on_publisher("insert into item values (1), (2)");
    pair.subscribe();
    pair.wait_copied();
    let subscriber = pair.subscriber();
    subscriber.execute("postgres", "create extension replwarden");
    let status = Status::on(subscriber, "postgres");
    status.wait_looked();
    assert_nothing_there(status);
    pair.on_publisher("insert into item values (3)");
    pair.wait_caught_up();
    pair.compare("table item order by id", "table item order by id");
    wait_for_workers(subscriber, &["postgres"]);
    assert!(
        troubles(subscriber).is_empty(),
        "{:?}",
        troubles(subscriber)
    );
}

fn extension_that_comes_late(provider: Provider) {
    let pair = status::builder(provider).start();
    pair.on_both("create table item (id int primary key, note text)");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    pair.wait_copied();
    pair.on_subscriber("create extension replwarden");
    let status = Status::of(&pair);
    status.wait_subscription("streams", is_well);
    pair.on_subscriber("drop extension replwarden; create extension replwarden");
    status.wait_subscription("streams again", is_well);
}

#[test]
fn quiet_worker_uses_no_transaction_ids() {
    let pair = status::streaming(
        status::builder(Provider::Native)
            .subscriber_setting("autovacuum", "off")
            .subscriber_setting("checkpoint_timeout", "1d")
            .start(),
    );
    let status = Status::of(&pair);
    pair.wait_copied();
    pair.wait_caught_up();
    let observe = || {
        status.wait_looked();
        pair.subscriber()
            .rows_text(
                pair.database(),
                "select pg_snapshot_xmax(pg_current_snapshot())",
            )
            .concat()
    };
    // What has come with the subscription has an end.
    let before = wait_for_value(
        "two looks without a new transaction id",
        DEFAULT_DEADLINE,
        || (observe(), observe()),
        |(one, other)| one == other,
    );
    for _ in 0..10 {
        assert_eq!(observe(), before.1);
    }
}
