//! Backfills beside replication into the same table.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use postgres::Client;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_until};

use crate::backfill_concurrency::StopAtEnd;
use crate::backfill_state::Backfills;
use crate::loan::{self, assert_all_right, insert, on_both_providers};

on_both_providers!(
    updates_of_the_same_rows_go_on,
    rows_that_were_copied_before_the_rule
);

const ROWS: u32 = 30_000;

fn backfills(pair: &Pair) -> Backfills<'_> {
    Backfills::of(pair.subscriber(), pair.database())
}

/// A pair whose subscriber has copied the table without a rule, with the locks it waits for in its log.
fn copied(provider: Provider) -> Pair {
    let pair = Pair::builder(provider)
        .subscriber_setting("replwarden.backfill_batch_time", "20")
        .subscriber_setting("replwarden.backfill_delay", "5")
        .subscriber_setting("log_lock_waits", "on")
        .subscriber_setting("deadlock_timeout", "5s")
        .start();
    let pair = loan::pair_with(pair, "text");
    insert(&pair, 1, ROWS);
    pair.subscribe();
    pair.wait_copied();
    pair
}

fn rows_that_were_copied_before_the_rule(provider: Provider) {
    let pair = copied(provider);
    loan::set_rule(&pair, loan::EXPRESSION, "fail");
    backfills(&pair).wait_done();
    assert_all_right(&pair);
    let changed: i64 = pair
        .subscriber()
        .query_one_value(pair.database(), "select rows_changed from repl_backfills");
    assert_eq!(changed, i64::from(ROWS));
}

/// What a session saw of the apply worker's waits for locks.
#[derive(Default)]
struct Waits {
    samples: u64,
    waiting: u64,
    longest_ms: f64,
}

impl Waits {
    fn sample(&mut self, client: &mut Client, apply: i32) {
        let row = client
            .query_one(
                "select max(extract(epoch from clock_timestamp() - waitstart) * 1000)::float8
                   from pg_locks, (select pg_sleep(0.002)) pause where pid = $1 and not granted",
                &[&apply],
            )
            .expect("pg_locks can be read");
        self.samples += 1;
        if let Some(waited) = row.get::<_, Option<f64>>(0) {
            self.waiting += 1;
            self.longest_ms = self.longest_ms.max(waited);
        }
    }
}

fn updates_of_the_same_rows_go_on(provider: Provider) {
    let pair = copied(provider);
    let worker = pair.apply_worker_pid();
    let log_before = pair.subscriber().log().len();
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let waits = thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        let writer = scope.spawn(|| {
            let mut client = pair.publisher().connect(pair.database());
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                client
                    .batch_execute(&format!(
                        "update loan_app set userid = userid + 1 where id % 211 = {};
                         delete from loan_app where id % 9973 = {};
                         insert into loan_app (userid) select n from generate_series(1, 5) n",
                        round % 211,
                        round % 9973
                    ))
                    .expect("the publisher writes");
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let wait_for_rounds = |more: u64| {
            let goal = rounds.load(Ordering::Relaxed) + more;
            wait_until("the publisher goes on", DEFAULT_DEADLINE, || {
                rounds.load(Ordering::Relaxed) >= goal || writer.is_finished()
            });
        };
        wait_for_rounds(20);
        loan::set_rule(&pair, loan::EXPRESSION, "fail");
        let sampler = scope.spawn(|| {
            let mut waits = Waits::default();
            let mut client = pair.subscriber().connect(pair.database());
            while !stop.load(Ordering::Relaxed) {
                waits.sample(&mut client, worker);
            }
            waits
        });
        wait_for_rounds(20);
        backfills(&pair).wait_done();
        // The same once more, with two workers, while nothing is to do but what the stream brings.
        pair.on_subscriber("select repl_backfill('loan_app', 2)");
        backfills(&pair).wait_done();
        wait_for_rounds(20);
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the publisher wrote all the time");
        sampler.join().expect("the sampler does not panic")
    });
    println!(
        "{provider:?}: apply waited for a lock in {} of {} samples, {:.1} ms at most",
        waits.waiting, waits.samples, waits.longest_ms
    );
    assert!(waits.samples > 0);
    assert_all_right(&pair);
    assert_eq!(
        pair.apply_worker_pid(),
        worker,
        "the apply worker has gone on"
    );
    let wrong: i64 = pair.subscriber().query_one_value(
        pair.database(),
        "select sum(rows_wrong)::bigint from repl_verify('loan_app')",
    );
    assert_eq!(wrong, 0);
    if provider == Provider::Native && pair.subscriber().server().major() >= 15 {
        let errors: i64 = pair.subscriber().query_one_value(
            pair.database(),
            "select apply_error_count from pg_stat_subscription_stats",
        );
        assert_eq!(errors, 0);
    }
    let log = pair.subscriber().log();
    let log = &log[log_before..];
    for word in ["deadlock detected", "ERROR:", "terminated by signal"] {
        assert!(!log.contains(word), "{word} in the log:\n{log}");
    }
    // Longer than deadlock_timeout.
    let apply = format!("process {worker} still waiting for");
    assert!(!log.contains(&apply), "{log}");
}
