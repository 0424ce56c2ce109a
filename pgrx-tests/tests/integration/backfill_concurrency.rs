//! Backfills beside sessions that use the same rows.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use postgres::Client;
use replwarden_tests::{DEFAULT_DEADLINE, wait_until};

use crate::database::{Database, lines};

const LATER: &str = "select repl_set_expression('item', 'b', 'a * 2', backfill => false)";
const BACKFILL: &str = "select repl_backfill('item')";

/// The table `item (id, a, b)` with a rule and 1000 rows that are not as it says.
fn database() -> Database {
    let database = Database::new();
    database.run(&format!(
        "create table item (id int primary key, a int, b int);
         insert into item select n, n, 0 from generate_series(1, 1000) n;
         {LATER}"
    ));
    database
}

/// Begins a backfill while `lock` holds ten rows, and waits until all other rows are done. Returns its id.
#[track_caller]
fn held_up(database: &Database, holder: &mut Client, lock: &str) -> i64 {
    lines(holder, &format!("begin; {lock}"));
    let id = database.backfills().queue(BACKFILL);
    let seen = database
        .backfills()
        .wait_for(id, "waits for the locked rows", |backfill| {
            backfill.rows_changed == 990 && backfill.error().contains("locked")
        });
    assert_eq!(seen.state, "running", "{lock}: {seen:?}");
    assert_eq!(
        database.lines("select count(*) from item where b = a * 2"),
        ["990"],
        "{lock}"
    );
    id
}

const LOCKS: [&str; 4] = [
    "select from item where id % 100 = 7 for update",
    "select from item where id % 100 = 7 for share",
    "delete from item where id % 100 = 7",
    "update item set a = -a where id % 100 = 7",
];

#[test]
fn rows_that_others_lock_come_after_their_rollback() {
    for lock in LOCKS {
        let database = database();
        let mut holder = database.connect();
        let id = held_up(&database, &mut holder, lock);
        lines(&mut holder, "rollback");
        let done = database.backfills().wait_done_with(id);
        assert_eq!(done.rows_changed, 1000, "{lock}");
        assert_eq!(done.error, None, "{lock}");
        assert_eq!(
            database.lines("select * from repl_verify('item')"),
            ["b|1000|0|NULL"]
        );
    }
}

#[test]
fn rows_that_others_lock_come_after_their_commit() {
    for (lock, changed, rows) in [
        (LOCKS[0], 1000, 1000),
        (LOCKS[1], 1000, 1000),
        (LOCKS[2], 990, 990),
        // The statement has derived them itself.
        (LOCKS[3], 990, 1000),
    ] {
        let database = database();
        let mut holder = database.connect();
        let id = held_up(&database, &mut holder, lock);
        lines(&mut holder, "commit");
        assert_eq!(
            database.backfills().wait_done_with(id).rows_changed,
            changed,
            "{lock}"
        );
        assert_eq!(
            database.lines("select * from repl_verify('item')"),
            [format!("b|{rows}|0|NULL")],
            "{lock}"
        );
    }
}

#[test]
fn rows_that_a_prepared_transaction_locks() {
    for (index, end) in ["commit", "rollback"].into_iter().enumerate() {
        let database = database();
        let mut holder = database.connect();
        let id = held_up(&database, &mut holder, LOCKS[3]);
        let name = format!("{}_{index}", database.name());
        lines(&mut holder, &format!("prepare transaction '{name}'"));
        drop(holder);
        assert!(!database.backfills().get(id).has_ended());
        database.run(&format!("{end} prepared '{name}'"));
        database.backfills().wait_done_with(id);
        assert_eq!(
            database.lines("select * from repl_verify('item')"),
            ["b|1000|0|NULL"]
        );
    }
}

/// As a foreign key of another table holds them.
#[test]
fn rows_whose_keys_others_lock() {
    let database = database();
    let mut holder = database.connect();
    lines(
        &mut holder,
        "begin; select from item where id % 100 = 7 for key share",
    );
    let id = database.backfills().queue(BACKFILL);
    database
        .backfills()
        .wait_for(id, "has done the other rows at least", |backfill| {
            backfill.rows_changed >= 990
        });
    lines(&mut holder, "commit");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 1000);
}

#[test]
fn rows_that_others_give_up_one_after_the_other() {
    let database = database();
    let mut second = database.connect();
    lines(
        &mut second,
        "begin; select from item where id = 107 for update",
    );
    let mut first = database.connect();
    let id = held_up(
        &database,
        &mut first,
        "select from item where id % 100 = 7 and id <> 107 for update",
    );
    lines(&mut first, "commit");
    let seen = database
        .backfills()
        .wait_for(id, "waits for one row", |backfill| {
            backfill.rows_changed == 999
        });
    assert_eq!(seen.state, "running", "{seen:?}");
    lines(&mut second, "commit");
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 1000);
}

/// Ends the threads of a scope whatever becomes of its test: a panic is only seen when they are gone.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often each of the sessions of a stream has done its statements, and what they changed.
struct Stream {
    stop: AtomicBool,
    rounds: AtomicU64,
    updated: AtomicU64,
    inserted: AtomicU64,
    deleted: AtomicU64,
}

impl Stream {
    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            updated: AtomicU64::new(0),
            inserted: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
        }
    }

    /// Updates, deletes and inserts rows all over the table until it is told to stop.
    fn run(&self, database: &Database, session: u64) {
        let mut client = database.connect();
        let mut execute = |sql: &str, count: &AtomicU64| {
            let rows = client.execute(sql, &[]).unwrap_or_else(|error| {
                self.stop.store(true, Ordering::Relaxed);
                panic!("{error:?}\n  in: {sql}")
            });
            count.fetch_add(rows, Ordering::Relaxed);
        };
        let mut step = session;
        while !self.stop.load(Ordering::Relaxed) {
            step += 7;
            // Each session has its own rows, so that they do not wait for each other in circles.
            let own = format!("id % 3 = {session} and id % 997 = {}", step % 997);
            execute(
                &format!("update item set a = a + 1, n = n + 1, b = -1 where {own}"),
                &self.updated,
            );
            execute(
                &format!(
                    "delete from item where id % 3 = {session} and id % 49999 = {}",
                    step % 49_999
                ),
                &self.deleted,
            );
            let id = 1_000_000 + step * 10 + session;
            execute(
                &format!("insert into item values ({id}, {id}, -1) on conflict do nothing"),
                &self.inserted,
            );
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[track_caller]
    fn wait_for_rounds(&self, more: u64) {
        let goal = self.rounds.load(Ordering::Relaxed) + more;
        wait_until("the stream of changes goes on", DEFAULT_DEADLINE, || {
            self.stop.load(Ordering::Relaxed) || self.rounds.load(Ordering::Relaxed) >= goal
        });
    }
}

#[test]
fn stream_of_changes_of_the_same_rows() {
    let database = Database::with_small_batches();
    database.run(&format!(
        "create table item (id bigint primary key, a bigint, b bigint, n int not null default 0);
         insert into item select n, n, 0 from generate_series(1, 100000) n;
         create index on item (b);
         {LATER}"
    ));
    let stream = Stream::new();
    thread::scope(|scope| {
        for session in 0..3 {
            let (stream, database) = (&stream, &database);
            scope.spawn(move || stream.run(database, session));
        }
        let _stop = StopAtEnd(&stream.stop);
        stream.wait_for_rounds(20);
        let id = database
            .backfills()
            .queue("select repl_backfill('item', 2)");
        stream.wait_for_rounds(20);
        let done = database.backfills().wait_ended(id);
        stream.wait_for_rounds(5);
        assert_eq!(done.state, "done", "{done:?}");
        assert!(done.rows_changed > 0, "{done:?}");
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let rows = 100_000 + count(&stream.inserted) - count(&stream.deleted);
    assert_eq!(
        database.lines("select * from repl_verify('item')"),
        [format!("b|{rows}|0|NULL")]
    );
    // No update is lost: those of deleted rows are the only ones that are missing.
    let updates: u64 = database.lines("select sum(n) from item")[0]
        .parse()
        .expect("a number");
    assert!(updates <= count(&stream.updated));
    assert_eq!(
        database.lines("select count(*) from item where a <> id + n"),
        ["0"]
    );
    database.run(
        "create extension amcheck;
         select bt_index_parent_check(indexrelid, true) from pg_index where indrelid = 'item'::regclass",
    );
}

/// A backfill counts each row that it changes once, however many sessions get in its way.
#[test]
fn rows_are_counted_once_beside_locks_that_come_and_go() {
    let database = Database::with_small_batches();
    database.run(&format!(
        "create table item (id int primary key, a int, b int);
         insert into item select n, n, 0 from generate_series(1, 50000) n;
         {LATER}"
    ));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for session in 0..2 {
            let (stop, database) = (&stop, &database);
            scope.spawn(move || {
                let mut client = database.connect();
                let mut step = session;
                while !stop.load(Ordering::Relaxed) {
                    step += 11;
                    lines(
                        &mut client,
                        &format!(
                            "select from item where id % 101 = {} for update skip locked",
                            step % 101
                        ),
                    );
                }
            });
        }
        let _stop = StopAtEnd(&stop);
        let id = database.backfills().queue(BACKFILL);
        let done = database.backfills().wait_ended(id);
        assert_eq!(done.state, "done", "{done:?}");
        assert_eq!(done.rows_changed, 50_000, "{done:?}");
    });
}
