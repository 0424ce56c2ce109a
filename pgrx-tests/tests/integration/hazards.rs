//! What will break later on a subscriber is warned of before it does, and no more when it is mended.

use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, Publication, SUBSCRIPTION, ShutdownMode, wait_for_value,
};

use crate::loan::on_both_providers;
use crate::status::{self, Row, Status};

const GENERATED: &str = "generated_column_crash";
const PARTITIONED: &str = "partitioned_table_crash";
const LOSS: &str = "silent_loss";
const SEQUENCE: &str = "sequence_behind";

/// What `repl_diagnose` says of hazards, of one cause or of any.
#[track_caller]
fn warnings(status: Status<'_>, causes: &[&str]) -> Vec<Row> {
    status.rows(&format!(
        "select * from repl_diagnose() where cause in ('{}') order by cause, finding",
        causes.join("', '")
    ))
}

/// The words of the events of a cause, from the oldest on.
#[track_caller]
fn events(status: Status<'_>, cause: &str) -> Vec<String> {
    let rows = status.rows(&format!(
        "select event from repl_events where cause = '{cause}' order by id"
    ));
    rows.iter()
        .map(|row| row.text("event").to_owned())
        .collect()
}

#[track_caller]
fn wait_warnings(
    status: Status<'_>,
    cause: &str,
    what: &str,
    accept: impl Fn(&[Row]) -> bool,
) -> Vec<Row> {
    wait_for_value(
        &format!("repl_diagnose() {what} {cause}"),
        DEFAULT_DEADLINE,
        || warnings(status, &[cause]),
        |rows| accept(rows),
    )
}

/// Waits until there is one warning of this cause, and an event has said so.
#[track_caller]
fn wait_warned(status: Status<'_>, cause: &str) -> Row {
    let mut rows = wait_warnings(status, cause, "warns once of", |rows| rows.len() == 1);
    wait_events(status, cause, &["hazard"]);
    let row = rows.remove(0);
    assert!(row.is("severity", "warning"), "{row:?}");
    assert!(row.is("subscription", SUBSCRIPTION), "{row:?}");
    assert!(!row.is_null("finding"), "{row:?}");
    assert!(!row.is_null("evidence"), "{row:?}");
    row
}

/// Waits until there is no warning of this cause any more, and an event has said so.
#[track_caller]
fn wait_ended(status: Status<'_>, cause: &str) {
    wait_warnings(status, cause, "warns no more of", <[Row]>::is_empty);
    wait_events(status, cause, &["hazard", "hazard_ended"]);
}

#[track_caller]
fn wait_events(status: Status<'_>, cause: &str, expected: &[&str]) {
    wait_for_value(
        &format!("the events of {cause} are {expected:?}"),
        DEFAULT_DEADLINE,
        || events(status, cause),
        |seen| seen == expected,
    );
}

/// So long that everything that is looked at seldom was looked at more than once.
#[track_caller]
fn look_for_long(status: Status<'_>) {
    for _ in 0..20 {
        status.wait_looked();
    }
}

#[track_caller]
fn assert_never_crashed(pair: &Pair) {
    assert!(!pair.subscriber().log().contains("was terminated by signal"));
}

on_both_providers!(healthy_pair, sequence_that_is_behind);

fn healthy_pair(provider: Provider) {
    let pair = status::streaming(status::builder(provider).start());
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    look_for_long(status);
    let warnings = warnings(status, &[GENERATED, PARTITIONED, LOSS, SEQUENCE]);
    assert!(warnings.is_empty(), "{warnings:?}");
    let told = status.rows("select * from repl_events where event like 'hazard%'");
    assert!(told.is_empty(), "{told:?}");
}

fn sequence_that_is_behind(provider: Provider) {
    let pair = status::builder(provider).start();
    pair.on_both("create table numbered (id serial primary key, note text)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("numbered"));
    pair.on_publisher("insert into numbered (note) select 'row' from generate_series(1, 50)");
    pair.subscribe();
    pair.wait_copied();
    let status = Status::of(&pair);
    let row = wait_warned(status, SEQUENCE);
    assert!(
        row.text("finding").contains("public.numbered_id_seq"),
        "{row:?}"
    );
    let insert = "insert into numbered (note) values ('local')";
    let error = pair.subscriber().expect_error(pair.database(), insert);
    assert_eq!(error.code().code(), "23505");
    pair.on_subscriber(row.text("remedy"));
    wait_ended(status, SEQUENCE);
    pair.on_subscriber(insert);
}

#[test]
fn sequences_that_count_down_or_are_shared() {
    let pair = status::builder(Provider::Native).start();
    let tables = "
        create sequence down increment by -2;
        create table below (id int primary key default nextval('down'));
        create sequence \"both's\";
        create table \"first table\" (\"I\" bigint primary key default nextval('\"both''s\"'));
        create table second (id numeric primary key default nextval('\"both''s\"'));
        create table unnumbered (id int primary key, note text)";
    pair.on_both(tables);
    pair.on_subscriber("create extension replwarden");
    let publication = Publication::of("below").table("\"first table\"");
    pair.publish(&publication.table("second").table("unnumbered"));
    pair.on_publisher(
        "insert into below select from generate_series(1, 5);
         insert into \"first table\" select from generate_series(1, 7);
         insert into second select from generate_series(1, 9);
         insert into unnumbered values (1000)",
    );
    pair.subscribe();
    pair.wait_copied();
    let status = Status::of(&pair);
    let row = wait_warned(status, SEQUENCE);
    assert!(
        row.text("finding").starts_with("2 sequences are behind"),
        "{row:?}"
    );
    pair.on_subscriber(row.text("remedy"));
    wait_ended(status, SEQUENCE);
    pair.on_subscriber("insert into below default values");
    pair.on_subscriber("insert into \"first table\" default values");
    pair.on_subscriber("insert into second default values");
}

#[test]
fn generated_column_that_would_crash_pglogical() {
    let pair = status::streaming(status::builder(Provider::Pglogical).start());
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    pair.on_subscriber("alter table item add loud text generated always as (upper(note)) stored");
    let row = wait_warned(status, GENERATED);
    assert!(row.text("finding").contains("public.item"), "{row:?}");
    assert!(row.text("evidence").contains("loud"), "{row:?}");
    assert_never_crashed(&pair);
    pair.on_subscriber(row.text("remedy"));
    wait_ended(status, GENERATED);
    pair.on_publisher("insert into item values (3, 'three'), (4, null)");
    pair.on_publisher("update item set note = 'one' where id = 1");
    pair.wait_caught_up();
    pair.compare(
        "select id, note, upper(note) from item order by id",
        "select id, note, loud from item order by id",
    );
    assert_never_crashed(&pair);
}

/// Its rows come without ever having been copied, so that pglogical's catalogs here do not know of it.
#[test]
fn generated_column_of_a_table_that_only_the_publisher_tells_of() {
    let pair = status::with_item(status::builder(Provider::Pglogical).start());
    pair.on_subscriber("alter table item add loud text generated always as (upper(note)) stored");
    pair.subscribe_without_copy();
    let status = Status::of(&pair);
    let row = wait_warned(status, GENERATED);
    pair.on_subscriber(row.text("remedy"));
    wait_ended(status, GENERATED);
    pair.on_publisher("insert into item values (1, 'one')");
    pair.wait_caught_up();
    assert_never_crashed(&pair);
}

/// What is sent is stored as it comes, and an expression without columns is none that crashes.
#[test]
fn generated_columns_that_do_no_harm() {
    let pair = status::builder(Provider::Pglogical).start();
    pair.on_publisher("create table item (id int primary key, sent int)");
    pair.on_subscriber(
        "create table item (id int primary key, sent int generated always as (id * 2) stored,
                            fixed text generated always as ('x' || 'y') stored)",
    );
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair.subscribe_without_copy();
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    look_for_long(status);
    // Until the publisher has told what it sends there may have been one.
    wait_warnings(status, GENERATED, "does not warn of", <[Row]>::is_empty);
    look_for_long(status);
    let warnings = warnings(status, &[GENERATED]);
    assert!(warnings.is_empty(), "{warnings:?}");
    pair.on_publisher("insert into item values (1, 2)");
    pair.wait_caught_up();
    pair.compare("select id, sent, 'xy' from item", "select * from item");
    assert_never_crashed(&pair);
}

#[test]
fn partitions_with_a_generated_column_are_mended_together() {
    let pair = status::builder(Provider::Pglogical).start();
    let reading =
        "create table reading (id int, day int, primary key (id, day)) partition by range (day);
        create table reading_1 partition of reading for values from (0) to (10);
        create table reading_2 partition of reading for values from (10) to (20);";
    pair.on_both(reading);
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("reading_1").table("reading_2"));
    pair.subscribe();
    pair.wait_copied();
    pair.on_subscriber(
        "alter table reading add label text generated always as (id || ' on ' || day) stored",
    );
    let status = Status::of(&pair);
    let row = wait_warned(status, GENERATED);
    assert!(row.text("finding").contains("public.reading "), "{row:?}");
    pair.on_subscriber(row.text("remedy"));
    wait_ended(status, GENERATED);
    pair.on_publisher("insert into reading values (1, 5), (2, 15)");
    pair.wait_caught_up();
    pair.compare(
        "select id, day, id || ' on ' || day from reading order by id",
        "select id, day, label from reading order by id",
    );
    assert_never_crashed(&pair);
}

#[test]
fn partitioned_table_that_would_crash_pglogical() {
    let pair = status::builder(Provider::Pglogical).start();
    pair.on_publisher("create table reading (id int primary key)");
    pair.on_subscriber(
        "create table reading (id int primary key) partition by range (id);
         create table reading_1 partition of reading for values from (0) to (10)",
    );
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("reading"));
    pair.subscribe_without_copy();
    let status = Status::of(&pair);
    let row = wait_warned(status, PARTITIONED);
    assert!(row.text("remedy").starts_with("-- "), "{row:?}");
    pair.on_subscriber("drop table reading; create table reading (id int primary key)");
    wait_ended(status, PARTITIONED);
    assert_never_crashed(&pair);
}

/// A schema may have very many such tables, and all of them at once.
#[test]
fn many_tables_are_no_storm_of_events() {
    let pair = status::builder(Provider::Pglogical).start();
    let mut publication = Publication::default();
    for number in 1..=25 {
        pair.on_publisher(&format!("create table t{number} (id int primary key)"));
        pair.on_subscriber(&format!(
            "create table t{number} (id int primary key, g int generated always as (id * 2) stored)"
        ));
        publication = publication.table(&format!("t{number}"));
    }
    pair.on_subscriber("create extension replwarden");
    pair.publish(&publication);
    pair.subscribe_without_copy();
    let status = Status::of(&pair);
    let rows = wait_warnings(status, GENERATED, "warns 21 times of", |rows| {
        rows.len() == 21
    });
    let rest: Vec<&Row> = rows.iter().filter(|row| row.is_null("remedy")).collect();
    assert_eq!(rest.len(), 1, "{rows:?}");
    assert!(
        rest[0].text("finding").starts_with("5 more tables"),
        "{rest:?}"
    );
    wait_events(status, GENERATED, &["hazard"; 21]);
}

/// A pair with a table that has no key on the subscriber, and a column there that the publisher does not have.
fn keyless(publisher: &str, subscriber: &str) -> Pair {
    let pair = status::builder(Provider::Native).start();
    pair.on_publisher(&format!(
        "create table thing ({publisher}); alter table thing replica identity full"
    ));
    pair.on_subscriber(&format!("create table thing ({subscriber})"));
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("thing"));
    pair.on_publisher("insert into thing values (1, 'one'), (2, 'two')");
    pair.subscribe();
    pair.wait_copied();
    pair
}

#[test]
fn changes_that_are_lost_without_a_word() {
    let pair = keyless(
        "id int, note text",
        "id int not null unique, note text, extra int default 7",
    );
    let status = Status::of(&pair);
    let row = wait_warned(status, LOSS);
    assert!(row.text("finding").contains("public.thing"), "{row:?}");
    assert!(row.text("evidence").contains("extra"), "{row:?}");
    // So it is.
    pair.on_publisher("update thing set note = 'changed' where id = 1");
    pair.wait_caught_up();
    let note = "select note from thing where id = 1";
    let lost: String = pair.subscriber().query_one_value(pair.database(), note);
    assert_eq!(lost, "one");
    pair.on_subscriber(row.text("remedy"));
    wait_ended(status, LOSS);
    pair.on_publisher("update thing set note = 'changed' where id = 2");
    pair.on_publisher("update thing set note = 'again' where id = 1");
    pair.wait_caught_up();
    pair.compare(
        "table thing order by id",
        "select id, note from thing order by id",
    );
}

#[test]
fn key_of_the_publisher_is_the_remedy() {
    let pair = keyless(
        "\"the id\" int primary key, note text",
        "\"the id\" int, note text, extra int default 7",
    );
    let status = Status::of(&pair);
    let row = wait_warned(status, LOSS);
    pair.on_subscriber(row.text("remedy"));
    wait_ended(status, LOSS);
    pair.on_publisher("update thing set note = 'changed'");
    pair.wait_caught_up();
    pair.compare(
        "table thing order by 1",
        "select \"the id\", note from thing order by 1",
    );
}

/// Such a table loses nothing: every column is sent, or computed here.
#[test]
fn table_without_key_that_loses_nothing() {
    let pair = keyless(
        "id int, note text",
        "id int, note text, twice int generated always as (id * 2) stored",
    );
    let status = Status::of(&pair);
    status.wait_cause("streaming", None);
    look_for_long(status);
    let warnings = warnings(status, &[LOSS]);
    assert!(warnings.is_empty(), "{warnings:?}");
    pair.on_publisher("update thing set note = 'changed'");
    pair.wait_caught_up();
    pair.compare(
        "table thing order by id",
        "select id, note from thing order by id",
    );
}

/// It is no less dangerous while nobody can tell.
#[test]
fn hazard_outlives_the_publisher() {
    let pair = keyless(
        "id int, note text",
        "id int, note text, extra int default 7",
    );
    let status = Status::of(&pair);
    wait_warned(status, LOSS);
    pair.publisher().stop(ShutdownMode::Fast);
    status.wait_subscription("retries", |row| row.is("state", "retrying"));
    look_for_long(status);
    assert_eq!(warnings(status, &[LOSS]).len(), 1);
    assert_eq!(events(status, LOSS), ["hazard"]);
}
