//! Whichever process of replwarden is ended while keys are on their way back, they come back.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_for_value, wait_until};

use crate::database::lines;
use crate::resync::{detached, shop, wait_none_detached};
use crate::status::{self, Lock};

const KEYS_WORKER: &str = "replwarden foreign keys";

#[track_caller]
fn ask(pair: &Pair, sql: &str) -> Vec<String> {
    lines(&mut pair.subscriber().connect(pair.database()), sql)
}

#[track_caller]
fn pids(pair: &Pair, kind: &str) -> Vec<String> {
    let sql = format!(
        "select pid from pg_stat_activity where backend_type = '{kind}' and datname = current_database()"
    );
    ask(pair, &sql)
}

/// Ends the process, and waits until there is another one.
#[track_caller]
fn end(pair: &Pair, kind: &str) {
    let before = wait_for_value(
        &format!("there is a {kind}"),
        DEFAULT_DEADLINE,
        || pids(pair, kind),
        |pids| pids.len() == 1,
    );
    ask(pair, &format!("select pg_terminate_backend({})", before[0]));
    wait_for_value(
        &format!("there is another {kind} than {before:?}"),
        DEFAULT_DEADLINE,
        || pids(pair, kind),
        |pids| !pids.is_empty() && !pids.contains(&before[0]),
    );
}

#[track_caller]
fn assert_valid(pair: &Pair) {
    let sql = "select conname, convalidated from pg_constraint
                where contype = 'f' and conrelid = 'orders'::regclass";
    assert_eq!(ask(pair, sql), ["orders_customer_fkey|t"]);
}

fn while_they_wait_and_are_validated(pair: Pair, kinds: &[&str]) {
    let pair = shop(pair);
    // The copy cannot begin.
    let copy = Lock::take(
        pair.publisher(),
        pair.database(),
        "customer",
        "access exclusive",
    );
    pair.on_subscriber("select repl_resync_table('customer')");
    let waiting = "orders|orders_customer_fkey|waiting|customer|NULL";
    for kind in kinds {
        end(&pair, kind);
        assert_eq!(detached(&pair), [waiting]);
    }
    // It is over, and the key cannot be added.
    let orders = Lock::take(
        pair.subscriber(),
        pair.database(),
        "orders",
        "row exclusive",
    );
    drop(copy);
    pair.wait_copied();
    for kind in kinds.iter().chain(&[KEYS_WORKER]) {
        end(&pair, kind);
        assert_eq!(detached(&pair), [waiting]);
    }
    drop(orders);
    wait_none_detached(&pair);
    assert_valid(&pair);

    // It is there, and cannot be validated.
    pair.on_subscriber(
        "select repl_detach_foreign_keys('customer'); select repl_restore_foreign_keys(validate => false)",
    );
    let orders = Lock::take(
        pair.subscriber(),
        pair.database(),
        "orders",
        "share update exclusive",
    );
    pair.on_subscriber("select repl_restore_foreign_keys()");
    let validating = "orders|orders_customer_fkey|validating|NULL|NULL";
    for kind in kinds.iter().chain(&[KEYS_WORKER]) {
        wait_until("somebody waits to validate it", DEFAULT_DEADLINE, || {
            let sql = "select count(*) from pg_locks
                        where relation = 'orders'::regclass and not granted and mode = 'ShareUpdateExclusiveLock'";
            ask(&pair, sql) == ["1"]
        });
        end(&pair, kind);
        assert_eq!(detached(&pair), [validating]);
    }
    drop(orders);
    wait_none_detached(&pair);
    assert_valid(&pair);
    let both = "table customer order by id";
    pair.wait_caught_up();
    pair.compare(both, both);
}

/// The worker of the database brings them back.
#[test]
fn ended_where_it_is_preloaded() {
    let pair = status::builder(Provider::Native).start();
    while_they_wait_and_are_validated(pair, &["replwarden worker"]);
}

/// The process for the keys waits by itself.
#[test]
fn ended_where_it_is_not_preloaded() {
    while_they_wait_and_are_validated(Pair::start(Provider::Native), &[KEYS_WORKER]);
}
