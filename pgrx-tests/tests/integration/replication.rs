//! Rows that arrive through replication have the right derived column, whatever brings them.

use crate::loan::{self, assert_all_right, insert, on_both_providers, pair_with_rule, set_rule};
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, wait_for_value, wait_until};

on_both_providers!(
    initial_copy_and_stream,
    derived_in_the_transaction_that_brings_the_row,
    unchanged_toast_values,
    survives_a_crash_of_the_subscriber,
    preloaded,
    failing_rows_become_null,
    failing_row_stops_and_mended_rule_goes_on,
    running_worker_follows_the_rule,
);

fn initial_copy_and_stream(provider: Provider) {
    let pair = pair_with_rule(provider);
    insert(&pair, 1, 5000);
    pair.subscribe();
    pair.wait_copied();
    assert_all_right(&pair);

    insert(&pair, 5001, 7000);
    pair.on_publisher("update loan_app set userid = userid + 1000 where id % 3 = 0");
    pair.on_publisher("update loan_app set amount = null where id % 5 = 0");
    pair.on_publisher("delete from loan_app where id % 7 = 0");
    pair.on_publisher(
        "begin; insert into loan_app (userid) values (1); savepoint s; update loan_app set userid = 2;
         rollback to s; update loan_app set userid = userid + 1 where id = 1; commit",
    );
    assert_all_right(&pair);
}

/// A constraint is checked with the row, not later: it sees the derived value, or replication stops.
fn derived_in_the_transaction_that_brings_the_row(provider: Provider) {
    let pair = pair_with_rule(provider);
    pair.on_subscriber(
        "alter table loan_app add constraint derived check (loan_id = userid::text || '#' || id::text)",
    );
    pair.on_subscriber("create unique index on loan_app (loan_id)");
    insert(&pair, 1, 100);
    pair.subscribe();
    pair.wait_copied();
    insert(&pair, 101, 200);
    pair.on_publisher("update loan_app set userid = 5 where id in (1, 150)");
    assert_all_right(&pair);
}

/// An UPDATE that leaves an out-of-line value alone sends no value for it; the expression reads the old one.
fn unchanged_toast_values(provider: Provider) {
    let pair = Pair::start(provider);
    let columns = "id int primary key, n int, body text";
    pair.on_publisher(&format!("create table doc ({columns})"));
    pair.on_subscriber(&format!("create table doc ({columns}, digest text)"));
    pair.on_both("alter table doc alter body set storage external");
    pair.on_subscriber("create extension replwarden");
    pair.on_subscriber("select repl_set_expression('doc', 'digest', 'md5(body) || n')");
    pair.publish(&Publication::of("doc"));
    pair.on_publisher(
        "insert into doc select n, 0, repeat(md5(n::text), 1000) from generate_series(1, 20) n",
    );
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("update doc set n = n + id");
    pair.on_publisher("insert into doc values (21, 0, repeat('x', 100000))");
    pair.on_publisher("update doc set n = 7 where id = 21");
    pair.wait_caught_up();
    pair.compare(
        "select id, n, md5(body), md5(body) || n from doc order by id",
        "select id, n, md5(body), digest from doc order by id",
    );
}

/// Native only: pglogical does not support it.
#[test]
fn identity_full_on_the_publisher() {
    let pair = pair_with_rule(Provider::Native);
    pair.on_publisher("alter table loan_app replica identity full");
    // A publisher of 18 refuses to update a table whose identity holds a generated column that it does not publish.
    if pair.publisher().server().major() >= 18 {
        pair.on_publisher("alter publication pub set (publish_generated_columns = stored)");
    }
    insert(&pair, 1, 50);
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("update loan_app set userid = userid + 1 where id % 2 = 0");
    pair.on_publisher("delete from loan_app where id % 5 = 0");
    assert_all_right(&pair);
}

fn survives_a_crash_of_the_subscriber(provider: Provider) {
    let pair = pair_with_rule(provider);
    insert(&pair, 1, 1000);
    pair.subscribe();
    pair.wait_copied();
    // Replication commits asynchronously; a commit that does not flushes what came before it.
    pair.on_subscriber("create table flushed ()");
    pair.subscriber().kill();
    insert(&pair, 1001, 2000);
    pair.subscriber().start();
    pair.apply_worker_pid();
    pair.on_publisher("update loan_app set userid = 3 where id > 900 and id < 1100");
    assert_all_right(&pair);
}

fn preloaded(provider: Provider) {
    let pair = Pair::builder(provider)
        .subscriber_setting("shared_preload_libraries", "replwarden")
        .start();
    let pair = loan::pair_with(pair, "text");
    set_rule(&pair, loan::EXPRESSION, "fail");
    insert(&pair, 1, 100);
    pair.subscribe();
    pair.wait_copied();
    insert(&pair, 101, 200);
    assert_all_right(&pair);
}

/// The row of `repl_generated_columns` as state, rows_failed and last_error.
fn rule_state(pair: &Pair) -> (String, i64, Option<String>) {
    let row = pair
        .subscriber()
        .connect(pair.database())
        .query_one(
            "select state, rows_failed, last_error from repl_generated_columns",
            &[],
        )
        .expect("one rule");
    (row.get(0), row.get(1), row.get(2))
}

fn failing_rows_become_null(provider: Provider) {
    let pair = loan::pair_with(Pair::start(provider), "text");
    set_rule(&pair, "(100 / userid)::text", "null");
    insert(&pair, 1, 100);
    pair.on_publisher("update loan_app set userid = 0 where id <= 10");
    pair.subscribe();
    pair.wait_copied();
    insert(&pair, 101, 200);
    pair.on_publisher("update loan_app set userid = 0 where id between 101 and 103");
    pair.wait_caught_up();
    let right = "select id, case when userid <> 0 then (100 / userid)::text end";
    pair.compare(
        &format!("{right} from loan_app order by id"),
        "select id, loan_id from loan_app order by id",
    );
    let (state, rows, error) = rule_state(&pair);
    let zeros: i64 = pair.subscriber().query_one_value(
        pair.database(),
        "select count(*) from loan_app where userid = 0",
    );
    assert_eq!(state, "failing");
    // 97 and 194 were 0 when they came; the updates brought more.
    assert_eq!(rows, zeros);
    assert_eq!(error.as_deref(), Some("division by zero"));
}

fn failing_row_stops_and_mended_rule_goes_on(provider: Provider) {
    let pair = loan::pair_with(Pair::start(provider), "text");
    set_rule(&pair, "(100 / userid)::text", "fail");
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("insert into loan_app (userid) values (0)");
    wait_until("the log names the derived column", DEFAULT_DEADLINE, || {
        let log = pair.subscriber().log();
        log.contains("division by zero")
            && log
                .contains("column \"loan_id\" of table \"public.loan_app\", derived by replwarden")
    });
    set_rule(&pair, loan::EXPRESSION, "fail");
    pair.disable();
    pair.enable();
    insert(&pair, 1, 10);
    assert_all_right(&pair);
}

/// The apply worker that has compiled a rule computes by the new one as soon as it is committed.
fn running_worker_follows_the_rule(provider: Provider) {
    let pair = loan::pair_with(Pair::start(provider), "text");
    pair.on_subscriber("create schema lib");
    pair.on_subscriber(
        "create function lib.tag(bigint) returns text language sql immutable return 'one ' || $1",
    );
    set_rule(&pair, "lib.tag(userid)", "fail");
    pair.subscribe();
    pair.wait_copied();
    let worker = pair.apply_worker_pid();
    let next = |expected: &str| {
        pair.on_publisher("insert into loan_app (userid) values (7)");
        pair.wait_caught_up();
        let value: Option<String> = pair.subscriber().query_one_value(
            pair.database(),
            "select derived from (select to_jsonb(l) ->> case when to_jsonb(l) ? 'loan_id' then 'loan_id'
                                     else 'tag' end as derived, id from loan_app l) x order by id desc limit 1",
        );
        assert_eq!(value.as_deref(), Some(expected));
    };
    next("one 7");
    pair.on_subscriber(
        "create or replace function lib.tag(bigint) returns text language sql immutable return 'two ' || $1",
    );
    next("two 7");
    pair.on_subscriber("alter function lib.tag rename to label");
    pair.on_subscriber("alter schema lib rename to library");
    next("two 7");
    set_rule(&pair, "'three ' || userid", "fail");
    next("three 7");
    pair.on_subscriber("alter table loan_app rename column loan_id to tag");
    next("three 7");
    pair.on_subscriber("alter table loan_app add column extra int default 5");
    next("three 7");
    pair.on_subscriber("select repl_drop_expression('loan_app', 'tag')");
    pair.on_subscriber("alter table loan_app alter tag set default 'plain'");
    next("plain");
    let still: i32 = wait_for_value(
        "the apply worker is known",
        DEFAULT_DEADLINE,
        || pair.apply_worker_pid(),
        |_| true,
    );
    assert_eq!(still, worker, "the same worker has followed every change");
}
