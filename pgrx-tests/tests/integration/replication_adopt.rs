//! A GENERATED column of the subscriber becomes a plain one with a rule while replication goes on.

use crate::loan::{self, ALL_ROWS, EXPRESSION, insert};
use replwarden_tests::{Pair, Provider};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

#[test]
fn adopting_under_a_stream_of_changes_loses_and_spoils_no_row() {
    let pair = loan::pair_with(
        Pair::start(Provider::Native),
        &format!("text generated always as ({EXPRESSION}) stored"),
    );
    insert(&pair, 1, 2000);
    pair.subscribe();
    pair.wait_copied();
    let worker = pair.apply_worker_pid();

    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                pair.on_publisher(
                    "insert into loan_app (userid) select n from generate_series(1, 20) n",
                );
                pair.on_publisher("update loan_app set userid = userid + 1 where id % 50 = 0");
                pair.on_publisher("delete from loan_app where id % 97 = 0");
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let wait_for_rounds = |more: u64| {
            let goal = rounds.load(Ordering::Relaxed) + more;
            replwarden_tests::wait_until(
                "the writer goes on",
                replwarden_tests::DEFAULT_DEADLINE,
                || rounds.load(Ordering::Relaxed) >= goal || writer.is_finished(),
            );
        };
        wait_for_rounds(10);
        let adopted: String = pair.subscriber().query_one_value(
            pair.database(),
            "select string_agg(repl_adopt_generated::text, ',') from repl_adopt_generated('loan_app')",
        );
        wait_for_rounds(10);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(adopted, "loan_id");
    });
    pair.wait_caught_up();
    pair.compare(ALL_ROWS, ALL_ROWS);
    assert_eq!(
        pair.apply_worker_pid(),
        worker,
        "the apply worker has gone on"
    );
    let generated: String = pair.subscriber().query_one_value(
        pair.database(),
        "select attgenerated::text from pg_attribute where attrelid = 'loan_app'::regclass and attname = 'loan_id'",
    );
    assert_eq!(generated, "");
}

/// With pglogical the column must be adopted before the first row streams: a GENERATED one crashes its apply worker.
#[test]
fn adopted_before_the_start_pglogical_does_not_crash() {
    let pair = loan::pair_with(
        Pair::start(Provider::Pglogical),
        &format!("text generated always as ({EXPRESSION}) stored"),
    );
    pair.on_subscriber("select repl_adopt_generated('loan_app')");
    insert(&pair, 1, 100);
    pair.subscribe();
    pair.wait_copied();
    insert(&pair, 101, 200);
    loan::assert_all_right(&pair);
    assert!(!pair.subscriber().log().contains("was terminated by signal"));
}
