//! Checks of `repl_preflight()` that no other file breaks: what is old, what the subscription is set to, what is stricter here.

use std::fs::{self, File};
use std::ops::Range;

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Publication, wait_until};

use crate::diagnose::builder;
use crate::preflight_check::{Preflight, row_of};
use crate::preflight_findings::Preflight as Findings;
use crate::preflight_tables::in_order;
use crate::status;

#[track_caller]
fn with_item() -> Pair {
    status::with_item(builder().start())
}

/// A slot that is to be made waits for it.
#[test]
fn session_of_the_publisher_that_is_open_for_long() {
    let pair = with_item();
    let preflight = Preflight::before(&pair);
    let before = preflight.not_fine();
    let mut reader = pair.publisher().connect(pair.database());
    reader
        .batch_execute("begin isolation level repeatable read; select count(*) from item")
        .expect("it reads");
    let mut writer = pair.publisher().connect(pair.database());
    writer
        .batch_execute("begin; insert into item values (1)")
        .expect("it writes");
    // No slot waits for whoever only reads, and no long time has gone by.
    let row = row_of(&preflight.rows(), "old_transactions");
    assert!(row.is("severity", "ok"), "{row:#?}");
    assert!(
        row.text("finding")
            .starts_with("Writing now on the publisher: 1 transaction"),
        "{row:#?}"
    );
    let is_old = "select max(clock_timestamp() - xact_start) > interval '61 s'
                    from pg_stat_activity where backend_xid is not null";
    wait_until("the transaction is old", DEFAULT_DEADLINE, || {
        pair.publisher().query_one_value(pair.database(), is_old)
    });
    let rows = preflight.wait_new(&before, &[("warning", "old_transactions")]);
    let row = row_of(&rows, "old_transactions");
    assert!(
        row.text("finding").ends_with("A new slot waits for it."),
        "{row:#?}"
    );
    let remedy = row.text("remedy");
    let (_, end) = remedy
        .split_once("or end the oldest: ")
        .unwrap_or_else(|| panic!("{row:#?}"));
    pair.on_publisher(end);
    preflight.wait_as_before(&before);
    let error = writer.batch_execute("commit").expect_err("it is ended");
    assert!(error.is_closed() || error.code().is_some(), "{error:?}");
    reader.batch_execute("commit").expect("it is left alone");
}

#[test]
fn settings_of_the_subscription_and_of_this_server() {
    let pair = status::streaming(builder().start());
    let preflight = Preflight::of_subscription(&pair);
    wait_until("all is in order", DEFAULT_DEADLINE, || {
        preflight.trouble().is_empty()
    });
    preflight.breaks(
        || pair.on_subscriber("alter subscription sub set (synchronous_commit = on)"),
        &[("info", "synchronous_commit")],
    );
    preflight.breaks(
        || {
            pair.subscriber()
                .set("shared_preload_libraries", "auto_explain");
            pair.subscriber().restart();
        },
        &[("info", "replwarden_preload")],
    );
    let libraries: String = pair
        .subscriber()
        .query_one_value("postgres", "show shared_preload_libraries");
    assert_eq!(libraries, "auto_explain, replwarden");
}

#[test]
fn what_is_stricter_here_or_not_replicated() {
    let pair = in_order();
    let preflight = Findings::before(&pair);
    preflight.decided(
        (
            "",
            "alter table note add constraint \"no two\" exclude (body with =)",
        ),
        ("warning", "unique_constraints"),
        &["exclusion constraint no two (body) of public.note has no counterpart there"],
        ("", "alter table note drop constraint \"no two\""),
    );
    pair.on_subscriber(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger one before insert on note for each row execute function nothing()",
    );
    preflight.mended(
        ("", "alter table note enable replica trigger one"),
        ("warning", "triggers"),
        &["Trigger one of public.note is ENABLE REPLICA here"],
    );
    preflight.decided(
        (
            "create foreign data wrapper nothing; create server nowhere foreign data wrapper nothing;
             create foreign table far (id int) server nowhere",
            "",
        ),
        ("info", "not_replicated"),
        &["1 foreign table", "public.far"],
        ("drop foreign data wrapper nothing cascade", ""),
    );
    preflight.assert_in_order();
}

/// Rows come with their numbers, and the sequence stays where it is.
#[test]
fn sequence_that_is_behind_the_rows_that_have_come() {
    let pair = builder().start();
    pair.on_both("create table counted (id serial primary key)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("counted"));
    pair.on_publisher("insert into counted select from generate_series(1, 100)");
    let behind = |preflight: &Findings| {
        let rows = preflight.lines();
        let mut rows = rows
            .into_iter()
            .filter(|row| row.is("check_name", "sequences_behind"));
        rows.next().expect("each check says something")
    };
    assert!(behind(&Findings::before(&pair)).is("severity", "ok"));
    pair.subscribe();
    pair.wait_copied();
    let preflight = Findings::of_subscription(&pair);
    let row = behind(&preflight);
    assert!(
        row.is("severity", "info") && row.text("finding").contains("counted_id_seq"),
        "{row:#?}"
    );
    preflight.assert_in_order();
    preflight.paste(&row);
    let row = behind(&preflight);
    assert!(row.is("severity", "ok"), "{row:#?}");
}

/// Files without blocks make the table as large as one likes.
#[test]
fn what_is_published_does_not_fit_on_the_disk() {
    let pair = with_item();
    pair.on_publisher(
        "create table large (id int primary key); alter publication pub add table large",
    );
    pair.on_subscriber("create table large (id int primary key)");
    let preflight = Preflight::before(&pair);
    let before = preflight.not_fine();
    let row = row_of(&preflight.rows(), "disk_space");
    assert!(row.is("severity", "ok"), "{row:#?}");
    let file: String = pair.publisher().query_one_value(
        pair.database(),
        "select current_setting('data_directory') || '/' || pg_relation_filepath('large')",
    );
    // A table is in files of 1 GB (RELSEG_SIZE), which nobody reads here.
    let segment = |number: u32| match number {
        0 => file.clone(),
        _ => format!("{file}.{number}"),
    };
    let make = |numbers: Range<u32>| {
        for number in numbers {
            let made = File::create(segment(number)).and_then(|made| made.set_len(1 << 30));
            made.unwrap_or_else(|error| panic!("{}: {error}", segment(number)));
        }
    };
    let mut size = 16;
    make(0..size);
    let row = loop {
        let row = row_of(&preflight.rows(), "disk_space");
        if row.is("severity", "error") {
            break row;
        }
        make(size..2 * size);
        size *= 2;
    };
    assert!(
        row.text("finding").ends_with(": the copy does not fit."),
        "{row:#?}"
    );
    assert!(
        row.text("remedy")
            .starts_with("-- on the subscriber:\n-- make room"),
        "{row:#?}"
    );
    for number in 1..size {
        fs::remove_file(segment(number)).expect("it is removed");
    }
    File::create(segment(0)).expect("it is empty again");
    preflight.wait_as_before(&before);
}
