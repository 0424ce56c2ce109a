//! Parallel apply (`streaming = parallel`, from 16 on; the default from 18 on): a large transaction is applied by a worker
//! of its own while it comes.

use postgres::Client;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_for_value};

use crate::breaker::{crash, is_enabled, wait_events};
use crate::diagnose::{assert_found, assert_goes_on, commented, wait_found};
use crate::since::since;
use crate::status::{self, Lock, Row, Status};

const LARGE: &str =
    "insert into item select n, repeat('x', 100) || n from generate_series(1000, 6000) n";

/// A pair that streams `item`, whose publisher sends what takes more than the least memory before it is committed.
fn pair() -> Option<Pair> {
    if !since(16, "parallel apply") {
        return None;
    }
    let builder = status::builder(Provider::Native)
        .publisher_setting("logical_decoding_work_mem", "64kB")
        .subscriber_setting("replwarden.stall_timeout", "1s");
    let pair = status::streaming(builder.start());
    pair.on_subscriber("alter subscription sub set (streaming = parallel)");
    Some(pair)
}

/// A session of the publisher with a large transaction that is not committed yet.
fn large_transaction(pair: &Pair) -> Client {
    let mut client = pair.publisher().connect(pair.database());
    client
        .batch_execute(&format!("begin; {LARGE}"))
        .expect("the publisher takes it");
    client
}

#[track_caller]
fn wait_parallel_worker(pair: &Pair, what: &str, accept: impl Fn(&Row) -> bool) -> Row {
    Status::of(pair).wait_worker("parallel apply", what, accept)
}

#[test]
fn rules_compute_in_a_parallel_worker() {
    let Some(pair) = pair() else { return };
    pair.on_subscriber(
        "alter table item add loud text; select repl_set_expression('item', 'loud', 'upper(note)')",
    );
    let mut client = large_transaction(&pair);
    wait_parallel_worker(&pair, "that applies", |row| row.is("subscription", "sub"));
    client
        .batch_execute("update item set note = 'changed' where id % 7 = 0; delete from item where id % 5 = 0; commit")
        .expect("the publisher takes it");
    pair.wait_caught_up();
    pair.compare(
        "select id, note, upper(note) from item order by id",
        "select id, note, loud from item order by id",
    );
}

#[test]
fn lock_that_a_parallel_worker_waits_for() {
    let Some(pair) = pair() else { return };
    let status = Status::of(&pair);
    let lock = Lock::on_subscriber(&pair, "item");
    let mut client = large_transaction(&pair);
    wait_parallel_worker(&pair, "that waits for the lock", |row| {
        row.is("activity", "waiting for a lock")
            && row.is("blocked_by", &format!("{{{}}}", lock.pid))
    });
    client.batch_execute("commit").expect("it is committed");
    let row = wait_found(status, "stalled", "lock_wait");
    assert_found(&row, "critical", "transient", &["lock"]);
    assert!(row.text("evidence").contains(&lock.pid), "{row:#?}");
    drop(lock);
    assert_goes_on(&pair);
}

#[test]
fn error_of_a_parallel_worker() {
    let Some(pair) = pair() else { return };
    pair.on_subscriber("insert into item values (3000, 'here')");
    pair.on_publisher(LARGE);
    let status = Status::of(&pair);
    let row = wait_found(status, "retrying", "duplicate_key");
    assert_found(&row, "critical", "deterministic", &["23505", "item"]);
    // The worker that leads says only that another one failed.
    let errors = wait_for_value(
        "the error is kept",
        DEFAULT_DEADLINE,
        || {
            status.rows(
                "select worker_kind, message, relation_name from repl_errors
                  where sqlstate = '23505' order by occurred_at",
            )
        },
        |rows| !rows.is_empty(),
    );
    assert!(errors[0].is("relation_name", "public.item"), "{errors:#?}");
    pair.on_subscriber(&commented(&row, "DELETE FROM"));
    assert_goes_on(&pair);
}

/// One crash is no loop.
#[test]
fn crash_of_a_parallel_worker() {
    let Some(pair) = pair() else { return };
    let lock = Lock::on_subscriber(&pair, "item");
    let mut client = large_transaction(&pair);
    let worker = wait_parallel_worker(&pair, "that waits", |row| {
        row.is("activity", "waiting for a lock")
    });
    let pid = worker.text("pid").parse().expect("a number");
    crash(pair.subscriber(), pid);
    drop(lock);
    client.batch_execute("commit").expect("it is committed");
    let crashed = wait_events(&pair, "worker_crashed", 1);
    assert!(
        crashed[0].is("subscription", "sub") && crashed[0].is("signal", "11"),
        "{crashed:#?}"
    );
    assert!(is_enabled(&pair));
    assert_goes_on(&pair);
}
