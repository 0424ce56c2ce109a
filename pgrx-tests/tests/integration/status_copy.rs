//! How far an initial copy is.

use postgres::Client;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, SUBSCRIPTION, wait_until};

use crate::database::lines;
use crate::loan::on_both_providers;
use crate::status::{self, Row, Status};
use crate::status_publisher::wait_where;

on_both_providers!(
    copy_is_seen_on_its_way,
    copy_is_in_the_report,
    copy_without_statistics_of_the_publisher,
    copy_of_more_rows_than_the_publisher_has_counted,
    copy_of_values_that_the_publisher_has_compressed,
    tables_are_counted_when_they_are_ready,
    copy_beside_the_stream_is_seen,
);

const ROWS: u32 = 10_000;

/// The rows at which a copy stands still; the row's number is the key of the lock that it waits for.
const EARLY: u32 = 2000;
const LATE: u32 = 8000;

/// A session that lets a copy come as far as the rows `EARLY` and `LATE`.
struct Barrier(Client);

impl Barrier {
    /// For a table of the subscriber with a column `id`.
    #[track_caller]
    fn before_rows(pair: &Pair, table: &str) -> Self {
        pair.on_subscriber(&format!(
            "create function wait_for_lock() returns trigger language plpgsql set search_path = pg_catalog as
             $$ begin
                    if new.id in ({EARLY}, {LATE}) then perform pg_advisory_xact_lock_shared(new.id); end if;
                    return new;
                end $$;
             create trigger wait_for_lock before insert on {table} for each row execute function wait_for_lock();
             alter table {table} enable always trigger wait_for_lock"
        ));
        let mut session = pair.subscriber().connect(pair.database());
        lines(
            &mut session,
            &format!("select pg_advisory_lock({EARLY}), pg_advisory_lock({LATE})"),
        );
        Self(session)
    }

    #[track_caller]
    fn open(&mut self, row: u32) {
        let opened = lines(&mut self.0, &format!("select pg_advisory_unlock({row})"));
        assert_eq!(opened, ["t"]);
    }

    /// Waits until the copy stands before this row.
    #[track_caller]
    fn wait_reached(&mut self, row: u32) {
        let waiting = format!(
            "select count(*) from pg_locks where locktype = 'advisory' and objid = {row} and not granted"
        );
        wait_until(
            &format!("the copy has come to row {row}"),
            DEFAULT_DEADLINE,
            || lines(&mut self.0, &waiting) == ["1"],
        );
    }
}

/// A watched pair with the published table `item (id, note)`, of which there are `ROWS` rows on the publisher. What a
/// copy waits for is no stall here.
fn pair(provider: Provider) -> Pair {
    let pair = status::builder(provider)
        .subscriber_setting("replwarden.stall_timeout", "10min")
        .start();
    pair.on_subscriber("create extension replwarden");
    pair.on_both("create table item (id int primary key, note text)");
    pair.publish(&Publication::of("item"));
    fill(&pair, "item", ROWS);
    pair
}

fn fill(pair: &Pair, table: &str, rows: u32) {
    pair.on_publisher(&format!(
        "insert into {table} select n, repeat('x', 100) from generate_series(1, {rows}) n"
    ));
}

/// The row of `public.item` when it says that a copy stands before this row of the table.
#[track_caller]
fn wait_standing(status: Status<'_>, before: u32) -> Row {
    let copied = (before - 1).to_string();
    let row = status.wait_table(
        "public.item",
        &format!("with {copied} rows copied"),
        |row| row.is("rows_copied", &copied) && !row.is_null("bytes_total"),
    );
    assert_sane(&row);
    row
}

/// What holds of every copy that is under way.
#[track_caller]
fn assert_sane(row: &Row) {
    assert!(row.number("bytes_copied") > 0.0, "{row:?}");
    assert!(row.number("bytes_total") > 0.0, "{row:?}");
    assert_percentage(row, "percent");
    if !row.is_null("bytes_per_second") {
        assert!(row.number("bytes_per_second") >= 0.0, "{row:?}");
    }
    if let Some(eta) = row.get("eta") {
        assert!(!eta.contains('-'), "{row:?}");
    }
    assert!(row.is_null("last_error"), "{row:?}");
}

/// It may be unknown.
#[track_caller]
fn assert_percentage(row: &Row, column: &str) {
    assert!(
        row.is_null(column) || (0.0..=100.0).contains(&row.number(column)),
        "{column}: {row:?}"
    );
}

/// The process that copies.
#[track_caller]
fn copying_pid(pair: &Pair) -> String {
    let pids = lines(
        &mut pair.subscriber().connect(pair.database()),
        "select pid from pg_stat_progress_copy where relid = 'item'::regclass",
    );
    assert_eq!(pids.len(), 1, "{pids:?}");
    pids[0].clone()
}

/// Nothing of the copy is left in the views.
#[track_caller]
fn assert_nothing_left(status: Status<'_>) {
    let done = status.wait_state("streaming");
    assert_eq!(done.text("tables_ready"), done.text("tables_total"));
    for column in ["copy_percent", "copy_bytes_per_second", "copy_eta", "cause"] {
        assert!(done.is_null(column), "{column}: {done:?}");
    }
    let tables = status.tables();
    assert!(!tables.is_empty());
    for table in tables {
        assert!(
            table.is("state", "ready") && table.is("state_code", "r"),
            "{table:?}"
        );
        for column in [
            "worker_pid",
            "rows_copied",
            "bytes_copied",
            "percent",
            "bytes_per_second",
            "eta",
            "last_error",
        ] {
            assert!(table.is_null(column), "{column}: {table:?}");
        }
    }
}

fn copy_is_seen_on_its_way(provider: Provider) {
    let pair = pair(provider);
    pair.on_publisher("analyze item");
    let mut barrier = Barrier::before_rows(&pair, "item");
    pair.subscribe();
    barrier.wait_reached(EARLY);
    let status = Status::of(&pair);
    let early = wait_standing(status, EARLY);
    assert_eq!(early.text("worker_pid"), copying_pid(&pair));
    let on_disk: i64 = pair
        .publisher()
        .query_one_value(pair.database(), "select pg_relation_size('item')");
    assert_eq!(early.number("bytes_total"), on_disk as f64);
    let percent = early.number("percent");
    assert!(percent > 0.0 && percent < 100.0, "{early:?}");
    let copying = wait_where(
        status,
        SUBSCRIPTION,
        "state = 'copying' and copy_percent > 0 and copy_percent < 100 and tables_ready = 0 and tables_total = 1",
    );
    assert!(copying.is("enabled", "t"), "{copying:?}");
    if !copying.is_null("copy_bytes_per_second") {
        assert!(
            copying.number("copy_bytes_per_second") >= 0.0,
            "{copying:?}"
        );
    }
    if let Some(eta) = copying.get("copy_eta") {
        assert!(!eta.contains('-'), "{copying:?}");
    }

    barrier.open(EARLY);
    barrier.wait_reached(LATE);
    let late = wait_standing(status, LATE);
    assert_eq!(late.text("worker_pid"), early.text("worker_pid"));
    assert!(late.number("bytes_copied") > early.number("bytes_copied"));
    assert!(
        late.number("percent") > percent && late.number("percent") < 100.0,
        "{late:?}"
    );
    wait_where(
        status,
        SUBSCRIPTION,
        &format!(
            "state = 'copying' and copy_percent > {} and copy_percent < 100",
            copying.text("copy_percent")
        ),
    );

    barrier.open(LATE);
    pair.wait_copied();
    assert_nothing_left(status);
    pair.compare(
        "select * from item order by id",
        "select * from item order by id",
    );
}

fn copy_is_in_the_report(provider: Provider) {
    let pair = pair(provider);
    pair.on_publisher("analyze item");
    let mut barrier = Barrier::before_rows(&pair, "item");
    pair.subscribe();
    barrier.wait_reached(EARLY);
    let status = Status::of(&pair);
    wait_standing(status, EARLY);
    let report = status.report();
    let text = report.join("\n");
    assert!(text.contains("copying"), "{report:#?}");
    let bar = report
        .iter()
        .find(|line| line.contains("public.item") && line.contains('%'));
    let bar = bar.unwrap_or_else(|| panic!("no bar for the table: {report:#?}"));
    assert!(bar.contains("[#") && bar.contains(']'), "{bar}");
    assert!(
        report
            .iter()
            .all(|line| line.len() <= 100 && line.is_ascii()),
        "{report:#?}"
    );
    let full = |line: &str| line.matches('#').count();
    let early = full(bar);

    barrier.open(EARLY);
    barrier.wait_reached(LATE);
    wait_standing(status, LATE);
    let report = status.report();
    let bar = report
        .iter()
        .find(|line| line.contains("public.item") && line.contains('%'));
    assert!(bar.is_some_and(|bar| full(bar) > early), "{report:#?}");

    barrier.open(LATE);
    pair.wait_copied();
    assert_nothing_left(status);
    let text = status.report().join("\n");
    assert!(
        text.contains("streaming") && !text.contains("copying"),
        "{text}"
    );
}

fn copy_without_statistics_of_the_publisher(provider: Provider) {
    let pair = pair(provider);
    let counted: f32 = pair.publisher().query_one_value(
        pair.database(),
        "select reltuples from pg_class where oid = 'item'::regclass",
    );
    assert!(counted <= 0.0, "nobody has counted: {counted}");
    let mut barrier = Barrier::before_rows(&pair, "item");
    pair.subscribe();
    barrier.wait_reached(EARLY);
    let status = Status::of(&pair);
    wait_standing(status, EARLY);
    let copying = status.wait_state("copying");
    assert!(copying.is_null("last_error"), "{copying:?}");
    barrier.open(EARLY);
    barrier.wait_reached(LATE);
    wait_standing(status, LATE);
    status.report();
    barrier.open(LATE);
    pair.wait_copied();
    assert_nothing_left(status);
}

fn copy_of_more_rows_than_the_publisher_has_counted(provider: Provider) {
    let pair = pair(provider);
    // As if all but a few rows had come since.
    pair.on_publisher("analyze item");
    pair.on_publisher(
        "update pg_class set reltuples = 100, relpages = 2 where oid = 'item'::regclass",
    );
    let mut barrier = Barrier::before_rows(&pair, "item");
    barrier.open(EARLY);
    pair.subscribe();
    barrier.wait_reached(LATE);
    let status = Status::of(&pair);
    wait_standing(status, LATE);
    assert_percentage(&status.wait_state("copying"), "copy_percent");
    barrier.open(LATE);
    pair.wait_copied();
    assert_nothing_left(status);
}

fn copy_of_values_that_the_publisher_has_compressed(provider: Provider) {
    let pair = pair(provider);
    pair.on_publisher("truncate item");
    pair.on_publisher(&format!(
        "insert into item select n, repeat('x', 3000) from generate_series(1, {ROWS}) n"
    ));
    let mut barrier = Barrier::before_rows(&pair, "item");
    pair.subscribe();
    barrier.wait_reached(EARLY);
    let status = Status::of(&pair);
    let row = wait_standing(status, EARLY);
    assert!(
        row.number("bytes_copied") > row.number("bytes_total"),
        "as it should be here: {row:?}"
    );
    let copying = status.wait_state("copying");
    assert_percentage(&copying, "copy_percent");
    for row in [EARLY, LATE] {
        barrier.open(row);
    }
    pair.wait_copied();
    assert_nothing_left(status);
}

/// pglogical copies all tables in one transaction, and none is ready before all are.
fn tables_are_counted_when_they_are_ready(provider: Provider) {
    let pair = status::builder(provider)
        .subscriber_setting("replwarden.stall_timeout", "10min")
        .start();
    pair.on_subscriber("create extension replwarden");
    let mut publication = Publication::default();
    for table in ["item", "first", "second"] {
        pair.on_both(&format!(
            "create table {table} (id int primary key, note text)"
        ));
        fill(&pair, table, ROWS);
        publication = publication.table(table);
    }
    pair.publish(&publication);
    let mut barrier = Barrier::before_rows(&pair, "item");
    pair.subscribe();
    barrier.wait_reached(EARLY);
    let status = Status::of(&pair);
    let ready = if provider == Provider::Native { 2 } else { 0 };
    wait_where(
        status,
        SUBSCRIPTION,
        &format!("state = 'copying' and tables_total = 3 and tables_ready = {ready}"),
    );
    let names: Vec<String> = status
        .tables()
        .iter()
        .map(|row| row.text("relation_name").to_owned())
        .collect();
    assert_eq!(names, ["public.first", "public.item", "public.second"]);
    for row in [EARLY, LATE] {
        barrier.open(row);
    }
    pair.wait_copied();
    let done = wait_where(status, SUBSCRIPTION, "tables_ready = 3");
    assert!(done.is("tables_total", "3"), "{done:?}");
    assert_nothing_left(status);
}

/// A table that is copied while the others stream: added later, or copied again.
fn copy_beside_the_stream_is_seen(provider: Provider) {
    let pair = pair(provider);
    pair.on_both("create table first (id int primary key, note text)");
    for sql in pair.publish_sql(&Publication::of("first")) {
        pair.on_publisher(&match provider {
            Provider::Native => "alter publication pub add table first".to_owned(),
            Provider::Pglogical => sql,
        });
    }
    if provider == Provider::Native {
        pair.on_publisher("alter publication pub drop table item");
    }
    pair.subscribe();
    pair.wait_copied();
    let status = Status::of(&pair);
    wait_where(status, SUBSCRIPTION, "state = 'streaming'");
    let mut barrier = Barrier::before_rows(&pair, "item");
    match provider {
        Provider::Native => {
            pair.on_publisher("alter publication pub add table item");
            pair.on_subscriber("alter subscription sub refresh publication");
        }
        Provider::Pglogical => pair.on_subscriber(
            "select pglogical.alter_subscription_resynchronize_table('sub', 'item')",
        ),
    }
    barrier.wait_reached(EARLY);
    let standing = wait_standing(status, EARLY);
    assert_eq!(standing.text("worker_pid"), copying_pid(&pair));
    wait_where(
        status,
        SUBSCRIPTION,
        "state = 'copying' and tables_total = 2 and tables_ready = 1 and copy_percent < 100",
    );
    status.wait_table_state("public.first", "ready");
    for row in [EARLY, LATE] {
        barrier.open(row);
    }
    wait_where(status, SUBSCRIPTION, "tables_ready = 2");
    assert_nothing_left(status);
    pair.compare(
        "select * from item order by id",
        "select * from item order by id",
    );
}
