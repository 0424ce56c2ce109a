//! `replwarden.restart_stalled_workers`: a worker that hangs is ended where another can go on, and only there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use replwarden_tests::{DEFAULT_DEADLINE, Pair, PairBuilder, Provider, SUBSCRIPTION, wait_until};

use crate::control::{assert_streams, wait_new_worker};
use crate::database::lines;
use crate::diagnose::Stopped;
use crate::events::{events, name_of, troubles, wait_event, words};
use crate::events_quiet::wait_looks;
use crate::loan::on_both_providers;
use crate::status::{self, Lock, Status, with_item};

on_both_providers!(
    worker_whose_connection_is_dead_is_replaced,
    worker_that_hangs_is_left_alone_by_default,
    each_restart_that_is_told_has_taken_place,
    worker_that_waits_for_a_lock_is_left_alone,
    worker_that_applies_a_large_transaction_is_left_alone,
    worker_that_a_large_transaction_reaches_slowly_is_left_alone,
);

fn builder(provider: Provider, switch: &str) -> PairBuilder {
    status::builder(provider)
        .subscriber_setting("wal_receiver_timeout", "0")
        .subscriber_setting("replwarden.stall_timeout", "1s")
        .subscriber_setting("replwarden.restart_stalled_workers", switch)
}

/// The way of one connection to a cluster, which can die without a word to either side. Later connections are refused.
struct Line {
    dead: AtomicBool,
    slow: AtomicBool,
    closed: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Line {
    /// Nobody listens there yet.
    fn free_port() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        listener.local_addr().expect("it is bound").port()
    }

    fn open(port: u16, to: u16) -> Arc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is still free");
        let line = Arc::new(Self {
            dead: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            streams: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&line);
        thread::spawn(move || {
            let client = listener.accept().expect("somebody connects").0;
            drop(listener);
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).expect("it listens");
            let both = [(&client, &server), (&server, &client)];
            for (from, to) in both {
                let from = from.try_clone().expect("a socket");
                let to = to.try_clone().expect("a socket");
                let line = Arc::clone(&shared);
                thread::spawn(move || line.carry(from, to));
            }
            let mut streams = shared
                .streams
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            streams.extend([client, server]);
        });
        line
    }

    fn is_used(&self) -> bool {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        !streams.is_empty()
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// From now on some hundred kilobytes a second get through.
    fn slow_down(&self) {
        self.slow.store(true, Ordering::SeqCst);
    }

    /// What comes from a dead line is swallowed, and its end is not passed on.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 8192];
        let _ = from.set_read_timeout(Some(Duration::from_millis(100)));
        while !self.closed.load(Ordering::SeqCst) {
            let length = match from.read(&mut buffer) {
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    continue;
                }
                Err(_) => 0,
            };
            if self.dead.load(Ordering::SeqCst) {
                if length == 0 {
                    return;
                }
                continue;
            }
            if length == 0 || to.write_all(&buffer[..length]).is_err() {
                break;
            }
            if self.slow.load(Ordering::SeqCst) {
                thread::park_timeout(Duration::from_millis(20));
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Closes the line when it is dropped.
struct Guard(Arc<Line>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        let streams = self
            .0
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for stream in streams.iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A streaming pair whose apply worker has a line of its own. Whoever connects later gets to the publisher without it.
/// The publisher gives up a dead connection after `timeout`.
fn on_a_line(provider: Provider, switch: &str, timeout: &str) -> (Pair, Guard) {
    let pair = builder(provider, switch)
        .publisher_setting("wal_sender_timeout", timeout)
        .start();
    pair.on_both("create table item (id int primary key, note text)");
    pair.publish(&replwarden_tests::Publication::of("item"));
    let (first, second) = (Line::free_port(), pair.publisher().port());
    let one = pair.publisher().conninfo(pair.database());
    let both = one
        .replace("host=127.0.0.1", "host=127.0.0.1,127.0.0.1")
        .replace(&format!("port={second}"), &format!("port={first},{second}"));
    pair.on_subscriber(&pair.subscribe_sql(true).replace(&one, &both));
    pair.wait_copied();
    pair.wait_caught_up();
    let line = Line::open(first, second);
    match provider {
        Provider::Native => pair.on_subscriber(
            "select pg_terminate_backend(pid) from pg_stat_subscription where pid is not null",
        ),
        Provider::Pglogical => {
            pair.disable();
            pair.enable();
        }
    }
    wait_until("the worker has taken the line", DEFAULT_DEADLINE, || {
        line.is_used()
    });
    pair.on_publisher("insert into item values (1)");
    pair.wait_caught_up();
    pair.on_subscriber("create extension replwarden");
    Status::of(&pair).wait_subscription("streams, as the publisher says", |row| {
        row.is("state", "streaming") && row.is("lag_bytes", "0")
    });
    (pair, Guard(line))
}

fn worker_whose_connection_is_dead_is_replaced(provider: Provider) {
    let (pair, line) = on_a_line(provider, "on", "2s");
    let status = Status::of(&pair);
    let before = pair.apply_worker_pid();
    line.0.die();
    pair.on_publisher("insert into item values (2)");
    let act = wait_event(status, "worker_restarted");
    assert!(
        act.is("cause", "publisher_silent")
            && act.is("severity", "warning")
            && act.is("subscription", SUBSCRIPTION)
            && act.is("provider", name_of(provider)),
        "{act:#?}"
    );
    let sql =
        "select detail ->> 'by' as by, detail ->> 'pid' as pid, detail ->> 'restarts' as restarts
                 from repl_events where event = 'worker_restarted'";
    let rows = status.rows(sql);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0].text("by"), "replwarden.restart_stalled_workers");
    assert_eq!(rows[0].text("pid"), before.to_string());
    assert_eq!(rows[0].text("restarts"), "1");
    spare_pause(&pair);
    wait_new_worker(&pair, before);
    assert_streams(&pair, 3);
    status.wait_state("streaming");
    let after = pair.apply_worker_pid();
    wait_looks(&pair, 30);
    assert_eq!(pair.apply_worker_pid(), after);
    wait_event(status, "stalled_ended");
    let mut words = words(status);
    words.retain(|word| !word.starts_with("retrying"));
    assert_eq!(
        words,
        ["stalled", "worker_restarted", "stalled_ended"],
        "{:#?}",
        events(status)
    );
}

fn worker_that_hangs_is_left_alone_by_default(provider: Provider) {
    let (pair, line) = on_a_line(provider, "off", "2s");
    let status = Status::of(&pair);
    let before = pair.apply_worker_pid();
    line.0.die();
    pair.on_publisher("insert into item values (2)");
    let row = status.wait_cause("stalled", Some("publisher_silent"));
    wait_looks(&pair, 40);
    assert_eq!(pair.apply_worker_pid(), before);
    assert_eq!(words(status), ["stalled"], "{:#?}", events(status));
    // The remedy is the same by hand.
    pair.on_subscriber(row.text("remedy"));
    wait_new_worker(&pair, before);
    assert_streams(&pair, 3);
}

/// The next worker of pglogical fails as long as the publisher keeps the slot for the one that was ended, and then pauses for
/// up to three minutes.
#[track_caller]
fn spare_pause(pair: &Pair) {
    if pair.provider() == Provider::Native {
        return;
    }
    let slot = pair.slot_name();
    wait_until(
        "the publisher has let go of the slot",
        DEFAULT_DEADLINE,
        || {
            !pair.publisher().query_one_value::<bool>(
                pair.database(),
                &format!("select active from pg_replication_slots where slot_name = '{slot}'"),
            )
        },
    );
    pair.disable();
    pair.enable();
}

/// A restart cannot be rolled back with the event that tells it: that is told once, later.
fn each_restart_that_is_told_has_taken_place(provider: Provider) {
    let (pair, line) = on_a_line(provider, "on", "2s");
    let status = Status::of(&pair);
    let before = pair.apply_worker_pid();
    let mut holder = pair.subscriber().connect(pair.database());
    lines(
        &mut holder,
        "begin; lock table _repl_events in access exclusive mode",
    );
    line.0.die();
    pair.on_publisher("insert into item values (2)");
    let failed = "canceling statement due to lock timeout";
    wait_until("events cannot be written", DEFAULT_DEADLINE, || {
        let log = pair.subscriber().log();
        log.contains(failed) || log.contains("could not write down what was seen")
    });
    lines(&mut holder, "rollback");
    spare_pause(&pair);
    wait_new_worker(&pair, before);
    assert_streams(&pair, 3);
    wait_event(status, "worker_restarted");
    wait_event(status, "stalled_ended");
    let pids = status
        .rows("select detail ->> 'pid' as pid from repl_events where event = 'worker_restarted'");
    let pids: Vec<&str> = pids.iter().map(|row| row.text("pid")).collect();
    assert_eq!(pids, [before.to_string()], "{:#?}", events(status));
}

/// A restart of pglogical switches it on, and what was seen of it may be out of date by then.
#[test]
fn subscription_that_was_switched_off_meanwhile_stays_off() {
    let (pair, line) = on_a_line(Provider::Pglogical, "on", "2s");
    let status = Status::of(&pair);
    let mut operator = pair.subscriber().connect(pair.database());
    // Whoever only reads goes on.
    lines(
        &mut operator,
        "begin; lock table pglogical.subscription in exclusive mode",
    );
    line.0.die();
    pair.on_publisher("insert into item values (2)");
    wait_until("the restart waits", DEFAULT_DEADLINE, || {
        pair.subscriber().query_one_value::<bool>(
            pair.database(),
            "select exists (select from pg_locks l join pg_stat_activity a on a.pid = l.pid
                             where a.backend_type = 'replwarden worker' and not l.granted
                               and l.relation = 'pglogical.subscription'::regclass)",
        )
    });
    lines(
        &mut operator,
        "select pglogical.alter_subscription_disable('sub'); commit",
    );
    wait_looks(&pair, 30);
    let row = status.subscription();
    assert!(
        row.is("enabled", "f") && row.is("state", "disabled"),
        "{row:#?}"
    );
    let acts = words(status);
    assert!(
        !acts.contains(&"worker_restarted".to_owned()),
        "{:#?}",
        events(status)
    );
}

/// What one restart has not mended is not tried at each look.
#[test]
fn worker_of_a_publisher_that_stands_still_is_replaced_once() {
    let pair = status::streaming(builder(Provider::Native, "on").start());
    let status = Status::of(&pair);
    status.wait_subscription("streams, as the publisher says", |row| {
        row.is("state", "streaming") && row.is("lag_bytes", "0")
    });
    let before = pair.apply_worker_pid();
    let slot = pair.slot_name();
    let sender: i32 = pair.publisher().query_one_value(
        pair.database(),
        &format!("select active_pid from pg_replication_slots where slot_name = '{slot}'"),
    );
    let stopped = Stopped::process(pair.publisher(), sender);
    pair.on_publisher("insert into item values (10)");
    let act = wait_event(status, "worker_restarted");
    assert!(act.is("cause", "publisher_silent"), "{act:#?}");
    // The publisher's process that stands still keeps the slot.
    status.wait_subscription("has no worker that hears", |row| {
        row.is("state", "retrying")
    });
    wait_looks(&pair, 30);
    let acts = troubles(status);
    let acts = acts
        .iter()
        .filter(|row| row.is("event", "worker_restarted"));
    assert_eq!(acts.count(), 1, "{:#?}", events(status));
    drop(stopped);
    wait_new_worker(&pair, before);
    assert_streams(&pair, 11);
    status.wait_state("streaming");
    let acts = troubles(status);
    let acts = acts
        .iter()
        .filter(|row| row.is("event", "worker_restarted"));
    assert_eq!(acts.count(), 1, "{:#?}", events(status));
}

fn worker_that_waits_for_a_lock_is_left_alone(provider: Provider) {
    let pair = status::streaming(builder(provider, "on").start());
    let status = Status::of(&pair);
    status.wait_state("streaming");
    let before = pair.apply_worker_pid();
    let lock = Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (10)");
    status.wait_cause("stalled", Some("lock_wait"));
    wait_looks(&pair, 40);
    assert_eq!(pair.apply_worker_pid(), before);
    assert_eq!(words(status), ["stalled"], "{:#?}", events(status));
    drop(lock);
    assert_streams(&pair, 11);
    assert_eq!(pair.apply_worker_pid(), before);
}

/// A trigger that computes for some milliseconds.
const SLOW: &str = "
    create function compute() returns trigger language plpgsql as
      $$ begin perform pg_catalog.sum(n) from pg_catalog.generate_series(1, 20000) n; return new; end $$;
    create trigger compute before insert on item for each row execute function compute();
    alter table item enable always trigger compute";

fn worker_that_applies_a_large_transaction_is_left_alone(provider: Provider) {
    let pair = builder(provider, "on")
        // A worker that computes gives no sign of life.
        .publisher_setting("wal_sender_timeout", "0")
        .start();
    let pair = with_item(pair);
    pair.subscribe();
    pair.wait_copied();
    let status = Status::of(&pair);
    status.wait_subscription("streams, as the publisher says", |row| {
        row.is("state", "streaming") && row.is("lag_bytes", "0")
    });
    let before = pair.apply_worker_pid();
    pair.on_subscriber(SLOW);
    pair.on_publisher(
        "insert into item select n, repeat('x', 500) from generate_series(1, 1000) n",
    );
    // To its publisher pglogical confirms parts of a transaction, and so seems to get on.
    if provider == Provider::Native {
        status.wait_cause("catching_up", Some("large_transaction"));
    }
    wait_until("all of it is applied", DEFAULT_DEADLINE, || {
        let row = status.subscription();
        assert!(!row.is("state", "stalled"), "{row:#?}");
        let sql = "select count(*) from item";
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), sql)
            == 1000
    });
    pair.on_subscriber("drop trigger compute on item");
    assert_streams(&pair, 2000);
    assert!(troubles(status).is_empty(), "{:#?}", events(status));
    assert_eq!(pair.apply_worker_pid(), before);
}

/// Its worker waits again and again for what comes next, and nothing is committed for long.
fn worker_that_a_large_transaction_reaches_slowly_is_left_alone(provider: Provider) {
    let (pair, line) = on_a_line(provider, "on", "0");
    let status = Status::of(&pair);
    let before = pair.apply_worker_pid();
    line.0.slow_down();
    pair.on_publisher(
        "insert into item select n, repeat('x', 500) from generate_series(10, 20009) n",
    );
    wait_until("all of it is applied", DEFAULT_DEADLINE, || {
        let row = status.subscription();
        assert!(!row.is("state", "stalled"), "{row:#?}");
        let sql = "select count(*) from item where id >= 10";
        pair.subscriber()
            .query_one_value::<i64>(pair.database(), sql)
            == 20000
    });
    status.wait_looked();
    assert!(troubles(status).is_empty(), "{:#?}", events(status));
    assert_eq!(pair.apply_worker_pid(), before);
}
